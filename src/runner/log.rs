//! What the runner itself says in the pod's log.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a message waits for room in the log.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Says `message` on standard error. One that is closed is no reason to die, and one that takes nothing no reason to keep an
/// outcome back: so its lock, which whoever passes the script's output on may hold, is not waited for either.
pub fn log(message: &str) {
    let stderr = io::stderr();
    let mut room = [PollFd::new(&stderr, PollFlags::OUT)];
    if poll(&mut room, Some(&PATIENCE)).is_ok_and(|ready| ready > 0) {
        let _ = rustix::io::write(&stderr, format!("outrigger-runner: {message}\n").as_bytes());
    }
}
