//! From a Graph request body (POST or PATCH shape) to an event: defaults, enum spelling, times, recurrence, online
//! meetings. What a client may not set is dropped; what an administrator sets is kept, however odd.

use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use serde_json::{Map, Value, json};

use crate::error::GraphError;
use crate::ids::Ids;
use crate::model::{Item, Series};
use crate::recurrence::Recurrence;
use crate::render;
use crate::zones::{Moment, Zone};

/// "No time yet".
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

const MAX_ATTENDEES: usize = 500;

/// Who writes, when, and with which rights.
#[derive(Clone, Debug)]
pub(crate) struct Author<'a> {
    pub(crate) ids: &'a Ids,
    pub(crate) upn: String,
    pub(crate) display_name: String,
    pub(crate) now: Timestamp,
    /// A number no other event of the simulator has; seeds iCalUId and meeting links.
    pub(crate) unique: u64,
    /// An administrator may write what clients may not, and break every rule.
    pub(crate) admin: bool,
}

/// Makes an event from a POST body.
pub(crate) fn create(
    input: &Map<String, Value>,
    author: &Author<'_>,
) -> Result<(Item, Option<Series>), GraphError> {
    let zone = Zone::utc();
    let epoch = Moment::new(DateTime::default(), zone);
    let mut item = Item {
        properties: defaults(author),
        start: epoch.clone(),
        end: epoch,
        all_day: false,
        raw: Map::new(),
        version: 0,
        fragment: OnceLock::new(),
    };
    for member in ["start", "end"] {
        if !input.get(member).is_some_and(Value::is_object) {
            return Err(GraphError::property(format!(
                "The property '{member}' is required when creating the entity."
            )));
        }
    }
    assign(&mut item, input, author)?;
    let series = series(input, &item)?;
    if let Some(series) = &series {
        align(&mut item, &series.recurrence)?;
    }
    Ok((item, series))
}

/// The series that a body asks for, if it does.
pub(crate) fn series(
    input: &Map<String, Value>,
    item: &Item,
) -> Result<Option<Series>, GraphError> {
    let Some(recurrence) = input.get("recurrence").filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let recurrence =
        Recurrence::parse(recurrence, item.start.local.date()).map_err(GraphError::property)?;
    if recurrence.start != item.start.local.date() {
        return Err(GraphError::property(
            "The recurrence range's startDate must be the date of the event's start.",
        ));
    }
    Ok(Some(Series {
        recurrence,
        exceptions: std::collections::BTreeMap::new(),
        deleted: std::collections::BTreeSet::new(),
    }))
}

/// Puts a master's own times on its first occurrence.
pub(crate) fn align(item: &mut Item, recurrence: &Recurrence) -> Result<(), GraphError> {
    let first = recurrence
        .dates()
        .next()
        .ok_or_else(|| GraphError::property("The recurrence has no occurrence."))?;
    let length = item.start.local.duration_until(item.end.local);
    let start = first.to_datetime(item.start.local.time());
    let end = start.checked_add(length).unwrap_or(DateTime::MAX);
    item.start = item.start.at(start);
    item.end = item.end.at(end);
    Ok(())
}

/// Applies the members of a POST or PATCH body, except `recurrence`.
pub(crate) fn assign(
    item: &mut Item,
    input: &Map<String, Value>,
    author: &Author<'_>,
) -> Result<(), GraphError> {
    if let Some(all_day) = input.get("isAllDay").and_then(Value::as_bool) {
        item.all_day = all_day;
    }
    let mut zone_of = |member: &str, target: &mut Moment| -> Result<(), GraphError> {
        if let Some(value) = input.get(member).filter(|value| !value.is_null()) {
            *target = moment(value, author.admin)?;
            let original = if member == "start" {
                "originalStartTimeZone"
            } else {
                "originalEndTimeZone"
            };
            item.properties
                .insert(original.into(), Value::from(&*target.zone.name));
        }
        Ok(())
    };
    zone_of("start", &mut item.start)?;
    zone_of("end", &mut item.end)?;
    if !author.admin {
        check_times(item)?;
    }
    item.properties
        .insert("isAllDay".into(), item.all_day.into());

    for (member, value) in input {
        assign_member(&mut item.properties, member, value, author)?;
    }
    if input.get("isOnlineMeeting") == Some(&Value::Bool(true))
        && item
            .properties
            .get("onlineMeeting")
            .is_none_or(Value::is_null)
    {
        let provider = match input.get("onlineMeetingProvider").and_then(Value::as_str) {
            None | Some("unknown") => "teamsForBusiness",
            Some(provider) => provider,
        };
        item.properties
            .insert("onlineMeetingProvider".into(), provider.into());
        item.properties
            .insert("onlineMeeting".into(), teams(author));
    }
    item.properties.insert(
        "lastModifiedDateTime".into(),
        render::stamp(author.now).into(),
    );
    item.fragment = OnceLock::new();
    Ok(())
}

