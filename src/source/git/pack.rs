//! What a pack costs to read, found out before it is read: how many objects it holds, how large they are, and how many of
//! them one object is made of. A server says all of that itself, and `gix` bounds single allocations alone.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};
use std::sync::atomic::AtomicBool;

use flate2::bufread::ZlibDecoder;
use gix::hash::Kind;
use gix::odb::pack::data::Entry;
use gix::odb::pack::data::entry::Header;

use super::fetch::interrupted;
use crate::archive::Limits;

/// Bytes of an object, which is held in memory as a whole.
const MAX_OBJECT_BYTES: u64 = 32 << 20;
/// Bytes of all objects that are held together while one of them is made: the objects that it is a change of.
const MAX_CHAIN_BYTES: u64 = 64 << 20;
/// How often the bytes that a tree may have may come as objects, which are all inflated and hashed: the directories and commits
/// count as well, and some servers send more than they were asked for.
const TOTAL_PER_TREE: u64 = 4;
/// Bytes of a tree's entry besides its name: mode, space, NUL and id.
const TREE_ENTRY_BYTES: u64 = 28;
/// Objects for each entry of the tree. One commit needs one at most, itself and its tags apart; some servers send more than
/// they were asked for.
const OBJECTS_PER_ENTRY: u64 = 2;
/// Bytes that a compressed object may be longer than it is: what is stored instead grows by a thousandth.
const COMPRESSION_SLACK: u64 = 1 << 20;
/// Bytes of a pack's beginning: its magic number, its version, and how many objects it holds.
const HEADER_BYTES: usize = 12;

/// How much a pack may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub objects: u64,
    pub object_bytes: u64,
    /// Of an object that is a directory: that of the most and longest names that are allowed.
    pub tree_bytes: u64,
    pub chain_bytes: u64,
    /// Of all objects together.
    pub total_bytes: u64,
}

impl Bounds {
    /// What the tree of one commit within `limits` needs at most.
    pub fn of(limits: &Limits) -> Self {
        let name = TREE_ENTRY_BYTES.saturating_add(limits.component_bytes as u64);
        let tree_bytes = limits.entries.saturating_mul(name).min(MAX_OBJECT_BYTES);
        Self {
            objects: limits.entries.saturating_mul(OBJECTS_PER_ENTRY),
            object_bytes: limits.file_bytes.clamp(tree_bytes, MAX_OBJECT_BYTES),
            tree_bytes,
            chain_bytes: MAX_CHAIN_BYTES,
            total_bytes: limits.unpacked_bytes.saturating_mul(TOTAL_PER_TREE).saturating_add(MAX_OBJECT_BYTES),
        }
    }
}

/// Why a pack is not read.
#[derive(Debug)]
pub(super) enum PackFault {
    /// More objects than allowed.
    Objects(u32),
    /// An object that needs more memory than the bytes that are allowed.
    Memory(u64),
    /// Changes of changes that need more memory together than the bytes that are allowed.
    Chain(u64),
    /// Objects that have more bytes together than allowed.
    Total(u64),
    /// No pack, or none that is whole.
    Malformed(String),
}

impl From<io::Error> for PackFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Malformed("the pack is cut short".to_owned()),
            _ => Self::Malformed(format!("the pack cannot be read: {error}")),
        }
    }
}

/// Read the header of a pack from `pack`, and refuse it if it announces too many objects.
pub(super) fn check_header(pack: &mut dyn Read, bounds: &Bounds) -> Result<[u8; HEADER_BYTES], PackFault> {
    let mut header = [0; HEADER_BYTES];
    pack.read_exact(&mut header)?;
    let (_, objects) =
        gix::odb::pack::data::header::decode(&header).map_err(|error| PackFault::Malformed(format!("{error:#}")))?;
    if u64::from(objects) > bounds.objects { Err(PackFault::Objects(objects)) } else { Ok(header) }
}

