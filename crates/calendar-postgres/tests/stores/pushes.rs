//! What a push marks, and the renewals: `SubscriptionStore` outside any lease.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use calendar_domain::ids::{AccountId, SubscriptionId};
use calendar_domain::ports::SubscriptionStore as _;
use calendar_domain::subscription::{Notified, PushSignal, RenewalsScheduled};
use calendar_postgres::PgSubscriptionStore;
use time::{Duration, OffsetDateTime};
use tokio::time::timeout;

use crate::pushed_claims::due;
use crate::subscriptions::{EXPIRES_AT, Pushed};
use crate::support::{NOW, TTL, TestCipher, pool};

pub(crate) fn at(seconds: f64) -> OffsetDateTime {
    NOW + Duration::seconds_f64(seconds)
}

impl Pushed {
    pub(crate) async fn notified(&self, signals: &[PushSignal]) -> Notified {
        let mut notified = Notified::new(self.id("one").await, self.lease.account_id);
        for signal in signals {
            notified.add(*signal);
        }
        notified
    }

    pub(crate) async fn push_at(&self, signals: &[PushSignal], now: OffsetDateTime) {
        let notified = [self.notified(signals).await];
        let recorded = self.world.subscriptions.record(&notified, now);
        // It waits for nobody.
        timeout(StdDuration::from_secs(5), recorded)
            .await
            .unwrap()
            .unwrap();
    }

    /// What changes when a row of these tables is written.
    async fn tuples(&self) -> Vec<String> {
        self.world
            .texts(
                "SELECT 'a' || id || xmin || ctid FROM calendar_accounts
                UNION ALL SELECT 'w' || id || xmin || ctid FROM webhook_subscriptions
                UNION ALL SELECT 's' || connection_id || xmin || ctid FROM calendar_sync_states ORDER BY 1",
            )
            .await
    }
}

#[tokio::test]
async fn a_burst_of_pushes_writes_the_account_once() {
    let pushed = Pushed::new().await;
    pushed.push_at(&[PushSignal::Changed], at(1.0)).await;
    assert_eq!(pushed.account().await, "pushed 1 no due 0 - heard");
    let account = async || pushed.tuples().await.into_iter().next().unwrap();
    let written = account().await;
    for _ in 0..3 {
        pushed
            .push_at(&[PushSignal::Changed, PushSignal::Missed], at(2.0))
            .await;
    }
    assert_eq!(account().await, written);
    // What came before is no news.
    pushed.push_at(&[PushSignal::Changed], at(1.5)).await;
    let one = pushed.get("one").await;
    assert_eq!(
        (one.last_notification_at, one.updated_at),
        (Some(at(2.0)), NOW)
    );
    let all = pushed.tuples().await;
    pushed.push_at(&[PushSignal::Changed], at(2.0)).await;
    assert_eq!(pushed.tuples().await, all, "nothing new, no row");
}

#[tokio::test]
async fn each_signal_marks_what_it_means() {
    for (signals, account, is_active, seen) in [
        (
            &[PushSignal::Changed][..],
            "pushed 1 no due 0 - heard",
            true,
            true,
        ),
        (
            &[PushSignal::Missed],
            "pushed 1 no due 0 - heard",
            true,
            false,
        ),
        (
            &[PushSignal::ReauthorizationRequired],
            "no push due 1 0 - heard",
            true,
            false,
        ),
        (
            &[PushSignal::Removed],
            "pushed 1 due 1 0 - heard",
            false,
            false,
        ),
        (
            &[PushSignal::Removed, PushSignal::Changed],
            "pushed 1 due 1 0 - heard",
            false,
            true,
        ),
    ] {
        let pushed = Pushed::new().await;
        pushed.push_at(signals, at(1.0)).await;
        assert_eq!(pushed.account().await, account, "{signals:?}");
        assert_eq!(!pushed.active().await.is_empty(), is_active, "{signals:?}");
        let sql = "SELECT count(*) FROM webhook_subscriptions WHERE last_notification_at = '2026-03-02 12:00:01Z'";
        assert_eq!(pushed.world.number(sql).await == 1, seen, "{signals:?}");
        let sql =
            "SELECT count(*) FROM webhook_subscriptions WHERE updated_at = '2026-03-02 12:00:01Z'";
        assert_eq!(
            pushed.world.number(sql).await == 1,
            !is_active,
            "{signals:?}"
        );
    }
}

