//! The rules of an extension's source.

use serde_json::{Value, json};

use super::tests::{check, with};
use super::*;
use crate::validate::SourceKind;

fn source(value: Value) -> Result<super::super::Source, Problems> {
    super::super::source(&serde_json::from_value(value).unwrap())
}

#[test]
fn the_type_of_a_source_follows_from_its_address() {
    let kinds = [
        ("https://example.com/x.git", SourceKind::Git),
        ("https://github.com/a/b", SourceKind::Git),
        ("https://github.com/a/b/", SourceKind::Git),
        ("https://codeberg.org/a/b", SourceKind::Git),
        ("https://github.com/a/b/archive/refs/heads/main.zip", SourceKind::Archive),
        ("https://gitlab.com/a/b/-/archive/v1/b.tar.gz", SourceKind::Archive),
        ("https://gitlab.com/a/archive/raw/b", SourceKind::Git),
        ("https://gitlab.com/a/b/-/releases/v1/downloads/package", SourceKind::Archive),
        ("https://gitlab.com/api/v4/projects/1/repository/archive", SourceKind::Archive),
        ("https://github.com/o/r/tarball/main", SourceKind::Archive),
        ("https://www.github.com/o/r/zipball/main", SourceKind::Archive),
        ("https://github.com/o/r/releases/download/v1/extension", SourceKind::Archive),
        ("https://github.com/o/r/releases/latest/download/extension", SourceKind::Archive),
        ("https://bitbucket.org/o/r/get/main", SourceKind::Archive),
        ("https://codeberg.org/attachments/1-2-3", SourceKind::Archive),
        ("https://gitea.com/a/b", SourceKind::Git),
        ("https://git.sr.ht/~a/b", SourceKind::Git),
        ("https://dev.azure.com/o/p/_git/r", SourceKind::Git),
        ("https://tfs.example.com/c/p/_git/r", SourceKind::Git),
        ("https://example.com/x.tar.gz?token=1", SourceKind::Archive),
        ("https://example.com/download", SourceKind::Archive),
        ("oci://ghcr.io/team/extension", SourceKind::Oci),
        ("oci://127.0.0.1:5000/extension.git", SourceKind::Oci),
    ];
    for (url, kind) in kinds {
        assert_eq!(source(json!({"url": url})).unwrap().kind, kind, "{url}");
    }
    assert_eq!(
        source(json!({"url": "https://example.com/x", "type": "GIT", "refs": "v1"})).unwrap().kind,
        SourceKind::Git
    );
}

