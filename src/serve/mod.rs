//! TLS listener, certificates, health, metrics, the way to the leader.

pub mod certificates;
pub mod forward;
pub mod health;
pub mod issue;
pub mod keys;
pub mod tls;
pub mod webhook_config;
