//! Reading variables one by one, collecting every mistake and what `--print-config` shows.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use url::Url;

use super::variables::{Show, VARIABLES};

/// The environment variables that concern us. Tests make their own; processes take
/// [`Environment::of_process`].
#[derive(Default)]
pub struct Environment {
    /// `None`: set, but not UTF-8.
    values: BTreeMap<String, Option<String>>,
}

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let values = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok())))
            .filter(|(name, _)| name == "DATABASE_URL" || name.starts_with("CALENDAR_"))
            .collect();
        Self { values }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let values = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), Some(value.into())))
            .collect();
        Self { values }
    }
}

/// One thing that is wrong with the configuration. Never holds the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub variable: String,
    /// What is wrong and what to do about it; reads on from the variable's name.
    pub what: String,
}

/// Everything that is wrong with the configuration, each on a line of its own.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(mistakes))]
pub struct ConfigError {
    mistakes: Vec<Mistake>,
}

impl ConfigError {
    /// An error of these mistakes.
    #[must_use]
    pub fn new(mistakes: Vec<Mistake>) -> Self {
        Self { mistakes }
    }

    /// The mistakes, in the order of the variables.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl From<Mistake> for ConfigError {
    fn from(mistake: Mistake) -> Self {
        Self::new(vec![mistake])
    }
}

fn lines(mistakes: &[Mistake]) -> String {
    let lines: Vec<_> = mistakes
        .iter()
        .map(|mistake| format!("{} {}", mistake.variable, mistake.what))
        .collect();
    lines.join("\n")
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names only: values hold secrets.
        f.debug_set().entries(self.values.keys()).finish()
    }
}

/// Reads variables; a mistake is noted, and reading goes on.
pub(super) struct Reader<'a> {
    environment: &'a Environment,
    mistakes: Vec<Mistake>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            mistakes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn mistake(&mut self, name: &str, what: impl Into<String>) {
        self.mistakes.push(Mistake {
            variable: name.to_owned(),
            what: what.into(),
        });
    }

    pub(super) fn warn(&mut self, what: impl Into<String>) {
        self.warnings.push(what.into());
    }

    /// The value as text; one that is empty or blank counts as not set, as composing tools write it.
    fn text(&mut self, name: &str) -> Option<String> {
        debug_assert!(
            VARIABLES.iter().any(|known| known.name == name),
            "{name} is not listed"
        );
        match self.environment.values.get(name)? {
            None => {
                self.mistake(name, "is not valid UTF-8; set it to plain text");
                None
            }
            Some(value) if value.trim().is_empty() => None,
            Some(value) if value.trim().contains(char::is_control) => {
                self.mistake(
                    name,
                    "contains a control character or a line break; remove it",
                );
                None
            }
            Some(value) => Some(value.trim().to_owned()),
        }
    }

    /// A variable that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        match check(&text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.mistake(name, what);
                None
            }
        }
    }

    /// A variable with a default, which also stands in for a wrong value while reading goes on.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        default: T,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        self.optional(name, check).unwrap_or(default)
    }

    /// A variable that must be set. `None` always goes with a mistake.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let before = self.mistakes.len();
        let value = self.optional(name, check);
        if value.is_none() && self.mistakes.len() == before {
            let meaning = VARIABLES
                .iter()
                .find(|known| known.name == name)
                .map_or("", |v| v.meaning);
            self.mistake(name, format!("is missing; set it ({meaning})"));
        }
        value
    }

    /// What to show and what to warn of, or every mistake.
    pub(super) fn finish(mut self) -> Result<(String, Vec<String>), ConfigError> {
        if !self.mistakes.is_empty() {
            let place = |name: &str| VARIABLES.iter().position(|known| known.name == name);
            self.mistakes
                .sort_by_key(|mistake| place(&mistake.variable));
            return Err(ConfigError::new(self.mistakes));
        }
        for name in self.environment.values.keys() {
            if !VARIABLES.iter().any(|known| known.name == name) {
                self.warnings.push(format!(
                    "{name} is not a variable that this version knows; it is ignored"
                ));
            }
        }
        Ok((shown(self.environment), self.warnings))
    }
}

/// All variables with what holds, aligned, secrets hidden.
fn shown(environment: &Environment) -> String {
    let width = VARIABLES
        .iter()
        .map(|variable| variable.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for variable in VARIABLES {
        let set = environment
            .values
            .get(variable.name)
            .and_then(Option::as_deref)
            .map(str::trim)
            .filter(|value| !value.is_empty());
        let value = match (set, variable.show) {
            (None, _) => format!("{} (default)", variable.default),
            (Some(value), Show::Plain) => value.to_owned(),
            (Some(_), Show::Hidden) => "(set, hidden)".to_owned(),
            (Some(value), Show::DatabaseUrl) => without_password(value),
            (Some(value), Show::KeyIds) => without_keys(value),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{:<width$}  {value}", variable.name);
    }
    text
}

/// A database URL with its user, host and name; of its parameters only the names.
fn without_password(text: &str) -> String {
    let Ok(url) = Url::parse(text) else {
        return "(set, hidden)".to_owned();
    };
    let mut shown = format!("{}://", url.scheme());
    if !url.username().is_empty() {
        shown.push_str(url.username());
        if url.password().is_some() {
            shown.push_str(":****");
        }
        shown.push('@');
    }
    shown.push_str(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        let _ = write!(shown, ":{port}");
    }
    shown.push_str(url.path());
    for (index, (name, value)) in url.query_pairs().enumerate() {
        let value = if name == "password" || name.contains("pass") {
            "****"
        } else {
            value.as_ref()
        };
        let _ = write!(
            shown,
            "{}{name}={value}",
            if index == 0 { '?' } else { '&' }
        );
    }
    shown
}

fn without_keys(text: &str) -> String {
    let ids: Vec<_> = text
        .split(',')
        .filter_map(|key| {
            key.trim()
                .split_once(':')
                .map(|(id, _)| format!("{id}:****"))
        })
        .collect();
    ids.join(",")
}
