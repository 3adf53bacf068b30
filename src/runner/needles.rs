//! The secrets to look for, each recognised however it is spelled: plain, JSON-escaped, URL-encoded, base64. Pure.
//!
//! Writers differ in what they escape (Go `<>&`, Gson also `='`, .NET also `+"`, Python all beyond ASCII, PHP `/`), so each
//! character is compared with every spelling of it, and spellings may be mixed.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Values with fewer characters, white space around them not counted, are not redacted: they would hide ordinary output.
pub const SHORTEST_SECRET: usize = 4;
/// Values that are not redacted either, in any case: they are in most JSON, and `"success": "********"` would no longer say
/// that something failed.
const ORDINARY: [&str; 3] = ["true", "false", "null"];
/// Most bytes of a line break inside base64: CR, LF and the next line's indentation.
const LONGEST_BREAK: usize = 64;
/// What a spelling that is not plain, or a line break in it, begins with.
pub const ESCAPES: &[u8] = b"\\%+\r\n";

/// From how many backslashes on a run of them is one step: each can be spelled in several ways, and its ends are as many.
const LONG_RUN: usize = 16;
/// Bytes that are compared at once.
const BLOCK: usize = 256;

/// One text to look for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needle {
    text: String,
    /// Bytes at its start of which none begins another spelling: where the text has the same, it has nothing else.
    plain: usize,
    /// It is base64, which writers break into lines.
    breaks: bool,
}

/// What the start of a text has of a needle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Bytes of the longest spelling; 0: there is none.
    pub bytes: usize,
    /// More text could make one, or a longer one.
    pub undecided: bool,
}

