//! A day of polling 20,000 connections, as fast as the database goes: what it leaves behind in the tables.
//!
//! The short form runs with all tests; the whole day prints its figures:
//! `cargo xtask test --release -p calendar-postgres --test polling_day -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]
#![expect(clippy::print_stdout, reason = "it says what it measured")]

#[path = "stores/support.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use calendar_domain::account::TokenGrant;
use calendar_domain::ids::WorkerId;
use calendar_domain::ports::{ConnectionStore as _, EventStore as _, SyncQueue as _, TokenCipher};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::{AfterPage, Claim, Cursor, PageBatch, PassEnd, PassKind, Unseen};
use calendar_postgres::testing::TestDatabase;
use calendar_postgres::{
    Database, PgConfig, PgConnectionStore, PgEventStore, PgHousekeeping, PgSyncQueue,
};
use time::{Duration, OffsetDateTime};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use support::{NOW, TTL, TestCipher, pass, single};

const POLL: Duration = Duration::minutes(5);
/// Workers at once.
const WORKERS: usize = 8;
/// Each hundredth pass brings a new event; all others bring nothing, as most polls do.
const CHANGED: usize = 100;
/// And each thousandth begins anew, as after a lost cursor.
const FULL: usize = 1_000;
/// Microsoft's links are about as long.
const LINK: usize = 700;
/// And its access tokens; sealed they are longer.
const TOKEN: usize = 1_500;

/// `$1` accounts with two calendars each, spread over the first poll.
const FILL: &str = "
    WITH somebody AS (INSERT INTO users (email) SELECT 'user' || n || '@example.com'
            FROM generate_series(1, $1::integer) AS n RETURNING id),
        accounts AS (INSERT INTO calendar_accounts (user_id, provider, provider_user_id)
            SELECT id, 'MICROSOFT', 'x' FROM somebody RETURNING id, user_id),
        connections AS (INSERT INTO calendar_connections
                (user_id, account_id, provider, calendar_id, calendar_name, is_primary)
            SELECT user_id, id, 'MICROSOFT', repeat('A', 140) || n, 'Calendar', n = 1
            FROM accounts, generate_series(1, 2) AS n RETURNING id, account_id)
    INSERT INTO calendar_sync_states (connection_id, account_id, due_at)
    SELECT id, account_id, timestamptz '2026-03-02 12:00Z' + random() * interval '5 minutes' FROM connections";

const SIZES: &str = "
    SELECT s.relname::text, pg_total_relation_size(s.relid) AS total, pg_indexes_size(s.relid) AS indexes,
        s.n_live_tup, s.n_dead_tup, s.n_tup_upd, s.n_tup_hot_upd, s.autovacuum_count
    FROM pg_stat_user_tables AS s
    WHERE s.relname IN ('calendar_accounts', 'calendar_connections', 'calendar_sync_states', 'sync_pass_seen')
    ORDER BY 1";

struct Day {
    database: TestDatabase,
    client: Client,
    queue: PgSyncQueue,
    events: PgEventStore,
    connections: PgConnectionStore,
    housekeeping: PgHousekeeping,
    passes: AtomicUsize,
}

impl Day {
    async fn of(accounts: i32) -> Arc<Self> {
        let database = TestDatabase::create().await;
        let client = database.connect().await;
        client.execute(FILL, &[&accounts]).await.unwrap();
        client.batch_execute("VACUUM ANALYZE").await.unwrap();
        let pool = Database::connect(PgConfig {
            url: database.url().to_owned().into(),
            max_connections: WORKERS,
        })
        .unwrap();
        let cipher: Arc<dyn TokenCipher> = Arc::new(TestCipher);
        Arc::new(Self {
            queue: PgSyncQueue::new(pool.clone(), Arc::clone(&cipher)),
            connections: PgConnectionStore::new(pool.clone(), cipher),
            events: PgEventStore::new(pool.clone()),
            housekeeping: PgHousekeeping::new(pool),
            passes: AtomicUsize::new(0),
            database,
            client,
        })
    }