#[test]
fn a_source_keeps_its_rules() {
    let git = "https://example.com/x.git";
    let texts = [
        (json!({}), "spec.source.url: is missing; allowed is an address such as https://example.com/extension.git"),
        (
            json!({"url": "ssh://git@x/y.git"}),
            "spec.source.url: the scheme \"ssh\" is not supported; allowed are https://, http:// and oci://",
        ),
        (
            json!({"url": "ext::sh"}),
            "spec.source.url: the scheme \"ext\" is not supported; allowed are https://, http:// and oci://",
        ),
        (
            json!({"url": "file:///etc"}),
            "spec.source.url: the scheme \"file\" is not supported; allowed are https://, http:// and oci://",
        ),
        (
            json!({"url": "https://user:secret@example.com/x.git"}),
            "spec.source.url: a user name or password in the URL is not allowed; put it in a Secret and name that in secretRef",
        ),
        (
            json!({"url": "https://bob:hunter2/x@git.example.com/r.git"}),
            "spec.source.url: not a URL (invalid port number); expected one like https://example.com/path",
        ),
        (
            json!({"url": "https://bob:hunter2#x@git.example.com/r.git"}),
            "spec.source.url: not a URL (invalid port number); expected one like https://example.com/path",
        ),
        (
            json!({"url": "https://bob:12#hunter2@git.example.com/r.git"}),
            "spec.source.url: a fragment (#…) is not allowed; leave it out",
        ),
        (
            json!({"url": "oci://bob:hunter2/x@ghcr.io/a"}),
            "spec.source.url: not a URL (invalid port number); expected one like https://example.com/path",
        ),
        (
            json!({"url": "oci://bob:12/hunter2@ghcr.io/a"}),
            "spec.source.url: a user name or password in the URL is not allowed; put it in a Secret and name that in secretRef",
        ),
        (json!({"url": "https://x/a.zip#b"}), "spec.source.url: a fragment (#…) is not allowed; leave it out"),
        (
            json!({"url": "https://x/a b.zip"}),
            "spec.source.url: white space, control characters and backslashes are not allowed; write them percent-encoded",
        ),
        (
            json!({"url": format!("https://x/{}", "a".repeat(2040))}),
            "spec.source.url: 2050 bytes are too long; at most 2048 are allowed",
        ),
        (
            json!({"url": "https://x/a.git?token=1"}),
            "spec.source.url: a query (?…) is not allowed for git; leave it out",
        ),
        (
            json!({"url": "https:///a.git"}),
            "spec.source.url: not a URL (no host follows the scheme); expected one like https://example.com/path",
        ),
        (
            json!({"url": git, "type": "svn"}),
            "spec.source.type: \"svn\" is unknown; allowed are git, archive, oci and configMap",
        ),
        (
            json!({"url": git, "type": "oci"}),
            "spec.source.url: a registry's address begins with oci://, like oci://ghcr.io/team/extension",
        ),
        (
            json!({"url": git, "refs": "--upload-pack=x"}),
            "spec.source.refs: \"--upload-pack=x\" is no branch, tag, full ref (refs/…), commit (40 hexadecimal digits) or semantic version range",
        ),
        (
            json!({"url": git, "refs": "a..b"}),
            "spec.source.refs: \"a..b\" is no branch, tag, full ref (refs/…), commit (40 hexadecimal digits) or semantic version range",
        ),
        (
            json!({"url": git, "insecure": true}),
            "spec.source.insecure: is for type: oci alone; git and archive use the scheme http:// instead: remove it",
        ),
        (
            json!({"url": "oci://ghcr.io/a/b", "type": "archive"}),
            "spec.source.url: an oci:// address is for type: oci alone: remove the type, or set that",
        ),
        (
            json!({"url": "oci://ghcr.io/a/b:v1"}),
            "spec.source.url: \"a/b:v1\" names a tag or digest: write the tag into refs, the digest into digest",
        ),
        (
            json!({"url": "oci://ghcr.io/a/b", "refs": "a/b"}),
            "spec.source.refs: \"a/b\" is no tag or semantic version range of a registry; a digest goes into digest",
        ),
        (
            json!({"url": "https://x/a.zip", "refs": "v1"}),
            "spec.source.refs: an archive has no refs: remove it, or set type: git",
        ),
        (
            json!({"url": "https://x/a.zip", "digest": "sha256:0"}),
            "spec.source.digest: \"sha256:0\" is not a digest: expected \"sha256:\" and 64 lower-case hexadecimal digits",
        ),
        (
            json!({"url": git, "digest": format!("sha256:{}", "0".repeat(64))}),
            "spec.source.digest: a digest pins an archive's bytes or a registry's manifest; a git repository is pinned by a commit in refs",
        ),
        (
            json!({"url": git, "path": "../x"}),
            "spec.source.path: \"../x\" holds \"..\"; allowed is a path relative to the extension's root, such as \"bin/run.py\", without \"..\"",
        ),
        (
            json!({"url": git, "verify": {"provider": "cosign", "secretRef": {"name": "k"}}}),
            "spec.source.verify: signatures of git repositories are not checked, those of archives (cosign, minisign) and OCI artifacts (cosign) are: remove it, or publish one of those",
        ),
        (
            json!({"url": "https://x/a.zip", "verify": {"provider": "pgp", "secretRef": {"name": "k"}}}),
            "spec.source.verify.provider: \"pgp\" is unknown; allowed are cosign and minisign",
        ),
        (
            json!({"url": "https://x/a.zip", "verify": {"provider": "cosign", "secretRef": {"name": ""}}}),
            "spec.source.verify.secretRef.name: is missing: name a Secret of the operator's namespace with public keys",
        ),
        (
            json!({"url": "https://x/a.zip", "verify": {"provider": "minisign", "secretRef": {"name": "k"}, "signatureURL": "ftp://x/a"}}),
            "spec.source.verify.signatureURL: the scheme \"ftp\" is not allowed; use https (or http)",
        ),
        (
            json!({"url": "oci://x/a", "verify": {"provider": "minisign", "secretRef": {"name": "k"}}}),
            "spec.source.verify.provider: minisign signs files; an OCI artifact is signed with cosign: set that",
        ),
        (
            json!({"url": "oci://x/a", "verify": {"provider": "cosign", "secretRef": {"name": "k"}, "signatureURL": "https://x/a"}}),
            "spec.source.verify.signatureURL: is for archives; an OCI artifact has its signatures in its repository: remove it",
        ),
    ];
    for (value, text) in texts {
        assert_eq!(source(value).unwrap_err().to_string(), text);
    }
    let config_map = json!({"name": "c"});
    let texts = [
        (
            json!({"type": "configMap"}),
            "spec.source.configMapRef: is missing: name a ConfigMap of the operator's namespace",
        ),
        (
            json!({"type": "git", "configMapRef": config_map}),
            "spec.source.configMapRef: is for type: configMap alone: remove it, or set that type",
        ),
        (json!({"url": git, "configMapRef": config_map}), "spec.source.url: a ConfigMap has no address: remove it"),
        (
            json!({"configMapRef": config_map, "verify": {"provider": "cosign", "secretRef": {"name": "k"}}}),
            "spec.source.verify: a ConfigMap has no signature; archives (cosign, minisign) and OCI artifacts (cosign) can have one: remove it",
        ),
        (
            json!({"path": "x", "configMapRef": config_map}),
            "spec.source.path: a ConfigMap has no directories: remove it",
        ),
    ];
    for (value, text) in texts {
        assert_eq!(source(value).unwrap_err().to_string(), text);
    }
    for value in [json!({"configMapRef": config_map}), json!({"type": "ConfigMap", "configMapRef": config_map})] {
        assert_eq!(source(value).unwrap().kind, SourceKind::ConfigMap);
    }
    let good = source(json!({"url": git, "refs": "refs/tags/v1", "path": "./", "secretRef": {"name": "s"}})).unwrap();
    assert_eq!((good.refs.as_deref(), good.path, good.secret.as_deref()), (Some("refs/tags/v1"), None, Some("s")));
    let range = source(json!({"url": git, "refs": "^1.2"})).unwrap();
    assert_eq!(range.refs.as_deref(), Some("^1.2"));
    let plain =
        source(json!({"url": "oci://ghcr.io/a", "type": "OCI", "refs": ">=1.0, <2", "insecure": true})).unwrap();
    assert!(plain.insecure && plain.kind == SourceKind::Oci);
}

