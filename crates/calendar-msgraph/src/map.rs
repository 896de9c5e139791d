//! Graph's events to the domain's. The tables stand in docs/microsoft.md.

use std::cmp::Ordering;
use std::collections::HashMap;

use calendar_domain::event::{
    EventChange, EventKind, EventMoment, EventSpan, Occurrence, ProviderEvent, ProviderEventId,
};
use calendar_domain::recurrence::RecurrenceRule;
use calendar_domain::rejected::RejectedEvent;
use serde::Deserialize as _;
use serde_json::value::RawValue;
use time::{Date, OffsetDateTime, Time};

use crate::moment::{Zones, date_part, parse_instant, utc_to_local};
use crate::recurrence::{self, GraphRecurrence};
use crate::teams::teams_meeting;
use crate::wire::{Identified, WireEvent, WireMoment};

mod values;

use values::{
    attendees_of, description_of, importance_of, keep_raw, location_of, non_empty, organizer_of,
    reminders_of, sensitivity_of, show_as_of, status_of,
};

/// What an entry of type `occurrence` becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occurrences {
    /// An `Occurrence`, stub or whole.
    AsOccurrence,
    /// An exception: whoever asked for this one event wants it whole.
    AsException,
}

/// Maps the entries of one page. Zones are looked up once a page.
#[derive(Debug, Default)]
pub(crate) struct Mapper {
    zones: Zones,
}

impl Mapper {
    /// Maps the entries of a page.
    pub(crate) fn page(
        &mut self,
        entries: &[&RawValue],
        occurrences: Occurrences,
    ) -> Vec<EventChange> {
        let mut changes: Vec<EventChange> = entries
            .iter()
            .map(|entry| self.entry(entry, occurrences))
            .collect();
        settle_all_day(&mut changes);
        changes
    }

    /// Maps one entry.
    pub(crate) fn entry(&mut self, raw: &RawValue, occurrences: Occurrences) -> EventChange {
        let rejected =
            |id, reason| EventChange::Rejected(RejectedEvent::new(id, reason, raw.get()));
        let Ok(mut event) = serde_json::from_str::<WireEvent>(raw.get()) else {
            return match Identified::read(raw) {
                Some(id) => rejected(Some(ProviderEventId(id)), "unreadable"),
                None => rejected(None, "id_missing"),
            };
        };
        let Some(id) = event.id.take().filter(|id| !id.is_empty()) else {
            return rejected(None, "id_missing");
        };
        let id = ProviderEventId(id);
        if event.is_removed {
            return EventChange::Removed(id);
        }
        self.event(id.clone(), event, occurrences)
            .unwrap_or_else(|reason| rejected(Some(id), reason))
    }

