//! Expansion of a rule into its occurrences (RFC 5545 section 3.3.10), in wall-clock time of its zone.

use jiff::civil::{self, DateTime};
use jiff::tz::TimeZone;
use time::OffsetDateTime;

use super::{ByDay, Frequency, RecurrenceEnd, RecurrenceRule};
use crate::event::{EventMoment, EventSpan};
use crate::sync::SyncWindow;

/// Periods without an occurrence after which a rule counts as one that never matches again.
const MAX_EMPTY_PERIODS: u32 = 10_000;
/// Occurrences walked, at the most, to reach a window of a rule with COUNT.
const MAX_WALKED: u32 = 100_000;

impl RecurrenceRule {
    /// The starts of the occurrences inside `window` (start inclusive, end exclusive), sorted, for a
    /// series whose first occurrence is `first`, in `zone`. All-day series give dates.
    ///
    /// A local time in a gap is moved forward by the gap, one in an overlap is the first of the two
    /// (RFC 5545 section 3.3.5).
    #[must_use]
    pub fn starts_in(
        &self,
        first: EventSpan,
        zone: &TimeZone,
        window: SyncWindow,
    ) -> Vec<EventMoment> {
        let all_day = first.is_all_day();
        let zone = if all_day { &TimeZone::UTC } else { zone };
        let Some(start) = local(first.start().to_column(), zone) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut walked = 0_u32;
        let mut empty = 0_u32;
        let mut period = self.first_period(start, zone, window);
        loop {
            let Some(days) = self.period(start.date(), period) else {
                return found;
            };
            period += 1;
            empty += 1;
            for day in days {
                if day < start.date() {
                    continue;
                }
                empty = 0;
                walked += 1;
                let Some(moment) = resolve(day.to_datetime(start.time()), zone, all_day) else {
                    return found;
                };
                let over = match self.end {
                    RecurrenceEnd::Never => false,
                    RecurrenceEnd::Count(count) => walked > count,
                    RecurrenceEnd::Until(EventMoment::Instant(until)) => moment.to_column() > until,
                    RecurrenceEnd::Until(EventMoment::Date(until)) => {
                        i64::from(until.to_julian_day()) < julian_day(day)
                    }
                };
                if over || moment.to_column() >= window.end || walked > MAX_WALKED {
                    return found;
                }
                if moment.to_column() >= window.start {
                    found.push(moment);
                }
            }
            if empty > MAX_EMPTY_PERIODS {
                return found;
            }
        }
    }

    /// The first period to look at: near the window, unless occurrences have to be counted.
    fn first_period(&self, start: DateTime, zone: &TimeZone, window: SyncWindow) -> i64 {
        if matches!(self.end, RecurrenceEnd::Count(_)) {
            return 0;
        }
        let Some(from) = local(window.start, zone) else {
            return 0;
        };
        let days = julian_day(from.date()) - julian_day(start.date());
        let periods = match self.frequency {
            Frequency::Daily => days,
            Frequency::Weekly => days / 7,
            Frequency::Monthly => {
                let years = i64::from(from.year()) - i64::from(start.year());
                years * 12 + i64::from(from.month()) - i64::from(start.month())
            }
            Frequency::Yearly => i64::from(from.year()) - i64::from(start.year()),
        };
        (periods / i64::from(self.interval) - 2).max(0)
    }

    /// The days of the `index`-th period, sorted; `None` beyond the calendar's end.
    fn period(&self, start: civil::Date, index: i64) -> Option<Vec<civil::Date>> {
        let step = index.checked_mul(i64::from(self.interval))?;
        let mut days = match self.frequency {
            Frequency::Daily => {
                let day = add_days(start, step)?;
                if self.matches_month(day)
                    && self.matches_month_day(day)
                    && self.matches_weekday(day)
                {
                    vec![day]
                } else {
                    Vec::new()
                }
            }
            Frequency::Weekly => {
                let week_start = weekday(self.week_start);
                let first = add_days(start, -i64::from(start.weekday().since(week_start)))?;
                let first = add_days(first, step.checked_mul(7)?)?;
                (0..7)
                    .filter_map(|offset| add_days(first, offset))
                    .filter(|day| {
                        let asked = if self.by_day.is_empty() {
                            day.weekday() == start.weekday()
                        } else {
                            self.matches_weekday(*day)
                        };
                        asked && self.matches_month(*day)
                    })
                    .collect()
            }
            Frequency::Monthly => {
                let month = i64::from(start.month()) - 1 + step;
                let year = i16::try_from(i64::from(start.year()) + month.div_euclid(12)).ok()?;
                let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
                let first = civil::Date::new(year, month, 1).ok()?;
                if self.matches_month(first) {
                    self.month_days(first, start)
                } else {
                    Vec::new()
                }
            }
            Frequency::Yearly => {
                let year = i16::try_from(i64::from(start.year()) + step).ok()?;
                self.year_days(civil::Date::new(year, 1, 1).ok()?, start)
            }
        };
        days.sort_unstable();
        days.dedup();
        Some(self.at_positions(days))
    }

