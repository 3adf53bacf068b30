//! TLS listener, certificates, health, metrics, the way to the leader.

mod budget;
pub mod certificates;
mod connections;
pub mod forward;
pub mod health;
mod held;
pub mod issue;
pub mod keys;
#[cfg(test)]
mod load_tests;
pub mod rotation;
pub mod serving;
pub mod tls;
pub mod turns;
pub mod webhook_config;
