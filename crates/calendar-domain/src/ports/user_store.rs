//! Port: users and their sessions at our API.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::failure::PortResult;
use crate::ids::{SessionId, UserId};
use crate::user::{NewSession, NewUser, User, UserChange};

/// Stores users. Deleted ones are not found.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Creates a user. Fails `Conflict` (`email_taken`) when a living user has the address, whatever
    /// its case.
    async fn create(&self, user: NewUser, now: OffsetDateTime) -> PortResult<User>;

    /// The user with this address (compared in lower case; of several rows of an older application
    /// that differ only in case, the exact one, else the oldest) with the password hash.
    async fn by_email(&self, email: &str) -> PortResult<Option<(User, String)>>;

    /// The user with this id.
    async fn by_id(&self, id: UserId) -> PortResult<Option<User>>;

    /// Changes a user; `Ok(None)` when there is none.
    async fn change(
        &self,
        id: UserId,
        change: UserChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<User>>;

    /// Deletes a user: sessions and tokens are gone at once, the address is free again, connections
    /// become tombstones. Whether there was one.
    async fn delete(&self, id: UserId, now: OffsetDateTime) -> PortResult<bool>;
}

/// Stores sign-ins at our API, by the hash of their token.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Stores a sign-in.
    async fn create(&self, session: NewSession, now: OffsetDateTime) -> PortResult<()>;

    /// Who signed in with this token, unless the session has ended or the user is deleted.
    async fn find(
        &self,
        token_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<Option<(SessionId, UserId)>>;

    /// Ends a session. Whether there was one.
    async fn end(&self, id: SessionId) -> PortResult<bool>;
}