/// What to look for so that none of `values` appears. Values with fewer than [`SHORTEST_SECRET`] characters are left
/// out, and `true`, `false` and `null`; a value that ends in white space (files usually end in a newline) is also looked for without it.
pub fn needles<S: AsRef<str>>(values: &[S]) -> Vec<Needle> {
    let mut all = Vec::new();
    for value in values {
        let (value, trimmed) = (value.as_ref(), value.as_ref().trim());
        let is_ordinary = ORDINARY.iter().any(|word| trimmed.eq_ignore_ascii_case(word));
        if trimmed.chars().count() >= SHORTEST_SECRET && !is_ordinary {
            for text in [value, trimmed] {
                all.push(Needle::new(text.to_owned(), false));
                all.extend(in_base64(text.as_bytes()).map(|text| Needle::new(text, true)));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The value alone, padded and not, and what of it is the same in any longer text at each of the three alignments.
fn in_base64(value: &[u8]) -> impl Iterator<Item = String> {
    [STANDARD, URL_SAFE].into_iter().flat_map(move |engine| {
        let whole = engine.encode(value);
        let unpadded = whole.trim_end_matches('=').to_owned();
        let within = (0..3).map(move |before| {
            let mut padded = vec![0; before];
            padded.extend_from_slice(value);
            let text = engine.encode(&padded);
            // Six bits a digit: the first and last digits share bits with the neighbours.
            let (start, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            text[start..end].to_owned()
        });
        [whole, unpadded].into_iter().chain(within)
    })
}

impl Needle {
    fn new(text: String, breaks: bool) -> Self {
        let plain = text.find(['\\', '%']).unwrap_or(text.len());
        Self { text, plain, breaks }
    }

    /// The bytes that it begins with where it is spelled plainly.
    pub fn first_two_bytes(&self) -> (u8, u8) {
        match *self.text.as_bytes() {
            [first, second, ..] => (first, second),
            // None is so short.
            _ => (0, 0),
        }
    }

    /// Looks at the start of `text`.
    pub fn at_start_of(&self, text: &[u8]) -> Found {
        let mut at = common(&self.text.as_bytes()[..self.plain], text);
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let mut rest = self.text[at..].chars();
        loop {
            let here = rest.clone();
            let Some(c) = rest.next() else { return Found { bytes: at, undecided: false } };
            let mut buffer = [0; 4];
            let plain = c.encode_utf8(&mut buffer).as_bytes();
            match text[at..].first() {
                // Nearly always nothing but the character itself is to be compared.
                Some(byte) if !ESCAPES.contains(byte) => match text[at..].starts_with(plain) {
                    true => at += plain.len(),
                    false => return Found { bytes: 0, undecided: plain.starts_with(&text[at..]) },
                },
                _ => return self.spelled_from(here.as_str(), text, at),
            }
        }
    }

    /// Whether `rest` of the needle follows at `start`. A backslash may be itself or begin an escape, so that there can be
    /// several ends to go on from.
    fn spelled_from(&self, rest: &str, text: &[u8], start: usize) -> Found {
        let mut found = Found { bytes: 0, undecided: false };
        let mut ends = vec![start];
        let mut rest = rest;
        while let Some(c) = rest.chars().next() {
            let mut next = Vec::new();
            let run = backslashes(rest.as_bytes());
            if run >= LONG_RUN && ends.iter().all(|end| is_run(&text[*end..], run)) {
                rest = &rest[run..];
                for end in ends {
                    let there = backslashes(&text[end..]);
                    found.undecided |= end + there == text.len();
                    let most = there.min(4 * run);
                    // What follows begins with three backslashes at most.
                    let least = if rest.is_empty() { most } else { run.max(there.saturating_sub(3)) };
                    if there >= run {
                        next.extend((least..=most).map(|bytes| end + bytes));
                    }
                }
                if next.is_empty() {
                    return found;
                }
                next.sort_unstable();
                next.dedup();
                ends = next;
                continue;
            }
            rest = &rest[c.len_utf8()..];
            for end in ends {
                let at = end + if self.breaks && end > 0 { line_break(&text[end..]) } else { 0 };
                found.undecided |= spellings(c, &text[at..], |bytes| next.push(at + bytes));
            }
            next.sort_unstable();
            next.dedup();
            if next.is_empty() {
                return found;
            }
            ends = next;
        }
        found.bytes = ends.into_iter().max().unwrap_or_default();
        found
    }
}

/// How many bytes at the start of both are the same.
fn common(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.chunks(BLOCK).zip(other.chunks(BLOCK)).take_while(|(one, other)| one == other);
    let same: usize = blocks.map(|(block, _)| block.len()).sum();
    same + one[same..].iter().zip(&other[same..]).take_while(|(one, other)| one == other).count()
}

/// How many backslashes `text` begins with.
fn backslashes(text: &[u8]) -> usize {
    let blocks = text.chunks(BLOCK).take_while(|block| **block == [b'\\'; BLOCK]).count();
    let same = blocks * BLOCK;
    same + text[same..].iter().take_while(|byte| **byte == b'\\').count()
}

/// Whether so many backslashes can stand in `text` as backslashes alone, if at all: those that it begins with are enough, or
/// no `\u005c` goes on.
fn is_run(text: &[u8], run: usize) -> bool {
    let there = backslashes(text);
    there >= run || there > 0 && !text.get(there).is_some_and(|next| next.eq_ignore_ascii_case(&b'u'))
}

/// The first bytes of needles of which `text` can begin with a spelling; `None`: of any.
pub fn first_bytes(text: &[u8]) -> Option<[u8; 2]> {
    match *text {
        [b'\\' | b'%'] | [b'\\', b'u' | b'U' | b'\\', ..] | [b'%', _] => None,
        [b'\\', letter, ..] => Some([b'\\', unescaped(letter)]),
        [b'%', high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let encoded = digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low);
            Some([b'%', encoded.unwrap_or(b'%')])
        }
        [b'+', ..] => Some(*b"+ "),
        [byte, ..] => Some([byte; 2]),
        [] => None,
    }
}

/// What a backslash and this letter stand for in JSON; the backslash itself for no such letter.
fn unescaped(letter: u8) -> u8 {
    match letter {
        b'"' | b'/' => letter,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        _ => b'\\',
    }
}

/// Bytes of the line break, plain or JSON-escaped, that `text` begins with; blanks that follow it are part of it.
fn line_break(text: &[u8]) -> usize {
    let mut bytes = 0;
    while bytes < LONGEST_BREAK {
        bytes += match &text[bytes..] {
            [b'\r' | b'\n', ..] => 1,
            [b'\\', b'r' | b'n', ..] => 2,
            [b'\\', b'\\', b'r' | b'n', ..] => 3,
            [b' ' | b'\t', ..] if bytes > 0 => 1,
            _ => break,
        };
    }
    bytes
}

/// Tells `end` the length of every spelling of `c` that `text` begins with. Returns whether more text could make one.
fn spellings(c: char, text: &[u8], mut end: impl FnMut(usize)) -> bool {
    let mut is_cut = false;
    let mut compare = |spelling: &[u8], any_case: bool| {
        let common = spelling.len().min(text.len());
        let (ours, theirs) = (&spelling[..common], &text[..common]);
        if ours == theirs || any_case && ours.eq_ignore_ascii_case(theirs) {
            if common == spelling.len() { end(common) } else { is_cut = true }
        }
    };
    let mut buffer = [0; 4];
    let plain = c.encode_utf8(&mut buffer).as_bytes();
    compare(plain, false);
    match text.first() {
        Some(b'\\') => {
            let short = match c {
                '"' | '\\' | '/' => Some(plain[0]),
                '\n' => Some(b'n'),
                '\r' => Some(b'r'),
                '\t' => Some(b't'),
                '\u{8}' => Some(b'b'),
                '\u{c}' => Some(b'f'),
                _ => None,
            };
            if let Some(letter) = short {
                compare(&[b'\\', letter], false);
                // JSON inside of a JSON string.
                match letter {
                    b'"' | b'\\' => compare(&[b'\\', b'\\', b'\\', letter], false),
                    _ => compare(&[b'\\', b'\\', letter], false),
                }
            }
            for prefix in [&b"\\u"[..], b"\\\\u"] {
                let mut escaped = Spelling::default();
                for unit in c.encode_utf16(&mut [0; 2]) {
                    escaped.push(prefix);
                    unit.to_be_bytes().into_iter().for_each(|byte| escaped.push_hex(byte));
                }
                compare(escaped.bytes(), true);
            }
        }
        Some(b'%') => {
            let mut encoded = Spelling::default();
            for byte in plain {
                encoded.push(b"%");
                encoded.push_hex(*byte);
            }
            compare(encoded.bytes(), true);
        }
        // Java's URLEncoder, HTML forms
        Some(b'+') if c == ' ' => compare(b"+", false),
        _ => {}
    }
    is_cut
}

/// One spelling of one character; the longest is `\\uD83D\\uDE00`.
#[derive(Default)]
struct Spelling {
    text: [u8; 14],
    len: usize,
}

impl Spelling {
    fn push(&mut self, bytes: &[u8]) {
        self.text[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_hex(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.push(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xF)]]);
    }

    fn bytes(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

#[cfg(test)]
#[path = "needles_tests.rs"]
mod tests;
