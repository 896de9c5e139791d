//! Which occurrences of a series are gone although nobody said so.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use calendar_domain::event::{EventChange, EventMoment, EventSpan, Occurrence};
use calendar_domain::ids::EventId;
use calendar_domain::rejected::RejectedEvent;
use calendar_domain::series::{Suspects, judge};
use calendar_domain::sync::{SeriesInstance, SyncWindow, TouchedSeries};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const FIRST: OffsetDateTime = datetime!(2024-01-01 9:00 UTC);
const WINDOW: SyncWindow = SyncWindow {
    start: datetime!(2026-01-05 0:00 UTC),
    end: datetime!(2026-01-11 0:00 UTC),
};

fn span(start: OffsetDateTime) -> EventSpan {
    EventSpan::Timed {
        start,
        end: start + Duration::HOUR,
    }
}

fn on(day: i64) -> OffsetDateTime {
    datetime!(2026-01-05 9:00 UTC) + Duration::days(day)
}

fn instance(day: i64, seen: bool) -> SeriesInstance {
    SeriesInstance {
        id: EventId::new(),
        provider_event_id: format!("M{day}").as_str().into(),
        original_start: EventMoment::Instant(on(day)),
        span: span(on(day)),
        seen,
    }
}

fn series(instances: Vec<SeriesInstance>) -> TouchedSeries {
    TouchedSeries {
        master_id: EventId::new(),
        master: "M".into(),
        rule: Some("FREQ=DAILY".parse().unwrap()),
        span: span(FIRST),
        zone: Some("Etc/UTC".to_owned()),
        exception_dates: Vec::new(),
        instances,
    }
}

fn occurrence(day: i64) -> EventChange {
    EventChange::Occurrence(Occurrence {
        id: format!("M{day}").as_str().into(),
        master: "M".into(),
        span: span(on(day)),
    })
}

/// All days whose view must show them: the window's last day is judged when it is further inside.
fn whole() -> Vec<SeriesInstance> {
    (0..6).map(|day| instance(day, true)).collect()
}

#[test]
fn a_whole_series_asks_nobody_and_corrects_nothing() {
    let series = series(whole());
    let suspects = Suspects::of(&series, WINDOW);
    assert!(!suspects.any(), "{suspects:?}");
    assert_eq!(judge(&series, &suspects, Vec::new()), (None, Vec::new()));
}

#[test]
fn a_hole_that_the_provider_confirms_is_an_exception_date() {
    let mut instances = whole();
    instances.remove(2);
    let series = series(instances);
    let suspects = Suspects::of(&series, WINDOW);
    assert_eq!(
        suspects.missing.iter().copied().collect::<Vec<_>>(),
        [EventMoment::Instant(on(2))]
    );
    let (correction, contradictions) =
        judge(&series, &suspects, vec![occurrence(1), occurrence(3)]);
    assert_eq!(
        correction.unwrap().exception_dates,
        [EventMoment::Instant(on(2))]
    );
    assert_eq!(contradictions, []);
}

#[test]
fn a_hole_that_the_provider_contradicts_is_stored_again() {
    let mut instances = whole();
    instances[2].seen = false;
    let series = series(instances);
    let suspects = Suspects::of(&series, WINDOW);
    let (correction, contradictions) =
        judge(&series, &suspects, vec![occurrence(1), occurrence(2)]);
    assert_eq!(correction, None);
    assert_eq!(contradictions, [occurrence(2)]);
}

#[test]
fn a_row_that_was_not_seen_goes_and_its_date_is_excluded() {
    let mut instances = whole();
    instances[4].seen = false;
    let gone = instances[4].id;
    let series = series(instances);
    let suspects = Suspects::of(&series, WINDOW);
    let (correction, _) = judge(&series, &suspects, Vec::new());
    let correction = correction.unwrap();
    assert_eq!(correction.removed, [gone]);
    assert_eq!(correction.exception_dates, [EventMoment::Instant(on(4))]);
}

