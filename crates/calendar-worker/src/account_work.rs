//! The queue and the use case as the loop's work.

use std::sync::Arc;

use async_trait::async_trait;
use calendar_domain::failure::PortResult;
use calendar_domain::ids::WorkerId;
use calendar_domain::ports::Wakeups;
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::{Claim, Lease};
use calendar_sync::SyncAccount;
use tokio::sync::watch;

use crate::Work;

/// Claims the accounts of the providers that are configured, and syncs them.
pub struct AccountWork {
    worker: WorkerId,
    configured: Vec<CalendarProvider>,
    pushing: Vec<CalendarProvider>,
    sync: SyncAccount,
    wakeups: Arc<dyn Wakeups>,
}

impl AccountWork {
    /// The work of one worker, which has an id of its own.
    #[must_use]
    pub fn new(sync: SyncAccount, wakeups: Arc<dyn Wakeups>) -> Self {
        Self {
            worker: WorkerId::new(),
            configured: sync.providers.configured(),
            pushing: sync.providers.pushing(),
            sync,
            wakeups,
        }
    }

    /// Who holds the leases.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.worker
    }
}

#[async_trait]
impl Work for AccountWork {
    async fn claim(&self) -> PortResult<Option<Claim>> {
        self.sync
            .queue
            .claim(
                self.worker,
                &self.configured,
                &self.pushing,
                self.sync.clock.now(),
                self.sync.settings.lease_ttl,
            )
            .await
    }

    async fn sync(&self, claim: Claim, stop: &watch::Receiver<bool>) {
        // The use case has logged a line for each pass.
        self.sync.run(claim, stop).await;
    }

    async fn release(&self, lease: &Lease) -> PortResult<()> {
        self.sync.queue.release(lease).await
    }

    async fn woken(&self) {
        self.wakeups.woken().await;
    }
}
