//! A page's rows of `calendar_events`: one array a column, one statement for all new rows and one
//! for all changed ones. This is the one place that writes the deprecated JSONB columns.

use std::sync::LazyLock;

use calendar_domain::event::{Attendee, EventKind, EventMoment, EventZone, Reminder, TeamsMeeting};
use calendar_domain::ids::ConnectionId;
use calendar_domain::plan::{RowContent, RowWrite};
use calendar_domain::recurrence::{RecurrenceColumns, exception_dates_to_column};
use diesel::sql_types::{
    Array, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::AsyncPgConnection;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::{Label, reminder_word, rsvp_word};
use crate::error::PgError;
use crate::statement::Statement;

/// At most so many rows a statement, and about so many bytes of the texts that can be long.
const CHUNK_ROWS: usize = 5_000;
const CHUNK_BYTES: usize = 16 << 20;

macro_rules! columns {
    ($($name:ident: $type:ty => $sql:ty, $array:literal $(, $cast:literal)?;)*) => {
        /// The values of a statement, column by column.
        #[derive(Default)]
        struct Columns<'a> {
            $($name: Vec<$type>,)*
            /// What stands in `exception_dates` stays.
            keeps_exception_dates: Vec<bool>,
        }

        /// One row.
        struct Row<'a> {
            $($name: $type,)*
            keeps_exception_dates: bool,
        }

        impl<'a> Columns<'a> {
            fn push(&mut self, row: Row<'a>) {
                $(self.$name.push(row.$name);)*
                self.keeps_exception_dates.push(row.keeps_exception_dates);
            }

            /// Binds `$3` and those that follow.
            fn bind(self, statement: Statement<'a>) -> Statement<'a> {
                statement
                    $(.bind::<Array<$sql>, _>(self.$name))*
                    .bind::<Array<Bool>, _>(self.keeps_exception_dates)
            }
        }

        /// Name, type of the array, cast to the column's type.
        const COLUMNS: &[(&str, &str, &str)] =
            &[$((stringify!($name), $array, concat!("" $(, $cast)?)),)*];
    };
}

columns! {
    id: Uuid => SqlUuid, "uuid[]";
    provider_event_id: &'a str => Text, "text[]";
    parent_event_id: Option<Uuid> => Nullable<SqlUuid>, "uuid[]";
    original_start: Option<OffsetDateTime> => Nullable<Timestamptz>, "timestamptz[]";
    series_master_id: Option<&'a str> => Nullable<Text>, "text[]";
    inherits: bool => Bool, "bool[]";
    version: Uuid => SqlUuid, "uuid[]";
    content_version: Option<Uuid> => Nullable<SqlUuid>, "uuid[]";
    title: Option<&'a str> => Nullable<Text>, "text[]";
    description: Option<&'a str> => Nullable<Text>, "text[]";
    location: Option<&'a str> => Nullable<Text>, "text[]";
    start_time: OffsetDateTime => Timestamptz, "timestamptz[]";
    end_time: OffsetDateTime => Timestamptz, "timestamptz[]";
    is_all_day: bool => Bool, "bool[]";
    timezone: Option<&'a str> => Nullable<Text>, "text[]";
    end_timezone: Option<&'a str> => Nullable<Text>, "text[]";
    timezone_unresolved: bool => Bool, "bool[]";
    status: &'static str => Text, "text[]", "::event_status";
    importance: &'static str => Text, "text[]", "::event_importance";
    show_as: Option<&'static str> => Nullable<Text>, "text[]", "::event_show_as";
    sensitivity: Option<&'static str> => Nullable<Text>, "text[]", "::event_sensitivity";
    outlook_categories: Option<String> => Nullable<Text>, "text[]";
    conversation_id: Option<&'a str> => Nullable<Text>, "text[]";
    ical_uid: Option<&'a str> => Nullable<Text>, "text[]";
    teams_enabled: bool => Bool, "bool[]";
    teams_meeting_url: Option<&'a str> => Nullable<Text>, "text[]";
    teams_conference_id: Option<&'a str> => Nullable<Text>, "text[]";
    teams_dial_in_url: Option<&'a str> => Nullable<Text>, "text[]";
    organizer_email: Option<&'a str> => Nullable<Text>, "text[]";
    organizer_name: Option<&'a str> => Nullable<Text>, "text[]";
    is_organizer: Option<bool> => Nullable<Bool>, "bool[]";
    is_recurring: bool => Bool, "bool[]";
    recurrence_rule: Option<String> => Nullable<Text>, "text[]";
    recurrence_frequency: Option<&'static str> => Nullable<Text>, "text[]", "::recurrence_frequency";
    recurrence_interval: Option<i32> => Nullable<Integer>, "int[]";
    recurrence_end_type: Option<&'static str> => Nullable<Text>, "text[]", "::recurrence_end_type";
    recurrence_end_date: Option<OffsetDateTime> => Nullable<Timestamptz>, "timestamptz[]";
    recurrence_count: Option<i32> => Nullable<Integer>, "int[]";
    recurrence_by_day: Option<String> => Nullable<Text>, "text[]";
    month_day_type: Option<&'static str> => Nullable<Text>, "text[]", "::month_day_type";
    recurrence_by_month_day: Option<i32> => Nullable<Integer>, "int[]";
    recurrence_by_set_pos: Option<i32> => Nullable<Integer>, "int[]";
    recurrence_by_day_of_week: Option<String> => Nullable<Text>, "text[]";
    recurrence_by_month: Option<String> => Nullable<Text>, "text[]";
    exception_dates: Option<String> => Nullable<Text>, "text[]";
    attendees: Option<Value> => Nullable<Jsonb>, "jsonb[]";
    reminders: Option<Value> => Nullable<Jsonb>, "jsonb[]";
    provider_metadata: Option<Value> => Nullable<Jsonb>, "jsonb[]";
    html_link: Option<&'a str> => Nullable<Text>, "text[]";
}

