//! Resolve a source to a pinned revision, then fetch what was resolved into a staging directory.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config_map::ConfigMapFiles;
use super::credentials::Credentials;
use super::door::{Door, FetchOptions, Session};
use super::download::{self, Downloaded, Validators};
use super::error::SourceError;
use super::git::{self, GitRef, Selected};
use super::oci::{self, Layout, OciRef, OciUrl, Repository};
use super::resolver::{Lookup, SystemLookup};
use super::signature::{self, Verify};
use super::spool::Spooled;
use super::url::{SourceUrl, UrlFault};
use crate::archive::{self, Limits, TreeSummary, TreeWriter, UnpackOptions};
use crate::digest::Digest;
use crate::signature::Verified;

/// Bytes that [`Fetcher::fetch_text_if_changed`] reads at most: what a manifest may have.
pub const MAX_TEXT_BYTES: u64 = 1 << 20;

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A git repository.
    Git {
        /// Where it is. `.git` may end it or not, as the server likes.
        url: SourceUrl,
        /// Which commit; `None` is the remote's `HEAD`.
        refs: Option<GitRef>,
    },
    /// A tar (plain, gzip or Zstandard) or zip file.
    Archive {
        /// Where it is.
        url: SourceUrl,
        /// What its bytes must be.
        digest: Option<Digest>,
        /// Who must have signed them.
        verify: Option<Verify>,
    },
    /// An artifact in a registry.
    Oci {
        /// The repository.
        repository: OciUrl,
        /// Which of its manifests.
        refs: OciRef,
        /// Who must have signed it.
        verify: Option<Verify>,
    },
    /// A ConfigMap, which the caller has read: nothing is left to download.
    ConfigMap(ConfigMapFiles),
}

impl Request {
    /// The same request without the bytes that it brings: enough to recognise it by.
    pub fn without_content(&self) -> Self {
        match self {
            Self::ConfigMap(files) => Self::ConfigMap(files.without_content()),
            other => other.clone(),
        }
    }

    /// Who must have signed what is fetched.
    pub fn verify(&self) -> Option<&Verify> {
        match self {
            Self::Archive { verify, .. } | Self::Oci { verify, .. } => verify.as_ref(),
            Self::Git { .. } | Self::ConfigMap(_) => None,
        }
    }

    /// Whether what is known of `previous` is as much as is asked for: a signature with a key that is trusted now.
    fn accepts(&self, previous: &Resolved) -> bool {
        let trusted = |verify: &Verify| previous.verified.as_ref().is_some_and(|verified| verify.keys.trust(verified));
        self.verify().is_none_or(trusted)
    }

    /// What tells this request from others; pin and keys do not, as they change nothing about where the bytes are.
    fn identity(&self) -> Digest {
        match self {
            Self::Git { url, refs } => Digest::of(format!("git\n{}\n{refs:?}", url.as_url())),
            Self::Archive { url, .. } => Digest::of(format!("archive\n{}", url.as_url())),
            Self::Oci { repository, .. } => Digest::of(format!("oci\n{repository:?}")),
            Self::ConfigMap(files) => Digest::of(format!("configmap\n{}", files.name())),
        }
    }
}

/// A revision that a request was resolved to. To be given to the next [`Fetcher::resolve`], so that what did not change
/// is not fetched again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// `main@sha1:<40 hex digits>` or `sha1:<40 hex digits>` for git, `sha256:<64 hex digits>` of the bytes for an archive,
    /// `<tag>@sha256:<64 hex digits>` or `sha256:<64 hex digits>` of the manifest for a registry,
    /// `configmap/<name>@sha256:<64 hex digits>` for a ConfigMap.
    pub revision: String,
    /// Whose signature stands for it, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    request: Digest,
    #[serde(default)]
    validators: Validators,
}

impl Resolved {
    /// What is known of `request` where only revision and signature were kept: without [`recognised_by`](Self::recognised_by)
    /// an archive is downloaded once more.
    pub fn known(request: &Request, revision: &str, verified: Option<Verified>) -> Self {
        let validators = Validators::default();
        Self { revision: revision.to_owned(), verified, request: request.identity(), validators }
    }

    /// With what its server said of it when it was resolved, for the same request.
    pub fn recognised_by(self, etag: Option<String>, last_modified: Option<String>) -> Self {
        Self { validators: Validators { etag, last_modified }, ..self }
    }

    /// The archive's `ETag`, as sent.
    pub fn etag(&self) -> Option<&str> {
        self.validators.etag.as_deref()
    }

    /// The archive's `Last-Modified`, as sent.
    pub fn last_modified(&self) -> Option<&str> {
        self.validators.last_modified.as_deref()
    }
}

/// What [`Fetcher::resolve`] found.
#[derive(Debug)]
pub enum Resolution {
    /// What was there before.
    Unchanged(Resolved),
    /// Something else, to be given to [`Fetcher::fetch`].
    Changed(Pending),
}

