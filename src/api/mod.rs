//! The kinds: types, CEL rules, conditions, reasons.
