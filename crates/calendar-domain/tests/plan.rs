//! Which rows a page of changes writes: identity, inheritance, versions.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use calendar_domain::event::{
    EventChange, EventImportance, EventKind, EventMoment, EventSpan, EventStatus, Occurrence,
    ProviderEvent, ProviderEventId, TeamsMeeting,
};
use calendar_domain::ids::EventId;
use calendar_domain::plan::{
    Inheritable, Known, KnownOccurrence, KnownRow, RowContent, WritePlan, changed_masters,
    instance_keys, last_wins, lookup_ids, plan,
};
use calendar_domain::recurrence::{Frequency, RecurrenceRule};
use calendar_domain::rejected::RejectedEvent;
use proptest::prelude::*;
use serde_json::Map;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const MONDAY: OffsetDateTime = datetime!(2026-01-05 9:00 UTC);

fn hour(start: OffsetDateTime) -> EventSpan {
    EventSpan::Timed {
        start,
        end: start + Duration::HOUR,
    }
}

fn event(id: &str, kind: EventKind, title: &str, start: OffsetDateTime) -> ProviderEvent {
    ProviderEvent {
        id: id.into(),
        kind,
        title: Some(title.to_owned()),
        description: None,
        location: None,
        span: hour(start),
        zone: None,
        end_zone: None,
        status: EventStatus::Confirmed,
        importance: EventImportance::Normal,
        show_as: None,
        sensitivity: None,
        categories: Vec::new(),
        conversation_id: None,
        ical_uid: None,
        teams: Some(TeamsMeeting::default()),
        organizer: None,
        is_organizer: None,
        attendees: Vec::new(),
        reminders: Vec::new(),
        html_link: None,
        metadata: Map::new(),
    }
}

fn single(id: &str, title: &str) -> EventChange {
    EventChange::Event(Box::new(event(id, EventKind::Single, title, MONDAY)))
}

fn master(id: &str, title: &str) -> EventChange {
    let kind = EventKind::Master {
        rule: Some(RecurrenceRule::every(Frequency::Daily)),
        exception_dates: None,
    };
    EventChange::Event(Box::new(event(id, kind, title, MONDAY)))
}

fn exception(
    id: &str,
    master: &str,
    original: OffsetDateTime,
    start: OffsetDateTime,
) -> EventChange {
    let kind = EventKind::Exception {
        master: master.into(),
        original_start: EventMoment::Instant(original),
    };
    EventChange::Event(Box::new(event(id, kind, "moved", start)))
}

fn occurrence(id: &str, master: &str, start: OffsetDateTime) -> EventChange {
    EventChange::Occurrence(Occurrence {
        id: id.into(),
        master: master.into(),
        span: hour(start),
    })
}

fn removed(id: &str) -> EventChange {
    EventChange::Removed(id.into())
}

/// A store as the real one behaves, in a map: enough to feed `plan` its own results.
#[derive(Default)]
struct Rows(HashMap<EventId, (KnownRow, Option<EventSpan>)>);

