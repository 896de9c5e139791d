//! Changing and reading events: what Graph clients and the admin interface have in common, and the admin calls on the
//! `Simulator` handle.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde_json::{Map, Value, json};

use crate::error::GraphError;
use crate::event::{self, Author, NEVER};
use crate::ids::Kind;
use crate::model::{Calendar, Event, Instance, Item, Mailbox, World};
use crate::read;
use crate::recurrence::Recurrence;
use crate::render::View;
use crate::simulator::{Simulator, members};
use crate::zones::Zone;

/// An event, occurrence or exception that an identifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) owner: u32,
    pub(crate) number: u32,
    /// Of an occurrence or exception: its original date.
    pub(crate) date: Option<Date>,
}

/// What to do with one occurrence of a series.
#[derive(Clone, Debug)]
pub enum OccurrenceChange {
    /// A PATCH body: makes an exception with other members or other times.
    Edit(Value),
    /// The organizer cancelled it: it stays, as an exception with `isCancelled` and "Canceled: " before its subject.
    Cancel,
    /// It is gone.
    Delete,
}

impl Mailbox {
    pub(crate) fn add_calendar(
        &mut self,
        name: &str,
        copy_of: Option<(u32, u32)>,
        can_edit: bool,
    ) -> u32 {
        let number = self.calendars.last().map_or(1, |last| last.number + 1);
        self.calendars.push(Calendar {
            number,
            name: name.to_owned(),
            color: "auto".to_owned(),
            is_default: number == Self::DEFAULT,
            copy_of,
            can_edit,
            log: std::collections::BTreeMap::new(),
        });
        number
    }
}

impl Simulator {
    /// Creates an event from Graph's POST shape and gives its immutable id. `calendar` is an id or a name; `None` is
    /// the default calendar.
    ///
    /// Beyond what a client may send, it takes `organizer`, `responseStatus`, `isCancelled`, attendee `status`,
    /// `onlineMeeting`, `iCalUId` and other read-only members, and breaks every rule (unknown zones, end before
    /// start, any number of attendees). A member `raw` (object) overrides members of the output as they are, `id`
    /// included; `repeat` (number) repeats the event in a delta page.
    pub fn create_event(
        &self,
        mailbox: &str,
        calendar: Option<&str>,
        event: &Value,
    ) -> Result<String, GraphError> {
        let (owner, calendar) = self.resolve_calendar(mailbox, calendar)?;
        let mut world = self.change();
        let number = self.create_in(&mut world, owner, calendar, event, true)?;
        Ok(self.immutable_id(owner, number, None))
    }

    /// Creates `count` events of ordinary shapes (two attendees, a reminder, an html body; every fifth a Teams
    /// meeting) in one calendar, one every `step_minutes` from `start` on. Single instances only. A subscriber gets one
    /// notification of them all, of the last one: a benchmark is not about thousands of pushes.
    pub fn create_events_in_bulk(
        &self,
        mailbox: &str,
        calendar: Option<&str>,
        count: u32,
        start: Timestamp,
        step_minutes: i64,
    ) -> Result<(), GraphError> {
        let (owner, calendar) = self.resolve_calendar(mailbox, calendar)?;
        let mut world = self.change().in_bulk();
        for n in 0..count {
            let offset = jiff::SignedDuration::from_mins(step_minutes.saturating_mul(i64::from(n)));
            let from = start.checked_add(offset).unwrap_or(Timestamp::MAX);
            let to = from.checked_add(30.minutes()).unwrap_or(Timestamp::MAX);
            let input = crate::bulk::event(n, from, to);
            self.create_in(&mut world, owner, calendar, &input, true)?;
        }
        Ok(())
    }

