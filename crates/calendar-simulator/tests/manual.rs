//! A simulator that sends nothing by itself and waits for nothing: time passes by its clock alone.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::time::{Duration, Instant};

use calendar_simulator::{
    Fault, HeldPush, LifecycleEvent, Options, PushFaults, PushKind, Quirks, Server,
};
use reqwest::Method;
use serde_json::{Value, json};
use support::subscribing::{ALL, admin};
use support::{ALEX, Bench, FROM, client, delta, meeting};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9/pushes?to=alex";

async fn manual() -> Bench {
    let server = Server::start(Options {
        manual: true,
        quirks: Quirks::none(),
        ..Options::default()
    })
    .await
    .unwrap();
    server.set_clock(FROM.parse().unwrap(), true);
    server.create_mailbox(ALEX, "Alex", "UTC").unwrap();
    let token = server.issue_access_token(ALEX).unwrap();
    Bench {
        server,
        http: client(),
        token,
    }
}

/// Kind and change type, or lifecycle event, of each.
fn told(held: &[HeldPush]) -> Vec<(PushKind, String)> {
    held.iter()
        .map(|push| {
            let body: Value = serde_json::from_str(&push.body).unwrap();
            let items = body["value"].as_array().unwrap();
            assert_eq!(items.len(), 1, "{body}");
            let said = ["changeType", "lifecycleEvent"]
                .iter()
                .find_map(|member| items[0][member].as_str());
            (push.kind, said.unwrap().to_owned())
        })
        .collect()
}

#[tokio::test]
async fn pushes_are_handed_out_once_and_never_sent() {
    let bench = manual().await;
    let mut wanted = bench.wanted(NOWHERE, ALL);
    wanted["lifecycleNotificationUrl"] = "http://127.0.0.1:9/life".into();
    let (status, made) = bench.send(Method::POST, "/subscriptions", &wanted).await;
    assert_eq!(status, 201, "nobody was asked: {made}");
    let event = meeting("x", "2026-03-03T10:00:00");
    let id = bench.server.create_event(ALEX, None, &event).unwrap();
    bench.server.delete_event(ALEX, &id).unwrap();
    bench
        .server
        .send_lifecycle(made["id"].as_str().unwrap(), LifecycleEvent::Missed)
        .unwrap();
    assert_eq!(bench.server.push_counts().waiting, 3);
    let held = bench.server.take_pushes();
    assert_eq!(
        told(&held),
        [
            (PushKind::Change, "created".to_owned()),
            (PushKind::Change, "deleted".to_owned()),
            (PushKind::Lifecycle, "missed".to_owned()),
        ]
    );
    assert_eq!(held[0].url, NOWHERE);
    assert_eq!(held[2].url, "http://127.0.0.1:9/life");
    assert_eq!(held[0].content_type, "application/json");
    assert_eq!(bench.server.take_pushes(), []);
    let counts = bench.server.push_counts();
    assert_eq!((counts.delivered, counts.waiting), (3, 0));
    assert_eq!(bench.server.push_log(), [], "nothing left the simulator");

    bench.server.create_event(ALEX, None, &event).unwrap();
    let (status, taken) = admin(&bench, Method::POST, "pushes/take", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(taken["value"][0]["kind"], "change");
    assert_eq!(taken["value"][0]["url"], NOWHERE);
}

#[tokio::test]
async fn more_than_a_request_holds_is_handed_out_in_order() {
    let bench = manual().await;
    bench.subscribe(NOWHERE, ALL, "").await;
    for n in 0..950 {
        let event = meeting(&n.to_string(), "2026-03-03T10:00:00");
        bench.server.create_event(ALEX, None, &event).unwrap();
    }
    let held = bench.server.take_pushes();
    let ids: Vec<String> = held
        .iter()
        .map(|push| {
            let body: Value = serde_json::from_str(&push.body).unwrap();
            body["value"][0]["resourceData"]["id"].to_string()
        })
        .collect();
    let rows = bench.read("/me/events?$top=1000").await;
    let truth: Vec<String> = rows["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].to_string())
        .collect();
    assert_eq!(ids, truth);
}

#[tokio::test]
async fn delays_pass_by_the_clock_and_nothing_waits() {
    let bench = manual().await;
    bench.subscribe(NOWHERE, ALL, "").await;
    bench.server.set_pushes(PushFaults {
        delay_ms: 60_000,
        visible_after_ms: 120_000,
        ..PushFaults::default()
    });
    let event = meeting("x", "2026-03-03T10:00:00");
    bench.server.create_event(ALEX, None, &event).unwrap();
    assert_eq!(bench.server.take_pushes(), []);
    bench.server.advance_clock(59);
    assert_eq!(bench.server.take_pushes(), []);
    bench.server.advance_clock(1);
    assert_eq!(bench.server.take_pushes().len(), 1);
    assert_eq!(bench.round(&delta(), "").await.rows, [] as [Value; 0]);
    // Back, and further on.
    bench.server.advance_clock(-3600);
    assert_eq!(bench.round(&delta(), "").await.rows, [] as [Value; 0]);
    bench.server.advance_clock(3660);
    assert_eq!(bench.round(&delta(), "").await.rows.len(), 1);

    let mut quirks = bench.server.quirks();
    quirks.latency_ms = 30_000;
    bench.server.set_quirks(quirks);
    bench.server.script_fault(Fault {
        delay_ms: 30_000,
        ..Fault::default()
    });
    let since = Instant::now();
    bench.read("/me").await;
    assert!(since.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.server.pending_faults(), []);
}

#[tokio::test]
async fn the_most_requests_at_the_same_time_are_known_per_mailbox() {
    let bench = Bench::with(Quirks {
        latency_ms: 300,
        mailbox_concurrency: 2,
        ..Quirks::none()
    })
    .await;
    let answers = tokio::join!(bench.get("/me"), bench.get("/me"), bench.get("/me"));
    let refused = [answers.0, answers.1, answers.2]
        .iter()
        .filter(|answer| answer.status() == 429)
        .count();
    assert_eq!(refused, 1);
    let known = |bench: &Bench| {
        let all = bench.server.in_flight();
        assert_eq!(all.len(), 1, "of the one mailbox asked about");
        assert_eq!(all[0].mailbox, ALEX);
        (all[0].now, all[0].most)
    };
    assert_eq!(known(&bench), (0, 3));
    let (_, all) = admin(&bench, Method::GET, "in-flight", Value::Null).await;
    assert_eq!(
        all,
        json!({"value": [{"mailbox": ALEX, "now": 0, "most": 3}]})
    );
    admin(&bench, Method::DELETE, "in-flight", Value::Null).await;
    bench.get("/me").await;
    assert_eq!(known(&bench), (0, 1));
}
