//! Push subscriptions and what is notified through them: `SubscriptionStore` on PostgreSQL. What
//! notifications and renewals mark stands in `marks.rs`, what is read in `rows.rs`.
//!
//! Locks are taken in the order account, connection, state, subscription; several of a kind in the order
//! of their ids.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{AccountId, ConnectionId, SubscriptionId, UserId};
use calendar_domain::ports::{SubscriptionStore, TokenCipher};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::query::Listed;
use calendar_domain::subscription::{
    EndingSubscription, KnownSubscription, NewSubscription, Notified, PushWork, RenewalsScheduled,
    SubscriptionCursor, WebhookSubscription,
};
use calendar_domain::sync::Lease;
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::codes::Label as _;
use crate::database::Database;
use crate::error::PgError;
use crate::fence::{Count, bind_lease, lease_holds};
use crate::statement::Statement;

mod marks;
mod rows;

use rows::{SubscriptionRow, TokenRow, open_any, subscription_columns};

/// `SubscriptionStore` on PostgreSQL.
#[derive(Clone)]
pub struct PgSubscriptionStore {
    database: Database,
    cipher: Arc<dyn TokenCipher>,
}

impl PgSubscriptionStore {
    /// The store in this database; `cipher` opens the tokens that it hands out.
    #[must_use]
    pub fn new(database: Database, cipher: Arc<dyn TokenCipher>) -> Self {
        Self { database, cipher }
    }
}

/// A CTE `account` with the account, locked, when the lease holds, else with no row.
macro_rules! leased_account {
    () => {
        concat!(
            "account AS MATERIALIZED (
                SELECT a.id, a.push_silent_since FROM calendar_accounts AS a
                WHERE ",
            lease_holds!(),
            "   FOR NO KEY UPDATE OF a)"
        )
    };
}

#[derive(QueryableByName)]
struct KnownRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    account_id: Uuid,
    #[diesel(sql_type = Text)]
    subscription_id: String,
    #[diesel(sql_type = Nullable<Binary>)]
    client_state: Option<Vec<u8>>,
}

/// `$1` to `$3` the lease. One row for each live connection, the one to stand on first.
const PUSH_WORK: &str = concat!(
    "SELECT a.push_failure_count, ",
    subscription_columns!(),
    ", CASE WHEN w.last_notification_at > a.push_silent_since THEN NULL ELSE a.push_silent_since END
            AS silent_since,
        c.id AS connection_id, coalesce(c.is_shared, true) AS is_shared, c.access_token,
        c.refresh_token, c.token_expires_at
    FROM calendar_accounts AS a
    LEFT JOIN LATERAL (
        SELECT * FROM webhook_subscriptions AS s WHERE s.account_id = a.id AND s.is_active
        ORDER BY s.created_at DESC, s.id DESC LIMIT 1
    ) AS w ON true
    LEFT JOIN calendar_connections AS c
        ON c.account_id = a.id AND c.deleted_at IS NULL AND c.is_connected
    WHERE ",
    lease_holds!(),
    " ORDER BY c.is_shared, c.is_primary DESC, c.id"
);

#[derive(QueryableByName)]
struct PushWorkRow {
    #[diesel(sql_type = Integer)]
    push_failure_count: i32,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    silent_since: Option<OffsetDateTime>,
    #[diesel(sql_type = Bool)]
    is_shared: bool,
    #[diesel(embed)]
    subscription: SubscriptionRow,
    #[diesel(embed)]
    tokens: TokenRow,
}

