//! Unpack a tar stream.
//!
//! The `tar` crate splits the stream into raw entries; extension headers are read here, so that what is checked is what
//! is extracted. Whatever readers of tar are known to disagree about is refused rather than guessed (CVE-2025-62518).

use std::io::{self, Read};

use tar::{Archive, Header};

use super::error::{EntryName, Format, SpecialKind, TarFault, UnpackError};
use super::limits::Limits;
use super::meter::{Breach, Meter, Unpacked};
use super::pax;
use super::writer::TreeWriter;

/// Bytes that an extension header may have besides the longest path.
const EXTENSION_BYTES: u64 = 64 << 10;

/// Unpack `stream`, whose decoder counts on `meter`.
pub(super) fn unpack<R: Read>(
    stream: Unpacked<R>,
    meter: &Meter,
    format: Format,
    writer: &mut TreeWriter,
) -> Result<(), UnpackError> {
    let errors = Errors { meter, format, limits: *writer.limits() };
    let mut archive = Archive::new(stream);
    let mut extensions = Extensions::default();
    let entries = archive.entries().map_err(|error| errors.classify(".", error))?;
    let mut last = b".".to_vec();
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(|error| errors.classify(&last, error))?;
        last = entry.header().path_bytes().into_owned();
        let kind = entry.header().as_bytes()[156];
        let size = size(entry.header()).map_err(|fault| errors.tar(&last, fault))?;
        let recognized = entry.header().as_ustar().is_some() || entry.header().as_gnu().is_some();
        if recognized && matches!(kind, b'L' | b'K' | b'x' | b'g') {
            let data = errors.read_extension(&last, size, &mut entry)?;
            extensions.add(kind, data).map_err(|fault| errors.tar(&last, fault))?;
            continue;
        }
        let named = std::mem::take(&mut extensions).apply(entry.header(), size);
        let (path, target) = named.map_err(|fault| errors.tar(&last, fault))?;
        last.clone_from(&path);
        errors.write_entry(writer, kind, size, &path, &target, &mut entry)?;
    }
    if !extensions.is_empty() {
        return Err(errors.tar(&last, TarFault::ExtensionWithoutEntry));
    }
    if meter.ended() {
        return Err(errors.malformed("the mark at the end of the archive is missing: it is cut short"));
    }
    errors.read_padding(&last, archive.into_inner())
}

/// The size that `header` gives, in bytes. Octal digits alone, or base-256 without sign and overflow.
fn size(header: &Header) -> Result<u64, TarFault> {
    let field = &header.as_old().size;
    let base_256 = field[0] == 0x80 && field[1..5] == [0; 4];
    let octal = field.iter().all(|byte| matches!(byte, b'0'..=b'7' | b' ' | 0));
    match header.entry_size() {
        Ok(size) if (base_256 || octal) && i64::try_from(size).is_ok() => Ok(size),
        _ => Err(TarFault::SizeOverflow),
    }
}

/// The extension headers that wait for their entry.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Option<pax::Records>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_link.is_none() && self.pax.is_none()
    }

    fn add(&mut self, kind: u8, mut data: Vec<u8>) -> Result<(), TarFault> {
        let slot = match kind {
            b'g' if self.is_empty() => return pax::global(&data),
            b'x' if self.is_empty() => {
                self.pax = Some(pax::local(&data)?);
                return Ok(());
            }
            b'L' if self.pax.is_none() => &mut self.long_name,
            b'K' if self.pax.is_none() => &mut self.long_link,
            _ => return Err(TarFault::NamedTwice),
        };
        data.pop_if(|last| *last == 0);
        match slot.replace(data) {
            None => Ok(()),
            Some(_) => Err(TarFault::NamedTwice),
        }
    }

    /// The entry's path and link target, as these extensions and `header` have them.
    fn apply(self, header: &Header, size: u64) -> Result<(Vec<u8>, Vec<u8>), TarFault> {
        let pax = self.pax.unwrap_or_default();
        if let Some(text) = pax.size
            && text != size.to_string()
        {
            return Err(TarFault::SizeMismatch { pax: text.chars().take(40).collect(), header: size });
        }
        let path = self.long_name.or(pax.path).unwrap_or_else(|| header.path_bytes().into_owned());
        let target = self.long_link.or(pax.linkpath);
        let target = target.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        Ok((path, target.unwrap_or_default()))
    }
}