#[tokio::test]
async fn what_is_due_already_does_not_become_due_later() {
    let pushed = Pushed::new().await;
    pushed
        .sql("UPDATE calendar_accounts SET push_due_at = '2026-03-02 12:00Z'")
        .await;
    pushed
        .push_at(&[PushSignal::ReauthorizationRequired], at(9.0))
        .await;
    assert_eq!(pushed.account().await, "no push due 0 0 - heard");
    pushed
        .sql("UPDATE calendar_accounts SET push_due_at = '2026-03-03 12:00Z'")
        .await;
    pushed
        .push_at(&[PushSignal::ReauthorizationRequired], at(9.0))
        .await;
    assert_eq!(pushed.account().await, "no push due 9 0 - heard");
    // One that has ended is not renewed, nor ended again; a look does no harm.
    pushed.sql("UPDATE webhook_subscriptions SET is_active = false; UPDATE calendar_accounts SET push_due_at = NULL").await;
    pushed
        .push_at(&[PushSignal::ReauthorizationRequired], at(10.0))
        .await;
    assert_eq!(pushed.account().await, "no push no due 0 - heard");
    pushed.push_at(&[PushSignal::Removed], at(10.0)).await;
    assert_eq!(pushed.account().await, "pushed 10 no due 0 - heard");
    assert_eq!(
        pushed
            .world
            .number(
                "SELECT count(*) FROM webhook_subscriptions WHERE updated_at = '2026-03-02 12:00Z'"
            )
            .await,
        1
    );
    // Nor is an account that is gone looked at.
    pushed
        .sql("UPDATE calendar_accounts SET deleted_at = now(), pushed_at = NULL")
        .await;
    let mut notified = Notified::new(SubscriptionId::new(), pushed.lease.account_id);
    notified.add(PushSignal::Removed);
    pushed
        .world
        .subscriptions
        .record(&[notified], at(11.0))
        .await
        .unwrap();
    pushed
        .world
        .subscriptions
        .record(&[], at(11.0))
        .await
        .unwrap();
    assert_eq!(pushed.account().await, "no push no due 0 - heard");
}

#[tokio::test]
async fn a_renewal_that_is_asked_for_right_after_one_waits_a_little() {
    let pushed = Pushed::new().await;
    let asked = async |seconds| {
        pushed
            .push_at(&[PushSignal::ReauthorizationRequired], at(seconds))
            .await;
        pushed.account().await
    };
    // However new the subscription is.
    assert_eq!(asked(1.0).await, "no push due 1 0 - heard");
    let id = pushed.id("one").await;
    pushed
        .world
        .subscriptions
        .renewed(&pushed.lease, id, EXPIRES_AT, None, at(2.0))
        .await
        .unwrap();
    assert_eq!(pushed.account().await, "pushed 2 no due 0 - heard");
    assert_eq!(asked(3.0).await, "pushed 2 due 62 0 - heard");
    pushed.rest().await;
    assert_eq!(asked(100.0).await, "no push due 100 0 - heard");
}

#[tokio::test]
async fn recording_waits_for_no_pass() {
    let pushed = Pushed::new().await;
    // A page's transaction: as the fence locks.
    let mut page = pushed.world.database.connect().await;
    let open = page.transaction().await.unwrap();
    let locks = "SELECT 1 FROM calendar_accounts AS a JOIN calendar_connections AS c ON c.account_id = a.id
        JOIN calendar_sync_states AS s ON s.connection_id = c.id FOR KEY SHARE OF a FOR NO KEY UPDATE OF c, s";
    open.execute(locks, &[]).await.unwrap();
    pushed.push_at(&[PushSignal::Changed], at(1.0)).await;
    pushed.push_at(&[PushSignal::Removed], at(2.0)).await;
    assert_eq!(pushed.account().await, "pushed 1 due 2 0 - heard");
    let scheduled = pushed
        .world
        .subscriptions
        .schedule_renewals(at(3.0), TTL, TTL);
    timeout(StdDuration::from_secs(5), scheduled)
        .await
        .unwrap()
        .unwrap();
    open.rollback().await.unwrap();
}