/// `$1` user, `$2` connection or null: then with the users whom this one manages, as many of them as a
/// request can see to. An account of which others' calendars stay lives on.
const ENDING: &str = "
    SELECT w.id, w.provider::text AS provider, w.subscription_id, $2 IS NOT NULL AND EXISTS (
            SELECT 1 FROM calendar_connections AS o
            WHERE o.account_id = a.id AND o.id <> $2 AND o.deleted_at IS NULL AND o.is_connected
        ) AS account_stays, c.id AS connection_id, c.access_token, c.refresh_token, c.token_expires_at
    FROM calendar_accounts AS a
    JOIN webhook_subscriptions AS w ON w.account_id = a.id AND w.is_active
    LEFT JOIN calendar_connections AS c
        ON c.account_id = a.id AND c.deleted_at IS NULL AND c.is_connected
    WHERE a.user_id = ANY (ARRAY(
            SELECT u.id FROM users AS u
            WHERE u.id = $1 OR ($2 IS NULL AND u.managed_by = $1 AND u.deleted_at IS NULL)
            ORDER BY u.id <> $1, u.id LIMIT 500))
        AND a.deleted_at IS NULL AND ($2 IS NULL OR (
        EXISTS (
            SELECT 1 FROM calendar_connections AS t
            WHERE t.id = $2 AND t.account_id = a.id AND t.user_id = $1
              AND t.deleted_at IS NULL AND t.is_connected)
        AND NOT EXISTS (
            SELECT 1 FROM calendar_connections AS o
            WHERE o.account_id = a.id AND o.id <> $2 AND NOT o.is_shared
              AND o.deleted_at IS NULL AND o.is_connected)))
    ORDER BY w.id, c.id";

#[derive(QueryableByName)]
struct EndingRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    provider: String,
    #[diesel(sql_type = Text)]
    subscription_id: String,
    #[diesel(sql_type = Bool)]
    account_stays: bool,
    #[diesel(embed)]
    tokens: TokenRow,
}

/// `$4` connection. The account's lock keeps a disconnect out.
const START_FENCE: &str = concat!(
    "WITH fence AS MATERIALIZED (
        SELECT c.id FROM calendar_accounts AS a
        JOIN calendar_connections AS c ON c.account_id = a.id
        WHERE ",
    lease_holds!(),
    " AND c.id = $4 AND c.deleted_at IS NULL AND c.is_connected
        FOR NO KEY UPDATE OF a)
    SELECT count(*) AS count FROM fence"
);

/// `$1` account, `$2` now. What changed before the subscription was not pushed, and what was pushed before
/// this statement was taken for a stranger's: both are looked at as after a push. A silence that a push has
/// ended says nothing about the new one.
const START_ACCOUNT: &str = "
    UPDATE calendar_accounts AS a
    SET push_due_at = NULL, push_failure_count = 0, push_error_code = NULL,
        pushed_at = least(a.pushed_at, $2),
        push_silent_since = CASE WHEN EXISTS (
                SELECT 1 FROM webhook_subscriptions AS w
                WHERE w.account_id = a.id AND w.last_notification_at > a.push_silent_since)
            THEN NULL ELSE a.push_silent_since END
    WHERE a.id = $1";

/// `$1` account, `$2` now, `$3` provider, `$4` the provider's id of the one that stays.
const START_OTHERS: &str = "
    WITH others AS MATERIALIZED (
        SELECT w.id FROM webhook_subscriptions AS w
        WHERE w.account_id = $1 AND w.is_active
          AND (w.subscription_id, w.provider) <> ($4, $3::text::calendar_provider)
        ORDER BY w.id FOR NO KEY UPDATE OF w
    )
    UPDATE webhook_subscriptions AS w SET is_active = false, updated_at = $2
    FROM others WHERE w.id = others.id";

/// A provider gives an id once; a row with it is the same subscription, found again. That of another
/// account which still counts on it is not taken away.
const START_SUBSCRIPTION: &str = "
    INSERT INTO webhook_subscriptions AS w (id, account_id, calendar_connection_id, provider,
        subscription_id, resource_path, notification_url, expiration_datetime, client_state, is_active,
        created_at, updated_at)
    VALUES ($5, $1, $6, $3::text::calendar_provider, $4, $7, $8, $9,
        'sha256:' || encode($10, 'hex'), true, $2, $2)
    ON CONFLICT (subscription_id, provider) DO UPDATE SET account_id = excluded.account_id,
        calendar_connection_id = excluded.calendar_connection_id,
        resource_path = excluded.resource_path, notification_url = excluded.notification_url,
        expiration_datetime = excluded.expiration_datetime, client_state = excluded.client_state,
        is_active = true, updated_at = excluded.updated_at
    WHERE w.account_id = excluded.account_id OR NOT w.is_active";