fn check_times(item: &Item) -> Result<(), GraphError> {
    if item.end.instant < item.start.instant {
        return Err(GraphError::property(
            "The End date cannot be before the Start date.",
        ));
    }
    if item.all_day {
        for (name, moment) in [("Start", &item.start), ("End", &item.end)] {
            if moment.local.time() != Time::midnight() {
                return Err(GraphError::property(format!(
                    "The Event.{name} property for an all-day event needs to be set to midnight."
                )));
            }
        }
        if item.end.local <= item.start.local {
            return Err(GraphError::property(
                "The duration of an event marked as All day must be at least 24 hours.",
            ));
        }
        if item.start.zone.name != item.end.zone.name {
            return Err(GraphError::property(
                "The start and end of an all-day event must be in the same time zone.",
            ));
        }
    }
    Ok(())
}

/// A `dateTimeTimeZone`. An offset or `Z` in the text makes it an instant.
pub(crate) fn moment(value: &Value, lenient: bool) -> Result<Moment, GraphError> {
    let text = value
        .get("dateTime")
        .and_then(Value::as_str)
        .ok_or_else(|| GraphError::invalid("A dateTimeTimeZone needs a dateTime."))?;
    let name = value
        .get("timeZone")
        .and_then(Value::as_str)
        .unwrap_or("UTC");
    let zone = match Zone::find(name) {
        Some(zone) => zone,
        None if lenient => Zone::lenient(name),
        None => return Err(GraphError::zone(name)),
    };
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Moment::new(zone.local(at), zone));
    }
    let local: DateTime = text.parse().map_err(|_| {
        GraphError::new(
            400,
            "RequestBodyRead",
            format!("Cannot convert the literal '{text}' to the expected type 'Edm.DateTime'."),
        )
    })?;
    Ok(Moment::new(local, zone))
}

