//! calendarView/delta over HTTP: rounds, pages, links, and every way in which it differs from its documentation.
//! Long because each oddity has a test of its own.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use calendar_simulator::jiff::civil::date;
use calendar_simulator::{OccurrenceChange, Quirks};
use reqwest::Method;
use serde_json::{Value, json};
use support::{ALEX, Bench, FROM, IMMUTABLE, TO, at, delta, meeting, series, view};

#[tokio::test]
async fn a_first_round_shows_singles_masters_and_stubs() {
    let bench = Bench::calm().await;
    let single = bench
        .server
        .create_event(ALEX, None, &meeting("Single", "2026-03-05T10:00:00"))
        .unwrap();
    let master = bench
        .server
        .create_event(ALEX, None, &series("Stand-up"))
        .unwrap();
    bench
        .server
        .change_occurrence(
            ALEX,
            &master,
            date(2026, 3, 4),
            &OccurrenceChange::Edit(json!({"subject": "Renamed"})),
        )
        .unwrap();
    bench
        .server
        .create_event(ALEX, None, &meeting("Outside", "2026-05-05T10:00:00"))
        .unwrap();
    let round = bench.first_round().await;
    assert_eq!(round.rows.len(), 1 + 1 + 12);
    let stubs = round.of_type("occurrence");
    assert_eq!(stubs.len(), 11);
    for stub in stubs {
        let members: BTreeSet<&str> = stub
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            members,
            BTreeSet::from([
                "@odata.type",
                "@odata.etag",
                "seriesMasterId",
                "type",
                "id",
                "start",
                "end"
            ])
        );
        assert_eq!(stub["seriesMasterId"], master);
    }
    let full = round.of_type("singleInstance")[0];
    assert_eq!(full["id"], single);
    assert_eq!(full["@odata.type"], "#microsoft.graph.event");
    let row = round.of_type("seriesMaster")[0];
    assert_eq!(row["id"], master);
    assert_eq!(row["start"]["dateTime"], "2026-03-02T08:00:00.0000000");
    assert_eq!(
        row["recurrence"]["range"]["recurrenceTimeZone"],
        "W. Europe Standard Time"
    );
    let exception = round.of_type("exception")[0];
    assert_eq!(exception["subject"], "Renamed");
    assert_eq!(exception["originalStart"], "2026-03-04T08:00:00Z");
    // A second round from there has nothing to say.
    assert_eq!(bench.round(&round.link, IMMUTABLE).await.rows.len(), 0);
}

