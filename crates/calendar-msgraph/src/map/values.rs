//! The values of an event's columns out of Graph's members.

use calendar_domain::event::{
    Attendee, AttendeeType, EventImportance, EventSpan, EventStatus, Organizer, Reminder,
    ReminderMethod, RsvpStatus, Sensitivity, ShowAs,
};
use serde_json::{Map, Value, json};

use crate::html;
use crate::moment::parse_instant;
use crate::wire::{WireAddress, WireAttendee, WireBody, WireEvent};

pub(super) fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// STATUS: cancelled; tentative where the user's answer or the time shown is; else confirmed (also
/// when the user declined: that is the answer, not the event).
pub(super) fn status_of(event: &WireEvent) -> EventStatus {
    let response = event
        .response_status
        .as_ref()
        .and_then(|status| status["response"].as_str());
    let is =
        |text: Option<&str>, name: &str| text.is_some_and(|text| text.eq_ignore_ascii_case(name));
    if event.is_cancelled == Some(true) {
        EventStatus::Cancelled
    } else if is(response, "tentativelyAccepted") || is(event.show_as.as_deref(), "tentative") {
        EventStatus::Tentative
    } else {
        EventStatus::Confirmed
    }
}

pub(super) fn importance_of(text: &str) -> Option<EventImportance> {
    Some(match text.to_ascii_lowercase().as_str() {
        "low" => EventImportance::Low,
        "normal" => EventImportance::Normal,
        "high" => EventImportance::High,
        _ => return None,
    })
}

pub(super) fn sensitivity_of(text: &str) -> Option<Sensitivity> {
    Some(match text.to_ascii_lowercase().as_str() {
        "normal" => Sensitivity::Normal,
        "personal" => Sensitivity::Personal,
        "private" => Sensitivity::Private,
        "confidential" => Sensitivity::Confidential,
        _ => return None,
    })
}

pub(super) fn show_as_of(text: &str) -> ShowAs {
    match text.to_ascii_lowercase().as_str() {
        "free" => ShowAs::Free,
        "tentative" => ShowAs::Tentative,
        "busy" => ShowAs::Busy,
        "oof" => ShowAs::Oof,
        "workingelsewhere" => ShowAs::WorkingElsewhere,
        _ => ShowAs::Unknown,
    }
}

pub(super) fn organizer_of(address: WireAddress) -> Option<Organizer> {
    let organizer = Organizer {
        email: non_empty(address.address),
        display_name: non_empty(address.name),
    };
    (organizer.email.is_some() || organizer.display_name.is_some()).then_some(organizer)
}

/// Attendees; new times that they propose have no column and go to the metadata.
pub(super) fn attendees_of(
    attendees: Vec<WireAttendee>,
    organizer: Option<&Organizer>,
    metadata: &mut Map<String, Value>,
) -> Vec<Attendee> {
    let organizer = organizer.and_then(|organizer| organizer.email.as_deref());
    let mut proposals = Vec::new();
    let mapped = attendees
        .into_iter()
        .map(|attendee| {
            let address = attendee.email_address.unwrap_or_default();
            let email = non_empty(address.address);
            let status = attendee.status.unwrap_or_default();
            let response = status
                .response
                .as_deref()
                .unwrap_or_default()
                .to_ascii_lowercase();
            if let Some(proposal) = attendee.proposed_new_time {
                proposals.push(json!({"address": email, "proposedNewTime": proposal}));
            }
            let is_the_organizer = organizer
                .zip(email.as_deref())
                .is_some_and(|(organizer, email)| organizer.eq_ignore_ascii_case(email));
            Attendee {
                is_organizer: response == "organizer" || is_the_organizer,
                rsvp_status: rsvp_of(&response),
                attendee_type: attendee_type_of(attendee.kind.as_deref()),
                display_name: non_empty(address.name),
                comment: None,
                response_time: status.time.as_deref().and_then(parse_instant),
                email,
            }
        })
        .collect();
    if !proposals.is_empty() {
        metadata.insert("proposedNewTimes".to_owned(), Value::Array(proposals));
    }
    mapped
}

