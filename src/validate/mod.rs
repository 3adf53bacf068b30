//! Spec → validated values; all errors at once.
