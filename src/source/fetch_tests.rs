//! Archives over HTTP from servers that are well, ill, or hostile.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use axum::response::Response;

use super::testing::{FixedLookup, Seen, Server, bytes, fetched_text, fetcher, options, raw_server, redirect, status};
use super::*;
use crate::api::reason::{FailureClass, Reason};
use crate::archive::Limits;
use crate::digest::Digest;

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o755);
    builder.append_data(&mut header, "x-1.0/run.sh", &b"hello"[..]).unwrap();
    let mut encoder = builder.into_inner().unwrap();
    encoder.flush().unwrap();
    encoder.finish().unwrap()
}

fn request(url: &str, digest: Option<Digest>) -> Request {
    Request::Archive { url: SourceUrl::parse(url).unwrap(), digest, verify: None }
}

async fn resolve(url: &str) -> Result<Resolution, SourceError> {
    fetcher().resolve(&request(url, None), None, None).await
}

async fn refusal(url: &str) -> SourceError {
    resolve(url).await.unwrap_err()
}

fn changed(resolution: Resolution) -> Pending {
    match resolution {
        Resolution::Changed(pending) => pending,
        Resolution::Unchanged(resolved) => panic!("unchanged: {resolved:?}"),
    }
}

fn token(origins: &str) -> Credentials {
    let data = [("bearerToken".to_owned(), b"s3cret".to_vec())].into();
    Credentials::from_secret("token", &data, Some(origins)).unwrap()
}

fn authorized(seen: &[Seen]) -> Vec<bool> {
    seen.iter().map(|seen| seen.headers.contains_key("authorization")).collect()
}

#[tokio::test]
async fn an_archive_is_hashed_and_unpacked_without_its_top_level_directory() {
    let server = Server::start(|_| bytes(archive())).await;
    let pending = changed(resolve(&server.url("/x.tar.gz")).await.unwrap());
    assert_eq!(pending.resolved().revision, Digest::of(archive()).to_string());
    let dest = tempfile::tempdir().unwrap();
    let fetched = fetcher().fetch(pending, None, dest.path(), Limits::default()).await.unwrap();
    assert_eq!(fetched.bytes_downloaded, archive().len() as u64);
    assert_eq!(fs::read(dest.path().join("run.sh")).unwrap(), b"hello");
}

#[tokio::test]
async fn an_unchanged_archive_is_not_downloaded_again() {
    let server = Server::start(|seen| match seen.headers.get("if-none-match") {
        Some(etag) if etag == "\"v1\"" => status(304),
        _ => Response::builder().header("etag", "\"v1\"").body(archive().into()).unwrap(),
    })
    .await;
    let request = request(&server.url("/x.tar.gz"), None);
    let known = changed(fetcher().resolve(&request, None, None).await.unwrap()).resolved().clone();
    let known: Resolved = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
    let again = fetcher().resolve(&request, None, Some(&known)).await.unwrap();
    assert!(matches!(again, Resolution::Unchanged(resolved) if resolved == known));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn validators_of_another_url_are_not_used() {
    let server = Server::start(|_| Response::builder().header("etag", "\"v1\"").body(archive().into()).unwrap()).await;
    let known = changed(resolve(&server.url("/a")).await.unwrap()).resolved().clone();
    let other = request(&server.url("/b"), None);
    assert!(matches!(fetcher().resolve(&other, None, Some(&known)).await.unwrap(), Resolution::Changed(_)));
    assert!(server.seen()[1].headers.get("if-none-match").is_none());
}

#[tokio::test]
async fn what_a_successor_knows_of_an_archive_costs_one_conditional_request() {
    let server = Server::start(|seen| match seen.headers.get("if-none-match") {
        Some(_) => status(304),
        None => Response::builder().header("etag", "\"1\"").body(archive().into()).unwrap(),
    })
    .await;
    let request = request(&server.url("/a"), None);
    let known = changed(fetcher().resolve(&request, None, None).await.unwrap()).resolved().clone();
    let (etag, modified) = (known.etag().map(str::to_owned), known.last_modified().map(str::to_owned));
    let restarted = Resolved::known(&request, &known.revision, None).recognised_by(etag, modified);
    let Resolution::Unchanged(again) = fetcher().resolve(&request, None, Some(&restarted)).await.unwrap() else {
        panic!("it was downloaded again")
    };
    assert_eq!((again, server.seen()[1].headers["if-none-match"].as_bytes()), (known, &b"\"1\""[..]));
}

#[tokio::test]
async fn the_same_bytes_without_validators_are_unchanged() {
    let server = Server::start(|_| bytes(archive())).await;
    let request = request(&server.url("/a"), None);
    let known = changed(fetcher().resolve(&request, None, None).await.unwrap()).resolved().clone();
    assert!(matches!(fetcher().resolve(&request, None, Some(&known)).await.unwrap(), Resolution::Unchanged(_)));
}

#[tokio::test]
async fn bytes_other_than_the_pinned_ones_are_never_unpacked() {
    let server = Server::start(|_| bytes(archive())).await;
    let url = server.url("/x");
    let error = fetcher().resolve(&request(&url, Some(Digest::of("other"))), None, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "fetch {url}: the bytes have digest {}, but the source pins {}",
            Digest::of(archive()),
            Digest::of("other")
        )
    );
    assert_eq!((error.reason(), error.class()), (Reason::DigestMismatch, FailureClass::Stalled));
    let pinned = request(&url, Some(Digest::of(archive())));
    let known = changed(fetcher().resolve(&pinned, None, None).await.unwrap()).resolved().clone();
    let before = server.seen().len();
    assert!(matches!(fetcher().resolve(&pinned, None, Some(&known)).await.unwrap(), Resolution::Unchanged(_)));
    assert_eq!(server.seen().len(), before, "a pin that is met needs no request");
}

