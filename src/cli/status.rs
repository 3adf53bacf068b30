//! A run's status as text for a terminal. Pure.

use serde_json::{Map, Value};

use crate::action::printable;
use crate::api::ActionRunStatus;

/// Most characters of a table's cell.
const CELL: usize = 60;

/// The status, one field per line, then the result: JSON, or what a script asks to print by `printmessage`.
/// `is_secret`: a part of the answer is not in the status.
pub(super) fn text(status: &ActionRunStatus, is_secret: bool) -> String {
    let exit_code = status.exit_code.map(|code| code.to_string());
    let phase = status.phase.map(|phase| format!("{phase:?}"));
    let console = status.console.as_ref().map(|console| console.protocol.clone());
    let withheld = is_secret.then(|| "goes to a Secret in the run's namespace, not to its status".to_owned());
    let fields = [
        ("phase", phase),
        ("reason", status.reason.clone()),
        ("message", status.message.clone()),
        ("exit code", exit_code),
        ("power", status.power.clone()),
        ("console", console),
        ("secret", withheld),
    ];
    let line = |(name, value): (&str, Option<String>)| Some(format!("{:11}{}\n", format!("{name}:"), value?));
    let mut text: String = fields.into_iter().filter_map(line).collect();
    if let Some(result) = &status.result {
        let shown = printed(result).unwrap_or_else(|| format!("{result:#}\n"));
        text.push_str("result:\n");
        text.extend(printable(&shown).lines().map(|line| format!("  {line}\n")));
    }
    text
}

/// What a result with a true `printmessage` has in `message`: text as it is, scalars one per line, rows as a table.
fn printed(result: &Value) -> Option<String> {
    let asks = match result.get("printmessage")? {
        Value::Bool(asks) => *asks,
        Value::String(word) => word.eq_ignore_ascii_case("true"),
        _ => false,
    };
    let line = |value: &Value| match value {
        Value::String(text) => Some(format!("{text}\n")),
        Value::Number(_) | Value::Bool(_) => Some(format!("{value}\n")),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    match result.get("message").filter(|_| asks)? {
        Value::Object(row) => table(&[row]),
        Value::Array(rows) if rows.is_empty() => None,
        Value::Array(rows) => {
            let lines = rows.iter().map(line).collect::<Option<String>>();
            lines.or_else(|| table(&rows.iter().map(Value::as_object).collect::<Option<Vec<_>>>()?))
        }
        scalar => line(scalar),
    }
}

/// Rows as CloudStack shows them: the columns are the keys of the first.
fn table(rows: &[&Map<String, Value>]) -> Option<String> {
    let columns: Vec<&String> = rows.first()?.keys().collect();
    let head = columns.iter().map(|name| cell(name)).collect();
    let body =
        rows.iter().map(|row| columns.iter().map(|name| row.get(*name).map_or_else(String::new, shown)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let print = |line: &Vec<String>| {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    Some(lines.iter().map(print).collect())
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => cell(text),
        other => cell(&other.to_string()),
    }
}

/// One line without control characters.
fn cell(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut cell: String = plain.take(CELL).collect();
    if text.chars().nth(CELL).is_some() {
        cell.push('…');
    }
    cell
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Phase;

    fn shown_as(result: Value) -> String {
        text(&ActionRunStatus { result: Some(result), ..ActionRunStatus::default() }, false)
    }

    #[test]
    fn fields_that_are_set_stand_one_per_line() {
        let status = ActionRunStatus {
            phase: Some(Phase::Failed),
            reason: Some("Timeout".into()),
            message: Some("too slow".into()),
            power: Some("PowerOn".into()),
            ..ActionRunStatus::default()
        };
        assert_eq!(
            text(&status, true),
            "phase:     Failed\nreason:    Timeout\nmessage:   too slow\npower:     PowerOn\n\
             secret:    goes to a Secret in the run's namespace, not to its status\n"
        );
    }

    #[test]
    fn nothing_in_a_result_steers_the_terminal() {
        let shown = shown_as(json!({"a": "\u{1b}[31m \u{9b}31m"}));
        assert_eq!(shown, "result:\n  {\n    \"a\": \"\\u001b[31m \u{fffd}31m\"\n  }\n");
    }

    #[test]
    fn a_result_is_indented_json() {
        assert_eq!(shown_as(json!({"a": [1]})), "result:\n  {\n    \"a\": [\n      1\n    ]\n  }\n");
    }

    #[test]
    fn rows_that_are_to_be_printed_become_a_table_with_the_columns_of_the_first() {
        let rows = json!([{"name": "fan", "rpm": 1200}, {"rpm": null, "name": "a\nb", "x": 1}, {}]);
        let expected = "result:\n  name  rpm\n  fan   1200\n  a b   null\n  \n";
        assert_eq!(shown_as(json!({"printmessage": "True", "message": rows})), expected);
        assert_eq!(shown_as(json!({"printmessage": true, "message": {"k": "v"}})), "result:\n  k\n  v\n");
    }

    #[test]
    fn a_text_that_is_to_be_printed_is_shown_as_text_and_scalars_one_per_line() {
        let shown = |message: Value| shown_as(json!({"printmessage": "true", "message": message}));
        assert_eq!(shown(json!("two\nlines")), "result:\n  two\n  lines\n");
        assert_eq!(shown(json!(5)), "result:\n  5\n");
        assert_eq!(shown(json!(["a", 1, true])), "result:\n  a\n  1\n  true\n");
    }

    #[test]
    fn what_is_neither_text_nor_a_table_stays_json() {
        for result in [
            json!({"printmessage": "false", "message": [{"a": 1}]}),
            json!({"printmessage": "true", "message": [1, {"a": 1}]}),
            json!({"printmessage": "true", "message": [[1]]}),
            json!({"printmessage": "true", "message": []}),
            json!({"printmessage": "true", "message": null}),
        ] {
            assert!(shown_as(result.clone()).starts_with("result:\n  {\n"), "{result}");
        }
    }
}
