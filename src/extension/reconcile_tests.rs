use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::super::fixture::{CONFIG_MAP, EXTENSION, Fixture, RUN, SECRET, patient};
use super::super::volume::{Patience, Volume};
use super::*;
use crate::digest::Digest;
use crate::source::testing::{Server, bytes, status};

/// What the API stores of the extension when it is asked for something else.
fn seen_at(fixture: &Fixture, path: &'static str) -> Arc<std::sync::Mutex<Vec<Value>>> {
    let seen = Arc::new(std::sync::Mutex::new(vec![]));
    let told = seen.clone();
    fixture.api.before(move |api, _, asked| {
        if asked == path {
            told.lock().unwrap().push(api.get(EXTENSION).unwrap());
        }
        None
    });
    seen
}

fn status_of(object: &Value, type_: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == type_);
    found.map_or("none".to_owned(), |condition| condition["status"].as_str().unwrap().to_owned())
}

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
async fn what_was_changed_from_outside_is_repaired_and_told_once_each_time() {
    let fixture = Fixture::installed().await;
    for _ in 0..2 {
        fixture.damage();
        let during = seen_at(&fixture, CONFIG_MAP);
        fixture.look().await;
        let during = during.lock().unwrap()[0].clone();
        assert_eq!(
            ["Installed", "Ready", "Reconciling"].map(|type_| status_of(&during, type_)),
            ["False", "Unknown", "True"]
        );
        assert_eq!(fixture.script(), "#!/bin/sh\necho one\n");
        assert_eq!(
            (fixture.shown("Ready"), fixture.shown("Reconciling")),
            ("True Succeeded".into(), "none none".into())
        );
        assert_eq!(fixture.shown("Installed"), "True Succeeded");
    }
    let events = fixture.events().await;
    let drifted: Vec<_> = events.iter().filter(|event| event.starts_with("Drifted: ")).collect();
    assert!(!drifted.is_empty() && drifted.iter().all(|event| event.contains("run.sh")), "{events:?}");
    let told = fixture.api.log().iter().filter(|line| line.contains("/events")).count();
    assert_eq!(told, 3, "one installation, two repairs: {:?}", fixture.api.log());
}

#[tokio::test]
async fn damage_is_found_while_slow_sources_take_all_turns_at_fetching() {
    let fixture = Fixture::installed().await;
    fixture.damage();
    let turn = fixture.context.fetches.acquire().await.unwrap();
    let found = async {
        while fixture.shown("Installed") != "False Drifted" {
            tokio::task::yield_now().await;
        }
        assert!(fixture.script().contains("changed"), "the repair waits for its turn");
        drop(turn);
    };
    tokio::join!(fixture.look(), found);
    assert_eq!(
        (fixture.shown("Installed"), fixture.shown("Ready")),
        ("True Succeeded".into(), "True Succeeded".into())
    );
}

