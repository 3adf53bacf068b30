//! TLS listener, certificates, health, metrics, the way to the leader.

pub mod certificates;
#[cfg(test)]
pub(crate) mod fake_api;
pub mod forward;
pub mod health;
pub mod issue;
pub mod keys;
pub mod tls;