#[test]
fn options_are_checked_against_the_format() {
    let options = |format: &str, options: &str| {
        let parameter = json!({"name": "p", "type": "STRING", "validationformat": format, "valueoptions": options});
        check(with("customActions", json!([{"name": "A", "parameters": [parameter]}])))
            .map(|_| ())
            .map_err(|problems| problems.to_string())
    };
    for (format, good, bad, expected) in [
        ("EMAIL", "a@b.example, c@d.example", "a@b.example,nobody", "an e-mail address such as name@example.com"),
        (
            "UUID",
            "123e4567-e89b-12d3-a456-426614174000",
            "1-1-1-1",
            "a UUID such as 123e4567-e89b-12d3-a456-426614174000",
        ),
        (
            "URL",
            "https://a.example/,ftp://b.example",
            "https://a.example,b.example",
            "a URL such as https://example.com/path (http, https, ftp, file, jar or mailto)",
        ),
    ] {
        assert_eq!(options(format, good), Ok(()), "{format}");
        let wrong = bad.split(',').next_back().unwrap();
        assert_eq!(
            options(format, bad),
            Err(format!(
                "spec.customActions[0].parameters[0].valueoptions: option {wrong:?} does not fit: expected is {expected}"
            ))
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_message_shows_what_may_be_a_user_name_or_password(
        scheme in "(https?|oci|ssh|HTTPS)://|https?:|", user in "[a-z]{0,2}Sue", password in "[0-9/#?:@ ]{0,4}Hunter2[0-9/#?:@\\\\ ]{0,4}|12[/#?]Hunter2",
        rest in "[a-z.:/?#@]{0,12}", type_ in proptest::option::of("git|archive|oci"),
    ) {
        let url = format!("{scheme}{user}:{password}@{rest}");
        if let Err(problems) = source(json!({"url": url, "type": type_, "refs": "v1", "insecure": true})) {
            let text = problems.to_string().to_lowercase();
            proptest::prop_assert!(!text.contains("hunter2") && !text.contains("sue"), "{}: {}", url, problems);
        }
        let text = extension("x", &serde_json::from_value(with("manifestURL", json!(url))).unwrap(), &ContractLevels::default());
        if let Err(problems) = text {
            let text = problems.to_string().to_lowercase();
            proptest::prop_assert!(!text.contains("hunter2") && !text.contains("sue"), "{}: {}", url, problems);
        }
    }
}
