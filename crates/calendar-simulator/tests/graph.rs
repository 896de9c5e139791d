//! Graph over HTTP, except delta: shapes, windows, writing, access, headers, errors, throttling.
//! Long because it is one table of behaviours, each by itself.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::collections::BTreeSet;

use calendar_simulator::jiff::civil::date;
use calendar_simulator::{Fault, OccurrenceChange, Quirks};
use reqwest::Method;
use serde_json::{Value, json};
use support::{ALEX, Bench, FROM, IMMUTABLE, MEGAN, TO, at, meeting, series, view};

#[tokio::test]
async fn a_full_event_has_every_member() {
    let bench = Bench::calm().await;
    let mut event = meeting("Lunch", "2026-03-05T10:00:00");
    event["isOnlineMeeting"] = true.into();
    let (status, made) = bench.send(Method::POST, "/me/events", &event).await;
    assert_eq!(status, 201);
    let members: BTreeSet<&str> = made
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    for member in [
        "@odata.context",
        "@odata.etag",
        "id",
        "createdDateTime",
        "lastModifiedDateTime",
        "changeKey",
        "categories",
        "originalStartTimeZone",
        "originalEndTimeZone",
        "iCalUId",
        "reminderMinutesBeforeStart",
        "isReminderOn",
        "hasAttachments",
        "hideAttendees",
        "subject",
        "bodyPreview",
        "importance",
        "sensitivity",
        "isAllDay",
        "isCancelled",
        "isDraft",
        "isOrganizer",
        "responseRequested",
        "seriesMasterId",
        "showAs",
        "type",
        "webLink",
        "onlineMeetingUrl",
        "isOnlineMeeting",
        "onlineMeetingProvider",
        "onlineMeeting",
        "allowNewTimeProposals",
        "responseStatus",
        "body",
        "start",
        "end",
        "location",
        "locations",
        "recurrence",
        "attendees",
        "organizer",
    ] {
        assert!(members.contains(member), "{member}");
    }
    assert!(!members.contains("transactionId") && !members.contains("originalStart"));
    assert_eq!(
        made["start"],
        json!({"dateTime": "2026-03-05T10:00:00.0000000", "timeZone": "UTC"})
    );
    assert_eq!(
        made["responseStatus"],
        json!({"response": "organizer", "time": "0001-01-01T00:00:00Z"})
    );
    assert_eq!(made["organizer"]["emailAddress"]["address"], ALEX);
    assert_eq!(
        made["@odata.etag"],
        format!("W/\"{}\"", made["changeKey"].as_str().unwrap())
    );
    let created = made["createdDateTime"].as_str().unwrap();
    assert_eq!(
        created.len(),
        "2026-01-01T10:00:00.0000000Z".len(),
        "{created}"
    );
    let meeting = &made["onlineMeeting"];
    assert!(
        meeting["joinUrl"]
            .as_str()
            .unwrap()
            .starts_with("https://teams.microsoft.com/l/meetup-join/")
    );
    assert!(meeting["conferenceId"].is_string() && meeting["tollNumber"].is_string());
    let id = made["id"].as_str().unwrap();
    assert!(id.len() > 140 && id.ends_with('='));
    assert_eq!(
        bench
            .read(&format!("/me/events/{}", id.replace('=', "%3D")))
            .await["subject"],
        "Lunch"
    );
    assert_eq!(
        bench
            .get(&format!("/me/events/{}", id.to_uppercase()))
            .await
            .status()
            .as_u16(),
        400
    );
}

#[tokio::test]
async fn teams_meetings_differ_in_what_they_offer() {
    let bench = Bench::calm().await;
    for n in 0..30 {
        let mut event = meeting(&format!("{n}"), "2026-03-05T10:00:00");
        event["isOnlineMeeting"] = true.into();
        bench.server.create_event(ALEX, None, &event).unwrap();
    }
    let events = bench.server.events(ALEX, None).unwrap();
    let with = |member: &str| {
        events
            .iter()
            .filter(|e| e["onlineMeeting"].get(member).is_some())
            .count()
    };
    for member in ["quickDial", "phones", "tollFreeNumbers"] {
        assert!(
            (1..30).contains(&with(member)),
            "{member}: {}",
            with(member)
        );
    }
    assert_eq!(with("joinUrl"), 30);
}

