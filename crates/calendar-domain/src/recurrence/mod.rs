//! The normal form of a recurrence rule (RFC 5545 section 3.3.10): RRULE text, and the
//! `recurrence_*` columns, from one value.

mod expand;

use std::fmt;
use std::str::FromStr;

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, UtcOffset, Weekday};

use crate::event::EventMoment;

/// FREQ. Finer ones do not occur in calendars of people; such a rule is kept raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are RFC 5545's")]
pub enum Frequency {
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// COUNT, UNTIL, or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecurrenceEnd {
    /// For ever.
    Never,
    /// Up to and with this moment: an instant for timed series, a date for all-day ones.
    Until(EventMoment),
    /// So many occurrences, the first one counted, excluded ones too.
    Count(u32),
}

/// One part of BYDAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByDay {
    /// `2` is the second, `-1` the last of the month (or year); `None` is each.
    pub ordinal: Option<i8>,
    /// The day.
    pub weekday: Weekday,
}

/// A recurrence rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecurrenceRule {
    /// FREQ.
    pub frequency: Frequency,
    /// INTERVAL, at least 1.
    pub interval: u32,
    /// UNTIL or COUNT.
    pub end: RecurrenceEnd,
    /// BYDAY.
    pub by_day: Vec<ByDay>,
    /// BYMONTHDAY, 1 to 31 or -31 to -1.
    pub by_month_day: Vec<i8>,
    /// BYMONTH, 1 to 12.
    pub by_month: Vec<u8>,
    /// BYSETPOS, 1 to 366 or -366 to -1.
    pub by_set_pos: Vec<i16>,
    /// WKST.
    pub week_start: Weekday,
}

/// `recurrence_end_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub enum RecurrenceEndType {
    Never,
    UntilDate,
    AfterCount,
}

/// `month_day_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the schema's")]
pub enum MonthDayType {
    DayOfMonth,
    DayOfWeek,
}

/// A rule taken apart as the `recurrence_*` columns hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecurrenceColumns {
    /// `recurrence_frequency`.
    pub frequency: Frequency,
    /// `recurrence_interval`.
    pub interval: i32,
    /// `recurrence_end_type`.
    pub end_type: RecurrenceEndType,
    /// `recurrence_end_date`: UNTIL; a date is midnight UTC.
    pub end_date: Option<OffsetDateTime>,
    /// `recurrence_count`.
    pub count: Option<i32>,
    /// `recurrence_by_day`: `MO,WE` of daily and weekly rules.
    pub by_day: Option<String>,
    /// `month_day_type`, of monthly and yearly rules.
    pub month_day_type: Option<MonthDayType>,
    /// `recurrence_by_month_day`.
    pub by_month_day: Option<i32>,
    /// `recurrence_by_set_pos`: also the ordinal of `2TU`.
    pub by_set_pos: Option<i32>,
    /// `recurrence_by_day_of_week`: the days of a `DAY_OF_WEEK` rule.
    pub by_day_of_week: Option<String>,
    /// `recurrence_by_month`: `1,6`.
    pub by_month: Option<String>,
}

impl RecurrenceRule {
    /// A rule with this frequency, each time, for ever.
    #[must_use]
    pub fn every(frequency: Frequency) -> Self {
        Self {
            frequency,
            interval: 1,
            end: RecurrenceEnd::Never,
            by_day: Vec::new(),
            by_month_day: Vec::new(),
            by_month: Vec::new(),
            by_set_pos: Vec::new(),
            week_start: Weekday::Monday,
        }
    }

