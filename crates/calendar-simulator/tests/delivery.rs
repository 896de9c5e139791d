//! The delivery of notifications over HTTP: order, repetition, company, and what can go wrong on purpose.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::time::{Duration, Instant};

use calendar_simulator::{LifecycleEvent, PushFaults, PushKind, Quirks, Server};
use reqwest::Method;
use serde_json::{Value, json};
use support::listener::{Listener, until};
use support::subscribing::{ALL, add, kinds, news, told};
use support::{ALEX, Bench, FROM, IMMUTABLE, TO, at, meeting, view};

#[tokio::test]
async fn whoever_is_gone_hears_nothing() {
    let (mut bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.server.set_clock(at("2026-03-01T10:00:00Z"), true);
    for how in ["expired", "removed", "deleted", "expired by hand"] {
        let made = bench.subscribe(&listener.url("/"), ALL, "").await;
        let id = made["id"].as_str().unwrap();
        add(&bench, how).await;
        assert_eq!(told(&bench, &listener).await.len(), 1);
        // Nor is what waits for it still sent.
        bench.server.set_pushes(PushFaults {
            delay_ms: 300,
            ..PushFaults::default()
        });
        add(&bench, how).await;
        assert_eq!(bench.server.push_counts().waiting, 1);
        match how {
            "expired" => bench.server.advance_clock(3 * 86_400),
            "removed" => bench.server.remove_subscription(id).unwrap(),
            "deleted" => {
                let path = format!("/subscriptions/{id}");
                assert_eq!(bench.send(Method::DELETE, &path, &json!({})).await.0, 204);
            }
            _ => bench.server.expire_subscription(id).unwrap(),
        }
        bench.token = bench.server.issue_access_token(ALEX).unwrap();
        add(&bench, how).await;
        assert_eq!(told(&bench, &listener).await, [], "{how}");
        bench.server.set_pushes(PushFaults::default());
    }
}

#[tokio::test]
async fn what_is_refused_comes_again_in_order() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.subscribe(&listener.url("/"), ALL, "").await;
    listener.forget();
    listener.behave(|to| to.status = 503);
    let first = add(&bench, "1").await;
    until("refused", || bench.server.push_counts().refused == 1).await;
    let second = add(&bench, "2").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(listener.pushes().len(), 1, "it waits for a second first");
    until("refused twice", || listener.pushes().len() == 2).await;
    listener.behave(|to| to.status = 204);
    let pushes = || listener.pushes();
    until("accepted", || pushes().len() == 3).await;
    let all = pushes();
    for (gap, wait) in [(all[1].at - all[0].at, 1000), (all[2].at - all[1].at, 2000)] {
        let late = gap.as_millis();
        assert!((wait - 50..wait + 900).contains(&late), "{late}");
    }
    assert_eq!(
        told(&bench, &listener).await,
        [news("created", &first), news("created", &second)].concat()
    );
    let counts = bench.server.push_counts();
    assert_eq!((counts.delivered, counts.waiting), (2, 0));
    assert_eq!(counts.sent, counts.delivered + counts.refused);
}

#[tokio::test]
async fn an_answer_after_three_seconds_is_none() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.subscribe(&listener.url("/"), ALL, "").await;
    listener.behave(|to| to.delay = Duration::from_secs(5));
    add(&bench, "1").await;
    let since = Instant::now();
    until("given up on", || bench.server.push_counts().refused == 1).await;
    let took = since.elapsed();
    assert!((2900..4000).contains(&took.as_millis()), "{took:?}");
    let record = bench.server.push_log().pop().unwrap();
    assert_eq!((record.kind, record.status), (PushKind::Change, None));
    listener.behave(|to| to.delay = Duration::from_millis(1500));
    until("accepted", || bench.server.push_counts().delivered == 1).await;
}

