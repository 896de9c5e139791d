//! Events that are set aside: when they come, what of us stays, and when they go.

use calendar_domain::event::EventChange;
use calendar_domain::failure::PortError;
use calendar_domain::ids::UserId;
use calendar_domain::ports::{
    ConnectionStore as _, EventReader as _, EventStore as _, SyncQueue as _, UserStore as _,
};
use calendar_domain::rejected::{RejectedEvent, StoredRejectedEvent};
use calendar_domain::sync::{AfterPage, PassKind, Unseen};
use serde_json::json;
use time::Duration;

use crate::support::{
    NOW, Synced, World, change, code, master, occurrence, pass, pass_end, removed, single,
};

fn rejected(id: &str) -> EventChange {
    let raw = format!(r#"{{"id":"{id}","subject":"a\u0000b"}}"#);
    EventChange::Rejected(RejectedEvent::new(Some(id.into()), "end_missing", &raw))
}

async fn listed(synced: &Synced<'_>) -> Vec<StoredRejectedEvent> {
    let reader = &synced.world.reader;
    let listed = reader.rejected(synced.user, synced.id, None, 100);
    listed.await.unwrap().items
}

/// `provider's-id reason attempts` of all.
async fn all(synced: &Synced<'_>) -> Vec<String> {
    let line =
        |it: StoredRejectedEvent| format!("{} {} {}", it.provider_event_id, it.reason, it.attempts);
    listed(synced).await.into_iter().map(line).collect()
}

async fn counted(synced: &Synced<'_>) -> u64 {
    let connections = &synced.world.connections;
    let connection = connections.get(synced.user, synced.id).await.unwrap();
    connection.unwrap().events_skipped
}

#[tokio::test]
async fn one_of_a_thousand_is_set_aside_and_the_others_are_stored() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut page: Vec<EventChange> = (0..999)
        .map(|number| single(&format!("e{number}"), 3))
        .collect();
    page.insert(500, rejected("bad"));
    let applied = synced.full(page).await;
    assert_eq!((applied.inserted, applied.skipped), (999, 1));
    let [bad] = &listed(&synced).await[..] else {
        panic!("one is bad")
    };
    assert_eq!(bad.raw, Some(json!({"id": "bad", "subject": "a\u{fffd}b"})));
    assert_eq!(
        (
            bad.connection_id,
            bad.provider_event_id.as_str(),
            bad.reason.as_str(),
            bad.attempts
        ),
        (synced.id, "bad", "end_missing", 1)
    );
    assert_eq!((bad.first_seen_at, bad.last_seen_at), (NOW, NOW));
    assert_eq!(counted(&synced).await, 1);
}

#[tokio::test]
async fn it_goes_when_it_can_be_stored_or_is_gone_or_a_full_pass_does_not_see_it() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(["a", "b", "c", "d"].map(rejected).to_vec())
        .await;
    synced.delta(vec![single("a", 3), removed("b")]).await;
    assert_eq!(all(&synced).await, ["c end_missing 1", "d end_missing 1"]);
    // A delta pass says nothing of what it does not mention.
    synced.delta(vec![single("x", 3)]).await;
    assert_eq!(counted(&synced).await, 2);

    // Nor does a full pass that is suspected of having seen too little, nor one that has not ended.
    let held = AfterPage::Finish(pass_end("token", Unseen::Hold));
    synced
        .try_apply(&pass(PassKind::Full), vec![rejected("c")], held)
        .await
        .unwrap();
    assert_eq!(all(&synced).await, ["c end_missing 2", "d end_missing 1"]);
    let mut full = pass(PassKind::Full);
    synced
        .page(&mut full, vec![rejected("c"), rejected("e")])
        .await;
    synced.page(&mut full, vec![rejected("c")]).await;
    let before = ["c end_missing 3", "d end_missing 1", "e end_missing 1"];
    assert_eq!(all(&synced).await, before, "once for each pass");
    let end = pass_end("token", Unseen::Remove);
    world
        .events
        .finish(&synced.lease, synced.id, &full, end, NOW)
        .await
        .unwrap();
    assert_eq!(all(&synced).await, ["c end_missing 3", "e end_missing 1"]);
}

#[tokio::test]
async fn an_earlier_form_of_it_stays_as_it_is() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let series = || {
        vec![
            change(master("m")),
            occurrence("o", "m", 3),
            single("one", 4),
        ]
    };
    synced.full(series()).await;
    let before = synced.tuples().await;
    let bad = ["m", "o", "one"].map(rejected).to_vec();
    synced.full(bad.clone()).await;
    synced.delta(bad).await;
    assert_eq!(synced.tuples().await, before, "neither written nor swept");
    assert_eq!(counted(&synced).await, 3);
    let applied = synced.full(series()).await;
    assert_eq!((applied.unchanged, counted(&synced).await), (3, 0));
    assert_eq!(synced.tuples().await, before);
}

#[tokio::test]
async fn it_is_written_with_its_page_or_not_at_all() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let lease = synced.lease;
    let stale = Synced {
        lease: calendar_domain::sync::Lease {
            fence: lease.fence - 1,
            ..lease
        },
        ..synced
    };
    let then = || AfterPage::Finish(pass_end("token", Unseen::Keep));
    let refused = stale
        .try_apply(&pass(PassKind::Delta), vec![rejected("a")], then())
        .await;
    assert_eq!(code(refused), PortError::LEASE_LOST);
    assert_eq!(counted(&synced).await, 0);
    // The page fails after it: a row that cannot be stored.
    world
        .sql
        .batch_execute("ALTER TABLE calendar_events ADD CHECK (title <> 'Event no')")
        .await
        .unwrap();
    let failed = synced
        .try_apply(
            &pass(PassKind::Delta),
            vec![rejected("a"), single("no", 3)],
            then(),
        )
        .await;
    assert!(failed.is_err());
    assert_eq!(counted(&synced).await, 0);
    synced.delta(vec![rejected("a")]).await;
    let failed = synced
        .try_apply(
            &pass(PassKind::Delta),
            vec![single("a", 3), single("no", 3)],
            then(),
        )
        .await;
    assert!(failed.is_err());
    assert_eq!(counted(&synced).await, 1, "nor does it go without its page");
}

