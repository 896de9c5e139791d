//! Port: the push subscriptions of accounts, and what is notified through them.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::failure::PortResult;
use crate::ids::{ConnectionId, SubscriptionId, UserId};
use crate::provider::CalendarProvider;
use crate::query::Listed;
use crate::subscription::{
    EndingSubscription, KnownSubscription, NewSubscription, Notified, PushWork, RenewalsScheduled,
    SubscriptionCursor, WebhookSubscription,
};
use crate::sync::Lease;

/// Stores subscriptions. When an account's push has to be seen to is a state of the account, and is
/// worked on under its lease (`Claim::push`); what takes a lease MUST refuse a stale one (`lease_lost`).
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait SubscriptionStore: Send + Sync {
    /// Those of these ids of a provider that are ours, active or not, on an account that is there.
    async fn find(
        &self,
        provider: CalendarProvider,
        subscription_ids: &[String],
    ) -> PortResult<Vec<KnownSubscription>>;

    /// Records notifications: when they came, which accounts are to be looked at, which subscriptions
    /// are to be renewed ([`RENEWALS_APART`] at the soonest) or made anew; and wakes workers. Durable when it
    /// answers. One transaction. MUST NOT wait for a pass that is under way.
    ///
    /// [`RENEWALS_APART`]: crate::subscription::RENEWALS_APART
    async fn record(&self, notified: &[Notified], now: OffsetDateTime) -> PortResult<()>;

    /// The subscriptions behind a connection of this user, newest first, those that ended lately too, at
    /// most `limit`, after the one at `after`; none when its calendar is another's. `Ok(None)` when there
    /// is no such connection.
    async fn list(
        &self,
        user: UserId,
        connection: ConnectionId,
        after: Option<SubscriptionCursor>,
        limit: u32,
    ) -> PortResult<Option<Listed<WebhookSubscription, SubscriptionCursor>>>;

    /// Finds active subscriptions that end before `now + lead`, and makes their renewal due, spread over
    /// `spread`. Those that have ended become inactive: a new one and a pass to catch up are due at once.
    async fn schedule_renewals(
        &self,
        now: OffsetDateTime,
        lead: Duration,
        spread: Duration,
    ) -> PortResult<RenewalsScheduled>;

    /// Ends, here, active subscriptions whose pushes go elsewhere than to these addresses (this service has
    /// another one now, or none). Making them anew, and a look at what they covered, becomes due within
    /// `spread`. How many there were.
    async fn end_unreachable(
        &self,
        reachable: &[(CalendarProvider, String)],
        now: OffsetDateTime,
        spread: Duration,
    ) -> PortResult<u64>;

    /// What there is to see to, of the leased account.
    async fn push_work(&self, lease: &Lease) -> PortResult<PushWork>;

    /// Stores a new subscription, in place of any other of the account, and marks the account as after a
    /// push: what changed before is not pushed. Clears the account's failures. Refuses also when the
    /// connection is no longer there; fails `Conflict` (`subscription_taken`) when the subscription is
    /// another account's.
    async fn start(
        &self,
        lease: &Lease,
        new: NewSubscription,
        now: OffsetDateTime,
    ) -> PortResult<()>;

    /// Stores the new end of a renewed subscription, and that its account is to be seen to again at
    /// `next_at` (`None`: when it is to be renewed). Clears the account's failures, and marks it as after a
    /// push: a provider may have told nothing while it waited for this.
    async fn renewed(
        &self,
        lease: &Lease,
        id: SubscriptionId,
        expires_at: OffsetDateTime,
        next_at: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> PortResult<()>;

    /// Makes a subscription inactive, and marks the account as after a push: what it covers has been polled
    /// rarely so far. The account stays due to be seen to.
    async fn ended(&self, lease: &Lease, id: SubscriptionId, now: OffsetDateTime)
    -> PortResult<()>;

    /// Nothing is to be done until something happens.
    async fn settle(&self, lease: &Lease) -> PortResult<()>;

    /// Records that seeing to the account's push failed, why (a stable code), and when to try again.
    async fn failed(&self, lease: &Lease, code: &str, retry_at: OffsetDateTime) -> PortResult<()>;

    /// Records that a pass found a change that no push had announced since `since` (the end of the pass
    /// before it), unless one has; and that this is to be looked into at `check_at`. Marks the account as
    /// after a push: from now on it is to be polled as without.
    async fn suspect_silence(
        &self,
        lease: &Lease,
        since: OffsetDateTime,
        check_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> PortResult<()>;

    /// The active subscriptions that nobody needs any more once this connection of this user, or with
    /// `None` this user and those whom the user manages (some hundreds of them), is gone.
    async fn ending(
        &self,
        user: UserId,
        connection: Option<ConnectionId>,
    ) -> PortResult<Vec<EndingSubscription>>;
}
