//! Subscriptions: what is asked of Graph, and what each of its answers leads to.

mod scripted;

use std::time::Duration;

use calendar_domain::failure::FailureClass::{
    Authentication, Conflict, InvalidInput, Permanent, RateLimited, Retryable,
};
use calendar_domain::failure::PortResult;
use calendar_domain::ports::{CalendarDirectory, ChangeNotifier};
use calendar_domain::subscription::{ProviderSubscription, PushEndpoint};
use calendar_domain::sync::Mailbox;
use calendar_msgraph::MsGraph;
use scripted::{Answer, Scripted, TOKEN, all_text, token};
use secrecy::SecretString;
use serde_json::{Value, json};
use time::macros::datetime;

const STATE: &str = "hush-state";
const IMMUTABLE_IDS: &str = r#"IdType="ImmutableId""#;
const TOO_LONG: &str = "Subscription expiration can only be 4230 minutes in the future.";

async fn subscribe(graph: &MsGraph) -> PortResult<ProviderSubscription> {
    let endpoint = PushEndpoint {
        notification_url: "https://calendar.example.com/hook".to_owned(),
        lifecycle_url: "https://calendar.example.com/life".to_owned(),
    };
    graph
        .subscribe(&token(), &endpoint, &SecretString::from(STATE))
        .await
}

fn made(id: &str, expiration: &str) -> Value {
    json!({
        "@odata.context": "x",
        "id": id,
        "resource": "me/events",
        "changeType": "created,updated,deleted",
        "clientState": STATE,
        "notificationUrl": "https://calendar.example.com/hook",
        "expirationDateTime": expiration,
        "creatorId": null,
        "new": {},
    })
}

#[tokio::test]
async fn a_subscription_is_for_the_whole_mailbox_and_as_long_as_can_be() {
    let server = Scripted::start().await;
    // Graph cuts the lifetime: what it answers counts.
    server.answer(201, made("s-1", "2026-03-02T12:00:00.1234567Z"));
    let subscription = subscribe(&server.adapter()).await.unwrap();
    assert_eq!(
        subscription,
        ProviderSubscription {
            subscription_id: "s-1".to_owned(),
            resource_path: "me/events".to_owned(),
            notification_url: "https://calendar.example.com/hook".to_owned(),
            expires_at: datetime!(2026-03-02 12:00:00.123_456_700 UTC),
        }
    );
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "POST");
    assert_eq!(asked[0].target, "/v1.0/subscriptions");
    assert_eq!(asked[0].header("prefer"), Some(IMMUTABLE_IDS));
    assert_eq!(asked[0].header("content-type"), Some("application/json"));
    let authorization = format!("Bearer {TOKEN}");
    assert_eq!(
        asked[0].header("authorization"),
        Some(authorization.as_str())
    );
    assert_eq!(
        asked[0].json(),
        json!({
            "changeType": "created,updated,deleted",
            "resource": "me/events",
            "notificationUrl": "https://calendar.example.com/hook",
            "lifecycleNotificationUrl": "https://calendar.example.com/life",
            "clientState": STATE,
            "expirationDateTime": "2026-03-08T11:50:00Z",
        })
    );
}

#[tokio::test]
async fn what_the_answer_leaves_out_is_as_it_was_asked() {
    let server = Scripted::start().await;
    server.answer(
        201,
        json!({"id": "s-1", "expirationDateTime": "2026-03-02T12:00:00Z"}),
    );
    let subscription = subscribe(&server.adapter()).await.unwrap();
    assert_eq!(subscription.resource_path, "me/events");
    assert_eq!(
        subscription.notification_url,
        "https://calendar.example.com/hook"
    );
}

