//! Replaces secrets in a byte stream, however the stream is cut into pieces. Pure.

use std::ops::Range;
use std::sync::Arc;

use super::needles::{ESCAPES, Found, Needle, first_bytes, needles};
use crate::protocol::MASK;

/// The secrets to look for, shared by the streams of one run.
#[derive(Debug, Clone, Default)]
pub struct Secrets(Arc<Needles>);

#[derive(Debug, Default)]
struct Needles {
    all: Vec<Needle>,
    /// Where in `all`, which is sorted, those are that begin with a byte; empty if there are none.
    by_first: Vec<Range<usize>>,
    /// Which two bytes a spelling of any can begin with: most of an output is passed over by these.
    begins: Vec<bool>,
}

impl Secrets {
    /// Everything under which `values` could appear; see [`needles`].
    pub fn new<S: AsRef<str>>(values: &[S]) -> Self {
        let all = needles(values);
        let begins = |byte: u16| all.partition_point(|needle| u16::from(needle.first_two_bytes().0) < byte);
        let by_first =
            if all.is_empty() { Vec::new() } else { (0..256).map(|byte| begins(byte)..begins(byte + 1)).collect() };
        let begins = beginnings(&all);
        Self(Arc::new(Needles { all, by_first, begins }))
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.all.is_empty()
    }

    /// What the start of `text`, which is not empty, has of any secret.
    fn at_start_of(&self, text: &[u8]) -> Found {
        let of = |byte: u8| self.0.by_first.get(usize::from(byte)).map_or(&[][..], |range| &self.0.all[range.clone()]);
        let (one, other) = match first_bytes(text) {
            None => (self.0.all.as_slice(), &[][..]),
            Some([first, second]) if first == second => (of(first), &[][..]),
            Some([first, second]) => (of(first), of(second)),
        };
        one.iter().chain(other).fold(Found::default(), |found, needle| {
            let next = needle.at_start_of(text);
            Found { bytes: found.bytes.max(next.bytes), undecided: found.undecided | next.undecided }
        })
    }

    /// Where in `text` the first secret could begin.
    fn next_beginning(&self, text: &[u8]) -> Option<usize> {
        let begins = self.0.begins.as_slice();
        let found = text.windows(2).position(|two| begins[usize::from(two[0]) << 8 | usize::from(two[1])]);
        // Of the last byte it is not known what follows.
        found.or(text.len().checked_sub(1))
    }

    /// Where secrets are in the whole of a text; those that overlap are one.
    pub fn places(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut places: Vec<Range<usize>> = Vec::new();
        if self.is_empty() {
            return places;
        }
        let mut at = 0;
        while let Some(skipped) = self.next_beginning(&text[at..]) {
            at += skipped;
            let bytes = self.at_start_of(&text[at..]).bytes;
            match places.last_mut() {
                Some(last) if bytes > 0 && at < last.end => last.end = last.end.max(at + bytes),
                _ if bytes > 0 => places.push(at..at + bytes),
                _ => {}
            }
            at += 1;
        }
        places
    }
}

/// For each pair of bytes, whether a spelling of a needle can begin with it.
fn beginnings(needles: &[Needle]) -> Vec<bool> {
    let mut begins = vec![false; if needles.is_empty() { 0 } else { 1 << 16 }];
    let mut add = |first: u8, second: u8| begins[usize::from(first) << 8 | usize::from(second)] = true;
    for needle in needles {
        let (first, second) = needle.first_two_bytes();
        add(first, second);
        ESCAPES.iter().for_each(|escape| add(first, *escape));
        if first == b' ' {
            (0..=u8::MAX).for_each(|second| add(b'+', second));
        }
    }
    if !needles.is_empty() {
        (0..=u8::MAX).for_each(|second| b"\\%".iter().for_each(|first| add(*first, second)));
    }
    begins
}

/// Replaces every secret in one stream by [`MASK`]; secrets that overlap share one mask. What could be the beginning
/// of a secret is held back until more of the stream, or its end, decides.
#[derive(Debug)]
pub struct Redactor {
    secrets: Secrets,
    held: Vec<u8>,
    /// Bytes at the start of `held` that a mask already stands for.
    masked: usize,
}

impl Redactor {
    /// A redactor at the start of a stream.
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new(), masked: 0 }
    }

    /// Takes the next piece of the stream and appends what is decided to `out`.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(piece);
        self.advance(false, out);
    }

    /// Ends the stream: appends the rest to `out`.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.advance(true, out);
    }

    fn advance(&mut self, at_end: bool, out: &mut Vec<u8>) {
        if self.secrets.is_empty() {
            out.append(&mut self.held);
            return;
        }
        let mut done = 0;
        while done < self.held.len() {
            if self.masked == 0 {
                let rest = &self.held[done..];
                let plain = self.secrets.next_beginning(rest).unwrap_or_default();
                out.extend_from_slice(&rest[..plain]);
                done += plain;
            }
            let found = self.secrets.at_start_of(&self.held[done..]);
            if found.undecided && !at_end {
                break;
            }
            if found.bytes > 0 && self.masked == 0 {
                out.extend_from_slice(MASK.as_bytes());
            }
            self.masked = self.masked.max(found.bytes);
            if self.masked > 0 {
                self.masked -= 1;
            } else {
                out.push(self.held[done]);
            }
            done += 1;
        }
        self.held.drain(..done);
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            redact(&["s=cr t"], &[text.as_bytes()]),
            r#"p="********" {"p":"********"} ******** ******** ********"#
        );
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

    /// With a step for each byte of the secret at each of the text's this would not end while somebody waits.
    #[test]
    fn a_long_secret_of_one_character_is_masked_in_a_long_text_of_it() {
        for (byte, secret, text) in [("a", 8192, 1 << 18), ("\\", 4096, 1 << 15)] {
            let (secret, text) = (byte.repeat(secret), byte.repeat(text));
            assert_eq!(redact(&[&secret], &[text.as_bytes()]), MASK);
        }
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
}
