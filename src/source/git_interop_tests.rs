//! Git servers as they are found: older protocols, moved repositories, odd addresses, other object ids.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::testing::{GitOptions, GitServer, fetcher, options, raw_server};
use super::tls_fixtures::secret;
use super::*;
use crate::api::reason::{FailureClass, Reason};
use crate::archive::Limits;

fn request(url: &str, refs: Option<&str>) -> Request {
    Request::Git { url: SourceUrl::parse(url).unwrap(), refs: refs.map(|refs| refs.parse().unwrap()) }
}

async fn fetch(request: &Request, credentials: Option<&Credentials>, dest: &Path) -> Result<Fetched, SourceError> {
    match fetcher().resolve(request, credentials, None).await? {
        Resolution::Changed(pending) => fetcher().fetch(pending, credentials, dest, Limits::default()).await,
        Resolution::Unchanged(_) => panic!("nothing was known before"),
    }
}

/// A server with two commits, of which the first is tagged.
async fn server(options: GitOptions) -> (GitServer, String, String) {
    let server = GitServer::with(options).await;
    fs::write(server.work().join("a"), "one").unwrap();
    let first = server.publish("one");
    server.in_work(&["tag", "-a", "v1.0.0", "-m", "annotated"]);
    fs::write(server.work().join("a"), "two").unwrap();
    let second = server.publish("two");
    (server, first, second)
}

#[tokio::test]
async fn a_server_that_knows_the_oldest_protocol_alone_serves_as_well() {
    let (server, first, second) = server(GitOptions { protocol: Some(""), ..GitOptions::default() }).await;
    let url = server.http.url("/x.git");
    for (refs, revision, content) in [
        (None, format!("trunk@sha1:{second}"), "two"),
        (Some("trunk"), format!("trunk@sha1:{second}"), "two"),
        (Some("v1.0.0"), format!("v1.0.0@sha1:{first}"), "one"),
        (Some("^1.0"), format!("v1.0.0@sha1:{first}"), "one"),
        (Some(second.as_str()), format!("sha1:{second}"), "two"),
    ] {
        let dest = tempfile::tempdir().unwrap();
        let fetched = fetch(&request(&url, refs), None, dest.path()).await.unwrap();
        assert_eq!(fetched.resolved.revision, revision);
        assert_eq!(fs::read_to_string(dest.path().join("a")).unwrap(), content);
    }
    let known = fetch(&request(&url, None), None, tempfile::tempdir().unwrap().path()).await.unwrap().resolved;
    let before = server.http.seen().len();
    let again = fetcher().resolve(&request(&url, None), None, Some(&known)).await.unwrap();
    assert!(matches!(again, Resolution::Unchanged(_)));
    assert_eq!(server.http.seen().len(), before + 1, "the advertisement has all refs");
}

#[tokio::test]
async fn a_commit_that_the_server_does_not_hand_out_is_named_with_what_to_do() {
    let (server, first, second) = server(GitOptions { protocol: Some(""), ..GitOptions::default() }).await;
    server.in_work(&["reset", "-q", "--hard", &first]);
    server.publish("instead of the second");
    let url = server.http.url("/x.git");
    let dest = tempfile::tempdir().unwrap();
    let error = fetch(&request(&url, Some(&second)), None, dest.path()).await.unwrap_err();
    let expected = format!(
        "fetch {url}: the repository has no commit {second} that the server would hand out; name a branch or tag that holds it"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.reason(), Reason::NotFound);
}

#[tokio::test]
async fn a_redirect_to_the_name_with_git_at_its_end_keeps_the_credentials() {
    let moved = GitOptions { login: Some("bob:hunter2"), moved: true, ..GitOptions::default() };
    let (server, ..) = server(moved).await;
    let entries = [("username", "bob".to_owned()), ("password", "hunter2".to_owned())];
    let login = secret(&server.http.url(""), &entries);
    let dest = tempfile::tempdir().unwrap();
    fetch(&request(&server.http.url("/x"), Some("trunk")), Some(&login), dest.path()).await.unwrap();
    assert_eq!(fs::read_to_string(dest.path().join("a")).unwrap(), "two");
    let seen = server.http.seen();
    assert!(seen.iter().all(|seen| seen.headers.contains_key("authorization")), "{seen:?}");
    assert_eq!(
        seen.iter().filter(|seen| seen.target.starts_with("/x/info/refs")).count(),
        2,
        "once to list, once to fetch"
    );
    assert_eq!(server.posts("/x.git/git-upload-pack"), 2);
}

#[tokio::test]
async fn a_slash_at_the_end_and_encoded_characters_lead_to_the_repository() {
    let (server, ..) = server(GitOptions::default()).await;
    server.alias("a b.git");
    for path in ["/x.git/", "/x/", "/a%20b.git", "/a%20b"] {
        let dest = tempfile::tempdir().unwrap();
        let fetched = fetch(&request(&server.http.url(path), Some("trunk")), None, dest.path()).await;
        assert!(fetched.is_ok(), "{path}: {fetched:?}");
        assert_eq!(fs::read_to_string(dest.path().join("a")).unwrap(), "two");
    }
}

#[tokio::test]
async fn a_repository_with_sha_256_says_that_it_is_not_supported() {
    let (server, ..) = server(GitOptions { sha256: true, ..GitOptions::default() }).await;
    let dest = tempfile::tempdir().unwrap();
    for refs in [None, Some("trunk"), Some("1111111111111111111111111111111111111111")] {
        let error = fetch(&request(&server.http.url("/x.git"), refs), None, dest.path()).await.unwrap_err();
        let expected = "git: the repository names its objects by sha256, and only sha1 is supported; use a repository with \
                        sha1, or an archive";
        assert!(error.to_string().ends_with(expected), "{error}");
    }
}

#[tokio::test]
async fn a_git_server_that_trickles_is_given_up_at_the_deadline() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n\
                001e# service=git-upload-pack\n0000";
    let address = raw_server(head, b"000eversion 2\n", Duration::from_millis(50), 10_000).await;
    let impatient = FetchOptions { total_timeout: Duration::from_secs(1), ..options() };
    let fetcher = Fetcher::new(impatient).unwrap();
    let request = request(&format!("http://{address}/x.git"), Some("trunk"));
    let error = fetcher.resolve(&request, None, None).await.unwrap_err();
    assert_eq!((error.reason(), error.class()), (Reason::TimedOut, FailureClass::Transient), "{error}");
}
