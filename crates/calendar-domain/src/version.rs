//! The version of a row: a hash over what is stored, so that an unchanged event writes no row.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::{EventKind, EventMoment, EventSpan, EventZone, Occurrence, ProviderEvent};

/// Raise it when the mapping of stored rows changes, so that a full pass writes every row anew, and when an
/// adapter maps what it refused before, so that what is set aside is tried again.
pub const MAPPER_VERSION: u8 = 1;

/// SHA-256 over tagged, length-prefixed parts: no two different events write the same bytes.
struct Fingerprint(Sha256);

impl Fingerprint {
    fn new(kind: &str) -> Self {
        let mut print = Self(Sha256::new());
        print.number(u64::from(MAPPER_VERSION));
        print.text(kind);
        print
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn signed(&mut self, number: i128) {
        self.0.update(number.to_le_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        match text {
            None => self.number(u64::MAX),
            Some(text) => self.text(text),
        }
    }

    fn moment(&mut self, moment: EventMoment) {
        match moment {
            EventMoment::Date(date) => {
                self.number(0);
                self.signed(date.to_julian_day().into());
            }
            EventMoment::Instant(_) => {
                self.number(1);
                self.signed(moment.to_column().unix_timestamp_nanos());
            }
        }
    }

    fn span(&mut self, span: EventSpan) {
        self.moment(span.start());
        self.moment(span.end());
    }

    fn zone(&mut self, zone: Option<&EventZone>) {
        match zone {
            None => self.number(0),
            Some(EventZone::Iana(name)) => {
                self.number(1);
                self.text(name);
            }
            Some(EventZone::Unresolved(name)) => {
                self.number(2);
                self.text(name);
            }
        }
    }

    fn metadata(&mut self, metadata: &Map<String, Value>) {
        self.number(metadata.len() as u64);
        for (key, value) in metadata {
            self.text(key);
            self.text(&value.to_string());
        }
    }

    /// Everything but what is an event's own within its series: time, rule, provider's id, metadata.
    fn content(&mut self, event: &ProviderEvent) {
        self.optional(event.title.as_deref());
        self.optional(event.description.as_deref());
        self.optional(event.location.as_deref());
        self.zone(event.zone.as_ref());
        self.zone(event.end_zone.as_ref());
        self.number(event.status as u64);
        self.number(event.importance as u64);
        self.number(event.show_as.map_or(u64::MAX, |show_as| show_as as u64));
        self.number(
            event
                .sensitivity
                .map_or(u64::MAX, |sensitivity| sensitivity as u64),
        );
        self.number(event.categories.len() as u64);
        for category in &event.categories {
            self.text(category);
        }
        self.optional(event.conversation_id.as_deref());
        self.optional(event.ical_uid.as_deref());
        self.number(u64::from(event.teams.is_some()));
        if let Some(teams) = &event.teams {
            self.optional(teams.meeting_url.as_deref());
            self.optional(teams.conference_id.as_deref());
            self.optional(teams.dial_in_url.as_deref());
        }
        self.number(u64::from(event.organizer.is_some()));
        if let Some(organizer) = &event.organizer {
            self.optional(organizer.email.as_deref());
            self.optional(organizer.display_name.as_deref());
        }
        self.number(event.is_organizer.map_or(u64::MAX, u64::from));
        self.number(event.attendees.len() as u64);
        for attendee in &event.attendees {
            self.optional(attendee.email.as_deref());
            self.optional(attendee.display_name.as_deref());
            self.number(attendee.rsvp_status as u64);
            self.number(attendee.attendee_type as u64);
            self.number(u64::from(attendee.is_organizer));
            self.optional(attendee.comment.as_deref());
            match attendee.response_time {
                None => self.number(0),
                Some(time) => {
                    self.number(1);
                    self.moment(EventMoment::Instant(time));
                }
            }
        }
        self.number(event.reminders.len() as u64);
        for reminder in &event.reminders {
            self.number(reminder.method as u64);
            self.signed(reminder.minutes_before.into());
        }
        self.optional(event.html_link.as_deref());
    }

    fn finish(self) -> Uuid {
        let digest = self.0.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// The hash of what occurrences inherit from a master.
pub(crate) fn content_version(master: &ProviderEvent) -> Uuid {
    let mut print = Fingerprint::new("content");
    print.content(master);
    print.finish()
}

/// The version of a single, a master or an exception, normalised.
pub(crate) fn event_version(event: &ProviderEvent) -> Uuid {
    let mut print = Fingerprint::new("event");
    print.text(event.id.as_str());
    match &event.kind {
        EventKind::Single => print.number(0),
        EventKind::Master {
            rule,
            exception_dates,
        } => {
            print.number(1);
            print.optional(rule.as_ref().map(ToString::to_string).as_deref());
            print.number(
                exception_dates
                    .as_ref()
                    .map_or(u64::MAX, |dates| dates.len() as u64),
            );
            for date in exception_dates.iter().flatten() {
                print.moment(*date);
            }
        }
        EventKind::Exception {
            master,
            original_start,
        } => {
            print.number(2);
            print.text(master.as_str());
            print.moment(*original_start);
        }
    }
    print.span(event.span);
    print.content(event);
    print.metadata(&event.metadata);
    print.finish()
}

/// The version of an unmodified occurrence of a master with this content.
pub(crate) fn occurrence_version(occurrence: &Occurrence, content_version: Uuid) -> Uuid {
    let mut print = Fingerprint::new("occurrence");
    print.text(occurrence.id.as_str());
    print.text(occurrence.master.as_str());
    print.span(occurrence.span);
    print.bytes(content_version.as_bytes());
    print.finish()
}
