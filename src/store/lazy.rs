//! A store that is opened when it is first needed, and tried again until that succeeds.
//!
//! A volume that is full, read-only or away when the leader starts must not keep it from serving: runners report, tenants
//! create and delete runs, and each extension says in its conditions what is wrong with the volume.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::error::StoreError;
use super::sweep::Recovered;
use super::volume::Store;

/// The store on the volume at a path, swept and tried out before its first use.
pub struct LazyStore {
    opening: Arc<Opening>,
}

struct Opening {
    store: Store,
    /// Who this is, on the volume.
    owner: Option<String>,
    opening: Mutex<()>,
    /// Nothing is staged before: it would be taken for a leftover.
    swept: OnceLock<Recovered>,
    tried_out: OnceLock<()>,
}

impl LazyStore {
    /// The store on the volume mounted at `root`, which is `owner`'s: a volume that says that it is another's is not
    /// opened, and one that says nothing becomes this one's. `None` asks nothing, for those who do not write.
    ///
    /// Before each step that changes the volume `may_write` is asked: a process that was stopped for longer than its Lease
    /// so does no more harm than the one step that it was stopped in. Instead of a step it then gets
    /// [`StoreError::Fenced`].
    pub fn new(root: &Path, owner: Option<String>, may_write: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let opening = Arc::new_cyclic(|opening: &Weak<Opening>| {
            let opening = opening.clone();
            let before_staging = move || opening.upgrade().map_or(Ok(()), |opening| opening.sweep_first());
            let store = Store::fenced(root, may_write, before_staging);
            Opening { store, owner, opening: Mutex::new(()), swept: OnceLock::new(), tried_out: OnceLock::new() }
        });
        Self { opening }
    }

    /// The store. Where its volume is full, read-only or closed to this process, or this process may not write, what is
    /// there can still be read.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn get(&self) -> Result<&Store, StoreError> {
        use StoreError::{Denied, Fenced, NoSpace, ReadOnly};
        let store = &self.opening.store;
        match self.open() {
            Ok(_) => Ok(store),
            Err(NoSpace { .. } | ReadOnly { .. } | Denied { .. } | Fenced { .. }) if store.trees().is_ok() => Ok(store),
            Err(error) => Err(error),
        }
    }

    /// The path at which the volume is mounted.
    pub fn root(&self) -> &Path {
        self.opening.store.root()
    }

    /// Opens the store unless it is open, and tells what its start-up found. Blocks on the disk.
    ///
    /// # Errors
    /// Those of [`Store::open`] and [`Store::recover`], at each call anew until it succeeds once.
    pub fn open(&self) -> Result<&Recovered, StoreError> {
        self.opening.open()
    }
}

impl std::fmt::Debug for LazyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.opening.store.fmt(f)
    }
}

impl Opening {
    /// Sweeps unless that was done. A volume that could be read alone may have become writable since it was handed out.
    fn sweep_first(&self) -> Result<(), StoreError> {
        if self.swept.get().is_some() {
            return Ok(());
        }
        match self.open() {
            Err(_) if self.swept.get().is_some() => Ok(()),
            opened => opened.map(drop),
        }
    }

    fn open(&self) -> Result<&Recovered, StoreError> {
        if let (Some(swept), Some(())) = (self.swept.get(), self.tried_out.get()) {
            return Ok(swept);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.check_mount()?;
        // Before anything of another's is taken for a leftover.
        if let Some(owner) = &self.owner {
            self.store.refuse_another(owner)?;
        }
        self.store.make_directories()?;
        // Before anything is written: on a full volume this is what makes room. And only once, because later there is work
        // under way.
        let swept = match self.swept.get() {
            Some(swept) => swept,
            None => {
                let swept = self.store.recover()?;
                self.swept.get_or_init(|| swept)
            }
        };
        if let Some(owner) = &self.owner {
            self.store.claim(owner)?;
        }
        if self.tried_out.get().is_none() {
            self.store.try_out()?;
            let _ = self.tried_out.set(());
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::store::fixtures::*;

    #[test]
    fn a_volume_that_comes_later_is_opened_then_and_swept_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volume");
        let lazy = LazyStore::new(&root, None, || true);
        for _ in 0..2 {
            assert!(lazy.get().unwrap_err().to_string().starts_with("open volume "));
        }
        std::fs::create_dir(&root).unwrap();
        std::mem::forget(stage(&Store::open(&root).unwrap(), &[("half", "done")]));
        assert_eq!(lazy.open().unwrap().staging, 1);
        let staging = lazy.get().unwrap().stage().unwrap();
        assert_eq!(lazy.open().unwrap().staging, 1, "what is under way is no leftover");
        assert!(staging.path().exists());
    }

    #[test]
    fn nothing_is_staged_before_the_sweep_that_would_take_it_for_a_leftover() {
        let volume = volume();
        std::mem::forget(stage(&volume.store, &[("half", "done")]));
        let leads = Arc::new(AtomicBool::new(false));
        let lazy = LazyStore::new(&volume.root, None, {
            let leads = leads.clone();
            move || leads.load(Ordering::SeqCst)
        });
        let store = lazy.get().unwrap();
        assert!(matches!(store.stage(), Err(StoreError::Fenced { .. })));
        leads.store(true, Ordering::SeqCst);
        let staging = store.stage().unwrap();
        assert_eq!(lazy.open().unwrap().staging, 1, "the leftover, and it alone");
        assert!(staging.path().exists());
    }

    #[test]
    fn whoever_may_no_longer_write_is_told_so_and_still_reads() {
        let volume = volume();
        let one = publish(&volume.store, &[("f", "1")]).digest;
        volume.store.link(&name("x"), &one).unwrap();
        let leads = Arc::new(AtomicBool::new(true));
        let lazy = LazyStore::new(&volume.root, None, {
            let leads = leads.clone();
            move || leads.load(Ordering::SeqCst)
        });
        let staging = stage(lazy.get().unwrap(), &[("f", "3")]);
        leads.store(false, Ordering::SeqCst);
        let error = lazy.get().unwrap().publish(staging, None).unwrap_err();
        assert_eq!(error.to_string(), "change the volume (Seal): this replica no longer leads; the one that does will");
        std::mem::forget(stage(&volume.store, &[("half", "done")]));
        let late = LazyStore::new(&volume.root, None, || false);
        assert!(matches!(late.open(), Err(StoreError::Fenced { .. })));
        assert!(!volume.staging_is_empty(), "nothing of another's is swept");
        assert_eq!(late.get().unwrap().linked(&name("x")).unwrap(), Some(one));
    }
}
