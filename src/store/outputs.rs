//! What runs printed, kept for a while beside the extensions, for the operator's user alone.
//!
//! An attempt's output is written in a staging directory, synced, and renamed to its place: it is there whole, or not at
//! all. Every path is made of names that Kubernetes gave and that were checked again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::error::StoreError;
use super::layout::{ExtensionName, RUNS, STAGING};
use super::lazy::LazyStore;
use super::tree;
use super::verify::read_file;
use super::volume::{Directory, create_directory, random_name};
use crate::archive::beneath;

/// Directories are the operator's alone.
const MODE: u32 = 0o700;
/// What an attempt counts for besides its bytes: its directories and the rest of its last blocks.
const OVERHEAD_BYTES: u64 = 16 << 10;
/// Bytes of a stream beyond which it cannot be one that was kept.
const STREAM_BYTES: u64 = 64 << 20;

/// The run that an output belongs to: names that lead nowhere else on a volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputKey {
    namespace: String,
    run: String,
    uid: String,
}

/// Why an output cannot have this key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is none that Kubernetes gives: nothing is kept under it")]
pub struct OutputKeyError {
    what: &'static str,
    text: String,
}

impl OutputKey {
    /// The key of the run `run` of `namespace` with this UID.
    ///
    /// # Errors
    /// [`OutputKeyError`] for what is no name of an object, or no UID.
    pub fn new(namespace: &str, run: &str, uid: &str) -> Result<Self, OutputKeyError> {
        let is_name = |name: &str| ExtensionName::parse(name).is_ok();
        let is_uid = (1..=64).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let parts = [("namespace", namespace, is_name(namespace)), ("run", run, is_name(run)), ("UID", uid, is_uid)];
        match parts.into_iter().find(|(_, _, is_fine)| !is_fine) {
            Some((what, text, _)) => Err(OutputKeyError { what, text: text.chars().take(100).collect() }),
            None => Ok(Self { namespace: namespace.to_owned(), run: run.to_owned(), uid: uid.to_owned() }),
        }
    }

    /// Namespace of the run.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the run.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// UID of the run.
    pub fn uid(&self) -> &str {
        &self.uid
    }
}

/// One attempt's output on the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOutput {
    /// The run.
    pub key: OutputKey,
    /// Number of the attempt.
    pub attempt: u32,
    /// What it takes, in bytes.
    pub bytes: u64,
    /// Since when it is kept.
    pub since: SystemTime,
}

/// How long outputs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Longest time.
    pub age: Duration,
    /// Most bytes of all together.
    pub bytes: u64,
}

impl Retention {
    /// Which of `kept` go at `now`: what is too old, and then, until the rest fits, each time the oldest of the namespace
    /// that has most, so that one that prints much does not cost the others theirs.
    pub fn expired(&self, kept: Vec<KeptOutput>, now: SystemTime) -> Vec<KeptOutput> {
        let is_old = |output: &KeptOutput| now.duration_since(output.since).is_ok_and(|age| age > self.age);
        let (mut expired, mut young): (Vec<_>, Vec<_>) = kept.into_iter().partition(is_old);
        young.sort_by_key(|output| std::cmp::Reverse(output.since));
        let mut total = 0_u64;
        // of each namespace its bytes and its outputs, the oldest last
        let mut namespaces: BTreeMap<String, (u64, Vec<KeptOutput>)> = BTreeMap::new();
        for output in young {
            total = total.saturating_add(output.bytes);
            let (bytes, line) = namespaces.entry(output.key.namespace.clone()).or_default();
            *bytes = bytes.saturating_add(output.bytes);
            line.push(output);
        }
        while total > self.bytes {
            let Some((bytes, line)) = namespaces.values_mut().max_by_key(|(bytes, _)| *bytes) else { break };
            let Some(output) = line.pop() else { break };
            *bytes = bytes.saturating_sub(output.bytes);
            total = total.saturating_sub(output.bytes);
            expired.push(output);
        }
        expired
    }
}

/// The outputs on one volume. Clones are the same. All calls block on the disk; one process at a time may write.
#[derive(Debug, Clone)]
pub struct Outputs {
    root: PathBuf,
    /// Opened before anything is changed, so that nothing is on a volume of another's.
    store: Option<Arc<LazyStore>>,
    /// Held while directories are made or removed, never while bytes are written.
    placing: Arc<Mutex<()>>,
    /// What everything kept takes, in bytes, as far as it is known.
    total: Arc<AtomicU64>,
}

