//! Subscriptions: how they are renewed, lost, doubted and made anew.

use std::time::Duration;

use calendar_e2e::{Binary, MAILBOX, Process, Pushed, World, eventually};
use calendar_simulator::{Fault, LifecycleEvent, PushFaults};

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn t34_a_provider_that_is_down_for_most_of_the_time_left_is_asked_until_it_renews() {
    // 50 of the last 60 minutes, but in seconds: 20 of the last 24.
    let mut pushed = Pushed::start(&[]).await;
    let old = pushed.subscription();
    pushed.world.stop_worker().await;
    pushed.expires_in(24).await;
    pushed.world.simulator.script_fault(Fault {
        method: Some("PATCH".to_owned()),
        path_contains: "/subscriptions/".to_owned(),
        status: 503,
        times: 0,
        ..Fault::default()
    });
    let began = tokio::time::Instant::now();
    pushed.world.start_worker();
    eventually("renewing is tried again and again", || async {
        pushed.asked("PATCH", "/subscriptions/") >= 3 && began.elapsed() > Duration::from_secs(20)
    })
    .await;
    pushed.world.simulator.clear_faults();
    eventually("it is renewed", || async {
        pushed.subscription().renewed_at.is_some()
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(24));
    assert_eq!(pushed.subscription().id, old.id, "the same subscription");
    eventually("it is healthy", || async {
        pushed.listed().await[0]["renewed_at"].is_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t34_a_subscription_that_the_provider_lost_is_made_anew_with_a_pass_to_catch_up() {
    let mut pushed = Pushed::start(&[]).await;
    let old = pushed.subscription();
    pushed.world.simulator.remove_subscription(&old.id).unwrap();
    pushed.create("Nobody was told");
    pushed.expires_in(16).await;
    pushed.world.stop_worker().await;
    pushed.world.start_worker();
    pushed.wait_for_another(&old.id).await;
    pushed.shows(&["Nobody was told"]).await;
    pushed.create("Pushed again");
    pushed.shows(&["Nobody was told", "Pushed again"]).await;
    let listed = pushed.listed().await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1]["state"], "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn t34_what_expired_while_everything_slept_is_made_anew_with_a_pass_to_catch_up() {
    let mut pushed = Pushed::start(&[]).await;
    let old = pushed.subscription();
    pushed.world.stop_worker().await;
    pushed.world.api.signal("KILL").await;
    pushed.world.api.end(LONG).await;
    pushed.world.simulator.expire_subscription(&old.id).unwrap();
    pushed.expires_in(-3600).await;
    pushed.create("While all slept");
    pushed.world.api = Process::start(Binary::Api, &[], &pushed.world.environment);
    pushed.world.start_worker();
    pushed.world.ready().await;
    pushed.shows(&["While all slept"]).await;
    pushed.wait_for_another(&old.id).await;
    pushed.wait_for_push("healthy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t34_a_dead_grant_asks_for_the_user_and_for_nothing_else() {
    let mut pushed = Pushed::start(&[]).await;
    pushed.world.stop_worker().await;
    let simulator = &pushed.world.simulator;
    simulator.revoke_refresh_tokens(MAILBOX).unwrap();
    simulator.revoke_access_tokens(MAILBOX).unwrap();
    simulator.clear_requests();
    pushed.expires_in(600).await;
    pushed.world.start_worker();
    let (user, connection) = (&pushed.user, &pushed.connection);
    let state = pushed
        .world
        .wait_for_status(user, connection, "needs_reauth");
    assert_eq!(state.await["last_error"]["code"], "grant_revoked");
    // However often it is looked for: one attempt to renew, one to refresh, and nobody tries again.
    let client = pushed.world.database.connect().await;
    let sql = "UPDATE calendar_accounts SET push_due_at = now()";
    client.execute(sql, &[]).await.unwrap();
    pushed.world.stop_worker().await;
    let mut worker = Process::start(Binary::Worker, &["--once"], &pushed.world.environment);
    assert!(worker.end(LONG).await.success());
    let requests = pushed.world.simulator.requests();
    assert!(requests.len() <= 2, "{requests:?}");
    assert_eq!(pushed.asked("POST", "/oauth2/v2.0/token"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn t35_lifecycle_events_are_heeded_once() {
    let pushed = Pushed::start(&[]).await;
    let simulator = &pushed.world.simulator;
    let old = pushed.subscription();

    // Missed: nothing was pushed, and yet it is found.
    simulator.set_pushes(PushFaults {
        drop_every: 1,
        ..PushFaults::default()
    });
    pushed.create("Missed");
    simulator
        .send_lifecycle(&old.id, LifecycleEvent::Missed)
        .unwrap();
    pushed.shows(&["Missed"]).await;
    simulator.set_pushes(PushFaults::default());

    // Asked to reauthorise, twice: renewed, once. Until then nothing is sent, and never later: what changed
    // meanwhile is found all the same.
    for _ in 0..2 {
        simulator
            .send_lifecycle(&old.id, LifecycleEvent::ReauthorizationRequired)
            .unwrap();
    }
    pushed.create("Meanwhile");
    pushed.shows(&["Meanwhile", "Missed"]).await;
    assert!(!pushed.subscription().awaits_reauthorization);
    pushed.create("Pushed");
    pushed.shows(&["Meanwhile", "Missed", "Pushed"]).await;
    assert_eq!(pushed.asked("PATCH", "/subscriptions/"), 1);
    assert_eq!(pushed.subscription().id, old.id);

    // Removed: made anew, and what nobody was told is caught up with.
    simulator.set_pushes(PushFaults {
        drop_every: 1,
        ..PushFaults::default()
    });
    pushed.create("Removed");
    simulator
        .send_lifecycle(&old.id, LifecycleEvent::SubscriptionRemoved)
        .unwrap();
    pushed.wait_for_another(&old.id).await;
    pushed
        .shows(&["Meanwhile", "Missed", "Pushed", "Removed"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t37_silent_pushes_are_noticed_by_polling_and_the_subscription_is_made_anew() {
    let pushed = Pushed::start(&[
        ("CALENDAR_POLL_PUSHED_SECONDS", "2"),
        ("CALENDAR_POLL_SECONDS", "2"),
    ])
    .await;
    let old = pushed.subscription();
    let client = pushed.world.database.connect().await;
    eventually("nothing is looked for any more", || async {
        let sql = "SELECT push_look IS NULL FROM calendar_sync_states";
        client.query_one(sql, &[]).await.unwrap().get(0)
    })
    .await;
    let simulator = &pushed.world.simulator;
    simulator.set_pushes(PushFaults {
        drop_every: 1,
        ..PushFaults::default()
    });
    pushed.create("Found by polling");
    pushed.shows(&["Found by polling"]).await;
    pushed.wait_for_push("stale").await;
    let stale = "calendar_connections_push{provider=\"microsoft\",state=\"stale\"}";
    eventually("it is counted", || async {
        pushed.world.metric(stale).await > 0.0
    })
    .await;
    pushed.wait_for_another(&old.id).await;
    // Made anew is not yet proven.
    assert_eq!(pushed.connection().await["push"]["state"], "stale");
    simulator.set_pushes(PushFaults::default());
    pushed.create("Pushed");
    pushed.wait_for_push("healthy").await;
    pushed.shows(&["Found by polling", "Pushed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t40_five_thousand_renewals_of_an_hour_are_spread() {
    const COUNT: i64 = 5_000;
    let mut world = World::start().await;
    world.stop_worker().await;
    world.subscribe_nobody(COUNT).await;
    let client = world.database.connect().await;
    let sql = "UPDATE webhook_subscriptions SET notification_url = $1, \
         expiration_datetime = now() + interval '50 minutes'";
    let url = format!("{}/webhooks/microsoft", world.base);
    client.execute(sql, &[&url]).await.unwrap();
    world.start_worker();
    let begun = "SELECT count(push_due_at) FROM calendar_accounts";
    // The first are claimed at once.
    eventually("nearly all are to be renewed", || async {
        let due = client.query_one(begun, &[]).await.unwrap();
        due.get::<_, i64>(0) > COUNT * 9 / 10
    })
    .await;
    let sql = "SELECT count(*), max(due.count)::bigint FROM (SELECT count(*) FROM calendar_accounts
        WHERE push_due_at IS NOT NULL GROUP BY date_trunc('minute', push_due_at)) AS due";
    let row = client.query_one(sql, &[]).await.unwrap();
    let (minutes, most): (i64, i64) = (row.get(0), row.get(1));
    // A quarter of an hour: half of the time from one look to the next.
    assert!((15..=17).contains(&minutes), "over {minutes} minutes");
    assert!(most < COUNT / 10, "{most} in one minute");
    let sql = "SELECT count(*) FROM webhook_subscriptions WHERE is_active";
    let active: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    assert!(
        active > COUNT * 9 / 10,
        "{active}: they are to be renewed, not to be made anew"
    );
}
