//! The JSON in a script's output, also where other lines surround it. Pure: no client, clock, disk or network.

use serde_json::Value;

/// Most lines from the end at which a trailing JSON value may begin.
const LINES: usize = 20_000;
/// Most beginnings that are tried: each costs a look at the rest of the output.
const CANDIDATES: usize = 16;

/// The output as JSON: the whole of it; else its last line that is an object or a list; else an object or a list that
/// begins at a line's start and reaches to the end.
pub(super) fn find(output: &str) -> Option<Value> {
    let output = output.trim().trim_start_matches('\u{feff}');
    if let Ok(value) = serde_json::from_str(output) {
        return Some(value);
    }
    let lines = || output.lines().rev().take(LINES);
    let structured = |text: &str| {
        let text = text.trim();
        let begins = text.starts_with(['{', '[']);
        begins.then(|| serde_json::from_str(text).ok()).flatten()
    };
    // The trailing value comes first: the last line of a pretty-printed object can be a list or an object of its own.
    let starts = output.match_indices('\n').rev().map(|(at, _)| at + 1).chain([0]).take(LINES);
    let trailing = starts.filter(|start| output[*start..].starts_with(['{', '['])).take(CANDIDATES);
    trailing.into_iter().find_map(|start| structured(&output[start..])).or_else(|| lines().find_map(structured))
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
