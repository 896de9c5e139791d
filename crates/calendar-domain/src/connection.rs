//! Connections: one calendar of one user, how it is doing, and how fresh it is.

use time::OffsetDateTime;

use crate::account::{AccountIdentity, CalendarListing, Permission, TokenGrant};
use crate::ids::{AccountId, ConnectionId, UserId};
use crate::provider::CalendarProvider;
use crate::subscription::PushHealth;
use crate::sync::{Mailbox, SyncWindow};

/// How a connection is doing; each state that is not well has one remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// Synced, and will be again.
    Connected,
    /// The first pass, or a full one after the cursor was lost, has not ended yet.
    Syncing,
    /// The user has to sign in at the provider again.
    NeedsReauth,
    /// Paused by the user.
    Paused,
    /// The last passes failed; they are tried again by themselves.
    Failing,
}

impl ConnectionStatus {
    /// The name in our API and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Syncing => "syncing",
            Self::NeedsReauth => "needs_reauth",
            Self::Paused => "paused",
            Self::Failing => "failing",
        }
    }
}

/// A connection as its user sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct CalendarConnection {
    /// Our id.
    pub id: ConnectionId,
    /// Whose it is.
    pub user_id: UserId,
    /// The account it is read with; `None` for rows of an older application.
    pub account_id: Option<AccountId>,
    /// The account's address at the provider.
    pub account_email: Option<String>,
    /// The provider.
    pub provider: CalendarProvider,
    /// The provider's id of the calendar.
    pub calendar_id: String,
    /// Its name; the user may change ours.
    pub calendar_name: Option<String>,
    /// `#rrggbb`.
    pub calendar_color: Option<String>,
    /// Whether it is the user's main one there.
    pub is_primary: bool,
    /// Whether the user may write to it at the provider.
    pub can_edit: bool,
    /// Whose calendar it is, when it is read through another user's mailbox.
    pub delegate_email: Option<String>,
    /// How it is doing.
    pub status: ConnectionStatus,
    /// What the sign-in does not grant, although reading this calendar asks for it; the provider may let us read
    /// all the same.
    pub missing_permission: Option<Permission>,
    /// How changes are told to us.
    pub push: PushHealth,
    /// When the last pass ended.
    pub last_synced_at: Option<OffsetDateTime>,
    /// The window that the store covers.
    pub window: Option<SyncWindow>,
    /// When the next pass is due; `None` while paused or waiting for the user.
    pub next_sync_at: Option<OffsetDateTime>,
    /// Why the last pass failed: a stable code, and when.
    pub last_error: Option<(String, OffsetDateTime)>,
    /// Events that are set aside because they cannot be stored.
    pub events_skipped: u64,
    /// Events held (masters and singles; no tombstones).
    pub event_count: u64,
    /// When it was connected.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// A sign-in that succeeded, with the calendars to connect.
#[derive(Clone, Debug)]
pub struct NewConnections {
    /// Who connects.
    pub user_id: UserId,
    /// At which provider.
    pub provider: CalendarProvider,
    /// As whom.
    pub identity: AccountIdentity,
    /// The tokens.
    pub grant: TokenGrant,
    /// Through whose mailbox.
    pub mailbox: Mailbox,
    /// Which calendars.
    pub calendars: Vec<CalendarListing>,
}

/// What connecting did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The connections, new and revived, in the order of the calendars.
    pub connection_ids: Vec<ConnectionId>,
    /// Calendar ids that were refused because the user has them connected through another account.
    pub refused: Vec<String>,
}

/// A change to a connection by its user; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct ConnectionChange {
    /// Pause or resume.
    pub paused: Option<bool>,
    /// Our name for it.
    pub calendar_name: Option<String>,
    /// `#rrggbb`.
    pub calendar_color: Option<String>,
}
