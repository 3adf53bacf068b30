//! Why an archive is refused.

use std::{fmt, io};

use super::links::LinkFault;
use super::path::NameFault;

/// The name of an entry as the archive spells it, escaped and cut for display: it may hold anything.
#[derive(Clone, PartialEq, Eq)]
pub struct EntryName(Vec<u8>);

impl EntryName {
    pub(crate) fn new(name: impl AsRef<[u8]>) -> Self {
        Self(name.as_ref().to_vec())
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 120;
        let text = String::from_utf8_lossy(&self.0);
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        write!(f, "{shown:?}")
    }
}

impl fmt::Debug for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A format that [`unpack`](super::unpack()) reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Plain tar.
    Tar,
    /// Tar in gzip.
    TarGzip,
    /// Tar in Zstandard.
    TarZstd,
    /// Zip.
    Zip,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::TarGzip => "tar.gz",
            Self::TarZstd => "tar.zst",
            Self::Zip => "zip",
        })
    }
}

/// A kind of entry that no extension needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialKind {
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl fmt::Display for SpecialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CharacterDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
        })
    }
}

/// Why unpacking stopped. What was unpacked until then stays in the staging directory: whoever made that directory
/// removes it, and nothing of it is ever used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The name cannot be used.
    #[error("unpack entry {entry}: {fault}")]
    Name {
        /// The entry.
        entry: EntryName,
        /// What is wrong with its name.
        fault: NameFault,
    },
    /// The same name twice.
    #[error("unpack entry {entry}: the archive has this name twice; keep one")]
    Duplicate {
        /// The entry.
        entry: EntryName,
    },
    /// Two names that a file system without case or with another Unicode form takes for one.
    #[error("unpack entry {entry}: the name differs from {other} only by case or Unicode form; rename one")]
    Collision {
        /// The entry.
        entry: EntryName,
        /// The name that was there first.
        other: EntryName,
    },
    /// A file or link where a directory is needed (CVE-2025-66626, CVE-2025-29787).
    #[error("unpack entry {entry}: {parent} is a {kind}, not a directory; nothing is written below it")]
    NotADirectory {
        /// The entry.
        entry: EntryName,
        /// What should have been a directory.
        parent: EntryName,
        /// `file` or `symbolic link`.
        kind: &'static str,
    },
    /// A device, FIFO or socket.
    #[error("unpack entry {entry}: it is {kind}; only files, directories and links are allowed")]
    Special {
        /// The entry.
        entry: EntryName,
        /// What it is.
        kind: SpecialKind,
    },
    /// A symbolic link that does not lead to something in the tree.
    #[error("unpack entry {entry}: symbolic link to {target}: {fault}")]
    Link {
        /// The link.
        entry: EntryName,
        /// Its target.
        target: EntryName,
        /// What is wrong with it.
        fault: LinkFault,
    },
    /// A hard link to something that is not an earlier file of the archive.
    #[error(
        "unpack entry {entry}: hard link to {target}, which is no earlier file of the archive; pack a copy instead"
    )]
    HardLink {
        /// The link.
        entry: EntryName,
        /// Its target.
        target: EntryName,
    },
    /// More entries than [`Limits::entries`](super::Limits::entries).
    #[error("unpack entry {entry}: the archive has more than {limit} files, links and directories")]
    TooManyEntries {
        /// The first one too many.
        entry: EntryName,
        /// Entries allowed.
        limit: u64,
    },
    /// More bytes than [`Limits::unpacked_bytes`](super::Limits::unpacked_bytes).
    #[error("unpack entry {entry}: the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// Where the limit was reached.
        entry: EntryName,
        /// Bytes allowed.
        limit: u64,
    },
    /// A file larger than [`Limits::file_bytes`](super::Limits::file_bytes).
    #[error("unpack entry {entry}: the file has more than {limit} bytes")]
    FileTooLarge {
        /// The file.
        entry: EntryName,
        /// Bytes allowed.
        limit: u64,
    },
    /// A bomb: see [`Limits::ratio`](super::Limits::ratio).
    #[error("unpack entry {entry}: the archive unpacks to more than {limit} times its size")]
    Ratio {
        /// Where the limit was reached.
        entry: EntryName,
        /// Unpacked bytes allowed for each packed one.
        limit: u64,
    },
    /// An entry whose headers disagree, or use what other tools read in another way (CVE-2025-62518).
    #[error("unpack entry {entry}: {fault}")]
    Tar {
        /// The entry.
        entry: EntryName,
        /// What is wrong with it.
        fault: TarFault,
    },
    /// A zip entry that cannot be read in one way only.
    #[error("unpack entry {entry}: {fault}")]
    Zip {
        /// The entry.
        entry: EntryName,
        /// What is wrong with it.
        fault: ZipFault,
    },
    /// A zip directory that takes more memory than the names of all entries that are allowed.
    #[error(
        "unpack zip: the directory at its end has {bytes} bytes, and at most {limit} are allowed; pack fewer files"
    )]
    DirectoryTooLarge {
        /// Bytes from where it begins.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A Zstandard stream with a larger window than is allowed.
    #[error(
        "unpack tar.zst: the archive needs more than 32 MiB of memory to be unpacked; pack it without --long and --ultra"
    )]
    WindowTooLarge,
    /// The bytes are not what the format says.
    #[error("unpack {format}: the archive is damaged or ambiguous: {cause}")]
    Malformed {
        /// The format.
        format: Format,
        /// What the decoder says.
        cause: String,
    },
    /// No format that is known.
    #[error("unpack: the file is none of tar, tar.gz, tar.zst and zip (its first bytes tell, not its name)")]
    UnknownFormat,
    /// A page for people, such as that of a repository or of a login.
    #[error(
        "unpack: the file is a web page (HTML), none of tar, tar.gz, tar.zst and zip: if this is a repository, set type: git"
    )]
    WebPage,
    /// No file in it.
    #[error("unpack: the archive holds no file")]
    Empty,
    /// The directory to unpack into holds something.
    #[error("unpack: the staging directory is not empty")]
    NotEmpty,
    /// The archive could not be read from disk, or the source of a file failed.
    #[error("unpack entry {entry}: read: {source}")]
    Read {
        /// What was being read.
        entry: EntryName,
        /// Why.
        source: io::Error,
    },
    /// The tree could not be written.
    #[error("unpack entry {entry}: write: {source}")]
    Write {
        /// What was being written.
        entry: EntryName,
        /// Why.
        source: io::Error,
    },
}

