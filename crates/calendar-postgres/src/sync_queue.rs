//! Who syncs what next, and the leases: `SyncQueue` on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::account::{Account, AccountIdentity, StoredTokens};
use calendar_domain::failure::{PortError, PortResult};
use calendar_domain::ids::{AccountId, ConnectionId, PassId, TurnId, UserId, WorkerId};
use calendar_domain::ports::{SyncQueue, TokenCipher};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::rejected::MAPPER_VERSION;
use calendar_domain::subscription::{ClaimedPush, PUSH_BURST_ENDS};
use calendar_domain::sync::{
    CalendarRef, Claim, Cursor, DueConnection, Lease, Mailbox, Pass, PassFailure, PassKind,
    PassPosition, SyncWindow,
};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Integer, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::{Label as _, look_of_number};
use crate::database::Database;
use crate::error::PgError;
use crate::event_store::{may_be_retried, tries};
use crate::fence::{Count, bind_lease, lease_holds};
use crate::statement::Statement;
use crate::tokens;
use crate::turns::{self, mailbox_key, take_turns};
use crate::wakeups::wake;

/// `SyncQueue` on PostgreSQL.
#[derive(Clone)]
pub struct PgSyncQueue {
    database: Database,
    cipher: Arc<dyn TokenCipher>,
    mailbox_concurrency: usize,
}

impl PgSyncQueue {
    /// The queue in this database; `cipher` opens the tokens that a claim hands out.
    #[must_use]
    pub fn new(database: Database, cipher: Arc<dyn TokenCipher>) -> Self {
        Self {
            database,
            cipher,
            mailbox_concurrency: turns::DEFAULT,
        }
    }

    /// With another limit of requests to one mailbox at a time than 4. All processes must have the same.
    #[must_use]
    pub fn mailbox_concurrency(self, limit: usize) -> Self {
        Self {
            mailbox_concurrency: limit,
            ..self
        }
    }
}

/// How much longer overdue other work must be to go before a push: pushes are for people who look, but no
/// stream of them may starve the rest.
const PUSH_AHEAD: Duration = Duration::from_mins(5);

/// The condition that `calendar_accounts AS a` may be claimed.
macro_rules! is_free {
    () => {
        "a.deleted_at IS NULL AND a.needs_reauth_reason IS NULL
            AND (a.lease_expires_at IS NULL OR a.lease_expires_at <= now())
            AND a.provider = ANY ($2::text[]::calendar_provider[])"
    };
}

/// Accounts by the time of their push; the locking clause follows.
macro_rules! pushed {
    ($columns:literal, $condition:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM calendar_accounts AS a WHERE ",
            $condition,
            " AND a.pushed_at <= $3 AND ",
            is_free!(),
            " ORDER BY a.pushed_at LIMIT 1"
        )
    };
}

/// Accounts by when their subscription is to be seen to.
macro_rules! push_due {
    ($columns:literal, $condition:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM calendar_accounts AS a WHERE ",
            $condition,
            " AND a.push_due_at <= $3 AND a.provider = ANY ($5::text[]::calendar_provider[]) AND ",
            is_free!(),
            " ORDER BY a.push_due_at LIMIT 1"
        )
    };
}

/// Accounts by when a connection of theirs is due.
macro_rules! overdue {
    ($columns:literal, $condition:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM calendar_sync_states AS s
            JOIN calendar_accounts AS a ON a.id = s.account_id
            JOIN calendar_connections AS c ON c.id = s.connection_id
            WHERE ",
            $condition,
            " AND s.due_at <= $3 AND NOT s.is_paused AND c.deleted_at IS NULL AND c.is_connected AND ",
            is_free!(),
            " ORDER BY s.due_at LIMIT 1"
        )
    };
}

