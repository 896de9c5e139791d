//! Notifications under load: each is durable before its 202, and none is lost when the api is killed.
//!
//! The short form runs with all tests. The long one measures:
//! `cargo xtask test --release -p calendar-e2e --test intake -- --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::time::{Duration, Instant};

use calendar_e2e::World;
use serde_json::json;
use tokio::task::JoinSet;

/// What was answered, and how fast.
struct Outcome {
    sent: usize,
    /// From the moment that each was to be sent.
    latencies: Vec<Duration>,
}

/// Sends so many a second for so long, to each subscription in turn, kills the api, and looks for each.
async fn load(accounts: usize, per_second: u32, duration: Duration) -> Outcome {
    let mut world = World::start().await;
    world.worker.signal("KILL").await;
    world.worker.end(Duration::from_secs(30)).await;
    let client = world.database.connect().await;
    world
        .subscribe_nobody(i64::try_from(accounts).unwrap())
        .await;

    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(256)
        .build()
        .unwrap();
    let url = format!("{}/webhooks/microsoft", world.base);
    let total = (duration.as_secs_f64() * f64::from(per_second)).round();
    let began = Instant::now();
    let mut last_sent = vec![None; accounts];
    let mut requests = JoinSet::new();
    let mut sent = 0_usize;
    let mut latencies = Vec::new();
    // Open loop: a slow answer does not slow the sender down, and counts from when it was due.
    while f64::from(u32::try_from(sent).unwrap()) < total {
        let due = began + Duration::from_secs(1) * u32::try_from(sent).unwrap() / per_second;
        tokio::time::sleep_until(due.into()).await;
        let number = sent % accounts + 1;
        let body = json!({"value": [{
            "subscriptionId": format!("subscription-{number}"),
            "clientState": format!("state-{number}"),
            "subscriptionExpirationDateTime": "2030-01-01T00:00:00.0000000Z",
            "changeType": "updated",
            "resource": format!("Users/{number}/Events/AAMkAGI1AAAoZCfHAAA="),
            "tenantId": "84bd8158-6d4d-4958-8b9f-9d6445542f95",
            "resourceData": {"@odata.type": "#Microsoft.Graph.Event", "id": "AAMkAGI1AAAoZCfHAAA="},
        }]});
        last_sent[number - 1] = Some(std::time::SystemTime::now());
        let request = http.post(&url).json(&body);
        requests.spawn(async move {
            let answer = request.send().await.map(|answer| answer.status().as_u16());
            (answer, due.elapsed())
        });
        sent += 1;
        while let Some(ended) = requests.try_join_next() {
            let (answer, latency) = ended.unwrap();
            assert_eq!(answer.unwrap(), 202);
            latencies.push(latency);
        }
    }
    while let Some(ended) = requests.join_next().await {
        let (answer, latency) = ended.unwrap();
        assert_eq!(answer.unwrap(), 202);
        latencies.push(latency);
    }
    world.api.signal("KILL").await;
    world.api.end(Duration::from_secs(30)).await;

    let sql = "SELECT w.subscription_id, w.last_notification_at, a.pushed_at IS NOT NULL
        FROM webhook_subscriptions AS w JOIN calendar_accounts AS a ON a.id = w.account_id";
    let rows = client.query(sql, &[]).await.unwrap();
    assert_eq!(rows.len(), accounts);
    for row in rows {
        let number: usize = row.get::<_, String>(0)["subscription-".len()..]
            .parse()
            .unwrap();
        let Some(sent_at) = last_sent[number - 1] else {
            continue;
        };
        let heard_at: Option<std::time::SystemTime> = row.get(1);
        // PostgreSQL keeps microseconds.
        assert!(
            heard_at.is_some_and(|heard_at| heard_at + Duration::from_millis(1) >= sent_at),
            "the last notification for subscription {number} is lost: sent {sent_at:?}, recorded {heard_at:?}"
        );
        assert!(row.get::<_, bool>(2), "nobody will look at it");
    }
    latencies.sort_unstable();
    Outcome { sent, latencies }
}

mod microsoft {
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread")]
    async fn t38_what_was_answered_is_recorded_though_the_api_is_killed() {
        let outcome = super::load(50, 250, Duration::from_secs(2)).await;
        assert_eq!((outcome.sent, outcome.latencies.len()), (500, 500));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of a minute, for release builds"]
async fn two_thousand_a_second_for_a_minute() {
    let outcome = load(500, 2_000, Duration::from_mins(1)).await;
    let at = |share: f64| {
        let last = outcome.latencies.len() - 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank"
        )]
        let rank = (last as f64 * share).round() as usize;
        outcome.latencies[rank].as_secs_f64() * 1000.0
    };
    println!(
        "{} notifications, all answered 202, none lost",
        outcome.sent
    );
    for (name, share) in [
        ("p50", 0.5),
        ("p90", 0.9),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("max", 1.0),
    ] {
        println!("  {name:<6} {:>8.2} ms", at(share));
    }
}