async fn start(
    connection: &mut AsyncPgConnection,
    lease: &Lease,
    new: &NewSubscription,
    now: OffsetDateTime,
) -> Result<(), PgError> {
    let NewSubscription {
        connection_id,
        provider,
        subscription,
        client_state,
    } = new;
    let held = bind_lease(Statement::new(START_FENCE), lease)
        .bind::<SqlUuid, _>(connection_id.0)
        .row(connection)
        .await?;
    Count::or_lease_lost(held)?;
    let bind = |sql| {
        Statement::new(sql)
            .bind::<SqlUuid, _>(lease.account_id.0)
            .bind::<Timestamptz, _>(now)
    };
    bind(START_ACCOUNT).run(connection).await?;
    let bind = |sql| {
        bind(sql)
            .bind::<Text, _>(provider.label())
            .bind::<Text, _>(subscription.subscription_id.as_str())
    };
    bind(START_OTHERS).run(connection).await?;
    let stored = bind(START_SUBSCRIPTION)
        .bind::<SqlUuid, _>(SubscriptionId::new().0)
        .bind::<SqlUuid, _>(connection_id.0)
        .bind::<Text, _>(subscription.resource_path.as_str())
        .bind::<Text, _>(subscription.notification_url.as_str())
        .bind::<Timestamptz, _>(subscription.expires_at)
        .bind::<Binary, _>(client_state.as_slice())
        .run(connection)
        .await?;
    if stored == 0 {
        return Err(PortError::new(FailureClass::Conflict, "subscription_taken").into());
    }
    Ok(())
}

#[async_trait]
impl SubscriptionStore for PgSubscriptionStore {
    async fn find(
        &self,
        provider: CalendarProvider,
        subscription_ids: &[String],
    ) -> PortResult<Vec<KnownSubscription>> {
        // They come from outside, and no column holds a NUL.
        let ids: Vec<&str> = subscription_ids
            .iter()
            .map(String::as_str)
            .filter(|id| !id.contains('\0'))
            .collect();
        let sql = "
            SELECT w.id, w.account_id, w.subscription_id,
                CASE WHEN w.client_state ~ '^sha256:[0-9a-f]{64}$' THEN decode(substr(w.client_state, 8), 'hex')
                    ELSE sha256(convert_to(w.client_state, 'UTF8')) END AS client_state
            FROM webhook_subscriptions AS w JOIN calendar_accounts AS a ON a.id = w.account_id
            WHERE w.subscription_id = ANY ($2) AND w.provider = $1::text::calendar_provider
              AND a.deleted_at IS NULL";
        let mut connection = self.database.get().await?;
        let rows: Vec<KnownRow> = Statement::new(sql)
            .bind::<Text, _>(provider.label())
            .bind::<Array<Text>, _>(ids)
            .rows(&mut connection)
            .await?;
        let known = rows.into_iter().map(|row| KnownSubscription {
            id: SubscriptionId(row.id),
            account_id: AccountId(row.account_id),
            subscription_id: row.subscription_id,
            client_state: row.client_state.and_then(|bytes| bytes.try_into().ok()),
        });
        Ok(known.collect())
    }

    async fn record(&self, notified: &[Notified], now: OffsetDateTime) -> PortResult<()> {
        Ok(marks::record(&self.database, notified, now).await?)
    }

    async fn list(
        &self,
        user: UserId,
        connection_id: ConnectionId,
        after: Option<SubscriptionCursor>,
        limit: u32,
    ) -> PortResult<Option<Listed<WebhookSubscription, SubscriptionCursor>>> {
        let sql = concat!(
            "SELECT ",
            subscription_columns!(),
            " FROM calendar_connections AS c
            LEFT JOIN webhook_subscriptions AS w ON w.account_id = c.account_id AND NOT c.is_shared
                AND (w.is_active OR w.updated_at > now() - interval '30 days')
                AND ($3 IS NULL OR (w.created_at, w.id) < ($3, $4))
            WHERE c.user_id = $1 AND c.id = $2 AND c.deleted_at IS NULL AND c.is_connected
            ORDER BY w.created_at DESC, w.id DESC LIMIT $5"
        );
        let mut connection = self.database.get().await?;
        let rows: Vec<SubscriptionRow> = Statement::new(sql)
            .bind::<SqlUuid, _>(user.0)
            .bind::<SqlUuid, _>(connection_id.0)
            .bind::<Nullable<Timestamptz>, _>(after.map(|after| after.created_at))
            .bind::<Nullable<SqlUuid>, _>(after.map(|after| after.id.0))
            .bind::<BigInt, _>(i64::from(limit) + 1)
            .rows(&mut connection)
            .await?;
        drop(connection);
        if rows.is_empty() {
            return Ok(None);
        }
        let more = rows.len() > limit as usize;
        let items: Vec<WebhookSubscription> = rows
            .into_iter()
            .take(limit as usize)
            .filter_map(|row| row.into_subscription().transpose())
            .collect::<Result<_, _>>()?;
        let next = items
            .last()
            .filter(|_| more)
            .map(|last| SubscriptionCursor {
                created_at: last.created_at,
                id: last.id,
            });
        Ok(Some(Listed { items, next }))
    }

