//! The extension controller: dereference, validate, plan, apply, status.
