//! The proof of the promise: after any mixture of edits, pushes, provider errors and crashes of ours, once the
//! faults stop and one pass has run, the store equals the provider. docs/simulation.md says how to run it.
//!
//! One run follows from one seed. The product's own parts (`calendar-sync`, `calendar-worker`, the stores on a real
//! PostgreSQL, the Microsoft adapter over real HTTP in front of the simulator) are driven by a scheduler that lets
//! one call of a port run at a time.

mod bench;
mod compare;
mod convergence;
mod faults;
mod gate;
mod http;
mod pg_proxy;
mod plant;
mod ports;
mod rng;
mod run;
mod setup;
mod stats;
mod time;
mod watch;
mod world;

pub use bench::Bench;
pub use plant::Plant;
pub use run::{Outcome, run};
pub use stats::Stats;

/// The simulation itself cannot work. What the product does wrong is no error, but an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The database.
    #[error("the simulation's own database")]
    Database(#[from] tokio_postgres::Error),
    /// The network of this machine.
    #[error("the network of this machine")]
    Network(#[from] std::io::Error),
    /// The address of the database.
    #[error("DATABASE_URL")]
    Url(#[from] url::ParseError),
    /// A port of the product, used outside the simulation.
    #[error("setting up")]
    Port(#[from] calendar_domain::failure::PortError),
    /// The simulator refused what the simulation wanted.
    #[error("the simulator: {0:?}")]
    Simulator(calendar_simulator::GraphError),
    /// The adapter or the pool could not be made.
    #[error("setting up: {0}")]
    SetUp(String),
    /// The proxy needs a host and a port.
    #[error("the database has to be reached by TCP")]
    Socket,
    /// A process of the server does not end.
    #[error("process {0} of the database does not end")]
    Backend(i32),
    /// A step does not end.
    #[error("the run does not come to rest: {0}")]
    Restless(String),
}

impl From<calendar_simulator::GraphError> for BenchError {
    fn from(error: calendar_simulator::GraphError) -> Self {
        Self::Simulator(error)
    }
}
