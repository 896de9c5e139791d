//! Service keys: with one, a product's backend calls the API for its many users.

use time::OffsetDateTime;

use crate::ids::{ApiKeyId, UserId};

/// How every key begins: tells it from a session's token, and lets secret scanners find it.
pub const API_KEY_PREFIX: &str = "calkey_";
/// Keys that one user has at the most.
pub const MOST_API_KEYS: u32 = 50;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiScope {
    /// Read events, and the connections that they are of.
    EventsRead,
    /// Connect calendars, and all that can be done with connections.
    ConnectionsManage,
    /// Make, list, change and delete users.
    UsersManage,
}

impl ApiScope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EventsRead, Self::ConnectionsManage, Self::UsersManage];

    /// The name in our API and in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventsRead => "events:read",
            Self::ConnectionsManage => "connections:manage",
            Self::UsersManage => "users:manage",
        }
    }
}

/// A key as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Our id.
    pub id: ApiKeyId,
    /// What its owner calls it.
    pub name: String,
    /// How the key begins: enough to recognise it by, far too little to use it.
    pub hint: String,
    /// What it may do.
    pub scopes: Vec<ApiScope>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was last used, to the nearest hour.
    pub last_used_at: Option<OffsetDateTime>,
}

/// A key to store: the key itself is never stored, only its SHA-256.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// Our id.
    pub id: ApiKeyId,
    /// Who makes it.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: String,
    /// How the key begins.
    pub hint: String,
    /// SHA-256 of the key.
    pub token_hash: [u8; 32],
    /// What it may do.
    pub scopes: Vec<ApiScope>,
}

/// A key that was given and is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownApiKey {
    /// Our id.
    pub id: ApiKeyId,
    /// Who made it.
    pub owner: UserId,
    /// What it may do.
    pub scopes: Vec<ApiScope>,
    /// The user that was asked for, where the key may act for that one: its owner, or a user whom the
    /// owner manages.
    pub acts_for: Option<UserId>,
}
