//! Graph's `recurrence` (pattern and range) to a recurrence rule, and back.
//!
//! Sources: <https://learn.microsoft.com/graph/api/resources/recurrencepattern>,
//! <https://learn.microsoft.com/graph/api/resources/recurrencerange>. The table stands in
//! docs/microsoft.md.

use calendar_domain::event::EventMoment;
use calendar_domain::recurrence::{ByDay, Frequency, RecurrenceEnd, RecurrenceRule};
use serde::{Deserialize, Serialize};
use time::{Date, PrimitiveDateTime, Time, Weekday};

use crate::moment::{Zones, local_to_utc, parse_date, utc_to_local};

/// Graph's `patternedRecurrence`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GraphRecurrence {
    /// How often.
    pub pattern: GraphPattern,
    /// From when until when.
    pub range: GraphRange,
}

/// Graph's `recurrencePattern`. Graph answers every member, with fillers (0, `first`), and refuses
/// members that the type does not need: they are left out when it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GraphPattern {
    /// `daily`, `weekly`, `absoluteMonthly`, `relativeMonthly`, `absoluteYearly`, `relativeYearly`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Each so many days, weeks, months or years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// 1 to 12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month: Option<i64>,
    /// 1 to 31.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_of_month: Option<i64>,
    /// `sunday` to `saturday`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days_of_week: Option<Vec<String>>,
    /// `sunday` where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_day_of_week: Option<String>,
    /// `first`, `second`, `third`, `fourth`, `last`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
}

/// Graph's `recurrenceRange`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GraphRange {
    /// `endDate`, `noEnd`, `numbered`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The date of the first occurrence, in `recurrence_time_zone`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_date: Option<String>,
    /// The last date on which one may start; `0001-01-01` is a filler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_date: Option<String>,
    /// The zone of both dates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recurrence_time_zone: Option<String>,
    /// How many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number_of_occurrences: Option<i64>,
}

impl GraphRange {
    /// Whether it ends both at a date and after a number: one of the two is always a filler in what Graph says.
    pub(crate) fn has_two_ends(&self) -> bool {
        let date = self.end_date.as_deref().and_then(parse_date);
        date.is_some_and(|date| date.year() > 1)
            && self.number_of_occurrences.is_some_and(|number| number > 0)
    }
}

/// Why a rule cannot be said in Graph's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NotExpressible {
    #[error("BYDAY with a DAILY rule is a weekly rule in Graph, and only with INTERVAL=1")]
    DailyByDay,
    #[error("this part of the rule does not go with its frequency in Graph")]
    Part,
    #[error("Graph knows one day of the month, from 1 to 31 or the last one")]
    MonthDay,
    #[error("Graph knows one position of the days: first, second, third, fourth or last")]
    Position,
    #[error("Graph knows one month")]
    Month,
    #[error("Graph needs a count from 1 to 999 and an interval from 1 to 999")]
    Number,
    #[error("the series ends before it starts, or its zone is unknown")]
    End,
}

/// The rule of a series; `None` where it is not readable (it stays in the metadata).
///
/// `fallback_zone` stands in for a missing `recurrenceTimeZone`.
#[must_use]
pub fn from_graph(
    recurrence: &GraphRecurrence,
    is_all_day: bool,
    fallback_zone: Option<&str>,
) -> Option<RecurrenceRule> {
    read(recurrence, is_all_day, fallback_zone, &mut Zones::default())
}

