//! `ConnectSessionStore` on PostgreSQL.
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
/// `ConnectSessionStore` on PostgreSQL.
#[derive(Clone)]
pub struct PgConnectSessionStore {
    database: Database,
    cipher: std::sync::Arc<dyn calendar_domain::ports::TokenCipher>,
}
impl PgConnectSessionStore {
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
impl calendar_domain::ports::ConnectSessionStore for PgConnectSessionStore {
    async fn create(
        &self,
        session: ConnectSession,
        state_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<()> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn consume(
        &self,
        state_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<Option<ConnectSession>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
}
