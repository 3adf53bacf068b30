//! Tell an archive's format by its content, and unpack it.

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::error::{EntryName, Format, UnpackError};
use super::meter::Meter;
use super::writer::TreeWriter;
use super::{tar, zip};

/// Largest window that a Zstandard stream may ask for, as a power of two: 32 MiB of memory.
const ZSTD_WINDOW_LOG: u32 = 25;

/// How to unpack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnpackOptions {
    /// If all entries lie in one top-level directory, make it the root, as forges pack their source archives.
    pub strip_single_top_level: bool,
}

/// Unpack `file` into `writer` and return its format, which its first bytes tell: plain tar, tar in gzip or Zstandard,
/// or zip. Names and media types are not asked. Memory does not grow with the archive, but for the names in it, which
/// the limits bound, and for the directory of a zip file, which they bound before it is read.
///
/// The writer is left to the caller to [finish](TreeWriter::finish).
///
/// # Errors
/// The first rule that the archive breaks. What was unpacked until then stays for the caller to remove.
pub fn unpack(
    mut file: impl Read + Seek,
    writer: &mut TreeWriter,
    options: UnpackOptions,
) -> Result<Format, UnpackError> {
    let format = sniff(&mut file)?;
    if options.strip_single_top_level {
        writer.strip_top_level();
    }
    let limits = *writer.limits();
    let meter = Meter::default();
    match format {
        Format::Zip => zip::unpack(BufReader::new(file), writer)?,
        Format::Tar => {
            let stream = meter.unpacked(BufReader::new(file), limits, false);
            tar::unpack(stream, &meter, format, writer)?;
        }
        Format::TarGzip => {
            let stream = flate2::bufread::MultiGzDecoder::new(BufReader::new(meter.packed(file)));
            tar::unpack(meter.unpacked(stream, limits, true), &meter, format, writer)?;
        }
        Format::TarZstd => {
            let damaged = |error: std::io::Error| UnpackError::Malformed { format, cause: error.to_string() };
            let mut stream = zstd::stream::read::Decoder::new(meter.packed(file)).map_err(damaged)?;
            stream.window_log_max(ZSTD_WINDOW_LOG).map_err(damaged)?;
            tar::unpack(meter.unpacked(stream, limits, true), &meter, format, writer)?;
        }
    }
    Ok(format)
}

/// The format that the first bytes of `file` tell; `file` is at its start again afterwards.
fn sniff(file: &mut (impl Read + Seek)) -> Result<Format, UnpackError> {
    let read = |source| UnpackError::Read { entry: EntryName::new("."), source };
    let mut head = Vec::with_capacity(512);
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    file.by_ref().take(512).read_to_end(&mut head).map_err(read)?;
    file.seek(SeekFrom::Start(0)).map_err(read)?;
    format_of(&head).ok_or(if is_web_page(&head) { UnpackError::WebPage } else { UnpackError::UnknownFormat })
}

/// Whether `head` begins as HTML does, whatever white space or byte order mark comes before.
fn is_web_page(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |tag: &[u8]| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    begins(b"<!doctype html") || begins(b"<html")
}

fn format_of(head: &[u8]) -> Option<Format> {
    match head {
        [0x1f, 0x8b, ..] => Some(Format::TarGzip),
        // A frame, or a skippable frame before it (RFC 8878, 3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Format::TarZstd),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Format::Zip),
        _ => is_tar_header(head).then_some(Format::Tar),
    }
}

/// Whether `head` is a tar header: its checksum fits, which also tells the old kind without a magic number.
fn is_tar_header(head: &[u8]) -> bool {
    let Some((block, _)) = head.split_first_chunk::<512>() else {
        return false;
    };
    let sum = block.iter().enumerate().map(|(at, &byte)| u32::from(if (148..156).contains(&at) { b' ' } else { byte }));
    ::tar::Header::from_byte_slice(block).cksum().is_ok_and(|written| written == sum.sum::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_told_by_content() {
        let mut tar = ::tar::Header::new_ustar();
        tar.set_path("x").unwrap();
        tar.set_size(0);
        tar.set_cksum();
        let mut old = ::tar::Header::new_old();
        old.set_path("x").unwrap();
        old.set_size(0);
        old.set_cksum();
        for (head, format) in [
            (&b"\x1f\x8b\x08"[..], Some(Format::TarGzip)),
            (b"\x28\xb5\x2f\xfd", Some(Format::TarZstd)),
            (b"PK\x03\x04", Some(Format::Zip)),
            (b"PK\x05\x06", Some(Format::Zip)),
            (tar.as_bytes(), Some(Format::Tar)),
            (old.as_bytes(), Some(Format::Tar)),
            (b"<!DOCTYPE html>", None),
            (b"", None),
            (&[0; 512], None),
            (&[b'a'; 512], None),
        ] {
            assert_eq!(format_of(head), format);
        }
    }
}