#[tokio::test]
async fn prefer_sets_zone_body_and_ids() {
    let bench = Bench::calm().await;
    let mut event = meeting("x", "2026-07-05T10:00:00");
    event["body"] = json!({"contentType": "html", "content": "<p>Hello &amp; <b>goodbye</b></p>"});
    let immutable = bench.server.create_event(ALEX, None, &event).unwrap();
    let path = format!("/me/events/{immutable}");
    for (prefer, start, zone) in [
        (
            "outlook.timezone=\"Pacific Standard Time\"",
            "2026-07-05T03:00:00.0000000",
            "Pacific Standard Time",
        ),
        (
            "outlook.timezone=\"Europe/Berlin\"",
            "2026-07-05T12:00:00.0000000",
            "Europe/Berlin",
        ),
        ("x=y", "2026-07-05T10:00:00.0000000", "UTC"),
    ] {
        let answer = bench
            .request(Method::GET, &path)
            .header("Prefer", prefer)
            .send()
            .await
            .unwrap();
        let applied = answer
            .headers()
            .get("preference-applied")
            .map(|v| v.to_str().unwrap().to_owned());
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["start"], json!({"dateTime": start, "timeZone": zone}));
        assert_eq!(applied.is_some(), prefer != "x=y", "{applied:?}");
    }
    let answer = bench
        .request(Method::GET, &path)
        .header("Prefer", "outlook.timezone=\"Mars\"")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 400);
    // Two headers, and two in one.
    let body: Value = bench
        .request(Method::GET, &path)
        .header("Prefer", "outlook.body-content-type=\"text\"")
        .header("Prefer", format!("{IMMUTABLE}, outlook.timezone=\"UTC\""))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        body["body"],
        json!({"contentType": "text", "content": "Hello & goodbye"})
    );
    assert_eq!(body["id"], immutable);
}

#[tokio::test]
async fn all_day_events_are_midnight_utc_in_every_zone() {
    let bench = Bench::calm().await;
    let mut event = series("Leave");
    for member in ["start", "end"] {
        event[member] = json!({"dateTime": if member == "start" { "2026-03-02T00:00:00" } else { "2026-03-03T00:00:00" }, "timeZone": "Pacific Standard Time"});
    }
    event["isAllDay"] = true.into();
    bench.server.create_event(ALEX, None, &event).unwrap();
    let body: Value = bench
        .request(Method::GET, &view())
        .header("Prefer", "outlook.timezone=\"Pacific Standard Time\"")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let row = &body["value"][0];
    assert_eq!(
        row["start"],
        json!({"dateTime": "2026-03-02T00:00:00.0000000", "timeZone": "UTC"})
    );
    assert_eq!(row["end"]["dateTime"], "2026-03-03T00:00:00.0000000");
    assert_eq!(row["originalStart"], "2026-03-02T08:00:00Z");
    // Midnight in two zones, noon, and nothing long are refused.
    for (start, end) in [
        (
            ("2026-03-02T12:00:00", "UTC"),
            ("2026-03-03T00:00:00", "UTC"),
        ),
        (
            ("2026-03-02T00:00:00", "UTC"),
            ("2026-03-02T00:00:00", "UTC"),
        ),
        (
            ("2026-03-02T00:00:00", "UTC"),
            ("2026-03-03T00:00:00", "Pacific Standard Time"),
        ),
    ] {
        let event = json!({"isAllDay": true, "start": {"dateTime": start.0, "timeZone": start.1}, "end": {"dateTime": end.0, "timeZone": end.1}});
        let (status, body) = bench.send(Method::POST, "/me/events", &event).await;
        assert_eq!(
            (status, body["error"]["code"].as_str().unwrap()),
            (400, "ErrorPropertyValidationFailure")
        );
    }
}

#[tokio::test]
async fn a_series_keeps_its_wall_clock_over_a_clock_change() {
    let bench = Bench::calm().await;
    let mut event = series("Stand-up");
    event["recurrence"]["range"] = json!({"type": "noEnd", "startDate": "2026-03-02"});
    let master = bench.server.create_event(ALEX, None, &event).unwrap();
    let path = format!(
        "/me/events/{master}/instances?startDateTime=2026-03-28T00:00:00Z&endDateTime=2026-03-31T00:00:00Z"
    );
    let body: Value = bench
        .request(Method::GET, &path)
        .header("Prefer", IMMUTABLE)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let starts: Vec<&str> = body["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["start"]["dateTime"].as_str().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "2026-03-28T08:00:00.0000000",
            "2026-03-29T07:00:00.0000000",
            "2026-03-30T07:00:00.0000000"
        ]
    );
    let row = &body["value"][0];
    assert_eq!(
        (&row["type"], &row["seriesMasterId"]),
        (&json!("occurrence"), &json!(master))
    );
    assert_eq!(row["originalStart"], "2026-03-28T08:00:00Z");
    assert_eq!(row["recurrence"], Value::Null);
}