impl Rows {
    fn apply(&mut self, changes: Vec<EventChange>) -> WritePlan {
        let changes = last_wins(changes);
        let ids: HashSet<String> = lookup_ids(&changes).into_iter().collect();
        let mut known = Known::default();
        for (row, _) in self
            .0
            .values()
            .filter(|(row, _)| ids.contains(&row.provider_event_id))
        {
            known
                .by_provider_id
                .insert(row.provider_event_id.clone(), row.clone());
        }
        for key in instance_keys(&changes, &known) {
            let at = |row: &&KnownRow| {
                !row.deleted && row.parent == Some(key.0) && row.original_start == Some(key.1)
            };
            if let Some(row) = self.0.values().map(|(row, _)| row).find(at) {
                known.by_original_start.insert(key, row.clone());
            }
        }
        for master in changed_masters(&changes, &known) {
            let occurrences = self
                .0
                .values()
                .filter(|(row, span)| !row.deleted && row.parent == Some(master) && span.is_some())
                .map(|(row, span)| KnownOccurrence {
                    row: row.clone(),
                    span: span.unwrap(),
                })
                .collect();
            known.occurrences.insert(master, occurrences);
        }
        let plan = plan(changes, &known);
        for id in &plan.displaced {
            let (row, _) = self.0.get_mut(id).unwrap();
            row.deleted = true;
            row.provider_event_id = format!("displaced:{id}");
            row.original_start = None;
        }
        for write in &plan.writes {
            assert_eq!(
                write.is_new,
                !self.0.contains_key(&write.id),
                "is_new of {write:?}"
            );
            let (inheritable, span) = match &write.content {
                RowContent::Full(event, Some(content_version)) => {
                    (Some(Arc::new(inheritable(event, *content_version))), None)
                }
                RowContent::Full(_, None) => (None, None),
                RowContent::Inherited(span, _) => (None, Some(*span)),
            };
            let row = KnownRow {
                id: write.id,
                provider_event_id: write.provider_event_id.clone(),
                parent: write.parent,
                original_start: write.original_start.map(EventMoment::to_column),
                version: Some(write.version),
                deleted: false,
                inheritable,
            };
            self.0.insert(write.id, (row, span));
        }
        let written: HashSet<EventId> = plan.writes.iter().map(|write| write.id).collect();
        for (row, _) in self.0.values_mut() {
            let parent = |of: &[EventId]| row.parent.is_some_and(|parent| of.contains(&parent));
            if parent(&plan.no_longer_masters) && !written.contains(&row.id) {
                row.deleted = true;
            }
        }
        for (row, _) in self.0.values_mut() {
            if plan.removed.contains(&row.id)
                || row
                    .parent
                    .is_some_and(|parent| plan.removed.contains(&parent))
            {
                row.deleted = true;
            }
        }
        let mut keys = HashSet::new();
        for (row, _) in self.0.values() {
            assert!(
                keys.insert(row.provider_event_id.clone()),
                "{} twice",
                row.provider_event_id
            );
        }
        plan
    }

    fn row(&self, provider_event_id: &str) -> &KnownRow {
        &self
            .0
            .values()
            .find(|(row, _)| row.provider_event_id == provider_event_id)
            .unwrap()
            .0
    }

    fn live(&self) -> Vec<String> {
        let live = self.0.values().filter(|(row, _)| !row.deleted);
        let mut ids: Vec<String> = live.map(|(row, _)| row.provider_event_id.clone()).collect();
        ids.sort();
        ids
    }
}

fn inheritable(event: &ProviderEvent, content_version: uuid::Uuid) -> Inheritable {
    Inheritable {
        content_version,
        is_all_day: event.span.is_all_day(),
        title: event.title.clone(),
        location: None,
        timezone: None,
        end_timezone: None,
        timezone_unresolved: false,
        status: event.status,
        importance: event.importance,
        show_as: None,
        sensitivity: None,
        teams: event.teams.clone(),
    }
}

#[test]
fn a_single_is_inserted_left_alone_updated_removed_and_revived_under_one_id() {
    let mut rows = Rows::default();
    let first = rows.apply(vec![single("A", "one")]);
    assert!(first.writes[0].is_new);
    let id = first.writes[0].id;
    let again = rows.apply(vec![single("A", "one")]);
    assert_eq!(
        (again.writes.len(), again.unchanged, &again.seen),
        (0, 1, &vec![id])
    );
    assert_eq!(rows.apply(vec![single("A", "two")]).writes[0].id, id);
    assert_eq!(rows.apply(vec![removed("A")]).removed, [id]);
    assert_eq!(
        rows.apply(vec![removed("A")]).removed,
        [],
        "a tombstone is not removed again"
    );
    let revived = rows.apply(vec![single("A", "two")]);
    assert_eq!(
        (revived.writes[0].id, revived.writes[0].is_new),
        (id, false)
    );
}

#[test]
fn of_one_id_the_last_entry_wins_and_ids_that_differ_in_case_are_two() {
    let mut rows = Rows::default();
    let plan = rows.apply(vec![
        single("A", "old"),
        single("a", "other"),
        single("A", "new"),
        removed("x"),
    ]);
    assert_eq!(plan.writes.len(), 2);
    let RowContent::Full(event, None) = &plan.writes[0].content else {
        panic!("{plan:?}")
    };
    assert_eq!(event.title.as_deref(), Some("new"));
    assert_eq!(plan.removed, []);
}