/// Claims it again when it is due.
async fn claim_again(synced: &Synced<'_>) -> bool {
    let world = synced.world;
    world.queue.release(&synced.lease).await.unwrap();
    let due = "UPDATE calendar_sync_states SET due_at = '2026-03-02T12:00Z'";
    world.sql.batch_execute(due).await.unwrap();
    let claim = world.claim().await.unwrap();
    claim.connections[0].has_rejected_due
}

#[tokio::test]
async fn a_master_that_was_not_there_is_asked_for_some_times() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let stubs = ["o1", "o2"].map(|id| occurrence(id, "m", 3));
    let applied = synced.full(stubs.to_vec()).await;
    assert_eq!((applied.inserted, applied.skipped), (0, 2));
    assert_eq!(
        all(&synced).await,
        ["m series_master_not_found 1"],
        "one for the series"
    );
    let due = || async { world.events.rejected_due(synced.id, 10).await.unwrap() };
    for attempt in 1..RejectedEvent::MASTER_TRIES {
        let [rejected] = &due().await[..] else {
            panic!("{attempt}")
        };
        assert_eq!(*rejected, RejectedEvent::master_not_found("m".into()));
        synced
            .delta(vec![EventChange::Rejected(rejected.clone())])
            .await;
    }
    assert_eq!(
        (due().await, all(&synced).await),
        (vec![], vec!["m series_master_not_found 5".to_owned()])
    );
    assert!(!claim_again(&synced).await);

    // It comes itself, and is bad: that is the reason then, whatever its occurrences say.
    let synced = Synced {
        lease: lease(&world).await,
        ..synced
    };
    synced.delta(vec![rejected("m")]).await;
    synced.delta(vec![occurrence("o1", "m", 3)]).await;
    assert_eq!(all(&synced).await, ["m end_missing 7"]);
    assert!(listed(&synced).await[0].raw.is_some());
    synced
        .delta(vec![change(master("m")), occurrence("o1", "m", 3)])
        .await;
    assert_eq!(counted(&synced).await, 0);
}

/// The lease of the claim that a test let go of.
async fn lease(world: &World) -> calendar_domain::sync::Lease {
    world
        .sql
        .batch_execute(
            "UPDATE calendar_accounts SET lease_expires_at = NULL;
        UPDATE calendar_sync_states SET due_at = '2026-03-02T12:00Z'",
        )
        .await
        .unwrap();
    world.claim().await.unwrap().lease
}

#[tokio::test]
async fn another_mapping_tries_what_the_last_one_refused() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let nameless = EventChange::Rejected(RejectedEvent::new(None, "id_missing", "5"));
    synced
        .full(vec![rejected("a"), rejected("b"), nameless])
        .await;
    assert!(!claim_again(&synced).await);
    let synced = Synced {
        lease: lease(&world).await,
        ..synced
    };
    assert_eq!(world.events.rejected_due(synced.id, 10).await.unwrap(), []);
    world
        .sql
        .batch_execute("UPDATE calendar_rejected_events SET mapper_version = 0")
        .await
        .unwrap();
    assert!(claim_again(&synced).await);
    let synced = Synced {
        lease: lease(&world).await,
        ..synced
    };
    let due = world.events.rejected_due(synced.id, 10).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"], "what has an id");
    assert_eq!(
        (due[0].reason.as_str(), &due[0].raw),
        ("end_missing", &None)
    );
    assert_eq!(
        world.events.rejected_due(synced.id, 1).await.unwrap().len(),
        1
    );
    // One is refused again, one is not there any more, and neither is asked for twice.
    synced
        .delta(vec![rejected("a"), EventChange::Rejected(due[1].clone())])
        .await;
    assert_eq!(world.events.rejected_due(synced.id, 10).await.unwrap(), []);
    let kept = listed(&synced).await;
    assert!(kept.iter().all(|it| it.raw.is_some()), "{kept:?}");
}

#[tokio::test]
async fn only_its_user_sees_it_page_by_page_and_it_ends_with_its_connection() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(
            (0..5)
                .map(|number| rejected(&format!("r{number}")))
                .collect(),
        )
        .await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = world
            .reader
            .rejected(synced.user, synced.id, after, 2)
            .await
            .unwrap();
        found.extend(page.items.into_iter().map(|it| it.provider_event_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, ["r0", "r1", "r2", "r3", "r4"]);
    let eve = world.reader.rejected(UserId::new(), synced.id, None, 10);
    assert_eq!(eve.await.unwrap().items, []);

    let rows = || world.number("SELECT count(*) FROM calendar_rejected_events");
    world
        .connections
        .disconnect(synced.user, synced.id, NOW)
        .await
        .unwrap();
    assert_eq!((rows().await, all(&synced).await.len()), (0, 0));
    world.connect(synced.user, "ada", &["main"]).await;
    let synced = Synced {
        lease: world
            .claim_at(world.worker, NOW + Duration::HOUR)
            .await
            .unwrap()
            .lease,
        ..synced
    };
    synced.full(vec![rejected("r")]).await;
    assert_eq!(rows().await, 1);
    world.users.delete(synced.user, NOW).await.unwrap();
    assert_eq!(rows().await, 0);
}
