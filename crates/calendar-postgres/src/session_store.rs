//! `SessionStore` on PostgreSQL.
#![allow(unused, dead_code)]
use crate::database::Database;
use async_trait::async_trait;
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{SessionId, UserId};
use calendar_domain::user::{NewSession, NewUser, User, UserChange};
use time::OffsetDateTime;
/// `SessionStore` on PostgreSQL.
#[derive(Clone)]
pub struct PgSessionStore {
    database: Database,
}
impl PgSessionStore {
    /// The store in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}
#[async_trait]
impl calendar_domain::ports::SessionStore for PgSessionStore {
    async fn create(&self, session: NewSession, now: OffsetDateTime) -> PortResult<()> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn find(
        &self,
        token_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<Option<(SessionId, UserId)>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn end(&self, id: SessionId) -> PortResult<bool> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
}
