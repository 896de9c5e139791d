//! What Graph refuses, breaks or leads astray, and the class that each failure gets.

mod support;

use std::error::Error as _;
use std::time::Duration;

use calendar_domain::event::ProviderEventId;
use calendar_domain::failure::FailureClass::{
    Authentication, InvalidInput, NeedsResync, Permanent, RateLimited, Retryable,
};
use calendar_domain::ports::CalendarReader;
use calendar_domain::sync::{ChangesFrom, Cursor, NextPage};
use calendar_simulator::Quirks;
use serde_json::{Value, json};
use support::{ADA, Bench, WINDOW, daily, error_body, meeting};

#[tokio::test]
async fn refusals_have_a_class_and_are_not_tried_again() {
    let bench = Bench::calm().await;
    for (status, body, class, code) in [
        (
            400,
            error_body("ErrorInvalidRequest"),
            InvalidInput,
            "ErrorInvalidRequest",
        ),
        (
            401,
            error_body("InvalidAuthenticationToken"),
            Authentication,
            "unauthorized",
        ),
        (403, error_body(""), Permanent, "calendar_access_denied"),
        (
            404,
            error_body("ErrorItemNotFound"),
            Permanent,
            "calendar_not_found",
        ),
        (
            405,
            error_body("Request_BadRequest"),
            Permanent,
            "Request_BadRequest",
        ),
        (
            410,
            error_body("resyncRequired"),
            NeedsResync,
            "resyncRequired",
        ),
        (
            400,
            error_body("SyncStateInvalid"),
            NeedsResync,
            "SyncStateInvalid",
        ),
        (
            429,
            error_body("TooManyRequests"),
            RateLimited,
            "TooManyRequests",
        ),
        (500, json!("<html>no JSON</html>"), Retryable, "http_500"),
        (503, json!(""), Retryable, "http_503"),
        (
            504,
            json!({"error": {"code": "UnknownError", "innererror": {"request-id": "x"}}}),
            Retryable,
            "UnknownError",
        ),
        (
            200,
            json!("<html>a portal</html>"),
            Retryable,
            "answer_unreadable",
        ),
        (200, json!({"value": []}), Retryable, "answer_unreadable"),
        (200, json!({"value": {}}), Retryable, "answer_unreadable"),
    ] {
        bench.server.clear_requests();
        bench.fault(status, &[], body.clone());
        let error = bench.failure().await;
        assert_eq!(
            (error.class, error.code.as_str()),
            (class, code),
            "{status} {body}"
        );
        assert_eq!(bench.server.requests().len(), 1, "one request, no retries");
        let mut text = format!("{error:?}");
        let mut source = error.source();
        while let Some(inner) = source {
            text.push_str(&inner.to_string());
            source = inner.source();
        }
        assert!(
            !text.contains("secret text") && !text.contains("portal"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn retry_after_comes_in_every_form() {
    let bench = Bench::calm().await;
    for (header, expected) in [
        (Some("7"), Some(7)),
        (Some("0"), Some(0)),
        (Some("100000"), Some(3600)),
        (Some("999999999999999999999999999999"), Some(3600)),
        // Forty seconds after the clock that the adapter was given, unless the answer has a date.
        (Some("Sun, 01 Mar 2026 12:00:40 GMT"), Some(40)),
        (Some("Fri, 31 Dec 9999 23:59:59 GMT"), Some(3600)),
        (Some("Sun, 01 Mar 2026 11:00:00 GMT"), Some(0)),
        // The two older forms of RFC 9110 section 5.6.7.
        (Some("Sunday, 01-Mar-26 12:00:40 GMT"), Some(40)),
        (Some("Sun Mar  1 12:00:40 2026"), Some(40)),
        (Some("in a while"), None),
        (None, None),
    ] {
        let headers: Vec<(&str, &str)> = header
            .into_iter()
            .map(|value| ("Retry-After", value))
            .chain([("Date", "Sun, 01 Mar 2026 12:00:00 GMT")])
            .collect();
        bench.fault(429, &headers, error_body("ApplicationThrottled"));
        let error = bench.failure().await;
        assert_eq!(error.class, RateLimited);
        assert_eq!(
            error.retry_after,
            expected.map(Duration::from_secs),
            "{header:?}"
        );
        bench.fault(503, &headers, json!(""));
        assert_eq!(
            bench.failure().await.retry_after,
            expected.map(Duration::from_secs)
        );
    }
}

#[tokio::test]
async fn an_expired_link_asks_for_a_full_pass_with_and_without_a_location() {
    for gone_with_location in [true, false] {
        let quirks = Quirks {
            gone_with_location,
            ..Quirks::none()
        };
        let bench = Bench::with(quirks, |_| {}).await;
        for n in 10..20 {
            let event = meeting(
                "x",
                &format!("2026-03-{n}T10:00:00"),
                &format!("2026-03-{n}T11:00:00"),
            );
            bench.server.create_event(ADA, None, &event).unwrap();
        }
        let (_, _, delta) = bench.round(ChangesFrom::Start(WINDOW)).await;
        bench.server.invalidate_delta_tokens(ADA).unwrap();
        bench.server.clear_requests();
        let error = bench.page(&ChangesFrom::Cursor(delta)).await.unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (NeedsResync, "SyncStateNotFound")
        );
        assert_eq!(
            bench.server.requests().len(),
            1,
            "the location is not followed"
        );
        // In the middle of a round, too.
        let (_, next) = bench.page(&ChangesFrom::Start(WINDOW)).await.unwrap();
        let NextPage::More(cursor) = next else {
            panic!("one page only")
        };
        bench.server.invalidate_delta_tokens(ADA).unwrap();
        let error = bench.page(&ChangesFrom::Cursor(cursor)).await.unwrap_err();
        assert_eq!(error.class, NeedsResync);
    }
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_is_told_by_its_code() {
    let bench = Bench::calm().await;
    bench.server.revoke_access_tokens(ADA).unwrap();
    let error = bench.failure().await;
    assert_eq!(
        (error.class, error.code.as_str()),
        (Authentication, "unauthorized")
    );
}

#[tokio::test]
async fn stored_links_to_other_hosts_are_never_followed() {
    let bench = Bench::calm().await;
    bench.server.clear_requests();
    let base = bench.server.url();
    for link in [
        "http://127.0.0.1:9/v1.0/me/calendarView/delta?$deltatoken=x".to_owned(),
        "https://evil.example.com/v1.0/me/calendarView/delta?$deltatoken=x".to_owned(),
        format!("{base}/beta/me/calendarView/delta?$deltatoken=x"),
        format!("{base}/v1.0/../admin/requests"),
        "not a link".to_owned(),
        String::new(),
    ] {
        let error = bench
            .page(&ChangesFrom::Cursor(Cursor(link.clone())))
            .await
            .unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (NeedsResync, "foreign_link"),
            "{link}"
        );
    }
    assert!(bench.server.requests().is_empty());
}

#[tokio::test]
async fn answered_links_to_other_hosts_are_no_cursors() {
    let bench = Bench::calm().await;
    bench.server.create_event(ADA, None, &daily("x")).unwrap();
    bench
        .server
        .set_public_base(Some("https://evil.example.com".to_owned()));
    let error = bench.failure().await;
    assert_eq!(
        (error.class, error.code.as_str()),
        (Permanent, "foreign_link")
    );
    let master = ProviderEventId(
        bench.server.events(ADA, None).unwrap()[0]["id"]
            .as_str()
            .unwrap()
            .to_owned(),
    );
    let error = bench
        .graph
        .instances(&bench.token, &bench.calendar, &master, WINDOW)
        .await
        .unwrap_err();
    assert_eq!(
        (error.class, error.code.as_str()),
        (Permanent, "foreign_link")
    );
}

#[tokio::test]
async fn a_redirect_to_another_host_is_no_answer() {
    let bench = Bench::calm().await;
    let other = Bench::calm().await;
    let location = format!("{}/v1.0/me/calendars", other.server.url());
    bench.fault(302, &[("Location", location.as_str())], Value::Null);
    other.server.clear_requests();
    let error = bench.failure().await;
    assert_eq!(
        (error.class, error.code.as_str()),
        (Permanent, "foreign_link")
    );
    for request in other.server.requests() {
        assert!(!request.authorized, "the token went to another host");
    }
}

#[tokio::test]
async fn a_graph_that_is_away_is_tried_again_later() {
    let bench = Bench::with(Quirks::none(), |config| {
        config.graph_url = "http://127.0.0.1:9/v1.0".to_owned();
    })
    .await;
    let error = bench.failure().await;
    assert_eq!(
        (error.class, error.code.as_str()),
        (Retryable, "connection_failed")
    );
    let text = format!("{error:?}");
    assert!(!text.contains(&bench.calendar.calendar_id), "{text}");
}
