//! Rows as the reader gets them: an event with what it inherits filled in, attendees, reminders.

use calendar_domain::event::{
    Attendee, AttendeeType, EventImportance, EventMoment, EventStatus, Organizer, Reminder,
    ReminderMethod, RsvpStatus, Sensitivity, ShowAs,
};
use calendar_domain::ids::{ConnectionId, EventId};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::query::{StoredEvent, StoredRecurrence};
use calendar_domain::recurrence::{
    Frequency, MonthDayType, RecurrenceColumns, RecurrenceEndType, exception_dates_from_column,
};
use diesel::QueryableByName;
use diesel::sql_types::{Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::Label as _;
use crate::error::PgError;
use crate::event_store::{span, teams_of};

/// The columns, from `c` (with `provider`), `e` the event and `m` its master. `$metadata` is the
/// expression for `provider_metadata`.
macro_rules! select {
    ($metadata:literal) => {
        concat!(
            "SELECT e.id, e.calendar_connection_id, c.provider::text AS provider, e.provider_event_id,
            e.inherits, e.title, e.location, e.start_time, e.end_time, e.is_all_day, e.timezone,
            e.end_timezone, e.timezone_unresolved, e.status::text AS status,
            e.show_as::text AS show_as, e.sensitivity::text AS sensitivity,
            e.importance::text AS importance, e.series_master_id, e.parent_event_id,
            e.original_start, coalesce(m.is_all_day, e.is_all_day) AS place_is_all_day,
            e.teams_enabled, e.teams_meeting_url, e.teams_conference_id, e.teams_dial_in_url,
            CASE WHEN e.inherits THEN m.description ELSE e.description END AS description,
            CASE WHEN e.inherits THEN m.outlook_categories ELSE e.outlook_categories END
                AS outlook_categories,
            CASE WHEN e.inherits THEN m.conversation_id ELSE e.conversation_id END AS conversation_id,
            CASE WHEN e.inherits THEN m.ical_uid ELSE e.ical_uid END AS ical_uid,
            CASE WHEN e.inherits THEN m.organizer_email ELSE e.organizer_email END AS organizer_email,
            CASE WHEN e.inherits THEN m.organizer_name ELSE e.organizer_name END AS organizer_name,
            CASE WHEN e.inherits THEN m.is_organizer ELSE e.is_organizer END AS is_organizer,
            ",
            $metadata,
            " AS provider_metadata,
            CASE WHEN e.inherits THEN m.html_link ELSE e.html_link END AS html_link,
            e.is_recurring AND e.parent_event_id IS NULL AS is_master, e.recurrence_rule,
            e.recurrence_frequency::text AS recurrence_frequency, e.recurrence_interval,
            e.recurrence_end_type::text AS recurrence_end_type, e.recurrence_end_date,
            e.recurrence_count, e.recurrence_by_day, e.month_day_type::text AS month_day_type,
            e.recurrence_by_month_day, e.recurrence_by_set_pos, e.recurrence_by_day_of_week,
            e.recurrence_by_month, e.exception_dates, e.version, e.created_at, e.updated_at,
            e.deleted_at"
        )
    };
}

macro_rules! join_master {
    () => {
        "LEFT JOIN calendar_events AS m
            ON m.calendar_connection_id = e.calendar_connection_id AND m.id = e.parent_event_id"
    };
}

/// For lists: without the metadata, which can hold a whole HTML body for each instance of a series.
pub(super) const SELECT: &str = select!("'{}'::jsonb");
pub(super) const JOIN_MASTER: &str = join_master!();

/// `$1` user, `$2` event.
pub(super) const GET: &str = concat!(
    select!("CASE WHEN e.inherits THEN m.provider_metadata ELSE e.provider_metadata END"),
    " FROM calendar_events AS e
    JOIN calendar_connections AS c ON c.id = e.calendar_connection_id ",
    join_master!(),
    " WHERE e.id = $2 AND c.user_id = $1 AND c.deleted_at IS NULL AND c.is_connected"
);

/// `$1` user, `$2` connection, `$3` after which of the provider's ids, `$4` how many.
pub(super) const EXPORT: &str = concat!(
    select!("CASE WHEN e.inherits THEN m.provider_metadata ELSE e.provider_metadata END"),
    " FROM calendar_connections AS c
    JOIN calendar_events AS e ON e.calendar_connection_id = c.id ",
    join_master!(),
    " WHERE c.id = $2 AND c.user_id = $1 AND c.deleted_at IS NULL AND c.is_connected
        AND e.calendar_connection_id = $2 AND e.deleted_at IS NULL AND e.provider_event_id > $3
    ORDER BY e.provider_event_id LIMIT $4"
);

/// `$1` connections, `$2` events. UUIDv7 made in the provider's order keeps it.
pub(super) const ATTENDEES: &str = "
    SELECT a.event_id, a.email, a.display_name, a.rsvp_status::text AS rsvp_status, a.is_organizer,
        a.is_optional, a.comment, a.response_time, a.attendee_type
    FROM event_attendees AS a
    WHERE a.event_id = ANY ($2)
      AND (a.calendar_connection_id = ANY ($1) OR a.calendar_connection_id IS NULL)
    ORDER BY a.event_id, a.is_organizer DESC, a.id";

/// `$1` connections, `$2` events.
pub(super) const REMINDERS: &str = "
    SELECT r.event_id, r.method::text AS method, r.minutes_before
    FROM event_reminders AS r
    WHERE r.event_id = ANY ($2)
      AND (r.calendar_connection_id = ANY ($1) OR r.calendar_connection_id IS NULL)
    ORDER BY r.event_id, r.minutes_before, r.method, r.id";

#[derive(QueryableByName)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns")]
pub(super) struct EventRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    calendar_connection_id: Uuid,
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Text)]
    provider_event_id: String,
    #[diesel(sql_type = Bool)]
    inherits: bool,
    #[diesel(sql_type = Nullable<Text>)]
    title: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    description: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    location: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    start_time: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    end_time: OffsetDateTime,
    #[diesel(sql_type = Bool)]
    is_all_day: bool,
    #[diesel(sql_type = Nullable<Text>)]
    timezone: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    end_timezone: Option<String>,
    #[diesel(sql_type = Bool)]
    timezone_unresolved: bool,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Text>)]
    show_as: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    sensitivity: Option<String>,
    #[diesel(sql_type = Text)]
    importance: String,
    #[diesel(sql_type = Nullable<Text>)]
    outlook_categories: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    conversation_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    series_master_id: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    parent_event_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    original_start: Option<OffsetDateTime>,
    #[diesel(sql_type = Bool)]
    place_is_all_day: bool,
    #[diesel(sql_type = Nullable<Text>)]
    ical_uid: Option<String>,
    #[diesel(sql_type = Bool)]
    teams_enabled: bool,
    #[diesel(sql_type = Nullable<Text>)]
    teams_meeting_url: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    teams_conference_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    teams_dial_in_url: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    organizer_email: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    organizer_name: Option<String>,
    #[diesel(sql_type = Nullable<Bool>)]
    is_organizer: Option<bool>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    provider_metadata: Option<Value>,
    #[diesel(sql_type = Nullable<Text>)]
    html_link: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    version: Option<Uuid>,
    #[diesel(sql_type = Timestamptz)]
    created_at: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    updated_at: OffsetDateTime,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    deleted_at: Option<OffsetDateTime>,
    #[diesel(embed)]
    recurrence: RecurrenceRow,
}

