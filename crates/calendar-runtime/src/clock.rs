//! The clock of the machine, behind the domain's port.

use calendar_domain::ports::Clock;
use time::OffsetDateTime;

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one home of the machine's time"
    )]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_utc_and_moves() {
        let first = SystemClock.now();
        assert!(first.offset().is_utc());
        assert!(first.unix_timestamp() > 1_700_000_000);
        assert!(SystemClock.now() >= first);
    }
}
