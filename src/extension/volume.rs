//! Work on the volume for one extension, in a thread of its own. The volume may hang: whoever waits for it is told in time, and
//! no more than one thread hangs for an extension, nor more than a few in all.
//!
//! Waiting for others' work is no sign that the volume hangs: the clock of one's own starts when it is one's turn, and small
//! work does not wait for that on whole trees.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::context::Context;
use super::failure::{Failure, Stage};
use crate::api::Reason;
use crate::source::FetchOptions;
use crate::store::{Store, StoreError};

/// Most threads at a time for [`Amount::Little`].
const MOST_LITTLE: usize = 32;
/// And for [`Amount::Trees`]: more of them would only share the volume's throughput.
const MOST_TREES: usize = 8;

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A few small files or names.
    Little,
    /// Whole trees are read or written to disk.
    Trees,
}

/// How long work may take, and how long it may wait for its turn, before its volume counts as hanging.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For [`Amount::Little`].
    pub little: Duration,
    /// For [`Amount::Trees`].
    pub trees: Duration,
    /// For fetching a source and unpacking it onto the volume.
    pub fetch: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let (little, trees) = (Duration::from_secs(30), Duration::from_secs(600));
        // The download has a deadline of its own.
        Self { little, trees, fetch: FetchOptions::default().total_timeout + trees }
    }
}

/// The work that is under way: at most one for each extension.
pub struct Volume {
    busy: Arc<Mutex<HashSet<String>>>,
    little: Arc<Semaphore>,
    trees: Arc<Semaphore>,
    patience: Patience,
}

impl Default for Volume {
    fn default() -> Self {
        Self::new(Patience::default())
    }
}

/// Why work has no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Lost {
    #[error("the store's volume does not answer within {} s; check its server and the mount", .0.as_secs())]
    Silent(Duration),
    #[error(
        "the store's volume does not answer: work that began earlier has not ended; check its server and the mount"
    )]
    StillBusy,
    #[error("work on the volume was interrupted: {0}")]
    Interrupted(String),
}

/// Ends with its thread, however that ends.
struct Busy(Arc<Mutex<HashSet<String>>>, String);

impl Drop for Busy {
    fn drop(&mut self) {
        locked(&self.0).remove(&self.1);
    }
}

impl Volume {
    /// Nothing is under way yet.
    pub fn new(patience: Patience) -> Self {
        let [little, trees] = [MOST_LITTLE, MOST_TREES].map(|most| Arc::new(Semaphore::new(most)));
        Self { busy: Arc::default(), little, trees, patience }
    }

    /// How long fetching a source and unpacking it onto the volume may take.
    pub fn fetch_limit(&self) -> Duration {
        self.patience.fetch
    }

    async fn run<T: Send + 'static>(
        &self,
        extension: String,
        amount: Amount,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        if !locked(&self.busy).insert(extension.clone()) {
            return Err(Lost::StillBusy);
        }
        let busy = Busy(self.busy.clone(), extension);
        let (permits, limit) = match amount {
            Amount::Little => (&self.little, self.patience.little),
            Amount::Trees => (&self.trees, self.patience.trees),
        };
        let permit = timeout(limit, permits.clone().acquire_owned()).await.map_err(|_| Lost::Silent(limit))?;
        let working = tokio::task::spawn_blocking(move || {
            let _ends = (busy, permit);
            work()
        });
        let worked = timeout(limit, working).await.map_err(|_| Lost::Silent(limit))?;
        worked.map_err(|error| Lost::Interrupted(error.to_string()))
    }
}

