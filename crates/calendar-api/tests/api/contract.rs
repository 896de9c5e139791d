//! The contract is true: what it names is there, and what is there it names. That answers look as it says
//! is checked with every request of these tests (see `support/contract.rs`).

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use calendar_domain::api_key::{ApiScope, NewApiKey};
use calendar_domain::ids::{ApiKeyId, SessionId};
use calendar_domain::ports::{ApiKeyStore, Clock as _};
use calendar_domain::user::NewSession;
use serde_json::{Value, json};

use crate::support::contract::{DOCUMENT, Operation, operations};
use crate::support::{App, connection, id, single};

async fn app() -> App {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    app.world
        .connections
        .lock()
        .unwrap()
        .push(connection(user, 500));
    *app.world.events.lock().unwrap() = vec![single(10, 500)];
    let session = NewSession {
        id: SessionId(id(500)),
        user_id: user,
        token_hash: [5; 32],
        expires_at: app.world.now() + time::Duration::days(1),
    };
    app.world.sessions.lock().unwrap().insert([5; 32], session);
    let key = NewApiKey {
        id: ApiKeyId(id(500)),
        user_id: user,
        name: "backend".into(),
        hint: "calkey_AbCd".into(),
        token_hash: [5; 32],
        scopes: vec![ApiScope::EventsRead],
    };
    let now = app.world.now();
    ApiKeyStore::create(&*app.world, key, now).await.unwrap();
    app
}

fn path(operation: &Operation) -> String {
    let known = if operation.path.starts_with("/v1/events") {
        id(10)
    } else {
        id(500)
    };
    operation.path_to(known)
}

