//! Housekeeping: what has expired is purged now and then, in small steps.

use std::time::Duration;

use calendar_domain::failure::PortResult;
use tokio::sync::watch;
use tracing::info;

use crate::regularly::regularly;

/// How often.
const EVERY: Duration = Duration::from_mins(10);

/// Calls `purge`, which answers how many rows went, at once and then now and then, until the stop.
/// A failure is logged, and tried again.
pub async fn housekeep<F>(stop: watch::Receiver<bool>, mut purge: impl FnMut() -> F)
where
    F: Future<Output = PortResult<u64>>,
{
    regularly("purging", EVERY, stop, || {
        let purging = purge();
        async {
            let rows = purging.await?;
            if rows > 0 {
                info!(rows, "purged");
            }
            Ok(())
        }
    })
    .await;
}
