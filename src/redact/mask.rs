//! Masks secrets in a whole text, so that JSON in it stays JSON: a number or a truth value becomes a string. Pure.

use std::ops::Range;

use serde_json::Value;

use super::Secrets;
use crate::protocol::MASK;

/// Longest number that is looked at, in bytes.
const LONGEST_SCALAR: usize = 64;

/// `text` with [`MASK`] in the place of each secret. A JSON scalar outside of strings of which anything is secret is
/// replaced as a whole, by the mask in quotes.
pub fn masked(secrets: &Secrets, text: &[u8]) -> Vec<u8> {
    let mut masked = Vec::with_capacity(text.len());
    let (mut done, mut quotes) = (0, Quotes::default());
    for place in secrets.places(text) {
        if place.end <= done {
            continue;
        }
        let place = place.start.max(done)..place.end;
        quotes.pass(&text[done..place.start]);
        let scalar = scalar(text, &place).filter(|scalar| !quotes.inside && scalar.start >= done);
        let hidden = match scalar {
            Some(scalar) => {
                masked.extend_from_slice(&text[done..scalar.start]);
                masked.extend_from_slice(format!("\"{MASK}\"").as_bytes());
                scalar
            }
            None => {
                // No half of an escape may be left.
                let start = place.start.saturating_sub(quotes.escape()).max(done);
                masked.extend_from_slice(&text[done..start]);
                masked.extend_from_slice(MASK.as_bytes());
                place.clone()
            }
        };
        quotes.pass(&text[place.start..hidden.end]);
        done = hidden.end;
        while quotes.escape() > 0 && quotes.goes_on(text.get(done)) {
            quotes.pass(&text[done..=done]);
            done += 1;
        }
    }
    masked.extend_from_slice(&text[done..]);
    masked
}

/// Whether a position is inside a JSON string. None of them spans lines.
#[derive(Default)]
struct Quotes {
    inside: bool,
    escaped: bool,
    /// How many digits of a `\uXXXX` are still to come.
    digits: usize,
}

impl Quotes {
    /// How many bytes before here the escape began that is not over yet; 0: there is none.
    fn escape(&self) -> usize {
        match (self.escaped, self.digits) {
            (true, _) => 1,
            (false, 0) => 0,
            (false, digits) => 2 + (4 - digits),
        }
    }

    /// Whether `next` is of the escape that is not over yet.
    fn goes_on(&self, next: Option<&u8>) -> bool {
        next.is_some_and(|next| self.escaped || next.is_ascii_hexdigit())
    }

    fn pass(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                b'\n' => *self = Self::default(),
                _ if self.escaped => {
                    self.escaped = false;
                    self.digits = if *byte == b'u' { 4 } else { 0 };
                }
                _ if self.digits > 0 && byte.is_ascii_hexdigit() => self.digits -= 1,
                _ => {
                    self.digits = 0;
                    match byte {
                        b'\\' => self.escaped = self.inside,
                        b'"' => self.inside = !self.inside,
                        _ => {}
                    }
                }
            }
        }
    }
}

