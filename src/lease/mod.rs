//! One writer: a Lease that is lost before another replica can win it.
//!
//! A holder renews every 2 s and gives up 10 s after it *sent* its last successful renewal; another replica takes over
//! only after it has seen the same record for 15 s by its own monotonic clock. No two wall clocks are compared.

mod decide;
mod elector;

pub use decide::{ADDRESS, Decision, evaluate};
pub use elector::{Elector, Leadership, Settings};