/// Accounts with one subscription each; what to record for them.
async fn many(pushed: &Pushed, count: usize) -> Vec<Notified> {
    let sql = format!(
        "WITH account AS (
            INSERT INTO calendar_accounts (id, user_id, provider, provider_user_id)
            SELECT gen_random_uuid(), '{}', 'MICROSOFT', 'many' || n FROM generate_series(1, {count}) AS n
            RETURNING id
        ), connection AS (
            INSERT INTO calendar_connections (id, user_id, account_id, provider, calendar_id)
            SELECT gen_random_uuid(), '{}', id, 'MICROSOFT', 'of ' || id FROM account RETURNING id, account_id
        )
        INSERT INTO webhook_subscriptions (calendar_connection_id, account_id, provider, subscription_id, expiration_datetime)
        SELECT id, account_id, 'MICROSOFT', 'on ' || id, '2199-01-01Z' FROM connection
        RETURNING id, account_id",
        pushed.user, pushed.user
    );
    let rows = pushed.world.sql.query(&sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let mut notified = Notified::new(SubscriptionId(row.get(0)), AccountId(row.get(1)));
            notified.add(PushSignal::Changed);
            notified
        })
        .collect()
}

#[tokio::test]
async fn batches_in_any_order_do_not_lock_each_other_out() {
    let pushed = Pushed::new().await;
    let all = many(&pushed, 40).await;
    // Sessions of its own: one reports its deadlocks when it ends.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
    let before = pushed.world.number(sessions).await;
    let pool = pool(pushed.world.database.url());
    let store = PgSubscriptionStore::new(pool, Arc::new(TestCipher));
    let recorders = (0..4).map(|number| {
        let (store, mut batch) = (store.clone(), all.clone());
        tokio::spawn(async move {
            for round in 0..30_i64 {
                batch.rotate_left(7 + number);
                if round % 2 == 0 {
                    batch.reverse();
                }
                for one in &mut batch {
                    one.renew = round % 3 == 0;
                    one.look = round % 5 != 0;
                }
                let now = NOW + Duration::seconds(round);
                store.record(&batch, now).await.unwrap();
            }
        })
    });
    let renewals = {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                let lead = StdDuration::from_hours(200 * 366 * 24);
                store.schedule_renewals(NOW, lead, TTL).await.unwrap();
            }
        })
    };
    for task in recorders.collect::<Vec<_>>().into_iter().chain([renewals]) {
        task.await.unwrap();
    }
    drop(store);
    let ended = async {
        while pushed.world.number(sessions).await > before {
            tokio::time::sleep(StdDuration::from_millis(50)).await;
        }
    };
    timeout(StdDuration::from_secs(30), ended).await.unwrap();
    // Not even such as were tried again.
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(pushed.world.number(deadlocks).await, 0);
}

#[tokio::test]
async fn one_batch_may_hold_several_subscriptions_of_an_account() {
    let pushed = Pushed::new().await;
    let one = pushed.notified(&[PushSignal::Changed]).await;
    pushed.start("two", NOW).await.unwrap();
    pushed.rest().await;
    let mut two = Notified::new(pushed.id("two").await, pushed.lease.account_id);
    two.add(PushSignal::Removed);
    pushed
        .world
        .subscriptions
        .record(&[one, two, one, two], at(4.0))
        .await
        .unwrap();
    assert_eq!(pushed.account().await, "pushed 4 due 4 0 - heard");
    assert_eq!(pushed.active().await, Vec::<String>::new());
}

const HOUR: StdDuration = StdDuration::from_hours(1);
const SPREAD: StdDuration = StdDuration::from_mins(10);

