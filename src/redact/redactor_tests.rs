//! What is masked in a stream, and how it is held back.

use super::*;
use proptest::prelude::*;

fn redact(values: &[&str], pieces: &[&[u8]]) -> String {
    let mut redactor = Redactor::new(Secrets::new(values));
    let mut out = Vec::new();
    for piece in pieces {
        redactor.feed(piece, &mut out);
    }
    redactor.finish(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn a_secret_is_replaced_in_every_spelling() {
    let text = r#"p="s=cr t" {"p":"s\u003dcr t"} s%3Dcr+t s%3dcr%20t cz1jciB0"#;
    assert_eq!(redact(&["s=cr t"], &[text.as_bytes()]), r#"p="********" {"p":"********"} ******** ******** ********"#);
}

#[test]
fn base64_in_lines_is_replaced_however_it_is_split() {
    let text = b"token: MDEyMzQ1Njc4OWFi\r\nY2RlZg== end";
    for at in 0..text.len() {
        let (first, second) = text.split_at(at);
        assert_eq!(redact(&["0123456789abcdef"], &[first, second]), "token: ******** end", "{at}");
    }
}

#[test]
fn a_secret_split_over_two_pieces_is_replaced() {
    for at in 0..=7 {
        let (first, second) = b"hunter2".split_at(at);
        assert_eq!(redact(&["hunter2"], &[b"a ", first, second, b" b"]), "a ******** b");
    }
}

#[test]
fn what_cannot_become_a_secret_is_passed_on_at_once() {
    let mut redactor = Redactor::new(Secrets::new(&["hunter2"]));
    let mut out = Vec::new();
    redactor.feed(b"progress: 10% hunt", &mut out);
    assert_eq!(out, b"progress: 10% ");
    redactor.feed(b"ing", &mut out);
    assert_eq!(out, b"progress: 10% hunting");
}

#[test]
fn the_beginning_of_a_secret_at_the_end_of_the_stream_is_kept() {
    assert_eq!(redact(&["hunter2"], &[b"hunter"]), "hunter");
}

#[test]
fn of_overlapping_secrets_nothing_remains() {
    assert_eq!(redact(&["abcdef", "defghi"], &[b"-abcdefghi-"]), "-********-");
    assert_eq!(redact(&["abcd", "abcdefgh"], &[b"-abcdefgh-abcdef-"]), "-********-********ef-");
    assert_eq!(redact(&["aaaa"], &[b"aaaaaa"]), "********");
}

#[test]
fn bytes_that_are_not_utf8_pass_and_do_not_hide_a_secret() {
    let mut redactor = Redactor::new(Secrets::new(&["hunter2"]));
    let mut out = Vec::new();
    redactor.feed(b"\xff\xfehunter2\xff", &mut out);
    redactor.finish(&mut out);
    assert_eq!(out, b"\xff\xfe********\xff");
}

/// With a step for each byte of the secret at each of the text's none of these would end while somebody waits.
#[test]
fn a_long_secret_in_a_long_text_that_nearly_is_it_everywhere_takes_no_long_time() {
    let backslash = "\\".repeat(4096);
    for (secret, text, count) in [
        ("a".repeat(8192), "a", 1 << 15),
        (backslash.clone(), "\\", 1 << 13),
        (backslash.clone(), "\\\\u005c", 1 << 11),
        (backslash + "x", "\\\\u005c", 1 << 11),
        ("\\a".repeat(4096) + "x", "\\a", 1 << 13),
        (format!("\\{}x", "a".repeat(8192)), "\\a", 1 << 13),
        ("%".repeat(8192), "%25", 1 << 12),
        ("%25".repeat(3000) + "x", "%25", 1 << 12),
        ("é".repeat(4096), "\\u00e9", 1 << 11),
    ] {
        let masked = redact(&[&secret], &[text.repeat(count).as_bytes()]);
        assert!(masked.len() < text.len() * count * 2, "{text}");
    }
}

#[test]
fn of_a_long_secret_a_beginning_of_256_bytes_is_masked_as_far_as_it_goes() {
    let secret: String = (0..200).map(|n| format!("{n:05}")).collect();
    for (shown, expected) in [(255, format!("-{}-", &secret[..255])), (256, "-********-".to_owned())] {
        assert_eq!(redact(&[&secret], &[b"-", &secret.as_bytes()[..shown], b"-"]), expected);
    }
    let cut = format!("-{}*{}-", &secret[..700], &secret[701..]);
    assert_eq!(redact(&[&secret], &[cut.as_bytes()]), format!("-*********{}-", &secret[701..]));
    let escaped: String = secret.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    for piece in [1, 7, 100, 5000] {
        let text = format!("-{secret}-{escaped}-");
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
        assert_eq!(redact(&[&secret], &pieces), "-********-********-", "{piece}");
    }
}

#[test]
fn of_a_long_secret_no_more_is_held_back_than_decides() {
    let secret: String = (0..200).map(|n| format!("{n:05}")).collect();
    let mut redactor = Redactor::new(Secrets::new(&[&secret]));
    let mut out = Vec::new();
    redactor.feed(&secret.as_bytes()[..999], &mut out);
    assert_eq!((out.as_slice(), redactor.held.len()), (MASK.as_bytes(), 0));
    redactor.feed(b"9", &mut out);
    redactor.feed(b"9", &mut out);
    assert_eq!(out, b"********9");
}

#[test]
fn without_secrets_nothing_is_held_back() {
    let mut redactor = Redactor::new(Secrets::default());
    let mut out = Vec::new();
    redactor.feed(b"anything", &mut out);
    assert_eq!(out, b"anything");
}

proptest! {
    #[test]
    fn how_the_stream_is_cut_does_not_change_the_result(
        text in r"(abab|ba|c|abac| |%20|\\u0061|\\|YWJ|hY|g==|\n){0,30}",
        cuts in proptest::collection::vec(0usize..120, 0..8),
    ) {
        let values = ["abab", "bac a", "abacab"];
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
        prop_assert_eq!(redact(&values, &pieces), redact(&values, &[text.as_bytes()]));
    }

    #[test]
    fn no_secret_survives(before in "[a-c]{0,12}", after in "[a-c]{0,12}", cut in 0usize..30) {
        let text = format!("{before}abcabc{after}");
        let (first, second) = text.as_bytes().split_at(cut.min(text.len()));
        prop_assert!(!redact(&["abcabc"], &[first, second]).contains("abcabc"));
    }
}
