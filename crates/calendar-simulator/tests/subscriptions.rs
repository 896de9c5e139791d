//! Subscriptions over HTTP: what is accepted, who is asked, who sees them, how they end.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::time::{Duration, Instant};

use calendar_simulator::{Client, Fault, LifecycleEvent, Quirks};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::listener::{Listener, Validation, until};
use support::{ALEX, Bench, IMMUTABLE, MEGAN, at, meeting};

const ALL: &str = "created,updated,deleted";

async fn admin(bench: &Bench, method: Method, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}/admin/{path}", bench.server.url());
    let mut request = bench.http.request(method, url);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// What a create request with some members changed answers: status and code.
async fn attempt(bench: &Bench, url: &str, changes: Value) -> (u16, String) {
    let (status, body) = create(bench, url, changes).await;
    let code = body["error"]["code"].as_str().unwrap_or_default();
    (status, code.to_owned())
}

async fn create(bench: &Bench, url: &str, changes: Value) -> (u16, Value) {
    let mut body = bench.wanted(url, ALL);
    for (member, value) in changes.as_object().unwrap() {
        body[member] = value.clone();
    }
    bench.send(Method::POST, "/subscriptions", &body).await
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_subscription_is_made_read_renewed_and_deleted() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.server.set_clock(at("2026-03-01T10:00:00Z"), true);
    let (url, lifecycle) = (listener.url("/push?a=1"), listener.url("/life"));
    let (status, made) = create(
        &bench,
        &url,
        json!({"lifecycleNotificationUrl": lifecycle, "expirationDateTime": "2026-03-03T12:00:00.5+02:00"}),
    )
    .await;
    assert_eq!(status, 201, "{made}");
    let user = bench.read("/me").await["id"].clone();
    let id = made["id"].as_str().unwrap().to_owned();
    let mut expected = json!({
        "@odata.context": format!("{}/$metadata#subscriptions/$entity", bench.server.graph_url()),
        "id": id,
        "resource": "me/events",
        "applicationId": made["applicationId"],
        "changeType": ALL,
        "clientState": "secret",
        "notificationUrl": url,
        "notificationQueryOptions": null,
        "notificationContentType": null,
        "lifecycleNotificationUrl": lifecycle,
        "expirationDateTime": "2026-03-03T10:00:00.5000000Z",
        "creatorId": user,
        "includeResourceData": null,
        "latestSupportedTlsVersion": "v1_2",
        "encryptionCertificate": null,
        "encryptionCertificateId": null,
        "notificationUrlAppId": null,
    });
    assert_eq!(made, expected);
    let application = made["applicationId"].as_str().unwrap();
    assert_eq!((id.len(), application.len()), (36, 36));

    let path = format!("/subscriptions/{id}");
    assert_eq!(bench.read(&path).await, expected);
    let mut row = expected.clone();
    row.as_object_mut().unwrap().remove("@odata.context");
    let list = bench.read("/subscriptions").await;
    assert_eq!(list["value"], json!([row]));
    assert!(
        list["@odata.context"]
            .as_str()
            .unwrap()
            .ends_with("/v1.0/$metadata#subscriptions")
    );

    let info = bench.server.subscriptions().remove(0);
    assert_eq!(
        (info.mailbox.as_str(), info.renewed_at),
        (ALEX, None),
        "{info:?}"
    );
    bench.server.set_clock(at("2026-03-02T10:00:00Z"), true);
    let patch = json!({"expirationDateTime": "2026-03-09T10:00:00Z"});
    let (status, renewed) = bench.send(Method::PATCH, &path, &patch).await;
    expected["expirationDateTime"] = "2026-03-09T10:00:00.0000000Z".into();
    assert_eq!((status, &renewed), (200, &expected));
    let info = bench.server.subscriptions().remove(0);
    assert_eq!(info.renewed_at, Some(at("2026-03-02T10:00:00Z")));
    assert_eq!(info.expires_at, at("2026-03-09T10:00:00Z"));

    let answer = bench.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert_eq!(answer.text().await.unwrap(), "");
    let gone = refused(404, "ResourceNotFound");
    assert_eq!(bench.refusal(&path).await, gone);
    for (method, path) in [
        (Method::PATCH, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}/reauthorize")),
    ] {
        assert_eq!(
            bench.send(method, &path, &patch).await.1["error"]["code"],
            "ResourceNotFound"
        );
    }
    assert_eq!(bench.read("/subscriptions").await["value"], json!([]));
    assert!(bench.server.subscriptions().is_empty());
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let made = bench.subscribe(&listener.url("/"), ALL, "").await;
    let path = format!("/subscriptions/{}", made["id"].as_str().unwrap());
    for (method, path, expected) in [
        (Method::PUT, "/subscriptions".to_owned(), 405),
        (Method::POST, path.clone(), 405),
        (Method::GET, format!("{path}/reauthorize"), 405),
        (Method::POST, format!("{path}/other"), 400),
    ] {
        assert_eq!(
            bench.send(method, &path, &json!({})).await.0,
            expected,
            "{path}"
        );
    }
    assert_eq!(
        bench
            .send(Method::POST, "/subscriptions", &json!([]))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn requests_need_a_token_are_recorded_and_can_be_made_to_fail() {
    let bench = Bench::calm().await;
    let url = format!("{}/subscriptions", bench.server.graph_url());
    let answer = bench.http.get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    bench.server.script_fault(Fault {
        method: Some("GET".into()),
        path_contains: "/subscriptions".into(),
        status: 503,
        ..Fault::default()
    });
    assert_eq!(bench.get("/subscriptions").await.status(), 503);
    let since = Instant::now();
    bench.server.set_quirks(Quirks {
        latency_ms: 120,
        ..Quirks::none()
    });
    assert_eq!(bench.get("/subscriptions").await.status(), 200);
    assert!(since.elapsed() >= Duration::from_millis(120));
    let seen: Vec<(String, u16)> = bench
        .server
        .requests()
        .into_iter()
        .map(|request| (request.path, request.status))
        .collect();
    let path = "/v1.0/subscriptions".to_owned();
    assert_eq!(
        seen,
        [(path.clone(), 401), (path.clone(), 503), (path, 200)]
    );
    let mailbox = &bench.server.requests()[2].mailbox;
    assert_eq!(mailbox.as_deref(), Some(ALEX));
}

#[tokio::test]
async fn only_the_users_and_applications_own_are_seen() {
    let (mut bench, listener) = (Bench::calm().await, Listener::start().await);
    let made = bench.subscribe(&listener.url("/alex"), ALL, "").await;
    let path = format!("/subscriptions/{}", made["id"].as_str().unwrap());
    let alex = bench.token.clone();
    let another_user = bench.server.issue_access_token(MEGAN).unwrap();
    bench.server.set_clients(vec![Client {
        id: "another-application".into(),
        secret: None,
        redirect_uris: vec![],
    }]);
    let another_application = bench.server.issue_access_token(ALEX).unwrap();
    for token in [another_user, another_application] {
        bench.token = token;
        assert_eq!(bench.read("/subscriptions").await["value"], json!([]));
        assert_eq!(bench.refusal(&path).await, refused(404, "ResourceNotFound"));
        let patch = json!({"expirationDateTime": bench.ahead(60)});
        for method in [Method::PATCH, Method::DELETE] {
            assert_eq!(bench.send(method, &path, &patch).await.0, 404);
        }
        let reauthorize = format!("{path}/reauthorize");
        assert_eq!(
            bench.send(Method::POST, &reauthorize, &json!({})).await.0,
            404
        );
        // Nor do they stand in each other's way.
        let other = bench.subscribe(&listener.url("/other"), ALL, "").await;
        assert_eq!(
            bench.read("/subscriptions").await["value"][0]["id"],
            other["id"]
        );
    }
    assert_eq!(bench.server.subscriptions().len(), 3);
    bench.token = alex;
    assert_eq!(
        bench.read("/subscriptions").await["value"][0]["id"],
        made["id"]
    );
    let own = bench.read("/subscriptions").await;
    assert_eq!(own["value"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_list_has_pages() {
    let bench = Bench::with(Quirks {
        duplicate_subscriptions_refused: false,
        ..Quirks::none()
    })
    .await;
    let listener = Listener::start().await;
    for _ in 0..3 {
        bench.subscribe(&listener.url("/"), ALL, "").await;
    }
    let first = bench.read("/subscriptions?$top=2").await;
    assert_eq!(first["value"].as_array().unwrap().len(), 2);
    let rest = bench.read(first["@odata.nextLink"].as_str().unwrap()).await;
    assert_eq!(rest["value"].as_array().unwrap().len(), 1);
    assert_eq!(rest.get("@odata.nextLink"), None);
}

#[tokio::test]
async fn the_resource_is_all_events_of_the_users_own_mailbox() {
    let bench = Bench::with(Quirks {
        duplicate_subscriptions_refused: false,
        ..Quirks::none()
    })
    .await;
    let listener = Listener::start().await;
    let url = listener.url("/");
    let id = bench.read("/me").await["id"].as_str().unwrap().to_owned();
    for resource in [
        "me/events".to_owned(),
        "/me/events".to_owned(),
        format!("users/{ALEX}/events"),
        format!("/users/{id}/events"),
        format!("/users('{id}')/events"),
    ] {
        let (status, made) = create(&bench, &url, json!({"resource": resource})).await;
        assert_eq!((status, &made["resource"]), (201, &json!(resource)));
    }
    let calendar = bench.server.find_calendar(ALEX, None).unwrap();
    for resource in [
        json!(format!("me/calendars/{calendar}/events")),
        json!("me/calendar/events"),
        json!("me/messages"),
        json!(""),
        json!(7),
        Value::Null,
    ] {
        assert_eq!(
            attempt(&bench, &url, json!({"resource": resource})).await,
            refused(400, "InvalidRequest"),
            "{resource}"
        );
    }

    listener.forget();
    bench.server.share_mailbox(MEGAN, ALEX, true).unwrap();
    for user in [MEGAN.to_owned(), MEGAN.to_uppercase()] {
        let resource = format!("users/{user}/events");
        let (status, body) = create(&bench, &url, json!({"resource": resource})).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (403, &json!("ExtensionError"))
        );
        assert_eq!(
            body["error"]["message"],
            "Operation: Create; Exception: [Status Code: Forbidden; Reason: Forbidden]"
        );
    }
    bench.server.unshare(MEGAN, ALEX).unwrap();
    assert_eq!(
        attempt(
            &bench,
            &url,
            json!({"resource": format!("users/{MEGAN}/events")})
        )
        .await,
        refused(403, "ExtensionError")
    );
    assert_eq!(
        attempt(
            &bench,
            &url,
            json!({"resource": "users/nobody@contoso.example/events"})
        )
        .await,
        refused(404, "ResourceNotFound")
    );
    assert!(listener.received().is_empty(), "nobody is asked in vain");
}

#[tokio::test]
async fn a_token_without_calendar_rights_may_not_subscribe() {
    let (mut bench, listener) = (Bench::calm().await, Listener::start().await);
    let base = format!("{}/common/oauth2/v2.0", bench.server.url());
    let query = format!(
        "client_id=app&response_type=code&redirect_uri=http://localhost/back&scope=User.Read&login_hint={ALEX}"
    );
    let answer = bench
        .http
        .get(format!("{base}/authorize?{query}"))
        .send()
        .await
        .unwrap();
    let back = answer.headers()["location"].to_str().unwrap();
    let back = url::Url::parse(back).unwrap();
    let code = back.query_pairs().find(|(name, _)| name == "code").unwrap();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("redirect_uri", "http://localhost/back"),
        ("code", &code.1),
    ];
    let answer = bench
        .http
        .post(format!("{base}/token"))
        .form(&form)
        .send()
        .await
        .unwrap();
    let tokens: Value = answer.json().await.unwrap();
    bench.token = tokens["access_token"].as_str().unwrap().to_owned();
    assert_eq!(
        attempt(&bench, &listener.url("/"), json!({})).await,
        refused(403, "ExtensionError")
    );
    assert_eq!(bench.read("/subscriptions").await["value"], json!([]));
}

#[tokio::test]
async fn change_types_client_state_and_tls_version_are_checked() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let url = listener.url("/");
    for bad in [
        json!({"changeType": "created,moved"}),
        json!({"changeType": ""}),
        json!({"changeType": "created,"}),
        json!({"changeType": null}),
        json!({"clientState": "x".repeat(129)}),
        json!({"clientState": 7}),
        json!({"latestSupportedTlsVersion": "v9"}),
    ] {
        assert_eq!(
            attempt(&bench, &url, bad.clone()).await,
            refused(400, "InvalidRequest"),
            "{bad}"
        );
    }
    assert_eq!(
        attempt(&bench, &url, json!({"includeResourceData": true}))
            .await
            .0,
        501
    );
    assert!(bench.server.subscriptions().is_empty());
    for good in [
        json!({"changeType": "created"}),
        json!({"changeType": "updated, deleted"}),
        json!({"changeType": "deleted", "clientState": "x".repeat(128)}),
        json!({"changeType": "deleted,created", "clientState": null, "latestSupportedTlsVersion": "v1_3"}),
    ] {
        let (status, made) = create(&bench, &url, good.clone()).await;
        assert_eq!((status, &made["changeType"]), (201, &good["changeType"]));
    }
}

#[tokio::test]
async fn the_expiration_is_bounded() {
    let bench = Bench::with(Quirks {
        duplicate_subscriptions_refused: false,
        ..Quirks::none()
    })
    .await;
    let listener = Listener::start().await;
    let url = listener.url("/");
    bench.server.set_clock(at("2026-03-01T10:00:00Z"), true);
    let made = bench.subscribe(&url, ALL, "").await;
    let path = format!("/subscriptions/{}", made["id"].as_str().unwrap());
    for (bad, code) in [
        (json!(null), "InvalidRequest"),
        (json!(""), "InvalidRequest"),
        (json!("tomorrow"), "InvalidRequest"),
        (json!(1_772_359_200), "InvalidRequest"),
        (json!("2026-03-02T10:00:00"), "InvalidRequest"),
        (json!("2026-03-01T09:59:59Z"), "InvalidRequest"),
        (json!("2026-03-01T10:00:00Z"), "InvalidRequest"),
        (json!("2026-03-01T11:30:00+02:00"), "InvalidRequest"),
        // 10,080 minutes and a second.
        (json!("2026-03-08T10:00:01Z"), "ExtensionError"),
    ] {
        let body = json!({"expirationDateTime": bad});
        assert_eq!(
            attempt(&bench, &url, body.clone()).await,
            refused(400, code),
            "{bad}"
        );
        let (status, answer) = bench.send(Method::PATCH, &path, &body).await;
        assert_eq!(
            (status, &answer["error"]["code"]),
            (400, &json!(code)),
            "{bad}"
        );
    }
    assert_eq!(
        bench.read(&path).await["expirationDateTime"],
        made["expirationDateTime"]
    );
    for (asked, given) in [
        ("2026-03-08T10:00:00Z", "2026-03-08T10:00:00.0000000Z"),
        ("2026-03-01T10:00:01Z", "2026-03-01T10:45:00.0000000Z"),
        ("2026-03-01T10:44:59Z", "2026-03-01T10:45:00.0000000Z"),
        ("2026-03-01T10:45:01Z", "2026-03-01T10:45:01.0000000Z"),
        (
            "2026-03-02T10:00:00.1234567+00:00",
            "2026-03-02T10:00:00.1234567Z",
        ),
    ] {
        let body = json!({"expirationDateTime": asked});
        let (status, made) = create(&bench, &url, body.clone()).await;
        assert_eq!((status, &made["expirationDateTime"]), (201, &json!(given)));
        let (status, renewed) = bench.send(Method::PATCH, &path, &body).await;
        assert_eq!(
            (status, &renewed["expirationDateTime"]),
            (200, &json!(given))
        );
    }
    let mut body = bench.wanted(&url, ALL);
    body.as_object_mut().unwrap().remove("expirationDateTime");
    let (status, answer) = bench.send(Method::POST, "/subscriptions", &body).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("InvalidRequest"))
    );
}

