//! Events as their users read them: `EventReader` on PostgreSQL. Three statements a list: the
//! events with what they inherit, their attendees, their reminders.

use std::collections::HashMap;
use std::fmt::Write as _;

use async_trait::async_trait;
use calendar_domain::event::{Attendee, Reminder};
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{ConnectionId, EventId, RejectedEventId, UserId};
use calendar_domain::ports::EventReader;
use calendar_domain::query::{EventCursor, EventQuery, EventView, Listed, StoredEvent};
use calendar_domain::rejected::StoredRejectedEvent;
use diesel::pg::Pg;
use diesel::serialize::ToSql;
use diesel::sql_types::{Array, BigInt, HasSqlType, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use self::rows::{AttendeeRow, EventRow, ReminderRow};
use crate::codes::Label as _;
use crate::database::Database;
use crate::error::PgError;
use crate::statement::Statement;

mod rejected;
mod rows;

/// The most that a list gives.
const MAX_LIMIT: u32 = 500;
/// The same of what is set aside: each holds up to 64 KiB of raw form.
const MAX_REJECTED: u32 = 100;

/// `EventReader` on PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgEventReader {
    database: Database,
}

impl PgEventReader {
    /// The reader of this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

/// The binds of a statement that is put together, in the order of their placeholders.
type Bindings<'a> = Vec<Box<dyn FnOnce(Statement<'a>) -> Statement<'a> + Send + 'a>>;

/// A statement that is put together: text, and what is bound to it.
#[derive(Default)]
struct Builder<'a> {
    sql: String,
    binds: Bindings<'a>,
}

impl<'a> Builder<'a> {
    /// Binds a value; its placeholder.
    fn bind<ST, V>(&mut self, value: V) -> String
    where
        ST: 'static,
        Pg: HasSqlType<ST>,
        V: ToSql<ST, Pg> + Send + 'a,
    {
        self.binds
            .push(Box::new(|statement| statement.bind::<ST, V>(value)));
        format!("${}", self.binds.len())
    }

    /// Adds a condition.
    fn and(&mut self, condition: impl AsRef<str>) {
        let _ = write!(self.sql, " AND {}", condition.as_ref());
    }
}

/// Text that `LIKE` takes for itself.
fn like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// A condition on the row, or on its master where the row inherits.
fn own_or_inherited(condition: impl Fn(&str) -> String) -> String {
    format!(
        "(CASE WHEN e.inherits THEN EXISTS (
            SELECT 1 FROM calendar_events AS o
            WHERE o.calendar_connection_id = e.calendar_connection_id
              AND o.id = e.parent_event_id AND {}) ELSE {} END)",
        condition("o"),
        condition("e")
    )
}

fn conditions<'a>(builder: &mut Builder<'a>, query: &'a EventQuery) {
    if !query.include_deleted {
        builder.and("e.deleted_at IS NULL");
    }
    match query.view {
        EventView::Instances => builder.and("NOT (e.is_recurring AND e.parent_event_id IS NULL)"),
        EventView::Series => builder.and("e.parent_event_id IS NULL"),
    }
    if let Some(from) = query.from {
        let from = builder.bind::<Timestamptz, _>(from);
        // What begins and ends at that instant takes place then: it is in this window, not in the one
        // before.
        builder.and(format!("(e.end_time > {from} OR e.start_time = {from})"));
    }
    if let Some(to) = query.to {
        let to = builder.bind::<Timestamptz, _>(to);
        builder.and(format!("e.start_time < {to}"));
    }
    if let Some(since) = query.updated_since {
        let since = builder.bind::<Timestamptz, _>(since);
        builder.and(format!("e.updated_at >= {since}"));
    }
    if let Some(enabled) = query.teams_enabled {
        // A master is a template: the column is false, what the meeting needs stands beside it.
        let held = match query.view {
            EventView::Instances => "e.teams_enabled",
            EventView::Series => {
                "(e.teams_enabled OR e.teams_meeting_url IS NOT NULL
                    OR e.teams_conference_id IS NOT NULL OR e.teams_dial_in_url IS NOT NULL)"
            }
        };
        builder.and(if enabled {
            held.to_owned()
        } else {
            format!("NOT {held}")
        });
    }
    if let Some(importance) = query.importance {
        let label = builder.bind::<Text, _>(importance.label());
        builder.and(format!("e.importance = {label}::text::event_importance"));
    }
    if let Some(status) = query.status {
        let label = builder.bind::<Text, _>(status.label());
        builder.and(format!("e.status = {label}::text::event_status"));
    }
    if let Some(conversation) = &query.conversation_id {
        let id = builder.bind::<Text, _>(conversation);
        builder.and(own_or_inherited(|row| {
            format!("{row}.conversation_id = {id}")
        }));
    }
    if let Some(category) = &query.category {
        // The column is a JSON array as we write it: the quoted word stands in it as it is.
        let word = builder.bind::<Text, _>(serde_json::Value::from(category.as_str()).to_string());
        builder.and(own_or_inherited(|row| {
            format!("coalesce(strpos({row}.outlook_categories, {word}) > 0, false)")
        }));
    }
    if let Some(text) = &query.text {
        let pattern = builder.bind::<Text, _>(like(text));
        builder.and(format!(
            "(e.title ILIKE {pattern} OR e.location ILIKE {pattern})"
        ));
    }
}

