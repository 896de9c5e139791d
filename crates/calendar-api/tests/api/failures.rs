//! When something of ours fails: the right status, no detail, and recovery by itself.

use std::sync::atomic::Ordering;

use calendar_domain::failure::FailureClass;
use serde_json::json;

use crate::support::{App, PASSWORD, connection, id};

const PATHS: &[&str] = &["/v1/me", "/v1/connections", "/v1/events"];

#[tokio::test]
async fn a_database_that_is_away_is_a_503_and_recovers() {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    app.world
        .connections
        .lock()
        .unwrap()
        .push(connection(user, 500));
    *app.world.failure.lock().unwrap() = Some(FailureClass::Retryable);
    let sign = json!({"email": "ada@example.com", "password": PASSWORD});
    let one = format!("/v1/connections/{}", id(500));
    let mut answers = vec![
        app.post("/v1/users", &sign).await,
        app.post("/v1/sessions", &sign).await,
        app.call("DELETE", "/v1/sessions").await,
        app.call("DELETE", "/v1/me").await,
        app.patch("/v1/me", &json!({})).await,
        app.post("/v1/connect_sessions", &json!({"provider": "microsoft"}))
            .await,
        app.get(&one).await,
        app.patch(&one, &json!({})).await,
        app.call("DELETE", &one).await,
        app.call("POST", &format!("{one}/sync")).await,
        app.get(&format!("{one}/subscriptions")).await,
        app.get(&format!("{one}/rejected_events")).await,
        app.raw(
            "POST",
            "/webhooks/microsoft",
            None,
            r#"{"value":[{"subscriptionId":"a"}]}"#,
        )
        .await,
        app.get(&format!("/v1/events/{}", id(10))).await,
        app.get("/readyz").await,
    ];
    for path in PATHS {
        answers.push(app.get(path).await);
    }
    for answer in answers {
        answer.assert_problem(503, "database_unavailable");
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    assert_eq!(
        app.get("/healthz").await.status,
        200,
        "the process itself is well"
    );

    *app.world.failure.lock().unwrap() = None;
    assert_eq!(app.get("/v1/me").await.status, 200);
    assert_eq!(app.get("/readyz").await.json(), json!({"status": "ready"}));
}

#[tokio::test]
async fn failing_sign_ins_and_sign_ups_of_ours_do_not_use_the_limit_up() {
    let app = App::signed_in().await;
    let sign = json!({"email": "ada@example.com", "password": PASSWORD});
    *app.world.failure.lock().unwrap() = Some(FailureClass::Retryable);
    let new = json!({"email": "bob@example.com", "password": PASSWORD});
    for _ in 0..100 {
        for (path, body) in [("/v1/sessions", &sign), ("/v1/users", &new)] {
            app.post(path, body)
                .await
                .assert_problem(503, "database_unavailable");
        }
    }
    *app.world.failure.lock().unwrap() = None;
    assert_eq!(app.post("/v1/sessions", &sign).await.status, 201);
    assert_eq!(app.post("/v1/users", &new).await.status, 201);
}

#[tokio::test]
async fn other_failures_tell_nothing() {
    let app = App::signed_in().await;
    for (class, status, code) in [
        (FailureClass::Permanent, 500, "internal"),
        (FailureClass::Authentication, 500, "internal"),
        (FailureClass::InvalidInput, 422, "invalid_input"),
        (FailureClass::Conflict, 409, "database_code"),
    ] {
        *app.world.failure.lock().unwrap() = Some(class);
        let answer = app.get("/v1/me").await;
        answer.assert_problem(status, code);
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_panic_is_a_500_without_detail_and_the_next_request_works() {
    let app = App::signed_in().await;
    app.world.panics.store(true, Ordering::Relaxed);
    let answer = app.get("/v1/me").await;
    answer.assert_problem(500, "internal");
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    app.world.panics.store(false, Ordering::Relaxed);
    assert_eq!(app.get("/v1/me").await.status, 200);
}

#[tokio::test]
async fn a_database_that_is_not_migrated_is_told_apart() {
    let app = App::new();
    app.world.not_migrated.store(true, Ordering::Relaxed);
    let answer = app.get("/readyz").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "database_not_migrated")
    );
}

#[tokio::test]
async fn metrics_are_answered_with_and_without_the_database() {
    for (failure, up) in [(None, 1), (Some(FailureClass::Retryable), 0)] {
        let app = App::new();
        *app.world.failure.lock().unwrap() = failure;
        let answer = app.get("/metrics").await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
        assert!(answer.text.starts_with("counted 1\n"), "{}", answer.text);
        let line = format!("\ncalendar_overview_up {up}\n");
        assert!(answer.text.contains(&line), "{}", answer.text);
    }
}