#[tokio::test]
async fn addresses_are_https_or_on_this_machine() {
    let bench = Bench::calm().await;
    for bad in [
        "http://example.com/push",
        "http://10.0.0.1/push",
        "http://localhost.example/push",
        "ftp://localhost/push",
        "/push",
        "push",
        "",
    ] {
        let expected = refused(400, "InvalidRequest");
        assert_eq!(attempt(&bench, bad, json!({})).await, expected, "{bad}");
        let life = json!({"lifecycleNotificationUrl": bad});
        let good = "http://127.0.0.1:1/";
        assert_eq!(attempt(&bench, good, life).await, expected, "{bad}");
    }
    // These are asked, and nobody is there.
    for good in [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://[::1]:1/",
        "https://127.0.0.1:1/",
    ] {
        assert_eq!(
            attempt(&bench, good, json!({})).await,
            refused(400, "ValidationError"),
            "{good}"
        );
    }
}

#[tokio::test]
async fn the_same_combination_is_refused_once_more() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let made = bench.subscribe(&listener.url("/a"), ALL, "").await;
    let id = made["id"].as_str().unwrap();
    listener.forget();
    for same in [
        json!({}),
        json!({"changeType": "deleted,created,updated"}),
        json!({"resource": format!("/users/{ALEX}/events"), "clientState": "another"}),
    ] {
        let (status, body) = create(&bench, &listener.url("/b"), same).await;
        assert_eq!((status, &body["error"]["code"]), (409, &json!("Conflict")));
        assert_eq!(
            body["error"]["message"],
            format!("Subscription Id {id} already exists for the requested combination")
        );
    }
    assert!(listener.received().is_empty());
    bench.subscribe(&listener.url("/b"), "created", "").await;
    bench.server.remove_subscription(id).unwrap();
    bench.subscribe(&listener.url("/b"), ALL, "").await;

    // Both live, where the quirk is off.
    bench.server.set_quirks(Quirks {
        duplicate_subscriptions_refused: false,
        ..Quirks::none()
    });
    bench.subscribe(&listener.url("/b"), ALL, "").await;
    assert_eq!(bench.server.subscriptions().len(), 3);
}