/// The list's statement. Each connection is asked by itself, by an index that leads with it and in
/// the order of the list; so a large calendar beside a small one costs no more than its page.
fn list_statement(query: &EventQuery) -> Builder<'_> {
    let key = if query.updated_since.is_some() {
        "updated_at"
    } else {
        "start_time"
    };
    let limit = i64::from(query.limit.clamp(1, MAX_LIMIT)) + 1;
    let mut builder = Builder::default();
    let user = builder.bind::<SqlUuid, _>(query.user_id.0);
    let limit = builder.bind::<BigInt, _>(limit);
    let connection = query
        .connection_id
        .map(|id| builder.bind::<SqlUuid, _>(id.0));
    let only = connection
        .map(|id| format!("AND c.id = {id}"))
        .unwrap_or_default();
    let _ = write!(
        builder.sql,
        "WITH page AS MATERIALIZED (
            SELECT k.id, k.calendar_connection_id, k.at, c.provider
            FROM calendar_connections AS c
            CROSS JOIN LATERAL (
                SELECT e.id, e.calendar_connection_id, e.{key} AS at
                FROM calendar_events AS e
                WHERE e.calendar_connection_id = c.id"
    );
    conditions(&mut builder, query);
    if let Some(EventCursor { at, id }) = query.after {
        let at = builder.bind::<Timestamptz, _>(at);
        let id = builder.bind::<SqlUuid, _>(id.0);
        // The first half is what the index can begin at.
        builder.and(format!(
            "e.{key} >= {at} AND (e.{key}, e.id) > ({at}, {id})"
        ));
    }
    let _ = write!(
        builder.sql,
        " ORDER BY e.{key}, e.id LIMIT {limit}) AS k
            WHERE c.user_id = {user} AND c.deleted_at IS NULL AND c.is_connected {only}
            ORDER BY k.at, k.id LIMIT {limit}
        )
        {} FROM page AS c
        JOIN calendar_events AS e ON e.calendar_connection_id = c.calendar_connection_id AND e.id = c.id
        {} ORDER BY e.{key}, e.id",
        rows::SELECT,
        rows::JOIN_MASTER,
    );
    builder
}

