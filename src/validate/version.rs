//! Versions: the extension's own, and the contract level that it needs. Pure: no client, clock, disk or network.

use super::problem::quoted;

/// The contract levels that the operator serves, per type of extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractLevels {
    /// For the type Orchestrator.
    pub orchestrator: String,
}

impl Default for ContractLevels {
    fn default() -> Self {
        Self { orchestrator: "4.23.0".into() }
    }
}

/// A contract level, as the operator may be told to serve it.
///
/// # Errors
/// For people: it is no version.
pub fn contract_level(text: &str) -> Result<String, String> {
    match contract(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("{text:?} is no version of a contract; allowed are one to four numbers, such as 4.23.0")),
    }
}

/// Reads the extension's own version: semantic, also with a leading `v` and without minor or patch number.
pub(super) fn own(text: &str) -> Result<semver::Version, String> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let end = plain.find(['-', '+']).unwrap_or(plain.len());
    let (numbers, suffix) = plain.split_at(end);
    let padded = match numbers.split('.').count() {
        1 => format!("{numbers}.0.0{suffix}"),
        2 => format!("{numbers}.0{suffix}"),
        _ => plain.to_owned(),
    };
    semver::Version::parse(&padded).map_err(|_| {
        format!("{} is no semantic version; allowed is one such as \"1.2.3\" or \"1.2.3-rc.1\"", quoted(text))
    })
}

/// Reads a CloudStack version: one to four numbers, separated by dots, with a suffix such as `-SNAPSHOT` that does not
/// count. Missing numbers are 0.
pub(super) fn contract(text: &str) -> Option<[u32; 4]> {
    let plain = text.strip_prefix('v').unwrap_or(text);
    let numbers = plain.split('-').next().unwrap_or(plain);
    let mut version = [0; 4];
    for (index, part) in numbers.split('.').enumerate() {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *version.get_mut(index)? = part.parse().ok()?;
    }
    Some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_prefixed_versions_are_read_as_semantic_ones() {
        for (text, version) in [("1.2.3", "1.2.3"), ("v1", "1.0.0"), ("0.1", "0.1.0"), ("1.0-rc.1", "1.0.0-rc.1")] {
            assert_eq!(own(text).unwrap().to_string(), version);
        }
        let error = own("latest").unwrap_err();
        assert_eq!(error, "\"latest\" is no semantic version; allowed is one such as \"1.2.3\" or \"1.2.3-rc.1\"");
    }

    #[test]
    fn a_contract_level_that_is_no_version_is_refused() {
        assert_eq!(contract_level("4.23"), Ok("4.23".to_owned()));
        assert_eq!(
            contract_level("latest").unwrap_err(),
            "\"latest\" is no version of a contract; allowed are one to four numbers, such as 4.23.0"
        );
    }

    #[test]
    fn contract_levels_compare_by_number() {
        assert_eq!(contract("4.23"), contract("4.23.0.0"));
        assert_eq!(contract("4.23.0-SNAPSHOT"), contract("4.23.0"));
        assert!(contract("4.9.0") < contract("4.23"));
        assert!(contract("4.23.0.1") > contract("4.23.0"));
        for text in ["", "4.", "four", "4.23.0.0.1", "4.-1", "99999999999", ">=4.23"] {
            assert_eq!(contract(text), None, "{text}");
        }
    }
}