    fn event(
        &mut self,
        id: ProviderEventId,
        mut event: WireEvent,
        occurrences: Occurrences,
    ) -> Result<EventChange, &'static str> {
        let span = self.span(&event)?;
        let kind = match event_type(&event) {
            Type::Single => EventKind::Single,
            Type::Master => EventKind::Master {
                rule: self.rule(&event, span)?,
                exception_dates: None,
            },
            Type::Exception => self.exception(&mut event, span)?,
            Type::Occurrence if occurrences == Occurrences::AsException => {
                self.exception(&mut event, span)?
            }
            Type::Occurrence => {
                let master =
                    ProviderEventId(event.series_master_id.ok_or("series_master_missing")?);
                // A stub does not say whether it is all-day: `settle_all_day` does.
                let span = if event.is_all_day.is_none() {
                    whole_days(span)
                } else {
                    span
                };
                return Ok(EventChange::Occurrence(Occurrence { id, master, span }));
            }
        };
        Ok(EventChange::Event(Box::new(
            self.content(id, kind, span, event),
        )))
    }

    /// When. Instants are UTC, because `Prefer` asks for it; all-day events are dates as they stand.
    fn span(&mut self, event: &WireEvent) -> Result<EventSpan, &'static str> {
        let start_text = date_time(event.start.as_ref()).ok_or("start_missing")?;
        let end_text = date_time(event.end.as_ref()).ok_or("end_missing")?;
        if event.is_all_day == Some(true) {
            let start = date_part(start_text).ok_or("start_unreadable")?;
            let end = date_part(end_text).ok_or("end_unreadable")?;
            return match end.cmp(&start) {
                Ordering::Less => Err("end_before_start"),
                // An empty day is one day; the last day there is stays empty.
                Ordering::Equal => Ok(EventSpan::AllDay {
                    start,
                    end: start.next_day().unwrap_or(start),
                }),
                Ordering::Greater => Ok(EventSpan::AllDay { start, end }),
            };
        }
        let start = self
            .instant(event.start.as_ref())
            .ok_or("start_unreadable")?;
        let end = self.instant(event.end.as_ref()).ok_or("end_unreadable")?;
        if end < start {
            return Err("end_before_start");
        }
        Ok(EventSpan::Timed { start, end })
    }

    fn instant(&mut self, moment: Option<&WireMoment>) -> Option<OffsetDateTime> {
        let moment = moment?;
        self.zones
            .instant(moment.date_time.as_deref()?, moment.time_zone.as_deref())
    }

    /// The rule; `None` where we cannot express it, and then its raw form says what it is. What is no rule at
    /// all is an error.
    fn rule(
        &mut self,
        event: &WireEvent,
        span: EventSpan,
    ) -> Result<Option<RecurrenceRule>, &'static str> {
        let Some(recurrence) = &event.recurrence else {
            return Ok(None);
        };
        let recurrence =
            GraphRecurrence::deserialize(recurrence).map_err(|_| "recurrence_unreadable")?;
        if recurrence.range.has_two_ends() {
            return Err("recurrence_ends_twice");
        }
        let zone = event.original_start_zone.as_deref();
        Ok(recurrence::read(
            &recurrence,
            span.is_all_day(),
            zone,
            &mut self.zones,
        ))
    }

    fn exception(
        &mut self,
        event: &mut WireEvent,
        span: EventSpan,
    ) -> Result<EventKind, &'static str> {
        let master = event
            .series_master_id
            .take()
            .ok_or("series_master_missing")?;
        let original = event.original_start.as_deref().and_then(parse_instant);
        let original_start = match (original, span) {
            // Some answers leave it out (`/instances` with `$select`): its own start is the best
            // that is left, and right as long as it was not moved.
            (None, span) => span.start(),
            (Some(original), EventSpan::Timed { .. }) => EventMoment::Instant(original),
            (Some(original), EventSpan::AllDay { .. }) => EventMoment::Date(
                self.original_date(original, event.original_start_zone.as_deref()),
            ),
        };
        Ok(EventKind::Exception {
            master: ProviderEventId(master),
            original_start,
        })
    }

    /// The date of an all-day instance out of `originalStart`, which is midnight of the zone that
    /// the series was made in, told in UTC: 07:00Z for Los Angeles, 22:00Z of the day before for
    /// Berlin. The zone decides where it makes a midnight of it; else the nearest midnight UTC.
    fn original_date(&mut self, original: OffsetDateTime, zone: Option<&str>) -> Date {
        let local = zone
            .and_then(|name| self.zones.rules(name))
            .and_then(|rules| utc_to_local(original, &rules));
        match local {
            Some(local) if local.time() == Time::MIDNIGHT => local.date(),
            _ if original.hour() > 12 => original.date().next_day().unwrap_or(original.date()),
            _ => original.date(),
        }
    }

    fn content(
        &mut self,
        id: ProviderEventId,
        kind: EventKind,
        span: EventSpan,
        mut event: WireEvent,
    ) -> ProviderEvent {
        let teams = teams_meeting(
            event.is_online_meeting,
            event.online_meeting_provider.as_deref(),
            event.online_meeting.as_ref(),
        );
        let zone = event
            .original_start_zone
            .as_deref()
            .filter(|name| !name.is_empty());
        let zone = zone.map(|name| self.zones.resolve(name));
        let end_zone = event
            .original_end_zone
            .as_deref()
            .filter(|name| !name.is_empty());
        let end_zone = end_zone
            .map(|name| self.zones.resolve(name))
            .filter(|end| Some(end) != zone.as_ref());
        let organizer = event
            .organizer
            .take()
            .and_then(|recipient| recipient.email_address);
        let organizer = organizer.and_then(organizer_of);
        let mut metadata = std::mem::take(&mut event.rest);
        let attendees = event.attendees.take().unwrap_or_default();
        let attendees = attendees_of(attendees, organizer.as_ref(), &mut metadata);
        let reminders = reminders_of(&event);
        let status = status_of(&event);
        let show_as = event.show_as.as_deref().map(show_as_of);
        let sensitivity = event.sensitivity.as_deref().and_then(sensitivity_of);
        let importance = event.importance.as_deref().and_then(importance_of);
        let location = location_of(&event);
        let ical_uid = non_empty(event.ical_uid.take());
        // Graph documents no conversationId on events; where a payload has one, it threads.
        let conversation_id = non_empty(event.conversation_id.take()).or_else(|| ical_uid.clone());
        let title = non_empty(event.subject.take());
        let html_link = non_empty(event.web_link.take());
        let categories = event
            .categories
            .take()
            .unwrap_or_default()
            .into_iter()
            .flatten()
            .collect();
        let description =
            description_of(event.body.take(), event.body_preview.take(), &mut metadata);
        let is_organizer = event.is_organizer;
        keep_raw(event, span, &mut metadata);
        ProviderEvent {
            id,
            kind,
            title,
            description,
            location,
            span,
            zone,
            end_zone,
            status,
            importance: importance.unwrap_or_default(),
            show_as,
            sensitivity,
            categories,
            conversation_id,
            ical_uid,
            teams,
            organizer,
            is_organizer,
            attendees,
            reminders,
            html_link,
            metadata,
        }
    }
}