#[tokio::test]
async fn later_rounds_show_what_changed() {
    let bench = Bench::calm().await;
    let sim = &bench.server;
    let create = |name: &str, day: u32| {
        sim.create_event(
            ALEX,
            None,
            &meeting(name, &format!("2026-03-{day:02}T10:00:00")),
        )
        .unwrap()
    };
    let (kept, edited, deleted, moved_out) = (
        create("Kept", 1),
        create("Edited", 2),
        create("Deleted", 3),
        create("Out", 4),
    );
    let mut outside = meeting("In", "2026-06-05T10:00:00");
    outside["subject"] = "In".into();
    let moved_in = sim.create_event(ALEX, None, &outside).unwrap();
    let round = bench.first_round().await;
    assert_eq!(round.rows.len(), 4);

    let window = |day: &str| json!({"start": {"dateTime": format!("{day}T10:00:00"), "timeZone": "UTC"}, "end": {"dateTime": format!("{day}T11:00:00"), "timeZone": "UTC"}});
    sim.edit_event(ALEX, &edited, &json!({"subject": "Edited twice"}))
        .unwrap();
    sim.delete_event(ALEX, &deleted).unwrap();
    sim.edit_event(ALEX, &moved_out, &window("2026-07-01"))
        .unwrap();
    sim.edit_event(ALEX, &moved_in, &window("2026-03-20"))
        .unwrap();
    let created = create("Created", 25);
    let short_lived = create("Short-lived", 26);
    sim.delete_event(ALEX, &short_lived).unwrap();

    let round = bench.round(&round.link, IMMUTABLE).await;
    assert_eq!(
        BTreeSet::from_iter(round.removed()),
        BTreeSet::from([deleted.as_str(), moved_out.as_str()])
    );
    let shown: BTreeMap<&str, &str> = round
        .of_type("singleInstance")
        .iter()
        .map(|row| {
            (
                row["id"].as_str().unwrap(),
                row["subject"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        BTreeMap::from([
            (edited.as_str(), "Edited twice"),
            (moved_in.as_str(), "In"),
            (created.as_str(), "Created")
        ])
    );
    assert!(!shown.contains_key(kept.as_str()));
    let removed = round
        .rows
        .iter()
        .find(|row| row.get("@removed").is_some())
        .unwrap();
    assert_eq!(removed["@removed"], json!({"reason": "deleted"}));
    assert_eq!(removed["@odata.type"], "#microsoft.graph.event");
}

#[tokio::test]
async fn a_deleted_occurrence_is_only_a_hole() {
    let bench = Bench::calm().await;
    let master = bench
        .server
        .create_event(ALEX, None, &series("Stand-up"))
        .unwrap();
    let first = bench.first_round().await;
    bench
        .server
        .change_occurrence(ALEX, &master, date(2026, 3, 6), &OccurrenceChange::Delete)
        .unwrap();
    let round = bench.round(&first.link, IMMUTABLE).await;
    assert_eq!(round.removed(), Vec::<&str>::new());
    assert_eq!(round.of_type("seriesMaster").len(), 1);
    assert_eq!(round.of_type("occurrence").len(), 11);
    let hole = bench
        .server
        .occurrence_id(ALEX, &master, date(2026, 3, 6))
        .unwrap();
    assert!(first.rows.iter().any(|row| row["id"] == hole));
    assert!(round.rows.iter().all(|row| row["id"] != hole));

    // With the switch off it is reported.
    bench.server.set_quirks(Quirks {
        deleted_occurrence_unreported: false,
        ..Quirks::none()
    });
    assert_eq!(
        bench.round(&first.link, IMMUTABLE).await.removed(),
        [hole.as_str()]
    );

    // A deleted series is its master's @removed, and nothing about its occurrences.
    bench.server.delete_event(ALEX, &master).unwrap();
    let round = bench.round(&round.link, IMMUTABLE).await;
    assert_eq!(round.removed(), [master.as_str()]);
    assert_eq!(round.rows.len(), 1);
}

#[tokio::test]
async fn changes_outside_the_window_come_as_unknown_removals() {
    for (quirk, expected) in [(true, 3), (false, 0)] {
        let bench = Bench::with(Quirks {
            removed_for_unknown: quirk,
            ..Quirks::none()
        })
        .await;
        let sim = &bench.server;
        let edited = sim
            .create_event(ALEX, None, &meeting("Edited", "2026-06-01T10:00:00"))
            .unwrap();
        let deleted = sim
            .create_event(ALEX, None, &meeting("Deleted", "2026-06-02T10:00:00"))
            .unwrap();
        let first = bench.first_round().await;
        assert_eq!(
            first.rows.len(),
            0,
            "nothing outside the window in a first round"
        );
        sim.edit_event(ALEX, &edited, &json!({"subject": "x"}))
            .unwrap();
        sim.delete_event(ALEX, &deleted).unwrap();
        sim.create_event(ALEX, None, &meeting("Created", "2026-06-03T10:00:00"))
            .unwrap();
        let round = bench.round(&first.link, IMMUTABLE).await;
        assert_eq!(round.removed().len(), expected);
        assert_eq!(round.rows.len(), expected);
    }
}

#[tokio::test]
async fn what_was_shown_in_a_round_and_then_deleted_is_removed_even_when_short_lived() {
    let bench = Bench::calm().await;
    let sim = &bench.server;
    let victims: Vec<String> = (0..6)
        .map(|n| {
            sim.create_event(ALEX, None, &meeting(&format!("{n}"), "2026-03-05T10:00:00"))
                .unwrap()
        })
        .collect();
    // One page of the first round, then a shown event goes away.
    let prefer = format!("{IMMUTABLE}, odata.maxpagesize=2");
    let page: Value = bench
        .request(Method::GET, &delta())
        .header("Prefer", &prefer)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(page["value"].as_array().unwrap().len(), 2);
    sim.delete_event(ALEX, &victims[0]).unwrap();
    let rest = bench
        .round(page["@odata.nextLink"].as_str().unwrap(), &prefer)
        .await;
    assert_eq!(rest.removed(), [victims[0].as_str()]);

    // Created in the middle of a round, shown by it, deleted before its end.
    let page: Value = bench
        .request(Method::GET, &rest.link)
        .header("Prefer", &prefer)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(page["value"].as_array().unwrap().len(), 0);
    let link = page["@odata.deltaLink"].as_str().unwrap();
    let late = sim
        .create_event(ALEX, None, &meeting("late", "2026-03-06T10:00:00"))
        .unwrap();
    for id in &victims[1..4] {
        sim.edit_event(ALEX, id, &json!({"subject": "again"}))
            .unwrap();
    }
    let page: Value = bench
        .request(Method::GET, link)
        .header("Prefer", &prefer)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(page["value"][0]["id"], late);
    sim.delete_event(ALEX, &late).unwrap();
    let rest = bench
        .round(page["@odata.nextLink"].as_str().unwrap(), &prefer)
        .await;
    assert_eq!(rest.removed(), [late.as_str()]);
}

#[tokio::test]
async fn pages_have_the_size_asked_for_and_long_bound_links() {
    let bench = Bench::with(Quirks {
        long_tokens: true,
        ..Quirks::none()
    })
    .await;
    for n in 0..23 {
        bench
            .server
            .create_event(ALEX, None, &meeting(&format!("{n}"), "2026-03-05T10:00:00"))
            .unwrap();
    }
    for (prefer, expected) in [
        ("outlook.timezone=\"UTC\"", vec![10, 10, 3]),
        ("odata.maxpagesize=5", vec![5, 5, 5, 5, 3]),
        ("odata.maxpagesize=50", vec![23]),
    ] {
        let round = bench.round(&delta(), prefer).await;
        assert_eq!(round.pages, expected, "{prefer}");
        let (path, token) = round.link.split_once("?$deltatoken=").unwrap();
        assert_eq!(
            path,
            format!("{}/me/calendarView/delta", bench.server.graph_url())
        );
        assert!(token.len() > 300);
    }
    let answer = bench
        .request(Method::GET, &delta())
        .header("Prefer", "odata.maxpagesize=7")
        .send()
        .await
        .unwrap();
    let applied: Vec<_> = answer
        .headers()
        .get_all("preference-applied")
        .iter()
        .map(|v| v.to_str().unwrap().to_owned())
        .collect();
    assert!(
        applied
            .iter()
            .any(|value| value.contains("odata.maxpagesize=7")),
        "{applied:?}"
    );
}

#[tokio::test]
async fn every_spelling_of_delta_works_and_others_do_not() {
    let bench = Bench::calm().await;
    let id = bench.server.find_calendar(ALEX, None).unwrap();
    bench
        .server
        .create_event(ALEX, None, &meeting("x", "2026-03-05T10:00:00"))
        .unwrap();
    let window = format!("startdatetime={FROM}&EndDateTime={TO}");
    for base in [
        "/me/calendarView".to_owned(),
        "/me/calendar/calendarview".to_owned(),
        format!("/me/calendars/{id}/calendarView"),
        format!("/users/{ALEX}/calendarView"),
        format!(
            "/Users/{ALEX}/Calendars/{}/CalendarView",
            id.replace('=', "%3D")
        ),
    ] {
        for spelling in [
            "delta",
            "delta()",
            "microsoft.graph.delta",
            "microsoft.graph.delta()",
            "Delta",
        ] {
            let round = bench
                .round(&format!("{base}/{spelling}?{window}"), IMMUTABLE)
                .await;
            assert_eq!(round.rows.len(), 1, "{base}/{spelling}");
            assert!(round.link.contains(spelling), "{}", round.link);
            assert_eq!(bench.round(&round.link, IMMUTABLE).await.rows.len(), 0);
            // A client that escapes the dollar is understood too.
            let escaped = round.link.replace('$', "%24");
            assert_eq!(bench.round(&escaped, IMMUTABLE).await.rows.len(), 0);
        }
    }
    for (path, status, code) in [
        (
            "/me/calendarView/delta".to_owned(),
            400,
            "ErrorInvalidRequest",
        ),
        (
            format!("/me/calendarView/delta?startDateTime={FROM}"),
            400,
            "ErrorInvalidRequest",
        ),
        (
            format!("/me/calendarView/delta?startDateTime=x&endDateTime={TO}"),
            400,
            "ErrorInvalidRequest",
        ),
        (
            format!("{}&$select=subject", delta()),
            400,
            "ErrorInvalidRequest",
        ),
        (format!("{}&$filter=x", delta()), 400, "ErrorInvalidRequest"),
        (
            format!("{}&$orderby=x", delta()),
            400,
            "ErrorInvalidRequest",
        ),
        (format!("{}&$expand=x", delta()), 400, "ErrorInvalidRequest"),
        (format!("{}&$search=x", delta()), 400, "ErrorInvalidRequest"),
        ("/me/events/delta".to_owned(), 400, "ErrorInvalidRequest"),
        (
            "/me/events/microsoft.graph.delta()".to_owned(),
            400,
            "ErrorInvalidRequest",
        ),
        (
            format!("/me/calendars/{id}/events/delta"),
            400,
            "ErrorInvalidRequest",
        ),
        (
            "/me/calendarView/delta?$deltatoken=nonsense".to_owned(),
            400,
            "ErrorInvalidSyncStateData",
        ),
    ] {
        assert_eq!(
            bench.refusal(&path).await,
            (status, code.to_owned()),
            "{path}"
        );
    }
    let body: Value = bench.get("/me/events/delta").await.json().await.unwrap();
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("Change tracking is not supported against 'microsoft.graph.event'")
    );
}

#[tokio::test]
async fn links_belong_to_their_calendar() {
    let bench = Bench::calm().await;
    let other = bench.server.create_calendar(ALEX, "Other").unwrap();
    let round = bench.first_round().await;
    let token = round.link.split_once('?').unwrap().1;
    let elsewhere = format!("/me/calendars/{other}/calendarView/delta?{token}");
    assert_eq!(
        bench.refusal(&elsewhere).await,
        (400, "ErrorInvalidSyncStateData".into())
    );
}

#[tokio::test]
async fn ids_follow_the_prefer_header_of_each_request() {
    let bench = Bench::calm().await;
    let immutable = bench
        .server
        .create_event(ALEX, None, &meeting("x", "2026-03-05T10:00:00"))
        .unwrap();
    let plain = bench.round(&delta(), "odata.maxpagesize=5").await;
    let regular = plain.rows[0]["id"].as_str().unwrap().to_owned();
    assert_ne!(regular, immutable);
    // The links serve both kinds.
    bench
        .server
        .edit_event(ALEX, &regular, &json!({"subject": "y"}))
        .unwrap();
    let round = bench.round(&plain.link, IMMUTABLE).await;
    assert_eq!(round.rows[0]["id"], immutable);
    bench.server.set_quirks(Quirks {
        ids_per_request: false,
        ..Quirks::none()
    });
    assert_eq!(
        bench.round(&plain.link, "x=y").await.rows[0]["id"],
        immutable
    );
}

#[tokio::test]
async fn a_series_may_be_split_over_pages() {
    for (split, expected) in [(true, vec![5, 5, 3]), (false, vec![13])] {
        let bench = Bench::with(Quirks {
            split_series: split,
            ..Quirks::none()
        })
        .await;
        bench
            .server
            .create_event(ALEX, None, &series("Stand-up"))
            .unwrap();
        let round = bench.round(&delta(), "odata.maxpagesize=5").await;
        assert_eq!(round.pages, expected);
        let ids: BTreeSet<&str> = round
            .rows
            .iter()
            .map(|row| row["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 13);
    }
}

#[tokio::test]
async fn a_series_changed_while_it_is_being_paged_is_sent_again_whole() {
    let bench = Bench::with(Quirks {
        split_series: true,
        ..Quirks::none()
    })
    .await;
    let master = bench
        .server
        .create_event(ALEX, None, &series("Stand-up"))
        .unwrap();
    let prefer = format!("{IMMUTABLE}, odata.maxpagesize=5");
    let page: Value = bench
        .request(Method::GET, &delta())
        .header("Prefer", &prefer)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    bench
        .server
        .change_occurrence(ALEX, &master, date(2026, 3, 3), &OccurrenceChange::Delete)
        .unwrap();
    let rest = bench
        .round(page["@odata.nextLink"].as_str().unwrap(), &prefer)
        .await;
    assert_eq!(rest.of_type("seriesMaster").len(), 1);
    assert_eq!(rest.of_type("occurrence").len(), 11);
}

#[tokio::test]
async fn empty_pages_and_duplicates_happen_and_repeat_with_the_seed() {
    let bench = Bench::with(Quirks {
        empty_pages: true,
        duplicates: true,
        ..Quirks::none()
    })
    .await;
    for n in 0..60 {
        bench
            .server
            .create_event(ALEX, None, &meeting(&format!("{n}"), "2026-03-05T10:00:00"))
            .unwrap();
    }
    let prefer = format!("{IMMUTABLE}, odata.maxpagesize=3");
    let round = bench.round(&delta(), &prefer).await;
    assert!(
        round.pages[..round.pages.len() - 1].contains(&0),
        "{:?}",
        round.pages
    );
    let ids: BTreeSet<&str> = round
        .rows
        .iter()
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 60);
    assert!(
        round.rows.len() > 60,
        "no duplicate in {} rows",
        round.rows.len()
    );
    let again = bench.round(&delta(), &prefer).await;
    assert_eq!(again.rows, round.rows);
    assert_eq!(again.pages, round.pages);
    bench.server.set_quirks(Quirks::none());
    let calm = bench.round(&delta(), &prefer).await;
    assert_eq!(calm.pages, vec![3; 20]);
}

#[tokio::test]
async fn invalidated_tokens_are_gone() {
    for with_location in [true, false] {
        let bench = Bench::with(Quirks {
            gone_with_location: with_location,
            ..Quirks::none()
        })
        .await;
        bench
            .server
            .create_event(ALEX, None, &meeting("x", "2026-03-05T10:00:00"))
            .unwrap();
        let round = bench.first_round().await;
        bench.server.invalidate_delta_tokens(ALEX).unwrap();
        let answer = bench.get(&round.link).await;
        assert_eq!(answer.status().as_u16(), 410);
        let location = answer
            .headers()
            .get("location")
            .map(|value| value.to_str().unwrap().to_owned());
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["code"], "SyncStateNotFound");
        assert_eq!(location.is_some(), with_location);
        if let Some(location) = location {
            assert_eq!(bench.round(&location, IMMUTABLE).await.rows.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_moved_event_leaves_one_calendar_and_enters_the_other() {
    let bench = Bench::calm().await;
    let other = bench.server.create_calendar(ALEX, "Other").unwrap();
    let id = bench
        .server
        .create_event(ALEX, None, &meeting("x", "2026-03-05T10:00:00"))
        .unwrap();
    let here = bench.first_round().await;
    let there_path =
        format!("/me/calendars/{other}/calendarView/delta?startDateTime={FROM}&endDateTime={TO}");
    let there = bench.round(&there_path, IMMUTABLE).await;
    let regular = bench.read("/me/events").await["value"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    bench.server.move_event(ALEX, &id, Some("Other")).unwrap();
    assert_eq!(
        bench.round(&here.link, IMMUTABLE).await.removed(),
        [id.as_str()]
    );
    assert_eq!(bench.round(&there.link, IMMUTABLE).await.rows[0]["id"], id);
    assert_eq!(
        bench
            .get(&format!("/me/events/{id}"))
            .await
            .status()
            .as_u16(),
        200
    );
    assert_eq!(
        bench
            .get(&format!("/me/events/{regular}"))
            .await
            .status()
            .as_u16(),
        404
    );
}

/// What a client that follows the rules holds after any mixture of changes equals what the user sees.
#[tokio::test]
async fn a_mirror_kept_by_delta_equals_the_truth() {
    for seed in 1..=6_u64 {
        let bench = Bench::with(Quirks {
            mailbox_concurrency: 0,
            ..Quirks::default()
        })
        .await;
        let sim = &bench.server;
        let mut random = seed;
        let mut next = move |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut singles: Vec<String> = Vec::new();
        let mut masters: Vec<String> = Vec::new();
        let mut mirror = Mirror::default();
        let mut link = delta();
        let day = |n: u64| format!("2026-{:02}-{:02}T10:00:00", 2 + n / 28, 1 + n % 28);
        for _ in 0..25 {
            for _ in 0..next(6) {
                match next(8) {
                    0 | 1 => singles.push(
                        sim.create_event(ALEX, None, &meeting("s", &day(next(84))))
                            .unwrap(),
                    ),
                    2 => masters.push(sim.create_event(ALEX, None, &series("m")).unwrap()),
                    3 if !singles.is_empty() => {
                        let at = usize::try_from(next(singles.len() as u64)).unwrap();
                        sim.delete_event(ALEX, &singles.swap_remove(at)).unwrap();
                    }
                    4 if !singles.is_empty() => {
                        let at = usize::try_from(next(singles.len() as u64)).unwrap();
                        let times = meeting("moved", &day(next(84)));
                        sim.edit_event(ALEX, &singles[at], &times).unwrap();
                    }
                    5 | 6 if !masters.is_empty() => {
                        let at = usize::try_from(next(masters.len() as u64)).unwrap();
                        let date = date(2026, 3, 2 + i8::try_from(next(12)).unwrap());
                        let change = match next(3) {
                            0 => OccurrenceChange::Delete,
                            1 => OccurrenceChange::Cancel,
                            _ => OccurrenceChange::Edit(meeting("exception", &day(next(84)))),
                        };
                        // Already deleted: nothing to change.
                        let _ = sim.change_occurrence(ALEX, &masters[at], date, &change);
                    }
                    7 if masters.len() > 2 => sim.delete_event(ALEX, &masters.remove(0)).unwrap(),
                    _ => {}
                }
            }
            let size = 1 + next(12);
            let round = bench
                .round(&link, &format!("{IMMUTABLE}, odata.maxpagesize={size}"))
                .await;
            mirror.apply(&round.rows);
            link = round.link;
            let truth: BTreeMap<String, (Value, Value)> = sim
                .instances(ALEX, None, at(FROM), at(TO))
                .unwrap()
                .iter()
                .map(|row| {
                    (
                        row["id"].as_str().unwrap().to_owned(),
                        (row["start"].clone(), row["end"].clone()),
                    )
                })
                .collect();
            assert_eq!(mirror.rows(), truth, "seed {seed}");
        }
    }
}

/// The least a client must keep: singles by id, series by master with all their rows of the last resend.
#[derive(Default)]
struct Mirror {
    singles: BTreeMap<String, (Value, Value)>,
    series: BTreeMap<String, BTreeMap<String, (Value, Value)>>,
}

impl Mirror {
    fn apply(&mut self, rows: &[Value]) {
        for row in rows {
            let id = row["id"].as_str().unwrap().to_owned();
            let times = (row["start"].clone(), row["end"].clone());
            if row.get("@removed").is_some() {
                self.singles.remove(&id);
                self.series.remove(&id);
                continue;
            }
            match row["type"].as_str().unwrap() {
                "singleInstance" => {
                    self.singles.insert(id, times);
                }
                "seriesMaster" => {
                    self.series.insert(id, BTreeMap::new());
                }
                _ => {
                    let master = row["seriesMasterId"].as_str().unwrap();
                    self.series.get_mut(master).unwrap().insert(id, times);
                }
            }
        }
    }

    fn rows(&self) -> BTreeMap<String, (Value, Value)> {
        let mut all = self.singles.clone();
        for rows in self.series.values() {
            all.extend(rows.clone());
        }
        all
    }
}

#[tokio::test]
async fn hostile_data_arrives_as_given() {
    let bench = Bench::calm().await;
    let sim = &bench.server;
    let base = meeting("x", "2026-03-05T10:00:00");
    let create = |change: Value| {
        let mut event = base.clone();
        event
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        sim.create_event(ALEX, None, &event).unwrap()
    };
    let attendees: Vec<Value> = (0..501)
        .map(|n| json!({"emailAddress": {"address": format!("p{n}@example.com")}}))
        .collect();
    create(json!({"subject": "nul\u{0}here"}));
    create(json!({"subject": "t".repeat(1000)}));
    create(json!({"subject": "many", "attendees": attendees}));
    create(json!({"subject": "case", "attendees": [
        {"emailAddress": {"address": "A@example.com"}}, {"emailAddress": {"address": "a@example.com"}}, {"emailAddress": {"name": "Nobody"}}]}));
    create(
        json!({"subject": "zone", "start": {"dateTime": "2026-03-05T10:00:00", "timeZone": "Mars Standard Time"}}),
    );
    create(
        json!({"subject": "backwards", "end": {"dateTime": "2026-03-05T09:00:00", "timeZone": "UTC"}}),
    );
    create(
        json!({"subject": "9999", "end": {"dateTime": "9999-12-31T23:59:59", "timeZone": "Pacific Standard Time"}}),
    );
    create(
        json!({"subject": "big", "body": {"contentType": "html", "content": "x".repeat(2_000_000)}}),
    );
    create(
        json!({"subject": "raw", "raw": {"start": {"dateTime": "never", "timeZone": 7}, "importance": "urgent"}}),
    );
    create(json!({"subject": "thrice", "repeat": 3}));
    create(json!({"subject": "lower", "raw": {"id": "AAMkabc="}}));
    create(json!({"subject": "upper", "raw": {"id": "AAMkABC="}}));
    let round = bench.round(&delta(), "odata.maxpagesize=100").await;
    let of = |subject: &str| {
        round
            .rows
            .iter()
            .filter(|row| row["subject"] == subject)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("nul\u{0}here").len(), 1);
    assert_eq!(of("many")[0]["attendees"].as_array().unwrap().len(), 501);
    assert_eq!(
        of("case")[0]["attendees"][2]["emailAddress"].get("address"),
        None
    );
    assert_eq!(of("zone")[0]["originalStartTimeZone"], "Mars Standard Time");
    assert_eq!(
        of("backwards")[0]["end"]["dateTime"],
        "2026-03-05T09:00:00.0000000"
    );
    assert!(
        of("9999")[0]["end"]["dateTime"]
            .as_str()
            .unwrap()
            .starts_with("9999-12-3")
    );
    assert!(of("big")[0]["body"]["content"].as_str().unwrap().len() >= 2_000_000);
    assert_eq!(
        of("raw")[0]["start"],
        json!({"dateTime": "never", "timeZone": 7})
    );
    assert_eq!(of("raw")[0]["importance"], "urgent");
    assert_eq!(of("thrice").len(), 3);
    assert_eq!(bench.read("/me/events/AAMkabc=").await["subject"], "lower");
    assert_eq!(bench.read("/me/events/AAMkABC=").await["subject"], "upper");
    assert_eq!(round.rows.len(), 14);
    let _ = bench.read(&view()).await;
}
