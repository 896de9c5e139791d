//! What the scenarios stand on: a database of their own, the simulator, the real binaries.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "for tests: what fails here fails the test"
)]

mod crowd;
mod event;
mod http;
mod passes;
mod process;
mod proxy;
mod pushed;
mod truth;
mod world;

pub use crowd::Crowd;
pub use event::{daily, day, midnight, timed};
pub use http::{Answer, Http};
pub use passes::{LoggedPass, at_once, logged_passes};
pub use process::{Binary, Process, program};
pub use proxy::Proxy;
pub use pushed::{MAILBOX, Pushed, RARELY};
pub use truth::{Calendars, Truth};
pub use world::{Instance, User, World, eventually, free_port};
