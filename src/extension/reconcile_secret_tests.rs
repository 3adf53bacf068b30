//! What a look says of a server that repeats what it was sent.

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::fixture::{Fixture, SECRET};
use crate::source::testing::{Seen, Server, bytes, redirect, status};

const PASSWORD: &str = "hunter2-and-more";

/// What is said of a `source` on a server that answers like this to whoever logs in with `data`.
async fn said(
    answer: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    data: impl Fn(&Server) -> Value,
    source: impl Fn(&Server) -> Value,
) -> String {
    let server = Server::start(answer).await;
    let fixture = Fixture::new();
    let annotations = json!({"outrigger.dev/allowed-origins": server.url("")});
    fixture.api.put(
        SECRET,
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "login", "annotations": annotations}, "data": data(&server),
        }),
    );
    let mut source = source(&server);
    source["secretRef"] = json!({"name": "login"});
    fixture.apply(json!({"source": source, "entrypoint": {"path": "run.sh"}}));
    fixture.look().await;
    fixture.look().await;
    let said = format!("{} {:?}", fixture.status(), fixture.events().await);
    assert!(!said.contains(PASSWORD), "{said}");
    said
}

fn login(_: &Server) -> Value {
    json!({"username": STANDARD.encode("bob"), "password": STANDARD.encode(PASSWORD)})
}

fn archive(server: &Server) -> Value {
    json!({"type": "archive", "url": server.url("/x.tar")})
}

fn oci(server: &Server) -> Value {
    json!({"type": "oci", "url": format!("oci://{}/team/ext", server.address), "insecure": true})
}

/// A tar archive with an entry of this name, which leads out of the tree.
fn escaping(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(0);
    header.set_cksum();
    [header.as_bytes().as_slice(), &[0; 1024]].concat()
}

#[tokio::test]
async fn an_archives_server_cannot_have_the_password_shown() {
    let moved = |seen: &Seen| match seen.target.as_str() {
        "/x.tar" => redirect(&format!("/{PASSWORD}/x.tar")),
        _ => status(404),
    };
    assert!(said(moved, login, archive).await.contains("/********/x.tar: not found"));
    let said = said(|_| bytes(escaping(&format!("../{PASSWORD}"))), login, archive).await;
    assert!(said.contains("UnpackRefused") && said.contains("../********"), "{said}");
}

#[tokio::test]
async fn a_registry_cannot_have_a_login_of_dockers_shown() {
    let odd = |_: &Seen| bytes(json!({"schemaVersion": PASSWORD, "layers": []}).to_string().into_bytes());
    let docker = |server: &Server, entry: Value| {
        let config = json!({"auths": {(server.address.to_string()): entry}});
        json!({".dockerconfigjson": STANDARD.encode(config.to_string())})
    };
    for entry in [
        json!({"username": "bob", "password": PASSWORD}),
        json!({"identitytoken": PASSWORD}),
        json!({"registrytoken": PASSWORD}),
    ] {
        let said = said(odd, |server| docker(server, entry.clone()), oci).await;
        assert!(said.contains("the manifest cannot be used") && said.contains("********"), "{said}");
    }
    let said = said(odd, login, oci).await;
    assert!(said.contains("the manifest cannot be used"), "{said}");
}
