//! From what a source asks for to one manifest, and from its layers to a tree.

use std::io::Read as _;
use std::path::Path;

use semver::VersionReq;

use super::client::{RawManifest, Repository};
use super::fault::OciFault;
use super::layout::{Layout, Part, layout};
use super::manifest::{Descriptor, Document, only, parse};
use super::reference::{OciRef, Reference, Tag};
use crate::archive::{self, EntryName, Limits, TreeSummary, TreeWriter, UnpackError, UnpackOptions};
use crate::digest::Digest;
use crate::source::error::SourceError;
use crate::source::fetcher::blocking;
use crate::source::spool::{MEMORY_BYTES, Spool, Spooled, SpooledReader};
use crate::source::version;

/// What a source means now.
pub(in crate::source) struct Found {
    /// `<tag>@sha256:<64 hex digits>`, or `sha256:<64 hex digits>` for a pin.
    pub revision: String,
    /// The digest of the manifest, and what to fetch; `None` if the revision is the one that was known.
    pub layout: Option<(Digest, Layout)>,
}

/// Find out what `wanted` means. A known tag that has not moved costs one request for its head; a pin that is known, none.
pub(in crate::source) async fn resolve(
    repository: &Repository,
    wanted: &OciRef,
    known: Option<&str>,
) -> Result<Found, SourceError> {
    let tag = match wanted {
        OciRef::Digest(digest) => {
            let revision = digest.to_string();
            if known == Some(revision.as_str()) {
                return Ok(Found { revision, layout: None });
            }
            let manifest = repository.manifest(&Reference::Digest(*digest)).await?;
            return Ok(Found { revision, layout: Some((*digest, layout_of(repository, manifest).await?)) });
        }
        OciRef::Tag(tag) => tag.clone(),
        OciRef::Range(range) => {
            let what = || format!("tag with a semantic version in the range \"{range}\"");
            highest(repository, range).await?.ok_or_else(|| missing(repository, what()))?
        }
        OciRef::TagOrRange(tag, range) => match tagged(repository, tag, known).await {
            Err(SourceError::RefNotFound { .. }) => {
                let what = || format!("tag {:?}, and no tag with a semantic version in that range", tag.as_str());
                highest(repository, range).await?.ok_or_else(|| missing(repository, what()))?
            }
            found => return found,
        },
    };
    tagged(repository, &tag, known).await
}

fn missing(repository: &Repository, what: String) -> SourceError {
    SourceError::RefNotFound { url: repository.url().to_string(), what }
}

/// The tag with the highest version in `range`.
async fn highest(repository: &Repository, range: &VersionReq) -> Result<Option<Tag>, SourceError> {
    let tags = repository.tags().await?;
    let highest = version::highest(range, tags.iter().map(|tag| (tag.as_str(), tag)));
    Ok(highest.map(|(_, tag)| tag.clone()))
}

/// What `tag` means now.
async fn tagged(repository: &Repository, tag: &Tag, known: Option<&str>) -> Result<Found, SourceError> {
    let revision = |digest: &Digest| format!("{}@{digest}", tag.as_str());
    if let Some(known) =
        known.filter(|known| known.strip_prefix(tag.as_str()).is_some_and(|rest| rest.starts_with('@')))
        && let Some(announced) = repository.announced(tag).await?
        && revision(&announced) == known
    {
        return Ok(Found { revision: known.to_owned(), layout: None });
    }
    let manifest = repository.manifest(&Reference::Tag(tag.clone())).await?;
    let digest = manifest.digest;
    let revision = revision(&digest);
    if known == Some(revision.as_str()) {
        return Ok(Found { revision, layout: None });
    }
    Ok(Found { revision, layout: Some((digest, layout_of(repository, manifest).await?)) })
}

