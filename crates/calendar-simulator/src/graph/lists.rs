//! Lists: events, calendarView, instances; `$top`, `$skip`, `$select`, windows.

use std::fmt::Write as _;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Context, DEFAULT_PAGE, Folder, MAX_PAGE, READ, READ_SHARED};
use crate::error::GraphError;
use crate::fault::Untruth;
use crate::http::Answer;
use crate::model::Instance;
use crate::render::{self, View};
use crate::store;
use crate::zones::Zone;

/// What stays as it is in a query value.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// Graph refuses windows longer than this.
const MAX_WINDOW_DAYS: i64 = 1825;

impl Context<'_> {
    /// A page of a list of `count` rows, by `$top` and `$skip`.
    pub(super) fn list(
        &self,
        context: &str,
        count: usize,
        rows: impl FnOnce(usize, usize) -> String,
    ) -> Result<Answer, GraphError> {
        for unsupported in ["$filter", "$expand", "$search"] {
            if self.request.query(unsupported).is_some() {
                return Err(GraphError::new(
                    501,
                    "SimulatorUnsupported",
                    format!("The simulator does not implement {unsupported} here."),
                ));
            }
        }
        let number = |name: &str| -> Result<Option<usize>, GraphError> {
            self.request
                .query(name)
                .map(|value| {
                    value.parse().map_err(|_| {
                        GraphError::new(
                            400,
                            "BadRequest",
                            format!("Invalid value '{value}' for {name} query option found."),
                        )
                    })
                })
                .transpose()
        };
        let count = match self.request.untruth {
            Some(Untruth::EmptyList) => 0,
            _ => count,
        };
        let top = number("$top")?
            .or(self.preferences.page_size)
            .unwrap_or(DEFAULT_PAGE)
            .clamp(1, MAX_PAGE);
        let from = number("$skip")?.unwrap_or(0).min(count);
        let to = from.saturating_add(top).min(count);
        let mut out = String::from("{\"@odata.context\":");
        render::quote(&mut out, context);
        out.push_str(",\"value\":[");
        out.push_str(&rows(from, to));
        out.push(']');
        if to < count {
            let mut link = format!("{}{}?", self.request.base, self.request.path);
            for (key, value) in &self.request.query {
                if !key.eq_ignore_ascii_case("$skip") && !key.eq_ignore_ascii_case("$top") {
                    let _ = write!(link, "{key}={}&", utf8_percent_encode(value, QUERY));
                }
            }
            let _ = write!(link, "$top={top}&$skip={to}");
            out.push_str(",\"@odata.nextLink\":");
            render::quote(&mut out, &link);
        }
        out.push('}');
        Ok(Answer::graph(200, out))
    }

    /// The members that `$select` asks for; all without it. Control information stays.
    pub(super) fn selected(&self, row: Value) -> Value {
        let Some(select) = self.request.query("$select") else {
            return row;
        };
        let wanted: Vec<&str> = select.split(',').map(str::trim).collect();
        match row {
            Value::Object(members) => members
                .into_iter()
                .filter(|(member, _)| {
                    member.starts_with('@')
                        || member == "id"
                        || wanted.contains(&"*")
                        || wanted.iter().any(|name| name.eq_ignore_ascii_case(member))
                })
                .collect(),
            other => other,
        }
    }

    pub(super) fn rows(&self, view: &View<'_>, rows: &[Instance<'_>]) -> String {
        let mut out = String::new();
        for row in rows {
            if !out.is_empty() {
                out.push(',');
            }
            self.write_row(&mut out, view, row);
        }
        out
    }

    pub(super) fn write_row(&self, out: &mut String, view: &View<'_>, row: &Instance<'_>) {
        if self.request.query("$select").is_none() {
            view.write_full(out, row);
            return;
        }
        let mut full = String::new();
        view.write_full(&mut full, row);
        let value = serde_json::from_str(&full).unwrap_or_default();
        out.push_str(&self.selected(value).to_string());
    }

    pub(super) fn window(&self) -> Result<(Timestamp, Timestamp), GraphError> {
        let bound = |name: &str| -> Result<Timestamp, GraphError> {
            let text = self
                .request
                .query(name)
                .filter(|text| !text.is_empty())
                .ok_or_else(|| {
                    GraphError::invalid(
                        "This request requires a time window specified by the query string parameters StartDateTime and EndDateTime.",
                    )
                })?;
            instant(text).ok_or_else(|| {
                GraphError::invalid(format!(
                    "The value '{text}' of parameter '{name}' is invalid."
                ))
            })
        };
        let (from, to) = (bound("startDateTime")?, bound("endDateTime")?);
        if to < from {
            return Err(GraphError::invalid(
                "The EndDateTime must not be before the StartDateTime.",
            ));
        }
        if to.duration_since(from).as_hours() > MAX_WINDOW_DAYS * 24 {
            return Err(GraphError::new(
                400,
                "ErrorCalendarViewRangeTooBig",
                "The requested time duration specified for FreeBusyViewOptions.TimeWindow is not within the allowed limits: 1825 days.",
            ));
        }
        Ok((from, to))
    }

    pub(super) fn list_events(&self, calendar: Option<&str>) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let world = self.simulator.seen();
        let target = self.target(&world, calendar)?;
        let mailbox = world
            .mailbox(target.owner)
            .ok_or_else(GraphError::not_found)?;
        let events: Vec<Instance<'_>> = mailbox
            .events
            .values()
            .filter(|event| event.calendar == target.calendar)
            .map(crate::model::Event::own)
            .collect();
        let view = self.view(target.owner, false);
        self.list(
            &self.user_context(&world, "events"),
            events.len(),
            |from, to| self.rows(&view, &events[from..to]),
        )
    }

    pub(super) fn calendar_view(&self, calendar: Option<&str>) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let window = self.window()?;
        let world = self.simulator.seen();
        let target = self.target(&world, calendar)?;
        let mailbox = world
            .mailbox(target.owner)
            .ok_or_else(GraphError::not_found)?;
        let mut rows = store::instances_in(mailbox, Some(target.calendar), window);
        if let Some(order) = self.request.query("$orderby") {
            let order = order.to_ascii_lowercase();
            if !order.starts_with("start/datetime") {
                return Err(GraphError::new(
                    501,
                    "SimulatorUnsupported",
                    "The simulator orders by start/dateTime only.",
                ));
            }
            if order.ends_with(" desc") {
                rows.reverse();
            }
        }
        let view = self.view(target.owner, false);
        self.list(
            &self.user_context(&world, "calendarView"),
            rows.len(),
            |from, to| self.rows(&view, &rows[from..to]),
        )
    }

    pub(super) fn event_instances(
        &self,
        folder: Folder<'_>,
        id: &str,
    ) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let window = self.window()?;
        let world = self.simulator.seen();
        let (located, _) = self.event(&world, folder, id)?;
        let event = store::event_in(&world, located)?;
        if event.series.is_none() || located.date.is_some() {
            return Err(GraphError::invalid(
                "The event is not the master of a series.",
            ));
        }
        let mut rows = event.instances(window);
        rows.retain(|row| row.item.properties.get("isCancelled") != Some(&Value::Bool(true)));
        let view = self.view(located.owner, false);
        let tail = format!(
            "events('{}')/instances",
            utf8_percent_encode(id, NON_ALPHANUMERIC)
        );
        self.list(&self.user_context(&world, &tail), rows.len(), |from, to| {
            self.rows(&view, &rows[from..to])
        })
    }
}

/// A window's bound: an offset in it counts, without one it is UTC, a date alone is its midnight.
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    // A client that does not escape the plus of an offset sends a space.
    let text = text.replace(' ', "+");
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let utc = Zone::utc();
    text.parse::<jiff::civil::DateTime>()
        .ok()
        .map(|local| utc.instant(local))
}
