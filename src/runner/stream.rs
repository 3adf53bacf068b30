//! What is captured of one output stream of the script: redacted, its end kept for the outcome, and its beginning and end
//! as the output that outlives the pod.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::{self, Stream, Unmasked};
use crate::redact::{Redactor, Secrets, masked};

/// How much of standard output is kept for the outcome, in bytes.
pub const KEEP_STDOUT_BYTES: usize = 1 << 20;
/// How much of standard error is kept for the outcome, in bytes.
pub const KEEP_STDERR_BYTES: usize = 64 << 10;

/// How much of a stream is kept, in bytes. Twice as much of its end is held in memory at times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Of its end, for the outcome.
    pub outcome: usize,
    /// Of its beginning and its end together, for the output; 0: there is none.
    pub output: usize,
}

impl Keep {
    fn head(self) -> usize {
        self.output / 2
    }

    fn tail(self) -> usize {
        self.outcome.max(self.output - self.head())
    }
}

/// What has been captured of one stream; one thread drains into it while others look at its end.
#[derive(Debug)]
pub struct Capture {
    keep: Keep,
    secrets: Secrets,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    redactor: Redactor,
    /// The whole stream as it was printed, where there are secrets and as long as it is no longer than what is kept for the
    /// outcome.
    printed: Option<Vec<u8>>,
    head: Vec<u8>,
    kept: Vec<u8>,
    total: u64,
    ended: bool,
}

/// What a stream was once it has ended.
#[derive(Debug)]
pub struct Conclusion {
    /// What is kept for the outcome: JSON of which nothing was dropped stays JSON.
    pub stream: Stream,
    /// Whether secrets were taken out of the stream.
    pub masked: bool,
    /// The stream as it was printed, if secrets were taken out of it and nothing was dropped.
    pub unmasked: Option<Unmasked>,
}

impl Capture {
    /// A capture that keeps so much.
    pub fn new(secrets: Secrets, keep: Keep) -> Self {
        let inner = Inner {
            redactor: Redactor::new(secrets.clone()),
            printed: (!secrets.is_empty()).then(Vec::new),
            head: Vec::new(),
            kept: Vec::new(),
            total: 0,
            ended: false,
        };
        Self { keep, secrets, inner: Mutex::new(inner) }
    }

    /// Captures a piece; what is to be passed on of it. After [`Capture::outcome`] nothing is taken any more: what
    /// is told of the stream stays true, and what was held back of a secret cannot be completed.
    pub(super) fn add(&self, piece: &[u8]) -> Vec<u8> {
        let mut inner = self.lock();
        let mut clean = Vec::with_capacity(piece.len());
        if !inner.ended {
            inner.print(piece, self.keep.outcome);
            inner.redactor.feed(piece, &mut clean);
            inner.keep(&clean, self.keep);
        }
        clean
    }

    /// Ends the stream; what was held back.
    pub(super) fn finish(&self) -> Vec<u8> {
        let mut inner = self.lock();
        let mut clean = Vec::new();
        inner.redactor.finish(&mut clean);
        inner.keep(&clean, self.keep);
        inner.ended = true;
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
        let text = lossy_from(&inner.kept, start);
        drop(inner);
        protocol::tail(&text, limit).to_owned()
    }

    /// What is kept for the outcome; see [`Capture::conclude`].
    pub fn outcome(&self) -> Stream {
        self.conclude().stream
    }

    /// Ends the stream, also when its pipe is still open.
    pub fn conclude(&self) -> Conclusion {
        self.finish();
        let inner = self.lock();
        let printed = inner.printed.as_deref();
        let whole = printed.map(|printed| masked(&self.secrets, printed));
        let stream = match whole.filter(|whole| whole.len() <= self.keep.outcome) {
            Some(whole) => Stream { text: lossy_from(&whole, 0), dropped_bytes: 0 },
            None => {
                let start = inner.kept.len().saturating_sub(self.keep.outcome);
                let dropped_bytes = inner.total - (inner.kept.len() - start) as u64;
                Stream { text: lossy_from(&inner.kept, start), dropped_bytes }
            }
        };
        let printed = printed.filter(|_| stream.dropped_bytes == 0).map(|printed| lossy_from(printed, 0));
        let masked = printed.as_ref().map_or(inner.redactor.has_masked(), |printed| *printed != stream.text);
        Conclusion { stream, masked, unmasked: printed.filter(|_| masked).map(Unmasked) }
    }

