//! A store that is opened when it is first needed, and tried again until that succeeds.
//!
//! A volume that is full, read-only or away when the leader starts must not keep it from serving: runners report, tenants
//! create and delete runs, and each extension says in its conditions what is wrong with the volume.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::error::StoreError;
use super::sweep::Recovered;
use super::volume::Store;

/// The store on the volume at a path, opened and swept before its first use.
pub struct LazyStore {
    root: PathBuf,
    grace: Duration,
    may_write: std::sync::Arc<dyn Fn() -> bool + Send + Sync>,
    opening: Mutex<()>,
    opened: OnceLock<(Store, Recovered)>,
}

impl LazyStore {
    /// The store on the volume mounted at `root`, whose trash is kept for `grace`. `may_write` is its
    /// [fence](Store::open_fenced).
    pub fn new(root: PathBuf, grace: Duration, may_write: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let may_write = std::sync::Arc::new(may_write);
        Self { root, grace, may_write, opening: Mutex::new(()), opened: OnceLock::new() }
    }

    /// The store that is open already.
    pub fn opened(store: Store) -> Self {
        let lazy = Self::new(store.root().to_owned(), Duration::ZERO, || true);
        let _ = lazy.opened.set((store, Recovered::default()));
        lazy
    }

    /// The store, and what its start-up found. Blocks on the disk, as all of the store does.
    ///
    /// # Errors
    /// Those of [`Store::open_fenced`] and [`Store::recover`], at each call anew until they succeed once.
    pub fn get(&self) -> Result<&(Store, Recovered), StoreError> {
        let _opening = match self.opened.get() {
            Some(opened) => return Ok(opened),
            None => self.opening.lock().unwrap_or_else(PoisonError::into_inner),
        };
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let may_write = self.may_write.clone();
        let store = Store::open_fenced(&self.root, move || may_write())?;
        let recovered = store.recover(SystemTime::now(), self.grace)?;
        Ok(self.opened.get_or_init(|| (store, recovered)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fixtures::*;

    #[test]
    fn a_volume_that_comes_later_is_opened_then_and_swept_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        let lazy = LazyStore::new(root.clone(), Duration::from_secs(60), || true);
        for _ in 0..2 {
            assert!(lazy.get().unwrap_err().to_string().starts_with("open volume "));
        }
        std::fs::create_dir(&root).unwrap();
        std::mem::forget(stage(&Store::open(&root).unwrap(), &[("half", "done")]));
        assert_eq!(lazy.get().unwrap().1.staging, 1);
        let staging = lazy.get().unwrap().0.stage().unwrap();
        assert_eq!(lazy.get().unwrap().1.staging, 1, "what is under way is no leftover");
        assert!(staging.path().exists());
    }
}
