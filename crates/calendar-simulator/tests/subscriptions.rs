//! Creating subscriptions over HTTP: what is accepted, and who is asked.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::time::{Duration, Instant};

use calendar_simulator::Quirks;
use reqwest::Method;
use serde_json::{Value, json};
use support::listener::{Listener, Validation, until};
use support::subscribing::{ALL, admin, attempt, create, refused};
use support::{ALEX, Bench, MEGAN, at, meeting};

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

/// Signs Alex in at Entra, as the application "app", and gives the access token.
async fn sign_in(bench: &Bench, scope: &str) -> String {
    let base = format!("{}/common/oauth2/v2.0", bench.server.url());
    let query = format!(
        "client_id=app&response_type=code&redirect_uri=http://localhost/back&scope={scope}&login_hint={ALEX}"
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
    tokens["access_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_token_must_have_a_right_to_calendars_and_names_the_application() {
    let (mut bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.token = sign_in(&bench, "User.Read").await;
    assert_eq!(
        attempt(&bench, &listener.url("/"), json!({})).await,
        refused(403, "ExtensionError")
    );
    assert_eq!(bench.read("/subscriptions").await["value"], json!([]));
    bench.token = sign_in(&bench, "Calendars.Read").await;
    let made = bench.subscribe(&listener.url("/"), ALL, "").await;
    assert_eq!(made["applicationId"], "app");
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
    listener.forget();
    listener.behave(|to| to.validation = Validation::Status(302));
    assert_eq!(attempt(&bench, &url, json!({})).await.0, 400);
    assert_eq!(listener.received().len(), 1);
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
