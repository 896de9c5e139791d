//! `GET /v1/me/export`: whole, written as it is read, and broken off for all to see.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use calendar_domain::ids::SessionId;
use calendar_domain::ports::Clock as _;
use calendar_domain::user::NewSession;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::{App, connection, id, single, subscription};

/// Somebody with one calendar of 2,345 events: 94 pages.
async fn full() -> App {
    let app = App::signed_in().await;
    let owned = connection(app.world.user("ada@example.com"), 7);
    app.world.connections.lock().unwrap().push(owned);
    for number in 0..2_345 {
        let mut event = single(1_000 + number, 7);
        event.provider_event_id = format!("e{number:05}");
        app.world.events.lock().unwrap().push(event);
    }
    app
}

/// An export of which nothing has been read.
async fn begun(app: &App) -> BodyDataStream {
    let request = Request::get("/v1/me/export").body(Body::empty()).unwrap();
    let answer = app.begin(request).await;
    assert_eq!(answer.status(), 200);
    answer.into_body().into_data_stream()
}

#[tokio::test]
async fn an_export_is_whole() {
    let app = full().await;
    let answer = app.get("/v1/me/export").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-disposition")
            .starts_with("attachment")
    );
    let document = answer.json();
    let events = document["events"].as_array().unwrap();
    assert_eq!(events.len(), 2_345);
    let one = app.get(&format!("/v1/events/{}", id(1_000))).await.json();
    assert_eq!(events[0], one, "as a single event answers");
    for (list, length) in [("sessions", 1), ("api_keys", 0), ("connections", 1)] {
        assert_eq!(document[list].as_array().unwrap().len(), length, "{list}");
    }
    assert_eq!(document["user"]["email"], "ada@example.com");
}

#[tokio::test]
async fn every_list_of_an_export_goes_on_to_its_end_and_names_each_entry_once() {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    for number in 0_u8..203 {
        app.world
            .manage(user, &format!("{number}@product.example"))
            .await;
        let session = NewSession {
            id: SessionId::new(),
            user_id: user,
            token_hash: [number; 32],
            expires_at: app.world.now() + time::Duration::days(1),
        };
        app.world
            .sessions
            .lock()
            .unwrap()
            .insert([number; 32], session);
        // All of them show the account's subscriptions.
        let owned = connection(user, 1_000 + u128::from(number));
        app.world.connections.lock().unwrap().push(owned);
        let known = subscription(2_000 + u128::from(number), 1_000);
        app.world.subscriptions.lock().unwrap().push(known);
    }
    let document = app.get("/v1/me/export").await.json();
    for (list, length) in [
        ("sessions", 204),
        ("managed_users", 203),
        ("connections", 203),
        ("subscriptions", 203),
    ] {
        let ids: Vec<_> = document[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["id"].to_string())
            .collect();
        let set: BTreeSet<_> = ids.iter().collect();
        assert_eq!((ids.len(), set.len()), (length, length), "{list}");
    }
}

#[tokio::test]
async fn what_only_a_person_may_see_is_not_exported_with_a_service_key() {
    let mut app = full().await;
    let user = app.world.user("ada@example.com");
    let body = json!({"name": "backend", "scopes": ["users:manage", "events:read"]});
    let key = app.post("/v1/api_keys", &body).await.json()["key"].clone();
    let length = |document: &Value, list: &str| document[list].as_array().unwrap().len();
    let own = app.get("/v1/me/export").await.json();
    assert_eq!((length(&own, "sessions"), length(&own, "api_keys")), (1, 1));
    app.token = key.as_str().map(str::to_owned);
    let request = Request::get("/v1/me/export").header("calendar-user", user.to_string());
    let answer = app.send(request.body(Body::empty()).unwrap()).await;
    let of_key = answer.json();
    assert_eq!(
        (length(&of_key, "sessions"), length(&of_key, "api_keys")),
        (0, 0)
    );
    assert_eq!(of_key["events"], own["events"]);
}

#[tokio::test]
async fn an_export_breaks_off_when_a_connection_is_ended_meanwhile() {
    // Before its subscriptions are asked for, and after its last event.
    for ended_at in ["\"subscriptions\":[", "e00000"] {
        let app = full().await;
        let mut body = begun(&app).await;
        let (mut text, mut error) = (String::new(), None);
        while let Some(chunk) = body.next().await {
            match chunk {
                Ok(chunk) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Err(broken) => error = Some(broken.to_string()),
            }
            if text.contains(ended_at) {
                app.world.connections.lock().unwrap().clear();
            }
        }
        assert_eq!(error.as_deref(), Some("connection_gone"), "{ended_at}");
        assert!(serde_json::from_str::<Value>(&text).is_err());
    }
}

#[tokio::test]
async fn an_export_asks_for_a_page_only_when_it_is_read() {
    let app = full().await;
    let asked = || app.world.exported.load(Ordering::Relaxed);
    let mut body = begun(&app).await;
    assert_eq!(asked(), 0);
    let (mut text, mut pages) = (Vec::new(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk.unwrap();
        let has_events = String::from_utf8_lossy(&chunk).contains("\"provider_event_id\":\"e0");
        text.extend(chunk);
        pages += u32::from(has_events);
        assert_eq!(asked(), pages, "one for each that was read");
    }
    assert_eq!(pages, 94);
    serde_json::from_slice::<Value>(&text).unwrap();

    // Whoever stops reading asks for no more.
    let mut body = begun(&app).await;
    while asked() < 96 {
        body.next().await.unwrap().unwrap();
    }
    drop(body);
    tokio::task::yield_now().await;
    assert_eq!(asked(), 96);
}

#[tokio::test]
async fn an_export_that_fails_midway_ends_with_an_error() {
    let app = full().await;
    *app.world.exports.lock().unwrap() = Some(5);
    let mut body = begun(&app).await;
    let mut text = Vec::new();
    let error = loop {
        match body
            .next()
            .await
            .expect("it does not end as if it were whole")
        {
            Ok(chunk) => text.extend(chunk),
            Err(error) => break error,
        }
    };
    assert_eq!(error.to_string(), "database_code");
    assert!(body.next().await.is_none());
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("e00124") && !text.contains("e00125"));
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
}
