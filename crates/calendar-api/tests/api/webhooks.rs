//! Pushes: the handshake, and what becomes of notifications, good and bad.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use calendar_domain::failure::FailureClass;
use calendar_domain::subscription::Notified;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{Answer, App, id, state_of, subscription};

const PATH: &str = "/webhooks/microsoft";
const PATHS: [&str; 2] = [PATH, "/webhooks/microsoft/lifecycle"];

/// An API with these subscriptions; nobody is signed in.
fn app(numbers: std::ops::Range<u128>) -> App {
    let app = App::new();
    *app.world.subscriptions.lock().unwrap() =
        numbers.map(|number| subscription(number, 500)).collect();
    app
}

/// A genuine entry for a change.
fn change(number: u128) -> Value {
    let name = format!("subscription-{number}");
    json!({"subscriptionId": name, "clientState": state_of(&name), "changeType": "updated"})
}

fn body(entries: &[Value]) -> String {
    json!({ "value": entries }).to_string()
}

async fn send(app: &App, body: impl Into<Body>) -> Answer {
    app.raw("POST", PATH, Some("application/json"), body).await
}

#[track_caller]
fn assert_taken(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (202, ""),
        "{answer:?}"
    );
}

/// The subscriptions that were recorded, call by call.
fn recorded(app: &App) -> Vec<Vec<u128>> {
    let number = |notified: &Notified| notified.id.0.as_u128() - id(0).as_u128();
    let recorded = app.world.recorded.lock().unwrap();
    recorded
        .iter()
        .map(|call| call.iter().map(number).collect())
        .collect()
}

