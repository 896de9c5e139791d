//! Removes what is no longer needed, in small steps, so that no lock is held for long.

use calendar_domain::failure::PortResult;
use diesel::sql_types::{BigInt, Timestamptz};
use time::{Duration, OffsetDateTime};

use crate::database::Database;
use crate::error::PgError;
use crate::statement::Statement;
use crate::user_store::delete_orphans;

/// How long a tombstone can still be read by those who ask for changes since a time.
const TOMBSTONES_STAY: Duration = Duration::days(30);
/// How long a subscription that has ended is still shown.
const ENDED_STAY: Duration = Duration::days(30);
/// How long the row of a deleted user stays: an id, and when it was deleted.
const GONE_STAY: Duration = Duration::days(30);
/// How many rows one statement removes.
const STEP: i64 = 1_000;

/// `$1` before when, `$2` how many. The instances of a master would go with it (the key cascades), years of them
/// in one statement: a master waits for its last one.
const TOMBSTONES: &str = "
    WITH old AS (
        SELECT e.id, e.calendar_connection_id FROM calendar_events AS e
        WHERE e.deleted_at < $1 AND NOT EXISTS (
            SELECT 1 FROM calendar_events AS i
            WHERE i.calendar_connection_id = e.calendar_connection_id
              AND i.parent_event_id = e.id)
        ORDER BY e.deleted_at LIMIT $2
    )
    DELETE FROM calendar_events AS e USING old
    WHERE e.calendar_connection_id = old.calendar_connection_id AND e.id = old.id
      AND e.deleted_at < $1";

/// What is left of connections that ended before `$1`, and at once of those whose user is gone.
macro_rules! ended {
    () => {
        "FROM calendar_connections AS c JOIN users AS u ON u.id = c.user_id
        WHERE c.deleted_at IS NOT NULL AND (c.deleted_at < $1 OR u.deleted_at IS NOT NULL)"
    };
}

/// The connections stay locked until the events are gone: nobody revives them meanwhile. Some at a time, masters
/// last.
const ENDED_EVENTS: &str = concat!(
    "WITH connections AS MATERIALIZED (SELECT c.id ",
    ended!(),
    " AND EXISTS (SELECT 1 FROM calendar_events AS e WHERE e.calendar_connection_id = c.id)
        LIMIT 50 FOR NO KEY UPDATE OF c SKIP LOCKED),
    ended AS (
        SELECT e.id, e.calendar_connection_id FROM calendar_events AS e
        WHERE e.calendar_connection_id IN (SELECT id FROM connections) AND NOT EXISTS (
            SELECT 1 FROM calendar_events AS i
            WHERE i.calendar_connection_id = e.calendar_connection_id AND i.parent_event_id = e.id)
        LIMIT $2
    )
    DELETE FROM calendar_events AS e USING ended
    WHERE e.calendar_connection_id = ended.calendar_connection_id AND e.id = ended.id"
);

const ENDED_CONNECTIONS: &str = concat!(
    "WITH connections AS MATERIALIZED (SELECT c.id ",
    ended!(),
    " AND NOT EXISTS (
            SELECT 1 FROM calendar_events AS e WHERE e.calendar_connection_id = c.id)
        LIMIT $2 FOR UPDATE OF c SKIP LOCKED)
    DELETE FROM calendar_connections AS c USING connections WHERE c.id = connections.id"
);

const ENDED_ACCOUNTS: &str = "
    WITH accounts AS MATERIALIZED (
        SELECT a.id FROM calendar_accounts AS a
        WHERE a.deleted_at <= $1 AND NOT EXISTS (
            SELECT 1 FROM calendar_connections AS c WHERE c.account_id = a.id)
        LIMIT $2 FOR UPDATE OF a SKIP LOCKED)
    DELETE FROM calendar_accounts AS a USING accounts WHERE a.id = accounts.id";

/// What ended before `$1`; a push that is still on its way finds it until then.
const SUBSCRIPTIONS: &str = "
    WITH ended AS MATERIALIZED (
        SELECT w.id FROM webhook_subscriptions AS w
        WHERE NOT w.is_active AND w.updated_at < $1
        LIMIT $2 FOR UPDATE OF w SKIP LOCKED)
    DELETE FROM webhook_subscriptions AS w USING ended WHERE w.id = ended.id";

const API_SESSIONS: &str = "
    DELETE FROM api_sessions WHERE id IN (
        SELECT id FROM api_sessions WHERE expires_at < $1 LIMIT $2)";

