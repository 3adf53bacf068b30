//! An action's messages, with `{{actionName}}`, `{{extensionName}}` and `{{resourceName}}` filled in. Pure: no client,
//! clock, disk or network.

/// What the tokens stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    /// `{{actionName}}`.
    pub action: &'a str,
    /// `{{extensionName}}`.
    pub extension: &'a str,
    /// `{{resourceName}}`.
    pub resource: &'a str,
}

/// Fills in the tokens in one pass: exact case, no spaces, unknown tokens stay, and a value is never expanded again.
pub fn render(template: &str, names: &Names<'_>) -> String {
    let tokens = [
        ("{{actionName}}", names.action),
        ("{{extensionName}}", names.extension),
        ("{{resourceName}}", names.resource),
    ];
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        match tokens.iter().find(|(token, _)| rest.starts_with(token)) {
            Some((token, value)) => {
                text.push_str(value);
                rest = &rest[token.len()..];
            }
            None => {
                text.push('{');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    text
}

/// The message of a run that succeeded; a blank template means `Successfully completed <name>`.
pub fn success(template: Option<&str>, names: &Names<'_>) -> String {
    message(template, "Successfully completed", names)
}

/// The message of a run that failed; a blank template means `Failed to complete <name>`.
pub fn failure(template: Option<&str>, names: &Names<'_>) -> String {
    message(template, "Failed to complete", names)
}

fn message(template: Option<&str>, default: &str, names: &Names<'_>) -> String {
    match template.filter(|template| !template.trim().is_empty()) {
        Some(template) => render(template, names),
        None => format!("{default} {}", names.action),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'static> =
        Names { action: "Backup", extension: "{{resourceName}}", resource: "vm {{actionName}}" };

    #[test]
    fn tokens_are_filled_in_once() {
        let text = render("{{actionName}} of {{resourceName}} with {{extensionName}}", &NAMES);
        assert_eq!(text, "Backup of vm {{actionName}} with {{resourceName}}");
    }

    #[test]
    fn unknown_and_misspelled_tokens_stay() {
        for text in ["{{ actionName }}", "{{ActionName}}", "{{x}}", "{{", "{{{", "}}"] {
            assert_eq!(render(text, &NAMES), text);
        }
        assert_eq!(render("{{{actionName}}}", &NAMES), "{Backup}");
    }

    #[test]
    fn a_blank_template_means_the_default() {
        assert_eq!(success(None, &NAMES), "Successfully completed Backup");
        assert_eq!(failure(Some("  "), &NAMES), "Failed to complete Backup");
        assert_eq!(failure(Some("no {{actionName}}"), &NAMES), "no Backup");
    }
}