/// The number, `true`, `false` or `null` around `place`, where such a one can stand in JSON.
fn scalar(text: &[u8], place: &Range<usize>) -> Option<Range<usize>> {
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let before = text[..place.start].iter().rev().take(LONGEST_SCALAR).take_while(is_part).count();
    let after = text[place.end..].iter().take(LONGEST_SCALAR).take_while(is_part).count();
    let scalar = place.start - before..place.end + after;
    let is_blank = |byte: &&u8| b" \t\r\n".contains(byte);
    let previous = text[..scalar.start].iter().rev().find(|byte| !is_blank(byte));
    let next = text[scalar.end..].iter().find(|byte| !is_blank(byte));
    let fits = previous.is_none_or(|byte| b":[,".contains(byte)) && next.is_none_or(|byte| b",]}".contains(byte));
    let is_scalar = || match serde_json::from_slice(&text[scalar.clone()]) {
        Ok(Value::Number(_) | Value::Bool(_) | Value::Null) => true,
        Ok(Value::String(_) | Value::Array(_) | Value::Object(_)) | Err(_) => false,
    };
    (fits && is_scalar()).then_some(scalar)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str], text: &str) -> String {
        String::from_utf8(masked(&Secrets::new(values), text.as_bytes())).unwrap()
    }

    #[test]
    fn a_scalar_outside_of_strings_becomes_a_string() {
        for (text, expected) in [
            (r#"{"pin":5900}"#, r#"{"pin":"********"}"#),
            (r#"{"pin": 5900 , "on": true}"#, r#"{"pin": "********" , "on": true}"#),
            ("[1,\n  5900\n]", "[1,\n  \"********\"\n]"),
            (r#"{"pin": -15900.5e3}"#, r#"{"pin": "********"}"#),
            (r#"{"pin": 59005900}"#, r#"{"pin": "********"}"#),
            ("5900", "\"********\""),
            ("log: 5\n{\"a\": \"x\", \"b\": 5900}\n", "log: 5\n{\"a\": \"x\", \"b\": \"********\"}\n"),
        ] {
            let masked = of(&["5900", "true"], text);
            assert_eq!(masked, expected);
        }
    }

    #[test]
    fn everything_else_has_the_mask_alone() {
        for (text, expected) in [
            (r#"{"text": "port: 5900, x"}"#, r#"{"text": "port: ********, x"}"#),
            (r#"{"text": "a\": 5900"}"#, r#"{"text": "a\": ********"}"#),
            (r#"{"text": "\\", "b": 5900}"#, r#"{"text": "\\", "b": "********"}"#),
            ("port 5900\nsaid \"\nport: 5900x", "port ********\nsaid \"\nport: ********x"),
            ("it is true.", "it is true."),
            (r#"{"p": "5900"}"#, r#"{"p": "********"}"#),
        ] {
            assert_eq!(of(&["5900", "true"], text), expected);
        }
    }

    #[test]
    fn a_secret_with_quotes_does_not_confuse_what_follows() {
        let text = r#"{"p": "ab\"cd", "n": 5900}"#;
        assert_eq!(of(&["ab\"cd", "5900"], text), r#"{"p": "********", "n": "********"}"#);
        assert_eq!(of(&["n5900"], r#"{"p": "a\n5900"}"#), r#"{"p": "a********"}"#);
        assert_eq!(of(&["5900\\"], r#"{"p": "5900\" b"}"#), r#"{"p": "******** b"}"#);
        let object = r#"{"key": {"user": "a"}, "n": 5900}"#;
        assert_eq!(of(&[r#"{"user": "a"}"#, "5900"], object), r#"{"key": ********, "n": "********"}"#);
    }

    #[test]
    fn no_half_of_an_escape_is_left() {
        for (secret, expected) in
            [("0026", r#"{"p": "a********b"}"#), ("026b", r#"{"p": "a********"}"#), ("u002", r#"{"p": "a********b"}"#)]
        {
            assert_eq!(of(&[secret], r#"{"p": "a\u0026b"}"#), expected, "{secret}");
        }
        assert_eq!(of(&["xa\\u"], r#"{"p": "xa\u0026b"}"#), r#"{"p": "********b"}"#);
    }

    proptest! {
        #[test]
        fn json_stays_json_and_no_secret_survives(
            texts in proptest::collection::vec("[ a5900:,\"\\\\\n\u{1}\u{5}]{0,12}", 0..4),
            numbers in proptest::collection::vec(prop_oneof![Just(5900), Just(59001), 0i64..9], 0..4),
            pretty in any::<bool>(),
        ) {
            let value = serde_json::json!({"texts": texts, "numbers": numbers, "on": true});
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let masked = of(&["5900", "true", "0001", "0055", "u000"], &text);
            prop_assert!(serde_json::from_str::<Value>(&masked).is_ok(), "{text} {masked}");
            prop_assert!(!masked.contains("5900") && masked.contains("true"));
        }
    }
}
