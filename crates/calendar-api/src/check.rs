//! What a good value of a field looks like. A check says what is wrong without repeating the value.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use secrecy::SecretString;
use serde_json::Value;
use time::OffsetDateTime;
use time::UtcOffset;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::fields::Checked;

/// Any text without NUL (which PostgreSQL cannot store).
fn text(value: Value) -> Checked<String> {
    match value {
        Value::String(text) if text.contains('\0') => Err("contains a NUL character".into()),
        Value::String(text) => Ok(text),
        _ => Err("is not a string".into()),
    }
}

/// One line of text, so many characters long, without control characters; blanks at its ends are
/// taken off.
pub(crate) fn line(length: RangeInclusive<usize>) -> impl Fn(Value) -> Checked<String> {
    move |value| {
        let text = text(value)?;
        if text.contains(char::is_control) {
            return Err("contains a control character".into());
        }
        let line = text.trim();
        // The most with its blanks, as a schema counts.
        if line.chars().count() < *length.start() || text.chars().count() > *length.end() {
            return Err(wrong_length(&length));
        }
        Ok(line.to_owned())
    }
}

fn wrong_length(length: &RangeInclusive<usize>) -> Cow<'static, str> {
    let (least, most) = (length.start(), length.end());
    format!("is not {least} to {most} characters long").into()
}

/// What `check` takes, or `null`.
pub(crate) fn nullable<T>(
    check: impl FnOnce(Value) -> Checked<T>,
) -> impl FnOnce(Value) -> Checked<Option<T>> {
    move |value| {
        if value.is_null() {
            Ok(None)
        } else {
            check(value).map(Some)
        }
    }
}

/// A password, so many characters long.
pub(crate) fn password(
    length: RangeInclusive<usize>,
) -> impl FnOnce(Value) -> Checked<SecretString> {
    move |value| {
        let text = text(value)?;
        if !length.contains(&text.chars().count()) {
            return Err(wrong_length(&length));
        }
        Ok(SecretString::from(text))
    }
}

/// An e-mail address: one `@`, something sensible on either side, at most 254 bytes. Whether it
/// exists, only a mail could tell.
pub(crate) fn email(value: Value) -> Checked<String> {
    const WRONG: &str = "is not an e-mail address";
    let text = text(value)?;
    let text = text.trim();
    let Some((local, domain)) = text.rsplit_once('@') else {
        return Err(WRONG.into());
    };
    let local_good = (1..=64).contains(&local.len())
        && !local.contains(|c: char| {
            c.is_whitespace() || c.is_control() || matches!(c, '@' | '<' | '>' | ',' | ';' | '"')
        });
    let label_good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let domain_good = domain.contains('.') && domain.split('.').all(label_good);
    if text.len() <= 254 && local_good && domain_good {
        Ok(text.to_owned())
    } else {
        Err(WRONG.into())
    }
}

/// `#rrggbb`.
pub(crate) fn color(value: Value) -> Checked<String> {
    let text = text(value)?;
    let good = text
        .strip_prefix('#')
        .is_some_and(|hex| hex.len() == 6 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if good {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("is not a colour like #1a2b3c".into())
    }
}

/// `true` or `false` of JSON.
#[expect(clippy::needless_pass_by_value, reason = "every check has this form")]
pub(crate) fn boolean(value: Value) -> Checked<bool> {
    match value {
        Value::Bool(value) => Ok(value),
        _ => Err("is neither true nor false".into()),
    }
}

/// `true` or `false` in a query.
pub(crate) fn flag(value: Value) -> Checked<bool> {
    one_of(&[("true", true), ("false", false)])(value)
}

/// One of these names.
pub(crate) fn one_of<T: Copy>(names: &[(&'static str, T)]) -> impl FnOnce(Value) -> Checked<T> {
    move |value| {
        let text = text(value)?;
        let found = names.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
            format!("is none of: {}", names.join(", ")).into()
        })
    }
}

/// A UUID in its usual form.
pub(crate) fn uuid(value: Value) -> Checked<Uuid> {
    hyphenated(&text(value)?).ok_or_else(|| "is not a UUID".into())
}

/// A UUID in its usual form, and in no other that the parser would take.
pub(crate) fn hyphenated(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|_| text.len() == 36)
}

