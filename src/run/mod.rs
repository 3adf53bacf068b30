//! The run controller: decide, build the Job, answer claims and reports, and record the outcome.
//!
//! ```text
//!  ActionRun ─► controller: dereference ─► request (validate) ─► decide ─► status, then Job
//!                                                                  ▲
//!  runner ─► routes: claim, report ─► compare-and-swap on the run ─┘
//! ```
//!
//! `claim`, `claimed`, `decide`, `job`, `kept`, `network_policy`, `queue`, `report`, `request`, `retention`, `retry`,
//! `rights`, `secret_parameters`, `status`, `target_status`, `tries`, `turn`, `verdict` and `view` are pure; `apply`, `ask`,
//! `authenticate`, `caches`, `check`, `collect`, `context`, `controller`, `entrypoint`, `expire`, `gone`, `live`, `output`,
//! `pinned`, `restrict`, `routes`, `slots`, `sweep`, `unreadable`, `unstarted` and `watching` do I/O, or remember, and decide
//! nothing. `local` and `local_target`, pure too, use the same for a run without a cluster.

mod apply;
mod ask;
mod authenticate;
mod caches;
mod check;
pub mod claim;
mod claimed;
pub mod collect;
pub mod context;
pub mod controller;
pub mod decide;
mod entrypoint;
mod expire;
#[cfg(test)]
mod fixture;
mod gone;
pub mod job;
mod kept;
pub mod live;
pub mod local;
pub mod local_target;
pub mod network_policy;
pub mod output;
mod pinned;
pub mod queue;
pub mod report;
pub mod request;
pub mod restrict;
pub mod retention;
pub mod retry;
pub mod rights;
pub mod routes;
pub mod secret_parameters;
mod slots;
pub mod status;
pub mod sweep;
pub mod target_status;
mod tries;
mod turn;
mod unreadable;
mod unstarted;
pub mod verdict;
pub mod view;
mod watching;

pub use authenticate::authenticated;
pub use caches::Caches;
pub use check::checker;
pub use context::{Context, Settings, Trees};
pub use request::Policy;
pub use routes::routes;
pub use watching::{Extensions, Triggers, watches};
