//! How the domain's enums are called in JSON and in queries.

use calendar_domain::subscription::{PushHealth, WebhookSubscription};
use calendar_domain::{account, connection, event, provider, query, recurrence};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

/// `status` of events in queries.
pub(crate) const EVENT_STATUS: &[(&str, event::EventStatus)] = &[
    ("confirmed", event::EventStatus::Confirmed),
    ("tentative", event::EventStatus::Tentative),
    ("cancelled", event::EventStatus::Cancelled),
];

/// `importance` in queries.
pub(crate) const IMPORTANCE: &[(&str, event::EventImportance)] = &[
    ("low", event::EventImportance::Low),
    ("normal", event::EventImportance::Normal),
    ("high", event::EventImportance::High),
];

/// `view`.
pub(crate) const VIEW: &[(&str, query::EventView)] = &[
    ("instances", query::EventView::Instances),
    ("series", query::EventView::Series),
];

/// An enum of the contract for each of the domain's; a value that has no name does not compile.
macro_rules! named {
    ($($(#[$doc:meta])* $name:ident of $of:ty { $($variant:ident,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name { $($variant,)+ }

        impl From<$of> for $name {
            fn from(value: $of) -> Self {
                match value {
                    $(<$of>::$variant => Self::$variant,)+
                }
            }
        }
    )+};
}

named! {
    /// A calendar provider.
    Provider of provider::CalendarProvider {
        Google,
        Microsoft,
        Apple,
    }

    /// What a user grants us at a provider.
    Permission of account::Permission {
        ReadCalendars,
        ReadSharedCalendars,
    }

    /// How a connection is doing: `connected`, and its calendar is kept up to date; `syncing`, its first
    /// pass is on its way; `needs_reauth`, the user has to sign in at the provider again; `paused` by the
    /// user; `failing`, and tried again.
    ConnectionStatus of connection::ConnectionStatus {
        Connected,
        Syncing,
        NeedsReauth,
        Paused,
        Failing,
    }

    /// The status of an event (STATUS of RFC 5545).
    EventStatus of event::EventStatus {
        Confirmed,
        Tentative,
        Cancelled,
    }

    /// The priority of an event.
    Importance of event::EventImportance {
        Low,
        Normal,
        High,
    }

    /// Events as they happen, or series as they are kept.
    EventView of query::EventView {
        Instances,
        Series,
    }

    /// How an event's time shows to others.
    ShowAs of event::ShowAs {
        Free,
        Tentative,
        Busy,
        Oof,
        WorkingElsewhere,
        Unknown,
    }

    /// Who may see an event (CLASS of RFC 5545).
    Sensitivity of event::Sensitivity {
        Normal,
        Personal,
        Private,
        Confidential,
    }

    /// What an attendee answered (PARTSTAT of RFC 5545).
    RsvpStatus of event::RsvpStatus {
        NeedsAction,
        Accepted,
        Declined,
        Tentative,
    }

    /// Who has to come; a room or a thing is a `resource`.
    AttendeeType of event::AttendeeType {
        Required,
        Optional,
        Resource,
    }

    /// How one is reminded.
    ReminderMethod of event::ReminderMethod {
        Popup,
        Email,
        Sms,
    }

    /// FREQ of RFC 5545.
    Frequency of recurrence::Frequency {
        Daily,
        Weekly,
        Monthly,
        Yearly,
    }

    /// How a series ends.
    RecurrenceEndType of recurrence::RecurrenceEndType {
        Never,
        UntilDate,
        AfterCount,
    }

    /// By which kind of day a month or a year repeats.
    MonthDayType of recurrence::MonthDayType {
        DayOfMonth,
        DayOfWeek,
    }
}

/// Whether the provider's pushes can be relied on: `healthy`; `stale`, a change came without one; `unsupported`,
/// the calendar gives none; `off`, there is no subscription at the moment.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PushState {
    Healthy,
    Stale,
    Unsupported,
    Off,
}

impl From<PushHealth> for PushState {
    fn from(push: PushHealth) -> Self {
        match push {
            PushHealth::Healthy { .. } => Self::Healthy,
            PushHealth::Stale { .. } => Self::Stale,
            PushHealth::Unsupported => Self::Unsupported,
            PushHealth::Off => Self::Off,
        }
    }
}

/// `active`; `expired` at its end; `ended` before it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SubscriptionState {
    Active,
    Expired,
    Ended,
}

impl SubscriptionState {
    /// A subscription that nobody ended is found expired by the renewals a while after its end.
    pub(crate) fn of(subscription: &WebhookSubscription, now: OffsetDateTime) -> Self {
        let until = if subscription.is_active {
            now
        } else {
            // A row that is not active any more does not change: that is when it ended.
            subscription.updated_at
        };
        if until >= subscription.expires_at {
            Self::Expired
        } else if subscription.is_active {
            Self::Active
        } else {
            Self::Ended
        }
    }
}
