//! Tables of patterns and ranges, there and back.

use serde_json::{Value, json};
use time::macros::{date, datetime};

use super::*;

fn graph(pattern: &Value, range: &Value) -> GraphRecurrence {
    serde_json::from_value(json!({"pattern": pattern, "range": range})).unwrap()
}

fn no_end() -> Value {
    json!({"type": "noEnd", "startDate": "2026-01-05", "endDate": "0001-01-01", "numberOfOccurrences": 0})
}

#[test]
fn patterns_become_rules() {
    for (pattern, expected) in [
        (
            json!({"type": "daily", "interval": 2}),
            Some("FREQ=DAILY;INTERVAL=2"),
        ),
        (json!({"type": "daily", "interval": 0}), Some("FREQ=DAILY")),
        // As the service answers: every member, with fillers.
        (
            json!({"type": "weekly", "interval": 1, "month": 0, "dayOfMonth": 0, "daysOfWeek": ["wednesday", "monday"], "firstDayOfWeek": "sunday", "index": "first"}),
            Some("FREQ=WEEKLY;BYDAY=MO,WE;WKST=SU"),
        ),
        (
            json!({"type": "Weekly", "interval": 2, "daysOfWeek": ["Monday", "monday"], "firstDayOfWeek": "Monday"}),
            Some("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO;WKST=MO"),
        ),
        (
            json!({"type": "weekly", "interval": 1, "daysOfWeek": ["monday"]}),
            Some("FREQ=WEEKLY;BYDAY=MO;WKST=SU"),
        ),
        (
            json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 15}),
            Some("FREQ=MONTHLY;BYMONTHDAY=15"),
        ),
        (
            json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 31}),
            Some("FREQ=MONTHLY;BYMONTHDAY=-1"),
        ),
        (
            json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 30}),
            Some("FREQ=MONTHLY;BYMONTHDAY=30"),
        ),
        (
            json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["tuesday"], "index": "second"}),
            Some("FREQ=MONTHLY;BYDAY=2TU"),
        ),
        (
            json!({"type": "relativeMonthly", "interval": 3, "daysOfWeek": ["friday"], "index": "last"}),
            Some("FREQ=MONTHLY;INTERVAL=3;BYDAY=-1FR"),
        ),
        (
            json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["thursday", "friday"], "index": "fourth"}),
            Some("FREQ=MONTHLY;BYDAY=TH,FR;BYSETPOS=4"),
        ),
        (
            json!({"type": "absoluteYearly", "interval": 1, "month": 6, "dayOfMonth": 15}),
            Some("FREQ=YEARLY;BYMONTH=6;BYMONTHDAY=15"),
        ),
        (
            json!({"type": "absoluteYearly", "interval": 1, "month": 1, "dayOfMonth": 31}),
            Some("FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=31"),
        ),
        (
            json!({"type": "absoluteYearly", "interval": 1, "month": 2, "dayOfMonth": 31}),
            Some("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"),
        ),
        (
            json!({"type": "relativeYearly", "interval": 1, "month": 11, "daysOfWeek": ["thursday"], "index": "fourth"}),
            Some("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH"),
        ),
        (
            json!({"type": "relativeYearly", "interval": 1, "month": 3, "daysOfWeek": ["saturday", "sunday"], "index": "last"}),
            Some("FREQ=YEARLY;BYMONTH=3;BYDAY=SA,SU;BYSETPOS=-1"),
        ),
        (json!({"type": "hourly", "interval": 1}), None),
        (json!({"interval": 1}), None),
        (
            json!({"type": "weekly", "interval": 1, "daysOfWeek": ["someday"]}),
            None,
        ),
        (
            json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 0}),
            None,
        ),
        (
            json!({"type": "absoluteYearly", "interval": 1, "dayOfMonth": 5, "month": 13}),
            None,
        ),
        (
            json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": [], "index": "first"}),
            None,
        ),
        (
            json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["monday"], "index": "fifth"}),
            None,
        ),
    ] {
        let rule = from_graph(&graph(&pattern, &no_end()), false, None);
        assert_eq!(
            rule.map(|rule| rule.to_string()).as_deref(),
            expected,
            "{pattern}"
        );
    }
}

