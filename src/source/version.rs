//! Semantic version ranges in `refs`, and the highest tag within one: the same for git and for registries. Pure.

use semver::{Version, VersionReq};

/// What `refs` are, as far as versions go.
#[derive(Debug)]
pub(super) enum Written {
    /// A name without anything of a range.
    Name,
    /// A range, with what no name has: `^1.2`, `>=1.0.0 <2.0.0`.
    Range(VersionReq),
    /// A range such as `4.x`, which is a legal and common name of a branch or tag as well.
    NameOrRange(VersionReq),
    /// A range that cannot be read, and why.
    Broken(String),
}

/// Tells names from ranges. Conditions are separated by commas, or, as in npm and Flux, by spaces.
pub(super) fn read(text: &str) -> Written {
    let placeholder = |part: &str| matches!(part, "x" | "X");
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = text.split('.').collect();
    let numbers = parts.iter().take_while(|part| is_number(part)).count();
    let with_placeholder = (1..=2).contains(&numbers)
        && numbers < parts.len()
        && parts.len() <= 3
        && parts[numbers..].iter().all(|part| placeholder(part));
    if with_placeholder {
        return VersionReq::parse(text).map_or(Written::Name, Written::NameOrRange);
    }
    if !text.starts_with(OPERATORS) && !text.contains('*') {
        return Written::Name;
    }
    let mut conditions: Vec<String> = Vec::new();
    for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
        match conditions.last_mut().filter(|last| last.chars().all(|c| OPERATORS.contains(&c))) {
            Some(operator) => operator.push_str(word),
            None => conditions.push(word.to_owned()),
        }
    }
    VersionReq::parse(&conditions.join(", ")).map_or_else(|error| Written::Broken(error.to_string()), Written::Range)
}

/// What a condition may begin with.
const OPERATORS: [char; 5] = ['^', '~', '>', '<', '='];

/// Of the tags whose names are versions in `range`, perhaps after a `v`, the highest, with what comes with it. Pre-releases
/// count only where the range names one.
pub(super) fn highest<'a, T>(range: &VersionReq, tags: impl IntoIterator<Item = (&'a str, T)>) -> Option<(&'a str, T)> {
    tags.into_iter()
        .filter_map(|(tag, with)| {
            let version = Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()?;
            range.matches(&version).then_some((version, tag, with))
        })
        .max_by(|one, other| one.0.cmp(&other.0).then_with(|| one.1.cmp(other.1)))
        .map(|(_, tag, with)| (tag, with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_ranges() {
        for text in ["^1.2", "~1", ">=1.0, <2.0", "*", "1.2.*", "=1.0.0", ">=1.0 <2.0", ">= 1.0.0  < 2.0.0,"] {
            assert!(matches!(read(text), Written::Range(_)), "{text}");
        }
        for text in ["4.x", "4.2.x", "4.x.x", "4.X"] {
            assert!(matches!(read(text), Written::NameOrRange(_)), "{text}");
        }
        for text in ["v1.2.3", "latest", "1.0.0-rc.1", "4", "4.2", "x", "x.4", "4.x.2", "4.x-dev", "v4.x"] {
            assert!(matches!(read(text), Written::Name), "{text}");
        }
        for text in ["^", ">=1 || <3", "^x y"] {
            assert!(matches!(read(text), Written::Broken(_)), "{text}");
        }
    }

    #[test]
    fn conditions_may_be_separated_by_spaces() {
        for (text, same) in [(">=1.0.0 <2.0.0", ">=1.0.0, <2.0.0"), (">= 1.0,< 2", ">=1.0, <2"), ("^1.2", "^1.2")] {
            let Written::Range(range) = read(text) else { panic!("{text}") };
            assert_eq!(range, VersionReq::parse(same).unwrap());
        }
    }

    #[test]
    fn the_highest_version_wins_and_pre_releases_are_left_out() {
        let tags = ["v1.2.0", "1.10.0", "v1.11.0-rc.1", "v2.0.0", "latest"];
        let of = |range: &str| {
            highest(&VersionReq::parse(range).unwrap(), tags.iter().map(|tag| (*tag, ()))).map(|(tag, ())| tag)
        };
        assert_eq!(of("^1.2"), Some("1.10.0"));
        assert_eq!(of("*"), Some("v2.0.0"));
        assert_eq!(of(">=1.11.0-rc.0, <2"), Some("v1.11.0-rc.1"));
        assert_eq!(of(">=3"), None);
    }
}
