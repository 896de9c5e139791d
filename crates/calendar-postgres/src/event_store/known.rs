//! What the store knows of a page's events: the look-ups that [`calendar_domain::plan`] asks for.

use std::collections::HashMap;
use std::sync::Arc;

use calendar_domain::event::{
    EventImportance, EventMoment, EventSpan, EventStatus, Sensitivity, ShowAs,
};
use calendar_domain::ids::{ConnectionId, EventId};
use calendar_domain::plan::{Inheritable, Known, KnownOccurrence, KnownRow};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::rows::teams_of;
use crate::codes::Label as _;
use crate::error::PgError;
use crate::statement::Statement;

#[derive(QueryableByName)]
struct KeyRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    provider_event_id: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    parent_event_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    original_start: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    version: Option<Uuid>,
    #[diesel(sql_type = Bool)]
    deleted: bool,
}

impl KeyRow {
    fn into_known(self, inheritable: Option<Arc<Inheritable>>) -> KnownRow {
        KnownRow {
            id: EventId(self.id),
            provider_event_id: self.provider_event_id,
            parent: self.parent_event_id.map(EventId),
            original_start: self.original_start,
            version: self.version,
            deleted: self.deleted,
            inheritable,
        }
    }
}

/// The columns of [`KeyRow`].
macro_rules! keys {
    () => {
        "SELECT e.id, e.provider_event_id, e.parent_event_id, e.original_start, e.version,
            e.deleted_at IS NOT NULL AS deleted"
    };
}

/// What a master's occurrences inherit.
#[derive(QueryableByName)]
struct InheritableRow {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    content_version: Option<Uuid>,
    #[diesel(sql_type = Bool)]
    is_all_day: bool,
    #[diesel(sql_type = Nullable<Text>)]
    title: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    location: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    timezone: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    end_timezone: Option<String>,
    #[diesel(sql_type = Bool)]
    timezone_unresolved: bool,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Text)]
    importance: String,
    #[diesel(sql_type = Nullable<Text>)]
    show_as: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    sensitivity: Option<String>,
    #[diesel(sql_type = Bool)]
    teams_enabled: bool,
    #[diesel(sql_type = Nullable<Text>)]
    teams_meeting_url: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    teams_conference_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    teams_dial_in_url: Option<String>,
}

impl InheritableRow {
    fn into_inheritable(self) -> Result<Option<Arc<Inheritable>>, PgError> {
        let Some(content_version) = self.content_version else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Inheritable {
            content_version,
            is_all_day: self.is_all_day,
            title: self.title,
            location: self.location,
            timezone: self.timezone,
            end_timezone: self.end_timezone,
            timezone_unresolved: self.timezone_unresolved,
            status: EventStatus::from_label(&self.status)?,
            importance: EventImportance::from_label(&self.importance)?,
            show_as: ShowAs::from_optional(self.show_as.as_deref())?,
            sensitivity: Sensitivity::from_optional(self.sensitivity.as_deref())?,
            teams: teams_of(
                self.teams_enabled,
                self.teams_meeting_url,
                self.teams_conference_id,
                self.teams_dial_in_url,
            ),
        })))
    }
}

#[derive(QueryableByName)]
struct LookupRow {
    #[diesel(embed)]
    key: KeyRow,
    #[diesel(embed)]
    inheritable: InheritableRow,
}

/// Rows by the provider's id, tombstones too. The texts only of masters: nothing else is inherited.
///
/// `OFFSET 0` makes it one look-up by the unique key for each id, whatever the planner believes of a
/// table whose statistics are old; it would read the whole calendar for each page.
pub(super) async fn by_provider_id(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    provider_ids: Vec<String>,
) -> Result<HashMap<String, KnownRow>, PgError> {
    let sql = concat!(
        keys!(),
        ", e.content_version, e.is_all_day, m.title, m.location, m.timezone, m.end_timezone,
            e.timezone_unresolved, e.status::text AS status, e.importance::text AS importance,
            m.show_as::text AS show_as, m.sensitivity::text AS sensitivity,
            e.teams_enabled, m.teams_meeting_url, m.teams_conference_id, m.teams_dial_in_url
        FROM unnest($2::text[]) AS k (provider_event_id)
        CROSS JOIN LATERAL (
            SELECT * FROM calendar_events AS e
            WHERE e.calendar_connection_id = $1 AND e.provider_event_id = k.provider_event_id
            OFFSET 0) AS e
        LEFT JOIN LATERAL (SELECT e.title, e.location, e.timezone, e.end_timezone, e.show_as,
                e.sensitivity, e.teams_meeting_url, e.teams_conference_id, e.teams_dial_in_url
            WHERE e.content_version IS NOT NULL) AS m ON true"
    );
    let rows: Vec<LookupRow> = Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Array<Text>, _>(provider_ids)
        .rows(connection)
        .await?;
    let known = |row: LookupRow| {
        let inheritable = row.inheritable.into_inheritable()?;
        Ok((
            row.key.provider_event_id.clone(),
            row.key.into_known(inheritable),
        ))
    };
    rows.into_iter().map(known).collect()
}

