//! Reading the fields of a body or of a query one by one, so that every wrong one is named at once.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::problem::{FieldError, Place, Problem};

/// What a check of one value says when the value is wrong.
pub(crate) type Checked<T> = Result<T, Cow<'static, str>>;

/// The fields of a JSON object or of a query that were not read yet.
#[derive(Debug)]
pub(crate) struct Fields {
    place: Place,
    values: Map<String, Value>,
    /// The names that were asked for.
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// The fields of a body.
    pub(crate) fn of_body(values: Map<String, Value>) -> Self {
        Self {
            place: Place::Body,
            values,
            known: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The parameters of a query, as strings.
    pub(crate) fn of_query(query: &str) -> Result<Self, Problem> {
        let mut fields = Self {
            place: Place::Query,
            values: Map::new(),
            known: Vec::new(),
            errors: Vec::new(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            if fields
                .values
                .insert(name.clone(), Value::String(value))
                .is_some()
            {
                fields.error(&name, "is given twice");
            }
        }
        Ok(fields)
    }

    /// Notes that something is wrong with a field.
    pub(crate) fn error(&mut self, name: &str, detail: impl Into<Cow<'static, str>>) {
        // Names of unknown fields are text of the caller's: bounded, and escaped as RFC 6901 says.
        let name: String = name.chars().take(64).collect();
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        self.errors.push(FieldError {
            place: self.place,
            pointer,
            detail: detail.into(),
        });
    }

    /// A field that may be left out. `null` is a value, and as such for the check to judge.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        check: impl FnOnce(Value) -> Checked<T>,
    ) -> Option<T> {
        self.known.push(name);
        match check(self.values.remove(name)?) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.error(name, detail);
                None
            }
        }
    }

    /// A field that must be there. `None` always goes with an error.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        check: impl FnOnce(Value) -> Checked<T>,
    ) -> Option<T> {
        if !self.values.contains_key(name) {
            self.known.push(name);
            self.error(name, "is missing");
            return None;
        }
        self.optional(name, check)
    }

    /// All fields but these, in one text that does not depend on their order.
    pub(crate) fn fingerprint(&self, but: &[&str]) -> String {
        let mut fields: Vec<_> = self
            .values
            .iter()
            .filter(|(name, _)| !but.contains(&name.as_str()))
            .collect();
        fields.sort_by_key(|(name, _)| *name);
        serde_json::to_string(&fields).unwrap_or_default()
    }

    /// Ends the reading: fields that nobody asked for are errors, too. `make` puts the request
    /// together, and may use `?` on required fields.
    pub(crate) fn finish<T>(mut self, make: impl FnOnce() -> Option<T>) -> Result<T, Problem> {
        for name in std::mem::take(&mut self.values).keys() {
            let known = if self.known.is_empty() {
                "none".to_owned()
            } else {
                self.known.join(", ")
            };
            self.error(name, format!("is not known here; known: {known}"));
        }
        if !self.errors.is_empty() {
            return Err(Problem::invalid(self.errors));
        }
        make().ok_or_else(|| Problem::internal("a required field was neither read nor missed"))
    }
}

fn decoded(text: &str) -> Result<String, Problem> {
    let blanks = text.replace('+', " ");
    let decoded = percent_decode_str(&blanks).decode_utf8();
    decoded
        .map(Cow::into_owned)
        .map_err(|_| Problem::malformed("malformed_query", "The query is not valid UTF-8."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_once_and_doubles_are_named() {
        let mut fields = Fields::of_query("a=x%2By+z&&b=&a=2").unwrap();
        assert_eq!(fields.optional("b", Ok), Some(Value::String(String::new())));
        assert_eq!(fields.optional("a", Ok), Some(Value::String("2".into())));
        let problem = fields.finish(|| Some(())).unwrap_err();
        assert_eq!(problem.errors.len(), 1);
        assert_eq!(problem.errors[0].pointer, "/a");
        assert!(Fields::of_query("a=%ff").is_err());
    }

    #[test]
    fn unknown_names_are_bounded_and_escaped() {
        let values = [
            ("a/b~c".to_owned(), Value::Null),
            ("x".repeat(500), Value::Null),
        ];
        let problem = Fields::of_body(values.into_iter().collect())
            .finish(|| Some(()))
            .unwrap_err();
        assert_eq!(problem.errors[0].pointer, "/a~1b~0c");
        assert_eq!(problem.errors[1].pointer.len(), 65);
    }
}
