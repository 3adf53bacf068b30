//! The pipe that a stream comes through: captured first, then passed on.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::forward::Forward;
use super::stream::Capture;

/// How much is read at a time, in bytes: what a pipe holds.
const PIECE_BYTES: usize = 64 << 10;

/// The pipe of a stream and its capture. Who reads a piece captures it before anybody else reads on, so that the capture
/// is in order, and whole however long it takes to pass a piece on.
#[derive(Debug)]
pub struct Source<R> {
    from: Mutex<Pipe<R>>,
    capture: Arc<Capture>,
}

#[derive(Debug)]
struct Pipe<R> {
    from: R,
    at_end: bool,
    /// Something was captured that is not passed on.
    taken: bool,
}

impl<R: Read + AsFd> Source<R> {
    /// What comes from `from`, for `capture`.
    pub fn new(from: R, capture: Arc<Capture>) -> Self {
        Self { from: Mutex::new(Pipe { from, at_end: false, taken: false }), capture }
    }

    /// Reads to the end and passes what is redacted on to `to`.
    pub fn drain(&self, to: &mut Forward<impl Write>) {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            // Not held while the log is waited for.
            let piece = self.pipe().read(&mut buffer, &self.capture);
            match piece {
                Some(clean) => to.write(&clean),
                None => break,
            }
        }
        to.write(&self.capture.finish());
        if self.pipe().taken {
            to.lack_end();
        }
    }

    /// Captures what [`Source::drain`] has not read yet, because it waits for whoever reads the log; says whether that is
    /// all. With `all_gone`, nobody can write into the pipe any more, and that ends. Else only what is there is read.
    pub fn take_rest(&self, all_gone: bool) -> bool {
        let mut pipe = match self.from.try_lock() {
            Ok(pipe) => pipe,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if all_gone => self.pipe(),
            // It is being read, so nothing is left in it.
            Err(TryLockError::WouldBlock) => return false,
        };
        let mut buffer = vec![0; PIECE_BYTES];
        while (all_gone || pipe.is_ready()) && pipe.read(&mut buffer, &self.capture).is_some() {
            pipe.taken = true;
        }
        pipe.at_end
    }

    fn pipe(&self) -> MutexGuard<'_, Pipe<R>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: Read + AsFd> Pipe<R> {
    /// The next piece, captured and redacted; `None` at the end.
    fn read(&mut self, buffer: &mut [u8], capture: &Capture) -> Option<Vec<u8>> {
        while !self.at_end {
            match self.from.read(buffer) {
                Ok(0) => self.at_end = true,
                Ok(read) => return Some(capture.add(&buffer[..read])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.at_end = true,
            }
        }
        None
    }

    fn is_ready(&self) -> bool {
        let mut pipe = [PollFd::new(&self.from, PollFlags::IN)];
        poll(&mut pipe, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::PipeReader;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::redact::Secrets;
    use crate::runner::stream::Keep;

    fn source(from: PipeReader) -> Arc<Source<PipeReader>> {
        let capture = Capture::new(Secrets::new(&["hunter2"]), Keep { outcome: 1 << 20, output: 0 });
        Arc::new(Source::new(from, Arc::new(capture)))
    }

    fn captured(source: &Source<PipeReader>) -> String {
        source.capture.outcome().text
    }

    #[test]
    fn a_reader_that_went_away_does_not_stop_the_capture() {
        let (from, mut to) = std::io::pipe().unwrap();
        let (log, live) = std::io::pipe().unwrap();
        drop(log);
        let source = source(from);
        to.write_all(b"all of it").unwrap();
        drop(to);
        source.drain(&mut Forward::new(live, 1000));
        assert_eq!(captured(&source), "all of it");
        assert!(source.take_rest(true));
    }

    /// The log takes 64 KiB and then nothing until it is told to; as much is in the pipe, and no thread can read it.
    #[test]
    fn what_a_log_that_stands_still_keeps_from_being_read_is_captured_all_the_same() {
        let (from, mut to) = std::io::pipe().unwrap();
        let (mut log, live) = std::io::pipe().unwrap();
        let source = source(from);
        let drained = Arc::clone(&source);
        let drain = thread::spawn(move || drained.drain(&mut Forward::new(live, u64::MAX)));
        let text = "0123456789abcde\n".repeat(10_000) + "hunter2 END";
        to.write_all(text.as_bytes()).unwrap();
        drop(to);
        thread::sleep(Duration::from_millis(100));
        assert!(source.take_rest(true));
        assert_eq!(captured(&source), text.replace("hunter2", "********"));
        let mut passed = String::new();
        log.read_to_string(&mut passed).unwrap();
        drain.join().unwrap();
        assert!(
            passed.ends_with("\n[outrigger: the log stood still: the rest of the output is missing here]\n"),
            "{passed}"
        );
    }

    #[test]
    fn of_a_pipe_that_stays_open_what_is_there_is_captured() {
        let (from, mut to) = std::io::pipe().unwrap();
        let source = source(from);
        to.write_all(b"some").unwrap();
        assert!(!source.take_rest(false), "it is not known to be all");
        assert_eq!(captured(&source), "some");
    }
}