#[tokio::test]
async fn of_two_creates_at_a_time_one_wins() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    listener.behave(|to| to.validation = Validation::After(Duration::from_millis(200)));
    let url = listener.url("/");
    let (one, other) = tokio::join!(
        attempt(&bench, &url, json!({})),
        attempt(&bench, &url, json!({}))
    );
    let mut statuses = [one.0, other.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    assert_eq!(bench.server.subscriptions().len(), 1);
}

#[tokio::test]
async fn addresses_are_asked_before_anything_is_stored() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let (url, life) = (listener.url("/push?code=a%2Fb"), listener.url("/life"));
    let lifecycle = json!({"lifecycleNotificationUrl": life});
    let (status, _) = create(&bench, &url, lifecycle.clone()).await;
    assert_eq!(status, 201);
    let asked = listener.received();
    assert_eq!(asked.len(), 2);
    for (request, path, query) in [
        (&asked[0], "/push", "code=a%2Fb&validationToken="),
        (&asked[1], "/life", "validationToken="),
    ] {
        assert_eq!((request.path.as_str(), request.body.as_str()), (path, ""));
        assert_eq!(request.content_type, "text/plain; charset=utf-8");
        let token = request.query.strip_prefix(query).unwrap();
        let id = token
            .strip_prefix("Validation%3a+Testing+client+application+reachability+for+subscription+Request-Id%3a+")
            .unwrap();
        assert_eq!(id.len(), 36, "{token}");
    }
    assert_ne!(asked[0].query, asked[1].query);
    let id = bench.server.subscriptions()[0].id.clone();
    bench.server.remove_subscription(&id).unwrap();

    for (answer, message) in [
        (Validation::Status(202), "200 OK"),
        (Validation::Status(500), "200 OK"),
        (Validation::ContentType("text/html"), "text/plain"),
        (Validation::ContentType("application/json"), "text/plain"),
        (Validation::Text(""), "exactly match"),
        (Validation::Text("Validation%3a+Testing"), "exactly match"),
    ] {
        listener.behave(|to| to.validation = answer.clone());
        let (status, body) = create(&bench, &url, json!({})).await;
        let error = &body["error"];
        assert_eq!((status, &error["code"]), (400, &json!("ValidationError")));
        let text = error["message"].as_str().unwrap();
        assert!(text.starts_with("Subscription validation request failed."));
        assert!(text.contains(message), "{text}");
    }
    // A redirect is no answer.
    listener.behave(|to| to.validation = Validation::Status(302));
    assert_eq!(attempt(&bench, &url, json!({})).await.0, 400);
    // The lifecycle address alone can spoil it, too.
    listener.behave(|to| to.validation = Validation::Echo);
    let nobody = json!({"lifecycleNotificationUrl": "http://127.0.0.1:1/"});
    assert_eq!(
        attempt(&bench, &url, nobody).await,
        refused(400, "ValidationError")
    );
    assert!(bench.server.subscriptions().is_empty());
    // One address for both is asked twice.
    listener.forget();
    let both = json!({"lifecycleNotificationUrl": url});
    assert_eq!(create(&bench, &url, both).await.0, 201);
    assert_eq!(listener.validations().len(), 2);
}

