//! Zip: only files that say the same everywhere, and whose entries do not overlap.

use std::io::{Cursor, Write as _};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;
use crate::archive::fixtures::{Staging, expected};
use crate::archive::{LinkFault, NameFault};
use proptest::prelude::*;

fn options(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(mode)
}

fn pack(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        if name.ends_with('/') {
            writer.add_directory(*name, options(*mode)).unwrap();
        } else {
            writer.start_file(*name, options(*mode)).unwrap();
            writer.write_all(content).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

fn stored(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, options(0o644).compression_method(CompressionMethod::Stored)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Replace each occurrence of `from` in `bytes` from the `skip`th on.
fn replace(bytes: &mut [u8], from: &[u8], to: &[u8], skip: usize) {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> = (0..=bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(places.len() > skip, "{from:?} is not there");
    for at in places.into_iter().skip(skip) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}

/// Where the central directory's record of the entry `number` begins.
fn central(bytes: &[u8], number: usize) -> usize {
    (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(b"PK\x01\x02")).nth(number).unwrap()
}

fn set_mode(bytes: &mut [u8], number: usize, mode: u32) {
    let at = central(bytes, number);
    bytes[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
    bytes[at + 5] = 3;
}

fn refused(bytes: &[u8]) -> UnpackError {
    Staging::new().unpack(bytes, Limits::default(), false).unwrap_err()
}

#[test]
fn files_directories_and_links_are_unpacked() {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    writer.add_directory("top/", options(0o777)).unwrap();
    writer.start_file("top/run", options(0o4755)).unwrap();
    writer.write_all(b"go").unwrap();
    writer.add_symlink("top/link", "run", options(0o777)).unwrap();
    writer.start_file("top/d/f", options(0o666)).unwrap();
    writer.write_all(b"1").unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    let staging = Staging::new();
    let summary = staging.unpack(&bytes, Limits::default(), true).unwrap();
    assert_eq!((summary.files, summary.entries, summary.bytes), (2, 4, 3));
    let want = expected(&[("run", "0755 go"), ("link", "-> run"), ("d", "dir 0755"), ("d/f", "0644 1")]);
    assert_eq!(staging.content(), want);
}

#[test]
fn what_info_zip_packs_is_unpacked() {
    let source = Staging::new();
    std::fs::create_dir(source.tree().join("d")).unwrap();
    std::fs::write(source.tree().join("d/ü"), "text").unwrap();
    std::os::unix::fs::symlink("d/ü", source.tree().join("l")).unwrap();
    let packed = tempfile::tempdir().unwrap();
    let file = packed.path().join("packed.zip");
    let zip = std::process::Command::new("zip").arg("-qry").arg(&file).arg(".").current_dir(source.tree()).status();
    assert!(zip.expect("zip is not installed; run: hack/prerequisites unit").success());
    let staging = Staging::new();
    staging.unpack(&std::fs::read(file).unwrap(), Limits::default(), false).unwrap();
    assert_eq!(staging.content(), source.content());
}

#[test]
fn what_a_streaming_writer_packs_is_unpacked() {
    // Go, Java and whoever writes to a pipe know sizes and checksum only behind the data.
    let mut writer = ZipWriter::new_stream(Vec::new());
    writer.add_directory("top/", options(0o755)).unwrap();
    for (name, method) in [("top/run", CompressionMethod::Deflated), ("top/data", CompressionMethod::Stored)] {
        writer.start_file(name, options(0o755).compression_method(method)).unwrap();
        writer.write_all(b"content").unwrap();
    }
    let bytes = writer.finish().unwrap().into_inner();
    let flags = u16::from_le_bytes([bytes[central(&bytes, 1) + 8], bytes[central(&bytes, 1) + 9]]);
    assert_ne!(flags & 8, 0, "a data descriptor");
    let staging = Staging::new();
    staging.unpack(&bytes, Limits::default(), true).unwrap();
    assert_eq!(staging.content(), expected(&[("run", "0755 content"), ("data", "0755 content")]));
}

/// A file of so many bytes, of which only the end can be read, and where its directory begins.
struct EndAlone {
    bytes: u64,
    directory: u64,
    end: Vec<u8>,
    at: u64,
}

impl Read for EndAlone {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.directory {
            self.at += 4;
            return b"PK\x01\x02".as_slice().read(buffer);
        }
        let start = self.bytes - self.end.len() as u64;
        assert!(self.at >= start, "read at {} of {}", self.at, self.bytes);
        let read = (&self.end[(self.at - start) as usize..]).read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for EndAlone {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(offset) => self.bytes.checked_add_signed(offset).unwrap(),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset).unwrap(),
        };
        Ok(self.at)
    }
}

#[test]
fn a_directory_of_many_long_names_is_refused_before_it_is_read() {
    let (entries, name) = (60_000_u32, 4096);
    let (data, directory) = (entries * (30 + name), entries * (46 + name));
    // the size of the directory is for the archive to say, too
    for size in [directory, 0] {
        let mut end = vec![0; TAIL as usize - END_BYTES];
        end.extend(b"PK\x05\x06\0\0\0\0");
        end.extend((entries as u16).to_le_bytes().repeat(2));
        end.extend([size.to_le_bytes(), data.to_le_bytes()].concat());
        end.extend([0, 0]);
        let bytes = u64::from(data) + u64::from(directory) + END_BYTES as u64;
        let mut writer = Staging::new().writer(Limits::default());
        let error = unpack(EndAlone { bytes, directory: data.into(), end, at: 0 }, &mut writer).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unpack zip: the directory at its end has 248520022 bytes, and at most 15820000 are allowed; pack fewer files"
        );
        assert!(!error.is_transient());
    }
}

#[test]
fn an_archive_inside_of_one_is_no_directory_of_it() {
    let inner = stored(&[("small", b"text")]);
    let bytes = stored(&[("data", &[b'x'; 200_000]), ("inner.zip", &inner)]);
    let staging = Staging::new();
    let limits = Limits { entries: 10, path_bytes: 100, ..Limits::default() };
    let summary = staging.unpack(&bytes, limits, false).unwrap();
    assert_eq!((summary.files, summary.bytes), (2, 200_000 + inner.len() as u64));
}

#[test]
fn names_and_links_that_leave_the_tree_are_refused() {
    for (name, fault) in
        [("../outside/evil", NameFault::Parent), ("/etc/evil", NameFault::Absolute), ("a\\..\\b", NameFault::Backslash)]
    {
        // The writer cleans names, so they are put in afterwards.
        let place = "x".repeat(name.len());
        let mut bytes = pack(&[(&place, 0o644, b"evil")]);
        replace(&mut bytes, place.as_bytes(), name.as_bytes(), 0);
        match refused(&bytes) {
            UnpackError::Name { fault: found, .. } => assert_eq!(found, fault),
            other => panic!("{other}"),
        }
    }
    let mut bytes = stored(&[("l", b"../outside"), ("f", b"")]);
    set_mode(&mut bytes, 0, 0o120_777);
    assert!(matches!(refused(&bytes), UnpackError::Link { fault: LinkFault::Escapes, .. }));
    let mut bytes = stored(&[("l", b"../outside"), ("l/evil", b"x")]);
    set_mode(&mut bytes, 0, 0o120_777);
    assert!(matches!(refused(&bytes), UnpackError::NotADirectory { kind: "symbolic link", .. }));
}

#[test]
fn special_files_are_refused_by_their_modes() {
    for (mode, text) in [
        (0o010_644, "it is a FIFO;"),
        (0o020_644, "it is a character device;"),
        (0o060_644, "it is a block device;"),
        (0o140_644, "it is a socket;"),
        (0o040_755, "its name and its mode disagree on whether it is a directory"),
        (0o030_644, "its mode 30644 is that of no file, directory or link"),
    ] {
        let mut bytes = stored(&[("dev", b"")]);
        set_mode(&mut bytes, 0, mode);
        let error = refused(&bytes).to_string();
        assert!(error.starts_with("unpack entry \"dev\": ") && error.contains(text), "{error}");
    }
}

#[test]
fn directory_and_entries_must_say_the_same() {
    let bytes = stored(&[("harmless", b"content"), ("other", b"2")]);
    assert!(Staging::new().unpack(&bytes, Limits::default(), false).is_ok());
    let mut renamed = bytes.clone();
    replace(&mut renamed, b"harmless", b"evil.exe", 1);
    let mut resized = bytes.clone();
    let at = central(&bytes, 0);
    resized[at + 20] = 3;
    resized[at + 24] = 3;
    let mut twice = bytes.clone();
    replace(&mut twice, b"other", b"twice", 0);
    let overlapping = {
        let mut bytes = bytes.clone();
        let (first, second) = (central(&bytes, 0), central(&bytes, 1));
        let offset = bytes[first + 42..first + 46].to_vec();
        bytes[second + 42..second + 46].copy_from_slice(&offset);
        bytes
    };
    let prefixed = [&b"PK\x03\x04 another archive"[..], &bytes].concat();
    for (what, bytes) in [("name", renamed), ("size", resized), ("overlap", overlapping), ("prefix", prefixed)] {
        let error = refused(&bytes);
        assert!(matches!(error, UnpackError::Malformed { format: Format::Zip, .. }), "{what}: {error}");
    }
    let mut duplicate = stored(&[("aaaa", b"1"), ("bbbb", b"2")]);
    replace(&mut duplicate, b"bbbb", b"aaaa", 0);
    assert_eq!(
        refused(&duplicate).to_string(),
        "unpack zip: the archive is damaged or ambiguous: its directory has a name twice"
    );
    // An entry before the directory that the directory does not list.
    let mut hidden = stored(&[("seen", b"1"), ("hidden", b"2")]);
    let at = central(&hidden, 1);
    let end = hidden.len() - 22;
    let size = (end - at) as u32;
    hidden.drain(at..end);
    let end = hidden.len() - 22;
    hidden[end + 8..end + 12].copy_from_slice(&[1, 0, 1, 0]);
    let directory = u32::from_le_bytes(hidden[end + 12..end + 16].try_into().unwrap()) - size;
    hidden[end + 12..end + 16].copy_from_slice(&directory.to_le_bytes());
    let error = refused(&hidden).to_string();
    assert!(error.contains("missing from central directory"), "{error}");
}

#[test]
fn data_that_is_not_what_the_directory_says_is_refused() {
    let mut damaged = stored(&[("a", b"contents")]);
    replace(&mut damaged, b"contents", b"CONTENTS", 0);
    assert!(matches!(refused(&damaged), UnpackError::Malformed { .. }));
    let mut encrypted = stored(&[("a", b"contents")]);
    let at = central(&encrypted, 0);
    encrypted[6] |= 1;
    encrypted[at + 8] |= 1;
    let error = refused(&encrypted);
    assert!(matches!(error, UnpackError::Zip { fault: ZipFault::Encrypted, .. }), "{error}");
    let mut method = stored(&[("a", b"contents")]);
    let at = central(&method, 0);
    method[8] = 12;
    method[at + 10] = 12;
    let error = refused(&method);
    assert!(matches!(error, UnpackError::Zip { fault: ZipFault::Method(_), .. }), "{error}");
    for claimed in [50, 150] {
        let mut resized = pack(&[("a", 0o644, &[b'x'; 100])]);
        let at = central(&resized, 0);
        for size in [22, at + 24] {
            resized[size] = claimed;
        }
        let error = refused(&resized);
        let mismatch = matches!(error, UnpackError::Zip { fault: ZipFault::SizeMismatch { .. }, .. });
        assert!(mismatch || matches!(error, UnpackError::Malformed { .. }), "{claimed}: {error}");
    }
}

#[test]
fn bombs_are_refused_by_what_the_directory_says() {
    let zeros = pack(&[("zeros", 0o644, &vec![0; 3 << 20])]);
    assert!(matches!(refused(&zeros), UnpackError::Ratio { limit: 200, .. }));
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::default() };
    assert!(matches!(Staging::new().unpack(&zeros, limits, false), Err(UnpackError::TooLarge { .. })));
    let many: Vec<_> = (0..30).map(|number| format!("f{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let limits = Limits { entries: 29, ..Limits::default() };
    let error = Staging::new().unpack(&stored(&many), limits, false).unwrap_err();
    assert!(matches!(error, UnpackError::TooManyEntries { limit: 29, .. }), "{error}");
}

#[test]
fn the_zip64_form_is_refused() {
    let mut bytes = stored(&[("a", b"1")]);
    let end = bytes.len() - 22;
    let locator = [&b"PK\x06\x07"[..], &[0; 16]].concat();
    bytes.splice(end..end, locator);
    let text = refused(&bytes).to_string();
    assert!(text.contains("zip64 form"), "{text}");
}

/// An archive in the zip64 form, as far as it is looked at: 40 bytes, the zip64 end record, its locator and the end record.
fn zip64() -> Vec<u8> {
    let (mut end, mut locator) = (b"PK\x06\x06".to_vec(), b"PK\x06\x07".to_vec());
    end.extend([0; 52]);
    locator.extend([0, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    [&b"PK\x03\x04"[..], &[b'x'; 36], &end, &locator, b"PK\x05\x06", &[0xff; 16], &[0, 0]].concat()
}

#[test]
fn an_archive_in_the_zip64_form_may_be_an_entry_of_one_that_is_not() {
    let staging = Staging::new();
    staging.unpack(&stored(&[("a.zip", &zip64()), ("z", b"PK\x06\x07")]), Limits::default(), false).unwrap();
    assert_eq!(std::fs::read(staging.tree().join("a.zip")).unwrap(), zip64());
}

#[test]
fn the_zip64_form_is_refused_whatever_follows_it() {
    for behind in [&b""[..], b"PK\x05\x06", &[&b"PK\x05\x06"[..], &[0; 18]].concat()] {
        let text = refused(&[&zip64(), behind].concat()).to_string();
        assert!(text.contains("zip64 form"), "{text}");
    }
}

proptest! {
    #[test]
    fn damaged_archives_neither_panic_nor_leave_the_tree(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut: Option<prop::sample::Index>,
    ) {
        let mut bytes = pack(&[("dir/", 0o755, b""), ("dir/file", 0o644, b"content"), ("run", 0o755, b"go")]);
        for (at, value) in &flips {
            let at = at.index(bytes.len());
            bytes[at] = *value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = Staging::new().unpack(&bytes, Limits::default(), false);
    }
}
