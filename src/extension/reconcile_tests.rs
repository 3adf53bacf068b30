//! A look after an extension: what it writes, what it waits for, and what it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::super::fixture::{CONFIG_MAP, EXTENSION, Fixture, RUN, SECRET, archive};
use super::*;
use crate::manifest;
use crate::source::testing::{Server, bytes};

#[tokio::test]
async fn an_install_takes_at_most_three_writes_and_the_next_look_none() {
    // as where admission, which adds the finalizer, is away
    let mut fixture = Fixture::new();
    fixture.look().await;
    assert_eq!(fixture.extension().finalizers(), [EXTENSION_FINALIZER]);
    assert!(!fixture.file("run.sh").exists(), "nothing is installed that deletion would not wait for");
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
    assert_eq!(fixture.script(), "#!/bin/sh\necho one\n");
    let writes = fixture.api.writes().into_iter().filter(|write| write.contains(EXTENSION)).count();
    assert!(writes <= 3, "{:?}", fixture.api.writes());

    let version = fixture.version();
    fixture.look().await;
    assert_eq!(fixture.version(), version);
    fixture.restart(|leads| leads);
    fixture.look().await;
    assert_eq!(fixture.version(), version, "a new leader has nothing to write either");
    assert_eq!(fixture.events().await.len(), 1, "and nothing to tell");
}

#[tokio::test]
async fn what_an_outdated_cache_misses_is_not_lost_by_a_failure() {
    let fixture = Fixture::installed().await;
    let artifact = fixture.status()["artifact"].clone();
    fixture.apply(
        json!({"source": {"type": "configMap", "configMapRef": {"name": "away"}}, "entrypoint": {"path": "run.sh"}}),
    );
    let mut outdated = fixture.extension();
    // the cache has the new spec, but not yet the status that was just written
    (outdated.status, outdated.metadata.resource_version) = (None, Some("1".to_owned()));
    reconcile(&outdated, &fixture.context).await.unwrap();
    assert_eq!(fixture.shown("Ready"), "False NotFound");
    assert_eq!(fixture.shown("Installed"), "True Succeeded");
    assert_eq!(fixture.status()["artifact"], artifact);
}

#[tokio::test]
async fn what_somebody_else_wrote_in_the_meantime_is_gone_out_from() {
    let fixture = Fixture::installed().await;
    fixture.serve("two");
    let mut first = true;
    fixture.api.before(move |api, method, path| {
        if *method == Method::PUT && path.ends_with("/probe/status") && std::mem::take(&mut first) {
            api.change(EXTENSION, |object| {
                object["status"]["history"] = json!([object["status"]["artifact"].clone()]);
                object["status"]["history"][0]["treeDigest"] = "sha256:theirs".into();
            });
        }
        None
    });
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
    assert_eq!(fixture.script(), "#!/bin/sh\necho two\n");
    let kept = fixture.status()["history"].clone();
    assert_eq!((kept.as_array().unwrap().len(), &kept[1]["treeDigest"]), (2, &"sha256:theirs".into()));
}

#[tokio::test]
async fn an_annotation_that_comes_during_the_look_costs_no_second_one() {
    let fixture = Fixture::installed().await;
    fixture.serve("two");
    let (mut first, reads) = (true, Arc::new(AtomicUsize::new(0)));
    let counted = reads.clone();
    fixture.api.before(move |api, method, path| {
        if path == CONFIG_MAP {
            counted.fetch_add(1, Ordering::SeqCst);
        }
        if *method == Method::PUT && std::mem::take(&mut first) {
            api.change(EXTENSION, |object| object["metadata"]["annotations"] = json!({"note": "mine"}));
        }
        None
    });
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
    assert_eq!(reads.load(Ordering::SeqCst), 1);
    assert_eq!(fixture.api.get(EXTENSION).unwrap()["metadata"]["annotations"]["note"], "mine");
}