    /// Changes an event with Graph's PATCH shape. A master's change goes to every occurrence; the id of an occurrence
    /// makes an exception. `raw` and `repeat` as at [`Self::create_event`].
    pub fn edit_event(&self, mailbox: &str, id: &str, patch: &Value) -> Result<(), GraphError> {
        let mut world = self.change();
        let located = self.locate_for_admin(&world, mailbox, id)?;
        self.edit_in(&mut world, located, patch, true)
    }

    /// Deletes an event; of a master's id the whole series, of an occurrence's that one.
    pub fn delete_event(&self, mailbox: &str, id: &str) -> Result<(), GraphError> {
        let mut world = self.change();
        let located = self.locate_for_admin(&world, mailbox, id)?;
        delete_in(&mut world, located)
    }

    /// Moves an event to another calendar of the mailbox. The regular id changes, the immutable one stays.
    pub fn move_event(
        &self,
        mailbox: &str,
        id: &str,
        to_calendar: Option<&str>,
    ) -> Result<(), GraphError> {
        let (_, calendar) = self.resolve_calendar(mailbox, to_calendar)?;
        let mut world = self.change();
        let located = self.locate_for_admin(&world, mailbox, id)?;
        let owner = world
            .mailbox_mut(located.owner)
            .ok_or_else(GraphError::not_found)?;
        if owner.move_to(located.number, calendar) {
            Ok(())
        } else {
            Err(GraphError::not_found())
        }
    }

    /// Edits, cancels or deletes one occurrence of a series, by its original date.
    pub fn change_occurrence(
        &self,
        mailbox: &str,
        series: &str,
        date: Date,
        change: &OccurrenceChange,
    ) -> Result<(), GraphError> {
        let mut world = self.change();
        let located = Located {
            date: Some(date),
            ..self.locate_for_admin(&world, mailbox, series)?
        };
        match change {
            OccurrenceChange::Edit(patch) => self.edit_in(&mut world, located, patch, true),
            OccurrenceChange::Cancel => {
                let event = event_in(&world, located)?;
                let row = event.on(date).ok_or_else(GraphError::not_found)?;
                let subject = row.item.properties["subject"].as_str().unwrap_or_default();
                let patch = json!({
                    "isCancelled": true,
                    "subject": format!("Canceled: {subject}"),
                    "showAs": "free",
                });
                self.edit_in(&mut world, located, &patch, true)
            }
            OccurrenceChange::Delete => delete_in(&mut world, located),
        }
    }

    /// The immutable id of an occurrence by its original date, whether it exists or not.
    pub fn occurrence_id(
        &self,
        mailbox: &str,
        series: &str,
        date: Date,
    ) -> Result<String, GraphError> {
        let world = read(&self.0.world);
        let located = self.locate_for_admin(&world, mailbox, series)?;
        Ok(self.immutable_id(located.owner, located.number, Some(date)))
    }

    /// The truth: single instances and series masters of a calendar (`None`: of all calendars), in full, times in
    /// UTC, immutable ids.
    pub fn events(&self, mailbox: &str, calendar: Option<&str>) -> Result<Vec<Value>, GraphError> {
        let (owner, wanted) = self.truth_scope(mailbox, calendar)?;
        let world = read(&self.0.world);
        let mailbox = world.mailbox(owner).ok_or_else(GraphError::not_found)?;
        Ok(mailbox
            .events
            .values()
            .filter(|event| wanted.is_none_or(|number| event.calendar == number))
            .map(|event| self.truth(owner, &event.own()))
            .collect())
    }

