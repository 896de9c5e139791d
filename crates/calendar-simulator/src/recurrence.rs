//! Graph's `patternedRecurrence`: parsing, output with all fillers, and expansion into dates for the six patterns.
//! Source: Graph v1.0 resource pages recurrencePattern and recurrenceRange. Days 29-31 clamp to the month's end.

use jiff::ToSpan;
use jiff::civil::{Date, Weekday};
use serde_json::{Map, Value, json};

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("sunday", Weekday::Sunday),
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
];

const INDEXES: [&str; 5] = ["first", "second", "third", "fourth", "last"];

/// The six `recurrencePatternType`s, with only what each needs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Daily,
    Weekly {
        days: Vec<Weekday>,
        first_day: Weekday,
    },
    AbsoluteMonthly {
        day: i8,
    },
    RelativeMonthly {
        days: Vec<Weekday>,
        index: usize,
    },
    AbsoluteYearly {
        month: i8,
        day: i8,
    },
    RelativeYearly {
        month: i8,
        days: Vec<Weekday>,
        index: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Never,
    On(Date),
    After(u32),
}

/// A parsed `patternedRecurrence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recurrence {
    pattern: Pattern,
    interval: u16,
    end: End,
    pub(crate) start: Date,
    pub(crate) zone: Option<String>,
}

impl Recurrence {
    /// Reads a `patternedRecurrence`; `event_start` stands in for a missing `startDate`. The error is a message for
    /// the client.
    pub(crate) fn parse(value: &Value, event_start: Date) -> Result<Self, String> {
        let pattern = object(value, "pattern")?;
        let range = object(value, "range")?;
        let interval = match pattern.get("interval").and_then(Value::as_i64) {
            None if pattern.get("interval").is_none_or(Value::is_null) => 1,
            Some(n) => u16::try_from(n)
                .ok()
                .filter(|n| (1..=999).contains(n))
                .ok_or("The recurrence pattern's interval is invalid.")?,
            None => return Err("The recurrence pattern's interval is invalid.".into()),
        };
        let kind = text(pattern, "type").to_ascii_lowercase();
        let parsed = match kind.as_str() {
            "daily" => Pattern::Daily,
            "weekly" => Pattern::Weekly {
                days: days(pattern)?,
                first_day: match text(pattern, "firstDayOfWeek") {
                    "" => Weekday::Sunday,
                    name => weekday(name)?,
                },
            },
            "absolutemonthly" => Pattern::AbsoluteMonthly {
                day: number(pattern, "dayOfMonth", 31)?,
            },
            "relativemonthly" => Pattern::RelativeMonthly {
                days: days(pattern)?,
                index: index(pattern)?,
            },
            "absoluteyearly" => Pattern::AbsoluteYearly {
                month: number(pattern, "month", 12)?,
                day: number(pattern, "dayOfMonth", 31)?,
            },
            "relativeyearly" => Pattern::RelativeYearly {
                month: number(pattern, "month", 12)?,
                days: days(pattern)?,
                index: index(pattern)?,
            },
            other => return Err(format!("Invalid recurrence pattern type '{other}'.")),
        };
        let start = match text(range, "startDate") {
            "" => event_start,
            written => date(written)?,
        };
        let end = match text(range, "type").to_ascii_lowercase().as_str() {
            "noend" => End::Never,
            "enddate" => End::On(date(text(range, "endDate"))?),
            "numbered" => End::After(
                range
                    .get("numberOfOccurrences")
                    .and_then(Value::as_u64)
                    .and_then(|n| u32::try_from(n).ok())
                    .filter(|n| (1..=999).contains(n))
                    .ok_or("The recurrence range's numberOfOccurrences is invalid.")?,
            ),
            other => return Err(format!("Invalid recurrence range type '{other}'.")),
        };
        if matches!(end, End::On(last) if last < start) {
            return Err("The recurrence range's endDate is before its startDate.".into());
        }
        Ok(Self {
            pattern: parsed,
            interval,
            end,
            start,
            zone: Some(text(range, "recurrenceTimeZone").to_owned())
                .filter(|zone| !zone.is_empty()),
        })
    }