impl Outputs {
    /// The outputs on the volume mounted at `root`, whose directories are made if they are missing; what a crash left is
    /// removed.
    ///
    /// # Errors
    /// What the volume refuses.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let outputs = Self::at(root);
        outputs.prepare()?;
        Ok(outputs)
    }

    /// Make the directories that are missing, and remove what a crash left: before the first output is kept.
    ///
    /// # Errors
    /// What the volume refuses.
    pub fn prepare(&self) -> Result<(), StoreError> {
        self.check_owner()?;
        let root = &self.root;
        let top = beneath::open_root(root).map_err(|error| StoreError::io("open volume", root, error))?;
        create_directory(&top, RUNS, MODE, root)?;
        let runs = self.runs()?;
        create_directory(&runs.fd, STAGING, MODE, &runs.path)?;
        let staging = self.staging()?;
        for name in staging.names()? {
            tree::remove(&staging.fd, &name, &staging.path)?;
        }
        Ok(())
    }

    /// The same for a reader, or until [`prepare`](Self::prepare): nothing is made or removed.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), store: None, placing: Arc::default(), total: Arc::default() }
    }

    /// The outputs on the volume of `store`, which keeps them from one that is another operator's.
    pub fn beside(store: Arc<LazyStore>) -> Self {
        Self { store: Some(store.clone()), ..Self::at(store.root()) }
    }

    fn check_owner(&self) -> Result<(), StoreError> {
        self.store.as_ref().map_or(Ok(()), |store| store.get().map(drop))
    }

    /// Keep what an attempt printed. What is kept of it already stays.
    ///
    /// # Errors
    /// What the volume refuses, [`StoreError::Owned`] where it is another's; then nothing is kept.
    pub fn keep(&self, key: &OutputKey, attempt: u32, stdout: &[u8], stderr: &[u8]) -> Result<(), StoreError> {
        self.check_owner()?;
        let staging = self.staging()?;
        let name = random_name()?;
        let staged = stage(&staging, &name, &[("stdout", stdout), ("stderr", stderr)]);
        let bytes = OVERHEAD_BYTES + stdout.len() as u64 + stderr.len() as u64;
        let kept = staged.and_then(|()| self.place(&staging, &name, key, attempt, bytes));
        // What was placed is not there any more; the rest is swept at the next start if it cannot be removed now.
        let _ = tree::remove(&staging.fd, &name, &staging.path);
        kept
    }

    fn place(
        &self,
        staging: &Directory,
        name: &str,
        key: &OutputKey,
        attempt: u32,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let _placing = self.lock();
        let mut at = self.runs()?;
        for part in [&key.namespace, &key.run, &key.uid] {
            if at.open(part)?.is_none() {
                create_directory(&at.fd, part, MODE, &at.path)?;
                at.sync()?;
            }
            at = at.open(part)?.ok_or_else(|| gone(at.path.join(part)))?;
        }
        let attempt = attempt.to_string();
        if at.open(&attempt)?.is_some() {
            return Ok(());
        }
        staging.rename_new(name, &at, &attempt)?;
        self.total.fetch_add(bytes, Ordering::Relaxed);
        at.sync()
    }

    /// What everything kept takes, in bytes: counted by the last [`list`](Self::list), and what was kept since.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Everything that is kept. What is no directory where one belongs is nobody's output: it is skipped and logged.
    ///
    /// # Errors
    /// If the volume cannot be read, or is another's.
    pub fn list(&self) -> Result<Vec<KeptOutput>, StoreError> {
        self.check_owner()?;
        let runs = self.runs()?;
        let before = self.total();
        let mut kept = Vec::new();
        for namespace in runs.names()?.into_iter().filter(|name| name != STAGING) {
            let Some(directory) = open_or_skip(&runs, &namespace)? else { continue };
            for run in directory.names()? {
                let Some(named) = open_or_skip(&directory, &run)? else { continue };
                kept.extend(of(&named, &namespace, &run)?);
            }
        }
        let counted: u64 = kept.iter().map(|output| output.bytes).sum();
        // What was kept meanwhile may be counted twice: until the next time.
        self.total.store(counted + self.total().saturating_sub(before), Ordering::Relaxed);
        Ok(kept)
    }

    /// What is kept of the runs of this name, which may have been several, oldest first. Names that Kubernetes does not
    /// give have nothing.
    ///
    /// # Errors
    /// If the volume cannot be read.
    pub fn of(&self, namespace: &str, run: &str) -> Result<Vec<KeptOutput>, StoreError> {
        if OutputKey::new(namespace, run, "0").is_err() {
            return Ok(Vec::new());
        }
        match self.runs()?.open(&format!("{namespace}/{run}"))? {
            Some(named) => of(&named, namespace, run),
            None => Ok(Vec::new()),
        }
    }

    /// The bytes of standard output and standard error that are kept of an attempt.
    ///
    /// # Errors
    /// If the volume cannot be read.
    pub fn read(&self, kept: &KeptOutput) -> Result<(Vec<u8>, Vec<u8>), StoreError> {
        let OutputKey { namespace, run, uid } = &kept.key;
        let path = format!("{namespace}/{run}/{uid}/{}", kept.attempt);
        let runs = self.runs()?;
        let directory = runs.open(&path)?.ok_or_else(|| gone(runs.path.join(&path)))?;
        let stream = |name: &str| Ok(read_file(&directory, name, STREAM_BYTES)?.unwrap_or_default());
        Ok((stream("stdout")?, stream("stderr")?))
    }

    /// Remove one attempt's output, and the directories that are empty then.
    ///
    /// # Errors
    /// What the volume refuses; calling again goes on.
    pub fn remove(&self, kept: &KeptOutput) -> Result<(), StoreError> {
        let _placing = self.lock();
        let OutputKey { namespace, run, uid } = &kept.key;
        let runs = self.runs()?;
        let Some(attempts) = runs.open(&format!("{namespace}/{run}/{uid}"))? else { return Ok(()) };
        tree::remove(&attempts.fd, &kept.attempt.to_string(), &attempts.path)?;
        let less = |total: u64| Some(total.saturating_sub(kept.bytes));
        let _ = self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        for path in [format!("{namespace}/{run}/{uid}"), format!("{namespace}/{run}"), namespace.clone()] {
            match rustix::fs::unlinkat(&runs.fd, path.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => break,
                Err(error) => return Err(StoreError::io("remove", runs.path.join(path), error.into())),
            }
        }
        Ok(())
    }

    fn runs(&self) -> Result<Directory, StoreError> {
        let path = self.root.join(RUNS);
        let opened = beneath::open_root(&self.root).and_then(|root| beneath::open_directory(root, Some(RUNS)));
        let fd = opened.map_err(|error| StoreError::io("open", &path, error))?;
        Ok(Directory { fd, path })
    }

    fn staging(&self) -> Result<Directory, StoreError> {
        let runs = self.runs()?;
        runs.open(STAGING)?.ok_or_else(|| gone(runs.path.join(STAGING)))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is kept of the runs whose directory is `named`, oldest first.
fn of(named: &Directory, namespace: &str, run: &str) -> Result<Vec<KeptOutput>, StoreError> {
    let mut kept = Vec::new();
    for uid in named.names()? {
        let Ok(key) = OutputKey::new(namespace, run, &uid) else { continue };
        let Some(attempts) = open_or_skip(named, &uid)? else { continue };
        for attempt in attempts.names()? {
            let Ok(number) = attempt.parse() else { continue };
            let Some(directory) = open_or_skip(&attempts, &attempt)? else { continue };
            kept.push(measured(&directory, key.clone(), number)?);
        }
    }
    kept.sort_by_key(|output| (output.since, output.attempt));
    Ok(kept)
}

/// The directory `name`; `None` for what is none, so that one stray file does not keep everything else from being swept.
fn open_or_skip(directory: &Directory, name: &str) -> Result<Option<Directory>, StoreError> {
    if directory.is_directory(name)? {
        return directory.open(name);
    }
    tracing::warn!(path = %directory.path.join(name).display(), "no directory, and nobody's output: it is left alone");
    Ok(None)
}

/// Write the streams that are not empty into a new directory `name`, and all of it to disk.
fn stage(staging: &Directory, name: &str, streams: &[(&str, &[u8])]) -> Result<(), StoreError> {
    create_directory(&staging.fd, name, MODE, &staging.path)?;
    let made = staging.open(name)?.ok_or_else(|| gone(staging.path.join(name)))?;
    for (stream, bytes) in streams.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let write = || -> io::Result<()> {
            let mut file = File::from(beneath::create_file(&made.fd, stream)?);
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| StoreError::io("write", made.path.join(stream), error))?;
    }
    made.sync()
}

fn measured(directory: &Directory, key: OutputKey, attempt: u32) -> Result<KeptOutput, StoreError> {
    let failed = |error| StoreError::io("read", &directory.path, error);
    let stat = rustix::fs::fstat(&directory.fd).map_err(|error| failed(error.into()))?;
    let since = UNIX_EPOCH + Duration::from_secs(stat.st_mtime.try_into().unwrap_or_default());
    let mut bytes = OVERHEAD_BYTES;
    for stream in ["stdout", "stderr"] {
        let stat = beneath::stat(&directory.fd, stream.as_bytes()).map_err(failed)?;
        bytes += stat.and_then(|stat| u64::try_from(stat.st_size).ok()).unwrap_or_default();
    }
    Ok(KeptOutput { key, attempt, bytes, since })
}

fn gone(path: PathBuf) -> StoreError {
    StoreError::io("open", path, Errno::NOENT.into())
}

#[cfg(test)]
#[path = "outputs_tests.rs"]
mod tests;
