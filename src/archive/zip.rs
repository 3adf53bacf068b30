//! Unpack a zip file.
//!
//! A zip file says everything twice, in its directory and before each entry, and readers differ in what they believe.
//! Only files that say the same in both places, and whose entries do not overlap, are unpacked.

use std::io::{self, Read, Seek, SeekFrom};

use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::result::ZipError;
use zip::{CompressionMethod, System, ZipArchive, ZipReadOptions};

use super::error::{EntryName, Format, SpecialKind, UnpackError, ZipFault};
use super::limits::Limits;
use super::writer::TreeWriter;

/// The kind bits of a Unix mode.
const KIND: u32 = 0o170_000;

/// Bytes of an end record without its comment.
const END_BYTES: usize = 22;

/// Bytes of the locator that stands before the end record of a zip64 file.
const LOCATOR_BYTES: usize = 20;

/// Bytes of an entry in the directory besides its name: 46 of the record, and the times, owners and other names that packers
/// put beside it.
const DIRECTORY_ENTRY_BYTES: u64 = 46 + 512;

/// Bytes at the end of the file among which the end record is looked for: itself, its comment, the zip64 locator.
const TAIL: u64 = 22 + 65_536 + 20 + 64;

/// Unpack `file`.
pub(super) fn unpack(mut file: impl Read + Seek, writer: &mut TreeWriter) -> Result<(), UnpackError> {
    let bytes = check_end(&mut file, writer.limits())?;
    // A known offset refuses data before the archive, which some readers skip and others do not.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, file).map_err(|error| classify(".", error))?;
    check_directory(&archive, bytes, writer.limits())?;
    archive.validate_header_consistency().map_err(|error| classify(".", error))?;
    for index in 0..archive.len() {
        write_entry(&mut archive, index, writer)?;
    }
    Ok(())
}

/// Refuse the zip64 form and a directory that is too large, and return the size of `file` in bytes. No archive within the
/// limits needs that form; without it the end record can claim 65 535 entries at most, and a name in each of them can have as
/// many bytes, all of which are read into memory before the first one can be looked at.
fn check_end(file: &mut (impl Read + Seek), limits: &Limits) -> Result<u64, UnpackError> {
    let read = |error| classify(".", ZipError::Io(error));
    let bytes = file.seek(SeekFrom::End(0)).map_err(read)?;
    let start = bytes.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start)).map_err(read)?;
    let mut tail = Vec::new();
    file.by_ref().take(TAIL).read_to_end(&mut tail).map_err(read)?;
    let limit = limits.entries.saturating_mul(DIRECTORY_ENTRY_BYTES.saturating_add(limits.path_bytes as u64));
    // Which of several end records counts is for the reader to say: none of them may be too much. Entries are read one
    // after the other from where the directory begins, whatever size the record gives it. Where no directory begins, the record
    // is one of an archive inside of this one, or none at all, and no reader follows it.
    let records = tail.windows(END_BYTES).enumerate().filter(|(_, window)| window.starts_with(b"PK\x05\x06"));
    let last = records.clone().next_back().map(|(at, _)| at);
    for (at, record) in records {
        let locator = at.checked_sub(LOCATOR_BYTES).map(|from| &tail[from..at]);
        if let Some(locator) = locator.filter(|locator| locator.starts_with(b"PK\x06\x07")) {
            // Before another than the last record it may be one of an archive inside of this one, which leads nowhere here.
            let leads_to = locator[8..16].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
            if Some(at) == last || stands_at(file, leads_to, b"PK\x06\x06").map_err(read)? {
                return Err(malformed("it is in the zip64 form, which is for larger archives than are allowed"));
            }
        }
        let begins = u64::from(u32::from_le_bytes([record[16], record[17], record[18], record[19]]));
        let directory = bytes.saturating_sub(begins);
        let is_large = begins < start + at as u64 && directory > limit.saturating_add(TAIL);
        if is_large && stands_at(file, begins, b"PK\x01\x02").map_err(read)? {
            return Err(UnpackError::DirectoryTooLarge { bytes: directory, limit });
        }
    }
    Ok(bytes)
}

/// Whether a record that begins with `magic` stands at `offset`.
fn stands_at(file: &mut (impl Read + Seek), offset: u64, magic: &[u8; 4]) -> io::Result<bool> {
    // the system takes no larger offset
    let Some(offset) = i64::try_from(offset).ok().map(i64::unsigned_abs) else { return Ok(false) };
    file.seek(SeekFrom::Start(offset))?;
    let mut found = Vec::new();
    file.by_ref().take(4).read_to_end(&mut found)?;
    Ok(found == magic)
}

