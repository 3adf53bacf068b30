//! Outrigger: a Kubernetes operator for extensions that orchestrate external infrastructure.
//!
//! Data flows downward, and so do the dependencies between the modules:
//!
//! ```text
//!  manifest / resource ─► validate ─► source::resolve ─► source::fetch ─► archive ─► store::publish ─► status
//!       (manifest, api)    (pure)      pinned revision     bytes, digest    limits     fsync, rename,
//!                                                                                      swap link
//!  ActionRun ─► admission ─► action ─► run::job ─► runner: verify tree, claim ─► payload ─► script
//!              (caller)      (pure)    (pure)                     ▲                            │
//!                                   status ◄─ action::outcome ◄───┴──────── report ◄───────────┘
//! ```
//!
//! | module        | its one job                                                              | pure |
//! |---------------|--------------------------------------------------------------------------|------|
//! | [`digest`]    | the content digest type that trees, files and pins share                 | yes  |
//! | [`protocol`]  | what runner and leader say to each other, and how it is authenticated    | yes  |
//! | [`redact`]    | finds secrets in what was printed, and masks them                         | yes  |
//! | [`runner`]    | what runs inside the Job: claim, start, drain, stop, report              | no   |
//! | `api`         | the kinds: types, CEL rules, conditions, reasons                         | yes  |
//! | `manifest`    | the upstream manifest: parse, locate errors, merge, convert              | yes  |
//! | `validate`    | spec → validated values; all errors at once                              | yes  |
//! | `action`      | parameters, payload, templates, outcome                                  | yes  |
//! | `archive`     | unpack untrusted tar and zip into an empty directory, under limits       | no   |
//! | `store`       | the content-addressed store: stage, publish, link, verify, collect       | no   |
//! | `signature`   | signatures of sources: bytes and public keys in, a verdict out           | yes  |
//! | `source`      | git, archive, registry, ConfigMap: to a pinned revision, by one door     | no   |
//! | `extension`   | the extension controller: dereference, validate, plan, apply, status     | no   |
//! | `run`         | the run controller: the same, the Job builder, claim and report          | no   |
//! | `admission`   | the webhooks: stamp the caller, refuse what a schema cannot              | no   |
//! | `serve`       | TLS listener, certificates, health, metrics, the way to the leader       | no   |
//! | `lease`       | one writer: a Lease that is lost before another replica can win it       | no   |
//! | `telemetry`   | logs and metrics                                                         | no   |
//! | `cli`         | the command line                                                         | no   |

pub mod digest;
pub mod protocol;
pub mod redact;
pub mod runner;

#[cfg(feature = "operator")]
pub mod action;
#[cfg(feature = "operator")]
pub mod admission;
#[cfg(feature = "operator")]
pub mod api;
#[cfg(feature = "operator")]
pub mod archive;
#[cfg(feature = "operator")]
pub mod cli;
#[cfg(feature = "operator")]
pub mod extension;
#[cfg(feature = "operator")]
#[cfg(test)]
mod fake_api;
#[cfg(feature = "operator")]
pub mod lease;
#[cfg(feature = "operator")]
pub mod manifest;
#[cfg(feature = "operator")]
pub mod run;
#[cfg(feature = "operator")]
pub mod serve;
#[cfg(feature = "operator")]
pub mod signature;
#[cfg(feature = "operator")]
pub mod source;
#[cfg(feature = "operator")]
pub mod store;
#[cfg(feature = "operator")]
pub mod telemetry;
#[cfg(feature = "operator")]
pub mod validate;
