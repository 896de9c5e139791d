//! Rules as text and as columns.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use calendar_domain::event::EventMoment;
use calendar_domain::recurrence::{
    MonthDayType, RecurrenceEndType, RecurrenceRule, exception_dates_from_column,
    exception_dates_to_column,
};

#[test]
fn rules_are_read_and_written() {
    // (read, written)
    let cases = [
        ("FREQ=DAILY", "FREQ=DAILY"),
        (
            "INTERVAL=2;FREQ=WEEKLY;BYDAY=MO,WE",
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;WKST=MO",
        ),
        ("FREQ=WEEKLY;WKST=SU", "FREQ=WEEKLY;WKST=SU"),
        (
            "FREQ=MONTHLY;BYDAY=-1FR;COUNT=5",
            "FREQ=MONTHLY;COUNT=5;BYDAY=-1FR",
        ),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=2",
            "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=2",
        ),
        (
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29;UNTIL=20300101",
            "FREQ=YEARLY;UNTIL=20300101;BYMONTH=2;BYMONTHDAY=29",
        ),
        (
            "FREQ=DAILY;UNTIL=20300101T120000Z",
            "FREQ=DAILY;UNTIL=20300101T120000Z",
        ),
    ];
    for (text, expected) in cases {
        let rule: RecurrenceRule = text.parse().unwrap();
        assert_eq!(rule.to_string(), expected);
        assert_eq!(expected.parse::<RecurrenceRule>().unwrap(), rule);
    }
}

#[test]
fn what_is_no_rule_of_ours_is_refused() {
    let cases = [
        "",
        "FREQ=HOURLY",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;BYDAY=XX",
        "FREQ=DAILY;BYDAY=é",
        "FREQ=DAILY;COUNT=2;UNTIL=20300101",
        "FREQ=DAILY;BYMONTHDAY=32",
        "FREQ=DAILY;BYMONTH=13",
        "FREQ=DAILY;BYSETPOS=0",
        "FREQ=DAILY;UNTIL=tomorrow",
        "FREQ=DAILY;X-OWN=1",
        "FREQ",
        "=;=",
    ];
    for text in cases {
        assert!(text.parse::<RecurrenceRule>().is_err(), "{text}");
    }
}

#[test]
fn columns_are_the_rule_taken_apart() {
    let columns = |rule: &str| rule.parse::<RecurrenceRule>().unwrap().columns();
    let weekly = columns("FREQ=WEEKLY;BYDAY=MO,WE;INTERVAL=2;COUNT=9").unwrap();
    assert_eq!(weekly.by_day.as_deref(), Some("MO,WE"));
    assert_eq!(
        (weekly.interval, weekly.count, weekly.end_type),
        (2, Some(9), RecurrenceEndType::AfterCount)
    );
    assert_eq!((weekly.by_day_of_week, weekly.month_day_type), (None, None));
    let numbered = columns("FREQ=MONTHLY;BYDAY=2TU").unwrap();
    assert_eq!(
        (numbered.by_day_of_week.as_deref(), numbered.by_set_pos),
        (Some("TU"), Some(2))
    );
    assert_eq!(
        (numbered.by_day, numbered.month_day_type),
        (None, Some(MonthDayType::DayOfWeek))
    );
    let last_workday = columns("FREQ=YEARLY;BYMONTH=1,6;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1").unwrap();
    assert_eq!(last_workday.by_set_pos, Some(-1));
    assert_eq!(last_workday.by_month.as_deref(), Some("1,6"));
    let day = columns("FREQ=MONTHLY;BYMONTHDAY=-1;UNTIL=20300131").unwrap();
    assert_eq!(
        (day.by_month_day, day.month_day_type),
        (Some(-1), Some(MonthDayType::DayOfMonth))
    );
    assert_eq!(
        day.end_date,
        Some(time::macros::datetime!(2030-01-31 0:00 UTC))
    );
    for rule in [
        "FREQ=MONTHLY;BYMONTHDAY=1,15",
        "FREQ=MONTHLY;BYDAY=1MO,3MO",
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1,-1",
    ] {
        assert_eq!(columns(rule), None, "{rule}");
    }
}

#[test]
fn exception_dates_stand_in_one_column() {
    let dates: Vec<EventMoment> = vec![
        "20260105".parse().unwrap(),
        "20260106T090000Z".parse().unwrap(),
    ];
    let column = exception_dates_to_column(&dates);
    assert_eq!(column.as_deref(), Some("20260105,20260106T090000Z"));
    assert_eq!(exception_dates_from_column(column.as_deref()), dates);
    assert_eq!(
        exception_dates_from_column(Some("junk, 20260105")),
        dates[..1]
    );
    assert_eq!(exception_dates_to_column(&[]), None);
}
