//! Which commit is meant: `refs` parsed, and matched against what a repository advertises.

use std::fmt;
use std::str::FromStr;

use gix::ObjectId;
use semver::VersionReq;

use crate::source::version::{self, Written};

/// Bytes that `refs` may have.
const MAX_REF_BYTES: usize = 255;

/// What `refs` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitRef {
    /// A branch or tag by its short name. The branch wins, because upstream's `refs` names branches.
    Name(String),
    /// A full name such as `refs/heads/main`, or `HEAD`.
    Full(String),
    /// A commit by its 40 hexadecimal digits.
    Commit(ObjectId),
    /// The tag with the highest semantic version in a range such as `^1.2` or `>=1.0 <2.0`.
    Range(VersionReq),
    /// A branch or tag called like a range, such as `4.x`; where there is none, that range.
    NameOrRange(String, VersionReq),
}

/// Why a text is no [`GitRef`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefFault {
    /// Not a name that git allows, or one that looks like an option (CVE-2026-40938).
    #[error("{0:?} is no branch, tag, full ref (refs/…), commit (40 hexadecimal digits) or semantic version range")]
    Name(String),
    /// Written as a range, but not well.
    #[error("{0:?} is no semantic version range ({1}); expected one such as ^1.2, 1.x or >=1.0.0 <2.0.0")]
    Range(String, String),
    /// 64 digits.
    #[error("{0:?}: commits of SHA-256 repositories are not supported; use a branch or tag of a SHA-1 repository")]
    Sha256(String),
}

impl FromStr for GitRef {
    type Err = RefFault;

    fn from_str(text: &str) -> Result<Self, RefFault> {
        let fault = || RefFault::Name(text.chars().take(80).collect());
        if text.is_empty() || text.len() > MAX_REF_BYTES {
            return Err(fault());
        }
        let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if hexadecimal && text.len() == 64 {
            return Err(RefFault::Sha256(text.to_owned()));
        }
        if hexadecimal && text.len() == 40 {
            return ObjectId::from_hex(text.to_ascii_lowercase().as_bytes()).map(Self::Commit).map_err(|_| fault());
        }
        match version::read(text) {
            Written::Name => {}
            Written::Range(range) => return Ok(Self::Range(range)),
            Written::NameOrRange(range) => return Ok(Self::NameOrRange(text.to_owned(), range)),
            Written::Broken(why) => return Err(RefFault::Range(text.chars().take(80).collect(), why)),
        }
        let full = text.starts_with("refs/") || text == "HEAD";
        let name = if full { text.to_owned() } else { format!("refs/heads/{text}") };
        if text.starts_with('-') || gix::validate::reference::name(name.as_str().into()).is_err() {
            return Err(fault());
        }
        Ok(if full { Self::Full(text.to_owned()) } else { Self::Name(text.to_owned()) })
    }
}

impl fmt::Display for GitRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "branch or tag {name:?}"),
            Self::Full(name) => write!(f, "ref {name:?}"),
            Self::Commit(id) => write!(f, "commit {id}"),
            Self::Range(range) => write!(f, "tag with a semantic version in the range \"{range}\""),
            Self::NameOrRange(name, _) => {
                write!(f, "branch or tag {name:?}, and no tag with a semantic version in that range")
            }
        }
    }
}

/// A ref as a server advertises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Advertised {
    pub name: String,
    /// What the name points to: a commit, or an annotated tag.
    pub object: ObjectId,
    /// What an annotated tag points to.
    pub peeled: Option<ObjectId>,
    /// What a symbolic ref such as `HEAD` stands for.
    pub target: Option<String>,
}

/// The commit that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Selected {
    /// `main@sha1:…`, or `sha1:…` for a commit that was named itself.
    pub revision: String,
    /// What to ask the server for: an advertised object.
    pub want: ObjectId,
}

impl Selected {
    pub(in crate::source) fn commit(id: ObjectId) -> Self {
        Self { revision: format!("sha1:{id}"), want: id }
    }
}