#[tokio::test]
async fn windows_are_needed_and_offsets_count() {
    let bench = Bench::calm().await;
    bench
        .server
        .create_event(ALEX, None, &meeting("x", "2026-03-05T10:00:00"))
        .unwrap();
    for (window, expected) in [
        (
            "startDateTime=2026-03-05T10:30:00Z&endDateTime=2026-03-05T10:40:00Z",
            1,
        ),
        (
            "startDateTime=2026-03-05T11:00:00Z&endDateTime=2026-03-05T12:00:00Z",
            0,
        ),
        (
            "startDateTime=2026-03-05T09:00:00Z&endDateTime=2026-03-05T10:00:00Z",
            0,
        ),
        (
            "startDateTime=2026-03-05T12:00:00%2B02:00&endDateTime=2026-03-05T12:10:00%2B02:00",
            1,
        ),
        (
            "startDateTime=2026-03-05T12:00:00-02:00&endDateTime=2026-03-05T12:10:00-02:00",
            0,
        ),
        ("STARTDATETIME=2026-03-05&enddatetime=2026-03-06", 1),
        (
            "startDateTime=2026-03-05T10:00:00.0000000&endDateTime=2026-03-05T10:10:00",
            1,
        ),
    ] {
        let body = bench.read(&format!("/me/calendarView?{window}")).await;
        assert_eq!(
            body["value"].as_array().unwrap().len(),
            expected,
            "{window}"
        );
    }
    for (window, code) in [
        ("", "ErrorInvalidRequest"),
        ("startDateTime=2026-03-05T10:00:00Z", "ErrorInvalidRequest"),
        (
            "startDateTime=2026-03-05T10:00:00Z&endDateTime=soon",
            "ErrorInvalidRequest",
        ),
        (
            "startDateTime=2026-03-06T10:00:00Z&endDateTime=2026-03-05T10:00:00Z",
            "ErrorInvalidRequest",
        ),
        (
            "startDateTime=2020-03-06T10:00:00Z&endDateTime=2026-03-05T10:00:00Z",
            "ErrorCalendarViewRangeTooBig",
        ),
    ] {
        assert_eq!(
            bench.refusal(&format!("/me/calendarView?{window}")).await,
            (400, code.into()),
            "{window}"
        );
    }
}

#[tokio::test]
async fn lists_are_paged_and_can_be_selected_from() {
    let bench = Bench::calm().await;
    for n in 0..23 {
        bench
            .server
            .create_event(ALEX, None, &meeting(&format!("{n}"), "2026-03-05T10:00:00"))
            .unwrap();
    }
    bench
        .server
        .create_event(ALEX, None, &series("Stand-up"))
        .unwrap();
    for first in [
        "/me/events".to_owned(),
        "/me/calendar/events?$top=7".to_owned(),
        format!("/me/calendarView?startDateTime={FROM}&endDateTime={TO}&$top=7"),
    ] {
        let mut link = first.clone();
        let mut ids = BTreeSet::new();
        let mut pages = 0;
        loop {
            let body = bench.read(&link).await;
            pages += 1;
            for row in body["value"].as_array().unwrap() {
                assert!(ids.insert(row["id"].to_string()), "{first}: twice");
            }
            match body["@odata.nextLink"].as_str() {
                Some(next) => next.clone_into(&mut link),
                None => break,
            }
        }
        let expected = if first.contains("View") {
            (35, 5)
        } else if first.contains("top") {
            (24, 4)
        } else {
            (24, 3)
        };
        assert_eq!((ids.len(), pages), expected, "{first}");
    }
    let body = bench.read("/me/events?$select=subject&$top=1").await;
    let members: BTreeSet<&str> = body["value"][0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(members, BTreeSet::from(["@odata.etag", "id", "subject"]));
    assert_eq!(
        bench.refusal("/me/events?$filter=x").await,
        (501, "SimulatorUnsupported".into())
    );
    assert_eq!(bench.refusal("/me/events?$top=many").await.0, 400);
}

#[tokio::test]
async fn clients_create_change_and_delete() {
    let bench = Bench::calm().await;
    let mut event = meeting("x", "2026-03-05T10:00:00");
    event["transactionId"] = "one".into();
    event["importance"] = "High".into();
    event["attendees"] =
        json!([{"type": "Required", "emailAddress": {"address": "a@example.com"}}]);
    event["organizer"] = json!({"emailAddress": {"address": "evil@example.com"}});
    let (status, made) = bench.send(Method::POST, "/me/events", &event).await;
    assert_eq!(
        (status, made["importance"].as_str().unwrap()),
        (201, "high")
    );
    assert_eq!(made["attendees"][0]["type"], "required");
    assert_eq!(
        made["organizer"]["emailAddress"]["address"], ALEX,
        "clients do not choose the organizer"
    );
    let (_, again) = bench.send(Method::POST, "/me/events", &event).await;
    assert_eq!(
        again["id"], made["id"],
        "the same transaction is the same event"
    );
    assert_eq!(bench.server.events(ALEX, None).unwrap().len(), 1);

    let path = format!("/me/events/{}", made["id"].as_str().unwrap());
    let (status, changed) = bench
        .send(Method::PATCH, &path, &json!({"subject": "y"}))
        .await;
    assert_eq!((status, changed["subject"].as_str().unwrap()), (200, "y"));
    assert_ne!(changed["changeKey"], made["changeKey"]);
    for (etag, expected) in [
        (made["@odata.etag"].as_str().unwrap(), 412),
        (changed["@odata.etag"].as_str().unwrap(), 200),
    ] {
        let answer = bench
            .request(Method::PATCH, &path)
            .header("If-Match", etag)
            .json(&json!({"subject": "z"}))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), expected);
    }
    assert_eq!(bench.send(Method::DELETE, &path, &json!({})).await.0, 204);
    assert_eq!(
        bench.refusal(&path).await,
        (404, "ErrorItemNotFound".into())
    );
    assert_eq!(bench.send(Method::DELETE, &path, &json!({})).await.0, 404);
}

