//! Finds secrets in what was printed, however they are spelled, and masks them. Pure.
//!
//! | module        | its one job                                                             |
//! |---------------|-------------------------------------------------------------------------|
//! | `needles`     | the texts to look for so that no secret appears                         |
//! | `spellings`   | what a text can stand for, unescaped or decoded                         |
//! | `follow`      | follows one such text through an output                                 |
//! | `redactor`    | replaces secrets in a byte stream                                       |
//! | `mask`        | masks secrets in a whole text, so that JSON stays JSON                  |

mod follow;
mod mask;
mod needles;
mod redactor;
mod spellings;

pub use mask::masked;
pub use redactor::{Redactor, Secrets};
