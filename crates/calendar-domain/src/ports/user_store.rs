//! Port: users and their sessions at our API.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::failure::PortResult;
use crate::ids::{SessionId, UserId};
use crate::query::Listed;
use crate::user::{NewManagedUser, NewSession, NewUser, Session, User, UserChange};

/// Stores users. Deleted ones are not found.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait UserStore: Send + Sync {
    /// Creates a user. Fails `Conflict` (`email_taken`) when a living user has the address, whatever
    /// its case.
    async fn create(&self, user: NewUser, now: OffsetDateTime) -> PortResult<User>;

    /// Creates a user whom another manages. Fails `Conflict` (`email_taken`) when a living user of the same
    /// owner has the address, whatever its case; that others have it does not matter.
    async fn create_managed(&self, user: NewManagedUser, now: OffsetDateTime) -> PortResult<User>;

    /// The users whom `owner` manages, by id, at most `limit`, after the one with id `after`; with `email`
    /// the one with this address, whatever its case.
    async fn list_managed(
        &self,
        owner: UserId,
        email: Option<String>,
        after: Option<UserId>,
        limit: u32,
    ) -> PortResult<Listed<User, UserId>>;

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

    /// Deletes a user: sessions, service keys and tokens are gone at once, the address is free again,
    /// connections become tombstones. Of those whom the user manages the tokens are gone and the connections
    /// tombstones at once, however many they are; the rest may come later. Whether there was one.
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

    /// A user's sessions that have not ended, by id, at most `limit`, after the one with id `after`.
    async fn list(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: u32,
        now: OffsetDateTime,
    ) -> PortResult<Listed<Session, SessionId>>;

    /// Ends a session of this user. Whether there was one.
    async fn end(&self, user: UserId, id: SessionId) -> PortResult<bool>;
}
