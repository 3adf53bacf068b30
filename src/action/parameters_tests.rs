//! What a run's parameters are checked for.