/// The attendees and reminders of a page, each event's own or its master's.
async fn complete(
    connection: &mut AsyncPgConnection,
    rows: Vec<EventRow>,
) -> Result<Vec<StoredEvent>, PgError> {
    let mut owners: Vec<Uuid> = rows.iter().map(EventRow::owner).collect();
    owners.sort_unstable();
    owners.dedup();
    let mut connections: Vec<Uuid> = rows.iter().map(EventRow::connection).collect();
    connections.sort_unstable();
    connections.dedup();
    let mut attendees: HashMap<Uuid, Vec<Attendee>> = HashMap::new();
    let mut reminders: HashMap<Uuid, Vec<Reminder>> = HashMap::new();
    if !owners.is_empty() {
        let found: Vec<AttendeeRow> = Statement::new(rows::ATTENDEES)
            .bind::<Array<SqlUuid>, _>(&connections)
            .bind::<Array<SqlUuid>, _>(&owners)
            .rows(connection)
            .await?;
        for row in found {
            attendees
                .entry(row.event_id)
                .or_default()
                .push(row.into_attendee()?);
        }
        let found: Vec<ReminderRow> = Statement::new(rows::REMINDERS)
            .bind::<Array<SqlUuid>, _>(&connections)
            .bind::<Array<SqlUuid>, _>(&owners)
            .rows(connection)
            .await?;
        for row in found {
            reminders
                .entry(row.event_id)
                .or_default()
                .push(row.into_reminder()?);
        }
    }
    let event = |row: EventRow| {
        let owner = row.owner();
        let attendees = attendees.get(&owner).cloned().unwrap_or_default();
        row.into_event(
            attendees,
            reminders.get(&owner).cloned().unwrap_or_default(),
        )
    };
    rows.into_iter().map(event).collect()
}

fn has_nul(query: &EventQuery) -> bool {
    let texts = [&query.conversation_id, &query.category, &query.text];
    texts.into_iter().flatten().any(|text| text.contains('\0'))
}

#[async_trait]
impl EventReader for PgEventReader {
    async fn list(&self, query: EventQuery) -> PortResult<Listed<StoredEvent, EventCursor>> {
        if has_nul(&query) {
            // No column holds a NUL.
            return Ok(Listed {
                items: Vec::new(),
                next: None,
            });
        }
        let Builder { sql, binds } = list_statement(&query);
        let mut statement = Statement::once(&sql);
        for bind in binds {
            statement = bind(statement);
        }
        let mut connection = self.database.get().await?;
        let mut rows: Vec<EventRow> = statement.rows(&mut connection).await?;
        let limit = query.limit.clamp(1, MAX_LIMIT) as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last_start = rows.last().map(EventRow::start_time);
        let items = complete(&mut connection, rows).await?;
        let by_change = query.updated_since.is_some();
        let next = items.last().zip(last_start).filter(|_| more);
        let next = next.map(|(last, start)| EventCursor {
            at: if by_change { last.updated_at } else { start },
            id: last.id,
        });
        Ok(Listed { items, next })
    }

    async fn export(
        &self,
        user: UserId,
        connection_id: ConnectionId,
        after: String,
        limit: u32,
    ) -> PortResult<Listed<StoredEvent, String>> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let mut connection = self.database.get().await?;
        let mut rows: Vec<EventRow> = Statement::once(rows::EXPORT)
            .bind::<SqlUuid, _>(user.0)
            .bind::<SqlUuid, _>(connection_id.0)
            .bind::<Text, _>(after)
            .bind::<BigInt, _>(i64::from(limit) + 1)
            .rows(&mut connection)
            .await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let items = complete(&mut connection, rows).await?;
        let last = items.last().map(|last| last.provider_event_id.clone());
        let next = last.filter(|_| more);
        Ok(Listed { items, next })
    }

    async fn rejected(
        &self,
        user: UserId,
        connection_id: ConnectionId,
        after: Option<RejectedEventId>,
        limit: u32,
    ) -> PortResult<Listed<StoredRejectedEvent, RejectedEventId>> {
        let mut connection = self.database.get().await?;
        let limit = limit.clamp(1, MAX_REJECTED);
        Ok(rejected::list(&mut connection, user, connection_id, after, limit).await?)
    }

    async fn get(&self, user: UserId, id: EventId) -> PortResult<Option<StoredEvent>> {
        let mut connection = self.database.get().await?;
        let rows: Vec<EventRow> = Statement::new(rows::GET)
            .bind::<SqlUuid, _>(user.0)
            .bind::<SqlUuid, _>(id.0)
            .rows(&mut connection)
            .await?;
        Ok(complete(&mut connection, rows).await?.into_iter().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_takes_every_character_for_itself() {
        assert_eq!(like(r"50%_\x"), r"%50\%\_\\x%");
    }
}