    async fn schedule_renewals(
        &self,
        now: OffsetDateTime,
        lead: Duration,
        spread: Duration,
    ) -> PortResult<RenewalsScheduled> {
        Ok(marks::schedule_renewals(&self.database, now, lead, spread).await?)
    }

    async fn end_unreachable(
        &self,
        reachable: &[(CalendarProvider, String)],
        now: OffsetDateTime,
        spread: Duration,
    ) -> PortResult<u64> {
        Ok(marks::end_unreachable(&self.database, reachable, now, spread).await?)
    }

    async fn push_work(&self, lease: &Lease) -> PortResult<PushWork> {
        let mut connection = self.database.get().await?;
        let rows: Vec<PushWorkRow> = bind_lease(Statement::new(PUSH_WORK), lease)
            .rows(&mut connection)
            .await?;
        drop(connection);
        let tokens = open_any(&*self.cipher, rows.iter().map(|row| &row.tokens));
        let Some(first) = rows.into_iter().next() else {
            return Err(PortError::lease_lost());
        };
        let anchor = first.tokens.connection_id.filter(|_| !first.is_shared);
        Ok(PushWork {
            anchor: anchor.map(ConnectionId),
            subscription: first.subscription.into_subscription()?,
            tokens,
            failure_count: u32::try_from(first.push_failure_count).unwrap_or(0),
            silent_since: first.silent_since,
        })
    }

    async fn start(
        &self,
        lease: &Lease,
        new: NewSubscription,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        let mut transaction = self.database.begin().await?;
        let outcome = start(&mut transaction, lease, &new, now).await;
        Ok(transaction.end(outcome).await?)
    }

