//! What answers have in common: lists, windows, and how time is written.

use calendar_domain::event::EventMoment;
use calendar_domain::sync::SyncWindow;
use serde::{Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

/// A page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct ListResponse<T> {
    /// The entries.
    pub(crate) data: Vec<T>,
    /// Give it back as `cursor` for the next page; `null` at the end.
    pub(crate) next_cursor: Option<String>,
}

/// An instant: RFC 3339 in UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instant(pub(crate) OffsetDateTime);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let utc = self
            .0
            .checked_to_offset(time::UtcOffset::UTC)
            .unwrap_or(self.0);
        // RFC 3339 ends at the year 9999; beyond it the text is at least legible.
        serializer.serialize_str(&utc.format(&Rfc3339).unwrap_or_else(|_| utc.to_string()))
    }
}

/// A date: RFC 3339 `full-date`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day(pub(crate) Date);

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // `Date` displays as YYYY-MM-DD.
        serializer.collect_str(&self.0)
    }
}

/// An instant or a date, as one string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(pub(crate) EventMoment);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            EventMoment::Date(date) => Day(date).serialize(serializer),
            EventMoment::Instant(instant) => Instant(instant).serialize(serializer),
        }
    }
}

/// The time that the store covers of a connection.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct WindowResponse {
    /// First instant.
    from: Instant,
    /// First instant after it.
    to: Instant,
}

impl From<SyncWindow> for WindowResponse {
    fn from(window: SyncWindow) -> Self {
        Self {
            from: Instant(window.start),
            to: Instant(window.end),
        }
    }
}
