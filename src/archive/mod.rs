//! Unpack untrusted tar and zip into an empty directory, under limits.

pub(crate) mod beneath;
mod error;
#[cfg(test)]
mod fixtures;
mod limits;
pub(crate) mod links;
mod meter;
mod path;
mod pax;
#[cfg(test)]
mod property_tests;
mod tar;
mod unpack;
mod writer;
mod zip;

pub use error::{EntryName, Format, SpecialKind, TarFault, UnpackError, ZipFault};
pub use limits::Limits;
pub use links::LinkFault;
pub use path::{NameFault, RelativePath};
pub use unpack::{UnpackOptions, unpack};
pub use writer::{TreeSummary, TreeWriter};
