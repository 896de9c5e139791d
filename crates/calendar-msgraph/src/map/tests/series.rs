//! Masters, exceptions and occurrences.

use time::macros::{date, datetime};

use super::*;

#[test]
fn masters_carry_their_rule() {
    let recurrence = json!({
        "pattern": {"type": "weekly", "interval": 1, "month": 0, "dayOfMonth": 0, "daysOfWeek": ["monday"], "firstDayOfWeek": "sunday", "index": "first"},
        "range": {"type": "endDate", "startDate": "2026-01-05", "endDate": "2026-07-01", "recurrenceTimeZone": "", "numberOfOccurrences": 0},
    });
    let rule = |changes: Value| match event(changes).kind {
        EventKind::Master {
            rule,
            exception_dates: None,
        } => rule.map(|rule| rule.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        rule(json!({"type": "seriesMaster", "recurrence": recurrence})).as_deref(),
        Some("FREQ=WEEKLY;UNTIL=20260701T215959Z;BYDAY=MO;WKST=SU")
    );
    assert_eq!(
        rule(json!({"type": "seriesMaster", "recurrence": recurrence, "isAllDay": true}))
            .as_deref(),
        Some("FREQ=WEEKLY;UNTIL=20260701;BYDAY=MO;WKST=SU")
    );
    assert_eq!(
        event(json!({"type": "seriesMaster", "recurrence": recurrence})).metadata["recurrence"],
        recurrence
    );
    for unreadable in [
        Value::Null,
        json!({"pattern": {"type": "hourly"}}),
        json!({}),
    ] {
        assert_eq!(
            rule(json!({"type": "seriesMaster", "recurrence": unreadable})),
            None
        );
    }
    // A type that is missing.
    assert!(rule(json!({"type": null, "recurrence": recurrence})).is_some());
}

#[test]
fn exceptions_know_their_original_start() {
    let nine = EventMoment::Instant(datetime!(2026-01-05 09:00 UTC));
    let day = EventMoment::Date(date!(2026 - 01 - 05));
    for (original, zone, is_all_day, expected) in [
        (
            json!("2026-01-02T09:00:00Z"),
            "UTC",
            false,
            EventMoment::Instant(datetime!(2026-01-02 09:00 UTC)),
        ),
        (Value::Null, "UTC", false, nine),
        (json!("nonsense"), "UTC", false, nine),
        (Value::Null, "UTC", true, day),
        (json!("2026-01-05T00:00:00Z"), "UTC", true, day),
        // Midnight of the zone that the series was made in.
        (
            json!("2026-01-05T08:00:00Z"),
            "Pacific Standard Time",
            true,
            day,
        ),
        (
            json!("2026-01-04T23:00:00Z"),
            "W. Europe Standard Time",
            true,
            day,
        ),
        (
            json!("2026-01-04T11:00:00Z"),
            "Tonga Standard Time",
            true,
            day,
        ),
        // The zone does not tell: the nearest midnight.
        (json!("2026-01-05T08:00:00Z"), "UTC", true, day),
        (
            json!("2026-01-04T23:00:00Z"),
            "tzone://Microsoft/Custom",
            true,
            day,
        ),
    ] {
        let mapped = event(json!({
            "type": "exception", "seriesMasterId": "M", "originalStart": original,
            "originalStartTimeZone": zone, "isAllDay": is_all_day,
        }));
        let expected = EventKind::Exception {
            master: ProviderEventId::from("M"),
            original_start: expected,
        };
        assert_eq!(mapped.kind, expected, "{original} {zone}");
    }
    assert!(matches!(
        map_one(json!({"type": "exception", "seriesMasterId": null})),
        EventChange::Rejected(RejectedEvent { reason, .. }) if reason == "series_master_missing"
    ));
}

#[test]
fn stubs_and_whole_occurrences_are_occurrences() {
    let expected = EventChange::Occurrence(Occurrence {
        id: ProviderEventId::from("O"),
        master: ProviderEventId::from("M"),
        span: EventSpan::Timed {
            start: datetime!(2026-01-05 09:00 UTC),
            end: datetime!(2026-01-05 10:00 UTC),
        },
    });
    let short = stub(
        "O",
        "M",
        "2026-01-05T09:00:00.0000000",
        "2026-01-05T10:00:00.0000000",
    );
    let whole = meeting(json!({"id": "O", "type": "occurrence", "seriesMasterId": "M"}));
    let changes = map_page(&[short.clone(), whole.clone()], Occurrences::AsOccurrence);
    assert_eq!(changes, [expected.clone(), expected]);
    // Asked for by its id, it is whole.
    let changes = map_page(&[whole], Occurrences::AsException);
    assert!(
        matches!(&changes[0], EventChange::Event(event) if matches!(event.kind, EventKind::Exception { .. }))
    );
    let changes = map_page(&[stub("O", "", "x", "y")], Occurrences::AsOccurrence);
    assert!(
        matches!(&changes[0], EventChange::Rejected(RejectedEvent { reason, .. }) if reason == "start_unreadable")
    );
}

#[test]
fn stubs_of_all_day_series_are_dates() {
    let midnight = |n: u8| format!("2026-01-{n:02}T00:00:00.0000000");
    let span = |changes: &[EventChange]| match changes.last() {
        Some(EventChange::Occurrence(occurrence)) => occurrence.span,
        other => panic!("{other:?}"),
    };
    let day = EventSpan::AllDay {
        start: date!(2026 - 01 - 05),
        end: date!(2026 - 01 - 06),
    };
    let timed = EventSpan::Timed {
        start: datetime!(2026-01-05 00:00 UTC),
        end: datetime!(2026-01-06 00:00 UTC),
    };
    let occurrence = stub("O", "M", &midnight(5), &midnight(6));
    let master = |is_all_day: bool| {
        meeting(json!({"id": "M", "type": "seriesMaster", "isAllDay": is_all_day}))
    };
    for (entries, expected) in [
        (vec![occurrence.clone()], day),
        (vec![master(true), occurrence.clone()], day),
        // A shift from midnight to midnight UTC is no day.
        (vec![master(false), occurrence.clone()], timed),
        // Another series' master says nothing.
        (
            vec![
                meeting(json!({"id": "X", "type": "seriesMaster"})),
                occurrence,
            ],
            day,
        ),
    ] {
        let changes = map_page(&entries, Occurrences::AsOccurrence);
        assert_eq!(span(&changes), expected);
    }
}