/// Something resolved that is not unpacked yet. An archive is already downloaded, pinned digest and signature have been
/// checked, and it is removed on drop.
#[derive(Debug)]
pub struct Pending {
    resolved: Resolved,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Archive { url: SourceUrl, content: Spooled, bytes: u64 },
    Git { url: SourceUrl, selected: Selected },
    Oci { repository: OciUrl, layout: Box<Layout> },
    ConfigMap(ConfigMapFiles),
}

impl Pending {
    /// What was resolved.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }
}

/// What [`Fetcher::fetch`] wrote.
#[derive(Debug)]
pub struct Fetched {
    /// What was resolved, to be remembered once the tree is published.
    pub resolved: Resolved,
    /// Bytes that came over the network for it.
    pub bytes_downloaded: u64,
    /// What the tree holds.
    pub tree: TreeSummary,
}

/// Fetches sources through one filtered client.
#[derive(Clone)]
pub struct Fetcher {
    door: Arc<Door>,
    git_turns: git::Turns,
}

impl Fetcher {
    /// A fetcher that looks names up with the system's resolver.
    ///
    /// # Errors
    /// [`SourceError::Client`] if the proxy cannot be used.
    pub fn new(options: FetchOptions) -> Result<Self, SourceError> {
        Self::with_lookup(options, Arc::new(SystemLookup))
    }

