//! Push: subscriptions at a provider, what it notifies us of, and how far that is to be trusted.

use std::time::Duration;

use secrecy::SecretString;
use time::OffsetDateTime;

use crate::account::StoredTokens;
use crate::ids::{AccountId, ConnectionId, SubscriptionId};
use crate::provider::CalendarProvider;

/// A push is answered at once. Passes that further ones ask for over the same account begin so long after
/// the one before: four times as long each time, up to [`PUSHED_PASSES_APART_MOST`], until none was asked for
/// during [`PUSH_BURST_ENDS`]. So one edit (which gives several pushes) and a few are seen at once, and
/// a thousand pushes a second for a hundred accounts are fifty passes a second.
pub const PUSHED_PASSES_APART: Duration = Duration::from_millis(50);
/// See [`PUSHED_PASSES_APART`].
pub const PUSHED_PASSES_APART_MOST: Duration = Duration::from_secs(2);
/// See [`PUSHED_PASSES_APART`].
pub const PUSH_BURST_ENDS: Duration = Duration::from_secs(5);

/// A renewal that is asked for soon after one waits until that is so long ago: lifecycle events come twice,
/// as pushes do, and the second one may yet mean what it says.
pub const RENEWALS_APART: Duration = Duration::from_mins(1);

/// The longest wait between two attempts to renew.
const RENEWAL_RETRY_MOST: Duration = Duration::from_mins(5);

/// A subscription as we keep it (`webhook_subscriptions`). A push covers all calendars that are the
/// account's own, so there is one for each account; it stands on one of the account's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSubscription {
    /// Our id.
    pub id: SubscriptionId,
    /// The connection it stands on.
    pub connection_id: ConnectionId,
    /// Who sends the pushes.
    pub provider: CalendarProvider,
    /// The provider's id of it.
    pub subscription_id: String,
    /// What is watched.
    pub resource_path: Option<String>,
    /// Where the provider sends pushes.
    pub notification_url: Option<String>,
    /// When it ends unless renewed.
    pub expires_at: OffsetDateTime,
    /// Whether pushes are expected of it.
    pub is_active: bool,
    /// When the last push came.
    pub last_notification_at: Option<OffsetDateTime>,
    /// When it was last renewed.
    pub renewed_at: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When its row last changed otherwise than by a push.
    pub updated_at: OffsetDateTime,
}

/// A place in a list of subscriptions: `(created_at, id)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriptionCursor {
    /// The first key.
    pub created_at: OffsetDateTime,
    /// The second key.
    pub id: SubscriptionId,
}

/// A subscription as the provider tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSubscription {
    /// The provider's id.
    pub subscription_id: String,
    /// What is watched.
    pub resource_path: String,
    /// Where pushes are sent.
    pub notification_url: String,
    /// When it ends unless renewed.
    pub expires_at: OffsetDateTime,
}

/// A subscription to store.
#[derive(Clone, Debug)]
pub struct NewSubscription {
    /// The connection it is to stand on.
    pub connection_id: ConnectionId,
    /// Who sends the pushes.
    pub provider: CalendarProvider,
    /// What the provider answered.
    pub subscription: ProviderSubscription,
    /// The fingerprint of the secret that each push must carry.
    pub client_state: [u8; 32],
}

/// Where a provider is to send its pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushEndpoint {
    /// For changes.
    pub notification_url: String,
    /// For what becomes of the subscription itself.
    pub lifecycle_url: String,
}

/// One entry of what a provider sent.
#[derive(Clone, Debug)]
pub struct Notification {
    /// The provider's id of the subscription.
    pub subscription_id: String,
    /// What proves that it comes from the provider; compared in constant time.
    pub client_state: Option<SecretString>,
    /// What it says. Nothing else in it is taken as data.
    pub signal: PushSignal,
}

/// What a notification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PushSignal {
    /// Something changed.
    Changed,
    /// Pushes were lost: something may have changed.
    Missed,
    /// The provider ended the subscription.
    Removed,
    /// The subscription pauses until it is renewed.
    ReauthorizationRequired,
}

/// A subscription of ours, for checking a notification.
#[derive(Clone, Debug)]
pub struct KnownSubscription {
    /// Our id.
    pub id: SubscriptionId,
    /// Its account.
    pub account_id: AccountId,
    /// The provider's id.
    pub subscription_id: String,
    /// The fingerprint of the secret that each push must carry; one without is never accepted.
    pub client_state: Option<[u8; 32]>,
}

/// What to record of the notifications for one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a column of a batch")]
pub struct Notified {
    /// The subscription.
    pub id: SubscriptionId,
    /// Its account.
    pub account_id: AccountId,
    /// A push for a change came: `last_notification_at` moves.
    pub changed: bool,
    /// The account's own calendars are to be looked at.
    pub look: bool,
    /// The subscription is to be renewed.
    pub renew: bool,
    /// The subscription is no more, and is to be made anew.
    pub removed: bool,
}

impl Notified {
    /// Nothing yet.
    #[must_use]
    pub fn new(id: SubscriptionId, account_id: AccountId) -> Self {
        Self {
            id,
            account_id,
            changed: false,
            look: false,
            renew: false,
            removed: false,
        }
    }

    /// Adds a signal; what comes twice counts once.
    pub fn add(&mut self, signal: PushSignal) {
        match signal {
            PushSignal::Changed => {
                self.changed = true;
                self.look = true;
            }
            PushSignal::Missed => self.look = true,
            PushSignal::Removed => {
                self.removed = true;
                self.look = true;
            }
            PushSignal::ReauthorizationRequired => self.renew = true,
        }
    }
}

