//! Parameters, payload, templates, outcome.
