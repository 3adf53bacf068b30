//! A look after an extension whose volume hangs, or takes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::super::fixture::{CONFIG_MAP, EXTENSION, Fixture, archive, patient};
use super::super::volume::{Patience, Volume};
use super::*;
use crate::digest::Digest;
use crate::source::testing::{Server, bytes, status};

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
async fn nothing_is_downloaded_while_the_volume_takes_nothing() {
    let server = Server::start(|_| bytes(archive(b"#!/bin/sh\n"))).await;
    let mut fixture = Fixture::new();
    let source = json!({"type": "archive", "url": server.url("/x.tar")});
    fixture.apply(json!({"source": source.clone(), "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    fixture.context.store.open().unwrap();
    fixture.restart(|_| false);
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "False StoreFailed");
    std::fs::rename(fixture.directory.path().join("extensions"), fixture.directory.path().join("away")).unwrap();
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "False StoreFailed");
    fixture.apply(json!({"source": source, "manifestURL": server.url("/m.yaml"), "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "False StoreFailed");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_new_archive_is_downloaded_once_while_the_volume_takes_nothing() {
    let is_new = Arc::new(AtomicBool::new(false));
    let served = is_new.clone();
    let server = Server::start(move |seen| {
        let tag = if served.load(Ordering::SeqCst) { "\"2\"" } else { "\"1\"" };
        let is_known = seen.headers.get("if-none-match").is_some_and(|known| known == tag);
        let answer = Response::builder().header("ETag", tag).status(if is_known { 304 } else { 200 });
        let script: &[u8] = if tag == "\"1\"" { b"#!/bin/sh\n" } else { b"#!/bin/sh\necho two\n" };
        answer.body(if is_known { Body::empty() } else { archive(script).into() }).unwrap()
    })
    .await;
    let (mut fixture, takes) = (Fixture::new(), Arc::new(AtomicBool::new(true)));
    let taking = takes.clone();
    fixture.restart(move |leads| leads && taking.load(Ordering::SeqCst));
    let source = json!({"type": "archive", "url": server.url("/x.tar")});
    fixture.apply(json!({"source": source, "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    fixture.look().await;
    assert_eq!(fixture.shown("Ready"), "True Succeeded");
    takes.store(false, Ordering::SeqCst);
    is_new.store(true, Ordering::SeqCst);
    let mut asked = vec![];
    for _ in 0..3 {
        let before = server.seen().len();
        fixture.look().await;
        assert_eq!(fixture.shown("Ready"), "False StoreFailed");
        asked.push(server.seen().len() - before);
    }
    assert_eq!(asked, [1, 0, 0]);
    takes.store(true, Ordering::SeqCst);
    fixture.look().await;
    assert_eq!((fixture.shown("Ready"), fixture.script()), ("True Succeeded".into(), "#!/bin/sh\necho two\n".into()));
    let staged = std::fs::read_dir(fixture.directory.path().join("extensions/.staging")).unwrap().count();
    assert_eq!(staged, 0);
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
