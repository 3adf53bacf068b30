//! The links by which an extension's name leads to its tree.

use std::io;

use rustix::fs::{AtFlags, FileType};

use super::error::StoreError;
use super::layout::{EXTENSIONS, ExtensionName, STAGING, STORE, link_target, linked_digest, tree_name};
use super::step::Step;
use super::volume::{Directory, Store, random_name};
use crate::archive::beneath;
use crate::digest::Digest;

/// What lies at an extension's name.
pub(super) enum AtName {
    /// Nothing.
    Nothing,
    /// A link of ours.
    Link(Digest),
    /// Something that we did not make.
    Foreign(&'static str),
}

/// A name in the directory of extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLink {
    /// The name.
    pub name: String,
    /// The tree to which it leads, or what lies there that the operator did not make.
    pub tree: Result<Digest, &'static str>,
}

impl Store {
    /// Let `name` lead to the tree `digest` from now on, in one step: there is no moment without a link.
    ///
    /// # Errors
    /// [`StoreError::ForeignFile`] if something lies there that is no link into the store, which is then left alone;
    /// [`StoreError::NoSuchTree`].
    pub fn link(&self, name: &ExtensionName, digest: &Digest) -> Result<(), StoreError> {
        let writing = self.lock();
        if self.directory(STORE)?.open(&tree_name(digest))?.is_none() {
            return Err(StoreError::NoSuchTree { digest: *digest });
        }
        let extensions = self.extensions()?;
        let there = at_name(&extensions, name.as_str())?;
        match there {
            AtName::Foreign(what) => return Err(foreign(name, what)),
            AtName::Link(linked) if linked == *digest => return self.sync_links_again(&extensions),
            AtName::Link(_) | AtName::Nothing => {}
        }
        let staging = self.directory(STAGING)?;
        let made = random_name()?;
        self.step(Step::MakeLink)?;
        beneath::create_link(&staging.fd, &made, &link_target(digest))
            .map_err(|error| StoreError::io("create link", staging.path.join(&made), error))?;
        let renamed = self.step(Step::RenameLink).and_then(|()| match there {
            AtName::Link(_) => staging.rename_over(&made, &extensions, name.as_str()),
            _ => staging.rename_new(&made, &extensions, name.as_str()),
        });
        if let Err(error) = renamed {
            self.discard(&made);
            return Err(error);
        }
        // The names of all who got here meanwhile are written to disk at once.
        drop(writing);
        self.sync_links(&extensions)
    }

    /// Remove the link `name`; `false` if there is none.
    ///
    /// # Errors
    /// [`StoreError::ForeignFile`] if something lies there that is no link into the store, which is then left alone.
    pub fn unlink(&self, name: &ExtensionName) -> Result<bool, StoreError> {
        let _writing = self.lock();
        let extensions = self.extensions()?;
        match at_name(&extensions, name.as_str())? {
            AtName::Nothing => return self.sync_links_again(&extensions).map(|()| false),
            AtName::Foreign(what) => return Err(foreign(name, what)),
            AtName::Link(_) => {}
        }
        self.step(Step::RemoveLink)?;
        rustix::fs::unlinkat(&extensions.fd, name.as_str(), AtFlags::empty())
            .map_err(|error| StoreError::io("remove", extensions.path.join(name.as_str()), error.into()))?;
        self.sync_links(&extensions)?;
        Ok(true)
    }

    /// The names in the directory of extensions, but for the store's own directories.
    ///
    /// # Errors
    /// If the volume cannot be read.
    pub fn links(&self) -> Result<Vec<NamedLink>, StoreError> {
        let extensions = self.extensions()?;
        let mut links = Vec::new();
        for name in extensions.names()?.into_iter().filter(|name| !name.starts_with('.')) {
            match at_name(&extensions, &name)? {
                AtName::Nothing => {}
                AtName::Link(digest) => links.push(NamedLink { name, tree: Ok(digest) }),
                AtName::Foreign(what) => links.push(NamedLink { name, tree: Err(what) }),
            }
        }
        Ok(links)
    }

    /// The tree to which `name` leads, if there is such a link.
    ///
    /// # Errors
    /// [`StoreError::ForeignFile`] if something lies there that is no link into the store.
    pub fn linked(&self, name: &ExtensionName) -> Result<Option<Digest>, StoreError> {
        match at_name(&self.extensions()?, name.as_str())? {
            AtName::Nothing => Ok(None),
            AtName::Link(digest) => Ok(Some(digest)),
            AtName::Foreign(what) => Err(foreign(name, what)),
        }
    }
}

/// What lies at `name` in the directory of extensions.
pub(super) fn at_name(extensions: &Directory, name: &str) -> Result<AtName, StoreError> {
    let failed = |error: io::Error| StoreError::io("read", extensions.path.join(name), error);
    let Some(stat) = beneath::stat(&extensions.fd, name.as_bytes()).map_err(failed)? else {
        return Ok(AtName::Nothing);
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&extensions.fd, name, Vec::new());
            let target = target.map_err(|error| failed(error.into()))?;
            let digest = target.to_str().ok().and_then(linked_digest);
            digest.map_or(AtName::Foreign("a link to elsewhere"), AtName::Link)
        }
        FileType::Directory => AtName::Foreign("a directory"),
        FileType::RegularFile => AtName::Foreign("a file"),
        _ => AtName::Foreign("a special file"),
    })
}

fn foreign(name: &ExtensionName, what: &'static str) -> StoreError {
    StoreError::ForeignFile { doing: "link extension", path: format!("{EXTENSIONS}/{name}"), what }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