    /// The service's output: every member, unused ones with their fillers.
    pub(crate) fn to_json(&self, event_zone: &str) -> Value {
        let (kind, month, day, days, first_day, index) = match &self.pattern {
            Pattern::Daily => ("daily", 0, 0, None, Weekday::Sunday, 0),
            Pattern::Weekly { days, first_day } => ("weekly", 0, 0, Some(days), *first_day, 0),
            Pattern::AbsoluteMonthly { day } => {
                ("absoluteMonthly", 0, *day, None, Weekday::Sunday, 0)
            }
            Pattern::RelativeMonthly { days, index } => {
                ("relativeMonthly", 0, 0, Some(days), Weekday::Sunday, *index)
            }
            Pattern::AbsoluteYearly { month, day } => {
                ("absoluteYearly", *month, *day, None, Weekday::Sunday, 0)
            }
            Pattern::RelativeYearly { month, days, index } => (
                "relativeYearly",
                *month,
                0,
                Some(days),
                Weekday::Sunday,
                *index,
            ),
        };
        let mut pattern = json!({
            "type": kind,
            "interval": self.interval,
            "month": month,
            "dayOfMonth": day,
            "firstDayOfWeek": name(first_day),
            "index": INDEXES.get(index).copied().unwrap_or("first"),
        });
        if let (Some(days), Some(members)) = (days, pattern.as_object_mut()) {
            let days = days.iter().map(|day| Value::from(name(*day))).collect();
            members.insert("daysOfWeek".into(), Value::Array(days));
        }
        let (kind, end_date, count) = match self.end {
            End::Never => ("noEnd", "0001-01-01".to_owned(), 0),
            End::On(last) => ("endDate", last.to_string(), 0),
            End::After(count) => ("numbered", "0001-01-01".to_owned(), count),
        };
        json!({
            "pattern": pattern,
            "range": {
                "type": kind,
                "startDate": self.start.to_string(),
                "endDate": end_date,
                "recurrenceTimeZone": self.zone.as_deref().unwrap_or(event_zone),
                "numberOfOccurrences": count,
            },
        })
    }

    /// The dates of all occurrences in order, before any is moved or deleted. Without an end it runs to year 9999.
    pub(crate) fn dates(&self) -> impl Iterator<Item = Date> + '_ {
        let (limit, last) = match self.end {
            End::Never => (usize::MAX, Date::MAX),
            End::On(last) => (usize::MAX, last),
            End::After(count) => (count as usize, Date::MAX),
        };
        (0_i32..)
            .map_while(|step| self.period(step))
            .flatten()
            .filter(|date| *date >= self.start)
            .take_while(move |date| *date <= last)
            .take(limit)
    }

    /// A date after which no occurrence begins; `None` without an end.
    pub(crate) fn last_date(&self) -> Option<Date> {
        match self.end {
            End::Never => None,
            // The last occurrence may be earlier, but a far end would take long to walk to.
            End::On(last) => Some(last),
            End::After(_) => self.dates().last(),
        }
    }

    /// The dates in the `step`-th day, week, month or year of the series, or `None` past the calendar's end.
    fn period(&self, step: i32) -> Option<Vec<Date>> {
        let step = step.checked_mul(i32::from(self.interval))?;
        match &self.pattern {
            Pattern::Daily => Some(vec![self.start.checked_add(step.days()).ok()?]),
            Pattern::Weekly { days, first_day } => {
                let back = i32::from(self.start.weekday().since(*first_day));
                let week = self
                    .start
                    .checked_add((step.checked_mul(7)? - back).days())
                    .ok()?;
                let mut dates: Vec<Date> = days
                    .iter()
                    .filter_map(|day| {
                        week.checked_add(i32::from(day.since(*first_day)).days())
                            .ok()
                    })
                    .collect();
                dates.sort_unstable();
                // The last week of year 9999 has no days left, and must end the series.
                (!dates.is_empty()).then_some(dates)
            }
            Pattern::AbsoluteMonthly { day } => {
                let month = self
                    .start
                    .first_of_month()
                    .checked_add(step.months())
                    .ok()?;
                Some(vec![clamped(month, *day)?])
            }
            Pattern::RelativeMonthly { days, index } => {
                let month = self
                    .start
                    .first_of_month()
                    .checked_add(step.months())
                    .ok()?;
                Some(nth(month, days, *index).into_iter().collect())
            }
            Pattern::AbsoluteYearly { month, day } => {
                Some(vec![clamped(self.year_month(step, *month)?, *day)?])
            }
            Pattern::RelativeYearly { month, days, index } => {
                let month = self.year_month(step, *month)?;
                Some(nth(month, days, *index).into_iter().collect())
            }
        }
    }

    fn year_month(&self, years: i32, month: i8) -> Option<Date> {
        let year = i16::try_from(i32::from(self.start.year()).checked_add(years)?).ok()?;
        Date::new(year, month, 1).ok()
    }
}

