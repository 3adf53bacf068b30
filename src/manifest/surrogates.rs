//! JSON's pairs of `\u` escapes, which stand for one character and which YAML does not know. Pure: no client, clock, disk or network.
//!
//! Programs that write ASCII only (Python's `json.dumps`) escape 😀 as `\ud83d\ude00`. Before the text is parsed, each pair is
//! replaced by two escapes of private characters, equally long so that all positions stay, and afterwards put back.

use std::borrow::Cow;
use std::collections::HashMap;

/// Bytes of a pair.
const PAIR: usize = 12;
/// The first private character that numbers a pair; more than [`PAIRS`] different ones are not replaced.
const FIRST: u32 = 0xe000;
/// Most different pairs in one text.
const PAIRS: usize = 0x1000;
/// Private characters, one of which, not in the text itself, goes before a number.
const MARKERS: std::ops::Range<u32> = 0xf000..0xf010;

/// A text without pairs.
pub(super) struct Hidden<'a> {
    /// What to parse.
    pub text: Cow<'a, str>,
    marker: char,
    /// The pairs as they were written, by number.
    pairs: Vec<&'a str>,
}

/// Hides the pairs of a text that begins as a JSON object does.
pub(super) fn hide(text: &str) -> Hidden<'_> {
    let found = if text.trim_start().starts_with('{') { pairs(text) } else { Vec::new() };
    let whole = Hidden { text: text.into(), marker: '\0', pairs: Vec::new() };
    if found.is_empty() {
        return whole;
    }
    let lower = text.to_ascii_lowercase();
    let is_free = |marker: &char| !text.contains(*marker) && !lower.contains(&escape(*marker));
    let Some(marker) = MARKERS.filter_map(char::from_u32).find(is_free) else { return whole };
    let (mut hidden, mut pairs, mut numbers) = (String::with_capacity(text.len()), Vec::new(), HashMap::new());
    let mut done = 0;
    for at in found {
        let pair = &text[at..at + PAIR];
        let number = *numbers.entry(pair).or_insert_with(|| {
            pairs.push(pair);
            pairs.len() - 1
        });
        let Some(code) = u32::try_from(number).ok().and_then(|number| char::from_u32(FIRST + number)) else { break };
        if number >= PAIRS {
            break;
        }
        hidden.push_str(&text[done..at]);
        hidden.push_str(&escape(marker));
        hidden.push_str(&escape(code));
        done = at + PAIR;
    }
    hidden.push_str(&text[done..]);
    Hidden { text: hidden.into(), marker, pairs }
}

impl Hidden<'_> {
    /// A scalar with its pairs again: as characters where it stood in double quotes, else as they were written.
    pub fn put_back(&self, text: &str, in_double_quotes: bool) -> Option<String> {
        let marker = if in_double_quotes { self.marker.to_string() } else { escape(self.marker) };
        if self.pairs.is_empty() || !text.contains(&marker) {
            return None;
        }
        let mut parts = text.split(&marker);
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let code = if in_double_quotes { part.chars().next().map(u32::from) } else { unit(part.as_bytes()) };
            let length = if in_double_quotes { part.chars().next().map_or(0, char::len_utf8) } else { PAIR / 2 };
            let pair = code.and_then(|code| self.pairs.get(usize::try_from(code.checked_sub(FIRST)?).ok()?));
            match pair {
                Some(pair) if in_double_quotes => whole.extend(character(pair.as_bytes())),
                Some(pair) => whole.push_str(pair),
                None => continue,
            }
            whole.push_str(&part[length..]);
        }
        Some(whole)
    }
}

/// Where pairs begin: two escapes for the halves of one character, the first not itself escaped.
fn pairs(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut found) = (0, Vec::new());
    while let Some(next) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += next;
        if character(&bytes[at..]).is_some() {
            found.push(at);
            at += PAIR;
        } else {
            at = (at + 2).min(bytes.len());
        }
    }
    found
}

/// The character that the pair at the beginning of `bytes` stands for.
fn character(bytes: &[u8]) -> Option<char> {
    let halves = [u16::try_from(unit(bytes)?).ok()?, u16::try_from(unit(bytes.get(PAIR / 2..)?)?).ok()?];
    if !(0xd800..0xdc00).contains(&halves[0]) {
        return None;
    }
    char::decode_utf16(halves).next()?.ok()
}

/// The number in the `\u` escape at the beginning of `bytes`.
fn unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

fn escape(c: char) -> String {
    format!("\\u{:04x}", u32::from(c))
}
