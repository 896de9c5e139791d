//! Names of time zones: Windows names and IANA names to IANA names.

use jiff::tz::TimeZone;
use windows_timezones::WindowsTimezone;

use crate::event::EventZone;

/// The zone that a provider's name means: an IANA name as it is, a Windows name by CLDR's
/// windowsZones (default territory), anything else (`tzone://Microsoft/Custom`, display names)
/// unresolved.
///
/// Source: <https://learn.microsoft.com/graph/api/resources/datetimetimezone>.
#[must_use]
pub fn resolve(name: &str) -> EventZone {
    let trimmed = name.trim();
    if let Ok(windows) = trimmed.parse::<WindowsTimezone>() {
        return EventZone::Iana(windows.tzdb_id().to_owned());
    }
    match lookup(trimmed).as_ref().and_then(TimeZone::iana_name) {
        Some(iana) => EventZone::Iana(iana.to_owned()),
        None => EventZone::Unresolved(name.to_owned()),
    }
}

/// The rules of an IANA zone.
#[must_use]
pub fn lookup(iana: &str) -> Option<TimeZone> {
    TimeZone::get(iana).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve() {
        let cases = [
            ("W. Europe Standard Time", Some("Europe/Berlin")),
            ("Pacific Standard Time", Some("America/Los_Angeles")),
            ("UTC", Some("Etc/UTC")),
            ("Europe/Berlin", Some("Europe/Berlin")),
            ("europe/berlin", Some("Europe/Berlin")),
            ("tzone://Microsoft/Custom", None),
            ("Customized Time Zone", None),
            ("(UTC+01:00) Amsterdam, Berlin", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(resolve(name).iana(), expected, "{name}");
        }
    }
}