fn locked(busy: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    busy.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs blocking work on the volume; opens the store first if that has not been possible yet. Work that hangs goes on when
/// this has given up: until it ends, there is no other for this extension.
///
/// # Errors
/// The store cannot be opened, or the volume does not answer.
pub async fn on_volume<T: Send + 'static>(
    context: &Context,
    extension: &impl ResourceExt,
    amount: Amount,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> Result<T, Failure> {
    let store = context.store.clone();
    let worked = context.volume.run(extension.name_any(), amount, move || store.get().map(work)).await;
    let worked = worked.map_err(|lost| Failure::transient(Stage::Fetch, Reason::StoreFailed, lost.to_string()));
    worked?.map_err(|error| store_failure(Stage::Fetch, &error))
}

/// What the volume does may pass by itself; what the source holds does not.
pub fn store_failure(stage: Stage, error: &StoreError) -> Failure {
    if error.is_transient() {
        Failure::transient(stage, Reason::StoreFailed, error.to_string())
    } else {
        Failure::stalled(stage, Reason::StoreFailed, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn volume() -> Volume {
        let soon = Duration::from_millis(20);
        let late = Duration::from_secs(3600);
        Volume::new(Patience { little: soon, trees: late, fetch: late })
    }

    fn hanging(go: mpsc::Receiver<()>) -> impl FnOnce() + Send + 'static {
        move || {
            let _ = go.recv();
        }
    }

    #[tokio::test]
    async fn work_that_hangs_is_given_up_and_has_no_second_beside_it_until_it_ends() {
        let (let_go, go) = mpsc::channel();
        let volume = volume();
        let lost = volume.run("a".into(), Amount::Little, hanging(go)).await.unwrap_err();
        assert_eq!(lost, Lost::Silent(Duration::from_millis(20)));
        let text = "the store's volume does not answer within 30 s; check its server and the mount";
        assert_eq!(Lost::Silent(Patience::default().little).to_string(), text);
        let lost = volume.run("a".into(), Amount::Trees, || ()).await.unwrap_err();
        assert_eq!(lost, Lost::StillBusy);
        assert!(
            lost.to_string().starts_with("the store's volume does not answer: work that began earlier has not ended")
        );
        assert_eq!(volume.run("b".into(), Amount::Trees, || 7).await, Ok(7), "others are not held up");
        drop(let_go);
        while volume.run("a".into(), Amount::Trees, || 7).await != Ok(7) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn no_more_than_a_few_threads_hang() {
        let volume = volume();
        let mut gates = vec![];
        for number in 0..MOST_LITTLE {
            let (let_go, go) = mpsc::channel();
            gates.push(let_go);
            assert!(volume.run(number.to_string(), Amount::Little, hanging(go)).await.is_err());
        }
        let ran = volume.run("one more".into(), Amount::Little, || 7).await;
        assert!(matches!(ran, Err(Lost::Silent(_))));
        drop(gates);
        assert_eq!(volume.run("one more".into(), Amount::Trees, || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn small_work_does_not_wait_for_work_on_whole_trees() {
        let volume = Volume::new(Patience::default());
        let (mut gates, mut reading) = (vec![], vec![]);
        for number in 0..MOST_TREES {
            let (let_go, go) = mpsc::channel();
            gates.push(let_go);
            reading.push(volume.run(number.to_string(), Amount::Trees, hanging(go)));
        }
        let mut reading = futures::future::join_all(reading);
        assert!(futures::poll!(&mut reading).is_pending());
        let mut next = Box::pin(volume.run("next".into(), Amount::Trees, || 7));
        assert!(futures::poll!(&mut next).is_pending());
        assert_eq!(volume.run("small".into(), Amount::Little, || 7).await, Ok(7));
        drop(gates);
        let (read, next) = futures::future::join(reading, next).await;
        assert!(read.iter().all(Result::is_ok));
        assert_eq!(next, Ok(7));
    }

    #[tokio::test]
    async fn work_that_dies_can_be_repeated() {
        let volume = volume();
        let died = volume.run("a".into(), Amount::Trees, || panic!("for the test")).await;
        assert!(matches!(died, Err::<(), _>(Lost::Interrupted(_))));
        assert_eq!(volume.run("a".into(), Amount::Trees, || 7).await, Ok(7));
    }
}
