//! What comes to the endpoint: validation, forged and genuine notifications, many of them, and deaths.

use std::time::{Duration, Instant};

use calendar_e2e::{Pushed, World, eventually};
use calendar_simulator::{PushFaults, PushKind};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(30);

/// All that a notification could change.
async fn marks(world: &World) -> String {
    let client = world.database.connect().await;
    let sql = "SELECT coalesce(string_agg(w::text, ' ' ORDER BY w.id), '') || coalesce(string_agg(a::text, ' ' ORDER BY a.id), '')
        FROM webhook_subscriptions AS w FULL JOIN calendar_accounts AS a ON a.id = w.account_id";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

fn notification(subscription: &str, state: &str) -> Value {
    json!({"subscriptionId": subscription, "clientState": state, "changeType": "updated",
        "resource": "Users/1/Events/AAMkAGI1AAAoZCfHAAA=", "tenantId": "84bd8158-6d4d-4958-8b9f-9d6445542f95"})
}

#[tokio::test(flavor = "multi_thread")]
async fn t32_a_validation_token_comes_back_exactly_and_nothing_else_happens() {
    let world = World::start().await;
    world.subscribe_nobody(1).await;
    let before = marks(&world).await;
    let long = "x".repeat(2_048);
    for token in [
        "Validation: Testing client application reachability for subscription Request-Id: 3f5c",
        "a+b c%20d%2Bé&=#?/\\",
        "<script>alert('hello')</script>&amp;",
        "Ж漢字🙂\u{202e}",
        &long,
    ] {
        let mut url: url::Url = format!("{}/webhooks/microsoft", world.base)
            .parse()
            .unwrap();
        url.query_pairs_mut().append_pair("validationToken", token);
        // As form encoding writes a space, and as Graph does.
        for url in [url.to_string(), url.to_string().replace('+', "%20")] {
            let began = Instant::now();
            let answer = world
                .http
                .send(Method::POST, &url, None, None)
                .await
                .unwrap();
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{:?}",
                began.elapsed()
            );
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, token));
            let kind = answer.headers["content-type"].to_str().unwrap();
            assert!(kind.starts_with("text/plain"), "{kind}");
        }
    }
    assert_eq!(marks(&world).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn t33_of_five_notifications_the_forged_one_is_left_out_and_counted() {
    let mut world = World::start().await;
    world.stop_worker().await;
    world.subscribe_nobody(5).await;
    let url = format!("{}/webhooks/microsoft", world.base);
    let send = async |entries: Vec<Value>| {
        let body = json!({ "value": entries });
        let answer = world.http.send(Method::POST, &url, None, Some(&body)).await;
        let mut answer = answer.unwrap();
        for own in ["date", "x-request-id"] {
            answer.headers.remove(own);
        }
        (answer.status.as_u16(), answer.text, answer.headers)
    };
    let client = world.database.connect().await;
    let heard = async || {
        let sql = "SELECT subscription_id FROM webhook_subscriptions AS w JOIN calendar_accounts AS a ON a.id = w.account_id
            WHERE w.last_notification_at IS NOT NULL AND a.pushed_at IS NOT NULL ORDER BY 1";
        let rows = client.query(sql, &[]).await.unwrap();
        let rows = rows.iter().map(|row| row.get::<_, String>(0));
        rows.collect::<Vec<_>>()
    };
    let counted = async |outcome: &str| {
        let series = "calendar_notifications_total{provider=\"microsoft\",outcome=";
        world.metric(&format!("{series}\"{outcome}\"}}")).await
    };

    let forged = send(vec![notification("subscription-3", "forged")]).await;
    let unknown = send(vec![notification("nobody's", "state-3")]).await;
    assert_eq!(heard().await, Vec::<String>::new());
    assert_eq!(
        (counted("refused").await, counted("unknown").await),
        (1.0, 1.0)
    );

    let five = (1..=5).map(|n| {
        let state = if n == 3 {
            "forged".to_owned()
        } else {
            format!("state-{n}")
        };
        notification(&format!("subscription-{n}"), &state)
    });
    let mixed = send(five.collect()).await;
    let genuine = [1, 2, 4, 5].map(|n| format!("subscription-{n}"));
    assert_eq!(heard().await, genuine);
    assert_eq!(
        (counted("refused").await, counted("accepted").await),
        (2.0, 4.0)
    );

    // Nobody learns from the answer what was wrong.
    assert_eq!((forged.0, forged.1.as_str()), (202, ""));
    assert_eq!(forged, unknown);
    assert_eq!(forged, mixed);
    for secret in ["forged", "state-1"] {
        assert!(!world.api.log().contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t38_what_the_api_has_accepted_survives_its_death() {
    let mut pushed = Pushed::start(&[]).await;
    pushed.world.stop_worker().await;
    let client = pushed.world.database.connect().await;
    // No look that was due anyway finds it.
    let sql =
        "UPDATE calendar_sync_states SET push_look = NULL, due_at = now() + interval '1 hour'";
    client.execute(sql, &[]).await.unwrap();
    pushed.create("Accepted");
    eventually("it is accepted", || async {
        pushed.world.simulator.push_counts().delivered > 0
    })
    .await;
    pushed.world.api.signal("KILL").await;
    pushed.world.api.end(LONG).await;
    // Nothing is sent again.
    let log = pushed.world.simulator.push_log();
    let accepted = log.iter().filter(|push| push.kind == PushKind::Change);
    assert!(accepted.clone().count() > 0 && accepted.clone().any(|push| push.status == Some(202)));
    pushed.world.simulator.set_pushes(PushFaults {
        drop_every: 1,
        ..PushFaults::default()
    });
    pushed.world.start_worker();
    eventually("it is read", || async {
        let sql = "SELECT count(*) FROM calendar_events WHERE title = 'Accepted'";
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t39_ten_thousand_notifications_for_one_calendar_are_a_few_passes() {
    const COUNT: usize = 10_000;
    const AT_ONCE: usize = 64;
    let pushed = Pushed::start(&[]).await;
    let subscription = pushed.subscription();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/webhooks/microsoft", pushed.world.base);
    let state = subscription.client_state.clone().unwrap();
    let body = json!({"value": [notification(&subscription.id, &state)]}).to_string();
    pushed.world.simulator.clear_requests();
    let mut latencies = Vec::with_capacity(COUNT);
    let mut requests = JoinSet::new();
    for number in 0..COUNT + AT_ONCE {
        if number >= AT_ONCE {
            let (status, latency) = requests.join_next().await.unwrap().unwrap();
            assert_eq!(status, 202);
            latencies.push(latency);
        }
        if number < COUNT {
            let request = http
                .post(&url)
                .header("content-type", "application/json")
                .body(body.clone());
            requests.spawn(async move {
                let began = Instant::now();
                let answer = request.send().await.unwrap();
                (answer.status().as_u16(), began.elapsed())
            });
        }
        if number == COUNT / 2 {
            pushed.create("In the midst");
        }
    }
    pushed.create("At the end");
    pushed.shows(&["At the end", "In the midst"]).await;
    latencies.sort_unstable();
    let p99 = latencies[COUNT * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "p99 {p99:?}");
    let looks = pushed.asked("GET", "calendarView/delta");
    assert!(looks < COUNT / 100, "{looks} passes");
}
