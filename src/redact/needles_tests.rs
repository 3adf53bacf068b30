//! The spellings that a secret is recognised in.

use super::*;
use crate::redact::Secrets;

/// Whether the whole of `spelling` is recognised as `value`.
fn has(value: &str, spelling: &str) -> bool {
    let whole = 0..spelling.len();
    Secrets::new(&[value]).places(spelling.as_bytes()) == [whole]
}

#[test]
fn short_values_and_the_words_of_json_are_not_looked_for() {
    assert!(needles(&["", "abc", " ab \n"]).is_empty());
    assert!(needles(&["true", "False", "NULL", " true\n"]).is_empty());
    assert!(has("trues", "trues"));
    assert!(has("abcd", "abcd"));
    assert!(has("äöüß", "äöüß"));
}

#[test]
fn a_value_is_also_looked_for_without_the_white_space_around_it() {
    assert!(has("hunter2\n", "hunter2\n"));
    assert!(has("hunter2\n", "hunter2"));
}

#[test]
fn json_spellings_cover_the_usual_writers() {
    let value = "a\"b\\c=d<é/\u{1F600}\n";
    let rfc8259 = serde_json::to_string(value).unwrap();
    assert!(has(value, rfc8259.trim_matches('"')));
    assert!(has(value, "a\\\"b\\\\c\\u003dd\\u003cé/\u{1F600}\\n"), "Gson");
    assert!(has(value, "a\\\"b\\\\c=d<\\u00e9/\\ud83d\\ude00\\n"), "Python");
    assert!(has(value, "a\\\"b\\\\c=d<\\u00e9\\/\\ud83d\\ude00\\n"), "PHP");
    assert!(has(value, "a\\\"b\\\\c\\u003Dd\\u003Cé/\u{1F600}\\n"), "upper-case digits");
    assert!(has(value, "a\\u0022b\\\\c=d\\u003C\\u00E9/\\uD83D\\uDE00\\n"), ".NET");
    assert!(has("a=b&c+d'<", "a=b\\u0026c+d'\\u003c"), "Go");
    assert!(has("a=b&c+d'<", "a=b\\u0026c\\u002Bd\\u0027\\u003C"), ".NET");
    assert!(has("a=b&c+d'<", "a=b\\u0026c+d\\u0027\\u003c"), "PowerShell 5.1");
    assert!(has("pa\"ss", "pa\\\\\\\"ss"), "JSON in JSON");
    assert!(has("pa\\&ss", "pa\\\\\\\\\\\\u0026ss"), "JSON in JSON");
}

#[test]
fn backslashes_are_recognised_whatever_they_stand_for() {
    let value = "\\\\a\\u003db\\";
    assert!(has(value, value));
    assert!(has(value, &value.replace('\\', "\\\\")));
    assert!(has(value, &value.replace('\\', "\\\\\\\\")));
    assert!(!has(value, "\\a\\u003db\\"));
    let long = "\\".repeat(200);
    assert!(has(&long, &long.repeat(2)), "no exponential search");
}

#[test]
fn url_spellings_cover_both_cases_and_both_spaces() {
    let value = "p@ss w/rd é";
    for spelling in [
        "p%40ss%20w%2Frd%20%C3%A9",
        "p%40ss%20w%2frd%20%c3%a9",
        "p%40ss+w%2Frd+%C3%A9",
        "p%40ss%20w/rd%20%C3%A9",
        "p@ss%20w/rd%20%C3%A9",
    ] {
        assert!(has(value, spelling), "{spelling}");
    }
}

#[test]
fn base64_is_found_at_every_alignment_and_in_both_alphabets() {
    let value = "s\u{3ff}cret?>pass";
    let secrets = Secrets::new(&[value]);
    for engine in [STANDARD, URL_SAFE] {
        for before in 0..6 {
            for after in 0..4 {
                let text = engine.encode("x".repeat(before) + value + &"y".repeat(after));
                let places = secrets.places(text.as_bytes());
                assert!(places.iter().any(|place| place.len() >= value.len()), "{before} {after} {text}");
            }
        }
    }
    assert!(has("user:pass", "dXNlcjpwYXNz"));
    assert!(has("pass", "cGFzcw=="));
    assert!(has("pass", "cGFzcw"));
    assert!(has("pass", "cGFzcw\\u003d\\u003D"), "Gson");
}

#[test]
fn base64_is_found_across_the_lines_that_writers_break_it_into() {
    for broken in
        ["dXNlcjpw\nYXNz", "dXNlcjpw\r\nYXNz", "dXNlcjpw\\nYXNz", "dXNlcjpw\\\\r\\\\nYXNz", "dXNlcjpw\n    YXNz"]
    {
        assert!(has("user:pass", broken), "{broken}");
    }
    assert!(!has("user:pass", "dXNlcjpw YXNz"));
    assert!(!has("user:pass", "user\n:pass"), "plain text is not broken");
    assert!(!has("user:pass", &format!("dXNl{}cjpwYXNz", "\n".repeat(65))));
}

#[test]
fn whatever_a_value_begins_with_is_looked_for() {
    for value in ["a=b&c", "\\x/y\"", "%41zz", " + éa", "\n\t\r\u{8}xyz1", "é\u{1F600}ab", "+/ab", "/a b", "\"q\"q"] {
        let c = value.chars().next().unwrap();
        let mut units = [0; 2];
        let unicode: String = c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect();
        let encoded: String = c.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
        let json = serde_json::to_string(value).unwrap();
        let nested = serde_json::to_string(&json[1..json.len() - 1]).unwrap();
        let rest = &value[c.len_utf8()..];
        for spelling in [
            value,
            json.strip_prefix('"').unwrap().strip_suffix('"').unwrap(),
            &nested[1..nested.len() - 1],
            &format!("{unicode}{rest}"),
            &format!("{}{rest}", unicode.replace('\\', "\\\\")),
            &format!("{encoded}{rest}"),
            &value.replace(' ', "+"),
            &value.replace('/', "\\/"),
        ] {
            // What a trimmed value leaves out stands before it.
            let places = Secrets::new(&[value]).places(spelling.as_bytes());
            assert_eq!(places.last().map(|place| place.end), Some(spelling.len()), "{value:?} as {spelling:?}");
        }
    }
}

#[test]
fn long_runs_of_backslashes_are_recognised() {
    let long = "\\".repeat(200);
    for (text, place) in [
        (long.clone(), Some(0..200)),
        (long[1..].to_owned() + "a", None),
        (long.repeat(2) + "a", Some(0..400)),
        (long.repeat(5) + "a", Some(0..1000)),
    ] {
        assert_eq!(Secrets::new(&[&long]).places(text.as_bytes()), Vec::from_iter(place), "{}", text.len());
    }
    let value = format!("a{}\"b", &long[..40]);
    let json = serde_json::to_string(&value).unwrap();
    let nested = serde_json::to_string(json.trim_matches('"')).unwrap();
    for spelling in [&value, &json[1..json.len() - 1], &nested[1..nested.len() - 1]] {
        assert!(has(&value, spelling), "{spelling}");
    }
    assert!(has(&long[..40], &"\\u005c".repeat(40)));
    assert!(has(&long[..40], &("\\".repeat(10) + &"\\u005C".repeat(30))));
}
