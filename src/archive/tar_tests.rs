//! Tar: what is checked is what is extracted, and what readers disagree about is refused.

use std::io::Write as _;

use tar::{EntryType, Header};

use super::*;
use crate::archive::fixtures::{Staging, expected};
use crate::archive::{LinkFault, NameFault};
use proptest::prelude::*;

/// An entry whose header is what `change` makes of a plain file's. The name is written as it is.
fn entry_with(name: &[u8], data: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    header.set_entry_type(EntryType::Regular);
    change(&mut header);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &[u8], data: &[u8]) -> Vec<u8> {
    entry_with(name, data, |_| {})
}

fn of_type(kind: u8, name: &[u8], data: &[u8]) -> Vec<u8> {
    entry_with(name, data, |header| header.set_entry_type(EntryType::new(kind)))
}

fn link(kind: EntryType, name: &[u8], target: &[u8]) -> Vec<u8> {
    entry_with(name, b"", |header| {
        header.set_entry_type(kind);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    })
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap() + rest;
    format!("{length} {key}={value}\n")
}

fn pax(key: &str, value: &str) -> Vec<u8> {
    of_type(b'x', b"PaxHeaders/x", record(key, value).as_bytes())
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn refused(entries: &[Vec<u8>]) -> UnpackError {
    Staging::new().unpack(&archive(entries), Limits::default(), false).unwrap_err()
}

fn fault(entries: &[Vec<u8>]) -> TarFault {
    match refused(entries) {
        UnpackError::Tar { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn tar_is_unpacked_plain_and_from_gzip_and_zstandard() {
    let plain = archive(&[
        of_type(b'g', b"pax_global_header", record("comment", &"0".repeat(40)).as_bytes()),
        of_type(b'5', b"proj-1.0/", b""),
        entry_with(b"proj-1.0/run", b"go", |header| header.set_mode(0o6777)),
        of_type(0, b"proj-1.0/old", b"v7"),
        link(EntryType::Symlink, b"proj-1.0/link", b"run"),
        link(EntryType::Link, b"proj-1.0/hard", b"proj-1.0/run"),
    ]);
    for packed in [plain.clone(), gzip(&plain), zstd::encode_all(&plain[..], 3).unwrap()] {
        let staging = Staging::new();
        let summary = staging.unpack(&packed, Limits::default(), true).unwrap();
        assert_eq!((summary.files, summary.entries, summary.bytes), (3, 4, 6));
        let want = expected(&[("run", "0755 go"), ("old", "0644 v7"), ("link", "-> run"), ("hard", "0755 go")]);
        assert_eq!(staging.content(), want);
    }
}

#[test]
fn archives_of_the_current_directory_are_unpacked() {
    let staging = Staging::new();
    let packed =
        archive(&[of_type(b'5', b"./", b""), file(b"./a", b"1"), of_type(b'5', b"./d/", b""), file(b"./d/b", b"2")]);
    staging.unpack(&packed, Limits::default(), true).unwrap();
    assert_eq!(staging.content(), expected(&[("a", "0644 1"), ("d", "dir 0755"), ("d/b", "0644 2")]));
}

#[test]
fn what_gnu_tar_packs_is_unpacked() {
    let source = Staging::new();
    let long = format!("{}/{}", "d".repeat(90), "f".repeat(120));
    std::fs::create_dir(source.tree().join("d".repeat(90))).unwrap();
    std::fs::write(source.tree().join(&long), "long").unwrap();
    std::os::unix::fs::symlink(&long, source.tree().join("l")).unwrap();
    for format in ["gnu", "posix"] {
        let packed = std::process::Command::new("tar")
            .args(["-C", source.tree().to_str().unwrap(), "--format", format, "-cf", "-", "."])
            .output()
            .unwrap();
        assert!(packed.status.success());
        let staging = Staging::new();
        staging.unpack(&packed.stdout, Limits::default(), false).unwrap();
        assert_eq!(staging.content(), source.content(), "{format}");
    }
}

#[test]
fn names_that_leave_the_tree_are_refused_from_every_kind_of_header() {
    let evil = b"../outside/evil";
    for entries in [
        vec![file(evil, b"x")],
        vec![of_type(b'5', b"../outside/dir/", b"")],
        vec![link(EntryType::Symlink, evil, b"x")],
        vec![pax("path", "../outside/evil"), file(b"fine", b"x")],
        vec![of_type(b'L', b"././@LongLink", b"../outside/evil\0"), file(b"fine", b"x")],
        vec![entry_with(b"evil", b"x", |header| {
            header.as_ustar_mut().unwrap().prefix[..10].copy_from_slice(b"../outside")
        })],
    ] {
        let error = refused(&entries);
        assert!(matches!(error, UnpackError::Name { fault: NameFault::Parent, .. }), "{error}");
    }
    assert!(matches!(refused(&[file(b"/etc/evil", b"x")]), UnpackError::Name { fault: NameFault::Absolute, .. }));
}

#[test]
fn a_link_and_then_a_write_through_it_is_refused() {
    for entries in [
        vec![link(EntryType::Symlink, b"l", b"../outside"), file(b"l/evil", b"x")],
        vec![link(EntryType::Symlink, b"l", b"../outside"), of_type(b'5', b"l/dir/", b"")],
    ] {
        let error = refused(&entries);
        assert!(matches!(error, UnpackError::NotADirectory { kind: "symbolic link", .. }), "{error}");
    }
    // The chmod of a directory through a link (CVE-2026-33056), and a file in place of a link.
    for kind in [b'5', b'0'] {
        let error = refused(&[link(EntryType::Symlink, b"l", b"../outside"), of_type(kind, b"l", b"")]);
        assert!(matches!(error, UnpackError::Duplicate { .. }), "{error}");
    }
    let error = refused(&[file(b"f", b""), link(EntryType::Symlink, b"l", b"../outside/victim")]);
    assert!(matches!(error, UnpackError::Link { fault: LinkFault::Escapes, .. }), "{error}");
    let error = refused(&[link(EntryType::Link, b"l", b"../outside/victim")]);
    assert!(matches!(error, UnpackError::HardLink { .. }), "{error}");
    let error = refused(&[pax("linkpath", "/etc/passwd"), link(EntryType::Symlink, b"l", b"f"), file(b"f", b"")]);
    assert!(matches!(error, UnpackError::Link { fault: LinkFault::Absolute, .. }), "{error}");
}

#[test]
fn sizes_that_readers_disagree_about_are_refused() {
    // The data hides a second entry, which is seen by those who believe the header (CVE-2025-62518).
    let hidden = file(b"hidden", b"evil");
    let entries = [pax("size", "1024"), entry_with(b"a", &hidden, |header| header.set_size(0))];
    assert_eq!(fault(&entries), TarFault::SizeMismatch { pax: "1024".into(), header: 0 });
    assert_eq!(
        fault(&[pax("size", "0"), file(b"a", &hidden)]),
        TarFault::SizeMismatch { pax: "0".into(), header: 1024 }
    );
    assert_eq!(fault(&[pax("size", "+2"), file(b"a", b"12")]), TarFault::SizeMismatch { pax: "+2".into(), header: 2 });
    assert!(Staging::new().unpack(&archive(&[pax("size", "2"), file(b"a", b"12")]), Limits::default(), false).is_ok());
    for (kind, what) in [(b'5', "directory"), (b'1', "hard link"), (b'2', "symbolic link")] {
        assert_eq!(fault(&[of_type(kind, b"a", &hidden)]), TarFault::UnexpectedData { kind: what, bytes: 1024 });
    }
    let size = |field: [u8; 12]| vec![entry_with(b"a", b"", |header| header.as_old_mut().size = field)];
    for field in [*b"\x80\0\0\0\x80\0\0\0\0\0\0\0", *b"\x80\0\0\x01\0\0\0\0\0\0\0\0", *b"+0000000000\0"] {
        assert_eq!(fault(&size(field)), TarFault::SizeOverflow, "{field:?}");
    }
    let error = refused(&size([0xff; 12]));
    assert!(matches!(error, UnpackError::Malformed { .. }), "{error}");
}

#[test]
fn special_files_and_unknown_types_are_refused() {
    for (kind, what) in [(b'3', "a character device"), (b'4', "a block device"), (b'6', "a FIFO")] {
        let text = refused(&[of_type(kind, b"dev", b"")]).to_string();
        assert_eq!(text, format!("unpack entry \"dev\": it is {what}; only files, directories and links are allowed"));
    }
    assert_eq!(fault(&[of_type(b'S', b"a", b"")]), TarFault::Sparse);
    assert_eq!(fault(&[pax("GNU.sparse.major", "1"), file(b"a", b"")]), TarFault::Sparse);
    for kind in *b"VMDNXZ" {
        assert_eq!(fault(&[of_type(kind, b"a", b"")]), TarFault::UnknownType(char::from(kind)));
    }
}

#[test]
fn an_entry_is_named_by_one_extension_header_only() {
    let long = || of_type(b'L', b"././@LongLink", b"name\0");
    for entries in [
        vec![long(), long(), file(b"a", b"")],
        vec![long(), pax("path", "b"), file(b"a", b"")],
        vec![pax("path", "b"), long(), file(b"a", b"")],
        vec![pax("path", "b"), pax("path", "c"), file(b"a", b"")],
        vec![pax("path", "b"), of_type(b'g', b"g", record("comment", "x").as_bytes()), file(b"a", b"")],
    ] {
        assert_eq!(fault(&entries), TarFault::NamedTwice);
    }
    let global = of_type(b'g', b"g", record("path", "x").as_bytes());
    assert_eq!(fault(&[global, file(b"a", b"")]), TarFault::PaxGlobal("path".into()));
    assert_eq!(fault(&[file(b"a", b""), long()]), TarFault::ExtensionWithoutEntry);
    let large = of_type(b'x', b"x", &vec![b'1'; 70_000]);
    assert!(matches!(fault(&[large]), TarFault::ExtensionTooLarge { bytes: 70_000, .. }));
}

#[test]
fn archives_that_are_cut_or_have_more_after_their_end_are_refused() {
    let whole = archive(&[file(b"a", &[b'x'; 600])]);
    for length in [100, 512, 700, 1024, 1536, 1600] {
        let error = Staging::new().unpack(&whole[..length], Limits::default(), false).unwrap_err();
        let cut =
            matches!(error, UnpackError::Malformed { .. } | UnpackError::Tar { fault: TarFault::Truncated { .. }, .. });
        assert!(cut || length == 100 && matches!(error, UnpackError::UnknownFormat), "{length}: {error}");
    }
    let more = [whole.clone(), archive(&[file(b"b", b"second")])].concat();
    let text = Staging::new().unpack(&more, Limits::default(), false).unwrap_err().to_string();
    assert_eq!(
        text,
        "unpack tar: the archive is damaged or ambiguous: data follows the mark at the end of the archive"
    );
    let packed = gzip(&whole);
    let mut damaged = packed.clone();
    let checksum = damaged.len() - 6;
    damaged[checksum] ^= 1;
    for packed in [&packed[..packed.len() - 4], &damaged] {
        let error = Staging::new().unpack(packed, Limits::default(), false).unwrap_err();
        assert!(matches!(error, UnpackError::Malformed { format: Format::TarGzip, .. }), "{error}");
    }
}

#[test]
fn bombs_are_stopped_while_they_unfold() {
    let zeros = archive(&[file(b"zeros", &vec![0; 3 << 20])]);
    for packed in [gzip(&zeros), zstd::encode_all(&zeros[..], 3).unwrap()] {
        let staging = Staging::new();
        let text = staging.unpack(&packed, Limits::default(), false).unwrap_err().to_string();
        assert_eq!(text, "unpack entry \"zeros\": the archive unpacks to more than 200 times its size");
        let limits = Limits { unpacked_bytes: 1 << 20, ratio: u64::MAX, ..Limits::default() };
        let text = Staging::new().unpack(&packed, limits, false).unwrap_err().to_string();
        assert_eq!(text, "unpack entry \"zeros\": the archive unpacks to more than 1048576 bytes");
    }
    // Padding after the end counts too.
    let padded = gzip(&[archive(&[file(b"a", b"")]), vec![0; 3 << 20]].concat());
    assert!(matches!(Staging::new().unpack(&padded, Limits::default(), false), Err(UnpackError::Ratio { .. })));
    let many: Vec<_> = (0..50).map(|number| file(format!("f{number}").as_bytes(), b"")).collect();
    let limits = Limits { entries: 49, ..Limits::default() };
    let error = Staging::new().unpack(&archive(&many), limits, false).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyEntries { limit: 49, .. }), "{error}");
}

#[test]
fn a_zstandard_stream_that_needs_too_much_memory_is_refused() {
    let plain = archive(&[file(b"a", b"1")]);
    let packed = |window| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window).unwrap();
        encoder.write_all(&plain).unwrap();
        encoder.finish().unwrap()
    };
    Staging::new().unpack(&packed(25), Limits::default(), false).unwrap();
    let text = Staging::new().unpack(&packed(26), Limits::default(), false).unwrap_err().to_string();
    assert_eq!(
        text,
        "unpack tar.zst: the archive needs more than 32 MiB of memory to be unpacked; pack it without --long and --ultra"
    );
}

