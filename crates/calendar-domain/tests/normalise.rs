//! What fits into the columns.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use calendar_domain::event::{
    Attendee, EventImportance, EventKind, EventSpan, EventStatus, ProviderEvent, Reminder,
    ReminderMethod,
};
use calendar_domain::normalise::{normalise, stored_identifier};
use serde_json::{Map, json};
use time::macros::{date, datetime};

fn event() -> ProviderEvent {
    ProviderEvent {
        id: "A".into(),
        kind: EventKind::Single,
        title: None,
        description: None,
        location: None,
        span: EventSpan::AllDay {
            start: date!(2026 - 01 - 05),
            end: date!(2026 - 01 - 06),
        },
        zone: None,
        end_zone: None,
        status: EventStatus::Confirmed,
        importance: EventImportance::Normal,
        show_as: None,
        sensitivity: None,
        categories: Vec::new(),
        conversation_id: None,
        ical_uid: None,
        teams: None,
        organizer: None,
        is_organizer: None,
        attendees: Vec::new(),
        reminders: Vec::new(),
        html_link: None,
        metadata: Map::new(),
    }
}

fn attendee(email: Option<&str>, name: &str) -> Attendee {
    Attendee {
        email: email.map(str::to_owned),
        display_name: Some(name.to_owned()),
        ..Attendee::default()
    }
}

#[test]
fn a_long_title_is_cut_between_characters_and_kept_whole() {
    let long = "ü".repeat(1_000);
    let got = normalise(ProviderEvent {
        title: Some(long.clone()),
        ..event()
    });
    assert_eq!(got.title, Some("ü".repeat(500)));
    assert_eq!(got.metadata["uncut"]["title"], json!(long));
    let fits = normalise(ProviderEvent {
        title: Some("ü".repeat(500)),
        ..event()
    });
    assert!(fits.metadata.is_empty());
}

#[test]
fn nul_is_replaced_everywhere() {
    let metadata = json!({"a\0": [{"b": "c\0d"}]}).as_object().unwrap().clone();
    let got = normalise(ProviderEvent {
        title: Some("a\0b".to_owned()),
        description: Some("\0".to_owned()),
        categories: vec!["x\0".to_owned()],
        attendees: vec![attendee(Some("a\0@example.com"), "n\0")],
        metadata,
        ..event()
    });
    assert_eq!(got.title.as_deref(), Some("a\u{FFFD}b"));
    assert_eq!(got.categories, ["x\u{FFFD}"]);
    assert_eq!(
        got.attendees[0].email.as_deref(),
        Some("a\u{FFFD}@example.com")
    );
    assert_eq!(
        serde_json::to_string(&got.metadata).unwrap(),
        "{\"a\u{FFFD}\":[{\"b\":\"c\u{FFFD}d\"}]}"
    );
}

#[test]
fn attendees_are_one_per_address_and_rooms_without_one_stay() {
    let got = normalise(ProviderEvent {
        attendees: vec![
            Attendee {
                is_organizer: true,
                ..attendee(Some("Ann@example.com"), "first")
            },
            attendee(None, "Room 1"),
            attendee(Some(" "), "Room 2"),
            attendee(Some("ann@EXAMPLE.com"), "last"),
        ],
        ..event()
    });
    let names: Vec<_> = got
        .attendees
        .iter()
        .map(|a| a.display_name.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["last", "Room 1", "Room 2"]);
    assert!(got.attendees[0].is_organizer);
}

#[test]
fn identifiers_are_never_cut() {
    let fits = "x".repeat(255);
    assert_eq!(stored_identifier(&fits), fits);
    let (a, b) = ("x".repeat(256), format!("{}y", "x".repeat(255)));
    assert_ne!(stored_identifier(&a), stored_identifier(&b));
    // `printf 'a%.0s' {1..300} | sha256sum`
    let expected = "sha256:9835fa6bf4e20a9b9ea812506302e98982721a6cf8d2cae67af57129bf21ae90";
    assert_eq!(stored_identifier(&"a".repeat(300)), expected);
    let got = normalise(ProviderEvent {
        id: a.as_str().into(),
        ..event()
    });
    assert_eq!(got.metadata["uncut"]["provider_event_id"], json!(a));
}

#[test]
fn an_event_never_ends_before_it_starts() {
    let at = datetime!(2026-01-05 9:00 UTC);
    let timed = EventSpan::Timed {
        start: at,
        end: at - time::Duration::HOUR,
    };
    let got = normalise(ProviderEvent {
        span: timed,
        ..event()
    });
    assert_eq!(got.span, EventSpan::Timed { start: at, end: at });
    let day = EventSpan::AllDay {
        start: date!(2026 - 01 - 05),
        end: date!(2026 - 01 - 05),
    };
    let got = normalise(ProviderEvent {
        span: day,
        ..event()
    });
    assert_eq!(
        got.span,
        EventSpan::AllDay {
            start: date!(2026 - 01 - 05),
            end: date!(2026 - 01 - 06)
        }
    );
    let last = EventSpan::AllDay {
        start: date!(9999 - 12 - 31),
        end: date!(9999 - 12 - 31),
    };
    assert_eq!(
        normalise(ProviderEvent {
            span: last,
            ..event()
        })
        .span,
        last
    );
}

#[test]
fn equal_reminders_are_one() {
    let reminder = Reminder {
        method: ReminderMethod::Popup,
        minutes_before: 15,
    };
    let got = normalise(ProviderEvent {
        reminders: vec![reminder, reminder],
        ..event()
    });
    assert_eq!(got.reminders, [reminder]);
}
