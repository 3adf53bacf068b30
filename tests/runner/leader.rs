//! A leader that answers as a test tells it to, and remembers what it was asked.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use outrigger::protocol::{ClaimGrant, ClaimRequest, OutputUpload, Progress, Report, Unstarted, server_name};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::de::DeserializeOwned;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// 200, with what belongs to the request.
    Good,
    /// This status, and a refusal.
    Status(u16),
    /// 200 like [`Answer::Good`], a second later.
    Slow,
    /// The connection is closed without answer, after the request was taken.
    Lost,
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    claims: VecDeque<Answer>,
    reports: VecDeque<Answer>,
    progress: Option<Answer>,
    outputs: Option<Answer>,
    unstarted: Option<Answer>,
    cancel: bool,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub authorization: String,
    pub body: Vec<u8>,
    pub at: Instant,
}

pub struct Leader {
    pub address: SocketAddr,
    pub ca: String,
    tls: Arc<ServerConfig>,
    grant: ClaimGrant,
    state: Arc<Mutex<State>>,
    busy: Arc<AtomicU64>,
}

impl Leader {
    /// A leader that listens.
    pub fn start(grant: ClaimGrant) -> Self {
        let leader = Self::stopped(grant);
        leader.listen();
        leader
    }

    /// A leader whose address refuses connections until [`Leader::listen`].
    pub fn stopped(grant: ClaimGrant) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (ca, tls) = certificates();
        Self { address, ca, tls, grant, state: Arc::default(), busy: Arc::default() }
    }

    pub fn listen(&self) {
        let listener = TcpListener::bind(self.address).unwrap();
        let (tls, grant, state) = (Arc::clone(&self.tls), self.grant.clone(), Arc::clone(&self.state));
        let busy = Arc::clone(&self.busy);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let connection =
                    Metered { socket: connection.unwrap(), busy: Arc::clone(&busy), since: Instant::now() };
                let (tls, grant, state) = (Arc::clone(&tls), grant.clone(), Arc::clone(&state));
                thread::spawn(move || serve(connection, tls, &grant, &state));
            }
        });
    }

    /// How long it has worked on answers in all, handshakes included: so long its runners have waited.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Ordering::SeqCst))
    }

    pub fn answer_claims(&self, answers: &[Answer]) {
        self.state.lock().unwrap().claims.extend(answers);
    }

    pub fn answer_reports(&self, answers: &[Answer]) {
        self.state.lock().unwrap().reports.extend(answers);
    }

    pub fn answer_progress(&self, answer: Answer) {
        self.state.lock().unwrap().progress = Some(answer);
    }

    pub fn answer_outputs(&self, answer: Answer) {
        self.state.lock().unwrap().outputs = Some(answer);
    }

    pub fn answer_unstarted(&self, answer: Answer) {
        self.state.lock().unwrap().unstarted = Some(answer);
    }

    pub fn cancel(&self) {
        self.state.lock().unwrap().cancel = true;
    }

    pub fn requests(&self, what: &str) -> Vec<Request> {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|request| request.path.ends_with(what)).cloned().collect()
    }

    pub fn claims(&self) -> Vec<ClaimRequest> {
        self.bodies("/claim")
    }

    pub fn reports(&self) -> Vec<Report> {
        self.bodies("/report")
    }

    pub fn outputs(&self) -> Vec<OutputUpload> {
        self.bodies("/output")
    }

    pub fn unstarted(&self) -> Vec<Unstarted> {
        self.bodies("/unstarted")
    }

    pub fn progress(&self) -> Vec<Progress> {
        self.bodies("/progress")
    }

    fn bodies<T: DeserializeOwned>(&self, what: &str) -> Vec<T> {
        self.requests(what).iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    }
}

/// A CA, and a server certificate of it for the name that its runners ask for.
fn certificates() -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![server_name(&ca).unwrap()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (ca, Arc::new(config))
}

/// A connection that counts the time in which nobody waits for the client.
struct Metered {
    socket: TcpStream,
    busy: Arc<AtomicU64>,
    since: Instant,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let nanoseconds = u64::try_from(self.since.elapsed().as_nanos()).unwrap();
        self.busy.fetch_add(nanoseconds, Ordering::SeqCst);
        let read = self.socket.read(buffer);
        self.since = Instant::now();
        read
    }
}

impl Write for Metered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Answers the requests of one connection. Errors end it: clients come and go.
fn serve(connection: Metered, tls: Arc<ServerConfig>, grant: &ClaimGrant, state: &Mutex<State>) -> Option<()> {
    connection.socket.set_nodelay(true).ok()?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls).ok()?, connection));
    loop {
        let request = read_request(&mut stream)?;
        let mut state = state.lock().unwrap();
        let (answer, body) = match request.path.rsplit('/').next()? {
            "claim" => (state.claims.pop_front().unwrap_or(Answer::Good), serde_json::to_string(grant).unwrap()),
            "report" => (state.reports.pop_front().unwrap_or(Answer::Good), "{}".to_owned()),
            "output" => (state.outputs.unwrap_or(Answer::Good), "{}".to_owned()),
            "unstarted" => (state.unstarted.unwrap_or(Answer::Good), "{}".to_owned()),
            _ => (state.progress.unwrap_or(Answer::Good), format!("{{\"cancel\":{}}}", state.cancel)),
        };
        state.requests.push(request);
        drop(state);
        let (status, body) = match answer {
            Answer::Lost => return None,
            Answer::Good => (200, body),
            Answer::Slow => {
                thread::sleep(Duration::from_secs(1));
                (200, body)
            }
            Answer::Status(status) => (status, r#"{"message":"because of the test"}"#.to_owned()),
        };
        let head =
            format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        stream.get_mut().write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
        stream.get_mut().flush().ok()?;
    }
}

fn read_request(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request { path, authorization, body, at: Instant::now() })
}
