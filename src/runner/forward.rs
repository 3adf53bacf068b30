//! What a script prints, passed on live until a limit.

use std::io::Write;

/// How much of a stream is passed on live, in bytes.
pub const FORWARD_BYTES: u64 = 16 << 20;
/// What the log says if it took nothing while the script had ended already.
const LACKS_END: &str = "[outrigger: the log stood still: the rest of the output is missing here]\n";

/// Passes a stream on until its limit, then says once that it was cut.
#[derive(Debug)]
pub struct Forward<W> {
    to: W,
    mark: String,
    left: u64,
    in_line: bool,
    closed: bool,
}

impl<W: Write> Forward<W> {
    /// Passes the first `limit` bytes on to `to`.
    pub fn new(to: W, limit: u64) -> Self {
        let mark = format!("[outrigger: output cut after {limit} bytes]\n");
        Self { to, mark, left: limit, in_line: false, closed: false }
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
    /// Says that the stream's end is not passed on.
    pub(super) fn lack_end(&mut self) {
        let break_line = if self.in_line { "\n" } else { "" };
        self.write(format!("{break_line}{LACKS_END}").as_bytes());
    }
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
