//! Identities that wander: ids that swap, instances that get new ids, rows that come back.

use calendar_domain::sync::Applied;

use crate::support::{
    Synced, World, change, event, exception, master, occurrence, removed, single,
};

/// `provider id -> row id` of live rows.
async fn live(synced: &Synced<'_>) -> Vec<(String, String)> {
    let sql = "SELECT provider_event_id || '|' || id FROM calendar_events WHERE deleted_at IS NULL ORDER BY 1";
    let split = |text: String| {
        text.split_once('|')
            .map(|(id, row)| (id.to_owned(), row.to_owned()))
            .unwrap()
    };
    synced
        .world
        .texts(sql)
        .await
        .into_iter()
        .map(split)
        .collect()
}

async fn row_of(synced: &Synced<'_>, id: &str) -> String {
    live(synced)
        .await
        .into_iter()
        .find(|(known, _)| known == id)
        .unwrap()
        .1
}

#[tokio::test]
async fn occurrences_that_swap_their_ids_keep_their_rows() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![
            change(master("m")),
            occurrence("a", "m", 1),
            occurrence("b", "m", 2),
        ])
        .await;
    let (first, second) = (row_of(&synced, "a").await, row_of(&synced, "b").await);
    let applied = synced
        .delta(vec![occurrence("b", "m", 1), occurrence("a", "m", 2)])
        .await;
    assert_eq!(
        (applied.updated, applied.removed, applied.inserted),
        (2, 0, 0)
    );
    assert_eq!(row_of(&synced, "b").await, first);
    assert_eq!(row_of(&synced, "a").await, second);
}

#[tokio::test]
async fn an_instance_with_a_new_id_is_the_same_row() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![
            change(master("m")),
            occurrence("a", "m", 1),
            occurrence("b", "m", 2),
        ])
        .await;
    let first = row_of(&synced, "a").await;
    let applied = synced.delta(vec![exception("new", "m", 1, 9)]).await;
    assert_eq!(
        applied,
        Applied {
            updated: 1,
            touched_series: true,
            ..Applied::default()
        }
    );
    assert_eq!(row_of(&synced, "new").await, first);
    assert_eq!(live(&synced).await.len(), 3);
    // Back to what the rule says: nothing of the exception stays.
    synced.delta(vec![occurrence("new", "m", 1)]).await;
    let own = "SELECT count(*) FROM event_attendees AS a JOIN calendar_events AS e ON e.id = a.event_id WHERE e.inherits";
    assert_eq!(world.number(own).await, 0);
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_events WHERE inherits AND attendees IS NULL")
            .await,
        2
    );
}

#[tokio::test]
async fn ids_pass_along_a_whole_series() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let page = |shift: u8| -> Vec<_> {
        let occurrences = (1..=20).map(|day| occurrence(&format!("o{}", day + shift), "m", day));
        std::iter::once(change(master("m")))
            .chain(occurrences)
            .collect()
    };
    synced.full(page(0)).await;
    let second = row_of(&synced, "o2").await;
    synced.full(page(1)).await;
    // o2 now happens on the first day: that day's row has its id.
    assert_ne!(row_of(&synced, "o2").await, second);
    assert_eq!(row_of(&synced, "o3").await, second);
    assert_eq!(live(&synced).await.len(), 21);
    assert_eq!(synced.full(page(1)).await.unchanged, 21);
}

#[tokio::test]
async fn a_single_that_takes_an_instances_id_displaces_it() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![
            change(master("m")),
            occurrence("a", "m", 1),
            occurrence("b", "m", 2),
        ])
        .await;
    let page = || vec![occurrence("a", "m", 2)];
    let applied = synced.delta(page()).await;
    assert_eq!(applied.updated, 1);
    // One place has one live row; what held the id before is gone.
    let places =
        "SELECT count(*) FROM calendar_events WHERE deleted_at IS NULL AND NOT is_recurring";
    assert_eq!(world.number(places).await, 1);
    assert_eq!(synced.delta(page()).await.unchanged, 1);
}

#[tokio::test]
async fn a_tombstone_that_comes_back_ousts_who_took_its_place() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![change(master("m")), occurrence("a", "m", 1)])
        .await;
    synced.delta(vec![removed("a")]).await;
    synced.delta(vec![occurrence("b", "m", 1)]).await;
    let applied = synced.delta(vec![occurrence("a", "m", 1)]).await;
    assert_eq!(applied.inserted, 0);
    let ids: Vec<String> = live(&synced).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["a", "m"]);
    assert_eq!(
        synced.delta(vec![occurrence("a", "m", 1)]).await.unchanged,
        1
    );
}

#[tokio::test]
async fn a_single_becomes_a_series_and_back() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("m", 1)]).await;
    let row = row_of(&synced, "m").await;
    synced
        .delta(vec![change(master("m")), occurrence("a", "m", 1)])
        .await;
    assert_eq!(row_of(&synced, "m").await, row);
    synced
        .delta(vec![change(event("m", 1)), removed("a")])
        .await;
    assert_eq!(live(&synced).await, [("m".to_owned(), row)]);
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_events WHERE is_recurring")
            .await,
        0
    );
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_events WHERE recurrence_rule IS NOT NULL")
            .await,
        0
    );
}
