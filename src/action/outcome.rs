//! What an attempt's outcome means for its run. Pure: no client, clock, disk or network.
//!
//! Success is exit code 0, as in CloudStack; `strictResult` also fails a run whose JSON says that it failed. Only the
//! actions whose answer CloudStack reads can fail by their output: `prepare`, `statuses`, `getconsole`. A `status` that
//! cannot be read is `PowerUnknown`. A result over 64 KiB leaves the run as it ended: `result` is absent, the reason is
//! `ResultTooLarge`, and up to 768 KiB of it are offered in [`Verdict::secret`].

use serde_json::{Value, json};

use crate::api::{Phase, Reason};
use crate::protocol::{Ending, Fault, MASK, Outcome, TAIL_BYTES};
use crate::validate::{ActionKind, LifecycleAction};

use super::json::{explanation, find, refusal, says_failed};
use super::lenient;
use super::tail::{head, tail};
use super::template::{self, Names};
use super::wire::{self, ConsoleAnswer, PowerState, Prepared};

/// Most bytes of a result in status, serialised.
pub const RESULT_BYTES: usize = 64 * 1024;
/// Most bytes of a result in a Secret, serialised.
pub const SECRET_RESULT_BYTES: usize = 768 * 1024;
/// Most bytes of a message, serialised.
const MESSAGE_BYTES: usize = 4096;

/// What an outcome is read against.
#[derive(Debug, Clone, Copy)]
pub struct OutcomeInput<'a> {
    /// What kind of action ran.
    pub kind: ActionKind,
    /// Whether output that says so fails the run.
    pub strict_result: bool,
    /// Template of the message of success.
    pub success_message: Option<&'a str>,
    /// Template of the message of failure.
    pub error_message: Option<&'a str>,
    /// What the templates' tokens stand for.
    pub names: Names<'a>,
    /// Seconds that the script had.
    pub timeout_seconds: u64,
}

/// What goes to status, and what must not. Written by [`outcome`] alone, but for what then cannot be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Succeeded, Failed or Canceled.
    pub phase: Phase,
    /// In one word.
    pub reason: Reason,
    /// The action's message with the cause of a failure, at most 4 KiB serialised.
    pub message: String,
    /// The script's exit code.
    pub exit_code: Option<i32>,
    /// The JSON that the script printed, at most 64 KiB, without what is secret or, in an answer of `prepare`, could be.
    pub result: Option<Value>,
    /// From `status`: PowerOn, PowerOff or PowerUnknown.
    pub power: Option<PowerState>,
    /// From `getconsole`.
    pub console: Option<ConsoleAnswer>,
    /// From `prepare`.
    pub prepared: Option<Prepared>,
    /// What belongs in a Secret of the run's namespace: a console, an answer that may hold a password, a large result.
    pub secret: Option<Value>,
    /// The end of standard output; absent where it can hold a secret.
    pub stdout_tail: Option<String>,
    /// The end of standard error.
    pub stderr_tail: Option<String>,
}

/// Reads an outcome.
pub fn outcome(input: &OutcomeInput<'_>, outcome: &Outcome) -> Verdict {
    let stdout = outcome.stdout.text.as_str();
    let cut = outcome.stdout.dropped_bytes > 0;
    let read = |text: &str| find(text).or_else(|| lenient::object(text).filter(|_| is_read_by_cloudstack(input.kind)));
    let json = if cut { None } else { read(stdout) };
    let unmasked = outcome.unmasked.as_ref().and_then(|printed| read(&printed.0));
    let is_lost = unmasked.is_none() && outcome.masked.unwrap_or_else(|| stdout.contains(MASK));
    let given = Answer { shown: json.as_ref(), whole: unmasked.as_ref().or(json.as_ref()), is_lost };
    let some = |text: String| (!text.is_empty()).then_some(text);
    let (result, secret) = split(input.kind, given);
    let mut verdict = Verdict {
        phase: Phase::Failed,
        reason: Reason::ActionFailed,
        message: String::new(),
        exit_code: outcome.exit_code,
        result,
        power: None,
        console: None,
        prepared: None,
        secret,
        // A name may be spelled with escapes, or the JSON be cut: the text is not looked at.
        stdout_tail: some(tail(stdout, TAIL_BYTES)).filter(|_| !may_answer_with_password(input.kind)),
        stderr_tail: some(tail(&outcome.stderr.text, TAIL_BYTES)),
    };
    let failure = match ending(input, outcome, json.as_ref()) {
        Some(failure) => Some(failure),
        None => answer(input, outcome, given, &mut verdict).err(),
    };
    let message = match failure {
        None => {
            (verdict.phase, verdict.reason) = (Phase::Succeeded, Reason::Succeeded);
            let message = template::success(input.success_message, &input.names);
            let notes = [outcome.message.clone(), verdict.prepared.as_ref().and_then(Prepared::note)];
            notes.into_iter().flatten().fold(message, |message, note| format!("{message} ({note})"))
        }
        Some((reason, cause)) => {
            verdict.reason = reason;
            verdict.phase = if reason == Reason::Canceled { Phase::Canceled } else { Phase::Failed };
            if matches!(input.kind, ActionKind::Lifecycle(LifecycleAction::Status)) {
                verdict.power = Some(PowerState::Unknown);
            }
            format!("{}: {cause}", template::failure(input.error_message, &input.names))
        }
    };
    verdict.message = head(&message, MESSAGE_BYTES);
    bound(outcome, &mut verdict);
    verdict
}