// `$1` worker, `$2` labels of providers, `$3` now, `$4` seconds, `$5` labels of those that push, `$6`
// seconds that a push goes ahead, `$7` since when a push was taken soon after another, `$8` turns of a
// mailbox, `$9` the mapper's version, `$10` how often a master is asked for.
//
// Each of the three sources walks its index, skips what is leased, and stops at the first that is free.
// The one whose first is longest overdue is walked again, now skipping what is locked too; another is
// walked only when nothing of that one can be locked. `OFFSET 0` keeps the sources in their order.
//
// What the statement writes it cannot read again: the states' new values come by RETURNING.
const CLAIM: &str = concat!(
    "WITH sources AS MATERIALIZED (
        SELECT * FROM (
            (",
    pushed!(
        "1 AS source, a.pushed_at - make_interval(secs => $6) AS since",
        "true"
    ),
    ") UNION ALL (",
    // Nobody who pushes: then all accounts wait in that index, and would be walked in vain.
    push_due!("2, a.push_due_at", "cardinality($5::text[]) > 0"),
    ") UNION ALL (",
    overdue!("3, s.due_at", "true"),
    ")) AS first ORDER BY since
    ), picked AS MATERIALIZED (
        SELECT coalesce(x.id, y.id, z.id) AS id,
            coalesce(x.pushed_at, y.pushed_at, z.pushed_at) AS pushed_at
        FROM (SELECT source FROM sources OFFSET 0) AS sources
        LEFT JOIN LATERAL (",
    pushed!("a.id, a.pushed_at", "sources.source = 1"),
    " FOR UPDATE OF a SKIP LOCKED) AS x ON true
        LEFT JOIN LATERAL (",
    push_due!("a.id, a.pushed_at", "sources.source = 2"),
    " FOR UPDATE OF a SKIP LOCKED) AS y ON true
        LEFT JOIN LATERAL (",
    overdue!("a.id, a.pushed_at", "sources.source = 3"),
    " FOR UPDATE OF a SKIP LOCKED) AS z ON true
        WHERE coalesce(x.id, y.id, z.id) IS NOT NULL
        LIMIT 1
    ), leased AS (
        UPDATE calendar_accounts AS a
        SET lease_owner = $1, lease_expires_at = now() + make_interval(secs => $4),
            lease_fence = a.lease_fence + 1,
            pushed_at = CASE WHEN picked.pushed_at <= $3 THEN NULL ELSE a.pushed_at END,
            push_taken_at = CASE WHEN picked.pushed_at <= $3 THEN $3 ELSE a.push_taken_at END,
            push_burst = CASE WHEN picked.pushed_at > $3 OR picked.pushed_at IS NULL THEN a.push_burst
                WHEN a.push_taken_at > $7 THEN least(a.push_burst + 1, 10) ELSE 0 END
        FROM picked WHERE a.id = picked.id
        RETURNING a.*, coalesce(picked.pushed_at <= $3, false) AS is_pushed
    ), turns AS (",
    take_turns!(
        "(SELECT id, lease_fence, provider, email, provider_user_id, NULL::text AS mailbox FROM leased)",
        "$8",
        "$4",
        "2"
    ),
    "), looks AS (
        UPDATE calendar_sync_states AS s SET push_look = 1, updated_at = $3,
            due_at = CASE WHEN s.failure_count = 0 THEN least(s.due_at, $3) ELSE s.due_at END
        FROM leased AS a JOIN calendar_connections AS c ON c.account_id = a.id
        WHERE a.is_pushed AND NOT c.is_shared AND c.deleted_at IS NULL AND c.is_connected
          AND s.connection_id = c.id AND NOT s.is_paused
        RETURNING s.connection_id, s.due_at, s.push_look
    ), due AS (
        SELECT c.id AS connection_id, c.account_id, c.calendar_id, c.mailbox, c.access_token,
            c.refresh_token, c.token_expires_at, c.sync_token, c.last_synced_at, c.is_shared,
            s.window_start, s.window_end, s.pass_id, s.pass_kind::text AS pass_kind, s.pass_cursor,
            s.pass_sync_token, s.pass_window_start, s.pass_window_end, s.pass_touched_series,
            s.requested_seq, s.failure_count, s.removal_held,
            coalesce(looks.push_look, s.push_look) AS push_look,
            coalesce(looks.due_at, s.due_at) AS due_at,
            EXISTS (SELECT 1 FROM calendar_rejected_events AS r
                WHERE r.calendar_connection_id = c.id AND ",
    may_be_retried!("$9", "$10"),
    // One look-up for each connection, also while the table is small.
    " OFFSET 0) AS has_rejected_due
        FROM leased AS a
        JOIN calendar_connections AS c ON c.account_id = a.id
        JOIN calendar_sync_states AS s ON s.connection_id = c.id
        LEFT JOIN looks ON looks.connection_id = c.id
        WHERE coalesce(looks.due_at, s.due_at) <= $3 AND NOT s.is_paused
          AND c.deleted_at IS NULL AND c.is_connected
    ), active AS (
        SELECT bool_or(w.expiration_datetime > $3 AND (a.push_silent_since IS NULL
                OR coalesce(w.last_notification_at > a.push_silent_since, false))) AS is_healthy
        FROM leased AS a JOIN webhook_subscriptions AS w ON w.account_id = a.id AND w.is_active
    )
    SELECT a.id AS account_id, a.user_id, a.provider::text AS provider, a.tenant_id,
        a.provider_user_id, a.email, a.display_name, a.lease_fence,
        (SELECT count(*) FROM turns) AS turns,
        a.provider = ANY ($5::text[]::calendar_provider[]) AND coalesce(active.is_healthy, false)
            AS push_is_healthy,
        -- A push without a subscription tells that it was removed, maybe while somebody settled it. Where
        -- a retry has its time, that is kept.
        a.provider = ANY ($5::text[]::calendar_provider[]) AND (coalesce(a.push_due_at <= $3, false)
            OR (a.is_pushed AND active.is_healthy IS NULL AND a.push_due_at IS NULL)) AS push_is_due,
        due.connection_id, due.calendar_id, due.mailbox, due.access_token, due.refresh_token,
        due.token_expires_at, due.sync_token, due.last_synced_at, due.is_shared, due.window_start,
        due.window_end, due.pass_id, due.pass_kind, due.pass_cursor, due.pass_sync_token,
        due.pass_window_start, due.pass_window_end, due.pass_touched_series, due.requested_seq,
        due.failure_count, due.removal_held, due.push_look, due.has_rejected_due
    FROM leased AS a CROSS JOIN active LEFT JOIN due ON due.account_id = a.id
    ORDER BY due.due_at, due.connection_id"
);

/// When a connection whose mailbox is busy is due again.
const MAILBOX_BUSY: Duration = Duration::from_secs(2);

#[derive(QueryableByName)]
struct TurnsRow {
    #[diesel(sql_type = BigInt)]
    fences: i64,
    #[diesel(sql_type = BigInt)]
    turns: i64,
}

#[derive(QueryableByName)]
struct ClaimRow {
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Text)]
    tenant_id: String,
    #[diesel(sql_type = Text)]
    provider_user_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    email: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    display_name: Option<String>,
    #[diesel(sql_type = BigInt)]
    lease_fence: i64,
    #[diesel(sql_type = BigInt)]
    turns: i64,
    #[diesel(sql_type = Bool)]
    push_is_healthy: bool,
    #[diesel(sql_type = Bool)]
    push_is_due: bool,
    #[diesel(embed)]
    due: DueRow,
}

/// A connection in the outer join with its account: null throughout where none is due.
#[derive(QueryableByName)]
struct DueRow {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    connection_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    calendar_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    mailbox: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    access_token: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    refresh_token: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    token_expires_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Text>)]
    sync_token: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_synced_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Bool>)]
    is_shared: Option<bool>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    window_start: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    window_end: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pass_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    pass_kind: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pass_cursor: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pass_sync_token: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pass_window_start: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pass_window_end: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Bool>)]
    pass_touched_series: Option<bool>,
    #[diesel(sql_type = Nullable<BigInt>)]
    requested_seq: Option<i64>,
    #[diesel(sql_type = Nullable<Integer>)]
    failure_count: Option<i32>,
    #[diesel(sql_type = Nullable<Bool>)]
    removal_held: Option<bool>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    push_look: Option<i16>,
    #[diesel(sql_type = Nullable<Bool>)]
    has_rejected_due: Option<bool>,
}

