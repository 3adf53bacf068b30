//! Starts logging to standard error, as text for people or JSON for collectors.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter is none.
    #[error("log filter {filter:?} cannot be read: {reason}; write for example \"info,kube=warn\"")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logging had been started before.
    #[error("logging is already started in this process")]
    Started,
    /// The format is none.
    #[error("log format {0:?} is not known: expected \"text\" or \"json\"")]
    Format(String),
}

impl FromStr for LogFormat {
    type Err = LogsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(LogsError::Format(other.to_owned())),
        }
    }
}

/// Sends the process's events that pass `filter` (directives as in `RUST_LOG`) to standard error.
///
/// # Errors
/// [`LogsError::Filter`] and [`LogsError::Started`].
pub fn logs(format: LogFormat, filter: &str) -> Result<(), LogsError> {
    let filter = parse_filter(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogsError::Started)
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogsError> {
    EnvFilter::try_new(filter)
        .map_err(|error| LogsError::Filter { filter: filter.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_or_filter_that_is_none_is_refused_with_what_is_expected() {
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
        assert_eq!(
            "xml".parse::<LogFormat>().unwrap_err().to_string(),
            "log format \"xml\" is not known: expected \"text\" or \"json\""
        );
        let error = parse_filter("outrigger=loud").unwrap_err().to_string();
        assert!(error.starts_with("log filter \"outrigger=loud\" cannot be read: "), "{error}");
        assert!(parse_filter("info,kube=warn").is_ok());
    }
}
