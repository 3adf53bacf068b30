//! Why a source could not be resolved or fetched, and what helps.

use std::time::Duration;

use super::address::DeniedAddress;
use super::credentials::CredentialsFault;
use super::git::RefFault;
use super::oci::OciFault;
use super::url::{Origin, UrlFault};
use crate::api::reason::{FailureClass, Reason};
use crate::archive::UnpackError;
use crate::digest::Digest;
use crate::signature::SignatureFault;

/// Why a source could not be resolved or fetched. No text holds a credential or the query of a URL.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The URL cannot be used.
    #[error("source url: {0}")]
    Url(#[from] UrlFault),
    /// `refs` cannot be used.
    #[error("source refs: {0}")]
    Ref(#[from] RefFault),
    /// The Secret cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsFault),
    /// The Secret is not for this server.
    #[error(
        "fetch {url}: Secret {secret:?} may not be sent to {origin}; its annotation outrigger.dev/allowed-origins allows {}",
        list(.allowed)
    )]
    OriginNotAllowed {
        /// What was to be fetched, masked.
        url: String,
        /// The Secret's name.
        secret: String,
        /// Where its content would have gone.
        origin: Origin,
        /// Where it may go.
        allowed: Vec<Origin>,
    },
    /// The filter refused every address of the host.
    #[error("fetch {url}: connect to {host}: {denied}")]
    AddressDenied {
        /// What was to be fetched, masked.
        url: String,
        /// The host.
        host: String,
        /// The address, and why.
        denied: DeniedAddress,
    },
    /// 401 or 403.
    #[error("fetch {url}: the server refused access (HTTP {status}); {}", access_hint(.with_credentials))]
    AuthenticationFailed {
        /// What was to be fetched, masked.
        url: String,
        /// HTTP status.
        status: u16,
        /// Whether credentials were sent.
        with_credentials: bool,
    },
    /// 404 or 410.
    #[error("fetch {url}: not found (HTTP {status}); check the URL, and whether it needs credentials (secretRef)")]
    NotFound {
        /// What was to be fetched, masked.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The repository has no such ref.
    #[error("fetch {url}: the repository has no {what}")]
    RefNotFound {
        /// The repository, masked.
        url: String,
        /// Which ref, in words.
        what: String,
    },
    /// Another status than a good one.
    #[error("fetch {url}: the server answered HTTP {status}")]
    Status {
        /// What was to be fetched, masked.
        url: String,
        /// HTTP status.
        status: u16,
        /// What `Retry-After` asks for.
        retry_after: Option<Duration>,
    },
    /// A redirect that is not followed.
    #[error("fetch {url}: redirect refused: {fault}")]
    Redirect {
        /// What redirected, masked.
        url: String,
        /// Why.
        fault: RedirectFault,
    },
    /// The bytes are not the pinned ones.
    #[error("fetch {url}: the bytes have digest {actual}, but the source pins {expected}")]
    DigestMismatch {
        /// What was fetched, masked.
        url: String,
        /// The pin.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// Nobody signed it, as far as can be found.
    #[error("verify {url}: no signature at {}; {help}", .tried.join(" or "))]
    SignatureMissing {
        /// What was fetched, masked.
        url: String,
        /// Where a signature was looked for, masked.
        tried: Vec<String>,
        /// What to do.
        help: &'static str,
    },
    /// A signature that does not count.
    #[error("verify {url}: the signature at {signature} {fault} ({secret})")]
    SignatureInvalid {
        /// What was fetched, masked.
        url: String,
        /// Where the signature is, masked.
        signature: String,
        /// The Secret with the keys, in words.
        secret: String,
        /// Why it does not count.
        fault: Box<SignatureFault>,
    },
    /// A text in a form that was not asked for.
    #[error(
        "fetch {url}: the server sends the text as {encoding:?} (Content-Encoding), though asked not to; have it served as it \
         is"
    )]
    Encoded {
        /// What was to be fetched, masked.
        url: String,
        /// What the server says.
        encoding: String,
    },
    /// More bytes than allowed.
    #[error("fetch {url}: larger than the {limit} bytes that are allowed")]
    TooLarge {
        /// What was to be fetched, masked.
        url: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// One object of a repository that is larger than what is held in memory.
    #[error("fetch {url}: an object of the repository needs more than {limit} bytes of memory; use an archive")]
    ObjectTooLarge {
        /// The repository, masked.
        url: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// Objects of a repository that are changes of each other, and larger together than what is held in memory.
    #[error(
        "fetch {url}: objects of the repository that are changes of each other need more than {limit} bytes of memory; repack \
         the repository with a smaller --depth, or use an archive"
    )]
    ChangesTooLarge {
        /// The repository, masked.
        url: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// Objects that have more bytes together than any tree within the limits needs.
    #[error(
        "fetch {url}: the objects that the server sends for one commit have more than {limit} bytes; use an archive of what the \
         extension needs"
    )]
    ObjectsTooLarge {
        /// The repository, masked.
        url: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// More objects than a tree within the limits can have.
    #[error(
        "fetch {url}: the server sends {objects} objects for one commit, and at most {limit} are taken; use an archive of \
         what the extension needs"
    )]
    TooManyObjects {
        /// The repository, masked.
        url: String,
        /// Objects announced.
        objects: u32,
        /// Objects allowed.
        limit: u64,
    },
    /// Fewer bytes than announced.
    #[error("fetch {url}: the connection ended after {got} of {announced} bytes")]
    Truncated {
        /// What was to be fetched, masked.
        url: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that Content-Length announced.
        announced: u64,
    },
    /// The server was too slow.
    #[error("fetch {url}: {what} took longer than {} s", .limit.as_secs_f32())]
    TimedOut {
        /// What was to be fetched, masked.
        url: String,
        /// What was waited for.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The network or TLS failed.
    #[error("fetch {url}: {cause}")]
    Network {
        /// What was to be fetched, masked.
        url: String,
        /// Why, without the URL.
        cause: String,
    },
    /// The server does not speak git's smart protocol, or not well.
    #[error("fetch {url}: git: {cause}")]
    Git {
        /// The repository, masked.
        url: String,
        /// Why.
        cause: String,
    },
    /// An artifact that is not taken, or a registry that is not believed.
    #[error("fetch {url}: {fault}")]
    Oci {
        /// The repository, masked.
        url: String,
        /// Why.
        fault: OciFault,
    },
    /// Something in the repository that is not taken.
    #[error("fetch {url}: {path:?} is {kind}")]
    Content {
        /// The repository, masked.
        url: String,
        /// The path in the tree.
        path: String,
        /// What it is, and what to do.
        kind: ContentFault,
    },
    /// The archive or tree was refused.
    #[error("fetch {url}: {source}")]
    Unpack {
        /// What was fetched, masked.
        url: String,
        /// Why.
        source: UnpackError,
    },
    /// The HTTP client could not be set up.
    #[error("set up the HTTP client: {0}")]
    Client(String),
    /// The working directory failed.
    #[error("fetch: {action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectFault {
    /// A chain that is too long.
    #[error("more than {0} redirects")]
    TooMany(usize),
    /// From `https` to `http`.
    #[error("from https to http ({0})")]
    Downgrade(String),
    /// A target that is no URL of a source.
    #[error("{0}")]
    Target(UrlFault),
    /// A redirect without a usable `Location`.
    #[error("it names no location")]
    NoLocation,
    /// A redirect of a request that is not repeated elsewhere.
    #[error("requests that carry more than a URL are not redirected")]
    NotFollowed,
    /// A redirect that leaves git's protocol.
    #[error("it leads to {0}, which is not the same git request")]
    NotGit(String),
}