/// Check what the directory says of the archive as a whole: names, number and sizes.
fn check_directory<R: Read + Seek>(archive: &ZipArchive<R>, bytes: u64, limits: &Limits) -> Result<(), UnpackError> {
    if archive.has_duplicate_names() {
        return Err(malformed("its directory has a name twice"));
    }
    let mut unpacked: u64 = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(|error| classify(".", error))?;
        let name = || EntryName::new(entry.name_raw());
        if index as u64 >= limits.entries {
            return Err(UnpackError::TooManyEntries { entry: name(), limit: limits.entries });
        }
        unpacked = unpacked.saturating_add(entry.size());
        if unpacked > limits.unpacked_bytes {
            return Err(UnpackError::TooLarge { entry: name(), limit: limits.unpacked_bytes });
        }
        if limits.ratio_exceeded(unpacked, bytes) {
            return Err(UnpackError::Ratio { entry: name(), limit: limits.ratio });
        }
    }
    Ok(())
}

fn write_entry<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    index: usize,
    writer: &mut TreeWriter,
) -> Result<(), UnpackError> {
    let (name, kind, mode, size) = {
        let entry = archive.by_index_data(index).map_err(|error| classify(".", error))?;
        let name = entry.name_raw().to_vec();
        let mode = mode(&entry);
        let refuse = |fault| UnpackError::Zip { entry: EntryName::new(&name), fault };
        if entry.encrypted() {
            return Err(refuse(ZipFault::Encrypted));
        }
        match entry.compression() {
            CompressionMethod::Stored | CompressionMethod::Deflated => {}
            other => return Err(refuse(ZipFault::Method(other.to_string()))),
        }
        let kind = kind(&name, mode, entry.size())?;
        (name, kind, mode, entry.size())
    };
    if kind == Kind::Directory {
        return writer.directory(&name);
    }
    let options = ZipReadOptions::new().enforce_header_consistency(true);
    let mut data = archive.by_index_with_options(index, options).map_err(|error| classify(&name, error))?;
    let in_stream = |error: UnpackError| match error {
        UnpackError::Read { source, .. } => classify(&name, ZipError::Io(source)),
        other => other,
    };
    let mismatch = || UnpackError::Zip { entry: EntryName::new(&name), fault: ZipFault::SizeMismatch { size } };
    // One byte more than the directory says, so that more of them is noticed, and so that the end, where the
    // checksum is compared, is reached.
    let mut data = (&mut data).take(size.saturating_add(1));
    if kind == Kind::File {
        let written = writer.file(&name, mode & 0o111 != 0, &mut data).map_err(in_stream)?;
        return if written == size { Ok(()) } else { Err(mismatch()) };
    }
    if size > writer.limits().path_bytes as u64 {
        return Err(UnpackError::FileTooLarge {
            entry: EntryName::new(&name),
            limit: writer.limits().path_bytes as u64,
        });
    }
    let mut target = Vec::new();
    data.read_to_end(&mut target).map_err(|error| classify(&name, ZipError::Io(error)))?;
    if target.len() as u64 == size { writer.symlink(&name, &target) } else { Err(mismatch()) }
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Link,
}

/// The Unix mode that the entry was packed with; 0 where it was packed on a system without.
fn mode(entry: &ZipFileEntry<'_>) -> u32 {
    match entry.system() {
        System::Unix | System::OsDarwin => entry.external_attributes() >> 16,
        _ => 0,
    }
}

fn kind(name: &[u8], mode: u32, size: u64) -> Result<Kind, UnpackError> {
    let entry = || EntryName::new(name);
    let special = |kind| Err(UnpackError::Special { entry: entry(), kind });
    let kind = match mode & KIND {
        0 if name.ends_with(b"/") => Kind::Directory,
        0 | 0o100_000 => Kind::File,
        0o040_000 => Kind::Directory,
        0o120_000 => Kind::Link,
        0o010_000 => return special(SpecialKind::Fifo),
        0o020_000 => return special(SpecialKind::CharacterDevice),
        0o060_000 => return special(SpecialKind::BlockDevice),
        0o140_000 => return special(SpecialKind::Socket),
        _ => return Err(UnpackError::Zip { entry: entry(), fault: ZipFault::UnknownKind(mode) }),
    };
    if (kind == Kind::Directory) != name.ends_with(b"/") || (kind == Kind::Directory && size > 0) {
        return Err(UnpackError::Zip { entry: entry(), fault: ZipFault::KindMismatch });
    }
    Ok(kind)
}

fn classify(entry: impl AsRef<[u8]>, error: ZipError) -> UnpackError {
    match error {
        ZipError::Io(source) if source.raw_os_error().is_some() => {
            UnpackError::Read { entry: EntryName::new(entry), source }
        }
        other => malformed(other),
    }
}

fn malformed(cause: impl ToString) -> UnpackError {
    UnpackError::Malformed { format: Format::Zip, cause: cause.to_string() }
}

#[cfg(test)]
#[path = "zip_tests.rs"]
mod tests;
