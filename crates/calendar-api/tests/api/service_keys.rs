//! Service keys: what each endpoint needs, whom a key may act for, and what nobody gets to see.

use axum::body::Body;
use axum::http::Request;
use calendar_domain::ids::UserId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Answer, App, connection, id, single};

const ALL: [&str; 3] = ["events:read", "connections:manage", "users:manage"];

/// Every endpoint under `/v1` that knows its caller, and the scopes of which a key needs one set; none
/// where a key is refused.
const ENDPOINTS: &[(&str, &str, &[&[&str]])] = &[
    ("GET", "/v1/me", &[&["users:manage"]]),
    ("PATCH", "/v1/me", &[&["users:manage"]]),
    ("DELETE", "/v1/me", &[&["users:manage"]]),
    ("GET", "/v1/me/export", &[&["users:manage", "events:read"]]),
    ("POST", "/v1/connect_sessions", &[&["connections:manage"]]),
    (
        "GET",
        "/v1/connections",
        &[&["connections:manage"], &["events:read"]],
    ),
    (
        "GET",
        "/v1/connections/{id}",
        &[&["connections:manage"], &["events:read"]],
    ),
    ("PATCH", "/v1/connections/{id}", &[&["connections:manage"]]),
    ("DELETE", "/v1/connections/{id}", &[&["connections:manage"]]),
    (
        "POST",
        "/v1/connections/{id}/sync",
        &[&["connections:manage"]],
    ),
    (
        "GET",
        "/v1/connections/{id}/subscriptions",
        &[&["connections:manage"], &["events:read"]],
    ),
    (
        "GET",
        "/v1/connections/{id}/rejected_events",
        &[&["events:read"]],
    ),
    ("GET", "/v1/events", &[&["events:read"]]),
    ("GET", "/v1/events/{id}", &[&["events:read"]]),
    ("GET", "/v1/sessions", &[]),
    ("DELETE", "/v1/sessions", &[]),
    ("DELETE", "/v1/sessions/{id}", &[]),
    ("POST", "/v1/api_keys", &[]),
    ("GET", "/v1/api_keys", &[]),
    ("DELETE", "/v1/api_keys/{id}", &[]),
];

/// A product: its owner's session, and a user whom it made.
struct Product {
    session: String,
    user: Uuid,
}

async fn product(app: &App, owner: &str, user: &str) -> Product {
    let session = app.token_of(owner).await;
    let key = key(app, &session, &ALL).await;
    let made = send(
        app,
        "POST",
        "/v1/users",
        &key,
        None,
        Some(json!({"email": user})),
    )
    .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let user = made.json()["id"].as_str().unwrap().parse().unwrap();
    Product { session, user }
}

