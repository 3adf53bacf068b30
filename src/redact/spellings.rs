//! What the start of a text can stand for: itself, and what it is unescaped from JSON or decoded from a URL. Pure.
//!
//! Writers differ in what they escape (Go `<>&`, Gson also `='`, .NET also `+"`, Python all beyond ASCII, PHP `/`), so every
//! spelling counts wherever it stands, and spellings may be mixed. JSON may itself be inside of a JSON string.

/// What a spelling that is not plain, or a line break in base64, begins with.
pub const ESCAPES: &[u8] = b"\\%+\r\n";
/// Most bytes of a line break inside base64, but for the last escape: CR, LF and the next line's indentation.
const LONGEST_BREAK: usize = 64;

/// One spelling of one byte, or of a character beyond ASCII.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spelling {
    stands_for: [u8; 4],
    count: usize,
    /// How many bytes of the text it takes.
    pub bytes: usize,
}

impl Spelling {
    /// What it stands for; one byte at least.
    pub fn stands_for(&self) -> &[u8] {
        &self.stands_for[..self.count]
    }
}

/// All that the start of a text can stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spellings {
    /// Itself, `\\`, `\\\\` and `\\u005c` are the most.
    all: [Spelling; 4],
    count: usize,
    /// More text could make another.
    pub cut: bool,
}