    /// A fetcher that looks names up with `lookup`.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_lookup(options: FetchOptions, lookup: Arc<dyn Lookup>) -> Result<Self, SourceError> {
        // An error says that the process has a provider already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self { door: Arc::new(Door::new(options, lookup)?), git_turns: git::Turns::default() })
    }

    /// Find out which revision `request` means now. An unchanged git ref costs one listing of refs, an unchanged archive
    /// one conditional request, an unchanged tag of a registry one request for its head, and what is pinned to a commit or digest that is already there costs nothing.
    ///
    /// # Errors
    /// [`SourceError`]; nothing is left behind.
    pub async fn resolve(
        &self,
        request: &Request,
        credentials: Option<&Credentials>,
        previous: Option<&Resolved>,
    ) -> Result<Resolution, SourceError> {
        let open = |url: &SourceUrl| -> Result<Session, SourceError> {
            credentials.map_or(Ok(()), Credentials::check_no_registry)?;
            let session = self.door.session(credentials)?;
            session.check_origin(url.origin(), url)?;
            Ok(session)
        };
        let identity = request.identity();
        let previous = previous.filter(|previous| previous.request == identity && request.accepts(previous));
        match request {
            Request::ConfigMap(files) => {
                let validators = Validators::default();
                let resolved = Resolved { revision: files.revision(), verified: None, request: identity, validators };
                Ok(match previous.is_some_and(|previous| previous.revision == resolved.revision) {
                    true => Resolution::Unchanged(resolved),
                    false => Resolution::Changed(Pending { resolved, material: Material::ConfigMap(files.clone()) }),
                })
            }
            Request::Archive { url, digest, verify } => {
                let session = open(url)?;
                let pin = digest.map(|digest| digest.to_string());
                if let Some(previous) = previous.filter(|previous| pin.as_ref() == Some(&previous.revision)) {
                    return Ok(Resolution::Unchanged(previous.clone()));
                }
                // Where the pin has changed, the server's word that nothing has changed is of no use.
                let known = previous.filter(|_| pin.is_none());
                let Some(downloaded) = download::download(&session, url, known.map(|known| &known.validators)).await?
                else {
                    return known.cloned().map(Resolution::Unchanged).ok_or_else(|| SourceError::Status {
                        url: url.to_string(),
                        status: 304,
                        retry_after: None,
                    });
                };
                if let Some(expected) = digest.filter(|digest| *digest != downloaded.digest) {
                    return Err(SourceError::DigestMismatch {
                        url: url.to_string(),
                        expected,
                        actual: downloaded.digest,
                    });
                }
                let revision = downloaded.digest.to_string();
                let unchanged = previous.filter(|previous| previous.revision == revision);
                let verified = match (verify, unchanged) {
                    (None, _) => None,
                    (Some(_), Some(unchanged)) => unchanged.verified.clone(),
                    (Some(verify), None) => Some(signature::verify_archive(&session, url, verify, &downloaded).await?),
                };
                let Downloaded { content, bytes, validators, .. } = downloaded;
                let resolved = Resolved { revision, verified, request: identity, validators };
                if unchanged.is_some() {
                    return Ok(Resolution::Unchanged(resolved));
                }
                let material = Material::Archive { url: url.clone(), content, bytes };
                Ok(Resolution::Changed(Pending { resolved, material }))
            }
            Request::Oci { repository, refs, verify } => {
                let session = self.repository(repository, credentials)?;
                let known = previous.map(|previous| previous.revision.as_str());
                let found = oci::resolve(&session, refs, known).await?;
                let verified = match (verify, &found.layout) {
                    (None, _) => None,
                    (Some(_), None) => previous.and_then(|previous| previous.verified.clone()),
                    (Some(verify), Some((digest, _))) => Some(oci::verify(&session, digest, &verify.keys).await?),
                };
                let validators = Validators::default();
                let resolved = Resolved { revision: found.revision, verified, request: identity, validators };
                Ok(match found.layout {
                    None => Resolution::Unchanged(resolved),
                    Some((_, layout)) => {
                        let material = Material::Oci { repository: repository.clone(), layout: Box::new(layout) };
                        Resolution::Changed(Pending { resolved, material })
                    }
                })
            }
            Request::Git { url, .. } if url.as_url().query().is_some() => Err(SourceError::Url(UrlFault::Query)),
            Request::Git { url, refs } => {
                let session = open(url)?;
                let selected = match refs {
                    Some(GitRef::Commit(id)) => Selected::commit(*id),
                    _ => self.select(session, url, refs.as_ref()).await?,
                };
                if let Some(previous) = previous.filter(|previous| previous.revision == selected.revision) {
                    return Ok(Resolution::Unchanged(previous.clone()));
                }
                let resolved = Resolved {
                    revision: selected.revision.clone(),
                    verified: None,
                    request: identity,
                    validators: Validators::default(),
                };
                let material = Material::Git { url: url.clone(), selected };
                Ok(Resolution::Changed(Pending { resolved, material }))
            }
        }
    }

    async fn select(&self, session: Session, url: &SourceUrl, refs: Option<&GitRef>) -> Result<Selected, SourceError> {
        let advertised = git::list_refs(git::Exchange::new(session, url.clone()), refs.cloned()).await?;
        git::select(refs, &advertised).ok_or_else(|| SourceError::RefNotFound {
            url: url.to_string(),
            what: refs.map_or_else(|| "default branch (it is empty?); name one in refs".to_owned(), GitRef::to_string),
        })
    }

    /// Write what was resolved into the existing, empty directory `dest`.
    ///
    /// # Errors
    /// [`SourceError`]; `dest` may then hold a part, which must not be used.
    pub async fn fetch(
        &self,
        pending: Pending,
        credentials: Option<&Credentials>,
        dest: &Path,
        limits: Limits,
    ) -> Result<Fetched, SourceError> {
        let Pending { resolved, material } = pending;
        let (bytes_downloaded, tree) = match material {
            Material::Archive { url, content, bytes } => (bytes, unpack(content, &url, dest, limits).await?),
            Material::ConfigMap(files) => {
                let dest = dest.to_owned();
                (0, blocking(move || files.write(&dest, limits)).await?)
            }
            Material::Oci { repository, layout } => {
                oci::receive(&self.repository(&repository, credentials)?, *layout, dest, limits).await?
            }
            Material::Git { url, selected } => {
                let session = self.door.session(credentials)?;
                session.check_origin(url.origin(), &url)?;
                let (exchange, turns) = (git::Exchange::new(session, url), self.git_turns.clone());
                git::receive_commit(exchange, selected, dest.to_owned(), limits, turns).await?
            }
        };
        Ok(Fetched { resolved, bytes_downloaded, tree })
    }

    /// A repository of a registry, to read what it holds besides a source's layers, such as signatures. It is good for one
    /// resolve or fetch: all its requests share one deadline.
    ///
    /// # Errors
    /// [`SourceError`] if the credentials may not be sent there, or have no login for the registry.
    pub fn repository(
        &self,
        repository: &OciUrl,
        credentials: Option<&Credentials>,
    ) -> Result<Repository, SourceError> {
        Repository::new(self.door.session(credentials)?, repository)
    }

    /// The bytes of a small text at `url`, at most [`MAX_TEXT_BYTES`], with what the server recognises it by; `None` if it says
    /// that the text is still the one that `known` describes.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn fetch_text_if_changed(
        &self,
        url: &SourceUrl,
        credentials: Option<&Credentials>,
        known: Option<&Validators>,
    ) -> Result<Option<(Vec<u8>, Validators)>, SourceError> {
        let session = self.door.session(credentials)?;
        session.check_origin(url.origin(), url)?;
        download::read_if_changed(&session, url, MAX_TEXT_BYTES, known).await
    }
}

async fn unpack(content: Spooled, url: &SourceUrl, dest: &Path, limits: Limits) -> Result<TreeSummary, SourceError> {
    let dest = dest.to_owned();
    let unpacked = blocking(move || {
        let mut packed = content.reader()?;
        let written = TreeWriter::new(&dest, limits).and_then(|mut writer| {
            archive::unpack(&mut packed, &mut writer, UnpackOptions { strip_single_top_level: true })?;
            writer.finish()
        });
        Ok(written)
    });
    unpacked.await?.map_err(|source| SourceError::Unpack { url: url.to_string(), source })
}

/// Run `work`, which blocks, beside the tasks that must not.
pub(super) async fn blocking<T, F>(work: F) -> Result<T, SourceError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SourceError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(SourceError::Io { action: "unpack", source: std::io::Error::other(error.to_string()) })
    })
}