/// What is wrong with a tar entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarFault {
    /// Any of GNU's sparse forms.
    #[error("it is a sparse file; pack it without --sparse")]
    Sparse,
    /// A type flag that is not for a file, directory or link.
    #[error("it has the unknown type flag {0:?}; only files, directories and links are allowed")]
    UnknownType(char),
    /// PAX `size` is not the header's size.
    #[error("its PAX header says {pax} bytes and its tar header {header}; readers would disagree about what follows")]
    SizeMismatch {
        /// What the PAX record says.
        pax: String,
        /// What the header says, in bytes.
        header: u64,
    },
    /// A link or directory with data.
    #[error("it is a {kind} with {bytes} bytes of data; readers would disagree about what follows")]
    UnexpectedData {
        /// `directory`, `symbolic link` or `hard link`.
        kind: &'static str,
        /// Bytes of data.
        bytes: u64,
    },
    /// A size in base-256 that is negative or too large.
    #[error("its size is negative or larger than any file can be")]
    SizeOverflow,
    /// The data ends before the size that the header gives.
    #[error("it ends after {got} of {size} bytes; the archive is cut short")]
    Truncated {
        /// Bytes that were there.
        got: u64,
        /// Bytes that the header promises.
        size: u64,
    },
    /// A global PAX header that changes names, targets or sizes.
    #[error("the global PAX header sets {0:?}; only comments and times may be set for all entries")]
    PaxGlobal(String),
    /// Records that do not parse, or one key twice.
    #[error("its PAX header is damaged: {0}")]
    PaxMalformed(&'static str),
    /// GNU and PAX long names for the same entry, or one of them twice.
    #[error("it is named by more than one extension header; readers would disagree about its name")]
    NamedTwice,
    /// Larger extension header than any name needs.
    #[error("its extension header has {bytes} bytes; at most {limit} are allowed")]
    ExtensionTooLarge {
        /// Bytes of the header's data.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// An extension header with no entry after it.
    #[error("its extension header is the last of the archive; the archive is cut short")]
    ExtensionWithoutEntry,
}

/// What is wrong with a zip entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZipFault {
    /// Encrypted.
    #[error("it is encrypted; pack it without a password")]
    Encrypted,
    /// Neither stored nor deflated.
    #[error("it is compressed as {0}; only stored and deflated entries are allowed")]
    Method(String),
    /// More or fewer bytes than the directory says.
    #[error("it unpacks to other than the {size} bytes that the zip directory gives")]
    SizeMismatch {
        /// Bytes according to the directory.
        size: u64,
    },
    /// The name ends with `/` and the mode says otherwise, or the reverse.
    #[error("its name and its mode disagree on whether it is a directory")]
    KindMismatch,
    /// A mode that is of no known kind.
    #[error("its mode {0:o} is that of no file, directory or link")]
    UnknownKind(u32),
}

impl UnpackError {
    /// Whether trying again may help without a change of the archive: disk full, I/O error.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Write { .. })
    }
}