#[test]
fn occurrences_stand_under_their_master_and_carry_what_queries_need() {
    let mut rows = Rows::default();
    let plan = rows.apply(vec![occurrence("M1", "M", MONDAY), master("M", "stand-up")]);
    assert_eq!(plan.writes[0].provider_event_id, "M", "masters come first");
    let RowContent::Inherited(_, inherited) = &plan.writes[1].content else {
        panic!("{plan:?}")
    };
    assert_eq!(inherited.title.as_deref(), Some("stand-up"));
    assert_eq!(plan.writes[1].parent, Some(plan.writes[0].id));
    assert!(plan.touched_series);
    let orphan = rows.apply(vec![occurrence("X1", "X", MONDAY)]);
    assert_eq!(
        (orphan.writes.len(), orphan.skipped),
        (0, 1),
        "no row without a master"
    );
}

#[test]
fn whole_days_of_a_timed_series_are_instants_wherever_its_master_is() {
    let mut rows = Rows::default();
    let stub = EventChange::Occurrence(Occurrence {
        id: "M1".into(),
        master: "M".into(),
        span: EventSpan::AllDay {
            start: MONDAY.date(),
            end: MONDAY.date().next_day().unwrap(),
        },
    });
    let plan = rows.apply(vec![master("M", "shift"), stub.clone()]);
    let RowContent::Inherited(span, _) = &plan.writes[1].content else {
        panic!("{plan:?}")
    };
    assert!(!span.is_all_day());
    assert_eq!(
        rows.apply(vec![stub]).writes.len(),
        0,
        "the stored master says the same"
    );
}

#[test]
fn a_changed_master_writes_its_occurrences_anew_but_has_not_seen_them() {
    let mut rows = Rows::default();
    rows.apply(vec![
        master("M", "old"),
        occurrence("M1", "M", MONDAY),
        occurrence("M2", "M", MONDAY + Duration::DAY),
    ]);
    let plan = rows.apply(vec![master("M", "new"), occurrence("M1", "M", MONDAY)]);
    assert_eq!(plan.writes.len(), 3);
    assert_eq!(plan.seen.len(), 2);
    let again = rows.apply(vec![
        master("M", "new"),
        occurrence("M2", "M", MONDAY + Duration::DAY),
    ]);
    assert_eq!(again.writes.len(), 0);
}

#[test]
fn a_changed_master_does_not_bring_back_what_its_page_removes() {
    let mut rows = Rows::default();
    rows.apply(vec![master("M", "old"), occurrence("M1", "M", MONDAY)]);
    let id = rows.row("M1").id;
    let plan = rows.apply(vec![master("M", "new"), removed("M1")]);
    assert_eq!(plan.removed, [id]);
    assert_eq!(rows.live(), ["M"]);
}

#[test]
fn a_changed_master_does_not_write_a_displaced_occurrence() {
    let mut rows = Rows::default();
    let tuesday = MONDAY + Duration::DAY;
    rows.apply(vec![
        master("M", "old"),
        occurrence("M1", "M", MONDAY),
        occurrence("M2", "M", tuesday),
    ]);
    let second = rows.row("M2").id;
    let plan = rows.apply(vec![master("M", "new"), occurrence("M2", "M", MONDAY)]);
    assert_eq!(plan.displaced, [second]);
    assert!(plan.writes.iter().all(|write| write.id != second));
}

#[test]
fn a_tombstone_that_comes_back_takes_the_row_that_lives_in_its_place() {
    let mut rows = Rows::default();
    rows.apply(vec![master("M", "m"), exception("E1", "M", MONDAY, MONDAY)]);
    rows.apply(vec![removed("E1")]);
    rows.apply(vec![exception("E2", "M", MONDAY, MONDAY)]);
    let living = rows.row("E2").id;
    rows.apply(vec![exception("E1", "M", MONDAY, MONDAY)]);
    assert_eq!(rows.row("E1").id, living);
    assert_eq!(rows.live(), ["E1", "M"]);
}

#[test]
fn a_series_that_becomes_a_single_event_leaves_no_instance() {
    let mut rows = Rows::default();
    rows.apply(vec![master("M", "m"), occurrence("M1", "M", MONDAY)]);
    let id = rows.row("M").id;
    let plan = rows.apply(vec![single("M", "m")]);
    assert_eq!(plan.no_longer_masters, [id]);
    assert_eq!(rows.live(), ["M"]);
    assert_eq!(rows.apply(vec![single("M", "m")]).no_longer_masters, []);
}