#[tokio::test]
async fn an_answer_that_is_no_archive_is_refused() {
    let server = Server::start(|_| bytes("<html>log in</html>")).await;
    let pending = changed(resolve(&server.url("/x.zip")).await.unwrap());
    let dest = tempfile::tempdir().unwrap();
    let error = fetcher().fetch(pending, None, dest.path(), Limits::default()).await.unwrap_err();
    assert_eq!((error.reason(), error.class()), (Reason::UnpackRefused, FailureClass::Stalled), "{error}");
}

#[tokio::test]
async fn loopback_is_denied_unless_an_administrator_opens_it() {
    let server = Server::start(|_| bytes(archive())).await;
    let fetcher = Fetcher::new(FetchOptions { allow: AddressPolicy::default(), ..options() }).unwrap();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let url = format!("http://{host}:{}/x", server.address.port());
        let error = fetcher.resolve(&request(&url, None), None, None).await.unwrap_err();
        assert_eq!((error.reason(), error.class()), (Reason::AddressDenied, FailureClass::Stalled), "{host}: {error}");
        assert!(error.to_string().contains("is a loopback address; an administrator can allow its range"), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_to_the_metadata_service_is_refused() {
    let server = Server::start(|_| redirect("http://169.254.169.254/latest/meta-data/")).await;
    let error = refusal(&server.url("/x")).await;
    assert_eq!(
        error.to_string(),
        "fetch http://169.254.169.254/latest/meta-data/: connect to 169.254.169.254: \
         169.254.169.254 is a cloud's metadata service, which is never allowed"
    );
}

#[tokio::test]
async fn a_name_is_looked_up_once_for_each_dial_and_each_answer_is_checked() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/x" => bytes(archive()),
        _ => Response::builder()
            .status(302)
            .header("location", "/x")
            .header("connection", "close")
            .body("".into())
            .unwrap(),
    })
    .await;
    let answers: [&[&str]; 2] = [&["127.0.0.1"], &["169.254.169.254"]];
    let fetch = async |path: &str| {
        let fetcher = Fetcher::with_lookup(options(), FixedLookup::new(&answers)).unwrap();
        let url = format!("http://rebind.example:{}{path}", server.address.port());
        fetcher.resolve(&request(&url, None), None, None).await
    };
    changed(fetch("/x").await.unwrap());
    let error = fetch("/redirect-and-close").await.unwrap_err();
    assert_eq!(error.reason(), Reason::AddressDenied, "{error}");
    assert!(error.to_string().contains("connect to rebind.example: 169.254.169.254"), "{error}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn credentials_go_to_allowed_origins_alone_and_are_not_sent_again_after_a_detour() {
    let home = Server::start(|seen| match seen.target.as_str() {
        "/back" => bytes(archive()),
        _ => redirect(seen.target.strip_prefix("/to/").unwrap()),
    })
    .await;
    let back = home.url("/back");
    let away = Server::start(move |_| redirect(&back)).await;
    let secret = token(&home.url(""));
    let url = home.url(&format!("/to/{}", away.url("/x")));
    changed(fetcher().resolve(&request(&url, None), Some(&secret), None).await.unwrap());
    assert_eq!(authorized(&away.seen()), [false]);
    assert_eq!(authorized(&home.seen()), [true, false], "before the detour, and after it");
}

