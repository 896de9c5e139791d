//! Pages with entries that are wrong, new or too large.

use super::*;

#[test]
fn one_bad_entry_does_not_spoil_the_page() {
    let entries = [
        meeting(json!({"id": "a"})),
        json!({"id": "b", "subject": {"an": "object"}}),
        json!({"id": "c", "@removed": {"reason": "deleted"}}),
        json!({"subject": "no id", "start": null}),
        json!({"id": ""}),
        json!({"id": 5}),
        json!("text"),
        json!(null),
        meeting(json!({"id": "A"})),
    ];
    let changes = map_page(&entries, Occurrences::AsOccurrence);
    let without_id = changes
        .iter()
        .filter(|change| reason(change) == Some("id_missing"));
    let without_id: Vec<&str> = without_id.map(|change| change.id().as_str()).collect();
    assert_eq!(without_id.len(), 5);
    let mut with_id = changes.iter().map(|change| change.id().as_str());
    assert!(
        with_id.by_ref().take(3).eq(["a", "b", "c"]) && with_id.next_back() == Some("A"),
        "{changes:?}"
    );
    assert_eq!(reason(&changes[1]), Some("unreadable"));
    assert_eq!(changes[2], EventChange::Removed(ProviderEventId::from("c")));
}

/// A rule that we cannot express is kept raw; what is none is set aside, whatever occurrences there are.
#[test]
fn a_recurrence_that_is_none_is_set_aside_and_one_that_is_new_is_kept() {
    let range = json!({"type": "numbered", "startDate": "2026-01-05", "endDate": "0001-01-01",
        "numberOfOccurrences": 5});
    let daily = json!({"type": "daily", "interval": 1});
    let with = |pattern: &Value, range: &Value| {
        map_one(json!({"type": "seriesMaster", "recurrence": {"pattern": pattern, "range": range}}))
    };
    let both = json!({"type": "endDate", "endDate": "2026-02-01", "numberOfOccurrences": 5});
    for (change, expected) in [
        (with(&daily, &range), None),
        (with(&json!({"type": "fortnightly"}), &range), None),
        (
            with(
                &json!({"type": "weekly", "daysOfWeek": ["someday"]}),
                &range,
            ),
            None,
        ),
        (
            with(
                &json!({"type": "absoluteMonthly", "dayOfMonth": 45}),
                &range,
            ),
            None,
        ),
        (
            with(&json!("FREQ=DAILY"), &range),
            Some("recurrence_unreadable"),
        ),
        (
            with(&json!({"type": "daily", "interval": "often"}), &range),
            Some("recurrence_unreadable"),
        ),
        (with(&daily, &both), Some("recurrence_ends_twice")),
        (
            map_one(json!({"type": "seriesMaster", "recurrence": "FREQ=DAILY"})),
            Some("recurrence_unreadable"),
        ),
    ] {
        assert_eq!(reason(&change), expected, "{change:?}");
        if let EventChange::Event(event) = &change {
            assert!(
                matches!(event.kind, EventKind::Master { .. })
                    && event.metadata.contains_key("recurrence")
            );
        }
    }
}

#[test]
fn types_that_are_new_are_told_by_the_rest() {
    let kind = |changes: Value| match map_one(changes) {
        EventChange::Event(event) => format!("{:?}", event.kind)
            .split(' ')
            .next()
            .unwrap()
            .to_owned(),
        EventChange::Occurrence(_) => "Occurrence".to_owned(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(json!({"type": null})), "Single");
    assert_eq!(kind(json!({"type": "new", "recurrence": {}})), "Master");
    assert_eq!(
        kind(json!({"type": "new", "seriesMasterId": "M"})),
        "Exception"
    );
    assert_eq!(
        kind(json!({"type": null, "seriesMasterId": "M", "subject": null})),
        "Occurrence"
    );
}

#[test]
fn hostile_events_are_mapped_whole() {
    let attendees: Vec<Value> = (0..700)
        .map(|n| json!({"type": "required", "emailAddress": {"address": format!("u{n}@example.com")}}))
        .collect();
    let long = "ü".repeat(1000);
    let mapped = event(json!({
        "subject": format!("a\u{0}{long}"),
        "attendees": attendees,
        "body": {"contentType": "text", "content": "x".repeat(2 << 20)},
        "id": "AAMk/+ =",
    }));
    assert_eq!(
        mapped.title.as_ref().map(|title| title.chars().count()),
        Some(1002)
    );
    assert_eq!(mapped.attendees.len(), 700);
    assert_eq!(mapped.description.as_ref().map(String::len), Some(2 << 20));
    assert_eq!(mapped.id.as_str(), "AAMk/+ =", "ids are kept as they are");
}
