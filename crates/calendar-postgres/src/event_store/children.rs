//! The attendees and reminders of a page's events. New events insert theirs; of changed ones only
//! what differs is written. Occurrences that inherit have none.
//!
//! No statement here has a conflict target: the unique key does not name the connection.
//! Rows of an older application have no connection; they are found by their event and adopted.

use calendar_domain::event::{Attendee, AttendeeType, Reminder};
use calendar_domain::ids::ConnectionId;
use calendar_domain::plan::{RowContent, RowWrite};
use diesel::sql_types::{Array, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::Label as _;
use crate::error::PgError;
use crate::statement::Statement;

/// A statement takes whole events until it has so many rows.
const CHUNK_ROWS: usize = 5_000;

/// What the addresses that we make up begin with; one that a provider made up so is numbered anew.
const NUMBERED: &str = "urn:x-attendee:";

/// The deprecated flag beside `attendee_type`.
pub(super) fn is_optional(attendee: &Attendee) -> bool {
    attendee.attendee_type == AttendeeType::Optional
}

/// The `email` column of an attendee without an address: empty for the first, numbered from the
/// second on, as the migration numbers those that it carries over.
fn address(attendee: &Attendee, without_address: &mut u32) -> String {
    let is_numbered = |email: &&String| email.starts_with(NUMBERED);
    if let Some(email) = attendee.email.as_ref().filter(|email| !is_numbered(email)) {
        return email.clone();
    }
    *without_address += 1;
    match *without_address {
        1 => String::new(),
        number => format!("{NUMBERED}{number}"),
    }
}

#[derive(Default)]
struct AttendeeColumns<'a> {
    id: Vec<Uuid>,
    event_id: Vec<Uuid>,
    email: Vec<String>,
    display_name: Vec<Option<&'a str>>,
    rsvp_status: Vec<&'static str>,
    is_organizer: Vec<bool>,
    is_optional: Vec<bool>,
    comment: Vec<Option<&'a str>>,
    response_time: Vec<Option<OffsetDateTime>>,
    attendee_type: Vec<&'static str>,
}

impl<'a> AttendeeColumns<'a> {
    fn push(&mut self, event_id: Uuid, attendees: &'a [Attendee]) {
        let mut without_address = 0;
        for attendee in attendees {
            self.id.push(Uuid::now_v7());
            self.event_id.push(event_id);
            self.email.push(address(attendee, &mut without_address));
            self.display_name.push(attendee.display_name.as_deref());
            self.rsvp_status.push(attendee.rsvp_status.label());
            self.is_organizer.push(attendee.is_organizer);
            self.is_optional.push(is_optional(attendee));
            self.comment.push(attendee.comment.as_deref());
            self.response_time.push(attendee.response_time);
            self.attendee_type.push(attendee.attendee_type.label());
        }
    }

    /// Binds `$3` to `$12`.
    fn bind(self, statement: Statement<'a>) -> Statement<'a> {
        statement
            .bind::<Array<SqlUuid>, _>(self.id)
            .bind::<Array<SqlUuid>, _>(self.event_id)
            .bind::<Array<Text>, _>(self.email)
            .bind::<Array<Nullable<Text>>, _>(self.display_name)
            .bind::<Array<Text>, _>(self.rsvp_status)
            .bind::<Array<Bool>, _>(self.is_organizer)
            .bind::<Array<Bool>, _>(self.is_optional)
            .bind::<Array<Nullable<Text>>, _>(self.comment)
            .bind::<Array<Nullable<Timestamptz>>, _>(self.response_time)
            .bind::<Array<Text>, _>(self.attendee_type)
    }
}

/// `$1` connection, `$2` now, `$3` to `$12` the arrays.
macro_rules! given_attendees {
    () => {
        "unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::bool[], $9::bool[],
            $10::text[], $11::timestamptz[], $12::text[])
        AS g (id, event_id, email, display_name, rsvp_status, is_organizer, is_optional, comment,
            response_time, attendee_type)"
    };
}

