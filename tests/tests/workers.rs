//! Two workers at once on the same accounts while edits go on: one of them at a time passes over an account,
//! none waits long, and the store ends up equal to the truth.
//!
//! The short form runs with all tests. The long one measures:
//! `cargo xtask test --release -p calendar-e2e --test workers -- --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]
#![expect(clippy::print_stdout, reason = "it says what it measured")]

use std::time::{Duration, Instant};

use calendar_e2e::{Binary, Crowd, Process, World, at_once, logged_passes};
use calendar_postgres::testing::{TestDatabase, TestServer};
use calendar_simulator::{Options, Quirks};
use tokio_postgres::Client;

const LONG: Duration = Duration::from_secs(30);
const CALENDARS: usize = 4;

/// What is tried, and how long.
struct Plan {
    accounts: usize,
    /// Seconds between two polls of a calendar.
    poll: u32,
    /// How long edits go on.
    duration: Duration,
    /// Between two of them.
    pause: Duration,
    /// How long first passes may take, and the last edits to arrive.
    patience: Duration,
}

/// The longest that a calendar has gone without a pass.
async fn longest_wait(client: &Client) -> Duration {
    let sql = "SELECT extract(epoch FROM max(now() - coalesce(last_synced_at, created_at)))::float8 FROM calendar_connections";
    Duration::from_secs_f64(client.query_one(sql, &[]).await.unwrap().get(0))
}

async fn count(client: &Client, what: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {what}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[expect(clippy::too_many_lines, reason = "one story, step by step")]
async fn two_workers(plan: Plan) {
    let mut server = TestServer::create();
    server
        .start(&["log_lock_waits=on", "shared_buffers=256MB"])
        .await;
    let database = TestDatabase::create_at(&server.url("127.0.0.1", "postgres")).await;
    let poll = plan.poll.to_string();
    let options = Options {
        quirks: Quirks {
            mailbox_concurrency: 4,
            latency_ms: 10,
            ..Quirks::default()
        },
        ..Options::default()
    };
    let variables = [
        ("CALENDAR_POLL_SECONDS", poll.as_str()),
        ("CALENDAR_POLL_PUSHED_SECONDS", &poll),
        ("CALENDAR_LOG", "info"),
        ("CALENDAR_LOG_FORMAT", "json"),
    ];
    let mut world = World::start_on(database, options, &variables).await;
    world.worker.signal("TERM").await;
    assert!(world.worker.end(LONG).await.success());
    let simulator = world.simulator.simulator().clone();
    let mut crowd = Crowd::create(&simulator, plan.accounts, CALENDARS, 5, 1);
    let user = world.user("crowd@example.com").await;
    crowd.connect(&world, &user).await;
    let client = world.database.connect().await;
    let connections = i64::try_from(plan.accounts * CALENDARS).unwrap();
    assert_eq!(count(&client, "calendar_connections").await, connections);

    let began = Instant::now();
    let start = || Process::start(Binary::Worker, &[], &world.environment);
    let mut workers = [start(), start()];
    while count(&client, "calendar_connections WHERE last_synced_at IS NULL").await > 0 {
        assert!(
            began.elapsed() < plan.patience,
            "first passes take too long"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let first = began.elapsed();

    let (began, mut longest, mut edits) = (Instant::now(), Duration::ZERO, 0);
    let mut looked_at = Instant::now();
    while began.elapsed() < plan.duration {
        crowd.edit(&simulator);
        edits += 1;
        if looked_at.elapsed() > Duration::from_millis(250) {
            longest = longest.max(longest_wait(&client).await);
            looked_at = Instant::now();
        }
        tokio::time::sleep(plan.pause).await;
    }
    let reached = crowd
        .truth
        .reached(&simulator, &client, plan.patience)
        .await;
    longest = longest.max(longest_wait(&client).await);

    for worker in &mut workers {
        worker.signal("TERM").await;
        assert!(worker.end(LONG).await.success(), "{}", worker.log());
    }
    let passes = logged_passes(&workers.each_ref().map(Process::log));
    let shares = [0, 1].map(|worker| passes.iter().filter(|pass| pass.worker == worker).count());
    let most = simulator
        .in_flight()
        .iter()
        .map(|mailbox| mailbox.most)
        .max()
        .unwrap();
    println!(
        "{connections} connections in {} accounts, two workers: first passes in {first:.1?}, then {edits} edits in {:.1?}, all in {reached:.1?} later; \
         {} + {} passes; the longest wait for a pass {longest:.1?}, due every {poll} s; at the most {most} requests at once in a mailbox",
        plan.accounts, plan.duration, shares[0], shares[1],
    );
    assert!(
        shares.iter().all(|share| share * 10 > passes.len()),
        "one of them idles: {shares:?}"
    );
    assert!(
        at_once(&passes).is_none(),
        "two at once over one account: {:?}",
        at_once(&passes)
    );
    let failed: Vec<_> = passes.iter().filter(|pass| pass.code.is_some()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert!(most <= 4, "{most} requests at once in a mailbox");
    assert!(
        longest <= 2 * Duration::from_secs(plan.poll.into()),
        "{longest:?}"
    );
    assert_eq!(
        count(&client, "calendar_accounts WHERE lease_owner IS NOT NULL").await,
        0
    );
    let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0),
        0
    );
    let log = server.log();
    assert!(!log.contains("deadlock detected"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_accounts_and_never_pass_over_one_at_once() {
    two_workers(Plan {
        accounts: 12,
        poll: 3,
        duration: Duration::from_secs(6),
        pause: Duration::from_millis(10),
        patience: Duration::from_mins(2),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of some minutes, for release builds"]
async fn two_workers_and_two_thousand_connections() {
    two_workers(Plan {
        accounts: 500,
        poll: 30,
        duration: Duration::from_mins(3),
        pause: Duration::from_millis(20),
        patience: Duration::from_mins(3),
    })
    .await;
}
