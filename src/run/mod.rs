//! The run controller: the same, the Job builder, claim and report.

pub mod claim;
pub mod request;
pub mod decide;
pub mod job;
pub mod report;
pub mod status;
pub mod view;
