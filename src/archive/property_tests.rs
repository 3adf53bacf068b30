//! Whatever an archive holds, nothing is created outside, what is accepted stays within, and a refusal leaves nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::beneath::open_root;
use super::{Limits, TreeWriter, UnpackOptions, unpack};
use crate::store::Store;
use crate::store::layout::{EXTENSIONS, STAGING};

/// What stands for the absolute path of a directory outside in a generated name.
const OUTSIDE: &str = "@";

/// Where a tar entry has its name.
#[derive(Debug, Clone, Copy)]
enum Named {
    Header,
    Pax,
    LongName,
}

/// An entry as it is packed: of a kind (a tar type flag, as which zip reads it too), and with all that it says of itself.
#[derive(Debug, Clone)]
struct Packed {
    kind: u8,
    name: String,
    named: Named,
    target: String,
    mode: u32,
    size: usize,
}

fn component() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => prop::sample::select(vec!["a", "b", "c", "d", "e", "bin", "lib", "run"]),
        2 => prop::sample::select(vec!["A", "e\u{301}", "\u{e9}", "\u{c9}", "stra\u{df}e", "STRASSE"]),
        2 => prop::sample::select(vec!["..", ".", "", "outside"]),
        1 => prop::sample::select(vec![".git", ".GIT", ".outrigger-tree", ".OUTRIGGER-TREE", "a\\b", "c\u{7}", OUTSIDE]),
    ]
    .prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    let ends = (prop::sample::select(vec!["", "", "", "", "./", "/"]), any::<prop::sample::Index>());
    (ends, prop::collection::vec(component(), 1..4)).prop_map(|((start, long), components)| {
        let name = format!("{start}{}", components.join("/"));
        if long.index(24) == 0 { format!("{name}{}", "x".repeat(120)) } else { name }
    })
}

fn target() -> impl Strategy<Value = String> {
    let up = prop::sample::select(vec!["", "", "", "../", "../../", "../../../outside/", "@/"]);
    (up, name()).prop_map(|(up, name)| format!("{up}{name}"))
}

fn packed() -> impl Strategy<Value = Packed> {
    let kind = prop_oneof![
        10 => Just(b'0'), 5 => Just(b'5'), 5 => Just(b'2'), 3 => Just(b'1'),
        1 => prop::sample::select(vec![b'3', b'4', b'6', b'7', b'S', b'X', 0]),
    ];
    let named = prop::sample::select(vec![Named::Header, Named::Header, Named::Pax, Named::LongName]);
    let size = prop_oneof![6 => 0..64_usize, 1 => 0..3000_usize];
    (kind, name(), named, target(), 0..0o10_000_u32, size).prop_map(|(kind, name, named, target, mode, size)| Packed {
        kind,
        name,
        named,
        target,
        mode,
        size,
    })
}

/// Archives of a few entries. Names are few, so that entries meet: in a directory, through a link, at one name.
fn archives() -> impl Strategy<Value = Vec<Packed>> {
    prop::collection::vec(packed(), 1..7)
}

impl Packed {
    fn within(&self, outside: &Path) -> Self {
        let outside = outside.to_str().unwrap();
        let put = |text: &str| text.replace(OUTSIDE, outside);
        Self { name: put(&self.name), target: put(&self.target), ..self.clone() }
    }

    fn data(&self) -> Vec<u8> {
        if matches!(self.kind, b'0' | b'7' | 0) { vec![b'x'; self.size] } else { Vec::new() }
    }
}

fn tar_block(kind: u8, name: &[u8], target: &[u8], mode: u32, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let name = &name[..name.len().min(100)];
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    let target = &target[..target.len().min(100)];
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    header.set_mode(mode);
    header.set_size(data.len() as u64);
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_cksum();
    let mut block = [header.as_bytes().as_slice(), data].concat();
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|digits| (rest + digits).to_string().len() == *digits).unwrap() + rest;
    format!("{length} {key}={value}\n")
}

