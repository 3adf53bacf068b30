//! Packs that cost more than they weigh, and trees that git itself would not write.

use std::io::Cursor;
use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::objs::Kind;

use super::fixtures::{BY_ID, Pack, header, line, number, serve, serve_until};
use super::pack::{Bounds, PackFault, check};
use crate::api::reason::{FailureClass, Reason};
use crate::archive::Limits;
use crate::source::testing::{Server, fetcher};
use crate::source::{Credentials, Request, Resolution, SourceError, SourceUrl};

/// What comes of the commit `commit` out of `pack`: names of the root, or the error.
async fn fetched(pack: Vec<u8>, commit: ObjectId, limits: Limits) -> Result<Vec<String>, SourceError> {
    fetched_from(&serve(pack).await, commit, limits).await
}

async fn fetched_from(server: &Server, commit: ObjectId, limits: Limits) -> Result<Vec<String>, SourceError> {
    fetched_as(None, server, commit, limits).await
}

async fn fetched_as(
    credentials: Option<&Credentials>,
    server: &Server,
    commit: ObjectId,
    limits: Limits,
) -> Result<Vec<String>, SourceError> {
    let url = SourceUrl::parse(&server.url("/x.git")).unwrap();
    let request = Request::Git { url, refs: Some(commit.to_string().parse().unwrap()) };
    let Resolution::Changed(pending) = fetcher().resolve(&request, credentials, None).await? else {
        panic!("unchanged")
    };
    let dest = tempfile::tempdir().unwrap();
    fetcher().fetch(pending, credentials, dest.path(), limits).await?;
    let names = std::fs::read_dir(dest.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    Ok(names.collect())
}

async fn refused(pack: Vec<u8>, commit: ObjectId, limits: Limits) -> SourceError {
    fetched(pack, commit, limits).await.unwrap_err()
}

/// The pack and commit of a tree with one entry.
fn single(mode: &str, name: &[u8]) -> (Vec<u8>, ObjectId) {
    let mut pack = Pack::default();
    let blob = pack.object(Kind::Blob, b"x");
    let tree = pack.tree(&[(mode, name, blob)]);
    let commit = pack.commit(tree);
    (pack.bytes(), commit)
}

const BOUNDS: Bounds =
    Bounds { objects: 8, object_bytes: 1000, tree_bytes: 1000, chain_bytes: 2500, total_bytes: 4000 };

fn checked(pack: &[u8]) -> Result<(), PackFault> {
    check(Cursor::new(pack), &BOUNDS, &AtomicBool::new(false))
}

#[tokio::test]
async fn a_pack_by_hand_is_taken_like_any_other() {
    let (pack, commit) = single("100644", b"a");
    assert_eq!(fetched(pack, commit, Limits::default()).await.unwrap(), ["a"]);
}

#[tokio::test]
async fn a_pack_that_announces_millions_of_objects_is_refused_before_they_come() {
    let error = refused(header(3_000_000).to_vec(), ObjectId::null(gix::hash::Kind::Sha1), Limits::default()).await;
    let text = error.to_string();
    let expected = "/x.git: the server sends 3000000 objects for one commit, and at most 20000 are taken; use an archive of \
                    what the extension needs";
    assert!(text.ends_with(expected), "{text}");
    assert_eq!((error.reason(), error.class()), (Reason::TooLarge, FailureClass::Stalled));
}

#[tokio::test]
async fn a_few_directories_that_hold_each_other_again_and_again_are_refused() {
    let mut pack = Pack::default();
    let mut inner = pack.object(Kind::Blob, b"x");
    let names: Vec<_> = (0..10).map(|number| format!("d{number}")).collect();
    for depth in 0..10 {
        let mode = if depth == 0 { "100644" } else { "40000" };
        inner = pack.tree(&names.iter().map(|name| (mode, name.as_bytes(), inner)).collect::<Vec<_>>());
    }
    let commit = pack.commit(inner);
    let limits = Limits { entries: 500, ..Limits::default() };
    let error = refused(pack.bytes(), commit, limits).await;
    assert!(error.to_string().ends_with("has more than 500 files, links and directories"), "{error}");
    assert_eq!((error.reason(), error.class()), (Reason::UnpackRefused, FailureClass::Stalled));
}

#[tokio::test]
async fn a_directory_larger_than_all_names_that_are_allowed_is_refused() {
    let (pack, commit) = single("100644", &vec![b'n'; 30_000]);
    let limits = Limits { entries: 100, ..Limits::default() };
    let error = refused(pack, commit, limits).await;
    assert!(
        error
            .to_string()
            .ends_with("an object of the repository needs more than 28300 bytes of memory; use an archive")
    );
    assert_eq!((error.reason(), error.class()), (Reason::TooLarge, FailureClass::Stalled));
}

#[tokio::test]
async fn names_that_git_does_not_write_are_refused() {
    for (name, expected) in [
        (&b".git"[..], "\".git\" is no legal name in a git tree; rename it"),
        (b".GiT", "\".GiT\" is no legal name in a git tree; rename it"),
        (b"a/../../b", "\"a/../../b\" is no legal name in a git tree; rename it"),
        (b"/etc", "\"/etc\" is no legal name in a git tree; rename it"),
        (b"", "\"\" is no legal name in a git tree; rename it"),
        (b"..", "\"..\": the name has a \"..\" component"),
        (b".", "\".\": the name is empty"),
        (b"a\\..\\b", "the name has a backslash"),
        (b".outrigger-tree", "is reserved for the marker of an installed tree"),
    ] {
        let (pack, commit) = single("100644", name);
        let error = refused(pack, commit, Limits::default()).await;
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((error.reason(), error.class()), (Reason::UnpackRefused, FailureClass::Stalled));
    }
}

#[tokio::test]
async fn a_mode_that_git_does_not_write_is_not_taken_for_a_submodule() {
    for mode in ["10644", "20644", "60644", "644", "0", "30000"] {
        let (pack, commit) = single(mode, b"a");
        let error = refused(pack, commit, Limits::default()).await;
        let expected = "\"a\" is of no known kind; only files, directories and symbolic links are allowed";
        assert!(error.to_string().ends_with(expected), "{mode}: {error}");
    }
    let (pack, commit) = single("160000", b"a");
    let error = refused(pack, commit, Limits::default()).await;
    assert!(error.to_string().contains("\"a\" is a submodule"), "{error}");
    // what git once wrote, and what others write
    for mode in ["100664", "100600", "100755"] {
        let (pack, commit) = single(mode, b"a");
        assert_eq!(fetched(pack, commit, Limits::default()).await.unwrap(), ["a"], "{mode}");
    }
}

#[tokio::test]
async fn a_pack_that_is_cut_short_is_an_error_that_says_so() {
    let (pack, commit) = single("100644", b"a");
    let error = refused(pack[..pack.len() - 60].to_vec(), commit, Limits::default()).await;
    assert!(error.to_string().ends_with("git: the pack is cut short"), "{error}");
    assert_eq!((error.reason(), error.class()), (Reason::FetchFailed, FailureClass::Transient));
    let error = refused(b"PACK".to_vec(), commit, Limits::default()).await;
    assert!(error.to_string().ends_with("git: the pack is cut short"), "{error}");
}

#[tokio::test]
async fn what_comes_instead_of_the_rest_of_a_pack_is_an_error_of_the_server() {
    let (pack, commit) = single("100644", b"a");
    let server = serve_until(&pack[..30], b"zzzz").await;
    let error = fetched_from(&server, commit, Limits::default()).await.unwrap_err();
    assert!(error.to_string().contains("git: the pack cannot be read: "), "{error}");
    assert_eq!((error.reason(), error.class()), (Reason::FetchFailed, FailureClass::Transient));
}

#[tokio::test]
async fn what_a_server_says_as_it_gives_up_is_told() {
    let (pack, commit) = single("100644", b"a");
    for sent in [0, 30, pack.len()] {
        let server = serve_until(&pack[..sent], &line(b"\x03fatal: \x1b[31mpack-objects\n died of signal 9\n")).await;
        let fetched = fetched_from(&server, commit, Limits::default()).await;
        if sent == pack.len() {
            assert_eq!(fetched.unwrap(), ["a"], "everything came");
            continue;
        }
        let error = fetched.unwrap_err();
        let expected = "/x.git: git: the server says: fatal: \\u{1b}[31mpack-objects died of signal 9";
        assert!(error.to_string().ends_with(expected), "{sent}: {error}");
        assert_eq!((error.reason(), error.class()), (Reason::FetchFailed, FailureClass::Transient));
    }
    let server = serve_until(&[], &line(&[b"\x03", [b'x'; 9000].as_slice()].concat())).await;
    let error = fetched_from(&server, commit, Limits::default()).await.unwrap_err().to_string();
    assert!(error.ends_with(&"x".repeat(300)) && error.len() < 600, "{error}");
    let server = serve_until(&[], &line(b"\x03upload-pack: not our ref 1234")).await;
    let error = fetched_from(&server, commit, Limits::default()).await.unwrap_err().to_string();
    assert!(error.ends_with("that the server would hand out; name a branch or tag that holds it"), "{error}");
}

#[tokio::test]
async fn credentials_that_a_server_repeats_are_masked() {
    let (_, commit) = single("100644", b"a");
    let server = serve_until(&[], &line(b"\x03no access for hunter2 (Basic Ym9iOmh1bnRlcjI=)")).await;
    let data = [("username", "bob"), ("password", "hunter2")];
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect();
    let credentials = Credentials::from_secret("login", &data, Some(&server.url(""))).unwrap();
    let error = fetched_as(Some(&credentials), &server, commit, Limits::default()).await.unwrap_err().to_string();
    assert!(error.ends_with("git: the server says: no access for ******** (Basic ********)"), "{error}");
}

#[tokio::test]
async fn objects_that_are_more_together_than_any_tree_needs_are_refused() {
    let mut pack = Pack::default();
    let blob = pack.object(Kind::Blob, b"x");
    for _ in 0..3 {
        pack.object(Kind::Blob, &vec![0; 12 << 20]);
    }
    let tree = pack.tree(&[("100644", b"a", blob)]);
    let commit = pack.commit(tree);
    let limits = Limits { unpacked_bytes: 10, ..Limits::default() };
    let error = refused(pack.bytes(), commit, limits).await;
    let expected = "/x.git: the objects that the server sends for one commit have more than 33554472 bytes; use an archive of \
                    what the extension needs";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert_eq!((error.reason(), error.class()), (Reason::TooLarge, FailureClass::Stalled));
    let mut pack = Pack::default();
    for _ in 0..4 {
        pack.object(Kind::Blob, &[0; 1000]);
    }
    checked(&pack.bytes()).unwrap();
    pack.object(Kind::Blob, b"x");
    assert!(matches!(checked(&pack.bytes()), Err(PackFault::Total(4000))));
}

#[tokio::test]
async fn a_chain_of_changes_that_is_too_large_is_told_as_one() {
    let mut pack = Pack::default();
    pack.object(Kind::Blob, &vec![0; 30 << 20]);
    (0..2).for_each(|_| pack.change(30 << 20, 30 << 20));
    let error = refused(pack.bytes(), ObjectId::null(gix::hash::Kind::Sha1), Limits::default()).await;
    let expected = "objects of the repository that are changes of each other need more than 67108864 bytes of memory; repack \
                    the repository with a smaller --depth, or use an archive";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert_eq!((error.reason(), error.class()), (Reason::TooLarge, FailureClass::Stalled));
}

#[test]
fn objects_are_counted_and_measured_before_they_are_read() {
    let of = |size: usize| {
        let mut pack = Pack::default();
        pack.object(Kind::Blob, &vec![0; size]);
        checked(&pack.bytes())
    };
    of(1000).unwrap();
    assert!(matches!(of(1001), Err(PackFault::Memory(1000))));
    assert!(matches!(checked(&header(9)), Err(PackFault::Objects(9))));
    assert!(matches!(checked(b"KCAP00000000"), Err(PackFault::Malformed(_))));
}

#[test]
fn an_object_that_is_larger_than_it_says_is_refused_without_being_inflated_to_the_end() {
    for said in [10, 1 << 40] {
        let mut pack = Pack::default();
        pack.entry(3, said, &[], &vec![0; 1 << 20]);
        let refused = checked(&pack.bytes()).unwrap_err();
        assert!(matches!(refused, PackFault::Malformed(_) | PackFault::Memory(1000)), "{said}: {refused:?}");
    }
}

#[test]
fn an_object_whose_changes_are_all_held_at_once_is_refused() {
    let chain = |changes: u64, bytes: u64| {
        let mut pack = Pack::default();
        pack.object(Kind::Blob, &vec![0; bytes as usize]);
        (0..changes).for_each(|_| pack.change(bytes, bytes));
        checked(&pack.bytes())
    };
    chain(4, 500).unwrap();
    assert!(matches!(chain(5, 500), Err(PackFault::Chain(2500))));
    // a change says how large its result is, and is small itself
    let mut pack = Pack::default();
    pack.object(Kind::Blob, b"x");
    pack.change(1, 1 << 50);
    assert!(matches!(checked(&pack.bytes()), Err(PackFault::Memory(1000))));
}

#[test]
fn changes_of_objects_by_their_ids_count_together() {
    let pack = |changes: usize| {
        let mut pack = Pack::default();
        let base = pack.object(Kind::Blob, &[0; 500]);
        let data = [number(500), number(500)].concat();
        (0..changes).for_each(|_| pack.entry(BY_ID, data.len() as u64, base.as_slice(), &data));
        checked(&pack.bytes())
    };
    pack(4).unwrap();
    assert!(matches!(pack(5), Err(PackFault::Chain(2500))));
}

proptest::proptest! {
    #[test]
    fn no_pack_crashes_what_reads_it_first(
        flips in proptest::collection::vec((0..2000_usize, proptest::num::u8::ANY), 0..6), cut in 0..2000_usize,
    ) {
        let mut pack = Pack::default();
        pack.object(Kind::Blob, &[7; 300]);
        pack.change(300, 400);
        let (_, mut bytes) = (pack.commit(ObjectId::null(gix::hash::Kind::Sha1)), pack.bytes());
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(cut.max(12));
        let _ = checked(&bytes);
    }
}
