//! Many clients read a month while a first pass writes: no error, and the api's memory stays small.
//!
//! The short form runs with all tests. The long one measures:
//! `cargo xtask test --release -p calendar-e2e --test reads -- --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]
#![expect(clippy::print_stdout, reason = "it says what it measured")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use calendar_e2e::{World, eventually};
use calendar_simulator::Options;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const MAILBOX: &str = "ann@contoso.example";
/// Events of a reader in the month that is read, each with three attendees.
const EVENTS: i32 = 120;
const MONTH: &str = "/v1/events?from=2026-03-01T00:00:00Z&to=2026-04-01T00:00:00Z&limit=500";
/// Bytes that the api may use at its peak.
const MEMORY: u64 = 150 << 20;

/// `$1` readers, each signed in with the token `token-N` and with a month of events.
const READERS: &str = "
    WITH readers AS (INSERT INTO users (email) SELECT 'reader-' || n || '@example.com'
            FROM generate_series(1, $1::integer) AS n RETURNING id, email),
        sessions AS (INSERT INTO api_sessions (user_id, token_hash, expires_at)
            SELECT id, sha256(('token-' || substring(email FROM '[0-9]+'))::bytea), now() + interval '1 day'
            FROM readers),
        connections AS (INSERT INTO calendar_connections (user_id, provider, calendar_id)
            SELECT id, 'MICROSOFT', 'calendar' FROM readers RETURNING id),
        events AS (INSERT INTO calendar_events (calendar_connection_id, provider_event_id, title, description,
                location, start_time, end_time, timezone, outlook_categories)
            SELECT id, 'event-' || n, 'Meeting ' || n, repeat('What it is about. ', 20), 'Room ' || n,
                timestamptz '2026-03-01Z' + n * interval '6 hours',
                timestamptz '2026-03-01Z' + n * interval '6 hours' + interval '1 hour', 'Europe/Berlin', '{Red}'
            FROM connections, generate_series(0, $2::integer - 1) AS n RETURNING id)
    INSERT INTO event_attendees (event_id, email, display_name)
    SELECT id, 'guest-' || n || '@example.com', 'Guest ' || n FROM events, generate_series(1, 3) AS n";

struct Outcome {
    latencies: Vec<Duration>,
    bytes: usize,
    /// Events that the first pass had stored when the readers began, and when they ended.
    stored: (u64, u64),
    peak_memory: u64,
}

async fn read(readers: i32, written: u32, duration: Duration, pause: Duration) -> Outcome {
    let world = World::start_with(Options::default(), &[("CALENDAR_LOG", "info")]).await;
    let client = world.database.connect().await;
    client.execute(READERS, &[&readers, &EVENTS]).await.unwrap();
    client.batch_execute("ANALYZE").await.unwrap();
    world
        .simulator
        .create_mailbox(MAILBOX, "Ann Example", "UTC")
        .unwrap();
    let start = world.simulator.now();
    world
        .simulator
        .create_events_in_bulk(MAILBOX, None, written, start, 5)
        .unwrap();
    let user = world.user("ann@example.com").await;
    let page = world
        .connect(&user, MAILBOX, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    let stored = async || -> u64 {
        let list = world.get(&user, "/v1/connections").await;
        list["data"][0]["counts"]["events"].as_u64().unwrap()
    };
    eventually("the first pass is under way", async || stored().await > 0).await;
    let before = stored().await;
    assert!(before < written.into(), "the pass has ended already");

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url: Arc<str> = format!("{}{MONTH}", world.base).into();
    let until = Instant::now() + duration;
    let mut tasks = JoinSet::new();
    for reader in 1..=readers {
        let (http, url) = (http.clone(), Arc::clone(&url));
        tasks.spawn(async move {
            let (mut latencies, mut bytes) = (Vec::new(), 0);
            while Instant::now() < until {
                let began = Instant::now();
                let request = http.get(&*url).bearer_auth(format!("token-{reader}"));
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 200);
                let body = answer.bytes().await.unwrap();
                latencies.push(began.elapsed());
                if bytes == 0 {
                    let list: Value = serde_json::from_slice(&body).unwrap();
                    let events = list["data"].as_array().unwrap();
                    assert_eq!(events.len(), usize::try_from(EVENTS).unwrap());
                    assert_eq!(events[0]["attendees"].as_array().unwrap().len(), 3);
                }
                bytes += body.len();
                tokio::time::sleep(pause).await;
            }
            (latencies, bytes)
        });
    }
    let (mut latencies, mut bytes) = (Vec::new(), 0);
    while let Some(ended) = tasks.join_next().await {
        let (of_one, read) = ended.unwrap();
        latencies.extend(of_one);
        bytes += read;
    }
    latencies.sort_unstable();
    let outcome = Outcome {
        latencies,
        bytes,
        stored: (before, stored().await),
        peak_memory: world.api.peak_memory(),
    };
    assert!(
        outcome.peak_memory < MEMORY,
        "the api used {} bytes",
        outcome.peak_memory
    );
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_are_answered_while_a_first_pass_writes() {
    let outcome = read(20, 10_000, Duration::from_secs(2), Duration::ZERO).await;
    assert!(outcome.latencies.len() >= 20);
}

async fn measure(name: &str, pause: Duration) {
    let outcome = read(200, 100_000, Duration::from_mins(1), pause).await;
    let count = outcome.latencies.len();
    let at = |thousandths: usize| {
        outcome.latencies[(count - 1) * thousandths / 1000].as_secs_f64() * 1000.0
    };
    println!(
        "{name}: {count} reads of {} bytes, no error; {} to {} events of the first pass stored; the api's peak: {} MiB",
        outcome.bytes / count,
        outcome.stored.0,
        outcome.stored.1,
        outcome.peak_memory >> 20,
    );
    for (name, thousandths) in [
        ("p50", 500),
        ("p90", 900),
        ("p99", 990),
        ("p99.9", 999),
        ("max", 1000),
    ] {
        println!("  {name:<6} {:>8.1} ms", at(thousandths));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of some minutes, for release builds"]
async fn two_hundred_clients_read_while_a_hundred_thousand_events_are_written() {
    measure("a read a second each", Duration::from_secs(1)).await;
    measure("one read after the other", Duration::ZERO).await;
}
