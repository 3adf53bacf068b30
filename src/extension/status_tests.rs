use super::*;
use crate::api::conditions::{find, is_true};

const OBJECT: Object<'_> = Object { generation: Some(2), requested_at: None, history_limit: None };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pair(tree: &str) -> Observation {
    Observation {
        before: Before::Nothing,
        result: Ok(Applied::Installed(Box::new(InstalledPair {
            revision: format!("main@sha1:{tree}"),
            tree_digest: format!("sha256:{tree}"),
            manifest_digest: "sha256:m".into(),
            size: 1,
            files: 1,
            verified: None,
            linked_manifest: false,
            validators: [None, None],
            resolved: OrchestratorExtensionSpec::default(),
            enabled: true,
            disagreements: vec![],
            pinned: false,
        }))),
    }
}

fn failure(class: FailureClass) -> Observation {
    let message = "fetching https://example.com/x.git: connection refused".to_owned();
    Observation {
        before: Before::Intact,
        result: Err(Failure { stage: Stage::Fetch, class, reason: Reason::FetchFailed, message }),
    }
}

fn reason(status: &OrchestratorExtensionStatus, type_: &str) -> String {
    find(&status.conditions, type_).map(|condition| condition.reason.clone()).unwrap_or_default()
}

#[test]
fn an_installed_extension_is_ready_at_its_generation() {
    let status = next(&Default::default(), OBJECT, &pair("a"), at(1));
    assert!(is_true(&status.conditions, "Ready") && is_true(&status.conditions, "Installed"));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(2)));
    assert!(find(&status.conditions, "Reconciling").is_none() && find(&status.conditions, "Stalled").is_none());
}

#[test]
fn the_same_pair_again_changes_nothing() {
    let first = next(&Default::default(), OBJECT, &pair("a"), at(1));
    assert_eq!(next(&first, OBJECT, &pair("a"), at(99)), first);
}

#[test]
fn a_failed_upgrade_is_not_ready_but_still_installed() {
    let before = next(&Default::default(), OBJECT, &pair("a"), at(1));
    let after = next(&before, OBJECT, &failure(FailureClass::Transient), at(2));
    assert!(!is_true(&after.conditions, "Ready") && is_true(&after.conditions, "Installed"));
    assert!(is_true(&after.conditions, "Reconciling"));
    assert_eq!(after.artifact, before.artifact);
    assert_eq!(after.resolved, before.resolved);
}

#[test]
fn what_needs_a_change_of_the_object_is_stalled_and_does_not_reconcile() {
    let status = next(&Default::default(), OBJECT, &failure(FailureClass::Stalled), at(1));
    assert!(is_true(&status.conditions, "Stalled"));
    assert!(find(&status.conditions, "Reconciling").is_none());
    assert_eq!(reason(&status, "SourceFetched"), "FetchFailed");
    assert_eq!(find(&status.conditions, "Compatible").unwrap().status, "Unknown");
}

#[test]
fn a_recovery_clears_what_the_failure_set() {
    let failed = next(&Default::default(), OBJECT, &failure(FailureClass::Stalled), at(1));
    let recovered = next(&failed, OBJECT, &pair("a"), at(2));
    assert!(find(&recovered.conditions, "Stalled").is_none());
    assert!(is_true(&recovered.conditions, "SourceFetched"));
}

#[test]
fn former_revisions_are_kept_newest_first_up_to_the_limit() {
    let mut status = OrchestratorExtensionStatus::default();
    for tree in ["a", "b", "c", "b", "d", "e"] {
        status = next(&status, Object { history_limit: Some(2), ..OBJECT }, &pair(tree), at(1));
    }
    let kept: Vec<_> = status.history.iter().map(|artifact| artifact.tree_digest.as_str()).collect();
    assert_eq!(kept, ["sha256:d", "sha256:b"]);
}