#[test]
fn other_files_are_told_from_archives() {
    for page in [&b"<html>sign in</html>"[..], b"\xef\xbb\xbf\n <!DOCTYPE html>\n"] {
        let error = Staging::new().unpack(page, Limits::default(), false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unpack: the file is a web page (HTML), none of tar, tar.gz, tar.zst and zip: if this is a repository, set type: git"
        );
    }
    let error = Staging::new().unpack(b"not found", Limits::default(), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unpack: the file is none of tar, tar.gz, tar.zst and zip (its first bytes tell, not its name)"
    );
    assert!(!error.is_transient());
}

proptest! {
    #[test]
    fn damaged_archives_neither_panic_nor_leave_the_tree(
        flips in prop::collection::vec((0..4096_usize, any::<u8>()), 0..6),
        cut in 0..4096_usize,
    ) {
        let mut bytes = archive(&[
            pax("path", "dir/long"),
            file(b"x", b"content"),
            of_type(b'L', b"././@LongLink", b"dir/other\0"),
            link(EntryType::Symlink, b"y", b"long"),
        ]);
        for (at, value) in &flips {
            let at = at % bytes.len();
            bytes[at] = *value;
            // Make the checksum fit again, so that the change is seen by more than the checksum.
            let start = at / 512 * 512;
            let mut header = Header::from_byte_slice(&bytes[start..start + 512]).clone();
            header.set_cksum();
            bytes[start..start + 512].copy_from_slice(header.as_bytes());
        }
        if cut % 4 == 0 {
            bytes.truncate(cut);
        }
        let _ = Staging::new().unpack(&bytes, Limits::default(), cut % 2 == 0);
        let _ = Staging::new().unpack(&gzip(&bytes), Limits::default(), false);
    }
}
