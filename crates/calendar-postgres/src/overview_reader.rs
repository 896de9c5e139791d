//! How the whole installation is doing: `OverviewReader` on PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::failure::PortResult;
use calendar_domain::overview::{Backlog, ConnectionGroup, Overview, PushState, SubscriptionGroup};
use calendar_domain::ports::OverviewReader;
use calendar_domain::provider::CalendarProvider;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Double, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use time::OffsetDateTime;

use crate::codes::Label as _;
use crate::connection_store::{connection_status, is_silent, status_columns};
use crate::database::Database;
use crate::error::PgError;
use crate::statement::Statement;

/// A server that takes longer than this has other worries. Everything is read in one transaction, which
/// the statements' own limit keeps short.
const LIMITS: &str = "SET LOCAL statement_timeout = 4000";

/// Each living connection is read once; there is no way round that, and no index would help.
const CONNECTIONS: &str = concat!(
    "SELECT provider, needs_reauth, is_paused, is_failing, is_synced, is_unpushed, is_silent,
        error_code, count(*) AS count, coalesce(sum(events_skipped), 0)::bigint AS events_skipped
    FROM (
        SELECT c.provider::text AS provider, ",
    status_columns!(),
    ", w.is_silent, coalesce(r.events_skipped, 0) AS events_skipped,
            coalesce(a.needs_reauth_reason, CASE WHEN s.failure_count > 0 THEN s.last_error_code END)
                AS error_code
        FROM calendar_connections AS c
        LEFT JOIN calendar_accounts AS a ON a.id = c.account_id
        LEFT JOIN calendar_sync_states AS s ON s.connection_id = c.id
        LEFT JOIN (
            SELECT DISTINCT ON (v.account_id) v.account_id, ",
    is_silent!(),
    " AS is_silent
            FROM webhook_subscriptions AS v JOIN calendar_accounts AS a ON a.id = v.account_id
            WHERE v.is_active AND v.expiration_datetime > $1
            ORDER BY v.account_id, v.created_at DESC, v.id DESC
        ) AS w ON w.account_id = c.account_id AND NOT c.is_shared
        LEFT JOIN (
            SELECT calendar_connection_id, count(*) AS events_skipped FROM calendar_rejected_events
            GROUP BY calendar_connection_id
        ) AS r ON r.calendar_connection_id = c.id
        WHERE c.deleted_at IS NULL AND c.is_connected
    ) AS connections
    GROUP BY provider, needs_reauth, is_paused, is_failing, is_synced, is_unpushed, is_silent, error_code"
);

/// The condition that `calendar_accounts AS a` waits for a worker, whatever its provider.
macro_rules! waits {
    () => {
        "a.deleted_at IS NULL AND a.needs_reauth_reason IS NULL
            AND (a.lease_expires_at IS NULL OR a.lease_expires_at <= now())"
    };
}

/// Walks the indexes by which claims find what is due.
const BACKLOGS: &str = concat!(
    "SELECT provider::text AS provider, count(DISTINCT account_id) AS accounts,
        count(*) FILTER (WHERE due_at < $1 - interval '1 minute' AND NOT is_push) AS overdue,
        extract(epoch FROM $1 - min(due_at))::float8 AS lag
    FROM (
        SELECT a.id AS account_id, a.provider, s.due_at, false AS is_push
        FROM calendar_sync_states AS s
        JOIN calendar_accounts AS a ON a.id = s.account_id
        JOIN calendar_connections AS c ON c.id = s.connection_id
        WHERE s.due_at <= $1 AND NOT s.is_paused AND c.deleted_at IS NULL AND c.is_connected AND ",
    waits!(),
    "   UNION ALL
        SELECT a.id, a.provider, a.pushed_at, true FROM calendar_accounts AS a
        WHERE a.pushed_at <= $1 AND ",
    waits!(),
    ") AS due
    GROUP BY provider"
);

const SUBSCRIPTIONS: &str = "
    SELECT provider::text AS provider, is_active, expiration_datetime <= $1 AS is_expired,
        count(*) AS count, min(expiration_datetime) AS soonest_expiry
    FROM webhook_subscriptions GROUP BY 1, 2, 3";

/// `OverviewReader` on PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgOverviewReader {
    database: Database,
}