/// `unnest($3::uuid[], …) AS u (id, …, keeps_exception_dates)`.
fn source() -> String {
    let arrays: Vec<String> = COLUMNS
        .iter()
        .enumerate()
        .map(|(n, (_, array, _))| format!("${}::{array}", n + 3))
        .collect();
    let names: Vec<&str> = COLUMNS.iter().map(|(name, ..)| *name).collect();
    let last = COLUMNS.len() + 3;
    format!(
        "unnest({}, ${last}::bool[]) AS u ({}, keeps_exception_dates)",
        arrays.join(", "),
        names.join(", ")
    )
}

/// `$1` connection, `$2` now.
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, ..)| *name).collect();
    let values: Vec<String> = COLUMNS
        .iter()
        .map(|(name, _, cast)| format!("u.{name}{cast}"))
        .collect();
    format!(
        "INSERT INTO calendar_events
            (calendar_connection_id, created_at, updated_at, last_synced_at, {})
        SELECT $1, $2, $2, $2, {} FROM {}",
        names.join(", "),
        values.join(", "),
        source()
    )
});

/// `$1` connection, `$2` now. What is written is no tombstone.
static UPDATE: LazyLock<String> = LazyLock::new(|| {
    let sets: Vec<String> = COLUMNS
        .iter()
        .filter(|(name, ..)| *name != "id")
        .map(|(name, _, cast)| match *name {
            "exception_dates" => "exception_dates = CASE WHEN u.keeps_exception_dates \
                THEN e.exception_dates ELSE u.exception_dates END"
                .to_owned(),
            _ => format!("{name} = u.{name}{cast}"),
        })
        .collect();
    format!(
        "UPDATE calendar_events AS e SET updated_at = $2, last_synced_at = $2, deleted_at = NULL,
            sync_status = 'SYNCED', {}
        FROM {} WHERE e.calendar_connection_id = $1 AND e.id = u.id",
        sets.join(", "),
        source()
    )
});

/// Writes rows: the new ones first, masters before their instances, as they come.
pub(super) async fn write(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    writes: &[RowWrite],
    now: OffsetDateTime,
) -> Result<(), PgError> {
    for is_new in [true, false] {
        let sql: &'static str = if is_new { &INSERT } else { &UPDATE };
        let mut rest: Vec<&RowWrite> = writes
            .iter()
            .filter(|write| write.is_new == is_new)
            .collect();
        rest.reverse();
        while !rest.is_empty() {
            let statement = Statement::new(sql)
                .bind::<SqlUuid, _>(id.0)
                .bind::<Timestamptz, _>(now);
            chunk(&mut rest).bind(statement).run(connection).await?;
        }
    }
    Ok(())
}

