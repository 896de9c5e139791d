//! Port: service keys.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::api_key::{ApiKey, KnownApiKey, NewApiKey};
use crate::failure::PortResult;
use crate::ids::{ApiKeyId, UserId};
use crate::query::Listed;

/// Stores service keys, by the hash of the key.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait ApiKeyStore: Send + Sync {
    /// Stores a key. Fails `Conflict` (`too_many_keys`) when its owner has [`MOST_API_KEYS`] already, and
    /// `Permanent` (`user_not_found`) for a user who is gone or managed.
    ///
    /// [`MOST_API_KEYS`]: crate::api_key::MOST_API_KEYS
    async fn create(&self, key: NewApiKey, now: OffsetDateTime) -> PortResult<ApiKey>;

    /// The key with this hash, and whether it may act for `user`; `None` when there is none, or its
    /// owner is deleted. Notes the use, once an hour.
    async fn find(
        &self,
        token_hash: [u8; 32],
        user: Option<UserId>,
        now: OffsetDateTime,
    ) -> PortResult<Option<KnownApiKey>>;

    /// A user's keys, by id, at most `limit`, after the one with id `after`.
    async fn list(
        &self,
        owner: UserId,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> PortResult<Listed<ApiKey, ApiKeyId>>;

    /// Ends a key of this user, at once. Whether there was one.
    async fn delete(&self, owner: UserId, id: ApiKeyId) -> PortResult<bool>;
}
