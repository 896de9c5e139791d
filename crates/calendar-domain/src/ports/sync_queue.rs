//! Port: who syncs what next, and the leases.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::failure::PortResult;
use crate::ids::{ConnectionId, TurnId, UserId, WorkerId};
use crate::provider::CalendarProvider;
use crate::sync::{Claim, Lease, PassFailure};

/// Hands out work. What is due is a state of the connections, not a list of jobs.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait SyncQueue: Send + Sync {
    /// Claims the account that is longest overdue at `now`, among those of `providers` whose lease is free
    /// or has expired (by the database's clock), for `ttl`: a connection is due, a push has come (which
    /// goes before what is overdue by less than minutes), or its push is to be seen to (at the providers
    /// `pushing` only). A push makes all connections due that it covers, except those that wait after a
    /// failure. Accounts that need a new sign-in, paused and disconnected connections are never due. Takes
    /// turns of the account's own mailbox, as [`SyncQueue::take_turns`] does. One statement.
    async fn claim(
        &self,
        worker: WorkerId,
        providers: &[CalendarProvider],
        pushing: &[CalendarProvider],
        now: OffsetDateTime,
        ttl: Duration,
    ) -> PortResult<Option<Claim>>;

    /// Takes turns of the mailbox that the connection is read through, and gives back those of others: how
    /// many requests may go to it at a time, one or two. Together with all other holders they MUST never be
    /// more than the mailbox's limit, over all processes. None is free: 0, and the connection is due again
    /// moments after `now`. Turns end with the lease (or after `ttl`, with its heartbeats). MUST refuse a stale
    /// lease.
    async fn take_turns(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> PortResult<u32>;

    /// Takes one turn of a mailbox for a request outside of claims. `mailbox` is its address, or the user's id at
    /// the provider where that has none. `None` while all are taken. It ends after `ttl` by itself.
    async fn take_turn(
        &self,
        provider: CalendarProvider,
        mailbox: &str,
        ttl: Duration,
    ) -> PortResult<Option<TurnId>>;

    /// Gives such a turn back.
    async fn give_turn_back(&self, turn: TurnId) -> PortResult<()>;

    /// Prolongs a lease, and its turns, by `ttl`. MUST refuse a stale lease.
    async fn heartbeat(&self, lease: &Lease, ttl: Duration) -> PortResult<()>;

    /// Records that a pass did not end; the checkpoint stays. MUST refuse a stale lease.
    async fn fail(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        failure: PassFailure,
        now: OffsetDateTime,
    ) -> PortResult<()>;

    /// Puts what is still due of the account behind what others have due at `now`: its claim has lasted
    /// long enough. MUST refuse a stale lease.
    async fn wait_behind_others(&self, lease: &Lease, now: OffsetDateTime) -> PortResult<()>;

    /// Gives a lease and its turns back. A stale lease is already given back: not an error.
    async fn release(&self, lease: &Lease) -> PortResult<()>;

    /// Makes a connection of this user due now. Whether there was one.
    async fn request_sync(
        &self,
        user: UserId,
        connection: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool>;
}