#[tokio::test]
async fn nobody_tries_longer_than_four_hours() {
    let (mut bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.server.set_clock(at("2026-03-01T10:00:00Z"), true);
    bench.subscribe(&listener.url("/"), ALL, "").await;
    listener.forget();
    listener.behave(|to| to.status = 500);
    add(&bench, "1").await;
    until("refused", || bench.server.push_counts().refused == 1).await;
    bench.server.advance_clock(4 * 3600);
    listener.behave(|to| to.status = 202);
    until("given up", || bench.server.push_counts().given_up == 1).await;
    assert_eq!(bench.server.push_counts().waiting, 0);
    bench.token = bench.server.issue_access_token(ALEX).unwrap();
    let id = add(&bench, "2").await;
    assert_eq!(told(&bench, &listener).await, news("created", &id));
}

#[tokio::test]
async fn connections_are_kept_and_subscribers_do_not_wait_for_each_other() {
    let bench = Bench::with(Quirks {
        duplicate_subscriptions_refused: false,
        ..Quirks::none()
    })
    .await;
    let (slow, quick) = (Listener::start().await, Listener::start().await);
    bench.subscribe(&slow.url("/"), ALL, "").await;
    bench.subscribe(&quick.url("/"), ALL, "").await;
    slow.behave(|to| to.delay = Duration::from_secs(2));
    let mut times = Vec::new();
    for n in 0..20 {
        let since = Instant::now();
        let event = meeting(&n.to_string(), "2026-03-03T10:00:00");
        bench.server.create_event(ALEX, None, &event).unwrap();
        until("told", || quick.items().len() == n + 1).await;
        times.push(quick.pushes()[n].at - since);
    }
    times.sort();
    // Shown with --nocapture.
    println!(
        "from change to subscriber: median {:?}, longest {:?}",
        times[10], times[19]
    );
    assert!(times[19] < Duration::from_secs(1), "{times:?}");
    assert_eq!(quick.connections(), 1);
    assert_eq!(quick.pushes().len(), 20);
    // The slow one gets the rest together, once it has answered.
    until("told, too", || slow.items().len() == 20).await;
    assert_eq!(slow.pushes().len(), 2);
}

#[tokio::test]
async fn subscriptions_at_one_address_share_requests() {
    let bench = Bench::with(Quirks {
        duplicate_subscriptions_refused: false,
        ..Quirks::none()
    })
    .await;
    let listener = Listener::start().await;
    for _ in 0..60 {
        bench.subscribe(&listener.url("/"), ALL, "").await;
    }
    listener.forget();
    let first = add(&bench, "1").await;
    bench.quiet().await;
    let pushes = listener.pushes();
    let items = pushes[0].items();
    assert_eq!((pushes.len(), items.len()), (1, 60));
    let mut ids: Vec<&str> = items
        .iter()
        .map(|item| item["subscriptionId"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 60);
    assert!(items.iter().all(|item| item["resourceData"]["id"] == first));
    // No request holds more than a hundred.
    bench.server.set_pushes(PushFaults {
        delay_ms: 300,
        ..PushFaults::default()
    });
    listener.forget();
    for n in 0..3 {
        add(&bench, &n.to_string()).await;
    }
    bench.quiet().await;
    let sizes: Vec<usize> = listener
        .pushes()
        .iter()
        .map(|push| push.items().len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 180);
    assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
}

#[tokio::test]
async fn notifications_can_be_lost_repeated_late_and_reversed() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.subscribe(&listener.url("/"), ALL, "").await;
    listener.forget();
    let url = format!("{}/admin/pushes", bench.server.url());
    let put = async |faults: Value| {
        let answer = bench.http.put(&url).json(&faults).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    let none = json!({
        "dropEvery": 0, "duplicates": 0, "delayMs": 0, "reorderMs": 0, "seed": 0, "lostPerMille": 0,
        "doubledPerMille": 0, "latePerMille": 0, "lateMs": 0, "visibleAfterMs": 0,
    });
    let answer = bench.http.get(&url).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap(), none);
    assert_eq!(put(json!({"unknown": 1})).await.0, 400);

    let (status, faults) = put(json!({"dropEvery": 1})).await;
    assert_eq!((status, &faults["dropEvery"]), (200, &json!(1)));
    add(&bench, "lost").await;
    assert_eq!(told(&bench, &listener).await, []);
    assert_eq!(bench.server.push_counts().lost, 1);
    put(json!({"dropEvery": 2})).await;
    for n in 0..4 {
        add(&bench, &n.to_string()).await;
    }
    assert_eq!(told(&bench, &listener).await.len(), 2);

    put(json!({"duplicates": 2})).await;
    let id = add(&bench, "thrice").await;
    bench.quiet().await;
    let items = listener.items();
    assert_eq!(items.len(), 3);
    assert!(items.iter().all(|item| *item == items[0]));
    assert_eq!(items[0]["resourceData"]["id"], id);
    listener.forget();

    put(json!({"delayMs": 400})).await;
    let since = Instant::now();
    add(&bench, "late").await;
    bench.quiet().await;
    let late = listener.pushes()[0].at - since;
    assert!((400..1500).contains(&late.as_millis()), "{late:?}");
    listener.forget();

    put(json!({"reorderMs": 400})).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(add(&bench, &n.to_string()).await);
    }
    // Meanwhile nobody else is held back.
    ids.reverse();
    let all = told(&bench, &listener).await;
    assert_eq!(all.into_iter().map(|(_, id)| id).collect::<Vec<_>>(), ids);

    assert_eq!(put(json!({})).await.1, none);
    let id = add(&bench, "well").await;
    assert_eq!(told(&bench, &listener).await, news("created", &id));
}

