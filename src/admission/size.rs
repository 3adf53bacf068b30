//! How large a review may be, told before it is parsed: a byte of JSON can become a hundred in memory. Pure.

/// What a review may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Bytes of the whole review.
    pub bytes: usize,
    /// Values of JSON in it, those inside others included.
    pub values: usize,
}

/// A run: twice (as it is and as it was) a spec of 96 KiB, annotations of 256 KiB and a status, and who asks.
pub const RUN: Bound = Bound { bytes: 2 << 20, values: 16 << 10 };
/// Anything else: twice the largest object that the API server stores, and who asks.
pub const OBJECT: Bound = Bound { bytes: 4 << 20, values: 64 << 10 };

/// The bound for what is asked about a resource, given by its plural name.
pub fn bound_of(resource: &str) -> Bound {
    if resource == "actionruns" { RUN } else { OBJECT }
}

/// Checks the JSON in `body`.
///
/// # Errors
/// What is too large, for the user who asked.
pub fn check(body: &[u8], bound: Bound) -> Result<(), String> {
    let bytes = body.len();
    if bytes > bound.bytes {
        return Err(format!(
            "the object is too large to be admitted: its admission review has {bytes} bytes, at most {} are allowed; \
             leave out what is large, annotations too",
            bound.bytes
        ));
    }
    let values = values(body);
    if values > bound.values {
        return Err(format!(
            "the object is too large to be admitted: its admission review has {values} JSON values, at most {} are \
             allowed; leave out lists and objects that are large",
            bound.values
        ));
    }
    Ok(())
}

/// How many values `body` has at most: each but the first follows a comma, or opens a list or an object.
fn values(body: &[u8]) -> usize {
    let (mut values, mut is_string, mut is_escaped) = (1, false, false);
    for byte in body {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b',' | b'[' | b'{' if !is_string => values += 1,
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(values) => values.iter().map(count).sum(),
            Value::Object(fields) => fields.values().map(count).sum(),
            _ => 0,
        }
    }

    #[test]
    fn too_many_bytes_or_values_are_told() {
        let bound = Bound { bytes: 30, values: 4 };
        assert_eq!(check(br#"{"a": [0, ",[{\",["]}"#, bound), Ok(()));
        assert_eq!(
            check(br#"{"a": [0, 0, 0]}"#, bound).unwrap_err(),
            "the object is too large to be admitted: its admission review has 5 JSON values, at most 4 are allowed; \
             leave out lists and objects that are large"
        );
        assert_eq!(
            check(&[b' '; 31], bound).unwrap_err(),
            "the object is too large to be admitted: its admission review has 31 bytes, at most 30 are allowed; leave \
             out what is large, annotations too"
        );
    }

    proptest! {
        #[test]
        fn no_value_is_missed(text in r#"[\[\]{}",:0 \\a]{0,40}"#, key in ".{0,9}") {
            let nested = serde_json::json!({key: [text.clone(), {"a": [], "b": {}}, [[0]]]});
            for json in [text, nested.to_string()] {
                if let Ok(value) = serde_json::from_str::<Value>(&json) {
                    prop_assert!(values(json.as_bytes()) >= count(&value), "{}", json);
                }
            }
        }
    }
}
