//! Semantic version ranges in `refs`, and the highest tag within one: the same for git and for registries. Pure.

use semver::{Version, VersionReq};

/// Whether `text` is written as a range. `4.x` is a legal and common name of a branch or tag, so that a range needs what no
/// such name has.
pub(super) fn is_range(text: &str) -> bool {
    text.starts_with(['^', '~', '>', '<', '=']) || text.contains('*')
}

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
        assert!(["^1.2", "~1", ">=1.0, <2.0", "*", "1.2.*", "=1.0.0"].into_iter().all(is_range));
        assert!(!["4.x", "v1.2.3", "latest", "1.0.0-rc.1"].into_iter().any(is_range));
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