#[tokio::test]
async fn refused_subscriptions_have_a_class_and_are_not_tried_again() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    // A message may quote what was asked.
    let quoting = format!("Validation of ada@example.com {STATE} {TOKEN}");
    for (status, code, message, class, told) in [
        (
            400,
            "ValidationError",
            "Subscription validation request failed. Notification endpoint must respond with 200 OK to validation request.",
            Retryable,
            "push_endpoint_unreachable",
        ),
        (
            400,
            "InvalidRequest",
            "Subscription validation request timed out.",
            Retryable,
            "push_endpoint_unreachable",
        ),
        (
            400,
            "InvalidRequest",
            &quoting,
            Retryable,
            "push_endpoint_unreachable",
        ),
        (
            400,
            "InvalidRequest",
            "Could not process subscription creation payload.",
            InvalidInput,
            "InvalidRequest",
        ),
        (
            401,
            "InvalidAuthenticationToken",
            "",
            Authentication,
            "unauthorized",
        ),
        (
            403,
            "ExtensionError",
            "Operation: Create; Exception: [Status Code: Forbidden; Reason: Forbidden]",
            Permanent,
            "push_unsupported",
        ),
        (
            403,
            "ErrorAccessDenied",
            &quoting,
            Permanent,
            "push_unsupported",
        ),
        (
            404,
            "MailboxNotEnabledForRESTAPI",
            "",
            Permanent,
            "MailboxNotEnabledForRESTAPI",
        ),
        (
            409,
            "Conflict",
            "Subscription Id <> already exists for the requested combination",
            Conflict,
            "Conflict",
        ),
        (
            429,
            "TooManyRequests",
            &quoting,
            RateLimited,
            "TooManyRequests",
        ),
        (
            503,
            "serviceNotAvailable",
            &quoting,
            Retryable,
            "serviceNotAvailable",
        ),
    ] {
        server.refuse(status, code, message);
        let error = subscribe(&graph).await.unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (class, told),
            "{status} {code} {message}"
        );
        assert_eq!(server.asked().len(), 1, "one request, no retries");
        let text = all_text(&error);
        assert!(
            text.contains(code) && text.contains("r-1"),
            "Graph's code stays in the source: {text}"
        );
        assert!(
            !text.contains("hush") && !text.contains("example.com"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_answer_without_a_usable_id_is_unreadable_and_one_without_an_end_has_the_one_asked_for()
{
    let server = Scripted::start().await;
    let graph = server.adapter();
    let end = "2026-03-02T12:00:00Z";
    server.answer(201, made(&"é".repeat(255), end));
    assert!(subscribe(&graph).await.is_ok());
    for body in [
        made("", end).to_string(),
        made(&"x".repeat(256), end).to_string(),
        made("a\u{0}b", end).to_string(),
        json!({"id": 7, "expirationDateTime": end}).to_string(),
        format!("<html>{STATE}</html>"),
        String::new(),
    ] {
        server.answer(201, &body);
        let error = subscribe(&graph).await.unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (Retryable, "answer_unreadable"),
            "{body}"
        );
        assert!(!all_text(&error).contains("hush"));
    }
    for body in [
        made("s-1", "soon"),
        made("s-1", "0001-01-01T00:00:00Z"),
        json!({"id": "s-1", "notificationUrl": "https://calendar.example.com:443/HOOK/"}),
    ] {
        server.answer(201, body.to_string());
        let made = subscribe(&graph).await.unwrap();
        assert_eq!(made.expires_at, datetime!(2026-03-08 11:50 UTC));
        // However the answer spells it.
        assert_eq!(made.notification_url, "https://calendar.example.com/hook");
    }
}

#[tokio::test]
async fn where_the_older_limit_holds_it_is_asked_for_once() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    let ends = |server: &Scripted| -> Vec<String> {
        let asked = server.asked();
        asked
            .iter()
            .map(|asked| {
                asked.json()["expirationDateTime"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    for status in [400, 403] {
        server.refuse(status, "ExtensionError", TOO_LONG);
        server.answer(201, made("s-1", "2026-03-04T10:30:00Z"));
        let subscription = subscribe(&graph).await.unwrap();
        assert_eq!(subscription.expires_at, datetime!(2026-03-04 10:30 UTC));
        assert_eq!(
            ends(&server),
            ["2026-03-08T11:50:00Z", "2026-03-04T10:30:00Z"]
        );
    }
    server.refuse(400, "ExtensionError", TOO_LONG);
    server.answer(204, "");
    assert_eq!(
        graph.renew(&token(), "s-1").await.unwrap(),
        datetime!(2026-03-04 10:30 UTC)
    );
    assert_eq!(
        ends(&server),
        ["2026-03-08T11:50:00Z", "2026-03-04T10:30:00Z"]
    );

    for status in [400, 403] {
        server.refuse(status, "ExtensionError", TOO_LONG);
        server.refuse(status, "ExtensionError", TOO_LONG);
        let error = subscribe(&graph).await.unwrap_err();
        assert!(matches!(error.class, InvalidInput | Permanent));
        assert_eq!(ends(&server).len(), 2, "not for ever");
    }
}

#[tokio::test]
async fn renewing_gives_the_new_end() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    let asked_for = datetime!(2026-03-08 11:50 UTC);
    for (status, body, end) in [
        (
            200,
            made("s-1", "2026-03-05T00:00:00Z").to_string(),
            datetime!(2026-03-05 00:00 UTC),
        ),
        (204, String::new(), asked_for),
        (202, String::new(), asked_for),
    ] {
        server.answer(status, body);
        assert_eq!(graph.renew(&token(), "s-1").await.unwrap(), end);
        let asked = server.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].method, "PATCH");
        assert_eq!(asked[0].target, "/v1.0/subscriptions/s-1");
        assert_eq!(asked[0].header("prefer"), Some(IMMUTABLE_IDS));
        assert_eq!(
            asked[0].json(),
            json!({"expirationDateTime": "2026-03-08T11:50:00Z"})
        );
    }
    for body in [r#"{"id":"s-1"}"#, r#"{"expirationDateTime":"soon"}"#] {
        server.answer(200, body);
        let end = graph.renew(&token(), "s-1").await.unwrap();
        assert_eq!(end, datetime!(2026-03-08 11:50 UTC), "{body}");
    }
    // Perhaps nobody at Graph has heard of it: to renew once more does no harm.
    for body in ["5", "<html>", "", "\r\n", "{}", r#"{"unexpected":true}"#] {
        server.answer(200, body);
        let error = graph.renew(&token(), "s-1").await.unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (Retryable, "answer_unreadable"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn renewing_what_is_no_more_says_so() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    for (status, code, class, told) in [
        (404, "ResourceNotFound", Permanent, "subscription_not_found"),
        (404, "ExtensionError", Permanent, "subscription_not_found"),
        (410, "Gone", Permanent, "subscription_not_found"),
        (401, "x", Authentication, "unauthorized"),
        (403, "ExtensionError", Permanent, "ExtensionError"),
        (400, "InvalidRequest", InvalidInput, "InvalidRequest"),
        (503, "UnknownError", Retryable, "UnknownError"),
    ] {
        server.refuse(status, code, "");
        let error = graph.renew(&token(), "s-1").await.unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (class, told),
            "{status} {code}"
        );
        assert!(all_text(&error).contains(code));
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn ending_what_is_no_more_is_no_error() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    for status in [204, 200, 404, 410] {
        server.answer(status, "");
        graph.unsubscribe(&token(), "s-1").await.unwrap();
        let asked = server.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].method, "DELETE");
        assert_eq!(asked[0].target, "/v1.0/subscriptions/s-1");
        assert_eq!(asked[0].body, "");
    }
    for (status, class) in [(401, Authentication), (403, Permanent), (500, Retryable)] {
        server.refuse(status, "x", "");
        let error = graph.unsubscribe(&token(), "s-1").await.unwrap_err();
        assert_eq!(error.class, class, "{status}");
    }
}

#[tokio::test]
async fn an_id_names_nothing_but_a_subscription() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    for (id, path) in [
        ("../me/events", "..%2Fme%2Fevents"),
        ("a?b#c", "a%3Fb%23c"),
        ("a%2fb", "a%252fb"),
        ("a b", "a%20b"),
    ] {
        server.answer(204, "");
        graph.unsubscribe(&token(), id).await.unwrap();
        server.answer(204, "");
        graph.renew(&token(), id).await.unwrap();
        for asked in server.asked() {
            assert_eq!(asked.target, format!("/v1.0/subscriptions/{path}"));
        }
    }
    for id in ["", ".", "..", "%2e%2e", "a\nb"] {
        let error = graph.unsubscribe(&token(), id).await.unwrap_err();
        assert_eq!(error.class, InvalidInput, "{id:?}");
        let error = graph.renew(&token(), id).await.unwrap_err();
        assert_eq!(error.class, InvalidInput, "{id:?}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn subscriptions_are_listed_over_all_pages() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    let next = format!("{}/v1.0/subscriptions?$skiptoken=a%2Fb", server.url);
    server.answer(
        200,
        json!({
            "value": [
                made("s-1", "2026-03-02T12:00:00Z"),
                {"id": 7},
                5,
                made("", "2026-03-02T12:00:00Z"),
                {"id": "s-2"},
            ],
            "@odata.nextLink": next,
        }),
    );
    server.answer(
        200,
        json!({"value": [{"id": "s-3", "expirationDateTime": "2026-03-03T00:00:00Z", "resource": null}]}),
    );
    let listed = graph.subscriptions(&token()).await.unwrap();
    let ids: Vec<_> = listed
        .iter()
        .map(|subscription| subscription.subscription_id.as_str())
        .collect();
    assert_eq!(ids, ["s-1", "s-2", "s-3"]);
    assert_eq!(
        listed[0].notification_url,
        "https://calendar.example.com/hook"
    );
    assert_eq!(listed[2].resource_path, "");
    let asked = server.asked();
    let targets: Vec<_> = asked.iter().map(|asked| asked.target.as_str()).collect();
    assert_eq!(
        targets,
        [
            "/v1.0/subscriptions",
            "/v1.0/subscriptions?$skiptoken=a%2Fb"
        ]
    );
}

#[tokio::test]
async fn a_list_does_not_lead_to_other_hosts() {
    let server = Scripted::start().await;
    let other = Scripted::start().await;
    server.answer(
        200,
        json!({"value": [], "@odata.nextLink": format!("{}/v1.0/subscriptions", other.url)}),
    );
    let error = server.adapter().subscriptions(&token()).await.unwrap_err();
    assert_eq!(
        (error.class, error.code.as_str()),
        (Permanent, "foreign_link")
    );
    assert!(other.asked().is_empty());
}

#[tokio::test]
async fn no_redirect_takes_the_client_state_elsewhere() {
    let server = Scripted::start().await;
    let other = Scripted::start().await;
    for status in [302, 307, 308] {
        server.push(Answer {
            status,
            headers: vec![("Location", format!("{}/v1.0/subscriptions", other.url))],
            body: String::new(),
            after: Duration::ZERO,
        });
        assert_eq!(
            subscribe(&server.adapter()).await.unwrap_err().class,
            Permanent
        );
        for asked in other.asked() {
            assert_eq!(asked.body, "");
            assert_eq!(asked.header("authorization"), None);
        }
    }
}

#[tokio::test]
async fn pushes_and_reads_share_the_limit_of_the_mailbox() {
    let server = Scripted::start().await;
    let graph = server.adapter_with(|config| config.mailbox_concurrency = 1);
    for _ in 0..3 {
        server.push(Answer {
            status: 404,
            headers: Vec::new(),
            body: String::new(),
            after: Duration::from_millis(50),
        });
    }
    let token = token();
    let (_, _, _) = tokio::join!(
        graph.unsubscribe(&token, "s-1"),
        graph.calendars(&token, &Mailbox::Own),
        graph.renew(&token, "s-2"),
    );
    assert_eq!(server.asked().len(), 3);
    assert_eq!(server.most_under_way(), 1);
}
