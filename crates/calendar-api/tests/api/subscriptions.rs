//! How push stands: what is shown of it, and that subscriptions end with what they are for.

use calendar_domain::failure::FailureClass;
use calendar_domain::subscription::{PushHealth, WebhookSubscription};
use serde_json::json;
use time::macros::datetime;

use crate::support::{App, connection, id, subscription};

async fn app(subscriptions: Vec<WebhookSubscription>) -> App {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    let connections = [connection(user, 500), connection(user, 501)];
    app.world.connections.lock().unwrap().extend(connections);
    *app.world.subscriptions.lock().unwrap() = subscriptions;
    app
}

fn path() -> String {
    format!("/v1/connections/{}/subscriptions", id(500))
}

#[tokio::test]
async fn subscriptions_are_listed_without_their_secrets() {
    let expired = WebhookSubscription {
        is_active: false,
        expires_at: datetime!(2026-01-04 09:00 UTC),
        last_notification_at: None,
        renewed_at: None,
        ..subscription(9, 501)
    };
    let app = app(vec![subscription(10, 500), expired]).await;
    let answer = app.get(&path()).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    insta::assert_json_snapshot!("subscriptions", answer.json());
}

#[tokio::test]
async fn subscriptions_come_in_pages() {
    let made = |number| WebhookSubscription {
        // Two of one moment: the id decides.
        created_at: datetime!(2026-01-04 09:00 UTC)
            + time::Duration::minutes(i64::try_from(number / 2).unwrap()),
        ..subscription(number, 500)
    };
    let app = app((0..53).map(made).collect()).await;
    let whole = app.get(&path()).await.json();
    assert_eq!(whole["data"].as_array().unwrap().len(), 50, "by default");
    let (mut seen, mut query, mut pages) = (Vec::new(), "?limit=20".to_owned(), 0);
    loop {
        let page = app.get(&format!("{}{query}", path())).await.json();
        let ids = page["data"].as_array().unwrap().iter();
        seen.extend(ids.map(|one| one["subscription_id"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("?limit=20&cursor={cursor}");
        // Not of another connection's list.
        let other = format!("/v1/connections/{}/subscriptions{query}", id(501));
        app.get(&other).await.assert_problem(400, "invalid_cursor");
    }
    let newest_first: Vec<_> = (0..53).rev().map(|n| format!("subscription-{n}")).collect();
    assert_eq!((seen, pages), (newest_first, 3));
}

#[tokio::test]
async fn a_connection_without_subscriptions_has_an_empty_list() {
    let app = app(Vec::new()).await;
    assert_eq!(
        app.get(&path()).await.json(),
        json!({"data": [], "next_cursor": null})
    );
}

#[tokio::test]
async fn a_subscription_is_active_or_ran_out_or_was_ended() {
    // Now is 2026-01-05 09:00.
    let past = datetime!(2026-01-05 09:00 UTC);
    let later = datetime!(2026-01-05 09:00:01 UTC);
    let before = datetime!(2026-01-05 08:59:59 UTC);
    for (is_active, expires_at, updated_at, state) in [
        (true, later, before, "active"),
        (true, past, before, "expired"),
        (false, past, past, "expired"),
        (false, past, later, "expired"),
        (false, past, before, "ended"),
        (false, later, before, "ended"),
    ] {
        let app = app(vec![WebhookSubscription {
            is_active,
            expires_at,
            updated_at,
            ..subscription(10, 500)
        }])
        .await;
        let listed = app.get(&path()).await.json();
        assert_eq!(
            listed["data"][0]["state"], state,
            "{is_active} {expires_at} {updated_at}"
        );
    }
}

#[tokio::test]
async fn a_connection_says_how_push_stands() {
    let app = app(Vec::new()).await;
    let expires_at = datetime!(2026-01-08 09:00 UTC);
    let shown = "2026-01-08T09:00:00Z";
    for (push, expected) in [
        (
            PushHealth::Healthy { expires_at },
            json!({"state": "healthy", "expires_at": shown}),
        ),
        (
            PushHealth::Stale { expires_at },
            json!({"state": "stale", "expires_at": shown}),
        ),
        (
            PushHealth::Unsupported,
            json!({"state": "unsupported", "expires_at": null}),
        ),
        (PushHealth::Off, json!({"state": "off", "expires_at": null})),
    ] {
        app.world.connections.lock().unwrap()[0].push = push;
        let one = app.get(&format!("/v1/connections/{}", id(500))).await;
        assert_eq!(one.json()["push"], expected);
    }
}

#[tokio::test]
async fn disconnecting_ends_the_subscription_at_the_provider() {
    let mut app = app(vec![subscription(10, 500), subscription(11, 501)]).await;
    let path = format!("/v1/connections/{}", id(500));
    let eve = app.token_of("eve@example.com").await;
    let ada = app.token.replace(eve);
    app.call("DELETE", &path)
        .await
        .assert_problem(404, "connection_not_found");
    assert!(app.world.unsubscribed.lock().unwrap().is_empty());

    app.token = ada;
    assert_eq!(app.call("DELETE", &path).await.status, 204);
    assert_eq!(
        *app.world.unsubscribed.lock().unwrap(),
        ["subscription-10"],
        "the other calendar's stays"
    );
}

#[tokio::test]
async fn deleting_oneself_ends_all_subscriptions_at_the_provider() {
    let app = app(vec![subscription(10, 500), subscription(11, 501)]).await;
    assert_eq!(app.call("DELETE", "/v1/me").await.status, 204);
    let mut unsubscribed = app.world.unsubscribed.lock().unwrap().clone();
    unsubscribed.sort();
    assert_eq!(unsubscribed, ["subscription-10", "subscription-11"]);
}

#[tokio::test]
async fn a_provider_that_does_not_end_a_subscription_keeps_nobody_connected() {
    let app = app(vec![subscription(10, 500)]).await;
    *app.world.provider_failure.lock().unwrap() = Some(FailureClass::Retryable);
    let path = format!("/v1/connections/{}", id(500));
    assert_eq!(app.call("DELETE", &path).await.status, 204);
    app.get(&path)
        .await
        .assert_problem(404, "connection_not_found");
    assert_eq!(app.call("DELETE", "/v1/me").await.status, 204);
}
