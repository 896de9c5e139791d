//! The simulator's clock: real time plus an offset, or frozen. Tokens expire by it and changes are stamped by it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::lock;

/// What the clock shows: the machine's time shifted, or one instant until told otherwise.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Running(SignedDuration),
    Frozen(Timestamp),
}

/// A clock that tests can set and advance. Shared by every mailbox of one simulator.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<Reading>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Reading::Running(SignedDuration::ZERO)))
    }

    pub(crate) fn now(&self) -> Timestamp {
        match *lock(&self.0) {
            Reading::Running(offset) => Timestamp::now()
                .checked_add(offset)
                .unwrap_or(Timestamp::MAX),
            Reading::Frozen(at) => at,
        }
    }

    /// Sets the time. `frozen` holds it there; otherwise it runs on from there.
    pub(crate) fn set(&self, to: Timestamp, frozen: bool) {
        *lock(&self.0) = if frozen {
            Reading::Frozen(to)
        } else {
            Reading::Running(to.duration_since(Timestamp::now()))
        };
    }

    /// Moves the time forward (or back, when negative), frozen or not.
    pub(crate) fn advance(&self, by: SignedDuration) {
        let mut reading = lock(&self.0);
        *reading = match *reading {
            Reading::Running(offset) => {
                Reading::Running(offset.checked_add(by).unwrap_or(SignedDuration::ZERO))
            }
            Reading::Frozen(at) => Reading::Frozen(at.checked_add(by).unwrap_or(Timestamp::MAX)),
        };
    }
}

/// What delays are measured by: the machine's time, or the simulator's clock.
#[derive(Debug)]
pub(crate) enum Timer {
    Real,
    /// The clock showed this time at this instant.
    Manual(Timestamp, Instant),
}

impl Timer {
    pub(crate) fn new(clock: &Clock, manual: bool) -> Self {
        if manual {
            Self::Manual(clock.now(), Instant::now())
        } else {
            Self::Real
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(self, Self::Manual(..))
    }

    pub(crate) fn now(&self, clock: &Clock) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Manual(shown, at) => {
                let passed = clock.now().duration_since(*shown);
                let length = passed.unsigned_abs();
                let moved = if passed.is_negative() {
                    at.checked_sub(length)
                } else {
                    at.checked_add(length)
                };
                moved.unwrap_or(*at)
            }
        }
    }
}

/// An instant after a time, however long; some thirty years at most.
pub(crate) fn later(at: Instant, by: Duration) -> Instant {
    let longest = Duration::from_hours(24 * 365 * 30);
    at.checked_add(by.min(longest)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_stands_still_and_can_be_advanced() {
        let clock = Clock::new();
        let at: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        clock.set(at, true);
        assert_eq!(clock.now(), at);
        clock.advance(SignedDuration::from_secs(3600));
        assert_eq!(clock.now(), "2026-01-01T01:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_set_clock_runs_on() {
        let clock = Clock::new();
        let at: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        clock.set(at, false);
        let first = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(first >= at && clock.now() > first);
    }
}
