//! The server of the sources, in this process: archives with an ETag and conditional requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use outrigger::digest::Digest;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Serves archives on loopback until it is dropped.
pub struct SourceServer {
    address: SocketAddr,
    served: Arc<Served>,
    task: JoinHandle<()>,
}

struct Served {
    archives: Vec<(Bytes, String)>,
    downloads: AtomicU64,
    unchanged: AtomicU64,
}

/// What the server has answered so far.
#[derive(Clone, Copy)]
pub struct Answered {
    /// Bodies that were sent.
    pub downloads: u64,
    /// Requests that were answered with 304.
    pub unchanged: u64,
}

impl SourceServer {
    /// Serves `archives`.
    pub async fn start(archives: Vec<Bytes>) -> anyhow::Result<Self> {
        let archives = archives.into_iter().map(|archive| {
            let tag = format!("\"{}\"", Digest::of(&archive).hex());
            (archive, tag)
        });
        let served = Arc::new(Served {
            archives: archives.collect(),
            downloads: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().route("/{file}", get(archive)).with_state(served.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("benchmark: the server of the sources: {error}");
            }
        });
        Ok(Self { address, served, task })
    }

    /// Where an archive is.
    pub fn url(&self, number: u32) -> String {
        format!("http://{}/{number}.tar.gz", self.address)
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
    let Some((archive, tag)) = number.and_then(|number| served.archives.get(number)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        served.unchanged.fetch_add(1, Ordering::Relaxed);
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag.clone())]).into_response();
    }
    served.downloads.fetch_add(1, Ordering::Relaxed);
    ([(ETAG, tag.clone()), (CONTENT_TYPE, "application/gzip".to_owned())], archive.clone()).into_response()
}