#[derive(QueryableByName)]
struct RecurrenceRow {
    #[diesel(sql_type = Bool)]
    is_master: bool,
    #[diesel(sql_type = Nullable<Text>)]
    recurrence_rule: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    recurrence_frequency: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    recurrence_interval: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    recurrence_end_type: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    recurrence_end_date: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Integer>)]
    recurrence_count: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    recurrence_by_day: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    month_day_type: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    recurrence_by_month_day: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    recurrence_by_set_pos: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    recurrence_by_day_of_week: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    recurrence_by_month: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    exception_dates: Option<String>,
}

impl RecurrenceRow {
    fn into_recurrence(self) -> Result<Option<StoredRecurrence>, PgError> {
        if !self.is_master {
            return Ok(None);
        }
        let frequency = Frequency::from_optional(self.recurrence_frequency.as_deref())?;
        let end_type = RecurrenceEndType::from_optional(self.recurrence_end_type.as_deref())?;
        let month_day_type = MonthDayType::from_optional(self.month_day_type.as_deref())?;
        let columns = frequency.map(|frequency| RecurrenceColumns {
            frequency,
            interval: self.recurrence_interval.unwrap_or(1),
            end_type: end_type.unwrap_or(RecurrenceEndType::Never),
            end_date: self.recurrence_end_date,
            count: self.recurrence_count,
            by_day: self.recurrence_by_day,
            month_day_type,
            by_month_day: self.recurrence_by_month_day,
            by_set_pos: self.recurrence_by_set_pos,
            by_day_of_week: self.recurrence_by_day_of_week,
            by_month: self.recurrence_by_month,
        });
        Ok(Some(StoredRecurrence {
            rule: self.recurrence_rule,
            columns,
            exception_dates: exception_dates_from_column(self.exception_dates.as_deref()),
        }))
    }
}

