//! Calendars whose change feed does not work: read as a plain list, piece by piece.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

mod support;

use std::collections::BTreeSet;

use calendar_domain::event::EventChange;
use calendar_domain::failure::FailureClass::{NeedsResync, Permanent, Retryable};
use calendar_domain::ports::CalendarReader as _;
use calendar_domain::sync::{ChangesFrom, Cursor, NextPage};
use calendar_simulator::Fault;
use serde_json::{Value, json};
use support::{ADA, Bench, WINDOW, daily, error_body, events, meeting};

fn refuse(bench: &Bench, path: &str, status: u16, body: Value) {
    bench.server.script_fault(Fault {
        path_contains: path.to_owned(),
        status,
        body,
        ..Fault::default()
    });
}

fn deny(bench: &Bench, path: &str) {
    refuse(bench, path, 403, error_body("ErrorAccessDenied"));
}

async fn bench_with_events() -> Bench {
    let bench = Bench::calm().await;
    for n in 10..22 {
        let (start, end) = (
            format!("2026-03-{n}T10:00:00"),
            format!("2026-03-{n}T11:00:00"),
        );
        let event = meeting("x", &start, &end);
        bench.server.create_event(ADA, None, &event).unwrap();
    }
    bench.server.create_event(ADA, None, &daily("y")).unwrap();
    bench
}

async fn next(bench: &Bench, from: &ChangesFrom) -> (Vec<EventChange>, Cursor) {
    match bench.page(from).await.unwrap() {
        (changes, NextPage::More(cursor)) => (changes, cursor),
        page => panic!("no more pages: {page:?}"),
    }
}

/// The list that a refused second page leads to.
async fn listed(bench: &Bench) -> Cursor {
    let (_, second) = next(bench, &ChangesFrom::Start(WINDOW)).await;
    assert!(bench.graph.is_feed(&second));
    deny(bench, "$skiptoken");
    let (changes, list) = next(bench, &ChangesFrom::Cursor(second)).await;
    assert_eq!(changes, []);
    list
}

fn ids(changes: &[EventChange]) -> BTreeSet<String> {
    changes.iter().map(|change| change.id().0.clone()).collect()
}

#[tokio::test]
async fn a_feed_that_is_refused_on_its_second_page_gives_way_to_a_list() {
    let bench = bench_with_events().await;
    let feed = bench.first_round().await;
    let list = listed(&bench).await;
    assert!(!bench.graph.is_feed(&list));
    let (pages, changes, end) = bench.round(ChangesFrom::Cursor(list.clone())).await;
    assert_eq!(pages, 5, "of 12 events and 10 occurrences, five a page");
    assert!(
        changes
            .iter()
            .any(|change| matches!(change, EventChange::Occurrence(_)))
    );
    let master = feed.iter().find_map(EventChange::master).unwrap();
    let mut expected = ids(&feed);
    assert!(expected.remove(&master.0), "a list shows no master");
    assert_eq!(ids(&changes), expected, "with the ids of the feed");

    // The next reading begins where this one did, and is the same.
    assert_eq!(end, list);
    let (_, again, _) = bench.round(ChangesFrom::Cursor(end.clone())).await;
    assert_eq!(again, changes);

    // A day later the feed is tried again.
    let (numbers, since) = end.0.rsplit_once('/').unwrap();
    let yesterday = since.parse::<i64>().unwrap() - 90_000;
    let outdated = ChangesFrom::Cursor(Cursor(format!("{numbers}/{yesterday}")));
    let error = bench.page(&outdated).await.unwrap_err();
    assert_eq!(
        (error.class, error.code.as_str()),
        (NeedsResync, "feed_refused")
    );
}

#[tokio::test]
async fn access_that_is_lost_is_no_matter_of_the_feed() {
    let bench = bench_with_events().await;
    let (_, second) = next(&bench, &ChangesFrom::Start(WINDOW)).await;
    deny(&bench, "$skiptoken");
    deny(&bench, "calendarView?");
    let lost = bench.page(&ChangesFrom::Cursor(second)).await.unwrap_err();
    let list = listed(&bench).await;
    deny(&bench, "calendarView?");
    let lost_later = bench.page(&ChangesFrom::Cursor(list)).await.unwrap_err();
    for error in [lost, lost_later] {
        assert_eq!(
            (error.class, error.code.as_str()),
            (Permanent, "calendar_access_denied")
        );
    }
    assert_eq!(bench.server.pending_faults(), []);
}

#[tokio::test]
async fn a_refused_round_of_changes_is_begun_anew_as_a_full_one() {
    let bench = bench_with_events().await;
    let (_, _, delta) = bench.round(ChangesFrom::Start(WINDOW)).await;
    deny(&bench, "$deltatoken");
    let error = bench.page(&ChangesFrom::Cursor(delta)).await.unwrap_err();
    assert_eq!(
        (error.class, error.code.as_str()),
        (NeedsResync, "feed_refused")
    );
}

#[tokio::test]
async fn t22_a_window_that_is_too_much_is_read_in_ever_smaller_pieces() {
    let bench = Bench::calm().await;
    for n in 0..5 {
        let mut series = meeting(
            "x",
            &format!("2026-02-02T{:02}:00:00", 9 + n),
            &format!("2026-02-02T{:02}:30:00", 9 + n),
        );
        series["recurrence"] = json!({
            "pattern": {"type": "daily", "interval": 1},
            "range": {"type": "noEnd", "startDate": "2026-02-02"},
        });
        bench.server.create_event(ADA, None, &series).unwrap();
    }
    let timeout = || error_body("UnknownError");
    // Once is not enough to give up the feed.
    refuse(&bench, "delta", 504, timeout());
    assert_eq!(bench.failure().await.class, Retryable);
    let pieces = ChangesFrom::StartInPieces(WINDOW);
    let (changes, feed) = next(&bench, &pieces).await;
    assert!(!changes.is_empty() && bench.graph.is_feed(&feed));
    // A Graph that answers nothing at all is away, not overburdened.
    refuse(&bench, "delta", 504, timeout());
    refuse(&bench, "calendarView?", 504, timeout());
    assert_eq!(bench.page(&pieces).await.unwrap_err().class, Retryable);

    refuse(&bench, "delta", 504, timeout());
    let (mut cursor, mut refused, mut all) = (next(&bench, &pieces).await.1, 0, Vec::new());
    let end = loop {
        let days = |text: &str| text.split('/').nth(3).unwrap().parse::<i64>().unwrap() / 86_400;
        if days(&cursor.0) > 8 {
            refused += 1;
            refuse(&bench, "calendarView?", 504, timeout());
        }
        let (changes, next) = bench.page(&ChangesFrom::Cursor(cursor)).await.unwrap();
        all.extend(changes);
        match next {
            NextPage::More(more) => cursor = more,
            NextPage::Done(end) => break end,
        }
    };
    assert_eq!(refused, 2, "31 days, 15, 7");
    let starts: BTreeSet<_> = all.iter().map(EventChange::id).collect();
    assert_eq!(starts.len(), 31 * 5, "the whole window");
    assert!(events(&all).is_empty());
    // The next reading begins with pieces that were answered.
    bench.server.clear_requests();
    bench.page(&ChangesFrom::Cursor(end)).await.unwrap();
    let asked = bench.server.requests()[0].query.clone();
    assert!(asked.contains("2026-03-08"), "{asked}");
}
