//! Events as a test puts them into the simulator: Graph's POST shape, on days counted from today.

use calendar_simulator::Simulator;
use calendar_simulator::jiff::{ToSpan as _, civil::Date, tz::TimeZone};
use serde_json::{Value, json};

/// Today at the simulator, `days` ahead, as the date in UTC.
#[must_use]
pub fn day(simulator: &Simulator, days: i64) -> Date {
    simulator.now().to_zoned(TimeZone::UTC).date() + days.days()
}

/// The instant at which a day begins in UTC, in RFC 3339.
#[must_use]
pub fn midnight(date: Date) -> String {
    format!("{date}T00:00:00Z")
}

/// Half an hour on this day, from this hour on, in UTC.
#[must_use]
pub fn timed(subject: &str, date: Date, hour: u8) -> Value {
    json!({
        "subject": subject,
        "start": {"dateTime": format!("{date}T{hour:02}:00:00"), "timeZone": "UTC"},
        "end": {"dateTime": format!("{date}T{hour:02}:30:00"), "timeZone": "UTC"},
    })
}

/// Half an hour at nine on each day from this one on, without an end.
#[must_use]
pub fn daily(subject: &str, date: Date) -> Value {
    let mut event = timed(subject, date, 9);
    event["recurrence"] = json!({
        "pattern": {"type": "daily", "interval": 1},
        "range": {"type": "noEnd", "startDate": date.to_string()},
    });
    event
}
