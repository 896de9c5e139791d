//! Calendar events: what an adapter maps a provider's event to, in the terms of RFC 5545.

use serde_json::{Map, Value};
use time::{Date, OffsetDateTime, Time};

use crate::recurrence::RecurrenceRule;
use crate::rejected::RejectedEvent;

/// A provider's own id of an event. Compared byte for byte: two ids may differ only in case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderEventId(pub String);

impl ProviderEventId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProviderEventId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

/// A point on a calendar: an instant, or a date for all-day events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventMoment {
    /// A date without a time or a zone.
    Date(Date),
    /// An instant.
    Instant(OffsetDateTime),
}

impl EventMoment {
    /// As it stands in a TIMESTAMPTZ column: dates are midnight UTC, instants whole microseconds.
    #[must_use]
    pub fn to_column(self) -> OffsetDateTime {
        match self {
            Self::Date(date) => date.with_time(Time::MIDNIGHT).assume_utc(),
            Self::Instant(instant) => instant
                .replace_nanosecond(instant.nanosecond() / 1_000 * 1_000)
                .unwrap_or(instant)
                .to_offset(time::UtcOffset::UTC),
        }
    }

    /// Back from a TIMESTAMPTZ column.
    #[must_use]
    pub fn from_column(column: OffsetDateTime, is_all_day: bool) -> Self {
        if is_all_day {
            Self::Date(column.to_offset(time::UtcOffset::UTC).date())
        } else {
            Self::Instant(column)
        }
    }
}

/// When an event takes place. The end is exclusive and never before the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventSpan {
    /// From one instant to another.
    Timed {
        /// First instant.
        start: OffsetDateTime,
        /// First instant after the event.
        end: OffsetDateTime,
    },
    /// Whole days, without a zone.
    AllDay {
        /// First day.
        start: Date,
        /// First day after the event.
        end: Date,
    },
}

impl EventSpan {
    /// The start as a moment.
    #[must_use]
    pub fn start(self) -> EventMoment {
        match self {
            Self::Timed { start, .. } => EventMoment::Instant(start),
            Self::AllDay { start, .. } => EventMoment::Date(start),
        }
    }

    /// The end, exclusive, as a moment.
    #[must_use]
    pub fn end(self) -> EventMoment {
        match self {
            Self::Timed { end, .. } => EventMoment::Instant(end),
            Self::AllDay { end, .. } => EventMoment::Date(end),
        }
    }

    /// Whether it is given as dates.
    #[must_use]
    pub fn is_all_day(self) -> bool {
        matches!(self, Self::AllDay { .. })
    }
}

/// The zone an event was made in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventZone {
    /// An IANA name, such as `Europe/Berlin`.
    Iana(String),
    /// A name that we cannot resolve; the instants stand, the event is flagged.
    Unresolved(String),
}

impl EventZone {
    /// The IANA name, where there is one.
    #[must_use]
    pub fn iana(&self) -> Option<&str> {
        match self {
            Self::Iana(name) => Some(name),
            Self::Unresolved(_) => None,
        }
    }
}

/// STATUS of RFC 5545 (`event_status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are RFC 5545's")]
pub enum EventStatus {
    #[default]
    Confirmed,
    Tentative,
    Cancelled,
}

/// Graph's `importance` (`event_importance`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are Graph's")]
pub enum EventImportance {
    Low,
    #[default]
    Normal,
    High,
}

/// Graph's `showAs` (`event_show_as`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are Graph's")]
pub enum ShowAs {
    Free,
    Tentative,
    Busy,
    Oof,
    WorkingElsewhere,
    Unknown,
}

/// Graph's `sensitivity`, CLASS of RFC 5545 (`event_sensitivity`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are Graph's")]
pub enum Sensitivity {
    Normal,
    Personal,
    Private,
    Confidential,
}

/// PARTSTAT of RFC 5545 (`rsvp_status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are RFC 5545's")]
pub enum RsvpStatus {
    #[default]
    NeedsAction,
    Accepted,
    Declined,
    Tentative,
}

/// Who has to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AttendeeType {
    /// Has to come.
    #[default]
    Required,
    /// May come.
    Optional,
    /// A room or a thing.
    Resource,
}

/// One attendee of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attendee {
    /// The address as the provider gave it; `None` for a room without one.
    pub email: Option<String>,
    /// The name shown.
    pub display_name: Option<String>,
    /// What the attendee answered.
    pub rsvp_status: RsvpStatus,
    /// Required, optional, or a resource.
    pub attendee_type: AttendeeType,
    /// Whether this is the organizer.
    pub is_organizer: bool,
    /// What the attendee wrote with the answer.
    pub comment: Option<String>,
    /// When the attendee answered.
    pub response_time: Option<OffsetDateTime>,
}

