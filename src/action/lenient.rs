//! JSON as CloudStack's parser takes it, where strict JSON is none: what `print` makes of a Python dictionary, names without
//! quotes. Pure: no client, clock, disk or network.
//!
//! Read so are the answers that CloudStack reads, and they alone. Of Gson's leniencies those are here that a script comes upon:
//! single quotes, words without quotes (which are texts, but for `true`, `false`, `null` and numbers), and a comma before the
//! end of a list. Comments, `=` for `:` and `;` for `,` are not.

use std::iter::Peekable;
use std::str::Chars;

use serde_json::{Map, Value};

/// Deepest nesting, as in strict JSON.
const DEPTH: usize = 127;

/// The whole of `text` as one object; `None` if it is none.
pub(super) fn object(text: &str) -> Option<Value> {
    let mut reader = Reader(text.trim().chars().peekable());
    if reader.0.peek() != Some(&'{') {
        return None;
    }
    let value = reader.value(DEPTH)?;
    reader.blank();
    reader.0.next().is_none().then_some(value)
}

struct Reader<'a>(Peekable<Chars<'a>>);

impl Reader<'_> {
    fn blank(&mut self) {
        while self.0.next_if(|c| c.is_ascii_whitespace()).is_some() {}
    }

    /// Whether `wanted` is next, which it then passes.
    fn passes(&mut self, wanted: char) -> bool {
        self.blank();
        self.0.next_if_eq(&wanted).is_some()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        self.blank();
        match *self.0.peek()? {
            '{' => self.map(depth.checked_sub(1)?).map(Value::Object),
            '[' => self.list(depth.checked_sub(1)?).map(Value::Array),
            '\'' | '"' => self.quoted().map(Value::String),
            _ => self.word().map(literal),
        }
    }

    fn map(&mut self, depth: usize) -> Option<Map<String, Value>> {
        self.0.next();
        let mut map = Map::new();
        loop {
            if self.passes('}') {
                return Some(map);
            }
            let name = match *self.0.peek()? {
                '\'' | '"' => self.quoted()?,
                _ => self.word()?,
            };
            if !self.passes(':') {
                return None;
            }
            let value = self.value(depth)?;
            map.insert(name, value);
            if !self.passes(',') {
                return self.passes('}').then_some(map);
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Value>> {
        self.0.next();
        let mut list = Vec::new();
        loop {
            if self.passes(']') {
                return Some(list);
            }
            list.push(self.value(depth)?);
            if !self.passes(',') {
                return self.passes(']').then_some(list);
            }
        }
    }

    fn quoted(&mut self) -> Option<String> {
        let quote = self.0.next()?;
        let mut text = String::new();
        loop {
            match self.0.next()? {
                end if end == quote => return Some(text),
                '\\' => text.push(self.escaped()?),
                c => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.0.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => self.unicode()?,
            other => other,
        })
    }

    /// A character outside the basic plane is two of them.
    fn unicode(&mut self) -> Option<char> {
        let first = self.unit()?;
        let units = if (0xD800..0xDC00).contains(&first) {
            let follows = self.0.next()? == '\\' && self.0.next()? == 'u';
            vec![first, follows.then(|| self.unit())??]
        } else {
            vec![first]
        };
        char::decode_utf16(units).next()?.ok()
    }

    fn unit(&mut self) -> Option<u16> {
        (0..4).try_fold(0_u16, |unit, _| Some(unit << 4 | u16::try_from(self.0.next()?.to_digit(16)?).ok()?))
    }

    fn word(&mut self) -> Option<String> {
        let mut word = String::new();
        let belongs = |c: &char| !c.is_ascii_whitespace() && !"{}[]:,;=#/\\'\"".contains(*c);
        while let Some(c) = self.0.next_if(belongs) {
            word.push(c);
        }
        (!word.is_empty()).then_some(word)
    }
}

fn literal(word: String) -> Value {
    match word.to_ascii_lowercase().as_str() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        _ => match serde_json::from_str(&word) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::String(word),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_printed_dictionary_is_an_object() {
        let printed = r#" {'status': 'success', 'power_state': {'i-2-45-VM': "on, it's said"}, 'ok': True, 'n': [1, -2.5e3, None,]}
"#;
        let expected = json!({"status": "success", "power_state": {"i-2-45-VM": "on, it's said"}, "ok": true,
            "n": [1, -2500.0, "None"]});
        assert_eq!(object(printed), Some(expected));
    }

    #[test]
    fn names_and_words_need_no_quotes() {
        assert_eq!(object("{power_state: PowerOn, a: null}"), Some(json!({"power_state": "PowerOn", "a": null})));
        assert_eq!(object("{}"), Some(json!({})));
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(object(r"{'a': 'x\'y\\z\n\u00e9\ud83d\ude00'}"), Some(json!({"a": "x'y\\z\né😀"})));
        for broken in [r"{'a': '\ud83d'}", r"{'a': '\ud83dx'}", r"{'a': '\u12'}", r"{'a': '\"] {
            assert_eq!(object(broken), None, "{broken}");
        }
    }

    #[test]
    fn what_is_no_object_is_none() {
        for text in [
            "",
            "x",
            "[1]",
            "'a'",
            "{",
            "{a",
            "{a:",
            "{a: b",
            "{a: }",
            "{a = b}",
            "{a: b} c",
            "{a: 'b}",
            "{,}",
            "{a: b c: d}",
        ] {
            assert_eq!(object(text), None, "{text}");
        }
        assert_eq!(object(&format!("{{a: {}", "[".repeat(100_000))), None, "too deep");
    }

    proptest::proptest! {
        #[test]
        fn strict_json_means_the_same(text in "[ -~é]{0,20}", number in proptest::num::i64::ANY, flag in proptest::bool::ANY) {
            let value = json!({&text: [&text, number, flag, null, {"n": {}}]});
            proptest::prop_assert_eq!(object(&value.to_string()), Some(value));
        }

        #[test]
        fn nothing_breaks_it(text in "[{}\\[\\]:,'\"\\\\ua-f0-9 ]{0,80}") {
            object(&format!("{{{text}"));
        }
    }
}
