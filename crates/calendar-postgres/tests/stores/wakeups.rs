//! `PgWakeups`: who waits for work hears that there is some.

use std::time::Duration as StdDuration;

use calendar_domain::connection::ConnectionChange;
use calendar_domain::ports::{
    ConnectionStore as _, SubscriptionStore as _, SyncQueue as _, Wakeups as _,
};
use calendar_domain::subscription::{Notified, PushSignal};
use calendar_postgres::PgWakeups;
use time::Duration;
use tokio::time::timeout;

use crate::subscriptions::Pushed;
use crate::support::{NOW, new_connections};

async fn hears(wakeups: &PgWakeups) -> bool {
    timeout(StdDuration::from_secs(5), wakeups.woken())
        .await
        .is_ok()
}

async fn hears_nothing(wakeups: &PgWakeups) -> bool {
    timeout(StdDuration::from_millis(200), wakeups.woken())
        .await
        .is_err()
}

#[tokio::test]
async fn what_becomes_due_wakes() {
    let pushed = Pushed::new().await;
    let world = &pushed.world;
    let wakeups = PgWakeups::start(&world.pool);
    assert!(hears(&wakeups).await, "what came before it listened");
    assert!(hears_nothing(&wakeups).await);

    let mut push = Notified::new(pushed.id("one").await, pushed.lease.account_id);
    push.add(PushSignal::Changed);
    world.subscriptions.record(&[push], NOW).await.unwrap();
    assert!(hears(&wakeups).await, "a push");
    world
        .subscriptions
        .record(&[push], NOW + Duration::SECOND)
        .await
        .unwrap();
    assert!(hears_nothing(&wakeups).await, "it waits already");

    assert!(
        world
            .queue
            .request_sync(pushed.user, pushed.main, NOW)
            .await
            .unwrap()
    );
    assert!(hears(&wakeups).await, "a request");
    let change = |paused| ConnectionChange {
        paused,
        ..ConnectionChange::default()
    };
    world
        .connections
        .change(pushed.user, pushed.main, change(Some(true)), NOW)
        .await
        .unwrap();
    world
        .connections
        .change(pushed.user, pushed.main, change(None), NOW)
        .await
        .unwrap();
    assert!(hears_nothing(&wakeups).await, "a pause, a name");
    world
        .connections
        .change(pushed.user, pushed.main, change(Some(false)), NOW)
        .await
        .unwrap();
    assert!(hears(&wakeups).await, "going on");
    let new = new_connections(pushed.user, "ada", &["main", "new"]);
    world.connections.connect(new, NOW).await.unwrap();
    assert!(hears(&wakeups).await, "a calendar that was connected");

    let hour = StdDuration::from_hours(1);
    world
        .subscriptions
        .schedule_renewals(NOW, hour, hour)
        .await
        .unwrap();
    assert!(hears_nothing(&wakeups).await, "nothing expired");
    pushed
        .sql("UPDATE webhook_subscriptions SET expiration_datetime = '2026-03-02 12:00Z'")
        .await;
    world
        .subscriptions
        .schedule_renewals(NOW, hour, hour)
        .await
        .unwrap();
    assert!(hears(&wakeups).await, "a subscription that expired");
}

const LISTENERS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND query ILIKE 'LISTEN%'";

#[tokio::test]
async fn a_lost_connection_is_made_anew_and_wakes() {
    let pushed = Pushed::new().await;
    let wakeups = PgWakeups::start(&pushed.world.pool);
    assert!(hears(&wakeups).await);
    let kill = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
        WHERE datname = current_database() AND query ILIKE 'LISTEN%' AND pid <> pg_backend_pid()";
    assert_eq!(pushed.world.number(kill).await, 1);
    assert!(hears(&wakeups).await, "it may have missed one");
    pushed.sql("NOTIFY calendar_sync").await;
    assert!(hears(&wakeups).await);
}

#[tokio::test]
async fn listening_ends_when_it_is_dropped() {
    let pushed = Pushed::new().await;
    let wakeups = PgWakeups::start(&pushed.world.pool);
    assert!(hears(&wakeups).await);
    let listeners = async || {
        pushed
            .world
            .number(&format!("{LISTENERS} AND pid <> pg_backend_pid()"))
            .await
    };
    assert_eq!(listeners().await, 1);
    drop(wakeups);
    for _ in 0..50 {
        if listeners().await == 0 {
            return;
        }
        tokio::time::sleep(StdDuration::from_millis(100)).await;
    }
    panic!("it listens still");
}
