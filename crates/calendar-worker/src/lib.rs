//! The loops: due accounts, renewals and housekeeping.
//!
//! [`Worker`] claims accounts that are due and hands each to the use case, so many at once. It knows
//! its work by a trait, [`Work`], which [`AccountWork`] is over the ports.
//!
//! For host programs, as tasks of their own runtime; the program calendar-worker does the same:
//!
//! ```
//! use std::sync::Arc;
//!
//! use calendar_domain::ports::Wakeups;
//! use calendar_sync::SyncAccount;
//! use calendar_worker::{AccountWork, Renewals, Worker};
//! use tokio::sync::watch;
//!
//! /// Syncs and renews until `stop` turns true; pages in flight end, and leases are given back.
//! async fn work(
//!     sync: SyncAccount,
//!     wakeups: Arc<dyn Wakeups>,
//!     renewals: Renewals,
//!     stop: watch::Receiver<bool>,
//! ) {
//!     let work = Arc::new(AccountWork::new(sync, wakeups));
//!     let worker = Worker::new(work, 16, stop.clone());
//!     tokio::join!(worker.run(), renewals.run(stop));
//! }
//! ```
//!
//! Feature `bin` (by default): the program, with its adapters. A host program turns it off.

mod account_work;
mod housekeeping;
mod regularly;
mod renewals;
mod worker;

pub use account_work::AccountWork;
pub use housekeeping::housekeep;
pub use renewals::Renewals;
pub use worker::{DatabaseDown, Work, Worker};