    /// The rule taken apart, or `None` where the columns cannot hold it (the RRULE decides).
    #[must_use]
    pub fn columns(&self) -> Option<RecurrenceColumns> {
        let (end_type, end_date, count) = match self.end {
            RecurrenceEnd::Never => (RecurrenceEndType::Never, None, None),
            RecurrenceEnd::Until(until) => {
                (RecurrenceEndType::UntilDate, Some(until.to_column()), None)
            }
            RecurrenceEnd::Count(count) => (
                RecurrenceEndType::AfterCount,
                None,
                Some(i32::try_from(count).ok()?),
            ),
        };
        let mut columns = RecurrenceColumns {
            frequency: self.frequency,
            interval: i32::try_from(self.interval).ok()?,
            end_type,
            end_date,
            count,
            by_day: None,
            month_day_type: None,
            by_month_day: None,
            by_set_pos: one(&self.by_set_pos)?.map(i32::from),
            by_day_of_week: None,
            by_month: join(&self.by_month),
        };
        let days = join(self.by_day.iter().map(|day| weekday_code(day.weekday)));
        let ordinals: Vec<i8> = self.by_day.iter().filter_map(|day| day.ordinal).collect();
        match self.frequency {
            Frequency::Daily | Frequency::Weekly => {
                if !ordinals.is_empty() || !self.by_month_day.is_empty() {
                    return None;
                }
                columns.by_day = days;
            }
            Frequency::Monthly | Frequency::Yearly => {
                columns.by_month_day = one(&self.by_month_day)?.map(i32::from);
                columns.by_day_of_week = days;
                columns.month_day_type =
                    match (self.by_day.is_empty(), self.by_month_day.is_empty()) {
                        (true, true) => None,
                        (true, false) => Some(MonthDayType::DayOfMonth),
                        (false, true) => Some(MonthDayType::DayOfWeek),
                        (false, false) => return None,
                    };
                match (ordinals.as_slice(), columns.by_set_pos) {
                    ([], _) => {}
                    ([ordinal], None) if self.by_day.len() == 1 => {
                        columns.by_set_pos = Some(i32::from(*ordinal));
                    }
                    _ => return None,
                }
            }
        }
        Some(columns)
    }
}

/// `Some(None)` for none, `Some(Some(x))` for one, `None` for more.
#[expect(
    clippy::option_option,
    reason = "none, one, and too many are three answers"
)]
fn one<T: Copy>(values: &[T]) -> Option<Option<T>> {
    match values {
        [] => Some(None),
        [value] => Some(Some(*value)),
        _ => None,
    }
}

fn join<T: fmt::Display>(values: impl IntoIterator<Item = T>) -> Option<String> {
    let parts: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    (!parts.is_empty()).then(|| parts.join(","))
}

/// `MO` to `SU`.
#[must_use]
pub fn weekday_code(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "MO",
        Weekday::Tuesday => "TU",
        Weekday::Wednesday => "WE",
        Weekday::Thursday => "TH",
        Weekday::Friday => "FR",
        Weekday::Saturday => "SA",
        Weekday::Sunday => "SU",
    }
}

fn weekday_from_code(code: &str) -> Option<Weekday> {
    Some(match code {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        _ => return None,
    })
}

const DATE: &[BorrowedFormatItem<'static>] = format_description!("[year][month][day]");
const DATE_TIME: &[BorrowedFormatItem<'static>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

impl fmt::Display for EventMoment {
    /// RFC 5545: `20260105` for a date, `20260105T090000Z` for an instant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Date(date) => date.format(DATE),
            Self::Instant(instant) => instant.to_offset(UtcOffset::UTC).format(DATE_TIME),
        };
        f.write_str(&text.map_err(|_| fmt::Error)?)
    }
}

/// A text that is not a moment in RFC 5545's form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a date (20260105) or an instant in UTC (20260105T090000Z)")]
pub struct InvalidMoment;

impl FromStr for EventMoment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        if let Ok(date) = Date::parse(text, DATE) {
            return Ok(Self::Date(date));
        }
        PrimitiveDateTime::parse(text, DATE_TIME)
            .map(|instant| Self::Instant(instant.assume_utc()))
            .map_err(|_| InvalidMoment)
    }
}

/// EXDATE as the `exception_dates` column holds it: values with commas.
#[must_use]
pub fn exception_dates_to_column(dates: &[EventMoment]) -> Option<String> {
    join(dates)
}

/// Back from the `exception_dates` column; what an older application wrote there in another form
/// is passed over.
#[must_use]
pub fn exception_dates_from_column(column: Option<&str>) -> Vec<EventMoment> {
    column
        .unwrap_or_default()
        .split(',')
        .filter_map(|part| part.trim().parse().ok())
        .collect()
}