impl Spellings {
    /// Those of the start of `text`; the byte itself is the first.
    pub fn of(text: &[u8]) -> Self {
        let mut found = Self::default();
        let Some(first) = text.first() else { return found };
        found.add(&[*first], 1);
        match *text {
            [b'%'] => found.cut = true,
            [b'%', high] => found.cut = digit(high).is_some(),
            [b'%', high, low, ..] => {
                if let Some((high, low)) = digit(high).zip(digit(low)) {
                    found.add(&[high << 4 | low], 3);
                }
            }
            // Java's URLEncoder, HTML forms
            [b'+', ..] => found.add(b" ", 1),
            [b'\\'] => found.cut = true,
            [b'\\', b'u' | b'U', ..] => found.add_unicode(text, b"\\u"),
            [b'\\', b'\\', ..] => {
                found.add(b"\\", 2);
                found.add_nested(text);
            }
            [b'\\', letter, ..] => {
                if let Some(byte) = unescaped(letter) {
                    found.add(&[byte], 2);
                }
            }
            _ => {}
        }
        found
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Spelling> {
        self.all[..self.count].iter()
    }

    fn add(&mut self, stands_for: &[u8], bytes: usize) {
        let spelling = &mut self.all[self.count];
        spelling.stands_for[..stands_for.len()].copy_from_slice(stands_for);
        (spelling.count, spelling.bytes) = (stands_for.len(), bytes);
        self.count += 1;
    }

    /// JSON inside of a JSON string: `text` begins with two backslashes.
    fn add_nested(&mut self, text: &[u8]) {
        match text[2..] {
            [] | [b'\\'] => self.cut = true,
            [b'\\', letter @ (b'"' | b'\\'), ..] => self.add(&[letter], 4),
            [b'u' | b'U', ..] => self.add_unicode(text, b"\\\\u"),
            [letter, ..] => {
                if let Some(byte) = unescaped(letter).filter(|byte| *byte != b'"') {
                    self.add(&[byte], 3);
                }
            }
        }
    }

    /// `\uXXXX`, or the two of a character outside of the Basic Multilingual Plane.
    fn add_unicode(&mut self, text: &[u8], prefix: &[u8]) {
        let (mut units, mut end) = ([0; 2], 0);
        for count in 1..=2 {
            let Some(unit) = self.unit(&text[end..], prefix) else { return };
            units[count - 1] = unit;
            end += prefix.len() + 4;
            if let Some(Ok(c)) = char::decode_utf16(units[..count].iter().copied()).next() {
                let mut buffer = [0; 4];
                return self.add(c.encode_utf8(&mut buffer).as_bytes(), end);
            }
            if !matches!(unit, 0xD800..0xDC00) {
                return;
            }
        }
    }

    /// The unit of UTF-16 that `text` begins with in hexadecimal digits.
    fn unit(&mut self, text: &[u8], prefix: &[u8]) -> Option<u16> {
        let before = text.len().min(prefix.len());
        if !text[..before].eq_ignore_ascii_case(&prefix[..before]) {
            return None;
        }
        let mut unit = 0;
        for at in prefix.len()..prefix.len() + 4 {
            let Some(byte) = text.get(at) else {
                self.cut = true;
                return None;
            };
            unit = unit << 4 | u16::from(digit(*byte)?);
        }
        Some(unit)
    }
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// What a backslash and this letter stand for in JSON.
fn unescaped(letter: u8) -> Option<u8> {
    match letter {
        b'"' | b'/' => Some(letter),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'b' => Some(8),
        b'f' => Some(12),
        _ => None,
    }
}

/// The line break inside base64 that a text begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LineBreak {
    /// How long it is; 0: there is none.
    pub bytes: usize,
    /// More text could make it longer.
    pub cut: bool,
}

impl LineBreak {
    /// Plain or JSON-escaped; blanks that follow it are part of it. One that is too long is none.
    pub fn of(text: &[u8]) -> Self {
        let mut bytes = 0;
        while bytes < LONGEST_BREAK {
            match line_end(&text[bytes..]) {
                0 if bytes > 0 && matches!(text.get(bytes), Some(b' ' | b'\t')) => bytes += 1,
                0 => break,
                more => bytes += more,
            }
        }
        let rest = &text[bytes..];
        let bytes = if line_end(rest) > 0 { 0 } else { bytes };
        Self { bytes, cut: bytes > 0 && matches!(rest, [] | [b'\\'] | [b'\\', b'\\']) }
    }
}

/// Bytes of the line end that `text` begins with.
fn line_end(text: &[u8]) -> usize {
    match text {
        [b'\r' | b'\n', ..] => 1,
        [b'\\', b'r' | b'n', ..] => 2,
        [b'\\', b'\\', b'r' | b'n', ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (Vec<(String, usize)>, bool) {
        let found = Spellings::of(text.as_bytes());
        let text = |spelling: &Spelling| String::from_utf8_lossy(spelling.stands_for()).into_owned();
        (found.iter().map(|spelling| (text(spelling), spelling.bytes)).collect(), found.cut)
    }

    #[test]
    fn a_text_stands_for_itself_and_for_what_it_is_unescaped() {
        for (text, others) in [
            ("ab", &[][..]),
            ("%41", &[("A", 3)]),
            ("%4g", &[]),
            ("+", &[(" ", 1)]),
            ("\\n", &[("\n", 2)]),
            ("\\x", &[]),
            ("\\\\n", &[("\\", 2), ("\n", 3)]),
            ("\\\\\"", &[("\\", 2)]),
            ("\\\\\\\"", &[("\\", 2), ("\"", 4)]),
            ("\\\\\\\\", &[("\\", 2), ("\\", 4)]),
            ("\\u00e9x", &[("é", 6)]),
            ("\\\\U00E9x", &[("\\", 2), ("é", 7)]),
            ("\\ud83d\\uDE00x", &[("\u{1F600}", 12)]),
            ("\\\\ud83d\\\\uDE00x", &[("\\", 2), ("\u{1F600}", 14)]),
            ("\\ud83d\\\\uDE00x", &[]),
            ("\\ude00\\ud83dx", &[]),
        ] {
            let itself = (text[..1].to_owned(), 1);
            let others = others.iter().map(|(of, bytes)| ((*of).to_owned(), *bytes));
            assert_eq!(of(text), ([itself].into_iter().chain(others).collect(), false), "{text}");
        }
    }

    #[test]
    fn a_text_that_ends_within_an_escape_is_cut() {
        for text in
            ["%", "%a", "\\", "\\\\", "\\\\\\", "\\u", "\\u00e", "\\\\u00e", "\\ud83d", "\\ud83d\\", "\\ud83d\\ude0"]
        {
            assert!(of(text).1, "{text}");
        }
        for text in ["", "a", "+", "%g", "%41", "\\x", "\\ux", "\\u00e9", "\\ud83dx", "\\\\x", "\\\\\\x", "\\\\ux"] {
            assert!(!of(text).1, "{text}");
        }
    }

    #[test]
    fn a_line_break_is_taken_with_the_indentation_that_follows() {
        for (text, bytes, cut) in [
            ("a", 0, false),
            (" a", 0, false),
            ("\r\n \ta", 4, false),
            ("\\r\\\\n a", 6, false),
            ("\n", 1, true),
            ("\n\\", 1, true),
            ("\n\\\\", 1, true),
            ("\n\\x", 1, false),
        ] {
            assert_eq!(LineBreak::of(text.as_bytes()), LineBreak { bytes, cut }, "{text:?}");
        }
        assert_eq!(LineBreak::of(("\n".repeat(64) + "a").as_bytes()).bytes, 64);
        assert_eq!(LineBreak::of(("\n".repeat(65) + "a").as_bytes()).bytes, 0);
    }
}
