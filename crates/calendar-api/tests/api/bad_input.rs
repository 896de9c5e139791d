//! Bad input, as a table over the operations of the contract: the right problem, never a 500. What each
//! operation takes, and so what it has to refuse, the contract says; below stand the cases that it cannot know.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};
use time::macros::datetime;

use crate::support::contract::{Operation, operations, resolved};
use crate::support::{Answer, App, PASSWORD, connection, id, rejected, single, subscription};

const JSON: Option<&str> = Some("application/json");

/// Ada with two of everything that is listed; Eve has one connection and one event.
async fn app() -> App {
    let app = App::signed_in().await;
    app.token_of("eve@example.com").await;
    let [ada, eve] = ["ada@example.com", "eve@example.com"].map(|email| app.world.user(email));
    *app.world.connections.lock().unwrap() = vec![
        connection(ada, 500),
        connection(ada, 501),
        connection(eve, 600),
    ];
    *app.world.events.lock().unwrap() = vec![single(10, 500), single(11, 500), single(20, 600)];
    *app.world.rejected.lock().unwrap() = vec![rejected(30, 500), rejected(31, 500)];
    *app.world.subscriptions.lock().unwrap() = vec![subscription(10, 500), subscription(11, 500)];
    let sign_in = json!({"email": "ada@example.com", "password": PASSWORD});
    assert_eq!(app.post("/v1/sessions", &sign_in).await.status, 201);
    let key = json!({"name": "backend", "scopes": ["users:manage"]});
    for number in 0..2 {
        assert_eq!(app.post("/v1/api_keys", &key).await.status, 201);
        app.world
            .manage(ada, &format!("{number}@product.example"))
            .await;
    }
    app
}

/// A path with an id of Ada's, where it has one.
fn path(operation: &Operation) -> String {
    let is_event = operation.path.starts_with("/v1/events");
    operation.path_to(id(if is_event { 10 } else { 500 }))
}

fn body(operation: &Operation) -> String {
    let example = operation.example();
    example.as_ref().map(Value::to_string).unwrap_or_default()
}

/// A request that is good but for its query and its body.
async fn call(app: &App, operation: &Operation, query: &str, body: String) -> Answer {
    let path = format!("{}{query}", path(operation));
    app.raw(&operation.method, &path, JSON, body).await
}

/// Nothing of ours or of the caller's stands in a refusal.
#[track_caller]
fn assert_tight(answer: &Answer) {
    for leak in [
        "SELECT",
        "INSERT",
        "diesel",
        ".rs",
        "src/",
        "canary",
        "called `",
        "password\":",
    ] {
        assert!(!answer.text.contains(leak), "{leak}: {}", answer.text);
    }
}

#[track_caller]
fn refused(answer: &Answer, what: &str, status: u16, code: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (status, code),
        "{what}: {}",
        answer.text
    );
    answer.assert_problem(status, code);
    assert_tight(answer);
}

/// A 422 with this one wrong value.
#[track_caller]
fn invalid(answer: &Answer, what: &str, place: &str, name: &str) {
    refused(answer, what, 422, "invalid_input");
    let problem = answer.json();
    let errors = problem["errors"].as_array().unwrap();
    let named: BTreeSet<_> = errors
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    let pointer = format!("/{name}");
    assert_eq!(named, BTreeSet::from([pointer.as_str()]), "{what}");
    assert!(errors.iter().all(|error| error["in"] == place), "{what}");
}

#[tokio::test]
async fn without_a_good_token() {
    let app = app().await;
    let expired = app.token_of("late@example.com").await;
    let late = app.world.user("late@example.com");
    for session in app.world.sessions.lock().unwrap().values_mut() {
        if session.user_id == late {
            session.expires_at = datetime!(2026-01-05 09:00 UTC);
        }
    }
    let expired = format!("Bearer {expired}");
    let long = format!("Bearer {}", "x".repeat(5_000));
    for operation in operations().iter().filter(|each| each.needs_token()) {
        for (authorization, code) in [
            // An empty one stands for none: the app adds its own only where there is no header.
            ("", "token_missing"),
            ("Basic YTpi", "token_missing"),
            ("Bearer", "token_missing"),
            ("Bearer  ", "token_missing"),
            ("token", "token_missing"),
            ("Bearer nobody's", "token_invalid"),
            (&long, "token_invalid"),
            (&expired, "token_invalid"),
        ] {
            let request = Request::builder()
                .method(operation.method.as_str())
                .uri(path(operation))
                .header(header::AUTHORIZATION, authorization)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body(operation)))
                .unwrap();
            let what = format!("{} {authorization:.20}", operation.id());
            refused(&app.send(request).await, &what, 401, code);
        }
    }
    assert_eq!(app.get("/v1/me").await.status, 200, "nothing was done");
}

