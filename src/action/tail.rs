//! Text that is bounded by its size as JSON, for status fields. Pure: no client, clock, disk or network.

use crate::protocol::{self, json_bytes};

/// The end of `text`, at most `limit` bytes when serialised as a JSON string without its quotes. Control characters, which
/// could steer a terminal, become U+FFFD; line feeds and tabs stay.
pub fn tail(text: &str, limit: usize) -> String {
    protocol::tail(&printable(text), limit).to_owned()
}

/// The beginning of `text` under the same rules; `…` marks a cut.
pub(super) fn head(text: &str, limit: usize) -> String {
    const MARK: char = '…';
    let plain = printable(text);
    if plain.chars().map(json_bytes).sum::<usize>() <= limit {
        return plain;
    }
    let mut left = limit.saturating_sub(MARK.len_utf8());
    let mut cut: String = plain
        .chars()
        .take_while(|c| {
            let fits = json_bytes(*c) <= left;
            left = if fits { left - json_bytes(*c) } else { 0 };
            fits
        })
        .collect();
    cut.push(MARK);
    cut
}

/// `text` without what steers a terminal: CRLF becomes LF, other control characters U+FFFD.
pub fn printable(text: &str) -> String {
    let harmless = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    text.replace("\r\n", "\n").chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::TAIL_BYTES;

    #[test]
    fn a_tail_is_the_end_in_whole_characters() {
        assert_eq!(tail("abc", 2), "bc");
        assert_eq!(tail("aé", 2), "é");
        assert_eq!(tail("aé", 1), "");
        assert_eq!(tail("", 10), "");
    }

    #[test]
    fn size_is_counted_as_json() {
        for text in ["\"".repeat(5000), "\n".repeat(5000), "\u{1}".repeat(5000), "é".repeat(5000), "x".repeat(5000)] {
            let cut = tail(&text, TAIL_BYTES);
            let json = serde_json::to_string(&cut).unwrap();
            assert!(json.len() - 2 <= TAIL_BYTES, "{}", json.len());
            assert!(json.len() > TAIL_BYTES - 8, "{}", json.len());
            let cut = head(&text, TAIL_BYTES);
            assert!(serde_json::to_string(&cut).unwrap().len() - 2 <= TAIL_BYTES && cut.ends_with('…'));
        }
        assert_eq!(head("short", 100), "short");
    }

    #[test]
    fn terminal_escapes_are_taken_out() {
        assert_eq!(tail("\u{1b}[31mred\r\nend\u{9b}", 100), "\u{fffd}[31mred\nend\u{fffd}");
    }
}
