//! What each way of ending, and each kind of output, means for a run.

use proptest::prelude::*;

use super::*;
use crate::protocol::Stream;

const NAMES: Names<'static> = Names { action: "Backup", extension: "orch", resource: "vm1" };

fn input(kind: ActionKind) -> OutcomeInput<'static> {
    OutcomeInput {
        kind,
        strict_result: false,
        success_message: Some("{{actionName}} of {{resourceName}} done"),
        error_message: Some("{{actionName}} of {{resourceName}} failed"),
        names: NAMES,
        timeout_seconds: 60,
    }
}

pub(super) fn lifecycle(action: LifecycleAction) -> OutcomeInput<'static> {
    OutcomeInput { success_message: None, error_message: None, ..input(ActionKind::Lifecycle(action)) }
}

pub(super) fn exited(code: i32, stdout: &str, stderr: &str) -> Outcome {
    let stream = |text: &str| Stream { text: text.into(), dropped_bytes: 0 };
    Outcome {
        exit_code: Some(code),
        stdout: stream(stdout),
        stderr: stream(stderr),
        duration_millis: 1,
        ..Outcome::of(Ending::Exited)
    }
}

pub(super) fn custom(code: i32, stdout: &str, stderr: &str) -> Verdict {
    outcome(&input(ActionKind::Custom), &exited(code, stdout, stderr))
}

pub(super) fn state(verdict: &Verdict) -> (Phase, Reason, &str) {
    (verdict.phase, verdict.reason, verdict.message.as_str())
}

#[test]
fn exit_code_0_is_success_whatever_is_printed() {
    for stdout in ["", "plain text", r#"{"status": "error"}"#, r#"{"success": false}"#] {
        assert_eq!(
            state(&custom(0, stdout, "")),
            (Phase::Succeeded, Reason::Succeeded, "Backup of vm1 done"),
            "{stdout}"
        );
    }
}

