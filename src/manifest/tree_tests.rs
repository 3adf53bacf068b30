//! Hostile and careless YAML.

use proptest::prelude::*;

use super::*;

fn problem(bytes: impl AsRef<[u8]>) -> String {
    read(bytes.as_ref(), "m.yaml").unwrap_err().to_string()
}

#[test]
fn a_large_manifest_is_refused_before_it_is_read() {
    for bytes in [MANIFEST_BYTES + 1, 10 * MANIFEST_BYTES] {
        let text = problem("a".repeat(bytes));
        assert_eq!(text, "m.yaml:1:1: the manifest is larger than 1048576 bytes (1 MiB), the most that is allowed");
    }
    assert!(read("a".repeat(MANIFEST_BYTES).as_bytes(), "m.yaml").is_ok());
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let previous = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
    }
    let text = problem(&bomb);
    assert!(text.contains("the manifest is too large: allowed are 20000 values"), "{text}");
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(900_000), vec!["*a"; 100].join(", "));
    assert!(problem(long).contains("repeated aliases included"));
}

#[test]
fn many_values_and_deep_nesting_are_refused() {
    assert!(problem("- x\n".repeat(30_000)).contains("the manifest is too large"));
    for deep in ["[".repeat(100), "{a: ".repeat(100), "- ".repeat(100), "[".repeat(100_000)] {
        let text = problem(&deep);
        assert!(text.contains("is nested too deeply; allowed are 64 levels"), "{text}");
    }
}

#[test]
fn no_repeated_pattern_takes_long() {
    let patterns = [
        "? ", "- ", "{", "[", "a: ", "a:\n", "&a ", "!x ", "\"", "'", "#", " ", "\n", "|\n ", ">\n ", "a,", "{a: [",
        ": ", "%x\n", "*a ", "a b ", "\u{85}", "- [", "'a': ", "\\", "- -\n", "--- ", "{a,", "? a\n",
    ];
    for pattern in patterns {
        let text = pattern.repeat(MANIFEST_BYTES / pattern.len());
        let started = std::time::Instant::now();
        let _ = read(text.as_bytes(), "m.yaml");
        assert!(started.elapsed().as_secs() < 20, "{pattern:?} took {:?}", started.elapsed());
    }
}

#[test]
fn a_plain_alias_is_understood() {
    let node = read(b"a: &x {k: v}\nb: *x\n", "m.yaml").unwrap().unwrap();
    let Kind::Map(entries) = &node.kind else { panic!("{node:?}") };
    assert!(matches!(&entries[1].value.kind, Kind::Map(map) if map[0].key == "k"));
    assert_eq!(problem("a: &x [*x]\n"), "m.yaml:1:8: this alias (\"*…\") refers to itself or to nothing");
    assert!(problem("a: *nowhere\n").starts_with("m.yaml:1:"));
}

#[test]
fn a_duplicate_key_is_refused_with_both_lines() {
    assert_eq!(problem("a: 1\nb: 2\na: 3\n"), "m.yaml:3:1: the key \"a\" stands twice in this map: first in line 1");
    assert_eq!(
        problem("{\"a\": 1,\n \"a\": 2}"),
        "m.yaml:2:2: the key \"a\" stands twice in this map: first in line 1"
    );
}

#[test]
fn merge_keys_complex_keys_and_tags_are_refused() {
    assert!(problem("b: &b {x: 1}\na:\n  <<: *b\n").starts_with("m.yaml:3:3: merge keys (\"<<\") are not supported"));
    assert!(problem("? [a]\n: b\n").contains("a list or map cannot be a key here"));
    assert!(problem("a: !!python/object x\n").contains("is not supported: remove it"));
    assert!(problem("a: !secret x\n").contains("the tag \"!secret\" is not supported"));
    let node = read(b"a: !!str 5\n", "m.yaml").unwrap().unwrap();
    assert!(matches!(&node.kind, Kind::Map(map) if matches!(&map[0].value.kind, Kind::Scalar { plain: false, .. })));
}

#[test]
fn a_second_document_is_refused() {
    let text = "m.yaml:2:1: a second document begins here; a manifest is one document, without further \"---\"";
    assert_eq!(problem("a: 1\n---\nb: 2\n"), text);
    assert!(read(b"---\na: 1\n...\n", "m.yaml").is_ok());
}

#[test]
fn tabs_and_broken_yaml_say_so() {
    assert_eq!(problem("a:\n\tb: 1\n"), "m.yaml:2:2: a tab indents this line; YAML allows spaces only");
    assert_eq!(problem("a: b\n\tc: 1\n"), "m.yaml:2:1: a tab indents this line; YAML allows spaces only");
    assert!(problem("a: [1\nb: 2\n").contains("cannot be read as YAML: "));
    assert!(problem("a: \"x").contains("cannot be read as YAML: "));
}

#[test]
fn other_encodings_are_refused_and_a_byte_order_mark_is_fine() {
    assert_eq!(problem(b"a: \xff\n"), "m.yaml:1:4: byte 0xff is not UTF-8; save the manifest as UTF-8");
    assert_eq!(problem(b"\xff\xfea\0"), "m.yaml:1:1: the manifest is UTF-16; save it as UTF-8");
    assert_eq!(problem(b"a: 1\nb: \0\nc: 3"), "m.yaml:2:4: the control character U+0000 is not allowed in a manifest");
    let node = read("\u{feff}a: 1\n".as_bytes(), "m.yaml").unwrap().unwrap();
    assert!(matches!(&node.kind, Kind::Map(map) if map[0].key == "a" && map[0].at == (1, 1)));
}

#[test]
fn windows_line_ends_are_fine() {
    let node = read(b"a: 1\r\nb: x\r\n", "m.yaml").unwrap().unwrap();
    assert!(
        matches!(&node.kind, Kind::Map(map) if matches!(&map[1].value.kind, Kind::Scalar { text, .. } if text == "x"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_input_panics(text in "[-a-c0-2:?!&*<>|{}\\[\\],#'\"%@` \t\n\r\\\\.~]{0,80}") {
        let _ = read(text.as_bytes(), "m.yaml");
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = super::super::parse(&bytes, "m.yaml");
    }
}
