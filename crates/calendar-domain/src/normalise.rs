//! What fits into the columns: NUL replaced, over-long texts cut (whole in the metadata), attendees
//! deduplicated, identifiers never cut.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::event::{Attendee, EventSpan, ProviderEvent};

/// `calendar_events.title`, in characters.
pub const TITLE: usize = 500;
/// `calendar_events.location`, in characters.
pub const LOCATION: usize = 500;
/// All identifiers, addresses and names of VARCHAR(255), in characters.
pub const NAME: usize = 255;
/// Zone names, in characters.
pub const ZONE: usize = 100;

/// An identifier as a column of 255 characters holds it: itself, or `sha256:` and 64 hexadecimal
/// digits where it is too long or holds a NUL. Never cut: two ids would become one.
#[must_use]
pub fn stored_identifier(id: &str) -> Cow<'_, str> {
    let fits = id.len() <= NAME || id.chars().count() <= NAME;
    if fits && !id.contains('\0') {
        return Cow::Borrowed(id);
    }
    Cow::Owned(fingerprint(id))
}

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn fingerprint(text: &str) -> String {
    let mut print = String::with_capacity(71);
    print.push_str("sha256:");
    for byte in Sha256::digest(text.as_bytes()) {
        for nibble in [byte >> 4, byte & 15] {
            print.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    print
}

/// The event as its columns can hold it.
#[must_use]
pub fn normalise(mut event: ProviderEvent) -> ProviderEvent {
    let mut whole = Map::new();
    clean(&mut event.title);
    clean(&mut event.description);
    clean(&mut event.location);
    cut(&mut event.title, TITLE, "title", &mut whole);
    cut(&mut event.location, LOCATION, "location", &mut whole);
    for category in &mut event.categories {
        replace_nul(category);
    }
    if let Cow::Owned(stored) = stored_identifier(&event.id.0) {
        keep(
            &mut whole,
            "provider_event_id",
            &std::mem::replace(&mut event.id.0, stored),
        );
    }
    if let Some(id) = &mut event.conversation_id
        && let Cow::Owned(stored) = stored_identifier(id)
    {
        keep(
            &mut whole,
            "conversation_id",
            &std::mem::replace(id, stored),
        );
    }
    if let Some(id) = &mut event.ical_uid
        && let Cow::Owned(stored) = stored_identifier(id)
    {
        keep(&mut whole, "ical_uid", &std::mem::replace(id, stored));
    }
    if let Some(teams) = &mut event.teams {
        clean(&mut teams.meeting_url);
        clean(&mut teams.conference_id);
        clean(&mut teams.dial_in_url);
        cut(
            &mut teams.conference_id,
            NAME,
            "teams_conference_id",
            &mut whole,
        );
    }
    if let Some(organizer) = &mut event.organizer {
        clean(&mut organizer.email);
        clean(&mut organizer.display_name);
        cut(&mut organizer.email, NAME, "organizer_email", &mut whole);
        cut(
            &mut organizer.display_name,
            NAME,
            "organizer_name",
            &mut whole,
        );
    }
    clean(&mut event.html_link);
    event.attendees = attendees(std::mem::take(&mut event.attendees), &mut whole);
    event.reminders.sort_unstable();
    event.reminders.dedup();
    event.span = ordered(event.span);
    if event.metadata.values().any(has_nul) || event.metadata.keys().any(|key| key.contains('\0')) {
        event.metadata = without_nul(std::mem::take(&mut event.metadata));
    }
    if !whole.is_empty() {
        event
            .metadata
            .insert("uncut".to_owned(), Value::Object(whole));
    }
    event
}

/// The end is never before the start; an all-day event lasts at least a day.
fn ordered(span: EventSpan) -> EventSpan {
    match span {
        EventSpan::Timed { start, end } => EventSpan::Timed {
            start,
            end: end.max(start),
        },
        EventSpan::AllDay { start, end } => EventSpan::AllDay {
            start,
            end: end.max(start.next_day().unwrap_or(start)),
        },
    }
}

/// One attendee for each address, whatever its case; the last one counts, in the place of the
/// first. Those without an address are all kept.
fn attendees(given: Vec<Attendee>, whole: &mut Map<String, Value>) -> Vec<Attendee> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(given.len());
    let mut kept: Vec<Attendee> = Vec::with_capacity(given.len());
    for mut attendee in given {
        clean(&mut attendee.email);
        clean(&mut attendee.display_name);
        clean(&mut attendee.comment);
        if let Some(address) = &mut attendee.email {
            let trimmed = address.trim();
            if trimmed.len() != address.len() {
                *address = trimmed.to_owned();
            }
        }
        attendee.email = attendee.email.filter(|address| !address.is_empty());
        if let Some(address) = &mut attendee.email
            && let Cow::Owned(stored) = stored_identifier(address)
        {
            keep(whole, "attendee_email", &std::mem::replace(address, stored));
        }
        cut(&mut attendee.display_name, NAME, "attendee_name", whole);
        match attendee
            .email
            .as_ref()
            .map(|address| address.to_lowercase())
        {
            None => kept.push(attendee),
            Some(key) => match places.get(&key) {
                Some(&place) => {
                    let is_organizer = kept[place].is_organizer || attendee.is_organizer;
                    kept[place] = Attendee {
                        is_organizer,
                        ..attendee
                    };
                }
                None => {
                    places.insert(key, kept.len());
                    kept.push(attendee);
                }
            },
        }
    }
    kept
}

fn clean(text: &mut Option<String>) {
    if let Some(text) = text {
        replace_nul(text);
    }
}

/// PostgreSQL refuses NUL in a text.
fn replace_nul(text: &mut String) {
    if text.contains('\0') {
        *text = text.replace('\0', "\u{FFFD}");
    }
}

/// Cuts at `limit` characters, and keeps the whole text under `name`.
fn cut(text: &mut Option<String>, limit: usize, name: &str, whole: &mut Map<String, Value>) {
    let Some(text) = text else { return };
    if text.len() <= limit {
        return;
    }
    if let Some((at, _)) = text.char_indices().nth(limit) {
        let short = text[..at].to_owned();
        keep(whole, name, &std::mem::replace(text, short));
    }
}

/// Texts of one name (attendees) stand in a list.
fn keep(whole: &mut Map<String, Value>, name: &str, text: &str) {
    let text = Value::String(text.replace('\0', "\u{FFFD}"));
    match whole.get_mut(name) {
        None => {
            whole.insert(name.to_owned(), text);
        }
        Some(Value::Array(texts)) => texts.push(text),
        Some(first) => *first = Value::Array(vec![first.take(), text]),
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn without_nul(map: Map<String, Value>) -> Map<String, Value> {
    map.into_iter()
        .map(|(mut key, value)| {
            replace_nul(&mut key);
            (key, value_without_nul(value))
        })
        .collect()
}

pub(crate) fn value_without_nul(value: Value) -> Value {
    match value {
        Value::String(mut text) => {
            replace_nul(&mut text);
            Value::String(text)
        }
        Value::Array(values) => Value::Array(values.into_iter().map(value_without_nul).collect()),
        Value::Object(map) => Value::Object(without_nul(map)),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}
