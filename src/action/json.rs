//! The JSON in a script's output, also where other lines surround it. Pure: no client, clock, disk or network.

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::{Deserializer, Value};

/// How often what begins like JSON and is none may be read before the search is cut short, as a multiple of the output.
const READINGS: usize = 4;

/// The output as JSON: the whole of it; else its last object or list that begins at a line's start, with nothing behind it on
/// its last line, and that is not inside another one.
///
/// The time is bounded by the output's length. Where much in it begins like JSON and is none, what was not looked at by
/// then is only searched for a line that is an object or a list of its own, the last of them.
pub(super) fn find(output: &str) -> Option<Value> {
    let output = output.trim().trim_start_matches('\u{feff}');
    if let Ok(value) = serde_json::from_str(output) {
        return Some(value);
    }
    let (found, rest) = scan(output);
    let whole = || found.and_then(|range| serde_json::from_str(&output[range]).ok());
    rest.lines().rev().find_map(of_its_own).or_else(whole)
}

/// A line that is an object or a list.
fn of_its_own(line: &str) -> Option<Value> {
    let line = line.trim();
    let is_closed = line.starts_with('{') && line.ends_with('}') || line.starts_with('[') && line.ends_with(']');
    is_closed.then(|| serde_json::from_str(line).ok()).flatten()
}

/// Where the last object or list is, and what there was no more time to look at. What is too deep for a [`Value`] is passed
/// over as a whole, so that nothing inside of it is taken for the answer.
fn scan(output: &str) -> (Option<Range<usize>>, &str) {
    let (mut found, mut at, mut readings) = (None, 0, output.len().saturating_mul(READINGS));
    while at < output.len() {
        let end = line_end(output, at);
        let line = output[at..end].trim_start();
        let start = end - line.len();
        at = end;
        if !line.starts_with(['{', '[']) {
            continue;
        }
        let mut values = Deserializer::from_str(&output[start..]).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let behind = start + values.byte_offset();
                at = line_end(output, behind);
                if output[behind..at].trim().is_empty() {
                    found = Some(start..behind);
                }
            }
            Some(Err(error)) => match readings.checked_sub(bytes_before(&output[start..], &error)) {
                Some(left) => readings = left,
                None => break,
            },
            None => {}
        }
    }
    (found, &output[at..])
}

/// Where the line ends in which `at` is, its line break included.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length + 1)
}

/// How much of `text` was read until `error`.
fn bytes_before(text: &str, error: &serde_json::Error) -> usize {
    text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>() + error.column()
}

/// The text by which an answer explains a failure: `error`, `message`, or the same beneath `result`.
pub(super) fn explanation(value: &Value) -> Option<String> {
    let of = |value: &Value| {
        ["error", "message"].iter().find_map(|key| {
            let text = match value.get(key)? {
                Value::String(text) => text.trim().to_owned(),
                Value::Object(map) => map.get("message")?.as_str()?.trim().to_owned(),
                _ => return None,
            };
            (!text.is_empty()).then_some(text)
        })
    };
    of(value).or_else(|| of(value.get("result")?))
}

/// The `error` of a `getconsole` that answers with nothing else.
pub(super) fn refusal(value: &Value) -> Option<String> {
    let error = value.get("error").filter(|_| value.get("console").is_none())?;
    error.as_str().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Whether an answer says that it failed: `success` false or `status` error, as booleans or words in any case.
pub(super) fn says_failed(value: &Value) -> bool {
    let success = value.get("success").is_some_and(|success| match success {
        Value::Bool(success) => !success,
        Value::String(word) => word.trim().eq_ignore_ascii_case("false"),
        _ => false,
    });
    let status = value.get("status").and_then(Value::as_str).map(|word| word.trim().to_ascii_lowercase());
    success || matches!(status.as_deref(), Some("error" | "failed" | "failure" | "fail"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_whole_whatever_is_printed_around_it() {
        let rows = |row: &str| format!("[\n{}\n]", vec![row; 20].join(",\n"));
        let pretty = |value: &Value| format!("{value:#}");
        let answer = json!({"status": "error", "disks": [{"id": 1}, {"id": 2}], "none": [[], {}]});
        for (output, expected) in [
            (
                format!("{}\ndone", "{\n \"status\":\"error\",\n \"disks\":[\n {\"id\":1},\n {\"id\":2}\n ]\n}"),
                json!({"status": "error", "disks": [{"id": 1}, {"id": 2}]}),
            ),
            ("[\n{\"a\":1},\n{\"a\":2}\n]\ndone".to_owned(), json!([{"a": 1}, {"a": 2}])),
            (format!("log line\n{}", rows("{\"a\":1}")), json!(vec![json!({"a": 1}); 20])),
            (format!("log line\n{}\ndone\n", rows("[1]")), json!(vec![json!([1]); 20])),
            (format!("{}\ndone", pretty(&answer)), answer.clone()),
            (format!("[INFO] begins\n{{a}} b\n{}\r\n[INFO] ends: {{}}", pretty(&answer)), answer.clone()),
            (format!("{}\n{{\"last\": 1}}\ndone", pretty(&answer)), json!({"last": 1})),
            (format!("{{\"first\": 1}}\n  {}  \ndone", pretty(&answer)), answer.clone()),
            // Broken off, so that only what is inside of it is whole.
            ("{\"disks\": [\n{\"id\": 1},\n{\"id\": 2}\nKilled".to_owned(), json!({"id": 2})),
        ] {
            assert_eq!(find(&output), Some(expected), "{output}");
        }
        for output in
            ["{\"a\": 1} b\n", "[\n{\"a\":1}\n] b", "[1] [2]\nx", "{\"a\": 1}{\"b\": 1}", "x {\n}", "\"a\"\nb"]
        {
            assert_eq!(find(output), None, "{output}");
        }
    }

    #[test]
    fn nothing_inside_of_what_is_too_deep_is_taken_for_the_answer() {
        let deep = |depth: usize| format!("{}{}", "[\n".repeat(depth), "]\n".repeat(depth));
        assert!(find(&format!("{}done", deep(127))).is_some());
        assert_eq!(find(&deep(128)), None);
        assert_eq!(find(&format!("{}done", deep(10_000))), None);
    }

    #[test]
    fn much_that_begins_like_json_takes_no_long_time_and_hides_no_line_at_the_end() {
        let nested = format!("[{}", "[],".repeat(1000));
        for line in
            ["[", "{", "[1", "{\"a\":", "[[[[[[[[", "[]x]", "{}", "[]", "[\"", "[\n1,1,1,1,1,1,1,1,1,1", &nested]
        {
            let begun = Instant::now();
            let noise = format!("{line}\n").repeat((256 << 10) / (line.len() + 1));
            assert_eq!(find(&format!("{noise}x\n{{\"a\": 1}}\ndone")), Some(json!({"a": 1})), "{line}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{line:.20} {:?}", begun.elapsed());
        }
    }
}
