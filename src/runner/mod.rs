//! What runs inside the Job: claim, start, drain, stop, report.
