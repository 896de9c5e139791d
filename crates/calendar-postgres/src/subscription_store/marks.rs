//! What notifications and the renewal's clock mark on accounts and subscriptions, outside any lease.
//!
//! A pass under way holds no more than `FOR KEY SHARE` on its account, which lets these through.

use std::time::Duration;

use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::{
    Notified, PUSHED_PASSES_APART, PUSHED_PASSES_APART_MOST, RENEWALS_APART, RenewalsScheduled,
};
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::Label as _;
use crate::database::Database;
use crate::error::PgError;
use crate::fence::Count;
use crate::statement::Statement;
use crate::wakeups::wake;

/// `$1` to `$6` the notifications, `$7` now, `$8` seconds to the next pass and `$10` at the most, `$9` seconds
/// between two renewals. An account that waits for its claim already is
/// left alone: a burst of pushes writes it once.
const RECORD: &str = concat!(
    "WITH notified AS MATERIALIZED (
        SELECT n.id, n.account_id, bool_or(n.changed) AS changed, bool_or(n.look) AS look,
            bool_or(n.renew) AS renew, bool_or(n.removed) AS removed
        FROM unnest($1::uuid[], $2::uuid[], $3::bool[], $4::bool[], $5::bool[], $6::bool[])
            AS n (id, account_id, changed, look, renew, removed)
        GROUP BY n.id, n.account_id
    ), accounts AS MATERIALIZED (
        SELECT a.id, asked.look
        FROM (
            SELECT account_id, bool_or(look OR removed) AS look, bool_or(renew OR removed) AS is_seen_to
            FROM notified GROUP BY account_id
        ) AS asked
        JOIN calendar_accounts AS a ON a.id = asked.account_id
        WHERE a.deleted_at IS NULL AND (asked.is_seen_to OR (asked.look
            AND (a.pushed_at IS NULL OR a.pushed_at > $7 + make_interval(secs => $10))))
        ORDER BY a.id FOR NO KEY UPDATE OF a
    ), subscriptions AS MATERIALIZED (
        SELECT w.id, w.account_id, n.changed, n.removed AND w.is_active AS ends,
            -- When the account's push is to be seen to.
            CASE WHEN NOT w.is_active THEN NULL WHEN n.removed THEN $7
                WHEN n.renew THEN greatest($7, w.renewed_at + make_interval(secs => $9)) END AS due_at
        FROM notified AS n JOIN webhook_subscriptions AS w ON w.id = n.id
        -- Counting comes first, and with it the accounts' locks.
        WHERE (SELECT count(*) FROM accounts) >= 0 AND w.account_id = n.account_id
          AND (n.renew OR n.removed
            OR (n.changed AND (w.last_notification_at < $7 OR w.last_notification_at IS NULL)))
        ORDER BY w.id FOR NO KEY UPDATE OF w
    ), written AS (
        UPDATE webhook_subscriptions AS w SET
            last_notification_at = CASE WHEN s.changed THEN greatest(w.last_notification_at, $7)
                ELSE w.last_notification_at END,
            is_active = w.is_active AND NOT s.ends,
            updated_at = CASE WHEN s.ends THEN $7 ELSE w.updated_at END
        FROM subscriptions AS s WHERE w.id = s.id AND (s.changed OR s.ends)
    ), marked AS (
        UPDATE calendar_accounts AS a SET
            pushed_at = CASE WHEN m.look
                THEN least(a.pushed_at, greatest($7, CASE WHEN a.push_taken_at <= $7 THEN a.push_taken_at
                    + make_interval(secs => least($8 * (1 << 2 * a.push_burst), $10)) END))
                ELSE a.pushed_at END,
            push_due_at = least(a.push_due_at, m.due_at)
        FROM (
            SELECT accounts.id, accounts.look, (
                SELECT min(s.due_at) FROM subscriptions AS s WHERE s.account_id = accounts.id
            ) AS due_at
            FROM accounts
        ) AS m
        WHERE a.id = m.id AND ((m.look
                AND (a.pushed_at IS NULL OR a.pushed_at > $7 + make_interval(secs => $10)))
            OR (m.due_at IS NOT NULL AND (a.push_due_at > m.due_at OR a.push_due_at IS NULL)))
        RETURNING a.id
    )
    SELECT ",
    wake!(),
    " FROM marked LIMIT 1"
);

pub(super) async fn record(
    database: &Database,
    notified: &[Notified],
    now: OffsetDateTime,
) -> Result<(), PgError> {
    if notified.is_empty() {
        return Ok(());
    }
    match try_record(database, notified, now).await {
        // The order of locks leaves no way to one, but what is answered here is all that is left of a
        // push: statements of others are no reason to lose it.
        Err(PgError::Query {
            code: "deadlock", ..
        }) => try_record(database, notified, now).await,
        outcome => outcome,
    }
}

