//! TLS listener, certificates, health, metrics, the way to the leader.
