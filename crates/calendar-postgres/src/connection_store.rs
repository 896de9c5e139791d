//! Connections and the accounts behind them: `ConnectionStore` on PostgreSQL. What connecting
//! writes stands in `connect.rs`.

use std::sync::Arc;

use async_trait::async_trait;
use calendar_domain::account::{StoredTokens, TokenGrant, TokenSet};
use calendar_domain::connection::{
    CalendarConnection, Connected, ConnectionChange, ConnectionStatus, NewConnections,
};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{AccountId, ConnectionId, UserId};
use calendar_domain::normalise::NAME;
use calendar_domain::ports::{ConnectionStore, TokenCipher};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::query::Listed;
use calendar_domain::subscription::PushHealth;
use calendar_domain::sync::{Lease, SyncWindow};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use secrecy::ExposeSecret as _;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::{Label as _, permission};
use crate::database::Database;
use crate::error::{PgError, check_text};
use crate::fence::{Count, bind_lease, lease_holds};
use crate::statement::Statement;
use crate::tokens::{self, SealedGrant};
use crate::wakeups::wake;

mod connect;

/// `ConnectionStore` on PostgreSQL.
#[derive(Clone)]
pub struct PgConnectionStore {
    database: Database,
    cipher: Arc<dyn TokenCipher>,
}

impl PgConnectionStore {
    /// The store in this database; `cipher` seals the tokens.
    #[must_use]
    pub fn new(database: Database, cipher: Arc<dyn TokenCipher>) -> Self {
        Self { database, cipher }
    }
}

/// What decides over the status of `calendar_connections AS c` with its account `a` and state `s`, and over
/// whether it is one without pushes.
macro_rules! status_columns {
    () => {
        "c.account_id IS NULL OR a.needs_reauth_reason IS NOT NULL
                OR coalesce(c.access_token NOT LIKE 'v1.%', true) AS needs_reauth,
            coalesce(s.is_paused, false) AS is_paused,
            coalesce(s.failure_count, 0) > 0 AS is_failing,
            c.sync_token IS NOT NULL AND s.window_start IS NOT NULL AS is_synced,
            c.is_shared OR coalesce(a.push_error_code = 'push_unsupported', false) AS is_unpushed"
    };
}

/// Whether nothing came through the subscription `v` of the account `a` since it was doubted.
macro_rules! is_silent {
    () => {
        "coalesce(v.last_notification_at <= a.push_silent_since, a.push_silent_since IS NOT NULL)"
    };
}

pub(crate) use {is_silent, status_columns};

/// What a user sees of a connection; the conditions follow.
macro_rules! select_connection {
    () => {
        concat!(
            "SELECT c.id, c.user_id, c.account_id, a.email AS account_email,
            c.provider::text AS provider, c.calendar_id, c.calendar_name, c.calendar_color,
            c.is_primary, c.can_edit, c.delegate_email, c.last_synced_at,
",
            status_columns!(),
            ",
            s.window_start, s.window_end, s.due_at,
            coalesce(a.needs_reauth_reason, s.last_error_code) AS last_error_code,
            CASE WHEN a.needs_reauth_reason IS NULL THEN s.last_error_at ELSE a.updated_at END
                AS last_error_at,
            (SELECT count(*) FROM calendar_rejected_events AS r
             WHERE r.calendar_connection_id = c.id) AS events_skipped,
            (SELECT name FROM unnest(a.missing_permissions) AS name
             WHERE name = CASE WHEN c.mailbox IS NULL THEN 'read_calendars' ELSE 'read_shared_calendars' END
             LIMIT 1) AS missing_permission,
            w.expiration_datetime AS push_expires_at, w.is_silent AS push_is_silent,
            (SELECT count(*) FROM calendar_events AS e
             WHERE e.calendar_connection_id = c.id AND e.deleted_at IS NULL
               AND e.parent_event_id IS NULL) AS event_count,
            c.created_at, c.updated_at
        FROM calendar_connections AS c
        LEFT JOIN calendar_accounts AS a ON a.id = c.account_id
        LEFT JOIN calendar_sync_states AS s ON s.connection_id = c.id
        LEFT JOIN LATERAL (
            SELECT v.expiration_datetime,
                ",
            is_silent!(),
            " AS is_silent
            FROM webhook_subscriptions AS v
            WHERE v.account_id = c.account_id AND v.is_active AND v.expiration_datetime > now()
            ORDER BY v.created_at DESC, v.id DESC LIMIT 1
        ) AS w ON NOT c.is_shared
        WHERE c.user_id = $1 AND c.deleted_at IS NULL AND c.is_connected "
        )
    };
}

