//! What can be wrong with an artifact or a registry beyond what any HTTP server gets wrong.

use crate::api::reason::{FailureClass, Reason};
use crate::archive::NameFault;
use crate::digest::Digest;
use crate::source::url::{Origin, UrlFault};

/// Why an artifact is not taken, or a registry's answer not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OciFault {
    /// Bytes that are no manifest.
    #[error("the manifest cannot be used: {0}")]
    Manifest(String),
    /// An index with none, or with several manifests.
    #[error(
        "an index of {0} manifests, but an extension is one tree for all platforms: push a single manifest, or name one of them in digest"
    )]
    Index(usize),
    /// An index within an index.
    #[error("an index of an index; push a single manifest")]
    NestedIndex,
    /// No file at all.
    #[error("the manifest has no layers: push the extension's files, or a tar of them")]
    NoLayers,
    /// More layers than are fetched.
    #[error("the manifest has {count} layers; at most {limit} are allowed: push a directory, which is packed as one")]
    TooManyLayers {
        /// Layers of the manifest.
        count: usize,
        /// Layers allowed.
        limit: usize,
    },
    /// An image that was built in steps.
    #[error(
        "the manifest has {0} tar layers without a title: an image of several layers is not put together; push a single layer"
    )]
    SeveralTars(usize),
    /// Neither tar nor a file with a name.
    #[error(
        "layer {layer} ({media_type}) is neither a tar (…tar, …tar+gzip, …tar+zstd) nor a file with the annotation org.opencontainers.image.title"
    )]
    UnknownLayer {
        /// Which layer, from 1.
        layer: usize,
        /// What it says that it is.
        media_type: String,
    },
    /// A title that is no path in the tree.
    #[error("layer {layer}: title {title:?}: {fault}")]
    Title {
        /// Which layer, from 1.
        layer: usize,
        /// The title.
        title: String,
        /// What is wrong with it.
        fault: NameFault,
    },
    /// Two layers with one title.
    #[error("layers {first} and {second} have the same title {title:?}")]
    DuplicateTitle {
        /// The earlier layer, from 1.
        first: usize,
        /// The later layer, from 1.
        second: usize,
        /// Their title.
        title: String,
    },
    /// Bytes that are not those that were asked for.
    #[error("the registry sent {bytes} bytes with digest {actual} for {expected}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
        /// How much came.
        bytes: u64,
    },
    /// Fewer bytes than the manifest says.
    #[error("the registry sent {bytes} bytes for {digest}, but the manifest says {size}")]
    Size {
        /// The blob.
        digest: Digest,
        /// What the manifest says.
        size: u64,
        /// What came.
        bytes: u64,
    },
    /// A list that does not end.
    #[error("the registry lists more than {0}; name a tag or a digest")]
    Endless(&'static str),
    /// A list that cannot be read, or leads elsewhere.
    #[error("the registry's answer cannot be used: {0}")]
    Answer(String),
    /// A token server that is no URL of a source.
    #[error("the registry names a token server that cannot be used: {0}")]
    Realm(UrlFault),
    /// From HTTPS to plain HTTP.
    #[error(
        "the registry names the token server {0}, but a token is not fetched over plain HTTP for a registry with HTTPS"
    )]
    RealmDowngrade(Origin),
    /// A token server that the Secret is not for.
    #[error(
        "the registry hands out its tokens at {origin}, where Secret {secret:?} may not be sent; if that server is to be trusted, add {origin} to the Secret's annotation outrigger.dev/allowed-origins"
    )]
    RealmNotAllowed {
        /// The token server.
        origin: Origin,
        /// The Secret's name.
        secret: String,
    },
    /// An answer of the token server without a token.
    #[error("the token server {0} gave no usable token")]
    NoToken(Origin),
}

impl OciFault {
    /// What helps. What was pushed wrongly is pushed again: the tag moves, and the next interval sees it.
    pub(crate) fn class(&self) -> FailureClass {
        match self {
            Self::Digest { .. } | Self::Size { .. } | Self::Answer(_) | Self::NoToken(_) => FailureClass::Transient,
            // the Secret is mended, not the extension
            Self::RealmNotAllowed { .. } => FailureClass::Transient,
            _ => FailureClass::Stalled,
        }
    }

    /// The kind of error.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Digest { .. } | Self::Size { .. } => Reason::DigestMismatch,
            Self::RealmNotAllowed { .. } => Reason::SecretNotUsable,
            Self::Answer(_) | Self::Endless(_) | Self::NoToken(_) => Reason::FetchFailed,
            Self::Realm(_) | Self::RealmDowngrade(_) => Reason::AuthenticationFailed,
            _ => Reason::UnpackRefused,
        }
    }
}
