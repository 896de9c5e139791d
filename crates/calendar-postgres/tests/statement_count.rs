//! How many statements the paths that run all the time send. In a process of its own: the counter
//! is diesel's instrumentation, which is set for the whole process.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "stores/support.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use std::sync::Mutex;

use calendar_domain::ids::SubscriptionId;
use calendar_domain::ports::{EventReader as _, SubscriptionStore as _, SyncQueue as _};
use calendar_domain::query::{EventQuery, EventView};
use calendar_domain::subscription::{Notified, PushSignal};
use calendar_domain::sync::{AfterPage, PassKind, Unseen};
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

use support::{World, change, master, occurrence, pass, pass_end, single};

static SENT: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[expect(clippy::unnecessary_wraps, reason = "diesel's signature")]
fn recorder() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::StartQuery { query, .. } = event {
            SENT.lock().unwrap().push(query.to_string());
        }
    }))
}

/// What was sent since the last time, transactions' brackets apart.
fn sent() -> usize {
    let taken = std::mem::take(&mut *SENT.lock().unwrap());
    let brackets = ["BEGIN", "COMMIT", "ROLLBACK", "SET "];
    taken
        .iter()
        .filter(|sql| !brackets.iter().any(|bracket| sql.starts_with(bracket)))
        .count()
}

#[tokio::test]
async fn the_paths_that_always_run_send_few_statements() {
    set_default_instrumentation(recorder).unwrap();
    let world = World::new().await;
    let synced = world.synced_user().await;
    let page = || {
        vec![
            single("one", 3),
            change(master("m")),
            occurrence("o", "m", 3),
        ]
    };
    synced.full(page()).await;
    world.queue.release(&synced.lease).await.unwrap();

    sent();
    let later = support::NOW + time::Duration::hours(2);
    let claim = world.claim_at(world.worker, later).await.unwrap();
    let synced = support::Synced {
        lease: claim.lease,
        ..synced
    };
    let finish = || AfterPage::Finish(pass_end("token", Unseen::Keep));
    synced
        .try_apply(&pass(PassKind::Delta), Vec::new(), finish())
        .await
        .unwrap();
    world.queue.release(&claim.lease).await.unwrap();
    assert_eq!(sent(), 3, "a pass without a change");

    let mut push = Notified::new(SubscriptionId::new(), claim.account.id);
    push.add(PushSignal::Changed);
    let pushes = [push; 100];
    world.subscriptions.record(&pushes, later).await.unwrap();
    assert_eq!(sent(), 1, "pushes that came together");

    world
        .sql
        .batch_execute("UPDATE calendar_sync_states SET due_at = '2026-01-01Z'")
        .await
        .unwrap();
    let synced = support::Synced {
        lease: world.claim().await.unwrap().lease,
        ..synced
    };
    sent();
    synced
        .try_apply(&pass(PassKind::Delta), vec![single("one", 3)], finish())
        .await
        .unwrap();
    assert_eq!(sent(), 3, "an unchanged page: fence, look-up, state");

    let many: Vec<_> = (0..400)
        .map(|number| single(&format!("e{number}"), 4))
        .collect();
    synced
        .try_apply(
            &pass(PassKind::Full),
            many,
            AfterPage::Finish(pass_end("t", Unseen::Keep)),
        )
        .await
        .unwrap();
    assert_eq!(
        sent(),
        7,
        "a page of new events: also events, attendees, reminders, seen"
    );

    let query = EventQuery {
        user_id: synced.user,
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
        limit: 200,
        after: None,
    };
    assert_eq!(world.reader.list(query).await.unwrap().items.len(), 200);
    assert_eq!(sent(), 3, "a list: events, attendees, reminders");
}
