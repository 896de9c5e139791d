//! Bad input, as a table over every endpoint: the right problem, never a 500.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use crate::support::contract::operations;
use crate::support::{App, PASSWORD, connection, id};

struct Endpoint {
    method: &'static str,
    path: String,
    needs_token: bool,
    /// A good body, where it takes one.
    body: Option<Value>,
    /// Whether it looks at the query and the database.
    plain: bool,
}

fn endpoints() -> Vec<Endpoint> {
    let endpoint = |method, path: &str, needs_token, body| Endpoint {
        method,
        path: path.to_owned(),
        needs_token,
        body,
        plain: false,
    };
    let connection = format!("/v1/connections/{}", id(500));
    let event = format!("/v1/events/{}", id(10));
    let user = json!({"email": "new@example.com", "password": PASSWORD});
    let session = json!({"email": "ada@example.com", "password": PASSWORD});
    let round_trip = json!({"provider": "microsoft"});
    let plain = |path: &str| Endpoint {
        plain: true,
        ..endpoint("GET", path, false, None)
    };
    vec![
        endpoint("POST", "/v1/users", false, Some(user)),
        endpoint("POST", "/v1/sessions", false, Some(session)),
        endpoint("DELETE", "/v1/sessions", true, None),
        endpoint("GET", "/v1/me", true, None),
        endpoint("PATCH", "/v1/me", true, Some(json!({"first_name": "Ada"}))),
        endpoint("DELETE", "/v1/me", true, None),
        endpoint("POST", "/v1/connect_sessions", true, Some(round_trip)),
        endpoint("GET", "/v1/connections", true, None),
        endpoint("GET", &connection, true, None),
        endpoint("PATCH", &connection, true, Some(json!({"paused": false}))),
        endpoint("DELETE", &connection, true, None),
        endpoint("POST", &format!("{connection}/sync"), true, None),
        endpoint("GET", &format!("{connection}/subscriptions"), true, None),
        endpoint("GET", "/v1/events", true, None),
        endpoint("GET", &event, true, None),
        plain("/v1/oauth/callback"),
        Endpoint {
            method: "POST",
            ..plain("/webhooks/microsoft")
        },
        Endpoint {
            method: "POST",
            ..plain("/webhooks/microsoft/lifecycle")
        },
        plain("/healthz"),
        plain("/readyz"),
        plain("/openapi.json"),
        plain("/docs"),
    ]
}

/// A new endpoint has to be tried here, too.
#[test]
fn the_table_has_every_operation_of_the_contract() {
    let endpoints = endpoints();
    for operation in operations() {
        let of_contract = |each: &&Endpoint| operation.matches(each.method, &each.path);
        let found = endpoints.iter().find(of_contract);
        let Endpoint {
            needs_token, body, ..
        } = found.unwrap_or_else(|| panic!("{} is not in the table", operation.id()));
        assert_eq!(operation.json.get("security").is_none(), *needs_token);
        assert_eq!(operation.body().is_some(), body.is_some());
    }
    assert_eq!(operations().len(), endpoints.len());
}

async fn app() -> App {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    app.world
        .connections
        .lock()
        .unwrap()
        .push(connection(user, 500));
    app
}

#[tokio::test]
async fn without_a_good_token() {
    let good = app().await;
    for Endpoint {
        method, path, body, ..
    } in endpoints().iter().filter(|each| each.needs_token)
    {
        let body = || body.as_ref().map(Value::to_string).unwrap_or_default();
        let with = |authorization: Option<&str>| {
            let mut request = Request::builder().method(*method).uri(path);
            // An empty one stands for none: the app adds its own only where there is no header.
            request = request.header(header::AUTHORIZATION, authorization.unwrap_or(""));
            good.send(
                request
                    .header("content-type", "application/json")
                    .body(Body::from(body()))
                    .unwrap(),
            )
        };
        for missing in [
            None,
            Some("Basic YTpi"),
            Some("Bearer"),
            Some("Bearer  "),
            Some("token"),
        ] {
            with(missing).await.assert_problem(401, "token_missing");
        }
        let long = format!("Bearer {}", "x".repeat(5_000));
        with(Some(&long)).await.assert_problem(401, "token_invalid");
        if (*method, path.as_str()) != ("DELETE", "/v1/sessions") {
            with(Some("Bearer nobody's"))
                .await
                .assert_problem(401, "token_invalid");
        }
    }
    assert_eq!(good.get("/v1/me").await.status, 200, "nothing was done");
}

#[tokio::test]
async fn with_an_unknown_parameter() {
    let app = app().await;
    for Endpoint {
        method, path, body, ..
    } in endpoints().iter().filter(|each| !each.plain)
    {
        let body = body.as_ref().map(Value::to_string).unwrap_or_default();
        let answer = app
            .raw(
                method,
                &format!("{path}?no~w=1"),
                Some("application/json"),
                body.clone(),
            )
            .await;
        answer.assert_invalid(&["/no~0w"]);
        assert_eq!(answer.json()["errors"][0]["in"], "query");
        app.raw(
            method,
            &format!("{path}?a=%ff"),
            Some("application/json"),
            body,
        )
        .await
        .assert_problem(400, "malformed_query");
    }
}

