//! Windows and IANA time zone names, and wall-clock times in them. A gap resolves to the later side, an overlap to
//! the first pass.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use windows_timezones::WindowsTimezone;

/// A time zone as a client or an administrator named it, with the rules found for it.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) name: Arc<str>,
    pub(crate) rules: TimeZone,
}

impl Zone {
    pub(crate) fn utc() -> Self {
        Self {
            name: "UTC".into(),
            rules: TimeZone::UTC,
        }
    }

    /// Windows names first, as Graph shows them; then IANA names; then the spellings of UTC seen in real answers.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let rules = if matches!(
            name,
            "UTC" | "utc" | "Etc/UTC" | "tzone://Microsoft/Utc" | "Z"
        ) {
            TimeZone::UTC
        } else if let Ok(windows) = name.parse::<WindowsTimezone>() {
            TimeZone::get(windows.tzdb_id()).ok()?
        } else if name.contains('/') || name == "GMT" {
            TimeZone::get(name).ok()?
        } else {
            return None;
        };
        Some(Self {
            name: name.into(),
            rules,
        })
    }

    /// For hostile data: an unknown name is kept as written and counts as UTC.
    pub(crate) fn lenient(name: &str) -> Self {
        Self::find(name).unwrap_or_else(|| Self {
            name: name.into(),
            rules: TimeZone::UTC,
        })
    }

    pub(crate) fn instant(&self, local: DateTime) -> Timestamp {
        self.rules
            .to_ambiguous_zoned(local)
            .compatible()
            .map_or_else(
                |_| {
                    // Only the very ends of the calendar have no instant.
                    if local.year() > 0 {
                        Timestamp::MAX
                    } else {
                        Timestamp::MIN
                    }
                },
                |zoned| zoned.timestamp(),
            )
    }

    pub(crate) fn local(&self, at: Timestamp) -> DateTime {
        self.rules.to_datetime(at)
    }
}

/// A wall-clock time in a zone, and the instant it names.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub(crate) local: DateTime,
    pub(crate) zone: Zone,
    pub(crate) instant: Timestamp,
}

impl Moment {
    pub(crate) fn new(local: DateTime, zone: Zone) -> Self {
        let instant = zone.instant(local);
        Self {
            local,
            zone,
            instant,
        }
    }

    pub(crate) fn at(&self, local: DateTime) -> Self {
        Self::new(local, self.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_iana_names_have_the_same_rules() {
        for (windows, iana) in [
            ("W. Europe Standard Time", "Europe/Berlin"),
            ("Pacific Standard Time", "America/Los_Angeles"),
            ("India Standard Time", "Asia/Kolkata"),
            ("Eastern Standard Time", "America/New_York"),
        ] {
            let local: DateTime = "2026-07-01T12:00:00".parse().unwrap();
            let found = Zone::find(windows).unwrap();
            assert_eq!(
                found.instant(local),
                Zone::find(iana).unwrap().instant(local),
                "{windows}"
            );
            assert_eq!(&*found.name, windows);
        }
        assert!(Zone::find("Mars/Olympus Mons").is_none());
        assert!(Zone::find("Customized Time Zone").is_none());
    }

    #[test]
    fn gap_goes_later_and_overlap_takes_the_first() {
        let berlin = Zone::find("W. Europe Standard Time").unwrap();
        for (local, utc) in [
            ("2026-03-29T02:30:00", "2026-03-29T01:30:00Z"),
            ("2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
            ("2026-01-15T09:00:00", "2026-01-15T08:00:00Z"),
        ] {
            assert_eq!(
                berlin.instant(local.parse().unwrap()),
                utc.parse().unwrap(),
                "{local}"
            );
        }
    }

    #[test]
    fn the_end_of_time_does_not_panic() {
        let zone = Zone::find("Pacific Standard Time").unwrap();
        assert_eq!(zone.instant(DateTime::MAX), Timestamp::MAX);
    }
}
