//! Seeing to an account's push: its subscription is made, renewed, replaced, under the account's lease.

use std::time::Duration as StdDuration;

use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{ConnectionId, PassId};
use calendar_domain::ports::{ChangeNotifier, Secrets, SubscriptionStore};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::{
    NewSubscription, ProviderSubscription, PushEndpoint, PushWork, WebhookSubscription,
    renewal_retry,
};
use secrecy::SecretString;
use time::{Duration, OffsetDateTime};

use crate::access::Access;
use crate::pass::spread;
use crate::sync_account::backoff;

/// When to ask again where the provider sends no pushes for the mailbox.
const UNSUPPORTED_RETRY: Duration = Duration::days(1);
/// When to ask again where another account holds the mailbox's subscription.
const TAKEN_RETRY: Duration = Duration::hours(1);
/// `ChangeNotifier::subscribe`'s code for a mailbox without pushes.
const UNSUPPORTED: &str = "push_unsupported";
/// `ChangeNotifier::renew`'s code for a subscription that is no more.
const SUBSCRIPTION_NOT_FOUND: &str = "subscription_not_found";
/// `SubscriptionStore::start`'s code for a subscription that is another account's.
const SUBSCRIPTION_TAKEN: &str = "subscription_taken";

/// Sees to the push of the leased account.
pub(crate) struct PushRun<'a, 'p> {
    pub(crate) provider: CalendarProvider,
    pub(crate) notifier: &'a dyn ChangeNotifier,
    pub(crate) endpoint: &'a PushEndpoint,
    pub(crate) subscriptions: &'a dyn SubscriptionStore,
    pub(crate) secrets: &'a dyn Secrets,
    /// How long a push may be late before its absence means something.
    pub(crate) grace: Duration,
    pub(crate) access: &'a mut Access<'p>,
}

impl PushRun<'_, '_> {
    /// Does what is to be done. Whether pushes can be relied on afterwards.
    ///
    /// That the provider did not do it is recorded, and no failure: passes go on. Fails when the user has
    /// to sign in again, and when a write was refused.
    pub(crate) async fn run(&mut self, work: PushWork) -> PortResult<bool> {
        let now = self.now();
        let Some(anchor) = work.anchor else {
            // Only others' calendars: they give no pushes.
            self.subscriptions.settle(&self.access.lease).await?;
            return Ok(false);
        };
        let Some(subscription) = work.subscription else {
            return self.create(anchor, work.failure_count).await;
        };
        let silent_since = work
            .silent_since
            .filter(|since| *since >= subscription.created_at);
        let is_dead = silent_since.is_some_and(|since| since + self.grace <= now);
        if is_dead {
            tracing::warn!(
                account_id = %self.access.lease.account_id, subscription_id = %subscription.id,
                "pushes do not arrive: the subscription is made anew"
            );
            self.end(&subscription).await?;
            // Not to be relied on before a push has come.
            self.create(anchor, 0).await?;
            return Ok(false);
        }
        let check_at = silent_since.map(|since| since + self.grace);
        let is_active = self
            .renew(anchor, &subscription, check_at, work.failure_count)
            .await?;
        Ok(is_active && work.silent_since.is_none())
    }

    /// Renews; what the provider does not know any more is made anew.
    async fn renew(
        &mut self,
        anchor: ConnectionId,
        subscription: &WebhookSubscription,
        check_at: Option<OffsetDateTime>,
        failures: u32,
    ) -> PortResult<bool> {
        let answer = self.prolong(&subscription.subscription_id).await;
        let now = self.now();
        let error = match answer {
            Ok(expires_at) => {
                self.count("renewed");
                tracing::info!(account_id = %self.access.lease.account_id, subscription_id = %subscription.id, %expires_at, "subscription renewed");
                self.subscriptions
                    .renewed(
                        &self.access.lease,
                        subscription.id,
                        expires_at,
                        check_at,
                        now,
                    )
                    .await?;
                return Ok(true);
            }
            Err(error) if ends_the_claim(&error) => return Err(error),
            Err(error) => error,
        };
        // Whatever else failed, a token or the request: the subscription still stands.
        if error.code != SUBSCRIPTION_NOT_FOUND
            && let Some(wait) = renewal_retry(subscription.expires_at, now, error.retry_after)
        {
            self.count("failed");
            self.failed(&error, now + wait).await?;
            return Ok(true);
        }
        self.count("lost");
        tracing::warn!(
            account_id = %self.access.lease.account_id, subscription_id = %subscription.id, code = %error.code,
            "the subscription is no more: a new one is made"
        );
        self.subscriptions
            .ended(&self.access.lease, subscription.id, now)
            .await?;
        self.create(anchor, failures).await
    }