/// [`from_graph`] with zones that were looked up before.
pub(crate) fn read(
    recurrence: &GraphRecurrence,
    is_all_day: bool,
    fallback_zone: Option<&str>,
    zones: &mut Zones,
) -> Option<RecurrenceRule> {
    let pattern = &recurrence.pattern;
    let kind = pattern.kind.as_deref()?.to_ascii_lowercase();
    let frequency = match kind.as_str() {
        "daily" => Frequency::Daily,
        "weekly" => Frequency::Weekly,
        "absolutemonthly" | "relativemonthly" => Frequency::Monthly,
        "absoluteyearly" | "relativeyearly" => Frequency::Yearly,
        _ => return None,
    };
    let mut rule = RecurrenceRule::every(frequency);
    rule.interval = u32::try_from(pattern.interval.unwrap_or(1).max(1)).ok()?;
    rule.week_start = pattern
        .first_day_of_week
        .as_deref()
        .map_or(Some(Weekday::Sunday), weekday_from_name)?;
    match kind.as_str() {
        "weekly" => rule.by_day = days(pattern)?.into_iter().map(every).collect(),
        "absolutemonthly" => rule.by_month_day = vec![month_day(pattern, 31)?],
        "absoluteyearly" => {
            let month = month(pattern)?;
            rule.by_month = vec![month];
            let longest = time::Month::try_from(month).ok()?.length(2000);
            // A day beyond its month's end is the month's last in Outlook.
            rule.by_month_day = vec![month_day(pattern, 32)?.min(i8::try_from(longest).ok()?)];
        }
        "relativemonthly" => relative(pattern, &mut rule)?,
        "relativeyearly" => {
            rule.by_month = vec![month(pattern)?];
            relative(pattern, &mut rule)?;
        }
        _ => {}
    }
    rule.end = end(&recurrence.range, is_all_day, fallback_zone, zones)?;
    Some(rule)
}

/// `dayOfMonth`. Outlook moves a day beyond the month's end to its last day, RFC 5545 skips the
/// month; for `last` (31 of monthly rules) the two agree as -1.
fn month_day(pattern: &GraphPattern, last: i64) -> Option<i8> {
    let day = pattern.day_of_month.filter(|day| (1..=31).contains(day))?;
    if day == last {
        Some(-1)
    } else {
        i8::try_from(day).ok()
    }
}

fn month(pattern: &GraphPattern) -> Option<u8> {
    u8::try_from(pattern.month?)
        .ok()
        .filter(|month| (1..=12).contains(month))
}

/// Monday first, each once; none where one is unreadable.
fn days(pattern: &GraphPattern) -> Option<Vec<Weekday>> {
    let names = pattern.days_of_week.as_deref().unwrap_or_default();
    let mut days: Vec<Weekday> = names
        .iter()
        .map(|name| weekday_from_name(name))
        .collect::<Option<_>>()?;
    days.sort_by_key(|day| day.number_days_from_monday());
    days.dedup();
    Some(days)
}

/// The days of a relative pattern: one has the position in BYDAY, several in BYSETPOS ("the first
/// day that is one of these").
fn relative(pattern: &GraphPattern, rule: &mut RecurrenceRule) -> Option<()> {
    let position = match pattern
        .index
        .as_deref()
        .map(str::to_ascii_lowercase)
        .as_deref()
    {
        None | Some("first") => 1,
        Some("second") => 2,
        Some("third") => 3,
        Some("fourth") => 4,
        Some("last") => -1,
        Some(_) => return None,
    };
    match days(pattern)?.as_slice() {
        [] => return None,
        [day] => {
            rule.by_day = vec![ByDay {
                ordinal: Some(position),
                weekday: *day,
            }];
        }
        days => {
            rule.by_day = days.iter().copied().map(every).collect();
            rule.by_set_pos = vec![i16::from(position)];
        }
    }
    Some(())
}

fn every(weekday: Weekday) -> ByDay {
    ByDay {
        ordinal: None,
        weekday,
    }
}

