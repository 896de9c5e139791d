//! Lost deletes and ghosts.

use std::collections::BTreeSet;
use std::time::Duration;

use calendar_e2e::{User, World, daily, day, eventually, midnight, timed};
use calendar_simulator::{Fault, Options, Quirks, Untruth};
use serde_json::{Value, json};

use super::ANN;

/// So many events, one on each of the next days, connected and synced.
async fn with_events(count: usize) -> (World, User, String, Vec<String>) {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let simulator = &world.simulator;
    let create = |number: usize| {
        let days = i64::try_from(number % 25).unwrap() + 1;
        let event = timed(&format!("Event {number}"), day(simulator, days), 8);
        simulator.create_event(ANN, None, &event).unwrap()
    };
    let at_provider: Vec<String> = (0..count).map(create).collect();
    let connection = world.connect_primary(&user, ANN).await;
    (world, user, connection, at_provider)
}

fn ids(events: &[Value]) -> BTreeSet<String> {
    let ids = events.iter().map(|event| event["id"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

fn id_of(events: &[Value], title: &str) -> String {
    let found = events.iter().find(|event| event["title"] == title);
    found.unwrap()["id"].as_str().unwrap().to_owned()
}

fn latest(events: &[Value]) -> String {
    let times = events
        .iter()
        .map(|event| event["updated_at"].as_str().unwrap());
    times.max().unwrap().to_owned()
}

/// The next request that begins a round meets this.
fn at_the_next_round(world: &World, fault: Fault) {
    world.simulator.script_fault(Fault {
        path_contains: "calendarView/delta?startDateTime".to_owned(),
        ..fault
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn t01_a_cursor_that_expires_leaves_exactly_the_tombstones_that_are_due() {
    let (mut world, user, connection, at_provider) = with_events(100).await;
    let query = format!("connection_id={connection}");
    let before = world.events(&user, &query).await;
    let due: BTreeSet<String> = (0..3)
        .map(|n| id_of(&before, &format!("Event {n}")))
        .collect();
    world.stop_worker().await;
    let path = format!("/v1/connections/{connection}");
    let synced_at = world.get(&user, &path).await["last_synced_at"].clone();
    for id in &at_provider[..3] {
        world.simulator.delete_event(ANN, id).unwrap();
    }
    world.simulator.invalidate_delta_tokens(ANN).unwrap();
    // Slow enough that it is seen.
    let slow = Fault {
        delay_ms: 1_000,
        ..Fault::default()
    };
    at_the_next_round(&world, slow);
    world.start_worker();

    eventually("the full pass is on its way", || async {
        world.get(&user, &path).await["status"] == "syncing"
    })
    .await;
    let statuses = std::sync::Mutex::new(BTreeSet::new());
    eventually("the full pass has ended", || async {
        let shown = world.get(&user, &path).await;
        let has_ended = shown["last_synced_at"] != synced_at;
        if !has_ended {
            statuses.lock().unwrap().insert(shown["status"].to_string());
        }
        has_ended
    })
    .await;
    let statuses = statuses.into_inner().unwrap();
    assert_eq!(statuses, BTreeSet::from(["\"syncing\"".to_owned()]));
    world.wait_for_status(&user, &connection, "connected").await;

    let (updated, deleted) = world.told_since(&user, &latest(&before)).await;
    assert_eq!((updated, &deleted), (Vec::new(), &due));
    let after = world.events(&user, &query).await;
    assert_eq!(ids(&after), &ids(&before) - &due);
}

#[tokio::test(flavor = "multi_thread")]
async fn t02_a_page_with_one_change_deletes_nothing() {
    let (world, user, connection, at_provider) = with_events(30).await;
    let query = format!("connection_id={connection}");
    let before = world.events(&user, &query).await;
    let renamed = json!({"subject": "Renamed"});
    world
        .simulator
        .edit_event(ANN, &at_provider[7], &renamed)
        .unwrap();
    eventually("the change is shown", || async {
        world
            .events(&user, &format!("{query}&q=Renamed"))
            .await
            .len()
            == 1
    })
    .await;
    world.pass(&user, &connection).await;
    let (updated, deleted) = world.told_since(&user, &latest(&before)).await;
    assert_eq!(deleted, BTreeSet::new());
    assert_eq!(ids(&updated), BTreeSet::from([id_of(&before, "Event 7")]));
    assert_eq!(ids(&world.events(&user, &query).await), ids(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn t03_a_full_pass_that_dies_on_page_4_deletes_nothing_and_goes_on_there() {
    // No page but those that are full.
    let options = Options {
        quirks: Quirks {
            empty_pages: false,
            duplicates: false,
            ..Quirks::default()
        },
        ..Options::default()
    };
    let mut world = World::start_with(options, &[("CALENDAR_POLL_SECONDS", "3600")]).await;
    let user = world.mailbox_and_user(ANN).await;
    let ids = ["One", "Two", "Three"].map(|title| {
        let series = daily(title, day(&world.simulator, -400));
        world.simulator.create_event(ANN, None, &series).unwrap()
    });
    let connection = world.connect_primary(&user, ANN).await;
    let rounds = |world: &World| {
        let requests = world.simulator.requests().into_iter();
        let pages = requests.filter(|request| request.path.ends_with("calendarView/delta"));
        let queries: Vec<String> = pages.map(|request| request.query).collect();
        queries
    };
    let pages = rounds(&world).len();
    assert!(pages >= 7, "{pages} pages");

    world.stop_worker().await;
    world.simulator.delete_event(ANN, &ids[0]).unwrap();
    let client = world.database.connect().await;
    // The window has to be moved: by a full pass.
    let sql = "UPDATE calendar_sync_states SET window_end = window_end - interval '60 days', due_at = now()";
    client.execute(sql, &[]).await.unwrap();
    let state = async || {
        let sql = "SELECT c.sync_token, s.pass_pages, (SELECT count(*) FROM calendar_events WHERE deleted_at IS NULL)
            FROM calendar_connections AS c JOIN calendar_sync_states AS s ON s.connection_id = c.id";
        let row = client.query_one(sql, &[]).await.unwrap();
        let state: (Option<String>, i32, i64) = (row.get(0), row.get(1), row.get(2));
        state
    };
    let (token, _, live) = state().await;
    world.simulator.clear_requests();
    world.simulator.script_fault(Fault {
        path_contains: "skiptoken".to_owned(),
        skip: 2,
        delay_ms: 60_000,
        ..Fault::default()
    });
    world.start_worker();
    eventually("three pages are stored", || async { state().await.1 == 3 }).await;
    world.worker.signal("KILL").await;
    world.worker.end(Duration::from_secs(30)).await;
    assert_eq!(state().await, (token, 3, live));

    world.simulator.clear_requests();
    // The dead worker's lease runs out by itself; here it is made to, so that the test is quick.
    let sql = "UPDATE calendar_accounts SET lease_expires_at = now()";
    client.execute(sql, &[]).await.unwrap();
    world.start_worker();
    eventually("the pass has ended", || async { state().await.1 == 0 }).await;
    // At the page where it was, and not from the start; what changed meanwhile is asked for after its end.
    let queries = rounds(&world);
    assert!(queries[0].contains("skiptoken"), "{queries:?}");
    let goes_on = |query: &String| query.contains("skiptoken") || query.contains("deltatoken");
    assert!(queries.iter().all(goes_on), "{queries:?}");
    let (from, to) = (
        midnight(day(&world.simulator, -80)),
        midnight(day(&world.simulator, 300)),
    );
    world.converge(&user, &connection, ANN, &from, &to).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t06_an_empty_list_removes_nothing_until_a_second_pass_agrees() {
    let (mut world, user, connection, at_provider) = with_events(30).await;
    let query = format!("connection_id={connection}");
    let before = world.events(&user, &query).await;
    let since = latest(&before);
    let full_passes = async |world: &World| {
        let client = world.database.connect().await;
        let sql =
            "SELECT removal_held, coalesce(last_full_sync_at::text, '') FROM calendar_sync_states";
        let row = client.query_one(sql, &[]).await.unwrap();
        (row.get::<_, bool>(0), row.get::<_, String>(1))
    };
    // The provider loses the cursor and then says by mistake that there is nothing.
    world.stop_worker().await;
    let (_, first) = full_passes(&world).await;
    let empty = Fault {
        untruth: Some(Untruth::EmptyList),
        ..Fault::default()
    };
    at_the_next_round(&world, empty);
    world.simulator.invalidate_delta_tokens(ANN).unwrap();
    world.start_worker();
    eventually("a full pass more has found them all", || async {
        let (held, last) = full_passes(&world).await;
        !held && last != first && world.simulator.pending_faults().is_empty()
    })
    .await;
    assert_eq!(ids(&world.events(&user, &query).await), ids(&before));
    assert_eq!(
        world.told_since(&user, &since).await,
        (Vec::new(), BTreeSet::new())
    );

    // They are really gone: a second pass has to say so.
    world.stop_worker().await;
    for id in &at_provider {
        world.simulator.delete_event(ANN, id).unwrap();
    }
    world.simulator.invalidate_delta_tokens(ANN).unwrap();
    let slow = Fault {
        skip: 1,
        delay_ms: 1_000,
        ..Fault::default()
    };
    at_the_next_round(&world, slow);
    world.start_worker();
    eventually("the removal is held", || async {
        full_passes(&world).await.0
    })
    .await;
    assert_eq!(ids(&world.events(&user, &query).await), ids(&before));
    eventually("the second pass agrees", || async {
        world.events(&user, &query).await.is_empty()
    })
    .await;
    assert_eq!(
        world.told_since(&user, &since).await,
        (Vec::new(), ids(&before))
    );
}