    /// The truth: what a user sees between two instants, in full, by start: single instances, occurrences and
    /// exceptions, times in UTC, immutable ids.
    pub fn instances(
        &self,
        mailbox: &str,
        calendar: Option<&str>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Value>, GraphError> {
        let (owner, wanted) = self.truth_scope(mailbox, calendar)?;
        let world = read(&self.0.world);
        let mailbox = world.mailbox(owner).ok_or_else(GraphError::not_found)?;
        Ok(instances_in(mailbox, wanted, (from, to))
            .iter()
            .map(|row| self.truth(owner, row))
            .collect())
    }

    fn truth_scope(
        &self,
        mailbox: &str,
        calendar: Option<&str>,
    ) -> Result<(u32, Option<u32>), GraphError> {
        match calendar {
            None => Ok((self.mailbox_number(mailbox)?, None)),
            Some(name) => {
                let (owner, number) = self.resolve_calendar(mailbox, Some(name))?;
                Ok((owner, Some(number)))
            }
        }
    }

    fn truth(&self, owner: u32, row: &Instance<'_>) -> Value {
        let view = View {
            ids: &self.0.ids,
            viewer: owner,
            owner,
            immutable: true,
            zone: Zone::utc(),
            text_body: false,
            typed: false,
        };
        let mut out = String::new();
        view.write_full(&mut out, row);
        serde_json::from_str(&out).unwrap_or_default()
    }

    pub(crate) fn immutable_id(&self, owner: u32, number: u32, date: Option<Date>) -> String {
        self.0.ids.encode(&crate::ids::Reference {
            immutable: true,
            kind: Kind::Event,
            viewer: owner,
            owner,
            number,
            date,
            generation: 0,
        })
    }

    fn locate_for_admin(
        &self,
        world: &World,
        mailbox: &str,
        id: &str,
    ) -> Result<Located, GraphError> {
        let viewer = world.find(mailbox).ok_or_else(GraphError::not_found)?;
        self.locate(world, viewer, id)
    }

    /// What an identifier names in a mailbox; a stale regular identifier (from before a move) names nothing.
    pub(crate) fn locate(
        &self,
        world: &World,
        viewer: u32,
        id: &str,
    ) -> Result<Located, GraphError> {
        if let Some(number) = world
            .mailbox(viewer)
            .and_then(|mailbox| mailbox.forced_ids.get(id))
        {
            return Ok(Located {
                owner: viewer,
                number: *number,
                date: None,
            });
        }
        let Some(reference) = self.0.ids.decode(id) else {
            return Err(GraphError::new(
                400,
                "ErrorInvalidIdMalformed",
                "Id is malformed.",
            ));
        };
        if reference.kind != Kind::Event || reference.viewer != viewer {
            return Err(GraphError::not_found());
        }
        let event = world
            .mailbox(reference.owner)
            .and_then(|mailbox| mailbox.events.get(&reference.number))
            .filter(|event| reference.immutable || event.generation == reference.generation)
            .ok_or_else(GraphError::not_found)?;
        if let Some(date) = reference.date
            && event.on(date).is_none()
        {
            return Err(GraphError::not_found());
        }
        Ok(Located {
            owner: reference.owner,
            number: reference.number,
            date: reference.date,
        })
    }

    pub(crate) fn create_in(
        &self,
        world: &mut World,
        owner: u32,
        calendar: u32,
        input: &Value,
        admin: bool,
    ) -> Result<u32, GraphError> {
        let input = members(input)?;
        let mailbox = world.mailbox_mut(owner).ok_or_else(GraphError::not_found)?;
        let author = self.author(mailbox, admin);
        let (mut item, series) = event::create(input, &author)?;
        item.version = mailbox.seq + 1;
        if admin {
            hostile(&mut item, input);
        }
        let number = mailbox.insert(calendar, item, series);
        if admin {
            mailbox.force(number, input);
        }
        Ok(number)
    }

    pub(crate) fn edit_in(
        &self,
        world: &mut World,
        located: Located,
        input: &Value,
        admin: bool,
    ) -> Result<(), GraphError> {
        let input = members(input)?;
        let drops_link =
            read(&self.0.quirks).patch_body_drops_join_url && input.contains_key("body");
        let mailbox = world
            .mailbox_mut(located.owner)
            .ok_or_else(GraphError::not_found)?;
        let author = self.author(mailbox, admin);
        let version = mailbox.seq + 1;
        let event = mailbox
            .events
            .get_mut(&located.number)
            .ok_or_else(GraphError::not_found)?;
        let before = event.total_span();
        match located.date {
            Some(date) => edit_occurrence(event, date, input, &author, version)?,
            None => edit_event(event, input, &author, version)?,
        }
        let changed = match (located.date, &mut event.series) {
            (Some(date), Some(series)) => series.exceptions.get_mut(&date),
            _ => Some(&mut event.item),
        };
        if let Some(item) = changed {
            if drops_link {
                item.properties.insert("onlineMeeting".into(), Value::Null);
            }
            if admin {
                hostile(item, input);
            }
        }
        if event.total_span() != before {
            event.former_spans.push(before);
        }
        if admin && located.date.is_none() {
            mailbox.force(located.number, input);
        }
        mailbox.touch(located.number);
        Ok(())
    }
}

impl Mailbox {
    /// Takes an administrator's `raw.id` and `repeat`.
    fn force(&mut self, number: u32, input: &Map<String, Value>) {
        let Some(event) = self.events.get_mut(&number) else {
            return;
        };
        if let Some(repeat) = input.get("repeat").and_then(Value::as_u64) {
            event.repeat = u32::try_from(repeat.clamp(1, 1000)).unwrap_or(1);
        }
        if let Some(id) = input.get("raw").and_then(|raw| raw["id"].as_str()) {
            event.forced_id = Some(id.to_owned());
            self.forced_ids.insert(id.to_owned(), number);
        }
    }
}

fn hostile(item: &mut Item, input: &Map<String, Value>) {
    if let Some(raw) = input.get("raw").and_then(Value::as_object) {
        for (member, value) in raw {
            if member != "id" {
                item.raw.insert(member.clone(), value.clone());
            }
        }
        item.fragment = std::sync::OnceLock::new();
    }
}

fn edit_event(
    event: &mut Event,
    input: &Map<String, Value>,
    author: &Author<'_>,
    version: u64,
) -> Result<(), GraphError> {
    let mut item = event.item.clone();
    event::assign(&mut item, input, author)?;
    item.version = version;
    let times_changed = ["start", "end", "isAllDay"]
        .iter()
        .any(|member| input.contains_key(*member));
    match (input.get("recurrence"), &mut event.series) {
        (Some(Value::Null), _) => event.series = None,
        (Some(_), _) => {
            let series = event::series(input, &item)?;
            if let Some(series) = &series {
                event::align(&mut item, &series.recurrence)?;
            }
            event.series = series;
        }
        (None, Some(series)) if times_changed => {
            // Outlook throws the exceptions away when the series' times change.
            let mut rule = series.recurrence.to_json(&item.start.zone.name);
            rule["range"]["startDate"] = item.start.local.date().to_string().into();
            series.recurrence =
                Recurrence::parse(&rule, item.start.local.date()).map_err(GraphError::property)?;
            series.exceptions.clear();
            event::align(&mut item, &series.recurrence)?;
        }
        (None, Some(series)) => {
            // What an exception did not change for itself follows the master.
            for exception in series.exceptions.values_mut() {
                for (member, value) in &item.properties {
                    let old = event.item.properties.get(member);
                    if old != Some(value) && exception.properties.get(member) == old {
                        exception.properties.insert(member.clone(), value.clone());
                    }
                }
                exception.version = version;
                exception.fragment = std::sync::OnceLock::new();
            }
        }
        (None, None) => {}
    }
    event.item = item;
    Ok(())
}

fn edit_occurrence(
    event: &mut Event,
    date: Date,
    input: &Map<String, Value>,
    author: &Author<'_>,
    version: u64,
) -> Result<(), GraphError> {
    let row = event.on(date).ok_or_else(GraphError::not_found)?;
    let mut item = row.item.clone();
    item.start = row.start.clone();
    item.end = row.end.clone();
    event::assign(&mut item, input, author)?;
    item.version = version;
    if !author.admin && crosses_boundary(event, date, item.start.local.date()) {
        return Err(GraphError::new(
            400,
            "ErrorOccurrenceCrossingBoundary",
            "Modified occurrence is crossing or overlapping adjacent occurrence.",
        ));
    }
    if let Some(series) = &mut event.series {
        series.exceptions.insert(date, item);
    }
    Ok(())
}

/// Whether an exception would reach the day of the occurrence before or after it.
fn crosses_boundary(event: &Event, date: Date, to: Date) -> bool {
    let Some(series) = &event.series else {
        return false;
    };
    let shown_on = |candidate: Date| {
        series
            .exceptions
            .get(&candidate)
            .map_or(candidate, |item| item.start.local.date())
    };
    let mut previous = None;
    for candidate in series.recurrence.dates() {
        if series.deleted.contains(&candidate) || candidate == date {
            continue;
        }
        if candidate > date {
            return to >= shown_on(candidate) || previous.is_some_and(|day| to <= day);
        }
        previous = Some(shown_on(candidate));
    }
    previous.is_some_and(|day| to <= day)
}

pub(crate) fn event_in(world: &World, located: Located) -> Result<&Event, GraphError> {
    world
        .mailbox(located.owner)
        .and_then(|mailbox| mailbox.events.get(&located.number))
        .ok_or_else(GraphError::not_found)
}

/// The row that was located.
pub(crate) fn row_in(world: &World, located: Located) -> Result<Instance<'_>, GraphError> {
    let event = event_in(world, located)?;
    match located.date {
        None => Ok(event.own()),
        Some(date) => event.on(date).ok_or_else(GraphError::not_found),
    }
}

