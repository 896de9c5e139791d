//! Each store against its port's promises, on a real PostgreSQL: a database for each test.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "what fails here fails the test"
)]

mod api_keys;
mod connections;
mod database;
mod embedded;
mod events;
mod export;
mod identity;
mod key_rotation;
mod overview;
mod passes;
mod push_health;
mod pushed_claims;
mod pushes;
mod queue;
mod reading;
mod rejected;
mod series;
mod subscriptions;
mod support;
mod turns;
mod users;
mod wakeups;
