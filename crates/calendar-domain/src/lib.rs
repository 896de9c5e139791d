//! Entities, rules and ports of the calendar core; no I/O.
//!
//! The use cases (`calendar-sync`) talk to the [`ports`]; adapters implement them. What needs no I/O
//! is decided here: how a rule expands ([`recurrence`]), what a zone is called ([`zone`]), what fits
//! into a column ([`normalise`]), and which rows a page of changes writes ([`plan`]).

pub mod account;
pub mod connection;
pub mod event;
pub mod failure;
pub mod ids;
pub mod normalise;
pub mod plan;
pub mod ports;
pub mod provider;
pub mod query;
pub mod recurrence;
pub mod series;
pub mod subscription;
pub mod sync;
pub mod user;
mod version;
pub mod zone;
