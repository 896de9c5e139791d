//! `UserStore` on PostgreSQL.
#![allow(unused, dead_code)]
use crate::database::Database;
use async_trait::async_trait;
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{SessionId, UserId};
use calendar_domain::user::{NewSession, NewUser, User, UserChange};
use time::OffsetDateTime;
/// `UserStore` on PostgreSQL.
#[derive(Clone)]
pub struct PgUserStore {
    database: Database,
}
impl PgUserStore {
    /// The store in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}
#[async_trait]
impl calendar_domain::ports::UserStore for PgUserStore {
    async fn create(&self, user: NewUser, now: OffsetDateTime) -> PortResult<User> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn by_email(&self, email: &str) -> PortResult<Option<(User, String)>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn by_id(&self, id: UserId) -> PortResult<Option<User>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn change(
        &self,
        id: UserId,
        change: UserChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<User>> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
    async fn delete(&self, id: UserId, now: OffsetDateTime) -> PortResult<bool> {
        Err(calendar_domain::failure::PortError::new(
            calendar_domain::failure::FailureClass::Permanent,
            "not_implemented",
        ))
    }
}
