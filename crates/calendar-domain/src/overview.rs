//! How the whole installation is doing, for those who run it: numbers only, of nobody in particular.

use std::time::Duration;

use time::OffsetDateTime;

use crate::connection::ConnectionStatus;
use crate::provider::CalendarProvider;

/// What operators watch, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// All connections, those alike together.
    pub connections: Vec<ConnectionGroup>,
    /// What waits for a worker, for each provider of which anything waits.
    pub backlogs: Vec<Backlog>,
    /// All subscriptions, those alike together.
    pub subscriptions: Vec<SubscriptionGroup>,
}

/// Connections that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionGroup {
    /// Their provider.
    pub provider: CalendarProvider,
    /// How they are doing.
    pub status: ConnectionStatus,
    /// How changes are told to us.
    pub push: PushState,
    /// Why they fail, or need their user.
    pub error_code: Option<String>,
    /// How many.
    pub count: u64,
    /// Events that were set aside in them.
    pub events_skipped: u64,
}

/// [`crate::subscription::PushHealth`] without its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are described there")]
pub enum PushState {
    Healthy,
    Stale,
    Unsupported,
    Off,
}

impl PushState {
    /// The name in our API and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Stale => "stale",
            Self::Unsupported => "unsupported",
            Self::Off => "off",
        }
    }
}

/// What is due at a provider and is not being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The provider.
    pub provider: CalendarProvider,
    /// Accounts that wait for a worker.
    pub accounts: u64,
    /// Connections that have waited for longer than a minute.
    pub overdue: u64,
    /// How long what has waited the longest has waited.
    pub lag: Duration,
}

/// Subscriptions that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionGroup {
    /// Who sends the pushes.
    pub provider: CalendarProvider,
    /// Whether pushes are expected of them.
    pub is_active: bool,
    /// Whether their time is over.
    pub is_expired: bool,
    /// How many.
    pub count: u64,
    /// The soonest end among them.
    pub soonest_expiry: OffsetDateTime,
}