impl PgOverviewReader {
    /// Reads from this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[derive(QueryableByName)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns")]
struct ConnectionsRow {
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Bool)]
    needs_reauth: bool,
    #[diesel(sql_type = Bool)]
    is_paused: bool,
    #[diesel(sql_type = Bool)]
    is_failing: bool,
    #[diesel(sql_type = Nullable<Bool>)]
    is_synced: Option<bool>,
    #[diesel(sql_type = Bool)]
    is_unpushed: bool,
    #[diesel(sql_type = Nullable<Bool>)]
    is_silent: Option<bool>,
    #[diesel(sql_type = Nullable<Text>)]
    error_code: Option<String>,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = BigInt)]
    events_skipped: i64,
}

impl ConnectionsRow {
    fn group(self) -> Result<ConnectionGroup, PgError> {
        let push = match self.is_silent {
            Some(true) => PushState::Stale,
            Some(false) => PushState::Healthy,
            None if self.is_unpushed => PushState::Unsupported,
            None => PushState::Off,
        };
        Ok(ConnectionGroup {
            provider: CalendarProvider::from_label(&self.provider)?,
            status: connection_status(
                self.needs_reauth,
                self.is_paused,
                self.is_failing,
                self.is_synced == Some(true),
            ),
            push,
            error_code: self.error_code,
            count: self.count.unsigned_abs(),
            events_skipped: self.events_skipped.unsigned_abs(),
        })
    }
}

#[derive(QueryableByName)]
struct BacklogRow {
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = BigInt)]
    accounts: i64,
    #[diesel(sql_type = BigInt)]
    overdue: i64,
    #[diesel(sql_type = Double)]
    lag: f64,
}

impl BacklogRow {
    fn backlog(&self) -> Result<Backlog, PgError> {
        Ok(Backlog {
            provider: CalendarProvider::from_label(&self.provider)?,
            accounts: self.accounts.unsigned_abs(),
            overdue: self.overdue.unsigned_abs(),
            lag: Duration::try_from_secs_f64(self.lag).unwrap_or_default(),
        })
    }
}

#[derive(QueryableByName)]
struct SubscriptionsRow {
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Bool)]
    is_active: bool,
    #[diesel(sql_type = Bool)]
    is_expired: bool,
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = Timestamptz)]
    soonest_expiry: OffsetDateTime,
}

impl SubscriptionsRow {
    fn group(&self) -> Result<SubscriptionGroup, PgError> {
        Ok(SubscriptionGroup {
            provider: CalendarProvider::from_label(&self.provider)?,
            is_active: self.is_active,
            is_expired: self.is_expired,
            count: self.count.unsigned_abs(),
            soonest_expiry: self.soonest_expiry,
        })
    }
}

async fn read(
    connection: &mut AsyncPgConnection,
    now: OffsetDateTime,
) -> Result<Overview, PgError> {
    connection.batch_execute(LIMITS).await?;
    // Planned anew each time: they read as much as there is, and that differs.
    let groups: Vec<ConnectionsRow> = Statement::once(CONNECTIONS)
        .bind::<Timestamptz, _>(now)
        .rows(connection)
        .await?;
    let backlogs: Vec<BacklogRow> = Statement::once(BACKLOGS)
        .bind::<Timestamptz, _>(now)
        .rows(connection)
        .await?;
    let subscriptions: Vec<SubscriptionsRow> = Statement::once(SUBSCRIPTIONS)
        .bind::<Timestamptz, _>(now)
        .rows(connection)
        .await?;
    Ok(Overview {
        connections: groups
            .into_iter()
            .map(ConnectionsRow::group)
            .collect::<Result<_, _>>()?,
        backlogs: backlogs
            .iter()
            .map(BacklogRow::backlog)
            .collect::<Result<_, _>>()?,
        subscriptions: subscriptions
            .iter()
            .map(SubscriptionsRow::group)
            .collect::<Result<_, _>>()?,
    })
}

#[async_trait]
impl OverviewReader for PgOverviewReader {
    async fn overview(&self, now: OffsetDateTime) -> PortResult<Overview> {
        let mut transaction = self.database.begin().await?;
        let overview = read(&mut transaction, now).await;
        Ok(transaction.end(overview).await?)
    }
}