#[tokio::test]
async fn a_source_outside_the_allowed_origins_is_refused_before_any_request() {
    let server = Server::start(|_| bytes(archive())).await;
    let secret = token("https://git.example.com");
    let request = request(&server.url("/x"), None);
    let error = fetcher().resolve(&request, Some(&secret), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "fetch {url}/x: Secret \"token\" may not be sent to {url}; \
             its annotation outrigger.dev/allowed-origins allows https://git.example.com",
            url = server.url("")
        )
    );
    assert_eq!(error.reason(), Reason::SecretNotUsable);
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_login_for_registries_is_refused_for_an_archive() {
    let data = [(".dockerconfigjson".to_owned(), br#"{"auths": {"ghcr.io": {"auth": "Yjp4"}}}"#.to_vec())].into();
    let secret = Credentials::from_secret("pull", &data, Some("https://ghcr.io")).unwrap();
    let error = fetcher().resolve(&request("https://ghcr.io/x", None), Some(&secret), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Secret \"pull\": .dockerconfigjson is for type oci alone; use username and password, or bearerToken"
    );
}

#[tokio::test]
async fn endless_redirects_and_bad_targets_are_refused() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/loop" => redirect("/loop"),
        "/file" => redirect("file:///etc/passwd"),
        "/user" => redirect("http://bob:hunter2@127.0.0.1/"),
        _ => status(302),
    })
    .await;
    for (path, expected) in [
        ("/loop", "more than 5 redirects"),
        ("/file", "the scheme \"file\" is not allowed"),
        ("/user", "a user name or password in the URL is not allowed"),
        ("/none", "it names no location"),
    ] {
        let error = refusal(&server.url(path)).await.to_string();
        assert!(error.contains("redirect refused: ") && error.contains(expected), "{error}");
        assert!(!error.contains("hunter2"));
    }
}