pub(super) fn rsvp_of(response: &str) -> RsvpStatus {
    match response {
        "accepted" | "organizer" => RsvpStatus::Accepted,
        "declined" => RsvpStatus::Declined,
        "tentativelyaccepted" => RsvpStatus::Tentative,
        _ => RsvpStatus::NeedsAction,
    }
}

pub(super) fn attendee_type_of(kind: Option<&str>) -> AttendeeType {
    match kind.unwrap_or_default().to_ascii_lowercase().as_str() {
        "optional" => AttendeeType::Optional,
        "resource" => AttendeeType::Resource,
        _ => AttendeeType::Required,
    }
}

/// Graph knows one reminder, and keeps its minutes while it is off.
pub(super) fn reminders_of(event: &WireEvent) -> Vec<Reminder> {
    let minutes = event
        .reminder_minutes
        .filter(|_| event.is_reminder_on == Some(true));
    minutes
        .and_then(|minutes| i32::try_from(minutes).ok())
        .map(|minutes_before| Reminder {
            method: ReminderMethod::Popup,
            minutes_before,
        })
        .into_iter()
        .collect()
}

/// `location.displayName`, else the first of `locations` that has one.
pub(super) fn location_of(event: &WireEvent) -> Option<String> {
    let others = event
        .locations
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    event
        .location
        .iter()
        .chain(others)
        .find_map(|location| {
            location["displayName"]
                .as_str()
                .filter(|name| !name.is_empty())
        })
        .map(str::to_owned)
}

/// The text body. HTML is converted, and stays in the metadata.
pub(super) fn description_of(
    body: Option<WireBody>,
    preview: Option<String>,
    metadata: &mut Map<String, Value>,
) -> Option<String> {
    let Some(WireBody {
        content_type,
        content: Some(content),
    }) = body
    else {
        return non_empty(preview);
    };
    if !content_type.is_some_and(|kind| kind.eq_ignore_ascii_case("html")) {
        return non_empty(Some(content));
    }
    let text = html::to_text(&content);
    if !content.is_empty() {
        let mut raw = Map::new();
        raw.insert("contentType".to_owned(), Value::from("html"));
        raw.insert("content".to_owned(), Value::from(content));
        metadata.insert("body".to_owned(), Value::Object(raw));
    }
    non_empty(Some(text))
}

/// Puts into the metadata what the columns do not hold whole.
pub(super) fn keep_raw(event: WireEvent, span: EventSpan, metadata: &mut Map<String, Value>) {
    let mut keep = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            metadata.insert(name.to_owned(), value);
        }
    };
    let unknown = |text: Option<String>, is_known: fn(&str) -> bool| {
        text.filter(|text| !is_known(text)).map(Value::from)
    };
    keep(
        "originalStartTimeZone",
        event.original_start_zone.map(Value::from),
    );
    keep(
        "originalEndTimeZone",
        event.original_end_zone.map(Value::from),
    );
    keep("recurrence", event.recurrence);
    keep("responseStatus", event.response_status);
    if event.is_online_meeting == Some(true) || event.online_meeting.is_some() {
        keep("isOnlineMeeting", event.is_online_meeting.map(Value::from));
        keep(
            "onlineMeetingProvider",
            event.online_meeting_provider.map(Value::from),
        );
        keep("onlineMeeting", event.online_meeting);
    }
    let has_locations = event
        .locations
        .as_ref()
        .and_then(Value::as_array)
        .is_some_and(|all| !all.is_empty());
    if has_locations {
        keep("locations", event.locations);
    } else {
        let more = event
            .location
            .filter(|location| location.as_object().is_some_and(|l| l.len() > 1));
        keep("location", more);
    }
    if span.is_all_day() {
        keep("originalStart", event.original_start.map(Value::from));
    }
    keep(
        "importance",
        unknown(event.importance, |text| importance_of(text).is_some()),
    );
    keep(
        "sensitivity",
        unknown(event.sensitivity, |text| sensitivity_of(text).is_some()),
    );
    let is_known_show_as =
        |text: &str| text.eq_ignore_ascii_case("unknown") || show_as_of(text) != ShowAs::Unknown;
    keep("showAs", unknown(event.show_as, is_known_show_as));
}
