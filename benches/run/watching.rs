//! When a watching client first saw something about an object, and that the object is gone.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest wait for anything, in seconds.
const LIMIT: Duration = Duration::from_secs(600);

/// A watch of one kind that notes when it first saw, per object, what it looks for.
pub struct Watched<T> {
    sights: watch::Receiver<HashMap<String, Sight<T>>>,
    task: JoinHandle<()>,
}

struct Sight<T> {
    found: Option<(Instant, T)>,
    gone: bool,
}

impl<T: Clone + Send + Sync + 'static> Watched<T> {
    /// Starts the watch. `key` says by which key an object is asked for here, `find` what is looked for in it.
    pub fn start<K>(
        api: Api<K>,
        labels: &str,
        key: fn(&K) -> Option<String>,
        find: impl Fn(&K) -> Option<T> + Send + 'static,
    ) -> Self
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let (sender, sights) = watch::channel(HashMap::new());
        let mut events = watcher(api, watcher::Config::default().labels(labels)).default_backoff().boxed();
        let task = tokio::spawn(async move {
            let mut listed = HashSet::new();
            while let Some(event) = events.next().await {
                let now = Instant::now();
                match event {
                    Ok(Event::Apply(object)) => note(&sender, key(&object), find(&object), now),
                    Ok(Event::InitApply(object)) => {
                        listed.extend(key(&object));
                        note(&sender, key(&object), find(&object), now);
                    }
                    Ok(Event::Delete(object)) => {
                        let key = key(&object);
                        lost(&sender, |lost| key.as_ref() == Some(lost));
                    }
                    Ok(Event::Init) => listed.clear(),
                    Ok(Event::InitDone) => lost(&sender, |key| !listed.contains(key)),
                    Err(error) => eprintln!("benchmark: {error}"),
                }
            }
        });
        Self { sights, task }
    }

    /// When it was first seen what is looked for, and what that was.
    pub async fn found(&self, key: &str) -> anyhow::Result<(Instant, T)> {
        self.wait(key, "finish", |sight| sight.found.is_some())
            .await?
            .with_context(|| format!("{key} was not seen to finish"))
    }

    /// Waits until the object, which must have been there, is gone.
    pub async fn gone(&self, key: &str) -> anyhow::Result<()> {
        self.wait(key, "go away", |sight| sight.gone).await.map(drop)
    }

    async fn wait(
        &self,
        key: &str,
        what: &str,
        is: impl Fn(&Sight<T>) -> bool,
    ) -> anyhow::Result<Option<(Instant, T)>> {
        let mut sights = self.sights.clone();
        let sights = tokio::time::timeout(LIMIT, sights.wait_for(|sights| sights.get(key).is_some_and(&is)))
            .await
            .with_context(|| format!("{key} did not {what} within {} s", LIMIT.as_secs()))??;
        Ok(sights.get(key).and_then(|sight| sight.found.clone()))
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note<T>(sights: &watch::Sender<HashMap<String, Sight<T>>>, key: Option<String>, found: Option<T>, now: Instant) {
    let Some(key) = key else { return };
    sights.send_modify(|sights| {
        let sight = sights.entry(key).or_insert(Sight { found: None, gone: false });
        sight.gone = false;
        if sight.found.is_none() {
            sight.found = found.map(|found| (now, found));
        }
    });
}

fn lost<T>(sights: &watch::Sender<HashMap<String, Sight<T>>>, is: impl Fn(&String) -> bool) {
    sights.send_modify(|sights| sights.iter_mut().filter(|(key, _)| is(key)).for_each(|(_, sight)| sight.gone = true));
}