#[test]
fn a_rollback_swaps_the_pair_with_one_of_history_and_back() {
    let mut status = OrchestratorExtensionStatus::default();
    for tree in ["a", "b"] {
        status = next(&status, OBJECT, &pair(tree), at(1));
    }
    let mut back = pair("a");
    if let Ok(Applied::Installed(pair)) = &mut back.result {
        pair.pinned = true;
        pair.resolved.version = Some("1.0.0".into());
    }
    let rolled = next(&status, OBJECT, &back, at(2));
    assert_eq!(rolled.artifact.as_ref().unwrap().tree_digest, "sha256:a");
    assert_eq!(rolled.resolved.as_ref().unwrap().version.as_deref(), Some("1.0.0"));
    assert_eq!(rolled.history, [status.artifact.clone().unwrap()]);
    let ready = find(&rolled.conditions, "Ready").unwrap();
    assert_eq!(ready.message, "stored revision main@sha1:a, which spec.revision pins");
    let forth = next(&rolled, OBJECT, &pair("b"), at(3));
    assert_eq!(forth.artifact.unwrap().tree_digest, "sha256:b");
    assert_eq!(forth.history.len(), 1);
}

#[test]
fn a_disabled_extension_is_ready_and_says_so() {
    let mut observation = pair("a");
    if let Ok(Applied::Installed(pair)) = &mut observation.result {
        pair.enabled = false;
        pair.disagreements = vec!["description".into()];
    }
    let status = next(&Default::default(), OBJECT, &observation, at(1));
    assert!(is_true(&status.conditions, "Ready"));
    assert_eq!(reason(&status, "Ready"), "Disabled");
    assert!(find(&status.conditions, "Compatible").unwrap().message.contains("the resource wins"));
}

#[test]
fn a_tree_that_was_changed_from_outside_is_not_installed() {
    let before = next(&Default::default(), OBJECT, &pair("a"), at(1));
    let observation =
        Observation { before: Before::Broken("run.sh was changed".into()), ..failure(FailureClass::Transient) };
    let after = next(&before, OBJECT, &observation, at(2));
    assert!(!is_true(&after.conditions, "Installed"));
    assert_eq!(find(&after.conditions, "Installed").unwrap().message, "run.sh was changed");
}

#[test]
fn the_key_that_signed_is_named_and_kept() {
    let mut observation = pair("a");
    let by = Verification { provider: "minisign".into(), key: "release.pub".into(), key_digest: "sha256:k".into() };
    let message = |status: &OrchestratorExtensionStatus| {
        find(&status.conditions, "SourceVerified").map(|condition| condition.message.clone()).unwrap()
    };
    let unsigned = next(&Default::default(), OBJECT, &observation, at(1));
    assert_eq!(message(&unsigned), "everything that was pinned holds; no signature was asked for");
    if let Ok(Applied::Installed(pair)) = &mut observation.result {
        pair.verified = Some(by.clone());
    }
    let signed = next(&unsigned, OBJECT, &observation, at(2));
    assert_eq!(message(&signed), "signed with minisign, by the key release.pub (digest sha256:k)");
    let artifact = signed.artifact.unwrap();
    assert_eq!(artifact.verified, Some(by));
    assert_eq!(artifact.last_update_time, unsigned.artifact.unwrap().last_update_time, "the same tree");
}

#[test]
fn what_a_server_recognises_the_archive_by_is_kept_of_what_is_installed_and_within_bounds() {
    let with = |name: &str, validators| {
        let mut observation = pair(name);
        if let Ok(Applied::Installed(pair)) = &mut observation.result {
            pair.validators = validators;
        }
        observation
    };
    let first = next(&Default::default(), OBJECT, &with("a", [Some("\"1\"".into()), Some("x".repeat(257))]), at(1));
    let artifact = first.artifact.clone().unwrap();
    assert_eq!((artifact.etag.as_deref(), artifact.last_modified), (Some("\"1\""), None));
    let second = next(&first, OBJECT, &with("b", [None, None]), at(2));
    assert_eq!((second.artifact.unwrap().etag, &second.history[0].etag), (None, &None));
}

