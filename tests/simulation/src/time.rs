//! Time: three clocks (ours, the database's, the provider's) that move when the scheduler says so.

use std::sync::atomic::{AtomicI64, Ordering};

use calendar_domain::ports::Clock;
use calendar_simulator::jiff::Timestamp;
use time::OffsetDateTime;

/// Monday, 2026-01-05 09:00 UTC.
pub(crate) const BEGIN: i64 = 1_767_603_600;

/// The time that passes, in seconds, and by how much our clock is wrong.
pub(crate) struct SimulatedTime {
    now: AtomicI64,
    skew: AtomicI64,
}

impl SimulatedTime {
    pub(crate) fn new() -> Self {
        Self {
            now: AtomicI64::new(BEGIN),
            skew: AtomicI64::new(0),
        }
    }

    /// The true time, which is the provider's and the database's.
    pub(crate) fn seconds(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(crate) fn timestamp(&self) -> Timestamp {
        Timestamp::from_second(self.seconds()).unwrap_or_default()
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Sets by how many seconds our clock is ahead.
    pub(crate) fn set_skew(&self, seconds: i64) {
        self.skew.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for SimulatedTime {
    fn now(&self) -> OffsetDateTime {
        let seconds = self.seconds() + self.skew.load(Ordering::Relaxed);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}
