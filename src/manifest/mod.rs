//! The upstream manifest: parse, locate errors, merge, convert.
