//! Series: what occurrences inherit, what a changed master rewrites, judging at the end of a pass.

use calendar_domain::event::{EventKind, TeamsMeeting};
use calendar_domain::ports::EventStore as _;
use calendar_domain::sync::{Pass, PassKind, SeriesCorrection};

use crate::support::{NOW, World, change, exception, master, occurrence, pass, removed, start};

#[tokio::test]
async fn occurrences_carry_what_the_indexes_need() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![
            change(master("m")),
            occurrence("o", "m", 3),
            exception("x", "m", 4, 5),
        ])
        .await;
    let row = |id: &str| {
        let sql = format!(
            "SELECT concat_ws('|', title, teams_enabled, teams_meeting_url, timezone, description,
                conversation_id, is_recurring, inherits, series_master_id, original_start, recurrence_rule)
            FROM calendar_events WHERE provider_event_id = '{id}'"
        );
        let world = &world;
        async move { world.text(&sql).await.unwrap() }
    };
    assert_eq!(
        row("o").await,
        "Event m|t|https://teams/1|Europe/Berlin|f|t|m|2026-03-03 10:00:00+00"
    );
    // A master keeps its columns and is no meeting that takes place.
    assert_eq!(
        row("m").await,
        "Event m|f|https://teams/1|Europe/Berlin|What it is about|thread m|t|f|FREQ=DAILY"
    );
    assert_eq!(
        row("x").await,
        "Event x|f|Europe/Berlin|What it is about|thread x|f|f|m|2026-03-04 10:00:00+00"
    );
    assert_eq!(
        world.number("SELECT count(*) FROM event_attendees").await,
        4,
        "none of its own"
    );
}

#[tokio::test]
async fn a_changed_master_rewrites_its_occurrences() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![
            change(master("m")),
            occurrence("o", "m", 3),
            exception("x", "m", 4, 5),
        ])
        .await;
    let ids = synced.ids().await;
    let versions = "SELECT string_agg(version::text, ',' ORDER BY provider_event_id) FROM calendar_events WHERE inherits";
    let before = world.text(versions).await;
    let mut renamed = master("m");
    renamed.title = Some("Renamed".to_owned());
    let applied = synced.delta(vec![change(renamed)]).await;
    assert_eq!(applied.updated, 2);
    let titles = "SELECT title::text FROM calendar_events ORDER BY provider_event_id";
    assert_eq!(world.texts(titles).await, ["Renamed", "Renamed", "Event x"]);
    // Also when the row itself carries nothing of what changed.
    let mut described = master("m");
    described.title = Some("Renamed".to_owned());
    described.description = Some("Other".to_owned());
    assert_eq!(synced.delta(vec![change(described)]).await.updated, 2);
    assert_ne!(world.text(versions).await, before);
    assert_eq!(synced.ids().await, ids);
}

#[tokio::test]
async fn a_meeting_whose_parts_are_still_to_come_is_one() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut bare = master("m");
    bare.teams = Some(TeamsMeeting::default());
    synced.full(vec![change(bare.clone())]).await;
    // The master is read back from its row.
    synced.delta(vec![occurrence("o", "m", 3)]).await;
    let held =
        "SELECT count(*) FROM calendar_events WHERE teams_enabled AND teams_meeting_url IS NULL";
    assert_eq!(world.number(held).await, 1);
    assert_eq!(
        synced
            .full(vec![change(bare), occurrence("o", "m", 3)])
            .await
            .unchanged,
        2
    );
}

#[tokio::test]
async fn with_its_master_the_whole_series_goes() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![
            change(master("m")),
            occurrence("o", "m", 3),
            exception("x", "m", 4, 5),
        ])
        .await;
    assert_eq!(synced.delta(vec![removed("m")]).await.removed, 3);
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_events WHERE deleted_at IS NULL")
            .await,
        0
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_events WHERE teams_enabled")
            .await,
        0
    );
}

#[tokio::test]
async fn exception_dates_stay_where_the_provider_does_not_say() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![change(master("m"))]).await;
    let id = world
        .sql
        .query_one("SELECT id FROM calendar_events", &[])
        .await
        .unwrap()
        .get::<_, uuid::Uuid>(0);
    let correction = SeriesCorrection {
        master_id: id.into(),
        exception_dates: vec![start(6)],
        removed: Vec::new(),
    };
    world
        .events
        .correct_series(&synced.lease, synced.id, vec![correction], NOW)
        .await
        .unwrap();
    let dates = "SELECT exception_dates FROM calendar_events";
    assert_eq!(world.text(dates).await.as_deref(), Some("20260306T100000Z"));
    let mut renamed = master("m");
    renamed.title = Some("Renamed".to_owned());
    synced.delta(vec![change(renamed.clone())]).await;
    assert_eq!(world.text(dates).await.as_deref(), Some("20260306T100000Z"));
    let EventKind::Master {
        exception_dates, ..
    } = &mut renamed.kind
    else {
        unreachable!()
    };
    *exception_dates = Some(vec![start(7)]);
    synced.delta(vec![change(renamed)]).await;
    assert_eq!(world.text(dates).await.as_deref(), Some("20260307T100000Z"));
}

