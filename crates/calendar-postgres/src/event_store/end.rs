//! How a page and a pass end: the checkpoint, the sync token, what was not seen.

use calendar_domain::event::ProviderEventId;
use calendar_domain::ids::ConnectionId;
use calendar_domain::sync::{
    AfterPage, Lease, Pass, PassEnd, PassKind, PassPosition, Unseen, UnseenReport,
};
use diesel::sql_types::{
    Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;

use crate::codes::{Label as _, look_number};
use crate::error::PgError;
use crate::fence::{Count, bind_fence, fence};
use crate::statement::{Running, Statement};

/// `$7` now, `$8` kind, `$9` and `$10` window, `$11` cursor, `$12` sync token, `$13` touched series,
/// `$14` what is set aside no longer.
const CHECKPOINT: &str = concat!(
    "WITH ",
    fence!(),
    ", state AS (
        UPDATE calendar_sync_states AS s SET
            pass_started_at = CASE WHEN s.pass_id = $5 THEN s.pass_started_at ELSE $7 END,
            pass_pages = CASE WHEN s.pass_id = $5 THEN s.pass_pages ELSE 0 END + 1,
            pass_id = $5, pass_kind = $8::text::sync_pass_kind, pass_window_start = $9,
            pass_window_end = $10, pass_cursor = $11, pass_sync_token = $12,
            pass_touched_series = $13, updated_at = $7
        FROM fence WHERE s.connection_id = fence.connection_id
        RETURNING 1
    ), rejected AS (
        DELETE FROM calendar_rejected_events AS r USING fence
        WHERE r.calendar_connection_id = fence.connection_id AND r.provider_event_id = ANY ($14)
    )
    SELECT count(*) AS count FROM state"
);

/// `$7` now, `$8` requests at the claim, `$9` next due, `$10` whether the pass is full, `$11` and
/// `$12` its window, `$13` held, `$14` what is set aside no longer, `$15` sync token, `$16` look
/// after a push.
const FINISH: &str = concat!(
    "WITH ",
    fence!(),
    ", state AS (
        UPDATE calendar_sync_states AS s SET
            due_at = CASE WHEN s.requested_seq = $8 THEN $9 ELSE $7 END, push_look = $16,
            window_start = CASE WHEN $10 THEN $11 ELSE s.window_start END,
            window_end = CASE WHEN $10 THEN $12 ELSE s.window_end END,
            last_full_sync_at = CASE WHEN $10 THEN $7 ELSE s.last_full_sync_at END,
            removal_held = CASE WHEN $10 THEN $13 ELSE s.removal_held END,
            pass_id = NULL, pass_kind = NULL, pass_cursor = NULL, pass_sync_token = NULL,
            pass_window_start = NULL, pass_window_end = NULL, pass_started_at = NULL,
            pass_pages = 0, pass_touched_series = false, failure_count = 0,
            last_error_code = CASE WHEN CASE WHEN $10 THEN $13 ELSE s.removal_held END
                THEN 'removal_held' END,
            last_error_at = CASE WHEN CASE WHEN $10 THEN $13 ELSE s.removal_held END THEN $7 END,
            updated_at = $7
        FROM fence WHERE s.connection_id = fence.connection_id
        RETURNING 1
    ), connection AS (
        UPDATE calendar_connections AS c SET sync_token = $15, last_synced_at = $7
        FROM fence WHERE c.id = fence.connection_id
    ), seen AS (
        DELETE FROM sync_pass_seen AS p USING fence
        WHERE p.calendar_connection_id = fence.connection_id
    ), rejected AS (
        DELETE FROM calendar_rejected_events AS r USING fence
        WHERE r.calendar_connection_id = fence.connection_id
          AND (r.provider_event_id = ANY ($14) OR ($10 AND NOT $13 AND r.pass_id <> $5))
    )
    SELECT count(*) AS count FROM state"
);