    /// Subscribes, and stores that; catches up on what was not pushed before.
    async fn create(&mut self, anchor: ConnectionId, failures: u32) -> PortResult<bool> {
        let client_state = self.secrets.generate()?;
        let mut answer = self.subscribe(&client_state).await;
        if matches!(&answer, Err(error) if error.class == FailureClass::Conflict && !ends_the_claim(error))
            && self.remove_lost().await?
        {
            answer = self.subscribe(&client_state).await;
        }
        let now = self.now();
        let subscription = match answer {
            Ok(subscription) => subscription,
            Err(error) if ends_the_claim(&error) => return Err(error),
            Err(error) => {
                let retry_at = match error.class {
                    FailureClass::Conflict => now + TAKEN_RETRY,
                    _ if error.code == UNSUPPORTED => now + UNSUPPORTED_RETRY,
                    _ => now + backoff(failures, &error, spread(PassId::new())),
                };
                self.failed(&error, retry_at).await?;
                return Ok(false);
            }
        };
        let subscription_id = subscription.subscription_id.clone();
        let expires_at = subscription.expires_at;
        let new = NewSubscription {
            connection_id: anchor,
            provider: self.provider,
            subscription,
            client_state: self.secrets.fingerprint(&client_state),
        };
        if let Err(error) = self.subscriptions.start(&self.access.lease, new, now).await {
            // Nobody will know of it: the calendar was disconnected meanwhile, or the database is away. But
            // where it is another account's, that account counts on it.
            if error.code != SUBSCRIPTION_TAKEN
                && let Err(error) = self.unsubscribe(&subscription_id).await
            {
                tracing::warn!(account_id = %self.access.lease.account_id, code = %error.code, "a subscription that could not be stored was not ended; it expires by itself");
            }
            return Err(error);
        }
        tracing::info!(account_id = %self.access.lease.account_id, %expires_at, "subscribed to pushes");
        Ok(true)
    }

    async fn subscribe(&mut self, client_state: &SecretString) -> PortResult<ProviderSubscription> {
        let (notifier, endpoint) = (self.notifier, self.endpoint);
        with_token!(self.access, token => notifier.subscribe(&token, endpoint, client_state))
    }

    /// The provider holds a subscription already. This account's are ended, wherever their pushes go, and those
    /// that come to us and that we do not know: without their client state they are of no use. Whether there
    /// was one.
    async fn remove_lost(&mut self) -> PortResult<bool> {
        let listed = match self.listed().await {
            Ok(listed) => listed,
            Err(error) if ends_the_claim(&error) => return Err(error),
            // The conflict itself is what is recorded.
            Err(_) => return Ok(false),
        };
        let ids: Vec<String> = listed
            .iter()
            .map(|listed| listed.subscription_id.clone())
            .collect();
        let known = self.subscriptions.find(self.provider, &ids).await?;
        let mut removed = false;
        for listed in listed {
            let id = &listed.subscription_id;
            let is_lost = match known.iter().find(|known| known.subscription_id == *id) {
                Some(known) => known.account_id == self.access.lease.account_id,
                // Where the list does not say where they go: it holds this application's only.
                None => {
                    listed.notification_url.is_empty()
                        || listed.notification_url == self.endpoint.notification_url
                }
            };
            if is_lost {
                removed |= self.unsubscribe(id).await.is_ok();
            }
        }
        Ok(removed)
    }

    /// Ends a subscription at the provider, if it can be, and here.
    async fn end(&mut self, subscription: &WebhookSubscription) -> PortResult<()> {
        match self.unsubscribe(&subscription.subscription_id).await {
            Err(error) if ends_the_claim(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(subscription_id = %subscription.id, code = %error.code, "the old subscription was not ended at the provider; it expires by itself");
            }
            Ok(()) => {}
        }
        self.subscriptions
            .ended(&self.access.lease, subscription.id, self.now())
            .await
    }

    async fn prolong(&mut self, subscription_id: &str) -> PortResult<OffsetDateTime> {
        let notifier = self.notifier;
        with_token!(self.access, token => notifier.renew(&token, subscription_id))
    }

    async fn listed(&mut self) -> PortResult<Vec<ProviderSubscription>> {
        let notifier = self.notifier;
        with_token!(self.access, token => notifier.subscriptions(&token))
    }

    async fn unsubscribe(&mut self, subscription_id: &str) -> PortResult<()> {
        let notifier = self.notifier;
        with_token!(self.access, token => notifier.unsubscribe(&token, subscription_id))
    }

    async fn failed(&self, error: &PortError, retry_at: OffsetDateTime) -> PortResult<()> {
        tracing::warn!(
            account_id = %self.access.lease.account_id, code = %error.code, class = ?error.class, %retry_at,
            error = error.source.as_deref().map(|source| source as &dyn std::error::Error),
            "the subscription could not be seen to; it is tried again"
        );
        self.subscriptions
            .failed(&self.access.lease, &error.code, retry_at)
            .await
    }

    fn count(&self, outcome: &'static str) {
        let provider = self.provider.as_str();
        metrics::counter!("calendar_renewals_total", "provider" => provider, "outcome" => outcome)
            .increment(1);
    }

    fn now(&self) -> OffsetDateTime {
        self.access.clock.now()
    }
}

/// Whether nothing more can be done under this claim: the user has to sign in, or the lease is lost.
fn ends_the_claim(error: &PortError) -> bool {
    error.class == FailureClass::Authentication || error.code == PortError::LEASE_LOST
}

/// How long a push may be late: as long as passes may be apart, at most ten minutes.
pub(crate) fn grace(poll_pushed: StdDuration) -> Duration {
    let grace = poll_pushed.min(StdDuration::from_mins(10));
    Duration::try_from(grace).unwrap_or(Duration::minutes(10))
}