    fn month_days(&self, first: civil::Date, start: civil::Date) -> Vec<civil::Date> {
        let length = first.days_in_month();
        let day = |day: i8| civil::Date::new(first.year(), first.month(), day).ok();
        if self.by_month_day.is_empty() && self.by_day.is_empty() {
            return day(start.day()).into_iter().collect();
        }
        (1..=length)
            .filter_map(day)
            .filter(|day| {
                self.matches_month_day(*day)
                    && self.matches_numbered(*day, i32::from(day.day()), i32::from(length))
            })
            .collect()
    }

    fn year_days(&self, first: civil::Date, start: civil::Date) -> Vec<civil::Date> {
        let months = (1..=12).filter_map(|month| civil::Date::new(first.year(), month, 1).ok());
        if !self.by_month.is_empty() || !self.by_month_day.is_empty() {
            return months
                .filter(|month| self.matches_month(*month))
                .flat_map(|month| self.month_days(month, start))
                .collect();
        }
        if self.by_day.is_empty() {
            return civil::Date::new(first.year(), start.month(), start.day())
                .into_iter()
                .collect();
        }
        let length = i32::from(first.days_in_year());
        (0..i64::from(length))
            .filter_map(|offset| add_days(first, offset))
            .filter(|day| self.matches_numbered(*day, i32::from(day.day_of_year()), length))
            .collect()
    }