#[test]
fn an_instance_keeps_its_row_when_the_provider_gives_it_a_new_id() {
    let mut rows = Rows::default();
    rows.apply(vec![master("M", "m"), occurrence("M1", "M", MONDAY)]);
    let id = rows.row("M1").id;
    let plan = rows.apply(vec![
        master("M", "m"),
        exception("E1", "M", MONDAY, MONDAY + Duration::HOUR),
        removed("M1"),
    ]);
    assert_eq!(rows.row("E1").id, id);
    assert!(plan.writes[0].rekeyed);
    assert_eq!(
        plan.removed,
        [],
        "the old id's removal is not the instance's"
    );
}

#[test]
fn occurrences_that_swap_their_ids_swap_their_rows_keys() {
    let mut rows = Rows::default();
    let tuesday = MONDAY + Duration::DAY;
    rows.apply(vec![
        master("M", "m"),
        occurrence("M1", "M", MONDAY),
        occurrence("M2", "M", tuesday),
    ]);
    let (first, second) = (rows.row("M1").id, rows.row("M2").id);
    let plan = rows.apply(vec![
        occurrence("M2", "M", MONDAY),
        occurrence("M1", "M", tuesday),
        master("M", "m"),
    ]);
    assert_eq!((rows.row("M2").id, rows.row("M1").id), (first, second));
    assert!(plan.writes.iter().all(|write| write.rekeyed));
    assert_eq!(plan.displaced, []);
}

#[test]
fn a_moved_series_keeps_the_rows_of_the_ids_that_stay() {
    let mut rows = Rows::default();
    rows.apply(vec![master("M", "m"), occurrence("M1", "M", MONDAY)]);
    let id = rows.row("M1").id;
    rows.apply(vec![
        master("M", "m"),
        occurrence("M1", "M", MONDAY + Duration::HOUR),
    ]);
    assert_eq!(rows.row("M1").id, id);
    assert_eq!(rows.row("M1").original_start, Some(MONDAY + Duration::HOUR));
}

#[test]
fn a_row_whose_id_was_given_to_another_place_is_displaced() {
    let mut rows = Rows::default();
    let tuesday = MONDAY + Duration::DAY;
    rows.apply(vec![
        master("M", "m"),
        occurrence("M1", "M", MONDAY),
        occurrence("M2", "M", tuesday),
    ]);
    let (first, second) = (rows.row("M1").id, rows.row("M2").id);
    let plan = rows.apply(vec![occurrence("M2", "M", MONDAY), master("M", "m")]);
    assert_eq!(rows.row("M2").id, first);
    assert_eq!(plan.displaced, [second]);
}

#[test]
fn a_removed_instance_leaves_its_series_to_be_judged() {
    let mut rows = Rows::default();
    rows.apply(vec![master("M", "m"), occurrence("M1", "M", MONDAY)]);
    let plan = rows.apply(vec![removed("M1")]);
    assert!(plan.touched_series);
    assert_eq!(plan.seen, [rows.row("M").id]);
}

#[test]
fn a_removed_master_leaves_nothing_for_occurrences_to_stand_under() {
    let mut rows = Rows::default();
    rows.apply(vec![master("M", "m"), occurrence("M1", "M", MONDAY)]);
    rows.apply(vec![removed("M"), occurrence("M1", "M", MONDAY)]);
    assert_eq!(rows.live(), Vec::<String>::new());
}

#[test]
fn an_exception_without_a_master_is_kept_on_its_own() {
    let mut rows = Rows::default();
    let plan = rows.apply(vec![exception("E1", "gone", MONDAY, MONDAY)]);
    assert_eq!((plan.writes.len(), plan.writes[0].parent), (1, None));
    assert_eq!(plan.writes[0].series_master_id.as_deref(), Some("gone"));
}

#[test]
fn a_rejected_event_counts_as_seen_and_stays() {
    let mut rows = Rows::default();
    let id = rows.apply(vec![single("A", "one")]).writes[0].id;
    let rejected = RejectedEvent::new(Some("A".into()), "start_missing", "{}");
    let plan = rows.apply(vec![EventChange::Rejected(rejected.clone())]);
    assert_eq!(
        (plan.seen, plan.skipped, plan.removed),
        (vec![id], 1, vec![])
    );
    assert_eq!((plan.rejected, plan.resolved), (vec![rejected], vec![]));
}