#[test]
fn ranges_become_ends() {
    let until = |instant| Some(RecurrenceEnd::Until(EventMoment::Instant(instant)));
    for (range, is_all_day, fallback, expected) in [
        (
            json!({"type": "noEnd"}),
            false,
            None,
            Some(RecurrenceEnd::Never),
        ),
        (
            json!({"type": "numbered", "numberOfOccurrences": 10}),
            false,
            None,
            Some(RecurrenceEnd::Count(10)),
        ),
        // The last second of the day in the series' zone: -8 in winter.
        (
            json!({"type": "endDate", "endDate": "2017-12-31", "recurrenceTimeZone": "Pacific Standard Time"}),
            false,
            None,
            until(datetime!(2018-01-01 07:59:59 UTC)),
        ),
        // East of UTC the day ends earlier.
        (
            json!({"type": "endDate", "endDate": "2026-07-01", "recurrenceTimeZone": "W. Europe Standard Time"}),
            false,
            None,
            until(datetime!(2026-07-01 21:59:59 UTC)),
        ),
        (
            json!({"type": "endDate", "endDate": "2026-07-01", "recurrenceTimeZone": ""}),
            false,
            Some("Asia/Kolkata"),
            until(datetime!(2026-07-01 18:29:59 UTC)),
        ),
        (
            json!({"type": "endDate", "endDate": "2026-07-01", "recurrenceTimeZone": "tzone://Microsoft/Custom"}),
            false,
            None,
            until(datetime!(2026-07-01 23:59:59 UTC)),
        ),
        (
            json!({"type": "endDate", "endDate": "2017-12-31", "recurrenceTimeZone": "Pacific Standard Time"}),
            true,
            None,
            Some(RecurrenceEnd::Until(EventMoment::Date(date!(
                2017 - 12 - 31
            )))),
        ),
        (
            json!({"type": "endDate", "endDate": "9999-12-31", "recurrenceTimeZone": "Pacific Standard Time"}),
            false,
            None,
            until(datetime!(9999-12-31 23:59:59 UTC)),
        ),
        (
            json!({"type": "endDate", "endDate": "0001-01-01"}),
            false,
            None,
            None,
        ),
        (json!({"type": "endDate"}), false, None, None),
        (
            json!({"type": "numbered", "numberOfOccurrences": 0}),
            false,
            None,
            None,
        ),
        (json!({"type": "sometime"}), false, None, None),
        (json!({}), false, None, None),
    ] {
        let recurrence = graph(&json!({"type": "daily", "interval": 1}), &range);
        let end = from_graph(&recurrence, is_all_day, fallback).map(|rule| rule.end);
        assert_eq!(end, expected, "{range}");
    }
}

#[test]
fn rules_go_to_graph_and_come_back() {
    let start = EventMoment::Instant(datetime!(2026-01-05 17:00 UTC));
    for (text, kind) in [
        ("FREQ=DAILY;INTERVAL=2", "daily"),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;WKST=SU", "weekly"),
        ("FREQ=WEEKLY;COUNT=10;BYDAY=MO;WKST=MO", "weekly"),
        (
            "FREQ=WEEKLY;UNTIL=20260601T065959Z;BYDAY=MO;WKST=MO",
            "weekly",
        ),
        ("FREQ=MONTHLY;BYMONTHDAY=15", "absoluteMonthly"),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", "absoluteMonthly"),
        ("FREQ=MONTHLY;BYDAY=2TU", "relativeMonthly"),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            "relativeMonthly",
        ),
        ("FREQ=YEARLY;BYMONTH=6;BYMONTHDAY=15", "absoluteYearly"),
        ("FREQ=YEARLY;BYMONTH=11;BYDAY=4TH", "relativeYearly"),
    ] {
        let rule: RecurrenceRule = text.parse().unwrap();
        let recurrence = to_graph(&rule, start, "Pacific Standard Time").unwrap();
        assert_eq!(recurrence.pattern.kind.as_deref(), Some(kind));
        assert_eq!(recurrence.range.start_date.as_deref(), Some("2026-01-05"));
        let back = from_graph(&recurrence, false, None).unwrap();
        assert_eq!(back.to_string(), text);
    }
}