#[tokio::test]
async fn touched_series_are_judged_page_by_page() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let first = vec![
        change(master("m1")),
        occurrence("o1", "m1", 3),
        occurrence("o2", "m1", 4),
        change(master("m2")),
        occurrence("p1", "m2", 3),
        occurrence("far", "m2", 200),
        change(master("quiet")),
    ];
    synced.full(first).await;
    let mut delta = pass(PassKind::Delta);
    // An untouched single page records nothing.
    synced
        .page(&mut delta, vec![crate::support::single("one", 3)])
        .await;
    assert_eq!(world.number("SELECT count(*) FROM sync_pass_seen").await, 0);
    synced
        .page(&mut delta, vec![occurrence("o1", "m1", 3)])
        .await;
    synced.page(&mut delta, vec![change(master("m2"))]).await;
    assert!(delta.touched_series);
    let touched = world
        .events
        .touched_series(synced.id, &delta, None, 10)
        .await
        .unwrap();
    let names: Vec<&str> = touched
        .iter()
        .map(|series| series.master.as_str())
        .collect();
    assert_eq!(names, ["m1", "m2"]);
    let one = world
        .events
        .touched_series(synced.id, &delta, None, 1)
        .await
        .unwrap();
    let rest = world
        .events
        .touched_series(synced.id, &delta, Some(one[0].master_id), 10)
        .await
        .unwrap();
    assert_eq!(
        (one[0].clone(), rest),
        (touched[0].clone(), touched[1..].to_vec())
    );
    let seen: Vec<(&str, bool)> = touched[0]
        .instances
        .iter()
        .map(|instance| (instance.provider_event_id.as_str(), instance.seen))
        .collect();
    assert_eq!(seen, [("o1", true), ("o2", false)]);
    assert_eq!(touched[0].instances[1].original_start, start(4));
    assert_eq!(touched[0].rule.as_ref().unwrap().to_string(), "FREQ=DAILY");
    assert_eq!(touched[0].zone.as_deref(), Some("Europe/Berlin"));
    assert_eq!(touched[1].instances.len(), 1, "one is outside the window");
    let correction = SeriesCorrection {
        master_id: touched[0].master_id,
        exception_dates: vec![start(4)],
        removed: vec![touched[0].instances[1].id],
    };
    let removed = world
        .events
        .correct_series(&synced.lease, synced.id, vec![correction.clone()], NOW)
        .await
        .unwrap();
    assert_eq!(removed, 1);
    let before = synced.tuples().await;
    let again = world
        .events
        .correct_series(&synced.lease, synced.id, vec![correction], NOW)
        .await
        .unwrap();
    assert_eq!((again, synced.tuples().await), (0, before));
}

#[tokio::test]
async fn what_a_resent_series_no_longer_shows_is_not_seen() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut full = pass(PassKind::Full);
    let page = vec![
        change(master("m")),
        occurrence("o1", "m", 3),
        occurrence("o2", "m", 4),
        occurrence("o3", "m", 5),
    ];
    synced.page(&mut full, page).await;
    // Split: the rest of it comes on the next page, without the master, and takes nothing back.
    synced.page(&mut full, vec![occurrence("o4", "m", 6)]).await;
    let seen = async |full: &Pass| -> Vec<(String, bool)> {
        let touched = world.events.touched_series(synced.id, full, None, 10).await;
        let instances = touched.unwrap().remove(0).instances.into_iter();
        instances
            .map(|instance| {
                (
                    instance.provider_event_id.as_str().to_owned(),
                    instance.seen,
                )
            })
            .collect()
    };
    let all = ["o1", "o2", "o3", "o4"].map(|id| (id.to_owned(), true));
    assert_eq!(seen(&full).await, all);
    // An occurrence was deleted while the pass was under way.
    let page = vec![
        change(master("m")),
        occurrence("o1", "m", 3),
        occurrence("o3", "m", 5),
    ];
    synced.page(&mut full, page).await;
    synced.page(&mut full, vec![occurrence("o4", "m", 6)]).await;
    let hole = all.map(|(id, _)| (id.clone(), id != "o2"));
    assert_eq!(seen(&full).await, hole);
}
