//! The webhooks: stamp the caller, refuse what a schema cannot.

mod canonical;
pub mod stamp;
