//! The extension controller: dereference, validate, plan, apply, status.
//!
//! | file            | its job                                                       | needs |
//! |-----------------|---------------------------------------------------------------|-------|
//! | `watch`         | the cache of all extensions, and what changes                  | client |
//! | `controller`    | one reconcile at a time for each                               | client |
//! | `reconcile`     | the five calls                                                 | client |
//! | `look`          | whether what is installed is on the volume, unchanged          | volume |
//! | `dereference`   | reads what the resource refers to: Secret, ConfigMap, manifest | client, network |
//! | `plan`          | what to do: leave, re-use, fetch                               | nothing |
//! | `postpone`      | when a source may be asked again whose server named a time     | nothing |
//! | `apply`         | does it: resolve, fetch, publish, link                         | network, volume |
//! | `restore`       | rollback: installs a kept pair again                           | volume |
//! | `status`        | the status that follows                                        | nothing |
//! | `trust`         | whose signature stands for what is installed, and is it enough | nothing |
//! | `write`         | writes it, unless somebody else has                            | client |
//! | `news`          | what is worth an event                                         | nothing |
//! | `volume`        | work on the volume, which may hang                             | volume |
//! | `finalize`      | deletion: waits for runs, then unlinks                         | client, volume |
//! | `collect`       | removes trees that nothing uses, slowly                        | client, volume |
//! | `check`         | what admission says about a resource                           | nothing |
//! | `events`        | publishes events in the background                             | client |
//! | `usage`         | what objects use of the volume                                 | client |
//! | `backoff`, `failure` | pauses and failures                                       | nothing |

mod apply;
mod backoff;
mod check;
mod collect;
mod context;
mod controller;
mod dereference;
mod events;
mod failure;
mod finalize;
#[cfg(test)]
mod fixture;
mod look;
mod news;
mod plan;
mod postpone;
mod reconcile;
mod restore;
mod status;
mod trust;
mod usage;
mod volume;
mod watch;
mod write;

pub use check::admissible;
pub use collect::collect_until;
pub use context::Context;
pub use controller::run;
pub use events::Events;
pub use volume::Volume;
pub use watch::{Watch, start as watch};
