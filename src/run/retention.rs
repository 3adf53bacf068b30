//! Which finished runs are collected: pure.
//!
//! A run is deleted once its `ttlSecondsAfterFinished` is over, and one with a generated name also when more than so many
//! newer ones of its namespace and extension have ended. A run with a fixed name and no TTL is kept for ever: as long as
//! it is there, a GitOps tool that applies it again does not run it again. Admission takes `generateName` from those.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::decide::{after, phase};
use crate::action::may_answer_with_password;
use crate::api::ActionRun;
use crate::validate::{ActionKind, LifecycleAction};

/// Seconds that a run is kept although there are enough newer ones: whoever waits for it sees how it ended.
const SEEN_SECONDS: i64 = 30;
/// What the API takes of `generateName`, in bytes, before it adds what it draws.
const PREFIX_BYTES: usize = 58;

/// Those of `runs` that are to be deleted now, the oldest first. `limit` says for an extension how many finished runs with
/// generated names are kept per namespace.
pub fn expired<'a>(
    runs: impl IntoIterator<Item = &'a ActionRun>,
    limit: impl Fn(&str) -> Option<u32>,
    now: Timestamp,
) -> Vec<&'a ActionRun> {
    let mut expired = Vec::new();
    let mut generated: BTreeMap<(&str, &str), Vec<(Timestamp, &ActionRun)>> = BTreeMap::new();
    for run in runs {
        let Some(ended) = ended(run) else { continue };
        let ttl = run.spec.ttl_seconds_after_finished.and_then(|seconds| i64::try_from(seconds).ok());
        if ttl.is_some_and(|seconds| now >= after(ended, seconds)) {
            expired.push((ended, run));
        } else if is_generated(run) {
            let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
            generated.entry((namespace, &run.spec.extension_ref.name)).or_default().push((ended, run));
        }
    }
    for ((_, extension), mut line) in generated {
        let Some(kept) = limit(extension).and_then(|limit| usize::try_from(limit).ok()) else { continue };
        line.sort_by_key(|(ended, run)| (*ended, run.metadata.name.as_deref()));
        let surplus = line.len().saturating_sub(kept);
        expired.extend(line.into_iter().take(surplus).filter(|(ended, _)| now >= after(*ended, SEEN_SECONDS)));
    }
    expired.sort_by_key(|(ended, run)| (*ended, run.metadata.uid.as_deref()));
    expired.into_iter().map(|(_, run)| run).collect()
}

/// Those of `runs` whose secret result was kept for so many `seconds` after their end. The runs are as the cache keeps them:
/// a Secret that they name is one [that may hold passwords](is_answer_secret).
pub fn secrets_expired<'a>(
    runs: impl IntoIterator<Item = &'a ActionRun>,
    seconds: u64,
    now: Timestamp,
) -> Vec<&'a ActionRun> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let names_secret = |run: &ActionRun| run.status.as_ref().is_some_and(|status| status.result_ref.is_some());
    let is_over = |run: &ActionRun| ended(run).is_some_and(|ended| now >= after(ended, seconds));
    runs.into_iter().filter(|run| names_secret(run) && is_over(run)).collect()
}

/// Whether the Secret with the answer of this action may hold passwords: then it does not stay as long as the run. One of
/// `prepare` may hold only what is too large for status; nothing tells the two apart afterwards.
pub fn is_answer_secret(action: &str) -> bool {
    let kind = LifecycleAction::named(action).map_or(ActionKind::Custom, ActionKind::Lifecycle);
    may_answer_with_password(kind)
}

/// When the run ended, unless it is being deleted already.
fn ended(run: &ActionRun) -> Option<Timestamp> {
    let is_kept = phase(run).is_finished() && run.metadata.deletion_timestamp.is_none();
    run.status.as_ref().filter(|_| is_kept)?.completion_time.as_ref().map(|time| time.0)
}