#[tokio::test]
async fn with_a_method_that_is_not_allowed() {
    let app = app().await;
    for Endpoint { path, .. } in endpoints() {
        for method in ["PUT", "OPTIONS", "BREW"] {
            let answer = app.call(method, &path).await;
            answer.assert_problem(405, "method_not_allowed");
            assert!(!answer.header(header::ALLOW).is_empty(), "{path}");
            assert!(answer.text.contains("Allow names"), "{}", answer.text);
        }
    }
    for path in [
        "/",
        "/v1",
        "/v1/users/",
        "/V1/users",
        "/v1/events/x/y",
        "/%00",
        "/../etc/passwd",
    ] {
        app.get(path).await.assert_problem(404, "no_such_route");
    }
}

#[tokio::test]
async fn with_a_body_that_is_none() {
    let app = app().await;
    let large = format!("{{\"email\": \"{}\"}}", "x".repeat(1 << 20));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for Endpoint {
        method, path, body, ..
    } in &endpoints()
    {
        let Some(good) = body else { continue };
        let send = |content_type, body: String| app.raw(method, path, content_type, body);
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/json; charset=latin-1"),
            Some("json"),
        ] {
            send(content_type, good.to_string())
                .await
                .assert_problem(415, "unsupported_media_type");
        }
        for malformed in [
            "",
            "{",
            "[]",
            "null",
            "7",
            "\"a\"",
            "{\"a\": 1e999}",
            "{\"a\": \"\\ud800\"}",
            "{} {}",
            "{\"a\\u0000\": 1}",
            &deep,
        ] {
            send(Some("application/json"), malformed.to_owned())
                .await
                .assert_problem(400, "malformed_json");
        }
        let not_utf8 = app
            .raw(
                method,
                path,
                Some("application/json"),
                vec![b'{', b'"', 0xff],
            )
            .await;
        not_utf8.assert_problem(400, "malformed_json");
        send(Some("application/json"), large.clone())
            .await
            .assert_problem(413, "body_too_large");
        // The same, announced only: nothing has to arrive first.
        let announced = Request::builder()
            .method(*method)
            .uri(path)
            .header("content-type", "application/json")
            .header("content-length", "1048577")
            .body(Body::from("{}"))
            .unwrap();
        app.send(announced)
            .await
            .assert_problem(413, "body_too_large");

        let mut more = good.clone();
        more["unknown"] = json!(1);
        send(Some("application/json"), more.to_string())
            .await
            .assert_invalid(&["/unknown"]);
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn with_wrong_fields() {
    let app = app().await;
    let long = "x".repeat(101);
    let connection = format!("/v1/connections/{}", id(500));
    let cases: Vec<(&str, &str, Value, &[&str])> = vec![
        ("POST", "/v1/users", json!({}), &["/email", "/password"]),
        (
            "POST",
            "/v1/users",
            json!({"email": "a", "password": "short"}),
            &["/email", "/password"],
        ),
        (
            "POST",
            "/v1/users",
            json!({"email": 1, "password": null, "first_name": [], "last_name": long}),
            &["/email", "/password", "/first_name", "/last_name"],
        ),
        (
            "POST",
            "/v1/users",
            json!({"email": "a\u{0}@b.co", "password": "12345\u{0}789", "first_name": "a\u{0}b"}),
            &["/email", "/password", "/first_name"],
        ),
        (
            "POST",
            "/v1/users",
            json!({"email": "a@b.co", "password": "x".repeat(1025)}),
            &["/password"],
        ),
        (
            "POST",
            "/v1/users",
            json!({"email": "a@b.co", "password": "12345678", "first_name": ""}),
            &["/first_name"],
        ),
        ("POST", "/v1/sessions", json!({}), &["/email", "/password"]),
        (
            "POST",
            "/v1/sessions",
            json!({"email": "a\u{0}", "password": ""}),
            &["/email", "/password"],
        ),
        (
            "POST",
            "/v1/sessions",
            json!({"email": {}, "password": "x".repeat(1025)}),
            &["/email", "/password"],
        ),
        (
            "PATCH",
            "/v1/me",
            json!({"first_name": 1, "last_name": "a\nb", "email": "x@y.co"}),
            &["/first_name", "/last_name", "/email"],
        ),
        ("POST", "/v1/connect_sessions", json!({}), &["/provider"]),
        (
            "POST",
            "/v1/connect_sessions",
            json!({"provider": "apple"}),
            &["/provider"],
        ),
        (
            "POST",
            "/v1/connect_sessions",
            json!({"provider": "MICROSOFT"}),
            &["/provider"],
        ),
        (
            "POST",
            "/v1/connect_sessions",
            json!({"provider": "google"}),
            &["/provider"],
        ),
        (
            "POST",
            "/v1/connect_sessions",
            json!({"provider": "microsoft", "delegate_email": "boss", "calendars": "some", "return_url": "https://evil.example/"}),
            &["/delegate_email", "/calendars", "/return_url"],
        ),
        (
            "POST",
            "/v1/connect_sessions",
            json!({"provider": "microsoft", "calendars": [], "return_url": "javascript:alert(1)"}),
            &["/calendars", "/return_url"],
        ),
        (
            "POST",
            "/v1/connect_sessions",
            json!({"provider": "microsoft", "calendars": ["a", "b\u{0}"], "return_url": 7}),
            &["/calendars", "/return_url"],
        ),
        (
            "POST",
            "/v1/connect_sessions",
            json!({"provider": "microsoft", "calendars": ["a", "x".repeat(256)]}),
            &["/calendars"],
        ),
        (
            "PATCH",
            &connection,
            json!({"paused": "yes", "calendar_name": "", "calendar_color": "red"}),
            &["/paused", "/calendar_name", "/calendar_color"],
        ),
        (
            "PATCH",
            &connection,
            json!({"paused": null, "calendar_name": null, "calendar_color": "#12345g"}),
            &["/paused", "/calendar_name", "/calendar_color"],
        ),
        (
            "PATCH",
            &connection,
            json!({"calendar_name": "x".repeat(256), "status": "connected"}),
            &["/calendar_name", "/status"],
        ),
    ];
    for (method, path, body, pointers) in cases {
        let answer = app
            .raw(method, path, Some("application/json"), body.to_string())
            .await;
        answer.assert_invalid(pointers);
        assert_eq!(answer.json()["errors"][0]["in"], "body");
        assert!(
            !answer.text.contains("evil") && !answer.text.contains("boss"),
            "repeats: {}",
            answer.text
        );
    }
}

#[tokio::test]
async fn with_wrong_parameters() {
    let app = app().await;
    let cases: &[(&str, &[&str])] = &[
        ("/v1/connections?limit=0", &["/limit"]),
        ("/v1/connections?limit=501", &["/limit"]),
        ("/v1/connections?limit=ten&limit=5", &["/limit"]),
        ("/v1/events?limit=-1", &["/limit"]),
        ("/v1/events?limit=99999999999999999999", &["/limit"]),
        ("/v1/events?connection_id=7", &["/connection_id"]),
        (
            "/v1/events?from=today&to=2026-02-30T00:00:00Z",
            &["/from", "/to"],
        ),
        (
            "/v1/events?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
            &["/to"],
        ),
        (
            "/v1/events?from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z",
            &["/to"],
        ),
        ("/v1/events?from=2026-01-02T00:00:00+01:00", &["/from"]),
        ("/v1/events?to=9999-12-31T23:59:59-23:59", &["/to"]),
        (
            "/v1/events?teams_enabled=1&include_deleted=yes",
            &["/teams_enabled", "/include_deleted"],
        ),
        (
            "/v1/events?importance=HIGH&status=done&view=all",
            &["/importance", "/status", "/view"],
        ),
        ("/v1/events?q=&category=", &["/category", "/q"]),
        (
            "/v1/events?q=a%00b&conversation_id=%00",
            &["/conversation_id", "/q"],
        ),
        ("/v1/events?updated_since=0", &["/updated_since"]),
        ("/v1/events?q=a&q=b", &["/q"]),
        ("/v1/events?provider=microsoft", &["/provider"]),
    ];
    for (path, pointers) in cases {
        app.get(path).await.assert_invalid(pointers);
    }
    let long = format!("/v1/events?q={}", "x".repeat(201));
    app.get(&long).await.assert_invalid(&["/q"]);
    for cursor in ["", "x", "%00", "AAAA", "../..", "%F0%9F%98%80"] {
        app.get(&format!("/v1/events?cursor={cursor}"))
            .await
            .assert_problem(400, "invalid_cursor");
        app.get(&format!("/v1/connections?cursor={cursor}"))
            .await
            .assert_problem(400, "invalid_cursor");
    }
}

#[tokio::test]
async fn with_ids_of_nothing() {
    let app = app().await;
    for unknown in [
        "7",
        "x",
        "%00",
        "%ff",
        "0198b5a0000070008000000000000000",
        "'; DROP TABLE users",
        &id(99).to_string(),
    ] {
        let unknown = unknown.replace(' ', "%20");
        for (method, path) in [
            ("GET", format!("/v1/connections/{unknown}")),
            ("DELETE", format!("/v1/connections/{unknown}")),
            ("POST", format!("/v1/connections/{unknown}/sync")),
            ("GET", format!("/v1/connections/{unknown}/subscriptions")),
            ("GET", format!("/v1/events/{unknown}")),
        ] {
            let answer = app.call(method, &path).await;
            let code = answer.code();
            assert!(
                code.ends_with("not_found"),
                "{method} {path}: {}",
                answer.text
            );
            answer.assert_problem(404, &code);
        }
        let answer = app
            .patch(&format!("/v1/connections/{unknown}"), &json!({}))
            .await;
        assert_eq!(answer.status, 404);
    }
    let of_nobody = format!("/v1/events?connection_id={}", id(99));
    app.get(&of_nobody)
        .await
        .assert_problem(404, "connection_not_found");
}
