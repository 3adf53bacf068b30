//! The two conversations with a git server: list its refs, and receive one commit without its history.

use std::fs::File;
use std::io::{self, BufReader, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gix::ObjectId;
use gix::error::{ErrorExt as _, validation};
use gix::hash::Kind;
use gix::odb::pack;
use gix::progress::Discard;
use gix::protocol::fetch::negotiate::{Action, Round, one_round};
use gix::protocol::fetch::{Arguments, Context, Negotiate, Options, Response, Shallow, Tags};
use gix::protocol::handshake::Ref;
use gix::protocol::ls_refs::RefPrefixes;
use gix::protocol::transport::client::blocking_io::http::Transport;
use gix::protocol::transport::{Protocol, Service};
use gix::protocol::{Handshake, LsRefsCommand};

use tokio::sync::Semaphore;

use super::pack::{self as cost, Bounds, PackFault};
use super::reference::{Advertised, GitRef, Selected, prefixes};
use super::transport::{Bridge, Shared};
use super::tree::write_tree;
use crate::archive::{Limits, TreeSummary};
use crate::source::door::Session;
use crate::source::error::SourceError;
use crate::source::fetcher::blocking;
use crate::source::url::SourceUrl;

/// Bytes of a ref advertisement: some hundred thousand refs.
const MAX_LISTING_BYTES: u64 = 32 << 20;
/// How a server says that it does not hand out what was asked for. To a client that expects a pack, the error line of the
/// oldest protocol, `ERR …`, is one of a channel with the number of its first letter.
const REFUSALS: [&str; 3] = ["not our ref", "unadvertised object", "non-side channel line or input was malformed: 69"];
/// Packs that are read at the same time. Each holds some objects in memory, up to about 160 MiB of them in the worst case.
const PACKS_AT_ONCE: usize = 2;

/// Whose turn it is to read a pack that was received.
#[derive(Clone)]
pub(in crate::source) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(PACKS_AT_ONCE)))
    }
}

/// One conversation with a git server.
pub(in crate::source) struct Exchange {
    shared: Arc<Shared>,
}

/// Stops the blocking part once it is late, or nobody waits for it any more.
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.interrupt.store(true, Ordering::Relaxed);
    }
}

impl Exchange {
    pub(in crate::source) fn new(session: Session, url: SourceUrl) -> Self {
        Self { shared: Arc::new(Shared::new(session, url)) }
    }

    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce(&Arc<Shared>) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let shared = self.shared;
        let stop = StopOnDrop(Arc::clone(&shared));
        let options = &shared.session.door.options;
        let (deadline, limit) = (shared.session.deadline, options.total_timeout);
        let url = shared.url.to_string();
        let mut working = std::pin::pin!(blocking(move || work(&shared)));
        let done = tokio::time::timeout_at(deadline, &mut working).await;
        drop(stop);
        match done {
            Ok(done) => done,
            Err(_) => {
                // It has been told to stop, and must not write to the staging directory after this returns.
                let _ = working.await;
                Err(SourceError::TimedOut { url, what: "the whole fetch", limit })
            }
        }
    }
}

/// The refs of the repository that `wanted` may mean.
pub(in crate::source) async fn list_refs(
    exchange: Exchange,
    wanted: Option<GitRef>,
) -> Result<Vec<Advertised>, SourceError> {
    exchange
        .run(move |shared| {
            shared.set_limit(MAX_LISTING_BYTES);
            let (mut transport, mut handshake) = connect(shared)?;
            let refs = match handshake.refs.take() {
                Some(refs) => refs,
                None => {
                    let mut wanted_prefixes = RefPrefixes::new();
                    wanted_prefixes.extend(prefixes(wanted.as_ref()).into_iter().map(Into::into));
                    LsRefsCommand::new(Some(wanted_prefixes), &handshake.capabilities, agent())
                        .invoke_blocking(&mut transport, &mut Discard, false)
                        .map_err(|error| failure(shared, &error))?
                }
            };
            Ok(refs.into_iter().filter_map(advertised).collect())
        })
        .await
}

