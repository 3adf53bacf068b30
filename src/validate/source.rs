//! Where an extension's files come from: `spec.source`. Pure: no client, clock, disk or network.

use crate::api::extension as api;
use crate::digest::Digest;
use crate::source::{GitRef, OciRef, OciUrl, SourceUrl, UrlFault};

use super::problem::{Problem, Problems, quoted};
use super::types::relative_path;
use crate::archive::RelativePath;
use crate::signature::Provider;

/// Forges whose plain repository addresses are git, also without `.git` at the end.
const FORGES: &[&str] =
    &["github.com", "gitlab.com", "codeberg.org", "bitbucket.org", "gitea.com", "git.sr.ht", "dev.azure.com"];
/// Forges' words for downloads, where they follow owner and repository.
const DOWNLOADS: &[&str] = &["archive", "tarball", "zipball", "releases", "raw", "get", "downloads"];
/// Ends of the names of archives.
const ARCHIVES: &[&str] = &[".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst"];

/// How a source is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A repository.
    Git,
    /// One file: zip, or tar that may be compressed.
    Archive,
    /// An artifact or image in a registry.
    Oci,
    /// A ConfigMap of the operator's namespace, whose keys are the files.
    ConfigMap,
}

/// A validated source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// How it is fetched.
    pub kind: SourceKind,
    /// `http` or `https`, or `oci` for a registry, with a host, without user name and password. Empty for a ConfigMap, which has
    /// none.
    pub url: String,
    /// oci: whether the registry is asked over plain HTTP.
    pub insecure: bool,
    /// git: branch, tag, full ref, commit or semantic version range; none is the remote's default branch. oci: tag or semantic
    /// version range; none is `latest`.
    pub refs: Option<String>,
    /// archive: what the fetched bytes must hash to. oci: what the manifest must hash to, whatever `refs` says.
    pub digest: Option<Digest>,
    /// Sub-directory that is the extension's root; none is the root of what is fetched.
    pub path: Option<RelativePath>,
    /// Name of the Secret with credentials.
    pub secret: Option<String>,
    /// Who must have signed it.
    pub verify: Option<Verify>,
}

/// Who must have signed a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// How.
    pub provider: Provider,
    /// Name of the Secret with the public keys.
    pub secret: String,
    /// Where the signature is, if not beside the archive.
    pub signature_url: Option<SourceUrl>,
}

/// Reads `spec.source`. Errors: all problems of the source.
pub fn source(given: &api::Source) -> Result<Source, Problems> {
    let is_config_map = given.type_.as_deref().is_some_and(|word| word.eq_ignore_ascii_case("configmap"));
    if is_config_map || given.config_map_ref.is_some() {
        return config_map(given);
    }
    let mut problems = Vec::new();
    let text = |field: &Option<String>| field.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let url = text(&given.url).unwrap_or_default();
    let is_registry = url.starts_with("oci://");
    let parsed = if is_registry {
        None
    } else {
        address(&url).map_err(|message| problems.push(Problem::new("spec.source.url", message))).ok()
    };
    let kind = match text(&given.type_).map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("git") => SourceKind::Git,
        Some("archive") => SourceKind::Archive,
        Some("oci") => SourceKind::Oci,
        Some(other) => {
            let message = format!("{} is unknown; allowed are git, archive, oci and configMap", quoted(other));
            problems.push(Problem::new("spec.source.type", message));
            SourceKind::Archive
        }
        None if is_registry => SourceKind::Oci,
        None => parsed.as_ref().map_or(SourceKind::Archive, |url| kind_of(url.as_url())),
    };
    let insecure = given.insecure.unwrap_or(false);
    if kind == SourceKind::Oci {
        if (is_registry || parsed.is_some())
            && let Err(fault) = OciUrl::parse(&url, insecure)
        {
            problems.push(Problem::new("spec.source.url", fault.to_string()));
        }
    } else if is_registry {
        let message = "an oci:// address is for type: oci alone: remove the type, or set that";
        problems.push(Problem::new("spec.source.url", message));
    } else if insecure {
        let message = "is for type: oci alone; git and archive use the scheme http:// instead: remove it";
        problems.push(Problem::new("spec.source.insecure", message));
    }
    if kind == SourceKind::Git && parsed.as_ref().is_some_and(|url| url.as_url().query().is_some()) {
        problems.push(Problem::new("spec.source.url", UrlFault::Query.to_string()));
    }
    let refs = text(&given.refs);
    if let Some(refs) = &refs {
        let fault = match kind {
            SourceKind::Git => refs.parse::<GitRef>().err().map(|fault| fault.to_string()),
            SourceKind::Oci => refs.parse::<OciRef>().err().map(|fault| fault.to_string()),
            _ => Some("an archive has no refs: remove it, or set type: git".to_owned()),
        };
        problems.extend(fault.map(|message| Problem::new("spec.source.refs", message)));
    }
    let digest = text(&given.digest).and_then(|text| {
        text.parse()
            .map_err(|error: crate::digest::ParseDigestError| {
                problems.push(Problem::new("spec.source.digest", error.to_string()));
            })
            .ok()
    });
    if digest.is_some() && kind == SourceKind::Git {
        let message =
            "a digest pins an archive's bytes or a registry's manifest; a git repository is pinned by a commit in refs";
        problems.push(Problem::new("spec.source.digest", message));
    }
    let path = text(&given.path).filter(|path| !matches!(path.as_str(), "." | "./")).and_then(|path| {
        relative_path(&path).map_err(|message| problems.push(Problem::new("spec.source.path", message))).ok()
    });
    let verify = given.verify.as_ref().and_then(|given| verify(given, kind, &mut problems));
    let secret = given.secret_ref.as_ref().map(|secret| secret.name.clone());
    Problems::new(problems).or(Source { kind, url, insecure, refs, digest, path, secret, verify })
}

