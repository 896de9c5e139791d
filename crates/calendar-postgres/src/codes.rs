//! The labels of PostgreSQL's enum types, both ways. Statements send and read them as text: the
//! ids of the types differ from database to database and would have to be asked for.

use calendar_domain::account::Permission;
use calendar_domain::api_key::ApiScope;
use calendar_domain::event::{
    AttendeeType, EventImportance, EventStatus, ReminderMethod, RsvpStatus, Sensitivity, ShowAs,
};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::recurrence::{Frequency, MonthDayType, RecurrenceEndType};
use calendar_domain::subscription::PushLook;
use calendar_domain::sync::PassKind;
use diesel::result::Error as QueryError;

use crate::error::PgError;

/// A value that stands in the database as a label.
pub(crate) trait Label: Copy + 'static {
    /// All values with their labels.
    const LABELS: &'static [(Self, &'static str)];

    /// The label.
    fn label(self) -> &'static str;

    /// The value with this label.
    fn from_label(label: &str) -> Result<Self, PgError> {
        let found = Self::LABELS.iter().find(|(_, known)| *known == label);
        let unknown = || PgError::from(QueryError::DeserializationError("an unknown label".into()));
        found.map(|(value, _)| *value).ok_or_else(unknown)
    }

    /// The value with this label, where there is one.
    fn from_optional(label: Option<&str>) -> Result<Option<Self>, PgError> {
        label.map(Self::from_label).transpose()
    }
}

macro_rules! labels {
    ($($type:ty { $($variant:ident => $label:literal,)* })*) => {$(
        impl Label for $type {
            const LABELS: &'static [(Self, &'static str)] = &[$((Self::$variant, $label),)*];

            fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }
    )*};
}

labels! {
    ApiScope {
        EventsRead => "events:read",
        ConnectionsManage => "connections:manage",
        UsersManage => "users:manage",
    }
    CalendarProvider { Google => "GOOGLE", Microsoft => "MICROSOFT", Apple => "APPLE", }
    EventStatus { Confirmed => "CONFIRMED", Tentative => "TENTATIVE", Cancelled => "CANCELLED", }
    EventImportance { Low => "LOW", Normal => "NORMAL", High => "HIGH", }
    ShowAs {
        Free => "FREE",
        Tentative => "TENTATIVE",
        Busy => "BUSY",
        Oof => "OOF",
        WorkingElsewhere => "WORKING_ELSEWHERE",
        Unknown => "UNKNOWN",
    }
    Sensitivity {
        Normal => "NORMAL",
        Personal => "PERSONAL",
        Private => "PRIVATE",
        Confidential => "CONFIDENTIAL",
    }
    RsvpStatus {
        NeedsAction => "NEEDS_ACTION",
        Accepted => "ACCEPTED",
        Declined => "DECLINED",
        Tentative => "TENTATIVE",
    }
    AttendeeType { Required => "required", Optional => "optional", Resource => "resource", }
    ReminderMethod { Popup => "POPUP", Email => "EMAIL", Sms => "SMS", }
    PassKind { Full => "FULL", Delta => "DELTA", }
    Frequency { Daily => "DAILY", Weekly => "WEEKLY", Monthly => "MONTHLY", Yearly => "YEARLY", }
    RecurrenceEndType { Never => "NEVER", UntilDate => "UNTIL_DATE", AfterCount => "AFTER_COUNT", }
    MonthDayType { DayOfMonth => "DAY_OF_MONTH", DayOfWeek => "DAY_OF_WEEK", }
}

/// What an answer is called in the deprecated JSONB column: Google's words.
pub(crate) fn rsvp_word(status: RsvpStatus) -> &'static str {
    match status {
        RsvpStatus::NeedsAction => "needsAction",
        RsvpStatus::Accepted => "accepted",
        RsvpStatus::Declined => "declined",
        RsvpStatus::Tentative => "tentative",
    }
}

/// A permission by its name in a column.
pub(crate) fn permission(name: &str) -> Option<Permission> {
    [Permission::ReadCalendars, Permission::ReadSharedCalendars]
        .into_iter()
        .find(|permission| permission.as_str() == name)
}

/// What a method is called in the deprecated JSONB column.
pub(crate) fn reminder_word(method: ReminderMethod) -> &'static str {
    match method {
        ReminderMethod::Popup => "popup",
        ReminderMethod::Email => "email",
        ReminderMethod::Sms => "sms",
    }
}

/// A look as `calendar_sync_states.push_look` numbers it.
pub(crate) fn look_number(look: PushLook) -> i16 {
    match look {
        PushLook::First => 1,
        PushLook::Second => 2,
        PushLook::Third => 3,
    }
}

/// The look with this number.
pub(crate) fn look_of_number(number: i16) -> Option<PushLook> {
    [PushLook::First, PushLook::Second, PushLook::Third]
        .into_iter()
        .find(|look| look_number(*look) == number)
}
