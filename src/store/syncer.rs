//! Group commit: those who wait for the disk at the same time share one `syncfs`, so that a thousand installs do not pay
//! for a thousand.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// File systems whose `syncfs` writes everything and says so when it could not (statfs(2) has the numbers): ext2 to ext4,
/// XFS, Btrfs, F2FS, tmpfs. FUSE may do nothing; overlayfs does not pass on what its layers say; NFS is not tried here.
const TRUSTED: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];
/// Since this version of Linux `syncfs` reports data that could not be written (syncfs(2)).
const REPORTING: (u32, u32) = (5, 8);

/// Those who wait for one disk. One of them syncs for all who came before it began; who comes later waits for the next.
pub(super) struct Group {
    device: u64,
    sync: Box<dyn Fn() -> Result<(), Errno> + Send + Sync>,
    rounds: Mutex<Rounds>,
    ended: Condvar,
}

#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    failures: u64,
    last_failure: Option<Errno>,
}

/// When something began to be written. The disk reports data that it lost once, to whoever syncs next: so each failure
/// counts for all that had begun by then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since(u64);

impl Group {
    /// The group for the disk on which `directory` is; `None` where one `syncfs` for all is not to be trusted, so that each
    /// must sync every file of its own.
    ///
    /// # Errors
    /// If the file system does not answer.
    pub(super) fn of(directory: impl AsFd) -> io::Result<Option<Self>> {
        static REPORTS: LazyLock<bool> = LazyLock::new(|| {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            version(&release) >= Some(REPORTING)
        });
        let kind = rustix::fs::fstatfs(&directory)?.f_type;
        if !TRUSTED.contains(&kind) || !*REPORTS {
            return Ok(None);
        }
        // This handle is the one that errors are reported to, from now on, whoever else syncs this disk.
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let disk = rustix::fs::openat(&directory, ".", flags, Mode::empty())?;
        let device = device(&disk)?;
        Ok(Some(Self::new(device, move || rustix::fs::syncfs(&disk))))
    }

    fn new(device: u64, sync: impl Fn() -> Result<(), Errno> + Send + Sync + 'static) -> Self {
        Self { device, sync: Box::new(sync), rounds: Mutex::default(), ended: Condvar::new() }
    }

    /// Whether `directory` is on this disk.
    pub(super) fn is_of(&self, directory: impl AsFd) -> io::Result<bool> {
        Ok(device(directory)? == self.device)
    }

    /// To be called before the first write that a later [`sync`](Self::sync) is to cover.
    pub(super) fn begin(&self) -> Since {
        Since(self.rounds().failures)
    }

    /// Return when all that was written before this call is on the disk.
    ///
    /// # Errors
    /// If something could not be written since `since`, by whomever.
    pub(super) fn sync(&self, since: Since) -> io::Result<()> {
        let mut rounds = self.rounds();
        let wanted = rounds.begun + 1;
        loop {
            match rounds.last_failure {
                Some(failure) if rounds.failures != since.0 => return Err(failure.into()),
                _ if rounds.ended >= wanted => return Ok(()),
                _ => {}
            }
            if rounds.begun > rounds.ended {
                rounds = self.ended.wait(rounds).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            rounds.begun += 1;
            drop(rounds);
            let synced = (self.sync)();
            rounds = self.rounds();
            rounds.ended = rounds.begun;
            if let Err(failure) = synced {
                rounds.failures += 1;
                rounds.last_failure = Some(failure);
            }
            self.ended.notify_all();
        }
    }

    fn rounds(&self) -> MutexGuard<'_, Rounds> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("device", &self.device).finish_non_exhaustive()
    }
}

fn device(file: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(file)?.st_dev)
}

/// Major and minor number of a kernel's release, `6.1.0-13-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use std::sync::{Arc, Barrier, mpsc};
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_who_wait_at_the_same_time_share_a_sync_that_began_after_they_came() {
        let (written, durable, rounds) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
        let durable = Arc::new(durable);
        let group = Group::new(0, {
            let (written, durable, rounds) = (written.clone(), durable.clone(), rounds.clone());
            move || {
                let reached = written.load(SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                durable.store(reached, SeqCst);
                rounds.fetch_add(1, SeqCst);
                Ok(())
            }
        });
        let start = Barrier::new(16);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..10 {
                        let since = group.begin();
                        let mine = written.fetch_add(1, SeqCst) + 1;
                        group.sync(since).unwrap();
                        assert!(durable.load(SeqCst) >= mine, "returned before a sync covered it");
                    }
                });
            }
        });
        assert!(rounds.load(SeqCst) < 80, "{rounds:?} rounds for 160 syncs");
    }

    #[test]
    fn data_that_was_lost_is_reported_to_all_who_had_begun_and_to_nobody_else() {
        let (sender, results) = mpsc::channel::<Result<(), Errno>>();
        let results = Mutex::new(results);
        let group = Group::new(0, move || results.lock().unwrap().recv().unwrap());
        let (first, second) = (group.begin(), group.begin());
        sender.send(Err(Errno::IO)).unwrap();
        assert_eq!(group.sync(first).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
        // the disk says it once
        sender.send(Ok(())).unwrap();
        assert!(group.sync(second).is_err());
        let third = group.begin();
        assert!(group.sync(third).is_ok());
    }

    #[test]
    fn a_disk_that_reports_what_it_lost_is_synced_at_once_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let open = |path: &std::path::Path| std::fs::File::open(path).unwrap();
        let trusted = TRUSTED.contains(&rustix::fs::fstatfs(open(directory.path())).unwrap().f_type);
        let group = Group::of(open(directory.path())).unwrap();
        assert_eq!(group.is_some(), trusted);
        if let Some(group) = group {
            assert!(group.is_of(open(directory.path())).unwrap() && !group.is_of(open("/proc".as_ref())).unwrap());
            group.sync(group.begin()).unwrap();
        }
        assert!(Group::of(open("/proc".as_ref())).unwrap().is_none());
    }

    #[test]
    fn a_kernel_that_says_nothing_about_lost_data_is_told_by_its_version() {
        for (release, reports) in [
            ("6.1.0-13-amd64", true),
            ("5.8.0", true),
            ("5.10.1", true),
            ("5.4.0-1-generic", false),
            ("4.19", false),
            ("", false),
        ] {
            assert_eq!(version(release) >= Some(REPORTING), reports, "{release}");
        }
    }
}
