//! Extensions pushed to a real registry in every form, and fetched again: Debian's docker-registry, on the loopback address.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::api::reason::Reason;
use crate::archive::Limits;
use crate::digest::Digest;
use crate::source::testing::fetcher;
use crate::source::{Credentials, Request, Resolution, Resolved, SourceError};

/// A registry with its data, and a directory to push from.
struct Registry {
    host: String,
    auth: Option<&'static str>,
    dir: TempDir,
    child: Child,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.child.wait();
    }
}

fn tool(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(name))
}

impl Registry {
    fn start(auth: Option<&'static str>, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["data", "work"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut command = tool("registry");
        command.arg("--root").arg(dir.path().join("data")).arg("--log").arg(dir.path().join("log")).args(arguments);
        command.args(auth.map(|auth| format!("--auth={auth}")));
        let mut child = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let host = line.trim().strip_prefix("listening on http://").map(str::to_owned);
        let host = host.unwrap_or_else(|| panic!("the registry did not start; see above: {line:?}"));
        Self { host, auth, dir, child }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// A script of a directory of its own, and a file that is none, below `ext/`.
    fn write(&self, text: &str) -> &Self {
        std::fs::create_dir_all(self.work().join("ext/lib")).unwrap();
        let script = self.work().join("ext/lib/run.sh");
        std::fs::write(&script, format!("#!/bin/sh\necho {text}\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(self.work().join("ext/manifest.yaml"), "kind: OrchestratorExtension\n").unwrap();
        self
    }

    /// Pushes what lies below `dir` of the work directory; the digest that the tag now has.
    fn push(&self, tag: &str, dir: &str, arguments: &[&str]) -> Digest {
        let mut command = tool("push");
        command.current_dir(self.work().join(dir)).args(self.auth.map(|auth| format!("--auth={auth}")));
        let output = command.arg(format!("http://{}/{tag}", self.host)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    fn url(&self, name: &str) -> OciUrl {
        OciUrl::parse(&format!("oci://{}/{name}", self.host), true).unwrap()
    }

    fn request(&self, name: &str, refs: &str) -> Request {
        let refs = refs.parse().map_or_else(|_| refs.parse().unwrap(), OciRef::Digest);
        Request::Oci { repository: self.url(name), refs, verify: None }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.host)
    }

    /// A Secret of Docker's kind with one entry for this registry.
    fn secret(&self, origins: &str, entry: serde_json::Value) -> Credentials {
        let config = json!({"auths": {self.host.clone(): entry}}).to_string();
        let data = [(".dockerconfigjson".to_owned(), config.into_bytes())].into();
        Credentials::from_secret("pull", &data, Some(origins)).unwrap()
    }

    /// What was asked of the registry up to now, by its own log: `METHOD path status`.
    fn requests(&self) -> Vec<String> {
        let mark = format!("/mark-{}", self.dir.path().join("log").metadata().unwrap().len());
        let mut stream = TcpStream::connect(&self.host).unwrap();
        write!(stream, "GET {mark} HTTP/1.0\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let started = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
            let lines: Vec<String> = log.lines().filter_map(access).collect();
            if let Some(end) = lines.iter().position(|line| line.contains(&mark)) {
                return lines[..end].iter().filter(|line| !line.contains("/mark-")).cloned().collect();
            }
            assert!(started.elapsed() < Duration::from_secs(20), "no {mark} in the registry's log");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// `127.0.0.1 - - [time] "GET /v2/ HTTP/1.1" 200 2 "" "agent"`
fn access(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once(" HTTP/1.")?;
    Some(format!("{request} {}", rest.get(3..6)?))
}

async fn resolve(
    request: &Request,
    credentials: Option<&Credentials>,
    known: Option<&Resolved>,
) -> Result<Resolution, SourceError> {
    fetcher().resolve(request, credentials, known).await
}

/// What was fetched: the revision, and each file with whether it is executable.
async fn fetched(
    request: &Request,
    credentials: Option<&Credentials>,
) -> Result<(Resolved, BTreeMap<String, (bool, String)>), SourceError> {
    let Resolution::Changed(pending) = resolve(request, credentials, None).await? else { panic!("unchanged") };
    let dest = tempfile::tempdir().unwrap();
    let fetched = fetcher().fetch(pending, credentials, dest.path(), Limits::default()).await?;
    let mut files = BTreeMap::new();
    let mut left = vec![dest.path().to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let executable = path.metadata().unwrap().permissions().mode() & 0o111 != 0;
            let name = path.strip_prefix(dest.path()).unwrap().to_str().unwrap().to_owned();
            files.insert(name, (executable, std::fs::read_to_string(&path).unwrap()));
        }
    }
    assert!(fetched.bytes_downloaded > 0);
    Ok((fetched.resolved, files))
}

#[tokio::test]
async fn whatever_way_an_extension_is_pushed_the_tree_is_the_same() {
    let registry = Registry::start(None, &[]);
    registry.write("one");
    let pack = |file: &str, option: &str| {
        let done = Command::new("tar").current_dir(registry.work()).args(["-c", option, "-f", file, "ext"]).status();
        assert!(done.unwrap().success());
    };
    pack("ext.tar", "--format=gnu");
    pack("ext.tar.gz", "-z");
    let packed = zstd::encode_all(std::fs::read(registry.work().join("ext.tar")).unwrap().as_slice(), 3).unwrap();
    std::fs::write(registry.work().join("ext.tar.zst"), packed).unwrap();
    let ways: [(&str, &[&str]); 9] = [
        ("", &["flux", "ext"]),
        ("", &["oras", "ext"]),
        ("ext", &["oras", "manifest.yaml", "lib"]),
        ("ext", &["oras", "manifest.yaml", "lib/run.sh"]),
        ("", &["oras", "ext.tar.gz"]),
        ("", &["image", "ext"]),
        ("", &["image", "ext.tar"]),
        ("", &["image", "ext.tar.zst"]),
        ("", &["--index=1", "image", "ext.tar.gz"]),
    ];
    for (index, (dir, arguments)) in ways.iter().enumerate() {
        let tag = format!("v{index}");
        let digest = registry.push(&format!("team/ext:{tag}"), dir, arguments);
        let (resolved, files) = fetched(&registry.request("team/ext", &tag), None).await.unwrap();
        assert_eq!(resolved.revision, format!("{tag}@{digest}"), "{arguments:?}");
        let told: Vec<_> = files.iter().map(|(name, (executable, _))| (name.as_str(), *executable)).collect();
        assert_eq!(told, [("lib/run.sh", true), ("manifest.yaml", false)], "{arguments:?}");
        assert_eq!(files["lib/run.sh"].1, "#!/bin/sh\necho one\n");
    }
}

#[tokio::test]
async fn a_known_tag_costs_one_head_a_known_pin_nothing_and_a_moved_tag_is_seen() {
    let registry = Registry::start(None, &[]);
    let first = registry.write("one").push("ext:1.2.0", "", &["flux", "ext"]);
    let tag = registry.request("ext", "1.2.0");
    let range = registry.request("ext", "^1.0");
    let pin = registry.request("ext", &first.to_string());
    let (known, _) = fetched(&tag, None).await.unwrap();
    assert_eq!(fetched(&range, None).await.unwrap().0, known);
    let (pinned, _) = fetched(&pin, None).await.unwrap();
    assert_eq!(pinned.revision, first.to_string());

    let before = registry.requests().len();
    assert!(matches!(resolve(&tag, None, Some(&known)).await.unwrap(), Resolution::Unchanged(same) if same == known));
    assert!(matches!(resolve(&pin, None, Some(&pinned)).await.unwrap(), Resolution::Unchanged(same) if same == pinned));
    let restarted = Resolved::known(&tag, &known.revision, None);
    assert!(matches!(resolve(&tag, None, Some(&restarted)).await.unwrap(), Resolution::Unchanged(_)));
    assert_eq!(registry.requests()[before..], ["HEAD /v2/ext/manifests/1.2.0 200", "HEAD /v2/ext/manifests/1.2.0 200"]);

    let second = registry.write("two").push("ext:1.2.0", "", &["flux", "ext"]);
    let Resolution::Changed(moved) = resolve(&tag, None, Some(&known)).await.unwrap() else { panic!("not seen") };
    assert_eq!(moved.resolved().revision, format!("1.2.0@{second}"));
    assert!(matches!(resolve(&pin, None, Some(&pinned)).await.unwrap(), Resolution::Unchanged(_)));
    let newer = registry.write("three").push("ext:v1.3.0", "", &["flux", "ext"]);
    let Resolution::Changed(higher) = resolve(&range, None, Some(&known)).await.unwrap() else { panic!("not seen") };
    assert_eq!(higher.resolved().revision, format!("v1.3.0@{newer}"));
}

#[tokio::test]
async fn what_is_not_there_or_makes_no_tree_is_named() {
    let registry = Registry::start(None, &[]);
    registry.write("one").push("ext:several", "", &["image", "ext", "ext"]);
    registry.push("ext:platforms", "", &["--index=2", "image", "ext"]);
    for (name, refs, reason, expected) in [
        ("ext", "none", Reason::NotFound, "the repository has no tag \"none\"".to_owned()),
        ("other", "none", Reason::NotFound, "the repository has no tag \"none\"".to_owned()),
        ("ext", "several", Reason::UnpackRefused, "the manifest has 2 tar layers without a title".to_owned()),
        ("ext", "platforms", Reason::UnpackRefused, "an index of 2 manifests".to_owned()),
    ] {
        let error = fetched(&registry.request(name, refs), None).await.unwrap_err();
        let expected = format!("fetch oci://{}/{name}: {expected}", registry.host);
        assert!(error.to_string().starts_with(&expected) && error.reason() == reason, "{error}");
    }
}

#[tokio::test]
async fn basic_authentication_takes_each_kind_of_secret() {
    let registry = Registry::start(Some("bob:hunter2"), &[]);
    registry.write("one").push("team/ext:v1", "", &["flux", "ext"]);
    let request = registry.request("team/ext", "v1");
    let anonymous = fetched(&request, None).await.unwrap_err();
    assert!(anonymous.to_string().contains("HTTP 401); name a Secret with credentials in secretRef"), "{anonymous}");
    let docker = registry.secret(&registry.origin(), json!({"auth": STANDARD.encode("bob:hunter2")}));
    fetched(&request, Some(&docker)).await.unwrap();
    let data = [("username".to_owned(), b"bob".to_vec()), ("password".to_owned(), b"hunter2".to_vec())].into();
    let plain = Credentials::from_secret("login", &data, Some(&registry.origin())).unwrap();
    fetched(&request, Some(&plain)).await.unwrap();

    let wrong = registry.secret(&registry.origin(), json!({"username": "bob", "password": "hunter3"}));
    let error = fetched(&request, Some(&wrong)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AuthenticationFailed);
    let text = error.to_string();
    assert!(text.ends_with("(HTTP 401); check the credentials in the Secret that secretRef names"), "{text}");
    assert!(!text.contains("hunter3"));
    let data = [(".dockerconfigjson".to_owned(), br#"{"auths": {"ghcr.io": {"auth": "Yjp4"}}}"#.to_vec())].into();
    let other = Credentials::from_secret("pull", &data, Some(&registry.origin())).unwrap();
    assert_eq!(
        fetched(&request, Some(&other)).await.unwrap_err().to_string(),
        format!("Secret \"pull\": .dockerconfigjson: no login for {}; it has one for ghcr.io", registry.host)
    );
}

#[tokio::test]
async fn tokens_are_fetched_with_a_login_with_a_refresh_token_and_without_either() {
    let registry = Registry::start(Some("bob:hunter2"), &["--tokens"]);
    registry.write("one").push("team/ext:v1", "", &["flux", "ext"]);
    registry.push("public/ext:v1", "", &["flux", "ext"]);
    fetched(&registry.request("public/ext", "v1"), None).await.unwrap();
    let request = registry.request("team/ext", "v1");
    let anonymous = fetched(&request, None).await.unwrap_err();
    assert_eq!(anonymous.reason(), Reason::AuthenticationFailed, "{anonymous}");

    let login = json!({"auth": STANDARD.encode("bob:hunter2")});
    let error = fetched(&request, Some(&registry.secret(&registry.origin(), login.clone()))).await.unwrap_err();
    let text = error.to_string();
    let (_, rest) = text.split_once("the registry hands out its tokens at ").unwrap_or_else(|| panic!("{text}"));
    let realm = rest.split(',').next().unwrap();
    assert!(text.contains(&format!("add {realm} to the Secret's annotation")), "{text}");
    let origins = format!("{} {realm}", registry.origin());
    fetched(&request, Some(&registry.secret(&origins, login))).await.unwrap();
    fetched(&request, Some(&registry.secret(&origins, json!({"identitytoken": "hunter2"})))).await.unwrap();
    let wrong = registry.secret(&origins, json!({"identitytoken": "hunter3"}));
    let error = fetched(&request, Some(&wrong)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::AuthenticationFailed, "{error}");
    assert!(error.to_string().contains(realm) && !error.to_string().contains("hunter3"), "{error}");
}

#[tokio::test]
async fn manifests_blobs_and_referrers_are_read_for_signature_checks() {
    let registry = Registry::start(None, &[]);
    let digest = registry.write("one").push("ext:v1", "", &["oras", "ext/manifest.yaml"]);
    let repository = fetcher().repository(&registry.url("ext"), None).unwrap();
    let by_tag = repository.manifest(&Reference::Tag("v1".parse().unwrap())).await.unwrap();
    assert_eq!(by_tag, repository.manifest(&Reference::Digest(digest)).await.unwrap());
    let Ok(Document::Manifest(manifest)) = parse(&by_tag.bytes) else { panic!("{by_tag:?}") };
    let blob = repository.blob(&manifest.layers[0], 1000).await.unwrap();
    assert_eq!(blob, b"kind: OrchestratorExtension\n");
    let error = repository.blob(&manifest.layers[0], 5).await.unwrap_err();
    assert!(error.to_string().ends_with("larger than the 5 bytes that are allowed"), "{error}");

    assert_eq!(repository.referrers(&digest).await.unwrap(), []);
    let list = Tag::of_digest(&digest, "");
    registry.push(&format!("ext:{}", list.as_str()), "", &["--index=2", "oras", "ext/manifest.yaml"]);
    assert_eq!(repository.referrers(&digest).await.unwrap().len(), 2);
    let tags = repository.tags().await.unwrap();
    let mut tags: Vec<_> = tags.iter().map(Tag::as_str).collect();
    tags.sort();
    assert_eq!(tags, [list.as_str(), "v1"]);
}
