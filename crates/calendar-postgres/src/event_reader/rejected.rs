//! The events of a connection that are set aside, as their user reads them.

use calendar_domain::ids::{ConnectionId, RejectedEventId, UserId};
use calendar_domain::query::Listed;
use calendar_domain::rejected::StoredRejectedEvent;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::PgError;
use crate::statement::Statement;

/// `$1` user, `$2` connection, `$3` after, `$4` how many.
const LIST: &str = "
    SELECT r.id, r.provider_event_id, r.reason, r.raw, r.attempts, r.first_seen_at, r.last_seen_at
    FROM calendar_connections AS c
    JOIN calendar_rejected_events AS r ON r.calendar_connection_id = c.id
    WHERE c.id = $2 AND c.user_id = $1 AND c.deleted_at IS NULL AND c.is_connected
      AND r.calendar_connection_id = $2 AND ($3 IS NULL OR r.id > $3)
    ORDER BY r.id LIMIT $4";

#[derive(QueryableByName)]
struct RejectedRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    provider_event_id: String,
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = Nullable<Jsonb>)]
    raw: Option<Value>,
    #[diesel(sql_type = Integer)]
    attempts: i32,
    #[diesel(sql_type = Timestamptz)]
    first_seen_at: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    last_seen_at: OffsetDateTime,
}

pub(super) async fn list(
    connection: &mut AsyncPgConnection,
    user: UserId,
    connection_id: ConnectionId,
    after: Option<RejectedEventId>,
    limit: u32,
) -> Result<Listed<StoredRejectedEvent, RejectedEventId>, PgError> {
    let mut rows: Vec<RejectedRow> = Statement::new(LIST)
        .bind::<SqlUuid, _>(user.0)
        .bind::<SqlUuid, _>(connection_id.0)
        .bind::<Nullable<SqlUuid>, _>(after.map(|id| id.0))
        .bind::<BigInt, _>(i64::from(limit) + 1)
        .rows(connection)
        .await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let items: Vec<StoredRejectedEvent> = rows
        .into_iter()
        .map(|row| StoredRejectedEvent {
            id: RejectedEventId(row.id),
            connection_id,
            provider_event_id: row.provider_event_id,
            reason: row.reason,
            raw: row.raw,
            attempts: row.attempts.unsigned_abs(),
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
        })
        .collect();
    let next = items.last().map(|last| last.id).filter(|_| more);
    Ok(Listed { items, next })
}
