//! The writer: each rule refuses what it is for, and nothing comes to lie outside the tree.

use super::*;
use crate::archive::fixtures::{Staging, expected};
use proptest::prelude::*;

fn file(writer: &mut TreeWriter, path: &[u8], content: &[u8]) -> Result<u64, UnpackError> {
    writer.file(path, false, &mut &*content)
}

fn refused(make: impl FnOnce(&mut TreeWriter) -> Result<(), UnpackError>) -> String {
    let staging = Staging::new();
    let mut writer = staging.writer(Limits::default());
    let error = make(&mut writer).unwrap_err();
    staging.assert_nothing_outside();
    error.to_string()
}

#[test]
fn files_directories_and_safe_links_are_made_with_plain_modes() {
    let staging = Staging::new();
    let mut writer = staging.writer(Limits::default());
    writer.file(b"bin/run", true, &mut &b"go"[..]).unwrap();
    writer.directory(b"empty/").unwrap();
    writer.directory(b"bin").unwrap();
    writer.symlink(b"lib/current", b"../bin/run").unwrap();
    writer.symlink(b"run", b"lib/current").unwrap();
    file(&mut writer, b"./readme", b"hi").unwrap();
    let summary = writer.finish().unwrap();
    assert_eq!(summary, TreeSummary { files: 2, entries: 7, bytes: 4 });
    assert_eq!(
        staging.content(),
        expected(&[
            ("bin", "dir 0755"),
            ("bin/run", "0755 go"),
            ("empty", "dir 0755"),
            ("lib", "dir 0755"),
            ("lib/current", "-> ../bin/run"),
            ("readme", "0644 hi"),
            ("run", "-> lib/current"),
        ])
    );
    assert_eq!(std::fs::read_to_string(staging.tree().join("run")).unwrap(), "go");
}

#[test]
fn a_directory_that_is_not_empty_is_not_written_to() {
    let staging = Staging::new();
    std::fs::write(staging.tree().join("x"), "").unwrap();
    let error = TreeWriter::new(&staging.tree(), Limits::default()).unwrap_err();
    assert_eq!(error.to_string(), "unpack: the staging directory is not empty");
}

#[test]
fn names_that_leave_the_tree_are_refused_by_every_method() {
    for name in ["../outside/x", "/etc/x", "a/../../outside/x", "..", ".", "", "a\0b", "a\\b", "a\nb"] {
        let name = name.as_bytes();
        for text in [
            refused(|writer| file(writer, name, b"x").map(drop)),
            refused(|writer| writer.directory(name)),
            refused(|writer| writer.symlink(name, b"y")),
        ] {
            assert!(text.starts_with("unpack entry \"") && text.contains("name"), "{text}");
        }
    }
}

#[test]
fn the_marker_and_git_directories_are_refused_anywhere() {
    for name in [".outrigger-tree", "a/.outrigger-tree", ".Outrigger-Tree/x"] {
        let text = refused(|writer| file(writer, name.as_bytes(), b"x").map(drop));
        assert!(text.contains("reserved for the marker of an installed tree"), "{text}");
    }
    for name in [".git", ".git/config", "vendor/.GIT/hooks/post-checkout", ".\u{ff47}it/config"] {
        let text = refused(|writer| file(writer, name.as_bytes(), b"x").map(drop));
        assert!(text.contains("a \".git\" directory does not belong into an extension"), "{text}");
    }
    let staging = Staging::new();
    assert!(file(&mut staging.writer(Limits::default()), b".gitignore", b"x").is_ok());
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = |staging: &Staging| staging.outside().to_str().unwrap().as_bytes().to_vec();
    let staging = Staging::new();
    let mut writer = staging.writer(Limits::default());
    writer.symlink(b"link", &outside(&staging)).unwrap();
    for text in [
        file(&mut writer, b"link/x", b"x").unwrap_err().to_string(),
        writer.directory(b"link/dir").unwrap_err().to_string(),
        writer.symlink(b"link/l", b"x").unwrap_err().to_string(),
    ] {
        assert!(text.ends_with("\"link\" is a symbolic link, not a directory; nothing is written below it"), "{text}");
    }
    assert!(matches!(file(&mut writer, b"link", b"x"), Err(UnpackError::Duplicate { .. })));
    assert!(matches!(writer.directory(b"link"), Err(UnpackError::Duplicate { .. })));
    assert!(staging.content().is_empty(), "links are made last");
    let text = writer.finish().map(drop).unwrap_err().to_string();
    assert!(text.contains("holds no file"), "{text}");
    staging.assert_nothing_outside();
}

