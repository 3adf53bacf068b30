//! The run controller: the same, the Job builder, claim and report.

pub mod claim;
pub mod context;
pub mod decide;
pub mod job;
pub mod live;
pub mod report;
pub mod request;
pub mod status;
pub mod view;
