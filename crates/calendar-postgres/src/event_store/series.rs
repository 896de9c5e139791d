//! Series at the end of a pass: those that it touched, and what judging them came to.

use std::collections::HashMap;

use calendar_domain::event::{EventMoment, ProviderEventId};
use calendar_domain::ids::{ConnectionId, EventId};
use calendar_domain::recurrence::{exception_dates_from_column, exception_dates_to_column};
use calendar_domain::sync::{Pass, SeriesCorrection, SeriesInstance, TouchedSeries};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::end::{in_window, not_seen};
use super::known::span;
use crate::error::PgError;
use crate::statement::Statement;

/// `$1` connection, `$2` pass, `$3` after, `$4` limit.
const TOUCHED: &str = "
    WITH touched AS (
        SELECT DISTINCT coalesce(e.parent_event_id, e.id) AS id
        FROM sync_pass_seen AS p
        JOIN calendar_events AS e
            ON e.calendar_connection_id = p.calendar_connection_id AND e.id = p.event_id
        WHERE p.calendar_connection_id = $1 AND p.pass_id = $2 AND e.calendar_connection_id = $1
          AND (e.parent_event_id IS NOT NULL OR e.is_recurring)
    )
    SELECT m.id, m.recurrence_rule, m.start_time, m.end_time, m.is_all_day, m.timezone,
        m.exception_dates,
        coalesce(m.provider_metadata #>> '{uncut,provider_event_id}', m.provider_event_id) AS master
    FROM touched JOIN calendar_events AS m ON m.id = touched.id AND m.calendar_connection_id = $1
    WHERE m.deleted_at IS NULL AND m.is_recurring AND ($3::uuid IS NULL OR m.id > $3)
    ORDER BY m.id LIMIT $4";

#[derive(diesel::QueryableByName)]
struct SeriesRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    master: String,
    #[diesel(sql_type = Nullable<Text>)]
    recurrence_rule: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    start_time: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    end_time: OffsetDateTime,
    #[diesel(sql_type = Bool)]
    is_all_day: bool,
    #[diesel(sql_type = Nullable<Text>)]
    timezone: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    exception_dates: Option<String>,
}

/// `$1` connection, `$2` pass, `$3` and `$4` window, `$5` masters.
const INSTANCES: &str = concat!(
    "SELECT e.id, e.parent_event_id, e.provider_event_id, e.original_start, e.start_time, e.end_time,
        e.is_all_day, NOT ",
    not_seen!("e.id"),
    " AS seen
    FROM calendar_events AS e
    WHERE e.calendar_connection_id = $1 AND e.parent_event_id = ANY ($5) AND e.deleted_at IS NULL
      AND ((",
    in_window!(),
    ") OR (e.original_start >= $3 AND e.original_start < $4))
    ORDER BY e.original_start, e.id"
);

#[derive(diesel::QueryableByName)]
struct InstanceRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    parent_event_id: Uuid,
    #[diesel(sql_type = Text)]
    provider_event_id: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    original_start: Option<OffsetDateTime>,
    #[diesel(sql_type = Timestamptz)]
    start_time: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    end_time: OffsetDateTime,
    #[diesel(sql_type = Bool)]
    is_all_day: bool,
    #[diesel(sql_type = Bool)]
    seen: bool,
}

/// The series that the pass saw anything of.
pub(super) async fn touched(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    pass: &Pass,
    after: Option<EventId>,
    limit: u32,
) -> Result<Vec<TouchedSeries>, PgError> {
    let masters: Vec<SeriesRow> = Statement::once(TOUCHED)
        .bind::<SqlUuid, _>(id.0)
        .bind::<SqlUuid, _>(pass.id.0)
        .bind::<Nullable<SqlUuid>, _>(after.map(|after| after.0))
        .bind::<BigInt, _>(i64::from(limit))
        .rows(connection)
        .await?;
    if masters.is_empty() {
        return Ok(Vec::new());
    }
    let instances: Vec<InstanceRow> = Statement::once(INSTANCES)
        .bind::<SqlUuid, _>(id.0)
        .bind::<SqlUuid, _>(pass.id.0)
        .bind::<Timestamptz, _>(pass.window.start)
        .bind::<Timestamptz, _>(pass.window.end)
        .bind::<Array<SqlUuid>, _>(masters.iter().map(|master| master.id).collect::<Vec<_>>())
        .rows(connection)
        .await?;
    let mut by_master: HashMap<Uuid, Vec<InstanceRow>> = HashMap::new();
    for instance in instances {
        by_master
            .entry(instance.parent_event_id)
            .or_default()
            .push(instance);
    }
    let series = masters.into_iter().map(|master| {
        let instances = by_master.remove(&master.id).unwrap_or_default();
        let all_day = master.is_all_day;
        TouchedSeries {
            master_id: EventId(master.id),
            master: ProviderEventId(master.master),
            rule: master.recurrence_rule.and_then(|rule| rule.parse().ok()),
            span: span(master.start_time, master.end_time, all_day),
            zone: master.timezone,
            exception_dates: exception_dates_from_column(master.exception_dates.as_deref()),
            // Its place is the series': a date in an all-day series, whatever the instance is.
            instances: instances
                .into_iter()
                .map(|row| row.into_instance(all_day))
                .collect(),
        }
    });
    Ok(series.collect())
}

impl InstanceRow {
    fn into_instance(self, series_is_all_day: bool) -> SeriesInstance {
        let original_start = self.original_start.unwrap_or(self.start_time);
        SeriesInstance {
            id: EventId(self.id),
            provider_event_id: ProviderEventId(self.provider_event_id),
            original_start: EventMoment::from_column(original_start, series_is_all_day),
            span: span(self.start_time, self.end_time, self.is_all_day),
            seen: self.seen,
        }
    }
}

/// Writes exception dates where they differ, and makes tombstones; how many.
pub(super) async fn correct(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    corrections: &[SeriesCorrection],
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    let masters: Vec<Uuid> = corrections
        .iter()
        .map(|correction| correction.master_id.0)
        .collect();
    let dates: Vec<Option<String>> = corrections
        .iter()
        .map(|correction| exception_dates_to_column(&correction.exception_dates))
        .collect();
    let sql = "
        UPDATE calendar_events AS e SET exception_dates = g.exception_dates, updated_at = $2
        FROM unnest($3::uuid[], $4::text[]) AS g (id, exception_dates)
        WHERE e.calendar_connection_id = $1 AND e.id = g.id
          AND e.exception_dates IS DISTINCT FROM g.exception_dates";
    Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Timestamptz, _>(now)
        .bind::<Array<SqlUuid>, _>(masters)
        .bind::<Array<Nullable<Text>>, _>(dates)
        .run(connection)
        .await?;
    let removed: Vec<EventId> = corrections
        .iter()
        .flat_map(|correction| correction.removed.iter().copied())
        .collect();
    super::remove(connection, id, &removed, now).await
}