async fn try_record(
    database: &Database,
    notified: &[Notified],
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let flags = |flag: fn(&Notified) -> bool| -> Vec<bool> { notified.iter().map(flag).collect() };
    let ids: Vec<Uuid> = notified.iter().map(|one| one.id.0).collect();
    let accounts: Vec<Uuid> = notified.iter().map(|one| one.account_id.0).collect();
    let mut connection = database.get().await?;
    Statement::new(RECORD)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<SqlUuid>, _>(accounts)
        .bind::<Array<Bool>, _>(flags(|one| one.changed))
        .bind::<Array<Bool>, _>(flags(|one| one.look))
        .bind::<Array<Bool>, _>(flags(|one| one.renew))
        .bind::<Array<Bool>, _>(flags(|one| one.removed))
        .bind::<Timestamptz, _>(now)
        .bind::<Double, _>(PUSHED_PASSES_APART.as_secs_f64())
        .bind::<Double, _>(RENEWALS_APART.as_secs_f64())
        .bind::<Double, _>(PUSHED_PASSES_APART_MOST.as_secs_f64())
        .run(&mut connection)
        .await?;
    Ok(())
}

/// `$1` now and the lead.
const EXPIRING: &str = "
    SELECT id, account_id FROM webhook_subscriptions
    WHERE is_active = true AND expiration_datetime < $1
    ORDER BY expiration_datetime";

#[derive(diesel::QueryableByName)]
struct ExpiringRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    account_id: Option<Uuid>,
}

/// How many subscriptions one statement schedules: their accounts are locked until it ends, and pushes
/// for them wait.
const STEP: usize = 200;

/// `$1` subscriptions, `$2` now, `$3` seconds to spread over, `$4` now and the lead. A renewal that is due
/// early enough stays where it is, and so does one that failed: its retry heeds what the provider asked, and
/// leaves half of the time that remains.
const SCHEDULE: &str = concat!(
    "WITH expiring AS MATERIALIZED (
        SELECT w.account_id, min(w.expiration_datetime) AS expires_at
        FROM webhook_subscriptions AS w
        WHERE w.id = ANY ($1) AND w.is_active AND w.expiration_datetime < $4
        GROUP BY w.account_id
    ), accounts AS MATERIALIZED (
        SELECT a.id, e.expires_at > $2 AS is_renewed,
            least(make_interval(secs => $3), (e.expires_at - $2) / 2) AS within
        FROM expiring AS e JOIN calendar_accounts AS a ON a.id = e.account_id
        WHERE a.deleted_at IS NULL
        ORDER BY a.id FOR NO KEY UPDATE OF a
    ), expired AS MATERIALIZED (
        SELECT w.id, w.account_id FROM webhook_subscriptions AS w
        -- Counting comes first, and with it the accounts' locks.
        WHERE (SELECT count(*) FROM accounts) >= 0
          AND w.id = ANY ($1) AND w.is_active AND w.expiration_datetime <= $2
        ORDER BY w.id FOR NO KEY UPDATE OF w
    ), ended AS (
        UPDATE webhook_subscriptions AS w SET is_active = false, updated_at = $2
        FROM expired WHERE w.id = expired.id
    ), caught_up AS (
        UPDATE calendar_accounts AS a SET push_due_at = least(a.push_due_at, $2),
            pushed_at = coalesce(a.pushed_at, $2)
        FROM accounts AS m
        WHERE a.id = m.id AND m.id IN (SELECT account_id FROM expired)
        RETURNING a.id
    ), scheduled AS (
        UPDATE calendar_accounts AS a SET push_due_at = $2 + random() * m.within
        FROM accounts AS m
        WHERE a.id = m.id AND m.is_renewed AND m.id NOT IN (
                SELECT account_id FROM expired WHERE account_id IS NOT NULL)
          AND (a.push_due_at IS NULL OR (a.push_due_at > $2 + m.within AND a.push_failure_count = 0))
    )
    SELECT (SELECT count(*) FROM accounts WHERE is_renewed) AS due,
        (SELECT count(*) FROM expired) AS expired,
        (SELECT ",
    wake!(),
    "::text FROM caught_up LIMIT 1) AS woken"
);

#[derive(diesel::QueryableByName)]
struct ScheduledRow {
    #[diesel(sql_type = BigInt)]
    due: i64,
    #[diesel(sql_type = BigInt)]
    expired: i64,
}

