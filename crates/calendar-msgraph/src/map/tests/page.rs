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
    let (changes, without_id) = map_page(&entries, Occurrences::AsOccurrence);
    assert_eq!(without_id, 5);
    let ids: Vec<&str> = changes.iter().map(|change| change.id().as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "A"]);
    assert!(matches!(&changes[1], EventChange::Rejected { reason, .. } if reason == "unreadable"));
    assert_eq!(changes[2], EventChange::Removed(ProviderEventId::from("c")));
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
