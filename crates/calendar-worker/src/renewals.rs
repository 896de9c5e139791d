//! Renewals: subscriptions that end soon are found now and then, and become due.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use calendar_domain::failure::PortResult;
use calendar_domain::ports::{Clock, SubscriptionStore};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::RenewalsScheduled;
use tokio::sync::watch;
use tracing::{info, warn};

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
    /// Where pushes reach this service.
    pub reachable: Vec<(CalendarProvider, String)>,
}

impl Renewals {
    /// Looks at once, since what expired while everything slept is to be made anew, and what goes to an
    /// address that was this service's before; and then again and again until the stop. What is found becomes
    /// due over the half of the time that there is for it.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let spread = self.every.min(self.lead) / 2;
        let moved = Cell::new(false);
        regularly(
            "looking for subscriptions to renew",
            self.every,
            stop,
            || async {
                if !moved.get() {
                    self.end_unreachable(spread).await?;
                    moved.set(true);
                }
                self.look(spread).await
            },
        )
        .await;
    }

    /// Looks once; what is found becomes due at once.
    pub async fn run_once(&self) -> PortResult<()> {
        self.end_unreachable(Duration::ZERO).await?;
        self.look(Duration::ZERO).await
    }

    async fn end_unreachable(&self, spread: Duration) -> PortResult<()> {
        let ended = self
            .subscriptions
            .end_unreachable(&self.reachable, self.clock.now(), spread)
            .await?;
        if ended > 0 {
            warn!(
                ended,
                "subscriptions whose pushes go to an address that is not ours any more"
            );
        }
        Ok(())
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
        // Once, whatever the number of looks.
        store
            .expect_end_unreachable()
            .withf(move |urls, now, over| {
                urls == reachable() && *now == NOW && *over == seconds(spread)
            })
            .times(1)
            .returning(|_, _, _| Ok(1));
        Renewals {
            subscriptions: Arc::new(store),
            clock: Arc::new(Fixed),
            every: seconds(every),
            lead: seconds(lead),
            reachable: reachable(),
        }
    }

    fn reachable() -> Vec<(CalendarProvider, String)> {
        let url = "https://calendar.example/webhooks/microsoft".to_owned();
        vec![(CalendarProvider::Microsoft, url)]
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
