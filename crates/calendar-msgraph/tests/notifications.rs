//! Bodies of pushes: Graph's, and anyone else's.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod scripted;

use std::sync::{Arc, LazyLock};

use calendar_domain::failure::FailureClass::InvalidInput;
use calendar_domain::ports::ChangeNotifier;
use calendar_domain::subscription::{Notification, PushSignal};
use calendar_msgraph::{MicrosoftConfig, MsGraph};
use proptest::prelude::*;
use scripted::{FixedClock, all_text};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

static GRAPH: LazyLock<MsGraph> =
    LazyLock::new(|| MsGraph::new(MicrosoftConfig::new("app"), Arc::new(FixedClock)).unwrap());

fn read(body: impl AsRef<[u8]>) -> Vec<Notification> {
    GRAPH.notifications(body.as_ref()).unwrap()
}

fn told(notification: &Notification) -> (&str, Option<&str>, PushSignal) {
    let state = notification.client_state.as_ref();
    (
        &notification.subscription_id,
        state.map(ExposeSecret::expose_secret),
        notification.signal,
    )
}

#[test]
fn changes_and_lifecycle_events_come_in_one_shape() {
    let body = json!({
        "value": [
            {
                "id": "lsgTZMr9KwAAA",
                "subscriptionId": "s-1",
                "subscriptionExpirationDateTime": "2026-03-08T11:50:00.0000000Z",
                "clientState": "state",
                "changeType": "updated",
                "resource": "Users('ada')/events('AAMk=')",
                "tenantId": "t",
                "resourceData": {"@odata.type": "#microsoft.graph.event", "id": "AAMk="},
            },
            {"subscriptionId": "s-2", "clientState": null, "lifecycleEvent": null},
            {"subscriptionId": "s-3", "clientState": "other", "lifecycleEvent": "missed", "tenantId": "t"},
            {"subscriptionId": "s-4", "lifecycleEvent": "SUBSCRIPTIONREMOVED"},
            {"subscriptionId": "s-5", "lifecycleEvent": "ReauthorizationRequired", "changeType": "updated"},
            {"subscriptionId": "s-6", "lifecycleEvent": "somethingNew"},
            {"subscriptionId": "s-7", "lifecycleEvent": {"is": "new"}},
            {"SubscriptionID": "s-8", "ClientState": "state", "ChangeType": "Deleted"},
            {"subscriptionId": "s-9", "clientState": 7},
        ],
        "validationTokens": [],
    });
    let notifications = read(body.to_string());
    let told: Vec<_> = notifications.iter().map(told).collect();
    assert_eq!(
        told,
        [
            ("s-1", Some("state"), PushSignal::Changed),
            ("s-2", None, PushSignal::Changed),
            ("s-3", Some("other"), PushSignal::Missed),
            ("s-4", None, PushSignal::Removed),
            ("s-5", None, PushSignal::ReauthorizationRequired),
            ("s-6", None, PushSignal::Missed),
            ("s-7", None, PushSignal::Missed),
            ("s-8", Some("state"), PushSignal::Changed),
            ("s-9", None, PushSignal::Changed),
        ]
    );
    assert!(!format!("{notifications:?}").contains("state\""), "secret");
}

