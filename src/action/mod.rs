//! Parameters, payload, templates, outcome. Pure: no client, clock, disk or network.
//!
//! [`parameters`] types what a run gives, [`payload()`] builds the JSON that the script reads, [`outcome()`] reads what it
//! printed, and [`template`] fills in the messages.

mod json;
mod lenient;
mod outcome;
pub mod parameters;
mod payload;
mod tail;
pub mod template;
mod wire;

pub use outcome::{OutcomeInput, RESULT_BYTES, SECRET_RESULT_BYTES, Verdict, may_answer_with_password, outcome};
pub use payload::{PayloadInput, caller, payload};
pub use tail::{printable, tail};
pub use template::Names;
pub use wire::{ConsoleAnswer, PowerState, Prepared};
