//! Checkpoints, the end of a pass, and what a full pass did not see.

use calendar_domain::ports::{ConnectionStore as _, EventStore as _, SyncQueue as _};
use calendar_domain::sync::{
    AfterPage, Cursor, PassKind, PassPosition, SyncWindow, Unseen, UnseenReport,
};
use time::macros::datetime;

use crate::support::{NOW, World, change, master, occurrence, pass, pass_end, single, window};

const LIVE: &str =
    "SELECT provider_event_id::text FROM calendar_events WHERE deleted_at IS NULL ORDER BY 1";

#[tokio::test]
async fn a_pass_goes_on_where_it_stopped() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut full = pass(PassKind::Full);
    synced.page(&mut full, vec![change(master("m"))]).await;
    // A page may be empty and yet have a next one.
    let then = AfterPage::Checkpoint(PassPosition::Page(Cursor("p3".to_owned())));
    synced.try_apply(&full, Vec::new(), then).await.unwrap();
    world.queue.release(&synced.lease).await.unwrap();
    let claim = world.claim().await.unwrap();
    full.position = PassPosition::Page(Cursor("p3".to_owned()));
    assert_eq!(claim.connections[0].pass, Some(full.clone()));
    assert!(full.touched_series && claim.connections[0].synced.is_none());
    assert_eq!(
        world
            .number("SELECT pass_pages::bigint FROM calendar_sync_states")
            .await,
        2
    );
    let synced = crate::support::Synced {
        lease: claim.lease,
        ..synced
    };
    let fetched = PassPosition::Fetched(Cursor("delta".to_owned()));
    synced
        .try_apply(&full, Vec::new(), AfterPage::Checkpoint(fetched.clone()))
        .await
        .unwrap();
    world.queue.release(&synced.lease).await.unwrap();
    let claim = world.claim().await.unwrap();
    assert_eq!(
        claim.connections[0].pass.as_ref().unwrap().position,
        fetched
    );
}

#[tokio::test]
async fn a_pass_that_ended_leaves_its_token_and_window() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    world.queue.release(&synced.lease).await.unwrap();
    assert!(world.claim().await.is_none());
    let claim = world
        .claim_at(world.worker, datetime!(2026-03-02 13:00 UTC))
        .await
        .unwrap();
    let due = &claim.connections[0];
    assert_eq!(due.synced, Some((Cursor("token".to_owned()), window())));
    assert!(due.pass.is_none());
    // A delta pass moves the token, not the window.
    let synced = crate::support::Synced {
        lease: claim.lease,
        ..synced
    };
    let mut delta = pass(PassKind::Delta);
    delta.window = SyncWindow {
        start: NOW,
        end: NOW,
    };
    let then = AfterPage::Finish(pass_end("second", Unseen::Keep));
    synced.try_apply(&delta, Vec::new(), then).await.unwrap();
    let state = "SELECT c.sync_token || ' ' || s.window_start || ' ' || c.last_synced_at || ' ' || s.last_full_sync_at
        FROM calendar_sync_states AS s JOIN calendar_connections AS c ON c.id = s.connection_id";
    let expected = "second 2026-01-01 00:00:00+00 2026-03-02 12:00:00+00 2026-03-02 12:00:00+00";
    assert_eq!(world.text(state).await.as_deref(), Some(expected));
}

#[tokio::test]
async fn a_full_pass_removes_what_it_did_not_see_in_its_window() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let everything = vec![
        single("kept", 3),
        single("gone", 4),
        single("outside", 200),
        change(master("m")),
        occurrence("o1", "m", 3),
        occurrence("o2", "m", 4),
    ];
    synced.full(everything).await;
    let mut full = pass(PassKind::Full);
    synced.page(&mut full, vec![single("kept", 3)]).await;
    synced
        .page(&mut full, vec![occurrence("o1", "m", 3), single("new", 5)])
        .await;
    let report = world.events.unseen(synced.id, &full).await.unwrap();
    assert_eq!(
        report,
        UnseenReport {
            live: 5,
            unseen: 2,
            masters: vec!["m".into()],
            singles: vec!["gone".into()]
        }
    );
    let end = pass_end("token", Unseen::Remove);
    let removed = world
        .events
        .finish(&synced.lease, synced.id, &full, end, NOW)
        .await
        .unwrap();
    assert_eq!(removed, 2);
    assert_eq!(
        world.texts(LIVE).await,
        ["kept", "m", "new", "o1", "outside"]
    );
    assert_eq!(world.number("SELECT count(*) FROM sync_pass_seen").await, 0);
}

#[tokio::test]
async fn a_delta_pass_removes_nothing_by_silence() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3), single("two", 4)]).await;
    synced.delta(vec![single("three", 5)]).await;
    assert_eq!(world.texts(LIVE).await, ["one", "three", "two"]);
}

#[tokio::test]
async fn a_removal_can_be_held_until_the_next_full_pass() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    let full = pass(PassKind::Full);
    synced
        .try_apply(
            &full,
            Vec::new(),
            AfterPage::Finish(pass_end("t", Unseen::Hold)),
        )
        .await
        .unwrap();
    assert_eq!(world.texts(LIVE).await, ["one"]);
    synced.delta(Vec::new()).await;
    let held = "SELECT count(*) FROM calendar_sync_states WHERE removal_held";
    assert_eq!(world.number(held).await, 1, "a delta pass confirms nothing");
    let reported = || async {
        let listed = world.connections.list(synced.user, None, 10).await.unwrap();
        listed.items[0].last_error.clone().map(|(code, _)| code)
    };
    assert_eq!(reported().await.as_deref(), Some("removal_held"));
    synced.full(Vec::new()).await;
    assert_eq!(world.number(held).await, 0);
    assert_eq!(reported().await, None);
    assert!(world.texts(LIVE).await.is_empty());
}

#[tokio::test]
async fn a_new_pass_forgets_what_a_broken_off_one_saw() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    let mut broken = pass(PassKind::Full);
    synced.page(&mut broken, vec![single("one", 3)]).await;
    assert_eq!(synced.full(Vec::new()).await.removed, 1);
    assert_eq!(world.number("SELECT count(*) FROM sync_pass_seen").await, 0);
}
