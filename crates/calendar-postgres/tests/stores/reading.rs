//! `EventReader`: what a user sees, in which order, page by page.

use calendar_domain::event::{EventImportance, EventSpan, EventStatus, TeamsMeeting};
use calendar_domain::ids::{EventId, UserId};
use calendar_domain::ports::{ConnectionStore as _, EventReader as _};
use calendar_domain::query::{EventQuery, EventView, StoredEvent};
use time::macros::datetime;

use crate::support::{
    NOW, Synced, World, change, event, exception, master, occurrence, removed, single, start,
};

/// Everything that a user has.
pub(crate) fn query(user: UserId) -> EventQuery {
    EventQuery {
        user_id: user,
        connection_id: None,
        from: None,
        to: None,
        teams_enabled: None,
        conversation_id: None,
        importance: None,
        category: None,
        status: None,
        text: None,
        updated_since: None,
        include_deleted: false,
        view: EventView::Instances,
        limit: 100,
        after: None,
    }
}

async fn list(synced: &Synced<'_>, with: impl FnOnce(&mut EventQuery)) -> Vec<StoredEvent> {
    let mut asked = query(synced.user);
    with(&mut asked);
    synced.world.reader.list(asked).await.unwrap().items
}

async fn names(synced: &Synced<'_>, with: impl FnOnce(&mut EventQuery)) -> Vec<String> {
    list(synced, with)
        .await
        .into_iter()
        .map(|event| event.provider_event_id)
        .collect()
}

#[tokio::test]
async fn an_occurrence_shows_what_it_inherits() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![
            change(master("m")),
            occurrence("o", "m", 3),
            exception("x", "m", 4, 5),
        ])
        .await;
    let listed = list(&synced, |_| {}).await;
    assert_eq!(
        listed
            .iter()
            .map(|event| event.provider_event_id.as_str())
            .collect::<Vec<_>>(),
        ["o", "x"]
    );
    let occurrence = &listed[0];
    assert_eq!(occurrence.description.as_deref(), Some("What it is about"));
    assert_eq!(occurrence.conversation_id.as_deref(), Some("thread m"));
    assert_eq!(occurrence.categories, ["Red", "a \"quoted\" one"]);
    assert_eq!(
        (occurrence.attendees.len(), occurrence.reminders.len()),
        (2, 1)
    );
    assert_eq!(
        occurrence.organizer.as_ref().unwrap().email.as_deref(),
        Some("boss@example.com")
    );
    assert_eq!(
        (occurrence.original_start, occurrence.is_exception),
        (Some(start(3)), false)
    );
    assert!(occurrence.recurrence.is_none() && occurrence.teams.is_some());
    let exception = &listed[1];
    assert_eq!(
        (exception.original_start, exception.is_exception),
        (Some(start(4)), true)
    );
    assert_eq!(
        (exception.title.as_deref(), exception.master_id),
        (Some("Event x"), occurrence.master_id)
    );
    let series = list(&synced, |query| query.view = EventView::Series).await;
    assert_eq!(series.len(), 1);
    let recurrence = series[0].recurrence.as_ref().unwrap();
    assert_eq!(recurrence.rule.as_deref(), Some("FREQ=DAILY"));
    assert!(recurrence.columns.is_some() && series[0].teams.is_some());
    let one = world
        .reader
        .get(synced.user, occurrence.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&one, occurrence);
}

#[tokio::test]
async fn an_event_reads_as_it_was_stored() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let given = event("one", 3);
    synced.full(vec![change(given.clone())]).await;
    let stored = list(&synced, |_| {}).await.remove(0);
    assert_eq!(
        (stored.title, stored.span, stored.attendees),
        (given.title, given.span, given.attendees)
    );
    assert_eq!(
        (stored.reminders, stored.organizer),
        (given.reminders, given.organizer)
    );
    assert_eq!((stored.connection_id, stored.created_at), (synced.id, NOW));
}

