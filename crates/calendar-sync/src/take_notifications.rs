//! Use case: a provider sent pushes; record that there is something to look at.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::SubscriptionId;
use calendar_domain::ports::{Clock, Secrets, SubscriptionStore};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::{KnownSubscription, Notification, Notified};
use tokio::sync::{mpsc, oneshot};

use crate::Providers;

/// Bodies that may wait for the database; more wait for their place.
const WAITING_MOST: usize = 1024;
/// Notifications that share one statement, and the most of one body: providers send far fewer, and whoever
/// sends more wants to keep us busy.
const TOGETHER_MOST: usize = 5_000;

/// Takes notifications. What arrives while one statement is under way shares the next one, so that thousands
/// a second need few; each is durable before [`TakeNotifications::run`] answers. Cheap to clone; the clones
/// share statements.
#[derive(Clone)]
pub struct TakeNotifications {
    providers: Arc<Providers>,
    waiting: mpsc::Sender<Waiting>,
}

/// A body's notifications, and who waits for them to be recorded.
struct Waiting {
    provider: CalendarProvider,
    notifications: Vec<Notification>,
    answer: oneshot::Sender<PortResult<TakenNotifications>>,
}

/// What became of a body's notifications. The sender is not told: that would teach those who guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenNotifications {
    /// Recorded.
    pub accepted: u32,
    /// For no subscription of ours, such as one that has ended.
    pub unknown: u32,
    /// Without the subscription's client state.
    pub refused: u32,
}

/// Why notifications were not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeNotificationsError {
    /// The provider is not configured.
    #[error("the provider is not configured")]
    ProviderOff,
    /// The body is none that the provider sends.
    #[error("the body cannot be read")]
    Unreadable(#[source] PortError),
    /// They could not be recorded: the provider should send them again.
    #[error("the notifications could not be recorded")]
    Port(#[source] PortError),
}

impl TakeNotifications {
    /// Starts the task that records. Has to be called within a tokio runtime.
    #[must_use]
    pub fn start(
        subscriptions: Arc<dyn SubscriptionStore>,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
        providers: Arc<Providers>,
    ) -> Self {
        let (waiting, arriving) = mpsc::channel(WAITING_MOST);
        let recorder = Recorder {
            subscriptions,
            secrets,
            clock,
        };
        tokio::spawn(Arc::new(recorder).run(arriving));
        Self { providers, waiting }
    }

    /// Records what `body` notifies of.
    pub async fn run(
        &self,
        provider: CalendarProvider,
        body: &[u8],
    ) -> Result<TakenNotifications, TakeNotificationsError> {
        let ports = self
            .providers
            .get(provider)
            .ok_or(TakeNotificationsError::ProviderOff)?;
        let notifications = ports
            .notifier
            .notifications(body)
            .map_err(TakeNotificationsError::Unreadable)?;
        if notifications.is_empty() {
            return Ok(TakenNotifications::default());
        }
        if notifications.len() > TOGETHER_MOST {
            let error = PortError::new(FailureClass::InvalidInput, "too_many_notifications");
            return Err(TakeNotificationsError::Unreadable(error));
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting {
            provider,
            notifications,
            answer,
        };
        let stopped = || {
            let error = PortError::new(FailureClass::Retryable, "stopping");
            TakeNotificationsError::Port(error)
        };
        self.waiting.send(waiting).await.map_err(|_| stopped())?;
        let taken = answered.await.map_err(|_| stopped())?;
        let taken = taken.map_err(TakeNotificationsError::Port)?;
        for (outcome, number) in [
            ("accepted", taken.accepted),
            ("unknown", taken.unknown),
            ("refused", taken.refused),
        ] {
            if number > 0 {
                metrics::counter!("calendar_notifications_total", "provider" => provider.as_str(), "outcome" => outcome)
                    .increment(number.into());
            }
        }
        Ok(taken)
    }
}

/// Records what has arrived, together.
struct Recorder {
    subscriptions: Arc<dyn SubscriptionStore>,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
}

impl Recorder {
    async fn run(self: Arc<Self>, mut arriving: mpsc::Receiver<Waiting>) {
        while let Some(first) = arriving.recv().await {
            let mut entries = first.notifications.len();
            let mut batch = vec![first];
            while entries < TOGETHER_MOST
                && let Ok(next) = arriving.try_recv()
            {
                entries += next.notifications.len();
                batch.push(next);
            }
            // Apart, so that a panic costs this batch its answers and not the service its pushes.
            let recorder = Arc::clone(&self);
            if tokio::spawn(async move { recorder.answer(batch).await })
                .await
                .is_err()
            {
                tracing::error!("recording notifications panicked");
            }
        }
    }

    async fn answer(&self, batch: Vec<Waiting>) {
        match self.record(&batch).await {
            Ok(taken) => {
                for (waiting, taken) in batch.into_iter().zip(taken) {
                    // Who no longer waits has no use for the answer.
                    let _ = waiting.answer.send(Ok(taken));
                }
            }
            Err(error) => {
                tracing::error!(
                    bodies = batch.len(),
                    error = &error as &dyn std::error::Error,
                    "notifications could not be recorded"
                );
                for waiting in batch {
                    let error = PortError::new(error.class, error.code.clone());
                    let _ = waiting.answer.send(Err(error));
                }
            }
        }
    }

    /// What became of each body.
    async fn record(&self, batch: &[Waiting]) -> PortResult<Vec<TakenNotifications>> {
        let known = self.known(batch).await?;
        let mut notified: BTreeMap<SubscriptionId, Notified> = BTreeMap::new();
        let mut taken = Vec::with_capacity(batch.len());
        for waiting in batch {
            let mut counts = TakenNotifications::default();
            for notification in &waiting.notifications {
                let key = (waiting.provider, notification.subscription_id.as_str());
                let Some(subscription) = known.get(&key) else {
                    counts.unknown += 1;
                    continue;
                };
                let (given, expected) = (&notification.client_state, &subscription.client_state);
                let is_genuine = match (given, expected) {
                    (Some(given), Some(expected)) => self.secrets.matches(given, expected),
                    _ => false,
                };
                if !is_genuine {
                    counts.refused += 1;
                    continue;
                }
                counts.accepted += 1;
                notified
                    .entry(subscription.id)
                    .or_insert_with(|| Notified::new(subscription.id, subscription.account_id))
                    .add(notification.signal);
            }
            taken.push(counts);
        }
        if !notified.is_empty() {
            let notified: Vec<Notified> = notified.into_values().collect();
            self.subscriptions
                .record(&notified, self.clock.now())
                .await?;
        }
        Ok(taken)
    }

    /// The subscriptions that the batch speaks of, by provider and the provider's id.
    async fn known<'b>(
        &self,
        batch: &'b [Waiting],
    ) -> PortResult<HashMap<(CalendarProvider, &'b str), KnownSubscription>> {
        let mut asked: BTreeMap<CalendarProvider, Vec<&'b str>> = BTreeMap::new();
        for waiting in batch {
            let ids = waiting.notifications.iter();
            asked
                .entry(waiting.provider)
                .or_default()
                .extend(ids.map(|notification| notification.subscription_id.as_str()));
        }
        let mut known = HashMap::new();
        for (provider, mut ids) in asked {
            ids.sort_unstable();
            ids.dedup();
            let owned: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            for subscription in self.subscriptions.find(provider, &owned).await? {
                if let Ok(index) = ids.binary_search(&subscription.subscription_id.as_str()) {
                    known.insert((provider, ids[index]), subscription);
                }
            }
        }
        Ok(known)
    }
}
