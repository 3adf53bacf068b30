//! Text that is bounded by its size as JSON: what of an output goes to status while it runs, and at its end.

/// Most bytes of a tail, serialised as JSON without its quotes.
pub const TAIL_BYTES: usize = 4096;

/// Bytes of a character inside a JSON string, as `serde_json` writes it.
pub fn json_bytes(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => c.len_utf8(),
    }
}

/// The end of `text` in whole characters, at most `limit` bytes when serialised as a JSON string without its quotes.
pub fn tail(text: &str, limit: usize) -> &str {
    let mut bytes = 0;
    let fitting = text.char_indices().rev().take_while(|(_, c)| {
        bytes += json_bytes(*c);
        bytes <= limit
    });
    &text[fitting.last().map_or(text.len(), |(start, _)| start)..]
}