fn verify(given: &api::Verify, kind: SourceKind, problems: &mut Vec<Problem>) -> Option<Verify> {
    let mut problem = |field: &str, message: String| {
        problems.push(Problem::new(format!("spec.source.verify{field}"), message));
    };
    if kind == SourceKind::Git {
        let message = "signatures of git repositories are not checked, those of archives (cosign, minisign) and OCI artifacts (cosign) are: remove it, or publish one of those";
        problem("", message.to_owned());
    }
    let provider = Provider::named(&given.provider);
    if provider.is_none() {
        let message = format!("{} is unknown; allowed are cosign and minisign", quoted(&given.provider));
        problem(".provider", message);
    }
    if given.secret_ref.name.is_empty() {
        problem(".secretRef.name", "is missing: name a Secret of the operator's namespace with public keys".into());
    }
    if kind == SourceKind::Oci && provider == Some(Provider::Minisign) {
        problem(".provider", "minisign signs files; an OCI artifact is signed with cosign: set that".to_owned());
    }
    let signature_url = given.signature_url.as_deref().filter(|url| !url.is_empty());
    if kind == SourceKind::Oci && signature_url.is_some() {
        let message = "is for archives; an OCI artifact has its signatures in its repository: remove it";
        problem(".signatureURL", message.to_owned());
    }
    let signature_url = signature_url
        .and_then(|url| SourceUrl::parse(url).map_err(|fault| problem(".signatureURL", fault.to_string())).ok());
    Some(Verify { provider: provider?, secret: given.secret_ref.name.clone(), signature_url })
}

/// A ConfigMap has a name and nothing else: its files are read with the operator's own rights.
fn config_map(given: &api::Source) -> Result<Source, Problems> {
    let mut problems = Vec::new();
    let mut problem = |field: &str, message: &str| problems.push(Problem::new(format!("spec.source.{field}"), message));
    if given.type_.as_deref().is_some_and(|word| !word.is_empty() && !word.eq_ignore_ascii_case("configmap")) {
        problem("configMapRef", "is for type: configMap alone: remove it, or set that type");
    }
    if given.config_map_ref.as_ref().is_none_or(|reference| reference.name.is_empty()) {
        problem("configMapRef", "is missing: name a ConfigMap of the operator's namespace");
    }
    for (field, is_set, why) in [
        ("url", given.url.is_some(), "no address"),
        ("insecure", given.insecure == Some(true), "no address"),
        ("refs", given.refs.is_some(), "no refs"),
        ("digest", given.digest.is_some(), "no packed bytes that could be pinned"),
        ("path", given.path.is_some(), "no directories"),
        ("secretRef", given.secret_ref.is_some(), "no server that could ask for credentials"),
        (
            "verify",
            given.verify.is_some(),
            "no signature; archives (cosign, minisign) and OCI artifacts (cosign) can have one",
        ),
    ] {
        if is_set {
            problem(field, &format!("a ConfigMap has {why}: remove it"));
        }
    }
    let kind = SourceKind::ConfigMap;
    let url = String::new();
    Problems::new(problems).or(Source {
        kind,
        url,
        insecure: false,
        refs: None,
        digest: None,
        path: None,
        secret: None,
        verify: None,
    })
}

/// The address of a repository or an archive. The error shows nothing of `text`, which may hold a password.
fn address(text: &str) -> Result<SourceUrl, String> {
    if text.is_empty() {
        return Err("is missing; allowed is an address such as https://example.com/extension.git".to_owned());
    }
    SourceUrl::parse(text).map_err(|fault| match fault {
        UrlFault::Scheme(scheme) => {
            format!("the scheme {scheme:?} is not supported; allowed are https://, http:// and oci://")
        }
        fault => fault.to_string(),
    })
}

/// What an address without a type is: an archive, unless it is a repository's.
fn kind_of(url: &url::Url) -> SourceKind {
    let path = url.path().trim_matches('/').to_ascii_lowercase();
    let host = url.host_str().unwrap_or_default().trim_start_matches("www.");
    let parts: Vec<&str> = path.split('/').collect();
    let is_download = ARCHIVES.iter().any(|end| path.ends_with(end))
        || matches!(parts.first(), Some(&"api" | &"attachments"))
        // GitLab's groups nest; what is no group or repository comes after a dash
        || parts.contains(&"-")
        || host != "gitlab.com" && parts.get(2).is_some_and(|part| DOWNLOADS.contains(part));
    let is_repository = parts.contains(&"_git") || FORGES.contains(&host);
    if path.ends_with(".git") || is_repository && !is_download { SourceKind::Git } else { SourceKind::Archive }
}