    /// Bytes of the stream, and whether [`Capture::output`] leaves some out; 0 where no output is kept.
    pub fn output_size(&self) -> (u64, bool) {
        match self.keep.output {
            0 => (0, false),
            limit => {
                let total = self.total();
                (total, total > limit as u64)
            }
        }
    }

    /// The output: the whole stream, or its beginning, a line that says how much is left out, and its end.
    pub fn output(&self) -> Vec<u8> {
        let inner = self.lock();
        let limit = self.keep.output;
        let after_head = inner.total.min(limit as u64) - inner.head.len() as u64;
        let tail = &inner.kept[inner.kept.len() - usize::try_from(after_head).unwrap_or_default()..];
        let mut output = inner.head.clone();
        if inner.total <= limit as u64 {
            output.extend_from_slice(tail);
        } else if limit > 0 {
            let end = output.len() - cut_character(&output);
            output.truncate(end);
            let break_line = if output.last() == Some(&b'\n') { "" } else { "\n" };
            let left_out = inner.total - limit as u64;
            output.extend_from_slice(format!("{break_line}[outrigger: {left_out} bytes left out]\n").as_bytes());
            output.extend_from_slice(&tail[continuation(tail)..]);
        }
        output
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn print(&mut self, piece: &[u8], limit: usize) {
        if let Some(mut printed) = self.printed.take_if(|printed| printed.len() + piece.len() <= limit) {
            printed.extend_from_slice(piece);
            self.printed = Some(printed);
        } else {
            self.printed = None;
        }
    }

    /// Drops old bytes seldom, so that a long stream is not copied at every piece.
    fn keep(&mut self, clean: &[u8], keep: Keep) {
        let missing = keep.head() - self.head.len();
        self.head.extend_from_slice(&clean[..missing.min(clean.len())]);
        self.total += clean.len() as u64;
        self.kept.extend_from_slice(clean);
        let limit = keep.tail();
        if self.kept.len() > limit * 2 {
            let excess = self.kept.len() - limit;
            self.kept.drain(..excess);
        }
    }
}

/// How many bytes at the start of `bytes` are the rest of a character.
fn continuation(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count()
}

/// How many bytes at the end of `bytes` are the beginning of a character that is longer.
fn cut_character(bytes: &[u8]) -> usize {
    let back = bytes.iter().rev().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
    let first = bytes.len().checked_sub(back + 1).map_or(0, |at| bytes[at]);
    let needed = match first {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 0,
    };
    if back + 1 < needed { back + 1 } else { 0 }
}

/// `bytes` from `start` as text; the rest of a character that `start` cuts is left out.
fn lossy_from(bytes: &[u8], start: usize) -> String {
    let rest = if start > 0 { continuation(&bytes[start..]) } else { 0 };
    String::from_utf8_lossy(&bytes[start + rest..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(keep: usize, input: &[u8]) -> Capture {
        let capture = Capture::new(Secrets::new(&["hunter2"]), Keep { outcome: keep, output: 0 });
        capture.add(input);
        capture.finish();
        capture
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
    fn an_answer_stays_json_and_is_there_as_it_was_printed() {
        let capture = Capture::new(Secrets::new(&["5900"]), Keep { outcome: 100, output: 100 });
        assert_eq!(capture.add(b"{\"port\": 59"), b"{\"port\": ");
        assert_eq!(capture.add(b"00}"), b"********}");
        let Conclusion { stream, unmasked, .. } = capture.conclude();
        assert_eq!(
            (stream.text.as_str(), unmasked.unwrap().0.as_str()),
            ("{\"port\": \"********\"}", "{\"port\": 5900}")
        );
        assert_eq!(capture.output(), b"{\"port\": ********}");
        assert_eq!(super::tests::capture(100, b"nothing secret").conclude().unmasked, None);
        let long = super::tests::capture(20, b"nothing is whole: hunter2");
        let Conclusion { stream, unmasked, .. } = long.conclude();
        assert_eq!((unmasked, stream.text.as_str()), (None, &"ng is whole: ********"[1..]));
    }

    #[test]
    fn only_what_redaction_did_counts_as_masked() {
        let masked = |secret: &str, keep: usize, input: &str| {
            let capture = Capture::new(Secrets::new(&[secret]), Keep { outcome: keep, output: 0 });
            capture.add(input.as_bytes());
            capture.conclude().masked
        };
        assert!(masked("hunter2", 100, "it is hunter2"));
        assert!(!masked("hunter2", 100, "it is ********"));
        assert!(masked("********", 100, "it is *********"), "of which one is left");
        assert!(!masked("********", 100, "it is ********"));
        assert!(masked("hunter2-hunter2", 10, "hunter2-hunter2"), "only its mask is short enough to be kept");
        assert!(!masked("hunter2", 10, "********, and much more"));
        assert!(!Capture::new(Secrets::default(), Keep { outcome: 10, output: 0 }).conclude().masked);
    }

    #[test]
    fn a_stream_that_is_still_open_can_be_concluded() {
        let capture = Capture::new(Secrets::new(&["hunter2"]), Keep { outcome: 100, output: 0 });
        assert_eq!(capture.add(b"hello hunt"), b"hello ");
        assert_eq!(capture.outcome().text, "hello hunt");
    }

    #[test]
    fn after_the_outcome_nothing_is_taken_so_that_no_secret_is_completed() {
        let capture = Capture::new(Secrets::new(&["hunter2"]), Keep { outcome: 100, output: 100 });
        capture.add(b"hello hunt");
        let (outcome, size) = (capture.outcome(), capture.output_size());
        assert_eq!(capture.add(b"er2 and more"), b"");
        assert_eq!((capture.outcome(), capture.output_size()), (outcome, size));
        assert_eq!(capture.output(), b"hello hunt");
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

    fn output(limit: usize, pieces: &[&[u8]]) -> Vec<u8> {
        let capture = Capture::new(Secrets::new(&["hunter2"]), Keep { outcome: 4, output: limit });
        for piece in pieces {
            capture.add(piece);
        }
        capture.finish();
        let bytes = pieces.concat().len() as u64;
        assert_eq!(capture.output_size(), if limit == 0 { (0, false) } else { (bytes, bytes > limit as u64) });
        capture.output()
    }

    #[test]
    fn an_output_is_whole_up_to_its_limit_however_it_comes() {
        let input: Vec<u8> = (0..40).collect();
        for size in 0..=40 {
            for piece in [1, 3, 7, 40] {
                let pieces: Vec<&[u8]> = input[..size].chunks(piece).collect();
                assert_eq!(output(40, &pieces), &input[..size], "{size} {piece}");
            }
        }
        assert_eq!(output(0, &[b"abc"]), b"");
    }

    #[test]
    fn a_long_output_keeps_beginning_and_end_and_says_what_is_left_out() {
        let input = (0..1000).map(|at| b'a' + (at % 26) as u8).collect::<Vec<_>>();
        for piece in [1, 13, 1000] {
            let pieces: Vec<&[u8]> = input.chunks(piece).collect();
            assert_eq!(output(10, &pieces), b"abcde\n[outrigger: 990 bytes left out]\nhijkl");
        }
        assert_eq!(output(4, &[b"1\n2\n3\n"]), b"1\n[outrigger: 2 bytes left out]\n3\n");
    }

    #[test]
    fn no_character_is_cut_in_an_output() {
        assert_eq!(output(6, &["aé€€é".as_bytes()]), "aé\n[outrigger: 5 bytes left out]\né".as_bytes());
        assert_eq!(output(4, &["a€€".as_bytes()]), "a\n[outrigger: 3 bytes left out]\n".as_bytes());
        assert_eq!(output(4, &[b"a\xff\xff\xffb"]), b"a\xff\n[outrigger: 1 bytes left out]\n\xffb", "no text at all");
    }

    #[test]
    fn no_secret_is_in_an_output() {
        let capture = Capture::new(Secrets::new(&["hunter2"]), Keep { outcome: 4, output: 100 });
        capture.add(b"a hunter2 b");
        capture.finish();
        assert_eq!(capture.output(), b"a ******** b");
    }
}