#[tokio::test]
async fn a_notification_can_be_earlier_than_its_change() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.subscribe(&listener.url("/"), ALL, "").await;
    let edited = bench
        .server
        .create_event(ALEX, None, &meeting("Before", "2026-03-03T10:00:00"))
        .unwrap();
    let deleted = bench
        .server
        .create_event(ALEX, None, &meeting("Gone", "2026-03-03T12:00:00"))
        .unwrap();
    bench.quiet().await;
    listener.forget();
    let round = bench.first_round().await;
    bench.server.set_pushes(PushFaults {
        visible_after_ms: 2500,
        ..PushFaults::default()
    });
    let since = Instant::now();
    bench
        .server
        .edit_event(ALEX, &edited, &json!({"subject": "After"}))
        .unwrap();
    bench.server.delete_event(ALEX, &deleted).unwrap();
    let created = meeting("New", "2026-03-04T10:00:00");
    let (status, made) = bench.send(Method::POST, "/me/events", &created).await;
    assert_eq!((status, &made["subject"]), (201, &json!("New")));
    assert_eq!(
        kinds(&told(&bench, &listener).await),
        ["updated", "deleted", "created"]
    );
    assert!(since.elapsed() < Duration::from_secs(2));

    // Delta, first rounds, lists and single events are all of before.
    let early = bench.round(&round.link, IMMUTABLE).await;
    assert!(early.rows.is_empty(), "{:?}", early.rows);
    assert_eq!(bench.first_round().await.rows, round.rows);
    let list = bench.read(&view()).await;
    let subjects: Vec<&str> = list["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["subject"].as_str().unwrap())
        .collect();
    assert_eq!(subjects, ["Before", "Gone"]);
    assert_eq!(
        bench.read(&format!("/me/events/{edited}")).await["subject"],
        "Before"
    );
    let path = format!("/me/events/{}", made["id"].as_str().unwrap());
    assert_eq!(bench.refusal(&path).await.0, 404);
    // The truth is the truth.
    let truth = bench
        .server
        .instances(ALEX, None, at(FROM), at(TO))
        .unwrap();
    assert_eq!(truth.len(), 2);

    tokio::time::sleep(Duration::from_millis(2600).saturating_sub(since.elapsed())).await;
    let late = bench.round(&early.link, IMMUTABLE).await;
    assert_eq!(late.removed(), [deleted.as_str()]);
    let mut subjects: Vec<&str> = late
        .rows
        .iter()
        .filter_map(|row| row["subject"].as_str())
        .collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["After", "New"]);
    assert_eq!(bench.read(&path).await["subject"], "New");
    // The link from before that caught everything works as well.
    let other = bench.round(&round.link, IMMUTABLE).await;
    assert_eq!(other.rows.len(), 3);

    // Changes are seen in the order in which they were made, and none before its time.
    bench
        .server
        .edit_event(ALEX, &edited, &json!({"subject": "One"}))
        .unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    bench
        .server
        .edit_event(ALEX, &edited, &json!({"subject": "Two"}))
        .unwrap();
    let mut seen = Vec::new();
    let path = format!("/me/events/{edited}");
    until_seen(&bench, &path, "Two", &mut seen).await;
    assert_eq!(seen, ["After", "One", "Two"]);
}

