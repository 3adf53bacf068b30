//! What to do about a run that was claimed, while its script runs and after its end: pure.

use k8s_openapi::jiff::Timestamp;

use super::decide::{Observed, Plan, Step, after, delete_jobs, end_unclaimed, grace, phase, until};
use super::status;
use super::view::PodView;
use crate::api::run::Attempt;
use crate::api::{Phase, Reason};
use crate::protocol::{Outcome, TerminationMessage};

/// Seconds after timeout and grace at which a silent run is given up (rule 11).
const ALLOWANCE: i64 = 60;
/// Seconds beyond the grace period at which the pod of a cancelled run is deleted (rule 8).
const CANCEL_ALLOWANCE: i64 = 30;
/// Seconds beyond a pod's grace period that its end is waited for: before the finalizer of a finished run is removed, and
/// before a run that was to stop is given up.
pub(super) const POD_ALLOWANCE: i64 = 60;
/// Seconds that a new leader waits for reports before it gives a run up: a runner that found nobody to report to tries
/// again every two seconds, and is to find the new leader first.
const LEADER_ALLOWANCE: i64 = 30;

/// Rule 5: why the script never started, if the claimed runner itself says so, authentically.
pub(super) fn not_started<'a>(pods: &'a [PodView], attempt: &Attempt) -> Option<&'a str> {
    pods.iter().filter(|pod| pod.ended.is_some()).flat_map(|pod| &pod.messages).find_map(|message| match message {
        TerminationMessage::NotStarted { attempt: number, nonce, message }
            if *number == attempt.number && attempt.nonce_hash.as_deref() == Some(nonce.hash().as_str()) =>
        {
            Some(message.as_str())
        }
        _ => None,
    })
}

/// The outcome in a pod's termination message, if the claimed runner wrote it.
fn authentic_outcome<'a>(pods: &'a [PodView], attempt: &Attempt) -> Option<&'a Outcome> {
    pods.iter().flat_map(|pod| &pod.messages).find_map(|message| match message {
        TerminationMessage::Ended { attempt: number, nonce, outcome }
            if *number == attempt.number && attempt.nonce_hash.as_deref() == Some(nonce.hash().as_str()) =>
        {
            Some(outcome)
        }
        _ => None,
    })
}

/// The plan for a run whose newest attempt is claimed and has not ended.
pub(super) fn claimed(observed: &Observed<'_>, attempt: &Attempt) -> Plan {
    let Observed { run, now, .. } = *observed;
    if let Some(outcome) = authentic_outcome(observed.pods, attempt) {
        return Plan { outcome: Some(outcome.clone()), ..Plan::default() };
    }
    let unknown = |message: &str| Plan {
        status: Some(status::ended(run, Phase::OutcomeUnknown, Reason::OutcomeUnknown, message, now)),
        steps: delete_jobs(observed, None),
        ..Plan::default()
    };
    let pod = observed.pods.iter().find(|pod| Some(pod.uid.as_str()) == attempt.pod_uid.as_deref());
    match pod {
        None => return unknown("the action started, and its pod is gone without a report: nobody knows how it ended"),
        Some(pod) if pod.ended.is_some() && pod.oom_killed => {
            let message = "the action's container ran out of memory: raise spec.runtime.resources of the extension";
            return end_unclaimed(observed, Phase::Failed, Reason::OOMKilled, message);
        }
        Some(pod) if pod.ended.is_some() && pod.evicted => {
            let why = pod.trouble.as_deref().unwrap_or("the pod was evicted");
            return end_unclaimed(observed, Phase::Failed, Reason::Evicted, &format!("while the action ran, {why}"));
        }
        Some(pod) if pod.ended.is_some() => {
            let how = pod.trouble.clone().unwrap_or_else(|| "the pod ended".into());
            return unknown(&format!("the action started, and there is no report of how it ended: {how}"));
        }
        Some(_) => {}
    }
    let claimed_at = attempt.claimed_at.as_ref().map_or(now, |time| time.0);
    let grace = grace(Some(attempt));
    let timeout = run.status.as_ref().and_then(|status| status.timeout_seconds).unwrap_or_default();
    let deadline = after(claimed_at, timeout.saturating_add(grace).saturating_add(ALLOWANCE));
    let deadline = heard_by(observed, deadline);
    let lost = |what: &str| {
        let trouble = pod.and_then(PodView::trouble_or_node).map(|trouble| format!(" ({trouble})"));
        unknown(&format!("the action started, and {what}{}: nobody knows how it ended", trouble.unwrap_or_default()))
    };
    if now >= deadline {
        return lost("no report came in time");
    }
    let keep = pod.map(|pod| pod.job.as_str());
    let mut plan = Plan { steps: delete_jobs(observed, keep), again: Some(until(deadline, now)), ..Plan::default() };
    if let Some(since) = observed.stop_since {
        let patience = after(since, grace + CANCEL_ALLOWANCE);
        // Its node is lost: neither the runner hears that it is to stop, nor kubelet that the pod is deleted.
        let due =
            pod.and_then(|pod| pod.deleted_by).map(|by| heard_by(observed, after(by, POD_ALLOWANCE).max(patience)));
        if due.is_some_and(|due| now >= due) {
            return lost("its pod was deleted and does not go");
        }
        if now >= patience {
            plan.again = Some(until(due.unwrap_or(deadline).min(deadline), now));
            plan.steps = delete_jobs(observed, None);
            plan.steps.extend(
                pod.filter(|pod| pod.deleted_by.is_none())
                    .map(|pod| Step::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() }),
            );
        } else {
            plan.again = Some(until(patience.min(deadline), now));
        }
    }
    plan
}

/// When a run is given up: not before its runner could reach this leader.
fn heard_by(observed: &Observed<'_>, deadline: Timestamp) -> Timestamp {
    observed.leading_since.map_or(deadline, |since| deadline.max(after(since, LEADER_ALLOWANCE)))
}

/// The plan for a run that has ended.
pub(super) fn finished(observed: &Observed<'_>, attempt: Option<&Attempt>) -> Plan {
    let Observed { run, now, .. } = *observed;
    let is_unknown = phase(run) == Phase::OutcomeUnknown;
    if let Some(outcome) = attempt.filter(|_| is_unknown).and_then(|attempt| authentic_outcome(observed.pods, attempt))
    {
        return Plan { outcome: Some(outcome.clone()), ..Plan::default() };
    }
    let mut plan = Plan { steps: delete_jobs(observed, None), ..Plan::default() };
    if run.metadata.deletion_timestamp.is_none() {
        // `cancel` came when the end was about to be written. For kstatus the run would be in progress for ever.
        let seen = run.status.as_ref().and_then(|status| status.observed_generation);
        plan.is_outdated = seen.is_some_and(|seen| run.metadata.generation.is_some_and(|newest| seen < newest));
        return plan;
    }
    let completed = run.status.as_ref().and_then(|status| status.completion_time.as_ref()).map_or(now, |time| time.0);
    // The pod object of a lost node stays for ever. It keeps its tree pinned, but need not keep the run.
    let grace = grace(attempt);
    let patience = after(completed, grace + POD_ALLOWANCE);
    if observed.jobs.is_empty() && (observed.pods.is_empty() || now >= patience) {
        plan.steps.push(Step::RemoveFinalizer);
    } else {
        plan.again = Some(until(patience.max(after(now, 1)), now));
    }
    plan
}