/// Live rows by their place in a series.
pub(super) async fn by_place(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    places: &[(EventId, OffsetDateTime)],
) -> Result<HashMap<(EventId, OffsetDateTime), KnownRow>, PgError> {
    let sql = concat!(
        keys!(),
        " FROM unnest($2::uuid[], $3::timestamptz[]) AS k (parent, original_start)
        CROSS JOIN LATERAL (
            SELECT * FROM calendar_events AS e
            WHERE e.calendar_connection_id = $1 AND e.parent_event_id = k.parent
              AND e.original_start = k.original_start AND e.deleted_at IS NULL
            OFFSET 0) AS e"
    );
    let rows: Vec<KeyRow> = Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Array<SqlUuid>, _>(
            places
                .iter()
                .map(|(parent, _)| parent.0)
                .collect::<Vec<_>>(),
        )
        .bind::<Array<Timestamptz>, _>(places.iter().map(|(_, start)| *start).collect::<Vec<_>>())
        .rows(connection)
        .await?;
    let known = rows.into_iter().filter_map(|row| {
        let key = (EventId(row.parent_event_id?), row.original_start?);
        Some((key, row.into_known(None)))
    });
    Ok(known.collect())
}

#[derive(QueryableByName)]
struct OccurrenceRow {
    #[diesel(embed)]
    key: KeyRow,
    #[diesel(sql_type = Timestamptz)]
    start_time: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    end_time: OffsetDateTime,
    #[diesel(sql_type = Bool)]
    is_all_day: bool,
}

/// Live unmodified occurrences by their master.
pub(super) async fn occurrences(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    masters: &[EventId],
) -> Result<HashMap<EventId, Vec<KnownOccurrence>>, PgError> {
    let sql = concat!(
        keys!(),
        ", e.start_time, e.end_time, e.is_all_day
        FROM calendar_events AS e
        WHERE e.calendar_connection_id = $1 AND e.parent_event_id = ANY ($2) AND e.inherits
          AND e.deleted_at IS NULL"
    );
    let rows: Vec<OccurrenceRow> = Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Array<SqlUuid>, _>(masters.iter().map(|master| master.0).collect::<Vec<_>>())
        .rows(connection)
        .await?;
    let mut occurrences: HashMap<EventId, Vec<KnownOccurrence>> = HashMap::new();
    for row in rows {
        let span = span(row.start_time, row.end_time, row.is_all_day);
        let row = row.key.into_known(None);
        if let Some(parent) = row.parent {
            occurrences
                .entry(parent)
                .or_default()
                .push(KnownOccurrence { row, span });
        }
    }
    Ok(occurrences)
}

/// All that [`calendar_domain::plan::plan`] needs for these changes.
pub(super) async fn known(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    changes: &[calendar_domain::event::EventChange],
) -> Result<Known, PgError> {
    use calendar_domain::plan::{changed_masters, instance_keys, lookup_ids};
    let mut known = Known {
        by_provider_id: by_provider_id(connection, id, lookup_ids(changes)).await?,
        ..Known::default()
    };
    let places = instance_keys(changes, &known);
    if !places.is_empty() {
        known.by_original_start = by_place(connection, id, &places).await?;
    }
    let masters = changed_masters(changes, &known);
    if !masters.is_empty() {
        known.occurrences = occurrences(connection, id, &masters).await?;
    }
    Ok(known)
}

/// When a row takes place.
pub(crate) fn span(start: OffsetDateTime, end: OffsetDateTime, is_all_day: bool) -> EventSpan {
    match (
        EventMoment::from_column(start, is_all_day),
        EventMoment::from_column(end, is_all_day),
    ) {
        (EventMoment::Date(start), EventMoment::Date(end)) => EventSpan::AllDay { start, end },
        _ => EventSpan::Timed { start, end },
    }
}