impl Verdict {
    /// Something that the script answered cannot be kept: the run says so and stays what it is, because the script ran.
    pub fn lose(&mut self, note: &str) {
        if self.phase == Phase::Succeeded {
            self.reason = Reason::ApiError;
        }
        self.message = head(&format!("{} ({note})", self.message), MESSAGE_BYTES);
    }
}

/// Whether standard output can hold a password that nobody knew before, and that nothing can mask: such an answer is read
/// and split, and its text shown nowhere.
pub fn may_answer_with_password(kind: ActionKind) -> bool {
    matches!(kind, ActionKind::Lifecycle(LifecycleAction::GetConsole | LifecycleAction::Prepare))
}

/// Whether it is an action whose answer CloudStack itself reads, with a parser that takes more than JSON.
fn is_read_by_cloudstack(kind: ActionKind) -> bool {
    use LifecycleAction::{GetConsole, Prepare, Status, Statuses};
    matches!(kind, ActionKind::Lifecycle(Prepare | Status | Statuses | GetConsole))
}

type Failure = (Reason, String);

/// The JSON that a script printed.
#[derive(Clone, Copy)]
struct Answer<'a> {
    /// With its secrets masked.
    shown: Option<&'a Value>,
    /// As it was printed, where that is known: for a Secret alone.
    whole: Option<&'a Value>,
    /// It had secrets, and is nowhere as it was printed: only its copy without them arrived.
    is_lost: bool,
}

/// Why an answer for a Secret that [`Answer::is_lost`] is none.
const LOST: &str = "the script ended with exit code 0, but the secret part of its answer is lost: what has arrived holds ******** in its \
     place, because the pod could not report, or the answer is too large for a report; run it again";

/// Why the way in which the script ended is a failure; `None`: exit code 0, and nothing said otherwise.
fn ending(input: &OutcomeInput<'_>, outcome: &Outcome, json: Option<&Value>) -> Option<Failure> {
    let own = |default: &str| outcome.message.clone().unwrap_or_else(|| default.to_owned());
    match outcome.ending {
        Ending::Exited if outcome.exit_code == Some(0) => {
            let failed = input.strict_result && json.is_some_and(says_failed);
            failed.then(|| {
                let cause = json.and_then(explanation).unwrap_or_else(|| "the output says that it failed".into());
                (Reason::ResultFailed, cause)
            })
        }
        Ending::Exited if matches!(outcome.fault, Some(Fault::OutOfMemory | Fault::KilledForMemory)) => {
            let cause = cause(input, outcome, json);
            let why = match outcome.fault {
                Some(Fault::OutOfMemory) => {
                    "a process of it was killed because the container's memory was used up: raise spec.runtime.resources of the \
                     extension"
                }
                _ => {
                    "a process of it was killed for lack of memory; whether the container, its pod or its node had used its up \
                     is not known"
                }
            };
            Some((Reason::OOMKilled, format!("{cause}; {why}")))
        }
        Ending::Exited => Some((Reason::ActionFailed, cause(input, outcome, json))),
        Ending::Timeout => {
            Some((Reason::Timeout, own(&format!("stopped at its timeout of {} s", input.timeout_seconds))))
        }
        Ending::Canceled => Some((Reason::Canceled, own("stopped because the run was cancelled"))),
        Ending::PodDeleted => {
            Some((Reason::PodDeleted, own("stopped because its pod was deleted or its node drained")))
        }
        Ending::NotStarted => {
            let reason = match outcome.fault {
                Some(Fault::InterpreterMissing) => Reason::InterpreterMissing,
                Some(Fault::ExecFormatError) => Reason::ExecFormatError,
                Some(Fault::DiskFull) => Reason::DiskFull,
                Some(Fault::OutOfMemory | Fault::KilledForMemory) | None => Reason::ExecFailed,
            };
            Some((reason, own("the script could not be started")))
        }
    }
}

