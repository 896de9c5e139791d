//! What both binaries need to start: configuration, telemetry, metrics, shutdown.
//!
//! Nothing here knows of our HTTP API or of SQL: a host program of one's own can use the same configuration
//! and the same clean stop.
//!
//! ```no_run
//! use calendar_runtime::{ErrorChain, shutdown};
//!
//! # async fn example() -> std::io::Result<()> {
//! // True from the first SIGTERM or SIGINT on; a host program can as well make such a flag of its own.
//! let stop = shutdown::listen()?;
//! shutdown::stopped(stop).await;
//! # let error = std::io::Error::other("refused");
//! tracing::warn!(error = %ErrorChain(&error), "each cause once, on one line");
//! # Ok(()) }
//! ```
//!
//! Feature `config` (by default): the environment variables, command lines and logs of the programs.

#[cfg(feature = "config")]
pub mod cli;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
pub mod error_chain;
pub mod metrics;
pub mod shutdown;
pub mod startup;
#[cfg(feature = "config")]
pub mod telemetry;

pub use clock::SystemClock;
#[cfg(feature = "config")]
pub use config::{Config, ConfigError, DatabaseConfig, Environment};
pub use error_chain::ErrorChain;
