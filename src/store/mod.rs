//! The content-addressed store: stage, publish, link, verify, collect.
