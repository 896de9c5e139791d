//! Much at once: ten thousand notifications in ten seconds cost few passes, and a full pass over a large
//! calendar without a change writes no row of its events.
//!
//! The short forms run with all tests. The long ones measure:
//! `cargo xtask test --release -p calendar-e2e --test load -- --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]
#![expect(clippy::print_stdout, reason = "it says what it measured")]

use std::time::{Duration, Instant};

use calendar_e2e::{Binary, Crowd, Process, World, eventually, free_port};
use calendar_simulator::{Options, PushFaults};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_postgres::Client;

const LONG: Duration = Duration::from_secs(30);

/// Passes that a worker has ended.
async fn passes(world: &World, listen: &str) -> u64 {
    let url = format!("http://{listen}/metrics");
    let answer = world
        .http
        .send(Method::GET, &url, None, None)
        .await
        .unwrap();
    let lines = answer.text.lines();
    let counts = lines.filter(|line| line.starts_with("calendar_passes_total{"));
    counts
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

/// Sends so many notifications in so long, each of a change, to as many accounts in turn. Answers how many
/// passes that cost until all changes were in.
async fn notify(accounts: usize, total: u32, duration: Duration, patience: Duration) -> u64 {
    let listen = format!("127.0.0.1:{}", free_port().await);
    let variables = [
        ("CALENDAR_POLL_SECONDS", "3600"),
        ("CALENDAR_POLL_PUSHED_SECONDS", "3600"),
        ("CALENDAR_LOG", "info"),
        ("CALENDAR_METRICS_LISTEN", &listen),
    ];
    let mut world = World::start_with(Options::default(), &variables).await;
    let simulator = world.simulator.simulator().clone();
    let crowd = Crowd::create(&simulator, accounts, 1, 3, 1);
    let user = world.user("crowd@example.com").await;
    crowd.connect(&world, &user).await;
    let client = world.database.connect().await;
    crowd.truth.reached(&simulator, &client, patience).await;
    eventually("all are subscribed, and none is to be looked at", || async {
        let sql = "SELECT (SELECT count(*) FROM webhook_subscriptions WHERE is_active) = $1
            AND NOT EXISTS (SELECT 1 FROM calendar_sync_states WHERE due_at < now() + interval '30 s')";
        let accounts = i64::try_from(accounts).unwrap();
        client.query_one(sql, &[&accounts]).await.unwrap().get(0)
    })
    .await;
    // Those of this test are counted, and come when it says so.
    simulator.set_pushes(PushFaults {
        drop_every: 1,
        ..PushFaults::default()
    });
    let subscriptions = simulator.subscriptions();
    let targets: Vec<(String, String, serde_json::Value)> = crowd
        .truth
        .calendars
        .iter()
        .map(|(mailbox, _)| {
            let events = simulator.events(mailbox, None).unwrap();
            let id = events[0]["id"].as_str().unwrap().to_owned();
            let subscription = subscriptions
                .iter()
                .find(|one| one.mailbox == *mailbox)
                .unwrap();
            let body = json!({"value": [{
                "subscriptionId": subscription.id,
                "clientState": subscription.client_state,
                "subscriptionExpirationDateTime": "2030-01-01T00:00:00.0000000Z",
                "changeType": "updated",
                "resource": format!("Users/{mailbox}/Events/{id}"),
                "resourceData": {"@odata.type": "#Microsoft.Graph.Event", "id": id},
            }]});
            (mailbox.clone(), id, body)
        })
        .collect();

    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(256)
        .build()
        .unwrap();
    let url = format!("{}/webhooks/microsoft", world.base);
    let before = passes(&world, &listen).await;
    let (began, mut requests) = (Instant::now(), JoinSet::new());
    for number in 0..total {
        // Open loop: a slow answer does not slow the sender down.
        tokio::time::sleep_until((began + duration * number / total).into()).await;
        let (mailbox, id, body) = &targets[usize::try_from(number).unwrap() % accounts];
        let patch = json!({"subject": format!("Change {number}")});
        simulator.edit_event(mailbox, id, &patch).unwrap();
        let request = http.post(&url).json(body);
        requests.spawn(async move { request.send().await.map(|answer| answer.status().as_u16()) });
    }
    let sent = began.elapsed();
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), 202);
    }
    let answered = began.elapsed();
    crowd.truth.reached(&simulator, &client, patience).await;
    let reached = began.elapsed();
    let cost = passes(&world, &listen).await - before;
    println!(
        "{total} notifications for {accounts} accounts sent in {sent:.1?}, all answered 202 after {answered:.1?}, \
         all changes in after {reached:.1?}, {cost} passes"
    );
    world.worker.signal("TERM").await;
    assert!(world.worker.end(LONG).await.success());
    cost
}