#[tokio::test]
async fn renewals_are_spread_and_come_in_time() {
    let pushed = Pushed::new().await;
    let all = many(&pushed, 60).await;
    pushed.sql("UPDATE calendar_accounts SET push_due_at = NULL;
        UPDATE webhook_subscriptions SET expiration_datetime = '2026-03-02 12:50Z';
        UPDATE webhook_subscriptions SET expiration_datetime = '2026-03-02 12:02Z' WHERE id IN (
            SELECT id FROM webhook_subscriptions ORDER BY id LIMIT 20);
        UPDATE webhook_subscriptions SET expiration_datetime = '2026-03-02 13:00Z' WHERE subscription_id = 'one'").await;
    let schedule = async || {
        pushed
            .world
            .subscriptions
            .schedule_renewals(NOW, HOUR, SPREAD)
            .await
            .unwrap()
    };
    let scheduled = schedule().await;
    assert_eq!(
        scheduled,
        RenewalsScheduled {
            due: 60,
            expired: 0
        },
        "one ends after the lead"
    );
    let numbers = async |condition: &str| {
        let sql = format!("SELECT count(*) FROM webhook_subscriptions AS w JOIN calendar_accounts AS a ON a.id = w.account_id
            WHERE {condition}");
        pushed.world.number(&sql).await
    };
    assert_eq!(all.len(), 60);
    assert_eq!(
        numbers("a.push_due_at >= '2026-03-02 12:00Z' AND a.push_due_at < '2026-03-02 12:10Z'")
            .await,
        60
    );
    assert!(
        numbers("a.push_due_at > '2026-03-02 12:05Z'").await > 5,
        "spread"
    );
    assert!(
        numbers("a.push_due_at < '2026-03-02 12:05Z'").await > 5,
        "spread"
    );
    assert_eq!(
        numbers(
            "w.expiration_datetime = '2026-03-02 12:02Z' AND a.push_due_at > '2026-03-02 12:01Z'"
        )
        .await,
        0
    );
    assert_eq!(numbers("a.pushed_at IS NOT NULL").await, 0);
    // Another look leaves what is due in time, and what failed and waits.
    let before = pushed.tuples().await;
    pushed.sql("UPDATE calendar_accounts SET push_due_at = '2026-03-02 12:20Z', push_failure_count = 1 WHERE id = (
        SELECT account_id FROM webhook_subscriptions WHERE expiration_datetime = '2026-03-02 12:50Z' ORDER BY id LIMIT 1)").await;
    schedule().await;
    let after = pushed.tuples().await;
    assert_eq!(before.iter().filter(|row| !after.contains(row)).count(), 1);
    assert_eq!(numbers("a.push_due_at = '2026-03-02 12:20Z'").await, 1);
    // What is due too late is brought forward.
    pushed.sql("UPDATE calendar_accounts SET push_due_at = '2026-03-02 12:20Z', push_failure_count = 0 WHERE push_due_at IS NOT NULL").await;
    schedule().await;
    assert_eq!(numbers("a.push_due_at = '2026-03-02 12:20Z'").await, 0);
}

#[tokio::test]
async fn what_has_expired_ends_and_is_caught_up_with() {
    let pushed = Pushed::new().await;
    let later = NOW + Duration::hours(1);
    pushed
        .sql(
            "UPDATE webhook_subscriptions SET expiration_datetime = '2026-03-02 13:00Z';
        UPDATE calendar_accounts SET push_due_at = '2026-03-02 20:00Z', push_failure_count = 4",
        )
        .await;
    // One that no account of ours stands behind ends too.
    pushed.sql("INSERT INTO webhook_subscriptions (calendar_connection_id, provider, subscription_id, expiration_datetime)
        SELECT calendar_connection_id, provider, 'old', expiration_datetime FROM webhook_subscriptions").await;
    let scheduled = pushed
        .world
        .subscriptions
        .schedule_renewals(later, HOUR, SPREAD)
        .await
        .unwrap();
    assert_eq!(scheduled, RenewalsScheduled { due: 0, expired: 2 });
    assert_eq!(pushed.active().await, Vec::<String>::new());
    assert_eq!(pushed.account().await, "pushed 3600 due 3600 4 - heard");
    let again = pushed
        .world
        .subscriptions
        .schedule_renewals(later, HOUR, SPREAD)
        .await
        .unwrap();
    assert_eq!(again, RenewalsScheduled::default());
    pushed.release().await;
    let claim = pushed.claim_at(later).await.unwrap();
    assert!(claim.push.is_due && !claim.push.is_healthy);
    assert_eq!(due(&claim), [pushed.main, pushed.other]);
}