/// An instant of RFC 3339, in UTC.
pub(crate) fn instant(value: Value) -> Checked<OffsetDateTime> {
    let text = text(value)?;
    OffsetDateTime::parse(&text, &Rfc3339)
        .ok()
        // Near the years' ends the same instant may have no date in UTC.
        .and_then(|instant| instant.checked_to_offset(UtcOffset::UTC))
        .ok_or_else(|| {
            if text.contains(' ') {
                "is not an RFC 3339 instant; a + in a query is written %2B".into()
            } else {
                "is not an RFC 3339 instant like 2026-01-31T09:00:00Z".into()
            }
        })
}

/// A whole number in a query.
pub(crate) fn number(range: RangeInclusive<u32>) -> impl FnOnce(Value) -> Checked<u32> {
    move |value| {
        let text = text(value)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|number| digits && range.contains(number))
            .ok_or_else(|| {
                format!(
                    "is not a whole number from {} to {}",
                    range.start(),
                    range.end()
                )
                .into()
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses() {
        for good in [
            "a@b.co",
            "first.last+tag@sub.example.com",
            "ü@bücher.example",
            " a@b.co ",
        ] {
            assert!(email(json!(good)).is_ok(), "{good}");
        }
        let long = format!("{}@b.co", "x".repeat(65));
        let longer = format!("a@{}.co", "x.".repeat(130));
        for bad in [
            "",
            "a",
            "@b.co",
            "a@",
            "a@b",
            "a b@c.de",
            "a@b..co",
            "a@-b.co",
            "a@b.co\n<x@y.z>",
            "a\0@b.co",
            "a@@b.co",
            &long,
            &longer,
        ] {
            assert!(email(json!(bad)).is_err(), "{bad}");
        }
        assert!(email(json!(7)).is_err());
    }

    #[test]
    fn instants_have_limits() {
        let at = |text: &str| instant(json!(text));
        assert_eq!(
            at("2026-01-31T09:00:00+02:00").unwrap().unix_timestamp(),
            1_769_842_800
        );
        assert!(
            at("9999-12-31T23:59:59-23:00").is_err(),
            "that is in the year 10000"
        );
        for bad in [
            "",
            "2026-01-31",
            "2026-02-30T00:00:00Z",
            "1769842800",
            "2026-01-31T09:00:00",
            "+12026-01-31T09:00:00Z",
        ] {
            assert!(at(bad).is_err(), "{bad}");
        }
        assert!(at("2026-01-31T09:00:00 02:00").unwrap_err().contains("%2B"));
    }

    #[test]
    fn lengths_count_characters() {
        assert_eq!(line(1..=5)(json!(" äöü ")).unwrap(), "äöü");
        assert!(line(1..=4)(json!(" äöü ")).is_err());
        assert!(line(1..=3)(json!("   ")).is_err());
        assert!(line(1..=3)(json!("a\nb")).is_err());
        assert!(password(8..=1024)(json!("äöüßéèêë")).is_ok());
        assert!(password(8..=1024)(json!("äöüß")).is_err());
        assert!(password(8..=1024)(json!("ä".repeat(1024))).is_ok());
        assert!(password(8..=1024)(json!("x".repeat(1025))).is_err());
    }

    #[test]
    fn numbers_and_ids_in_one_spelling_only() {
        assert_eq!(number(1..=500)(json!("500")).unwrap(), 500);
        for bad in ["0", "501", "+5", "-1", "5.0", "", " 5", "99999999999"] {
            assert!(number(1..=500)(json!(bad)).is_err(), "{bad}");
        }
        assert!(uuid(json!("0198b5a0-0000-7000-8000-000000000000")).is_ok());
        assert!(uuid(json!("0198b5a0000070008000000000000000")).is_err());
        assert!(uuid(json!("{0198b5a0-0000-7000-8000-00000000000}")).is_err());
    }
}