/// Whether the API drew the name. Where there is no admission, `generateName` alone does not say so.
fn is_generated(run: &ActionRun) -> bool {
    let prefix = run.metadata.generate_name.as_deref().unwrap_or_default();
    let prefix = prefix.get(..PREFIX_BYTES).unwrap_or(prefix);
    let drawn = run.metadata.name.as_deref().and_then(|name| name.strip_prefix(prefix));
    !prefix.is_empty() && drawn.is_some_and(|drawn| !drawn.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn run(name: &str, ended: i64, more: Value) -> ActionRun {
        let mut run = json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun",
            "metadata": {"name": name, "namespace": "a", "uid": name},
            "spec": {"extensionRef": {"name": "x"}, "action": "start"},
            "status": {"phase": "Succeeded", "completionTime": at(ended).to_string()},
        });
        for (path, value) in more.as_object().unwrap() {
            let (parent, key) = path.rsplit_once('/').unwrap();
            run.pointer_mut(parent).unwrap()[key] = value.clone();
        }
        serde_json::from_value(run).unwrap()
    }

    fn generated(name: &str, ended: i64) -> ActionRun {
        run(name, ended, json!({"/metadata/generateName": "g-"}))
    }

    fn names(runs: &[ActionRun], limit: Option<u32>, now: i64) -> Vec<String> {
        expired(runs, |_| limit, at(now)).iter().map(|run| run.metadata.name.clone().unwrap()).collect()
    }

    #[test]
    fn a_run_with_a_fixed_name_is_kept_for_ever() {
        assert_eq!(names(&[run("fixed", 0, json!({}))], Some(0), i64::MAX / 1_000_000_000), [""; 0]);
    }

    #[test]
    fn a_ttl_counts_from_the_end_whatever_the_name_is() {
        let ttl = json!({"/spec/ttlSecondsAfterFinished": 30});
        let runs = [run("fixed", 0, ttl.clone()), run("later", 5, ttl)];
        assert_eq!(names(&runs, None, 29), [""; 0]);
        assert_eq!(names(&runs, None, 30), ["fixed"]);
        assert_eq!(names(&runs, None, 35), ["fixed", "later"]);
    }

    #[test]
    fn of_generated_names_the_newest_are_kept_per_namespace_and_extension() {
        let other_namespace =
            run("g-elsewhere", 0, json!({"/metadata/generateName": "g-", "/metadata/namespace": "b"}));
        let other_extension =
            run("g-other", 0, json!({"/metadata/generateName": "g-", "/spec/extensionRef": {"name": "y"}}));
        let fixed = run("fixed", 9, json!({}));
        let runs =
            [generated("g-2", 2), generated("g-1", 1), generated("g-3", 3), other_namespace, other_extension, fixed];
        assert_eq!(names(&runs, Some(1), 1000), ["g-1", "g-2"]);
        assert_eq!(names(&runs, Some(3), 1000), [""; 0]);
        assert_eq!(names(&runs, None, 1000), [""; 0]);
    }

    #[test]
    fn a_name_that_was_not_drawn_from_the_prefix_is_fixed() {
        let named = |name: &str, prefix: &str| run(name, 0, json!({"/metadata/generateName": prefix}));
        let fixed = [named("nightly", "weekly-"), named("nightly", "nightly"), named("nightly", "")];
        assert_eq!(names(&fixed, Some(0), 1000), [""; 0]);
        let (long, drawn) = ("p".repeat(70), format!("{}abcde", "p".repeat(58)));
        assert_eq!(names(&[named(&drawn, &long)], Some(0), 1000), [drawn]);
    }

    #[test]
    fn a_run_that_has_just_ended_can_still_be_looked_at() {
        assert_eq!(names(&[generated("g-1", 0)], Some(0), 29), [""; 0]);
        assert_eq!(names(&[generated("g-1", 0)], Some(0), 30), ["g-1"]);
    }

    #[test]
    fn runs_that_wait_run_or_are_being_deleted_are_no_candidates() {
        let ttl = || json!({"/spec/ttlSecondsAfterFinished": 0});
        let changed = |path: &str, value: Value| {
            let mut more = ttl();
            more[path] = value;
            run("r", 0, more)
        };
        let runs = [
            changed("/status/phase", json!("Running")),
            changed("/status/phase", json!("Pending")),
            changed("/metadata/deletionTimestamp", json!("2026-11-23T10:00:00Z")),
        ];
        assert_eq!(names(&runs, None, 1000), [""; 0]);
    }
}