#[tokio::test]
async fn with_a_method_that_is_not_allowed() {
    let app = app().await;
    for operation in operations() {
        let known: BTreeSet<_> = operations()
            .into_iter()
            .filter(|each| each.path == operation.path)
            .map(|each| each.method)
            .collect();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            if known.contains(method) {
                continue;
            }
            let answer = app.call(method, &path(&operation)).await;
            let what = format!("{method} {}", operation.path);
            refused(&answer, &what, 405, "method_not_allowed");
            let allowed: BTreeSet<_> = answer
                .header(header::ALLOW)
                .split([',', ' '])
                .filter(|method| !matches!(*method, "" | "HEAD"))
                .map(str::to_owned)
                .collect();
            assert_eq!(allowed, known, "{what}");
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
        refused(&app.get(path).await, path, 404, "no_such_route");
    }
}

#[tokio::test]
async fn with_a_body_that_is_none() {
    let app = app().await;
    let large = format!("{{\"email\": \"{}\"}}", "x".repeat(1 << 20));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    for operation in &operations() {
        if operation.json.get("requestBody").is_none() {
            continue;
        }
        let id = operation.id();
        let (method, path) = (&operation.method, path(operation));
        let answer = app.raw(method, &path, JSON, large.clone()).await;
        refused(&answer, id, 413, "body_too_large");
        // The same, announced only: nothing has to arrive first.
        let announced = Request::builder()
            .method(method.as_str())
            .uri(&path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, "1048577")
            .body(Body::from("{}"))
            .unwrap();
        refused(&app.send(announced).await, id, 413, "body_too_large");
        if operation.body().is_none() {
            continue;
        }
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/json; charset=latin-1"),
            Some("json"),
        ] {
            let answer = app.raw(method, &path, content_type, body(operation)).await;
            refused(&answer, id, 415, "unsupported_media_type");
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
            let answer = call(&app, operation, "", malformed.to_owned()).await;
            refused(&answer, id, 400, "malformed_json");
        }
        let not_utf8 = app.raw(method, &path, JSON, vec![b'{', b'"', 0xff]).await;
        refused(&not_utf8, id, 400, "malformed_json");
    }
}

/// Values that a schema does not allow.
fn bad_values(schema: &Value) -> Vec<Value> {
    let schema = resolved(schema);
    let is = |kind: &str| {
        schema["type"] == kind
            || schema["type"]
                .as_array()
                .is_some_and(|kinds| kinds.contains(&json!(kind)))
    };
    let mut bad = vec![json!({}), json!(-1.5)];
    let variants = schema["anyOf"].as_array();
    let can_be_null =
        is("null") || variants.is_some_and(|variants| variants.contains(&json!({"type": "null"})));
    if !can_be_null {
        bad.push(Value::Null);
    }
    if is("string") || variants.is_some() {
        bad.extend([json!(true), json!("a\0b")]);
    }
    if is("boolean") {
        bad.extend([json!("yes"), json!(1), json!("true")]);
    }
    if is("array") {
        let of_items = bad_values(&schema["items"]);
        bad.extend(of_items.into_iter().map(|item| json!([item])));
        if schema["minItems"].as_u64() > Some(0) {
            bad.push(json!([]));
        }
    }
    if let Some(most) = schema["maxLength"].as_u64() {
        bad.push(json!("x".repeat(usize::try_from(most).unwrap() + 1)));
    }
    if let Some(least @ 1..) = schema["minLength"].as_u64() {
        let few = "x".repeat(usize::try_from(least).unwrap() - 1);
        bad.push(json!(few));
    }
    if let Some(name) = schema["enum"][0].as_str() {
        bad.extend([json!("nonsense"), json!(name.to_uppercase()), json!("")]);
    }
    if schema["format"] == "email"
        || schema["format"] == "uri"
        || schema["pattern"] == "^#[0-9A-Fa-f]{6}$"
    {
        bad.extend([json!("nonsense"), json!("#12345g")]);
    }
    bad
}