impl ClaimRow {
    fn account(&self) -> Result<Account, PgError> {
        Ok(Account {
            id: AccountId(self.account_id),
            user_id: UserId(self.user_id),
            provider: CalendarProvider::from_label(&self.provider)?,
            identity: AccountIdentity {
                tenant_id: self.tenant_id.clone(),
                provider_user_id: self.provider_user_id.clone(),
                email: self.email.clone(),
                display_name: self.display_name.clone(),
            },
            needs_reauth: None,
        })
    }
}

impl DueRow {
    fn tokens(&self, cipher: &dyn TokenCipher, id: ConnectionId) -> StoredTokens {
        tokens::open(
            cipher,
            id,
            self.access_token.as_deref(),
            self.refresh_token.as_deref(),
            self.token_expires_at,
        )
    }

    /// A pass without its window or kind was never written by us: it begins anew.
    fn pass(&self) -> Result<Option<Pass>, PgError> {
        let kind = PassKind::from_optional(self.pass_kind.as_deref())?;
        let window = window(self.pass_window_start, self.pass_window_end);
        let (Some(id), Some(kind), Some(window)) = (self.pass_id, kind, window) else {
            return Ok(None);
        };
        let position = match (&self.pass_sync_token, &self.pass_cursor) {
            (Some(token), _) => PassPosition::Fetched(Cursor(token.clone())),
            (None, Some(cursor)) => PassPosition::Page(Cursor(cursor.clone())),
            (None, None) => PassPosition::Begin,
        };
        let touched_series = self.pass_touched_series == Some(true);
        Ok(Some(Pass {
            id: PassId(id),
            kind,
            window,
            position,
            touched_series,
        }))
    }