/// What says best why a script failed: its JSON, else its last line of standard error, else how it ended.
fn cause(input: &OutcomeInput<'_>, outcome: &Outcome, json: Option<&Value>) -> String {
    let how = match (outcome.exit_code, outcome.signal, &outcome.message) {
        (Some(code), _, Some(remark)) => format!("exit code {code}; {remark}"),
        (Some(code), _, None) => format!("exit code {code}"),
        (None, _, Some(remark)) => remark.clone(),
        (None, Some(signal), None) => format!("ended by signal {signal}"),
        (None, None, None) => "ended without an exit code".into(),
    };
    let said = match input.kind {
        // Any text of it can be a password, but for what is there to say that there is no console.
        ActionKind::Lifecycle(LifecycleAction::GetConsole) => json.and_then(refusal),
        _ => json.and_then(explanation),
    };
    let last_line = |text: &str| text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    match said.or_else(|| last_line(&outcome.stderr.text)) {
        Some(said) => format!("{} ({how})", head(&said, 1024)),
        None => how,
    }
}

/// Reads the answers that CloudStack reads.
fn answer(
    input: &OutcomeInput<'_>,
    outcome: &Outcome,
    given: Answer<'_>,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    let ActionKind::Lifecycle(action) = input.kind else { return Ok(()) };
    let invalid = |cause: String| match outcome.stdout.dropped_bytes {
        0 => (Reason::ResultInvalid, cause),
        dropped => {
            (Reason::ResultTooLarge, format!("{dropped} bytes of the output were dropped, so it cannot be read"))
        }
    };
    let stdout = outcome.stdout.text.as_str();
    match action {
        LifecycleAction::Status => verdict.power = Some(wire::status(stdout, given.shown)),
        LifecycleAction::Statuses => verdict.result = Some(wire::statuses(given.shown).map_err(invalid)?),
        LifecycleAction::GetConsole => {
            if given.is_lost {
                return Err((Reason::ResultLost, LOST.into()));
            }
            let console = wire::console(given.whole, given.shown).map_err(invalid)?;
            verdict.secret = Some(console.secret.clone());
            verdict.console = Some(console);
        }
        LifecycleAction::Prepare => {
            let prepared = wire::prepared(stdout, given.shown).map_err(invalid)?;
            if given.is_lost && prepared.has_password {
                verdict.secret = None;
                return Err((Reason::ResultLost, LOST.into()));
            }
            verdict.prepared = Some(prepared);
        }
        LifecycleAction::Create
        | LifecycleAction::Start
        | LifecycleAction::Stop
        | LifecycleAction::Reboot
        | LifecycleAction::Delete => {}
    }
    Ok(())
}

/// What of an answer may be shown, whether or not it can be read and however the script ended; beside it the whole answer,
/// where some of it may not.
fn split(kind: ActionKind, given: Answer<'_>) -> (Option<Value>, Option<Value>) {
    match kind {
        ActionKind::Lifecycle(LifecycleAction::GetConsole) => (None, None),
        ActionKind::Lifecycle(LifecycleAction::Prepare) => {
            let Some(answer) = given.shown.and_then(Value::as_object) else { return (None, None) };
            let public = wire::public(answer);
            let whole = given.whole.filter(|_| public.len() < answer.len());
            (Some(Value::Object(public)), whole.cloned())
        }
        ActionKind::Lifecycle(_) | ActionKind::Custom => (given.shown.cloned(), None),
    }
}

/// Keeps the result within its bounds; what is cut or too large is said.
fn bound(outcome: &Outcome, verdict: &mut Verdict) {
    let size = verdict.result.as_ref().map_or(0, |result| result.to_string().len());
    let note = if outcome.stdout.dropped_bytes > 0 && verdict.stdout_tail.is_some() {
        format!("{} bytes at the beginning of the output were dropped; no result is kept", outcome.stdout.dropped_bytes)
    } else if size > RESULT_BYTES {
        let large = verdict.result.take().filter(|_| size <= SECRET_RESULT_BYTES && verdict.secret.is_none());
        if let Some(large) = large {
            verdict.secret = Some(json!({"result": large}));
        }
        format!("the result has {size} bytes; status keeps at most {RESULT_BYTES}")
    } else {
        return;
    };
    if verdict.phase == Phase::Succeeded {
        verdict.reason = Reason::ResultTooLarge;
    }
    verdict.message = head(&format!("{} ({note})", verdict.message), MESSAGE_BYTES);
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "outcome_answer_tests.rs"]
mod answer_tests;