#[derive(diesel::QueryableByName)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns")]
struct ConnectionRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    account_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    account_email: Option<String>,
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Text)]
    calendar_id: String,
    #[diesel(sql_type = Nullable<Text>)]
    calendar_name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    calendar_color: Option<String>,
    #[diesel(sql_type = Bool)]
    is_primary: bool,
    #[diesel(sql_type = Bool)]
    can_edit: bool,
    #[diesel(sql_type = Nullable<Text>)]
    delegate_email: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_synced_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Bool)]
    needs_reauth: bool,
    #[diesel(sql_type = Bool)]
    is_paused: bool,
    #[diesel(sql_type = Nullable<Bool>)]
    is_synced: Option<bool>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    window_start: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    window_end: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    due_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Bool)]
    is_failing: bool,
    #[diesel(sql_type = Nullable<Text>)]
    last_error_code: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    last_error_at: Option<OffsetDateTime>,
    #[diesel(sql_type = BigInt)]
    events_skipped: i64,
    #[diesel(sql_type = Nullable<Text>)]
    missing_permission: Option<String>,
    #[diesel(sql_type = Bool)]
    is_unpushed: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    push_expires_at: Option<OffsetDateTime>,
    #[diesel(sql_type = Nullable<Bool>)]
    push_is_silent: Option<bool>,
    #[diesel(sql_type = BigInt)]
    event_count: i64,
    #[diesel(sql_type = Timestamptz)]
    created_at: OffsetDateTime,
    #[diesel(sql_type = Timestamptz)]
    updated_at: OffsetDateTime,
}

/// The worst that holds; each has one remedy.
#[expect(clippy::fn_params_excessive_bools, reason = "they are columns")]
pub(crate) fn connection_status(
    needs_reauth: bool,
    is_paused: bool,
    is_failing: bool,
    is_synced: bool,
) -> ConnectionStatus {
    if needs_reauth {
        ConnectionStatus::NeedsReauth
    } else if is_paused {
        ConnectionStatus::Paused
    } else if is_failing {
        ConnectionStatus::Failing
    } else if is_synced {
        ConnectionStatus::Connected
    } else {
        ConnectionStatus::Syncing
    }
}

impl ConnectionRow {
    fn status(&self) -> ConnectionStatus {
        connection_status(
            self.needs_reauth,
            self.is_paused,
            self.is_failing,
            self.is_synced == Some(true),
        )
    }

    fn push(&self) -> PushHealth {
        match self.push_expires_at {
            Some(expires_at) if self.push_is_silent == Some(true) => {
                PushHealth::Stale { expires_at }
            }
            Some(expires_at) => PushHealth::Healthy { expires_at },
            None if self.is_unpushed => PushHealth::Unsupported,
            None => PushHealth::Off,
        }
    }

