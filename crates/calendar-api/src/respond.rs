//! What answers have in common: lists, windows, and how time is written.

use calendar_domain::event::EventMoment;
use calendar_domain::sync::SyncWindow;
use serde::{Serialize, Serializer};
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};
use utoipa::openapi::schema::{KnownFormat, OneOf, SchemaFormat, Type};
use utoipa::openapi::{Object, ObjectBuilder, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::check;
use crate::cursor;
use crate::fields::Fields;

/// Which page of a list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// How many entries at the most.
    #[param(required = false, minimum = 1, maximum = 500, default = 50)]
    pub(crate) limit: u32,
    /// `next_cursor` of the page before, with the same other parameters. Without it the list begins.
    pub(crate) cursor: Option<String>,
}

impl PageQuery {
    /// Whether a cursor is good is known once its list is.
    pub(crate) fn read(fields: &mut Fields) -> Self {
        let limit = fields.optional("limit", check::number(1..=500));
        Self {
            limit: limit.unwrap_or(50),
            cursor: fields.optional("cursor", cursor::text),
        }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page<T>)]
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

impl PartialSchema for Instant {
    fn schema() -> RefOr<Schema> {
        text(
            KnownFormat::DateTime,
            "An instant: RFC 3339 in UTC.",
            "2026-01-31T09:00:00Z",
        )
        .into()
    }
}

impl ToSchema for Instant {}

/// A date: RFC 3339 `full-date`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day(pub(crate) Date);

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // `Date` displays as YYYY-MM-DD.
        serializer.collect_str(&self.0)
    }
}

impl PartialSchema for Day {
    fn schema() -> RefOr<Schema> {
        text(
            KnownFormat::Date,
            "A date: RFC 3339 `full-date`.",
            "2026-01-31",
        )
        .into()
    }
}

impl ToSchema for Day {
    fn name() -> std::borrow::Cow<'static, str> {
        "Date".into()
    }
}

fn text(format: KnownFormat, description: &str, example: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(format)))
        .description(Some(description))
        .examples([json!(example)])
        .build()
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

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        let mut either = OneOf::new();
        either.items = vec![Instant::schema(), Day::schema()];
        Schema::OneOf(either).into()
    }
}

impl ToSchema for Moment {}

/// The time that the store covers of a connection.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = Window)]
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
