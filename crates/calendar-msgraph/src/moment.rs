//! Graph's dates, times and zones.

use std::collections::HashMap;

use calendar_domain::event::EventZone;
use calendar_domain::zone;
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// `2026-01-01T10:00:00.0000000`, with a `Z` or an offset or none: the local part and the offset.
///
/// Read by hand: a page has a thousand of them, and the format never varies but in its fraction.
fn split(text: &str) -> Option<(PrimitiveDateTime, Option<UtcOffset>)> {
    let (date, rest) = text.split_at_checked(10)?;
    let date = parse_date(date)?;
    let Some(rest) = rest.strip_prefix(['T', 't', ' ']) else {
        return rest
            .is_empty()
            .then(|| (PrimitiveDateTime::new(date, Time::MIDNIGHT), None));
    };
    let (clock, rest) = rest.split_at_checked(8)?;
    let bytes = clock.as_bytes();
    if bytes[2] != b':' || bytes[5] != b':' {
        return None;
    }
    let (hour, minute) = (number(clock.get(..2)?)?, number(clock.get(3..5)?)?);
    // A leap second is the last second that our types know.
    let second = number(clock.get(6..)?)?.min(59);
    let (nanosecond, rest) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (digits, rest) = rest.split_at(digits);
            let mut nanosecond = 0;
            for at in 0..9 {
                let digit = digits
                    .as_bytes()
                    .get(at)
                    .map_or(0, |byte| u32::from(byte - b'0'));
                nanosecond = nanosecond * 10 + digit;
            }
            (nanosecond, rest)
        }
    };
    let time = Time::from_hms_nano(
        u8::try_from(hour).ok()?,
        u8::try_from(minute).ok()?,
        u8::try_from(second).ok()?,
        nanosecond,
    )
    .ok()?;
    Some((PrimitiveDateTime::new(date, time), offset(rest)?))
}

#[expect(
    clippy::option_option,
    reason = "no offset and no readable offset are two answers"
)]
fn offset(text: &str) -> Option<Option<UtcOffset>> {
    let sign = match text.as_bytes().first() {
        None => return Some(None),
        Some(b'Z' | b'z') => return (text.len() == 1).then_some(Some(UtcOffset::UTC)),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let seconds = (number(hours)? * 60 + number(minutes)?) * 60;
    UtcOffset::from_whole_seconds(sign * i32::try_from(seconds).ok()?)
        .ok()
        .map(Some)
}

fn number(digits: &str) -> Option<u32> {
    let all_digits = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    if all_digits {
        digits.parse().ok()
    } else {
        None
    }
}

/// `2026-01-01`.
pub(crate) fn parse_date(text: &str) -> Option<Date> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = i32::try_from(number(text.get(..4)?)?).ok()?;
    let month = Month::try_from(u8::try_from(number(text.get(5..7)?)?).ok()?).ok()?;
    Date::from_calendar_date(year, month, u8::try_from(number(text.get(8..)?)?).ok()?).ok()
}

/// The date part of a `dateTime`, whatever its zone.
pub(crate) fn date_part(text: &str) -> Option<Date> {
    split(text).map(|(local, _)| local.date())
}

/// A `DateTimeOffset`, in UTC where it has no offset. `None` for Graph's "no time yet",
/// `0001-01-01T00:00:00Z`.
pub(crate) fn parse_instant(text: &str) -> Option<OffsetDateTime> {
    let (local, offset) = split(text)?;
    if local.year() <= 1 {
        return None;
    }
    to_utc(local, offset.unwrap_or(UtcOffset::UTC))
}

