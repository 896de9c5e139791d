//! A calendar at the provider, in the store and behind the API, through edits, series and removals.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use calendar_e2e::{User, World, daily, day, eventually, midnight, timed};
use calendar_simulator::jiff::{Timestamp, ToSpan, tz::TimeZone};
use calendar_simulator::{OccurrenceChange, demo};
use reqwest::Method;
use serde_json::{Value, json};

const MAILBOX: &str = "ann@contoso.example";

async fn world_with_mailbox() -> (World, User) {
    let world = World::start().await;
    let user = world.mailbox_and_user(MAILBOX).await;
    (world, user)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_calendar_is_the_same_on_both_sides() {
    let world = World::start().await;
    let today = demo::today(&world.simulator);
    demo::fill(&world.simulator, today).unwrap();
    let user = world.user("alex@example.com").await;
    let connection = world.connect_primary(&user, demo::UPN).await;
    let (from, to) = (midnight(today - 80.days()), midnight(today + 360.days()));
    world
        .converge(&user, &connection, demo::UPN, &from, &to)
        .await;

    let primary = world.simulator.find_calendar(demo::UPN, None).unwrap();

    // The document's own query, run literally, returns each of today's Teams meetings once.
    let now = world.simulator.now().to_zoned(TimeZone::UTC).date();
    let client = world.database.connect().await;
    let rows = client
        .query(
            "SELECT * FROM calendar_events WHERE calendar_connection_id = $1::text::uuid AND teams_enabled = true \
             AND start_time >= CURRENT_DATE AND end_time < CURRENT_DATE + INTERVAL '1 day'",
            &[&connection],
        )
        .await
        .unwrap();
    let mut found: Vec<(String, String)> = rows
        .iter()
        .map(|row| {
            (
                row.get::<_, String>("title"),
                row.get::<_, String>("teams_meeting_url"),
            )
        })
        .collect();
    found.sort();
    let (start, end): (Timestamp, Timestamp) = (
        midnight(now).parse().unwrap(),
        midnight(now + 1.day()).parse().unwrap(),
    );
    let mut expected: Vec<(String, String)> = world
        .simulator
        .instances(demo::UPN, Some(&primary), start, end)
        .unwrap()
        .iter()
        .filter(|event| {
            event["isOnlineMeeting"] == true && event["onlineMeetingProvider"] == "teamsForBusiness"
        })
        .filter(|event| event["start"]["dateTime"].as_str().unwrap() >= now.to_string().as_str())
        .filter(|event| {
            event["end"]["dateTime"].as_str().unwrap() < (now + 1.day()).to_string().as_str()
        })
        .map(|event| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (
                text(&event["subject"]),
                text(&event["onlineMeeting"]["joinUrl"]),
            )
        })
        .collect();
    expected.sort();
    assert!(expected.len() >= 3, "{expected:?}");
    assert_eq!(found, expected);

    // Series and instances are two views: no master beside its first instance.
    let series = world
        .events(&user, &format!("connection_id={connection}&view=series"))
        .await;
    assert!(
        series
            .iter()
            .any(|event| event["recurrence"]["rule"].is_string())
    );
    let standup = series.iter().find(|event| {
        event["recurrence"]["exception_dates"]
            .as_array()
            .is_some_and(|dates| !dates.is_empty())
    });
    assert!(
        standup.is_some(),
        "the deleted occurrences of the stand-up are exception dates: {series:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_reach_the_api_under_the_same_id() {
    let (world, user) = world_with_mailbox().await;
    let (today, next) = (day(&world.simulator, 0), day(&world.simulator, 1));
    let id = world
        .simulator
        .create_event(MAILBOX, None, &timed("First", next, 10))
        .unwrap();
    let connection = world.connect_primary(&user, MAILBOX).await;
    let (from, to) = (midnight(today), midnight(day(&world.simulator, 7)));
    world
        .converge(&user, &connection, MAILBOX, &from, &to)
        .await;
    let listed = world
        .events(&user, &format!("connection_id={connection}"))
        .await;
    let ours = listed[0]["id"].as_str().unwrap().to_owned();

    world
        .simulator
        .edit_event(MAILBOX, &id, &json!({"subject": "Second"}))
        .unwrap();
    world
        .converge(&user, &connection, MAILBOX, &from, &to)
        .await;
    let got = world.get(&user, &format!("/v1/events/{ours}")).await;
    assert_eq!(got["title"], "Second");

    world
        .simulator
        .create_event(MAILBOX, None, &timed("Another", next, 11))
        .unwrap();
    world.simulator.delete_event(MAILBOX, &id).unwrap();
    world
        .converge(&user, &connection, MAILBOX, &from, &to)
        .await;
    let tombstones = world
        .events(
            &user,
            "updated_since=2020-01-01T00:00:00Z&include_deleted=true",
        )
        .await;
    let tombstone = tombstones
        .iter()
        .find(|event| event["id"] == ours.as_str())
        .unwrap();
    assert!(tombstone["deleted_at"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_follows_every_change_of_its_occurrences() {
    let (world, user) = world_with_mailbox().await;
    let (from, to) = (
        midnight(day(&world.simulator, -10)),
        midnight(day(&world.simulator, 20)),
    );
    let series = world
        .simulator
        .create_event(
            MAILBOX,
            None,
            &daily("Stand-up", day(&world.simulator, -400)),
        )
        .unwrap();
    let connection = world.connect_primary(&user, MAILBOX).await;
    let same = || world.converge(&user, &connection, MAILBOX, &from, &to);
    same().await;
    let change = |days: i64, change: OccurrenceChange| {
        world
            .simulator
            .change_occurrence(MAILBOX, &series, day(&world.simulator, days), &change)
            .unwrap();
    };
    change(3, OccurrenceChange::Delete);
    same().await;
    change(4, OccurrenceChange::Edit(json!({"subject": "Renamed"})));
    same().await;
    change(
        5,
        OccurrenceChange::Edit(timed("Moved", day(&world.simulator, 5), 15)),
    );
    same().await;
    change(6, OccurrenceChange::Delete);
    change(7, OccurrenceChange::Delete);
    same().await;
    // The deleted ones are exception dates of the master; nothing else is.
    let masters = world
        .events(&user, &format!("connection_id={connection}&view=series"))
        .await;
    let excluded: Vec<String> = [3, 6, 7]
        .map(|days| {
            format!(
                "{}T090000Z",
                day(&world.simulator, days).to_string().replace('-', "")
            )
        })
        .to_vec();
    let dates: Vec<String> = masters[0]["recurrence"]["exception_dates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|date| date.as_str().unwrap().replace([':', '-'], ""))
        .collect();
    assert_eq!(dates, excluded);

    world
        .simulator
        .edit_event(MAILBOX, &series, &json!({"subject": "Everybody"}))
        .unwrap();
    same().await;
    world
        .simulator
        .edit_event(
            MAILBOX,
            &series,
            &timed("Later", day(&world.simulator, -400), 16),
        )
        .unwrap();
    same().await;
    // It becomes a single event: Graph keeps the id and removes no occurrence by name.
    world
        .simulator
        .edit_event(MAILBOX, &series, &json!({ "recurrence": null }))
        .unwrap();
    same().await;
    let series = world
        .simulator
        .create_event(
            MAILBOX,
            None,
            &daily("Stand-up", day(&world.simulator, -400)),
        )
        .unwrap();
    same().await;
    world.simulator.delete_event(MAILBOX, &series).unwrap();
    same().await;
    let titles: Vec<String> = world
        .stored(&user, &connection, &from, &to)
        .await
        .into_iter()
        .map(|instance| instance.title)
        .collect();
    assert!(!titles.contains(&"Stand-up".to_owned()), "{titles:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "a list of hostile events")]
async fn hostile_events_are_stored_and_none_fails_the_pass() {
    let (world, user) = world_with_mailbox().await;
    let soon = day(&world.simulator, 1);
    let create = |event: Value| world.simulator.create_event(MAILBOX, None, &event).unwrap();
    let with = |subject: &str, members: Value| {
        let mut event = timed(subject, soon, 9);
        for (name, value) in members.as_object().unwrap() {
            event[name] = value.clone();
        }
        event
    };
    let attendee = |address: Option<&str>, name: &str| json!({"type": "required", "emailAddress": {"name": name, "address": address}});
    create(with(
        "NUL",
        json!({"raw": {"subject": "NUL\u{0}here", "bodyPreview": "\u{0}"}}),
    ));
    create(with("Long", json!({"raw": {"subject": "L".repeat(1_000)}})));
    let crowd: Vec<Value> = (0..500)
        .map(|n| attendee(Some(&format!("guest{n}@example.com")), "Guest"))
        .collect();
    create(with("Crowd", json!({ "attendees": crowd })));
    create(with(
        "Twins",
        json!({"raw": {"attendees": [attendee(Some("a@example.com"), "a"), attendee(Some("A@EXAMPLE.com"), "A"), attendee(None, "Room"), attendee(None, "Other room")]}}),
    ));
    create(with(
        "Zone",
        json!({"raw": {"originalStartTimeZone": "tzone://Microsoft/Custom", "originalEndTimeZone": "Nowhere Standard Time"}}),
    ));
    create(with(
        "Backwards",
        json!({"raw": {"end": {"dateTime": format!("{soon}T08:00:00.0000000"), "timeZone": "UTC"}}}),
    ));
    create(with(
        "Far",
        json!({"raw": {"end": {"dateTime": "9999-12-31T23:59:59.9999999", "timeZone": "UTC"}}}),
    ));
    create(with(
        "Body",
        json!({"body": {"contentType": "text", "content": "x".repeat(2_000_000)}}),
    ));
    create(with("Thrice", json!({"repeat": 3})));
    create(with("Upper", json!({"raw": {"id": "AAMkCASE="}})));
    create(with("Lower", json!({"raw": {"id": "AAMkcase="}})));
    create(with(
        "Broken",
        json!({"raw": {"start": {"dateTime": "not a time", "timeZone": "UTC"}}}),
    ));
    create(timed("Good", soon, 10));
    let connection = world.connect_primary(&user, MAILBOX).await;

    let events = world
        .events(&user, &format!("connection_id={connection}"))
        .await;
    let titles: Vec<&str> = events
        .iter()
        .map(|event| event["title"].as_str().unwrap())
        .collect();
    let named = |title: &str| {
        let found: Vec<&Value> = events
            .iter()
            .filter(|event| event["title"] == title)
            .collect();
        assert_eq!(found.len(), 1, "{title} among {titles:?}");
        found[0]
    };
    for title in ["NUL\u{FFFD}here", "Far", "Thrice", "Upper", "Lower", "Good"] {
        named(title);
    }
    named(&"L".repeat(500));
    assert_eq!(named("Crowd")["attendees"].as_array().unwrap().len(), 500);
    assert_eq!(named("Twins")["attendees"].as_array().unwrap().len(), 3);
    assert!(named("Zone")["timezone"].is_null());
    let body = world
        .get(
            &user,
            &format!("/v1/events/{}", named("Body")["id"].as_str().unwrap()),
        )
        .await;
    assert_eq!(
        body["description"].as_str().unwrap().trim().len(),
        2_000_000
    );
    assert!(!titles.contains(&"Broken") && !titles.contains(&"Backwards"));
    let state = world
        .get(&user, &format!("/v1/connections/{connection}"))
        .await;
    assert_eq!(state["status"], "connected");
    assert_eq!(state["counts"]["events_skipped"], 2, "{state:#}");
    let path = format!("/v1/connections/{connection}/rejected_events");
    let rejected = world.get(&user, &path).await;
    let mut reasons: Vec<(&str, &str)> = rejected["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            (
                event["raw"]["subject"].as_str().unwrap(),
                event["reason"].as_str().unwrap(),
            )
        })
        .collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [
            ("Backwards", "end_before_start"),
            ("Broken", "start_unreadable")
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnecting_ends_it_and_connecting_again_revives_the_same_ids() {
    let (world, user) = world_with_mailbox().await;
    world
        .simulator
        .create_event(MAILBOX, None, &timed("Kept", day(&world.simulator, 1), 10))
        .unwrap();
    let connection = world.connect_primary(&user, MAILBOX).await;
    let events = world
        .events(&user, &format!("connection_id={connection}"))
        .await;
    let event = events[0]["id"].as_str().unwrap().to_owned();

    let path = format!("/v1/connections/{connection}");
    world
        .call(Some(&user), Method::DELETE, &path, None)
        .await
        .expect(204);
    world
        .call(Some(&user), Method::GET, &path, None)
        .await
        .expect(404);
    world
        .call(
            Some(&user),
            Method::GET,
            &format!("/v1/events/{event}"),
            None,
        )
        .await
        .expect(404);
    assert!(world.events(&user, "").await.is_empty());
    let client = world.database.connect().await;
    let row = client
        .query_one(
            "SELECT access_token, refresh_token, is_connected FROM calendar_connections",
            &[],
        )
        .await
        .unwrap();
    let tokens: (Option<String>, Option<String>, bool) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(tokens, (None, None, false));

    let again = world.connect_primary(&user, MAILBOX).await;
    assert_eq!(again, connection);
    eventually("the event is back", || async {
        let events = world
            .events(&user, &format!("connection_id={connection}"))
            .await;
        events.len() == 1 && events[0]["id"] == event.as_str()
    })
    .await;
}