#[test]
fn a_link_that_was_planted_in_staging_is_not_followed() {
    let staging = Staging::new();
    let mut writer = staging.writer(Limits::default());
    std::os::unix::fs::symlink(staging.outside(), staging.tree().join("a")).unwrap();
    std::os::unix::fs::symlink(staging.outside().join("victim"), staging.tree().join("v")).unwrap();
    assert!(matches!(file(&mut writer, b"a/x", b"x"), Err(UnpackError::Write { .. })));
    assert!(matches!(file(&mut writer, b"v", b"x"), Err(UnpackError::Write { .. })));
    staging.assert_nothing_outside();
}

#[test]
fn links_must_lead_to_something_in_the_tree() {
    for (target, text) in [
        (&b"/etc/passwd"[..], "symbolic link to \"/etc/passwd\": the target is absolute"),
        (b"../outside/victim", "symbolic link to \"../outside/victim\": the target is outside the tree"),
        (b"l", "symbolic link to \"l\": the links lead in a circle"),
        (b"a\\b", "the target is no usable path"),
        (b"a\nb", "the target is no usable path"),
        (b"\xff", "the target is no usable path"),
        (b"", "the target is no usable path"),
    ] {
        let staging = Staging::new();
        let mut writer = staging.writer(Limits::default());
        file(&mut writer, b"f", b"x").unwrap();
        let error = writer.symlink(b"l", target).and_then(|()| writer.finish().map(drop)).unwrap_err().to_string();
        assert!(error.starts_with("unpack entry \"l\": ") && error.contains(text), "{error}");
        assert_eq!(staging.content().len(), 1);
    }
}

