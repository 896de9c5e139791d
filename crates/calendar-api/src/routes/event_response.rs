//! The shape of an event in JSON: everything that its row holds, nested.

use calendar_domain::event::{Attendee, EventMoment, EventSpan, Organizer, Reminder, TeamsMeeting};
use calendar_domain::ids::{ConnectionId, EventId};
use calendar_domain::query::{StoredEvent, StoredRecurrence};
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::names;
use crate::respond::{Day, Instant, Moment};

/// What is left of an event that is gone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Tombstone)]
pub(crate) struct TombstoneResponse {
    #[schema(value_type = Uuid)]
    id: EventId,
    #[schema(value_type = Uuid)]
    connection_id: ConnectionId,
    deleted_at: Instant,
}

impl TombstoneResponse {
    pub(crate) fn new(event: &StoredEvent, deleted_at: OffsetDateTime) -> Self {
        Self {
            id: event.id,
            connection_id: event.connection_id,
            deleted_at: Instant(deleted_at),
        }
    }
}

/// An event: a single one, an instance of a series, or a series as its master.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(crate) struct EventResponse {
    #[schema(value_type = Uuid)]
    id: EventId,
    #[schema(value_type = Uuid)]
    connection_id: ConnectionId,
    provider: names::Provider,
    /// The provider's id.
    provider_event_id: String,
    /// UID of RFC 5545.
    ical_uid: Option<String>,
    #[schema(examples("Weekly review"))]
    title: Option<String>,
    /// Plain text.
    description: Option<String>,
    location: Option<String>,
    /// Whether it has `start_date` and `end_date`; else it has `start` and `end`.
    is_all_day: bool,
    #[serde(flatten)]
    time: TimeResponse,
    status: names::EventStatus,
    show_as: Option<names::ShowAs>,
    sensitivity: Option<names::Sensitivity>,
    organizer: Option<OrganizerResponse>,
    /// Whether the calendar's owner is the organizer.
    is_organizer: Option<bool>,
    attendees: Vec<AttendeeResponse>,
    reminders: Vec<ReminderResponse>,
    /// Of a series master.
    recurrence: Option<RecurrenceResponse>,
    /// Of an instance of a series.
    series: Option<SeriesResponse>,
    outlook: OutlookResponse,
    /// `null` when it is no Teams meeting.
    teams: Option<TeamsResponse>,
    html_link: Option<String>,
    /// What the provider sends and no other field holds; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    provider_metadata: Option<Map<String, Value>>,
    /// Changes with what the provider shows of the event.
    version: Option<Uuid>,
    created_at: Instant,
    updated_at: Instant,
}

/// Timed events have instants, all-day events have dates, and neither has the other's.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventTime)]
#[serde(untagged)]
enum TimeResponse {
    Timed {
        start: Instant,
        /// Exclusive.
        end: Instant,
        /// IANA.
        #[schema(examples("Europe/Berlin"))]
        timezone: Option<String>,
        /// IANA, where it differs from that of the start.
        end_timezone: Option<String>,
        /// The provider's zone has no IANA name; the instants stand.
        timezone_unresolved: bool,
    },
    AllDay {
        start_date: Day,
        /// Exclusive.
        end_date: Day,
    },
}

/// Who invites.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organizer)]
struct OrganizerResponse {
    email: Option<String>,
    display_name: Option<String>,
}

impl From<Organizer> for OrganizerResponse {
    fn from(organizer: Organizer) -> Self {
        Self {
            email: organizer.email,
            display_name: organizer.display_name,
        }
    }
}

/// Who is invited.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attendee)]
struct AttendeeResponse {
    email: Option<String>,
    display_name: Option<String>,
    rsvp_status: names::RsvpStatus,
    r#type: names::AttendeeType,
    is_organizer: bool,
    comment: Option<String>,
    response_time: Option<Instant>,
}

impl From<Attendee> for AttendeeResponse {
    fn from(attendee: Attendee) -> Self {
        Self {
            email: attendee.email,
            display_name: attendee.display_name,
            rsvp_status: attendee.rsvp_status.into(),
            r#type: attendee.attendee_type.into(),
            is_organizer: attendee.is_organizer,
            comment: attendee.comment,
            response_time: attendee.response_time.map(Instant),
        }
    }
}

/// A reminder of the calendar's owner.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Reminder)]
struct ReminderResponse {
    method: names::ReminderMethod,
    minutes_before: i32,
}

impl From<Reminder> for ReminderResponse {
    fn from(reminder: Reminder) -> Self {
        Self {
            method: reminder.method.into(),
            minutes_before: reminder.minutes_before,
        }
    }
}

/// The rule as text, and taken apart where it fits; then `rule` decides.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Recurrence)]
struct RecurrenceResponse {
    /// RRULE of RFC 5545; `null` when the provider's rule cannot be said as one.
    #[schema(examples("FREQ=WEEKLY;BYDAY=MO"))]
    rule: Option<String>,
    frequency: Option<names::Frequency>,
    interval: Option<i32>,
    end_type: Option<names::RecurrenceEndType>,
    /// With `until_date`: an instant, or a date in all-day series.
    end_date: Option<Moment>,
    count: Option<i32>,
    by_day: Vec<String>,
    month_day_type: Option<names::MonthDayType>,
    by_month_day: Option<i32>,
    by_set_pos: Option<i32>,
    by_day_of_week: Vec<String>,
    by_month: Vec<u8>,
    /// Occurrences that do not take place: instants, or dates in all-day series.
    exception_dates: Vec<Moment>,
}

