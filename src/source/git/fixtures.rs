//! Packs made by hand, and a server that hands out one of them whatever it is asked for.

use std::io::Write as _;

use axum::response::Response;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::hash::Kind as HashKind;
use gix::objs::{Kind, compute_hash};

use crate::source::testing::Server;

/// A change of the object so many entries before, in a pack.
pub const BY_DISTANCE: u8 = 6;
/// A change of the object with an id.
pub const BY_ID: u8 = 7;

/// A pack, entry by entry.
#[derive(Clone, Default)]
pub struct Pack {
    entries: Vec<Vec<u8>>,
}

impl Pack {
    pub fn object(&mut self, kind: Kind, data: &[u8]) -> ObjectId {
        let number = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        self.entry(number, data.len() as u64, &[], data);
        compute_hash(HashKind::Sha1, kind, data).unwrap()
    }

    pub fn tree(&mut self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let entry =
            |(mode, name, id): &(&str, &[u8], ObjectId)| [mode.as_bytes(), b" ", *name, b"\0", id.as_slice()].concat();
        self.object(Kind::Tree, &entries.iter().flat_map(entry).collect::<Vec<u8>>())
    }

    pub fn commit(&mut self, tree: ObjectId) -> ObjectId {
        let who = "t <t@example.com> 0 +0000";
        self.object(Kind::Commit, format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n").as_bytes())
    }

    /// An entry that says of itself what it likes: its type, its size, what it is a change of.
    pub fn entry(&mut self, type_: u8, size: u64, base: &[u8], data: &[u8]) {
        let (mut byte, mut rest) = ((type_ << 4) | (size & 15) as u8, size >> 4);
        let mut entry = Vec::new();
        while rest > 0 {
            entry.push(byte | 0x80);
            (byte, rest) = ((rest & 0x7f) as u8, rest >> 7);
        }
        entry.push(byte);
        entry.extend_from_slice(base);
        let mut encoder = ZlibEncoder::new(entry, Compression::fast());
        encoder.write_all(data).unwrap();
        self.entries.push(encoder.finish().unwrap());
    }

    /// A change of the entry before that results in `result` bytes out of `base` ones.
    pub fn change(&mut self, base: u64, result: u64) {
        let mut distance = self.entries.last().unwrap().len() as u64;
        let mut header = vec![(distance & 0x7f) as u8];
        while distance >= 0x80 {
            distance = (distance >> 7) - 1;
            header.insert(0, 0x80 | (distance & 0x7f) as u8);
        }
        let data = [number(base), number(result)].concat();
        self.entry(BY_DISTANCE, data.len() as u64, &header, &data);
    }

    pub fn bytes(&self) -> Vec<u8> {
        let pack = [header(self.entries.len() as u32).as_slice(), &self.entries.concat()].concat();
        let mut hasher = gix::hash::hasher(HashKind::Sha1);
        hasher.update(&pack);
        [pack.as_slice(), hasher.try_finalize().unwrap().as_slice()].concat()
    }
}

pub fn header(objects: u32) -> [u8; 12] {
    let mut header = *b"PACK\0\0\0\x02\0\0\0\0";
    header[8..].copy_from_slice(&objects.to_be_bytes());
    header
}

/// A number in groups of seven bits.
pub fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(0x80 | (value & 0x7f) as u8);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

pub fn line(data: &[u8]) -> Vec<u8> {
    [format!("{:04x}", data.len() + 4).as_bytes(), data].concat()
}

const FLUSH: &[u8] = b"0000";

/// A server of protocol 2 that answers with `pack` whatever is wanted.
pub async fn serve(pack: Vec<u8>) -> Server {
    answering(&pack, &[]).await
}

/// The same, but after the beginning `pack` comes `garbage`.
pub async fn serve_until(pack: &[u8], garbage: &[u8]) -> Server {
    answering(pack, garbage).await
}

async fn answering(pack: &[u8], last: &[u8]) -> Server {
    let capabilities: [&[u8]; 5] =
        [b"version 2\n", b"agent=fixture\n", b"ls-refs\n", b"fetch=shallow\n", b"object-format=sha1\n"];
    let lines = capabilities.iter().flat_map(|text| line(text)).collect::<Vec<u8>>();
    let advertisement = [&line(b"# service=git-upload-pack\n"), FLUSH, &lines, FLUSH].concat();
    let parts = pack.chunks(60_000).flat_map(|part| line(&[b"\x01", part].concat())).collect::<Vec<u8>>();
    let answer = [line(b"packfile\n").as_slice(), &parts, last, FLUSH].concat();
    Server::start(move |seen| {
        let (kind, body) = if seen.method == "GET" { ("advertisement", &advertisement) } else { ("result", &answer) };
        let content_type = format!("application/x-git-upload-pack-{kind}");
        Response::builder().header("content-type", content_type).body(body.clone().into()).unwrap()
    })
    .await
}
