//! Duplicates and loops.

use calendar_e2e::{MAILBOX, Pushed, World, daily, day, eventually, timed};
use calendar_simulator::PushFaults;
use serde_json::{Value, json};

use super::{ANN, BOB};

#[tokio::test(flavor = "multi_thread")]
async fn t07_pushes_that_come_twice_late_and_out_of_order_give_one_change() {
    let pushed = Pushed::start(&[]).await;
    pushed.world.simulator.set_pushes(PushFaults {
        duplicates: 3,
        reorder_ms: 300,
        ..PushFaults::default()
    });
    let id = pushed.create("First");
    pushed.shows(&["First"]).await;
    let sql =
        "SELECT xmin::text || ' ' || version::text FROM calendar_events WHERE deleted_at IS NULL";
    let client = pushed.world.database.connect().await;
    let rename = json!({"subject": "Second"});
    pushed
        .world
        .simulator
        .edit_event(MAILBOX, &id, &rename)
        .unwrap();
    pushed.shows(&["Second"]).await;
    let written: String = client.query_one(sql, &[]).await.unwrap().get(0);
    eventually("all pushes have come, and all looks are taken", || async {
        let quiet = "SELECT pushed_at IS NULL AND lease_owner IS NULL FROM calendar_accounts";
        let quiet: bool = client.query_one(quiet, &[]).await.unwrap().get(0);
        let counts = pushed.world.simulator.push_counts();
        quiet && counts.waiting == 0 && counts.sent >= 8
    })
    .await;
    let now: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(now, written, "the row was written once");
    pushed.shows(&["Second"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_meeting_of_two_is_a_row_for_each_and_one_uid() {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    world.simulator.create_mailbox(BOB, "Bob", "UTC").unwrap();
    let mut meeting = timed("Planning", day(&world.simulator, 1), 10);
    meeting["iCalUId"] = json!("040000008200E00074C5B7101A82E008");
    let copies = [ANN, BOB].map(|mailbox| {
        world
            .simulator
            .create_event(mailbox, None, &meeting)
            .unwrap()
    });
    let body = || json!({"calendars": "primary"});
    for mailbox in [ANN, BOB] {
        let page = world.connect(&user, mailbox, body()).await;
        assert_eq!(page.status, 200, "{}", page.text);
    }
    let both = async |titles: [&str; 2]| {
        eventually("both copies are shown", || async {
            let events = world.events(&user, "").await;
            let mut shown: Vec<_> = events
                .iter()
                .map(|event| event["title"].as_str().unwrap())
                .collect();
            shown.sort_unstable();
            shown == titles
        })
        .await;
        world.events(&user, "").await
    };
    let events = both(["Planning", "Planning"]).await;
    assert_eq!(events[0]["ical_uid"], events[1]["ical_uid"]);
    assert_eq!(events[0]["ical_uid"], meeting["iCalUId"]);
    assert_ne!(events[0]["id"], events[1]["id"]);
    assert_ne!(events[0]["connection_id"], events[1]["connection_id"]);

    // What happens to one copy is nothing to the other.
    world
        .simulator
        .edit_event(BOB, &copies[1], &json!({"subject": "Renamed"}))
        .unwrap();
    let after = both(["Planning", "Renamed"]).await;
    let ids = |events: &[Value]| {
        let ids = events.iter().map(|event| event["id"].to_string());
        ids.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(&after), ids(&events));
    world.simulator.delete_event(ANN, &copies[0]).unwrap();
    eventually("one is left", || async {
        let events = world.events(&user, "").await;
        events.len() == 1 && events[0]["title"] == "Renamed"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t12_ids_that_differ_in_case_or_in_one_sign_only_are_events_of_their_own() {
    const IDS: [&str; 6] = [
        "AAMkCASE=",
        "AAMkcase=",
        "AAMk_x",
        "AAMk-x",
        "AAMk+x",
        "AAMk/x",
    ];
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let create = |id: &str| {
        let mut event = timed(id, day(&world.simulator, 1), 10);
        event["raw"] = json!({ "id": id });
        world.simulator.create_event(ANN, None, &event).unwrap()
    };
    let at_provider = IDS.map(create);
    let connection = world.connect_primary(&user, ANN).await;
    let query = format!("connection_id={connection}");
    let shown = async || {
        let events = world.events(&user, &query).await;
        let mut shown: Vec<_> = events
            .iter()
            .map(|event| {
                assert_eq!(event["title"], event["provider_event_id"]);
                event["title"].as_str().unwrap().to_owned()
            })
            .collect();
        shown.sort();
        shown
    };
    let mut all = IDS.map(str::to_owned);
    all.sort();
    assert_eq!(shown().await, all);
    // One goes, and its twin stays.
    for twin in [0, 2, 4] {
        world
            .simulator
            .delete_event(ANN, &at_provider[twin])
            .unwrap();
    }
    let mut left = [1, 3, 5].map(|twin: usize| IDS[twin].to_owned());
    left.sort();
    eventually("the others are left", || async { shown().await == left }).await;
    world.simulator.invalidate_delta_tokens(ANN).unwrap();
    world.pass(&user, &connection).await;
    assert_eq!(shown().await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn t13_a_pass_without_a_change_writes_nothing_on_either_side() {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    world
        .simulator
        .create_event(ANN, None, &daily("Stand-up", day(&world.simulator, -30)))
        .unwrap();
    world
        .simulator
        .create_event(ANN, None, &timed("Single", day(&world.simulator, 1), 10))
        .unwrap();
    let connection = world.connect_primary(&user, ANN).await;
    let client = world.database.connect().await;
    let rows = async || {
        let query = "SELECT coalesce(string_agg(id || ' ' || xmin::text || ' ' || updated_at, ',' ORDER BY id), '') FROM ";
        let mut all = String::new();
        for table in ["calendar_events", "event_attendees", "event_reminders"] {
            all.push_str(
                client
                    .query_one(&format!("{query}{table}"), &[])
                    .await
                    .unwrap()
                    .get(0),
            );
        }
        all
    };
    world.pass(&user, &connection).await;
    let before = rows().await;
    world.pass(&user, &connection).await;
    assert_eq!(rows().await, before, "a delta pass");
    world.simulator.invalidate_delta_tokens(ANN).unwrap();
    world.pass(&user, &connection).await;
    assert_eq!(rows().await, before, "a full pass");
    // Nothing but subscriptions was ever sent to the provider.
    let requests = world.simulator.requests();
    let writes = requests.iter().filter(|request| {
        request.method != "GET"
            && !["/subscriptions", "/oauth2/"]
                .iter()
                .any(|path| request.path.contains(path))
    });
    assert_eq!(writes.count(), 0, "{requests:?}");
}
