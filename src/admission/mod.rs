//! The webhooks: stamp the caller, refuse what a schema cannot.
//!
//! | address                            | on                    | does                                                  |
//! |------------------------------------|-----------------------|-------------------------------------------------------|
//! | `/admission/actionruns/mutate`     | create, update        | stamps the caller, adds the finalizer                 |
//! | `/admission/actionruns/validate`   | create, update        | sizes, types, what comes later, meaning; immutability |
//! | `/admission/extensions/mutate`     | create, update        | refuses what the controller would; adds the finalizer |
//!
//! [`size`] bounds, [`review`] decides, [`handlers`] speak HTTP, [`stamp`] signs.

mod canonical;
pub mod handlers;
pub mod limits;
pub mod review;
pub mod size;
pub mod stamp;

pub use handlers::{Admission, ExtensionChecker, RunCheck, RunChecker, router};