fn clamped(month: Date, day: i8) -> Option<Date> {
    Date::new(month.year(), month.month(), day.min(month.days_in_month())).ok()
}

/// The first, second, third, fourth or last day of the month that is one of `days`.
fn nth(month: Date, days: &[Weekday], index: usize) -> Option<Date> {
    let mut matching = (1..=month.days_in_month())
        .filter_map(|day| Date::new(month.year(), month.month(), day).ok())
        .filter(|date| days.contains(&date.weekday()));
    if index >= 4 {
        matching.next_back()
    } else {
        matching.nth(index)
    }
}

fn name(day: Weekday) -> &'static str {
    WEEKDAYS
        .iter()
        .find(|(_, weekday)| *weekday == day)
        .map_or("sunday", |(name, _)| name)
}

fn weekday(written: &str) -> Result<Weekday, String> {
    WEEKDAYS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(written))
        .map(|(_, day)| *day)
        .ok_or_else(|| format!("Invalid day of week '{written}'."))
}

fn days(pattern: &Map<String, Value>) -> Result<Vec<Weekday>, String> {
    let mut days = Vec::new();
    for day in pattern
        .get("daysOfWeek")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let day = weekday(day.as_str().unwrap_or_default())?;
        if !days.contains(&day) {
            days.push(day);
        }
    }
    if days.is_empty() {
        return Err("The recurrence pattern needs daysOfWeek.".into());
    }
    Ok(days)
}

fn index(pattern: &Map<String, Value>) -> Result<usize, String> {
    match text(pattern, "index") {
        "" => Ok(0),
        written => INDEXES
            .iter()
            .position(|name| name.eq_ignore_ascii_case(written))
            .ok_or_else(|| format!("Invalid week index '{written}'.")),
    }
}

fn number(pattern: &Map<String, Value>, member: &str, max: i8) -> Result<i8, String> {
    pattern
        .get(member)
        .and_then(Value::as_i64)
        .and_then(|n| i8::try_from(n).ok())
        .filter(|n| (1..=max).contains(n))
        .ok_or_else(|| format!("The recurrence pattern's {member} is invalid."))
}

fn date(written: &str) -> Result<Date, String> {
    written
        .parse()
        .map_err(|_| format!("Cannot convert '{written}' to Edm.Date."))
}

fn object<'a>(value: &'a Value, member: &str) -> Result<&'a Map<String, Value>, String> {
    value
        .get(member)
        .and_then(Value::as_object)
        .ok_or_else(|| format!("The recurrence needs a {member}."))
}

