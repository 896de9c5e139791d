//! Renewals: subscriptions that end soon are found now and then, and become due.

use std::sync::Arc;
use std::time::Duration;

use calendar_domain::failure::PortResult;
use calendar_domain::ports::{Clock, SubscriptionStore};
use calendar_domain::subscription::RenewalsScheduled;
use tokio::sync::watch;
use tracing::info;

use crate::regularly::regularly;

/// The job that finds subscriptions to renew. Renewing them is work on their accounts, as passes are.
pub struct Renewals {
    /// Where subscriptions are.
    pub subscriptions: Arc<dyn SubscriptionStore>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How often to look.
    pub every: Duration,
    /// How long before its end a subscription is renewed.
    pub lead: Duration,
}

impl Renewals {
    /// Looks at once, since what expired while everything slept is to be made anew, and then again and
    /// again until the stop. What is found becomes due over the half of the time that there is for it.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let spread = self.every.min(self.lead) / 2;
        regularly(
            "looking for subscriptions to renew",
            self.every,
            stop,
            || self.look(spread),
        )
        .await;
    }

    /// Looks once; what is found becomes due at once.
    pub async fn run_once(&self) -> PortResult<()> {
        self.look(Duration::ZERO).await
    }

    async fn look(&self, spread: Duration) -> PortResult<()> {
        let now = self.clock.now();
        let found = self
            .subscriptions
            .schedule_renewals(now, self.lead, spread)
            .await?;
        if found != RenewalsScheduled::default() {
            let RenewalsScheduled { due, expired } = found;
            info!(due, expired, "subscriptions to renew");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use calendar_domain::ports::MockSubscriptionStore;
    use time::macros::datetime;

    use super::*;

    const NOW: time::OffsetDateTime = datetime!(2026-01-05 09:00 UTC);

    struct Fixed;

    impl Clock for Fixed {
        fn now(&self) -> time::OffsetDateTime {
            NOW
        }
    }

    /// Expects so many looks, each for subscriptions that end within `lead`, spread over `spread`.
    fn renewals(every: u64, lead: u64, spread: u64, looks: usize) -> Renewals {
        let seconds = Duration::from_secs;
        let mut store = MockSubscriptionStore::new();
        store
            .expect_schedule_renewals()
            .withf(move |now, given, over| {
                (*now, *given, *over) == (NOW, seconds(lead), seconds(spread))
            })
            .times(looks)
            .returning(|_, _, _| Ok(RenewalsScheduled { due: 1, expired: 1 }));
        Renewals {
            subscriptions: Arc::new(store),
            clock: Arc::new(Fixed),
            every: seconds(every),
            lead: seconds(lead),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn renewals_are_spread_over_half_of_the_time_that_there_is() {
        for (every, lead, spread, looks) in [(1800, 3600, 900, 3), (3600, 600, 300, 2)] {
            let renewals = renewals(every, lead, spread, looks);
            let (sender, stop) = watch::channel(false);
            let stopping = async {
                tokio::time::sleep(Duration::from_secs(3700)).await;
                sender.send(true).unwrap();
            };
            tokio::join!(renewals.run(stop), stopping);
        }
    }

    #[tokio::test]
    async fn once_makes_what_is_found_due_at_once() {
        renewals(1800, 3600, 0, 1).run_once().await.unwrap();
    }
}
