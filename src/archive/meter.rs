//! Counting what goes into a decoder and what comes out, so that a bomb is stopped while it unfolds.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::limits::Limits;

/// Which limit a stream went beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breach {
    /// [`Limits::unpacked_bytes`].
    TooLarge,
    /// [`Limits::ratio`].
    Ratio,
}

/// The counters of one stream, shared by both of its ends and by whoever reads it.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    packed: Rc<Cell<u64>>,
    unpacked: Rc<Cell<u64>>,
    breach: Rc<Cell<Option<Breach>>>,
    ended: Rc<Cell<bool>>,
}

impl Meter {
    /// The limit that was broken, if one was: the reason behind an I/O error of the stream.
    pub(super) fn breach(&self) -> Option<Breach> {
        self.breach.get()
    }

    /// Whether the unpacked stream was read to its end.
    pub(super) fn ended(&self) -> bool {
        self.ended.get()
    }

    /// Count the packed bytes that are read from `inner`.
    pub(super) fn packed<R: Read>(&self, inner: R) -> Packed<R> {
        Packed { inner, meter: self.clone() }
    }

    /// Count the unpacked bytes that are read from `inner`, and fail where they break `limits`. The ratio counts only
    /// if `compressed`.
    pub(super) fn unpacked<R: Read>(&self, inner: R, limits: Limits, compressed: bool) -> Unpacked<R> {
        Unpacked { inner, meter: self.clone(), limits, compressed }
    }
}

/// See [`Meter::packed`].
pub(super) struct Packed<R> {
    inner: R,
    meter: Meter,
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.meter.packed.set(self.meter.packed.get() + read as u64);
        Ok(read)
    }
}

/// See [`Meter::unpacked`].
pub(super) struct Unpacked<R> {
    inner: R,
    meter: Meter,
    limits: Limits,
    compressed: bool,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.meter.ended.set(read == 0 && !buffer.is_empty());
        let unpacked = self.meter.unpacked.get() + read as u64;
        self.meter.unpacked.set(unpacked);
        let breach = if unpacked > self.limits.unpacked_bytes {
            Breach::TooLarge
        } else if self.compressed && self.limits.ratio_exceeded(unpacked, self.meter.packed.get()) {
            Breach::Ratio
        } else {
            return Ok(read);
        };
        self.meter.breach.set(Some(breach));
        Err(io::Error::other("a limit on the unpacked size was reached"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_breaks_a_limit_fails_and_says_which() {
        let limits = Limits { unpacked_bytes: 1000, ratio: 2, ratio_floor_bytes: 100, ..Limits::default() };
        for (packed, unpacked, compressed, breach) in [
            (600, 1000, true, None),
            (1, 100, true, None),
            (1, 101, true, Some(Breach::Ratio)),
            (1, 101, false, None),
            (600, 1001, true, Some(Breach::TooLarge)),
        ] {
            let meter = Meter::default();
            io::copy(&mut meter.packed(io::repeat(0).take(packed)), &mut io::sink()).unwrap();
            let mut stream = meter.unpacked(io::repeat(0).take(unpacked), limits, compressed);
            assert_eq!(io::copy(&mut stream, &mut io::sink()).is_ok(), breach.is_none());
            assert_eq!(meter.breach(), breach);
            assert_eq!(meter.ended(), breach.is_none());
        }
    }
}
