//! What callers do, one step after the other.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use calendar_domain::connection::ConnectionStatus;
use calendar_domain::event::{EventImportance, EventStatus};
use calendar_domain::query::EventView;
use serde_json::{Value, json};
use time::macros::datetime;

use crate::support::{App, PASSWORD, connection, id, single};

#[tokio::test]
async fn signing_out_is_idempotent_and_ends_only_this_session() {
    let mut app = App::signed_in().await;
    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    let other = app.post("/v1/sessions", &body).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(app.call("DELETE", "/v1/sessions").await.status, 204);
    let again = app.call("DELETE", "/v1/sessions").await;
    again.assert_problem(401, "token_invalid");
    app.get("/v1/me").await.assert_problem(401, "token_invalid");
    app.token = Some(other);
    assert_eq!(app.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn one_changes_and_deletes_oneself() {
    let mut app = App::signed_in().await;
    let changed = app
        .patch("/v1/me", &json!({"first_name": "Ada", "last_name": "L"}))
        .await;
    assert_eq!(changed.json()["first_name"], "Ada");
    let changed = app
        .patch("/v1/me", &json!({"first_name": null}))
        .await
        .json();
    assert_eq!(
        (&changed["first_name"], &changed["last_name"]),
        (&json!(null), &json!("L"))
    );
    assert_eq!(app.get("/v1/me").await.json(), changed);
    assert_eq!(app.call("DELETE", "/v1/me").await.status, 204);
    app.get("/v1/me").await.assert_problem(401, "token_invalid");
    // The address is free again.
    app.token = None;
    app.token_of("ada@example.com").await;
}

#[tokio::test]
async fn an_address_is_taken_whatever_its_case() {
    let app = App::signed_in().await;
    let body = json!({"email": "ADA@example.COM", "password": PASSWORD});
    app.post("/v1/users", &body)
        .await
        .assert_problem(409, "email_taken");
}

#[tokio::test]
async fn nobody_signs_up_where_it_is_closed() {
    let app = App::with(false);
    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    app.post("/v1/users", &body)
        .await
        .assert_problem(403, "signup_closed");
}

#[tokio::test]
async fn wrong_passwords_and_unknown_addresses_get_one_answer_and_then_a_pause() {
    let app = App::signed_in().await;
    let wrong = json!({"email": "ada@example.com", "password": "wrong"});
    let unknown = json!({"email": "eve@example.com", "password": "wrong"});
    let (first, second) = (
        app.post("/v1/sessions", &wrong).await,
        app.post("/v1/sessions", &unknown).await,
    );
    first.assert_problem(401, "wrong_credentials");
    second.assert_problem(401, "wrong_credentials");
    let detail = |answer: &crate::support::Answer| answer.json()["detail"].clone();
    assert_eq!(detail(&first), detail(&second));

    for _ in 0..9 {
        app.post("/v1/sessions", &wrong)
            .await
            .assert_problem(401, "wrong_credentials");
    }
    app.post("/v1/sessions", &wrong)
        .await
        .assert_problem(429, "too_many_attempts");
    // Also with the right password: else the limit would tell when it is found.
    let right = json!({"email": "ada@example.com", "password": PASSWORD});
    app.post("/v1/sessions", &right)
        .await
        .assert_problem(429, "too_many_attempts");
    app.post("/v1/sessions", &unknown)
        .await
        .assert_problem(401, "wrong_credentials");
}

/// How many of 100 sign-ins with wrong passwords for 100 accounts are let through to the password, from this peer,
/// each with another X-Forwarded-For.
async fn let_through(peer: &str, forwarded: impl Fn(u32) -> String) -> usize {
    let app = App::new();
    let peer: SocketAddr = peer.parse().unwrap();
    let mut let_through = 0;
    for number in 0..100 {
        let body = json!({"email": format!("{number}@example.com"), "password": "wrong"});
        let request = Request::post("/v1/sessions")
            .header("content-type", "application/json")
            .header("x-forwarded-for", forwarded(number))
            .extension(ConnectInfo(peer));
        let answer = app.send(request.body(Body::from(body.to_string())).unwrap());
        let_through += usize::from(answer.await.status == 401);
    }
    let_through
}

#[tokio::test]
async fn the_limit_of_an_address_is_the_clients_and_not_what_it_says_it_is() {
    let other = |number| format!("198.51.100.{number}");
    // The bucket holds 60, and fills by one a second meanwhile.
    assert!(
        let_through("192.0.2.1:5000", other).await < 100,
        "nobody's proxy"
    );
    assert_eq!(
        let_through("192.0.2.80:5000", other).await,
        100,
        "a proxy, many clients"
    );
    let written = |number| format!("203.0.113.{number}, 198.51.100.9");
    assert!(
        let_through("192.0.2.80:5000", written).await < 100,
        "one client that pretends"
    );
}

#[tokio::test]
async fn signing_in_often_is_no_offence() {
    let app = App::signed_in().await;
    let right = json!({"email": "ada@example.com", "password": PASSWORD});
    for _ in 0..100 {
        assert_eq!(app.post("/v1/sessions", &right).await.status, 201);
    }
}

#[tokio::test]
async fn signing_up_goes_under_the_limit_of_the_address() {
    let app = App::new();
    let taken = json!({"email": "ada@example.com", "password": PASSWORD});
    assert_eq!(app.post("/v1/users", &taken).await.status, 201);
    // What is wrong in itself costs nothing.
    for _ in 0..100 {
        app.post(
            "/v1/users",
            &json!({"email": "ada@example.com", "password": "short"}),
        )
        .await
        .assert_invalid(&["/password"]);
    }
    let mut let_through = 0;
    while app.post("/v1/users", &taken).await.status == 409 {
        let_through += 1;
        assert!(let_through < 200, "there is no limit");
    }
    // The bucket holds 60, and fills by one a second meanwhile.
    assert!(let_through >= 59, "{let_through}");
    let new = json!({"email": "bob@example.com", "password": PASSWORD});
    app.post("/v1/users", &new)
        .await
        .assert_problem(429, "too_many_attempts");
}

#[tokio::test]
async fn a_connection_is_changed_synced_and_removed_by_its_user_only() {
    let mut app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    app.world
        .connections
        .lock()
        .unwrap()
        .push(connection(user, 500));
    let path = format!("/v1/connections/{}", id(500));
    let sync = format!("{path}/sync");
    let eve = app.token_of("eve@example.com").await;
    let ada = app.token.replace(eve);
    app.world.events.lock().unwrap().push(single(10, 500));

    // Somebody else finds nothing.
    for answer in [
        app.get(&path).await,
        app.patch(&path, &json!({"paused": true})).await,
        app.call("DELETE", &path).await,
        app.call("POST", &sync).await,
        app.get(&format!("{path}/subscriptions")).await,
        app.get(&format!("{path}/rejected_events")).await,
        app.get(&format!("/v1/events?connection_id={}", id(500)))
            .await,
    ] {
        answer.assert_problem(404, "connection_not_found");
    }
    app.get(&format!("/v1/events/{}", id(10)))
        .await
        .assert_problem(404, "event_not_found");
    assert_eq!(app.get("/v1/connections").await.json()["data"], json!([]));
    assert!(app.world.synced.lock().unwrap().is_empty());

    app.token = ada;
    let answer = app.call("POST", &sync).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["id"]),
        (202, &json!(id(500)))
    );
    assert_eq!(app.world.synced.lock().unwrap().len(), 1);
    let change = json!({"paused": true, "calendar_name": "Mine", "calendar_color": "#AABBCC"});
    let changed = app.patch(&path, &change).await.json();
    assert_eq!(
        (
            &changed["status"],
            &changed["calendar_name"],
            &changed["calendar_color"]
        ),
        (&json!("paused"), &json!("Mine"), &json!("#aabbcc"))
    );
    app.call("POST", &sync)
        .await
        .assert_problem(409, "connection_paused");
    assert_eq!(
        app.patch(&path, &json!({"paused": false})).await.json()["status"],
        "connected"
    );
    app.world.connections.lock().unwrap()[0].status = ConnectionStatus::NeedsReauth;
    app.call("POST", &sync)
        .await
        .assert_problem(409, "connection_needs_reauth");
    assert_eq!(app.call("DELETE", &path).await.status, 204);
    app.call("DELETE", &path)
        .await
        .assert_problem(404, "connection_not_found");
}

