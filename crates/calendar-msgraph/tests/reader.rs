//! Calendars and change feeds of the simulator's Graph, with its oddities on.

mod support;

use std::collections::BTreeSet;

use calendar_domain::event::{
    EventChange, EventKind, EventMoment, ProviderEventId, Reminder, ReminderMethod,
};
use calendar_domain::ports::{CalendarDirectory, CalendarReader};
use calendar_domain::sync::{CalendarRef, ChangesFrom, Mailbox};
use calendar_simulator::OccurrenceChange;
use calendar_simulator::jiff::civil::date;
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{ADA, Bench, PREFER, WINDOW, daily, events, meeting};
use time::macros::datetime;

#[tokio::test]
async fn prefer_goes_with_every_page_and_the_ids_stay_the_same() {
    let bench = Bench::start().await;
    let mut created = BTreeSet::new();
    for n in 1..=23 {
        let day = format!("2026-03-{n:02}");
        let event = meeting("x", &format!("{day}T10:00:00"), &format!("{day}T11:00:00"));
        created.insert(bench.server.create_event(ADA, None, &event).unwrap());
    }
    bench.server.clear_requests();
    let (pages, changes, delta) = bench.round(ChangesFrom::Start(WINDOW)).await;
    assert!(pages >= 5, "{pages} pages");
    let seen: BTreeSet<String> = events(&changes)
        .iter()
        .map(|event| event.id.0.clone())
        .collect();
    assert_eq!(seen, created, "immutable ids, on every page");

    let (_, changes, _) = bench.round(ChangesFrom::Cursor(delta)).await;
    assert!(events(&changes).is_empty(), "nothing changed: {changes:?}");

    let requests = bench.server.requests();
    assert_eq!(
        requests
            .iter()
            .filter(|request| request.path.contains("calendarView/delta"))
            .count(),
        requests.len()
    );
    for request in requests {
        assert_eq!(
            request.prefer.as_deref(),
            Some(format!("{PREFER}5").as_str()),
            "{}",
            request.query
        );
        assert!(request.authorized);
        assert_eq!(request.status, 200);
    }
}

#[tokio::test]
async fn a_series_comes_as_master_stubs_and_exceptions() {
    let bench = Bench::start().await;
    let master = bench
        .server
        .create_event(ADA, None, &daily("Stand-up"))
        .unwrap();
    let moved = json!({
        "start": {"dateTime": "2026-03-04T15:00:00", "timeZone": "W. Europe Standard Time"},
        "end": {"dateTime": "2026-03-04T15:15:00", "timeZone": "W. Europe Standard Time"},
    });
    bench
        .server
        .change_occurrence(
            ADA,
            &master,
            date(2026, 3, 4),
            &OccurrenceChange::Edit(moved),
        )
        .unwrap();
    bench
        .server
        .change_occurrence(ADA, &master, date(2026, 3, 9), &OccurrenceChange::Delete)
        .unwrap();
    let changes = bench.first_round().await;
    let mut starts = BTreeSet::new();
    for change in &changes {
        match change {
            EventChange::Occurrence(occurrence) => {
                assert_eq!(occurrence.master.0, master);
                starts.insert(occurrence.span.start());
            }
            EventChange::Event(event) => match &event.kind {
                EventKind::Master {
                    rule,
                    exception_dates: None,
                } => {
                    let rule = rule.as_ref().unwrap().to_string();
                    assert_eq!(
                        rule,
                        "FREQ=WEEKLY;UNTIL=20260630T215959Z;BYDAY=MO,WE;WKST=SU"
                    );
                    assert_eq!(
                        event.span.start(),
                        EventMoment::Instant(datetime!(2026-02-02 08:00 UTC))
                    );
                }
                EventKind::Exception {
                    master: of,
                    original_start,
                } => {
                    assert_eq!(of.0, master);
                    assert_eq!(
                        *original_start,
                        EventMoment::Instant(datetime!(2026-03-04 08:00 UTC))
                    );
                    assert_eq!(
                        event.span.start(),
                        EventMoment::Instant(datetime!(2026-03-04 14:00 UTC))
                    );
                }
                other => panic!("{other:?}"),
            },
            EventChange::Removed(_) => {}
            EventChange::Rejected(rejected) => panic!("{rejected:?}"),
        }
    }
    // Nine Mondays and Wednesdays in March, but for the moved and the deleted one; summer time from
    // the 29th.
    assert_eq!(starts.len(), 7);
    assert!(starts.contains(&EventMoment::Instant(datetime!(2026-03-02 08:00 UTC))));
    assert!(starts.contains(&EventMoment::Instant(datetime!(2026-03-30 07:00 UTC))));
    assert!(!starts.contains(&EventMoment::Instant(datetime!(2026-03-09 08:00 UTC))));
}

