//! Tables of Graph's events and what they become. The shapes are those of Graph's documentation.

use calendar_domain::event::{
    AttendeeType, EventImportance, EventStatus, EventZone, Organizer, Reminder, ReminderMethod,
    RsvpStatus, Sensitivity, ShowAs, TeamsMeeting,
};
use serde_json::{Value, json};
use time::macros::{date, datetime};

use super::*;

mod page;
mod series;
mod speed;

const MEETING: &str = r##"{
    "@odata.type": "#microsoft.graph.event",
    "@odata.etag": "W/\"abc\"",
    "id": "AAMk=",
    "createdDateTime": "2026-01-01T08:00:00.1234567Z",
    "lastModifiedDateTime": "2026-01-01T08:00:01.1234567Z",
    "changeKey": "abc",
    "categories": [],
    "transactionId": null,
    "originalStartTimeZone": "W. Europe Standard Time",
    "originalEndTimeZone": "W. Europe Standard Time",
    "iCalUId": "040000008200E",
    "reminderMinutesBeforeStart": 15,
    "isReminderOn": true,
    "hasAttachments": false,
    "subject": "Planning",
    "bodyPreview": "Agenda",
    "importance": "normal",
    "sensitivity": "normal",
    "isAllDay": false,
    "isCancelled": false,
    "isOrganizer": true,
    "responseRequested": true,
    "seriesMasterId": null,
    "showAs": "busy",
    "type": "singleInstance",
    "webLink": "https://outlook.example.com/?itemid=AAMk%3D",
    "onlineMeetingUrl": null,
    "isOnlineMeeting": false,
    "onlineMeetingProvider": "unknown",
    "allowNewTimeProposals": true,
    "onlineMeeting": null,
    "recurrence": null,
    "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
    "body": {"contentType": "html", "content": "<html><body><p>Agenda</p></body></html>"},
    "start": {"dateTime": "2026-01-05T09:00:00.0000000", "timeZone": "UTC"},
    "end": {"dateTime": "2026-01-05T10:00:00.0000000", "timeZone": "UTC"},
    "location": {"displayName": "Room 1", "locationType": "default", "uniqueId": "Room 1"},
    "locations": [{"displayName": "Room 1", "locationType": "default", "address": {"city": "Berlin"}}],
    "attendees": [],
    "organizer": {"emailAddress": {"name": "Ada", "address": "ada@example.com"}}
}"##;

/// A meeting as Graph answers it, with `changes` put over it; null takes a member away.
fn meeting(changes: Value) -> Value {
    let mut event: Value = serde_json::from_str(MEETING).unwrap();
    let (Value::Object(event_members), Value::Object(changes)) = (&mut event, changes) else {
        unreachable!("both are objects");
    };
    event_members.extend(changes);
    event
}

/// An occurrence as the change feed gives it.
fn stub(id: &str, master: &str, start: &str, end: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.event", "@odata.etag": "W/\"x\"", "seriesMasterId": master,
        "type": "occurrence", "id": id,
        "start": {"dateTime": start, "timeZone": "UTC"}, "end": {"dateTime": end, "timeZone": "UTC"},
    })
}

fn map_page(entries: &[Value], occurrences: Occurrences) -> Vec<EventChange> {
    let text = serde_json::to_string(entries).unwrap();
    let raw: Vec<&RawValue> = serde_json::from_str(&text).unwrap();
    Mapper::default().page(&raw, occurrences)
}

fn map_one(changes: Value) -> EventChange {
    map_page(&[meeting(changes)], Occurrences::AsOccurrence).remove(0)
}

/// Why an entry was set aside; `None` where it was not.
fn reason(change: &EventChange) -> Option<&str> {
    match change {
        EventChange::Rejected(rejected) => Some(&rejected.reason),
        _ => None,
    }
}

fn event(changes: Value) -> ProviderEvent {
    match map_one(changes) {
        EventChange::Event(event) => *event,
        other => panic!("no event: {other:?}"),
    }
}

