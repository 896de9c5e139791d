//! `ConnectionStore` on PostgreSQL.
#![allow(unused, dead_code)]
use crate::database::Database;
use async_trait::async_trait;
use calendar_domain::account::{ConnectSession, TokenGrant};
use calendar_domain::connection::{
    CalendarConnection, Connected, ConnectionChange, NewConnections,
};
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{ConnectionId, UserId};
use calendar_domain::query::Listed;
use calendar_domain::sync::Lease;
use time::OffsetDateTime;
/// `ConnectionStore` on PostgreSQL.
#[derive(Clone)]
pub struct PgConnectionStore {
    database: Database,
    cipher: std::sync::Arc<dyn calendar_domain::ports::TokenCipher>,
}
impl PgConnectionStore {
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
impl calendar_domain::ports::ConnectionStore for PgConnectionStore {
    async fn connect(&self, new: NewConnections, now: OffsetDateTime) -> PortResult<Connected> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn list(
        &self,
        user: UserId,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> PortResult<Listed<CalendarConnection, ConnectionId>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn get(&self, user: UserId, id: ConnectionId) -> PortResult<Option<CalendarConnection>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn change(
        &self,
        user: UserId,
        id: ConnectionId,
        change: ConnectionChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<CalendarConnection>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn disconnect(
        &self,
        user: UserId,
        id: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn store_grant(
        &self,
        lease: &Lease,
        grant: TokenGrant,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn need_reauth(&self, lease: &Lease, code: &str, now: OffsetDateTime) -> PortResult<()> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
}