#[tokio::test]
async fn instances_are_read_over_all_pages() {
    let bench = Bench::start().await;
    let master = bench
        .server
        .create_event(ADA, None, &daily("Stand-up"))
        .unwrap();
    bench
        .server
        .change_occurrence(
            ADA,
            &master,
            date(2026, 3, 4),
            &OccurrenceChange::Edit(json!({"subject": "Other"})),
        )
        .unwrap();
    let id = ProviderEventId(master.clone());
    bench.server.clear_requests();
    let instances = bench
        .graph
        .instances(&bench.token, &bench.calendar, &id, WINDOW)
        .await
        .unwrap();
    assert!(bench.server.requests().len() > 1);
    assert!(
        bench
            .server
            .requests()
            .iter()
            .all(|r| r.prefer.as_deref() == Some(&format!("{PREFER}5")))
    );
    let occurrences = instances
        .iter()
        .filter(|change| matches!(change, EventChange::Occurrence(_)));
    assert_eq!((instances.len(), occurrences.count()), (9, 8));

    bench.server.delete_event(ADA, &master).unwrap();
    let gone = bench
        .graph
        .instances(&bench.token, &bench.calendar, &id, WINDOW)
        .await
        .unwrap();
    assert!(gone.is_empty());
}

#[tokio::test]
async fn one_event_is_whole_or_gone() {
    let bench = Bench::start().await;
    let event = meeting("Once", "2026-03-05T10:00:00", "2026-03-05T11:00:00");
    let id = bench.server.create_event(ADA, None, &event).unwrap();
    let master = bench
        .server
        .create_event(ADA, None, &daily("Stand-up"))
        .unwrap();
    let occurrence = bench
        .server
        .occurrence_id(ADA, &master, date(2026, 3, 4))
        .unwrap();
    let read = async |id: &str| {
        bench
            .graph
            .event(&bench.token, &bench.calendar, &ProviderEventId::from(id))
            .await
            .unwrap()
    };
    let found = read(&id).await;
    assert!(
        matches!(&found, Some(EventChange::Event(event)) if event.title.as_deref() == Some("Once"))
    );
    assert!(
        matches!(read(&master).await, Some(EventChange::Event(event)) if matches!(event.kind, EventKind::Master { .. }))
    );
    // Never an occurrence, even when asked for one.
    assert!(
        matches!(read(&occurrence).await, Some(EventChange::Event(event)) if matches!(event.kind, EventKind::Exception { .. }))
    );
    bench.server.delete_event(ADA, &id).unwrap();
    assert_eq!(read(&id).await, None);
}

#[tokio::test]
async fn deletions_are_told() {
    let bench = Bench::start().await;
    let event = meeting("Once", "2026-03-05T10:00:00", "2026-03-05T11:00:00");
    let id = bench.server.create_event(ADA, None, &event).unwrap();
    let (_, _, delta) = bench.round(ChangesFrom::Start(WINDOW)).await;
    bench.server.delete_event(ADA, &id).unwrap();
    let (_, changes, _) = bench.round(ChangesFrom::Cursor(delta)).await;
    assert!(
        changes.contains(&EventChange::Removed(ProviderEventId(id))),
        "{changes:?}"
    );
}