    fn due(
        self,
        cipher: &dyn TokenCipher,
        user_id: UserId,
    ) -> Result<Option<DueConnection>, PgError> {
        let Some(id) = self.connection_id.map(ConnectionId) else {
            return Ok(None);
        };
        let tokens = self.tokens(cipher, id);
        let pass = self.pass()?;
        let window = window(self.window_start, self.window_end);
        let count = |count: Option<i32>| u32::try_from(count.unwrap_or(0)).unwrap_or(0);
        Ok(Some(DueConnection {
            id,
            user_id,
            calendar: CalendarRef {
                calendar_id: self.calendar_id.unwrap_or_default(),
                mailbox: self.mailbox.map_or(Mailbox::Own, Mailbox::Delegate),
            },
            tokens,
            synced: self.sync_token.map(Cursor).zip(window),
            pass,
            last_synced_at: self.last_synced_at,
            is_shared: self.is_shared == Some(true),
            push_look: self.push_look.and_then(look_of_number),
            requested_seq: self.requested_seq.unwrap_or(0),
            failure_count: count(self.failure_count),
            removal_held: self.removal_held == Some(true),
            has_rejected_due: self.has_rejected_due == Some(true),
        }))
    }
}

fn window(start: Option<OffsetDateTime>, end: Option<OffsetDateTime>) -> Option<SyncWindow> {
    Some(SyncWindow {
        start: start?,
        end: end?,
    })
}