/// Notes every subject until the last one shows.
async fn until_seen(bench: &Bench, path: &str, last: &str, seen: &mut Vec<String>) {
    let since = Instant::now();
    while seen.last().is_none_or(|subject| subject != last) {
        assert!(since.elapsed() < Duration::from_secs(10), "{seen:?}");
        let subject = bench.read(path).await["subject"]
            .as_str()
            .unwrap()
            .to_owned();
        if seen.last() != Some(&subject) {
            seen.push(subject);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_was_sent_can_be_read() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.server.set_clock(at("2026-03-01T10:00:00Z"), true);
    let mut body = bench.wanted(&listener.url("/push"), ALL);
    body["lifecycleNotificationUrl"] = listener.url("/life").into();
    let (_, made) = bench.send(Method::POST, "/subscriptions", &body).await;
    let id = made["id"].as_str().unwrap();
    add(&bench, "1").await;
    bench.quiet().await;
    bench
        .server
        .send_lifecycle(id, LifecycleEvent::Missed)
        .unwrap();
    bench.quiet().await;

    let url = format!("{}/admin/pushes", bench.server.url());
    let read = async |path: &str| {
        let answer = bench
            .http
            .get(format!("{url}/{path}"))
            .send()
            .await
            .unwrap();
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(
        read("counts").await,
        json!({"sent": 2, "delivered": 2, "refused": 0, "lost": 0, "givenUp": 0, "waiting": 0})
    );
    let log = read("log").await["value"].as_array().unwrap().clone();
    let kinds: Vec<&str> = log
        .iter()
        .map(|record| record["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["validation", "validation", "change", "lifecycle"]);
    assert!(
        log[0]["url"]
            .as_str()
            .unwrap()
            .starts_with(&listener.url("/push?validationToken="))
    );
    assert_eq!(
        (&log[0]["body"], &log[0]["status"]),
        (&Value::Null, &json!(200))
    );
    let change = &log[2];
    assert_eq!(change["at"], "2026-03-01T10:00:00Z");
    assert_eq!(
        (&change["url"], &change["status"]),
        (&json!(listener.url("/push")), &json!(202))
    );
    assert_eq!(change["body"]["value"], json!(listener.pushes()[0].items()));
    assert!(change["tookMs"].as_u64().unwrap() < 3000);
    assert_eq!(
        bench
            .http
            .delete(format!("{url}/log"))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(read("log").await["value"], json!([]));
    assert_eq!(bench.http.post(&url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_new_address_gets_what_waits() {
    let (bench, old, new) = (
        Bench::calm().await,
        Listener::start().await,
        Listener::start().await,
    );
    let made = bench.subscribe(&old.url("/"), ALL, "").await;
    old.forget();
    old.behave(|to| to.status = 500);
    let id = add(&bench, "1").await;
    until("refused", || bench.server.push_counts().refused == 1).await;
    let path = format!("/subscriptions/{}", made["id"].as_str().unwrap());
    let patch = json!({"notificationUrl": new.url("/")});
    assert_eq!(bench.send(Method::PATCH, &path, &patch).await.0, 200);
    assert_eq!(told(&bench, &new).await, news("created", &id));
    assert_eq!(old.pushes().len(), 1);
}

#[tokio::test]
async fn what_a_stopped_server_did_not_deliver_the_next_one_does() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.subscribe(&listener.url("/"), ALL, "").await;
    listener.forget();
    listener.behave(|to| to.delay = Duration::from_secs(30));
    let id = add(&bench, "1").await;
    until("under way", || !listener.pushes().is_empty()).await;
    let simulator = bench.server.simulator().clone();
    let Bench {
        server,
        http,
        token,
    } = bench;
    server.shutdown().await;
    assert_eq!(simulator.push_counts().waiting, 1);
    listener.behave(|to| to.delay = Duration::ZERO);
    listener.forget();
    let bench = Bench {
        server: Server::listen(simulator, "127.0.0.1:0").await.unwrap(),
        http,
        token,
    };
    assert_eq!(told(&bench, &listener).await, news("created", &id));
}
