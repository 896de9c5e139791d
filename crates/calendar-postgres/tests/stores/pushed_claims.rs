//! What a push does to the queue: who is claimed for it, and with what.

use std::time::Duration as StdDuration;

use calendar_domain::ids::{ConnectionId, WorkerId};
use calendar_domain::ports::{ConnectionStore as _, SubscriptionStore as _, SyncQueue as _};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::{Notified, PushLook, PushSignal};
use calendar_domain::sync::{AfterPage, Claim, PassEnd, PassFailure, PassKind, Unseen};
use calendar_postgres::PgSyncQueue;
use time::Duration;
use tokio_postgres::Client;

use crate::pushes::at;
use crate::subscriptions::{Pushed, new_subscription, with_shared};
use crate::support::{NOW, Synced, TTL, pass, pass_end};

/// The due connections.
pub(crate) fn due(claim: &Claim) -> Vec<ConnectionId> {
    let mut ids: Vec<_> = claim.connections.iter().map(|due| due.id).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn a_push_makes_own_calendars_due_and_looks_first() {
    let pushed = Pushed::new().await;
    pushed.release().await;
    assert!(pushed.claim_at(at(1.0)).await.is_none());
    pushed.push_at(&[PushSignal::Changed], at(1.0)).await;
    assert!(pushed.claim_at(at(0.9)).await.is_none());
    let claim = pushed.claim_at(at(1.0)).await.unwrap();
    assert_eq!(due(&claim), [pushed.main, pushed.other]);
    for connection in &claim.connections {
        assert_eq!(connection.push_look, Some(PushLook::First));
        assert!(!connection.is_shared);
    }
    assert!(claim.push.is_healthy && !claim.push.is_due);
    assert_eq!(claim.lease.fence, pushed.lease.fence + 1);
    assert_eq!(pushed.account().await, "no push no due 0 - heard");
    let sql = "SELECT count(*) FROM calendar_sync_states WHERE push_look = 1 AND due_at = '2026-03-02 12:00:01Z'";
    assert_eq!(
        pushed.world.number(sql).await,
        2,
        "stored, not only answered"
    );
    // A push of the time of the pass is taken by the next claim.
    pushed.push_at(&[PushSignal::Changed], at(1.2)).await;
    assert_eq!(pushed.account().await, "pushed 1.2 no due 0 - heard");
    assert!(pushed.claim_at(at(2.0)).await.is_none(), "it is leased");
    pushed.world.queue.release(&claim.lease).await.unwrap();
    assert!(pushed.claim_at(at(1.2)).await.is_some());
}

#[tokio::test]
async fn the_more_pushes_come_the_longer_passes_are_apart_until_it_is_quiet() {
    let pushed = Pushed::new().await;
    pushed.release().await;
    // Each push comes just after the one before was taken.
    let mut now = 1.0;
    for apart in [0.05, 0.2, 0.8, 2.0, 2.0] {
        pushed.push_at(&[PushSignal::Changed], at(now)).await;
        let claim = pushed.claim_at(at(now)).await.unwrap();
        pushed.world.queue.release(&claim.lease).await.unwrap();
        pushed.rest_states().await;
        pushed.push_at(&[PushSignal::Changed], at(now + 0.01)).await;
        assert!(
            pushed.claim_at(at(now + apart - 0.02)).await.is_none(),
            "{apart}"
        );
        now += apart + 0.01;
    }
    // Five quiet seconds later a push is answered at once again, and the next one soon.
    now += 5.1;
    let claim = pushed.claim_at(at(now)).await.unwrap();
    pushed.world.queue.release(&claim.lease).await.unwrap();
    pushed.rest_states().await;
    pushed.push_at(&[PushSignal::Changed], at(now + 0.01)).await;
    assert!(pushed.claim_at(at(now + 0.04)).await.is_none());
    assert!(pushed.claim_at(at(now + 0.05)).await.is_some());
}

impl Pushed {
    async fn rest_states(&self) {
        self.sql("UPDATE calendar_sync_states SET due_at = '2100-01-01Z'")
            .await;
    }
}

#[tokio::test]
async fn a_push_heeds_back_off_pause_and_what_it_does_not_cover() {
    let pushed = Pushed::new().await;
    pushed.release().await;
    pushed.push_at(&[PushSignal::Changed], at(1.0)).await;
    let sql = format!(
        "UPDATE calendar_sync_states SET failure_count = 1, due_at = '2026-03-02 12:10Z' WHERE connection_id = '{}';
        UPDATE calendar_sync_states SET is_paused = true WHERE connection_id = '{}';
        UPDATE calendar_sync_states SET due_at = '2026-03-02 11:00Z' WHERE connection_id = '{}'",
        pushed.main, pushed.other, pushed.shared
    );
    pushed.sql(&sql).await;
    let claim = pushed.claim_at(at(1.0)).await.unwrap();
    assert_eq!(due(&claim), [pushed.shared], "due by itself");
    assert_eq!(claim.connections[0].push_look, None);
    assert!(claim.connections[0].is_shared);
    pushed.world.queue.release(&claim.lease).await.unwrap();
    pushed
        .sql("UPDATE calendar_sync_states SET due_at = '2100-01-01Z' WHERE failure_count = 0")
        .await;
    // What waited is a look all the same, when its time has come.
    let claim = pushed.claim_at(at(600.0)).await.unwrap();
    assert_eq!(due(&claim), [pushed.main]);
    assert_eq!(claim.connections[0].push_look, Some(PushLook::First));
}

#[tokio::test]
async fn an_account_without_a_due_connection_is_claimed_for_its_push() {
    let pushed = Pushed::new().await;
    pushed.release().await;
    pushed
        .sql("UPDATE calendar_accounts SET push_due_at = '2026-03-02 12:00Z'")
        .await;
    assert!(
        pushed
            .world
            .claim_at(pushed.world.worker, at(1.0))
            .await
            .is_none(),
        "nobody pushes"
    );
    assert!(pushed.claim_at(at(-0.1)).await.is_none());
    let claim = pushed.claim_at(at(0.0)).await.unwrap();
    assert!(claim.connections.is_empty() && claim.push.is_due && claim.push.is_healthy);
    assert_eq!(claim.account.identity.provider_user_id, "ada");
    pushed.world.queue.release(&claim.lease).await.unwrap();
    // A push to an account whose calendars are all another's asks for nothing, and is taken.
    pushed
        .world
        .subscriptions
        .settle(&pushed.claim_at(at(0.0)).await.unwrap().lease)
        .await
        .unwrap();
    pushed.release().await;
    pushed.sql("UPDATE calendar_connections SET is_shared = true; UPDATE calendar_accounts SET pushed_at = '2026-03-02 12:00Z'").await;
    let claim = pushed.claim_at(at(1.0)).await.unwrap();
    assert!(claim.connections.is_empty());
    pushed.release().await;
    assert!(pushed.claim_at(at(1.0)).await.is_none());
}

#[tokio::test]
async fn who_must_sign_in_is_not_claimed_for_a_push() {
    let pushed = Pushed::new().await;
    pushed.release().await;
    pushed.sql("UPDATE calendar_accounts SET pushed_at = '2026-03-02 12:00Z', push_due_at = '2026-03-02 12:00Z'").await;
    for (obstacle, cure) in [
        ("needs_reauth_reason = 'x'", "needs_reauth_reason = NULL"),
        ("deleted_at = now()", "deleted_at = NULL"),
        (
            "lease_owner = gen_random_uuid(), lease_expires_at = now() + interval '1 s'",
            "lease_owner = NULL, lease_expires_at = NULL",
        ),
        ("provider = 'GOOGLE'", "provider = 'MICROSOFT'"),
    ] {
        pushed
            .sql(&format!("UPDATE calendar_accounts SET {obstacle}"))
            .await;
        assert!(pushed.claim_at(at(1.0)).await.is_none(), "{obstacle}");
        pushed
            .sql(&format!("UPDATE calendar_accounts SET {cure}"))
            .await;
    }
    assert!(pushed.claim_at(at(1.0)).await.is_some());
}

#[tokio::test]
async fn health_is_a_living_subscription_that_is_not_silent() {
    let pushed = Pushed::new().await;
    let health = async || {
        pushed.release().await;
        pushed
            .sql("UPDATE calendar_accounts SET push_due_at = '2026-03-02 12:00Z'")
            .await;
        pushed.claim_at(at(60.0)).await.unwrap().push.is_healthy
    };
    assert!(health().await);
    // A worker that no push reaches relies on none.
    pushed.release().await;
    let overdue = "UPDATE calendar_sync_states SET due_at = '2026-03-02 12:00Z'";
    pushed.sql(overdue).await;
    let claim = pushed.world.claim_at(pushed.world.worker, at(60.0)).await;
    assert!(!claim.unwrap().push.is_healthy);
    pushed.rest_states().await;
    pushed
        .sql("UPDATE calendar_accounts SET push_silent_since = '2026-03-02 12:00:10Z'")
        .await;
    assert!(!health().await);
    pushed
        .sql("UPDATE webhook_subscriptions SET last_notification_at = '2026-03-02 12:00:09Z'")
        .await;
    assert!(!health().await);
    pushed
        .sql("UPDATE webhook_subscriptions SET last_notification_at = '2026-03-02 12:00:11Z'")
        .await;
    assert!(health().await);
    pushed
        .sql("UPDATE webhook_subscriptions SET expiration_datetime = '2026-03-02 12:01Z'")
        .await;
    assert!(!health().await);
    pushed.sql("UPDATE webhook_subscriptions SET expiration_datetime = '2199-01-01Z', is_active = false").await;
    assert!(!health().await);
}

#[tokio::test]
async fn a_removal_while_push_is_settled_is_not_lost() {
    let pushed = Pushed::new().await;
    // Between the look at what there is to do and settling it.
    pushed.push_at(&[PushSignal::Removed], at(1.0)).await;
    pushed
        .world
        .subscriptions
        .settle(&pushed.lease)
        .await
        .unwrap();
    pushed.release().await;
    let claim = pushed.claim_at(at(2.0)).await.unwrap();
    assert!(claim.push.is_due, "a push without a subscription");
    // A retry that has its time keeps it.
    let retry = at(3600.0);
    let store = &pushed.world.subscriptions;
    store.failed(&claim.lease, "x", retry).await.unwrap();
    pushed.world.queue.release(&claim.lease).await.unwrap();
    pushed.push_at(&[PushSignal::Changed], at(3.0)).await;
    let claim = pushed.claim_at(at(3.0)).await.unwrap();
    assert!(!claim.push.is_due && !claim.connections.is_empty());
}

#[tokio::test]
async fn pushes_go_first_but_starve_nobody() {
    let pushed = Pushed::new().await;
    pushed.release().await;
    let other = pushed.world.user("bob@example.com").await;
    pushed.world.connect(other, "bob", &["b"]).await;
    pushed
        .sql("UPDATE calendar_accounts SET push_due_at = NULL")
        .await;
    let first = async |overdue_s: i64| {
        let sql = format!(
            "UPDATE calendar_accounts SET lease_owner = NULL, lease_expires_at = NULL;
            UPDATE calendar_accounts SET pushed_at = '2026-03-02 12:00Z' WHERE provider_user_id = 'ada';
            UPDATE calendar_sync_states SET due_at = '2100-01-01Z';
            UPDATE calendar_sync_states AS s SET due_at = timestamptz '2026-03-02 12:00Z' - {overdue_s} * interval '1 s'
            FROM calendar_connections AS c WHERE c.id = s.connection_id AND c.calendar_id = 'b'"
        );
        pushed.sql(&sql).await;
        let mut order = Vec::new();
        while let Some(claim) = pushed.claim_at(NOW).await {
            order.push(claim.account.identity.provider_user_id);
        }
        order.join(" ")
    };
    assert_eq!(first(299).await, "ada bob");
    assert_eq!(first(301).await, "bob ada");
}

#[tokio::test]
async fn what_is_locked_hides_nothing_else_that_is_due() {
    let pushed = Pushed::new().await;
    let bob = pushed.world.user("bob@example.com").await;
    let many: Vec<String> = (0..30).map(|number| format!("m{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    pushed.world.connect(bob, "many", &many).await;
    pushed.world.connect(bob, "late", &["late"]).await;
    pushed.sql("UPDATE calendar_sync_states AS s SET due_at = '2026-03-02 11:59Z' FROM calendar_connections AS c
        WHERE c.id = s.connection_id AND c.calendar_id = 'late'").await;
    pushed.sql("UPDATE calendar_accounts SET push_due_at = NULL; UPDATE calendar_accounts SET pushed_at = '2026-03-02 12:00Z'
        WHERE provider_user_id = 'many'").await;
    pushed.release().await;
    // Another's claim of the account whose push and whose thirty calendars come first.
    let mut rival = pushed.world.database.connect().await;
    let lock = rival.transaction().await.unwrap();
    lock.execute(
        "SELECT 1 FROM calendar_accounts WHERE provider_user_id = 'many' FOR UPDATE",
        &[],
    )
    .await
    .unwrap();
    let claim = pushed.claim_at(NOW).await.unwrap();
    assert_eq!(claim.account.identity.provider_user_id, "late");
    assert!(pushed.claim_at(NOW).await.is_none());
    lock.rollback().await.unwrap();
    assert_eq!(pushed.claim_at(NOW).await.unwrap().connections.len(), 30);
}

#[tokio::test]
async fn a_look_is_kept_with_the_pass_it_is_for() {
    let pushed = Pushed::new().await;
    let synced = Synced {
        world: &pushed.world,
        user: pushed.user,
        id: pushed.main,
        lease: pushed.lease,
    };
    let look = async || {
        let sql = "SELECT coalesce(push_look, 0)::bigint FROM calendar_sync_states AS s JOIN calendar_connections AS c
            ON c.id = s.connection_id WHERE c.calendar_id = 'main'";
        pushed.world.number(sql).await
    };
    for (push_look, number) in [
        (Some(PushLook::First), 1),
        (Some(PushLook::Second), 2),
        (Some(PushLook::Third), 3),
        (None, 0),
        (Some(PushLook::Second), 2),
    ] {
        let end = PassEnd {
            push_look,
            ..pass_end("token", Unseen::Keep)
        };
        synced
            .try_apply(&pass(PassKind::Delta), Vec::new(), AfterPage::Finish(end))
            .await
            .unwrap();
        assert_eq!(look().await, number);
    }
    let failure = PassFailure {
        code: "x".to_owned(),
        retry_at: NOW,
        whole_mailbox: false,
    };
    pushed
        .world
        .queue
        .fail(&pushed.lease, pushed.main, failure, NOW)
        .await
        .unwrap();
    pushed.release().await;
    let claim = pushed.claim_at(NOW).await.unwrap();
    assert_eq!(
        claim.connections[0].push_look,
        Some(PushLook::Second),
        "a failed look is still to be taken"
    );
}

/// Claims as a worker does: what is due rests afterwards, the lease goes back. Ends when nothing is due for
/// a while.
async fn work(queue: PgSyncQueue, sql: Client) {
    let (mut idle, mut now) = (0, NOW + Duration::minutes(1));
    while idle < 20 {
        now += Duration::SECOND;
        assert!(now < NOW + Duration::hours(1), "it never ends");
        let microsoft = [CalendarProvider::Microsoft];
        let claim = queue
            .claim(WorkerId::new(), &microsoft, &[], now, TTL)
            .await
            .unwrap();
        let Some(claim) = claim else {
            idle += 1;
            tokio::time::sleep(StdDuration::from_millis(5)).await;
            continue;
        };
        idle = 0;
        for due in &claim.connections {
            let rest = format!(
                "UPDATE calendar_sync_states SET due_at = '2100-01-01Z', push_look = NULL,
                    pass_pages = pass_pages + 1 WHERE connection_id = '{}'",
                due.id
            );
            sql.batch_execute(&rest).await.unwrap();
        }
        queue.release(&claim.lease).await.unwrap();
    }
}

/// Six more accounts with a calendar of their own and another's, all subscribed; what to record for them.
async fn crowd(pushed: &Pushed) -> Vec<Notified> {
    let bob = pushed.world.user("bob@example.com").await;
    for number in 0..6 {
        let calendars = [format!("c{number}"), format!("theirs{number}")];
        let calendars = [calendars[0].as_str(), &calendars[1]];
        let new = with_shared(bob, &format!("who{number}"), &calendars);
        pushed.world.connections.connect(new, NOW).await.unwrap();
    }
    let mut notified = vec![pushed.notified(&[PushSignal::Changed]).await];
    while let Some(claim) = pushed.world.claim().await {
        let own = claim.connections.iter().find(|due| !due.is_shared).unwrap();
        let name = format!("on {}", own.id);
        let new = new_subscription(own.id, &name);
        pushed
            .world
            .subscriptions
            .start(&claim.lease, new, NOW)
            .await
            .unwrap();
        let mut one = Notified::new(pushed.id(&name).await, claim.lease.account_id);
        one.add(PushSignal::Changed);
        notified.push(one);
    }
    notified
}

#[tokio::test]
async fn claimers_and_pushes_at_once_lose_no_push() {
    let pushed = Pushed::new().await;
    let notified = crowd(&pushed).await;
    assert_eq!(notified.len(), 7);
    pushed.release().await;
    pushed.rest().await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        let (queue, sql) = (
            pushed.world.queue.clone(),
            pushed.world.database.connect().await,
        );
        workers.push(tokio::spawn(work(queue, sql)));
    }
    for round in 0..40_i64 {
        let now = NOW + Duration::seconds(round);
        pushed
            .world
            .subscriptions
            .record(&notified, now)
            .await
            .unwrap();
    }
    for worker in workers {
        worker.await.unwrap();
    }
    // Every account was looked at after its last push, and nothing is left.
    let number = async |sql: &str| pushed.world.number(sql).await;
    let waiting = "SELECT count(*) FROM calendar_accounts WHERE pushed_at IS NOT NULL";
    assert_eq!(number(waiting).await, 0);
    let left = "SELECT count(*) FROM calendar_sync_states WHERE due_at < '2100-01-01Z'";
    assert_eq!(number(left).await, 0);
    let looked_at = "SELECT count(*) FROM calendar_sync_states AS s
        JOIN calendar_connections AS c ON c.id = s.connection_id
        WHERE c.is_shared <> (s.pass_pages > 0)";
    assert_eq!(number(looked_at).await, 8 + 7, "own ones, and no other");
}