#[tokio::test]
async fn every_route_is_named() {
    // axum shows its routes nowhere else.
    let shown = format!("{:?}", app().await.router());
    let routes: BTreeSet<_> = shown
        .split('"')
        .filter(|text| text.starts_with('/') && !text.starts_with("/docs/"))
        // The fallback's own.
        .filter(|text| !matches!(*text, "/" | "/{*__private__axum_fallback}"))
        .collect();
    let named: BTreeSet<_> = DOCUMENT["paths"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(routes, named);
}

#[tokio::test]
async fn every_operation_is_described() {
    let mut ids = BTreeSet::new();
    for operation in operations() {
        let id = operation.id();
        assert!(ids.insert(id.to_owned()), "{id} stands twice");
        let summary = operation.json["summary"].as_str().unwrap_or_default();
        assert!(
            !summary.is_empty() && !summary.ends_with('.'),
            "{id}: {summary}"
        );
        assert_eq!(operation.json["tags"].as_array().unwrap().len(), 1, "{id}");
        for (status, response) in operation.json["responses"].as_object().unwrap() {
            let problem = &response["content"]["application/problem+json"]["schema"];
            let page = &response["content"]["text/html"];
            assert!(
                status.as_str() < "400" || problem.is_object() || page.is_object(),
                "{id} {status} names no code"
            );
        }
        for parameter in operation.json["parameters"]
            .as_array()
            .into_iter()
            .flatten()
        {
            assert!(parameter["description"].is_string(), "{id}: {parameter}");
        }
    }
}

#[test]
fn what_may_be_null_in_an_answer_is_always_there() {
    let null = json!("null");
    let has_null = |kind: &Value| kind.as_array().is_some_and(|kinds| kinds.contains(&null));
    let one_is_null = |one: &Value| {
        one.as_array()
            .is_some_and(|of| of.iter().any(|it| it["type"] == null))
    };
    let mut seen = 0;
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        // Bodies of requests leave out what they like.
        if schema["additionalProperties"] == json!(false) {
            continue;
        }
        let parts = ["allOf", "oneOf"].map(|of| schema[of].as_array().cloned().unwrap_or_default());
        for part in parts.iter().flatten().chain([schema]) {
            for (field, property) in part["properties"].as_object().into_iter().flatten() {
                if has_null(&property["type"]) || one_is_null(&property["oneOf"]) {
                    let required = part["required"].as_array().unwrap();
                    assert!(required.contains(&json!(field)), "{name}: {field}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

/// With what the contract gives as examples.
#[tokio::test]
async fn every_operation_does_what_it_is_there_for() {
    for operation in operations() {
        let app = app().await;
        let path = match operation.id() {
            "take_microsoft_notifications" | "take_microsoft_lifecycle_notifications" => {
                format!("{}?validationToken=x", operation.path)
            }
            _ => path(&operation),
        };
        let answer = match operation.example() {
            Some(body) => {
                if operation.id() == "sign_in" {
                    app.post("/v1/users", &body).await;
                }
                let body = body.to_string();
                app.raw(&operation.method, &path, Some("application/json"), body)
                    .await
            }
            None => app.call(&operation.method, &path).await,
        };
        if operation.id() == "oauth_callback" {
            assert_eq!(answer.status, 400, "there is no state to come back with");
            continue;
        }
        assert!(
            answer.status.is_success() || answer.status.is_redirection(),
            "{}: {} {}",
            operation.id(),
            answer.status,
            answer.text
        );
    }
}

#[tokio::test]
async fn fields_and_parameters_are_those_that_are_read() {
    let app = app().await;
    for operation in operations() {
        let id = operation.id();
        if let Some(schema) = operation.body() {
            assert_eq!(schema["additionalProperties"], json!(false), "{id}");
            let body = json!({"unknown": 1}).to_string();
            let answer = app
                .raw(
                    &operation.method,
                    &path(&operation),
                    Some("application/json"),
                    body,
                )
                .await;
            let documented: BTreeSet<_> = schema["properties"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            assert_eq!(known(&answer.json()), documented, "{id}");
        }
        if operation.is_strict() {
            let path = format!("{}?unknown=1", path(&operation));
            let body = operation.example().unwrap_or_default();
            let answer = app
                .raw(
                    &operation.method,
                    &path,
                    Some("application/json"),
                    body.to_string(),
                )
                .await;
            let documented = operation.parameters("query").into_iter().collect();
            assert_eq!(known(&answer.json()), documented, "{id}");
        }
    }
}

#[tokio::test]
async fn a_read_that_the_caller_has_is_not_sent_again() {
    let app = app().await;
    let ask = async |method: &str, path: &str, tag: Option<&str>| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(tag) = tag {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        app.send(request.body(Body::empty()).unwrap()).await
    };
    let mut reads = 0;
    for operation in operations() {
        if operation.method != "GET" || operation.json["responses"].get("304").is_none() {
            continue;
        }
        reads += 1;
        let path = path(&operation);
        let whole = app.get(&path).await;
        let tag = whole.header(header::ETAG).to_owned();
        for (method, named, status) in [
            ("GET", Some(format!("\"x\", W/{tag}")), 304),
            ("HEAD", Some(tag.clone()), 304),
            ("GET", Some("\"x\"".to_owned()), 200),
            ("HEAD", None, 200),
        ] {
            let answer = ask(method, &path, named.as_deref()).await;
            assert_eq!(answer.status, status, "{method} {path} {named:?}");
            assert_eq!(answer.header(header::ETAG), tag);
            assert_eq!(answer.header(header::CACHE_CONTROL), "private, no-cache");
            assert_eq!(answer.header(header::VARY), "Authorization, Calendar-User");
            let sent = if (method, status) == ("GET", 200) {
                &whole.text
            } else {
                ""
            };
            assert_eq!(answer.text, sent);
        }
    }
    assert!(reads >= 6, "{reads}");
    let path = format!("/v1/connections/{}", id(500));
    let before = app.get(&path).await;
    app.patch(&path, &json!({"paused": true})).await;
    let after = ask("GET", &path, Some(before.header(header::ETAG))).await;
    assert_eq!(after.status, 200, "it has changed");
    assert_eq!(
        app.get("/healthz").await.header(header::CACHE_CONTROL),
        "no-store"
    );
}

#[cfg(not(feature = "docs"))]
#[tokio::test]
async fn without_the_feature_there_is_no_page() {
    for path in ["/docs", "/docs/", "/docs/index.html"] {
        let answer = app().await.get(path).await;
        answer.assert_problem(404, "no_such_route");
    }
}

#[cfg(feature = "docs")]
#[tokio::test]
async fn the_page_loads_what_is_compiled_in() {
    let app = app().await;
    let to = app.get("/docs").await;
    assert_eq!(
        (to.status.as_u16(), to.header(header::LOCATION)),
        (308, "docs/")
    );
    let page = app.get("/docs/").await;
    assert_eq!(page.header(header::CONTENT_TYPE), "text/html");
    let policy = page.header(header::CONTENT_SECURITY_POLICY);
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    // Nothing inline, which the policy would refuse, and nothing of others.
    assert_eq!(
        page.text.matches("<script").count(),
        page.text.matches("<script src=\"./").count()
    );
    assert!(
        !page.text.contains("//") || !page.text.contains("http"),
        "{}",
        page.text
    );
    let named = page
        .text
        .split('"')
        .filter(|text| matches!(text.rsplit_once('.'), Some((_, "js" | "css"))));
    for name in named {
        let file = app
            .get(&format!("/docs/{}", name.trim_start_matches("./")))
            .await;
        assert_eq!(file.status, 200, "{name}");
    }
    let start = app.get("/docs/swagger-initializer.js").await;
    assert!(start.text.contains("\"../openapi.json\""), "{}", start.text);
    app.get("/docs/none.js")
        .await
        .assert_problem(404, "not_found");
}

#[tokio::test]
async fn what_is_served_says_where() {
    assert!(DOCUMENT.get("servers").is_none());
    let mut served = app().await.get("/openapi.json").await.json();
    let servers = served.as_object_mut().unwrap().remove("servers");
    assert_eq!(servers, Some(json!([{"url": "https://calendar.example"}])));
    assert_eq!(served, *DOCUMENT);
}

/// What a refusal of `unknown` says there is.
fn known(problem: &Value) -> BTreeSet<String> {
    let errors = problem["errors"].as_array().unwrap();
    let detail = errors
        .iter()
        .find(|error| error["pointer"] == "/unknown")
        .and_then(|error| error["detail"].as_str())
        .unwrap();
    let (_, names) = detail.split_once("known: ").unwrap();
    names
        .split(", ")
        .filter(|name| *name != "none")
        .map(str::to_owned)
        .collect()
}
