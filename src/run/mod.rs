//! The run controller: the same, the Job builder, claim and report.