#[test]
fn every_column_of_a_meeting_is_filled() {
    let mapped = event(json!({
        "categories": ["Red category", null, "Team, \"A\""],
        "importance": "high",
        "sensitivity": "private",
        "showAs": "workingElsewhere",
        "isOnlineMeeting": true,
        "onlineMeetingProvider": "teamsForBusiness",
        "onlineMeeting": {
            "joinUrl": "https://teams.microsoft.com/l/meetup-join/19%3ameeting_x/0",
            "conferenceId": "291633251",
            "tollNumber": "+1 323-555-0166",
        },
    }));
    assert_eq!(mapped.id, ProviderEventId::from("AAMk="));
    assert_eq!(mapped.kind, EventKind::Single);
    assert_eq!(mapped.title.as_deref(), Some("Planning"));
    assert_eq!(mapped.description.as_deref(), Some("Agenda"));
    assert_eq!(mapped.location.as_deref(), Some("Room 1"));
    assert_eq!(
        mapped.span,
        EventSpan::Timed {
            start: datetime!(2026-01-05 09:00 UTC),
            end: datetime!(2026-01-05 10:00 UTC)
        }
    );
    assert_eq!(
        mapped.zone,
        Some(EventZone::Iana("Europe/Berlin".to_owned()))
    );
    assert_eq!(mapped.end_zone, None);
    assert_eq!(mapped.status, EventStatus::Confirmed);
    assert_eq!(mapped.importance, EventImportance::High);
    assert_eq!(mapped.show_as, Some(ShowAs::WorkingElsewhere));
    assert_eq!(mapped.sensitivity, Some(Sensitivity::Private));
    assert_eq!(mapped.categories, ["Red category", "Team, \"A\""]);
    assert_eq!(mapped.ical_uid.as_deref(), Some("040000008200E"));
    assert_eq!(mapped.conversation_id, mapped.ical_uid);
    assert_eq!(
        mapped.teams,
        Some(TeamsMeeting {
            meeting_url: Some(
                "https://teams.microsoft.com/l/meetup-join/19%3ameeting_x/0".to_owned()
            ),
            conference_id: Some("291633251".to_owned()),
            dial_in_url: Some("tel:+13235550166".to_owned()),
        })
    );
    assert_eq!(
        mapped.organizer,
        Some(Organizer {
            email: Some("ada@example.com".to_owned()),
            display_name: Some("Ada".to_owned())
        })
    );
    assert_eq!(mapped.is_organizer, Some(true));
    assert_eq!(
        mapped.reminders,
        [Reminder {
            method: ReminderMethod::Popup,
            minutes_before: 15
        }]
    );
    assert_eq!(
        mapped.html_link.as_deref(),
        Some("https://outlook.example.com/?itemid=AAMk%3D")
    );
}

#[test]
fn the_metadata_holds_what_has_no_column_and_nothing_else() {
    let mapped = event(json!({"newMember": [1], "subject": "x"}));
    let names: Vec<&str> = mapped.metadata.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "allowNewTimeProposals",
            "body",
            "changeKey",
            "createdDateTime",
            "hasAttachments",
            "lastModifiedDateTime",
            "locations",
            "newMember",
            "originalEndTimeZone",
            "originalStartTimeZone",
            "responseRequested",
            "responseStatus",
        ]
    );
    assert_eq!(
        mapped.metadata["body"]["content"],
        "<html><body><p>Agenda</p></body></html>"
    );
    assert_eq!(
        mapped.metadata["originalStartTimeZone"],
        "W. Europe Standard Time"
    );
    assert_eq!(mapped.metadata["locations"][0]["address"]["city"], "Berlin");
}

#[test]
fn another_etag_is_no_other_event() {
    assert_eq!(
        event(json!({"@odata.etag": "W/\"1\""})),
        event(json!({"@odata.etag": "W/\"2\""}))
    );
}

