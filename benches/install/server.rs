//! The server of the sources, in this process: archives with an ETag and conditional requests, or a registry.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use outrigger::digest::Digest;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::name;

/// The tag of every artifact.
const TAG: &str = "1.0.0";
/// Media type of a manifest (OCI image specification).
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a layer (likewise).
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// An archive over HTTP.
    Archive,
    /// An artifact in a registry.
    Oci,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Archive => "archive",
            Self::Oci => "oci",
        })
    }
}

/// Serves archives on loopback until it is dropped.
pub struct SourceServer {
    kind: Kind,
    address: SocketAddr,
    served: Arc<Served>,
    task: JoinHandle<()>,
}

struct Served {
    archives: Vec<Archive>,
    /// The archives by digest.
    blobs: HashMap<String, usize>,
    downloads: AtomicU64,
    unchanged: AtomicU64,
}

struct Archive {
    bytes: Bytes,
    tag: String,
    manifest: String,
    manifest_digest: Digest,
}

impl Archive {
    fn new(bytes: Bytes) -> Self {
        let digest = Digest::of(&bytes);
        let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::of("{}"), "size": 2});
        let layer = json!({"mediaType": LAYER, "digest": digest, "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.outrigger.extension.v1",
            "config": empty, "layers": [layer],
        });
        let manifest = manifest.to_string();
        Self { tag: format!("\"{}\"", digest.hex()), manifest_digest: Digest::of(&manifest), manifest, bytes }
    }
}

/// What the server has answered so far.
#[derive(Clone, Copy)]
pub struct Answered {
    /// Archives that were sent.
    pub downloads: u64,
    /// Requests that were answered with 304, or with nothing but the digest of a manifest.
    pub unchanged: u64,
}

impl SourceServer {
    /// Serves `archives`.
    pub async fn start(kind: Kind, archives: Vec<Bytes>) -> anyhow::Result<Self> {
        let archives: Vec<_> = archives.into_iter().map(Archive::new).collect();
        let blobs =
            archives.iter().enumerate().map(|(number, archive)| (Digest::of(&archive.bytes).to_string(), number));
        let served = Arc::new(Served {
            blobs: blobs.collect(),
            archives,
            downloads: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = match kind {
            Kind::Archive => Router::new().route("/{file}", get(archive)),
            Kind::Oci => Router::new()
                .route("/v2/{name}/manifests/{reference}", get(manifest))
                .route("/v2/{name}/blobs/{digest}", get(blob)),
        };
        let router = router.with_state(served.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("benchmark: the server of the sources: {error}");
            }
        });
        Ok(Self { kind, address, served, task })
    }

    /// What it serves.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The source that leads to an archive, as YAML.
    pub fn source(&self, number: u32) -> String {
        match self.kind {
            Kind::Archive => format!("{{type: archive, url: \"http://{}/{number}.tar.gz\"}}", self.address),
            Kind::Oci => {
                let repository = format!("oci://{}/{}", self.address, name(number));
                format!("{{type: oci, url: {repository:?}, refs: {TAG:?}, insecure: true}}")
            }
        }
    }

    /// Downloads an archive in the shortest way; one in a registry by its manifest.
    pub async fn download(&self, client: &reqwest::Client, number: u32) -> anyhow::Result<Bytes> {
        let asked = async |path: String| {
            let answer = client.get(format!("http://{}{path}", self.address)).send().await?.error_for_status()?;
            anyhow::Ok(answer.bytes().await?)
        };
        match self.kind {
            Kind::Archive => asked(format!("/{number}.tar.gz")).await,
            Kind::Oci => {
                let manifest = asked(format!("/v2/{}/manifests/{TAG}", name(number))).await?;
                let manifest: Value = serde_json::from_slice(&manifest)?;
                let digest = manifest["layers"][0]["digest"].as_str().context("a manifest has no layer")?;
                asked(format!("/v2/{}/blobs/{digest}", name(number))).await
            }
        }
    }

    /// What was answered so far.
    pub fn answered(&self) -> Answered {
        Answered {
            downloads: self.served.downloads.load(Ordering::Relaxed),
            unchanged: self.served.unchanged.load(Ordering::Relaxed),
        }
    }
}

impl Drop for SourceServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn archive(State(served): State<Arc<Served>>, Path(file): Path<String>, headers: HeaderMap) -> Response {
    let number = file.strip_suffix(".tar.gz").and_then(|number| number.parse::<usize>().ok());
    let Some(Archive { bytes, tag, .. }) = number.and_then(|number| served.archives.get(number)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        served.unchanged.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag.clone())]).into_response();
    }
    served.downloads.fetch_add(1, Ordering::Relaxed);
    ([(ETAG, tag.clone()), (CONTENT_TYPE, "application/gzip".to_owned())], bytes.clone()).into_response()
}

/// A manifest, by its tag or digest; to HEAD its digest alone.
async fn manifest(
    State(served): State<Arc<Served>>,
    Path((repository, reference)): Path<(String, String)>,
    method: Method,
) -> Response {
    let number = repository.strip_prefix("bench-").and_then(|number| number.parse::<usize>().ok());
    let found = number.and_then(|number| served.archives.get(number));
    let Some(found) = found.filter(|found| reference == TAG || reference == found.manifest_digest.to_string()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if method == Method::HEAD {
        served.unchanged.fetch_add(1, Ordering::Relaxed);
    }
    let headers = [("content-type", MANIFEST.to_owned()), ("docker-content-digest", found.manifest_digest.to_string())];
    (headers, found.manifest.clone()).into_response()
}

async fn blob(State(served): State<Arc<Served>>, Path((_, digest)): Path<(String, String)>) -> Response {
    let Some(number) = served.blobs.get(&digest) else { return StatusCode::NOT_FOUND.into_response() };
    served.downloads.fetch_add(1, Ordering::Relaxed);
    ([(CONTENT_TYPE, LAYER)], served.archives[*number].bytes.clone()).into_response()
}