impl EventRow {
    /// The place in a list by start: the column, whatever an older application wrote there.
    pub(super) fn start_time(&self) -> OffsetDateTime {
        self.start_time
    }

    /// Whose attendees and reminders are shown.
    pub(super) fn owner(&self) -> Uuid {
        self.parent_event_id
            .filter(|_| self.inherits)
            .unwrap_or(self.id)
    }

    /// The connection.
    pub(super) fn connection(&self) -> Uuid {
        self.calendar_connection_id
    }

    pub(super) fn into_event(
        self,
        attendees: Vec<Attendee>,
        reminders: Vec<Reminder>,
    ) -> Result<StoredEvent, PgError> {
        let organizer = (self.organizer_email.is_some() || self.organizer_name.is_some())
            .then_some(Organizer {
                email: self.organizer_email,
                display_name: self.organizer_name,
            });
        let place = self
            .original_start
            .map(|at| EventMoment::from_column(at, self.place_is_all_day));
        Ok(StoredEvent {
            id: EventId(self.id),
            connection_id: ConnectionId(self.calendar_connection_id),
            provider: CalendarProvider::from_label(&self.provider)?,
            provider_event_id: self.provider_event_id,
            title: self.title,
            description: self.description,
            location: self.location,
            span: span(self.start_time, self.end_time, self.is_all_day),
            timezone: self.timezone,
            end_timezone: self.end_timezone,
            timezone_unresolved: self.timezone_unresolved,
            status: EventStatus::from_label(&self.status)?,
            show_as: ShowAs::from_optional(self.show_as.as_deref())?,
            sensitivity: Sensitivity::from_optional(self.sensitivity.as_deref())?,
            importance: EventImportance::from_label(&self.importance)?,
            // What an older application wrote in another form is passed over.
            categories: self
                .outlook_categories
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
            conversation_id: self.conversation_id,
            series_master_id: self.series_master_id,
            ical_uid: self.ical_uid,
            teams: teams_of(
                self.teams_enabled,
                self.teams_meeting_url,
                self.teams_conference_id,
                self.teams_dial_in_url,
            ),
            organizer,
            is_organizer: self.is_organizer,
            attendees,
            reminders,
            recurrence: self.recurrence.into_recurrence()?,
            is_exception: !self.inherits
                && (self.parent_event_id.is_some() || self.original_start.is_some()),
            master_id: self.parent_event_id.map(EventId),
            original_start: place,
            html_link: self.html_link,
            metadata: match self.provider_metadata {
                Some(Value::Object(metadata)) => metadata,
                _ => serde_json::Map::new(),
            },
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            deleted_at: self.deleted_at,
        })
    }
}

#[derive(QueryableByName)]
pub(super) struct AttendeeRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) event_id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
    #[diesel(sql_type = Nullable<Text>)]
    display_name: Option<String>,
    #[diesel(sql_type = Text)]
    rsvp_status: String,
    #[diesel(sql_type = Bool)]
    is_organizer: bool,
    #[diesel(sql_type = Bool)]
    is_optional: bool,
    #[diesel(sql_type = Nullable<Text>)]
    comment: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    response_time: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Text>)]
    attendee_type: Option<String>,
}

impl AttendeeRow {
    pub(super) fn into_attendee(self) -> Result<Attendee, PgError> {
        // Rows of an older application have the flag alone.
        let by_flag = if self.is_optional {
            AttendeeType::Optional
        } else {
            AttendeeType::Required
        };
        let kind = self
            .attendee_type
            .as_deref()
            .and_then(|kind| AttendeeType::from_label(kind).ok());
        let made_up = self.email.is_empty() || self.email.starts_with("urn:x-attendee:");
        Ok(Attendee {
            email: (!made_up).then_some(self.email),
            display_name: self.display_name,
            rsvp_status: RsvpStatus::from_label(&self.rsvp_status)?,
            attendee_type: kind.unwrap_or(by_flag),
            is_organizer: self.is_organizer,
            comment: self.comment,
            response_time: self.response_time,
        })
    }
}

#[derive(QueryableByName)]
pub(super) struct ReminderRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) event_id: Uuid,
    #[diesel(sql_type = Text)]
    method: String,
    #[diesel(sql_type = Integer)]
    minutes_before: i32,
}

impl ReminderRow {
    pub(super) fn into_reminder(self) -> Result<Reminder, PgError> {
        let method = ReminderMethod::from_label(&self.method)?;
        Ok(Reminder {
            method,
            minutes_before: self.minutes_before,
        })
    }
}