#[tokio::test]
async fn damage_that_cannot_be_repaired_is_told_once() {
    let fixture = Fixture::installed().await;
    fixture.damage();
    fixture.api.remove(CONFIG_MAP);
    for _ in 0..3 {
        fixture.look().await;
        assert_eq!(
            (fixture.shown("Installed"), fixture.shown("Ready")),
            ("False Drifted".into(), "False NotFound".into())
        );
    }
    let events = fixture.events().await;
    assert_eq!(events.iter().filter(|event| event.starts_with("Drifted: ")).count(), 1, "{events:?}");
    let told = fixture.api.log().iter().filter(|line| line.contains("/events")).count();
    assert_eq!(told, 3, "installed, drifted, not found: {:?}", fixture.api.log());
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
    let mut spec = serde_json::to_value(fixture.extension().spec).unwrap();
    spec["compatibility"] = json!({"cloudstack": {"minVersion": "99.0"}});
    fixture.apply(spec);
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
async fn a_pinned_revision_is_repaired_from_a_source_that_still_has_it_and_else_says_so() {
    let fixture = Fixture::installed().await;
    let mut spec = serde_json::to_value(fixture.extension().spec).unwrap();
    spec["revision"] = fixture.status()["artifact"]["treeDigest"].clone();
    fixture.apply(spec);
    fixture.damage();
    fixture.look().await;
    assert_eq!((fixture.shown("Ready"), fixture.script()), ("True Succeeded".into(), "#!/bin/sh\necho one\n".into()));

    fixture.damage();
    fixture.serve("two");
    fixture.look().await;
    assert_eq!(
        (fixture.shown("Stalled"), fixture.shown("Installed")),
        ("True RevisionNotKept".into(), "False Drifted".into())
    );
    let message = fixture.message("Ready");
    assert!(
        message.contains("run.sh")
            && message.contains("and cannot be repaired: the source is at configmap/scripts@sha256:"),
        "{message}"
    );
    fixture.serve("one");
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
}

#[tokio::test]
async fn a_volume_that_hangs_is_said_and_deletion_waits_for_it() {
    let mut fixture = Fixture::installed().await;
    let artifact = fixture.status()["artifact"].clone();
    let (let_go, go) = mpsc::channel::<()>();
    let go = std::sync::Mutex::new(go);
    fixture.restart(move |leads| {
        let _ = go.lock().unwrap().recv();
        leads
    });
    fixture.context.volume = patient(Duration::from_millis(50));
    let turn = fixture.context.fetches.acquire().await.unwrap();
    for _ in 0..2 {
        fixture.look().await;
        assert_eq!(
            (fixture.shown("Ready"), fixture.shown("Installed")),
            ("False StoreFailed".into(), "Unknown StoreFailed".into())
        );
        assert!(
            fixture.message("Ready").contains("the store's volume does not answer"),
            "{}",
            fixture.message("Ready")
        );
    }
    assert_eq!(fixture.status()["artifact"], artifact);
    drop(turn);
    fixture.api.change(EXTENSION, |object| object["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z".into());
    fixture.look().await;
    assert!(fixture.message("Ready").starts_with("deletion waits for the volume"), "{}", fixture.message("Ready"));
    assert_eq!(fixture.extension().finalizers(), [EXTENSION_FINALIZER]);
    drop(let_go);
    while !fixture.extension().finalizers().is_empty() {
        fixture.look().await;
    }
    assert!(!fixture.file("").is_symlink());
}

#[tokio::test]
async fn unpacking_that_hangs_is_said_of_the_volume_and_tried_again() {
    let asked = AtomicUsize::new(0);
    let script = "#!/bin/sh\n";
    let annotations = json!({"org.opencontainers.image.title": "run.sh"});
    let layer = json!({"mediaType": "text/plain", "digest": Digest::of(script), "size": script.len(), "annotations": annotations});
    let manifest = json!({"schemaVersion": 2, "layers": [layer]}).to_string();
    let server = Server::start(move |seen| match seen.target.contains("/blobs/") {
        false => bytes(manifest.clone()),
        // A download that does not end stands for a volume that does not.
        true if asked.fetch_add(1, Ordering::SeqCst) == 0 => {
            Response::new(Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>()))
        }
        true => bytes(script),
    })
    .await;
    let (mut fixture, late) = (Fixture::new(), Duration::from_secs(3600));
    let source = json!({"type": "oci", "url": format!("oci://{}/team/ext", server.address), "insecure": true});
    fixture.apply(json!({"source": source, "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    fixture.context.volume = Volume::new(Patience { little: late, trees: late, fetch: Duration::from_millis(50) });
    fixture.look().await;
    assert_eq!(fixture.shown("SourceFetched"), "False StoreFailed");
    assert_eq!(
        fixture.message("Ready"),
        "unpacking onto the store's volume has not ended within 0 s of the fetch; check its server and the mount"
    );
    fixture.context.volume = patient(late);
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
}

#[tokio::test]
async fn that_work_is_under_way_may_stay_unsaid() {
    let mut fixture = Fixture::new();
    fixture.look().await;
    let (let_go, go) = mpsc::channel::<()>();
    let (go, hangs) = (std::sync::Mutex::new(go), Arc::new(AtomicBool::new(false)));
    fixture.restart({
        let hangs = hangs.clone();
        move |leads| {
            if hangs.load(Ordering::SeqCst) {
                let _ = go.lock().unwrap().recv();
            }
            leads
        }
    });
    let mut let_go = Some(let_go);
    fixture.api.before(move |_, method, path| {
        if path == CONFIG_MAP {
            hangs.store(true, Ordering::SeqCst);
        }
        let is_first = *method == Method::PUT && path.ends_with("/status") && let_go.take().is_some();
        is_first.then_some(StatusCode::UNPROCESSABLE_ENTITY)
    });
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
}

#[tokio::test]
async fn whoever_waits_for_a_turn_when_the_process_is_to_end_fetches_nothing() {
    let fixture = Fixture::installed().await;
    let asked = seen_at(&fixture, CONFIG_MAP);
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
async fn damage_of_a_suspended_extension_is_told_once() {
    let fixture = Fixture::installed().await;
    let mut spec = serde_json::to_value(fixture.extension().spec).unwrap();
    spec["suspend"] = true.into();
    fixture.apply(spec);
    fixture.damage();
    fixture.look().await;
    fixture.events().await;
    let told = || fixture.api.log().iter().filter(|line| line.contains("/events")).count();
    let at_first = told();
    fixture.look().await;
    assert_eq!(fixture.events().await.iter().filter(|event| event.starts_with("Drifted: ")).count(), 1);
    assert_eq!(told(), at_first);
}

#[tokio::test]
async fn nothing_is_downloaded_while_the_volume_takes_nothing() {
    let server = Server::start(|_| bytes(archive())).await;
    let mut fixture = Fixture::new();
    let source = json!({"type": "archive", "url": server.url("/x.tar")});
    fixture.apply(json!({"source": source, "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    fixture.context.store.open().unwrap();
    fixture.restart(|_| false);
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "False StoreFailed");
    std::fs::rename(fixture.directory.path().join("extensions"), fixture.directory.path().join("away")).unwrap();
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "False StoreFailed");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn deletion_lists_the_runs_in_its_turn() {
    let fixture = Fixture::installed().await;
    fixture.api.change(EXTENSION, |object| object["metadata"]["deletionTimestamp"] = "2026-11-23T10:00:00Z".into());
    let turn = fixture.context.listings.acquire().await.unwrap();
    let asked = seen_at(&fixture, "/apis/outrigger.dev/v1alpha1/actionruns");
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
async fn a_source_that_cannot_be_asked_leaves_nothing_staged() {
    let fixture = Fixture::new();
    let server = Server::start(|_| status(500)).await;
    let source = json!({"type": "archive", "url": server.url("/x.tar")});
    fixture.apply(json!({"source": source, "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "False FetchFailed", "{}", fixture.message("Ready"));
    let staged = std::fs::read_dir(fixture.directory.path().join("extensions/.staging")).unwrap().count();
    assert_eq!(staged, 0);
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(10);
    header.set_mode(0o755);
    builder.append_data(&mut header, "run.sh", &b"#!/bin/sh\n"[..]).unwrap();
    builder.into_inner().unwrap()
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
        let body = if seen.target == "/x.tar" { archive() } else { manifest.into_bytes() };
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
    let server = Server::start(|_| bytes(archive())).await;
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
