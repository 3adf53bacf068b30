//! Git against git's own server.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::testing::{GitServer, Server, fetcher, options, redirect};
use super::*;
use crate::api::reason::{FailureClass, Reason};
use crate::archive::Limits;

fn request(url: &str, refs: Option<&str>) -> Request {
    Request::Git { url: SourceUrl::parse(url).unwrap(), refs: refs.map(|refs| refs.parse().unwrap()) }
}

async fn fetch(request: &Request, dest: &Path) -> Result<Fetched, SourceError> {
    fetch_with(&fetcher(), request, None, dest).await
}

async fn fetch_with(
    fetcher: &Fetcher,
    request: &Request,
    credentials: Option<&Credentials>,
    dest: &Path,
) -> Result<Fetched, SourceError> {
    match fetcher.resolve(request, credentials, None).await? {
        Resolution::Changed(pending) => fetcher.fetch(pending, credentials, dest, Limits::default()).await,
        Resolution::Unchanged(_) => panic!("nothing was known before"),
    }
}

async fn refusal(server: &GitServer, refs: Option<&str>) -> SourceError {
    let dest = tempfile::tempdir().unwrap();
    fetch(&request(&server.http.url("/x.git"), refs), dest.path()).await.unwrap_err()
}

async fn sample() -> (GitServer, String, String) {
    let server = GitServer::start(None).await;
    let work = server.work();
    fs::write(work.join("manifest.yaml"), "name: one\n").unwrap();
    fs::create_dir(work.join("bin")).unwrap();
    fs::write(work.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(work.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("bin/run", work.join("run")).unwrap();
    let first = server.publish("one");
    server.in_work(&["tag", "-a", "v1.0.0", "-m", "annotated"]);
    server.in_work(&["tag", "v0.9.0"]);
    fs::write(work.join("manifest.yaml"), "name: two\n").unwrap();
    let second = server.publish("two");
    (server, first, second)
}

#[tokio::test]
async fn each_form_of_refs_fetches_the_tree_of_its_commit() {
    let (server, first, second) = sample().await;
    for (refs, revision, content) in [
        (None, format!("trunk@sha1:{second}"), "name: two\n"),
        (Some("trunk"), format!("trunk@sha1:{second}"), "name: two\n"),
        (Some("refs/heads/trunk"), format!("refs/heads/trunk@sha1:{second}"), "name: two\n"),
        (Some("v1.0.0"), format!("v1.0.0@sha1:{first}"), "name: one\n"),
        (Some("v0.9.0"), format!("v0.9.0@sha1:{first}"), "name: one\n"),
        (Some("^1.0"), format!("v1.0.0@sha1:{first}"), "name: one\n"),
        (Some(first.as_str()), format!("sha1:{first}"), "name: one\n"),
    ] {
        let dest = tempfile::tempdir().unwrap();
        let fetched = fetch(&request(&server.http.url("/x.git"), refs), dest.path()).await.unwrap();
        assert_eq!(fetched.resolved.revision, revision);
        assert_eq!(fs::read_to_string(dest.path().join("manifest.yaml")).unwrap(), content, "{refs:?}");
        assert!(fetched.bytes_downloaded > 0);
        assert_eq!(fetched.tree.files, 2);
    }
}

#[tokio::test]
async fn execute_bits_and_symbolic_links_survive_and_nothing_else_is_written() {
    let (server, ..) = sample().await;
    let dest = tempfile::tempdir().unwrap();
    fetch(&request(&server.http.url("/x"), None), dest.path()).await.unwrap();
    let mode = |name: &str| fs::metadata(dest.path().join(name)).unwrap().permissions().mode() & 0o111;
    assert_ne!(mode("bin/run"), 0);
    assert_eq!(mode("manifest.yaml"), 0);
    assert_eq!(fs::read_link(dest.path().join("run")).unwrap(), Path::new("bin/run"));
    let mut names: Vec<_> = fs::read_dir(dest.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bin", "manifest.yaml", "run"]);
}

#[tokio::test]
async fn an_unchanged_branch_costs_one_listing_and_no_pack() {
    let (server, ..) = sample().await;
    let request = request(&server.http.url("/x.git"), Some("trunk"));
    let dest = tempfile::tempdir().unwrap();
    let fetcher = fetcher();
    let known = fetch_with(&fetcher, &request, None, dest.path()).await.unwrap().resolved;
    let before = server.http.seen().len();
    let again = fetcher.resolve(&request, None, Some(&known)).await.unwrap();
    assert!(matches!(again, Resolution::Unchanged(resolved) if resolved == known));
    let requests: Vec<_> = server.http.seen()[before..].iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(requests, ["GET", "POST"], "the capabilities, then ls-refs");
    server.publish("three");
    let moved = fetcher.resolve(&request, None, Some(&known)).await.unwrap();
    assert!(matches!(moved, Resolution::Changed(_)));
}

#[tokio::test]
async fn a_commit_that_is_there_already_costs_nothing() {
    let (server, first, _) = sample().await;
    let request = request(&server.http.url("/x.git"), Some(&first));
    let dest = tempfile::tempdir().unwrap();
    let known = fetch(&request, dest.path()).await.unwrap().resolved;
    let before = server.http.seen().len();
    let again = fetcher().resolve(&request, None, Some(&known)).await.unwrap();
    assert!(matches!(again, Resolution::Unchanged(_)));
    assert_eq!(server.http.seen().len(), before);
}

#[tokio::test]
async fn only_one_commit_is_received_whether_by_branch_tag_or_id() {
    let (server, first, _) = sample().await;
    fs::write(server.work().join("big"), (0..200_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).unwrap();
    server.publish("big");
    fs::remove_file(server.work().join("big")).unwrap();
    server.in_work(&["tag", "-d", "v0.9.0"]);
    let last = server.publish("small");
    server.in_work(&["tag", "-a", "v2.0.0", "-m", "annotated"]);
    server.in_work(&["tag", "v2.0.1"]);
    server.push();
    for refs in ["trunk", "v2.0.0", "v2.0.1", &last, &first] {
        let dest = tempfile::tempdir().unwrap();
        let fetched = fetch(&request(&server.http.url("/x.git"), Some(refs)), dest.path()).await.unwrap();
        assert!(fetched.bytes_downloaded < 10_000, "{refs}: {} bytes", fetched.bytes_downloaded);
        assert!(fetched.resolved.revision.ends_with(if refs == first { &first } else { &last }));
    }
}

#[tokio::test]
async fn what_the_repository_does_not_have_is_named() {
    let (server, ..) = sample().await;
    let error = refusal(&server, Some("nope")).await;
    assert_eq!(
        error.to_string(),
        format!("fetch {}: the repository has no branch or tag \"nope\"", server.http.url("/x.git"))
    );
    assert_eq!(error.reason(), Reason::NotFound);
    let error = refusal(&server, Some(&"1".repeat(40))).await;
    assert!(error.to_string().contains("has no commit 1111"), "{error}");
    assert_eq!(error.reason(), Reason::NotFound);
    let dest = tempfile::tempdir().unwrap();
    let error = fetch(&request(&server.http.url("/y.git"), None), dest.path()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NotFound, "{error}");
}

#[tokio::test]
async fn an_empty_repository_has_no_default_branch() {
    let server = GitServer::start(None).await;
    let error = refusal(&server, None).await;
    assert!(
        error.to_string().ends_with("the repository has no default branch (it is empty?); name one in refs"),
        "{error}"
    );
}

#[tokio::test]
async fn submodules_and_lfs_pointers_are_refused_by_path() {
    let (server, first, _) = sample().await;
    fs::write(server.work().join(".gitmodules"), "[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = ../lib.git\n")
        .unwrap();
    server.in_work(&["add", ".gitmodules"]);
    server.in_work(&["update-index", "--add", "--cacheinfo", &format!("160000,{first},vendor/lib")]);
    server.in_work(&["commit", "-q", "-m", "submodule"]);
    server.push();
    let error = refusal(&server, Some("trunk")).await;
    assert_eq!(
        error.to_string(),
        format!(
            "fetch {}: \"vendor/lib\" is a submodule; submodules are not fetched: commit the files themselves, or use an archive",
            server.http.url("/x.git")
        )
    );
    assert_eq!((error.reason(), error.class()), (Reason::UnpackRefused, FailureClass::Stalled));
    server.in_work(&["checkout", "-q", "-b", "lfs", &first]);
    fs::write(server.work().join("big.bin"), "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        .unwrap();
    server.publish("lfs");
    let error = refusal(&server, Some("lfs")).await;
    assert_eq!(
        error.to_string(),
        format!(
            "fetch {}: \"big.bin\" is a Git LFS pointer; LFS objects are not fetched: commit the file itself, or use an archive",
            server.http.url("/x.git")
        )
    );
    assert_eq!((error.reason(), error.class()), (Reason::UnpackRefused, FailureClass::Stalled));
}

#[tokio::test]
async fn a_symbolic_link_that_leaves_the_tree_is_refused() {
    let (server, ..) = sample().await;
    symlink("../../etc/passwd", server.work().join("evil")).unwrap();
    server.publish("evil");
    let error = refusal(&server, Some("trunk")).await;
    assert!(error.to_string().contains("\"evil\""), "{error}");
    assert_eq!(error.reason(), Reason::UnpackRefused);
}

#[tokio::test]
async fn a_repository_larger_than_allowed_is_refused_while_it_comes() {
    let (server, ..) = sample().await;
    let noise: Vec<u8> =
        (0..100_000u64).flat_map(|n| crate::digest::Digest::of(n.to_le_bytes()).hex().into_bytes()).collect();
    fs::write(server.work().join("noise"), noise).unwrap();
    server.publish("noise");
    let fetcher = Fetcher::new(FetchOptions { max_download_bytes: 100_000, ..options() }).unwrap();
    let dest = tempfile::tempdir().unwrap();
    let request = request(&server.http.url("/x.git"), None);
    let error = fetch_with(&fetcher, &request, None, dest.path()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TooLarge, "{error}");
    assert_eq!(fs::read_dir(dest.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_object_that_inflates_beyond_memory_is_refused() {
    let (server, ..) = sample().await;
    fs::File::create(server.work().join("zeros")).unwrap().set_len(33 << 20).unwrap();
    server.publish("zeros");
    let fetcher = fetcher();
    let dest = tempfile::tempdir().unwrap();
    let request = request(&server.http.url("/x.git"), None);
    let error = fetch_with(&fetcher, &request, None, dest.path()).await.unwrap_err();
    assert!(error.to_string().ends_with("needs more than 33554432 bytes of memory; use an archive"), "{error}");
    assert_eq!((error.reason(), error.class()), (Reason::TooLarge, FailureClass::Stalled));
}

#[tokio::test]
async fn a_file_larger_than_the_limits_allow_is_refused_by_path() {
    let (server, ..) = sample().await;
    let resolved = fetcher().resolve(&request(&server.http.url("/x.git"), None), None, None).await.unwrap();
    let Resolution::Changed(pending) = resolved else { panic!("nothing was known before") };
    let dest = tempfile::tempdir().unwrap();
    let limits = Limits { file_bytes: 5, ..Limits::default() };
    let error = fetcher().fetch(pending, None, dest.path(), limits).await.unwrap_err();
    assert!(error.to_string().contains("\"bin/run\": the file has more than 5 bytes"), "{error}");
}

#[tokio::test]
async fn a_git_url_with_a_query_is_refused() {
    let error =
        fetcher().resolve(&request("https://example.com/x.git?token=s3cret", None), None, None).await.unwrap_err();
    assert_eq!(error.to_string(), "source url: a query (?…) is not allowed for git; leave it out");
}

#[tokio::test]
async fn a_detour_of_the_first_request_keeps_the_credentials_from_the_later_ones() {
    let (git, ..) = sample().await;
    let home = git.http.url("");
    let away = Server::start({
        let home = home.clone();
        move |seen| redirect(&format!("{home}{}", seen.target))
    })
    .await;
    let front = Server::start({
        let away = away.url("");
        move |seen| redirect(&format!("{away}{}", seen.target))
    })
    .await;
    let secret = credentials(&format!("{} {home}", front.url("")), "hunter2");
    let dest = tempfile::tempdir().unwrap();
    let request = request(&front.url("/x.git"), Some("trunk"));
    fetch_with(&fetcher(), &request, Some(&secret), dest.path()).await.unwrap();
    assert_eq!(git.posts("git-upload-pack"), 2);
    assert!(git.http.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
}

fn credentials(origin: &str, password: &str) -> Credentials {
    let data = [("username", "bob"), ("password", password)].map(|(key, value)| (key.to_owned(), value.into())).into();
    Credentials::from_secret("login", &data, Some(origin)).unwrap()
}

#[tokio::test]
async fn a_private_repository_needs_the_right_credentials() {
    let server = GitServer::start(Some("bob:hunter2")).await;
    fs::write(server.work().join("a"), "a").unwrap();
    server.publish("one");
    let (url, origin) = (server.http.url("/x.git"), server.http.url(""));
    let dest = tempfile::tempdir().unwrap();
    let request = request(&url, None);
    let error = fetch(&request, dest.path()).await.unwrap_err();
    assert!(
        error.to_string().ends_with("refused access (HTTP 401); name a Secret with credentials in secretRef"),
        "{error}"
    );
    assert_eq!(error.reason(), Reason::AuthenticationFailed);
    let wrong = credentials(&origin, "guess");
    let error = fetch_with(&fetcher(), &request, Some(&wrong), dest.path()).await.unwrap_err();
    assert!(error.to_string().ends_with("check the credentials in the Secret that secretRef names"), "{error}");
    assert!(!error.to_string().contains("guess"));
    let right = credentials(&origin, "hunter2");
    fetch_with(&fetcher(), &request, Some(&right), dest.path()).await.unwrap();
    assert!(dest.path().join("a").exists());
}

#[tokio::test]
async fn a_redirect_to_a_denied_address_is_refused() {
    let front = Server::start(|seen| redirect(&format!("http://169.254.169.254{}", seen.target))).await;
    let error = fetcher().resolve(&request(&front.url("/x.git"), Some("trunk")), None, None).await.unwrap_err();
    assert_eq!((error.reason(), error.class()), (Reason::AddressDenied, FailureClass::Stalled), "{error}");
    assert!(error.to_string().contains("169.254.169.254 is a cloud's metadata service"), "{error}");
}

#[tokio::test]
async fn a_redirect_of_the_first_request_moves_the_repository_and_loses_the_credentials() {
    let (git, ..) = sample().await;
    let target = git.http.url("");
    let front = Server::start(move |seen| redirect(&format!("{target}{}", seen.target))).await;
    let secret = credentials(&front.url(""), "hunter2");
    let dest = tempfile::tempdir().unwrap();
    let request = request(&front.url("/x.git"), Some("trunk"));
    fetch_with(&fetcher(), &request, Some(&secret), dest.path()).await.unwrap();
    assert!(front.seen().iter().all(|seen| seen.headers.contains_key("authorization")));
    assert!(git.http.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
    assert_eq!(git.posts("git-upload-pack"), 2);
}

#[tokio::test]
async fn a_page_that_is_no_git_server_is_an_error_that_says_so() {
    let server = Server::start(|_| testing::bytes("<html>")).await;
    let dest = tempfile::tempdir().unwrap();
    let error = fetch(&request(&server.url("/x.git"), None), dest.path()).await.unwrap_err();
    assert!(error.to_string().contains(": git: ") && error.to_string().contains("smart"), "{error}");
    assert_eq!(error.reason(), Reason::FetchFailed);
}