pub(crate) fn delete_in(world: &mut World, located: Located) -> Result<(), GraphError> {
    let mailbox = world
        .mailbox_mut(located.owner)
        .ok_or_else(GraphError::not_found)?;
    let Some(date) = located.date else {
        return if mailbox.delete(located.number) {
            Ok(())
        } else {
            Err(GraphError::not_found())
        };
    };
    let version = mailbox.seq + 1;
    let event = mailbox
        .events
        .get_mut(&located.number)
        .ok_or_else(GraphError::not_found)?;
    if event.on(date).is_none() {
        return Err(GraphError::not_found());
    }
    if let Some(series) = &mut event.series {
        series.exceptions.remove(&date);
        series.deleted.insert(date);
    }
    event.item.version = version;
    mailbox.touch(located.number);
    Ok(())
}

/// Everything of a calendar (or of all) that shows in a window, by start.
pub(crate) fn instances_in(
    mailbox: &Mailbox,
    calendar: Option<u32>,
    window: (Timestamp, Timestamp),
) -> Vec<Instance<'_>> {
    let mut rows: Vec<Instance<'_>> = mailbox
        .events
        .values()
        .filter(|event| calendar.is_none_or(|number| event.calendar == number))
        .flat_map(|event| event.instances(window))
        .collect();
    rows.sort_by_key(|row| (row.start.instant, row.event.number));
    rows
}

/// An invited user's answer, on the event itself.
pub(crate) fn respond(
    simulator: &Simulator,
    world: &mut World,
    located: Located,
    response: &str,
) -> Result<(), GraphError> {
    let organizer = row_in(world, located)?.item.properties["isOrganizer"] == Value::Bool(true);
    if organizer {
        return Err(GraphError::invalid(
            "Your request can't be completed. You can't respond to this meeting because you're the meeting organizer.",
        ));
    }
    let show_as = match response {
        "accepted" => "busy",
        "declined" => "free",
        _ => "tentative",
    };
    let time = crate::render::seconds(simulator.now());
    let patch = json!({
        "responseStatus": {"response": response, "time": time},
        "showAs": show_as,
    });
    debug_assert_ne!(time, NEVER);
    simulator.edit_in(world, located, &patch, true)
}
