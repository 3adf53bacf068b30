//! Servers on the loopback address for tests: HTTP with faults, and git's own smart HTTP backend.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use futures::future::BoxFuture;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{AddressPolicy, Credentials, FetchOptions, Fetcher, Lookup, SourceError, SourceUrl};

/// Options that open the loopback range. Only what is tested to time out may be impatient: machines are slow at times.
pub fn options() -> FetchOptions {
    FetchOptions {
        allow: AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()], Vec::new()),
        connect_timeout: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(60),
        total_timeout: Duration::from_secs(120),
        ..FetchOptions::default()
    }
}

pub fn fetcher() -> Fetcher {
    Fetcher::new(options()).unwrap()
}

/// The small text at `url`.
pub async fn fetched_text(
    fetcher: &Fetcher,
    url: &SourceUrl,
    credentials: Option<&Credentials>,
) -> Result<Vec<u8>, SourceError> {
    let read = fetcher.fetch_text_if_changed(url, credentials, None).await?;
    Ok(read.unwrap().0)
}

/// A look-up with fixed answers, one list after the other; the last one is repeated.
pub struct FixedLookup(Mutex<Vec<Vec<IpAddr>>>);

impl FixedLookup {
    pub fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(parse).collect())))
    }
}

impl Lookup for FixedLookup {
    fn lookup(&self, _host: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() };
        Box::pin(async move { Ok(answer) })
    }
}

/// A request that a server saw.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
}

type Handler = dyn Fn(&Seen) -> Response + Send + Sync;

/// An HTTP server that notes what it is asked.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Shared {
    seen: Arc<Mutex<Vec<Seen>>>,
    handler: Arc<Handler>,
    git: Option<Arc<GitConfig>>,
}

struct GitConfig {
    root: PathBuf,
    options: GitOptions,
}

/// What is special about a git server.
#[derive(Default)]
pub struct GitOptions {
    /// The `user:password` that it asks for.
    pub login: Option<&'static str>,
    /// The protocol that it takes every request for, in the form of the header `Git-Protocol`.
    pub protocol: Option<&'static str>,
    /// Whether it names objects by SHA-256.
    pub sha256: bool,
    /// Whether it redirects from names without `.git` to those with it.
    pub moved: bool,
}

impl Server {
    pub async fn start(handler: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        Self::serve(Arc::new(handler), None).await
    }

    async fn serve(handler: Arc<Handler>, git: Option<Arc<GitConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(answer).with_state(Shared { seen: Arc::clone(&seen), handler, git });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().unwrap().to_string();
    let seen = Seen { method: parts.method.to_string(), target, headers: parts.headers };
    shared.seen.lock().unwrap().push(seen.clone());
    match shared.git {
        None => (shared.handler)(&seen),
        Some(git) => {
            let body = to_bytes(body, 1 << 20).await.unwrap();
            tokio::task::spawn_blocking(move || backend(&git, &seen, &body)).await.unwrap()
        }
    }
}

pub fn status(code: u16) -> Response {
    Response::builder().status(code).body(Body::empty()).unwrap()
}

pub fn redirect(to: &str) -> Response {
    Response::builder().status(302).header("location", to).body(Body::empty()).unwrap()
}

pub fn bytes(content: impl Into<Bytes>) -> Response {
    Response::new(Body::from(content.into()))
}

/// A server that answers each connection with `head`, then `chunk` again and again with `pause` between, `times` times.
pub async fn raw_server(head: &'static str, chunk: &'static [u8], pause: Duration, times: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(head.as_bytes()).await;
                for _ in 0..times {
                    if stream.write_all(chunk).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    address
}

/// Git repositories behind `git http-backend`.
pub struct GitServer {
    pub http: Server,
    root: TempDir,
}

impl GitServer {
    /// Serve an empty repository `x.git`, which asks for `user:password` if `login` gives them.
    pub async fn start(login: Option<&'static str>) -> Self {
        Self::with(GitOptions { login, ..GitOptions::default() }).await
    }

    /// Serve an empty repository `x.git` as `options` say.
    pub async fn with(options: GitOptions) -> Self {
        let root = tempfile::tempdir().unwrap();
        let format = if options.sha256 { "--object-format=sha256" } else { "--object-format=sha1" };
        let config = GitConfig { root: root.path().to_owned(), options };
        let http = Server::serve(Arc::new(|_| status(500)), Some(Arc::new(config))).await;
        let server = Self { http, root };
        server.git(&["init", "-q", format, "-b", "trunk", "work"]);
        server.git(&["init", "-q", format, "--bare", "-b", "trunk", "x.git"]);
        server
    }

    /// Serve the repository under another name, too.
    pub fn alias(&self, name: &str) {
        std::os::unix::fs::symlink("x.git", self.root.path().join(name)).unwrap();
    }

    pub fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }

    /// Commit everything in the work tree, push all branches and tags, and return the commit.
    pub fn publish(&self, message: &str) -> String {
        self.in_work(&["add", "-A"]);
        self.in_work(&["commit", "-q", "--allow-empty", "-m", message]);
        self.push();
        self.in_work(&["rev-parse", "HEAD"])
    }

    pub fn push(&self) {
        self.in_work(&["push", "-q", "--force", "--all", "../x.git"]);
        self.in_work(&["push", "-q", "--force", "--tags", "../x.git"]);
    }

    pub fn in_work(&self, arguments: &[&str]) -> String {
        git(&self.work(), arguments)
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(self.root.path(), arguments)
    }

    pub fn posts(&self, service: &str) -> usize {
        self.http.seen().iter().filter(|seen| seen.method == "POST" && seen.target.ends_with(service)).count()
    }
}

fn git_command() -> Command {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "t").env(format!("GIT_{role}_EMAIL"), "t@example.com");
    }
    command
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = git_command().current_dir(dir).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// One request through CGI (RFC 3875).
fn backend(config: &GitConfig, seen: &Seen, body: &[u8]) -> Response {
    let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
    if let Some(login) = config.options.login {
        use base64::Engine as _;
        let expected = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login));
        if header("authorization") != expected {
            return status(401);
        }
    }
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    // Forges serve a repository under both names.
    let (repository, rest) = path[1..].split_once('/').unwrap();
    let name = format!("{}.git", repository.trim_end_matches(".git"));
    if config.options.moved && name != repository {
        return Response::builder()
            .status(301)
            .header("location", format!("/{name}/{rest}?{query}"))
            .body("".into())
            .unwrap();
    }
    let path = format!("/{}/{rest}", name.replace("%20", " "));
    let protocol = config.options.protocol.unwrap_or_else(|| header("git-protocol"));
    let mut command = git_command();
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &config.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &seen.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", protocol)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let mut response = Response::builder();
    for line in std::str::from_utf8(&output[..end]).unwrap().split("\r\n") {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(Body::from(output[end + 4..].to_vec())).unwrap()
}