#[tokio::test]
async fn every_condition_on_events_arrives() {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    app.world
        .connections
        .lock()
        .unwrap()
        .push(connection(user, 500));
    let path = format!(
        "/v1/events?connection_id={}&from=2026-01-05T00:00:00%2B01:00&to=2026-01-06T00:00:00Z\
         &teams_enabled=true&conversation_id=AAQk%3D&importance=high&category=Red%20one&status=cancelled\
         &q=stand+up&updated_since=2026-01-01T00:00:00Z&include_deleted=true&view=series&limit=7",
        id(500)
    );
    assert_eq!(app.get(&path).await.status, 200);
    let query = app.world.last_query.lock().unwrap().clone().unwrap();
    assert_eq!(query.user_id, user);
    assert_eq!(query.connection_id, Some(id(500).into()));
    assert_eq!(query.from, Some(datetime!(2026-01-04 23:00 UTC)));
    assert_eq!(query.to, Some(datetime!(2026-01-06 00:00 UTC)));
    assert_eq!(query.teams_enabled, Some(true));
    assert_eq!(query.conversation_id.as_deref(), Some("AAQk="));
    assert_eq!(query.importance, Some(EventImportance::High));
    assert_eq!(query.category.as_deref(), Some("Red one"));
    assert_eq!(query.status, Some(EventStatus::Cancelled));
    assert_eq!(query.text.as_deref(), Some("stand up"));
    assert_eq!(query.updated_since, Some(datetime!(2026-01-01 00:00 UTC)));
    assert!(query.include_deleted);
    assert_eq!(
        (query.view, query.limit, query.after),
        (EventView::Series, 7, None)
    );

    app.get("/v1/events").await;
    let query = app.world.last_query.lock().unwrap().clone().unwrap();
    assert_eq!(
        (query.view, query.limit, query.include_deleted),
        (EventView::Instances, 50, false)
    );
    assert_eq!(
        (query.teams_enabled, query.from, query.text),
        (None, None, None)
    );
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    for number in 0..5 {
        app.world
            .connections
            .lock()
            .unwrap()
            .push(connection(user, 500 + number));
        app.world
            .events
            .lock()
            .unwrap()
            .push(single(10 + number, 500));
    }
    for path in ["/v1/connections", "/v1/events"] {
        let (mut ids, mut pages) = (Vec::new(), 0);
        let mut next = format!("{path}?limit=2");
        loop {
            let page = app.get(&next).await.json();
            ids.extend(
                page["data"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|item| item["id"].clone()),
            );
            pages += 1;
            match &page["next_cursor"] {
                Value::String(cursor) => next = format!("{path}?cursor={cursor}&limit=2"),
                _ => break,
            }
        }
        ids.dedup();
        assert_eq!((ids.len(), pages), (5, 3), "{path}");
    }
}