/// `endDate` is a date in the series' zone, with its whole day: UNTIL is the day's last second there,
/// in UTC; for all-day series the date. Where the zone is unknown, UTC's day stands in.
fn end(
    range: &GraphRange,
    is_all_day: bool,
    fallback_zone: Option<&str>,
    zones: &mut Zones,
) -> Option<RecurrenceEnd> {
    match range.kind.as_deref()?.to_ascii_lowercase().as_str() {
        "noend" => Some(RecurrenceEnd::Never),
        "numbered" => {
            let count = u32::try_from(range.number_of_occurrences?)
                .ok()
                .filter(|n| *n > 0)?;
            Some(RecurrenceEnd::Count(count))
        }
        "enddate" => {
            let date = parse_date(range.end_date.as_deref()?).filter(|date| date.year() > 1)?;
            if is_all_day {
                return Some(RecurrenceEnd::Until(EventMoment::Date(date)));
            }
            let zone = range
                .recurrence_time_zone
                .as_deref()
                .filter(|name| !name.is_empty());
            let rules = zone.or(fallback_zone).and_then(|name| zones.rules(name));
            let last = last_second(date);
            let until = match rules {
                // West of UTC the last day of the year 9999 ends beyond our calendar.
                Some(rules) => local_to_utc(last, &rules).unwrap_or(last.assume_utc()),
                None => last.assume_utc(),
            };
            Some(RecurrenceEnd::Until(EventMoment::Instant(until)))
        }
        _ => None,
    }
}

fn last_second(date: Date) -> PrimitiveDateTime {
    PrimitiveDateTime::new(date, Time::MAX.truncate_to_second())
}

/// A rule in Graph's terms, for a series whose first occurrence starts at `start` in `zone` (a name
/// that Graph knows; Windows or IANA). Members that the type does not need are left out.
pub fn to_graph(
    rule: &RecurrenceRule,
    start: EventMoment,
    zone: &str,
) -> Result<GraphRecurrence, NotExpressible> {
    let mut zones = Zones::default();
    let start_local = match start {
        EventMoment::Date(date) => PrimitiveDateTime::new(date, Time::MIDNIGHT),
        EventMoment::Instant(instant) => {
            let rules = zones.rules(zone).ok_or(NotExpressible::End)?;
            utc_to_local(instant, &rules).ok_or(NotExpressible::End)?
        }
    };
    let pattern = pattern(rule, start_local.date())?;
    let mut range = GraphRange {
        start_date: Some(start_local.date().to_string()),
        recurrence_time_zone: Some(zone.to_owned()),
        ..GraphRange::default()
    };
    match rule.end {
        RecurrenceEnd::Never => range.kind = Some("noEnd".to_owned()),
        RecurrenceEnd::Count(count) => {
            if !(1..=999).contains(&count) {
                return Err(NotExpressible::Number);
            }
            range.kind = Some("numbered".to_owned());
            range.number_of_occurrences = Some(i64::from(count));
        }
        RecurrenceEnd::Until(until) => {
            let last = last_date(until, start_local, zone, &mut zones)?;
            range.kind = Some("endDate".to_owned());
            range.end_date = Some(last.to_string());
        }
    }
    Ok(GraphRecurrence { pattern, range })
}

/// The last date on which an occurrence may start: UNTIL's own in the zone, or the one before when
/// that day's occurrence would start after UNTIL.
fn last_date(
    until: EventMoment,
    start: PrimitiveDateTime,
    zone: &str,
    zones: &mut Zones,
) -> Result<Date, NotExpressible> {
    let last = match until {
        EventMoment::Date(date) => Some(date),
        EventMoment::Instant(instant) => zones
            .rules(zone)
            .and_then(|rules| utc_to_local(instant, &rules))
            .and_then(|local| {
                if local.time() < start.time() {
                    local.date().previous_day()
                } else {
                    Some(local.date())
                }
            }),
    };
    last.filter(|last| *last >= start.date())
        .ok_or(NotExpressible::End)
}