/// `$7` now.
const RESTART: &str = concat!(
    "WITH ",
    fence!(),
    ", state AS (
        UPDATE calendar_sync_states AS s SET
            pass_id = NULL, pass_kind = NULL, pass_cursor = NULL, pass_sync_token = NULL,
            pass_window_start = NULL, pass_window_end = NULL, pass_started_at = NULL,
            pass_pages = 0, pass_touched_series = false, updated_at = $7
        FROM fence WHERE s.connection_id = fence.connection_id
        RETURNING 1
    ), connection AS (
        UPDATE calendar_connections AS c SET sync_token = NULL, updated_at = $7
        FROM fence WHERE c.id = fence.connection_id
    ), seen AS (
        DELETE FROM sync_pass_seen AS p USING fence
        WHERE p.calendar_connection_id = fence.connection_id
    )
    SELECT count(*) AS count FROM state"
);

/// The condition that `calendar_events AS e` overlaps the window from `$3` to `$4`.
macro_rules! in_window {
    () => {
        "e.start_time < $4
            AND (e.end_time > $3 OR (e.start_time = e.end_time AND e.start_time >= $3))"
    };
}

/// The condition that the pass `$2` over `$1` did not see the event. `OFFSET 0` keeps it one look-up
/// by the key for each row: the table is filled and emptied faster than its statistics follow.
macro_rules! not_seen {
    ($id:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM sync_pass_seen AS p
                WHERE p.calendar_connection_id = $1 AND p.pass_id = $2 AND p.event_id = ",
            $id,
            " OFFSET 0)"
        )
    };
}

pub(super) use {in_window, not_seen};

/// `$5` now.
const SWEEP: &str = concat!(
    "UPDATE calendar_events AS e SET deleted_at = $5, updated_at = $5, teams_enabled = false
    WHERE e.calendar_connection_id = $1 AND e.deleted_at IS NULL
      AND NOT (e.is_recurring AND e.parent_event_id IS NULL) AND ",
    in_window!(),
    " AND ",
    not_seen!("e.id")
);

const UNSEEN: &str = concat!(
    "WITH live AS MATERIALIZED (
        SELECT e.id, e.parent_event_id, ",
    not_seen!("e.id"),
    " AS is_unseen FROM calendar_events AS e
        WHERE e.calendar_connection_id = $1 AND e.deleted_at IS NULL
          AND NOT (e.is_recurring AND e.parent_event_id IS NULL) AND ",
    in_window!(),
    ")
    SELECT (SELECT count(*) FROM live) AS live,
        (SELECT count(*) FROM live WHERE is_unseen) AS unseen,
        ARRAY(SELECT coalesce(m.provider_metadata #>> '{uncut,provider_event_id}', m.provider_event_id)
            FROM calendar_events AS m
            WHERE m.calendar_connection_id = $1 AND m.deleted_at IS NULL
              AND m.id IN (SELECT parent_event_id FROM live) AND ",
    not_seen!("m.id"),
    " ORDER BY m.id) AS masters,
        ARRAY(SELECT coalesce(m.provider_metadata #>> '{uncut,provider_event_id}', m.provider_event_id)
            FROM calendar_events AS m
            WHERE m.calendar_connection_id = $1 AND m.id IN (
                SELECT id FROM live WHERE is_unseen AND parent_event_id IS NULL ORDER BY id LIMIT $5)
            ORDER BY m.id) AS singles"
);

fn bind_window<'a>(statement: Statement<'a>, id: ConnectionId, pass: &Pass) -> Statement<'a> {
    statement
        .bind::<SqlUuid, _>(id.0)
        .bind::<SqlUuid, _>(pass.id.0)
        .bind::<Timestamptz, _>(pass.window.start)
        .bind::<Timestamptz, _>(pass.window.end)
}

/// Makes tombstones of what the pass did not see in its window, masters apart.
pub(super) async fn sweep(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    pass: &Pass,
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    bind_window(Statement::once(SWEEP), id, pass)
        .bind::<Timestamptz, _>(now)
        .run(connection)
        .await
}

#[derive(diesel::QueryableByName)]
struct UnseenRow {
    #[diesel(sql_type = BigInt)]
    live: i64,
    #[diesel(sql_type = BigInt)]
    unseen: i64,
    #[diesel(sql_type = Array<Text>)]
    masters: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    singles: Vec<String>,
}

/// What the pass did not see of its window.
pub(super) async fn unseen(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    pass: &Pass,
) -> Result<UnseenReport, PgError> {
    let most = i64::try_from(UnseenReport::MOST_SINGLES).unwrap_or(i64::MAX);
    let row: Option<UnseenRow> = bind_window(Statement::once(UNSEEN), id, pass)
        .bind::<BigInt, _>(most)
        .row(connection)
        .await?;
    Ok(row.map_or_else(UnseenReport::default, |row| UnseenReport {
        live: u64::try_from(row.live).unwrap_or(0),
        unseen: u64::try_from(row.unseen).unwrap_or(0),
        masters: row.masters.into_iter().map(ProviderEventId).collect(),
        singles: row.singles.into_iter().map(ProviderEventId).collect(),
    }))
}

/// Forgets the sync token and the pass.
pub(super) async fn restart(
    connection: &mut AsyncPgConnection,
    lease: &Lease,
    id: ConnectionId,
    pass: &Pass,
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let restarted = bind_fence(Statement::new(RESTART), lease, id, Some(pass))
        .bind::<Timestamptz, _>(now)
        .row(connection)
        .await?;
    Count::or_lease_lost(restarted)
}

/// Whether what comes after a page needs more than the one statement of [`settle`].
pub(super) fn sweeps(then: &AfterPage) -> bool {
    matches!(
        then,
        AfterPage::Finish(PassEnd {
            unseen: Unseen::Remove,
            ..
        })
    )
}

/// What a page's transaction has written, as far as it matters for the state.
#[derive(Clone, Copy, Default)]
pub(super) struct Written<'a> {
    pub(super) touched_series: bool,
    /// What is set aside no longer.
    pub(super) resolved: &'a [String],
}

