//! `SyncQueue` on PostgreSQL.
#![allow(unused, dead_code)]
use crate::database::Database;
use async_trait::async_trait;
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{ConnectionId, UserId, WorkerId};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::{Claim, Lease, PassFailure};
use std::time::Duration;
use time::OffsetDateTime;
/// `SyncQueue` on PostgreSQL.
#[derive(Clone)]
pub struct PgSyncQueue {
    database: Database,
    cipher: std::sync::Arc<dyn calendar_domain::ports::TokenCipher>,
}
impl PgSyncQueue {
    /// The store in this database.
    #[must_use]
    pub fn new(
        database: Database,
        cipher: std::sync::Arc<dyn calendar_domain::ports::TokenCipher>,
    ) -> Self {
        Self { database, cipher }
    }
}
#[async_trait]
impl calendar_domain::ports::SyncQueue for PgSyncQueue {
    async fn claim(
        &self,
        worker: WorkerId,
        providers: &[CalendarProvider],
        now: OffsetDateTime,
        ttl: Duration,
    ) -> PortResult<Option<Claim>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn heartbeat(&self, lease: &Lease, ttl: Duration) -> PortResult<()> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn fail(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        failure: PassFailure,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn release(&self, lease: &Lease) -> PortResult<()> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn request_sync(
        &self,
        user: UserId,
        connection: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
}
