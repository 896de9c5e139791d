//! `EventReader::export`: every event that is not deleted, once, whatever is written between two pages.

use std::collections::BTreeSet;

use calendar_domain::ids::{ConnectionId, UserId};
use calendar_domain::ports::{ConnectionStore as _, EventReader as _};

use crate::support::{
    NOW, Synced, World, change, event, exception, master, occurrence, removed, single,
};

/// `connection provider's-id` of one page, and where the next begins.
async fn page(
    world: &World,
    user: UserId,
    connection: ConnectionId,
    after: &str,
) -> (Vec<String>, Option<String>) {
    let page = world.reader.export(user, connection, after.to_owned(), 3);
    let page = page.await.unwrap();
    assert!(page.items.len() <= 3);
    let named = page
        .items
        .iter()
        .map(|it| format!("{} {}", it.connection_id, it.provider_event_id));
    (named.collect(), page.next)
}

/// All pages.
async fn all(world: &World, user: UserId, connection: ConnectionId) -> Vec<String> {
    let (mut found, mut next) = page(world, user, connection, "").await;
    while let Some(after) = next {
        let more;
        (more, next) = page(world, user, connection, &after).await;
        assert!(!more.is_empty(), "a page that says more has more");
        found.extend(more);
    }
    found
}

/// Each once, in any order.
fn assert_once(found: &[String], connection: ConnectionId, ids: &[&str]) {
    let set: BTreeSet<_> = found.iter().cloned().collect();
    assert_eq!(set.len(), found.len(), "twice: {found:?}");
    let expected = ids.iter().map(|id| format!("{connection} {id}")).collect();
    assert_eq!(set, expected);
}

/// A user with two calendars under one lease.
async fn two_calendars(world: &World) -> [Synced<'_>; 2] {
    let user = world.user("ada@example.com").await;
    let connected = world.connect(user, "ada", &["main", "team"]).await;
    let lease = world.claim().await.unwrap().lease;
    let synced = |number: usize| Synced {
        world,
        user,
        id: connected.connection_ids[number],
        lease,
    };
    [synced(0), synced(1)]
}

#[tokio::test]
async fn each_event_of_each_calendar_is_exported_once() {
    let world = World::new().await;
    let [main, team] = two_calendars(&world).await;
    // The same ids in both calendars, ids that differ in case alone, and all at the same time.
    let ids = ["a", "A", "aa", "b", "B", "é", "z9", "z_9"];
    for synced in [&main, &team] {
        synced
            .delta(ids.iter().map(|id| single(id, 3)).collect())
            .await;
    }
    main.delta(vec![
        change(master("m")),
        occurrence("o", "m", 3),
        exception("x", "m", 4, 5),
    ])
    .await;
    main.delta(vec![removed("b"), removed("B")]).await;
    let left = ["a", "A", "aa", "é", "z9", "z_9", "m", "o", "x"];
    assert_once(&all(&world, main.user, main.id).await, main.id, &left);
    assert_once(&all(&world, team.user, team.id).await, team.id, &ids);

    // Nobody else's, and nothing of a calendar that was disconnected.
    let other = world.user("bob@example.com").await;
    assert!(all(&world, other, main.id).await.is_empty());
    let connections = &world.connections;
    assert!(
        connections
            .disconnect(team.user, team.id, NOW)
            .await
            .unwrap()
    );
    assert!(all(&world, team.user, team.id).await.is_empty());
    assert_once(&all(&world, main.user, main.id).await, main.id, &left);
}

#[tokio::test]
async fn what_an_occurrence_inherits_is_exported_with_it() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let series = vec![change(master("m")), occurrence("o", "m", 3)];
    synced.delta(series).await;
    let export = world
        .reader
        .export(synced.user, synced.id, String::new(), 9);
    let exported = export.await.unwrap().items;
    assert_eq!(exported.len(), 2);
    for event in exported {
        assert_eq!(event.attendees.len(), 2, "{}", event.provider_event_id);
        assert_eq!(event.description.as_deref(), Some("What it is about"));
        let get = world.reader.get(synced.user, event.id).await.unwrap();
        assert_eq!(get, Some(event));
    }
}

#[tokio::test]
async fn what_is_written_between_two_pages_neither_repeats_nor_hides_an_event() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let ids = ["b", "d", "f", "h", "j", "l", "n", "p"];
    synced
        .delta(ids.iter().map(|id| single(id, 3)).collect())
        .await;
    let (mut found, mut next) = page(&world, synced.user, synced.id, "").await;
    assert_eq!(found.len(), 3);
    // Behind, at and before the place: moved to other days, renamed, deleted, new.
    let renamed = |id: &str, day| {
        let mut event = event(id, day);
        event.title = Some("Renamed".to_owned());
        change(event)
    };
    let written = vec![
        renamed("b", 20),
        renamed("f", 1),
        removed("d"),
        renamed("h", 28),
        renamed("p", 1),
        removed("j"),
        single("a", 3),
        single("e", 3),
        single("g", 3),
        single("zz", 3),
    ];
    synced.delta(written).await;
    while let Some(after) = next {
        let more;
        (more, next) = page(&world, synced.user, synced.id, &after).await;
        found.extend(more);
    }
    // `d` was exported before it was deleted; `a` and `e` came too late.
    let expected = ["b", "d", "f", "g", "h", "l", "n", "p", "zz"];
    assert_once(&found, synced.id, &expected);
}
