//! What the scenarios stand on: a database of their own, the simulator, the real binaries.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "for tests: what fails here fails the test"
)]

mod event;
mod http;
mod process;
mod proxy;
mod pushed;
mod world;

pub use event::{daily, day, midnight, timed};
pub use http::{Answer, Http};
pub use process::{Binary, Process, program};
pub use proxy::Proxy;
pub use pushed::{MAILBOX, Pushed, RARELY};
pub use world::{Instance, User, World, eventually, free_port};
