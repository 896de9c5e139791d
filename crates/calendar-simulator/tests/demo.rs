//! The demo mailbox has what it promises, whatever the day.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

use std::collections::BTreeSet;

use calendar_simulator::jiff::civil::{Date, Time};
use calendar_simulator::jiff::tz::TimeZone;
use calendar_simulator::{Options, Simulator, demo};
use serde_json::Value;

fn filled(today: Date) -> Simulator {
    let simulator = Simulator::new(Options::default());
    demo::fill(&simulator, today).unwrap();
    simulator
}

fn on(simulator: &Simulator, date: Date) -> Vec<Value> {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let midnight = |day: Date| {
        let local = day.to_datetime(Time::midnight());
        zone.to_timestamp(local).unwrap()
    };
    simulator
        .instances(
            demo::UPN,
            None,
            midnight(date),
            midnight(date.tomorrow().unwrap()),
        )
        .unwrap()
}

#[test]
fn every_weekday_has_three_teams_meetings() {
    // Leap day, both days of clock changes, year's end, and a whole week.
    let mut days: Vec<Date> = ["2028-02-29", "2026-03-29", "2026-10-25", "2026-12-31"]
        .iter()
        .map(|day| day.parse().unwrap())
        .collect();
    days.extend((1..=7).map(|day| Date::new(2026, 6, day).unwrap()));
    for day in days {
        let simulator = filled(day);
        let teams: Vec<String> = on(&simulator, day)
            .iter()
            .filter(|row| {
                row["onlineMeeting"]["joinUrl"].is_string() && row["isCancelled"] == false
            })
            .map(|row| row["type"].as_str().unwrap().to_owned())
            .collect();
        assert!(teams.len() >= 3, "{day}: {teams:?}");
        let kinds: BTreeSet<&str> = teams.iter().map(String::as_str).collect();
        assert!(
            kinds.contains("singleInstance") && kinds.contains("occurrence"),
            "{day}"
        );
    }
}

#[test]
fn it_has_every_shape_that_was_promised() {
    let simulator = filled("2026-11-18".parse().unwrap());
    let events = simulator.events(demo::UPN, None).unwrap();
    assert!((55..=75).contains(&events.len()), "{}", events.len());
    let has = |what: &str, test: &dyn Fn(&Value) -> bool| {
        assert!(events.iter().any(test), "{what}");
    };
    has("all-day", &|e| e["isAllDay"] == true);
    has("high", &|e| e["importance"] == "high");
    has("low", &|e| e["importance"] == "low");
    has("private", &|e| e["sensitivity"] == "private");
    has("cancelled", &|e| e["isCancelled"] == true);
    has("declined", &|e| {
        e["responseStatus"]["response"] == "declined"
    });
    has("tentative", &|e| {
        e["responseStatus"]["response"] == "tentativelyAccepted"
    });
    has("New York", &|e| {
        e["originalStartTimeZone"] == "Eastern Standard Time"
    });
    has("dial-in", &|e| {
        e["onlineMeeting"]["quickDial"].is_string() && e["onlineMeeting"]["joinUrl"].is_null()
    });
    has("room", &|e| {
        e["attendees"]
            .as_array()
            .unwrap()
            .iter()
            .any(|a| a["type"] == "resource")
    });
    for pattern in [
        "daily",
        "weekly",
        "absoluteMonthly",
        "relativeMonthly",
        "absoluteYearly",
        "relativeYearly",
    ] {
        has(pattern, &|e| e["recurrence"]["pattern"]["type"] == pattern);
    }
    has("biweekly", &|e| e["recurrence"]["pattern"]["interval"] == 2);
    let month = simulator
        .instances(
            demo::UPN,
            None,
            "2026-11-01T00:00:00Z".parse().unwrap(),
            "2026-12-01T00:00:00Z".parse().unwrap(),
        )
        .unwrap();
    let exceptions: Vec<&str> = month
        .iter()
        .filter(|row| row["type"] == "exception")
        .map(|row| row["subject"].as_str().unwrap())
        .collect();
    assert!(
        exceptions.contains(&"Stand-up with demo") && exceptions.contains(&"Canceled: Stand-up")
    );
    for event in &events {
        let text = event["attendees"].to_string() + &event["organizer"].to_string();
        for address in text.split("\"address\":\"").skip(1) {
            let address = address.split('"').next().unwrap();
            assert!(
                address.ends_with("@contoso.example") || address.ends_with("@example.com"),
                "{address}"
            );
        }
    }
}

#[test]
fn identifiers_are_the_same_every_time() {
    let ids = |_: u8| -> Vec<Value> {
        filled("2026-11-18".parse().unwrap())
            .events(demo::UPN, None)
            .unwrap()
            .iter()
            .map(|event| event["id"].clone())
            .collect()
    };
    assert_eq!(ids(0), ids(1));
}