#[tokio::test]
async fn a_cursor_is_good_for_its_own_list_only() {
    let mut app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    for number in 0..3 {
        app.world
            .connections
            .lock()
            .unwrap()
            .push(connection(user, 500 + number));
        app.world
            .events
            .lock()
            .unwrap()
            .push(single(10 + number, 500));
    }
    let cursor_of =
        |answer: &crate::support::Answer| answer.json()["next_cursor"].as_str().unwrap().to_owned();
    let events = cursor_of(&app.get("/v1/events?limit=1&importance=high").await);
    let connections = cursor_of(&app.get("/v1/connections?limit=1").await);
    let good = format!("/v1/events?importance=high&cursor={events}");
    assert_eq!(app.get(&good).await.status, 200);
    for bad in [
        format!("/v1/events?importance=low&cursor={events}"),
        format!("/v1/events?cursor={events}"),
        format!("/v1/events?importance=high&cursor={connections}"),
        format!("/v1/connections?cursor={events}"),
        format!("{good}x"),
        format!(
            "/v1/events?importance=high&cursor={}",
            events.replace(&events[..1], "_")
        ),
    ] {
        app.get(&bad).await.assert_problem(400, "invalid_cursor");
    }
    app.token = Some(app.token_of("eve@example.com").await);
    app.get(&good).await.assert_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn a_token_that_runs_away_is_slowed_down_and_others_are_not() {
    let mut app = App::new();
    let other = app.token_of("eve@example.com").await;
    app.token = Some(app.token_of("ada@example.com").await);
    let first = app.get("/v1/me").await;
    assert_eq!(first.header("ratelimit-policy"), "\"default\";q=600;w=60");
    assert_eq!(first.header("ratelimit"), "\"default\";r=599;t=1");
    let mut last = first;
    // More than there are at once: some come back meanwhile.
    for _ in 0..6_000 {
        last = app.get("/v1/me").await;
        if last.status == 429 {
            break;
        }
    }
    last.assert_problem(429, "rate_limited");
    assert_eq!(last.header("ratelimit"), "\"default\";r=0;t=60");
    app.token = Some(other);
    assert_eq!(app.get("/v1/me").await.status, 200);
    assert_eq!(app.get("/healthz").await.header("ratelimit"), "");
}

#[tokio::test]
async fn a_token_that_runs_away_is_not_looked_up_whether_it_is_known_or_not() {
    let mut app = App::limited(60);
    let known = app.token_of("ada@example.com").await;
    for token in [known, "nobody's".to_owned()] {
        let before = app.world.authenticated.load(Ordering::Relaxed);
        app.token = Some(token);
        let (mut let_through, mut refused) = (0, 0);
        while refused < 10 && let_through < 6_000 {
            let status = app.get("/v1/me").await.status.as_u16();
            assert!(matches!(status, 200 | 401 | 429), "{status}");
            *(if status == 429 {
                &mut refused
            } else {
                &mut let_through
            }) += 1;
        }
        let looked_up = app.world.authenticated.load(Ordering::Relaxed) - before;
        assert_eq!(looked_up, let_through);
        assert_eq!(refused, 10);
    }
}

#[tokio::test]
async fn whoever_signs_up_with_a_token_is_refused_unless_it_is_good() {
    let app = App::new();
    let session = format!("Bearer {}", app.token_of("ada@example.com").await);
    let sign_up = async |authorization: &str| {
        let body = json!({"email": "eve@example.com", "password": PASSWORD});
        let request = axum::http::Request::post("/v1/users")
            .header("authorization", authorization)
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body.to_string()));
        app.send(request.unwrap()).await
    };
    for (authorization, code) in [
        ("", "token_missing"),
        ("Basic YTpi", "token_missing"),
        ("Bearer", "token_missing"),
        ("Bearer  ", "token_missing"),
        ("calkey_kkkk", "token_missing"),
        ("Bearer nobody's", "token_invalid"),
        ("Bearer calkey_kkkk", "token_invalid"),
        (&format!("Bearer {}", "x".repeat(5_000)), "token_invalid"),
    ] {
        sign_up(authorization).await.assert_problem(401, code);
    }
    // Nobody was made, and whoever is signed in can sign somebody else up.
    assert_eq!(sign_up(&session).await.status, 201);
}

#[tokio::test]
async fn every_answer_names_its_request_and_no_cache_shares_it() {
    let app = App::signed_in().await;
    for path in ["/healthz", "/readyz", "/v1/me", "/v1/events", "/nowhere"] {
        let answer = app.get(path).await;
        let cached = if path.starts_with("/v1/") {
            "private, no-cache"
        } else {
            "no-store"
        };
        assert_eq!(answer.header("cache-control"), cached, "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!answer.header("x-request-id").is_empty(), "{path}");
    }
    let request = axum::http::Request::builder()
        .uri("/v1/me")
        .header("x-request-id", "from-the-caller.1")
        .body(axum::body::Body::empty())
        .unwrap();
    assert_eq!(
        app.send(request).await.header("x-request-id"),
        "from-the-caller.1"
    );
}