#[test]
fn what_the_rule_no_longer_makes_goes_without_an_exception_date() {
    let mut instances = whole();
    instances[5].seen = false;
    let gone = instances[5].id;
    let mut series = series(instances);
    series.rule = Some("FREQ=DAILY;UNTIL=20260109T235959Z".parse().unwrap());
    let suspects = Suspects::of(&series, WINDOW);
    let correction = judge(&series, &suspects, Vec::new()).0.unwrap();
    assert_eq!(
        (correction.removed, correction.exception_dates),
        (vec![gone], vec![])
    );
}

#[test]
fn what_was_left_out_before_the_series_moved_is_no_exception_any_more() {
    let mut moved = series(whole());
    let (old, new) = (on(2) - Duration::HOUR, on(300));
    moved.exception_dates = vec![EventMoment::Instant(old), EventMoment::Instant(new)];
    let suspects = Suspects::of(&moved, WINDOW);
    let (correction, _) = judge(&moved, &suspects, Vec::new());
    assert_eq!(
        correction.unwrap().exception_dates,
        moved.exception_dates[1..]
    );
    // Where the series cannot be expanded, what we know stays.
    for unknown in ["rule", "zone"] {
        let mut kept = moved.clone();
        match unknown {
            "rule" => kept.rule = None,
            _ => kept.zone = None,
        }
        let suspects = Suspects::of(&kept, WINDOW);
        assert_eq!(judge(&kept, &suspects, Vec::new()).0, None, "{unknown}");
    }
}

#[test]
fn an_occurrence_that_is_back_is_no_exception_any_more() {
    let mut series = series(whole());
    series.exception_dates = vec![EventMoment::Instant(on(1)), EventMoment::Instant(on(-30))];
    let suspects = Suspects::of(&series, WINDOW);
    assert!(!suspects.any());
    let correction = judge(&series, &suspects, Vec::new()).0.unwrap();
    assert_eq!(
        correction.exception_dates,
        [EventMoment::Instant(on(-30))],
        "outside the window it stays"
    );
}

#[test]
fn a_series_that_cannot_be_expanded_is_judged_by_its_rows() {
    let mut instances = whole();
    instances[0].seen = false;
    let gone = instances[0].id;
    let mut series = series(instances);
    series.rule = None;
    let suspects = Suspects::of(&series, WINDOW);
    let correction = judge(&series, &suspects, Vec::new()).0.unwrap();
    assert_eq!(
        (correction.removed, correction.exception_dates),
        (vec![gone], vec![])
    );
}

/// T58: the window moves on, and the exception of a later day that was moved to an earlier one leaves it.
#[test]
fn an_exception_that_left_the_window_is_no_hole() {
    let mut instances = whole();
    instances[1].seen = false;
    instances[1].span = span(on(-3));
    let series = series(instances);
    let suspects = Suspects::of(&series, WINDOW);
    assert!(!suspects.any(), "{suspects:?}");
    assert_eq!(judge(&series, &suspects, Vec::new()), (None, Vec::new()));
}

#[test]
fn a_hole_in_which_an_unreadable_instance_may_stand_is_no_exception_date() {
    let mut instances = whole();
    instances.remove(2);
    let series = series(instances);
    let suspects = Suspects::of(&series, WINDOW);
    let unreadable = |id: &str| {
        let rejected = RejectedEvent::new(Some(id.into()), "start_unreadable", "{}");
        vec![occurrence(1), EventChange::Rejected(rejected)]
    };
    let (correction, _) = judge(&series, &suspects, unreadable("M2"));
    assert_eq!(correction, None);
    // One that we hold stands elsewhere.
    let (correction, _) = judge(&series, &suspects, unreadable("M3"));
    assert_eq!(
        correction.unwrap().exception_dates,
        [EventMoment::Instant(on(2))]
    );
}