    async fn renewed(
        &self,
        lease: &Lease,
        id: SubscriptionId,
        expires_at: OffsetDateTime,
        next_at: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        // One that was removed meanwhile stays so, and what is due for it too.
        let sql = concat!(
            "WITH ",
            leased_account!(),
            ", renewed AS (
                UPDATE webhook_subscriptions AS w
                SET expiration_datetime = $5, renewed_at = $7, updated_at = $7,
                    -- As an older version stored it.
                    client_state = CASE WHEN w.client_state ~ '^sha256:[0-9a-f]{64}$' THEN w.client_state
                        ELSE 'sha256:' || encode(sha256(convert_to(w.client_state, 'UTF8')), 'hex') END
                FROM account WHERE w.id = $4 AND w.account_id = account.id AND w.is_active
                RETURNING w.id
            ), settled AS (
                UPDATE calendar_accounts AS a SET push_failure_count = 0, push_error_code = NULL,
                    push_due_at = CASE WHEN EXISTS (SELECT 1 FROM renewed) THEN $6
                        ELSE a.push_due_at END,
                    pushed_at = least(a.pushed_at, $7)
                FROM account WHERE a.id = account.id
            )
            SELECT count(*) AS count FROM account"
        );
        let mut connection = self.database.get().await?;
        let held = bind_lease(Statement::new(sql), lease)
            .bind::<SqlUuid, _>(id.0)
            .bind::<Timestamptz, _>(expires_at)
            .bind::<Nullable<Timestamptz>, _>(next_at)
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(held)?)
    }

    async fn ended(
        &self,
        lease: &Lease,
        id: SubscriptionId,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        let sql = concat!(
            "WITH ",
            leased_account!(),
            ", ended AS (
                UPDATE webhook_subscriptions AS w SET is_active = false, updated_at = $5
                FROM account WHERE w.id = $4 AND w.account_id = account.id AND w.is_active
            ), due AS (
                UPDATE calendar_accounts AS a SET push_due_at = least(a.push_due_at, $5),
                    pushed_at = least(a.pushed_at, $5)
                FROM account WHERE a.id = account.id
            )
            SELECT count(*) AS count FROM account"
        );
        let mut connection = self.database.get().await?;
        let held = bind_lease(Statement::new(sql), lease)
            .bind::<SqlUuid, _>(id.0)
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(held)?)
    }

    async fn settle(&self, lease: &Lease) -> PortResult<()> {
        let sql = concat!(
            "WITH settled AS (
                UPDATE calendar_accounts AS a SET push_due_at = NULL
                WHERE ",
            lease_holds!(),
            " RETURNING 1) SELECT count(*) AS count FROM settled"
        );
        let mut connection = self.database.get().await?;
        let held = bind_lease(Statement::new(sql), lease)
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(held)?)
    }

    async fn failed(&self, lease: &Lease, code: &str, retry_at: OffsetDateTime) -> PortResult<()> {
        let sql = concat!(
            "WITH failed AS (
                UPDATE calendar_accounts AS a SET push_due_at = $4, push_error_code = left($5, 100),
                    push_failure_count = a.push_failure_count + 1
                WHERE ",
            lease_holds!(),
            " RETURNING 1) SELECT count(*) AS count FROM failed"
        );
        let mut connection = self.database.get().await?;
        let held = bind_lease(Statement::new(sql), lease)
            .bind::<Timestamptz, _>(retry_at)
            .bind::<Text, _>(code.replace('\0', ""))
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(held)?)
    }

    async fn suspect_silence(
        &self,
        lease: &Lease,
        since: OffsetDateTime,
        check_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        // One silence is looked into once; under a subscription that has stood for a day, again. The
        // subscription is locked so that a push of this moment is seen.
        let sql = concat!(
            "WITH ",
            leased_account!(),
            ", subscription AS MATERIALIZED (
                SELECT w.account_id, w.last_notification_at, w.created_at
                FROM webhook_subscriptions AS w JOIN account ON account.id = w.account_id
                WHERE w.is_active
                ORDER BY w.created_at DESC, w.id DESC LIMIT 1 FOR NO KEY UPDATE OF w
            ), silent AS (
                UPDATE calendar_accounts AS a SET push_silent_since = $6,
                    push_due_at = least(a.push_due_at, $5), pushed_at = least(a.pushed_at, $6)
                FROM subscription AS w
                WHERE a.id = w.account_id AND coalesce(w.last_notification_at, w.created_at) < $4
                  AND (a.push_silent_since IS NULL OR w.last_notification_at > a.push_silent_since
                    OR w.created_at < $6 - interval '24 hours')
            )
            SELECT count(*) AS count FROM account"
        );
        let mut connection = self.database.get().await?;
        let held = bind_lease(Statement::new(sql), lease)
            .bind::<Timestamptz, _>(since)
            .bind::<Timestamptz, _>(check_at)
            .bind::<Timestamptz, _>(now)
            .row(&mut connection)
            .await?;
        Ok(Count::or_lease_lost(held)?)
    }

    async fn ending(
        &self,
        user: UserId,
        connection_id: Option<ConnectionId>,
    ) -> PortResult<Vec<EndingSubscription>> {
        let mut connection = self.database.get().await?;
        let rows: Vec<EndingRow> = Statement::new(ENDING)
            .bind::<SqlUuid, _>(user.0)
            .bind::<Nullable<SqlUuid>, _>(connection_id.map(|id| id.0))
            .rows(&mut connection)
            .await?;
        drop(connection);
        let mut subscriptions: BTreeMap<Uuid, Vec<EndingRow>> = BTreeMap::new();
        for row in rows {
            subscriptions.entry(row.id).or_default().push(row);
        }
        let mut ending = Vec::new();
        for rows in subscriptions.into_values() {
            let tokens = open_any(&*self.cipher, rows.iter().map(|row| &row.tokens));
            let Some(row) = rows.into_iter().next() else {
                continue;
            };
            ending.push(EndingSubscription {
                provider: CalendarProvider::from_label(&row.provider)?,
                subscription_id: row.subscription_id,
                tokens,
                account_stays: row.account_stays,
            });
        }
        Ok(ending)
    }
}