/// What a repository may not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// A gitlink (CVE-2025-48384).
    #[error("a submodule; submodules are not fetched: commit the files themselves, or use an archive")]
    Submodule,
    /// A pointer of Git LFS.
    #[error("a Git LFS pointer; LFS objects are not fetched: commit the file itself, or use an archive")]
    LfsPointer,
    /// A name that no tree may hold.
    #[error("no legal name in a git tree; rename it")]
    Name,
    /// A mode that git does not write.
    #[error("of no known kind; only files, directories and symbolic links are allowed")]
    Mode,
}

impl SourceError {
    /// What helps.
    ///
    /// What the server's side can cure by itself (a Secret corrected, a release uploaded, a branch pushed) is transient.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Url(_) | Self::Ref(_) | Self::AddressDenied { .. } => FailureClass::Stalled,
            Self::Oci { fault, .. } => fault.class(),
            Self::DigestMismatch { .. } | Self::TooLarge { .. } | Self::Content { .. } => FailureClass::Stalled,
            Self::SignatureInvalid { .. } => FailureClass::Stalled,
            Self::Redirect { .. } | Self::ObjectTooLarge { .. } | Self::TooManyObjects { .. } => FailureClass::Stalled,
            Self::ChangesTooLarge { .. } | Self::ObjectsTooLarge { .. } => FailureClass::Stalled,
            Self::Encoded { .. } => FailureClass::Stalled,
            Self::Unpack { source, .. } if !source.is_transient() => FailureClass::Stalled,
            Self::Status { retry_after: Some(wait), .. } => FailureClass::Waiting(*wait),
            Self::Status { status, .. } if *status < 500 && !matches!(status, 408 | 425 | 429) => FailureClass::Stalled,
            Self::Status { .. } | Self::Unpack { .. } | Self::AuthenticationFailed { .. } => FailureClass::Transient,
            // the Secret is mended, not the extension
            Self::Credentials(_) | Self::OriginNotAllowed { .. } => FailureClass::Transient,
            // cosign signs what was pushed
            Self::SignatureMissing { .. } => FailureClass::Transient,
            Self::NotFound { .. } | Self::RefNotFound { .. } | Self::Truncated { .. } | Self::TimedOut { .. } => {
                FailureClass::Transient
            }
            Self::Network { .. } | Self::Git { .. } | Self::Client(_) | Self::Io { .. } => FailureClass::Transient,
        }
    }

    /// The kind of error.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Url(_) | Self::Ref(_) => Reason::ValidationFailed,
            Self::Credentials(_) | Self::OriginNotAllowed { .. } => Reason::SecretNotUsable,
            Self::Oci { fault, .. } => fault.reason(),
            Self::AddressDenied { .. } => Reason::AddressDenied,
            Self::AuthenticationFailed { .. } => Reason::AuthenticationFailed,
            Self::NotFound { .. } | Self::RefNotFound { .. } => Reason::NotFound,
            Self::DigestMismatch { .. } => Reason::DigestMismatch,
            Self::SignatureMissing { .. } => Reason::SignatureMissing,
            Self::SignatureInvalid { .. } => Reason::SignatureInvalid,
            Self::Content { .. } | Self::Unpack { .. } => Reason::UnpackRefused,
            Self::TooLarge { .. } | Self::ObjectTooLarge { .. } | Self::TooManyObjects { .. } => Reason::TooLarge,
            Self::ChangesTooLarge { .. } | Self::ObjectsTooLarge { .. } => Reason::TooLarge,
            Self::TimedOut { .. } => Reason::TimedOut,
            Self::Status { .. } | Self::Redirect { .. } | Self::Truncated { .. } | Self::Network { .. } => {
                Reason::FetchFailed
            }
            Self::Git { .. } | Self::Client(_) | Self::Io { .. } | Self::Encoded { .. } => Reason::FetchFailed,
        }
    }
}

fn list(origins: &[Origin]) -> String {
    origins.iter().map(Origin::to_string).collect::<Vec<_>>().join(", ")
}

fn access_hint(with_credentials: &bool) -> &'static str {
    if *with_credentials {
        "check the credentials in the Secret that secretRef names"
    } else {
        "name a Secret with credentials in secretRef"
    }
}