#[test]
fn what_the_type_does_not_need_is_left_out() {
    let rule: RecurrenceRule = "FREQ=MONTHLY;COUNT=3;BYMONTHDAY=15".parse().unwrap();
    let recurrence = to_graph(&rule, EventMoment::Date(date!(2026 - 01 - 15)), "UTC").unwrap();
    assert_eq!(
        serde_json::to_value(recurrence).unwrap(),
        json!({
            "pattern": {"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 15},
            "range": {"type": "numbered", "startDate": "2026-01-15", "recurrenceTimeZone": "UTC", "numberOfOccurrences": 3},
        })
    );
}

#[test]
fn defaults_come_from_the_start() {
    let start = EventMoment::Instant(datetime!(2026-01-06 02:00 UTC));
    let to = |text: &str| {
        to_graph(&text.parse().unwrap(), start, "Pacific Standard Time")
            .unwrap()
            .pattern
    };
    // 02:00 UTC is Monday the 5th, 18:00, in Los Angeles.
    assert_eq!(
        to("FREQ=WEEKLY").days_of_week,
        Some(vec!["monday".to_owned()])
    );
    assert_eq!(to("FREQ=MONTHLY").day_of_month, Some(5));
    assert_eq!(to("FREQ=YEARLY").month, Some(1));
    assert_eq!(to("FREQ=DAILY;BYDAY=MO,TU").kind.as_deref(), Some("weekly"));
}

#[test]
fn an_until_before_that_days_occurrence_ends_the_day_before() {
    let start = EventMoment::Instant(datetime!(2026-01-05 09:00 UTC));
    let end = |text: &str| {
        to_graph(&text.parse().unwrap(), start, "UTC").map(|graph| graph.range.end_date)
    };
    assert_eq!(
        end("FREQ=DAILY;UNTIL=20260110T090000Z"),
        Ok(Some("2026-01-10".to_owned()))
    );
    assert_eq!(
        end("FREQ=DAILY;UNTIL=20260110T085959Z"),
        Ok(Some("2026-01-09".to_owned()))
    );
    assert_eq!(
        end("FREQ=DAILY;UNTIL=20260101T000000Z"),
        Err(NotExpressible::End)
    );
}

#[test]
fn what_graph_cannot_say_is_refused_with_a_reason() {
    use NotExpressible::{DailyByDay, Month, MonthDay, Number, Part, Position};
    let start = EventMoment::Instant(datetime!(2026-01-05 09:00 UTC));
    for (text, reason) in [
        ("FREQ=DAILY;INTERVAL=2;BYDAY=MO", DailyByDay),
        ("FREQ=DAILY;BYMONTH=1", Part),
        ("FREQ=WEEKLY;BYSETPOS=1;BYDAY=MO,TU", Part),
        ("FREQ=MONTHLY;BYMONTHDAY=1,15", MonthDay),
        ("FREQ=MONTHLY;BYMONTHDAY=-2", MonthDay),
        ("FREQ=MONTHLY;BYDAY=5MO", Position),
        ("FREQ=MONTHLY;BYDAY=1MO,3MO", Position),
        ("FREQ=MONTHLY;BYDAY=MO", Position),
        ("FREQ=MONTHLY;BYDAY=-2FR", Position),
        ("FREQ=MONTHLY;BYMONTH=1;BYMONTHDAY=1", Part),
        ("FREQ=MONTHLY;BYMONTHDAY=13;BYDAY=FR", Part),
        ("FREQ=YEARLY;BYMONTH=1,6;BYMONTHDAY=1", Month),
        ("FREQ=YEARLY;BYDAY=20MO", Month),
        ("FREQ=DAILY;INTERVAL=1000", Number),
        ("FREQ=DAILY;COUNT=1000", Number),
    ] {
        assert_eq!(
            to_graph(&text.parse().unwrap(), start, "UTC").unwrap_err(),
            reason,
            "{text}"
        );
    }
    let custom = to_graph(
        &"FREQ=DAILY".parse().unwrap(),
        start,
        "tzone://Microsoft/Custom",
    );
    assert_eq!(custom.unwrap_err(), NotExpressible::End);
}
