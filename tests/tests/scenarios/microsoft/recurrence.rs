//! Series.

use std::collections::BTreeSet;

use calendar_e2e::{World, daily, day, eventually, midnight, timed};
use calendar_simulator::{Fault, OccurrenceChange, Options, Quirks};
use serde_json::json;

use super::ANN;

#[tokio::test(flavor = "multi_thread")]
async fn t20_a_master_that_the_delta_does_not_show_is_fetched_and_asked_for_again() {
    let options = Options {
        quirks: Quirks {
            master_in_delta: false,
            ..Quirks::default()
        },
        ..Options::default()
    };
    let world = World::start_with(options, &[]).await;
    let user = world.mailbox_and_user(ANN).await;
    // Of one page, so that no other names the master once more.
    let start = day(&world.simulator, -5);
    let mut series = daily("Stand-up", start);
    series["recurrence"]["range"] =
        json!({"type": "numbered", "startDate": start.to_string(), "numberOfOccurrences": 25});
    let id = world.simulator.create_event(ANN, None, &series).unwrap();
    // Replicas differ: the first time it is not there yet.
    world.simulator.script_fault(Fault {
        method: Some("GET".to_owned()),
        path_contains: "/events/".to_owned(),
        ..Fault::graph(404, "ErrorItemNotFound", "")
    });
    let page = world
        .connect(&user, ANN, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    let (from, to) = (
        midnight(day(&world.simulator, -10)),
        midnight(day(&world.simulator, 20)),
    );
    let truth = world.truth(ANN, &from, &to);
    assert_eq!(truth.len(), 25);
    let connections = world.get(&user, "/v1/connections").await;
    let connection = connections["data"][0]["id"].as_str().unwrap();
    eventually(
        "all occurrences are shown, and none without a title meanwhile",
        || async {
            let stored = world.stored(&user, connection, &from, &to).await;
            assert!(
                stored.iter().all(|instance| instance.title == "Stand-up"),
                "{stored:?}"
            );
            stored == truth
        },
    )
    .await;
    assert!(world.simulator.pending_faults().is_empty());
    let requests = world.simulator.requests();
    let masters = requests
        .iter()
        .filter(|request| request.path.contains("/events/"));
    let paths: Vec<_> = masters.map(|request| request.path.as_str()).collect();
    assert!(paths.len() >= 2, "{paths:?}");
    assert!(
        paths.iter().all(|path| path.contains("/calendars/")),
        "{paths:?}"
    );

    // A change of one occurrence later shows the master as little.
    let edit = OccurrenceChange::Edit(json!({"subject": "Renamed"}));
    let date = day(&world.simulator, 3);
    world
        .simulator
        .change_occurrence(ANN, &id, date, &edit)
        .unwrap();
    world.converge(&user, connection, ANN, &from, &to).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t21_with_its_master_a_series_goes_as_a_whole_and_nothing_else_with_it() {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let simulator = &world.simulator;
    let today = |days| day(simulator, days);
    let [doomed, other] = ["Doomed", "Other"].map(|title| {
        let id = simulator
            .create_event(ANN, None, &daily(title, today(-5)))
            .unwrap();
        let edit = OccurrenceChange::Edit(json!({"subject": format!("{title}, renamed")}));
        simulator
            .change_occurrence(ANN, &id, today(2), &edit)
            .unwrap();
        let moved = OccurrenceChange::Edit(timed(&format!("{title}, moved"), today(3), 15));
        simulator
            .change_occurrence(ANN, &id, today(3), &moved)
            .unwrap();
        simulator
            .change_occurrence(ANN, &id, today(4), &OccurrenceChange::Delete)
            .unwrap();
        id
    });
    let single = simulator
        .create_event(ANN, None, &timed("Single", today(1), 12))
        .unwrap();
    let connection = world.connect_primary(&user, ANN).await;
    let client = world.database.connect().await;
    let live = async || {
        let sql = "SELECT e.id::text, m.title FROM calendar_events AS e
            JOIN calendar_events AS m ON m.id = coalesce(e.parent_event_id, e.id) WHERE e.deleted_at IS NULL";
        let rows = client.query(sql, &[]).await.unwrap();
        let rows = rows.iter().map(|row| (row.get(0), row.get(1)));
        rows.collect::<BTreeSet<(String, String)>>()
    };
    let (from, to) = (midnight(today(-5)), midnight(today(30)));
    world.converge(&user, &connection, ANN, &from, &to).await;
    let before = live().await;

    simulator.delete_event(ANN, &doomed).unwrap();
    world.converge(&user, &connection, ANN, &from, &to).await;
    let (gone, left): (BTreeSet<_>, BTreeSet<_>) = before
        .into_iter()
        .partition(|(_, series)| series == "Doomed");
    assert!(gone.len() > 300, "{}", gone.len());
    assert_eq!(live().await, left);
    // Instances and series are two views.
    let mut told = BTreeSet::new();
    for view in ["instances", "series"] {
        let query = format!("view={view}&updated_since=2020-01-01T00:00:00Z&include_deleted=true");
        let events = world.events(&user, &query).await.into_iter();
        let tombstones = events.filter(|event| event["deleted_at"].is_string());
        told.extend(tombstones.map(|event| event["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(told, gone.into_iter().map(|(id, _)| id).collect());

    // Of a single event the tombstone looks the same.
    simulator.delete_event(ANN, &single).unwrap();
    world.converge(&user, &connection, ANN, &from, &to).await;
    let left: BTreeSet<_> = left
        .into_iter()
        .filter(|(_, series)| series == "Other")
        .collect();
    assert_eq!(live().await, left);
    // And of an occurrence that was asked for by its own id.
    let renamed = world
        .events(
            &user,
            &format!("connection_id={connection}&q=Other, renamed"),
        )
        .await;
    simulator
        .delete_event(ANN, renamed[0]["provider_event_id"].as_str().unwrap())
        .unwrap();
    world.converge(&user, &connection, ANN, &from, &to).await;
    assert_eq!(live().await.len(), left.len() - 1);
    simulator.delete_event(ANN, &other).unwrap();
    eventually("nothing is left", || async { live().await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_a_window_that_is_too_much_for_the_provider_is_read_in_parts() {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let simulator = &world.simulator;
    for number in 0..5 {
        let series = daily(&format!("Series {number}"), day(simulator, -300));
        simulator.create_event(ANN, None, &series).unwrap();
    }
    let heavy = |path: String, times| Fault {
        path_contains: path,
        times,
        ..Fault::graph(504, "UnknownError", "")
    };
    simulator.script_fault(heavy("calendarView/delta?startDateTime".to_owned(), 0));
    // The window begins 90 days ago, with 30 days of slack. As a whole it is too much, and its half and its quarter.
    let start = day(simulator, -120);
    simulator.script_fault(heavy(format!("calendarView?startDateTime={start}"), 3));
    let page = world
        .connect(&user, ANN, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    let list = world.get(&user, "/v1/connections").await;
    let connection = list["data"][0]["id"].as_str().unwrap();
    let client = world.database.connect().await;
    eventually("the pass has ended well", || async {
        // As if the waits between attempts had passed.
        let sql =
            "UPDATE calendar_sync_states SET due_at = least(due_at, now()) WHERE failure_count > 0";
        client.execute(sql, &[]).await.unwrap();
        world.get(&user, "/v1/connections").await["data"][0]["status"] == "connected"
    })
    .await;
    assert_eq!(
        simulator.pending_faults().len(),
        1,
        "only the feed is refused"
    );
    let (from, to) = (midnight(day(simulator, -80)), midnight(day(simulator, 350)));
    world.converge(&user, connection, ANN, &from, &to).await;
}