#[tokio::test]
async fn filters_hold_together() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut special = event("special", 10);
    special.importance = EventImportance::High;
    special.status = EventStatus::Tentative;
    special.teams = Some(TeamsMeeting::default());
    special.categories = vec!["100%_x".to_owned()];
    special.title = Some("Budget 100%_x".to_owned());
    synced
        .full(vec![
            change(special),
            single("plain", 11),
            change(master("m")),
            occurrence("o", "m", 12),
            exception("x", "m", 13, 14),
        ])
        .await;
    let with = |with: fn(&mut EventQuery)| names(&synced, with);
    assert_eq!(
        with(|q| q.importance = Some(EventImportance::High)).await,
        ["special"]
    );
    assert_eq!(
        with(|q| q.status = Some(EventStatus::Tentative)).await,
        ["special"]
    );
    assert_eq!(
        with(|q| q.teams_enabled = Some(true)).await,
        ["special", "o"]
    );
    assert_eq!(
        with(|q| q.teams_enabled = Some(false)).await,
        ["plain", "x"]
    );
    assert_eq!(
        with(|q| q.category = Some("100%_x".to_owned())).await,
        ["special"]
    );
    assert_eq!(
        with(|q| q.category = Some("Red".to_owned())).await,
        ["o"],
        "inherited"
    );
    assert_eq!(
        with(|q| q.category = Some("a \"quoted\" one".to_owned())).await,
        ["o"]
    );
    assert!(
        with(|q| q.category = Some("quoted".to_owned()))
            .await
            .is_empty()
    );
    assert_eq!(
        with(|q| q.conversation_id = Some("thread m".to_owned())).await,
        ["o"],
        "inherited"
    );
    assert_eq!(
        with(|q| q.text = Some("bUDGET 100%_".to_owned())).await,
        ["special"]
    );
    assert!(with(|q| q.text = Some("1_0%".to_owned())).await.is_empty());
    assert!(with(|q| q.text = Some("a\0".to_owned())).await.is_empty());
    let series = |q: &mut EventQuery| {
        q.view = EventView::Series;
        q.teams_enabled = Some(true);
    };
    assert_eq!(names(&synced, series).await, ["m", "special"]);
    // Touching is not overlapping, on either side.
    let between = |q: &mut EventQuery| {
        q.from = Some(datetime!(2026-03-10 11:00 UTC));
        q.to = Some(datetime!(2026-03-12 10:00 UTC));
    };
    assert_eq!(names(&synced, between).await, ["plain"]);
}

#[tokio::test]
async fn tombstones_are_shown_on_request_only() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3), single("two", 4)]).await;
    synced.delta(vec![removed("one")]).await;
    assert_eq!(names(&synced, |_| {}).await, ["two"]);
    let all = list(&synced, |query| query.include_deleted = true).await;
    assert_eq!((all.len(), all[0].deleted_at), (2, Some(NOW)));
    assert!(
        world
            .reader
            .get(synced.user, all[0].id)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_while_rows_are_written() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let other = world
        .connect(synced.user, "other", &["second"])
        .await
        .connection_ids[0];
    // Ten that begin at once, in two calendars.
    synced
        .full(
            (0..10)
                .map(|number| single(&format!("e{number}"), 5))
                .collect(),
        )
        .await;
    let lease = world.claim().await.unwrap().lease;
    let second = Synced {
        id: other,
        lease,
        ..synced
    };
    second
        .full(
            (0..10)
                .map(|number| single(&format!("f{number}"), 5))
                .collect(),
        )
        .await;
    let mut asked = query(synced.user);
    asked.limit = 3;
    let mut seen: Vec<EventId> = Vec::new();
    for round in 0.. {
        let page = world.reader.list(asked.clone()).await.unwrap();
        seen.extend(page.items.iter().map(|event| event.id));
        let Some(next) = page.next else { break };
        asked.after = Some(next);
        // Before and behind the cursor, something new each time.
        synced
            .delta(vec![single(&format!("early{round}"), 1)])
            .await;
    }
    assert_eq!(seen.len(), 20);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn changes_since_a_time_come_in_their_order() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![single("one", 9), single("two", 3), single("old", 4)])
        .await;
    for (id, at) in [("old", "11:00"), ("two", "13:00"), ("one", "14:00")] {
        let sql = format!(
            "UPDATE calendar_events SET updated_at = '2026-03-02 {at}Z' WHERE provider_event_id = '{id}'"
        );
        world.sql.batch_execute(&sql).await.unwrap();
    }
    let since = |q: &mut EventQuery| {
        q.updated_since = Some(NOW);
        q.limit = 1;
    };
    let mut asked = query(synced.user);
    since(&mut asked);
    let first = world.reader.list(asked.clone()).await.unwrap();
    assert_eq!(first.items[0].provider_event_id, "two");
    asked.after = first.next;
    let second = world.reader.list(asked).await.unwrap();
    assert_eq!(
        (second.items[0].provider_event_id.as_str(), second.next),
        ("one", None)
    );
}