#[tokio::test]
async fn a_replica_that_no_longer_leads_writes_nothing() {
    let fixture = Fixture::installed().await;
    let version = fixture.version();
    fixture.api.remove(CONFIG_MAP);
    let leads = fixture.leads.clone();
    // lost while it looks
    fixture.api.before(move |_, _, path| {
        leads.store(path != CONFIG_MAP, Ordering::SeqCst);
        None
    });
    fixture.look().await;
    assert_eq!(fixture.version(), version);
    fixture.leads.store(false, Ordering::SeqCst);
    fixture.api.change(EXTENSION, |object| object["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z".into());
    let version = fixture.version();
    assert_eq!(fixture.look().await, Action::await_change());
    assert_eq!(fixture.version(), version);
}

#[tokio::test]
async fn a_status_that_the_api_refuses_is_an_error_after_which_pauses_grow() {
    let fixture = Fixture::new();
    fixture.look().await;
    fixture.api.before(|_, method, path| {
        (*method == Method::PUT && path.ends_with("/status")).then_some(StatusCode::UNPROCESSABLE_ENTITY)
    });
    for failures in 1..4 {
        assert!(reconcile(&fixture.extension(), &fixture.context).await.is_err());
        fixture.context.pause("u-1");
        assert_eq!(fixture.context.memory("u-1").failures, failures);
    }
    fixture.apply(serde_json::to_value(fixture.extension().spec).unwrap());
    assert!(reconcile(&fixture.extension(), &fixture.context).await.is_err());
    assert_eq!(fixture.context.memory("u-1").failures, 0, "a new generation begins anew");
}

#[tokio::test]
async fn a_missing_config_map_or_secret_is_waited_for() {
    let fixture = Fixture::new();
    fixture.api.remove(CONFIG_MAP);
    fixture.look().await;
    fixture.look().await;
    assert_eq!((fixture.shown("Reconciling"), fixture.shown("Stalled")), ("True NotFound".into(), "none none".into()));
    fixture.serve("one");
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
    let events = fixture.events().await;
    assert_eq!(events.len(), 2, "{events:?}");
}

#[tokio::test]
async fn an_upgrade_without_its_entrypoint_keeps_the_last_good_revision() {
    let fixture = Fixture::installed().await;
    let artifact = fixture.status()["artifact"].clone();
    fixture.serve_files(json!({"other.sh": "#!/bin/sh\n"}));
    fixture.look().await;
    assert_eq!(
        (fixture.shown("Ready"), fixture.shown("Stalled")),
        ("False EntrypointMissing".into(), "True EntrypointMissing".into())
    );
    assert_eq!(
        (fixture.shown("Installed"), fixture.shown("SourceFetched")),
        ("True Succeeded".into(), "True Succeeded".into())
    );
    assert_eq!(fixture.status()["artifact"], artifact);
    assert_eq!(fixture.script(), "#!/bin/sh\necho one\n");
}

#[tokio::test]
async fn what_the_fetched_manifest_asks_for_in_vain_is_said_of_compatibility_with_its_line() {
    let fixture = Fixture::installed().await;
    let manifest = "apiVersion: cloudstack.apache.org/v1\nkind: OrchestratorExtension\nmetadata: {name: probe}\nspec:\n  \
                    entrypoint: {path: /abs}\n  compatibility: {cloudstack: {minVersion: '99.0'}}\n";
    fixture.serve_files(json!({"run.sh": "#!/bin/sh\n", "manifest.yaml": manifest}));
    fixture.look().await;
    assert_eq!(
        (fixture.shown("SourceFetched"), fixture.shown("Compatible")),
        ("True Succeeded".into(), "False Incompatible".into())
    );
    assert!(fixture.message("Ready").starts_with("manifest.yaml:6:"), "{}", fixture.message("Ready"));
    // what the resource itself asks for in vain is known before anything is fetched
    fixture.set("compatibility", json!({"cloudstack": {"minVersion": "99.0"}}));
    fixture.look().await;
    assert_eq!(
        (fixture.shown("SourceFetched"), fixture.shown("Compatible")),
        ("Unknown Progressing".into(), "False Incompatible".into())
    );
    assert!(
        fixture.message("Ready").starts_with("spec.compatibility.cloudstack.minVersion: "),
        "{}",
        fixture.message("Ready")
    );
}

#[tokio::test]
async fn a_manifest_is_found_under_each_of_its_names() {
    let fixture = Fixture::installed().await;
    for (number, file) in manifest::FILE_NAMES.iter().copied().enumerate() {
        let text = format!(
            "apiVersion: cloudstack.apache.org/v1\nkind: OrchestratorExtension\nmetadata: {{name: probe, version: 1.0.{number}}}\n\
             spec:\n  entrypoint: {{path: run.sh}}\n"
        );
        fixture.serve_files(json!({"run.sh": "#!/bin/sh\n", file: text}));
        fixture.look().await;
        assert_eq!(fixture.shown("Ready"), "True Succeeded", "{file}");
        assert_eq!(fixture.status()["resolved"]["version"], format!("1.0.{number}"), "{file}");
    }
    assert_eq!(manifest::FILE_NAMES, ["manifest.yaml", "manifest.yml"]);
}

#[tokio::test]
async fn whoever_waits_for_a_turn_when_the_process_is_to_end_fetches_nothing() {
    let fixture = Fixture::installed().await;
    let asked = fixture.seen_at(CONFIG_MAP);
    let turn = fixture.context.fetches.acquire().await.unwrap();
    let lost = async {
        fixture.leads.store(false, Ordering::SeqCst);
        drop(turn);
    };
    assert_eq!(tokio::join!(fixture.look(), lost).0, Action::await_change());
    fixture.leads.store(true, Ordering::SeqCst);
    let _turn = fixture.context.fetches.acquire().await.unwrap();
    let ended = async { fixture.context.fetches.close() };
    assert_eq!(tokio::join!(fixture.look(), ended).0, Action::await_change());
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn deletion_lists_the_runs_in_its_turn() {
    let fixture = Fixture::installed().await;
    fixture.api.change(EXTENSION, |object| object["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z".into());
    let turn = fixture.context.listings.acquire().await.unwrap();
    let asked = fixture.seen_at("/apis/outrigger.dev/v1alpha1/actionruns");
    let waited = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(asked.lock().unwrap().is_empty());
        drop(turn);
    };
    tokio::join!(fixture.look(), waited);
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn deletion_waits_for_an_active_run() {
    let fixture = Fixture::installed().await;
    fixture.api.put(
        RUN,
        json!({
            "apiVersion": "outrigger.dev/v1alpha1", "kind": "ActionRun", "metadata": {"name": "backup", "namespace": "team-a"},
            "spec": {"extensionRef": {"name": "probe"}}, "status": {"phase": "Running", "attempts": [{}]},
        }),
    );
    fixture.api.change(EXTENSION, |object| object["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z".into());
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "False WaitingForRuns");
    assert_eq!(fixture.message("Ready"), "deletion waits for 1 active runs: team-a/backup");
    assert_eq!(fixture.script(), "#!/bin/sh\necho one\n");
    let version = fixture.version();
    fixture.look().await;
    assert_eq!(fixture.version(), version, "it is said once");
    fixture.api.change(RUN, |run| run["status"]["phase"] = "Succeeded".into());
    fixture.look().await;
    assert!(fixture.extension().finalizers().is_empty());
    assert_eq!(fixture.script(), "");
}

#[tokio::test]
async fn a_linked_manifest_is_downloaded_once_while_it_stays_the_same() {
    let server = Server::start(|seen| {
        if seen.headers.contains_key("if-none-match") {
            return Response::builder().status(304).body(axum::body::Body::empty()).unwrap();
        }
        let host = seen.headers["host"].to_str().unwrap();
        let manifest = format!(
            "apiVersion: cloudstack.apache.org/v1\nkind: OrchestratorExtension\nmetadata: {{name: linked}}\nspec:\n  source: \
             {{type: archive, url: 'http://{host}/x.tar'}}\n  entrypoint: {{path: run.sh}}\n"
        );
        let body = if seen.target == "/x.tar" { archive(b"#!/bin/sh\n") } else { manifest.into_bytes() };
        Response::builder().header("ETag", "\"1\"").body(body.into()).unwrap()
    })
    .await;
    let fixture = Fixture::new();
    fixture.apply(json!({"manifestURL": server.url("/manifest.yaml")}));
    fixture.look().await;
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
    assert_eq!(fixture.status()["resolved"]["name"], "linked");
    let version = fixture.version();
    fixture.look().await;
    assert_eq!(fixture.version(), version);
    let asked: Vec<_> =
        server.seen().iter().map(|seen| (seen.target.clone(), seen.headers.contains_key("if-none-match"))).collect();
    let (manifest, archive) = ("/manifest.yaml".to_owned(), "/x.tar".to_owned());
    assert_eq!(asked, [(manifest.clone(), false), (archive.clone(), false), (manifest, true), (archive, true)]);
}

#[tokio::test]
async fn a_secret_that_is_mended_is_noticed_without_a_change_of_the_extension() {
    let server = Server::start(|_| bytes(archive(b"#!/bin/sh\n"))).await;
    let fixture = Fixture::new();
    let secret = |origin: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "login", "annotations": {"outrigger.dev/allowed-origins": origin}},
            "data": {"bearerToken": "eA=="},
        })
    };
    fixture.api.put(SECRET, secret("https://elsewhere.example.com"));
    let source = json!({"type": "archive", "url": server.url("/x.tar"), "secretRef": {"name": "login"}});
    fixture.apply(json!({"source": source, "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    fixture.look().await;
    assert_eq!(
        (fixture.shown("Reconciling"), fixture.shown("Stalled")),
        ("True SecretNotUsable".into(), "none none".into())
    );
    assert!(server.seen().is_empty());
    fixture.api.put(SECRET, secret(&server.url("")));
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_is_not_asked_and_the_volume_is_looked_at_all_the_same() {
    let is_busy = Arc::new(AtomicBool::new(false));
    let busy = is_busy.clone();
    let server = Server::start(move |_| match busy.load(Ordering::SeqCst) {
        true => Response::builder().status(429).header("Retry-After", "3600").body("".into()).unwrap(),
        false => bytes(archive(b"#!/bin/sh\n")),
    })
    .await;
    let fixture = Fixture::new();
    let spec = json!({
        "source": {"type": "archive", "url": server.url("/x.tar")}, "entrypoint": {"path": "run.sh"},
    });
    fixture.apply(spec.clone());
    fixture.look().await;
    fixture.look().await;
    is_busy.store(true, Ordering::SeqCst);
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "False FetchFailed");
    let (asked, version) = (server.seen().len(), fixture.version());
    fixture.look().await;
    assert_eq!((server.seen().len(), fixture.version()), (asked, version));
    fixture.damage();
    fixture.look().await;
    assert_eq!((fixture.shown("Installed"), server.seen().len()), ("False Drifted".into(), asked));
    assert_eq!(fixture.shown("Ready"), "False FetchFailed");

    let annotations = json!({RECONCILE_REQUESTED_AT: "now"});
    fixture.api.change(EXTENSION, |object| object["metadata"]["annotations"] = annotations);
    fixture.look().await;
    fixture.look().await;
    assert_eq!(server.seen().len(), asked + 1, "what somebody requests is asked for once");
    is_busy.store(false, Ordering::SeqCst);
    fixture.apply(spec);
    fixture.look().await;
    assert_eq!(
        (fixture.shown("Ready"), fixture.shown("Installed")),
        ("True Succeeded".into(), "True Succeeded".into())
    );
}
