//! Port: the events of connections, written by passes and read by the API.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::event::ProviderEventId;
use crate::failure::PortResult;
use crate::ids::{ConnectionId, EventId, RejectedEventId, UserId};
use crate::query::{EventCursor, EventQuery, Listed, StoredEvent};
use crate::rejected::{RejectedEvent, StoredRejectedEvent};
use crate::sync::{
    Applied, Lease, PageBatch, Pass, PassEnd, SeriesCorrection, TouchedSeries, UnseenReport,
};

/// Writes what passes find. Each method is one transaction. All MUST refuse a stale lease, and a
/// connection that was disconnected or paused meanwhile (`lease_lost`), and then write nothing.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait EventStore: Send + Sync {
    /// Which of these masters the connection has no live row of that occurrences could inherit from
    /// (a row of an older application, without `content_version`, is none).
    async fn unknown_masters(
        &self,
        connection: ConnectionId,
        masters: &[ProviderEventId],
    ) -> PortResult<Vec<ProviderEventId>>;

    /// Stores one page: upserts by [`crate::plan`], tombstones, what is set aside, what was seen, and what is to
    /// happen next. A row is written only when its version differs or when it was a tombstone.
    async fn apply(
        &self,
        lease: &Lease,
        batch: PageBatch,
        now: OffsetDateTime,
    ) -> PortResult<Applied>;

    /// What is set aside and may be had now, at most `limit`, each with its reason and without its raw form:
    /// masters that were not there ([`RejectedEvent::MASTER_TRIES`]), and what another version of the mapping
    /// refused.
    async fn rejected_due(
        &self,
        connection: ConnectionId,
        limit: u32,
    ) -> PortResult<Vec<RejectedEvent>>;

    /// The series that the pass has seen anything of (the master or an instance), at most `limit`,
    /// by the master's id, after `after`.
    async fn touched_series(
        &self,
        connection: ConnectionId,
        pass: &Pass,
        after: Option<EventId>,
        limit: u32,
    ) -> PortResult<Vec<TouchedSeries>>;

    /// Writes what judging the series came to; only what differs. Returns how many rows were removed.
    async fn correct_series(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        corrections: Vec<SeriesCorrection>,
        now: OffsetDateTime,
    ) -> PortResult<u64>;

    /// What a full pass has not seen of its window.
    async fn unseen(&self, connection: ConnectionId, pass: &Pass) -> PortResult<UnseenReport>;

    /// Forgets the sync token and how far the pass has come, because the provider takes its cursor no more: the
    /// next pass is a full one, and until it has ended the connection is not up to date.
    async fn restart(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        now: OffsetDateTime,
    ) -> PortResult<()>;

    /// Ends a pass: the unseen (a full pass that removes them sets nothing aside any longer that it did not
    /// see), the sync token and its window, when the next is due. Returns how many
    /// rows were removed.
    async fn finish(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        end: PassEnd,
        now: OffsetDateTime,
    ) -> PortResult<u64>;
}

/// Reads events for their users. What belongs to another user, or to a connection that is no
/// longer there, is not found.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait EventReader: Send + Sync {
    /// The events that the query asks for.
    async fn list(&self, query: EventQuery) -> PortResult<Listed<StoredEvent, EventCursor>>;

    /// A connection's events that are not deleted, masters, instances and exceptions, each with everything
    /// that is stored of it, by the provider's id, at most `limit`, after the one with the provider's id
    /// `after` (empty: from the first).
    async fn export(
        &self,
        user: UserId,
        connection: ConnectionId,
        after: String,
        limit: u32,
    ) -> PortResult<Listed<StoredEvent, String>>;

    /// A connection's events that are set aside, by their id, at most `limit`, after the one with id `after`.
    async fn rejected(
        &self,
        user: UserId,
        connection: ConnectionId,
        after: Option<RejectedEventId>,
        limit: u32,
    ) -> PortResult<Listed<StoredRejectedEvent, RejectedEventId>>;

    /// One event; a tombstone too.
    async fn get(&self, user: UserId, id: EventId) -> PortResult<Option<StoredEvent>>;
}