fn defaults(author: &Author<'_>) -> Map<String, Value> {
    let stamp = render::stamp(author.now);
    let mailbox = json!({"emailAddress": {"name": author.display_name, "address": author.upn}});
    let value = json!({
        "createdDateTime": stamp,
        "lastModifiedDateTime": stamp,
        "categories": [],
        "originalStartTimeZone": "UTC",
        "originalEndTimeZone": "UTC",
        "iCalUId": ical_uid(author),
        "reminderMinutesBeforeStart": 15,
        "isReminderOn": true,
        "hasAttachments": false,
        "hideAttendees": false,
        "subject": "",
        "bodyPreview": "",
        "importance": "normal",
        "sensitivity": "normal",
        "isAllDay": false,
        "isCancelled": false,
        "isDraft": false,
        "isOrganizer": true,
        "responseRequested": true,
        "showAs": "busy",
        "onlineMeetingUrl": null,
        "isOnlineMeeting": false,
        "onlineMeetingProvider": "unknown",
        "allowNewTimeProposals": true,
        "onlineMeeting": null,
        "responseStatus": {"response": "organizer", "time": NEVER},
        "body": {"contentType": "html", "content": ""},
        "location": empty_location(),
        "locations": [],
        "attendees": [],
        "organizer": mailbox,
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn empty_location() -> Value {
    json!({
        "displayName": "",
        "locationType": "default",
        "uniqueIdType": "unknown",
        "address": {},
        "coordinates": {},
    })
}

/// A global object id, as Outlook writes it.
fn ical_uid(author: &Author<'_>) -> String {
    let guid = author
        .ids
        .uuid("ical-uid", author.unique)
        .simple()
        .to_string();
    let ticks = author.ids.chance("ical-time", &[author.unique]) & 0x00ff_ffff_ffff;
    format!(
        "040000008200E00074C5B7101A82E00800000000{ticks:012X}DB01000000000000000010000000{}",
        guid.to_ascii_uppercase()
    )
}

/// What Teams adds to an event: always a join link, a conference id and a toll number; sometimes more.
fn teams(author: &Author<'_>) -> Value {
    let ids = author.ids;
    let thread = ids.uuid("teams-thread", author.unique).simple().to_string();
    let tenant = ids.uuid("tenant", 0);
    let organizer = ids.uuid("teams-organizer", author.unique % 97);
    let roll = ids.chance("teams", &[author.unique]);
    let conference = 100_000_000 + roll % 900_000_000;
    let mut meeting = json!({
        "joinUrl": format!(
            "https://teams.microsoft.com/l/meetup-join/19%3ameeting_{thread}%40thread.v2/0\
             ?context=%7b%22Tid%22%3a%22{tenant}%22%2c%22Oid%22%3a%22{organizer}%22%7d"
        ),
        "conferenceId": conference.to_string(),
        "tollNumber": format!("+1 323-555-{:04}", 100 + roll % 100),
    });
    if let Some(members) = meeting.as_object_mut() {
        if roll.is_multiple_of(3) {
            members.insert(
                "quickDial".into(),
                format!("+13235550{},,{conference}#", 100 + roll % 100).into(),
            );
        }
        if roll % 3 == 1 {
            members.insert("tollFreeNumbers".into(), json!(["+1 800-555-0199"]));
            members.insert(
                "phones".into(),
                json!([
                    {"number": "+1 323-555-0166", "type": "business", "language": "en-US", "region": "US"},
                    {"number": "+49 30 555 0123", "type": "business", "language": "de-DE", "region": "DE"},
                ]),
            );
        }
    }
    meeting
}

#[expect(
    clippy::too_many_lines,
    reason = "one arm per member of the resource; splitting would hide which are handled"
)]
fn assign_member(
    properties: &mut Map<String, Value>,
    member: &str,
    value: &Value,
    author: &Author<'_>,
) -> Result<(), GraphError> {
    let keep = |properties: &mut Map<String, Value>| {
        properties.insert(member.to_owned(), value.clone());
    };
    match member {
        "subject" => {
            properties.insert("subject".into(), value.as_str().unwrap_or_default().into());
        }
        "body" => {
            let (body, preview) = body(value)?;
            properties.insert("body".into(), body);
            properties.insert("bodyPreview".into(), preview.into());
        }
        "importance" => {
            properties.insert(
                member.into(),
                one_of(member, value, &["low", "normal", "high"])?,
            );
        }
        "sensitivity" => {
            let names = ["normal", "personal", "private", "confidential"];
            properties.insert(member.into(), one_of(member, value, &names)?);
        }
        "showAs" => {
            let names = [
                "unknown",
                "free",
                "tentative",
                "busy",
                "oof",
                "workingElsewhere",
            ];
            properties.insert(member.into(), one_of(member, value, &names)?);
        }
        "onlineMeetingProvider" => {
            let names = [
                "unknown",
                "skypeForBusiness",
                "skypeForConsumer",
                "teamsForBusiness",
            ];
            // Once a meeting is online, its provider stays.
            if properties.get("isOnlineMeeting") != Some(&Value::Bool(true)) || author.admin {
                properties.insert(member.into(), one_of(member, value, &names)?);
            }
        }
        // It cannot be undone.
        "isOnlineMeeting" if value == &Value::Bool(true) || author.admin => keep(properties),
        "isReminderOn" | "responseRequested" | "allowNewTimeProposals" | "hideAttendees" => {
            if !value.is_boolean() {
                return Err(GraphError::invalid(format!(
                    "Invalid value for the property '{member}'."
                )));
            }
            keep(properties);
        }
        "reminderMinutesBeforeStart" => {
            if value.as_i64().and_then(|n| i32::try_from(n).ok()).is_none() {
                return Err(GraphError::invalid(
                    "Cannot convert a primitive value to the expected type 'Edm.Int32'.",
                ));
            }
            keep(properties);
        }
        "categories" => {
            if !value
                .as_array()
                .is_some_and(|all| all.iter().all(Value::is_string))
            {
                return Err(GraphError::invalid("categories must be strings."));
            }
            keep(properties);
        }
        "transactionId" if value.is_string() && !properties.contains_key("transactionId") => {
            keep(properties);
        }
        "attendees" => {
            let all = value
                .as_array()
                .ok_or_else(|| GraphError::invalid("attendees must be a collection."))?;
            if all.len() > MAX_ATTENDEES && !author.admin {
                return Err(GraphError::invalid(
                    "The number of attendees exceeds the maximum of 500.",
                ));
            }
            let attendees = all
                .iter()
                .map(|one| attendee(one, author.admin))
                .collect::<Result<_, _>>()?;
            properties.insert(member.into(), Value::Array(attendees));
        }
        "location" => {
            let one = location(value);
            let named = one["displayName"]
                .as_str()
                .is_some_and(|name| !name.is_empty());
            properties.insert(
                "locations".into(),
                if named {
                    json!([one.clone()])
                } else {
                    json!([])
                },
            );
            properties.insert(member.into(), one);
        }
        "locations" => {
            let all: Vec<Value> = value
                .as_array()
                .into_iter()
                .flatten()
                .map(location)
                .collect();
            let first = all.first().cloned().unwrap_or_else(empty_location);
            properties.insert("location".into(), first);
            properties.insert(member.into(), Value::Array(all));
        }
        // Read-only to clients.
        "organizer" if author.admin => {
            let address = value["emailAddress"]["address"]
                .as_str()
                .unwrap_or_default();
            if !address.eq_ignore_ascii_case(&author.upn) {
                properties.insert("isOrganizer".into(), false.into());
                if properties["responseStatus"]["response"] == "organizer" {
                    properties.insert(
                        "responseStatus".into(),
                        json!({"response": "notResponded", "time": NEVER}),
                    );
                    properties.insert("showAs".into(), "tentative".into());
                }
            }
            keep(properties);
        }
        "responseStatus"
        | "isOrganizer"
        | "isCancelled"
        | "isDraft"
        | "iCalUId"
        | "onlineMeeting"
        | "onlineMeetingUrl"
        | "hasAttachments"
        | "createdDateTime"
        | "originalStartTimeZone"
        | "originalEndTimeZone"
        | "bodyPreview"
            if author.admin =>
        {
            keep(properties);
        }
        _ => {}
    }
    Ok(())
}

fn one_of(member: &str, value: &Value, names: &[&str]) -> Result<Value, GraphError> {
    let written = value.as_str().unwrap_or_default();
    names
        .iter()
        .find(|name| name.eq_ignore_ascii_case(written))
        .map(|name| Value::from(*name))
        .ok_or_else(|| {
            GraphError::new(
                400,
                "RequestBodyRead",
                format!("Requested value '{written}' was not found for the property '{member}'."),
            )
        })
}

fn attendee(value: &Value, lenient: bool) -> Result<Value, GraphError> {
    let address = value.get("emailAddress");
    if !lenient
        && address
            .and_then(|a| a.get("address"))
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
    {
        return Err(GraphError::new(
            400,
            "ErrorInvalidRecipients",
            "At least one recipient isn't valid.",
        ));
    }
    let kind = match value.get("type") {
        None | Some(Value::Null) => "required".into(),
        Some(kind) => one_of("type", kind, &["required", "optional", "resource"])?,
    };
    let status = value
        .get("status")
        .filter(|status| lenient && status.is_object())
        .cloned()
        .unwrap_or_else(|| json!({"response": "none", "time": NEVER}));
    let mut email = address.cloned().unwrap_or_else(|| json!({}));
    if let Some(members) = email.as_object_mut()
        && !members.contains_key("name")
        && let Some(address) = members.get("address").cloned()
    {
        members.insert("name".into(), address);
    }
    let mut attendee = json!({"type": kind, "status": status, "emailAddress": email});
    if let (true, Some(proposed), Some(members)) = (
        lenient,
        value.get("proposedNewTime"),
        attendee.as_object_mut(),
    ) {
        members.insert("proposedNewTime".into(), proposed.clone());
    }
    Ok(attendee)
}

fn location(value: &Value) -> Value {
    let mut location = empty_location();
    let Some(members) = location.as_object_mut() else {
        return location;
    };
    for (member, value) in value.as_object().into_iter().flatten() {
        members.insert(member.clone(), value.clone());
    }
    let name = members.get("displayName").cloned().unwrap_or_default();
    if name.as_str().is_some_and(|name| !name.is_empty()) && !members.contains_key("uniqueId") {
        members.insert("uniqueId".into(), name);
        members.insert("uniqueIdType".into(), "private".into());
    }
    location
}

/// The body as stored (always html) and its preview.
fn body(value: &Value) -> Result<(Value, String), GraphError> {
    let content = value
        .get("content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let kind = match value.get("contentType") {
        None | Some(Value::Null) => "text".into(),
        Some(kind) => one_of("contentType", kind, &["text", "html"])?,
    };
    let html = if kind == "text" {
        let escaped = content
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        format!(
            "<html>\r\n<head>\r\n<meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\">\r\n\
             </head>\r\n<body>\r\n{escaped}\r\n</body>\r\n</html>\r\n"
        )
    } else if content.is_empty() || content.contains("<html") {
        content.to_owned()
    } else {
        format!("<html><head></head><body>{content}</body></html>")
    };
    let preview = render::plain_text(&html).chars().take(255).collect();
    Ok((json!({"contentType": "html", "content": html}), preview))
}