/// Receive the commit that `selected` names, write its tree to `dest`, and say how many bytes came for it.
pub(in crate::source) async fn receive_commit(
    exchange: Exchange,
    selected: Selected,
    dest: PathBuf,
    limits: Limits,
    turns: Turns,
) -> Result<(u64, TreeSummary), SourceError> {
    exchange
        .run(move |shared| {
            let options = &shared.session.door.options;
            let temporary = tempfile::tempdir_in(&options.work_dir).map_err(io("create a temporary directory"))?;
            shared.set_limit(options.max_download_bytes);
            let bounds = Bounds::of(&limits);
            let received = temporary.path().join("received");
            receive_pack(shared, selected.want, temporary.path(), &received, &bounds)?;
            check_pack(shared, &received, &bounds)?;
            // A server that sends slowly, or what is refused, holds nobody up: the turn begins when everything is there.
            let _turn = shared.wait(turns.0.acquire_owned())?;
            let objects = index_pack(shared, &received, temporary.path(), &bounds)?;
            let tree = write_tree(&objects, &selected, shared, &bounds, &dest, limits)?;
            Ok((shared.got(), tree))
        })
        .await
}

fn io(action: &'static str) -> impl Fn(io::Error) -> SourceError {
    move |source| SourceError::Io { action, source }
}

fn connect(shared: &Arc<Shared>) -> Result<(Transport<Bridge>, Handshake), SourceError> {
    let mut base = shared.url.as_url().clone();
    base.set_query(None);
    let url = gix::Url::from_bytes(base.as_str().into()).map_err(|error| failure(shared, &error))?;
    let mut transport = Transport::new_http(Bridge::new(Arc::clone(shared)), url, Protocol::V2, false);
    // Credentials are the door's business: it is never asked for them here.
    let handshake =
        gix::protocol::handshake(&mut transport, Service::UploadPack, |_| Ok(None), Vec::new(), &mut Discard)
            .map_err(|error| failure(shared, &error))?;
    let format = handshake.capabilities.capability("object-format").and_then(|format| format.value());
    if let Some(format) = format.filter(|format| *format != "sha1") {
        let cause = format!(
            "the repository names its objects by {format}, and only sha1 is supported; use a repository with sha1, or an archive"
        );
        return Err(shared.git(&cause));
    }
    Ok((transport, handshake))
}

/// Ask for the commit `want`, and write the pack that comes to the file `received`.
fn receive_pack(
    shared: &Arc<Shared>,
    want: ObjectId,
    dir: &Path,
    received: &Path,
    bounds: &Bounds,
) -> Result<(), SourceError> {
    let (mut transport, mut handshake) = connect(shared)?;
    let mut came = false;
    let store = |pack: &mut dyn io::BufRead| -> Result<(), SourceError> {
        let unread = |fault| refused(shared, bounds, fault);
        let header = cost::check_header(pack, bounds).map_err(unread)?;
        let mut file = File::create(received).map_err(io("create a temporary file"))?;
        file.write_all(&header).map_err(io("write the temporary file"))?;
        loop {
            // An error of the reader is the server's, and none of the file.
            let bytes = match pack.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(refused(shared, bounds, error.into())),
            };
            if bytes.is_empty() {
                return Ok(());
            }
            file.write_all(bytes).map_err(io("write the temporary file"))?;
            let count = bytes.len();
            pack.consume(count);
        }
    };
    let fetched = gix::protocol::fetch(
        &mut OneCommit(want),
        |pack, _progress, _interrupt| {
            came = true;
            store(pack).map_err(|error| validation(shared.fail(error).to_string()).raise())?;
            Ok(true)
        },
        shared.said(),
        &shared.interrupt,
        Context { handshake: &mut handshake, transport: &mut transport, user_agent: agent(), trace_packetlines: false },
        Options {
            shallow_file: dir.join("shallow"),
            shallow: &Shallow::DepthAtRemote(NonZeroU32::MIN),
            tags: Tags::None,
            reject_shallow_remote: false,
        },
    );
    fetched.map_err(|error| match failure(shared, &error) {
        SourceError::Git { url, cause } if REFUSALS.iter().any(|refusal| cause.contains(refusal)) => {
            let what = format!("commit {want} that the server would hand out; name a branch or tag that holds it");
            SourceError::RefNotFound { url, what }
        }
        other => other,
    })?;
    if came { Ok(()) } else { Err(shared.git("the server sent no objects")) }
}

/// Refuse the pack in the file `received` if it costs more than `bounds` allows. It takes hardly any memory itself.
fn check_pack(shared: &Shared, received: &Path, bounds: &Bounds) -> Result<(), SourceError> {
    let pack = File::open(received).map(BufReader::new).map_err(io("open the temporary file"))?;
    cost::check(pack, bounds, &shared.interrupt).map_err(|fault| refused(shared, bounds, fault))
}