#[tokio::test(flavor = "multi_thread")]
async fn many_notifications_cost_few_passes() {
    let cost = notify(10, 1_000, Duration::from_secs(4), Duration::from_mins(2)).await;
    assert!(cost < 75, "{cost} passes");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, for release builds"]
async fn ten_thousand_notifications_in_ten_seconds() {
    let cost = notify(100, 10_000, Duration::from_secs(10), Duration::from_mins(2)).await;
    assert!(cost < 1_000, "{cost} passes");
}

/// Which version of each row there is, and how often PostgreSQL has written one.
async fn fingerprint(client: &Client) -> Vec<(String, i64, i64, String)> {
    let mut all = Vec::new();
    for table in ["calendar_events", "event_attendees", "event_reminders"] {
        let sql = format!(
            "SELECT count(*), coalesce(md5(string_agg(id::text || xmin::text || ctid::text, ',' ORDER BY id)), '') FROM {table}"
        );
        let row = client.query_one(&sql, &[]).await.unwrap();
        let written =
            "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = $1";
        let written = client.query_one(written, &[&table]).await.unwrap();
        all.push((table.to_owned(), row.get(0), written.get(0), row.get(1)));
    }
    all
}

async fn full_pass_over(events: u32, patience: Duration) {
    const MAILBOX: &str = "ann@contoso.example";
    let variables = [
        ("CALENDAR_POLL_SECONDS", "3600"),
        ("CALENDAR_POLL_PUSHED_SECONDS", "3600"),
    ];
    let mut world = World::start_with(Options::default(), &variables).await;
    // A worker that has ended has told the statistics all that it did; its sessions are known by their name.
    let mut environment = world.environment.clone();
    for (name, value) in &mut environment {
        if name == "DATABASE_URL" {
            value.push_str("?application_name=worker");
        }
    }
    world.worker.signal("TERM").await;
    assert!(world.worker.end(LONG).await.success());
    world.worker = Process::start(Binary::Worker, &[], &environment);
    let simulator = world.simulator.simulator().clone();
    simulator.create_mailbox(MAILBOX, "Ann", "UTC").unwrap();
    // Within the window, whatever their number.
    simulator
        .create_events_in_bulk(MAILBOX, None, events, simulator.now(), 20)
        .unwrap();
    let user = world.user("ann@example.com").await;
    let page = world
        .connect(&user, MAILBOX, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    let client = world.database.connect().await;
    let full_at = async || -> Option<std::time::SystemTime> {
        let sql = "SELECT last_full_sync_at FROM calendar_sync_states WHERE pass_id IS NULL";
        client
            .query_opt(sql, &[])
            .await
            .unwrap()
            .and_then(|row| row.get(0))
    };
    let passed = async |since: Option<std::time::SystemTime>| {
        let began = Instant::now();
        loop {
            let at = full_at().await;
            if at.is_some() && at != since {
                return at;
            }
            assert!(began.elapsed() < patience, "the pass takes too long");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let first = passed(None).await;
    world.worker.signal("TERM").await;
    assert!(world.worker.end(LONG).await.success());
    let sessions = async || {
        eventually("the worker's sessions have ended", || async {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'worker' AND datname = current_database()";
            client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
        })
        .await;
    };
    sessions().await;
    let before = fingerprint(&client).await;
    assert_eq!(before[0].1, i64::from(events));

    simulator.invalidate_delta_tokens(MAILBOX).unwrap();
    let due = "UPDATE calendar_sync_states SET due_at = now()";
    client.execute(due, &[]).await.unwrap();
    let began = Instant::now();
    world.worker = Process::start(Binary::Worker, &[], &environment);
    passed(first).await;
    let took = began.elapsed();
    world.worker.signal("TERM").await;
    assert!(world.worker.end(LONG).await.success());
    sessions().await;
    let after = fingerprint(&client).await;
    println!(
        "a full pass over {events} unchanged events in {took:.1?}; rows, writes before and after: {before:?} {after:?}"
    );
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_over_unchanged_events_writes_none() {
    full_pass_over(1_000, Duration::from_mins(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, for release builds"]
async fn a_full_pass_over_twenty_thousand_unchanged_events_writes_none() {
    full_pass_over(20_000, Duration::from_mins(5)).await;
}