/// The rows of one statement, taken from the end.
fn chunk<'a>(rest: &mut Vec<&'a RowWrite>) -> Columns<'a> {
    let mut columns = Columns::default();
    let mut bytes = 0;
    while columns.id.len() < CHUNK_ROWS
        && bytes < CHUNK_BYTES
        && let Some(write) = rest.pop()
    {
        let row = row(write);
        bytes += row.description.map_or(0, str::len) + 1_000;
        columns.push(row);
    }
    columns
}

fn row(write: &RowWrite) -> Row<'_> {
    let mut row = match &write.content {
        RowContent::Full(event, content_version) => {
            let is_master = matches!(event.kind, EventKind::Master { .. });
            let mut row = Row {
                content_version: *content_version,
                title: event.title.as_deref(),
                description: event.description.as_deref(),
                location: event.location.as_deref(),
                timezone: event.zone.as_ref().and_then(EventZone::iana),
                end_timezone: event.end_zone.as_ref().and_then(EventZone::iana),
                timezone_unresolved: [&event.zone, &event.end_zone]
                    .into_iter()
                    .any(|zone| matches!(zone, Some(EventZone::Unresolved(_)))),
                status: event.status.label(),
                importance: event.importance.label(),
                show_as: event.show_as.map(Label::label),
                sensitivity: event.sensitivity.map(Label::label),
                outlook_categories: (!event.categories.is_empty())
                    .then(|| Value::from(event.categories.clone()).to_string()),
                conversation_id: event.conversation_id.as_deref(),
                ical_uid: event.ical_uid.as_deref(),
                organizer_email: event
                    .organizer
                    .as_ref()
                    .and_then(|one| one.email.as_deref()),
                organizer_name: event
                    .organizer
                    .as_ref()
                    .and_then(|one| one.display_name.as_deref()),
                is_organizer: event.is_organizer,
                is_recurring: is_master,
                attendees: Some(attendees_json(&event.attendees)),
                reminders: Some(reminders_json(&event.reminders)),
                provider_metadata: (!event.metadata.is_empty())
                    .then(|| Value::Object(event.metadata.clone())),
                html_link: event.html_link.as_deref(),
                ..empty(write, event.span.start(), event.span.end())
            };
            teams(&mut row, event.teams.as_ref(), is_master);
            recurrence(&mut row, &event.kind);
            row
        }
        RowContent::Inherited(span, master) => {
            let mut row = Row {
                inherits: true,
                title: master.title.as_deref(),
                location: master.location.as_deref(),
                timezone: master.timezone.as_deref(),
                end_timezone: master.end_timezone.as_deref(),
                timezone_unresolved: master.timezone_unresolved,
                status: master.status.label(),
                importance: master.importance.label(),
                show_as: master.show_as.map(Label::label),
                sensitivity: master.sensitivity.map(Label::label),
                ..empty(write, span.start(), span.end())
            };
            teams(&mut row, master.teams.as_ref(), false);
            row
        }
    };
    row.series_master_id = write.series_master_id.as_deref();
    row
}

/// A row with its keys and times.
fn empty(write: &RowWrite, start: EventMoment, end: EventMoment) -> Row<'_> {
    Row {
        id: write.id.0,
        provider_event_id: &write.provider_event_id,
        parent_event_id: write.parent.map(|parent| parent.0),
        original_start: write.original_start.map(EventMoment::to_column),
        series_master_id: None,
        inherits: false,
        version: write.version,
        content_version: None,
        title: None,
        description: None,
        location: None,
        start_time: start.to_column(),
        end_time: end.to_column(),
        is_all_day: matches!(start, EventMoment::Date(_)),
        timezone: None,
        end_timezone: None,
        timezone_unresolved: false,
        status: "CONFIRMED",
        importance: "NORMAL",
        show_as: None,
        sensitivity: None,
        outlook_categories: None,
        conversation_id: None,
        ical_uid: None,
        teams_enabled: false,
        teams_meeting_url: None,
        teams_conference_id: None,
        teams_dial_in_url: None,
        organizer_email: None,
        organizer_name: None,
        is_organizer: None,
        is_recurring: false,
        recurrence_rule: None,
        recurrence_frequency: None,
        recurrence_interval: None,
        recurrence_end_type: None,
        recurrence_end_date: None,
        recurrence_count: None,
        recurrence_by_day: None,
        month_day_type: None,
        recurrence_by_month_day: None,
        recurrence_by_set_pos: None,
        recurrence_by_day_of_week: None,
        recurrence_by_month: None,
        exception_dates: None,
        attendees: None,
        reminders: None,
        provider_metadata: None,
        html_link: None,
        keeps_exception_dates: false,
    }
}