#[tokio::test]
async fn nothing_waits_for_a_slow_address_which_has_ten_seconds() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    listener.behave(|to| to.validation = Validation::After(Duration::from_mins(1)));
    let url = listener.url("/");
    let since = Instant::now();
    let meanwhile = async {
        until("asked", || !listener.received().is_empty()).await;
        let event = meeting("Meanwhile", "2026-03-03T10:00:00");
        assert_eq!(bench.send(Method::POST, "/me/events", &event).await.0, 201);
        bench.server.create_event(ALEX, None, &event).unwrap();
        bench.read("/subscriptions").await;
        assert!(bench.server.subscriptions().is_empty());
        assert_eq!(
            admin(&bench, Method::GET, "pushes", Value::Null).await.0,
            200
        );
        since.elapsed()
    };
    let ((status, body), elapsed) = tokio::join!(create(&bench, &url, json!({})), meanwhile);
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("ValidationError"))
    );
    assert_eq!(
        body["error"]["message"],
        "Subscription validation request timed out."
    );
    let took = since.elapsed();
    assert!((10..14).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn a_patch_changes_expiry_and_address_only() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let made = bench.subscribe(&listener.url("/a"), ALL, "").await;
    let path = format!("/subscriptions/{}", made["id"].as_str().unwrap());
    for bad in [
        json!({"lifecycleNotificationUrl": listener.url("/life")}),
        json!({"expirationDateTime": bench.ahead(60), "lifecycleNotificationUrl": null}),
        json!({"expirationDateTime": bench.ahead(60), "clientState": "x"}),
        json!({"expirationDateTime": bench.ahead(60), "resource": "me/events"}),
        json!({"notificationUrl": "http://example.com/"}),
        json!({}),
    ] {
        let (status, body) = bench.send(Method::PATCH, &path, &bad).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &json!("InvalidRequest")),
            "{bad}"
        );
    }
    listener.forget();
    let moved = json!({"notificationUrl": listener.url("/b")});
    listener.behave(|to| to.validation = Validation::Text("no"));
    let (status, body) = bench.send(Method::PATCH, &path, &moved).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (400, &json!("ValidationError"))
    );
    assert_eq!(bench.read(&path).await, made);
    listener.behave(|to| to.validation = Validation::Echo);
    let (status, body) = bench.send(Method::PATCH, &path, &moved).await;
    assert_eq!(
        (status, &body["notificationUrl"]),
        (200, &moved["notificationUrl"])
    );
    assert_eq!(body["expirationDateTime"], made["expirationDateTime"]);
    assert_eq!(listener.validations().len(), 2);
    assert_eq!(listener.validations()[1].path, "/b");
    // An SDK sends its type along; and a renewal asks nobody.
    let renew = json!({"@odata.type": "#microsoft.graph.subscription", "expirationDateTime": bench.ahead(60)});
    assert_eq!(bench.send(Method::PATCH, &path, &renew).await.0, 200);
    assert_eq!(listener.validations().len(), 2);
}

