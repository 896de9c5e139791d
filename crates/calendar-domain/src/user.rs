//! Users of the service and their sessions at our API.

use time::OffsetDateTime;

use crate::ids::{SessionId, UserId};

/// A user of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Our id.
    pub id: UserId,
    /// The address: lower case for users who signed up or were made here; older rows as they stand.
    pub email: String,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// When the user signed up.
    pub created_at: OffsetDateTime,
    /// When the user was last changed.
    pub updated_at: OffsetDateTime,
}

/// A user to create.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// The address; stored lower-cased.
    pub email: String,
    /// A PHC string (argon2id).
    pub password_hash: String,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
}

/// A user to create for a product: no password, signs in nowhere.
#[derive(Clone, Debug)]
pub struct NewManagedUser {
    /// Whose service keys act for the user.
    pub managed_by: UserId,
    /// The address; stored lower-cased.
    pub email: String,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
}

/// A change to a user; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// First name; `Some(None)` clears it.
    pub first_name: Option<Option<String>>,
    /// Last name; `Some(None)` clears it.
    pub last_name: Option<Option<String>>,
}

/// A sign-in to store: the token itself is never stored, only its SHA-256.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Our id.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// SHA-256 of the bearer token.
    pub token_hash: [u8; 32],
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

/// A sign-in that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Our id.
    pub id: SessionId,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it ends.
    pub expires_at: OffsetDateTime,
    /// When its token was last used, to the nearest few minutes.
    pub last_used_at: Option<OffsetDateTime>,
}