#[test]
fn what_is_stored_or_gone_is_set_aside_no_longer() {
    let mut rows = Rows::default();
    let long = "x".repeat(300);
    let plan = rows.apply(vec![
        single("A", "one"),
        EventChange::Removed("never seen".into()),
        single(&long, "long"),
    ]);
    let stored = calendar_domain::normalise::stored_identifier(&long);
    assert_eq!(plan.resolved, ["A", "never seen", &stored]);
    let again = rows.apply(vec![single("A", "one")]);
    assert_eq!((again.unchanged, again.resolved), (1, vec!["A".to_owned()]));
}

#[test]
fn a_master_that_could_not_be_had_is_set_aside_once_and_its_own_reason_counts() {
    let mut rows = Rows::default();
    let plan = rows.apply(vec![
        occurrence("M1", "M", MONDAY),
        occurrence("N1", "N", MONDAY),
        occurrence("M2", "M", MONDAY + Duration::DAY),
        EventChange::Rejected(RejectedEvent::new(Some("N".into()), "unreadable", "5")),
    ]);
    let rejected: Vec<(&str, &str)> = plan
        .rejected
        .iter()
        .map(|rejected| (rejected.id.as_str(), rejected.reason.as_str()))
        .collect();
    assert_eq!(
        rejected,
        [("N", "unreadable"), ("M", "series_master_not_found")]
    );
    assert_eq!((plan.skipped, plan.resolved), (4, vec![]));
}

#[test]
fn an_id_that_is_too_long_is_hashed_and_found_again() {
    let mut rows = Rows::default();
    let long = "x".repeat(300);
    let id = rows.apply(vec![single(&long, "one")]).writes[0].id;
    assert_eq!(rows.apply(vec![single(&long, "one")]).unchanged, 1);
    assert_eq!(rows.apply(vec![removed(&long)]).removed, [id]);
}

fn change() -> impl Strategy<Value = EventChange> {
    let id = 0_u8..6;
    let day = (0_i64..4).prop_map(|day| MONDAY + Duration::days(day));
    prop_oneof![
        (id.clone(), 0_u8..2).prop_map(|(id, title)| single(&format!("S{id}"), &title.to_string())),
        (0_u8..2, 0_u8..2).prop_map(|(id, title)| master(&format!("M{id}"), &title.to_string())),
        (id.clone(), 0_u8..2, day.clone()).prop_map(|(id, of, day)| occurrence(
            &format!("I{id}"),
            &format!("M{of}"),
            day
        )),
        (id.clone(), 0_u8..2, day.clone(), day).prop_map(|(id, of, original, start)| exception(
            &format!("I{id}"),
            &format!("M{of}"),
            original,
            start
        )),
        id.clone().prop_map(|id| removed(&format!("I{id}"))),
        id.prop_map(|id| removed(&format!("S{id}"))),
        (0_u8..2).prop_map(|id| removed(&format!("M{id}"))),
    ]
}

fn pages() -> impl Strategy<Value = Vec<Vec<EventChange>>> {
    prop::collection::vec(prop::collection::vec(change(), 0..8), 1..6)
}

proptest! {
    #[test]
    fn t02_only_what_a_page_removes_by_name_goes(pages in pages()) {
        let mut rows = Rows::default();
        for page in pages {
            let named: HashSet<ProviderEventId> = page
                .iter()
                .filter(|change| matches!(change, EventChange::Removed(_)))
                .map(|change| change.id().clone())
                .collect();
            for id in rows.apply(page).removed {
                prop_assert!(named.contains(&ProviderEventId(rows.0[&id].0.provider_event_id.clone())));
            }
        }
    }

    #[test]
    fn whatever_comes_keys_stay_unique(pages in pages()) {
        let mut rows = Rows::default();
        for page in pages {
            let plan = rows.apply(page.clone());
            let mut written = HashSet::new();
            for write in &plan.writes {
                prop_assert!(written.insert(write.id), "a row is written twice");
                prop_assert!(!plan.removed.contains(&write.id), "written and removed");
                prop_assert!(!plan.displaced.contains(&write.id), "written and displaced");
            }
            let mut places = HashSet::new();
            for (row, _) in rows.0.values().filter(|(row, _)| !row.deleted) {
                if let (Some(parent), Some(start)) = (row.parent, row.original_start) {
                    prop_assert!(places.insert((parent, start)), "two live rows at one place");
                }
            }
            // The same page again is a fixed point, but for entries that lost to another of the page.
            let again = rows.apply(page);
            prop_assert!(again.writes.iter().all(|write| !write.is_new || !plan.writes.iter().any(|first| first.id == write.id)));
        }
    }
}