    /// Works on all that is due, as a worker does: claim, passes, release; each hour a new access token.
    async fn poll(self: &Arc<Self>, now: OffsetDateTime, refresh: bool) {
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            let day = Arc::clone(self);
            workers.spawn(async move {
                let worker = WorkerId::new();
                let microsoft = [CalendarProvider::Microsoft];
                loop {
                    let claim = day.queue.claim(worker, &microsoft, &[], now, TTL).await;
                    let Some(claim) = claim.unwrap() else { break };
                    day.work(claim, now, refresh).await;
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.unwrap();
        }
    }

    async fn work(&self, claim: Claim, now: OffsetDateTime, refresh: bool) {
        if refresh {
            let grant = TokenGrant {
                access_token: "t".repeat(TOKEN).into(),
                refresh_token: Some("r".repeat(TOKEN).into()),
                expires_at: now + Duration::hours(1),
                scopes: "Calendars.Read offline_access".to_owned(),
                missing: Vec::new(),
            };
            let stored = self.connections.store_grant(&claim.lease, grant, now);
            stored.await.unwrap();
        }
        for due in claim.connections {
            let number = self.passes.fetch_add(1, Ordering::Relaxed);
            let kind = if number.is_multiple_of(FULL) {
                PassKind::Full
            } else {
                PassKind::Delta
            };
            let changes = if number.is_multiple_of(CHANGED) {
                vec![single(&format!("event-{number}"), 4)]
            } else {
                Vec::new()
            };
            let end = PassEnd {
                sync_token: Cursor(format!("{number:0>LINK$}")),
                next_due_at: now + POLL,
                push_look: None,
                requested_seq: due.requested_seq,
                unseen: match kind {
                    PassKind::Full => Unseen::Remove,
                    PassKind::Delta => Unseen::Keep,
                },
            };
            let batch = PageBatch {
                connection_id: due.id,
                pass: pass(kind),
                changes,
                then: AfterPage::Finish(end),
            };
            self.events.apply(&claim.lease, batch, now).await.unwrap();
        }
        self.queue.release(&claim.lease).await.unwrap();
    }

    async fn report(&self, hour: i64) {
        println!(
            "after {hour} h, {} passes",
            self.passes.load(Ordering::Relaxed)
        );
        for row in self.client.query(SIZES, &[]).await.unwrap() {
            let number = |index: usize| row.get::<_, i64>(index);
            println!(
                "  {:<21} {:>6.1} MB, indexes {:>5.1} MB, {:>6} live, {:>6} dead, {:>8} updates ({:>3.0} % hot), vacuumed {}",
                row.get::<_, String>(0),
                megabytes(number(1)),
                megabytes(number(2)),
                number(3),
                number(4),
                number(5),
                100.0 * share(number(6), number(5)),
                number(7),
            );
        }
    }

    async fn size(&self) -> i64 {
        let sql = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_stat_user_tables
            WHERE relname IN ('calendar_accounts', 'calendar_connections', 'calendar_sync_states')";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn megabytes(bytes: i64) -> f64 {
    bytes as f64 / 1_048_576.0
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn share(part: i64, whole: i64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Polls `accounts` for so many hours; answers the size at the end, and that of the same rows packed.
async fn polling(accounts: i32, hours: i64, report_every: i64) -> (i64, i64) {
    let day = Day::of(accounts).await;
    let began = Instant::now();
    let mut first = 0;
    for hour in 1..=hours {
        for round in 0..12 {
            let now = NOW + Duration::hours(hour - 1) + POLL * (round + 1);
            day.poll(now, round == 0).await;
            day.housekeeping.purge(now).await.unwrap();
        }
        if hour == 1 {
            first = day.size().await;
        }
        if hour == 1 || hour % report_every == 0 {
            day.report(hour).await;
            println!("  {:?} so far", began.elapsed());
        }
    }
    let rounds = usize::try_from(hours * 12).unwrap();
    let connections = usize::try_from(accounts).unwrap() * 2;
    // A claim that took longer than another worker's whole pass hands out what that one has just done.
    assert!(day.passes.load(Ordering::Relaxed) >= rounds * connections);
    let left = "SELECT (SELECT count(*) FROM sync_pass_seen)
        + (SELECT count(*) FROM calendar_accounts WHERE lease_owner IS NOT NULL)";
    let left: i64 = day.client.query_one(left, &[]).await.unwrap().get(0);
    assert_eq!(left, 0, "rows of passes, or leases, stay behind");
    let last = day.size().await;
    day.client
        .batch_execute("VACUUM FULL calendar_accounts, calendar_connections, calendar_sync_states")
        .await
        .unwrap();
    let packed = day.size().await;
    println!(
        "{:.1} MB after the first hour, {:.1} MB after the last, {:.1} MB packed ({} on the server)",
        megabytes(first),
        megabytes(last),
        megabytes(packed),
        day.database.url().rsplit('/').next().unwrap_or_default(),
    );
    (last, packed)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_polling_leaves_no_rows_behind() {
    polling(20, 1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of an hour or so, for release builds"]
async fn a_day_of_polling_leaves_no_bloat() {
    let (last, packed) = polling(10_000, 24, 2).await;
    // Rows that are written all the time live with some dead ones beside them; they may not pile up.
    assert!(
        last < packed * 3 / 2,
        "{last} bytes of tables after a day, {packed} packed"
    );
}
