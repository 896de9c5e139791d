//! Logs: to stderr, as text for people or as JSON for collectors.

use std::io::IsTerminal as _;

use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

use crate::config::{LogConfig, LogFormat};

/// Sets the process's logging up, once, and logs panics by their place: what a panic says can hold
/// a piece of the text that it stumbled over.
pub fn init(config: &LogConfig) -> Result<(), TryInitError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    // The filter was checked when the configuration was read.
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.format {
        LogFormat::Text => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let thread = std::thread::current();
        error!(
            place,
            thread = thread.name().unwrap_or_default(),
            "panicked"
        );
    }));
    Ok(())
}