#[test]
fn unknown_values_never_fail_and_are_kept() {
    let mapped = event(json!({
        "importance": "urgent", "sensitivity": "secret", "showAs": "napping",
        "onlineMeetingProvider": "next", "isOnlineMeeting": true,
    }));
    assert_eq!(mapped.importance, EventImportance::Normal);
    assert_eq!(mapped.sensitivity, None);
    assert_eq!(mapped.show_as, Some(ShowAs::Unknown));
    for (name, value) in [
        ("importance", "urgent"),
        ("sensitivity", "secret"),
        ("showAs", "napping"),
        ("onlineMeetingProvider", "next"),
    ] {
        assert_eq!(mapped.metadata[name], value);
    }
    let known = event(json!({"importance": "Low", "showAs": "unknown", "sensitivity": "PERSONAL"}));
    assert_eq!(known.importance, EventImportance::Low);
    assert_eq!(known.sensitivity, Some(Sensitivity::Personal));
    assert!(!known.metadata.contains_key("showAs"));
}

#[test]
fn the_status_table() {
    use EventStatus::{Cancelled, Confirmed, Tentative};
    let response = |text: &str| json!({"response": text, "time": "0001-01-01T00:00:00Z"});
    for (cancelled, answer, show_as, expected) in [
        (json!(false), response("organizer"), "busy", Confirmed),
        (json!(null), response("accepted"), "oof", Confirmed),
        (json!(false), response("accepted"), "tentative", Tentative),
        (
            json!(false),
            response("tentativelyAccepted"),
            "busy",
            Tentative,
        ),
        (
            json!(false),
            response("notResponded"),
            "tentative",
            Tentative,
        ),
        (json!(false), response("notResponded"), "busy", Confirmed),
        (json!(false), response("declined"), "free", Confirmed),
        (json!(false), Value::Null, "busy", Confirmed),
        (
            json!(true),
            response("tentativelyAccepted"),
            "tentative",
            Cancelled,
        ),
    ] {
        let mapped =
            event(json!({"isCancelled": cancelled, "responseStatus": answer, "showAs": show_as}));
        assert_eq!(mapped.status, expected, "{cancelled} {answer} {show_as}");
    }
}

