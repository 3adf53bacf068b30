//! The run controller: the same, the Job builder, claim and report.

pub mod contract;
pub mod job;
pub mod status;
pub mod view;
