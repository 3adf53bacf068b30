//! Git, archive, registry and ConfigMap: resolve to a pinned revision, fetch through one door.
//!
//! ```text
//!  Request ─► Fetcher::resolve ─► Pending ─► Fetcher::fetch ─► staging directory
//!                 │                              │
//!                 ├─ git: list refs              ├─ git: one commit, its tree    ─┐
//!                 ├─ archive: conditional GET    ├─ archive::unpack              ─┼─► archive::TreeWriter
//!                 ├─ oci: HEAD of a manifest     ├─ its layers, by digest        ─┤
//!                 └─ ConfigMap: its digest       └─ its keys                     ─┘
//!                 │                              │
//!                 └───────────── Door ───────────┘   every request, redirect and look-up passes AddressPolicy
//! ```

mod address;
mod config_map;
mod credentials;
mod docker_config;
mod door;
mod download;
mod error;
mod fetcher;
mod git;
pub mod oci;
mod resolver;
mod signature;
mod spool;
mod url;
mod version;

#[cfg(test)]
mod door_tests;
#[cfg(test)]
mod fetch_tests;
#[cfg(test)]
mod git_interop_tests;
#[cfg(test)]
mod git_tests;
#[cfg(test)]
mod odd_server_tests;
#[cfg(test)]
mod signature_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tls_fixtures;
#[cfg(test)]
mod transport_tests;

pub use address::{AddressKind, AddressPolicy, DeniedAddress};
pub use config_map::ConfigMapFiles;
pub use credentials::{ALLOWED_ORIGINS, Credentials, CredentialsFault, CredentialsFaultKind};
pub use docker_config::DockerConfigFault;
pub use door::FetchOptions;
pub use download::Validators;
pub use error::{ContentFault, RedirectFault, SourceError};
pub use fetcher::{Fetched, Fetcher, MAX_TEXT_BYTES, Pending, Request, Resolution, Resolved};
pub use git::{GitRef, RefFault};
pub use oci::{OciRef, OciUrl};
pub use resolver::{Lookup, SystemLookup};
pub use signature::Verify;
pub use url::{MAX_URL_BYTES, Origin, OriginFault, SourceUrl, UrlFault};