#[tokio::test]
async fn others_events_and_those_of_gone_connections_are_not_found() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    let id = list(&synced, |_| {}).await[0].id;
    let eve = world.user("eve@example.com").await;
    assert!(world.reader.get(eve, id).await.unwrap().is_none());
    assert!(
        world
            .reader
            .list(query(eve))
            .await
            .unwrap()
            .items
            .is_empty()
    );
    let mut stolen = query(eve);
    stolen.connection_id = Some(synced.id);
    assert!(world.reader.list(stolen).await.unwrap().items.is_empty());
    world
        .connections
        .disconnect(synced.user, synced.id, NOW)
        .await
        .unwrap();
    assert!(world.reader.get(synced.user, id).await.unwrap().is_none());
    assert!(
        list(&synced, |query| query.include_deleted = true)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn an_event_without_a_length_is_in_the_window_that_begins_with_it() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut instant = event("instant", 4);
    let midnight = datetime!(2026-03-04 0:00 UTC);
    instant.span = EventSpan::Timed {
        start: midnight,
        end: midnight,
    };
    synced.full(vec![change(instant)]).await;
    for (from, to, expected) in [
        (datetime!(2026-03-03 0:00 UTC), midnight, 0),
        (midnight, datetime!(2026-03-05 0:00 UTC), 1),
        (
            datetime!(2026-03-04 0:00:01 UTC),
            datetime!(2026-03-05 0:00 UTC),
            0,
        ),
    ] {
        let listed = list(&synced, |query| {
            query.from = Some(from);
            query.to = Some(to);
        });
        assert_eq!(listed.await.len(), expected, "{from}");
    }
}

#[tokio::test]
async fn paging_ends_over_an_older_applications_all_day_rows() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let sql = format!(
        "INSERT INTO calendar_events (calendar_connection_id, provider_event_id, start_time, end_time, is_all_day)
         SELECT '{}', 'old ' || n, '2026-01-04T23:00:00Z', '2026-01-05T23:00:00Z', true FROM generate_series(1, 3) AS n",
        synced.id
    );
    world.sql.batch_execute(&sql).await.unwrap();
    let mut asked = query(synced.user);
    asked.limit = 1;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let page = world.reader.list(asked.clone()).await.unwrap();
        seen.extend(page.items.into_iter().map(|event| event.provider_event_id));
        asked.after = page.next;
        if asked.after.is_none() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, ["old 1", "old 2", "old 3"]);
}

#[tokio::test]
async fn a_list_is_stable_while_its_rows_are_written() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let number = |number: u8| format!("e{number:02}");
    let day = |number: u8| number % 28 + 1;
    let first = (0..60).step_by(2).map(|it| single(&number(it), day(it)));
    synced.full(first.collect()).await;

    // Between two pages, some are added before and behind, changed where they stand, and removed.
    let mut asked = query(synced.user);
    asked.limit = 7;
    let (mut seen, mut page_number) = (Vec::new(), 0_u8);
    loop {
        let page = world.reader.list(asked.clone()).await.unwrap();
        seen.extend(page.items.iter().map(|it| it.provider_event_id.clone()));
        let Some(next) = page.next else { break };
        asked.after = Some(next);
        let added = page_number * 2 + 1;
        let renamed = calendar_domain::event::ProviderEvent {
            title: Some(format!("Renamed on page {page_number}")),
            ..event(&number(page_number * 4), day(page_number * 4))
        };
        synced
            .delta(vec![
                single(&number(added), day(added)),
                single(&number(added + 40), day(added + 40)),
                change(renamed),
                removed(&number(58 - page_number * 2)),
            ])
            .await;
        page_number += 1;
    }
    assert!(page_number >= 4, "there were pages to write between");
    let mut once = seen.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "shown twice: {seen:?}");
    for stays in (0..58 - page_number * 2).step_by(2) {
        assert!(
            seen.contains(&number(stays)),
            "{stays} was dropped: {seen:?}"
        );
    }
}
