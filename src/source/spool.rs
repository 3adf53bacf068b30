//! What was downloaded, until it is unpacked: in memory while it is small, else in a temporary file.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::error::SourceError;

/// Bytes of one source that are kept in memory at most; most extensions are smaller. What is larger goes to a file as a whole.
pub(super) const MEMORY_BYTES: usize = 128 << 10;
/// Bytes that are written to a file at once: each write costs a change of threads.
const WRITE_BYTES: usize = 64 << 10;

/// Bytes that still come.
pub(super) struct Spool<'a> {
    directory: &'a Path,
    most: usize,
    content: Content,
}

enum Content {
    Memory(Vec<u8>),
    File(NamedTempFile, BufWriter<tokio::fs::File>),
}

/// Bytes that have come. A file is removed on drop.
#[derive(Debug)]
pub(super) enum Spooled {
    /// They are few.
    Memory(Arc<[u8]>),
    /// They are many.
    File(NamedTempFile),
}

/// Reads them from the beginning.
pub(super) enum SpooledReader {
    Memory(Cursor<Arc<[u8]>>),
    File(File),
}

impl<'a> Spool<'a> {
    /// Nothing has come yet. More than `most` bytes go to a file in `directory`, as a whole.
    pub(super) fn new(directory: &'a Path, most: usize) -> Self {
        Self { directory, most, content: Content::Memory(Vec::new()) }
    }

    /// Add `bytes`.
    ///
    /// # Errors
    /// If the file cannot be made or written.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), SourceError> {
        if let Content::Memory(memory) = &mut self.content {
            if memory.len() + bytes.len() <= self.most {
                memory.extend_from_slice(bytes);
                return Ok(());
            }
            let memory = std::mem::take(memory);
            let file = NamedTempFile::new_in(self.directory).map_err(failed("create a temporary file"))?;
            let out = tokio::fs::File::from_std(reopen(&file)?);
            let mut out = BufWriter::with_capacity(WRITE_BYTES, out);
            out.write_all(&memory).await.map_err(failed("write the temporary file"))?;
            self.content = Content::File(file, out);
        }
        if let Content::File(_, out) = &mut self.content {
            out.write_all(bytes).await.map_err(failed("write the temporary file"))?;
        }
        Ok(())
    }

    /// All have come.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) async fn finish(self) -> Result<Spooled, SourceError> {
        match self.content {
            Content::Memory(memory) => Ok(Spooled::Memory(memory.into())),
            Content::File(file, mut out) => {
                out.flush().await.map_err(failed("write the temporary file"))?;
                Ok(Spooled::File(file))
            }
        }
    }
}

impl Spooled {
    /// Bytes that it takes of the memory.
    pub(super) fn in_memory(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::File(_) => 0,
        }
    }

    /// A reader of its own.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(super) fn reader(&self) -> Result<SpooledReader, SourceError> {
        Ok(match self {
            Self::Memory(bytes) => SpooledReader::Memory(Cursor::new(Arc::clone(bytes))),
            Self::File(file) => SpooledReader::File(reopen(file)?),
        })
    }
}

impl Read for SpooledReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Memory(bytes) => bytes.read(buffer),
            Self::File(file) => file.read(buffer),
        }
    }
}

impl Seek for SpooledReader {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Memory(bytes) => bytes.seek(position),
            Self::File(file) => file.seek(position),
        }
    }
}

fn reopen(file: &NamedTempFile) -> Result<File, SourceError> {
    file.reopen().map_err(failed("open the temporary file"))
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> SourceError {
    move |source| SourceError::Io { action, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn spooled(directory: &Path, parts: &[&[u8]]) -> Spooled {
        let mut spool = Spool::new(directory, MEMORY_BYTES);
        for part in parts {
            spool.write(part).await.unwrap();
        }
        spool.finish().await.unwrap()
    }

    fn read(spooled: &Spooled) -> Vec<u8> {
        let mut bytes = vec![];
        spooled.reader().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn what_is_small_stays_in_memory_and_what_is_not_goes_to_a_file_that_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        let half: Vec<u8> = (0..MEMORY_BYTES / 2).map(|number| (number % 251) as u8).collect();
        let small = spooled(directory.path(), &[&half, &half]).await;
        assert_eq!((files(), read(&small)), (0, [&half[..], &half].concat()));
        assert_eq!(small.in_memory(), MEMORY_BYTES);
        let large = spooled(directory.path(), &[&half, &half, b"1", &half]).await;
        assert_eq!(large.in_memory(), 0);
        assert_eq!((files(), read(&large)), (1, [&half[..], &half, b"1", &half].concat()));
        assert_eq!(read(&large), read(&large), "each reader begins at the beginning");
        drop(large);
        assert_eq!(files(), 0);
        assert!(read(&spooled(directory.path(), &[]).await).is_empty());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_made_is_said() {
        let mut spool = Spool::new(Path::new("/nonexistent"), MEMORY_BYTES);
        let error = spool.write(&vec![0; MEMORY_BYTES + 1]).await.unwrap_err();
        assert!(error.to_string().contains("create a temporary file"), "{error}");
    }
}
