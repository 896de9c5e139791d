//! The loops: due connections and housekeeping.
//!
//! [`Worker`] claims accounts that are due and hands each to the use case, so many at once. It knows
//! its work by a trait, [`Work`]; `main.rs` wires that to the queue and to `SyncAccount`.

mod housekeeping;
mod worker;

pub use housekeeping::{HOUSEKEEPING_EVERY, housekeep};
pub use worker::{DatabaseDown, Work, Worker};
