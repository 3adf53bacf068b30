//! The byte strings under which a secret value can appear in output: plain, JSON-escaped, URL-encoded, base64. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// Values with fewer characters, white space around them not counted, are not redacted: they would hide ordinary output.
pub const SHORTEST_SECRET: usize = 4;

/// All spellings of `values`, each once. Values with fewer than [`SHORTEST_SECRET`] characters are left out; a value
/// that ends in white space (files usually end in a newline) is also looked for without it.
pub fn needles<S: AsRef<str>>(values: &[S]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for value in values {
        let (value, trimmed) = (value.as_ref(), value.as_ref().trim());
        if trimmed.chars().count() >= SHORTEST_SECRET {
            spellings(value, &mut all);
            spellings(trimmed, &mut all);
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn spellings(value: &str, all: &mut Vec<Vec<u8>>) {
    all.push(value.as_bytes().to_vec());
    for style in JSON_STYLES {
        let once = style.escape(value);
        // JSON inside of a JSON string.
        all.push(MINIMAL.escape(&once).into_bytes());
        all.push(once.into_bytes());
    }
    for style in URL_STYLES {
        let upper = style.encode(value);
        all.push(lower_hex_digits(&upper).into_bytes());
        all.push(upper.into_bytes());
    }
    base64_spellings(value.as_bytes(), all);
}

/// What a JSON writer escapes beyond what RFC 8259 demands.
struct JsonStyle {
    /// `<`, `>`, `&`, `=` and `'`, as Gson does by default; U+2028 and U+2029 come with it.
    html: bool,
    /// Everything beyond ASCII, as Python does by default.
    ascii: bool,
    /// `/`, as PHP does by default.
    slash: bool,
    upper: bool,
}

const MINIMAL: JsonStyle = JsonStyle { html: false, ascii: false, slash: false, upper: false };
const JSON_STYLES: [JsonStyle; 7] = [
    MINIMAL,
    JsonStyle { html: true, ..MINIMAL },
    JsonStyle { html: true, upper: true, ..MINIMAL },
    JsonStyle { ascii: true, ..MINIMAL },
    JsonStyle { ascii: true, upper: true, ..MINIMAL },
    JsonStyle { ascii: true, html: true, ..MINIMAL },
    JsonStyle { ascii: true, slash: true, ..MINIMAL },
];

impl JsonStyle {
    fn escape(&self, value: &str) -> String {
        let mut text = String::with_capacity(value.len() + 8);
        for c in value.chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                '/' if self.slash => text.push_str("\\/"),
                _ if self.is_escaped(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        text.push_str(&match self.upper {
                            true => format!("\\u{unit:04X}"),
                            false => format!("\\u{unit:04x}"),
                        });
                    }
                }
                _ => text.push(c),
            }
        }
        text
    }

    fn is_escaped(&self, c: char) -> bool {
        c < ' '
            || self.ascii && !c.is_ascii()
            || self.html && matches!(c, '<' | '>' | '&' | '=' | '\'' | '\u{2028}' | '\u{2029}')
    }
}

/// What a URL encoder leaves as it is, besides letters, digits, `-`, `.` and `_`.
struct UrlStyle {
    kept: &'static str,
    space: &'static str,
}

const URL_STYLES: [UrlStyle; 6] = [
    // RFC 3986 unreserved
    UrlStyle { kept: "~", space: "%20" },
    // Python's quote
    UrlStyle { kept: "~/", space: "%20" },
    // JavaScript's encodeURIComponent
    UrlStyle { kept: "~!*'()", space: "%20" },
    // JavaScript's encodeURI
    UrlStyle { kept: "~!*'();/?:@&=+$,#", space: "%20" },
    // Java's URLEncoder and HTML forms
    UrlStyle { kept: "*", space: "+" },
    // Python's quote_plus
    UrlStyle { kept: "~", space: "+" },
];

impl UrlStyle {
    fn encode(&self, value: &str) -> String {
        let mut text = String::with_capacity(value.len() * 3);
        for byte in value.bytes() {
            match byte {
                b' ' => text.push_str(self.space),
                b'-' | b'.' | b'_' => text.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() || self.kept.as_bytes().contains(&byte) => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
        text
    }
}

fn lower_hex_digits(encoded: &str) -> String {
    let mut left = 0;
    encoded
        .chars()
        .map(|c| {
            if c == '%' {
                left = 2;
                return c;
            }
            let is_digit = left > 0;
            left = if is_digit { left - 1 } else { 0 };
            if is_digit { c.to_ascii_lowercase() } else { c }
        })
        .collect()
}

/// The value alone, padded and not, and what of it is the same in any longer text at each of the three alignments.
fn base64_spellings(value: &[u8], all: &mut Vec<Vec<u8>>) {
    for engine in [STANDARD, URL_SAFE] {
        let whole = engine.encode(value);
        all.push(whole.trim_end_matches('=').as_bytes().to_vec());
        all.push(whole.into_bytes());
        for before in 0..3 {
            let mut padded = vec![0; before];
            padded.extend_from_slice(value);
            let text = engine.encode(&padded);
            // Six bits a digit: the first and last digits share bits with the neighbours.
            let (start, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
            all.push(text.as_bytes()[start..end].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(value: &str, spelling: &str) -> bool {
        needles(&[value]).contains(&spelling.as_bytes().to_vec())
    }

    #[test]
    fn short_values_are_not_looked_for() {
        assert!(needles(&["", "abc", " ab \n"]).is_empty());
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
        assert!(has("pa\"ss", "pa\\\\\\\"ss"), "JSON in JSON");
    }

    #[test]
    fn url_spellings_cover_both_cases_and_both_spaces() {
        let value = "p@ss w/rd";
        for spelling in ["p%40ss%20w%2Frd", "p%40ss%20w%2frd", "p%40ss+w%2Frd", "p%40ss%20w/rd", "p@ss%20w/rd"] {
            assert!(has(value, spelling), "{spelling}");
        }
    }

    #[test]
    fn base64_is_found_at_every_alignment_and_in_both_alphabets() {
        let value = "s\u{3ff}cret?>pass";
        let all = needles(&[value]);
        for engine in [STANDARD, URL_SAFE] {
            for before in 0..6 {
                for after in 0..4 {
                    let text = engine.encode("x".repeat(before) + value + &"y".repeat(after));
                    let hidden = all.iter().any(|needle| {
                        needle.len() >= value.len() && text.as_bytes().windows(needle.len()).any(|w| w == needle)
                    });
                    assert!(hidden, "{before} {after} {text}");
                }
            }
        }
        assert!(has("user:pass", "dXNlcjpwYXNz"));
        assert!(has("pass", "cGFzcw=="));
        assert!(has("pass", "cGFzcw"));
    }
}
