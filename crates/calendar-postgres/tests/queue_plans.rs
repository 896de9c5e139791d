//! What runs all the time walks indexes however much there is: claims, pushes and the look for renewals on
//! 10,000 accounts, 20,000 connections and 40,000 subscriptions; the list of 100,000 managed users. Told by the server's own counters, so that
//! it is the stores' statements that are judged.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "stores/support.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use calendar_domain::ids::{AccountId, SubscriptionId, UserId, WorkerId};
use calendar_domain::ports::{SubscriptionStore as _, SyncQueue as _, TokenCipher, UserStore as _};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::{Notified, PushSignal};
use calendar_postgres::testing::TestDatabase;
use calendar_postgres::{PgSubscriptionStore, PgSyncQueue, PgUserStore};
use tokio_postgres::Client;

use support::{NOW, TTL, TestCipher};

/// Half of the accounts' subscriptions ended long ago, as they stand after renewals that failed.
const ACCOUNTS: &str = "
    INSERT INTO users (email) SELECT 'user' || n || '@example.com' FROM generate_series(1, 10000) AS n;
    INSERT INTO calendar_accounts (user_id, provider, provider_user_id, push_due_at)
    SELECT id, 'MICROSOFT', 'x', NULL FROM users;
    INSERT INTO calendar_connections (user_id, account_id, provider, calendar_id, access_token, is_primary)
    SELECT a.user_id, a.id, 'MICROSOFT', repeat('A', 140) || n, repeat('t', 500), n = 1
    FROM calendar_accounts AS a, generate_series(1, 2) AS n;
    INSERT INTO calendar_sync_states (connection_id, account_id, due_at)
    SELECT id, account_id, '2100-01-01Z' FROM calendar_connections;
    INSERT INTO webhook_subscriptions (calendar_connection_id, account_id, provider, subscription_id,
        resource_path, expiration_datetime, client_state, notification_url, is_active)
    SELECT id, account_id, 'MICROSOFT', gen_random_uuid(), 'me/events',
        timestamptz '2026-03-02 12:00Z' + CASE WHEN n = 1 THEN random() * interval '7 days'
            ELSE random() * interval '-200 days' END,
        repeat('s', 64), 'https://calendar.example.com/webhooks/microsoft', n = 1
    FROM calendar_connections, generate_series(1, 4) AS n WHERE is_primary;
    INSERT INTO calendar_rejected_events (calendar_connection_id, provider_event_id, reason, mapper_version, pass_id)
    SELECT id, repeat('E', 150), 'end_missing', 1, id FROM calendar_connections;
    INSERT INTO mailbox_turns (provider, mailbox, turn, holder, fence, expires_at)
    SELECT 'MICROSOFT', md5(n::text)::uuid, turn, gen_random_uuid(), 1, '2100-01-01Z'
    FROM generate_series(1, 5000) AS n, generate_series(1, 2) AS turn;
    ANALYZE";

const MICROSOFT: [CalendarProvider; 1] = [CalendarProvider::Microsoft];

/// Entries of one index that [`OFTEN`] claims may read: the planner looks at an index's ends too.
const FEW: i64 = 300;

/// More than the five times after which the server settles on one plan for a statement.
const OFTEN: usize = 8;

struct Stores {
    queue: PgSyncQueue,
    subscriptions: PgSubscriptionStore,
    users: PgUserStore,
}

impl Stores {
    /// How many claims found something.
    async fn claim(&self, pushing: &[CalendarProvider]) -> usize {
        let mut found = 0;
        for _ in 0..OFTEN {
            let worker = WorkerId::new();
            let claim = self.queue.claim(worker, &MICROSOFT, pushing, NOW, TTL);
            found += usize::from(claim.await.unwrap().is_some());
        }
        found
    }
}

/// What the server counted while `work` ran: whole tables read, and entries read of each index.
async fn counted(
    database: &TestDatabase,
    client: &Client,
    work: impl AsyncFnOnce(Stores),
) -> BTreeMap<String, i64> {
    // What this session has done so far is counted now, and not while `work` runs.
    client
        .batch_execute("SELECT pg_stat_force_next_flush()")
        .await
        .unwrap();
    let before = counters(client).await;
    let pool = support::pool(database.url());
    let cipher: Arc<dyn TokenCipher> = Arc::new(TestCipher);
    let stores = Stores {
        queue: PgSyncQueue::new(pool.clone(), Arc::clone(&cipher)),
        subscriptions: PgSubscriptionStore::new(pool.clone(), cipher),
        users: PgUserStore::new(pool.clone()),
    };
    work(stores).await;
    // A session reports the rest of its counts when it ends.
    drop(pool);
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let ended = async {
        while client
            .query_one(others, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended)
        .await
        .unwrap();
    let after = counters(client).await;
    after
        .into_iter()
        .map(|(name, count)| (count - before.get(&name).unwrap_or(&0), name))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| (name, count))
        .collect()
}

