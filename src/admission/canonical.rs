//! JSON in one spelling: the same value is the same text, however often the API server re-encoded it.
//!
//! The API server decodes numbers to int64, else float64, and encodes an integral float without a point: `1.0` comes
//! back as `1`, and `-0` as `0`. Object keys come back sorted. Both are undone here before values are compared or signed.

use serde_json::{Number, Value};

/// 2^63: from here on an integral float has no int64.
const INT64_END: f64 = 9_223_372_036_854_775_808.0;

/// The one spelling of `value`: sorted keys, no space, numbers as the API server keeps them.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => write_number(number, text),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
            text.push('{');
            for (index, (key, field)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write(field, text);
            }
            text.push('}');
        }
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

fn write_number(number: &Number, text: &mut String) {
    use std::fmt::Write as _;
    let _ = match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => write!(text, "{integer}"),
        (None, Some(float)) if float.fract() == 0.0 && (-INT64_END..INT64_END).contains(&float) => {
            write!(text, "{}", float as i64)
        }
        (None, Some(float)) => write!(text, "{float:e}"),
        (None, None) => write!(text, "{number}"),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> String {
        canonical(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn keys_are_sorted_and_space_is_dropped() {
        assert_eq!(
            of(r#"{ "b": [1, true, null], "a": {"d": "x\"y", "c": {}} }"#),
            r#"{"a":{"c":{},"d":"x\"y"},"b":[1,true,null]}"#
        );
    }

    #[test]
    fn spellings_that_the_api_server_makes_equal_are_equal() {
        for (sent, returned) in [
            ("1.0", "1"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1e3", "1000"),
            ("1e19", "10000000000000000000"),
            ("9223372036854775808", "9223372036854775808.0"),
            ("1e21", "1e+21"),
            ("0.1", "1e-1"),
            ("-9223372036854775808.0", "-9223372036854775808"),
        ] {
            assert_eq!(of(sent), of(returned), "{sent} and {returned}");
        }
    }

    #[test]
    fn values_that_differ_stay_different() {
        for (one, other) in [
            ("1", "\"1\""),
            ("1", "true"),
            ("1.5", "1"),
            ("null", "{}"),
            ("[]", "{}"),
            ("0", "false"),
            ("9007199254740993", "9007199254740992"),
        ] {
            assert_ne!(of(one), of(other), "{one} and {other}");
        }
        assert_ne!(canonical(&json!({"a": 1})), canonical(&json!({"b": 1})));
    }

    proptest! {
        #[test]
        fn a_float_survives_being_written_and_read(float in proptest::num::f64::NORMAL) {
            let value = json!(float);
            let again: Value = serde_json::from_str(&value.to_string()).unwrap();
            prop_assert_eq!(canonical(&value), canonical(&again));
            let once: Value = serde_json::from_str(&canonical(&value)).unwrap();
            prop_assert_eq!(canonical(&value), canonical(&once));
        }
    }
}
