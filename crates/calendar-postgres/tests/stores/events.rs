//! `EventStore::apply`: what a page writes, and what it leaves alone.

use calendar_domain::event::{
    Attendee, AttendeeType, EventChange, EventSpan, EventZone, Reminder, ReminderMethod,
    RsvpStatus, TeamsMeeting,
};
use calendar_domain::ports::{EventReader as _, EventStore as _};
use calendar_domain::rejected::RejectedEvent;
use calendar_domain::sync::{Applied, PassKind};
use serde_json::{Value, json};
use time::macros::date;

use crate::support::{
    World, attendee, change, event, exception, master, occurrence, pass, removed, single,
};

const ALL: &str = "SELECT count(*) FROM calendar_events";
const LIVE: &str = "SELECT count(*) FROM calendar_events WHERE deleted_at IS NULL";

#[tokio::test]
async fn new_events_are_inserted_with_attendees_and_reminders() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let applied = synced.full(vec![single("one", 3), single("two", 4)]).await;
    assert_eq!(
        applied,
        Applied {
            inserted: 2,
            ..Applied::default()
        }
    );
    assert_eq!(world.number(LIVE).await, 2);
    let children = "SELECT count(*) FROM event_attendees AS a JOIN calendar_events AS e
        ON e.id = a.event_id AND e.calendar_connection_id = a.calendar_connection_id";
    assert_eq!(world.number(children).await, 4);
    assert_eq!(
        world
            .number(&children.replace("attendees", "reminders"))
            .await,
        2
    );
    let stored = world
        .text("SELECT timezone || ' ' || sync_status || ' ' || created_at FROM calendar_events")
        .await;
    assert_eq!(
        stored.as_deref(),
        Some("Europe/Berlin SYNCED 2026-03-02 12:00:00+00")
    );
}

#[tokio::test]
async fn what_did_not_change_writes_no_row() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let page = || {
        vec![
            single("one", 3),
            change(master("m")),
            occurrence("o1", "m", 1),
            exception("x", "m", 2, 5),
        ]
    };
    synced.full(page()).await;
    let before = synced.tuples().await;
    let applied = synced.full(page()).await;
    assert_eq!(
        applied,
        Applied {
            unchanged: 4,
            touched_series: true,
            ..Applied::default()
        }
    );
    synced.delta(page()).await;
    assert_eq!(synced.tuples().await, before);
    assert!(!before.is_empty());
}

#[tokio::test]
async fn a_changed_event_keeps_its_id_and_writes_only_what_differs() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3), single("two", 4)]).await;
    let ids = synced.ids().await;
    let before = synced.tuples().await;
    let mut changed = event("one", 3);
    changed.attendees[1].rsvp_status = RsvpStatus::Declined;
    let applied = synced.delta(vec![change(changed)]).await;
    assert_eq!(
        applied,
        Applied {
            updated: 1,
            ..Applied::default()
        }
    );
    assert_eq!(synced.ids().await, ids);
    let after = synced.tuples().await;
    let kept = before.iter().filter(|tuple| after.contains(tuple)).count();
    assert_eq!(
        (before.len(), kept),
        (8, 6),
        "the event and one attendee were written anew"
    );
    let declined = "SELECT email::text FROM event_attendees WHERE rsvp_status = 'DECLINED'";
    assert_eq!(world.texts(declined).await, ["b@example.com"]);
}

#[tokio::test]
async fn attendees_and_reminders_come_and_go() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    let mut changed = event("one", 3);
    let room = |name: &str| Attendee {
        display_name: Some(name.to_owned()),
        attendee_type: AttendeeType::Resource,
        ..Attendee::default()
    };
    changed.attendees = vec![
        attendee("B@example.com", RsvpStatus::Tentative),
        room("Room 1"),
        room("Room 2"),
        attendee("c@example.com", RsvpStatus::Accepted),
        // Spelt as our own numbers are.
        attendee("urn:x-attendee:2", RsvpStatus::Accepted),
    ];
    changed.reminders = vec![Reminder {
        method: ReminderMethod::Email,
        minutes_before: 0,
    }];
    synced.delta(vec![change(changed.clone())]).await;
    let rows = world.texts("SELECT email || ' ' || rsvp_status || ' ' || attendee_type FROM event_attendees ORDER BY 1").await;
    assert_eq!(
        rows,
        [
            " NEEDS_ACTION resource",
            "B@example.com TENTATIVE required",
            "c@example.com ACCEPTED required",
            "urn:x-attendee:2 NEEDS_ACTION resource",
            "urn:x-attendee:3 ACCEPTED required",
        ]
    );
    assert_eq!(
        world
            .texts("SELECT method || ' ' || minutes_before FROM event_reminders")
            .await,
        ["EMAIL 0"]
    );
    let before = synced.tuples().await;
    synced.delta(vec![change(changed)]).await;
    assert_eq!(synced.tuples().await, before);
}

