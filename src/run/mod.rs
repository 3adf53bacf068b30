//! The run controller: decide, build the Job, answer claims and reports, and record the outcome.
//!
//! ```text
//!  ActionRun ─► controller: dereference ─► request (validate) ─► decide ─► status, then Job
//!                                                                  ▲
//!  runner ─► routes: claim, report ─► compare-and-swap on the run ─┘
//! ```
//!
//! `claim`, `decide`, `job`, `report`, `request`, `rights`, `secret_parameters`, `status` and `view` are pure; `ask`,
//! `check`, `context`, `live`, `routes`, `controller` and `sweep` do I/O and decide nothing. `local` and `local_target`,
//! pure too, use the same for a run without a cluster.

mod ask;
mod authenticate;
mod check;
pub mod claim;
pub mod context;
pub mod controller;
pub mod decide;
#[cfg(test)]
mod fake_api;
#[cfg(test)]
mod fixture;
pub mod job;
pub mod live;
pub mod local;
pub mod local_target;
pub mod report;
pub mod request;
pub mod rights;
pub mod routes;
pub mod secret_parameters;
pub mod status;
pub mod sweep;
pub mod view;

pub use authenticate::authenticated;
pub use check::checker;
pub use context::{Caches, Context, NotSynced, Settings, Trees};
pub use controller::watches;
pub use request::Policy;
pub use routes::routes;
