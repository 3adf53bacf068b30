//! Which finished runs are collected: pure.
//!
//! A run is deleted once its `ttlSecondsAfterFinished` is over, and one with a generated name also when more than so many
//! newer ones of its namespace and extension have ended. A run with a fixed name and no TTL is kept for ever: as long as
//! it is there, a GitOps tool that applies it again does not run it again.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::decide::phase;
use crate::api::ActionRun;

/// Seconds that a run is kept although there are enough newer ones: whoever waits for it sees how it ended.
const SEEN_SECONDS: i64 = 30;

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
        } else if run.metadata.generate_name.as_ref().is_some_and(|prefix| !prefix.is_empty()) {
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

/// When the run ended, unless it is being deleted already.
fn ended(run: &ActionRun) -> Option<Timestamp> {
    let is_kept = phase(run).is_finished() && run.metadata.deletion_timestamp.is_none();
    run.status.as_ref().filter(|_| is_kept)?.completion_time.as_ref().map(|time| time.0)
}

fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
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
        let other_namespace = run("elsewhere", 0, json!({"/metadata/generateName": "g-", "/metadata/namespace": "b"}));
        let other_extension =
            run("other", 0, json!({"/metadata/generateName": "g-", "/spec/extensionRef": {"name": "y"}}));
        let fixed = run("fixed", 9, json!({}));
        let runs = [generated("2", 2), generated("1", 1), generated("3", 3), other_namespace, other_extension, fixed];
        assert_eq!(names(&runs, Some(1), 1000), ["1", "2"]);
        assert_eq!(names(&runs, Some(3), 1000), [""; 0]);
        assert_eq!(names(&runs, None, 1000), [""; 0]);
    }

    #[test]
    fn a_run_that_has_just_ended_can_still_be_looked_at() {
        assert_eq!(names(&[generated("1", 0)], Some(0), 29), [""; 0]);
        assert_eq!(names(&[generated("1", 0)], Some(0), 30), ["1"]);
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