#[test]
fn a_strict_result_fails_what_says_that_it_failed() {
    let strict = OutcomeInput { strict_result: true, ..input(ActionKind::Custom) };
    let failed = [
        (r#"{"success": false, "result": {"message": "no disk"}}"#, "Backup of vm1 failed: no disk"),
        (r#"{"success": "False"}"#, "Backup of vm1 failed: the output says that it failed"),
        (r#"{"status": "ERROR", "error": "bad"}"#, "Backup of vm1 failed: bad"),
    ];
    for (stdout, message) in failed {
        assert_eq!(state(&outcome(&strict, &exited(0, stdout, ""))), (Phase::Failed, Reason::ResultFailed, message));
    }
    for stdout in ["text", r#"{"success": true}"#, r#"{"status": "success"}"#, "{}"] {
        assert_eq!(outcome(&strict, &exited(0, stdout, "")).phase, Phase::Succeeded, "{stdout}");
    }
}

#[test]
fn a_failure_names_its_cause() {
    let causes = [
        (r#"{"error": "no such template"}"#, "noise", "Backup of vm1 failed: no such template (exit code 3)"),
        (r#"{"message": {"message": "deep"}}"#, "", "Backup of vm1 failed: deep (exit code 3)"),
        ("text", "first\nTraceback: last\n\n", "Backup of vm1 failed: Traceback: last (exit code 3)"),
        ("", "", "Backup of vm1 failed: exit code 3"),
    ];
    for (stdout, stderr, message) in causes {
        let verdict = custom(3, stdout, stderr);
        assert_eq!(state(&verdict), (Phase::Failed, Reason::ActionFailed, message));
        assert_eq!(verdict.exit_code, Some(3));
    }
    let killed = Outcome { exit_code: None, signal: Some(11), ..exited(0, "", "") };
    assert_eq!(outcome(&input(ActionKind::Custom), &killed).message, "Backup of vm1 failed: ended by signal 11");
}

#[test]
fn every_ending_has_its_phase_and_reason() {
    let endings = [
        (Ending::Timeout, Phase::Failed, Reason::Timeout, "Backup of vm1 failed: stopped at its timeout of 60 s"),
        (
            Ending::Canceled,
            Phase::Canceled,
            Reason::Canceled,
            "Backup of vm1 failed: stopped because the run was cancelled",
        ),
        (
            Ending::PodDeleted,
            Phase::Failed,
            Reason::PodDeleted,
            "Backup of vm1 failed: stopped because its pod was deleted or its node drained",
        ),
        (
            Ending::NotStarted,
            Phase::Failed,
            Reason::ExecFailed,
            "Backup of vm1 failed: the script could not be started",
        ),
    ];
    for (ending, phase, reason, message) in endings {
        let ended = Outcome { ending, exit_code: None, ..exited(0, "", "") };
        assert_eq!(state(&outcome(&input(ActionKind::Custom), &ended)), (phase, reason, message));
    }
    for (fault, reason) in [
        (Fault::InterpreterMissing, Reason::InterpreterMissing),
        (Fault::ExecFormatError, Reason::ExecFormatError),
        (Fault::DiskFull, Reason::DiskFull),
    ] {
        let message = Some("no room".to_owned());
        let ended = Outcome { fault: Some(fault), message, ..Outcome::of(Ending::NotStarted) };
        let verdict = outcome(&input(ActionKind::Custom), &ended);
        assert_eq!(state(&verdict), (Phase::Failed, reason, "Backup of vm1 failed: no room"));
    }
    let explained = Outcome { ending: Ending::NotStarted, message: Some("no ruby".into()), ..exited(0, "", "") };
    assert_eq!(outcome(&input(ActionKind::Custom), &explained).message, "Backup of vm1 failed: no ruby");
    let stopped_after_term = Outcome { ending: Ending::Timeout, ..exited(0, "", "") };
    assert_eq!(outcome(&input(ActionKind::Custom), &stopped_after_term).phase, Phase::Failed);
}

#[test]
fn what_the_runner_remarks_is_in_the_message_however_the_run_ended() {
    let remark = "a process of it does not die: the end of its output may be missing";
    let with = |outcome: Outcome, remark: &str| Outcome { message: Some(remark.to_owned()), ..outcome };
    let said = |ended: Outcome| outcome(&input(ActionKind::Custom), &ended).message;
    assert_eq!(said(with(exited(0, "{}", ""), remark)), format!("Backup of vm1 done ({remark})"));
    assert_eq!(said(with(exited(3, "", ""), remark)), format!("Backup of vm1 failed: exit code 3; {remark}"));
    assert_eq!(said(with(exited(3, "", "bad"), remark)), format!("Backup of vm1 failed: bad (exit code 3; {remark})"));
    let killed = Outcome { exit_code: None, signal: Some(9), ..exited(0, "", "") };
    let why = "killed by signal 9 (out of memory?)";
    assert_eq!(said(with(killed, why)), format!("Backup of vm1 failed: {why}"));
    let lost = Outcome { exit_code: None, ..exited(0, "", "") };
    assert_eq!(said(with(lost, "the exit status was lost")), "Backup of vm1 failed: the exit status was lost");
    let late = format!("stopped at its timeout of 60 s; {remark}");
    let timeout = with(Outcome { ending: Ending::Timeout, ..exited(0, "", "") }, &late);
    assert_eq!(said(timeout), format!("Backup of vm1 failed: {late}"));
}

#[test]
fn a_script_that_lost_a_process_for_lack_of_memory_ran_out_of_memory_unless_it_succeeded() {
    let out_of_memory = |code| Outcome { fault: Some(Fault::OutOfMemory), ..exited(code, "", "Killed\n") };
    let verdict = outcome(&input(ActionKind::Custom), &out_of_memory(137));
    let message = "Backup of vm1 failed: Killed (exit code 137); a process of it was killed because the container's memory \
                   was used up: raise spec.runtime.resources of the extension";
    assert_eq!(state(&verdict), (Phase::Failed, Reason::OOMKilled, message));
    assert_eq!(outcome(&input(ActionKind::Custom), &out_of_memory(0)).phase, Phase::Succeeded);
    let killed = Outcome { fault: Some(Fault::KilledForMemory), ..exited(137, "", "Killed\n") };
    let message = "Backup of vm1 failed: Killed (exit code 137); a process of it was killed for lack of memory; whether the \
                   container, its pod or its node had used its up is not known";
    assert_eq!(state(&outcome(&input(ActionKind::Custom), &killed)), (Phase::Failed, Reason::OOMKilled, message));
}

#[test]
fn json_is_found_among_noise() {
    let outputs = [
        (r#"{"a": 1}"#, json!({"a": 1})),
        ("log line\n{\"a\": 1}\n", json!({"a": 1})),
        ("{\"a\": 1}\ntrailing words\n", json!({"a": 1})),
        ("starting\n{\n  \"a\": [\n    {}\n  ]\n}\n", json!({"a": [{}]})),
        ("{broken\n[1, 2]", json!([1, 2])),
        ("{\"first\": 1}\n{\"last\": 2}", json!({"last": 2})),
        (" \"text\" ", json!("text")),
    ];
    for (stdout, value) in outputs {
        assert_eq!(custom(0, stdout, "").result, Some(value), "{stdout}");
    }
    for stdout in ["", "words", "{", "a {\"b\": 1}"] {
        assert_eq!(custom(0, stdout, "").result, None, "{stdout}");
    }
}

#[test]
fn printed_messages_stay_in_the_result() {
    for message in [json!("plain"), json!([{"a": 1}]), json!({"k": "v"})] {
        let answer = json!({"printmessage": "true", "message": message});
        assert_eq!(custom(0, &answer.to_string(), "").result, Some(answer));
    }
}

#[test]
fn a_large_result_is_said_and_offered_for_a_secret() {
    let large = json!({"rows": "x".repeat(RESULT_BYTES)});
    let verdict = custom(0, &large.to_string(), "");
    assert_eq!((verdict.phase, verdict.reason, verdict.result), (Phase::Succeeded, Reason::ResultTooLarge, None));
    assert_eq!(verdict.message, "Backup of vm1 done (the result has 65547 bytes; status keeps at most 65536)");
    assert_eq!(verdict.secret, Some(json!({"result": large})));
    let huge = json!({"rows": "x".repeat(SECRET_RESULT_BYTES)});
    assert_eq!(custom(0, &huge.to_string(), "").secret, None);
    let failed = custom(1, &large.to_string(), "");
    assert_eq!((failed.phase, failed.reason), (Phase::Failed, Reason::ActionFailed));
}

#[test]
fn output_that_was_cut_gives_no_result_and_says_so() {
    let cut = |kind: OutcomeInput<'_>| {
        let stdout = Stream { text: "{\"a\": 1}".into(), dropped_bytes: 7 };
        outcome(&kind, &Outcome { stdout, ..exited(0, "", "") })
    };
    let verdict = cut(input(ActionKind::Custom));
    let message = "Backup of vm1 done (7 bytes at the beginning of the output were dropped; no result is kept)";
    assert_eq!(state(&verdict), (Phase::Succeeded, Reason::ResultTooLarge, message));
    assert_eq!(verdict.result, None);
    let verdict = cut(lifecycle(LifecycleAction::Statuses));
    assert_eq!((verdict.phase, verdict.reason), (Phase::Failed, Reason::ResultTooLarge));
}

#[test]
fn tails_and_message_are_bounded_and_printable() {
    let verdict = custom(1, &"\u{1}".repeat(9000), &format!("{}\u{1b}[2J", "é".repeat(9000)));
    for text in [verdict.stdout_tail.unwrap(), verdict.stderr_tail.unwrap(), verdict.message] {
        assert!(serde_json::to_string(&text).unwrap().len() <= 4096 + 2);
        assert!(!text.contains(['\u{1b}', '\u{1}']));
    }
    assert_eq!(custom(0, "", "").stdout_tail, None);
}

proptest! {
    #[test]
    fn any_output_is_bounded_and_breaks_nothing(
        stdout in "[ -~\n\u{1}é{}\\[\\]\":,]{0,300}",
        stderr in ".{0,100}",
        code in 0i32..3,
        strict in any::<bool>(),
        repeat in 1usize..100,
    ) {
        let kinds = LifecycleAction::ALL.iter().map(|action| ActionKind::Lifecycle(*action)).chain([ActionKind::Custom]);
        for kind in kinds {
            let input = OutcomeInput { strict_result: strict, ..input(kind) };
            let verdict = outcome(&input, &exited(code, &stdout.repeat(repeat), &stderr));
            prop_assert!(code == 0 || verdict.phase == Phase::Failed);
            prop_assert!(serde_json::to_string(&verdict.message).unwrap().len() <= MESSAGE_BYTES + 2);
            prop_assert!(verdict.result.is_none_or(|result| result.to_string().len() <= RESULT_BYTES));
        }
    }
}
