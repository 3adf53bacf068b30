//! One output stream of the script: drained as it comes, redacted, passed on live, its end kept for the outcome.

use std::io::{ErrorKind, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::redact::{Redactor, Secrets};
use crate::protocol::Stream;

/// How much of a stream is passed on live, in bytes.
pub const FORWARD_BYTES: u64 = 16 << 20;
/// How much of standard output is kept for the outcome, in bytes.
pub const KEEP_STDOUT_BYTES: usize = 1 << 20;
/// How much of standard error is kept for the outcome, in bytes.
pub const KEEP_STDERR_BYTES: usize = 64 << 10;

/// What has been captured of one stream; one thread drains into it while others look at its end.
#[derive(Debug)]
pub struct Capture {
    keep: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    redactor: Redactor,
    kept: Vec<u8>,
    total: u64,
}

impl Capture {
    /// A capture that keeps the last `keep` bytes.
    pub fn new(secrets: Secrets, keep: usize) -> Self {
        Self { keep, inner: Mutex::new(Inner { redactor: Redactor::new(secrets), kept: Vec::new(), total: 0 }) }
    }

    /// Reads `from` to its end and passes what is redacted on to `to`.
    pub fn drain(&self, mut from: impl Read, to: &mut Forward<impl Write>) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            to.write(&self.add(&buffer[..read]));
        }
        to.write(&self.finish());
    }

    fn add(&self, piece: &[u8]) -> Vec<u8> {
        let mut inner = self.lock();
        let mut clean = Vec::with_capacity(piece.len());
        inner.redactor.feed(piece, &mut clean);
        inner.keep(&clean, self.keep);
        clean
    }

    fn finish(&self) -> Vec<u8> {
        let mut inner = self.lock();
        let mut clean = Vec::new();
        inner.redactor.finish(&mut clean);
        inner.keep(&clean, self.keep);
        clean
    }

    /// Redacted bytes seen so far.
    pub fn total(&self) -> u64 {
        self.lock().total
    }

    /// The end of the stream so far, at most `limit` bytes long once serialised as JSON.
    pub fn tail(&self, limit: usize) -> String {
        let inner = self.lock();
        let start = inner.kept.len().saturating_sub(limit);
        let mut text = lossy_from(&inner.kept, start);
        drop(inner);
        cut_to_escaped(&mut text, limit);
        text
    }

    /// What is kept for the outcome. Ends the stream, also when its pipe is still open.
    pub fn outcome(&self) -> Stream {
        self.finish();
        let inner = self.lock();
        let start = inner.kept.len().saturating_sub(self.keep);
        let dropped_bytes = inner.total - (inner.kept.len() - start) as u64;
        Stream { text: lossy_from(&inner.kept, start), dropped_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Drops old bytes seldom, so that a long stream is not copied at every piece.
    fn keep(&mut self, clean: &[u8], limit: usize) {
        self.total += clean.len() as u64;
        self.kept.extend_from_slice(clean);
        if self.kept.len() > limit * 2 {
            let excess = self.kept.len() - limit;
            self.kept.drain(..excess);
        }
    }
}

/// `bytes` from `start` as text; the rest of a character that `start` cuts is left out.
fn lossy_from(bytes: &[u8], start: usize) -> String {
    let mut from = start;
    if start > 0 {
        let is_continuation = |byte: u8| byte & 0xC0 == 0x80;
        while from < bytes.len() && from < start + 3 && is_continuation(bytes[from]) {
            from += 1;
        }
    }
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}

/// Cuts the beginning of `text` until its JSON form, without quotes, has at most `limit` bytes.
fn cut_to_escaped(text: &mut String, limit: usize) {
    let mut size = 0;
    let mut keep_from = text.len();
    for (at, c) in text.char_indices().rev() {
        size += match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            _ if c < ' ' => 6,
            _ => c.len_utf8(),
        };
        if size > limit {
            break;
        }
        keep_from = at;
    }
    text.drain(..keep_from);
}

