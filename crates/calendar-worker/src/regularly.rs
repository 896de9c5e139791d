//! What is done now and then, beside the loop.

use std::time::Duration;

use calendar_domain::failure::PortResult;
use calendar_runtime::{ErrorChain, shutdown};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::warn;

/// How soon a turn that failed is tried again, where the next turn is not sooner.
const RETRY: Duration = Duration::from_mins(1);

/// Does `turn` at once and then every `every`, until the stop. A failure is logged as one of `name`, and
/// tried again.
pub(crate) async fn regularly<F>(
    name: &'static str,
    every: Duration,
    stop: watch::Receiver<bool>,
    mut turn: impl FnMut() -> F,
) where
    F: Future<Output = PortResult<()>>,
{
    let turns = async {
        loop {
            let pause = match turn().await {
                Ok(()) => every,
                Err(error) => {
                    let pause = every.min(RETRY);
                    warn!(error = %ErrorChain(&error), retry_s = pause.as_secs(), "{name} failed");
                    pause
                }
            };
            sleep(pause).await;
        }
    };
    // Each turn is transactions of its own: breaking one off loses nothing.
    tokio::select! {
        () = turns => {}
        () = shutdown::stopped(stop) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use calendar_domain::failure::{FailureClass, PortError};
    use tokio::time::Instant;

    use super::*;

    /// When there were turns, in seconds, in the first 19 minutes; those with an index in `failing` fail.
    async fn turns(every: Duration, failing: std::ops::Range<usize>) -> Vec<u64> {
        let (sender, stop) = watch::channel(false);
        let begun = Instant::now();
        let turns = RefCell::new(Vec::new());
        let running = regularly("trying", every, stop, || {
            let fails = failing.contains(&turns.borrow().len());
            turns.borrow_mut().push(begun.elapsed().as_secs());
            async move {
                if fails {
                    let error = PortError::new(FailureClass::Retryable, "database_down");
                    return Err(error);
                }
                Ok(())
            }
        });
        let stopping = async {
            sleep(Duration::from_mins(19)).await;
            sender.send(true).unwrap();
        };
        tokio::join!(running, stopping);
        turns.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn at_once_and_then_regularly_until_the_stop() {
        assert_eq!(turns(Duration::from_mins(9), 0..0).await, [0, 540, 1080]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_after_a_minute_or_at_the_next_turn() {
        let seldom = turns(Duration::from_mins(9), 1..3).await;
        assert_eq!(seldom, [0, 540, 600, 660]);
        let often = turns(Duration::from_secs(20), 0..usize::MAX).await;
        assert_eq!(often[..3], [0, 20, 40]);
    }
}
