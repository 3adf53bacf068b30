//! What each kind of parameter accepts.

use serde_json::json;

use super::*;

fn accepts(kind: ParameterKind, texts: &[&str]) {
    for text in texts {
        assert!(kind.read(text).is_some(), "{kind:?} must accept {text:?}");
    }
}

fn refuses(kind: ParameterKind, texts: &[&str]) {
    for text in texts {
        assert_eq!(kind.read(text), None, "{kind:?} must refuse {text:?}");
    }
}

#[test]
fn types_and_formats_are_read_in_any_case_and_must_fit() {
    assert_eq!(ParameterKind::parse("string", Some("uuid")), Ok(ParameterKind::Uuid));
    assert_eq!(ParameterKind::parse("Number", None), Ok(ParameterKind::Integer));
    assert_eq!(ParameterKind::parse("NUMBER", Some("")), Ok(ParameterKind::Integer));
    let texts = [
        (
            ("NUMBER", Some("EMAIL")),
            "validationformat",
            "\"EMAIL\" does not fit type NUMBER; allowed are NONE, DECIMAL",
        ),
        (("DATE", Some("UUID")), "validationformat", "\"UUID\" does not fit type DATE; allowed are NONE"),
        (
            ("STRING", Some("DECIMAL")),
            "validationformat",
            "\"DECIMAL\" does not fit type STRING; allowed are NONE, EMAIL, PASSWORD, URL, UUID",
        ),
        (("INT", None), "type", "\"INT\" is unknown; allowed are STRING, NUMBER, BOOLEAN, DATE"),
    ];
    for ((type_, format), field, message) in texts {
        assert_eq!(ParameterKind::parse(type_, format), Err((field, message.into())));
    }
}

#[test]
fn whole_numbers_are_those_of_java() {
    accepts(ParameterKind::Integer, &["0", "+5", "-2147483648", "2147483647", "007"]);
    refuses(ParameterKind::Integer, &["", " 5", "5 ", "1e3", "5.0", "2147483648", "0x10", "--1"]);
    assert_eq!(ParameterKind::Integer.read("+5").map(|v| v.to_json()), Some(json!(5)));
}

#[test]
fn decimals_are_those_of_java_without_nan_and_infinity() {
    accepts(ParameterKind::Decimal, &["1", "1.5", "-1.5e-3", " 2.5 ", "1.5f", "3D", ".5", "5."]);
    refuses(ParameterKind::Decimal, &["", "NaN", "Infinity", "-inf", "1,5", "1e99", "f", "0x1p3"]);
    assert_eq!(ParameterKind::Decimal.read("0.1").map(|v| v.to_json()), Some(json!(0.1)));
}

#[test]
fn booleans_are_lower_case_words() {
    accepts(ParameterKind::Boolean, &["true", "false"]);
    refuses(ParameterKind::Boolean, &["True", "FALSE", "yes", "1", ""]);
}

#[test]
fn text_formats_are_those_of_cloudstack() {
    accepts(ParameterKind::Email, &["a@b", "first.last+tag@example.com"]);
    refuses(ParameterKind::Email, &["", "a@", "@b", "a@b@c", "a b@c", "a@b_c", "a@b\n"]);
    accepts(ParameterKind::Url, &["https://example.com/x?y", "HTTP://EXAMPLE.com", "mailto:a@b", "file:///etc/x"]);
    refuses(ParameterKind::Url, &["", "example.com", "gopher://x", "javascript:1", "https://", "//x"]);
    accepts(
        ParameterKind::Uuid,
        &["123e4567-e89b-12d3-a456-426614174000", "1-1-1-1-1", "123E4567-E89B-12D3-A456-426614174000"],
    );
    refuses(ParameterKind::Uuid, &["", "1-1-1-1", "123e4567e89b12d3a456426614174000", "g-1-1-1-1", "1-1-1-1-1-1"]);
    accepts(ParameterKind::Password, &["x", " x "]);
    refuses(ParameterKind::Password, &["", "  ", "\t"]);
}

#[test]
fn dates_name_an_offset_and_become_utc() {
    let dates = [
        ("2026-11-23T12:00:00Z", "2026-11-23T12:00:00Z"),
        ("2026-11-23T13:00:00+01:00", "2026-11-23T12:00:00Z"),
        ("2026-11-23T13:00:00+0100", "2026-11-23T12:00:00Z"),
        ("2026-11-23T13:00+01:00", "2026-11-23T12:00:00Z"),
        ("2026-11-23T12:00:00.123456Z", "2026-11-23T12:00:00.123456Z"),
        ("2026-11-23T13:00:00.123456+01", "2026-11-23T12:00:00.123456Z"),
        ("2026-11-23T10:00:00Z+0000", "2026-11-23T10:00:00Z"),
    ];
    for (text, utc) in dates {
        assert_eq!(ParameterKind::Date.read(text), Some(Typed::Date(utc.into())), "{text}");
    }
    refuses(
        ParameterKind::Date,
        &[
            "",
            "2026-11-23",
            "2026-11-23T12:00:00",
            "2026-11-23 12:00:00Z",
            "23.11.2026",
            "2026-02-30T00:00:00Z",
            "2026-11-23T12:00:00Z[Europe/Berlin]",
            "2026-11-23t12:00:00z",
        ],
    );
}
