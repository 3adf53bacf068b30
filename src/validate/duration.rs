//! Durations as Go writes them: `10m`, `1h30m`, `1.5s`. Pure: no client, clock, disk or network.

use std::time::Duration;

use super::problem::quoted;

/// Shortest interval at which a source is checked again.
const SHORTEST: Duration = Duration::from_secs(10);
/// Longest interval: 30 days.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// The interval where nothing is said.
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(600);

/// Reads `spec.interval`. The error says what is allowed.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let allowed = "allowed is a duration such as \"10m\" or \"1h30m\", from 10s to 720h";
    let shown = quoted(text);
    let duration = go_duration(text).ok_or_else(|| format!("{shown} is no duration; {allowed}"))?;
    match duration {
        short if short < SHORTEST => Err(format!("{shown} is too short; {allowed}")),
        long if long > LONGEST => Err(format!("{shown} is too long; {allowed}")),
        fits => Ok(fits),
    }
}

/// How often a source is checked: `spec.interval` if it can be read, else the default.
pub fn interval_or_default(text: Option<&str>) -> Duration {
    text.and_then(|text| interval(text).ok()).unwrap_or(DEFAULT_INTERVAL)
}

/// One or more of a decimal number and a unit of `h`, `m`, `s`, `ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        if !number.starts_with(|c: char| c.is_ascii_digit()) || number.ends_with('.') || number.len() > 15 {
            return None;
        }
        let units = [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| tail.starts_with(unit))?;
        seconds += number.parse::<f64>().ok()? * factor;
        rest = &tail[unit.len()..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        for (text, seconds) in
            [("10s", 10), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("20000ms", 20), ("720h", 2592000)]
        {
            assert_eq!(interval(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_what_is_allowed() {
        for text in ["", "10", "m", "1d", "-10m", "1.m", ".5h", "10 m", "1e9s", "9s", "721h", "99999999999999999999h"] {
            let error = interval(text).unwrap_err();
            assert!(error.contains("allowed is a duration such as \"10m\""), "{text}: {error}");
        }
    }
}