/// How far pushes for a connection are to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushHealth {
    /// Pushes come; polling is rare.
    Healthy {
        /// When the subscription ends unless renewed.
        expires_at: OffsetDateTime,
    },
    /// Polling found what no push had announced, and none has come since: polled as without push.
    Stale {
        /// When the subscription ends unless renewed.
        expires_at: OffsetDateTime,
    },
    /// The provider sends none for this calendar (another's calendar): polled, and healthy so.
    Unsupported,
    /// There is no subscription: not yet, not at the moment, or this service cannot be reached.
    Off,
}

/// How push stands with a claimed account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimedPush {
    /// Its subscription has to be seen to: `SubscriptionStore::push_work` says what there is.
    pub is_due: bool,
    /// Pushes can be relied on.
    pub is_healthy: bool,
}

/// What is known of an account's push, for seeing to it.
#[derive(Debug)]
pub struct PushWork {
    /// The connection that a subscription is to stand on: a living one whose calendar is the
    /// account's own, the primary one first; `None` when there is none.
    pub anchor: Option<ConnectionId>,
    /// The active subscription.
    pub subscription: Option<WebhookSubscription>,
    /// The account's tokens.
    pub tokens: StoredTokens,
    /// Attempts that failed one after another.
    pub failure_count: u32,
    /// When polling found a change that no push had announced, if none has come since.
    pub silent_since: Option<OffsetDateTime>,
}

/// A subscription that is to end at the provider because nobody is left who wants it.
#[derive(Debug)]
pub struct EndingSubscription {
    /// The provider.
    pub provider: CalendarProvider,
    /// The provider's id of it.
    pub subscription_id: String,
    /// The tokens of its account.
    pub tokens: StoredTokens,
    /// Others' calendars of the account stay connected: its refresh token is not ours to use up.
    pub account_stays: bool,
}

/// What a look for subscriptions to renew came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenewalsScheduled {
    /// Accounts whose subscription is to be renewed now or in a moment.
    pub due: u64,
    /// Subscriptions that had expired: they are made anew, with a catch-up pass.
    pub expired: u64,
}

/// Which look after a push: pushes run ahead of what the change feed shows, so a look that finds nothing
/// is repeated after 5 s, and once more after 60 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushLook {
    /// At once.
    First,
    /// After 5 s.
    Second,
    /// After 60 s.
    Third,
}

impl PushLook {
    /// The look to take after this one, and how long to wait for it. One that has found something may have found
    /// another change than the one that was pushed: only the last look is taken then.
    #[must_use]
    pub fn next(self, found: bool) -> Option<(Self, Duration)> {
        match self {
            Self::First if !found => Some((Self::Second, Duration::from_secs(5))),
            Self::First | Self::Second => Some((Self::Third, Duration::from_mins(1))),
            Self::Third => None,
        }
    }
}

/// How long to wait before another attempt to renew a subscription that ends at `expires_at`: shorter and
/// shorter, so that a provider that comes back just before the end still finds us asking. `asked` is what
/// it asked us to wait, which is heeded as long as half of what remains is left after it. `None` when it
/// has expired.
#[must_use]
pub fn renewal_retry(
    expires_at: OffsetDateTime,
    now: OffsetDateTime,
    asked: Option<Duration>,
) -> Option<Duration> {
    let remaining = Duration::try_from(expires_at - now).ok()?;
    if remaining.is_zero() {
        return None;
    }
    let own = (remaining / 8).min(RENEWAL_RETRY_MOST);
    let wait = asked.map_or(own, |asked| asked.min(remaining / 2).max(own));
    Some(wait.max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_answers_in_the_last_minutes_finds_us_asking() {
        let start = OffsetDateTime::UNIX_EPOCH;
        let expires_at = start + time::Duration::hours(1);
        // Whenever it comes back with at least a minute left, an attempt follows in time.
        for back_after in 0..59 {
            let back_at = start + time::Duration::minutes(back_after);
            let mut now = start;
            let mut attempts = 0;
            while now < back_at {
                now += renewal_retry(expires_at, now, None).unwrap();
                attempts += 1;
            }
            assert!(now < expires_at, "back after {back_after} min");
            assert!(attempts < 60, "{attempts} attempts");
        }
        assert_eq!(renewal_retry(expires_at, expires_at, None), None);
    }

    #[test]
    fn what_the_provider_asks_is_heeded_while_time_is_left() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let wait = |left: i64, asked: u64| {
            renewal_retry(
                now + time::Duration::seconds(left),
                now,
                Some(Duration::from_secs(asked)),
            )
            .unwrap()
            .as_secs()
        };
        assert_eq!(wait(3600, 600), 600);
        assert_eq!(wait(3600, 7200), 1800);
        assert_eq!(wait(3600, 0), 300);
        assert_eq!(wait(2, 30), 1);
    }

    #[test]
    fn signals_add_up() {
        let mut notified = Notified::new(SubscriptionId::new(), AccountId::new());
        notified.add(PushSignal::ReauthorizationRequired);
        assert!(notified.renew && !notified.look && !notified.changed);
        notified.add(PushSignal::Missed);
        assert!(notified.look && !notified.changed);
        notified.add(PushSignal::Changed);
        assert!(notified.changed && !notified.removed);
        notified.add(PushSignal::Removed);
        assert!(notified.removed);
    }
}
