//! Writes events as Graph shows them, straight into the answer: the part of an item that does not depend on the
//! request is rendered once per version, the rest (ids, times, type) per row.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde_json::{Map, Value};

use crate::ids::{Ids, Kind, Reference};
use crate::model::{Fragment, Instance, Item, Part};
use crate::zones::{Moment, Zone};

/// How one request wants events shown.
#[derive(Clone, Debug)]
pub(crate) struct View<'a> {
    pub(crate) ids: &'a Ids,
    pub(crate) viewer: u32,
    pub(crate) owner: u32,
    pub(crate) immutable: bool,
    /// `Prefer: outlook.timezone`; UTC by default.
    pub(crate) zone: Zone,
    /// `Prefer: outlook.body-content-type="text"`.
    pub(crate) text_body: bool,
    /// Rows of a delta carry `@odata.type`.
    pub(crate) typed: bool,
}

impl View<'_> {
    pub(crate) fn event_id(
        &self,
        number: u32,
        generation: u8,
        date: Option<jiff::civil::Date>,
    ) -> String {
        self.ids.encode(&Reference {
            immutable: self.immutable,
            kind: Kind::Event,
            viewer: self.viewer,
            owner: self.owner,
            number,
            date,
            generation: if self.immutable { 0 } else { generation },
        })
    }

    pub(crate) fn id_of(&self, row: &Instance<'_>) -> String {
        let event = row.event;
        match (row.part, &event.forced_id) {
            (Part::Single | Part::Master, Some(forced)) => forced.clone(),
            (Part::Single | Part::Master, None) => {
                self.event_id(event.number, event.generation, None)
            }
            (Part::Occurrence(date) | Part::Exception(date), _) => {
                self.event_id(event.number, event.generation, Some(date))
            }
        }
    }

    fn master_id(&self, row: &Instance<'_>) -> String {
        row.event
            .forced_id
            .clone()
            .unwrap_or_else(|| self.event_id(row.event.number, row.event.generation, None))
    }

    /// The full row.
    pub(crate) fn write_full(&self, out: &mut String, row: &Instance<'_>) {
        let raw = &row.item.raw;
        let fragment = fragment(row.item);
        let id = self.id_of(row);
        let change_key = self.ids.change_key(self.owner, row.item.version);
        out.push('{');
        if self.typed {
            out.push_str("\"@odata.type\":\"#microsoft.graph.event\",");
        }
        push(out, raw, "@odata.etag", |out| {
            let _ = write!(out, "\"W/\\\"{change_key}\\\"\"");
        });
        push(out, raw, "id", |out| quote(out, &id));
        push(out, raw, "changeKey", |out| quote(out, &change_key));
        out.push_str(&fragment.common);
        out.push(',');
        push(out, raw, "webLink", |out| {
            let _ = write!(
                out,
                "\"https://outlook.office365.com/owa/?itemid={}&exvsurl=1&path=/calendar/item\"",
                id.replace('=', "%3D")
            );
        });
        let (kind, original) = match row.part {
            Part::Single => ("singleInstance", None),
            Part::Master => ("seriesMaster", None),
            Part::Occurrence(date) => ("occurrence", Some(date)),
            Part::Exception(date) => ("exception", Some(date)),
        };
        push(out, raw, "type", |out| quote(out, kind));
        push(out, raw, "seriesMasterId", |out| {
            if original.is_some() {
                quote(out, &self.master_id(row));
            } else {
                out.push_str("null");
            }
        });
        if let Some(date) = original {
            let (start, _) = row.event.occurrence_times(date);
            push(out, raw, "originalStart", |out| {
                quote(out, &seconds(start.instant));
            });
        }
        push(out, raw, "recurrence", |out| {
            match (&row.event.series, row.part) {
                (Some(series), Part::Master) => {
                    let zone = &row.item.start.zone.name;
                    let _ = write!(out, "{}", series.recurrence.to_json(zone));
                }
                _ => out.push_str("null"),
            }
        });
        push(out, raw, "body", |out| {
            if self.text_body {
                let text = plain_text(
                    row.item.properties["body"]["content"]
                        .as_str()
                        .unwrap_or(""),
                );
                let _ = write!(
                    out,
                    "{}",
                    serde_json::json!({"contentType": "text", "content": text})
                );
            } else {
                out.push_str(&fragment.body_html);
            }
        });
        self.write_times(out, row);
        out.push('}');
    }

    /// The row of an occurrence in a delta.
    pub(crate) fn write_stub(&self, out: &mut String, row: &Instance<'_>) {
        let change_key = self.ids.change_key(self.owner, row.item.version);
        out.push_str("{\"@odata.type\":\"#microsoft.graph.event\",");
        let _ = write!(
            out,
            "\"@odata.etag\":\"W/\\\"{change_key}\\\"\",\"seriesMasterId\":"
        );
        quote(out, &self.master_id(row));
        out.push_str(",\"type\":\"occurrence\",\"id\":");
        quote(out, &self.id_of(row));
        out.push(',');
        self.write_times(out, row);
        out.push('}');
    }

    pub(crate) fn write_removed(out: &mut String, id: &str) {
        out.push_str("{\"@odata.type\":\"#microsoft.graph.event\",\"id\":");
        quote(out, id);
        out.push_str(",\"@removed\":{\"reason\":\"deleted\"}}");
    }

    fn write_times(&self, out: &mut String, row: &Instance<'_>) {
        let raw = &row.item.raw;
        push(out, raw, "start", |out| {
            self.write_moment(out, &row.start, row.item.all_day);
        });
        push(out, raw, "end", |out| {
            self.write_moment(out, &row.end, row.item.all_day);
        });
        // Each member above leaves a comma behind.
        if out.ends_with(',') {
            out.pop();
        }
    }

    fn write_moment(&self, out: &mut String, moment: &Moment, all_day: bool) {
        // All-day events are midnight UTC in every view, whatever was preferred.
        let (local, zone) = if all_day {
            (moment.local, "UTC")
        } else if moment.zone.name == self.zone.name {
            (moment.local, &*self.zone.name)
        } else {
            (self.zone.local(moment.instant), &*self.zone.name)
        };
        out.push_str("{\"dateTime\":\"");
        write_local(out, local);
        out.push_str("\",\"timeZone\":");
        quote(out, zone);
        out.push('}');
    }
}