fn pattern(rule: &RecurrenceRule, start: Date) -> Result<GraphPattern, NotExpressible> {
    if !(1..=999).contains(&rule.interval) {
        return Err(NotExpressible::Number);
    }
    let mut pattern = GraphPattern {
        interval: Some(i64::from(rule.interval)),
        ..GraphPattern::default()
    };
    let by_month = match rule.by_month.as_slice() {
        [] => None,
        [month] => Some(*month),
        _ => return Err(NotExpressible::Month),
    };
    let has_ordinals = rule.by_day.iter().any(|day| day.ordinal.is_some());
    match rule.frequency {
        Frequency::Daily | Frequency::Weekly => {
            if by_month.is_some()
                || has_ordinals
                || !rule.by_month_day.is_empty()
                || !rule.by_set_pos.is_empty()
            {
                return Err(NotExpressible::Part);
            }
            let is_daily = rule.frequency == Frequency::Daily;
            if is_daily && rule.by_day.is_empty() {
                pattern.kind = Some("daily".to_owned());
                return Ok(pattern);
            }
            if is_daily && rule.interval != 1 {
                return Err(NotExpressible::DailyByDay);
            }
            pattern.kind = Some("weekly".to_owned());
            pattern.first_day_of_week = Some(weekday_name(rule.week_start).to_owned());
            pattern.days_of_week = Some(if rule.by_day.is_empty() {
                vec![weekday_name(start.weekday()).to_owned()]
            } else {
                names(&rule.by_day)
            });
        }
        Frequency::Monthly | Frequency::Yearly => {
            let is_monthly = rule.frequency == Frequency::Monthly;
            if is_monthly && by_month.is_some() {
                return Err(NotExpressible::Part);
            }
            if !is_monthly {
                pattern.month = Some(i64::from(
                    by_month.unwrap_or_else(|| u8::from(start.month())),
                ));
                if by_month.is_none() && !rule.by_day.is_empty() {
                    // "The 20th Monday of the year".
                    return Err(NotExpressible::Month);
                }
            }
            if rule.by_day.is_empty() {
                pattern.kind = Some(
                    if is_monthly {
                        "absoluteMonthly"
                    } else {
                        "absoluteYearly"
                    }
                    .to_owned(),
                );
                pattern.day_of_month = Some(day_of_month(rule, start)?);
            } else {
                pattern.kind = Some(
                    if is_monthly {
                        "relativeMonthly"
                    } else {
                        "relativeYearly"
                    }
                    .to_owned(),
                );
                pattern.index = Some(index(rule)?.to_owned());
                pattern.days_of_week = Some(names(&rule.by_day));
            }
        }
    }
    Ok(pattern)
}

fn day_of_month(rule: &RecurrenceRule, start: Date) -> Result<i64, NotExpressible> {
    if !rule.by_set_pos.is_empty() {
        return Err(NotExpressible::Part);
    }
    match rule.by_month_day.as_slice() {
        [] => Ok(i64::from(start.day())),
        [-1] => Ok(31),
        [day @ 1..=31] => Ok(i64::from(*day)),
        _ => Err(NotExpressible::MonthDay),
    }
}

fn index(rule: &RecurrenceRule) -> Result<&'static str, NotExpressible> {
    if !rule.by_month_day.is_empty() {
        return Err(NotExpressible::Part);
    }
    let position = match (rule.by_day.as_slice(), rule.by_set_pos.as_slice()) {
        (
            [
                ByDay {
                    ordinal: Some(ordinal),
                    ..
                },
            ],
            [],
        ) => i16::from(*ordinal),
        (days, [position]) if days.iter().all(|day| day.ordinal.is_none()) => *position,
        _ => return Err(NotExpressible::Position),
    };
    Ok(match position {
        1 => "first",
        2 => "second",
        3 => "third",
        4 => "fourth",
        -1 => "last",
        _ => return Err(NotExpressible::Position),
    })
}

fn names(days: &[ByDay]) -> Vec<String> {
    days.iter()
        .map(|day| weekday_name(day.weekday).to_owned())
        .collect()
}

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("monday", Weekday::Monday),
    ("tuesday", Weekday::Tuesday),
    ("wednesday", Weekday::Wednesday),
    ("thursday", Weekday::Thursday),
    ("friday", Weekday::Friday),
    ("saturday", Weekday::Saturday),
    ("sunday", Weekday::Sunday),
];

fn weekday_from_name(name: &str) -> Option<Weekday> {
    WEEKDAYS
        .iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map(|(_, day)| *day)
}

fn weekday_name(day: Weekday) -> &'static str {
    WEEKDAYS[usize::from(day.number_days_from_monday())].0
}

#[cfg(test)]
mod tests;