/// RFC 3339 in UTC, with whole seconds.
pub(crate) fn rfc3339(instant: OffsetDateTime) -> String {
    let utc = instant.to_offset(UtcOffset::UTC);
    let (date, time) = (utc.date(), utc.time());
    format!(
        "{date}T{:02}:{:02}:{:02}Z",
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn to_utc(local: PrimitiveDateTime, offset: UtcOffset) -> Option<OffsetDateTime> {
    local
        .assume_offset(offset)
        .checked_to_offset(UtcOffset::UTC)
}

/// Zones by the names that a page uses; each is looked up once.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    resolved: HashMap<String, EventZone>,
    rules: HashMap<String, Option<TimeZone>>,
}

impl Zones {
    /// What a name of Graph means.
    pub(crate) fn resolve(&mut self, name: &str) -> EventZone {
        if let Some(zone) = self.resolved.get(name) {
            return zone.clone();
        }
        let zone = zone::resolve(name);
        self.resolved.insert(name.to_owned(), zone.clone());
        zone
    }

    /// The rules of the zone that a name of Graph means.
    pub(crate) fn rules(&mut self, name: &str) -> Option<TimeZone> {
        if let Some(rules) = self.rules.get(name) {
            return rules.clone();
        }
        let rules = self.resolve(name).iana().and_then(zone::lookup);
        self.rules.insert(name.to_owned(), rules.clone());
        rules
    }

    /// A `dateTimeTimeZone` as an instant. With the `Prefer` header the zone is always UTC; another
    /// one is converted. `None` where the text or the zone cannot be read.
    pub(crate) fn instant(
        &mut self,
        date_time: &str,
        zone: Option<&str>,
    ) -> Option<OffsetDateTime> {
        let (local, offset) = split(date_time)?;
        match (offset, zone) {
            (Some(offset), _) => to_utc(local, offset),
            (None, None | Some("" | "UTC")) => Some(local.assume_utc()),
            (None, Some(name)) => local_to_utc(local, &self.rules(name)?),
        }
    }
}

/// An instant's local date and time in a zone.
pub(crate) fn utc_to_local(instant: OffsetDateTime, zone: &TimeZone) -> Option<PrimitiveDateTime> {
    let timestamp =
        Timestamp::from_nanosecond(instant.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX);
    let local = instant.checked_to_offset(offset_at(timestamp, zone)?)?;
    Some(PrimitiveDateTime::new(local.date(), local.time()))
}

/// A local date and time as an instant: of two, the first; in a gap, after it (RFC 5545 section
/// 3.3.5).
pub(crate) fn local_to_utc(local: PrimitiveDateTime, zone: &TimeZone) -> Option<OffsetDateTime> {
    let civil = civil::DateTime::new(
        i16::try_from(local.year()).ok()?,
        i8::try_from(u8::from(local.month())).ok()?,
        i8::try_from(local.day()).ok()?,
        i8::try_from(local.hour()).ok()?,
        i8::try_from(local.minute()).ok()?,
        i8::try_from(local.second()).ok()?,
        i32::try_from(local.nanosecond()).ok()?,
    )
    .ok()?;
    match zone.to_ambiguous_timestamp(civil).compatible() {
        Ok(timestamp) => OffsetDateTime::from_unix_timestamp_nanos(timestamp.as_nanosecond()).ok(),
        // jiff's timestamps end a day before the year 9999 does, which is where "for ever" ends.
        Err(_) => to_utc(local, offset_at(Timestamp::MAX, zone)?),
    }
}

fn offset_at(timestamp: Timestamp, zone: &TimeZone) -> Option<UtcOffset> {
    UtcOffset::from_whole_seconds(zone.to_offset(timestamp).seconds()).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::{date, datetime};

    use super::*;

    #[test]
    fn instants_are_read() {
        for (text, expected) in [
            (
                "2026-01-05T09:00:00.0000000",
                Some(datetime!(2026-01-05 09:00 UTC)),
            ),
            (
                "2026-01-05T09:00:00.1234567Z",
                Some(datetime!(2026-01-05 09:00:00.123_456_700 UTC)),
            ),
            (
                "2026-01-05T09:00:00Z",
                Some(datetime!(2026-01-05 09:00 UTC)),
            ),
            (
                "2026-01-05T09:00:00+05:30",
                Some(datetime!(2026-01-05 03:30 UTC)),
            ),
            (
                "2026-01-05T09:00:00.0-08:00",
                Some(datetime!(2026-01-05 17:00 UTC)),
            ),
            ("2026-01-05", Some(datetime!(2026-01-05 00:00 UTC))),
            (
                "9999-12-31T23:59:59.9999999",
                Some(datetime!(9999-12-31 23:59:59.999_999_900 UTC)),
            ),
            (
                "2016-12-31T23:59:60Z",
                Some(datetime!(2016-12-31 23:59:59 UTC)),
            ),
            ("0001-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59-01:00", None),
            ("2026-02-30T09:00:00", None),
            ("2026-01-05T25:00:00", None),
            ("2026-01-05T09:00", None),
            ("2026-01-05T09:00:00X", None),
            ("2026-01-05T09:00:00Zx", None),
            ("2026-01-05T+9:00:00", None),
            ("2026-01-05T0é:00:0", None),
            ("20260105T090000Z", None),
            ("", None),
        ] {
            assert_eq!(parse_instant(text), expected, "{text}");
        }
    }

    #[test]
    fn other_zones_than_utc_are_converted() {
        let mut zones = Zones::default();
        let at = |zones: &mut Zones, zone| zones.instant("2026-07-01T09:00:00.0000000", zone);
        assert_eq!(
            at(&mut zones, Some("UTC")),
            Some(datetime!(2026-07-01 09:00 UTC))
        );
        assert_eq!(at(&mut zones, None), Some(datetime!(2026-07-01 09:00 UTC)));
        assert_eq!(
            at(&mut zones, Some("W. Europe Standard Time")),
            Some(datetime!(2026-07-01 07:00 UTC))
        );
        assert_eq!(
            at(&mut zones, Some("Asia/Kolkata")),
            Some(datetime!(2026-07-01 03:30 UTC))
        );
        assert_eq!(at(&mut zones, Some("tzone://Microsoft/Custom")), None);
    }

    #[test]
    fn local_times_survive_gaps_and_folds() {
        let berlin = zone::lookup("Europe/Berlin").unwrap();
        for (local, utc) in [
            (datetime!(2026-03-29 02:30), datetime!(2026-03-29 01:30 UTC)),
            (datetime!(2026-10-25 02:30), datetime!(2026-10-25 00:30 UTC)),
        ] {
            assert_eq!(local_to_utc(local, &berlin), Some(utc));
        }
        assert_eq!(
            utc_to_local(datetime!(2026-07-01 22:30 UTC), &berlin),
            Some(datetime!(2026-07-02 00:30))
        );
        let last = datetime!(9999-12-31 22:59 UTC);
        assert_eq!(
            local_to_utc(datetime!(9999-12-31 23:59), &berlin),
            Some(last)
        );
        assert_eq!(
            utc_to_local(last, &berlin),
            Some(datetime!(9999-12-31 23:59))
        );
    }

    #[test]
    fn date_parts_ignore_the_zone() {
        assert_eq!(
            date_part("2026-01-05T00:00:00.0000000"),
            Some(date!(2026 - 01 - 05))
        );
        assert_eq!(
            date_part("2026-01-05T23:00:00-11:00"),
            Some(date!(2026 - 01 - 05))
        );
    }
}