#[tokio::test]
async fn the_handshake_gives_the_token_back_decoded_and_as_plain_text() {
    let app = app(0..0);
    *app.world.failure.lock().unwrap() = Some(FailureClass::Retryable);
    let long = "ä+%2B".repeat(410);
    let cases = [
        ("plain", "plain"),
        (
            "Validation%3A+Testing+client+application+reachability%20for%3a%2B1",
            "Validation: Testing client application reachability for:+1",
        ),
        ("a%252Bb%25", "a%2Bb%"),
        ("100%", "100%"),
        ("a%26b%3Dc&other=1", "a&b=c"),
        ("a=b", "a=b"),
        ("gr%C3%BC%C3%9Fe%F0%9F%98%80", "grüße😀"),
        (
            "%3Cscript%3Ealert(1)%3C/script%3E",
            "<script>alert(1)</script>",
        ),
        ("a%0D%0Ab%00", "a\r\nb\0"),
        ("", ""),
    ];
    for path in PATHS {
        for (sent, expected) in cases {
            let query = format!("{path}?validationToken={sent}");
            for body in ["", "not looked at", &body(&[change(10)])] {
                for content_type in [None, Some("text/plain; charset=utf-8")] {
                    let answer = app.raw("POST", &query, content_type, body.to_owned()).await;
                    assert_eq!(
                        (answer.status.as_u16(), answer.text.as_str()),
                        (200, expected),
                        "{sent}"
                    );
                    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
                    assert_eq!(answer.header("x-content-type-options"), "nosniff");
                }
            }
        }
    }
    let encoded: String = url::form_urlencoded::byte_serialize(long.as_bytes()).collect();
    let query = format!("{PATH}?lifecycle=no&validationToken={encoded}&validationToken=second");
    assert!(long.len() > 2_048);
    assert_eq!(app.call("POST", &query).await.text, long);
    assert_eq!(app.world.looked_up.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_token_has_a_limit() {
    let app = app(0..0);
    let with = |length| format!("{PATH}?validationToken={}", "x".repeat(length));
    assert_eq!(app.call("POST", &with(8_192)).await.text.len(), 8_192);
    app.call("POST", &with(8_193))
        .await
        .assert_problem(400, "invalid_validation_token");
}

#[tokio::test]
async fn the_handshake_is_nothing_else() {
    let app = app(0..0);
    for query in ["validationtoken=a", "token=a", "a=validationToken=b"] {
        app.call("POST", &format!("{PATH}?{query}"))
            .await
            .assert_problem(400, "malformed_notifications");
    }
    app.get(&format!("{PATH}?validationToken=a"))
        .await
        .assert_problem(405, "method_not_allowed");
}

#[tokio::test]
async fn notifications_of_both_kinds_are_taken_at_both_places() {
    for path in PATHS {
        let app = app(10..14);
        let lifecycle = |number, event: &str| {
            let mut entry = change(number);
            entry.as_object_mut().unwrap().remove("changeType");
            entry["lifecycleEvent"] = json!(event);
            entry
        };
        let body = body(&[
            change(10),
            change(10),
            lifecycle(11, "missed"),
            lifecycle(12, "subscriptionRemoved"),
            lifecycle(13, "reauthorizationRequired"),
        ]);
        assert_taken(&app.raw("POST", path, Some("application/json"), body).await);
        let expected = |number, changed, look, renew, removed| Notified {
            id: id(number).into(),
            account_id: id(900).into(),
            changed,
            look,
            renew,
            removed,
        };
        assert_eq!(
            *app.world.recorded.lock().unwrap(),
            [[
                expected(10, true, true, false, false),
                expected(11, false, true, false, false),
                expected(12, false, true, false, true),
                expected(13, false, false, true, false),
            ]]
        );
    }
}

#[tokio::test]
async fn what_is_forged_or_unknown_is_answered_like_the_rest_and_left_out() {
    let app = app(10..15);
    let mut entries: Vec<_> = (10..15).map(change).collect();
    entries[2]["clientState"] = json!("a guess");
    assert_taken(&send(&app, body(&entries)).await);
    assert_eq!(recorded(&app), [[10, 11, 13, 14]]);

    app.world.recorded.lock().unwrap().clear();
    let mut without = change(10);
    without.as_object_mut().unwrap().remove("clientState");
    for bad in [
        change(99),
        without,
        json!({"subscriptionId": "subscription-10", "clientState": state_of("subscription-11")}),
        json!({"subscriptionId": "subscription-10", "clientState": ""}),
        json!({"subscriptionId": 7}),
        json!(null),
    ] {
        let (forged, genuine) = (send(&app, body(&[bad])).await, change(10));
        assert_taken(&forged);
        let names = |answer: &Answer| -> Vec<String> {
            answer.headers.keys().map(ToString::to_string).collect()
        };
        let genuine = send(&app, body(&[genuine])).await;
        assert_eq!(names(&forged), names(&genuine), "they cannot be told apart");
    }
    assert_eq!(recorded(&app), vec![vec![10]; 6], "the genuine ones only");
}

#[tokio::test]
async fn a_content_type_is_not_insisted_on_and_nobody_has_to_sign_in() {
    let app = app(10..11);
    for content_type in [None, Some("text/plain"), Some("application/xml")] {
        assert_taken(
            &app.raw("POST", PATH, content_type, body(&[change(10)]))
                .await,
        );
    }
    let signed = Request::builder()
        .method("POST")
        .uri(PATH)
        .header("authorization", "Bearer nobody's")
        .body(Body::from(body(&[change(10)])))
        .unwrap();
    assert_taken(&app.send(signed).await);
    assert_eq!(recorded(&app).len(), 4);
}

#[tokio::test]
async fn bodies_may_be_large_and_full_and_have_a_limit() {
    let app = app(10..1_010);
    let thousand: Vec<_> = (10..1_010).map(change).collect();
    assert_taken(&send(&app, body(&thousand)).await);
    assert_eq!(recorded(&app)[0].len(), 1_000);

    let sized = |length: usize| {
        let text = body(&[change(10)]);
        format!("{text}{}", " ".repeat(length - text.len()))
    };
    for length in [256 << 10, 1 << 20] {
        assert_taken(&send(&app, sized(length)).await);
    }
    send(&app, sized((1 << 20) + 1))
        .await
        .assert_problem(413, "body_too_large");
    let announced = Request::builder()
        .method("POST")
        .uri(PATH)
        .header("content-length", "1048577")
        .body(Body::from(body(&[change(10)])))
        .unwrap();
    app.send(announced)
        .await
        .assert_problem(413, "body_too_large");
    assert_eq!(recorded(&app).len(), 3);
}

#[tokio::test]
async fn garbage_is_refused_and_nothing_at_all_is_nothing() {
    let app = app(10..11);
    for garbage in ["", "{", "null", "[]", "7", "{}", "{\"value\": 1}", "\u{0}"] {
        send(&app, garbage)
            .await
            .assert_problem(400, "malformed_notifications");
    }
    send(&app, vec![0xff, 0xfe])
        .await
        .assert_problem(400, "malformed_notifications");
    assert_taken(&send(&app, body(&[])).await);
    assert_eq!(app.world.looked_up.load(Ordering::Relaxed), 0);
    assert!(recorded(&app).is_empty());
}

#[tokio::test]
async fn a_provider_that_is_not_configured_has_no_endpoint() {
    let app = App::without_provider();
    send(&app, body(&[change(10)]))
        .await
        .assert_problem(404, "provider_off");
}

#[tokio::test]
async fn what_cannot_be_recorded_is_to_be_sent_again() {
    let app = app(10..11);
    for class in [
        FailureClass::Retryable,
        FailureClass::Conflict,
        FailureClass::InvalidInput,
        FailureClass::Permanent,
    ] {
        *app.world.failure.lock().unwrap() = Some(class);
        let answer = send(&app, body(&[change(10)])).await;
        answer.assert_problem(503, "database_unavailable");
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    assert!(recorded(&app).is_empty());
    *app.world.failure.lock().unwrap() = None;
    assert_taken(&send(&app, body(&[change(10)])).await);
    assert_eq!(recorded(&app), [[10]]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_before_the_provider_gives_up() {
    let app = app(10..11);
    *app.world.recording.lock().unwrap() = Duration::from_mins(1);
    let begun = Instant::now();
    send(&app, body(&[change(10)]))
        .await
        .assert_problem(503, "timeout");
    let took = begun.elapsed();
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn many_bodies_at_once_share_few_statements() {
    let app = Arc::new(app(10..1_010));
    *app.world.recording.lock().unwrap() = Duration::from_millis(20);
    let mut sending = JoinSet::new();
    for number in 10..1_010 {
        let app = app.clone();
        sending.spawn(async move { send(&app, body(&[change(number)])).await });
    }
    while let Some(answer) = sending.join_next().await {
        assert_taken(&answer.unwrap());
    }
    let recorded = recorded(&app);
    assert!(recorded.len() <= 10, "{} statements", recorded.len());
    assert!(app.world.looked_up.load(Ordering::Relaxed) <= 10);
    let mut numbers: Vec<_> = recorded.into_iter().flatten().collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(10..1_010), "each of them, once");
}
