//! TLS listener, certificates, health, metrics, the way to the leader.

#[cfg(test)]
pub(crate) mod fake_api;
pub mod keys;