#[async_trait]
impl SyncQueue for PgSyncQueue {
    async fn claim(
        &self,
        worker: WorkerId,
        providers: &[CalendarProvider],
        pushing: &[CalendarProvider],
        now: OffsetDateTime,
        ttl: Duration,
    ) -> PortResult<Option<Claim>> {
        let labels = |providers: &[CalendarProvider]| -> Vec<&'static str> {
            providers.iter().map(|provider| provider.label()).collect()
        };
        let mut connection = self.database.get().await?;
        let rows: Vec<ClaimRow> = Statement::new(CLAIM)
            .bind::<SqlUuid, _>(worker.0)
            .bind::<Array<Text>, _>(labels(providers))
            .bind::<Timestamptz, _>(now)
            .bind::<Double, _>(ttl.as_secs_f64())
            .bind::<Array<Text>, _>(labels(pushing))
            .bind::<Double, _>(PUSH_AHEAD.as_secs_f64())
            .bind::<Timestamptz, _>(now - PUSH_BURST_ENDS)
            .bind::<Integer, _>(turns::for_passes(self.mailbox_concurrency))
            .bind::<SmallInt, _>(i16::from(MAPPER_VERSION))
            .bind::<Integer, _>(tries())
            .rows(&mut connection)
            .await?;
        drop(connection);
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let account = first.account()?;
        let lease = Lease {
            account_id: account.id,
            owner: worker,
            fence: first.lease_fence,
        };
        let turns = u32::try_from(first.turns).unwrap_or(0);
        let push = ClaimedPush {
            is_due: first.push_is_due,
            is_healthy: first.push_is_healthy,
        };
        let due = rows
            .into_iter()
            .filter_map(|row| row.due.due(&*self.cipher, account.user_id).transpose());
        let connections = due.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Claim {
            lease,
            account,
            push,
            turns,
            connections,
        }))
    }

    async fn take_turns(
        &self,
        lease: &Lease,
        connection_id: ConnectionId,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> PortResult<u32> {
        let sql = concat!(
            "WITH fence AS MATERIALIZED (
                SELECT a.id, a.lease_fence, a.provider, a.email, a.provider_user_id, c.mailbox
                FROM calendar_accounts AS a
                JOIN calendar_connections AS c ON c.account_id = a.id AND c.id = $4
                WHERE ",
            lease_holds!(),
            "   FOR KEY SHARE OF a
            ), others AS (
                DELETE FROM mailbox_turns AS t USING fence AS a
                WHERE t.holder = a.id AND t.fence = a.lease_fence AND t.mailbox <> ",
            mailbox_key!(),
            "), turns AS (",
            take_turns!("fence", "$5", "$6", "2"),
            "), waiting AS (
                UPDATE calendar_sync_states AS s SET due_at = $8, updated_at = $7
                FROM fence WHERE s.connection_id = $4 AND NOT EXISTS (SELECT 1 FROM turns)
            )
            SELECT (SELECT count(*) FROM fence) AS fences, (SELECT count(*) FROM turns) AS turns"
        );
        let mut connection = self.database.get().await?;
        let row: Option<TurnsRow> = bind_lease(Statement::new(sql), lease)
            .bind::<SqlUuid, _>(connection_id.0)
            .bind::<Integer, _>(turns::for_passes(self.mailbox_concurrency))
            .bind::<Double, _>(ttl.as_secs_f64())
            .bind::<Timestamptz, _>(now)
            .bind::<Timestamptz, _>(now + MAILBOX_BUSY)
            .row(&mut connection)
            .await?;
        match row {
            Some(row) if row.fences > 0 => Ok(u32::try_from(row.turns).unwrap_or(0)),
            _ => Err(PortError::lease_lost()),
        }
    }

    async fn take_turn(
        &self,
        provider: CalendarProvider,
        mailbox: &str,
        ttl: Duration,
    ) -> PortResult<Option<TurnId>> {
        let sql = concat!(
            "WITH request AS (
                SELECT $1::uuid AS id, 0 AS lease_fence, $2::text::calendar_provider AS provider,
                    $3::text AS mailbox, NULL::text AS email, NULL::text AS provider_user_id
            ), turns AS (",
            take_turns!("request", "$4", "$5", "1"),
            ") SELECT count(*) AS count FROM turns"
        );
        let turn = TurnId::new();
        let most = i32::try_from(self.mailbox_concurrency).unwrap_or(i32::MAX);
        let mut connection = self.database.get().await?;
        let taken: Option<Count> = Statement::new(sql)
            .bind::<SqlUuid, _>(turn.0)
            .bind::<Text, _>(provider.label())
            .bind::<Text, _>(mailbox)
            .bind::<Integer, _>(most)
            .bind::<Double, _>(ttl.as_secs_f64())
            .row(&mut connection)
            .await?;
        Ok(taken.is_some_and(|taken| taken.count > 0).then_some(turn))
    }

    async fn give_turn_back(&self, turn: TurnId) -> PortResult<()> {
        let mut connection = self.database.get().await?;
        Statement::new("DELETE FROM mailbox_turns WHERE holder = $1")
            .bind::<SqlUuid, _>(turn.0)
            .run(&mut connection)
            .await?;
        Ok(())
    }

    async fn heartbeat(&self, lease: &Lease, ttl: Duration) -> PortResult<()> {
        let sql = concat!(
            "WITH beat AS (UPDATE calendar_accounts AS a
                SET lease_expires_at = now() + make_interval(secs => $4)
                WHERE ",
            lease_holds!(),
            " RETURNING a.id, a.lease_fence), turns AS (
                UPDATE mailbox_turns AS t SET expires_at = now() + make_interval(secs => $4)
                FROM beat WHERE t.holder = beat.id AND t.fence = beat.lease_fence
                  AND t.expires_at > now())
            SELECT count(*) AS count FROM beat"
        );
        let mut connection = self.database.get().await?;
        let beat = bind_lease(Statement::new(sql), lease)
            .bind::<Double, _>(ttl.as_secs_f64())
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(beat)?)
    }

    async fn fail(
        &self,
        lease: &Lease,
        connection_id: ConnectionId,
        failure: PassFailure,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        let sql = concat!(
            "WITH fence AS MATERIALIZED (
                SELECT c.id, c.mailbox FROM calendar_accounts AS a
                JOIN calendar_connections AS c ON c.account_id = a.id AND c.id = $4
                JOIN calendar_sync_states AS s ON s.connection_id = c.id
                WHERE ",
            lease_holds!(),
            "   FOR KEY SHARE OF a FOR NO KEY UPDATE OF s
            ), state AS (
                UPDATE calendar_sync_states AS s SET
                    failure_count = s.failure_count + 1, last_error_code = left($5, 100),
                    last_error_at = $6, due_at = $7, updated_at = $6
                FROM fence WHERE s.connection_id = fence.id
                RETURNING 1
            ), siblings AS (
                UPDATE calendar_sync_states AS s SET
                    due_at = greatest(s.due_at, $7), failure_count = greatest(s.failure_count, 1),
                    last_error_code = left($5, 100), last_error_at = $6, updated_at = $6
                FROM fence JOIN calendar_connections AS c
                    ON c.account_id = $1 AND c.id <> $4 AND c.mailbox IS NOT DISTINCT FROM fence.mailbox
                WHERE $8 AND s.connection_id = c.id AND c.deleted_at IS NULL AND c.is_connected
            )
            SELECT count(*) AS count FROM state"
        );
        let mut connection = self.database.get().await?;
        let failed = bind_lease(Statement::new(sql), lease)
            .bind::<SqlUuid, _>(connection_id.0)
            .bind::<Text, _>(failure.code.replace('\0', ""))
            .bind::<Timestamptz, _>(now)
            .bind::<Timestamptz, _>(failure.retry_at)
            .bind::<Bool, _>(failure.whole_mailbox)
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(failed)?)
    }

    async fn wait_behind_others(&self, lease: &Lease, now: OffsetDateTime) -> PortResult<()> {
        let sql = concat!(
            "WITH fence AS MATERIALIZED (
                SELECT a.id FROM calendar_accounts AS a WHERE ",
            lease_holds!(),
            "   FOR KEY SHARE OF a
            ), waiting AS (
                UPDATE calendar_sync_states AS s SET due_at = $4, updated_at = $4
                FROM fence WHERE s.account_id = fence.id AND s.due_at < $4 AND NOT s.is_paused
            )
            SELECT count(*) AS count FROM fence"
        );
        let mut connection = self.database.get().await?;
        let held = bind_lease(Statement::new(sql), lease)
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(held)?)
    }

    async fn release(&self, lease: &Lease) -> PortResult<()> {
        let sql = "WITH turns AS (DELETE FROM mailbox_turns WHERE holder = $1 AND fence = $3)
            UPDATE calendar_accounts SET lease_owner = NULL, lease_expires_at = NULL
            WHERE id = $1 AND lease_owner = $2 AND lease_fence = $3";
        let mut connection = self.database.get().await?;
        bind_lease(Statement::new(sql), lease)
            .run(&mut connection)
            .await?;
        Ok(())
    }

    async fn request_sync(
        &self,
        user: UserId,
        connection_id: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool> {
        // What waits for its user stays out of the queue; the request is remembered all the same.
        let sql = concat!(
            "WITH target AS (
                SELECT c.id, a.needs_reauth_reason IS NULL AS is_ready
                FROM calendar_connections AS c
                LEFT JOIN calendar_accounts AS a ON a.id = c.account_id
                WHERE c.id = $2 AND c.user_id = $1 AND c.deleted_at IS NULL AND c.is_connected
            ), state AS (
                UPDATE calendar_sync_states AS s SET requested_seq = s.requested_seq + 1,
                    due_at = CASE WHEN target.is_ready THEN least(s.due_at, $3) ELSE s.due_at END,
                    updated_at = $3
                FROM target WHERE s.connection_id = target.id
                RETURNING target.is_ready
            )
            SELECT count(*) AS count, (SELECT ",
            wake!(),
            "::text FROM state WHERE is_ready LIMIT 1) AS woken FROM target"
        );
        let mut connection = self.database.get().await?;
        let found: Option<Count> = Statement::new(sql)
            .bind::<SqlUuid, _>(user.0)
            .bind::<SqlUuid, _>(connection_id.0)
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        Ok(found.is_some_and(|found| found.count > 0))
    }
}