async fn counters(client: &Client) -> BTreeMap<String, i64> {
    let sql = "SELECT 'all of ' || relname, seq_scan FROM pg_stat_user_tables
        UNION ALL SELECT indexrelname::text, idx_tup_read FROM pg_stat_user_indexes";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[track_caller]
fn assert_walks(counts: &BTreeMap<String, i64>, most: i64, setting: &str) {
    for (name, count) in counts {
        assert!(!name.starts_with("all of "), "{setting}: {counts:#?}");
        assert!(*count <= most, "{setting}: {name}: {counts:#?}");
    }
}

#[tokio::test]
async fn what_runs_all_the_time_walks_indexes() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    client.batch_execute(ACCOUNTS).await.unwrap();

    let idle = counted(&database, &client, async |stores: Stores| {
        assert_eq!(stores.claim(&MICROSOFT).await, 0);
    });
    assert_walks(&idle.await, FEW, "nothing is due");

    let set = "UPDATE calendar_accounts SET push_due_at = '2026-03-01Z'; ANALYZE calendar_accounts";
    client.batch_execute(set).await.unwrap();
    let unpushed = counted(&database, &client, async |stores: Stores| {
        assert_eq!(stores.claim(&[]).await, 0);
    });
    assert_walks(
        &unpushed.await,
        FEW,
        "all wait for their push, and nobody pushes",
    );

    let set = "UPDATE calendar_accounts SET pushed_at = '2026-03-01Z';
        UPDATE calendar_sync_states SET due_at = '2026-03-01Z'";
    client.batch_execute(set).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let busy = counted(&database, &client, async |stores: Stores| {
        assert_eq!(stores.claim(&MICROSOFT).await, OFTEN);
    });
    let busy = busy.await;
    // Each walks past what is leased by then.
    assert_walks(&busy, FEW, "all is due");
    for index in [
        "calendar_accounts_pushed_at_idx",
        "calendar_accounts_push_due_at_idx",
        "calendar_sync_states_due_at_idx",
    ] {
        assert!(busy.contains_key(index), "{index}: {busy:#?}");
    }

    let some =
        "SELECT id, account_id FROM webhook_subscriptions WHERE is_active ORDER BY id LIMIT 100";
    let rows = client.query(some, &[]).await.unwrap();
    let batch: Vec<Notified> = rows
        .iter()
        .map(|row| {
            let mut one = Notified::new(SubscriptionId(row.get(0)), AccountId(row.get(1)));
            one.add(PushSignal::Changed);
            one
        })
        .collect();
    let pushes = counted(&database, &client, async |stores: Stores| {
        for round in 0..i64::try_from(OFTEN).unwrap() {
            let now = NOW + time::Duration::seconds(round);
            stores.subscriptions.record(&batch, now).await.unwrap();
        }
    });
    assert_walks(&pushes.await, 4_000, "a hundred subscriptions, eight times");

    renewals(&database, &client, "most have ended").await;
    let all_active = "UPDATE webhook_subscriptions SET is_active = true,
        expiration_datetime = timestamptz '2026-03-02 12:00Z' + random() * interval '7 days'";
    client.batch_execute(all_active).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    renewals(&database, &client, "all are active").await;
}

/// The document's query, as it is asked.
async fn renewals(database: &TestDatabase, client: &Client, setting: &str) {
    let counts = counted(database, client, async |stores: Stores| {
        for _ in 0..OFTEN {
            let (lead, spread) = (Duration::from_hours(1), Duration::from_mins(10));
            let store = &stores.subscriptions;
            let scheduled = store.schedule_renewals(NOW, lead, spread).await.unwrap();
            assert!(
                scheduled.due > 10 && scheduled.expired == 0,
                "{scheduled:?}"
            );
        }
    });
    let counts = counts.await;
    assert_walks(&counts, 10_000, setting);
    let index = "webhook_subscriptions_expiration_is_active_idx";
    assert!(counts.contains_key(index), "{setting}: {counts:#?}");
}

/// One product with 100,000 users and a thousand with ten each.
const PRODUCTS: &str = "
    INSERT INTO users (id, email)
    SELECT lpad(n::text, 32, '0')::uuid, 'owner' || n || '@example.com' FROM generate_series(0, 1000) AS n;
    INSERT INTO users (email, managed_by, managed_email)
    SELECT 'managed-' || n || '@invalid', lpad('0', 32, '0')::uuid, 'Eve' || n || '@product.example'
    FROM generate_series(1, 100000) AS n;
    INSERT INTO users (email, managed_by, managed_email)
    SELECT 'managed-' || n || '-' || o || '@invalid', lpad(o::text, 32, '0')::uuid, 'eve' || n || '@product.example'
    FROM generate_series(1, 10) AS n, generate_series(1, 1000) AS o;
    ANALYZE";

#[tokio::test]
async fn a_page_of_very_many_managed_users_walks_an_index() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    client.batch_execute(PRODUCTS).await.unwrap();
    let owner = UserId(uuid::Uuid::nil());
    let late = "SELECT id FROM users WHERE managed_by IS NOT NULL ORDER BY id OFFSET 90000 LIMIT 1";
    let late = UserId(client.query_one(late, &[]).await.unwrap().get(0));
    for (email, after, found) in [
        (None, None, 50),
        (None, Some(late), 50),
        (Some("eve99999@PRODUCT.example"), None, 1),
        (Some("eve100001@product.example"), None, 0),
    ] {
        let setting = format!("{email:?} after {after:?}");
        let counts = counted(&database, &client, async |stores: Stores| {
            for _ in 0..OFTEN {
                let email = email.map(str::to_owned);
                let page = stores.users.list_managed(owner, email, after, 50).await;
                assert_eq!(page.unwrap().items.len(), found, "{setting}");
            }
        });
        // 51 of each page, and what is looked at when it is planned.
        assert_walks(&counts.await, 600, &setting);
    }
}