#[tokio::test]
async fn an_expired_subscription_is_gone() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.server.set_clock(at("2026-03-01T10:00:00Z"), true);
    let body = json!({"expirationDateTime": "2026-03-01T11:00:00Z"});
    let (_, made) = create(&bench, &listener.url("/"), body.clone()).await;
    let path = format!("/subscriptions/{}", made["id"].as_str().unwrap());
    bench.server.set_clock(at("2026-03-01T10:59:59Z"), true);
    bench.read(&path).await;
    bench.server.set_clock(at("2026-03-01T11:00:00Z"), true);
    assert_eq!(bench.refusal(&path).await, refused(404, "ResourceNotFound"));
    let renew = json!({"expirationDateTime": "2026-03-02T11:00:00Z"});
    assert_eq!(bench.send(Method::PATCH, &path, &renew).await.0, 404);
    assert_eq!(bench.read("/subscriptions").await["value"], json!([]));
    assert!(bench.server.subscriptions().is_empty());
    // Its place is free again, under another id.
    let next = bench.subscribe(&listener.url("/"), ALL, "").await;
    assert_ne!(next["id"], made["id"]);
    bench
        .server
        .expire_subscription(next["id"].as_str().unwrap())
        .unwrap();
    assert!(bench.server.subscriptions().is_empty());
}

