//! Events that are set aside: written with their page, asked for again, listed.

use calendar_domain::event::ProviderEventId;
use calendar_domain::ids::{ConnectionId, RejectedEventId};
use calendar_domain::rejected::{MAPPER_VERSION, RejectedEvent};
use calendar_domain::sync::Pass;
use diesel::sql_types::{
    Array, BigInt, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::AsyncPgConnection;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::PgError;
use crate::statement::Statement;

/// The condition that it may help to ask for the entry `calendar_rejected_events AS r`, given the parameters
/// of the mapper's version and of how often a master is asked for. What has no id that can be asked for waits
/// for a full pass.
macro_rules! may_be_retried {
    ($version:literal, $tries:literal) => {
        concat!(
            "(r.mapper_version <> ",
            $version,
            " OR (r.reason = 'series_master_not_found' AND r.attempts < ",
            $tries,
            ")) AND r.provider_event_id NOT LIKE 'sha256:%'"
        )
    };
}

pub(crate) use may_be_retried;

/// `$1` connection, `$2` version of the mapper, `$3` pass, `$4` now. That only occurrences came says nothing new of
/// a master that came itself before.
const SET_ASIDE: &str = "
    INSERT INTO calendar_rejected_events AS r (id, calendar_connection_id, provider_event_id, reason, raw,
        mapper_version, pass_id, first_seen_at, last_seen_at)
    SELECT u.id, $1, u.provider_event_id, left(u.reason, 100), u.raw, $2, $3, $4, $4
    FROM unnest($5::uuid[], $6::text[], $7::text[], $8::jsonb[]) AS u (id, provider_event_id, reason, raw)
    ON CONFLICT (calendar_connection_id, provider_event_id) DO UPDATE SET
        reason = CASE WHEN excluded.raw IS NULL AND r.raw IS NOT NULL THEN r.reason ELSE excluded.reason END,
        mapper_version = CASE WHEN excluded.raw IS NULL AND r.reason <> excluded.reason
            THEN r.mapper_version ELSE excluded.mapper_version END,
        raw = coalesce(excluded.raw, r.raw), attempts = r.attempts + (r.pass_id <> excluded.pass_id)::int,
        pass_id = excluded.pass_id, last_seen_at = excluded.last_seen_at";

/// Sets aside what a page held.
pub(super) async fn write(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    pass: &Pass,
    rejected: &[RejectedEvent],
    now: OffsetDateTime,
) -> Result<(), PgError> {
    if rejected.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = rejected.iter().map(|_| RejectedEventId::new().0).collect();
    let provider_ids: Vec<&str> = rejected.iter().map(|event| event.id.as_str()).collect();
    let reasons: Vec<&str> = rejected.iter().map(|event| event.reason.as_str()).collect();
    let raw: Vec<Option<&Value>> = rejected.iter().map(|event| event.raw.as_ref()).collect();
    Statement::new(SET_ASIDE)
        .bind::<SqlUuid, _>(id.0)
        .bind::<SmallInt, _>(i16::from(MAPPER_VERSION))
        .bind::<SqlUuid, _>(pass.id.0)
        .bind::<Timestamptz, _>(now)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<Text>, _>(provider_ids)
        .bind::<Array<Text>, _>(reasons)
        .bind::<Array<Nullable<Jsonb>>, _>(raw)
        .run(connection)
        .await?;
    Ok(())
}

#[derive(diesel::QueryableByName)]
struct DueRow {
    #[diesel(sql_type = Text)]
    provider_event_id: String,
    #[diesel(sql_type = Text)]
    reason: String,
}

/// What may be had now, without its raw form; what was asked for least comes first.
pub(super) async fn due(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    limit: u32,
) -> Result<Vec<RejectedEvent>, PgError> {
    let sql = concat!(
        "SELECT r.provider_event_id, r.reason FROM calendar_rejected_events AS r
        WHERE r.calendar_connection_id = $1 AND ",
        may_be_retried!("$2", "$3"),
        " ORDER BY r.attempts, r.id LIMIT $4"
    );
    let rows: Vec<DueRow> = Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<SmallInt, _>(i16::from(MAPPER_VERSION))
        .bind::<Integer, _>(tries())
        .bind::<BigInt, _>(i64::from(limit))
        .rows(connection)
        .await?;
    let rejected = rows.into_iter().map(|row| RejectedEvent {
        id: ProviderEventId(row.provider_event_id),
        reason: row.reason,
        raw: None,
    });
    Ok(rejected.collect())
}

/// [`RejectedEvent::MASTER_TRIES`] for [`may_be_retried`].
pub(crate) fn tries() -> i32 {
    i32::try_from(RejectedEvent::MASTER_TRIES).unwrap_or(i32::MAX)
}