#[tokio::test]
async fn with_fields_that_the_contract_does_not_allow() {
    let app = app().await;
    let mut tried = 0;
    for operation in &operations() {
        let (Some(schema), Some(good)) = (operation.body(), operation.example()) else {
            continue;
        };
        for (name, field) in schema["properties"].as_object().unwrap() {
            for bad in bad_values(field) {
                let mut body = good.clone();
                body[name] = bad;
                let what = format!("{} {body:.200}", operation.id());
                let answer = call(&app, operation, "", body.to_string()).await;
                invalid(&answer, &what, "body", name);
                tried += 1;
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap();
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(name);
            let answer = call(&app, operation, "", body.to_string()).await;
            invalid(&answer, operation.id(), "body", name);
        }
        let mut more = good;
        more["unk/nown"] = json!(1);
        let answer = call(&app, operation, "", more.to_string()).await;
        invalid(&answer, operation.id(), "body", "unk~1nown");
    }
    assert!(tried > 60, "{tried}");
}

/// A good value of a parameter, and bad ones, as a query holds them.
fn values(schema: &Value) -> (String, Vec<String>) {
    let schema = resolved(schema);
    let text = |values: &[&str]| values.iter().copied().map(str::to_owned).collect();
    let kind = schema["type"].as_str().unwrap_or_default();
    if let Some(name) = schema["enum"][0].as_str() {
        let upper = name.to_uppercase();
        return (name.to_owned(), text(&["nonsense", &upper, "", "%00"]));
    }
    match (kind, schema["format"].as_str()) {
        ("boolean", _) => ("true".into(), text(&["1", "yes", "", "TRUE", "%00"])),
        ("integer", _) => {
            let (least, most) = (&schema["minimum"], &schema["maximum"]);
            let below = (least.as_i64().unwrap() - 1).to_string();
            let above = (most.as_i64().unwrap() + 1).to_string();
            let huge = "99999999999999999999";
            let bad = text(&[&below, &above, huge, "-1", "1.5", "1e1", "ten", "", "%00"]);
            (least.to_string(), bad)
        }
        ("string", Some("uuid")) => (
            id(500).to_string(),
            text(&["7", "", "%00", "0198b5a0000070008000000000000000"]),
        ),
        ("string", Some("date-time")) => (
            "2026-01-31T09:00:00Z".into(),
            text(&[
                "today",
                "",
                "%00",
                "0",
                "2026-01-31",
                "2026-02-30T00:00:00Z",
                "2026-01-31T25:00:00Z",
                "2026-01-31T09:00:00+01:00",
                "9999-12-31T23:59:59-23:59",
                "+12026-01-31T09:00:00Z",
            ]),
        ),
        _ => {
            let mut bad = vec!["a%00b".to_owned()];
            if let Some(most) = schema["maxLength"].as_u64() {
                bad.push("x".repeat(usize::try_from(most).unwrap() + 1));
                bad.push(String::new());
            }
            ("x".into(), bad)
        }
    }
}

#[tokio::test]
async fn with_parameters_that_the_contract_does_not_allow() {
    let app = app().await;
    let mut tried = 0;
    for operation in operations().iter().filter(|each| each.is_strict()) {
        let refuse = async |query: &str, name: &str| {
            let answer = call(&app, operation, query, body(operation)).await;
            invalid(
                &answer,
                &format!("{} {query:.90}", operation.id()),
                "query",
                name,
            );
        };
        refuse("?no~w=1", "no~0w").await;
        refuse("?a/b%00=1", "a~1b\0").await;
        let answer = call(&app, operation, "?a=%ff", body(operation)).await;
        refused(&answer, operation.id(), 400, "malformed_query");
        for parameter in operation.json["parameters"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if parameter["in"] != "query" {
                continue;
            }
            let name = parameter["name"].as_str().unwrap();
            let (good, bad) = values(&parameter["schema"]);
            refuse(&format!("?{name}={good}&{name}={good}"), name).await;
            for value in bad.iter().filter(|_| name != "cursor") {
                refuse(&format!("?{name}={value}"), name).await;
                tried += 1;
            }
        }
    }
    assert!(tried > 70, "{tried}");
}

#[tokio::test]
async fn with_a_cursor_of_something_else() {
    let mut app = app().await;
    let lists: Vec<_> = operations()
        .into_iter()
        .filter(|each| each.parameters("query").contains(&"cursor".to_owned()))
        .collect();
    let mut cursors = vec![String::new()];
    for list in &lists {
        let page = call(&app, list, "?limit=1", String::new()).await.json();
        let cursor = page["next_cursor"]
            .as_str()
            .unwrap_or_else(|| panic!("{}: {page}", list.id()));
        cursors.push(cursor.to_owned());
        let last = call(
            &app,
            list,
            &format!("?limit=1&cursor={cursor}"),
            String::new(),
        )
        .await;
        assert_eq!(last.status, 200, "{}", list.id());
        let flipped = if cursor.starts_with('A') { "B" } else { "A" };
        for bad in [
            format!("{flipped}{}", &cursor[1..]),
            cursor[1..].to_owned(),
            format!("{cursor}A"),
        ] {
            let answer = call(&app, list, &format!("?cursor={bad}"), String::new()).await;
            refused(&answer, list.id(), 400, "invalid_cursor");
        }
    }
    assert!(cursors.len() > 7, "{cursors:?}");
    for list in &lists {
        for bad in ["", "x", "%00", "AAAA", "../..", "%F0%9F%98%80"] {
            let answer = call(&app, list, &format!("?cursor={bad}"), String::new()).await;
            refused(&answer, list.id(), 400, "invalid_cursor");
        }
        let good = async |cursor: &String| {
            let answer = call(
                &app,
                list,
                &format!("?limit=1&cursor={cursor}"),
                String::new(),
            )
            .await;
            answer.status == 200
        };
        let mut accepted = 0;
        for cursor in &cursors {
            accepted += usize::from(good(cursor).await);
        }
        assert!(
            accepted <= 1,
            "{} takes the cursor of another list",
            list.id()
        );
    }
    // Nor with other conditions, nor by somebody else.
    let users = lists
        .iter()
        .position(|list| list.id() == "list_users")
        .unwrap();
    let path = format!(
        "/v1/users?email=0@product.example&cursor={}",
        cursors[users + 1]
    );
    refused(&app.get(&path).await, &path, 400, "invalid_cursor");
    let sign_in = json!({"email": "eve@example.com", "password": PASSWORD});
    let session = app.post("/v1/sessions", &sign_in).await.json();
    app.token = session["token"].as_str().map(str::to_owned);
    for (list, cursor) in lists.iter().zip(&cursors[1..]) {
        let answer = call(&app, list, &format!("?cursor={cursor}"), String::new()).await;
        refused(&answer, list.id(), 400, "invalid_cursor");
    }
}

#[tokio::test]
async fn with_an_id_of_nothing_or_of_another_user() {
    let app = app().await;
    let of_eve = [id(20), id(600)].map(|id| id.to_string());
    let unknown = [
        "7",
        "x",
        "%00",
        "%ff",
        "0198b5a0000070008000000000000000",
        "'%3B%20DROP%20TABLE%20users",
        &id(99).to_string(),
    ]
    .map(str::to_owned);
    for operation in operations() {
        if !operation.path.contains("{id}") {
            continue;
        }
        let mut refusals = BTreeSet::new();
        for id in unknown.iter().chain(&of_eve) {
            let path = operation.path_to(id);
            let answer = app
                .raw(&operation.method, &path, JSON, body(&operation))
                .await;
            let code = answer.code();
            let what = format!("{} {path}", operation.method);
            assert!(code.ends_with("not_found"), "{what}: {}", answer.text);
            refused(&answer, &what, 404, &code);
            if id.len() == 36 {
                refusals.insert((code, answer.json()["detail"].to_string()));
            }
        }
        assert_eq!(
            refusals.len(),
            1,
            "what is another's is nothing: {refusals:?}"
        );
    }
    for of_nobody in [id(99), id(600)] {
        let path = format!("/v1/events?connection_id={of_nobody}");
        refused(&app.get(&path).await, &path, 404, "connection_not_found");
    }
    assert_eq!(app.world.connections.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn with_values_that_are_wrong_together_or_here() {
    let app = app().await;
    for (body, pointers) in [
        // Not configured on this server.
        (json!({"provider": "google"}), &["/provider"][..]),
        (
            json!({"provider": "apple", "delegate_email": "boss", "calendars": "some", "return_url": "https://evil.example/"}),
            &["/provider", "/delegate_email", "/calendars", "/return_url"],
        ),
        (
            json!({"provider": "microsoft", "calendars": [], "return_url": "javascript:alert(1)"}),
            &["/calendars", "/return_url"],
        ),
        (
            json!({"provider": "microsoft", "calendars": ["a", "b\0"]}),
            &["/calendars"],
        ),
        (
            json!({"provider": "microsoft", "calendars": ["a", "x".repeat(256)]}),
            &["/calendars"],
        ),
    ] {
        let answer = app.post("/v1/connect_sessions", &body).await;
        answer.assert_invalid(pointers);
        for value in ["evil", "boss", "some"] {
            let detail = answer.json()["errors"].to_string();
            assert!(!detail.contains(value), "repeats: {detail}");
        }
    }
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    for (query, pointers) in [
        (format!("from={late}&to={early}"), &["/to"][..]),
        (format!("from={late}&to={late}"), &["/to"]),
        (
            "from=today&to=2026-02-30T00:00:00Z".to_owned(),
            &["/from", "/to"],
        ),
        (
            "importance=HIGH&status=done&view=all".to_owned(),
            &["/importance", "/status", "/view"],
        ),
    ] {
        let answer = app.get(&format!("/v1/events?{query}")).await;
        answer.assert_invalid(pointers);
    }
    // A password is taken as it is, and counts in characters.
    for (password, is_good) in [
        ("ä".repeat(1024), true),
        ("  8 chars".to_owned(), true),
        ("ä".repeat(7), false),
    ] {
        let user =
            json!({"email": format!("{}@example.com", password.len()), "password": password});
        let answer = app.post("/v1/users", &user).await;
        assert_eq!(answer.status == 201, is_good, "{}", answer.text);
    }
}