#[tokio::test]
async fn lifecycle_notifications_go_to_their_own_address() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let life = json!({"lifecycleNotificationUrl": listener.url("/life?key=1")});
    let (_, made) = create(&bench, &listener.url("/push"), life).await;
    let id = made["id"].as_str().unwrap();
    listener.forget();
    bench
        .server
        .send_lifecycle(id, LifecycleEvent::Missed)
        .unwrap();
    bench.quiet().await;
    let came = listener.received().remove(0);
    assert_eq!(
        (came.path.as_str(), came.query.as_str()),
        ("/life", "key=1")
    );
    assert_eq!(came.content_type, "application/json");
    let mut item = came.items().remove(0);
    let tenant = item["tenantId"].take();
    assert_eq!(tenant.as_str().unwrap().len(), 36);
    assert_eq!(
        item,
        json!({
            "subscriptionId": id,
            "subscriptionExpirationDateTime": made["expirationDateTime"],
            "tenantId": null,
            "clientState": "secret",
            "lifecycleEvent": "missed",
        })
    );

    listener.forget();
    let path = format!("subscriptions/{id}/lifecycle");
    let body = json!({"event": "subscriptionRemoved"});
    assert_eq!(
        admin(&bench, Method::POST, &path, body.clone()).await.0,
        200
    );
    bench.quiet().await;
    assert_eq!(listener.items()[0]["lifecycleEvent"], "subscriptionRemoved");
    assert!(bench.server.subscriptions().is_empty());
    assert_eq!(admin(&bench, Method::POST, &path, body).await.0, 404);

    let plain = bench.subscribe(&listener.url("/push"), ALL, "").await;
    let id = plain["id"].as_str().unwrap();
    for event in [
        LifecycleEvent::Missed,
        LifecycleEvent::SubscriptionRemoved,
        LifecycleEvent::ReauthorizationRequired,
    ] {
        let error = bench.server.send_lifecycle(id, event).unwrap_err();
        assert_eq!(error.status, 400);
    }
    assert_eq!(bench.server.subscriptions().len(), 1);
    let unknown = admin(
        &bench,
        Method::POST,
        &format!("subscriptions/{id}/lifecycle"),
        json!({"event": "other"}),
    )
    .await;
    assert_eq!(unknown.0, 400);
}