async fn layout_of(repository: &Repository, manifest: RawManifest) -> Result<Layout, SourceError> {
    let fault = |fault| repository.fault(fault);
    let manifest = match parse(&manifest.bytes).map_err(fault)? {
        Document::Manifest(manifest) => manifest,
        Document::Index(list) => {
            let digest = only(&list).map_err(fault)?.digest;
            let inner = repository.manifest(&Reference::Digest(digest)).await?;
            match parse(&inner.bytes).map_err(fault)? {
                Document::Manifest(manifest) => manifest,
                Document::Index(_) => return Err(fault(OciFault::NestedIndex)),
            }
        }
    };
    layout(&manifest).map_err(fault)
}

/// Download all blobs of `layout`, check them, then write the tree to the existing, empty directory `dest`. Says how many
/// bytes came.
pub(in crate::source) async fn receive(
    repository: &Repository,
    layout: Layout,
    dest: &Path,
    limits: Limits,
) -> Result<(u64, TreeSummary), SourceError> {
    let mut left = repository.session().door.options.max_download_bytes;
    let whole = left;
    let mut memory = MEMORY_BYTES;
    let url = repository.url().to_string();
    let mut download = async |blob: &Descriptor| -> Result<Spooled, SourceError> {
        let too_large = |_| SourceError::TooLarge { url: url.clone(), limit: whole };
        left = left.checked_sub(blob.size).ok_or(()).map_err(too_large)?;
        let content = stored(repository, blob, memory).await?;
        memory -= content.in_memory();
        Ok(content)
    };
    let fetched = match layout {
        Layout::Archive(blob) => Fetched::Archive(download(&blob).await?),
        Layout::Parts(parts) => {
            let mut fetched = Vec::with_capacity(parts.len());
            for part in parts {
                let content = download(&part.blob).await?;
                fetched.push((part, content));
            }
            Fetched::Parts(fetched)
        }
    };
    let dest = dest.to_owned();
    let tree = blocking(move || fetched.write(&dest, limits, &url)).await?;
    Ok((whole - left, tree))
}

/// A blob, once all of it has been checked. At most `memory` bytes of it stay there.
async fn stored(repository: &Repository, descriptor: &Descriptor, memory: usize) -> Result<Spooled, SourceError> {
    let mut spool = Spool::new(&repository.session().door.options.work_dir, memory);
    let mut blob = repository.open(descriptor, descriptor.size).await?;
    while let Some(bytes) = blob.chunk().await? {
        spool.write(&bytes).await?;
    }
    spool.finish().await
}

/// A layout whose blobs are here.
enum Fetched {
    Archive(Spooled),
    Parts(Vec<(Part, Spooled)>),
}

impl Fetched {
    fn write(self, dest: &Path, limits: Limits, url: &str) -> Result<TreeSummary, SourceError> {
        let refused = |source| SourceError::Unpack { url: url.to_owned(), source };
        let mut writer = TreeWriter::new(dest, limits).map_err(refused)?;
        match self {
            Self::Archive(content) => {
                let options = UnpackOptions { strip_single_top_level: true };
                archive::unpack(content.reader()?, &mut writer, options).map_err(refused)?;
            }
            Self::Parts(parts) => {
                for (part, content) in parts {
                    write_part(&part, content.reader()?, &mut writer).map_err(refused)?;
                }
            }
        }
        writer.finish().map_err(refused)
    }
}

/// A file that begins with `#!` is executable: its layer has no mode.
fn write_part(part: &Part, mut bytes: SpooledReader, writer: &mut TreeWriter) -> Result<(), UnpackError> {
    if part.is_directory {
        return archive::unpack(bytes, writer, UnpackOptions::default()).map(drop);
    }
    let mut head = Vec::with_capacity(2);
    let unread = |source| UnpackError::Read { entry: EntryName::new(part.path.as_str()), source };
    bytes.by_ref().take(2).read_to_end(&mut head).map_err(unread)?;
    let executable = head == b"#!";
    writer.file(part.path.as_str().as_bytes(), executable, &mut head.as_slice().chain(bytes)).map(drop)
}