impl RecurrenceResponse {
    fn new(recurrence: StoredRecurrence, is_all_day: bool) -> Self {
        let columns = recurrence.columns;
        let words = |text: Option<String>| -> Vec<String> {
            text.iter()
                .flat_map(|text| text.split(','))
                .map(|word| word.trim().to_owned())
                .collect()
        };
        let (mut by_day, mut by_day_of_week, mut by_month) = (Vec::new(), Vec::new(), Vec::new());
        let mut response = Self {
            rule: recurrence.rule,
            frequency: None,
            interval: None,
            end_type: None,
            end_date: None,
            count: None,
            by_day: Vec::new(),
            month_day_type: None,
            by_month_day: None,
            by_set_pos: None,
            by_day_of_week: Vec::new(),
            by_month: Vec::new(),
            exception_dates: recurrence.exception_dates.into_iter().map(Moment).collect(),
        };
        if let Some(columns) = columns {
            response.frequency = Some(columns.frequency.into());
            response.interval = Some(columns.interval);
            response.end_type = Some(columns.end_type.into());
            response.end_date = columns
                .end_date
                .map(|at| Moment(EventMoment::from_column(at, is_all_day)));
            response.count = columns.count;
            response.month_day_type = columns.month_day_type.map(Into::into);
            response.by_month_day = columns.by_month_day;
            response.by_set_pos = columns.by_set_pos;
            by_day = words(columns.by_day);
            by_day_of_week = words(columns.by_day_of_week);
            by_month = words(columns.by_month)
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect();
        }
        Self {
            by_day,
            by_day_of_week,
            by_month,
            ..response
        }
    }
}

/// Where an instance belongs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Series)]
struct SeriesResponse {
    /// Our id of the master.
    #[schema(value_type = Uuid)]
    master_id: EventId,
    /// When it would have started: its identity, also when it was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    original_start: Option<Instant>,
    /// The same, of an all-day series.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    original_start_date: Option<Day>,
    /// It has content of its own.
    is_exception: bool,
}

/// What Outlook keeps of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Outlook)]
struct OutlookResponse {
    importance: names::Importance,
    categories: Vec<String>,
    /// The thread of mails that it belongs to.
    conversation_id: Option<String>,
    /// The provider's id of the series.
    series_master_id: Option<String>,
}

/// Where to join a Teams meeting.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Teams)]
struct TeamsResponse {
    meeting_url: Option<String>,
    conference_id: Option<String>,
    dial_in_url: Option<String>,
}

impl From<TeamsMeeting> for TeamsResponse {
    fn from(teams: TeamsMeeting) -> Self {
        Self {
            meeting_url: teams.meeting_url,
            conference_id: teams.conference_id,
            dial_in_url: teams.dial_in_url,
        }
    }
}

impl EventResponse {
    /// As an entry of a list: without what the provider sends besides, which can be large.
    pub(crate) fn listed(event: StoredEvent) -> Self {
        Self {
            provider_metadata: None,
            ..Self::whole(event)
        }
    }

    /// Everything.
    pub(crate) fn whole(event: StoredEvent) -> Self {
        let is_all_day = event.span.is_all_day();
        let time = match event.span {
            EventSpan::Timed { start, end } => TimeResponse::Timed {
                start: Instant(start),
                end: Instant(end),
                timezone: event.timezone,
                end_timezone: event.end_timezone,
                timezone_unresolved: event.timezone_unresolved,
            },
            EventSpan::AllDay { start, end } => TimeResponse::AllDay {
                start_date: Day(start),
                end_date: Day(end),
            },
        };
        let (mut original_start, mut original_start_date) = (None, None);
        match event.original_start {
            Some(EventMoment::Instant(instant)) => original_start = Some(Instant(instant)),
            Some(EventMoment::Date(date)) => original_start_date = Some(Day(date)),
            None => {}
        }
        let is_exception = event.is_exception;
        Self {
            id: event.id,
            connection_id: event.connection_id,
            provider: event.provider.into(),
            provider_event_id: event.provider_event_id,
            ical_uid: event.ical_uid,
            title: event.title,
            description: event.description,
            location: event.location,
            is_all_day,
            time,
            status: event.status.into(),
            show_as: event.show_as.map(Into::into),
            sensitivity: event.sensitivity.map(Into::into),
            organizer: event.organizer.map(Into::into),
            is_organizer: event.is_organizer,
            attendees: event.attendees.into_iter().map(Into::into).collect(),
            reminders: event.reminders.into_iter().map(Into::into).collect(),
            recurrence: event
                .recurrence
                .map(|recurrence| RecurrenceResponse::new(recurrence, is_all_day)),
            series: event.master_id.map(|master_id| SeriesResponse {
                master_id,
                original_start,
                original_start_date,
                is_exception,
            }),
            outlook: OutlookResponse {
                importance: event.importance.into(),
                categories: event.categories,
                conversation_id: event.conversation_id,
                series_master_id: event.series_master_id,
            },
            teams: event.teams.map(Into::into),
            html_link: event.html_link,
            provider_metadata: Some(event.metadata),
            version: event.version,
            created_at: Instant(event.created_at),
            updated_at: Instant(event.updated_at),
        }
    }
}
