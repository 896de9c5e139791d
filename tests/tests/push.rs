//! Pushes: from an edit at the provider to the API, through everything that happens to subscriptions.
//! Polling is rare in these worlds, so that what arrives was pushed, or caught up with.
//! Long because each fault of a push has a scenario of its own, all over the same helpers.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::time::Duration;

use calendar_e2e::{Binary, Process, User, World, eventually};
use calendar_simulator::jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use calendar_simulator::{LifecycleEvent, Options, PushFaults, PushKind, SubscriptionInfo};
use reqwest::Method;
use serde_json::{Value, json};

const MAILBOX: &str = "ann@contoso.example";
const LONG: Duration = Duration::from_secs(30);

/// Nothing is polled while a test runs.
const RARELY: [(&str, &str); 2] = [
    ("CALENDAR_POLL_SECONDS", "3600"),
    ("CALENDAR_POLL_PUSHED_SECONDS", "3600"),
];

/// A world whose worker polls rarely, with one calendar connected and its subscription made.
struct Pushed {
    world: World,
    user: User,
    connection: String,
}

impl Pushed {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let variables: Vec<_> = RARELY.iter().chain(variables).copied().collect();
        let world = World::start_with(Options::default(), &variables).await;
        world
            .simulator
            .create_mailbox(MAILBOX, "Ann Example", "W. Europe Standard Time")
            .unwrap();
        let user = world.user("ann@example.com").await;
        let connection = world.connect_primary(&user, MAILBOX).await;
        let pushed = Self {
            world,
            user,
            connection,
        };
        pushed.wait_for_push("healthy").await;
        pushed
    }

    fn create(&self, title: &str) -> String {
        let today = self.world.simulator.now().to_zoned(TimeZone::UTC).date();
        let event = json!({
            "subject": title,
            "start": {"dateTime": format!("{}T09:00:00", today + 1.day()), "timeZone": "UTC"},
            "end": {"dateTime": format!("{}T09:30:00", today + 1.day()), "timeZone": "UTC"},
        });
        self.world
            .simulator
            .create_event(MAILBOX, None, &event)
            .unwrap()
    }

    /// Waits until the API shows exactly these titles.
    async fn shows(&self, titles: &[&str]) {
        let query = format!("connection_id={}", self.connection);
        eventually(&format!("the API shows {titles:?}"), || async {
            let events = self.world.events(&self.user, &query).await;
            let mut shown: Vec<_> = events
                .iter()
                .map(|event| event["title"].as_str().unwrap().to_owned())
                .collect();
            shown.sort();
            shown == titles
        })
        .await;
    }

    async fn connection(&self) -> Value {
        let path = format!("/v1/connections/{}", self.connection);
        self.world.get(&self.user, &path).await
    }

    async fn wait_for_push(&self, state: &str) {
        eventually(&format!("push is {state}"), || async {
            self.connection().await["push"]["state"] == state
        })
        .await;
    }

    /// What the API says about the subscriptions of the connection, newest first.
    async fn listed(&self) -> Vec<Value> {
        let path = format!("/v1/connections/{}/subscriptions", self.connection);
        let list = self.world.get(&self.user, &path).await;
        list["data"].as_array().unwrap().clone()
    }

    /// The one subscription that the provider has.
    fn subscription(&self) -> SubscriptionInfo {
        let mut all = self.world.simulator.subscriptions();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Waits until the provider has one subscription that is not this one, and the API shows it.
    async fn wait_for_another(&self, old: &str) {
        eventually("there is a new subscription", || async {
            let all = self.world.simulator.subscriptions();
            let listed = self.listed().await;
            all.len() == 1
                && all[0].id != old
                && listed[0]["subscription_id"] == all[0].id.as_str()
                && listed[0]["state"] == "active"
        })
        .await;
    }

    /// How often the simulator was asked so.
    fn asked(&self, method: &str, path: &str) -> usize {
        let requests = self.world.simulator.requests();
        let matching = requests
            .iter()
            .filter(|request| request.method == method && request.path.contains(path));
        matching.count()
    }

    /// Lets the stored subscription end so soon: as if weeks had gone by.
    async fn expires_in(&self, seconds: i32) {
        let sql = "UPDATE webhook_subscriptions SET expiration_datetime = now() + make_interval(secs => $1), \
             created_at = now() - interval '6 days' WHERE is_active";
        let client = self.world.database.connect().await;
        let rows = client.execute(sql, &[&f64::from(seconds)]).await.unwrap();
        assert_eq!(rows, 1);
    }

    async fn stop_worker(&mut self) {
        self.world.worker.signal("TERM").await;
        assert!(self.world.worker.end(LONG).await.success());
    }

    fn start_worker(&mut self) {
        self.world.worker = Process::start(Binary::Worker, &[], &self.world.environment);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_pushed_and_shown() {
    let pushed = Pushed::start(&[]).await;
    let subscription = pushed.subscription();
    assert_eq!(subscription.resource.trim_start_matches('/'), "me/events");
    assert!(subscription.lifecycle_notification_url.is_some());
    assert!(subscription.client_state.unwrap().len() >= 32);

    let id = pushed.create("Planning");
    pushed.shows(&["Planning"]).await;
    let renamed = json!({"subject": "Planning moved"});
    pushed
        .world
        .simulator
        .edit_event(MAILBOX, &id, &renamed)
        .unwrap();
    pushed.shows(&["Planning moved"]).await;
    pushed.world.simulator.delete_event(MAILBOX, &id).unwrap();
    pushed.shows(&[]).await;

    let listed = pushed.listed().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["subscription_id"], subscription.id.as_str());
    assert_eq!(listed[0]["state"], "active");
    assert!(listed[0]["last_notification_at"].is_string());
    let expires_at: Timestamp = listed[0]["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires_at, subscription.expires_at);
    assert_eq!(
        pushed.connection().await["push"],
        json!({"state": "healthy", "expires_at": listed[0]["expires_at"]})
    );
    // Its secret is nobody's business.
    assert!(listed[0].get("client_state").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_renewed_before_it_ends_by_the_providers_clock() {
    let pushed = Pushed::start(&[("CALENDAR_RENEW_EVERY_SECONDS", "1")]).await;
    let first = pushed.subscription();
    // Ten minutes before its end, on both sides.
    pushed
        .world
        .simulator
        .set_clock(first.expires_at - 10.minutes(), false);
    pushed.expires_in(600).await;
    eventually("it is renewed, for as long as it may be", || async {
        pushed.subscription().expires_at > first.expires_at + 30.minutes()
    })
    .await;
    assert_eq!(pushed.subscription().id, first.id, "renewed, not made anew");
    // Past the end that it had: pushes still come.
    pushed
        .world
        .simulator
        .set_clock(first.expires_at + 10.minutes(), false);
    pushed.create("After the first end");
    pushed.shows(&["After the first end"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_for_most_of_the_time_left_is_asked_until_it_renews() {
    // 50 of the last 60 minutes, but in seconds: 20 of the last 24.
    let mut pushed = Pushed::start(&[]).await;
    let old = pushed.subscription();
    pushed.stop_worker().await;
    pushed.expires_in(24).await;
    for _ in 0..200 {
        pushed
            .world
            .simulator
            .script_fault(calendar_simulator::Fault {
                method: Some("PATCH".to_owned()),
                path_contains: "/subscriptions/".to_owned(),
                status: 503,
                ..calendar_simulator::Fault::default()
            });
    }
    let began = tokio::time::Instant::now();
    pushed.start_worker();
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
async fn a_subscription_that_the_provider_lost_is_made_anew_with_a_pass_to_catch_up() {
    let mut pushed = Pushed::start(&[]).await;
    let old = pushed.subscription();
    pushed.world.simulator.remove_subscription(&old.id).unwrap();
    pushed.create("Nobody was told");
    pushed.expires_in(16).await;
    pushed.stop_worker().await;
    pushed.start_worker();
    pushed.wait_for_another(&old.id).await;
    pushed.shows(&["Nobody was told"]).await;
    pushed.create("Pushed again");
    pushed.shows(&["Nobody was told", "Pushed again"]).await;
    let listed = pushed.listed().await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1]["state"], "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_while_everything_slept_is_made_anew_with_a_pass_to_catch_up() {
    let mut pushed = Pushed::start(&[]).await;
    let old = pushed.subscription();
    pushed.stop_worker().await;
    pushed.world.api.signal("KILL").await;
    pushed.world.api.end(LONG).await;
    pushed.world.simulator.expire_subscription(&old.id).unwrap();
    pushed.expires_in(-3600).await;
    pushed.create("While all slept");
    pushed.world.api = Process::start(Binary::Api, &[], &pushed.world.environment);
    pushed.start_worker();
    eventually("the api is back", || async {
        let url = format!("{}/readyz", pushed.world.base);
        let answer = pushed.world.http.send(Method::GET, &url, None, None).await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    pushed.shows(&["While all slept"]).await;
    pushed.wait_for_another(&old.id).await;
    pushed.wait_for_push("healthy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lifecycle_events_are_heeded_once() {
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
async fn pushes_that_come_twice_late_and_out_of_order_give_one_change() {
    let pushed = Pushed::start(&[]).await;
    pushed.world.simulator.set_pushes(PushFaults {
        duplicates: 3,
        reorder_ms: 300,
        ..PushFaults::default()
    });
    let id = pushed.create("First");
    pushed.shows(&["First"]).await;
    let sql =
        "SELECT xmin::text || ' ' || version::text FROM calendar_events WHERE deleted_at IS NULL";
    let client = pushed.world.database.connect().await;
    let rename = json!({"subject": "Second"});
    pushed
        .world
        .simulator
        .edit_event(MAILBOX, &id, &rename)
        .unwrap();
    pushed.shows(&["Second"]).await;
    let written: String = client.query_one(sql, &[]).await.unwrap().get(0);
    eventually("all pushes have come, and all looks are taken", || async {
        let quiet = "SELECT pushed_at IS NULL AND lease_owner IS NULL FROM calendar_accounts";
        let quiet: bool = client.query_one(quiet, &[]).await.unwrap().get(0);
        let counts = pushed.world.simulator.push_counts();
        quiet && counts.waiting == 0 && counts.sent >= 8
    })
    .await;
    let now: String = client.query_one(sql, &[]).await.unwrap().get(0);
    assert_eq!(now, written, "the row was written once");
    pushed.shows(&["Second"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_runs_ahead_of_its_change_is_looked_at_again() {
    let pushed = Pushed::start(&[]).await;
    pushed.world.simulator.set_pushes(PushFaults {
        visible_after_ms: 2500,
        ..PushFaults::default()
    });
    pushed.create("Seen later");
    pushed.shows(&["Seen later"]).await;
    assert!(
        pushed.world.simulator.push_counts().delivered > 0,
        "by a push"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_has_accepted_survives_its_death() {
    let mut pushed = Pushed::start(&[]).await;
    pushed.stop_worker().await;
    pushed.create("Accepted");
    eventually("it is accepted", || async {
        pushed.world.simulator.push_counts().delivered > 0
    })
    .await;
    pushed.world.api.signal("KILL").await;
    pushed.world.api.end(LONG).await;
    // Nothing is sent again.
    let log = pushed.world.simulator.push_log();
    let accepted = log.iter().filter(|push| push.kind == PushKind::Change);
    assert!(accepted.clone().count() > 0 && accepted.clone().any(|push| push.status == Some(202)));
    pushed.world.simulator.set_pushes(PushFaults {
        drop_every: 1,
        ..PushFaults::default()
    });
    pushed.start_worker();
    let client = pushed.world.database.connect().await;
    eventually("it is read", || async {
        let sql = "SELECT count(*) FROM calendar_events WHERE title = 'Accepted'";
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_push_is_answered_like_a_genuine_one_and_changes_nothing() {
    let pushed = Pushed::start(&[]).await;
    let subscription = pushed.subscription();
    let url = format!("{}/webhooks/microsoft", pushed.world.base);
    let client = pushed.world.database.connect().await;
    let heard = "SELECT last_notification_at IS NOT NULL FROM webhook_subscriptions";
    let entry = |state: &str| {
        json!({"subscriptionId": subscription.id, "clientState": state, "changeType": "updated",
            "resource": "me/events/x"})
    };
    for entry in [
        entry("forged"),
        json!({"subscriptionId": "unknown", "clientState": "x"}),
    ] {
        let body = json!({"value": [entry]});
        let answer = pushed
            .world
            .http
            .send(Method::POST, &url, None, Some(&body))
            .await
            .unwrap();
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (202, ""));
    }
    assert!(
        !client
            .query_one(heard, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
    );
    let genuine = subscription.client_state.clone().unwrap();
    let body = json!({"value": [entry("forged"), entry(&genuine)]});
    let answer = pushed
        .world
        .http
        .send(Method::POST, &url, None, Some(&body))
        .await
        .unwrap();
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (202, ""));
    // Durable before the answer.
    assert!(
        client
            .query_one(heard, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
    );
    for secret in [&genuine, "forged"] {
        assert!(!pushed.world.api.log().contains(secret));
        assert!(!pushed.world.worker.log().contains(secret));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_pushes_are_noticed_by_polling_and_the_subscription_is_made_anew() {
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
    pushed.wait_for_another(&old.id).await;
    // Made anew is not yet proven.
    assert_eq!(pushed.connection().await["push"]["state"], "stale");
    simulator.set_pushes(PushFaults::default());
    pushed.create("Pushed");
    pushed.wait_for_push("healthy").await;
    pushed.shows(&["Found by polling", "Pushed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_moves_to_a_sibling_and_ends_with_the_last_calendar() {
    let variables = RARELY.to_vec();
    let world = World::start_with(Options::default(), &variables).await;
    world
        .simulator
        .create_mailbox(MAILBOX, "Ann Example", "UTC")
        .unwrap();
    world.simulator.create_calendar(MAILBOX, "Team").unwrap();
    let user = world.user("ann@example.com").await;
    let page = world.connect(&user, MAILBOX, json!({})).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let connections = world.get(&user, "/v1/connections").await;
    let ids: Vec<String> = connections["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|connection| connection["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
    for id in &ids {
        world.wait_for_status(&user, id, "connected").await;
    }
    let list = async |id: &str| {
        let path = format!("/v1/connections/{id}/subscriptions");
        world.get(&user, &path).await["data"].clone()
    };
    eventually("there is one subscription, shown by both", || async {
        let (one, other) = (list(&ids[0]).await, list(&ids[1]).await);
        one == other && one[0]["state"] == "active"
    })
    .await;
    let stands_on = list(&ids[0]).await[0]["connection_id"].clone();
    let (gone, left) = if stands_on == ids[0].as_str() {
        (&ids[0], &ids[1])
    } else {
        (&ids[1], &ids[0])
    };
    let disconnect = async |id: &str| {
        let path = format!("/v1/connections/{id}");
        world
            .call(Some(&user), Method::DELETE, &path, None)
            .await
            .status
            .as_u16()
    };
    assert_eq!(disconnect(gone).await, 204);
    assert_eq!(list(left).await[0]["connection_id"], left.as_str());
    assert_eq!(world.simulator.subscriptions().len(), 1, "still there");

    assert_eq!(disconnect(left).await, 204);
    assert!(world.simulator.subscriptions().is_empty(), "ended");

    // Connected again, and the user deleted.
    let page = world.connect(&user, MAILBOX, json!({})).await;
    assert_eq!(page.status, 200, "{}", page.text);
    eventually("there is a subscription again", || async {
        world.simulator.subscriptions().len() == 1 && list(&ids[0]).await[0]["state"] == "active"
    })
    .await;
    let answer = world
        .call(Some(&user), Method::DELETE, "/v1/me", None)
        .await;
    assert_eq!(answer.status, 204);
    assert!(world.simulator.subscriptions().is_empty(), "ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_of_one_mailbox_do_not_take_each_others_subscription_away() {
    let pushed = Pushed::start(&[("CALENDAR_POLL_SECONDS", "1")]).await;
    let first = pushed.subscription();
    let other = pushed.world.user("bob@example.com").await;
    let connection = pushed.world.connect_primary(&other, MAILBOX).await;
    pushed.create("Shared");
    pushed.shows(&["Shared"]).await;
    eventually("the other one polls", || async {
        let query = format!("connection_id={connection}");
        pushed.world.events(&other, &query).await.len() == 1
    })
    .await;
    let path = format!("/v1/connections/{connection}");
    let shown = pushed.world.get(&other, &path).await;
    assert_eq!(
        (&shown["push"]["state"], &shown["status"]),
        (&json!("off"), &json!("connected"))
    );
    assert_eq!(pushed.subscription().id, first.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_address_that_the_provider_can_reach_it_says_so_once_and_polls() {
    let world = World::start_with(
        Options::default(),
        &[("CALENDAR_MICROSOFT_CLIENT_ID", "client")],
    )
    .await;
    let simulator = &world.simulator;
    simulator.create_mailbox(MAILBOX, "Ann", "UTC").unwrap();
    let user = world.user("ann@example.com").await;
    let mut environment = world.environment.clone();
    for (name, value) in &mut environment {
        if name == "CALENDAR_PUBLIC_URL" {
            *value = "http://calendar.example".to_owned();
        }
    }
    // The browser reaches the api of this world; the worker has an address that no provider posts to.
    world.worker.signal("TERM").await;
    let mut world = world;
    assert!(world.worker.end(LONG).await.success());
    world.worker = Process::start(Binary::Worker, &[], &environment);
    let connection = world.connect_primary(&user, MAILBOX).await;
    world
        .simulator
        .create_event(
            MAILBOX,
            None,
            &json!({"subject": "Polled",
                "start": {"dateTime": "2026-12-01T09:00:00", "timeZone": "UTC"},
                "end": {"dateTime": "2026-12-01T10:00:00", "timeZone": "UTC"}}),
        )
        .unwrap();
    eventually("it is polled", || async {
        let query = format!("connection_id={connection}");
        world.events(&user, &query).await.len() == 1
    })
    .await;
    let shown = world
        .get(&user, &format!("/v1/connections/{connection}"))
        .await;
    assert_eq!(shown["push"], json!({"state": "off", "expires_at": null}));
    assert!(world.simulator.subscriptions().is_empty());
    let log = world.worker.log();
    let said = log
        .lines()
        .filter(|line| line.contains("push off, polling"));
    assert_eq!(said.count(), 1, "{log}");
}
