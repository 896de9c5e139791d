//! What both binaries need to start: configuration, telemetry, shutdown.
//!
//! Nothing here knows of HTTP or SQL: a host program of one's own can use the same configuration
//! and the same clean stop.

#[cfg(feature = "config")]
pub mod cli;
pub mod clock;
#[cfg(feature = "config")]
pub mod config;
pub mod error_chain;
pub mod shutdown;
pub mod startup;
#[cfg(feature = "config")]
pub mod telemetry;

pub use clock::SystemClock;
#[cfg(feature = "config")]
pub use config::{Config, ConfigError, DatabaseConfig, Environment};
pub use error_chain::ErrorChain;