#[tokio::test]
async fn rows_of_an_older_application_are_adopted() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let sql = format!(
        "INSERT INTO calendar_events (calendar_connection_id, provider_event_id, title, start_time, end_time, attendees)
        VALUES ('{}', 'one', 'Old', '2026-03-03 10:00Z', '2026-03-03 11:00Z', '[]');
        INSERT INTO event_attendees (event_id, email) SELECT id, 'a@example.com' FROM calendar_events;
        INSERT INTO event_attendees (event_id, email) SELECT id, 'gone@example.com' FROM calendar_events;
        INSERT INTO event_reminders (event_id, minutes_before) SELECT id, 15 FROM calendar_events",
        synced.id
    );
    world.sql.batch_execute(&sql).await.unwrap();
    let ids = synced.ids().await;
    let applied = synced.full(vec![single("one", 3)]).await;
    assert_eq!(
        applied,
        Applied {
            updated: 1,
            ..Applied::default()
        }
    );
    assert_eq!(synced.ids().await, ids);
    let attendees = world
        .texts(
            "SELECT email FROM event_attendees WHERE calendar_connection_id IS NOT NULL ORDER BY 1",
        )
        .await;
    assert_eq!(attendees, ["a@example.com", "b@example.com"]);
    assert_eq!(
        world.number("SELECT count(*) FROM event_attendees").await,
        2
    );
    assert_eq!(
        world.number("SELECT count(*) FROM event_reminders").await,
        1
    );
}

#[tokio::test]
async fn the_deprecated_columns_say_the_same() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut one = event("one", 3);
    one.attendees = vec![Attendee {
        display_name: Some("Ada \u{0} L".to_owned()),
        is_organizer: true,
        attendee_type: AttendeeType::Optional,
        comment: Some("late".to_owned()),
        ..attendee("a@example.com", RsvpStatus::NeedsAction)
    }];
    synced
        .full(vec![
            change(one),
            change(master("m")),
            occurrence("o", "m", 1),
        ])
        .await;
    let sql = "SELECT attendees, reminders FROM calendar_events WHERE provider_event_id = $1";
    let row = world.sql.query_one(sql, &[&"one"]).await.unwrap();
    let expected = json!([{
        "email": "a@example.com", "displayName": "Ada \u{fffd} L", "responseStatus": "needsAction",
        "organizer": true, "optional": true, "comment": "late",
    }]);
    assert_eq!(row.get::<_, Value>(0), expected);
    assert_eq!(
        row.get::<_, Value>(1),
        json!([{"method": "popup", "minutes": 15}])
    );
    let master = world.sql.query_one(sql, &[&"m"]).await.unwrap();
    assert_eq!(master.get::<_, Value>(0).as_array().unwrap().len(), 2);
    let occurrence = world.sql.query_one(sql, &[&"o"]).await.unwrap();
    assert!(
        occurrence.get::<_, Option<Value>>(0).is_none()
            && occurrence.get::<_, Option<Value>>(1).is_none()
    );
    let mirrored =
        "SELECT count(*) FROM event_attendees AS a JOIN calendar_events AS e ON e.id = a.event_id
        WHERE e.attendees @> jsonb_build_array(jsonb_build_object('email', a.email))";
    assert_eq!(world.number(mirrored).await, 3);
}

#[tokio::test]
async fn the_last_of_a_page_wins() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut last = event("one", 3);
    last.title = Some("Last".to_owned());
    let applied = synced
        .full(vec![
            single("one", 3),
            single("two", 4),
            change(last),
            removed("two"),
        ])
        .await;
    assert_eq!(
        applied,
        Applied {
            inserted: 1,
            ignored: 1,
            ..Applied::default()
        }
    );
    assert_eq!(
        world
            .text("SELECT title::text FROM calendar_events")
            .await
            .as_deref(),
        Some("Last")
    );
}

#[tokio::test]
async fn ids_that_differ_only_in_case_are_two() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    assert_eq!(
        synced
            .full(vec![single("AAb", 3), single("AAB", 3)])
            .await
            .inserted,
        2
    );
}

#[tokio::test]
async fn a_removed_event_is_a_tombstone_that_comes_back_as_itself() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut teams = event("one", 3);
    teams.teams = Some(TeamsMeeting::default());
    synced.full(vec![change(teams.clone())]).await;
    let ids = synced.ids().await;
    let applied = synced
        .delta(vec![removed("one"), removed("never seen")])
        .await;
    assert_eq!(
        applied,
        Applied {
            removed: 1,
            ignored: 1,
            ..Applied::default()
        }
    );
    assert_eq!((world.number(ALL).await, world.number(LIVE).await), (1, 0));
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_events WHERE teams_enabled")
            .await,
        0
    );
    let before = synced.tuples().await;
    assert_eq!(
        synced
            .delta(vec![removed("one"), removed("never seen")])
            .await,
        Applied {
            ignored: 2,
            ..Applied::default()
        },
        "once is enough"
    );
    assert_eq!(synced.tuples().await, before);
    assert_eq!(synced.delta(vec![change(teams)]).await.updated, 1);
    assert_eq!(synced.ids().await, ids);
    assert_eq!(
        world
            .number(
                "SELECT count(*) FROM calendar_events WHERE teams_enabled AND deleted_at IS NULL"
            )
            .await,
        1
    );
}