/// The prefixes of ref names that `wanted` needs to know of; `None` is the remote's `HEAD`.
pub(in crate::source) fn prefixes(wanted: Option<&GitRef>) -> Vec<String> {
    match wanted {
        None | Some(GitRef::Commit(_)) => vec!["HEAD".to_owned()],
        Some(GitRef::Name(name)) => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
        Some(GitRef::Full(name)) => vec![name.clone()],
        Some(GitRef::Range(_)) => vec!["refs/tags/".to_owned()],
        Some(GitRef::NameOrRange(name, _)) => vec![format!("refs/heads/{name}"), "refs/tags/".to_owned()],
    }
}

/// The ref among `advertised` that `wanted` means; `None` is the remote's `HEAD`.
pub(in crate::source) fn select(wanted: Option<&GitRef>, advertised: &[Advertised]) -> Option<Selected> {
    let named = |name: &str| advertised.iter().find(|entry| entry.name == name);
    let selected = |label: &str, entry: &Advertised| Selected {
        revision: format!("{label}@sha1:{}", entry.peeled.unwrap_or(entry.object)),
        want: entry.object,
    };
    let by_name = |name: &str| {
        let found = ["refs/heads/", "refs/tags/"].iter().find_map(|folder| named(&format!("{folder}{name}")));
        found.map(|entry| selected(name, entry))
    };
    let highest = |range: &VersionReq| {
        let tags = advertised.iter().filter_map(|entry| Some((entry.name.strip_prefix("refs/tags/")?, entry)));
        version::highest(range, tags).map(|(tag, entry)| selected(tag, entry))
    };
    match wanted {
        None => named("HEAD").map(|head| {
            let label = head.target.as_deref().unwrap_or("HEAD");
            selected(label.strip_prefix("refs/heads/").unwrap_or(label), head)
        }),
        Some(GitRef::Commit(id)) => Some(Selected::commit(*id)),
        Some(GitRef::Full(name)) => named(name).map(|entry| selected(name, entry)),
        Some(GitRef::Name(name)) => by_name(name),
        Some(GitRef::Range(range)) => highest(range),
        Some(GitRef::NameOrRange(name, range)) => by_name(name).or_else(|| highest(range)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> ObjectId {
        ObjectId::from_hex(digit.to_string().repeat(40).as_bytes()).unwrap()
    }

    fn entry(name: &str, digit: char) -> Advertised {
        Advertised { name: name.to_owned(), object: id(digit), peeled: None, target: None }
    }

    fn revision(wanted: &str, advertised: &[Advertised]) -> Option<String> {
        select(Some(&wanted.parse().unwrap()), advertised).map(|selected| selected.revision)
    }

    #[test]
    fn each_form_of_refs_is_told_apart() {
        assert_eq!("main".parse(), Ok(GitRef::Name("main".into())));
        assert_eq!("feature/x".parse(), Ok(GitRef::Name("feature/x".into())));
        assert_eq!("4.x-dev".parse(), Ok(GitRef::Name("4.x-dev".into())));
        assert!(matches!("4.x".parse(), Ok(GitRef::NameOrRange(name, _)) if name == "4.x"));
        assert_eq!("HEAD".parse(), Ok(GitRef::Full("HEAD".into())));
        assert_eq!("v1.2.3".parse(), Ok(GitRef::Name("v1.2.3".into())));
        assert_eq!("refs/heads/main".parse(), Ok(GitRef::Full("refs/heads/main".into())));
        assert_eq!("A".repeat(40).parse(), Ok(GitRef::Commit(id('a'))));
        for range in ["^1.2", "~1", ">=1.0, <2.0", ">=1.0.0 <2.0.0", "*", "1.2.*"] {
            assert!(matches!(range.parse(), Ok(GitRef::Range(_))), "{range}");
        }
    }

    #[test]
    fn options_and_illegal_names_are_refused() {
        let long = "x".repeat(300);
        for text in [
            "",
            "--upload-pack=touch /tmp/x",
            "-x",
            "a..b",
            "a b",
            "a:b",
            "a\nb",
            "refs/",
            "/x",
            "x.lock",
            "a@{1}",
            &long,
        ] {
            assert!(matches!(text.parse::<GitRef>(), Err(RefFault::Name(_))), "{text:?}");
        }
        assert_eq!(
            "-x".parse::<GitRef>().unwrap_err().to_string(),
            "\"-x\" is no branch, tag, full ref (refs/…), commit (40 hexadecimal digits) or semantic version range"
        );
        assert!("0".repeat(64).parse::<GitRef>().unwrap_err().to_string().contains("SHA-256"));
    }

    #[test]
    fn a_branch_wins_over_a_tag_of_the_same_name_and_only_whole_names_match() {
        let refs = [entry("refs/heads/main2", '1'), entry("refs/tags/main", '2'), entry("refs/heads/main", '3')];
        assert_eq!(revision("main", &refs), Some(format!("main@sha1:{}", "3".repeat(40))));
        assert_eq!(revision("mai", &refs), None);
        assert_eq!(revision("refs/tags/main", &refs), Some(format!("refs/tags/main@sha1:{}", "2".repeat(40))));
    }

    #[test]
    fn an_annotated_tag_names_its_commit_and_asks_for_the_tag() {
        let tag = Advertised { peeled: Some(id('b')), ..entry("refs/tags/v1.0.0", 'a') };
        let selected = select(Some(&"v1.0.0".parse().unwrap()), &[tag]).unwrap();
        assert_eq!(selected, Selected { revision: format!("v1.0.0@sha1:{}", "b".repeat(40)), want: id('a') });
    }

    #[test]
    fn no_refs_means_what_head_stands_for() {
        let head = Advertised { target: Some("refs/heads/trunk".into()), ..entry("HEAD", '4') };
        assert_eq!(select(None, &[head]).unwrap().revision, format!("trunk@sha1:{}", "4".repeat(40)));
        assert_eq!(select(None, &[]), None);
    }

    #[test]
    fn a_range_takes_the_highest_version_and_leaves_pre_releases_out() {
        let refs: Vec<_> = [("v1.2.0", '1'), ("1.10.0", '2'), ("v1.11.0-rc.1", '3'), ("v2.0.0", '4'), ("nightly", '5')]
            .iter()
            .map(|(tag, digit)| entry(&format!("refs/tags/{tag}"), *digit))
            .collect();
        assert_eq!(revision("^1.2", &refs), Some(format!("1.10.0@sha1:{}", "2".repeat(40))));
        assert_eq!(revision(">=3.0", &refs), None);
    }

    #[test]
    fn a_branch_or_tag_called_like_a_range_wins_over_the_range() {
        let tags = [entry("refs/tags/v4.1.0", '1'), entry("refs/tags/4.2.0", '2'), entry("refs/tags/5.0.0", '3')];
        assert_eq!(revision("4.x", &tags), Some(format!("4.2.0@sha1:{}", "2".repeat(40))));
        let branch = [&tags[..], &[entry("refs/heads/4.x", '4')]].concat();
        assert_eq!(revision("4.x", &branch), Some(format!("4.x@sha1:{}", "4".repeat(40))));
        assert_eq!(prefixes(Some(&"4.x".parse().unwrap())), ["refs/heads/4.x", "refs/tags/"]);
        assert_eq!(revision("6.x", &branch), None);
        assert_eq!(
            "6.x".parse::<GitRef>().unwrap().to_string(),
            "branch or tag \"6.x\", and no tag with a semantic version in that range"
        );
    }

    #[test]
    fn a_broken_range_is_told_with_what_is_expected() {
        let text = ">=1 || <3".parse::<GitRef>().unwrap_err().to_string();
        assert!(text.starts_with("\">=1 || <3\" is no semantic version range ("), "{text}");
        assert!(text.ends_with("; expected one such as ^1.2, 1.x or >=1.0.0 <2.0.0"), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused_and_what_is_taken_is_no_option(text in "\\PC{0,60}|[-^~<>=*a-zA-Z0-9./@{:]{0,60}") {
            if let Ok(GitRef::Name(name) | GitRef::Full(name)) = text.parse() {
                proptest::prop_assert!(!name.starts_with('-') && !name.contains([' ', ':', '\\', '\0', '\n']));
            }
        }
    }
}