#[test]
fn keys_that_cannot_be_used_are_a_failed_verification_before_anything_is_fetched() {
    let reason = Reason::KeysUnusable;
    let failure = Failure::transient(Stage::Trust, reason, "Secret x/keys: no public key");
    let observation = Observation { before: Before::Intact, result: Err(failure) };
    let status = next(&Default::default(), OBJECT, &observation, at(1));
    let shown = |type_| find(&status.conditions, type_).map(|found| (found.status.as_str(), found.reason.as_str()));
    assert_eq!(shown("SourceVerified"), Some(("False", "KeysUnusable")));
    assert_eq!(shown("SourceFetched"), Some(("Unknown", "Progressing")));
    assert_eq!(shown("Installed"), Some(("True", "Succeeded")));
}

#[test]
fn a_volume_that_cannot_be_read_loses_nothing_of_what_is_installed() {
    let before = next(&Default::default(), OBJECT, &pair("a"), at(1));
    let gone = Before::Unreadable("open /v/extensions/.store: the volume is gone".into());
    let after = next(&before, OBJECT, &Observation { before: gone, ..failure(FailureClass::Transient) }, at(2));
    let installed = find(&after.conditions, "Installed").unwrap();
    assert_eq!((installed.status.as_str(), installed.reason.as_str()), ("Unknown", "StoreFailed"));
    assert_eq!(
        installed.message,
        "whether the last good revision is whole cannot be told: open /v/extensions/.store: the volume is gone"
    );
    assert_eq!((after.artifact, after.history), (before.artifact, before.history));
}

#[test]
fn the_request_to_reconcile_is_answered() {
    let object = Object { requested_at: Some("now"), ..OBJECT };
    for observation in [pair("a"), failure(FailureClass::Transient)] {
        let status = next(&Default::default(), object, &observation, at(1));
        assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("now"));
    }
}

#[test]
fn passing_failures_are_retried_sooner_than_stalled_ones() {
    let (interval, pause) = (Duration::from_secs(600), Duration::from_secs(4));
    let after = |observation: Observation| requeue_after(&observation.result, interval, pause);
    assert_eq!(after(pair("a")), interval);
    assert_eq!(after(failure(FailureClass::Stalled)), interval);
    assert_eq!(after(failure(FailureClass::Transient)), pause);
    assert_eq!(after(failure(FailureClass::Waiting(Duration::from_secs(9)))), Duration::from_secs(9));
    assert_eq!(after(failure(FailureClass::Waiting(Duration::from_secs(3600)))), interval);
}

/// What kstatus makes of an object of this generation.
fn kstatus(status: &OrchestratorExtensionStatus, generation: i64) -> &'static str {
    let observed = status.observed_generation.unwrap_or(-1);
    if observed != generation {
        return "InProgress";
    }
    match () {
        () if is_true(&status.conditions, "Stalled") => "Failed",
        () if is_true(&status.conditions, "Reconciling") || !is_true(&status.conditions, "Ready") => "InProgress",
        () => "Current",
    }
}