/// What errors need to know, and the reading that can end in one.
struct Errors<'a> {
    meter: &'a Meter,
    format: Format,
    limits: Limits,
}

impl Errors<'_> {
    fn tar(&self, entry: &[u8], fault: TarFault) -> UnpackError {
        UnpackError::Tar { entry: EntryName::new(entry), fault }
    }

    fn malformed(&self, cause: impl ToString) -> UnpackError {
        UnpackError::Malformed { format: self.format, cause: cause.to_string() }
    }

    /// The reason for an error while the stream was read: a limit, the disk, or the archive.
    fn classify(&self, entry: impl AsRef<[u8]>, error: io::Error) -> UnpackError {
        let entry = EntryName::new(entry);
        match self.meter.breach() {
            Some(Breach::TooLarge) => UnpackError::TooLarge { entry, limit: self.limits.unpacked_bytes },
            Some(Breach::Ratio) => UnpackError::Ratio { entry, limit: self.limits.ratio },
            None if error.raw_os_error().is_some() => UnpackError::Read { entry, source: error },
            // The decoder has one kind of error for all that is wrong.
            None if self.format == Format::TarZstd && error.to_string().contains("too much memory") => {
                UnpackError::WindowTooLarge
            }
            None => self.malformed(error),
        }
    }

    fn read_extension(&self, entry: &[u8], size: u64, data: &mut impl Read) -> Result<Vec<u8>, UnpackError> {
        let limit = EXTENSION_BYTES + self.limits.path_bytes as u64;
        if size > limit {
            return Err(self.tar(entry, TarFault::ExtensionTooLarge { bytes: size, limit }));
        }
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes).map_err(|error| self.classify(entry, error))?;
        let got = bytes.len() as u64;
        if got < size { Err(self.tar(entry, TarFault::Truncated { got, size })) } else { Ok(bytes) }
    }

    fn write_entry<R: Read>(
        &self,
        writer: &mut TreeWriter,
        kind: u8,
        size: u64,
        path: &[u8],
        target: &[u8],
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<(), UnpackError> {
        let without_data = |kind| match size {
            0 => Ok(()),
            bytes => Err(self.tar(path, TarFault::UnexpectedData { kind, bytes })),
        };
        let special = |kind| Err(UnpackError::Special { entry: EntryName::new(path), kind });
        match kind {
            // Tar of Unix v7 had no directories but by the name; all readers keep to it.
            b'0' | 0 | b'7' if !path.ends_with(b"/") => {
                let mode = entry.header().mode().map_err(|error| self.malformed(error))?;
                let got = writer.file(path, mode & 0o111 != 0, entry).map_err(|error| match error {
                    UnpackError::Read { source, .. } => self.classify(path, source),
                    other => other,
                })?;
                if got < size { Err(self.tar(path, TarFault::Truncated { got, size })) } else { Ok(()) }
            }
            b'5' | b'0' | 0 | b'7' => {
                without_data("directory")?;
                // `tar -C dir -c .` begins with the root itself.
                if matches!(path, b"." | b"./") { Ok(()) } else { writer.directory(path) }
            }
            b'1' => {
                without_data("hard link")?;
                writer.hard_link(path, target)
            }
            b'2' => {
                without_data("symbolic link")?;
                writer.symlink(path, target)
            }
            b'3' => special(SpecialKind::CharacterDevice),
            b'4' => special(SpecialKind::BlockDevice),
            b'6' => special(SpecialKind::Fifo),
            b'S' => Err(self.tar(path, TarFault::Sparse)),
            other => Err(self.tar(path, TarFault::UnknownType(char::from(other)))),
        }
    }

    /// Read on after the end mark, so that the decoder checks its checksum. Anything but padding is a second archive
    /// to some readers.
    fn read_padding(&self, entry: &[u8], mut stream: impl Read) -> Result<(), UnpackError> {
        let mut buffer = [0; 8192];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) if buffer[..read].iter().all(|&byte| byte == 0) => {}
                Ok(_) => return Err(self.malformed("data follows the mark at the end of the archive")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.classify(entry, error)),
            }
        }
    }
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
