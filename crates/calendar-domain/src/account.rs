//! Accounts (one sign-in at one provider), their tokens, and the OAuth round trip that makes them.

use secrecy::SecretString;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::ids::{AccountId, ConnectSessionId, UserId};
use crate::provider::CalendarProvider;

/// The connections that one user made through one sign-in at one provider share an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Our id.
    pub id: AccountId,
    /// Whose it is.
    pub user_id: UserId,
    /// The provider.
    pub provider: CalendarProvider,
    /// Who it is at the provider.
    pub identity: AccountIdentity,
    /// Why the user has to sign in again, as a stable code; `None` while signed in.
    pub needs_reauth: Option<String>,
}

/// Who signed in at the provider. `(provider, tenant_id, provider_user_id)` is the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountIdentity {
    /// The provider's tenant; empty where it has none.
    pub tenant_id: String,
    /// The provider's id of the user.
    pub provider_user_id: String,
    /// The address shown.
    pub email: Option<String>,
    /// The name shown.
    pub display_name: Option<String>,
}

/// What the provider's token endpoint answered (RFC 6749 section 5.1).
#[derive(Clone, Debug)]
pub struct TokenGrant {
    /// The access token.
    pub access_token: SecretString,
    /// A new refresh token; `None` keeps the old one.
    pub refresh_token: Option<SecretString>,
    /// When the access token expires.
    pub expires_at: OffsetDateTime,
    /// What was granted, separated by blanks; empty where the answer does not say.
    pub scopes: String,
    /// What was not granted, as far as the answer says.
    pub missing: Vec<Permission>,
}

/// What a user grants us at a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Reading the user's own calendars.
    ReadCalendars,
    /// Reading those of others, through their mailboxes.
    ReadSharedCalendars,
}

impl Permission {
    /// The name in our API and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadCalendars => "read_calendars",
            Self::ReadSharedCalendars => "read_shared_calendars",
        }
    }
}

/// An account's tokens.
#[derive(Clone, Debug)]
pub struct TokenSet {
    /// The access token.
    pub access_token: SecretString,
    /// The refresh token; `None` when the provider gave none.
    pub refresh_token: Option<SecretString>,
    /// When the access token expires.
    pub expires_at: OffsetDateTime,
}

/// Tokens as a row holds them.
#[derive(Clone, Debug)]
pub enum StoredTokens {
    /// Sealed by us, and opened.
    Open(TokenSet),
    /// None, not sealed by us, or sealed under a key that we do not have: a stable code. The user
    /// has to sign in again.
    Unreadable(&'static str),
}

/// What to ask the provider's authorization endpoint for.
#[derive(Clone, Debug)]
pub struct AuthorizationRequest {
    /// `state`: comes back to the callback.
    pub state: SecretString,
    /// The PKCE verifier (RFC 7636); its S256 challenge goes into the URL.
    pub code_verifier: SecretString,
    /// Where the provider sends the browser back.
    pub redirect_uri: String,
    /// Whether other users' calendars are to be read too.
    pub shared: bool,
}

/// Which calendars of an account to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalendarChoice {
    /// All of them.
    All,
    /// The primary one.
    Primary,
    /// These, by the provider's ids.
    Some(Vec<String>),
}

/// An OAuth round trip under way, bound to one user.
#[derive(Clone, Debug)]
pub struct ConnectSession {
    /// Our id.
    pub id: ConnectSessionId,
    /// Who began it.
    pub user_id: UserId,
    /// At which provider.
    pub provider: CalendarProvider,
    /// The PKCE verifier.
    pub code_verifier: SecretString,
    /// A user whose shared calendars are to be read, instead of one's own.
    pub delegate_email: Option<String>,
    /// Which calendars.
    pub calendars: CalendarChoice,
    /// Where to send the browser in the end; `None` shows a page of ours.
    pub return_url: Option<String>,
    /// Until when the provider may send the browser back.
    pub expires_at: OffsetDateTime,
}

/// A calendar as the provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarListing {
    /// The provider's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `#rrggbb`, where the provider gives a colour that can be said so.
    pub color: Option<String>,
    /// Whether it is the user's main one.
    pub is_primary: bool,
    /// Whether the user may write.
    pub can_edit: bool,
    /// The address of its owner, where that is said.
    pub owner_email: Option<String>,
    /// Whether it is another's, shared with this mailbox: it gives no pushes.
    pub is_shared: bool,
}

/// Where a sealed value stands; sealed into it, so that it opens nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealPlace {
    /// The table.
    pub table: &'static str,
    /// The row's id.
    pub row: Uuid,
    /// The column.
    pub column: &'static str,
}
