//! Port: connections, the OAuth round trips that make them, and the accounts behind them.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::account::{ConnectSession, TokenGrant, TokenSet};
use crate::connection::{CalendarConnection, Connected, ConnectionChange, NewConnections};
use crate::failure::PortResult;
use crate::ids::{ConnectionId, UserId};
use crate::query::Listed;
use crate::sync::Lease;

/// Stores OAuth round trips.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait ConnectSessionStore: Send + Sync {
    /// Stores a round trip under the hash of its state; the PKCE verifier is sealed.
    async fn create(
        &self,
        session: ConnectSession,
        state_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<()>;

    /// Takes the round trip with this state, once: a second call, an expired one and an unknown
    /// state all answer `None`.
    async fn consume(
        &self,
        state_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<Option<ConnectSession>>;
}

/// Stores connections and their accounts. Tokens are sealed on the way in.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait ConnectionStore: Send + Sync {
    /// Makes, or revives with the ids they had, one connection for each calendar, all under one
    /// account, due now, in one transaction. The grant goes to *all* connections of the account, and
    /// its `needs_reauth` is cleared. A calendar that the user has connected through another
    /// account is refused, the others are connected.
    async fn connect(&self, new: NewConnections, now: OffsetDateTime) -> PortResult<Connected>;

    /// A user's connections, by id, at most `limit`, after the one with id `after`.
    async fn list(
        &self,
        user: UserId,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> PortResult<Listed<CalendarConnection, ConnectionId>>;

    /// One connection of this user.
    async fn get(&self, user: UserId, id: ConnectionId) -> PortResult<Option<CalendarConnection>>;

    /// Changes a connection of this user; resuming makes it due now. `Ok(None)` when there is none.
    async fn change(
        &self,
        user: UserId,
        id: ConnectionId,
        change: ConnectionChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<CalendarConnection>>;

    /// Disconnects: its tokens are gone at once, its events are no longer shown, a pass that is
    /// under way can write no more. Whether there was one.
    async fn disconnect(
        &self,
        user: UserId,
        id: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool>;

    /// The tokens that the connections of the leased account hold, those that open, each once, what lives longest
    /// first. MUST refuse a stale lease.
    async fn tokens(&self, lease: &Lease) -> PortResult<Vec<TokenSet>>;

    /// Stores a refreshed grant on all connections of the leased account, in one statement; keeps
    /// the old refresh token where the grant has none, and what is known of missing permissions where it does not
    /// say. MUST refuse a stale lease.
    async fn store_grant(
        &self,
        lease: &Lease,
        grant: TokenGrant,
        now: OffsetDateTime,
    ) -> PortResult<()>;

    /// Declares that the account's user has to sign in again. MUST refuse a stale lease.
    async fn need_reauth(&self, lease: &Lease, code: &str, now: OffsetDateTime) -> PortResult<()>;
}