async fn key(app: &App, session: &str, scopes: &[&str]) -> String {
    let body = json!({"name": "backend", "scopes": scopes});
    let made = send(app, "POST", "/v1/api_keys", session, None, Some(body)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let key = made.json()["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("calkey_") && key.len() == 50, "{key}");
    key
}

async fn send(
    app: &App,
    method: &str,
    path: &str,
    token: &str,
    user: Option<&str>,
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"));
    if let Some(user) = user {
        request = request.header("calendar-user", user);
    }
    let body = match body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    app.send(request.body(body).unwrap()).await
}

fn body_of(method: &str, path: &str) -> Option<Value> {
    match (method, path) {
        ("POST", "/v1/connect_sessions") => Some(json!({"provider": "microsoft"})),
        ("POST", "/v1/api_keys") => Some(json!({"name": "x", "scopes": ["events:read"]})),
        ("PATCH", _) => Some(json!({})),
        _ => None,
    }
}

#[tokio::test]
async fn each_endpoint_asks_for_its_scopes() {
    for (method, path, needs) in ENDPOINTS {
        for bits in 1..8_u8 {
            let held: Vec<&str> = (0..3)
                .filter(|bit| bits & 1 << bit != 0)
                .map(|bit| ALL[bit])
                .collect();
            let app = App::new();
            let product = product(&app, "one@example.com", "eve@example.com").await;
            let key = key(&app, &product.session, &held).await;
            let path = path.replace("{id}", &id(1).to_string());
            let user = product.user.to_string();
            let call = async |user| {
                let body = body_of(method, &path);
                send(&app, method, &path, &key, user, body).await
            };
            let enough = needs
                .iter()
                .any(|set| set.iter().all(|scope| held.contains(scope)));
            let what = format!("{method} {path} with {held:?}");
            if needs.is_empty() {
                call(Some(&user))
                    .await
                    .assert_problem(403, "session_required");
            } else if enough {
                call(None).await.assert_problem(400, "user_required");
                let stranger = Uuid::now_v7().to_string();
                call(Some(&stranger))
                    .await
                    .assert_problem(404, "user_not_found");
                call(Some("me")).await.assert_problem(400, "invalid_user");
                let answer = call(Some(&user)).await;
                let status = answer.status.as_u16();
                assert!(matches!(status, 200..=204 | 404), "{what}: {}", answer.text);
                assert_ne!(answer.code(), "user_not_found", "{what}");
            } else {
                call(Some(&user)).await.assert_problem(403, "scope_missing");
                call(None).await.assert_problem(403, "scope_missing");
            }
        }
    }
}

#[tokio::test]
async fn only_keys_that_manage_users_make_and_list_them() {
    let app = App::new();
    let product = product(&app, "one@example.com", "eve@example.com").await;
    for bits in 1..8_usize {
        let held: Vec<&str> = (0..3)
            .filter(|bit| bits & 1 << bit != 0)
            .map(|bit| ALL[bit])
            .collect();
        let key = key(&app, &product.session, &held).await;
        let body = json!({"email": format!("managed-{bits}@example.com")});
        let made = send(&app, "POST", "/v1/users", &key, None, Some(body)).await;
        let listed = send(&app, "GET", "/v1/users", &key, None, None).await;
        if held.contains(&"users:manage") {
            assert_eq!(
                (made.status.as_u16(), listed.status.as_u16()),
                (201, 200),
                "{held:?}"
            );
        } else {
            made.assert_problem(403, "scope_missing");
            listed.assert_problem(403, "scope_missing");
        }
    }
}

#[tokio::test]
async fn a_product_cannot_delete_anothers_user() {
    let app = App::new();
    let one = product(&app, "one@example.com", "eve@one.example").await;
    let two = product(&app, "two@example.com", "eve@two.example").await;
    let [ones, twos] = [
        key(&app, &one.session, &ALL).await,
        key(&app, &two.session, &ALL).await,
    ];
    let user = two.user.to_string();
    let refused = send(&app, "DELETE", "/v1/me", &ones, Some(&user), None).await;
    refused.assert_problem(404, "user_not_found");
    let there = send(&app, "GET", "/v1/me", &twos, Some(&user), None).await;
    assert_eq!(there.status, 200, "{}", there.text);
}

#[tokio::test]
async fn no_endpoint_of_the_contract_is_missing_in_the_table() {
    let contract: Value = serde_json::from_str(calendar_api::openapi()).unwrap();
    let open = ["/v1/users", "/v1/oauth/callback"];
    for (path, item) in contract["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/") || open.contains(&path.as_str()) {
            continue;
        }
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_none() || (method, path.as_str()) == ("post", "/v1/sessions") {
                continue;
            }
            let listed = ENDPOINTS
                .iter()
                .any(|(known, at, _)| known.eq_ignore_ascii_case(method) && at == path);
            assert!(listed, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn products_do_not_see_each_others_users() {
    let app = App::new();
    let one = product(&app, "one@example.com", "eve@one.example").await;
    let two = product(&app, "two@example.com", "eve@two.example").await;
    for (number, user) in [(71, one.user), (72, two.user)] {
        let owned = connection(UserId(user), number);
        let event = single(number + 100, number);
        app.world.connections.lock().unwrap().push(owned);
        app.world.events.lock().unwrap().push(event);
    }
    let key = key(&app, &one.session, &ALL).await;
    let (own, theirs, nobody) = (
        one.user.to_string(),
        two.user.to_string(),
        Uuid::now_v7().to_string(),
    );
    for (method, path, needs) in ENDPOINTS {
        if needs.is_empty() || (*method, *path) == ("DELETE", "/v1/me") {
            continue;
        }
        // Another product's user, and one who is nowhere, are the same.
        for number in [72, 172] {
            let at = path.replace("{id}", &id(number).to_string());
            let (other, none) = (
                send(&app, method, &at, &key, Some(&theirs), body_of(method, &at)).await,
                send(&app, method, &at, &key, Some(&nobody), body_of(method, &at)).await,
            );
            other.assert_problem(404, "user_not_found");
            assert_eq!(
                other.json()["detail"],
                none.json()["detail"],
                "{method} {at}"
            );
            // Their things are not one's own user's.
            if path.contains("{id}") {
                let answer = send(&app, method, &at, &key, Some(&own), body_of(method, &at)).await;
                assert_eq!(answer.status, 404, "{method} {at}: {}", answer.text);
            }
        }
    }
    let listed = send(&app, "GET", "/v1/users", &key, None, None)
        .await
        .json();
    let ids: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["id"].clone())
        .collect();
    assert_eq!(ids, [json!(own)]);
    let found = send(
        &app,
        "GET",
        "/v1/users?email=eve@two.example",
        &key,
        None,
        None,
    )
    .await;
    assert_eq!(found.json()["data"], json!([]));
}

#[tokio::test]
async fn a_session_acts_for_its_own_user_alone() {
    let app = App::new();
    let product = product(&app, "one@example.com", "eve@example.com").await;
    let own = app.world.user("one@example.com").to_string();
    let me = async |user| send(&app, "GET", "/v1/me", &product.session, user, None).await;
    assert_eq!(me(Some(own.as_str())).await.status, 200);
    let managed = product.user.to_string();
    me(Some(managed.as_str()))
        .await
        .assert_problem(404, "user_not_found");
    let users = send(&app, "GET", "/v1/users", &product.session, None, None).await;
    assert_eq!(users.json()["data"][0]["id"], json!(managed));
}

#[tokio::test]
async fn a_key_is_shown_once_and_ends_at_once() {
    let app = App::new();
    let product = product(&app, "one@example.com", "eve@example.com").await;
    let key = key(&app, &product.session, &ALL).await;
    let listed = send(&app, "GET", "/v1/api_keys", &product.session, None, None).await;
    assert!(!listed.text.contains(&key), "{}", listed.text);
    let entry = listed.json()["data"][1].clone();
    assert_eq!(entry["hint"].as_str(), key.get(..11));
    let own = app.world.user("one@example.com").to_string();
    let user = product.user.to_string();
    // A key does not delete who made it.
    let refused = send(&app, "DELETE", "/v1/me", &key, Some(&own), None).await;
    refused.assert_problem(403, "session_required");
    assert_eq!(
        send(&app, "DELETE", "/v1/me", &key, Some(&user), None)
            .await
            .status,
        204
    );
    let path = format!("/v1/api_keys/{}", entry["id"].as_str().unwrap());
    let end = async || send(&app, "DELETE", &path, &product.session, None, None).await;
    assert_eq!(end().await.status, 204);
    end().await.assert_problem(404, "api_key_not_found");
    let answer = send(&app, "GET", "/v1/me", &key, Some(&own), None).await;
    answer.assert_problem(401, "token_invalid");
}

#[tokio::test]
async fn with_a_key_users_are_made_where_signing_up_is_closed() {
    let app = App::with(false);
    let key = {
        use calendar_domain::api_key::{ApiScope, NewApiKey};
        use calendar_domain::ids::ApiKeyId;
        use calendar_domain::ports::{ApiKeyStore as _, Clock as _, Secrets as _};
        let key = format!("calkey_{}", "k".repeat(43));
        let new = NewApiKey {
            id: ApiKeyId::new(),
            user_id: UserId(id(500)),
            name: "x".into(),
            hint: "calkey_kkkk".into(),
            token_hash: app.world.fingerprint(&key.clone().into()),
            scopes: vec![ApiScope::UsersManage],
        };
        app.world.create(new, app.world.now()).await.unwrap();
        key
    };
    let make = async |body| send(&app, "POST", "/v1/users", &key, None, Some(body)).await;
    assert_eq!(make(json!({"email": "eve@example.com"})).await.status, 201);
    make(json!({"email": "eve@example.com"}))
        .await
        .assert_problem(409, "email_taken");
    make(json!({"email": "x@example.com", "password": "correct horse"}))
        .await
        .assert_invalid(&["/password"]);
    let without = app
        .post(
            "/v1/users",
            &json!({"email": "a@example.com", "password": "correct horse"}),
        )
        .await;
    without.assert_problem(403, "signup_closed");
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let app = App::new();
    let first = app.token_of("one@example.com").await;
    let other = app.token_of("two@example.com").await;
    let body = json!({"email": "one@example.com", "password": crate::support::PASSWORD});
    let second = app.post("/v1/sessions", &body).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let listed = send(&app, "GET", "/v1/sessions", &first, None, None).await;
    let data = listed.json()["data"].as_array().unwrap().clone();
    assert_eq!(data.len(), 2);
    assert!(!listed.text.contains(&first) && !listed.text.contains(&second));
    let (current, rest): (Vec<_>, Vec<_>) =
        data.into_iter().partition(|it| it["is_current"] == true);
    assert_eq!((current.len(), rest.len()), (1, 1));
    let path = format!("/v1/sessions/{}", rest[0]["id"].as_str().unwrap());
    send(&app, "DELETE", &path, &other, None, None)
        .await
        .assert_problem(404, "session_not_found");
    assert_eq!(
        send(&app, "DELETE", &path, &first, None, None).await.status,
        204
    );
    send(&app, "GET", "/v1/me", &second, None, None)
        .await
        .assert_problem(401, "token_invalid");
    assert_eq!(
        send(&app, "GET", "/v1/me", &first, None, None).await.status,
        200
    );
}
