//! Entities, rules and ports of the calendar core; no I/O.
//!
//! The use cases (`calendar-sync`) talk to the [`ports`]; adapters implement them. What needs no I/O
//! is decided here: how a rule expands ([`recurrence`]), what a zone is called ([`zone`]), what fits
//! into a column ([`normalise`]), and which rows a page of changes writes ([`plan`]).
//!
//! For whoever writes an adapter (a provider, a store), and for programs that need the rules alone:
//!
//! ```
//! use calendar_domain::event::{EventMoment, EventSpan};
//! use calendar_domain::recurrence::RecurrenceRule;
//! use calendar_domain::sync::SyncWindow;
//! use calendar_domain::zone;
//! use time::macros::datetime;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Mondays at nine in Berlin, over the end of summer time.
//! let rule: RecurrenceRule = "FREQ=WEEKLY;BYDAY=MO".parse()?;
//! let first = EventSpan::Timed {
//!     start: datetime!(2026-10-19 07:00 UTC),
//!     end: datetime!(2026-10-19 07:30 UTC),
//! };
//! let window = SyncWindow {
//!     start: datetime!(2026-10-20 00:00 UTC),
//!     end: datetime!(2026-11-03 00:00 UTC),
//! };
//! let berlin = zone::lookup("Europe/Berlin").ok_or("no such zone")?;
//! assert_eq!(
//!     rule.starts_in(first, &berlin, window),
//!     [
//!         EventMoment::Instant(datetime!(2026-10-26 08:00 UTC)),
//!         EventMoment::Instant(datetime!(2026-11-02 08:00 UTC)),
//!     ]
//! );
//! # Ok(()) }
//! ```
//!
//! Feature `mocks`: mocks of the ports (mockall), for unit tests.

pub mod account;
pub mod api_key;
pub mod connection;
pub mod event;
pub mod failure;
pub mod ids;
pub mod normalise;
pub mod overview;
pub mod plan;
pub mod ports;
pub mod provider;
pub mod query;
pub mod recurrence;
pub mod rejected;
pub mod series;
pub mod subscription;
pub mod sync;
pub mod user;
mod version;
pub mod zone;
