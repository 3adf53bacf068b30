//! What is found, held against each character's spellings tried one after the other at each place.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use crate::protocol::MASK;
use crate::redact::needles::{Needle, needles};
use crate::redact::{Redactor, Secrets};

/// Every spelling of a character, and whether its letters may be of either case.
fn spellings(c: char) -> Vec<(String, bool)> {
    let encoded = c.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut all = vec![(c.to_string(), false), (encoded, true)];
    let short = match c {
        '"' | '\\' | '/' => Some(c),
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        '\u{8}' => Some('b'),
        '\u{c}' => Some('f'),
        _ => None,
    };
    if let Some(letter) = short {
        let nested = if matches!(letter, '"' | '\\') { "\\\\\\" } else { "\\\\" };
        all.extend([(format!("\\{letter}"), false), (format!("{nested}{letter}"), false)]);
    }
    for prefix in ["\\u", "\\\\u"] {
        let units = c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("{prefix}{unit:04x}")).collect();
        all.push((units, true));
    }
    if c == ' ' {
        all.push(("+".to_owned(), false));
    }
    all
}

fn line_break(text: &str) -> usize {
    let mut bytes = 0;
    while bytes < 64 {
        let ends = ["\r", "\n", "\\r", "\\n", "\\\\r", "\\\\n"]
            .into_iter()
            .chain([" ", "\t"].into_iter().filter(|_| bytes > 0));
        match ends.filter(|end| text[bytes..].starts_with(*end)).map(str::len).max() {
            Some(more) => bytes += more,
            None => break,
        }
    }
    bytes
}

/// Where the longest spelling of the needle ends that begins at `at`.
fn longest(needle: &Needle, text: &str, at: usize) -> Option<usize> {
    let mut ends = BTreeSet::from([at]);
    for (index, c) in needle.text.chars().enumerate() {
        let mut next = BTreeSet::new();
        for end in ends {
            let end = end + if needle.breaks && index > 0 { line_break(&text[end..]) } else { 0 };
            let rest = &text.as_bytes()[end..];
            for (spelling, any_case) in spellings(c) {
                let same = |there: &[u8]| match any_case {
                    true => there.eq_ignore_ascii_case(spelling.as_bytes()),
                    false => there == spelling.as_bytes(),
                };
                if rest.get(..spelling.len()).is_some_and(same) {
                    next.insert(end + spelling.len());
                }
            }
        }
        ends = next;
    }
    ends.last().copied()
}

fn expected(values: &[String], text: &str) -> Vec<Range<usize>> {
    let all = needles(values);
    let mut places: Vec<Range<usize>> = Vec::new();
    for (at, _) in text.char_indices() {
        let Some(end) = all.iter().filter_map(|needle| longest(needle, text, at)).max() else { continue };
        match places.last_mut() {
            Some(last) if at < last.end => last.end = last.end.max(end),
            _ => places.push(at..end),
        }
    }
    places
}

fn masked(text: &str, places: &[Range<usize>]) -> Vec<u8> {
    let (mut masked, mut done) = (Vec::new(), 0);
    for place in places {
        masked.extend_from_slice(&text.as_bytes()[done..place.start]);
        masked.extend_from_slice(MASK.as_bytes());
        done = place.end;
    }
    masked.extend_from_slice(&text.as_bytes()[done..]);
    masked
}

fn redacted(values: &[String], text: &str, cuts: &[usize]) -> Vec<u8> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).chain([0, text.len()]).collect();
    cuts.sort_unstable();
    let mut redactor = Redactor::new(Secrets::new(values));
    let mut out = Vec::new();
    cuts.windows(2).for_each(|cut| redactor.feed(&text.as_bytes()[cut[0]..cut[1]], &mut out));
    redactor.finish(&mut out);
    out
}

/// A part of a secret or of its base64, each character in one of its spellings, and something between.
type Part = (usize, usize, usize, Vec<(usize, bool)>, String);

fn parts(most: usize) -> impl Strategy<Value = Vec<Part>> {
    let spelled = proptest::collection::vec((0usize..40, any::<bool>()), 1..16);
    let between = r"(|\\|%|\\u|\\\\|2|n|\n|\r\n  |\\n|-)";
    proptest::collection::vec((0usize..8, 0usize..12, 0usize..64, spelled, between), 0..most)
}

/// The texts of `values` as the parts say, repeated up to `least` bytes.
fn text_of(values: &[String], parts: &[Part]) -> String {
    let all = needles(values);
    let mut text = String::new();
    for (which, from, count, spelled, between) in parts {
        if let Some(needle) = all.get(which * all.len() / 8) {
            // Most begin at the beginning, and end at the end.
            let from = from.saturating_sub(8);
            let count = if *count < 32 { needle.text.len() } else { count - 32 };
            for (c, (spelling, upper)) in needle.text.chars().skip(from).take(count).zip(spelled.iter().cycle()) {
                let all = spellings(c);
                let (spelling, any_case) = all[if *spelling < 24 { 0 } else { spelling % all.len() }].clone();
                text.push_str(&if any_case && *upper { spelling.to_uppercase() } else { spelling });
            }
        }
        text.push_str(between);
    }
    text
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ab\\\\%+ nu\"/\n250cé\u{1F600}]{4,9}",
        r"\\{4,6}",
        "(%|%2|5|25){3,6}",
        "[ab]{4,5}",
        r"(\\u005c|\\|u){3,5}"
    ]
}

proptest! {
    #[test]
    fn what_is_found_is_what_trying_every_spelling_at_every_place_finds(
        values in proptest::collection::vec(value(), 1..3),
        parts in parts(6),
        cuts in proptest::collection::vec(0usize..4096, 0..6),
    ) {
        let text = text_of(&values, &parts);
        let expected = expected(&values, &text);
        prop_assert_eq!(Secrets::new(&values).places(text.as_bytes()), expected.clone(), "{:?}", text);
        let redacted = redacted(&values, &text, &cuts);
        prop_assert_eq!(String::from_utf8(redacted), String::from_utf8(masked(&text, &expected)), "{:?}", text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn of_long_secrets_nothing_less_is_masked(
        value in value(),
        bytes in 240usize..330,
        parts in parts(3),
        cuts in proptest::collection::vec(0usize..1 << 14, 0..6),
    ) {
        let values = [value.repeat(bytes / value.len()) + "x"];
        let text = text_of(&values, &parts);
        let places = Secrets::new(&values).places(text.as_bytes());
        for place in expected(&values, &text) {
            let is_in = |found: &Range<usize>| found.start <= place.start && place.end <= found.end;
            prop_assert!(places.iter().any(is_in), "{place:?} {places:?} {text}");
        }
        let redacted = redacted(&values, &text, &cuts);
        prop_assert_eq!(String::from_utf8(redacted), String::from_utf8(masked(&text, &places)), "{:?}", text);
    }
}