const CONNECT_SESSIONS: &str = "
    DELETE FROM connect_sessions WHERE id IN (
        SELECT id FROM connect_sessions WHERE expires_at < $1 LIMIT $2)";

/// Turns that nobody gave back. `$1` is not asked for: they expire by the database's clock.
const TURNS: &str = "
    DELETE FROM mailbox_turns WHERE (provider, mailbox, turn) IN (
        SELECT t.provider, t.mailbox, t.turn FROM mailbox_turns AS t
        WHERE $1::timestamptz IS NOT NULL AND t.expires_at < now() LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// Users who were deleted before `$1` and have left nothing; last of all, because another application's
/// tables may hold on to them.
const USERS: &str = "
    WITH gone AS MATERIALIZED (
        SELECT u.id FROM users AS u
        WHERE u.deleted_at < $1 AND u.email = 'deleted-' || u.id || '@invalid'
          AND NOT EXISTS (SELECT 1 FROM calendar_connections AS c WHERE c.user_id = u.id)
          AND NOT EXISTS (SELECT 1 FROM calendar_accounts AS a WHERE a.user_id = u.id)
          AND NOT EXISTS (SELECT 1 FROM users AS m WHERE m.managed_by = u.id)
        LIMIT $2 FOR UPDATE OF u SKIP LOCKED)
    DELETE FROM users AS u USING gone WHERE u.id = gone.id";

/// What passes saw that were never ended. `$1` is not asked for: a pass that goes on has its id in
/// the state.
const SEEN: &str = "
    WITH orphaned AS (
        SELECT p.calendar_connection_id, p.pass_id, p.event_id FROM sync_pass_seen AS p
        WHERE $1::timestamptz IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM calendar_sync_states AS s
            WHERE s.connection_id = p.calendar_connection_id AND s.pass_id = p.pass_id)
        LIMIT $2
    )
    DELETE FROM sync_pass_seen AS p USING orphaned AS o
    WHERE p.calendar_connection_id = o.calendar_connection_id AND p.pass_id = o.pass_id
      AND p.event_id = o.event_id";

/// Goes on until a step finds nothing. What one step waits for, such as a row that another application's table
/// refers to, must not keep the others from their work: the first failure is kept for the end.
async fn all_steps<F>(mut step: impl FnMut() -> F, failed: &mut Option<PgError>) -> u64
where
    F: Future<Output = Result<u64, PgError>>,
{
    let mut purged = 0;
    loop {
        match step().await {
            Ok(0) => return purged,
            Ok(rows) => purged += rows,
            Err(error) => {
                failed.get_or_insert(error);
                return purged;
            }
        }
    }
}

/// Removes what is no longer needed.
#[derive(Clone, Debug)]
pub struct PgHousekeeping {
    database: Database,
}

impl PgHousekeeping {
    /// On this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// Deletes users whose owner is gone. Removes tombstones older than 30 days, connections that ended so
    /// long ago with their events, all that users who are gone have left and 30 days later what says that
    /// they were there, subscriptions that ended so long ago, sessions and OAuth round trips that have
    /// expired, and what broken-off passes have left. Returns how many rows. To be called now and then;
    /// several processes may do it at once.
    pub async fn purge(&self, now: OffsetDateTime) -> PortResult<u64> {
        let mut failed = None;
        let orphans = || delete_orphans(&self.database, STEP, now);
        let mut purged = all_steps(orphans, &mut failed).await;
        for (sql, before) in [
            (TOMBSTONES, now - TOMBSTONES_STAY),
            (ENDED_EVENTS, now - TOMBSTONES_STAY),
            (ENDED_CONNECTIONS, now - TOMBSTONES_STAY),
            (ENDED_ACCOUNTS, now),
            (SUBSCRIPTIONS, now - ENDED_STAY),
            (API_SESSIONS, now),
            (CONNECT_SESSIONS, now),
            (SEEN, now),
            (TURNS, now),
            (USERS, now - GONE_STAY),
        ] {
            purged += all_steps(|| self.step(sql, before), &mut failed).await;
        }
        failed.map_or(Ok(purged), |error| Err(error.into()))
    }

    async fn step(&self, sql: &'static str, before: OffsetDateTime) -> Result<u64, PgError> {
        let mut connection = self.database.get().await?;
        Statement::new(sql)
            .bind::<Timestamptz, _>(before)
            .bind::<BigInt, _>(STEP)
            .run(&mut connection)
            .await
    }
}