    /// BYSETPOS.
    fn at_positions(&self, days: Vec<civil::Date>) -> Vec<civil::Date> {
        if self.by_set_pos.is_empty() {
            return days;
        }
        let mut chosen: Vec<civil::Date> = self
            .by_set_pos
            .iter()
            .filter_map(|position| {
                let index = usize::from(position.unsigned_abs()).checked_sub(1)?;
                let index = if *position > 0 {
                    index
                } else {
                    days.len().checked_sub(index + 1)?
                };
                days.get(index).copied()
            })
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    fn matches_month(&self, day: civil::Date) -> bool {
        self.by_month.is_empty()
            || self
                .by_month
                .iter()
                .any(|month| i8::try_from(*month) == Ok(day.month()))
    }

    fn matches_month_day(&self, day: civil::Date) -> bool {
        let from_end = day.day() - day.days_in_month() - 1;
        self.by_month_day.is_empty()
            || self
                .by_month_day
                .iter()
                .any(|asked| *asked == day.day() || *asked == from_end)
    }

    fn matches_weekday(&self, day: civil::Date) -> bool {
        self.by_day.is_empty()
            || self
                .by_day
                .iter()
                .any(|asked| weekday(asked.weekday) == day.weekday())
    }

    /// BYDAY with ordinals: `number` is the day's number, from 1, in a month or year of `length` days.
    fn matches_numbered(&self, day: civil::Date, number: i32, length: i32) -> bool {
        let matches = |asked: &ByDay| {
            weekday(asked.weekday) == day.weekday()
                && asked.ordinal.is_none_or(|ordinal| {
                    let ordinal = i32::from(ordinal);
                    ordinal == (number - 1) / 7 + 1 || ordinal == -((length - number) / 7 + 1)
                })
        };
        self.by_day.is_empty() || self.by_day.iter().any(matches)
    }
}

fn weekday(day: time::Weekday) -> civil::Weekday {
    match day {
        time::Weekday::Monday => civil::Weekday::Monday,
        time::Weekday::Tuesday => civil::Weekday::Tuesday,
        time::Weekday::Wednesday => civil::Weekday::Wednesday,
        time::Weekday::Thursday => civil::Weekday::Thursday,
        time::Weekday::Friday => civil::Weekday::Friday,
        time::Weekday::Saturday => civil::Weekday::Saturday,
        time::Weekday::Sunday => civil::Weekday::Sunday,
    }
}

fn add_days(day: civil::Date, days: i64) -> Option<civil::Date> {
    day.checked_add(jiff::Span::new().try_days(days).ok()?).ok()
}

/// Days since a fixed day; the same count as `time::Date::to_julian_day`.
fn julian_day(day: civil::Date) -> i64 {
    let month = u8::try_from(day.month())
        .ok()
        .and_then(|month| time::Month::try_from(month).ok());
    month
        .zip(u8::try_from(day.day()).ok())
        .and_then(|(month, number)| {
            time::Date::from_calendar_date(i32::from(day.year()), month, number).ok()
        })
        .map_or(i64::MAX, |date| i64::from(date.to_julian_day()))
}

fn local(instant: OffsetDateTime, zone: &TimeZone) -> Option<DateTime> {
    let timestamp = jiff::Timestamp::from_nanosecond(instant.unix_timestamp_nanos()).ok()?;
    Some(zone.to_datetime(timestamp))
}

fn resolve(wall: DateTime, zone: &TimeZone, all_day: bool) -> Option<EventMoment> {
    let timestamp = zone.to_ambiguous_timestamp(wall).compatible().ok()?;
    let instant = OffsetDateTime::from_unix_timestamp_nanos(timestamp.as_nanosecond()).ok()?;
    Some(if all_day {
        EventMoment::Date(instant.date())
    } else {
        EventMoment::Instant(instant)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    fn window(from: OffsetDateTime, to: OffsetDateTime) -> SyncWindow {
        SyncWindow {
            start: from,
            end: to,
        }
    }

    fn texts(moments: &[EventMoment]) -> Vec<String> {
        moments.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn timed_rules_expand() {
        let year = window(
            datetime!(2026-01-01 0:00 UTC),
            datetime!(2027-01-01 0:00 UTC),
        );
        // (rule, start in UTC, zone, window, expected)
        let cases: [(&str, OffsetDateTime, &str, SyncWindow, &[&str]); 9] = [
            (
                "FREQ=DAILY;COUNT=3",
                datetime!(2025-12-31 8:00 UTC),
                "Europe/Berlin",
                year,
                &["20260101T080000Z", "20260102T080000Z"],
            ),
            (
                "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SU;WKST=SU;COUNT=4",
                datetime!(2026-01-04 9:00 UTC),
                "UTC",
                year,
                &[
                    "20260104T090000Z",
                    "20260105T090000Z",
                    "20260118T090000Z",
                    "20260119T090000Z",
                ],
            ),
            (
                "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SU;WKST=MO;COUNT=4",
                datetime!(2026-01-04 9:00 UTC),
                "UTC",
                year,
                &[
                    "20260104T090000Z",
                    "20260112T090000Z",
                    "20260118T090000Z",
                    "20260126T090000Z",
                ],
            ),
            (
                "FREQ=MONTHLY;BYDAY=-1FR;COUNT=3",
                datetime!(2026-01-30 9:00 UTC),
                "UTC",
                year,
                &["20260130T090000Z", "20260227T090000Z", "20260327T090000Z"],
            ),
            (
                "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=2",
                datetime!(2026-01-30 9:00 UTC),
                "UTC",
                year,
                &["20260130T090000Z", "20260227T090000Z"],
            ),
            (
                "FREQ=MONTHLY;BYMONTHDAY=31;COUNT=3",
                datetime!(2026-01-31 9:00 UTC),
                "UTC",
                year,
                &["20260131T090000Z", "20260331T090000Z", "20260531T090000Z"],
            ),
            (
                "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
                datetime!(1997-11-27 14:00 UTC),
                "America/New_York",
                year,
                &["20261126T140000Z"],
            ),
            // 9:00 in New York stays 9:00 over the switch of 2026-03-08.
            (
                "FREQ=DAILY",
                datetime!(2020-01-01 14:00 UTC),
                "America/New_York",
                window(
                    datetime!(2026-03-07 0:00 UTC),
                    datetime!(2026-03-10 0:00 UTC),
                ),
                &["20260307T140000Z", "20260308T130000Z", "20260309T130000Z"],
            ),
            // 2:30 is missing on 2026-03-08: 3:30 local.
            (
                "FREQ=DAILY",
                datetime!(2026-03-07 7:30 UTC),
                "America/New_York",
                window(
                    datetime!(2026-03-07 0:00 UTC),
                    datetime!(2026-03-10 0:00 UTC),
                ),
                &["20260307T073000Z", "20260308T073000Z", "20260309T063000Z"],
            ),
        ];
        for (rule, start, zone, window, expected) in cases {
            let span = EventSpan::Timed {
                start,
                end: start + time::Duration::HOUR,
            };
            let zone = TimeZone::get(zone).unwrap();
            let rule: RecurrenceRule = rule.parse().unwrap();
            assert_eq!(
                texts(&rule.starts_in(span, &zone, window)),
                expected,
                "{rule}"
            );
        }
    }

    #[test]
    fn all_day_rules_give_dates() {
        let rule: RecurrenceRule = "FREQ=YEARLY;UNTIL=20280229".parse().unwrap();
        let span = EventSpan::AllDay {
            start: date!(2020 - 02 - 29),
            end: date!(2020 - 03 - 01),
        };
        let window = window(
            datetime!(2021-01-01 0:00 UTC),
            datetime!(2040-01-01 0:00 UTC),
        );
        let zone = TimeZone::get("Pacific/Apia").unwrap();
        assert_eq!(
            texts(&rule.starts_in(span, &zone, window)),
            ["20240229", "20280229"]
        );
    }

    #[test]
    fn a_rule_that_never_matches_ends() {
        let rule: RecurrenceRule = "FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30".parse().unwrap();
        let span = EventSpan::AllDay {
            start: date!(2020 - 01 - 01),
            end: date!(2020 - 01 - 02),
        };
        let window = window(
            datetime!(2020-01-01 0:00 UTC),
            datetime!(9999-01-01 0:00 UTC),
        );
        assert!(rule.starts_in(span, &TimeZone::UTC, window).is_empty());
    }
}