impl fmt::Display for RecurrenceRule {
    /// RRULE text without the name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frequency = match self.frequency {
            Frequency::Daily => "DAILY",
            Frequency::Weekly => "WEEKLY",
            Frequency::Monthly => "MONTHLY",
            Frequency::Yearly => "YEARLY",
        };
        write!(f, "FREQ={frequency}")?;
        match self.end {
            RecurrenceEnd::Never => {}
            RecurrenceEnd::Until(until) => write!(f, ";UNTIL={until}")?,
            RecurrenceEnd::Count(count) => write!(f, ";COUNT={count}")?,
        }
        if self.interval != 1 {
            write!(f, ";INTERVAL={}", self.interval)?;
        }
        if let Some(months) = join(&self.by_month) {
            write!(f, ";BYMONTH={months}")?;
        }
        if let Some(days) = join(&self.by_month_day) {
            write!(f, ";BYMONTHDAY={days}")?;
        }
        if let Some(days) = join(self.by_day.iter().map(|day| {
            let ordinal = day
                .ordinal
                .map(|ordinal| ordinal.to_string())
                .unwrap_or_default();
            format!("{ordinal}{}", weekday_code(day.weekday))
        })) {
            write!(f, ";BYDAY={days}")?;
        }
        if let Some(positions) = join(&self.by_set_pos) {
            write!(f, ";BYSETPOS={positions}")?;
        }
        // RFC 5545 defaults to Monday, Graph to Sunday: it is written wherever it decides.
        if self.frequency == Frequency::Weekly {
            write!(f, ";WKST={}", weekday_code(self.week_start))?;
        }
        Ok(())
    }
}

/// A rule that we cannot read. It is kept raw, never lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// No FREQ, or one finer than DAILY.
    #[error("FREQ is missing or not one of DAILY, WEEKLY, MONTHLY, YEARLY")]
    Frequency,
    /// A part that is not one of ours, or has a value out of its range.
    #[error("the part {0} is unknown or out of range")]
    Part(String),
    /// Both COUNT and UNTIL.
    #[error("COUNT and UNTIL exclude each other")]
    CountAndUntil,
}

impl FromStr for RecurrenceRule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, InvalidRule> {
        let mut rule = Self::every(Frequency::Daily);
        let mut frequency = None;
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let bad = || InvalidRule::Part(name.chars().take(20).collect());
            match name {
                "FREQ" => {
                    frequency = Some(match value {
                        "DAILY" => Frequency::Daily,
                        "WEEKLY" => Frequency::Weekly,
                        "MONTHLY" => Frequency::Monthly,
                        "YEARLY" => Frequency::Yearly,
                        _ => return Err(InvalidRule::Frequency),
                    });
                }
                "INTERVAL" => {
                    rule.interval = value.parse().ok().filter(|n| *n >= 1).ok_or_else(bad)?;
                }
                "COUNT" | "UNTIL" if rule.end != RecurrenceEnd::Never => {
                    return Err(InvalidRule::CountAndUntil);
                }
                "COUNT" => rule.end = RecurrenceEnd::Count(value.parse().map_err(|_| bad())?),
                "UNTIL" => rule.end = RecurrenceEnd::Until(value.parse().map_err(|_| bad())?),
                "BYDAY" => {
                    rule.by_day = value
                        .split(',')
                        .map(parse_by_day)
                        .collect::<Option<_>>()
                        .ok_or_else(bad)?;
                }
                "BYMONTHDAY" => {
                    rule.by_month_day = numbers(value, |n: &i8| *n != 0 && n.unsigned_abs() <= 31)
                        .ok_or_else(bad)?;
                }
                "BYMONTH" => {
                    rule.by_month =
                        numbers(value, |n: &u8| Month::try_from(*n).is_ok()).ok_or_else(bad)?;
                }
                "BYSETPOS" => {
                    rule.by_set_pos = numbers(value, |n: &i16| *n != 0 && n.unsigned_abs() <= 366)
                        .ok_or_else(bad)?;
                }
                "WKST" => rule.week_start = weekday_from_code(value).ok_or_else(bad)?,
                _ => return Err(bad()),
            }
        }
        rule.frequency = frequency.ok_or(InvalidRule::Frequency)?;
        Ok(rule)
    }
}

fn numbers<T: FromStr>(value: &str, valid: impl Fn(&T) -> bool) -> Option<Vec<T>> {
    value
        .split(',')
        .map(|number| number.parse().ok().filter(&valid))
        .collect()
}

fn parse_by_day(text: &str) -> Option<ByDay> {
    let (ordinal, code) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let ordinal = if ordinal.is_empty() {
        None
    } else {
        Some(
            ordinal
                .parse::<i8>()
                .ok()
                .filter(|n| *n != 0 && n.unsigned_abs() <= 53)?,
        )
    };
    Some(ByDay {
        ordinal,
        weekday: weekday_from_code(code)?,
    })
}
