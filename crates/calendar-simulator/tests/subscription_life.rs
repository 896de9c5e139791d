//! Subscriptions over HTTP once they exist: who sees them, how they are renewed, how they end, what they are told about
//! themselves.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::time::{Duration, Instant};

use calendar_simulator::{Client, Fault, LifecycleEvent, PushFaults, Quirks};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use support::listener::{Listener, Validation};
use support::subscribing::{ALL, admin, create, refused};
use support::{ALEX, Bench, IMMUTABLE, MEGAN, at, meeting};

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

    // What waits when it is asked is not sent either.
    listener.forget();
    bench.server.set_pushes(PushFaults {
        delay_ms: 300,
        ..PushFaults::default()
    });
    let event = meeting("Too late", "2026-03-03T12:00:00");
    bench.server.create_event(ALEX, None, &event).unwrap();
    bench
        .server
        .send_lifecycle(&id, LifecycleEvent::ReauthorizationRequired)
        .unwrap();
    bench.quiet().await;
    let items = listener.items();
    assert_eq!(items.len(), 1, "{items:?}");
    assert_eq!(items[0]["lifecycleEvent"], "reauthorizationRequired");
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