/// How a reminder reaches the user (`reminder_method`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ReminderMethod {
    #[default]
    Popup,
    Email,
    Sms,
}

/// A reminder of the calendar's user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reminder {
    /// How.
    pub method: ReminderMethod,
    /// Minutes before the start; negative is after it.
    pub minutes_before: i32,
}

/// Who called the meeting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Organizer {
    /// The address, where there is one.
    pub email: Option<String>,
    /// The name shown.
    pub display_name: Option<String>,
}

/// A Microsoft Teams meeting. Each part may come later than the meeting itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TeamsMeeting {
    /// Graph's `onlineMeeting.joinUrl`.
    pub meeting_url: Option<String>,
    /// Graph's `onlineMeeting.conferenceId`.
    pub conference_id: Option<String>,
    /// How to dial in: a `tel:` or `https:` URL, or the number as the provider gave it.
    pub dial_in_url: Option<String>,
}

/// What an event is within a series.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// No series.
    Single,
    /// The template of a series.
    Master {
        /// The rule; `None` where we cannot express it (the raw form is in the metadata).
        rule: Option<RecurrenceRule>,
        /// EXDATE; `None` where the provider does not say (Graph), so that what we know stays.
        exception_dates: Option<Vec<EventMoment>>,
    },
    /// An instance with content of its own (RFC 5545: an override by RECURRENCE-ID).
    Exception {
        /// The series it belongs to.
        master: ProviderEventId,
        /// When it would have started: its identity, also when it is moved.
        original_start: EventMoment,
    },
}

/// An event as its provider has it, mapped by an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderEvent {
    /// The provider's id.
    pub id: ProviderEventId,
    /// Single, master or exception.
    pub kind: EventKind,
    /// SUMMARY.
    pub title: Option<String>,
    /// The text body.
    pub description: Option<String>,
    /// LOCATION.
    pub location: Option<String>,
    /// When. For a master: its first occurrence.
    pub span: EventSpan,
    /// The zone of the start.
    pub zone: Option<EventZone>,
    /// The zone of the end, where it differs from that of the start.
    pub end_zone: Option<EventZone>,
    /// STATUS.
    pub status: EventStatus,
    /// Priority.
    pub importance: EventImportance,
    /// Free or busy; `None` where the provider does not say.
    pub show_as: Option<ShowAs>,
    /// Private or not; `None` where the provider does not say.
    pub sensitivity: Option<Sensitivity>,
    /// Outlook's categories.
    pub categories: Vec<String>,
    /// What threads the event with others.
    pub conversation_id: Option<String>,
    /// UID of RFC 5545: the same in all attendees' calendars.
    pub ical_uid: Option<String>,
    /// The Teams meeting, where it is one.
    pub teams: Option<TeamsMeeting>,
    /// Who called it.
    pub organizer: Option<Organizer>,
    /// Whether the calendar's user called it; `None` where the provider does not say.
    pub is_organizer: Option<bool>,
    /// Who is asked to come.
    pub attendees: Vec<Attendee>,
    /// The user's reminders.
    pub reminders: Vec<Reminder>,
    /// Where the provider shows it.
    pub html_link: Option<String>,
    /// What has no column, raw.
    pub metadata: Map<String, Value>,
}

/// An unmodified instance of a series: everything but its time is its master's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The provider's id of this instance.
    pub id: ProviderEventId,
    /// The series it belongs to.
    pub master: ProviderEventId,
    /// When. Its start is its original start.
    pub span: EventSpan,
}

/// One entry of a provider's change feed.
#[derive(Clone, Debug, PartialEq)]
pub enum EventChange {
    /// A single event, a master or an exception, whole.
    Event(Box<ProviderEvent>),
    /// An unmodified instance.
    Occurrence(Occurrence),
    /// Gone, or out of the window. The id may be one that we never saw.
    Removed(ProviderEventId),
    /// One that could not be mapped. What we hold of it stays as it is.
    Rejected(RejectedEvent),
}

impl EventChange {
    /// The id that the entry is about.
    #[must_use]
    pub fn id(&self) -> &ProviderEventId {
        match self {
            Self::Event(event) => &event.id,
            Self::Occurrence(occurrence) => &occurrence.id,
            Self::Removed(id) | Self::Rejected(RejectedEvent { id, .. }) => id,
        }
    }

    /// The master that the entry needs to be stored before or with it.
    #[must_use]
    pub fn master(&self) -> Option<&ProviderEventId> {
        match self {
            Self::Event(event) => match &event.kind {
                EventKind::Exception { master, .. } => Some(master),
                EventKind::Single | EventKind::Master { .. } => None,
            },
            Self::Occurrence(occurrence) => Some(&occurrence.master),
            Self::Removed(_) | Self::Rejected(_) => None,
        }
    }
}
