//! Reading what is stored: the queries of the API and their answers.

use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::event::{
    Attendee, EventImportance, EventMoment, EventSpan, EventStatus, Organizer, Reminder,
    Sensitivity, ShowAs, TeamsMeeting,
};
use crate::ids::{ConnectionId, EventId, UserId};
use crate::provider::CalendarProvider;
use crate::recurrence::RecurrenceColumns;

/// Instances as they happen, or series as they are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventView {
    /// Singles, occurrences and exceptions; never a master.
    #[default]
    Instances,
    /// Singles and masters.
    Series,
}

/// Which events to list. All conditions hold together.
#[derive(Clone, Debug)]
pub struct EventQuery {
    /// Whose.
    pub user_id: UserId,
    /// Of this connection only.
    pub connection_id: Option<ConnectionId>,
    /// That end after this instant.
    pub from: Option<OffsetDateTime>,
    /// That start before this instant.
    pub to: Option<OffsetDateTime>,
    /// Teams meetings, or all others.
    pub teams_enabled: Option<bool>,
    /// Of this thread.
    pub conversation_id: Option<String>,
    /// Of this priority.
    pub importance: Option<EventImportance>,
    /// With this category.
    pub category: Option<String>,
    /// Of this status.
    pub status: Option<EventStatus>,
    /// With this text in title or location, whatever its case.
    pub text: Option<String>,
    /// Changed since; orders by the change instead of the start.
    pub updated_since: Option<OffsetDateTime>,
    /// Tombstones too.
    pub include_deleted: bool,
    /// Instances or series.
    pub view: EventView,
    /// How many at the most, 1 to 500.
    pub limit: u32,
    /// Go on after this one.
    pub after: Option<EventCursor>,
}

/// A place in a list: `(start_time, id)`, or `(updated_at, id)` under `updated_since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCursor {
    /// The first key.
    pub at: OffsetDateTime,
    /// The second key.
    pub id: EventId,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed<T, C> {
    /// The entries.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<C>,
}

/// An event as it is stored; what an instance inherits is filled in from its master.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Our id.
    pub id: EventId,
    /// The connection it belongs to.
    pub connection_id: ConnectionId,
    /// The provider.
    pub provider: CalendarProvider,
    /// The provider's id.
    pub provider_event_id: String,
    /// SUMMARY.
    pub title: Option<String>,
    /// The text body.
    pub description: Option<String>,
    /// LOCATION.
    pub location: Option<String>,
    /// When.
    pub span: EventSpan,
    /// IANA zone of the start.
    pub timezone: Option<String>,
    /// IANA zone of the end, where it differs.
    pub end_timezone: Option<String>,
    /// The provider's zone could not be resolved.
    pub timezone_unresolved: bool,
    /// STATUS.
    pub status: EventStatus,
    /// Free or busy.
    pub show_as: Option<ShowAs>,
    /// Private or not.
    pub sensitivity: Option<Sensitivity>,
    /// Priority.
    pub importance: EventImportance,
    /// Outlook's categories.
    pub categories: Vec<String>,
    /// What threads the event with others.
    pub conversation_id: Option<String>,
    /// The master's id at the provider.
    pub series_master_id: Option<String>,
    /// UID of RFC 5545.
    pub ical_uid: Option<String>,
    /// The Teams meeting, also of a master.
    pub teams: Option<TeamsMeeting>,
    /// Who called it.
    pub organizer: Option<Organizer>,
    /// Whether the calendar's user called it.
    pub is_organizer: Option<bool>,
    /// Who is asked to come.
    pub attendees: Vec<Attendee>,
    /// The user's reminders.
    pub reminders: Vec<Reminder>,
    /// Of a master: RRULE and its parts, and EXDATE.
    pub recurrence: Option<StoredRecurrence>,
    /// The master's row, for instances.
    pub master_id: Option<EventId>,
    /// When an instance would have started.
    pub original_start: Option<EventMoment>,
    /// Whether an instance has content of its own.
    pub is_exception: bool,
    /// Where the provider shows it.
    pub html_link: Option<String>,
    /// What has no column, raw.
    pub metadata: Map<String, Value>,
    /// Changes with what is stored; good as an ETag.
    pub version: Option<Uuid>,
    /// When we first saw it.
    pub created_at: OffsetDateTime,
    /// When we last wrote it.
    pub updated_at: OffsetDateTime,
    /// When it became a tombstone.
    pub deleted_at: Option<OffsetDateTime>,
}

/// The recurrence of a master as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecurrence {
    /// RFC 5545 RRULE without the name; `None` where we could not express the provider's.
    pub rule: Option<String>,
    /// The same rule taken apart, where it fits.
    pub columns: Option<RecurrenceColumns>,
    /// EXDATE.
    pub exception_dates: Vec<EventMoment>,
}
