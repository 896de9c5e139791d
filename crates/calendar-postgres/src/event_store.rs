//! `EventStore` on PostgreSQL.
#![allow(unused, dead_code)]
use crate::database::Database;
use async_trait::async_trait;
use calendar_domain::event::ProviderEventId;
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{ConnectionId, EventId, UserId};
use calendar_domain::query::{EventCursor, EventQuery, Listed, StoredEvent};
use calendar_domain::sync::{
    Applied, Lease, PageBatch, Pass, PassEnd, SeriesCorrection, TouchedSeries, UnseenReport,
};
use time::OffsetDateTime;
/// `EventStore` on PostgreSQL.
#[derive(Clone)]
pub struct PgEventStore {
    database: Database,
}
impl PgEventStore {
    /// The store in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}
#[async_trait]
impl calendar_domain::ports::EventStore for PgEventStore {
    async fn unknown_masters(
        &self,
        connection: ConnectionId,
        masters: &[ProviderEventId],
    ) -> PortResult<Vec<ProviderEventId>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn apply(
        &self,
        lease: &Lease,
        batch: PageBatch,
        now: OffsetDateTime,
    ) -> PortResult<Applied> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn touched_series(
        &self,
        connection: ConnectionId,
        pass: &Pass,
        after: Option<EventId>,
        limit: u32,
    ) -> PortResult<Vec<TouchedSeries>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn correct_series(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        corrections: Vec<SeriesCorrection>,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn unseen(&self, connection: ConnectionId, pass: &Pass) -> PortResult<UnseenReport> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn finish(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        end: PassEnd,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
}
