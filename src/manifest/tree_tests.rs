//! Hostile and careless YAML.

use proptest::prelude::*;

use super::*;

/// The document, if nothing is wrong with it.
fn read(bytes: &[u8], file: &str) -> Result<Option<Node>, Problem> {
    let Read { node, problems } = super::read(bytes, file);
    problems.into_iter().next().map_or(Ok(node), Err)
}

fn problem(bytes: impl AsRef<[u8]>) -> String {
    read(bytes.as_ref(), "m.yaml").unwrap_err().to_string()
}

/// The text of the first value of a map.
fn first_text(text: &str) -> String {
    let node = read(text.as_bytes(), "m.yaml").unwrap_or_else(|problem| panic!("{text:?}: {problem}")).unwrap();
    match node.kind {
        Kind::Map(entries) => match &entries[0].value.kind {
            Kind::Scalar { text, .. } => text.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
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
    assert_eq!(problem("a: &x [*x]\n"), "m.yaml:1:8: a[0]: this alias (\"*…\") refers to itself or to nothing");
    assert!(problem("a: *nowhere\n").starts_with("m.yaml:1:"));
}

#[test]
fn a_duplicate_key_is_refused_with_both_lines() {
    assert_eq!(problem("a: 1\nb: 2\na: 3\n"), "m.yaml:3:1: a: the key \"a\" stands twice in this map: first in line 1");
    assert_eq!(
        problem("{\"a\": 1,\n \"a\": 2}"),
        "m.yaml:2:2: a: the key \"a\" stands twice in this map: first in line 1"
    );
}

#[test]
fn merge_keys_complex_keys_and_tags_are_refused() {
    assert!(
        problem("b: &b {x: 1}\na:\n  <<: *b\n").starts_with("m.yaml:3:3: a: merge keys (\"<<\") are not supported")
    );
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
fn tabs_are_white_space_in_json() {
    for text in
        ["{\n\t\"a\": \"x\",\n\t\"b\": [\n\t\t1,\n\t\t2\n\t]\n}\n", "\t{\"a\":\t\"x\"}", "{\r\n\t\"a\": \"x\"\r\n}"]
    {
        assert_eq!(first_text(text), "x", "{text:?}");
    }
    for text in [
        "{\n\t\"a\": 1\n\t\"b\": 2\n}\n",
        "{\n\t\"a\": [1,\n\t\"b\": 2\n}\n",
        "{\n\t\"a\": \"\\q\"\n}\n",
        "a: {\n\tb: 1\n\t, \"\\q\"}\n",
    ] {
        let told = problem(text);
        assert!(told.contains("cannot be read as YAML: "), "{text:?}: {told}");
    }
}

#[test]
fn pairs_of_escapes_are_one_character_in_json() {
    for (text, expected) in [
        (r#"{"a": "\ud83d\ude00"}"#, "😀"),
        (r#"{"a": "x\uD83D\uDE00\u00e9\ud83d\ude01\ud83d\ude00y"}"#, "x😀é😁😀y"),
        (r#"{"a": "\\ud83d\\ude00 \/ \b"}"#, "\\ud83d\\ude00 / \u{8}"),
        (r#"{"a": '\ud83d\ude00'}"#, r"\ud83d\ude00"),
        (r#"{"a": "\uf000\ue000 \ud83d\ude00"}"#, "\u{f000}\u{e000} 😀"),
        ("{\"a\": \"\u{f000} \\ud83d\\ude00\"}", "\u{f000} 😀"),
        ("{ # \\ud83d\\ude01\n\"a\": \"\\ud83d\\ude00\"}", "😀"),
    ] {
        assert_eq!(first_text(text), expected, "{text}");
    }
    for text in
        [r#"{"a": "\ud83d"}"#, r#"{"a": "\ude00\ud83d"}"#, r#"{"a": "\ud83dx\ude00"}"#, r#"{"a": "\ud83d\ud83d"}"#]
    {
        assert!(problem(text).contains("invalid Unicode character escape code"), "{text}");
    }
    assert_eq!(
        problem("{\"a\": \"\\ud83d\\ude00\", \"a\": 1}"),
        "m.yaml:1:23: a: the key \"a\" stands twice in this map: first in line 1"
    );
}

#[test]
fn what_can_be_left_out_is_told_with_its_field_and_reading_goes_on() {
    let text = "base: &base {x: 1, y: 2}\nspec:\n  a: 1\n  a: 2\n  list:\n  - <<: *base\n    y: 3\n  - !secret z\n  ? [k]\n  : v\n  \"a b\": {c: 1, c: {d: 1, d: 2}}\nlast: !x y\n";
    let Read { node, problems } = super::read(text.as_bytes(), "m.yaml");
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let told: Vec<&str> =
        told.iter().map(|line| line.split_at(line.find("m.yaml:").map_or(0, |at| at + 7)).1).collect();
    let starts = [
        "4:3: spec.a: the key \"a\" stands twice",
        "6:5: spec.list[0]: merge keys",
        "8:5: spec.list[1]: the tag \"!secret\"",
        "9:5: spec: a list or map cannot be a key",
        "11:17: spec[\"a b\"].c: the key \"c\" stands twice",
        "11:27: spec[\"a b\"].c.d: the key \"d\" stands twice",
        "12:7: last: the tag \"!x\"",
    ];
    assert_eq!(told.len(), starts.len(), "{told:?}");
    for (line, start) in told.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    let Some(Node { kind: Kind::Map(top), .. }) = node else { panic!() };
    assert_eq!(top.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["base", "spec", "last"]);
}

#[test]
fn problems_of_keys_and_tags_end_somewhere() {
    let Read { node, problems } = super::read("- !x y\n".repeat(5000).as_bytes(), "m.yaml");
    assert!(node.is_none());
    assert_eq!(problems.len(), 101);
    assert_eq!(
        problems[100].to_string(),
        "m.yaml:101:3: [100]: is not read further: mend the problems before this line first"
    );
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
    fn json_of_any_text_is_read_as_it_was_meant(texts in proptest::collection::vec("\\PC{0,4}|[😀😁\u{e000}\u{f000}\u{f001}\\\\\"u]{0,6}", 1..5)) {
        let ascii = |text: &String| {
            let mut json = String::new();
            for unit in text.encode_utf16() {
                json.push_str(&format!("\\u{unit:04x}"));
            }
            json
        };
        let json = format!("{{\"k\": [{}]}}", texts.iter().map(|text| format!("\"{}\"", ascii(text))).collect::<Vec<_>>().join(",\n\t"));
        let node = read(json.as_bytes(), "m.yaml").unwrap().unwrap();
        let Kind::Map(entries) = &node.kind else { panic!() };
        let Kind::List(items) = &entries[0].value.kind else { panic!() };
        let back: Vec<_> = items.iter().map(|item| match &item.kind { Kind::Scalar { text, .. } => text.clone(), _ => panic!() }).collect();
        prop_assert_eq!(back, texts);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = super::super::parse(&bytes, "m.yaml");
    }
}
