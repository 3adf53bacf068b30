//! Parameters of actions: their kinds, and what each accepts. Pure: no client, clock, disk or network.
//!
//! What is accepted is what CloudStack accepts for the same definition; the messages are ours. A value arrives as text
//! and leaves as the type that the script finds in its payload.

use serde_json::{Number, Value};

/// A validated parameter definition.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterDefinition {
    /// Its name.
    pub name: String,
    /// Type and format.
    pub kind: ParameterKind,
    /// Whether a run must give it.
    pub required: bool,
    /// The only values that are allowed; empty for any.
    pub options: Vec<Typed>,
}

/// Type and format of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// STRING.
    Text,
    /// STRING, EMAIL.
    Email,
    /// STRING, PASSWORD: never printed.
    Password,
    /// STRING, URL.
    Url,
    /// STRING, UUID.
    Uuid,
    /// NUMBER: 32 bits, signed.
    Integer,
    /// NUMBER, DECIMAL: 32 bits.
    Decimal,
    /// BOOLEAN.
    Boolean,
    /// DATE.
    Date,
}

/// A value with the type that the payload carries.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    /// Text of any format.
    Text(String),
    /// NUMBER.
    Integer(i32),
    /// NUMBER, DECIMAL; finite.
    Decimal(f32),
    /// BOOLEAN.
    Boolean(bool),
    /// DATE: RFC 3339 in UTC, whatever offset it was given with (`2026-11-23T12:00:00Z`). CloudStack's own form depends
    /// on the locale of the management server, so no script can rely on it.
    Date(String),
}

impl Typed {
    /// The JSON for the payload. A decimal keeps its shortest digits: 0.1 stays `0.1`.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Text(text) | Self::Date(text) => Value::String(text.clone()),
            Self::Integer(number) => Value::from(*number),
            Self::Boolean(boolean) => Value::Bool(*boolean),
            Self::Decimal(number) => {
                let shortest = number.to_string().parse().unwrap_or_else(|_| f64::from(*number));
                Number::from_f64(shortest).map_or(Value::Null, Value::Number)
            }
        }
    }

    /// As a user would write it.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) | Self::Date(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Decimal(number) => number.to_string(),
            Self::Boolean(boolean) => boolean.to_string(),
        }
    }
}

impl ParameterKind {
    /// Reads `type` and `validationformat`, in any case. The error names the field of the two that is wrong, and says what it
    /// allows.
    pub fn parse(type_: &str, format: Option<&str>) -> Result<Self, (&'static str, String)> {
        let (type_, format) = (type_.trim().to_ascii_uppercase(), format.unwrap_or("NONE").trim().to_ascii_uppercase());
        let format = if format.is_empty() { "NONE" } else { format.as_str() };
        let kind = match (type_.as_str(), format) {
            ("STRING", "NONE") => Self::Text,
            ("STRING", "EMAIL") => Self::Email,
            ("STRING", "PASSWORD") => Self::Password,
            ("STRING", "URL") => Self::Url,
            ("STRING", "UUID") => Self::Uuid,
            ("NUMBER", "NONE") => Self::Integer,
            ("NUMBER", "DECIMAL") => Self::Decimal,
            ("BOOLEAN", "NONE") => Self::Boolean,
            ("DATE", "NONE") => Self::Date,
            ("STRING", other) => return Err(wrong_format("STRING", other, "NONE, EMAIL, PASSWORD, URL, UUID")),
            ("NUMBER", other) => return Err(wrong_format("NUMBER", other, "NONE, DECIMAL")),
            ("BOOLEAN" | "DATE", other) => return Err(wrong_format(&type_, other, "NONE")),
            (other, _) => {
                let message = format!("{} is unknown; allowed are STRING, NUMBER, BOOLEAN, DATE", super::quoted(other));
                return Err(("type", message));
            }
        };
        Ok(kind)
    }

    /// What a value must be, for error messages.
    pub fn expects(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Email => "an e-mail address such as name@example.com",
            Self::Password => "text that is not blank",
            Self::Url => "a URL such as https://example.com/path (http, https, ftp, file, jar or mailto)",
            Self::Uuid => "a UUID such as 123e4567-e89b-12d3-a456-426614174000",
            Self::Integer => "a whole number from -2147483648 to 2147483647",
            Self::Decimal => "a number such as 1.5 or 2e3",
            Self::Boolean => "true or false",
            Self::Date => "a date with time and offset such as 2026-11-23T12:00:00Z or 2026-11-23T13:00:00+01:00",
        }
    }

    /// Whether options can be listed for it.
    pub fn takes_options(self) -> bool {
        !matches!(self, Self::Boolean | Self::Date)
    }

    /// Reads a value. `None`: it is not what [`expects`](Self::expects) says.
    pub fn read(self, text: &str) -> Option<Typed> {
        let fits = match self {
            Self::Integer => return text.parse().ok().map(Typed::Integer),
            Self::Decimal => return decimal(text).map(Typed::Decimal),
            Self::Date => return date(text).map(Typed::Date),
            Self::Boolean => return text.parse().ok().map(Typed::Boolean),
            Self::Text => true,
            Self::Password => !text.trim().is_empty(),
            Self::Email => is_email(text),
            Self::Url => is_url(text),
            Self::Uuid => is_uuid(text),
        };
        fits.then(|| Typed::Text(text.to_owned()))
    }
}

fn wrong_format(type_: &str, format: &str, allowed: &str) -> (&'static str, String) {
    let message = format!("{} does not fit type {type_}; allowed are {allowed}", super::quoted(format));
    ("validationformat", message)
}

/// As Java's `Float.parseFloat`: surrounding spaces, exponents, a suffix `f` or `d`. `NaN` and infinities, which JSON
/// cannot carry, are refused.
fn decimal(text: &str) -> Option<f32> {
    let text = text.trim();
    let digits = text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text);
    let plausible = digits.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    digits.parse().ok().filter(|number: &f32| plausible && number.is_finite())
}

/// `^[A-Za-z0-9+_.-]+@[A-Za-z0-9.-]+$`, as in CloudStack.
fn is_email(text: &str) -> bool {
    let all = |part: &str, more: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    text.split_once('@').is_some_and(|(name, host)| all(name, "+_.-") && all(host, ".-"))
}

/// A scheme that `java.net.URL` knows, and what the URL standard reads.
fn is_url(text: &str) -> bool {
    const SCHEMES: &[&str] = &["http", "https", "ftp", "file", "jar", "mailto"];
    url::Url::parse(text).is_ok_and(|url| SCHEMES.contains(&url.scheme()))
}

/// As Java's `UUID.fromString`: five groups of hexadecimal digits, each possibly shorter than usual.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let longest = [8, 4, 4, 4, 12];
    let fits = |(group, longest): (&&str, usize)| {
        (1..=longest).contains(&group.len()) && group.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    groups.len() == longest.len() && groups.iter().zip(longest).all(fits)
}

/// The forms that CloudStack tries: ISO with an offset, `+0000`, six-digit fractions, and the legacy `Z+0000`.
/// All of them name an offset; the answer is RFC 3339 in UTC.
fn date(text: &str) -> Option<String> {
    let shape = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | ':' | '.' | 'T' | 'Z');
    if !text.chars().all(shape) || text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let legacy = text.find("Z+").or_else(|| text.find("Z-"));
    let plain = match legacy {
        Some(at) => format!("{}{}", &text[..at], &text[at + 1..]),
        None => text.to_owned(),
    };
    plain.parse::<jiff::Timestamp>().ok().map(|timestamp| timestamp.to_string())
}

#[cfg(test)]
#[path = "parameter_tests.rs"]
mod tests;