/// Moves the checkpoint, or ends the pass: one statement, which checks the fence itself.
pub(super) fn settle<'c>(
    connection: &'c mut AsyncPgConnection,
    lease: &'c Lease,
    id: ConnectionId,
    pass: &'c Pass,
    then: &'c AfterPage,
    written: Written<'c>,
    now: OffsetDateTime,
) -> Running<'c, ()> {
    let statement = match then {
        AfterPage::Checkpoint(position) => {
            let (cursor, sync_token) = match position {
                PassPosition::Begin => (None, None),
                PassPosition::Page(cursor) => (Some(cursor.0.as_str()), None),
                PassPosition::Fetched(token) => (None, Some(token.0.as_str())),
            };
            bind_fence(Statement::new(CHECKPOINT), lease, id, Some(pass))
                .bind::<Timestamptz, _>(now)
                .bind::<Text, _>(pass.kind.label())
                .bind::<Timestamptz, _>(pass.window.start)
                .bind::<Timestamptz, _>(pass.window.end)
                .bind::<Nullable<Text>, _>(cursor)
                .bind::<Nullable<Text>, _>(sync_token)
                .bind::<Bool, _>(pass.touched_series || written.touched_series)
                .bind::<Array<Text>, _>(written.resolved)
        }
        AfterPage::Finish(end) => bind_fence(Statement::new(FINISH), lease, id, Some(pass))
            .bind::<Timestamptz, _>(now)
            .bind::<BigInt, _>(end.requested_seq)
            .bind::<Timestamptz, _>(end.next_due_at)
            .bind::<Bool, _>(pass.kind == PassKind::Full)
            .bind::<Timestamptz, _>(pass.window.start)
            .bind::<Timestamptz, _>(pass.window.end)
            .bind::<Bool, _>(end.unseen == Unseen::Hold)
            .bind::<Array<Text>, _>(written.resolved)
            .bind::<Text, _>(&end.sync_token.0)
            .bind::<Nullable<SmallInt>, _>(end.push_look.map(look_number)),
    };
    Box::pin(async move { Count::or_lease_lost(statement.row(connection).await?) })
}