#[test]
fn when_a_timed_event_is() {
    let at = |date_time: &str, zone: &str| json!({"dateTime": date_time, "timeZone": zone});
    let nine = datetime!(2026-01-05 09:00 UTC);
    for (start, end, expected) in [
        (
            at("2026-01-05T09:00:00.0000000", "UTC"),
            at("2026-01-05T09:00:00", "UTC"),
            Ok((nine, nine)),
        ),
        // End before start.
        (
            at("2026-01-05T09:00:00", "UTC"),
            at("2026-01-05T08:00:00", "UTC"),
            Err("end_before_start"),
        ),
        (
            at("2026-01-05T09:00:00", "UTC"),
            Value::Null,
            Err("end_missing"),
        ),
        (
            at("2026-01-05T09:00:00", "UTC"),
            at("never", "UTC"),
            Err("end_unreadable"),
        ),
        (
            at("2026-01-05T09:00:00", "UTC"),
            at("9999-12-31T23:59:59.9999999", "UTC"),
            Ok((nine, datetime!(9999-12-31 23:59:59.999_999_900 UTC))),
        ),
        // A service that did not honour the Prefer header.
        (
            at("2026-01-05T01:00:00", "Pacific Standard Time"),
            at("2026-01-05T02:00:00", "Pacific Standard Time"),
            Ok((nine, datetime!(2026-01-05 10:00 UTC))),
        ),
        (
            at("2026-01-05T09:00:00", "tzone://Microsoft/Custom"),
            at("2026-01-05T10:00:00", "UTC"),
            Err("start_unreadable"),
        ),
        (
            at("2026-13-05T09:00:00", "UTC"),
            at("2026-01-05T10:00:00", "UTC"),
            Err("start_unreadable"),
        ),
        (
            json!({"timeZone": "UTC"}),
            Value::Null,
            Err("start_missing"),
        ),
        (
            Value::Null,
            at("2026-01-05T09:00:00", "UTC"),
            Err("start_missing"),
        ),
    ] {
        let change = map_one(json!({"start": start, "end": end}));
        match (change, expected) {
            (EventChange::Event(event), Ok((start, end))) => {
                assert_eq!(event.span, EventSpan::Timed { start, end });
            }
            (EventChange::Rejected(rejected), Err(expected)) => {
                let RejectedEvent { id, reason, raw } = rejected;
                assert_eq!((id.as_str(), reason.as_str()), ("AAMk=", expected));
                assert_eq!(raw.unwrap()["subject"], "Planning", "as it came");
            }
            (change, expected) => panic!("{change:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn all_day_events_are_dates_whatever_the_zone() {
    for (start, end, expected) in [
        (
            "2026-01-05T00:00:00.0000000",
            "2026-01-06T00:00:00.0000000",
            (date!(2026 - 01 - 05), date!(2026 - 01 - 06)),
        ),
        (
            "2026-01-05T00:00:00",
            "2026-01-09T00:00:00",
            (date!(2026 - 01 - 05), date!(2026 - 01 - 09)),
        ),
        (
            "2026-01-05T00:00:00",
            "2026-01-05T00:00:00",
            (date!(2026 - 01 - 05), date!(2026 - 01 - 06)),
        ),
        (
            "2026-01-05T08:00:00",
            "2026-01-06T08:00:00",
            (date!(2026 - 01 - 05), date!(2026 - 01 - 06)),
        ),
        (
            "9999-12-31T00:00:00",
            "9999-12-31T00:00:00",
            (date!(9999 - 12 - 31), date!(9999 - 12 - 31)),
        ),
    ] {
        for zone in ["UTC", "Pacific Standard Time", "Tonga Standard Time"] {
            let mapped = event(json!({
                "isAllDay": true,
                "start": {"dateTime": start, "timeZone": zone},
                "end": {"dateTime": end, "timeZone": zone},
            }));
            assert_eq!(
                mapped.span,
                EventSpan::AllDay {
                    start: expected.0,
                    end: expected.1
                },
                "{start}"
            );
        }
    }
}

#[test]
fn an_all_day_event_without_an_end_is_set_aside() {
    let start = json!({"dateTime": "2026-01-05T00:00:00", "timeZone": "UTC"});
    for (end, expected) in [
        (json!("2026-01-04T00:00:00"), "end_before_start"),
        (json!("soon"), "end_unreadable"),
        (Value::Null, "end_missing"),
    ] {
        let end = json!({"dateTime": end, "timeZone": "UTC"});
        let change = map_one(json!({"isAllDay": true, "start": start, "end": end}));
        assert_eq!(reason(&change), Some(expected));
    }
}

#[test]
fn zones_are_those_the_event_was_made_in() {
    let zones = |start: Value, end: Value| {
        let mapped = event(json!({"originalStartTimeZone": start, "originalEndTimeZone": end}));
        assert_eq!(
            mapped.span.start(),
            EventMoment::Instant(datetime!(2026-01-05 09:00 UTC))
        );
        (mapped.zone, mapped.end_zone)
    };
    let iana = |name: &str| Some(EventZone::Iana(name.to_owned()));
    let custom = "tzone://Microsoft/Custom";
    assert_eq!(
        zones(
            json!("Pacific Standard Time"),
            json!("Eastern Standard Time")
        ),
        (iana("America/Los_Angeles"), iana("America/New_York"))
    );
    assert_eq!(
        zones(json!("W. Europe Standard Time"), json!("Europe/Berlin")),
        (iana("Europe/Berlin"), None)
    );
    assert_eq!(
        zones(json!(custom), Value::Null),
        (Some(EventZone::Unresolved(custom.to_owned())), None)
    );
    assert_eq!(zones(json!(""), json!("UTC")), (None, iana("Etc/UTC")));
}

#[test]
fn attendees_answer_and_are_known_by_their_address() {
    use AttendeeType::{Optional, Required, Resource};
    use RsvpStatus::{Accepted, Declined, NeedsAction, Tentative};

    let attendee = |address: &str, kind: &str, response: &str, time: &str| {
        json!({"type": kind, "status": {"response": response, "time": time},
               "emailAddress": {"name": "N", "address": address}})
    };
    let none = "0001-01-01T00:00:00Z";
    let mapped = event(json!({"attendees": [
        attendee("ADA@example.com", "required", "none", none),
        attendee("bob@example.com", "Optional", "accepted", "2026-01-02T10:00:00Z"),
        attendee("cy@example.com", "required", "tentativelyAccepted", none),
        attendee("di@example.com", "required", "declined", "soon"),
        attendee("ed@example.com", "new", "notResponded", none),
        attendee("flo@example.com", "required", "organizer", none),
        {"type": "resource", "emailAddress": {"name": "Room 1", "address": ""}, "status": null},
        {"emailAddress": null, "proposedNewTime": {"start": {}}},
    ]}));
    let facts: Vec<_> = mapped
        .attendees
        .iter()
        .map(|a| {
            (
                a.email.as_deref(),
                a.rsvp_status,
                a.attendee_type,
                a.is_organizer,
                a.response_time,
            )
        })
        .collect();
    let answered = Some(datetime!(2026-01-02 10:00 UTC));
    assert_eq!(
        facts,
        [
            (Some("ADA@example.com"), NeedsAction, Required, true, None),
            (Some("bob@example.com"), Accepted, Optional, false, answered),
            (Some("cy@example.com"), Tentative, Required, false, None),
            (Some("di@example.com"), Declined, Required, false, None),
            (Some("ed@example.com"), NeedsAction, Required, false, None),
            (Some("flo@example.com"), Accepted, Required, true, None),
            (None, NeedsAction, Resource, false, None),
            (None, NeedsAction, Required, false, None),
        ]
    );
    assert_eq!(mapped.attendees[6].display_name.as_deref(), Some("Room 1"));
    assert_eq!(
        mapped.metadata["proposedNewTimes"].as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn a_reminder_that_is_off_is_none() {
    for (on, minutes, expected) in [
        (json!(true), json!(15), Some(15)),
        (json!(true), json!(0), Some(0)),
        (json!(true), json!(-5), Some(-5)),
        (json!(true), Value::Null, None),
        (json!(true), json!(99_999_999_999_i64), None),
        (json!(false), json!(15), None),
        (Value::Null, json!(15), None),
    ] {
        let mapped = event(json!({"isReminderOn": on, "reminderMinutesBeforeStart": minutes}));
        let actual = mapped
            .reminders
            .first()
            .map(|reminder| reminder.minutes_before);
        assert_eq!(actual, expected, "{on} {minutes}");
    }
}

#[test]
fn bodies_become_text() {
    let html = json!({"contentType": "HTML", "content": "<b>Hi</b>&nbsp;all"});
    for (body, preview, description, has_raw) in [
        (html, json!("p"), Some("Hi all"), true),
        (
            json!({"contentType": "text", "content": "a < b"}),
            json!("p"),
            Some("a < b"),
            false,
        ),
        (
            json!({"contentType": "html", "content": "<html></html>"}),
            json!("p"),
            None,
            true,
        ),
        (
            json!({"contentType": "html", "content": ""}),
            json!("p"),
            None,
            false,
        ),
        (Value::Null, json!("preview"), Some("preview"), false),
        (Value::Null, json!(""), None, false),
    ] {
        let mapped = event(json!({"body": body, "bodyPreview": preview}));
        assert_eq!(mapped.description.as_deref(), description, "{body}");
        assert_eq!(mapped.metadata.contains_key("body"), has_raw, "{body}");
    }
}

#[test]
fn locations_and_conversations_fall_back() {
    let mapped = event(json!({
        "location": {"displayName": ""},
        "locations": [{"displayName": ""}, {"displayName": "Second"}],
        "conversationId": "thread",
        "subject": "",
    }));
    assert_eq!(mapped.location.as_deref(), Some("Second"));
    assert_eq!(mapped.conversation_id.as_deref(), Some("thread"));
    assert_eq!(mapped.title, None);
    let mapped = event(json!({
        "location": {"displayName": "Only", "coordinates": {"latitude": 1.5}}, "locations": [],
    }));
    assert_eq!(mapped.metadata["location"]["coordinates"]["latitude"], 1.5);
    assert!(!mapped.metadata.contains_key("locations"));
}