/// Make the pack in the file `received`, which was checked, readable.
fn index_pack(shared: &Arc<Shared>, received: &Path, dir: &Path, bounds: &Bounds) -> Result<pack::Bundle, SourceError> {
    let mut pack = File::open(received).map(BufReader::new).map_err(io("open the temporary file"))?;
    let allocation = usize::try_from(bounds.object_bytes).ok();
    let options = pack::bundle::write::Options {
        thread_limit: Some(1),
        iteration_mode: pack::data::input::Mode::Verify,
        alloc_limit_bytes: allocation,
        ..Default::default()
    };
    let written = pack::Bundle::write_to_directory(
        &mut pack,
        Some(dir),
        &mut Discard,
        &shared.interrupt,
        None::<gix::objs::find::Never>,
        Kind::Sha1,
        options,
    );
    let index_path = written.map_err(|error| failure(shared, &error))?.index_path;
    let index_path = index_path.ok_or_else(|| shared.git("the server sent no objects"))?;
    let opened = pack::index::File::at(&index_path, Kind::Sha1).and_then(|index| {
        let data = pack::data::File::at(index_path.with_extension("pack"), Kind::Sha1)?;
        Ok(pack::Bundle { index, pack: data.with_alloc_limit_bytes(allocation) })
    });
    opened.map_err(|error| failure(shared, &error))
}

/// Asks for one object and has nothing to offer.
struct OneCommit(ObjectId);

impl Negotiate for OneCommit {
    fn mark_complete_and_common_ref(&mut self) -> gix::Result<Action> {
        Ok(Action::MustNegotiate { remote_ref_target_known: Vec::new() })
    }

    fn add_wants(&mut self, arguments: &mut Arguments, _remote_ref_target_known: &[bool]) -> bool {
        arguments.want(self.0);
        true
    }

    fn one_round(
        &mut self,
        _state: &mut one_round::State,
        _arguments: &mut Arguments,
        _previous_response: Option<&Response>,
    ) -> gix::Result<(Round, bool)> {
        let nothing_in_common =
            Round { haves_sent: 0, in_vain: 0, haves_to_send: 0, previous_response_had_at_least_one_in_common: false };
        Ok((nothing_in_common, true))
    }
}

fn agent() -> (&'static str, Option<String>) {
    ("agent", Some(gix::protocol::agent(concat!("outrigger-", env!("CARGO_PKG_VERSION")))))
}

fn advertised(entry: Ref) -> Option<Advertised> {
    let text = |name: gix::bstr::BString| String::from_utf8(name.into()).ok();
    Some(match entry {
        Ref::Direct { full_ref_name, object } => {
            Advertised { name: text(full_ref_name)?, object, peeled: None, target: None }
        }
        Ref::Peeled { full_ref_name, tag, object } => {
            Advertised { name: text(full_ref_name)?, object: tag, peeled: Some(object), target: None }
        }
        Ref::Symbolic { full_ref_name, target, tag, object } => Advertised {
            name: text(full_ref_name)?,
            object: tag.unwrap_or(object),
            peeled: tag.map(|_| object),
            target: Some(text(target)?),
        },
        Ref::Unborn { .. } => return None,
    })
}

/// What our own HTTP layer found wrong, or else what `gix` says.
fn failure(shared: &Shared, error: &gix::Error) -> SourceError {
    shared.take_failure().unwrap_or_else(|| shared.git(&format!("{error:#}")))
}

/// What our own HTTP layer found wrong, or else `fault`.
fn refused(shared: &Shared, bounds: &Bounds, fault: PackFault) -> SourceError {
    let url = shared.url.to_string();
    shared.take_failure().unwrap_or_else(|| match fault {
        PackFault::Objects(objects) => SourceError::TooManyObjects { url, objects, limit: bounds.objects },
        PackFault::Memory(limit) => SourceError::ObjectTooLarge { url, limit },
        PackFault::Chain(limit) => SourceError::ChangesTooLarge { url, limit },
        PackFault::Total(limit) => SourceError::ObjectsTooLarge { url, limit },
        PackFault::Malformed(cause) => shared.git(&cause),
    })
}

pub(super) fn interrupted(interrupt: &AtomicBool) -> bool {
    interrupt.load(Ordering::Relaxed)
}
