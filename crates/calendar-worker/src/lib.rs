//! The loops: due accounts, renewals and housekeeping.
//!
//! [`Worker`] claims accounts that are due and hands each to the use case, so many at once. It knows
//! its work by a trait, [`Work`]; `main.rs` wires that to the queue and to `SyncAccount`.

mod account_work;
mod housekeeping;
mod regularly;
mod renewals;
mod worker;

pub use account_work::AccountWork;
pub use housekeeping::housekeep;
pub use renewals::Renewals;
pub use worker::{DatabaseDown, Work, Worker};