fn text<'a>(map: &'a Map<String, Value>, member: &str) -> &'a str {
    map.get(member).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(pattern: &Value, range: &Value, take: usize) -> Vec<String> {
        let recurrence = Recurrence::parse(
            &json!({"pattern": pattern, "range": range}),
            Date::constant(2026, 1, 1),
        )
        .unwrap();
        recurrence
            .dates()
            .take(take)
            .map(|d| d.to_string())
            .collect()
    }

    #[test]
    fn the_six_patterns() {
        let from = |start: &str| json!({"type": "noEnd", "startDate": start});
        let table = [
            (
                json!({"type": "daily", "interval": 3}),
                from("2026-01-30"),
                vec!["2026-01-30", "2026-02-02", "2026-02-05"],
            ),
            (
                // Two weeks, weeks begin on Monday: Sunday closes the week it is in.
                json!({"type": "weekly", "interval": 2, "daysOfWeek": ["Monday", "sunday"], "firstDayOfWeek": "monday"}),
                from("2026-01-07"),
                vec!["2026-01-11", "2026-01-19", "2026-01-25"],
            ),
            (
                // The same with weeks that begin on Sunday gives other dates.
                json!({"type": "weekly", "interval": 2, "daysOfWeek": ["monday", "sunday"]}),
                from("2026-01-07"),
                vec!["2026-01-18", "2026-01-19", "2026-02-01"],
            ),
            (
                json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 31}),
                from("2026-01-31"),
                vec!["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"],
            ),
            (
                json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["friday"], "index": "last"}),
                from("2026-01-30"),
                vec!["2026-01-30", "2026-02-27", "2026-03-27"],
            ),
            (
                // The second weekday of the month.
                json!({"type": "relativeMonthly", "interval": 1, "index": "second",
                       "daysOfWeek": ["monday", "tuesday", "wednesday", "thursday", "friday"]}),
                from("2026-01-01"),
                vec!["2026-01-02", "2026-02-03", "2026-03-03"],
            ),
            (
                json!({"type": "absoluteYearly", "interval": 1, "month": 2, "dayOfMonth": 29}),
                from("2024-02-29"),
                vec!["2024-02-29", "2025-02-28", "2026-02-28"],
            ),
            (
                json!({"type": "relativeYearly", "interval": 1, "month": 11, "daysOfWeek": ["thursday"], "index": "fourth"}),
                from("2026-01-01"),
                vec!["2026-11-26", "2027-11-25", "2028-11-23"],
            ),
        ];
        for (pattern, range, expected) in table {
            assert_eq!(
                expand(&pattern, &range, expected.len()),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn ranges_end() {
        let weekly = json!({"type": "weekly", "interval": 1, "daysOfWeek": ["monday"]});
        assert_eq!(
            expand(
                &weekly,
                &json!({"type": "endDate", "startDate": "2026-01-01", "endDate": "2026-01-19"}),
                99
            ),
            ["2026-01-05", "2026-01-12", "2026-01-19"]
        );
        assert_eq!(
            expand(
                &weekly,
                &json!({"type": "numbered", "startDate": "2026-01-01", "numberOfOccurrences": 2}),
                99
            ),
            ["2026-01-05", "2026-01-12"]
        );
    }

    #[test]
    fn an_endless_series_ends_with_the_calendar() {
        for pattern in [
            json!({"type": "daily", "interval": 999}),
            json!({"type": "weekly", "interval": 500, "daysOfWeek": ["monday"]}),
            json!({"type": "absoluteYearly", "interval": 900, "month": 12, "dayOfMonth": 31}),
            json!({"type": "relativeMonthly", "interval": 999, "daysOfWeek": ["friday"]}),
        ] {
            let dates = expand(
                &pattern,
                &json!({"type": "noEnd", "startDate": "2026-01-01"}),
                usize::MAX,
            );
            assert!(dates.len() > 5, "{pattern}");
        }
    }

    #[test]
    fn output_has_every_filler() {
        let recurrence = Recurrence::parse(
            &json!({"pattern": {"type": "Weekly", "interval": 1, "daysOfWeek": ["Monday"]},
                    "range": {"type": "noEnd", "startDate": "2017-09-04"}}),
            Date::constant(2017, 9, 4),
        )
        .unwrap();
        assert_eq!(
            recurrence.to_json("Pacific Standard Time"),
            json!({
                "pattern": {"type": "weekly", "interval": 1, "month": 0, "dayOfMonth": 0,
                            "daysOfWeek": ["monday"], "firstDayOfWeek": "sunday", "index": "first"},
                "range": {"type": "noEnd", "startDate": "2017-09-04", "endDate": "0001-01-01",
                          "recurrenceTimeZone": "Pacific Standard Time", "numberOfOccurrences": 0}
            })
        );
    }

    #[test]
    fn nonsense_is_refused() {
        let range = json!({"type": "noEnd", "startDate": "2026-01-01"});
        for pattern in [
            json!({"type": "hourly", "interval": 1}),
            json!({"type": "daily", "interval": 0}),
            json!({"type": "daily", "interval": "x"}),
            json!({"type": "weekly", "interval": 1}),
            json!({"type": "weekly", "interval": 1, "daysOfWeek": ["someday"]}),
            json!({"type": "absoluteMonthly", "interval": 1, "dayOfMonth": 0}),
            json!({"type": "absoluteYearly", "interval": 1, "month": 13, "dayOfMonth": 1}),
            json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["monday"], "index": "fifth"}),
        ] {
            let value = json!({"pattern": pattern, "range": range});
            assert!(
                Recurrence::parse(&value, Date::constant(2026, 1, 1)).is_err(),
                "{pattern}"
            );
        }
    }
}