macro_rules! insert_attendees {
    () => {
        "INSERT INTO event_attendees (id, calendar_connection_id, event_id, email, display_name,
            rsvp_status, is_organizer, is_optional, comment, response_time, attendee_type,
            created_at, updated_at)
        SELECT g.id, $1, g.event_id, g.email, g.display_name, g.rsvp_status::rsvp_status,
            g.is_organizer, g.is_optional, g.comment, g.response_time, g.attendee_type, $2, $2
        FROM "
    };
}

const INSERT_ATTENDEES: &str = concat!(insert_attendees!(), given_attendees!());

/// `$13` are the events. `NOT IN` (no column here is ever null) is hashed whatever the planner
/// believes of the arrays' lengths; `NOT EXISTS` would compare each with each.
const REPLACE_ATTENDEES: &str = concat!(
    "WITH g AS MATERIALIZED (SELECT * FROM ",
    given_attendees!(),
    "), old AS MATERIALIZED (
        SELECT a.id, a.event_id, a.email FROM unnest($13::uuid[]) AS k (event_id)
        CROSS JOIN LATERAL (
            SELECT * FROM event_attendees AS a WHERE a.event_id = k.event_id
              AND (a.calendar_connection_id = $1 OR a.calendar_connection_id IS NULL)
            OFFSET 0) AS a
    ), gone AS (
        DELETE FROM event_attendees AS a USING old
        WHERE a.id = old.id AND a.event_id = old.event_id
          AND (a.calendar_connection_id = $1 OR a.calendar_connection_id IS NULL)
          AND (old.event_id, old.email) NOT IN (SELECT g.event_id, g.email FROM g)
    ), changed AS (
        UPDATE event_attendees AS a SET calendar_connection_id = $1, display_name = g.display_name,
            rsvp_status = g.rsvp_status::rsvp_status, is_organizer = g.is_organizer,
            is_optional = g.is_optional, comment = g.comment, response_time = g.response_time,
            attendee_type = g.attendee_type, updated_at = $2
        FROM g
        WHERE a.event_id = g.event_id AND a.email = g.email
          AND (a.calendar_connection_id = $1 OR a.calendar_connection_id IS NULL)
          AND (a.calendar_connection_id, a.display_name, a.rsvp_status, a.is_organizer,
                a.is_optional, a.comment, a.response_time, a.attendee_type)
            IS DISTINCT FROM ($1, g.display_name, g.rsvp_status::rsvp_status, g.is_organizer,
                g.is_optional, g.comment, g.response_time, g.attendee_type)
    ) ",
    insert_attendees!(),
    "g WHERE (g.event_id, g.email) NOT IN (SELECT old.event_id, old.email FROM old)"
);

const INSERT_REMINDERS: &str = "
    INSERT INTO event_reminders (id, calendar_connection_id, event_id, method, minutes_before,
        created_at, updated_at)
    SELECT g.id, $1, g.event_id, g.method::reminder_method, g.minutes_before, $2, $2
    FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::int[])
        AS g (id, event_id, method, minutes_before)";

/// `$7` are the events.
const REPLACE_REMINDERS: &str = "
    WITH g AS MATERIALIZED (
        SELECT id, event_id, method::reminder_method AS method, minutes_before
        FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::int[])
            AS g (id, event_id, method, minutes_before)
    ), old AS MATERIALIZED (
        SELECT r.id, r.event_id, r.method, r.minutes_before FROM unnest($7::uuid[]) AS k (event_id)
        CROSS JOIN LATERAL (
            SELECT * FROM event_reminders AS r WHERE r.event_id = k.event_id
              AND (r.calendar_connection_id = $1 OR r.calendar_connection_id IS NULL)
            OFFSET 0) AS r
    ), gone AS (
        DELETE FROM event_reminders AS r USING old
        WHERE r.id = old.id AND r.event_id = old.event_id
          AND (r.calendar_connection_id = $1 OR r.calendar_connection_id IS NULL)
          AND (old.event_id, old.method, old.minutes_before)
            NOT IN (SELECT g.event_id, g.method, g.minutes_before FROM g)
    )
    INSERT INTO event_reminders (id, calendar_connection_id, event_id, method, minutes_before,
        created_at, updated_at)
    SELECT g.id, $1, g.event_id, g.method, g.minutes_before, $2, $2 FROM g
    WHERE (g.event_id, g.method, g.minutes_before)
        NOT IN (SELECT old.event_id, old.method, old.minutes_before FROM old)";