#[tokio::test]
async fn until_it_reauthorizes_a_subscription_is_told_nothing() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let life = json!({"lifecycleNotificationUrl": listener.url("/life")});
    let (_, made) = create(&bench, &listener.url("/push"), life).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("/subscriptions/{id}");
    let renew = json!({"expirationDateTime": bench.ahead(60)});
    let reauthorize = format!("{path}/reauthorize");
    for (method, path, expected) in [
        (Method::POST, &reauthorize, 204),
        (Method::PATCH, &path, 200),
    ] {
        bench
            .server
            .send_lifecycle(&id, LifecycleEvent::ReauthorizationRequired)
            .unwrap();
        bench.quiet().await;
        assert!(bench.server.subscriptions()[0].awaits_reauthorization);
        listener.forget();
        let event = meeting("Unheard", "2026-03-03T10:00:00");
        bench.server.create_event(ALEX, None, &event).unwrap();
        bench.quiet().await;
        assert_eq!(bench.send(method, path, &renew).await.0, expected);
        assert!(!bench.server.subscriptions()[0].awaits_reauthorization);
        let event = meeting("Heard", "2026-03-03T11:00:00");
        let heard = bench.server.create_event(ALEX, None, &event).unwrap();
        bench.quiet().await;
        let items = listener.items();
        assert_eq!(items.len(), 1, "{items:?}");
        let id = items[0]["resourceData"]["id"].as_str().unwrap();
        let told = bench.read(&format!("/me/events/{id}")).await;
        let meant = bench.read(&format!("/me/events/{heard}")).await;
        assert_eq!(told["iCalUId"], meant["iCalUId"]);
    }
}

