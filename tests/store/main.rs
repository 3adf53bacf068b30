//! The store on volumes that really fail: full, read-only, closed, gone, with something in the way; and what it asks the
//! kernel to write to disk, and when; what it does without the renames that NFS lacks; what kubelet makes on them; what of
//! them is closed to the operator; and what a command finds.
//!
//! Each test runs itself again in a mount namespace of its own, with a small file system as its volume. That takes root,
//! or a user namespace; where neither is given the tests fail and say so.

#![allow(clippy::unwrap_used, reason = "all of this is tests, which clippy cannot see without #[test]")]

mod closed;
mod command;
mod faults;
mod kubelet;
mod power;
mod rename;
mod volume;
