//! Housekeeping: what has expired is purged now and then, in small steps.

use std::time::Duration;

use calendar_domain::failure::PortResult;
use calendar_runtime::{ErrorChain, shutdown};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

/// How often.
pub const HOUSEKEEPING_EVERY: Duration = Duration::from_mins(10);

/// Calls `purge`, which answers how many rows went, at once and then every `every`, until the stop.
/// A failure is logged, and tried again the next time.
pub async fn housekeep<F>(
    every: Duration,
    stop: watch::Receiver<bool>,
    mut purge: impl FnMut() -> F,
) where
    F: Future<Output = PortResult<u64>>,
{
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let work = async {
        loop {
            ticks.tick().await;
            match purge().await {
                Ok(0) => {}
                Ok(rows) => info!(rows, "purged"),
                Err(error) => warn!(error = %ErrorChain(&error), "purging failed"),
            }
        }
    };
    // Each purge is a transaction of its own: breaking one off loses nothing.
    tokio::select! {
        () = work => {}
        () = shutdown::stopped(stop) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use calendar_domain::failure::{FailureClass, PortError};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_purges_at_once_and_again_also_after_a_failure_until_the_stop() {
        let (sender, stop) = watch::channel(false);
        let calls = Cell::new(0);
        let purging = housekeep(HOUSEKEEPING_EVERY, stop, || {
            calls.set(calls.get() + 1);
            async { Err(PortError::new(FailureClass::Retryable, "database_down")) }
        });
        let stopping = async {
            tokio::time::sleep(HOUSEKEEPING_EVERY * 2 + Duration::from_secs(1)).await;
            sender.send(true).unwrap();
        };
        tokio::join!(purging, stopping);
        assert_eq!(calls.get(), 3);
    }
}