#[test]
fn the_same_name_twice_is_refused_in_any_case_or_unicode_form() {
    for (first, second, text) in [
        ("a", "a", "unpack entry \"a\": the archive has this name twice; keep one"),
        ("a/b", "a", "unpack entry \"a\": the archive has this name twice; keep one"),
        ("a", "a/b", "unpack entry \"a/b\": \"a\" is a file, not a directory; nothing is written below it"),
        ("a", "A", "unpack entry \"A\": the name differs from \"a\" only by case or Unicode form; rename one"),
        (
            "dir/a",
            "DIR/b",
            "unpack entry \"DIR/b\": the name differs from \"dir\" only by case or Unicode form; rename one",
        ),
        ("é", "e\u{301}", "only by case or Unicode form"),
    ] {
        let error = refused(|writer| {
            file(writer, first.as_bytes(), b"1").unwrap();
            file(writer, second.as_bytes(), b"2").map(drop)
        });
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn hard_links_are_copies_of_earlier_files_only() {
    let staging = Staging::new();
    let mut writer = staging.writer(Limits { unpacked_bytes: 5, ..Limits::default() });
    writer.file(b"a", true, &mut &b"12"[..]).unwrap();
    writer.hard_link(b"b", b"a").unwrap();
    for target in ["/etc/passwd", "../outside/victim", "nothing", "", "l"] {
        let text = writer.hard_link(b"c", target.as_bytes()).unwrap_err().to_string();
        assert!(text.contains("which is no earlier file of the archive"), "{text}");
    }
    assert!(matches!(writer.hard_link(b"c", b"a"), Err(UnpackError::TooLarge { .. })));
    assert_eq!(staging.content()["b"], "0755 12");
}

#[test]
fn each_limit_holds() {
    let tight = Limits {
        unpacked_bytes: 10,
        file_bytes: 6,
        entries: 3,
        depth: 2,
        component_bytes: 4,
        path_bytes: 8,
        ..Limits::default()
    };
    let error = |make: &dyn Fn(&mut TreeWriter) -> Result<(), UnpackError>| {
        let staging = Staging::new();
        make(&mut staging.writer(tight)).unwrap_err().to_string()
    };
    let write = |path: &'static str, bytes: usize| {
        move |writer: &mut TreeWriter| file(writer, path.as_bytes(), &vec![0; bytes]).map(drop)
    };
    assert_eq!(error(&write("a", 7)), "unpack entry \"a\": the file has more than 6 bytes");
    assert_eq!(
        error(&write("abcde", 1)),
        "unpack entry \"abcde\": a component of the name has 5 bytes; at most 4 are allowed"
    );
    assert_eq!(
        error(&write("abcd/efgh", 1)),
        "unpack entry \"abcd/efgh\": the path has 9 bytes; at most 8 are allowed"
    );
    assert_eq!(error(&write("a/b/c", 1)), "unpack entry \"a/b/c\": the path has 3 components; at most 2 are allowed");
    let two = |writer: &mut TreeWriter| write("a", 6)(writer).and_then(|()| write("b", 5)(writer));
    assert_eq!(error(&two), "unpack entry \"b\": the archive unpacks to more than 10 bytes");
    let many = |writer: &mut TreeWriter| ["a/b", "c/d"].into_iter().try_for_each(|path| write(path, 0)(writer));
    assert_eq!(error(&many), "unpack entry \"c/d\": the archive has more than 3 files, links and directories");
}

fn stripping(staging: &Staging) -> TreeWriter {
    let mut writer = staging.writer(Limits::default());
    writer.strip_top_level();
    writer
}

#[test]
fn one_top_level_directory_is_stripped_even_if_it_holds_its_own_name() {
    let staging = Staging::new();
    let mut writer = stripping(&staging);
    file(&mut writer, b"top/top/f", b"1").unwrap();
    writer.symlink(b"top/l", b"top/f").unwrap();
    writer.hard_link(b"top/h", b"top/top/f").unwrap();
    assert_eq!(writer.finish().unwrap(), TreeSummary { files: 2, entries: 4, bytes: 2 });
    let content = [("top", "dir 0755"), ("top/f", "0644 1"), ("h", "0644 1"), ("l", "-> top/f")];
    assert_eq!(staging.content(), expected(&content));
}

#[test]
fn links_are_checked_against_the_root_that_stripping_leaves() {
    let staging = Staging::new();
    let mut writer = stripping(&staging);
    file(&mut writer, b"top/f", b"1").unwrap();
    writer.symlink(b"top/l", b"../top/f").unwrap();
    assert!(matches!(writer.finish(), Err(UnpackError::Link { fault: LinkFault::Escapes, .. })));
}

#[test]
fn more_than_one_top_level_entry_is_kept_whatever_came_first() {
    let others: [fn(&mut TreeWriter); 3] = [
        |writer| assert_eq!(file(writer, b"other", b"1").unwrap(), 1),
        |writer| writer.directory(b"other/below").unwrap(),
        |writer| writer.symlink(b"other", b"top/f").unwrap(),
    ];
    for (number, other) in others.into_iter().enumerate() {
        for first in [true, false] {
            let staging = Staging::new();
            let mut writer = stripping(&staging);
            if first {
                other(&mut writer);
            }
            file(&mut writer, b"top/top/f", b"1").unwrap();
            file(&mut writer, b"top/f", b"2").unwrap();
            if !first {
                other(&mut writer);
            }
            writer.hard_link(b"top/h", b"top/f").unwrap();
            writer.finish().unwrap();
            let mut content = vec![
                ("top", "dir 0755"),
                ("top/top", "dir 0755"),
                ("top/top/f", "0644 1"),
                ("top/f", "0644 2"),
                ("top/h", "0644 2"),
            ];
            content.extend(match number {
                0 => vec![("other", "0644 1")],
                1 => vec![("other", "dir 0755"), ("other/below", "dir 0755")],
                _ => vec![("other", "-> top/f")],
            });
            assert_eq!(staging.content(), expected(&content), "{number}, first: {first}");
        }
    }
}

#[test]
fn names_are_escaped_and_cut_in_messages() {
    let long = [b"\x1b[2J", "x".repeat(500).as_bytes()].concat();
    let text = EntryName::new(long).to_string();
    assert!(text.starts_with("\"\\u{1b}[2J") && text.len() < 200, "{text}");
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let component = prop_oneof![
        4 => "[abAB]",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => Just("outside".to_owned()),
        1 => "\\PC{1,3}",
    ];
    prop::collection::vec(component, 0..4).prop_map(|parts| parts.join("/").into_bytes())
}

proptest! {
    #[test]
    fn no_sequence_of_entries_makes_anything_outside(
        steps in prop::collection::vec((0..4_u8, name(), name()), 1..12),
        strip: bool,
    ) {
        let staging = Staging::new();
        let mut writer = staging.writer(Limits { entries: 20, ..Limits::default() });
        if strip {
            writer.strip_top_level();
        }
        for (kind, path, target) in &steps {
            // Errors are ignored on purpose: going on after one must be harmless too.
            let _ = match kind {
                0 => file(&mut writer, path, b"x").map(drop),
                1 => writer.directory(path),
                2 => writer.symlink(path, target),
                _ => writer.hard_link(path, target),
            };
        }
        let finished = writer.finish();
        staging.assert_nothing_outside();
        if finished.is_ok() {
            for (path, what) in staging.content() {
                if what.starts_with("->") {
                    // a link to nothing leads nowhere; any other must end within
                    match std::fs::canonicalize(staging.tree().join(&path)) {
                        Ok(real) => {
                            let tree = std::fs::canonicalize(staging.tree()).unwrap();
                            prop_assert!(real.starts_with(tree), "{path} {what}");
                        }
                        Err(error) => {
                            let kinds = [std::io::ErrorKind::NotFound, std::io::ErrorKind::NotADirectory];
                            prop_assert!(kinds.contains(&error.kind()), "{path} {what}: {error}");
                        }
                    }
                }
            }
        }
    }
}