#[test]
fn kstatus_tells_the_truth_at_all_times() {
    let (transient, stalled) = (failure(FailureClass::Transient), failure(FailureClass::Stalled));
    let suspended = Observation { before: Before::Intact, result: Ok(Applied::Suspended) };
    let broken = Before::Broken("run.sh was changed".into());
    // as the API gives a new object, by the definition's default
    let mut status: OrchestratorExtensionStatus =
        serde_json::from_value(serde_json::json!({"observedGeneration": -1})).unwrap();
    assert_eq!((status.observed_generation, kstatus(&status, 1)), (None, "InProgress"));
    type Step<'a> = &'a dyn Fn(&OrchestratorExtensionStatus, Object<'_>) -> OrchestratorExtensionStatus;
    let steps: [(i64, &str, Step<'_>); 14] = [
        (1, "InProgress", &|old, object| working(old, object, &Before::Nothing, at(1))),
        (1, "Current", &|old, object| next(old, object, &pair("a"), at(1))),
        // an update: before anybody looks, while it takes long, and done
        (2, "InProgress", &|old, _| old.clone()),
        (2, "InProgress", &|old, object| working(old, object, &Before::Intact, at(1))),
        (2, "InProgress", &|old, object| next(old, object, &transient, at(1))),
        (2, "InProgress", &|old, object| working(old, object, &Before::Intact, at(1))),
        (2, "Failed", &|old, object| next(old, object, &stalled, at(1))),
        // looked at again at the interval, nothing else is known until that has ended
        (2, "Failed", &|old, object| working(old, object, &Before::Intact, at(1))),
        (2, "Current", &|old, object| next(old, object, &pair("b"), at(1))),
        // the same generation, with a new revision that takes long, and with a tree that is repaired
        (2, "InProgress", &|old, object| working(old, object, &Before::Intact, at(1))),
        (2, "Current", &|old, object| next(old, object, &pair("c"), at(1))),
        (2, "InProgress", &|old, object| working(old, object, &broken, at(1))),
        (2, "Current", &|old, object| next(old, object, &pair("c"), at(1))),
        // never Current while it is suspended: nobody knows whether it is as it was asked to be
        (3, "InProgress", &|old, object| next(old, object, &suspended, at(1))),
    ];
    for (index, (generation, expected, step)) in steps.into_iter().enumerate() {
        status = step(&status, Object { generation: Some(generation), ..OBJECT });
        assert_eq!(kstatus(&status, generation), expected, "step {index}: {:#?}", status.conditions);
    }
}

#[test]
fn while_work_goes_on_at_the_same_generation_ready_stays_for_a_whole_tree_alone() {
    let installed = next(&Default::default(), OBJECT, &pair("a"), at(1));
    let shown = |status: &OrchestratorExtensionStatus| {
        ["Ready", "Installed", "Reconciling"].map(|type_| {
            find(&status.conditions, type_).map_or("none".to_owned(), |condition| condition.status.clone())
        })
    };
    assert_eq!(shown(&working(&installed, OBJECT, &Before::Intact, at(2))), ["True", "True", "True"]);
    let broken = working(&installed, OBJECT, &Before::Broken("run.sh was changed".into()), at(2));
    assert_eq!(shown(&broken), ["Unknown", "False", "True"]);
    // what is said of a failure stays until its next try has ended
    let observation =
        Observation { before: Before::Broken("run.sh was changed".into()), ..failure(FailureClass::Stalled) };
    let failed = next(&broken, OBJECT, &observation, at(3));
    assert_eq!(working(&failed, OBJECT, &observation.before, at(4)), failed);
}

#[test]
fn what_others_choose_the_length_of_is_cut_to_what_status_takes() {
    let object = Object { requested_at: Some(&"t".repeat(2000)), ..OBJECT };
    let mut observation = pair("a");
    let Ok(Applied::Installed(installed)) = &mut observation.result else { panic!() };
    installed.revision = format!("{}é@sha1:0123", "b".repeat(600));
    let status = next(&Default::default(), object, &observation, at(1));
    let artifact = status.artifact.clone().unwrap();
    assert!(artifact.revision.len() <= 512 && artifact.revision.ends_with("bé@sha1:0123"), "{}", artifact.revision);
    assert!(artifact.revision.starts_with('…'));
    let token = status.last_handled_reconcile_at.clone().unwrap();
    assert!(token.len() <= 1024 && token.starts_with("ttt"), "{token}");
    assert_eq!(next(&status, object, &observation, at(9)), status, "the same again writes nothing");
    assert_eq!(bounded_revision(&"é".repeat(600)).chars().next(), Some('…'));
    assert_eq!(bounded_revision("main@sha1:0123"), "main@sha1:0123");
}

#[test]
fn a_contract_that_the_resource_asks_for_in_vain_says_nothing_of_the_source() {
    let result = Err(Failure::stalled(Stage::Contract, Reason::Incompatible, "needs 99.0"));
    let status = next(&Default::default(), OBJECT, &Observation { before: Before::Intact, result }, at(1));
    let shown = |type_| find(&status.conditions, type_).map(|found| found.status.as_str());
    assert_eq!((shown("Compatible"), shown("SourceFetched")), (Some("False"), Some("Unknown")));
}
