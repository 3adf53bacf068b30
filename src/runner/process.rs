//! The processes of a run: find them, signal them all, reap every one of them in a single place.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{self, Pid, Signal, WaitOptions};

use super::control::Control;

/// How often KILL is repeated while processes are left: one may fork while the others are being killed.
const KILL_INTERVAL: Duration = Duration::from_millis(20);

/// Closes `/proc/<runner>/{environ,fd,mem}` to other processes of the same user, and never dumps core.
pub fn protect_self() {
    // Fails only for an unknown value.
    let _ = process::set_dumpable_behavior(process::DumpableBehavior::NotDumpable);
}

/// Takes over orphans, so that a process cannot leave the run by losing its parent. PID 1 gets them anyway.
pub fn adopt_orphans() {
    let myself = process::getpid();
    if myself != Pid::INIT {
        // Linux knows this since 3.4.
        let _ = process::set_child_subreaper(Some(myself));
    }
}

/// Reaps children until none is left, and tells `control` when `script` and when all have ended. Nothing else in the
/// process may wait for children meanwhile.
pub fn reap(script: Pid, control: &Control) {
    let mut options = WaitOptions::empty();
    let mut ended = None;
    loop {
        match process::wait(options) {
            Ok(Some((pid, status))) if pid == script => {
                ended = Some((status, Instant::now()));
                // Mostly nobody else is left. Told together, that saves the search for others to kill.
                options = WaitOptions::NOHANG;
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => {
                control.update(|state| state.ended = ended);
                options = WaitOptions::empty();
            }
            // ECHILD: processes without a living ancestor among our children cannot exist.
            Err(_) => break,
        }
    }
    control.update(|state| (state.ended, state.all_gone) = (ended, true));
}

/// Sends TERM to every process of the run: as PID 1, to the whole PID namespace. One that was stopped is continued: else TERM
/// would not reach it before KILL does.
///
/// Elsewhere they are found one by one, and one may fork meanwhile: so all are stopped first, until no new one turns up.
/// Sending TERM again instead would also reach what a script starts to clean up.
pub fn terminate_all(script: Pid) {
    if signal_namespace(Signal::TERM) {
        signal_namespace(Signal::CONT);
        return;
    }
    let mut stopped = HashSet::new();
    while let Some(found) = descendants(process::getpid()) {
        let new: Vec<Pid> = found.into_iter().filter(|pid| stopped.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        signal_each(&new, Signal::STOP);
    }
    if stopped.is_empty() {
        // Without /proc only the script's group can be found.
        let _ = process::kill_process_group(script, Signal::TERM);
        let _ = process::kill_process_group(script, Signal::CONT);
    }
    signal_each(&stopped, Signal::TERM);
    signal_each(&stopped, Signal::CONT);
}

/// As PID 1: kill(-1), which reaches all but this process itself, atomically. Says whether it could.
fn signal_namespace(signal: Signal) -> bool {
    let is_first = process::getpid() == Pid::INIT;
    if is_first {
        // ESRCH: nobody is left.
        let _ = process::kill_process_group(Pid::INIT, signal);
    }
    is_first
}

/// A process that has ended meanwhile is no error.
fn signal_each<'a>(pids: impl IntoIterator<Item = &'a Pid>, signal: Signal) {
    for pid in pids {
        let _ = process::kill_process(*pid, signal);
    }
}

/// Kills every process of the run, again and again until none is left or `patience` is over (a process in
/// uninterruptible sleep does not die).
pub fn kill_all(script: Pid, control: &Control, patience: Duration) {
    let deadline = Instant::now() + patience;
    while !control.wait(Some(Instant::now()), |state| state.all_gone).all_gone {
        if !signal_namespace(Signal::KILL) {
            match descendants(process::getpid()) {
                Some(found) => signal_each(&found, Signal::KILL),
                None => drop(process::kill_process_group(script, Signal::KILL)),
            }
        }
        let next = Instant::now() + KILL_INTERVAL;
        control.wait(Some(next), |state| state.all_gone);
        if next > deadline {
            return;
        }
    }
}

/// All processes below `root`, from `/proc`; `None` if that cannot be read.
fn descendants(root: Pid) -> Option<Vec<Pid>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_in_stat(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![root.as_raw_pid()];
    while let Some(pid) = open.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            open.push(child);
            found.extend(Pid::from_raw(child));
        }
    }
    Some(found)
}

/// The parent's pid in the text of `/proc/<pid>/stat`: `pid (name) state ppid …`, where the name may hold anything.
fn parent_in_stat(stat: &[u8]) -> Option<i32> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    str::from_utf8(&stat[after_name..]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_fake_its_parent() {
        assert_eq!(parent_in_stat(b"7 (sh) S 1 7 7 0"), Some(1));
        assert_eq!(parent_in_stat(b"7 (x) S 42 (\xff ) S 3 7 7 0"), Some(3));
        assert_eq!(parent_in_stat(b"7 (sh"), None);
    }

    #[test]
    fn a_child_is_found_among_the_descendants() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = descendants(process::getpid()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&Pid::from_raw(child.id().cast_signed()).unwrap()));
    }
}
