//! Looks at an entry point in an installed tree. The volume may hang: whoever asks is answered in time, and no more threads
//! hang than a few.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::Shared;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::context::Trees;
use crate::digest::Digest;
use crate::protocol::TreePin;

/// Time that a look may take, also for those who join it later.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most looks at a time.
const MOST: usize = 8;

/// A file of a tree.
type Place = (Digest, String);
type Running = HashMap<Place, Look>;

/// A look that is under way.
#[derive(Clone)]
struct Look {
    until: Instant,
    found: Shared<oneshot::Receiver<Result<Digest, String>>>,
}

/// The looks that are under way: one for each file.
pub(super) struct Entrypoints {
    running: Arc<Mutex<Running>>,
    permits: Arc<Semaphore>,
}

impl Default for Entrypoints {
    fn default() -> Self {
        Self { running: Arc::default(), permits: Arc::new(Semaphore::new(MOST)) }
    }
}

/// Ends with its thread, however that ends.
struct Ends(Arc<Mutex<Running>>, Place);

impl Drop for Ends {
    fn drop(&mut self) {
        locked(&self.0).remove(&self.1);
    }
}

impl Entrypoints {
    /// The digest of the file `path` of the installed tree that `tree` names.
    ///
    /// # Errors
    /// For people: what is wrong with the tree or the file, or that the volume does not answer.
    pub(super) async fn pin(&self, trees: &Arc<dyn Trees>, tree: &str, path: &str) -> Result<TreePin, String> {
        let tree: Digest = tree.parse().map_err(|error| format!("{error}"))?;
        let silent =
            || format!("the store's volume does not answer within {} s: {path:?} cannot be read", PATIENCE.as_secs());
        let look = timeout_at(Instant::now() + PATIENCE, self.look(trees, &tree, path)).await.map_err(|_| silent())?;
        let found = timeout_at(look.until, look.found).await.map_err(|_| silent())?;
        let entrypoint = found.map_err(|_| format!("reading tree {tree} was interrupted"))??;
        Ok(TreePin { tree, entrypoint })
    }

    /// The manifest that is kept under `digest`.
    ///
    /// # Errors
    /// For people: it is not there, or the volume does not answer.
    pub(super) async fn manifest(&self, trees: &Arc<dyn Trees>, digest: Digest) -> Result<Vec<u8>, String> {
        let until = Instant::now() + PATIENCE;
        let silent = |_| format!("the store's volume does not answer within {} s", PATIENCE.as_secs());
        let permit = timeout_at(until, self.permits.clone().acquire_owned()).await.map_err(silent)?;
        let trees = trees.clone();
        let read = tokio::task::spawn_blocking(move || {
            let read = trees.manifest(&digest);
            drop(permit);
            read
        });
        timeout_at(until, read).await.map_err(silent)?.map_err(|_| "reading it was interrupted".to_owned())?
    }

    /// Joins the look at this file, or begins one, in a thread of its own.
    async fn look(&self, trees: &Arc<dyn Trees>, tree: &Digest, path: &str) -> Look {
        let place = (*tree, path.to_owned());
        if let Some(look) = locked(&self.running).get(&place) {
            return look.clone();
        }
        // Never closed, so that a permit always comes.
        let permit = self.permits.clone().acquire_owned().await.ok();
        let mut running = locked(&self.running);
        if let Some(look) = running.get(&place) {
            return look.clone();
        }
        let (tell, found) = oneshot::channel();
        let look = Look { until: Instant::now() + PATIENCE, found: found.shared() };
        running.insert(place.clone(), look.clone());
        let (trees, ends) = (trees.clone(), Ends(self.running.clone(), place));
        tokio::task::spawn_blocking(move || {
            let digest = trees.entrypoint_digest(&ends.1.0, &ends.1.1);
            drop((ends, permit));
            // Nobody may wait any more.
            let _ = tell.send(digest);
        });
        look
    }
}

fn locked(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Answers when it is allowed to.
    struct Hanging {
        looks: AtomicUsize,
        go: Mutex<mpsc::Receiver<()>>,
    }

    impl Trees for Hanging {
        fn entrypoint_digest(&self, _: &Digest, path: &str) -> Result<Digest, String> {
            self.looks.fetch_add(1, Ordering::SeqCst);
            let _ = self.go.lock().unwrap().recv();
            Ok(Digest::of(path))
        }

        fn subpath(&self, _: &Digest) -> String {
            String::new()
        }
    }

    fn hanging() -> (Arc<Hanging>, mpsc::Sender<()>) {
        let (let_go, go) = mpsc::channel();
        (Arc::new(Hanging { looks: AtomicUsize::new(0), go: Mutex::new(go) }), let_go)
    }

    const SILENT: &str = "the store's volume does not answer within 5 s: \"a.sh\" cannot be read";

    #[tokio::test]
    async fn a_volume_that_hangs_is_told_in_time_and_holds_one_thread_for_a_file() {
        let (hanging, let_go) = hanging();
        let trees: Arc<dyn Trees> = hanging.clone();
        let (entrypoints, tree) = (Entrypoints::default(), Digest::of("tree").to_string());
        let pin = || entrypoints.pin(&trees, &tree, "a.sh");
        let since = std::time::Instant::now();
        for found in futures::future::join_all((0..20).map(|_| pin())).await {
            assert_eq!(found.unwrap_err(), SILENT);
        }
        assert!(since.elapsed() < PATIENCE * 2);
        // Whoever comes later does not wait as long again.
        let since = std::time::Instant::now();
        assert_eq!(pin().await.unwrap_err(), SILENT);
        assert!(since.elapsed() < PATIENCE / 2);
        assert_eq!(hanging.looks.load(Ordering::SeqCst), 1);
        // It answers again.
        drop(let_go);
        let answers = async {
            while pin().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.unwrap();
        assert_eq!(pin().await.unwrap().entrypoint, Digest::of("a.sh"));
    }

    #[tokio::test]
    async fn few_threads_hang_however_many_files_are_looked_at() {
        let (hanging, let_go) = hanging();
        let trees: Arc<dyn Trees> = hanging.clone();
        let (entrypoints, tree) = (Entrypoints::default(), Digest::of("tree").to_string());
        let paths: Vec<String> = (0..MOST * 3).map(|number| format!("{number}.sh")).collect();
        let looks = paths.iter().map(|path| entrypoints.pin(&trees, &tree, path));
        assert!(futures::future::join_all(looks).await.iter().all(Result::is_err));
        assert!(hanging.looks.load(Ordering::SeqCst) <= MOST);
        drop(let_go);
    }

    #[tokio::test]
    async fn a_look_that_dies_is_told_and_can_be_repeated() {
        struct Panics;
        impl Trees for Panics {
            fn entrypoint_digest(&self, _: &Digest, _: &str) -> Result<Digest, String> {
                panic!("for the test")
            }
            fn subpath(&self, _: &Digest) -> String {
                String::new()
            }
        }
        let trees: Arc<dyn Trees> = Arc::new(Panics);
        let (entrypoints, tree) = (Entrypoints::default(), Digest::of("tree").to_string());
        for _ in 0..MOST * 2 {
            let error = entrypoints.pin(&trees, &tree, "a.sh").await.unwrap_err();
            assert_eq!(error, format!("reading tree {tree} was interrupted"));
        }
    }
}