fn of(write: &RowWrite) -> (&[Attendee], &[Reminder]) {
    match &write.content {
        RowContent::Full(event, _) => (&event.attendees, &event.reminders),
        RowContent::Inherited(..) => (&[], &[]),
    }
}

/// Writes the attendees and reminders of rows that were just written.
pub(super) async fn write(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    writes: &[RowWrite],
    now: OffsetDateTime,
) -> Result<(), PgError> {
    for is_new in [true, false] {
        let rows: Vec<&RowWrite> = writes
            .iter()
            .filter(|write| write.is_new == is_new)
            .collect();
        for chunk in chunks(&rows, |write| of(write).0.len()) {
            write_attendees(connection, id, chunk, is_new, now).await?;
        }
        for chunk in chunks(&rows, |write| of(write).1.len()) {
            write_reminders(connection, id, chunk, is_new, now).await?;
        }
    }
    Ok(())
}

/// Slices of whole events with about [`CHUNK_ROWS`] children each.
fn chunks<'w, 'a>(
    rows: &'w [&'a RowWrite],
    count: impl Fn(&RowWrite) -> usize,
) -> Vec<&'w [&'a RowWrite]> {
    let mut slices = Vec::new();
    let (mut begin, mut total) = (0, 0);
    for (index, row) in rows.iter().enumerate() {
        total += count(row);
        if total >= CHUNK_ROWS || index - begin >= CHUNK_ROWS {
            slices.push(&rows[begin..=index]);
            (begin, total) = (index + 1, 0);
        }
    }
    if begin < rows.len() {
        slices.push(&rows[begin..]);
    }
    slices
}

async fn write_attendees(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    rows: &[&RowWrite],
    is_new: bool,
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let mut columns = AttendeeColumns::default();
    for row in rows {
        columns.push(row.id.0, of(row).0);
    }
    if is_new && columns.id.is_empty() {
        return Ok(());
    }
    let statement = Statement::new(if is_new {
        INSERT_ATTENDEES
    } else {
        REPLACE_ATTENDEES
    })
    .bind::<SqlUuid, _>(id.0)
    .bind::<Timestamptz, _>(now);
    let statement = columns.bind(statement);
    let statement = if is_new {
        statement
    } else {
        statement.bind::<Array<SqlUuid>, _>(ids(rows))
    };
    statement.run(connection).await?;
    Ok(())
}

async fn write_reminders(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    rows: &[&RowWrite],
    is_new: bool,
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let of_rows = || {
        rows.iter()
            .flat_map(|row| of(row).1.iter().map(|reminder| (row.id.0, reminder)))
    };
    let event_ids: Vec<Uuid> = of_rows().map(|(event_id, _)| event_id).collect();
    if is_new && event_ids.is_empty() {
        return Ok(());
    }
    let methods: Vec<&str> = of_rows()
        .map(|(_, reminder)| reminder.method.label())
        .collect();
    let minutes: Vec<i32> = of_rows()
        .map(|(_, reminder)| reminder.minutes_before)
        .collect();
    let statement = Statement::new(if is_new {
        INSERT_REMINDERS
    } else {
        REPLACE_REMINDERS
    })
    .bind::<SqlUuid, _>(id.0)
    .bind::<Timestamptz, _>(now)
    .bind::<Array<SqlUuid>, _>(event_ids.iter().map(|_| Uuid::now_v7()).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(event_ids)
    .bind::<Array<Text>, _>(methods)
    .bind::<Array<Integer>, _>(minutes);
    let statement = if is_new {
        statement
    } else {
        statement.bind::<Array<SqlUuid>, _>(ids(rows))
    };
    statement.run(connection).await?;
    Ok(())
}

fn ids(rows: &[&RowWrite]) -> Vec<Uuid> {
    rows.iter().map(|row| row.id.0).collect()
}
