//! The window, and what is unknown or cannot be read.

use std::collections::BTreeSet;
use std::time::Duration;

use calendar_e2e::{Binary, Process, User, World, daily, day, timed};
use calendar_simulator::Options;
use calendar_simulator::jiff::ToSpan as _;
use serde_json::json;

use super::ANN;

const LONG: Duration = Duration::from_secs(30);

/// All rows, with what changes when one is written.
async fn rows(world: &World) -> BTreeSet<(String, String)> {
    let client = world.database.connect().await;
    let sql = "SELECT id::text, concat_ws(' ', xmin, ctid, deleted_at) FROM calendar_events";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// One pass with the window so many days later than at first: as if so many days had gone by.
async fn pass_later(world: &World, days: i32) {
    let mut environment = world.environment.clone();
    environment.retain(|(name, _)| !name.starts_with("CALENDAR_SYNC_"));
    for (name, value) in [("PAST", 90 - days), ("FUTURE", 60 + days)] {
        environment.push((format!("CALENDAR_SYNC_{name}_DAYS"), value.to_string()));
    }
    let client = world.database.connect().await;
    let sql = "UPDATE calendar_sync_states SET due_at = now()";
    client.execute(sql, &[]).await.unwrap();
    let mut worker = Process::start(Binary::Worker, &["--once"], &environment);
    assert!(worker.end(LONG).await.success(), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn t58_the_window_slides_for_sixty_days_and_nothing_is_told_as_deleted_or_changed() {
    let mut world =
        World::start_with(Options::default(), &[("CALENDAR_SYNC_FUTURE_DAYS", "60")]).await;
    let user = world.mailbox_and_user(ANN).await;
    let simulator = &world.simulator;
    // On both edges of every step and beyond, whole days and an hour; and a series through all of it.
    for days in (-125..=155).step_by(5) {
        let date = day(simulator, days);
        let whole_day = json!({
            "subject": format!("Day {days}"),
            "isAllDay": true,
            "start": {"dateTime": format!("{date}T00:00:00"), "timeZone": "UTC"},
            "end": {"dateTime": format!("{}T00:00:00", date + 2.days()), "timeZone": "UTC"},
        });
        simulator.create_event(ANN, None, &whole_day).unwrap();
        let hour = timed(&format!("Hour {days}"), date, 23);
        simulator.create_event(ANN, None, &hour).unwrap();
    }
    let series = daily("Stand-up", day(simulator, -200));
    simulator.create_event(ANN, None, &series).unwrap();
    world.connect_primary(&user, ANN).await;
    world.stop_worker().await;

    let client = world.database.connect().await;
    let mut full_passes = BTreeSet::new();
    let mut before = rows(&world).await;
    let first = before.len();
    for days in (3..=60).step_by(3) {
        pass_later(&world, days).await;
        let sql = "SELECT last_full_sync_at::text, window_end::text FROM calendar_sync_states";
        let state = client.query_one(sql, &[]).await.unwrap();
        full_passes.insert((state.get::<_, String>(0), state.get::<_, String>(1)));
        let after = rows(&world).await;
        // What was there is there, in or outside the window, and was not written.
        let missing: Vec<_> = before.difference(&after).collect();
        assert_eq!(
            missing,
            Vec::<&(String, String)>::new(),
            "{days} days later"
        );
        before = after;
    }
    assert!(
        full_passes.len() > 2,
        "the window has moved: {full_passes:?}"
    );
    assert!(before.len() > first, "events have entered");
    let told = deleted(&world, &user).await;
    assert_eq!(told, BTreeSet::new());
}

async fn deleted(world: &World, user: &User) -> BTreeSet<String> {
    world.told_since(user, "2020-01-01T00:00:00Z").await.1
}
