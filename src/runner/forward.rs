//! What a script prints, passed on live until a limit, without what would steer the terminal of whoever reads it.

use std::io::Write;

/// How much of a stream is passed on live, in bytes.
pub const FORWARD_BYTES: u64 = 16 << 20;
/// What the log says if it took nothing while the script had ended already.
const LACKS_END: &str = "[outrigger: the log stood still: the rest of the output is missing here]\n";

/// First byte of U+0080 to U+00BF in UTF-8.
const C1_FIRST: u8 = 0xC2;

/// Passes a stream on until its limit, then says once that it was cut.
#[derive(Debug)]
pub struct Forward<W> {
    to: W,
    mark: String,
    left: u64,
    in_line: bool,
    /// The last byte was the first of a control character of two bytes, or of another character.
    may_control: bool,
    closed: bool,
}

impl<W: Write> Forward<W> {
    /// Passes the first `limit` bytes on to `to`.
    pub fn new(to: W, limit: u64) -> Self {
        let mark = format!("[outrigger: output cut after {limit} bytes]\n");
        Self { to, mark, left: limit, in_line: false, may_control: false, closed: false }
    }

    /// Passes nothing on but that there is something.
    pub fn withheld(to: W) -> Self {
        let mark = "[outrigger: standard output is not shown: it may hold a password]\n".to_owned();
        Self { mark, ..Self::new(to, 0) }
    }

    /// A reader that went away ends forwarding, not the script.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.closed || bytes.is_empty() {
            return;
        }
        let bytes = &self.visible(bytes);
        let (passed, rest) = bytes.split_at(usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len()));
        self.left -= passed.len() as u64;
        self.in_line = passed.last().map_or(self.in_line, |byte| *byte != b'\n');
        let mut result = self.to.write_all(passed);
        if !rest.is_empty() {
            self.closed = true;
            let break_line = if self.in_line { "\n" } else { "" };
            result = result.and_then(|()| self.to.write_all(format!("{break_line}{}", self.mark).as_bytes()));
        }
        if result.and_then(|()| self.to.flush()).is_err() {
            self.closed = true;
        }
    }

    /// Control characters but line feed, carriage return and tab in caret notation (`^[` for ESC); U+0080 to U+009F, which
    /// steer a terminal, too, as U+FFFD.
    fn visible(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut visible = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        loop {
            // Nearly always all of it.
            let plain = match self.may_control {
                true => 0,
                false => rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len()),
            };
            visible.extend_from_slice(&rest[..plain]);
            let Some((byte, after)) = rest[plain..].split_first() else { return visible };
            rest = after;
            if std::mem::take(&mut self.may_control) {
                match byte {
                    0x80..=0x9F => {
                        visible.extend_from_slice("\u{FFFD}".as_bytes());
                        continue;
                    }
                    _ => visible.push(C1_FIRST),
                }
            }
            match byte {
                b'\n' | b'\r' | b'\t' => visible.push(*byte),
                0..=0x1F | 0x7F => visible.extend_from_slice(&[b'^', byte ^ 0x40]),
                &C1_FIRST => self.may_control = true,
                _ => visible.push(*byte),
            }
        }
    }

    /// Says that the stream's end is not passed on.
    pub(super) fn lack_end(&mut self) {
        let break_line = if self.in_line { "\n" } else { "" };
        self.write(format!("{break_line}{LACKS_END}").as_bytes());
    }
}

fn is_special(byte: u8) -> bool {
    byte < b' ' && !matches!(byte, b'\n' | b'\r' | b'\t') || byte == 0x7F || byte == C1_FIRST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(limit: u64, pieces: &[&str]) -> String {
        let mut out = Vec::new();
        let mut forward = Forward::new(&mut out, limit);
        for piece in pieces {
            forward.write(piece.as_bytes());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_withheld_is_said_once() {
        let mut out = Vec::new();
        let mut forward = Forward::withheld(&mut out);
        for piece in ["{\"password\"", ": \"x\"}"] {
            forward.write(piece.as_bytes());
        }
        assert_eq!(out, b"[outrigger: standard output is not shown: it may hold a password]\n");
    }

    #[test]
    fn what_would_steer_a_terminal_is_made_visible() {
        let steering = ["\u{1b}[31mred\u{1b}]0;title\u{7}\r\n\tend\u{7f}\0", "\u{9b}2J\u{a0}\u{c2}é"];
        assert_eq!(forwarded(100, &steering), "^[[31mred^[]0;title^G\r\n\tend^?^@\u{fffd}2J\u{a0}\u{c2}é");
        let mut out = Vec::new();
        let mut forward = Forward::new(&mut out, 100);
        for piece in [&b"\xc2"[..], b"\x9b", b"\xc2", b"\xa7\xff", b"\xc2\x1b"] {
            forward.write(piece);
        }
        assert_eq!(out, b"\xef\xbf\xbd\xc2\xa7\xff\xc2^[");
    }

    #[test]
    fn forwarding_stops_at_its_limit_with_a_visible_mark() {
        assert_eq!(forwarded(10, &["12345", "67890"]), "1234567890");
        assert_eq!(forwarded(10, &["12345", "678901", "more"]), "1234567890\n[outrigger: output cut after 10 bytes]\n");
        assert_eq!(forwarded(2, &["1\n", "x"]), "1\n[outrigger: output cut after 2 bytes]\n");
    }

    #[test]
    fn an_end_that_is_missing_is_said_on_a_line_of_its_own() {
        let mut out = Vec::new();
        let mut forward = Forward::new(&mut out, 1000);
        forward.write(b"half a li");
        forward.lack_end();
        let said = "[outrigger: the log stood still: the rest of the output is missing here]\n";
        assert_eq!(String::from_utf8(out).unwrap(), format!("half a li\n{said}"));
    }
}