#[tokio::test]
async fn all_day_series_are_dates_throughout() {
    let bench = Bench::calm().await;
    let mut series = daily("Holiday");
    series["isAllDay"] = json!(true);
    series["start"]["dateTime"] = json!("2026-02-02T00:00:00");
    series["end"]["dateTime"] = json!("2026-02-03T00:00:00");
    let master = bench.server.create_event(ADA, None, &series).unwrap();
    bench
        .server
        .change_occurrence(
            ADA,
            &master,
            date(2026, 3, 4),
            &OccurrenceChange::Edit(json!({"subject": "Other"})),
        )
        .unwrap();
    let mut days = BTreeSet::new();
    for change in bench.first_round().await {
        match change {
            EventChange::Occurrence(occurrence) => {
                assert!(occurrence.span.is_all_day());
                days.insert(occurrence.span.start());
            }
            EventChange::Event(event) => {
                assert!(event.span.is_all_day());
                if let EventKind::Exception { original_start, .. } = event.kind {
                    days.insert(original_start);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(days.len(), 9);
    assert!(
        days.contains(&EventMoment::Date(time::macros::date!(2026 - 03 - 04))),
        "{days:?}"
    );
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one calendar with one hostile event of each kind"
)]
async fn hostile_events_come_through_and_spoil_nothing() {
    let bench = Bench::start().await;
    let at = |n: u32| {
        (
            format!("2026-03-{n:02}T10:00:00"),
            format!("2026-03-{n:02}T11:00:00"),
        )
    };
    let create = |n: u32, changes: Value| {
        let (start, end) = at(n);
        let mut event = meeting(&format!("e{n}"), &start, &end);
        event
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        bench.server.create_event(ADA, None, &event).unwrap()
    };
    let many: Vec<Value> = (0..500)
        .map(|n| json!({"type": "required", "emailAddress": {"address": format!("u{n}@example.com")}}))
        .collect();
    create(
        1,
        json!({"raw": {"subject": format!("a\u{0}{}", "x".repeat(1000))}}),
    );
    create(2, json!({"attendees": many}));
    create(
        3,
        json!({"raw": {"originalStartTimeZone": "tzone://Microsoft/Custom"}}),
    );
    create(
        4,
        json!({"raw": {"end": {"dateTime": "9999-12-31T23:59:59.9999999", "timeZone": "UTC"}}}),
    );
    create(
        5,
        json!({"raw": {"end": {"dateTime": "2026-03-05T01:00:00.0000000", "timeZone": "UTC"}}}),
    );
    create(
        6,
        json!({"raw": {"body": {"contentType": "html", "content": format!("<p>{}</p>", "y".repeat(2 << 20))}}}),
    );
    create(
        7,
        json!({"repeat": 3, "isReminderOn": true, "reminderMinutesBeforeStart": 30}),
    );
    create(
        8,
        json!({"raw": {"start": {"dateTime": "never", "timeZone": "UTC"}}}),
    );
    create(9, json!({"raw": {"id": "AAMkCase="}}));
    create(10, json!({"raw": {"id": "AAMkCASE="}}));

    let changes = bench.first_round().await;
    let all = events(&changes);
    let titled = |title: &str| {
        *all.iter()
            .find(|event| event.title.as_deref() == Some(title))
            .unwrap()
    };
    assert!(all.iter().any(|event| {
        event
            .title
            .as_ref()
            .is_some_and(|title| title.len() == 1002)
    }));
    assert_eq!(titled("e2").attendees.len(), 500);
    assert_eq!(
        titled("e3").zone.as_ref().and_then(|zone| zone.iana()),
        None
    );
    assert_eq!(
        titled("e3").span.start(),
        EventMoment::Instant(datetime!(2026-03-03 09:00 UTC))
    );
    assert_eq!(
        titled("e4").span.end(),
        EventMoment::Instant(datetime!(9999-12-31 23:59:59.999_999_900 UTC))
    );
    assert_eq!(
        titled("e6").description.as_ref().map(String::len),
        Some(2 << 20)
    );
    assert!(
        all.iter()
            .filter(|event| event.title.as_deref() == Some("e7"))
            .count()
            >= 3
    );
    assert_eq!(
        titled("e7").reminders,
        [Reminder {
            method: ReminderMethod::Popup,
            minutes_before: 30
        }]
    );
    for reason in ["start_unreadable", "end_before_start"] {
        let is_rejected = |change: &EventChange| matches!(change, EventChange::Rejected(rejected) if rejected.reason == reason);
        assert!(changes.iter().any(is_rejected), "{reason}");
    }
    let ids: BTreeSet<&str> = all.iter().map(|event| event.id.as_str()).collect();
    assert!(
        ids.contains("AAMkCase=") && ids.contains("AAMkCASE="),
        "{ids:?}"
    );
}

#[tokio::test]
async fn calendars_are_listed_over_all_pages() {
    let bench = Bench::calm().await;
    for n in 0..12 {
        bench
            .server
            .create_calendar(ADA, &format!("Calendar {n}"))
            .unwrap();
    }
    let calendars = bench
        .graph
        .calendars(&bench.token, &Mailbox::Own)
        .await
        .unwrap();
    assert_eq!(calendars.len(), 13);
    let primary: Vec<_> = calendars
        .iter()
        .filter(|calendar| calendar.is_primary)
        .collect();
    assert_eq!(primary.len(), 1);
    assert_eq!(primary[0].id, bench.calendar.calendar_id);
    assert_eq!(primary[0].owner_email.as_deref(), Some(ADA));
    assert!(primary[0].can_edit);
}

#[tokio::test]
async fn a_delegate_reads_through_the_owners_mailbox() {
    let bench = Bench::calm().await;
    let bob = "bob+calendar@example.com";
    bench.server.create_mailbox(bob, "Bob", "UTC").unwrap();
    bench.server.share_mailbox(bob, ADA, false).unwrap();
    let event = meeting("Bob's", "2026-03-05T10:00:00", "2026-03-05T11:00:00");
    bench.server.create_event(bob, None, &event).unwrap();
    let mailbox = Mailbox::Delegate(bob.to_owned());
    let calendars = bench.graph.calendars(&bench.token, &mailbox).await.unwrap();
    let calendar = CalendarRef {
        calendar_id: calendars[0].id.clone(),
        mailbox,
    };
    bench.server.clear_requests();
    let page = bench
        .graph
        .changes(&bench.token, &calendar, &ChangesFrom::Start(WINDOW))
        .await
        .unwrap();
    assert_eq!(events(&page.changes)[0].title.as_deref(), Some("Bob's"));
    assert!(
        bench.server.requests()[0].path.contains("/users/bob"),
        "{:?}",
        bench.server.requests()
    );

    let stranger = Mailbox::Delegate("cy@example.com".to_owned());
    assert!(
        bench
            .graph
            .calendars(&bench.token, &stranger)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn one_mailbox_gets_four_requests_at_once_and_no_refusal() {
    let bench = Bench::with(
        calendar_simulator::Quirks {
            latency_ms: 30,
            mailbox_concurrency: 4,
            ..calendar_simulator::Quirks::none()
        },
        |_| {},
    )
    .await;
    let reads = (0..16).map(|_| {
        let (graph, token, calendar) = (
            bench.graph.clone(),
            bench.token.clone(),
            bench.calendar.clone(),
        );
        tokio::spawn(async move {
            graph
                .changes(&token, &calendar, &ChangesFrom::Start(WINDOW))
                .await
                .map(drop)
        })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap().unwrap();
    }
    // Without the limit the simulator refuses some of them.
    let eager = support::adapter(&bench.server, |config| config.mailbox_concurrency = 16);
    let reads = (0..16).map(|_| {
        let (graph, token, calendar) = (eager.clone(), bench.token.clone(), bench.calendar.clone());
        tokio::spawn(async move {
            graph
                .changes(&token, &calendar, &ChangesFrom::Start(WINDOW))
                .await
                .is_err()
        })
    });
    let mut refused = 0;
    for read in reads.collect::<Vec<_>>() {
        refused += u32::from(read.await.unwrap());
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn ids_that_cannot_stand_in_a_path_are_refused_before_anything_is_sent() {
    let bench = Bench::calm().await;
    bench.server.clear_requests();
    for id in ["", "..", "a\nb"] {
        let calendar = CalendarRef {
            calendar_id: id.to_owned(),
            mailbox: Mailbox::Own,
        };
        let error = bench
            .graph
            .changes(&bench.token, &calendar, &ChangesFrom::Start(WINDOW))
            .await
            .unwrap_err();
        assert_eq!(error.code, "invalid_id");
    }
    let odd = CalendarRef {
        calendar_id: "a/b?c#d%2F".to_owned(),
        mailbox: Mailbox::Own,
    };
    bench
        .graph
        .changes(&bench.token, &odd, &ChangesFrom::Start(WINDOW))
        .await
        .unwrap_err();
    let requests = bench.server.requests();
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].path.ends_with("/calendarView/delta"),
        "{}",
        requests[0].path
    );
    let token = SecretString::from("not good");
    let error = bench.graph.identity(&token).await.unwrap_err();
    assert_eq!(error.code, "unauthorized");
}
