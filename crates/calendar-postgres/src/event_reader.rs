//! `EventReader` on PostgreSQL.
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
/// `EventReader` on PostgreSQL.
#[derive(Clone)]
pub struct PgEventReader {
    database: Database,
}
impl PgEventReader {
    /// The store in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}
#[async_trait]
impl calendar_domain::ports::EventReader for PgEventReader {
    async fn list(&self, query: EventQuery) -> PortResult<Listed<StoredEvent, EventCursor>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn get(&self, user: UserId, id: EventId) -> PortResult<Option<StoredEvent>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
}