/// Passes a stream on until its limit, then says once that it was cut.
#[derive(Debug)]
pub struct Forward<W> {
    to: W,
    limit: u64,
    left: u64,
    in_line: bool,
    closed: bool,
}

impl<W: Write> Forward<W> {
    /// Passes the first `limit` bytes on to `to`.
    pub fn new(to: W, limit: u64) -> Self {
        Self { to, limit, left: limit, in_line: false, closed: false }
    }

    /// A reader that went away ends forwarding, not the script.
    fn write(&mut self, bytes: &[u8]) {
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
            let mark = format!("{break_line}[outrigger: output cut after {} bytes]\n", self.limit);
            result = result.and_then(|()| self.to.write_all(mark.as_bytes()));
        }
        if result.and_then(|()| self.to.flush()).is_err() {
            self.closed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(keep: usize, input: &[u8]) -> Capture {
        let capture = Capture::new(Secrets::new(&["hunter2"]), keep);
        capture.drain(input, &mut Forward::new(std::io::sink(), u64::MAX));
        capture
    }

    fn forwarded(limit: u64, pieces: &[&str]) -> String {
        let mut out = Vec::new();
        let mut forward = Forward::new(&mut out, limit);
        for piece in pieces {
            forward.write(piece.as_bytes());
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_bytes_are_kept_and_the_dropped_ones_counted() {
        for size in [1usize, 9, 10, 11, 20, 21, 25, 1000] {
            let input: Vec<u8> = (0..size).map(|at| b'a' + (at % 26) as u8).collect();
            let stream = capture(10, &input).outcome();
            assert_eq!(stream.text.as_bytes(), &input[size.saturating_sub(10)..]);
            assert_eq!(stream.dropped_bytes, size.saturating_sub(10) as u64);
        }
    }

    #[test]
    fn secrets_are_gone_from_everything_kept() {
        let capture = capture(100, b"password hunter2, hunter");
        assert_eq!(capture.outcome().text, "password ********, hunter");
        assert_eq!(capture.tail(4096), "password ********, hunter");
    }

    #[test]
    fn a_stream_that_is_still_open_can_be_concluded() {
        let capture = Capture::new(Secrets::new(&["hunter2"]), 100);
        assert_eq!(capture.add(b"hello hunt"), b"hello ");
        assert_eq!(capture.outcome().text, "hello hunt");
    }

    #[test]
    fn other_bytes_than_utf8_become_replacement_characters() {
        assert_eq!(capture(100, b"a\xffb").outcome().text, "a\u{FFFD}b");
        assert_eq!(capture(3, "xéé".as_bytes()).outcome().text, "é", "the cut character is left out");
    }

    #[test]
    fn a_tail_is_bounded_after_escaping() {
        let escaped = |text: &str| serde_json::to_string(text).unwrap().len() - 2;
        for filler in ["a", "\"", "\u{1}", "\n", "\u{7f}", "é", "\u{1F600}"] {
            let tail = capture(100_000, (filler.repeat(10_000) + "END").as_bytes()).tail(4096);
            assert!(tail.ends_with("END"));
            assert!((4080..=4096).contains(&escaped(&tail)), "{filler:?} {}", escaped(&tail));
        }
    }

    #[test]
    fn forwarding_stops_at_its_limit_with_a_visible_mark() {
        assert_eq!(forwarded(10, &["12345", "67890"]), "1234567890");
        assert_eq!(forwarded(10, &["12345", "678901", "more"]), "1234567890\n[outrigger: output cut after 10 bytes]\n");
        assert_eq!(forwarded(2, &["1\n", "x"]), "1\n[outrigger: output cut after 2 bytes]\n");
    }

    #[test]
    fn a_reader_that_went_away_does_not_stop_the_capture() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let capture = Capture::new(Secrets::default(), 100);
        capture.drain(&b"all of it"[..], &mut Forward::new(Gone, 1000));
        assert_eq!(capture.outcome().text, "all of it");
    }
}