pub(super) async fn schedule_renewals(
    database: &Database,
    now: OffsetDateTime,
    lead: Duration,
    spread: Duration,
) -> Result<RenewalsScheduled, PgError> {
    let mut connection = database.get().await?;
    // Planned anew: how many there are depends on the time.
    let mut expiring: Vec<ExpiringRow> = Statement::once(EXPIRING)
        .bind::<Timestamptz, _>(now + lead)
        .rows(&mut connection)
        .await?;
    drop(connection);
    expiring.sort_by_key(|row| (row.account_id, row.id));
    let mut scheduled = RenewalsScheduled::default();
    for step in expiring.chunks(STEP) {
        let ids: Vec<Uuid> = step.iter().map(|row| row.id).collect();
        let mut connection = database.get().await?;
        let row: Option<ScheduledRow> = Statement::new(SCHEDULE)
            .bind::<Array<SqlUuid>, _>(ids)
            .bind::<Timestamptz, _>(now)
            .bind::<Double, _>(spread.as_secs_f64())
            .bind::<Timestamptz, _>(now + lead)
            .row(&mut connection)
            .await?;
        if let Some(row) = row {
            scheduled.due += u64::try_from(row.due).unwrap_or(0);
            scheduled.expired += u64::try_from(row.expired).unwrap_or(0);
        }
    }
    Ok(scheduled)
}

/// `$1` and `$2` providers and where they send pushes that reach us.
const ELSEWHERE: &str = "
    SELECT w.id, w.account_id FROM webhook_subscriptions AS w
    WHERE w.is_active AND w.account_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM unnest($1::text[], $2::text[]) AS r (provider, url)
        WHERE r.provider::calendar_provider = w.provider AND r.url = w.notification_url)";

/// `$1` subscriptions, `$2` accounts, `$3` now, `$4` seconds to spread over.
const END_UNREACHABLE: &str = "
    WITH accounts AS MATERIALIZED (
        SELECT a.id, $3 + random() * make_interval(secs => $4) AS due_at FROM calendar_accounts AS a
        WHERE a.id = ANY ($2) AND a.deleted_at IS NULL
        ORDER BY a.id FOR NO KEY UPDATE OF a
    ), elsewhere AS MATERIALIZED (
        SELECT w.id FROM webhook_subscriptions AS w
        -- Counting comes first, and with it the accounts' locks.
        WHERE (SELECT count(*) FROM accounts) >= 0 AND w.id = ANY ($1) AND w.is_active
        ORDER BY w.id FOR NO KEY UPDATE OF w
    ), ended AS (
        UPDATE webhook_subscriptions AS w SET is_active = false, updated_at = $3
        FROM elsewhere WHERE w.id = elsewhere.id
        RETURNING w.id
    ), due AS (
        UPDATE calendar_accounts AS a SET push_due_at = least(a.push_due_at, m.due_at),
            pushed_at = least(a.pushed_at, m.due_at)
        FROM accounts AS m WHERE a.id = m.id
    )
    SELECT count(*) AS count FROM ended";

pub(super) async fn end_unreachable(
    database: &Database,
    reachable: &[(CalendarProvider, String)],
    now: OffsetDateTime,
    spread: Duration,
) -> Result<u64, PgError> {
    let providers: Vec<&str> = reachable
        .iter()
        .map(|(provider, _)| provider.label())
        .collect();
    let urls: Vec<&str> = reachable.iter().map(|(_, url)| url.as_str()).collect();
    let mut connection = database.get().await?;
    let mut elsewhere: Vec<ExpiringRow> = Statement::once(ELSEWHERE)
        .bind::<Array<Text>, _>(providers)
        .bind::<Array<Text>, _>(urls)
        .rows(&mut connection)
        .await?;
    drop(connection);
    elsewhere.sort_by_key(|row| (row.account_id, row.id));
    let mut ended = 0;
    for step in elsewhere.chunks(STEP) {
        let ids: Vec<Uuid> = step.iter().map(|row| row.id).collect();
        let accounts: Vec<Uuid> = step.iter().filter_map(|row| row.account_id).collect();
        let mut connection = database.get().await?;
        let count: Option<Count> = Statement::new(END_UNREACHABLE)
            .bind::<Array<SqlUuid>, _>(ids)
            .bind::<Array<SqlUuid>, _>(accounts)
            .bind::<Timestamptz, _>(now)
            .bind::<Double, _>(spread.as_secs_f64())
            .row(&mut connection)
            .await?;
        ended += count.map_or(0, |count| u64::try_from(count.count).unwrap_or(0));
    }
    Ok(ended)
}
