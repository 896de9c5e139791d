//! How the domain's enums are called in JSON and in queries.

use calendar_domain::connection::ConnectionStatus;
use calendar_domain::event::{
    AttendeeType, EventImportance, EventStatus, ReminderMethod, RsvpStatus, Sensitivity, ShowAs,
};
use calendar_domain::query::EventView;
use calendar_domain::recurrence::{Frequency, MonthDayType, RecurrenceEndType};
use calendar_domain::subscription::{PushHealth, WebhookSubscription};
use time::OffsetDateTime;

/// `status` of events.
pub(crate) const EVENT_STATUS: &[(&str, EventStatus)] = &[
    ("confirmed", EventStatus::Confirmed),
    ("tentative", EventStatus::Tentative),
    ("cancelled", EventStatus::Cancelled),
];

/// `importance`.
pub(crate) const IMPORTANCE: &[(&str, EventImportance)] = &[
    ("low", EventImportance::Low),
    ("normal", EventImportance::Normal),
    ("high", EventImportance::High),
];

/// `view`.
pub(crate) const VIEW: &[(&str, EventView)] = &[
    ("instances", EventView::Instances),
    ("series", EventView::Series),
];

/// Name of a value of an enum that queries name, too.
pub(crate) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names
        .iter()
        .find(|(_, named)| named == value)
        .map_or("unknown", |(name, _)| name)
}

pub(crate) fn connection_status(status: ConnectionStatus) -> &'static str {
    match status {
        ConnectionStatus::Connected => "connected",
        ConnectionStatus::Syncing => "syncing",
        ConnectionStatus::NeedsReauth => "needs_reauth",
        ConnectionStatus::Paused => "paused",
        ConnectionStatus::Failing => "failing",
    }
}

pub(crate) fn push_state(push: PushHealth) -> &'static str {
    match push {
        PushHealth::Healthy { .. } => "healthy",
        PushHealth::Stale { .. } => "stale",
        PushHealth::Unsupported => "unsupported",
        PushHealth::Off => "off",
    }
}

/// A subscription that nobody ended is found expired by the renewals a while after its end.
pub(crate) fn subscription_state(
    subscription: &WebhookSubscription,
    now: OffsetDateTime,
) -> &'static str {
    let until = if subscription.is_active {
        now
    } else {
        // A row that is not active any more does not change: that is when it ended.
        subscription.updated_at
    };
    if until >= subscription.expires_at {
        "expired"
    } else if subscription.is_active {
        "active"
    } else {
        "ended"
    }
}

pub(crate) fn show_as(show_as: ShowAs) -> &'static str {
    match show_as {
        ShowAs::Free => "free",
        ShowAs::Tentative => "tentative",
        ShowAs::Busy => "busy",
        ShowAs::Oof => "oof",
        ShowAs::WorkingElsewhere => "working_elsewhere",
        ShowAs::Unknown => "unknown",
    }
}

pub(crate) fn sensitivity(sensitivity: Sensitivity) -> &'static str {
    match sensitivity {
        Sensitivity::Normal => "normal",
        Sensitivity::Personal => "personal",
        Sensitivity::Private => "private",
        Sensitivity::Confidential => "confidential",
    }
}

pub(crate) fn rsvp_status(status: RsvpStatus) -> &'static str {
    match status {
        RsvpStatus::NeedsAction => "needs_action",
        RsvpStatus::Accepted => "accepted",
        RsvpStatus::Declined => "declined",
        RsvpStatus::Tentative => "tentative",
    }
}

pub(crate) fn attendee_type(attendee_type: AttendeeType) -> &'static str {
    match attendee_type {
        AttendeeType::Required => "required",
        AttendeeType::Optional => "optional",
        AttendeeType::Resource => "resource",
    }
}

pub(crate) fn reminder_method(method: ReminderMethod) -> &'static str {
    match method {
        ReminderMethod::Popup => "popup",
        ReminderMethod::Email => "email",
        ReminderMethod::Sms => "sms",
    }
}

pub(crate) fn frequency(frequency: Frequency) -> &'static str {
    match frequency {
        Frequency::Daily => "daily",
        Frequency::Weekly => "weekly",
        Frequency::Monthly => "monthly",
        Frequency::Yearly => "yearly",
    }
}

pub(crate) fn recurrence_end_type(end_type: RecurrenceEndType) -> &'static str {
    match end_type {
        RecurrenceEndType::Never => "never",
        RecurrenceEndType::UntilDate => "until_date",
        RecurrenceEndType::AfterCount => "after_count",
    }
}

pub(crate) fn month_day_type(month_day_type: MonthDayType) -> &'static str {
    match month_day_type {
        MonthDayType::DayOfMonth => "day_of_month",
        MonthDayType::DayOfWeek => "day_of_week",
    }
}
