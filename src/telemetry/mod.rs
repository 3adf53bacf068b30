//! Logs and metrics.

mod logs;
mod metrics;

pub use logs::{LogFormat, LogsError, logs};
pub use metrics::{Metrics, RequestResult};
