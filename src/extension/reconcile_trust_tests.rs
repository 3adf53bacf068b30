//! A look by an operator that installs nothing that nobody signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::fixture::{EXTENSION, Fixture, archive};
use crate::source::testing::{Server, bytes};

const KEYS: &str = "/api/v1/namespaces/outrigger-system/secrets/keys";
const KEY: &[u8] = include_bytes!("../../tests/fixtures/signatures/minisign.pub");

fn stalled(fixture: &Fixture) -> [String; 2] {
    ["Stalled", "SourceVerified"].map(|type_| fixture.shown(type_))
}

#[tokio::test]
async fn where_signatures_are_required_no_unsigned_source_is_asked() {
    let server = Server::start(|_| bytes(archive(b"#!/bin/sh\n"))).await;
    let mut fixture = Fixture::new();
    fixture.context.require_verification = true;
    let source = json!({"type": "archive", "url": server.url("/x.tar")});
    fixture.apply(json!({"source": source, "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    fixture.look().await;
    assert_eq!(stalled(&fixture), ["True VerificationRequired", "False VerificationRequired"]);
    assert!(server.seen().is_empty());
    assert_eq!(fixture.script(), "");
}

#[tokio::test]
async fn where_signatures_are_required_no_pair_is_restored_of_which_a_part_has_none() {
    let mut fixture = Fixture::installed().await;
    let tree = fixture.status()["artifact"]["treeDigest"].clone();
    fixture.serve("two");
    fixture.look().await;
    fixture.context.require_verification = true;
    let metadata = json!({"name": "keys", "namespace": "outrigger-system"});
    let data = json!({"release.pub": STANDARD.encode(KEY)});
    fixture.api.put(KEYS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}));
    let verify = json!({"provider": "minisign", "secretRef": {"name": "keys"}});
    let source = json!({"type": "archive", "url": "https://example.com/x.tar", "verify": verify});
    let pinned = |tree: &Value| json!({"source": source, "entrypoint": {"path": "run.sh"}, "revision": tree});
    fixture.apply(pinned(&tree));
    fixture.look().await;
    assert_eq!(stalled(&fixture), ["True SignatureMissing", "False SignatureMissing"]);
    fixture.api.change(EXTENSION, |object| object["status"]["history"][0]["linkedManifest"] = true.into());
    fixture.look().await;
    assert_eq!(stalled(&fixture), ["True VerificationRequired", "False VerificationRequired"]);
    assert_eq!(fixture.script(), "#!/bin/sh\necho two\n");
}