#[tokio::test]
async fn the_admin_interface_lists_and_ends_them() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.server.set_clock(at("2026-03-01T10:00:00Z"), true);
    let url = listener.url("/push");
    let made = bench.subscribe(&url, ALL, IMMUTABLE).await;
    let id = made["id"].as_str().unwrap();
    let (_, list) = admin(&bench, Method::GET, "subscriptions", Value::Null).await;
    assert_eq!(
        list,
        json!({"value": [{
            "id": id,
            "mailbox": ALEX,
            "resource": "me/events",
            "changeType": ALL,
            "notificationUrl": url,
            "lifecycleNotificationUrl": null,
            "clientState": "secret",
            "expiresAt": "2026-03-04T10:00:00Z",
            "renewedAt": null,
            "awaitsReauthorization": false,
        }]})
    );
    let path = format!("subscriptions/{id}");
    assert_eq!(
        admin(&bench, Method::DELETE, &path, Value::Null).await.0,
        200
    );
    assert_eq!(
        admin(&bench, Method::DELETE, &path, Value::Null).await.0,
        404
    );
    let renew = json!({"expirationDateTime": bench.ahead(60)});
    let (status, body) = bench.send(Method::PATCH, &format!("/{path}"), &renew).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (404, &json!("ResourceNotFound"))
    );

    let made = bench.subscribe(&url, ALL, "").await;
    let path = format!("subscriptions/{}/expire", made["id"].as_str().unwrap());
    assert_eq!(admin(&bench, Method::POST, &path, Value::Null).await.0, 200);
    assert_eq!(admin(&bench, Method::POST, &path, Value::Null).await.0, 404);
    assert!(bench.server.subscriptions().is_empty());
    assert_eq!(
        admin(&bench, Method::PUT, "subscriptions", json!({}))
            .await
            .0,
        404
    );
    assert!(listener.pushes().is_empty(), "the subscriber is not told");
}