    fn into_connection(self) -> Result<CalendarConnection, PgError> {
        let (status, push) = (self.status(), self.push());
        let waits = matches!(
            status,
            ConnectionStatus::NeedsReauth | ConnectionStatus::Paused
        );
        let window = self.window_start.zip(self.window_end);
        Ok(CalendarConnection {
            id: ConnectionId(self.id),
            user_id: UserId(self.user_id),
            account_id: self.account_id.map(AccountId),
            account_email: self.account_email,
            provider: CalendarProvider::from_label(&self.provider)?,
            calendar_id: self.calendar_id,
            calendar_name: self.calendar_name,
            calendar_color: self.calendar_color,
            is_primary: self.is_primary,
            can_edit: self.can_edit,
            delegate_email: self.delegate_email,
            status,
            missing_permission: self.missing_permission.as_deref().and_then(permission),
            push,
            last_synced_at: self.last_synced_at,
            window: window.map(|(start, end)| SyncWindow { start, end }),
            next_sync_at: self.due_at.filter(|_| !waits),
            last_error: self.last_error_code.zip(self.last_error_at),
            events_skipped: u64::try_from(self.events_skipped).unwrap_or(0),
            event_count: u64::try_from(self.event_count).unwrap_or(0),
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// A connection's tokens; null throughout where the account has no connection.
#[derive(diesel::QueryableByName)]
struct TokensRow {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    id: Option<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    access_token: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    refresh_token: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    token_expires_at: Option<OffsetDateTime>,
}

impl TokensRow {
    fn open(&self, cipher: &dyn TokenCipher) -> Option<StoredTokens> {
        Some(tokens::open(
            cipher,
            ConnectionId(self.id?),
            self.access_token.as_deref(),
            self.refresh_token.as_deref(),
            self.token_expires_at,
        ))
    }
}

#[derive(diesel::QueryableByName)]
struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Stores a grant on connections, each sealed for its own row; keeps the refresh token of a row
/// where the grant has none.
async fn store_tokens(
    connection: &mut AsyncPgConnection,
    cipher: &dyn TokenCipher,
    ids: &[Uuid],
    grant: &TokenGrant,
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let (mut access_tokens, mut refresh_tokens) = (Vec::new(), Vec::new());
    for id in ids {
        let SealedGrant {
            access_token,
            refresh_token,
        } = tokens::seal(cipher, ConnectionId(*id), grant)?;
        access_tokens.push(access_token);
        refresh_tokens.push(refresh_token);
    }
    let sql = "
        UPDATE calendar_connections AS c SET access_token = t.access_token,
            refresh_token = coalesce(t.refresh_token, c.refresh_token),
            token_expires_at = $4, updated_at = $5
        FROM unnest($1::uuid[], $2::text[], $3::text[]) AS t (id, access_token, refresh_token)
        WHERE c.id = t.id";
    Statement::new(sql)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<Text>, _>(access_tokens)
        .bind::<Array<Nullable<Text>>, _>(refresh_tokens)
        .bind::<Timestamptz, _>(grant.expires_at)
        .bind::<Timestamptz, _>(now)
        .run(connection)
        .await?;
    Ok(())
}

fn check_color(color: &str) -> PortResult<()> {
    let digits = color.strip_prefix('#').unwrap_or_default();
    if digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(PortError::new(
        FailureClass::InvalidInput,
        "calendar_color_invalid",
    ))
}

#[async_trait]
impl ConnectionStore for PgConnectionStore {
    async fn connect(&self, new: NewConnections, now: OffsetDateTime) -> PortResult<Connected> {
        connect::check(&new)?;
        let mut transaction = self.database.begin().await?;
        let outcome = connect::connect(&mut transaction, &*self.cipher, &new, now).await;
        // Refused calendars alone leave no account behind.
        if let Ok(Connected {
            connection_ids,
            refused,
        }) = &outcome
            && connection_ids.is_empty()
        {
            let refused = refused.clone();
            let nothing = PortError::new(FailureClass::Conflict, "nothing_connected");
            let _: Result<(), PgError> = transaction.end(Err(nothing.into())).await;
            return Ok(Connected {
                connection_ids: Vec::new(),
                refused,
            });
        }
        Ok(transaction.end(outcome).await?)
    }

    async fn list(
        &self,
        user: UserId,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> PortResult<Listed<CalendarConnection, ConnectionId>> {
        let sql = concat!(
            select_connection!(),
            "AND ($2 IS NULL OR c.id > $2) ORDER BY c.id LIMIT $3"
        );
        let mut connection = self.database.get().await?;
        let rows: Vec<ConnectionRow> = Statement::new(sql)
            .bind::<SqlUuid, _>(user.0)
            .bind::<Nullable<SqlUuid>, _>(after.map(|id| id.0))
            .bind::<BigInt, _>(i64::from(limit) + 1)
            .rows(&mut connection)
            .await?;
        drop(connection);
        let limit = limit as usize;
        let more = rows.len() > limit;
        let items: Vec<CalendarConnection> = rows
            .into_iter()
            .take(limit)
            .map(ConnectionRow::into_connection)
            .collect::<Result<_, _>>()?;
        let next = items.last().map(|last| last.id).filter(|_| more);
        Ok(Listed { items, next })
    }

    async fn get(&self, user: UserId, id: ConnectionId) -> PortResult<Option<CalendarConnection>> {
        let mut connection = self.database.get().await?;
        let row: Option<ConnectionRow> =
            Statement::new(concat!(select_connection!(), "AND c.id = $2"))
                .bind::<SqlUuid, _>(user.0)
                .bind::<SqlUuid, _>(id.0)
                .row(&mut connection)
                .await?;
        Ok(row.map(ConnectionRow::into_connection).transpose()?)
    }

    async fn change(
        &self,
        user: UserId,
        id: ConnectionId,
        change: ConnectionChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<CalendarConnection>> {
        if let Some(name) = &change.calendar_name {
            check_text(name, NAME, "calendar_name_invalid")?;
        }
        change
            .calendar_color
            .as_deref()
            .map_or(Ok(()), check_color)?;
        let sql = concat!(
            "WITH target AS (
                UPDATE calendar_connections AS c SET
                    calendar_name = coalesce($3, c.calendar_name),
                    calendar_color = coalesce($4, c.calendar_color), updated_at = $6
                WHERE c.user_id = $1 AND c.id = $2 AND c.deleted_at IS NULL AND c.is_connected
                RETURNING c.id, c.account_id
            ), state AS (
                UPDATE calendar_sync_states AS s SET is_paused = $5, updated_at = $6,
                    due_at = CASE WHEN s.is_paused AND NOT $5 AND a.needs_reauth_reason IS NULL
                        THEN $6 ELSE s.due_at END
                FROM target JOIN calendar_accounts AS a ON a.id = target.account_id
                WHERE s.connection_id = target.id AND $5 IS NOT NULL
                RETURNING 1
            )
            SELECT count(*) AS count, (SELECT ",
            wake!(),
            "::text FROM state WHERE NOT $5 LIMIT 1) AS woken FROM target"
        );
        let mut connection = self.database.get().await?;
        let changed: Option<Count> = Statement::new(sql)
            .bind::<SqlUuid, _>(user.0)
            .bind::<SqlUuid, _>(id.0)
            .bind::<Nullable<Text>, _>(change.calendar_name)
            .bind::<Nullable<Text>, _>(change.calendar_color)
            .bind::<Nullable<Bool>, _>(change.paused)
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        drop(connection);
        match changed {
            Some(Count { count: 1.. }) => self.get(user, id).await,
            _ => Ok(None),
        }
    }

    async fn disconnect(
        &self,
        user: UserId,
        id: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool> {
        let mut transaction = self.database.begin().await?;
        let outcome = disconnect(&mut transaction, user, id, now).await;
        Ok(transaction.end(outcome).await?)
    }

    async fn tokens(&self, lease: &Lease) -> PortResult<Vec<TokenSet>> {
        let sql = concat!(
            "SELECT c.id, c.access_token, c.refresh_token, c.token_expires_at
            FROM calendar_accounts AS a
            LEFT JOIN calendar_connections AS c
              ON c.account_id = a.id AND c.deleted_at IS NULL AND c.is_connected
            WHERE ",
            lease_holds!(),
            " ORDER BY c.token_expires_at DESC NULLS LAST, c.id"
        );
        let mut connection = self.database.get().await?;
        let rows: Vec<TokensRow> = bind_lease(Statement::new(sql), lease)
            .rows(&mut connection)
            .await?;
        drop(connection);
        if rows.is_empty() {
            return Err(PortError::lease_lost());
        }
        let mut found: Vec<TokenSet> = Vec::new();
        for row in rows {
            if let Some(StoredTokens::Open(tokens)) = row.open(&*self.cipher)
                && found.iter().all(|other| !is_same(other, &tokens))
            {
                found.push(tokens);
            }
        }
        Ok(found)
    }

    async fn store_grant(
        &self,
        lease: &Lease,
        grant: TokenGrant,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        let mut transaction = self.database.begin().await?;
        let outcome = store_grant(&mut transaction, &*self.cipher, lease, &grant, now).await;
        Ok(transaction.end(outcome).await?)
    }

    async fn need_reauth(&self, lease: &Lease, code: &str, now: OffsetDateTime) -> PortResult<()> {
        // Out of the way of the queue's index: who is never due must not stand at its head.
        let sql = concat!(
            "WITH account AS (
                UPDATE calendar_accounts AS a SET needs_reauth_reason = left($4, 255), updated_at = $5
                WHERE ",
            lease_holds!(),
            " RETURNING a.id
            ), states AS (
                UPDATE calendar_sync_states AS s SET due_at = '9999-12-31Z', updated_at = $5
                FROM account WHERE s.account_id = account.id
            )
            SELECT count(*) AS count FROM account"
        );
        let mut connection = self.database.get().await?;
        let declared = bind_lease(Statement::new(sql), lease)
            .bind::<Text, _>(code.replace('\0', ""))
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(declared)?)
    }
}

/// What is missing in a grant, as its column holds it.
fn missing(grant: &TokenGrant) -> Vec<&'static str> {
    grant
        .missing
        .iter()
        .map(|missing| missing.as_str())
        .collect()
}

fn is_same(one: &TokenSet, other: &TokenSet) -> bool {
    let refresh = |tokens: &TokenSet| {
        let token = tokens.refresh_token.as_ref();
        token.map(|token| token.expose_secret().to_owned())
    };
    one.access_token.expose_secret() == other.access_token.expose_secret()
        && refresh(one) == refresh(other)
}

async fn store_grant(
    connection: &mut AsyncPgConnection,
    cipher: &dyn TokenCipher,
    lease: &Lease,
    grant: &TokenGrant,
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let sql = concat!(
        "SELECT c.id FROM calendar_accounts AS a
        JOIN calendar_connections AS c ON c.account_id = a.id
        WHERE ",
        lease_holds!(),
        " AND c.deleted_at IS NULL AND c.is_connected
        ORDER BY c.id FOR NO KEY UPDATE OF a, c"
    );
    let rows: Vec<IdRow> = bind_lease(Statement::new(sql), lease)
        .rows(connection)
        .await?;
    if rows.is_empty() {
        return Err(PortError::lease_lost().into());
    }
    let ids: Vec<Uuid> = rows.into_iter().map(|row| row.id).collect();
    store_tokens(connection, cipher, &ids, grant, now).await?;
    if !grant.scopes.is_empty() {
        let sql = "UPDATE calendar_accounts
            SET granted_scopes = $2, missing_permissions = $4, updated_at = $3
            WHERE id = $1 AND (granted_scopes <> $2 OR missing_permissions <> $4)";
        Statement::new(sql)
            .bind::<SqlUuid, _>(lease.account_id.0)
            .bind::<Text, _>(grant.scopes.replace('\0', ""))
            .bind::<Timestamptz, _>(now)
            .bind::<Array<Text>, _>(missing(grant))
            .run(connection)
            .await?;
    }
    Ok(())
}

async fn disconnect(
    connection: &mut AsyncPgConnection,
    user: UserId,
    id: ConnectionId,
    now: OffsetDateTime,
) -> Result<bool, PgError> {
    // The account first: the order of locks.
    let lock = "SELECT a.id FROM calendar_connections AS c
        JOIN calendar_accounts AS a ON a.id = c.account_id
        WHERE c.user_id = $1 AND c.id = $2 FOR NO KEY UPDATE OF a";
    let _: Vec<IdRow> = Statement::new(lock)
        .bind::<SqlUuid, _>(user.0)
        .bind::<SqlUuid, _>(id.0)
        .rows(connection)
        .await?;
    // An account without a connection is gone too, so that its calendars may come through another.
    let sql = "
        WITH gone AS (
            UPDATE calendar_connections AS c SET deleted_at = $3, is_connected = false,
                access_token = NULL, refresh_token = NULL, token_expires_at = NULL,
                sync_token = NULL, updated_at = $3
            WHERE c.user_id = $1 AND c.id = $2 AND c.deleted_at IS NULL AND c.is_connected
            RETURNING c.id, c.account_id
        ), state AS (
            DELETE FROM calendar_sync_states AS s USING gone WHERE s.connection_id = gone.id
        ), seen AS (
            DELETE FROM sync_pass_seen AS p USING gone WHERE p.calendar_connection_id = gone.id
        ), rejected AS (
            DELETE FROM calendar_rejected_events AS r USING gone WHERE r.calendar_connection_id = gone.id
        ), account AS (
            UPDATE calendar_accounts AS a SET deleted_at = $3, updated_at = $3,
                lease_owner = NULL, lease_expires_at = NULL
            FROM gone WHERE a.id = gone.account_id AND NOT EXISTS (
                SELECT 1 FROM calendar_connections AS o
                WHERE o.account_id = a.id AND o.id <> gone.id
                  AND o.deleted_at IS NULL AND o.is_connected)
        )
        SELECT count(*) AS count FROM gone";
    let gone: Option<Count> = Statement::new(sql)
        .bind::<SqlUuid, _>(user.0)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Timestamptz, _>(now)
        .row(connection)
        .await?;
    if gone.is_none_or(|gone| gone.count == 0) {
        return Ok(false);
    }
    // What stood on it moves to another calendar of the account's own, or ends with the last one.
    let subscriptions = "
        WITH gone AS (
            SELECT account_id FROM calendar_connections WHERE id = $1
        ), sibling AS (
            SELECT c.id FROM calendar_connections AS c JOIN gone ON gone.account_id = c.account_id
            WHERE c.deleted_at IS NULL AND c.is_connected AND NOT c.is_shared
            ORDER BY c.is_primary DESC, c.id LIMIT 1
        ), subscription AS MATERIALIZED (
            SELECT w.id, (SELECT id FROM sibling) AS connection_id
            FROM webhook_subscriptions AS w
            WHERE w.is_active AND (w.calendar_connection_id = $1
                OR (w.account_id = (SELECT account_id FROM gone) AND NOT EXISTS (SELECT 1 FROM sibling)))
            ORDER BY w.id FOR NO KEY UPDATE OF w
        )
        UPDATE webhook_subscriptions AS w SET updated_at = $2,
            calendar_connection_id = coalesce(s.connection_id, w.calendar_connection_id),
            is_active = s.connection_id IS NOT NULL
        FROM subscription AS s WHERE w.id = s.id";
    Statement::new(subscriptions)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Timestamptz, _>(now)
        .run(connection)
        .await?;
    Ok(true)
}
