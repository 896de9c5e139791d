//! Judging a series after all pages of a pass are in: which occurrences are gone although nobody
//! said so.
//!
//! Graph reports no deleted occurrence; it resends the series without it (facts: "a deleted occurrence
//! gets no `@removed`"). So what the rule makes, or what we hold, and the pass did not show, is suspected,
//! confirmed with the provider, and only then an exception date.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use crate::event::{EventChange, EventKind, EventMoment, EventSpan, ProviderEventId};
use crate::recurrence::RecurrenceRule;
use crate::sync::{SeriesCorrection, SyncWindow, TouchedSeries};
use crate::zone;

/// What is suspected to be gone from a series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suspects {
    /// Original starts that the rule makes inside the window and that no live, seen row stands for.
    pub missing: BTreeSet<EventMoment>,
}

impl Suspects {
    /// Compares the rule with the rows. Exception dates that are known already are no suspects, nor what
    /// takes place outside the window: it has left it, or was moved out, and no view of the window shows it.
    #[must_use]
    pub fn of(series: &TouchedSeries, window: SyncWindow) -> Self {
        let mut missing: BTreeSet<EventMoment> = rule_in_zone(series)
            .map(|(rule, zone)| rule.starts_in(series.span, &zone, inner(series.span, window)))
            .unwrap_or_default()
            .into_iter()
            .filter(|start| !series.exception_dates.contains(start))
            .collect();
        for instance in &series.instances {
            if instance.seen || !window.overlaps(instance.span) {
                missing.remove(&instance.original_start);
            } else {
                missing.insert(instance.original_start);
            }
        }
        Self { missing }
    }

    /// Whether the provider has to be asked.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.missing.is_empty()
    }
}

/// The part of the window in which each occurrence of the rule must show in a view of the window.
fn inner(span: EventSpan, window: SyncWindow) -> SyncWindow {
    let margin = time::Duration::days(1) + (span.end().to_column() - span.start().to_column());
    SyncWindow {
        start: window.start,
        end: window
            .end
            .checked_sub(margin)
            .map_or(window.start, |end| end.max(window.start)),
    }
}

/// What is to be corrected, given what the provider says the series has in the window (empty
/// suspects need no asking: pass an empty list). `None` when everything is as it should be.
///
/// Also returns the provider's entries that contradict a suspicion, to be stored again.
#[must_use]
pub fn judge(
    series: &TouchedSeries,
    suspects: &Suspects,
    actual: Vec<EventChange>,
) -> (Option<SeriesCorrection>, Vec<EventChange>) {
    let is_there = |start: EventMoment, id: Option<&ProviderEventId>| {
        actual
            .iter()
            .any(|change| Some(change.id()) == id || is_at(change, start))
    };
    let rule = rule_in_zone(series);
    let mut exception_dates: BTreeSet<EventMoment> =
        series.exception_dates.iter().copied().collect();
    let mut removed = Vec::new();
    for instance in &series.instances {
        let alive = !suspects.missing.contains(&instance.original_start)
            || is_there(instance.original_start, Some(&instance.provider_event_id));
        if alive {
            exception_dates.remove(&instance.original_start);
        } else {
            removed.push(instance.id);
        }
    }
    // An instance that could not be read, and never was, stands in one of the holes: nobody knows in which.
    let is_known = |id: &ProviderEventId| {
        let mut instances = series.instances.iter();
        instances.any(|instance| instance.provider_event_id == *id)
    };
    let are_holes_told = !actual
        .iter()
        .any(|change| matches!(change, EventChange::Rejected(rejected) if !is_known(&rejected.id)));
    for start in &suspects.missing {
        if is_there(*start, None) {
            exception_dates.remove(start);
        } else if are_holes_told
            && rule
                .as_ref()
                .is_some_and(|rule| is_made(rule, series.span, *start))
        {
            exception_dates.insert(*start);
        }
    }
    let contradictions = actual
        .into_iter()
        .filter(|change| suspects.missing.iter().any(|start| is_at(change, *start)))
        .collect();
    // After an edit of the rule or its time, what was left out of the old series says nothing of the new one.
    if let Some(rule) = &rule {
        exception_dates.retain(|start| is_made(rule, series.span, *start));
    }
    let exception_dates: Vec<EventMoment> = exception_dates.into_iter().collect();
    let mut before = series.exception_dates.clone();
    before.sort_unstable();
    before.dedup();
    let correction =
        (exception_dates != before || !removed.is_empty()).then_some(SeriesCorrection {
            master_id: series.master_id,
            exception_dates,
            removed,
        });
    (correction, contradictions)
}

/// The rule and the zone that it runs in, where the series can be expanded.
fn rule_in_zone(series: &TouchedSeries) -> Option<(&RecurrenceRule, TimeZone)> {
    let zone = match series.zone.as_deref().and_then(zone::lookup) {
        None if series.span.is_all_day() => Some(TimeZone::UTC),
        zone => zone,
    };
    series.rule.as_ref().zip(zone)
}

/// Whether the rule makes an occurrence there. One that it does not make is no exception date.
fn is_made(
    (rule, zone): &(&RecurrenceRule, TimeZone),
    first: EventSpan,
    start: EventMoment,
) -> bool {
    let at = start.to_column();
    let moment = SyncWindow {
        start: at,
        end: at.checked_add(time::Duration::SECOND).unwrap_or(at),
    };
    rule.starts_in(first, zone, moment).contains(&start)
}

/// Whether a provider's entry stands in this place of its series. Compared as columns: an all-day
/// exception of a timed series gives its original start as a date.
fn is_at(change: &EventChange, start: EventMoment) -> bool {
    let original_start = match change {
        EventChange::Occurrence(occurrence) => occurrence.span.start(),
        EventChange::Event(event) => match &event.kind {
            EventKind::Exception { original_start, .. } => *original_start,
            EventKind::Single | EventKind::Master { .. } => return false,
        },
        EventChange::Removed(_) | EventChange::Rejected(_) => return false,
    };
    original_start.to_column() == start.to_column()
}