#[tokio::test]
async fn a_rejected_entry_leaves_its_row_and_the_rest_is_stored() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    let before = synced.tuples().await;
    let rejected = RejectedEvent::new(Some("one".into()), "start_missing", "{}");
    let changes = vec![EventChange::Rejected(rejected), single("two", 4)];
    let applied = synced.full(changes).await;
    assert_eq!(
        applied,
        Applied {
            inserted: 1,
            skipped: 1,
            ..Applied::default()
        }
    );
    let after = synced.tuples().await;
    assert!(
        before.iter().all(|tuple| after.contains(tuple)),
        "not swept either"
    );
}

#[tokio::test]
async fn all_day_unresolved_zones_and_categories_stand_as_documented() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut holiday = event("one", 3);
    holiday.span = EventSpan::AllDay {
        start: date!(2026 - 03 - 03),
        end: date!(2026 - 03 - 05),
    };
    holiday.zone = Some(EventZone::Unresolved("Custom/Zone".to_owned()));
    holiday.categories = vec!["Red".to_owned(), "Ä \"b\"".to_owned()];
    synced.full(vec![change(holiday)]).await;
    let row = world
        .text("SELECT start_time || ' ' || end_time || ' ' || is_all_day || ' ' || coalesce(timezone, '-')
            || ' ' || timezone_unresolved || ' ' || outlook_categories FROM calendar_events")
        .await;
    let expected =
        "2026-03-03 00:00:00+00 2026-03-05 00:00:00+00 true - true [\"Red\",\"Ä \\\"b\\\"\"]";
    assert_eq!(row.as_deref(), Some(expected));
}

#[tokio::test]
async fn large_pages_and_large_bodies_fit() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let large = |number: u16, rsvp: RsvpStatus| {
        let mut one = event(&format!("e{number}"), 3);
        let guest = |n| {
            attendee(
                &format!("guest{n}@example.com"),
                if n == 0 { rsvp } else { RsvpStatus::Accepted },
            )
        };
        one.attendees = (0..500).map(guest).collect();
        if number < 12 {
            one.description = Some("x".repeat(2 << 20));
        }
        change(one)
    };
    let applied = synced
        .full(
            (0..60)
                .map(|number| large(number, RsvpStatus::Accepted))
                .collect(),
        )
        .await;
    assert_eq!(applied.inserted, 60);
    assert_eq!(
        world.number("SELECT count(*) FROM event_attendees").await,
        30_000
    );
    let applied = synced
        .full(
            (0..60)
                .map(|number| large(number, RsvpStatus::Declined))
                .collect(),
        )
        .await;
    assert_eq!(applied.updated, 60);
    let declined = "SELECT count(*) FROM event_attendees WHERE rsvp_status = 'DECLINED'";
    assert_eq!(world.number(declined).await, 60);
    assert_eq!(
        world
            .number("SELECT max(length(description))::bigint FROM calendar_events")
            .await,
        2 << 20
    );
}

#[tokio::test]
async fn masters_that_are_not_stored_are_named() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced
        .full(vec![
            change(master("m")),
            change(master("gone")),
            single("one", 3),
        ])
        .await;
    synced.delta(vec![removed("gone")]).await;
    let asked = ["m", "gone", "never", "one"].map(Into::into);
    let unknown = world
        .events
        .unknown_masters(synced.id, &asked)
        .await
        .unwrap();
    assert_eq!(unknown, ["gone", "never", "one"].map(Into::into));
    // An occurrence without its master is set aside; an exception stands alone.
    let applied = synced
        .delta(vec![
            occurrence("o", "never", 3),
            exception("x", "never", 4, 4),
        ])
        .await;
    assert_eq!((applied.skipped, applied.inserted), (1, 1));
}

#[tokio::test]
async fn a_page_is_stored_whole_or_not_at_all() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    world
        .sql
        .batch_execute("ALTER TABLE event_reminders ADD CHECK (minutes_before < 1000)")
        .await
        .unwrap();
    let mut bad = event("bad", 3);
    bad.reminders[0].minutes_before = 5_000;
    let full = pass(PassKind::Full);
    let then = calendar_domain::sync::AfterPage::Checkpoint(
        calendar_domain::sync::PassPosition::Page(calendar_domain::sync::Cursor("next".to_owned())),
    );
    let failed = synced
        .try_apply(&full, vec![single("one", 3), change(bad)], then)
        .await
        .unwrap_err();
    assert_eq!(failed.code, "value_refused");
    assert_eq!(world.number(ALL).await, 0);
    assert_eq!(
        world
            .number("SELECT count(*) FROM calendar_sync_states WHERE pass_id IS NOT NULL")
            .await,
        0
    );
    // The connection of the pool is as good as before.
    assert_eq!(synced.full(vec![single("one", 3)]).await.inserted, 1);
    assert_eq!(
        world
            .reader
            .list(crate::reading::query(synced.user))
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}