fn teams<'a>(row: &mut Row<'a>, teams: Option<&'a TeamsMeeting>, is_master: bool) {
    let Some(teams) = teams else { return };
    row.teams_enabled = !is_master;
    row.teams_meeting_url = teams.meeting_url.as_deref();
    row.teams_conference_id = teams.conference_id.as_deref();
    row.teams_dial_in_url = teams.dial_in_url.as_deref();
    if is_master && *teams == TeamsMeeting::default() {
        // A master has no flag to say that it is a meeting whose parts are still to come.
        row.teams_meeting_url = Some("");
    }
}

/// The Teams meeting that a row holds; the counterpart of [`teams`].
pub(crate) fn teams_of(
    enabled: bool,
    meeting_url: Option<String>,
    conference_id: Option<String>,
    dial_in_url: Option<String>,
) -> Option<TeamsMeeting> {
    let held = enabled || meeting_url.is_some() || conference_id.is_some() || dial_in_url.is_some();
    let meeting_url = meeting_url.filter(|url| !url.is_empty());
    held.then_some(TeamsMeeting {
        meeting_url,
        conference_id,
        dial_in_url,
    })
}

fn recurrence(row: &mut Row<'_>, kind: &EventKind) {
    let EventKind::Master {
        rule,
        exception_dates,
    } = kind
    else {
        return;
    };
    row.keeps_exception_dates = exception_dates.is_none();
    row.exception_dates = exception_dates
        .as_deref()
        .and_then(exception_dates_to_column);
    let Some(rule) = rule else { return };
    row.recurrence_rule = Some(rule.to_string());
    // What does not fit these columns leaves them null; the rule decides.
    let fits =
        |text: &Option<String>, limit: usize| text.as_ref().is_none_or(|text| text.len() <= limit);
    let columns = rule.columns().filter(|columns| {
        fits(&columns.by_day, 100)
            && fits(&columns.by_day_of_week, 100)
            && fits(&columns.by_month, 50)
    });
    let Some(columns) = columns else { return };
    let RecurrenceColumns {
        frequency,
        interval,
        end_type,
        end_date,
        count,
        by_day,
        month_day_type,
        by_month_day,
        by_set_pos,
        by_day_of_week,
        by_month,
    } = columns;
    row.recurrence_frequency = Some(frequency.label());
    row.recurrence_interval = Some(interval);
    row.recurrence_end_type = Some(end_type.label());
    row.recurrence_end_date = end_date;
    row.recurrence_count = count;
    row.recurrence_by_day = by_day;
    row.month_day_type = month_day_type.map(Label::label);
    row.recurrence_by_month_day = by_month_day;
    row.recurrence_by_set_pos = by_set_pos;
    row.recurrence_by_day_of_week = by_day_of_week;
    row.recurrence_by_month = by_month;
}

/// `[{email, displayName, responseStatus, organizer, optional, comment}]`; what is not known is left out.
fn attendees_json(attendees: &[Attendee]) -> Value {
    let one = |attendee: &Attendee| {
        let mut entry = Map::new();
        let texts = [
            ("email", &attendee.email),
            ("displayName", &attendee.display_name),
            ("comment", &attendee.comment),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                entry.insert(name.to_owned(), Value::from(text.as_str()));
            }
        }
        entry.insert(
            "responseStatus".to_owned(),
            rsvp_word(attendee.rsvp_status).into(),
        );
        entry.insert("organizer".to_owned(), attendee.is_organizer.into());
        entry.insert(
            "optional".to_owned(),
            super::children::is_optional(attendee).into(),
        );
        Value::Object(entry)
    };
    attendees.iter().map(one).collect()
}

/// `[{method, minutes}]`.
fn reminders_json(reminders: &[Reminder]) -> Value {
    let one = |reminder: &Reminder| json!({ "method": reminder_word(reminder.method), "minutes": reminder.minutes_before });
    reminders.iter().map(one).collect()
}
