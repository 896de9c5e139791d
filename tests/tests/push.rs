//! Pushes: from an edit at the provider to the API, and whose subscription it is. What goes wrong with them is in
//! scenarios/. Polling is rare in these worlds, so that what arrives was pushed.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::time::Duration;

use calendar_e2e::{Binary, MAILBOX, Process, Pushed, RARELY, World, eventually};
use calendar_simulator::jiff::{Timestamp, ToSpan as _};
use calendar_simulator::{Options, PushFaults};
use reqwest::Method;
use serde_json::json;

const LONG: Duration = Duration::from_secs(30);

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