enum Type {
    Single,
    Master,
    Occurrence,
    Exception,
}

/// `type`; where it is missing or new, what the other members say.
fn event_type(event: &WireEvent) -> Type {
    let kind = event.kind.as_deref().unwrap_or_default();
    let is = |name: &str| kind.eq_ignore_ascii_case(name);
    if is("singleInstance") {
        Type::Single
    } else if is("seriesMaster") {
        Type::Master
    } else if is("occurrence") {
        Type::Occurrence
    } else if is("exception") {
        Type::Exception
    } else if event.series_master_id.is_some() {
        if event.subject.is_some() {
            Type::Exception
        } else {
            Type::Occurrence
        }
    } else if event.recurrence.is_some() {
        Type::Master
    } else {
        Type::Single
    }
}

/// Occurrences follow their master, where the page has it: a stub does not say whether it is
/// all-day. Without it, what runs from one midnight UTC to another counts as all-day (in the store
/// the two differ by a flag alone).
fn settle_all_day(changes: &mut [EventChange]) {
    let masters: HashMap<String, bool> = changes
        .iter()
        .filter_map(|change| match change {
            EventChange::Event(event) if matches!(event.kind, EventKind::Master { .. }) => {
                Some((event.id.0.clone(), event.span.is_all_day()))
            }
            _ => None,
        })
        .collect();
    if masters.is_empty() {
        return;
    }
    for change in changes {
        if let EventChange::Occurrence(occurrence) = change {
            match masters.get(&occurrence.master.0) {
                Some(true) => occurrence.span = dates(occurrence.span),
                Some(false) => occurrence.span = instants(occurrence.span),
                None => {}
            }
        }
    }
}

fn whole_days(span: EventSpan) -> EventSpan {
    match span {
        EventSpan::Timed { start, end }
            if start.time() == Time::MIDNIGHT && end.time() == Time::MIDNIGHT && end > start =>
        {
            dates(span)
        }
        other => other,
    }
}

fn dates(span: EventSpan) -> EventSpan {
    match span {
        EventSpan::Timed { start, end } => {
            let (start, end) = (start.date(), end.date());
            let end = if end > start {
                end
            } else {
                start.next_day().unwrap_or(start)
            };
            EventSpan::AllDay { start, end }
        }
        all_day @ EventSpan::AllDay { .. } => all_day,
    }
}

fn instants(span: EventSpan) -> EventSpan {
    EventSpan::Timed {
        start: span.start().to_column(),
        end: span.end().to_column(),
    }
}

fn date_time(moment: Option<&WireMoment>) -> Option<&str> {
    moment?.date_time.as_deref()
}

#[cfg(test)]
mod tests;