#[tokio::test]
async fn nonsense_is_refused_with_graphs_codes() {
    let bench = Bench::calm().await;
    let base = meeting("x", "2026-03-05T10:00:00");
    let attendees: Vec<Value> = (0..501)
        .map(|n| json!({"emailAddress": {"address": format!("p{n}@example.com")}}))
        .collect();
    for (change, code) in [
        (json!({"start": null}), "ErrorPropertyValidationFailure"),
        (
            json!({"start": {"dateTime": "2026-03-05T10:00:00", "timeZone": "Mars"}}),
            "TimeZoneNotSupportedException",
        ),
        (
            json!({"start": {"dateTime": "yesterday", "timeZone": "UTC"}}),
            "RequestBodyRead",
        ),
        (json!({"start": {"timeZone": "UTC"}}), "ErrorInvalidRequest"),
        (
            json!({"end": {"dateTime": "2026-03-05T09:00:00", "timeZone": "UTC"}}),
            "ErrorPropertyValidationFailure",
        ),
        (json!({"importance": "urgent"}), "RequestBodyRead"),
        (json!({"attendees": attendees}), "ErrorInvalidRequest"),
        (
            json!({"attendees": [{"emailAddress": {}}]}),
            "ErrorInvalidRecipients",
        ),
        (json!({"isReminderOn": "maybe"}), "ErrorInvalidRequest"),
        (
            json!({"reminderMinutesBeforeStart": 99_999_999_999_i64}),
            "ErrorInvalidRequest",
        ),
        (
            json!({"recurrence": {"pattern": {"type": "hourly", "interval": 1}, "range": {"type": "noEnd"}}}),
            "ErrorPropertyValidationFailure",
        ),
        (
            json!({"recurrence": {"pattern": {"type": "daily", "interval": 1}, "range": {"type": "noEnd", "startDate": "2026-03-06"}}}),
            "ErrorPropertyValidationFailure",
        ),
    ] {
        let mut event = base.clone();
        event
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let (status, body) = bench.send(Method::POST, "/me/events", &event).await;
        assert_eq!(
            (status, body["error"]["code"].as_str().unwrap()),
            (400, code),
            "{change}"
        );
    }
    for body in ["", "{", "[]", "\u{0}", "3"] {
        let answer = bench
            .request(Method::POST, "/me/events")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status().as_u16(), 400, "{body}");
    }
    for (method, path, status) in [
        (Method::GET, "/me/nothing", 400),
        (Method::GET, "/nothing", 400),
        (Method::GET, "/me/events/nonsense", 400),
        (Method::GET, "/me/calendars/nonsense", 400),
        (Method::DELETE, "/me", 405),
        (Method::POST, "/me/calendarView", 405),
        (Method::PUT, "/me/events", 405),
        (Method::GET, "/users/nobody@example.com", 404),
        (Method::GET, "/me/events/a/b/c/d", 400),
        (Method::GET, "/users/%00%ff", 404),
    ] {
        assert_eq!(
            bench.send(method.clone(), path, &json!({})).await.0,
            status,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn occurrences_can_be_changed_within_their_neighbours() {
    let bench = Bench::calm().await;
    let mut event = series("Weekly");
    event["recurrence"]["pattern"] =
        json!({"type": "weekly", "interval": 1, "daysOfWeek": ["monday"]});
    let master = bench.server.create_event(ALEX, None, &event).unwrap();
    let id = bench
        .server
        .occurrence_id(ALEX, &master, date(2026, 3, 9))
        .unwrap();
    let path = format!("/me/events/{id}");
    let on = |day: u32| {
        json!({
            "start": {"dateTime": format!("2026-03-{day:02}T09:00:00"), "timeZone": "W. Europe Standard Time"},
            "end": {"dateTime": format!("2026-03-{day:02}T09:30:00"), "timeZone": "W. Europe Standard Time"},
        })
    };
    for (day, expected) in [(2, 400), (3, 200), (16, 400), (17, 400), (15, 200)] {
        let (status, body) = bench.send(Method::PATCH, &path, &on(day)).await;
        assert_eq!(status, expected, "{day}: {body}");
        if status == 400 {
            assert_eq!(body["error"]["code"], "ErrorOccurrenceCrossingBoundary");
        }
    }
    let body: Value = bench
        .request(Method::GET, &path)
        .header("Prefer", IMMUTABLE)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        (
            &body["type"],
            &body["originalStart"],
            &body["seriesMasterId"]
        ),
        (
            &json!("exception"),
            &json!("2026-03-09T08:00:00Z"),
            &json!(master)
        )
    );
    // The master's change reaches the exception, where it has not said otherwise.
    bench
        .server
        .edit_event(ALEX, &master, &json!({"subject": "Renamed"}))
        .unwrap();
    assert_eq!(bench.read(&path).await["subject"], "Renamed");
    assert_eq!(bench.send(Method::DELETE, &path, &json!({})).await.0, 204);
    assert_eq!(bench.refusal(&path).await.0, 404);
    let path = format!("/me/events/{master}?$select=subject,cancelledOccurrences");
    let cancelled = &bench.read(&path).await["cancelledOccurrences"];
    assert!(
        cancelled[0].as_str().unwrap().ends_with(".2026-03-09"),
        "{cancelled}"
    );
}

#[tokio::test]
async fn instances_leave_cancelled_ones_out_and_the_view_does_not() {
    let bench = Bench::calm().await;
    let master = bench
        .server
        .create_event(ALEX, None, &series("Stand-up"))
        .unwrap();
    bench
        .server
        .change_occurrence(ALEX, &master, date(2026, 3, 5), &OccurrenceChange::Cancel)
        .unwrap();
    bench
        .server
        .change_occurrence(ALEX, &master, date(2026, 3, 6), &OccurrenceChange::Delete)
        .unwrap();
    let body = bench
        .read(&format!(
            "/me/events/{master}/instances?startDateTime={FROM}&endDateTime={TO}&$top=50"
        ))
        .await;
    assert_eq!(body["value"].as_array().unwrap().len(), 10);
    let rows = bench.read(&view()).await["value"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(rows.len(), 11);
    assert!(
        rows.iter()
            .any(|row| row["isCancelled"] == true && row["subject"] == "Canceled: Stand-up")
    );
    assert_eq!(
        bench
            .server
            .instances(ALEX, None, at(FROM), at(TO))
            .unwrap()
            .len(),
        11
    );
    assert_eq!(
        bench
            .refusal(&format!("/me/events/{master}/instances"))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn invitations_are_answered_and_meetings_cancelled_by_their_organizer() {
    let bench = Bench::calm().await;
    let mut event = meeting("Invitation", "2026-03-05T10:00:00");
    event["organizer"] = json!({"emailAddress": {"name": "Megan", "address": MEGAN}});
    let id = bench.server.create_event(ALEX, None, &event).unwrap();
    let path = format!("/me/events/{id}");
    let before = bench.read(&path).await;
    assert_eq!(
        (
            &before["isOrganizer"],
            &before["responseStatus"]["response"],
            &before["showAs"]
        ),
        (&json!(false), &json!("notResponded"), &json!("tentative"))
    );
    for (action, response) in [
        ("accept", "accepted"),
        ("tentativelyAccept", "tentativelyAccepted"),
        ("microsoft.graph.decline", "declined"),
    ] {
        assert_eq!(
            bench
                .send(
                    Method::POST,
                    &format!("{path}/{action}"),
                    &json!({"comment": "x"})
                )
                .await
                .0,
            202
        );
        assert_eq!(
            bench.read(&path).await["responseStatus"]["response"],
            response
        );
    }
    let proposal = json!({"SendResponse": false, "ProposedNewTime": {"start": {}, "end": {}}});
    assert_eq!(
        bench
            .send(Method::POST, &format!("{path}/decline"), &proposal)
            .await
            .0,
        400
    );
    let (status, body) = bench
        .send(Method::POST, &format!("{path}/cancel"), &json!({}))
        .await;
    assert_eq!(status, 400);
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("organizer")
    );
    let own = bench
        .server
        .create_event(ALEX, None, &meeting("Own", "2026-03-05T10:00:00"))
        .unwrap();
    assert_eq!(
        bench
            .send(
                Method::POST,
                &format!("/me/events/{own}/accept"),
                &json!({})
            )
            .await
            .0,
        400
    );
    assert_eq!(
        bench
            .send(
                Method::POST,
                &format!("/me/events/{own}/cancel"),
                &json!({})
            )
            .await
            .0,
        202
    );
    assert_eq!(bench.refusal(&format!("/me/events/{own}")).await.0, 404);
    assert_eq!(
        bench
            .send(Method::POST, &format!("{path}/explode"), &json!({}))
            .await
            .0,
        400
    );
}

#[tokio::test]
async fn other_mailboxes_open_only_when_shared() {
    let bench = Bench::calm().await;
    let sim = &bench.server;
    let event = sim
        .create_event(MEGAN, None, &meeting("Hers", "2026-03-05T10:00:00"))
        .unwrap();
    let window = format!("startDateTime={FROM}&endDateTime={TO}");
    let paths = [
        format!("/users/{MEGAN}/calendar"),
        format!("/users/{MEGAN}/calendars"),
        format!("/users/{MEGAN}/events"),
        format!("/users/{MEGAN}/events/{event}"),
        format!("/users/{MEGAN}/calendarView?{window}"),
        format!("/users/{MEGAN}/calendarView/delta?{window}"),
    ];
    for path in &paths {
        assert_eq!(
            bench.refusal(path).await,
            (403, "ErrorAccessDenied".into()),
            "{path}"
        );
    }
    sim.share_calendar(MEGAN, None, ALEX, false).unwrap();
    for path in &paths {
        assert_eq!(bench.get(path).await.status().as_u16(), 200, "{path}");
    }
    assert_eq!(
        bench.refusal(&format!("/me/events/{event}")).await.0,
        404,
        "valid in her mailbox only"
    );
    assert_eq!(
        bench
            .send(Method::PATCH, &paths[3], &json!({"subject": "x"}))
            .await
            .0,
        403
    );
    assert_eq!(bench.read(&paths[0]).await["canEdit"], false);
    sim.share_mailbox(MEGAN, ALEX, true).unwrap();
    assert_eq!(
        bench
            .send(Method::PATCH, &paths[3], &json!({"subject": "x"}))
            .await
            .0,
        200
    );
    sim.unshare(MEGAN, ALEX).unwrap();
    assert_eq!(bench.refusal(&paths[0]).await.0, 403);

    // A custom calendar becomes a copy in the list of the one it is shared with.
    sim.create_calendar(MEGAN, "Team").unwrap();
    sim.create_event(
        MEGAN,
        Some("Team"),
        &meeting("Shared", "2026-03-05T10:00:00"),
    )
    .unwrap();
    let copy = sim.share_calendar(MEGAN, Some("Team"), ALEX, true).unwrap();
    let listed = bench.read("/me/calendars").await["value"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(
        (
            listed[1]["id"].as_str().unwrap(),
            &listed[1]["owner"]["address"],
            &listed[1]["canShare"],
            &listed[1]["canEdit"]
        ),
        (copy.as_str(), &json!(MEGAN), &json!(false), &json!(true))
    );
    let round = bench
        .round(
            &format!("/me/calendars/{copy}/calendarView/delta?{window}"),
            IMMUTABLE,
        )
        .await;
    let id = round.rows[0]["id"].as_str().unwrap();
    assert_eq!(
        bench.read(&format!("/me/events/{id}")).await["subject"],
        "Shared"
    );
    assert_eq!(
        bench
            .send(
                Method::PATCH,
                &format!("/me/calendars/{copy}/events/{id}"),
                &json!({"subject": "y"})
            )
            .await
            .0,
        200
    );
    let round = bench.round(&round.link, IMMUTABLE).await;
    assert_eq!(round.rows[0]["subject"], "y");
    let default = sim.find_calendar(ALEX, None).unwrap();
    assert_eq!(
        bench
            .refusal(&format!("/me/calendars/{default}/events/{id}"))
            .await
            .0,
        404,
        "another calendar's event"
    );
}

#[tokio::test]
async fn user_settings_and_calendars_are_shown() {
    let bench = Bench::calm().await;
    let me = bench.read("/me").await;
    assert_eq!(
        (&me["userPrincipalName"], &me["displayName"]),
        (&json!(ALEX), &json!("Alex Wilber"))
    );
    assert_eq!(
        bench
            .read(&format!("/users/{}", me["id"].as_str().unwrap()))
            .await["mail"],
        ALEX
    );
    assert_eq!(
        bench.read("/me/mailboxSettings").await["timeZone"],
        "W. Europe Standard Time"
    );
    let (status, made) = bench
        .send(Method::POST, "/me/calendars", &json!({"name": "Second"}))
        .await;
    assert_eq!(
        (status, made["isDefaultCalendar"].as_bool()),
        (201, Some(false))
    );
    assert_eq!(
        bench
            .send(Method::POST, "/me/calendars", &json!({"name": "Second"}))
            .await
            .0,
        409
    );
    for n in 0..12 {
        bench.server.create_calendar(ALEX, &format!("{n}")).unwrap();
    }
    let page = bench.read("/me/calendars").await;
    assert_eq!(page["value"].as_array().unwrap().len(), 10);
    let rest = bench.read(page["@odata.nextLink"].as_str().unwrap()).await;
    assert_eq!(rest["value"].as_array().unwrap().len(), 4);
    assert_eq!(bench.read("/me/calendar").await["isDefaultCalendar"], true);
    let id = made["id"].as_str().unwrap();
    bench.server.delete_calendar(ALEX, id).unwrap();
    assert_eq!(
        bench.refusal(&format!("/me/calendars/{id}")).await,
        (404, "ErrorItemNotFound".into())
    );
}

#[tokio::test]
async fn answers_carry_graphs_headers_and_errors_its_body() {
    let bench = Bench::calm().await;
    bench.server.set_clock(at("2026-01-01T00:00:00Z"), true);
    let token = bench.server.issue_access_token(ALEX).unwrap();
    let answer = bench
        .http
        .get(format!("{}/me", bench.server.graph_url()))
        .bearer_auth(&token)
        .header("client-request-id", "mine")
        .send()
        .await
        .unwrap();
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(header("client-request-id"), "mine");
    assert_eq!(header("OData-Version"), "4.0");
    assert_eq!(
        header("Content-Type"),
        "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"
    );
    assert_eq!(header("Date"), "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(header("request-id").len(), 36);
    let answer = bench
        .http
        .get(format!("{}/me/nothing", bench.server.graph_url()))
        .bearer_auth(&token)
        .send()
        .await
        .unwrap();
    let id = answer
        .headers()
        .get("request-id")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let body: Value = answer.json().await.unwrap();
    assert_eq!(
        body["error"]["innerError"],
        json!({"date": "2026-01-01T00:00:00", "request-id": id, "client-request-id": id})
    );
}

#[tokio::test]
async fn a_fifth_request_at_a_time_is_throttled() {
    let bench = Bench::with(Quirks {
        mailbox_concurrency: 4,
        latency_ms: 300,
        retry_after_seconds: Some(7),
        ..Quirks::none()
    })
    .await;
    let statuses = |answers: Vec<reqwest::Response>| {
        let mut all: Vec<u16> = answers.iter().map(|a| a.status().as_u16()).collect();
        all.sort_unstable();
        all
    };
    let burst = |n: usize| {
        let requests: Vec<_> = (0..n)
            .map(|_| tokio::spawn(bench.request(Method::GET, "/me").send()))
            .collect();
        async move {
            let mut answers = Vec::new();
            for request in requests {
                answers.push(request.await.unwrap().unwrap());
            }
            answers
        }
    };
    let answers = burst(6).await;
    let throttled = answers.iter().find(|a| a.status().as_u16() == 429).unwrap();
    assert_eq!(throttled.headers().get("retry-after").unwrap(), "7");
    assert_eq!(statuses(answers), [200, 200, 200, 200, 429, 429]);
    assert_eq!(statuses(burst(4).await), [200; 4]);
    bench.server.set_quirks(Quirks {
        latency_ms: 300,
        ..Quirks::none()
    });
    assert_eq!(statuses(burst(6).await), [200; 6]);
    // Without Retry-After, as was seen too.
    bench.server.set_quirks(Quirks {
        mailbox_concurrency: 1,
        latency_ms: 300,
        retry_after_seconds: None,
        ..Quirks::none()
    });
    let answers = burst(2).await;
    let throttled = answers
        .into_iter()
        .find(|a| a.status().as_u16() == 429)
        .unwrap();
    assert_eq!(throttled.headers().get("retry-after"), None);
    let body: Value = throttled.json().await.unwrap();
    assert_eq!(body["error"]["code"], "ApplicationThrottled");
}

#[tokio::test]
async fn scripted_answers_are_given_once_and_in_order() {
    let bench = Bench::calm().await;
    bench.server.script_fault(Fault {
        path_contains: "/CALENDARVIEW/delta".into(),
        skip: 1,
        status: 503,
        headers: vec![("Retry-After".into(), "3".into())],
        body: json!({"error": {"code": "serviceNotAvailable", "message": ""}}),
        ..Fault::default()
    });
    bench.server.script_fault(Fault {
        path_contains: "/me/calendars".into(),
        status: 502,
        body: "<html>".into(),
        method: Some("get".into()),
        mailbox: Some(ALEX.into()),
        ..Fault::default()
    });
    bench.server.script_fault(Fault {
        path_contains: "/me/calendars".into(),
        mailbox: Some(MEGAN.into()),
        status: 500,
        ..Fault::default()
    });
    assert_eq!(
        bench.get(&support::delta()).await.status().as_u16(),
        200,
        "the first is let through"
    );
    let answer = bench.get(&support::delta()).await;
    assert_eq!(
        (
            answer.status().as_u16(),
            answer
                .headers()
                .get("retry-after")
                .unwrap()
                .to_str()
                .unwrap()
        ),
        (503, "3")
    );
    assert_eq!(
        bench.get(&support::delta()).await.status().as_u16(),
        200,
        "once"
    );
    let answer = bench.get("/me/calendars").await;
    assert_eq!(answer.status().as_u16(), 502);
    assert_eq!(answer.text().await.unwrap(), "<html>");
    assert_eq!(bench.get("/me/calendars").await.status().as_u16(), 200);
    assert_eq!(
        bench.server.pending_faults().len(),
        1,
        "the other mailbox's waits"
    );
    bench.server.clear_faults();
    assert_eq!(bench.server.pending_faults().len(), 0);
}

#[tokio::test]
async fn a_body_in_a_patch_can_take_the_link_away() {
    for (quirk, kept) in [(false, true), (true, false)] {
        let bench = Bench::with(Quirks {
            patch_body_drops_join_url: quirk,
            ..Quirks::none()
        })
        .await;
        let mut event = meeting("x", "2026-03-05T10:00:00");
        event["isOnlineMeeting"] = true.into();
        let id = bench.server.create_event(ALEX, None, &event).unwrap();
        let (_, changed) = bench
            .send(
                Method::PATCH,
                &format!("/me/events/{id}"),
                &json!({"body": {"contentType": "text", "content": "a < b"}}),
            )
            .await;
        assert_eq!(changed["onlineMeeting"]["joinUrl"].is_string(), kept);
        assert_eq!(changed["bodyPreview"], "a < b");
    }
}

#[tokio::test]
async fn a_series_whose_times_change_loses_its_exceptions() {
    let bench = Bench::calm().await;
    let master = bench
        .server
        .create_event(ALEX, None, &series("Stand-up"))
        .unwrap();
    let change = OccurrenceChange::Edit(json!({"subject": "Other"}));
    bench
        .server
        .change_occurrence(ALEX, &master, date(2026, 3, 5), &change)
        .unwrap();
    let later = json!({
        "start": {"dateTime": "2026-03-02T11:00:00", "timeZone": "W. Europe Standard Time"},
        "end": {"dateTime": "2026-03-02T11:15:00", "timeZone": "W. Europe Standard Time"},
    });
    let path = format!("/me/events/{master}");
    assert_eq!(bench.send(Method::PATCH, &path, &later).await.0, 200);
    let rows = bench
        .server
        .instances(ALEX, None, at(FROM), at(TO))
        .unwrap();
    assert_eq!(rows.len(), 12);
    for row in rows {
        assert_eq!(row["type"], "occurrence");
        assert!(
            row["start"]["dateTime"]
                .as_str()
                .unwrap()
                .ends_with("T10:00:00.0000000"),
            "{row}"
        );
    }
}