/// Writes a member and a comma, unless hostile data overrides it.
fn push(out: &mut String, raw: &Map<String, Value>, member: &str, value: impl FnOnce(&mut String)) {
    if raw.contains_key(member) {
        return;
    }
    out.push('"');
    out.push_str(member);
    out.push_str("\":");
    value(out);
    out.push(',');
}

pub(crate) fn quote(out: &mut String, text: &str) {
    if text
        .bytes()
        .all(|b| b >= 0x20 && b != b'"' && b != b'\\' && b < 0x7f)
    {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        let _ = write!(out, "{}", Value::from(text));
    }
}

fn fragment(item: &Item) -> &Fragment {
    item.fragment.get_or_init(|| {
        let mut members = item.properties.clone();
        let body = members.remove("body").unwrap_or_default();
        for (member, value) in &item.raw {
            members.insert(member.clone(), value.clone());
        }
        let object = Value::Object(members).to_string();
        Fragment {
            common: object[1..object.len() - 1].to_owned(),
            body_html: body.to_string(),
        }
    })
}

/// `2026-01-01T10:00:00.0000000`
pub(crate) fn write_local(out: &mut String, local: DateTime) {
    let _ = write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:07}",
        local.year(),
        local.month(),
        local.day(),
        local.hour(),
        local.minute(),
        local.second(),
        local.subsec_nanosecond() / 100
    );
}

/// `2026-01-01T10:00:00.1234567Z`, for created and last modified.
pub(crate) fn stamp(at: Timestamp) -> String {
    let mut text = String::with_capacity(28);
    write_local(&mut text, Zone::utc().local(at));
    text.push('Z');
    text
}

/// `2026-01-01T10:00:00Z`
pub(crate) fn seconds(at: Timestamp) -> String {
    let mut text = stamp(at);
    text.truncate(19);
    text.push('Z');
    text
}

/// The text of an html body: tags dropped, the commonest entities resolved.
pub(crate) fn plain_text(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut in_tag = false;
    for c in html.chars() {
        match c {
            '<' => in_tag = true,
            '>' if in_tag => in_tag = false,
            c if !in_tag => text.push(c),
            _ => {}
        }
    }
    text.replace("&nbsp;", " ")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
        .trim()
        .to_owned()
}
