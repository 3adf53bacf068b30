//! The texts to look for so that no secret appears: each value, and what it is in base64. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Values with fewer characters, white space around them not counted, are not redacted: they would hide ordinary output.
pub const SHORTEST_SECRET: usize = 4;
/// Values that are not redacted either, in any case: they are in most JSON, and `"success": "********"` would no longer say
/// that something failed.
const ORDINARY: [&str; 3] = ["true", "false", "null"];

/// One text to look for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needle {
    /// How it is spelled plainly; two bytes at least.
    pub text: String,
    /// It is base64, which writers break into lines.
    pub breaks: bool,
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
                all.push(Needle { text: text.to_owned(), breaks: false });
                all.extend(in_base64(text.as_bytes()).map(|text| Needle { text, breaks: true }));
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

#[cfg(test)]
#[path = "needles_tests.rs"]
mod tests;