#[test]
fn escapes_are_read() {
    let notifications =
        read(r#"{"\u0076alue":[{"subscription\u0049d":"s\u002d1","clientState":"a\"b"}]}"#);
    assert_eq!(
        told(&notifications[0]),
        ("s-1", Some("a\"b"), PushSignal::Changed)
    );
}

#[test]
fn entries_without_a_usable_subscription_are_left_out() {
    let long = "x".repeat(256);
    let body = format!(
        r#"{{"value":[5,null,"s",[],{{}},{{"subscriptionId":""}},{{"subscriptionId":null}},{{"subscriptionId":7}},
            {{"subscriptionId":"{long}"}},{{"subscriptionId":"a\u0000b"}},{{"subscriptionId":"\ud800"}},
            {{"clientState":"state"}},{{"subscriptionId":"good"}}]}}"#
    );
    let notifications = read(body);
    assert_eq!(notifications.len(), 1);
    assert_eq!(notifications[0].subscription_id, "good");
    assert!(read(r#"{"value":[]}"#).is_empty());
}

#[test]
fn a_body_without_a_list_is_refused_and_not_quoted() {
    let deep = format!("{}1{}", "[".repeat(300_000), "]".repeat(300_000));
    for body in [
        &b""[..],
        b"{}",
        b"[]",
        b"null",
        b"\"hush\"",
        b"hush",
        br#"{"value":null}"#,
        br#"{"value":{"subscriptionId":"hush"}}"#,
        br#"{"value":"hush"}"#,
        br#"{"value":[{"subscriptionId":"hush"}]"#,
        br#"{"value":[{"subscriptionId":"hush"}]}hush"#,
        br#"{"values":[{"subscriptionId":"hush"}]}"#,
        b"{\"value\":[{\"subscriptionId\":\"hush\xff\"}]}",
        b"\x00\x01\x02",
        deep.as_bytes(),
    ] {
        let error = GRAPH.notifications(body).unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (InvalidInput, "push_unreadable")
        );
        assert!(!all_text(&error).contains("hush"));
    }
}

#[test]
fn depth_and_size_do_no_harm() {
    let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    for body in [
        format!(r#"{{"x":{deep},"value":[{{"subscriptionId":"s"}}]}}"#),
        format!(r#"{{"value":[{{"x":{deep},"subscriptionId":"s"}}]}}"#),
        format!(r#"{{"value":[{deep},{{"subscriptionId":"s"}}]}}"#),
        format!(r#"{{"value":[{{"clientState":{deep},"subscriptionId":"s"}}]}}"#),
        format!(r#"{{"value":[{{"subscriptionId":{deep}}},{{"subscriptionId":"s"}}]}}"#),
    ] {
        let notifications = read(body);
        assert_eq!(notifications.len(), 1);
        assert!(notifications[0].client_state.is_none());
    }
    let many = vec!["1"; 500_000].join(",");
    assert!(read(format!(r#"{{"value":[{many}]}}"#)).is_empty());
}

/// Any JSON, with the names that matter among the members.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("subscriptionRemoved")),
    ];
    let name = prop_oneof![
        Just("value".to_owned()),
        Just("subscriptionId".to_owned()),
        Just("CLIENTSTATE".to_owned()),
        Just("lifecycleEvent".to_owned()),
        any::<String>(),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What every answer keeps, whatever the body.
fn check(body: &[u8]) -> Result<usize, TestCaseError> {
    match GRAPH.notifications(body) {
        Ok(notifications) => {
            for notification in &notifications {
                let id = &notification.subscription_id;
                prop_assert!(!id.is_empty() && id.chars().count() <= 255);
                prop_assert!(!id.chars().any(char::is_control));
            }
            Ok(notifications.len())
        }
        Err(error) => {
            prop_assert_eq!(error.class, InvalidInput);
            Ok(0)
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&body)?;
    }

    #[test]
    fn any_json_is_read_or_refused(body in any_json()) {
        check(body.to_string().as_bytes())?;
    }

    #[test]
    fn what_is_good_comes_through_whatever_is_around_it(
        entries in prop::collection::vec(any_json(), 0..8),
        at in any::<prop::sample::Index>(),
        rest in any_json(),
        id in "[!-~]{1,255}",
        cut in any::<prop::sample::Index>(),
    ) {
        let mut entries = entries;
        let good = json!({"a": rest, "subscriptionId": id, "lifecycleEvent": "Missed"});
        entries.insert(at.index(entries.len() + 1), good);
        let body = json!({"a": rest, "value": entries, "z": rest}).to_string();
        let notifications = GRAPH.notifications(body.as_bytes()).unwrap();
        let expected = (id.as_str(), None, PushSignal::Missed);
        prop_assert!(notifications.iter().any(|notification| told(notification) == expected));
        // A body that breaks off is none, wherever.
        let cut = cut.index(body.len());
        prop_assert_eq!(check(&body.as_bytes()[..cut])?, 0);
    }
}