#[tokio::test]
async fn a_body_larger_than_allowed_is_cut_off() {
    let fetcher = Fetcher::new(FetchOptions { max_download_bytes: 10_000, ..options() }).unwrap();
    let announced = Server::start(|_| bytes(vec![0; 20_000])).await;
    let endless = raw_server("HTTP/1.1 200 OK\r\n\r\n", &[0; 1000], Duration::ZERO, usize::MAX).await;
    for url in [announced.url("/x"), format!("http://{endless}/x")] {
        let error = fetcher.resolve(&request(&url, None), None, None).await.unwrap_err();
        assert_eq!(error.to_string(), format!("fetch {url}: larger than the 10000 bytes that are allowed"));
        assert_eq!(error.reason(), Reason::TooLarge);
    }
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_an_error() {
    let server = raw_server("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"0123456789", Duration::ZERO, 1).await;
    let error = refusal(&format!("http://{server}/x")).await;
    assert!(error.to_string().ends_with("the connection ended after 10 of 100 bytes"), "{error}");
    assert_eq!(error.class(), FailureClass::Transient);
}

#[tokio::test]
async fn a_server_that_stalls_or_trickles_is_given_up() {
    let stalls = raw_server("HTTP/1.1 200 OK\r\n\r\n", b"x", Duration::from_secs(60), 2).await;
    let silent = raw_server("", b"", Duration::from_secs(60), 2).await;
    let trickles = raw_server("HTTP/1.1 200 OK\r\n\r\n", b"x", Duration::from_millis(100), 1000).await;
    let fetcher = Fetcher::new(FetchOptions {
        stall_timeout: Duration::from_secs(1),
        total_timeout: Duration::from_secs(3),
        ..options()
    })
    .unwrap();
    for address in [stalls, silent, trickles] {
        let url = format!("http://{address}/x");
        let error = fetcher.resolve(&request(&url, None), None, None).await.unwrap_err();
        assert_eq!((error.reason(), error.class()), (Reason::TimedOut, FailureClass::Transient), "{error}");
    }
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let server = Server::start(|seen| match seen.target[1..].parse::<u16>().unwrap() {
        429 => Response::builder().status(429).header("retry-after", "7").body("".into()).unwrap(),
        529 => Response::builder().status(529).header("retry-after", "0").body("".into()).unwrap(),
        code => status(code),
    })
    .await;
    for (code, reason, class) in [
        (401, Reason::AuthenticationFailed, FailureClass::Transient),
        (403, Reason::AuthenticationFailed, FailureClass::Transient),
        (404, Reason::NotFound, FailureClass::Transient),
        (410, Reason::NotFound, FailureClass::Transient),
        (400, Reason::FetchFailed, FailureClass::Stalled),
        (429, Reason::FetchFailed, FailureClass::Waiting(Duration::from_secs(7))),
        (529, Reason::FetchFailed, FailureClass::Waiting(Duration::from_secs(5))),
        (503, Reason::FetchFailed, FailureClass::Transient),
    ] {
        let error = refusal(&server.url(&format!("/{code}"))).await;
        assert_eq!((error.reason(), error.class()), (reason, class), "{error}");
        assert!(error.to_string().contains(&format!("HTTP {code}")), "{error}");
    }
}

#[tokio::test]
async fn a_query_is_sent_but_never_shown() {
    let server = Server::start(|_| status(500)).await;
    let error = refusal(&server.url("/x?sig=s3cret")).await;
    assert_eq!(error.to_string(), format!("fetch {}: the server answered HTTP 500", server.url("/x?…")));
    assert_eq!(server.seen()[0].target, "/x?sig=s3cret");
}

#[tokio::test]
async fn a_refused_connection_says_so_without_the_query() {
    let error = refusal("http://127.0.0.1:1/x?sig=s3cret").await;
    assert!(error.to_string().starts_with("fetch http://127.0.0.1:1/x?…: ") && !error.to_string().contains("s3cret"));
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(error.class(), FailureClass::Transient);
}

#[tokio::test]
async fn a_small_text_is_read_and_a_large_one_refused() {
    let server = Server::start(|seen| bytes(vec![b'x'; if seen.target == "/big" { 2 << 20 } else { 5 }])).await;
    let url = |path: &str| SourceUrl::parse(&server.url(path)).unwrap();
    assert_eq!(fetched_text(&fetcher(), &url("/small"), None).await.unwrap(), b"xxxxx");
    let error = fetched_text(&fetcher(), &url("/big"), None).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TooLarge);
}

#[tokio::test]
async fn a_text_that_has_not_changed_is_not_read_again() {
    let server = Server::start(|seen| match seen.headers.get("if-none-match") {
        Some(_) => status(304),
        None => Response::builder().header("ETag", "\"1\"").body("text".into()).unwrap(),
    })
    .await;
    let url = SourceUrl::parse(&server.url("/text")).unwrap();
    let (bytes, validators) = fetcher().fetch_text_if_changed(&url, None, None).await.unwrap().unwrap();
    assert_eq!((bytes.as_slice(), validators.etag.as_deref()), (&b"text"[..], Some("\"1\"")));
    assert_eq!(fetcher().fetch_text_if_changed(&url, None, Some(&validators)).await.unwrap(), None);
}

#[tokio::test]
async fn nothing_is_left_in_the_working_directory() {
    let work = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::new(FetchOptions { work_dir: work.path().to_owned(), ..options() }).unwrap();
    let left = |dir: &Path| fs::read_dir(dir).unwrap().count();
    let server = Server::start(|_| bytes(vec![1; 1 << 20])).await;
    let pending = changed(fetcher.resolve(&request(&server.url("/x"), None), None, None).await.unwrap());
    assert_eq!(left(work.path()), 1, "it does not stay in memory");
    drop(pending);
    let short = raw_server("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"0123456789", Duration::ZERO, 1).await;
    fetcher.resolve(&request(&format!("http://{short}/x"), None), None, None).await.unwrap_err();
    assert_eq!(left(work.path()), 0);
}