fn tar_of(entries: &[Packed]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let (mut name, mut target) = (entry.name.as_bytes(), entry.target.as_bytes());
        match entry.named {
            Named::Header => {}
            Named::Pax => {
                let records = [record("path", &entry.name), record("linkpath", &entry.target)].concat();
                bytes.extend(tar_block(b'x', b"pax", b"", 0, records.as_bytes()));
                (name, target) = (b"harmless", b"harmless");
            }
            Named::LongName => {
                bytes.extend(tar_block(b'L', b"././@LongLink", b"", 0, &[name, b"\0"].concat()));
                bytes.extend(tar_block(b'K', b"././@LongLink", b"", 0, &[target, b"\0"].concat()));
                (name, target) = (b"harmless", b"harmless");
            }
        }
        bytes.extend(tar_block(entry.kind, name, target, entry.mode, &entry.data()));
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A zip file with names as they are given: writers clean them.
fn zip_of(entries: &[Packed]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let (kind, mut name, data) = match entry.kind {
            b'5' => (0o040_000_u32, entry.name.clone(), Vec::new()),
            b'2' | b'1' => (0o120_000, entry.name.clone(), entry.target.clone().into_bytes()),
            b'3' => (0o020_000, entry.name.clone(), Vec::new()),
            b'6' => (0o010_000, entry.name.clone(), Vec::new()),
            _ => (0o100_000, entry.name.clone(), entry.data()),
        };
        if kind == 0o040_000 {
            name.push('/');
        }
        let mut sum = flate2::Crc::new();
        sum.update(&data);
        // version, flags (UTF-8), method, time, date, checksum, sizes, lengths of name and extra field
        let mut common = vec![20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0];
        common.extend(sum.sum().to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes().repeat(2));
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        let offset = bytes.len() as u32;
        bytes.extend([b"PK\x03\x04".as_slice(), &common, name.as_bytes(), &data].concat());
        directory.extend([b"PK\x01\x02\x14\x03".as_slice(), &common, &[0; 6]].concat());
        directory.extend(((kind | entry.mode) << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = (entries.len() as u16).to_le_bytes().repeat(2);
    let (size, offset) = ((directory.len() as u32).to_le_bytes(), (bytes.len() as u32).to_le_bytes());
    let end = [b"PK\x05\x06\0\0\0\0".as_slice(), &count, &size, &offset, &[0, 0]].concat();
    [bytes, directory, end].concat()
}

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// All that is below `root` but for `except`: kind, mode, content or target.
fn snapshot(root: &Path, except: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        if path == except {
            continue;
        }
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        found.insert(path, (metadata.mode(), content));
    }
    found
}

/// Modes are those that the writer gives, and no link leads out.
fn assert_safe(tree: &Path) {
    let root = open_root(tree).unwrap();
    for (path, (mode, _)) in snapshot(tree, Path::new("")) {
        if path == tree {
            continue;
        }
        let shown = path.display();
        match mode & 0o170_000 {
            0o040_000 => assert_eq!(mode & 0o7777, 0o755, "{shown}"),
            0o100_000 => assert!(matches!(mode & 0o7777, 0o644 | 0o755), "{shown}: {mode:o}"),
            0o120_000 => {
                if let Ok(target) = fs::canonicalize(&path) {
                    assert!(target.starts_with(tree), "{shown} leads to {}", target.display());
                }
                // also where it leads to nothing yet
                let relative = path.strip_prefix(tree).unwrap();
                match rustix::fs::openat2(&root, relative, OFlags::PATH, Mode::empty(), ResolveFlags::BENEATH) {
                    Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::NOSYS | Errno::PERM) => {}
                    Err(error) => panic!("{shown}: {error}"),
                }
            }
            other => panic!("{shown}: {other:o}"),
        }
    }
}

/// Unpacks what `pack` makes of any entries, as a source is unpacked.
fn unpack_anything(pack: impl Fn(&[Packed], bool) -> Vec<u8>) {
    let base = tempfile::tempdir().unwrap();
    let (volume, outside) = (base.path().join("volume"), base.path().join("outside"));
    fs::create_dir(&volume).unwrap();
    fs::create_dir(&outside).unwrap();
    for place in [outside.join("a"), volume.join("a"), base.path().join("a")] {
        fs::write(place, "untouched").unwrap();
    }
    let store = Store::open(&volume).unwrap();
    let work = volume.join(EXTENSIONS).join(STAGING);
    let limits = Limits { entries: 12, unpacked_bytes: 16 << 10, file_bytes: 2000, ..Limits::default() };
    let before = snapshot(base.path(), &work);
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    proptest!(|(entries in archives(), compressed: bool, strip_single_top_level: bool)| {
        let entries: Vec<_> = entries.iter().map(|entry| entry.within(&outside)).collect();
        let staging = store.stage().unwrap();
        let mut writer = TreeWriter::new(staging.path(), limits).unwrap();
        let options = UnpackOptions { strip_single_top_level };
        let unpacked = unpack(Cursor::new(pack(&entries, compressed)), &mut writer, options).and_then(|_| writer.finish());
        assert_eq!(snapshot(base.path(), &work), before);
        let beside: Vec<_> = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(beside, [staging.path()]);
        match unpacked {
            Ok(_) => {
                assert_safe(staging.path());
                accepted.set(accepted.get() + 1);
            }
            Err(error) => {
                assert!(!error.is_transient(), "the system had to refuse it: {error}");
                refused.set(refused.get() + 1);
            }
        }
        staging.remove();
        assert_eq!(snapshot(base.path(), Path::new("")).len(), before.len() + 1, "the work directory alone is left");
    });
    assert!(accepted.get() > 0 && refused.get() > 0, "{} accepted, {} refused", accepted.get(), refused.get());
}

#[test]
fn no_tar_reaches_outside_and_none_that_is_refused_leaves_anything() {
    unpack_anything(|entries, compressed| {
        let tar = tar_of(entries);
        if compressed { gzip_of(&tar) } else { tar }
    });
}

#[test]
fn no_zip_reaches_outside_and_none_that_is_refused_leaves_anything() {
    unpack_anything(|entries, _| zip_of(entries));
}
