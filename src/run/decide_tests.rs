//! Tests of the decisions: observed states in, plans out.

use serde_json::{Value, json};

use super::super::fixture::UID;
use super::super::queue::{Limit, Place};
use super::*;
use crate::protocol::{Ending, Nonce, TerminationMessage};

const CREATED: &str = "2026-11-23T10:00:00Z";

fn at(seconds: i64) -> Timestamp {
    CREATED.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

fn revision(tree: &str) -> RunRevision {
    RunRevision { tree_digest: tree.into(), manifest_digest: "m".into() }
}

fn ready() -> Start {
    ready_with("t")
}

fn ready_with(tree: &str) -> Start {
    Start::Ready { revision: revision(tree), timeout_seconds: 60, role_type: RoleType::User, grace_seconds: 10 }
}

fn run(status: Value) -> ActionRun {
    serde_json::from_value(json!({
        "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun",
        "metadata": {"name": "r", "namespace": "n", "uid": UID, "creationTimestamp": CREATED,
            "finalizers": [RUN_FINALIZER]},
        "spec": {"extensionRef": {"name": "e"}, "action": "start"}, "status": status,
    }))
    .unwrap()
}

fn pending(jobs: u32) -> ActionRun {
    run(json!({"phase": "Pending", "revision": {"treeDigest": "t", "manifestDigest": "m"}, "timeoutSeconds": 60,
        "attempts": [{"number": 1, "jobs": jobs, "job": job_name(UID, 1, jobs), "decidedAt": "2026-11-23T10:00:01.000000Z"}]}))
}

fn nonce() -> Nonce {
    Nonce::from_bytes([1; 16])
}

fn running() -> ActionRun {
    let mut run = pending(1);
    run.status = Some(status::claimed(&run, "p1", &nonce(), at(2)));
    run
}

fn job(number: u32) -> JobView {
    JobView { name: job_name(UID, 1, number), ..JobView::default() }
}

fn pod() -> PodView {
    PodView { name: "pod".into(), uid: "p1".into(), job: job_name(UID, 1, 1), ..PodView::default() }
}

fn ended_pod() -> PodView {
    PodView { ended: Some(at(5)), ..pod() }
}

struct Case {
    run: ActionRun,
    start: Start,
    jobs: Vec<JobView>,
    pods: Vec<PodView>,
    queued: Option<Queued>,
    warning: Option<&'static str>,
    stop_since: Option<Timestamp>,
    leading_since: Option<Timestamp>,
    now: Timestamp,
}

fn case(run: ActionRun, jobs: Vec<JobView>, pods: Vec<PodView>, seconds: i64) -> Case {
    Case {
        run,
        start: ready(),
        jobs,
        pods,
        queued: None,
        warning: None,
        stop_since: None,
        leading_since: None,
        now: at(seconds),
    }
}

fn planned(case: &Case) -> Plan {
    decide(&Observed {
        run: &case.run,
        start: &case.start,
        jobs: &case.jobs,
        pods: &case.pods,
        queued: case.queued.as_ref(),
        warning: case.warning,
        stop_since: case.stop_since,
        leading_since: case.leading_since,
        now: case.now,
    })
}

/// Phase, reason and message of the planned status.
fn said(plan: &Plan) -> (Phase, &str, &str) {
    let status = plan.status.as_ref().unwrap();
    (status.phase.unwrap(), status.reason.as_deref().unwrap(), status.message.as_deref().unwrap())
}

fn create(number: u32) -> Step {
    Step::CreateJob { name: job_name(UID, 1, number), attempt: 1 }
}

fn delete(number: u32) -> Step {
    Step::DeleteJob { name: job_name(UID, 1, number) }
}

#[test]
fn the_attempt_is_written_before_its_job_is_created() {
    let plan = planned(&case(run(json!({})), vec![], vec![], 0));
    let status = plan.status.unwrap();
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(status.revision, Some(revision("t")));
    assert_eq!((status.attempts[0].number, status.attempts[0].jobs), (1, 1));
    assert_eq!(plan.steps, [create(1)]);
}

#[test]
fn a_crash_between_decision_and_job_creates_the_same_job() {
    let plan = planned(&case(pending(1), vec![], vec![], 1));
    assert_eq!((plan.status, plan.steps), (None, vec![create(1)]));
}

#[test]
fn a_run_without_finalizer_gets_it_before_anything_else() {
    let mut bare = run(json!({}));
    bare.metadata.finalizers = None;
    let plan = planned(&case(bare, vec![], vec![], 0));
    assert_eq!((plan.status, plan.steps), (None, vec![Step::AddFinalizer]));
}

#[test]
fn an_ended_pod_of_an_unclaimed_attempt_gets_the_next_job_after_a_pause() {
    let early = planned(&Case { now: at(5), ..case(pending(1), vec![job(1)], vec![ended_pod()], 0) });
    assert_eq!((early.status, early.steps), (None, vec![]));
    assert!(early.again.unwrap() < Duration::from_secs(1));
    let pod = PodView { trouble: Some("the container exited with code 203".into()), ..ended_pod() };
    let plan = planned(&case(pending(1), vec![job(1)], vec![pod], 6));
    assert_eq!(plan.steps, [delete(1), create(2)]);
    assert_eq!(said(&plan).2, "starting again, Job 2 of 3: the container exited with code 203");
}

#[test]
fn the_third_job_that_ends_unclaimed_ends_the_run() {
    let failed = JobView { failed: Some((at(5), "Job has reached the specified backoff limit".into())), ..job(3) };
    let plan = planned(&case(pending(3), vec![failed], vec![], 20));
    let expected = "the action never started, 3 Jobs ended before it did: Job has reached the specified backoff limit";
    assert_eq!(said(&plan), (Phase::Failed, "NeverStarted", expected));
    assert_eq!(plan.steps, [delete(3)]);
}

#[test]
fn the_start_deadline_ends_an_unclaimed_run_and_says_what_was_in_the_way() {
    let pod = PodView { trouble: Some("the image cannot be pulled: no such image".into()), ..pod() };
    let plan = planned(&case(pending(1), vec![job(1)], vec![pod], 300));
    let expected = "the action did not start within 300 s: the image cannot be pulled: no such image";
    assert_eq!(said(&plan), (Phase::Failed, "StartDeadlineExceeded", expected));
    assert_eq!(plan.steps, [delete(1)]);
    let quota = Case { warning: Some("FailedCreate: exceeded quota"), ..case(pending(1), vec![job(1)], vec![], 300) };
    assert_eq!(said(&planned(&quota)).2, "the action did not start within 300 s: FailedCreate: exceeded quota");
    assert!(planned(&case(pending(1), vec![job(1)], vec![], 299)).status.is_none());
}

#[test]
fn what_a_pod_waits_for_is_said_once() {
    let pod = |text: &str| PodView { trouble: Some(text.into()), ..pod() };
    let mut waiting = pending(1);
    let plan = planned(&case(waiting.clone(), vec![job(1)], vec![pod("the image cannot be pulled: a")], 3));
    assert_eq!(said(&plan).2, "waiting: the image cannot be pulled: a");
    waiting.status = plan.status;
    assert!(planned(&case(waiting, vec![job(1)], vec![pod("the image cannot be pulled: b")], 4)).status.is_none());
}

#[test]
fn a_missing_reference_is_waited_for_and_a_broken_request_is_not() {
    let refusal = Refusal::new(Reason::ExtensionNotFound, "extension \"e\" does not exist");
    let waiting = Case { start: Start::Wait(refusal.clone()), ..case(run(json!({})), vec![], vec![], 0) };
    let plan = planned(&waiting);
    assert_eq!(said(&plan), (Phase::Pending, "ExtensionNotFound", "extension \"e\" does not exist"));
    assert!(plan.steps.is_empty() && plan.again.is_some());
    let late = planned(&Case { now: at(300), ..waiting });
    assert_eq!(said(&late).1, "StartDeadlineExceeded");
    let never = Case { start: Start::Never(refusal), ..case(run(json!({})), vec![], vec![], 0) };
    assert_eq!(said(&planned(&never)).0, Phase::Failed);
}

#[test]
fn an_upgrade_before_the_claim_replaces_the_job() {
    let plan = planned(&Case { start: ready_with("t2"), ..case(pending(1), vec![job(1)], vec![pod()], 2) });
    assert_eq!(plan.steps, [delete(1), create(2)]);
    assert_eq!(plan.status.unwrap().revision, Some(revision("t2")));
}

#[test]
fn jobs_that_a_new_revision_replaced_do_not_count_as_failed() {
    let mut replaced = pending(1);
    for number in 2..=5 {
        let start = ready_with(&format!("t{number}"));
        let plan = planned(&Case { start, ..case(replaced.clone(), vec![job(number - 1)], vec![], 2) });
        assert_eq!(plan.steps, [delete(number - 1), create(number)]);
        replaced.status = plan.status;
    }
    let failed = JobView { failed: Some((at(5), "no luck".into())), ..job(5) };
    let plan = planned(&Case { start: ready_with("t5"), ..case(replaced, vec![failed], vec![], 20) });
    assert_eq!(said(&plan).2, "starting again, Job 2 of 3: no luck");
    assert_eq!(plan.steps, [delete(5), create(6)]);
}

#[test]
fn cancel_and_deletion_end_an_unclaimed_run_before_its_job_is_deleted() {
    let mut cancelled = pending(1);
    cancelled.spec.cancel = Some(true);
    let mut deleted = pending(1);
    deleted.metadata.deletion_timestamp = serde_json::from_value(json!(CREATED)).unwrap();
    for run in [cancelled, deleted] {
        let plan = planned(&case(run, vec![job(1)], vec![pod()], 2));
        assert_eq!((said(&plan).0, said(&plan).1), (Phase::Canceled, "Canceled"));
        assert_eq!(plan.steps, [delete(1)]);
    }
}

#[test]
fn a_cancelled_running_pod_is_deleted_only_after_its_patience() {
    let stopping = |seconds| Case { stop_since: Some(at(3)), ..case(running(), vec![job(1)], vec![pod()], seconds) };
    assert!(planned(&stopping(42)).steps.is_empty());
    assert_eq!(planned(&stopping(43)).steps, [delete(1), Step::DeletePod { name: "pod".into(), uid: "p1".into() }]);
    assert!(planned(&stopping(43)).status.is_none());
}

#[test]
fn a_new_leader_gives_a_silent_run_up_only_after_its_runner_could_reach_it() {
    let late = |seconds| Case { leading_since: Some(at(400)), ..case(running(), vec![job(1)], vec![pod()], seconds) };
    let plan = planned(&late(400));
    assert_eq!((plan.status, plan.steps), (None, vec![]));
    assert_eq!(plan.again.unwrap().as_secs(), 30);
    let plan = planned(&late(430));
    let expected = "the action started, and no report came in time: nobody knows how it ended";
    assert_eq!(said(&plan), (Phase::OutcomeUnknown, "OutcomeUnknown", expected));
    // One that has led all the time waits no longer than ever.
    let long = Case { leading_since: Some(at(0)), ..case(running(), vec![job(1)], vec![pod()], 132) };
    assert_eq!(said(&planned(&long)).0, Phase::OutcomeUnknown);
}

#[test]
fn a_silent_run_on_a_node_that_is_lost_says_so() {
    let pod = PodView { trouble: Some("the pod's node \"n1\" does not answer".into()), ..pod() };
    let plan = planned(&case(running(), vec![job(1)], vec![pod.clone()], 132));
    let expected = "the action started, and no report came in time (the pod's node \"n1\" does not answer): nobody knows how it ended";
    assert_eq!(said(&plan).2, expected);
    let plan = planned(&case(pending(1), vec![job(1)], vec![pod], 300));
    assert_eq!(said(&plan).2, "the action did not start within 300 s: the pod's node \"n1\" does not answer");
}

#[test]
fn a_silent_run_of_whose_pod_nothing_is_said_names_the_node() {
    // Kubelet had not yet said that the container runs when the node was lost.
    let pod = PodView { node: Some("n1".into()), ..pod() };
    let plan = planned(&case(running(), vec![job(1)], vec![pod.clone()], 132));
    let expected =
        "the action started, and no report came in time (its pod is on the node \"n1\"): nobody knows how it ended";
    assert_eq!(said(&plan).2, expected);
    let plan = planned(&case(pending(1), vec![job(1)], vec![pod], 300));
    assert_eq!(said(&plan).2, "the action did not start within 300 s: its pod is on the node \"n1\"");
}

#[test]
fn a_run_that_was_to_stop_is_given_up_when_its_deleted_pod_does_not_go() {
    let mut long = running();
    long.status.as_mut().unwrap().timeout_seconds = Some(86_400);
    let stopping = |seconds: i64| {
        let (pods, jobs) =
            (vec![PodView { deleted_by: Some(at(70)), ..pod() }], vec![JobView { deleting: true, ..job(1) }]);
        Case { stop_since: Some(at(3)), ..case(long.clone(), jobs, pods, seconds) }
    };
    let plan = planned(&stopping(129));
    assert_eq!((plan.status, plan.steps, plan.again.unwrap().as_secs()), (None, vec![], 1));
    let plan = planned(&stopping(130));
    let expected = "the action started, and its pod was deleted and does not go: nobody knows how it ended";
    assert_eq!(said(&plan), (Phase::OutcomeUnknown, "OutcomeUnknown", expected));
    // A new leader first hears what the runner has to say.
    assert_eq!(planned(&Case { leading_since: Some(at(125)), ..stopping(140) }).status, None);
    // Nobody wants this one to stop: its runner may still report.
    assert_eq!(planned(&Case { stop_since: None, ..stopping(1000) }).status, None);
}

fn outcome() -> Outcome {
    Outcome { exit_code: Some(0), duration_millis: 1, ..Outcome::of(Ending::Exited) }
}

fn says(message: TerminationMessage) -> PodView {
    PodView { messages: vec![message], ..ended_pod() }
}

#[test]
fn an_unreported_outcome_is_read_from_the_claimed_runners_message_only() {
    let ended = |nonce| TerminationMessage::Ended { attempt: 1, nonce, outcome: outcome() };
    let plan = planned(&case(running(), vec![job(1)], vec![says(ended(nonce()))], 6));
    assert_eq!((plan.outcome, plan.status), (Some(outcome()), None));
    let plan = planned(&case(running(), vec![job(1)], vec![says(ended(Nonce::from_bytes([2; 16])))], 6));
    assert_eq!(plan.outcome, None);
    assert_eq!(said(&plan).0, Phase::OutcomeUnknown);
}

#[test]
fn a_claimed_runner_that_says_not_started_makes_the_attempt_unclaimed() {
    let message = TerminationMessage::NotStarted { attempt: 1, nonce: nonce(), message: "answer lost".into() };
    let plan = planned(&case(running(), vec![job(1)], vec![says(message)], 8));
    assert_eq!(plan.steps, [delete(1), create(2)]);
    let status = plan.status.unwrap();
    assert_eq!((status.phase, &status.attempts[0].nonce_hash), (Some(Phase::Pending), &None));
    // The next Job comes later, or never; the pod that says so may be gone by then.
    let message = TerminationMessage::NotStarted { attempt: 1, nonce: nonce(), message: "answer lost".into() };
    let early = case(running(), vec![job(1)], vec![says(message.clone())], 5);
    let refusal = Refusal::new(Reason::ExtensionNotFound, "extension \"e\" does not exist");
    let waits = Case { start: Start::Wait(refusal), ..case(running(), vec![job(1)], vec![says(message)], 6) };
    for (case, words) in
        [(early, "the runner did not start the script: answer lost"), (waits, "extension \"e\" does not exist")]
    {
        let plan = planned(&case);
        assert_eq!((said(&plan).0, said(&plan).2), (Phase::Pending, words));
        let status = plan.status.unwrap();
        let attempt = &status.attempts[0];
        assert_eq!((&attempt.pod_uid, &attempt.nonce_hash, &attempt.claimed_at), (&None, &None, &None));
        assert_eq!(status.start_time, None);
        let mut run = running();
        run.status = Some(status);
        let later = planned(&Case { run, pods: vec![], jobs: vec![], start: ready(), now: at(7), ..case });
        assert_eq!((later.status, later.steps), (None, vec![create(1)]));
    }
    // Another process's word is no word about the claim.
    let other =
        TerminationMessage::NotStarted { attempt: 1, nonce: Nonce::from_bytes([2; 16]), message: "refused".into() };
    assert_eq!(said(&planned(&case(running(), vec![job(1)], vec![says(other)], 8))).0, Phase::OutcomeUnknown);
}

#[test]
fn a_claimed_run_without_outcome_is_unknown_out_of_memory_or_evicted_and_never_repeated() {
    let oom = PodView { oom_killed: true, ..ended_pod() };
    let evicted = PodView { evicted: true, trouble: Some("the pod failed, Evicted: too much".into()), ..ended_pod() };
    let cases = [
        (case(running(), vec![job(1)], vec![oom], 6), Phase::Failed, "OOMKilled"),
        (case(running(), vec![job(1)], vec![evicted], 6), Phase::Failed, "Evicted"),
        (case(running(), vec![job(1)], vec![ended_pod()], 6), Phase::OutcomeUnknown, "OutcomeUnknown"),
        (case(running(), vec![job(1)], vec![], 6), Phase::OutcomeUnknown, "OutcomeUnknown"),
        (case(running(), vec![job(1)], vec![pod()], 2 + 60 + 10 + 60), Phase::OutcomeUnknown, "OutcomeUnknown"),
    ];
    for (case, phase, reason) in cases {
        let plan = planned(&case);
        assert_eq!((said(&plan).0, said(&plan).1), (phase, reason));
        assert_eq!(plan.steps, [delete(1)]);
    }
    assert!(planned(&case(running(), vec![job(1)], vec![pod()], 131)).status.is_none());
}

#[test]
fn what_another_pod_of_the_job_ended_with_says_nothing_of_the_one_that_runs() {
    let message =
        TerminationMessage::NotStarted { attempt: 1, nonce: Nonce::from_bytes([2; 16]), message: "refused".into() };
    let second = |pod: PodView| PodView { name: "second".into(), uid: "p2".into(), ..pod };
    let oom = PodView { oom_killed: true, trouble: Some("the container ran out of memory".into()), ..ended_pod() };
    for ended in [says(message), oom, PodView { evicted: true, ..ended_pod() }] {
        let pods = [pod(), second(ended)];
        for pods in [pods.to_vec(), pods.iter().rev().cloned().collect()] {
            let plan = planned(&case(running(), vec![job(1)], pods.clone(), 8));
            assert_eq!((plan.outcome, plan.status, plan.steps), (None, None, vec![]), "{pods:?}");
            assert_eq!(plan.again.unwrap().as_secs(), 2 + 60 + 10 + 60 - 8, "{pods:?}");
        }
    }
}

#[test]
fn a_deleted_job_or_a_finished_run_never_gets_another_job() {
    let mut done = running();
    done.status.as_mut().unwrap().phase = Some(Phase::Succeeded);
    assert_eq!(planned(&case(done.clone(), vec![job(1)], vec![pod()], 6)).steps, [delete(1)]);
    assert_eq!(planned(&case(done, vec![], vec![], 6)), Plan::default());
    // The Job was deleted under a running pod.
    assert!(planned(&case(running(), vec![], vec![pod()], 6)).steps.is_empty());
}

#[test]
fn a_message_found_late_replaces_an_unknown_outcome_and_no_other() {
    let message = TerminationMessage::Ended { attempt: 1, nonce: nonce(), outcome: outcome() };
    for (phase, expected) in [(Phase::OutcomeUnknown, Some(outcome())), (Phase::Failed, None)] {
        let mut run = running();
        run.status.as_mut().unwrap().phase = Some(phase);
        assert_eq!(planned(&case(run, vec![], vec![says(message.clone())], 6)).outcome, expected, "{phase:?}");
    }
}

#[test]
fn a_deleted_run_is_let_go_when_job_and_pod_are_gone_or_the_pod_never_goes() {
    let mut done = running();
    let status = done.status.as_mut().unwrap();
    status.phase = Some(Phase::OutcomeUnknown);
    status.completion_time = serde_json::from_value(json!(CREATED)).unwrap();
    done.metadata.deletion_timestamp = serde_json::from_value(json!(CREATED)).unwrap();
    assert_eq!(planned(&case(done.clone(), vec![job(1)], vec![pod()], 6)).steps, [delete(1)]);
    assert!(planned(&case(done.clone(), vec![], vec![pod()], 6)).steps.is_empty());
    assert_eq!(planned(&case(done.clone(), vec![], vec![], 6)).steps, [Step::RemoveFinalizer]);
    assert_eq!(planned(&case(done, vec![], vec![pod()], 70)).steps, [Step::RemoveFinalizer]);
}

#[test]
fn a_run_that_is_queued_is_not_decided_and_its_deadline_says_where_it_stood() {
    let place = Place { position: 2, limit: Limit::Extension { name: "e".into(), most: 1 } };
    let queued = Queued { place, stands_for: Duration::ZERO };
    let waiting = planned(&Case { queued: Some(queued), ..case(run(json!({})), vec![], vec![], 1) });
    let expected = "queued at position 2: extension \"e\" runs 1 action at a time (spec.runtime.maxConcurrentRuns)";
    assert_eq!(said(&waiting), (Phase::Pending, "Queued", expected));
    assert_eq!(waiting.steps, []);
    let mut run = run(json!({}));
    run.status = waiting.status;
    let ended = planned(&case(run.clone(), vec![], vec![], 300));
    let expected = format!("the action did not start within 300 s: {expected}");
    assert_eq!(said(&ended), (Phase::Failed, "StartDeadlineExceeded", expected.as_str()));
    assert_eq!(ended.status.unwrap().queue_position, None);
    let started = planned(&case(run, vec![], vec![], 2));
    assert_eq!(started.steps, [create(1)]);
    assert_eq!(started.status.unwrap().queue_position, None);
}

#[test]
fn a_job_that_the_api_refuses_is_named_when_the_deadline_has_passed() {
    let mut run = pending(1);
    let message = "waiting: its Job cannot be created: exceeded quota: pods, used: 2, limited: 2";
    run.status = Some(status::waiting(&run, Reason::Pending, message, at(2)));
    let ended = planned(&case(run, vec![], vec![], 300));
    let expected =
        "the action did not start within 300 s: its Job cannot be created: exceeded quota: pods, used: 2, limited: 2";
    assert_eq!(said(&ended), (Phase::Failed, "StartDeadlineExceeded", expected));
}

#[test]
fn a_job_that_nobody_claims_is_looked_at_ever_less_often() {
    let again = |seconds| planned(&case(pending(1), vec![job(1)], vec![], seconds)).again.unwrap().as_secs();
    assert_eq!((again(2), again(13), again(200), again(295)), (6, 12, 30, 5));
}

#[test]
fn the_grace_period_is_the_one_that_the_job_was_decided_with() {
    let start =
        Start::Ready { revision: revision("t"), timeout_seconds: 60, role_type: RoleType::User, grace_seconds: 50 };
    let plan = planned(&Case { start, ..case(run(json!({})), vec![], vec![], 0) });
    let mut long = run(json!({}));
    long.status = plan.status;
    long.status = Some(status::claimed(&long, "p1", &nonce(), at(2)));
    // What is installed now says 10 s.
    let at_131 = planned(&case(long.clone(), vec![job(1)], vec![pod()], 2 + 60 + 10 + 60));
    assert_eq!(at_131.status, None);
    assert_eq!(said(&planned(&case(long, vec![job(1)], vec![pod()], 2 + 60 + 50 + 60))).0, Phase::OutcomeUnknown);
}

#[test]
fn what_a_claim_waits_for_is_not_overwritten_by_an_old_warning() {
    let mut asked = pending(1);
    asked.status = Some(status::waiting(&asked, Reason::SecretNotUsable, "waiting: Secret \"bmc\"", at(3)));
    let warned = |run| Case { warning: Some("FailedMount: not yet"), ..case(run, vec![job(1)], vec![pod()], 9) };
    assert_eq!(planned(&warned(asked)).status, None);
    assert_eq!(said(&planned(&warned(pending(1)))).2, "waiting: FailedMount: not yet");
}
