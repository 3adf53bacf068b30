//! Logs and metrics.

mod logs;
mod metrics;
mod requests;

pub use logs::{LogFormat, LogsError, logs};
pub use metrics::{Metrics, RequestResult};