/// Refuse a whole pack if reading it would take more memory than `bounds` allows. This takes a buffer, and a few bytes for
/// each object.
pub(super) fn check(mut pack: impl BufRead, bounds: &Bounds, interrupt: &AtomicBool) -> Result<(), PackFault> {
    let header = check_header(&mut pack, bounds)?;
    let objects = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let mut offset = HEADER_BYTES as u64;
    let (mut held, mut total) = (Held::default(), 0_u64);
    for _ in 0..objects {
        if interrupted(interrupt) {
            return Err(PackFault::Malformed("cancelled".to_owned()));
        }
        let entry = Entry::from_read(&mut pack, offset, Kind::Sha1.len_in_bytes())?;
        let (packed_bytes, start) = measure(&mut pack, entry.decompressed_size, bounds.object_bytes)?;
        let is_delta = matches!(entry.header, Header::OfsDelta { .. } | Header::RefDelta { .. });
        let bytes = if is_delta { result_bytes(&start) } else { Some(entry.decompressed_size) };
        let bytes = bytes.ok_or_else(|| PackFault::Malformed("a change without the size of its result".to_owned()))?;
        if bytes > bounds.object_bytes {
            return Err(PackFault::Memory(bounds.object_bytes));
        }
        held.add(offset, &entry.header, bytes);
        if held.at_most() > bounds.chain_bytes {
            return Err(PackFault::Chain(bounds.chain_bytes));
        }
        total = total.saturating_add(bytes);
        if total > bounds.total_bytes {
            return Err(PackFault::Total(bounds.total_bytes));
        }
        offset = entry.data_offset + packed_bytes;
    }
    Ok(())
}

/// Read over one compressed object of `size` bytes; how many it has compressed, and its first bytes.
fn measure(pack: &mut impl BufRead, size: u64, limit: u64) -> Result<(u64, Vec<u8>), PackFault> {
    /// Bytes of two numbers in groups of seven bits.
    const START: u64 = 20;
    if size > limit {
        return Err(PackFault::Memory(limit));
    }
    let mut inflated = ZlibDecoder::new(pack.take(limit + COMPRESSION_SLACK));
    let mut start = Vec::new();
    inflated.by_ref().take(START).read_to_end(&mut start)?;
    let rest = io::copy(&mut inflated.by_ref().take(size + 1), &mut io::sink())?;
    if start.len() as u64 + rest != size {
        return Err(PackFault::Malformed("an object of another size than it says".to_owned()));
    }
    Ok((inflated.total_in(), start))
}

/// The size of what a change results in: the second number at its start (gitformat-pack(5)).
fn result_bytes(start: &[u8]) -> Option<u64> {
    let mut bytes = start.iter();
    let mut number = || -> Option<u64> {
        let mut value = 0_u64;
        for group in 0..9 {
            let byte = bytes.next()?;
            value |= u64::from(byte & 0x7f) << (7 * group);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    };
    number()?;
    number()
}

/// What must be in memory together while an object is made: it, what it is a change of, and so on. Where a change names its
/// base by id, the base may be any object, so that all changes are taken for one chain.
#[derive(Default)]
struct Held {
    chains: HashMap<u64, u64>,
    longest: u64,
    largest_whole: u64,
    all_changes: u64,
    by_id: bool,
}

impl Held {
    fn add(&mut self, offset: u64, header: &Header, bytes: u64) {
        let base = match header {
            Header::OfsDelta { base_distance } => {
                offset.checked_sub(*base_distance).and_then(|base| self.chains.get(&base)).copied().unwrap_or_default()
            }
            _ => 0,
        };
        self.by_id |= matches!(header, Header::RefDelta { .. });
        match header {
            Header::OfsDelta { .. } | Header::RefDelta { .. } => {
                self.all_changes = self.all_changes.saturating_add(bytes);
            }
            _ => self.largest_whole = self.largest_whole.max(bytes),
        }
        let chain = base.saturating_add(bytes);
        self.longest = self.longest.max(chain);
        self.chains.insert(offset, chain);
    }

    fn at_most(&self) -> u64 {
        if self.by_id { self.all_changes.saturating_add(self.largest_whole) } else { self.longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_leave_room_for_what_the_limits_allow() {
        let of = |limits: Limits| Bounds::of(&limits);
        let default = of(Limits::default());
        assert_eq!((default.objects, default.object_bytes), (20_000, 32 << 20));
        assert_eq!(default.tree_bytes, 10_000 * 283);
        assert_eq!(default.total_bytes, 4 * Limits::default().unpacked_bytes + (32 << 20));
        assert_eq!(of(Limits { file_bytes: 5 << 20, ..Limits::default() }).object_bytes, 5 << 20);
        let tiny = of(Limits { file_bytes: 5, ..Limits::default() });
        assert_eq!(tiny.object_bytes, tiny.tree_bytes, "directories and commits are objects too");
        let endless = of(Limits { entries: u64::MAX, ..Limits::default() });
        assert_eq!((endless.objects, endless.tree_bytes), (u64::MAX, 32 << 20));
    }

    #[test]
    fn the_size_of_a_result_is_the_second_number() {
        assert_eq!(result_bytes(&[5, 7]), Some(7));
        assert_eq!(result_bytes(&[0x80, 1, 0x81, 1, 9]), Some(129));
        for cut in [&[][..], &[5], &[5, 0x80], &[0x80; 20]] {
            assert_eq!(result_bytes(cut), None, "{cut:?}");
        }
    }
}
