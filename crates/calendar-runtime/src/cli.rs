//! What both command lines have in common: where their words go, and how they end.

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use tracing::warn;

use crate::config::{Config, ConfigError};

/// The exit code for a configuration that is wrong.
pub const EXIT_CONFIG: u8 = 2;

/// Writes what was asked for to stdout. A reader that has gone away (`| head`) is no error.
pub fn print(text: impl Display) {
    let _ = write!(std::io::stdout(), "{text}");
}

/// Writes what holds to stdout, and what it is warned of to stderr.
pub fn print_config(program: &str, config: &Config) {
    print(config);
    let mut stderr = std::io::stderr().lock();
    for warning in &config.warnings {
        let _ = writeln!(stderr, "{program}: {warning}");
    }
}

/// Names every mistake on stderr, a line each, and answers the exit code that goes with it.
#[must_use]
pub fn refuse(program: &str, error: &ConfigError) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    for mistake in error.mistakes() {
        let _ = writeln!(stderr, "{program}: {} {}", mistake.variable, mistake.what);
    }
    ExitCode::from(EXIT_CONFIG)
}

/// Logs what the configuration is warned of.
pub fn log_warnings(config: &Config) {
    for warning in &config.warnings {
        warn!("{warning}");
    }
}
