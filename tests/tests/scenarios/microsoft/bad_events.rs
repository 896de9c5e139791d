//! Events that cannot be stored, and removals of what is not there.

use calendar_e2e::{World, day, eventually, free_port, timed};
use calendar_simulator::{Options, Quirks};
use serde_json::{Value, json};

use super::ANN;

#[tokio::test(flavor = "multi_thread")]
async fn t60_bad_events_are_set_aside_and_the_other_999_are_there() {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let now = world.simulator.now();
    world
        .simulator
        .create_events_in_bulk(ANN, None, 999, now, 60)
        .unwrap();
    let tomorrow = day(&world.simulator, 1);
    let bad = |name: &str, raw: Value| {
        let mut event = timed(name, tomorrow, 9);
        event["raw"] = raw;
        world.simulator.create_event(ANN, None, &event).unwrap()
    };
    let rule = |range: Value| json!({"type": "seriesMaster", "recurrence": {"pattern": {"type": "daily", "interval": 1}, "range": range}});
    let early = json!({"dateTime": format!("{tomorrow}T08:00:00"), "timeZone": "UTC"});
    bad(
        "No rule",
        json!({"type": "seriesMaster", "recurrence": "FREQ=DAILY"}),
    );
    bad(
        "Two ends",
        rule(json!({"type": "endDate", "endDate": "2099-01-01", "numberOfOccurrences": 5})),
    );
    bad("No end", json!({"end": null}));
    let backwards = bad("Backwards", json!({"end": early}));
    let connection = world.connect_primary(&user, ANN).await;

    let path = format!("/v1/connections/{connection}");
    let state = world.get(&user, &path).await;
    assert_eq!(state["status"], "connected");
    assert_eq!(state["counts"], json!({"events": 999, "events_skipped": 4}));
    let listed = async || {
        let listed = world.get(&user, &format!("{path}/rejected_events")).await;
        let entries = listed["data"].as_array().unwrap().iter();
        let mut entries: Vec<(String, String)> = entries
            .map(|entry| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&entry["raw"]["subject"]), text(&entry["reason"]))
            })
            .collect();
        entries.sort_unstable();
        entries
    };
    let expected = [
        ("Backwards", "end_before_start"),
        ("No end", "end_missing"),
        ("No rule", "recurrence_unreadable"),
        ("Two ends", "recurrence_ends_twice"),
    ]
    .map(|(subject, reason)| (subject.to_owned(), reason.to_owned()));
    assert_eq!(listed().await, expected);

    // It is tried again when it changes.
    world.simulator.delete_event(ANN, &backwards).unwrap();
    world.pass(&user, &connection).await;
    eventually("it is gone from the list", || async {
        listed().await.len() == 3
    })
    .await;
    let log = world.worker.log();
    assert!(
        log.contains("an event is set aside") && !log.contains("Backwards"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn t59_a_removal_of_something_unknown_changes_nothing_and_is_counted() {
    let listen = format!("127.0.0.1:{}", free_port().await);
    let variables = [("CALENDAR_METRICS_LISTEN", listen.as_str())];
    let options = Options {
        quirks: Quirks {
            short_lived_unreported: false,
            ..Quirks::default()
        },
        ..Options::default()
    };
    let world = World::start_with(options, &variables).await;
    let user = world.mailbox_and_user(ANN).await;
    let kept = timed("Kept", day(&world.simulator, 1), 9);
    world.simulator.create_event(ANN, None, &kept).unwrap();
    let connection = world.connect_primary(&user, ANN).await;
    let client = world.database.connect().await;
    let rows = async || -> Vec<String> {
        let sql = "SELECT id || ' ' || xmin || ' ' || ctid FROM calendar_events ORDER BY id";
        let rows = client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let before = rows().await;
    // Made and deleted between two passes: only its removal is told.
    let brief = timed("Brief", day(&world.simulator, 1), 10);
    let brief = world.simulator.create_event(ANN, None, &brief).unwrap();
    world.simulator.delete_event(ANN, &brief).unwrap();
    world.pass(&user, &connection).await;
    let url = format!("http://{listen}/metrics");
    let counted = "calendar_events_changed_total{provider=\"microsoft\",change=\"ignored\"}";
    eventually("it is counted", || async {
        let metrics = world
            .http
            .send(reqwest::Method::GET, &url, None, None)
            .await;
        metrics.is_ok_and(|answer| answer.text.contains(counted))
    })
    .await;
    assert_eq!(rows().await, before);
}
