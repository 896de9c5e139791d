//! What the simulator holds: mailboxes, calendars, events with their exceptions, and per calendar a change log with
//! one entry per event, ordered by when it last changed. Delta needs nothing more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use jiff::civil::{Date, DateTime};
use jiff::{Timestamp, ToSpan};
use serde_json::{Map, Value};

use crate::recurrence::Recurrence;
use crate::zones::Moment;

/// Everything behind the lock. Cheap to clone: mailboxes are copied when they change, and only while somebody keeps the
/// state from before.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
}

impl World {
    /// By user principal name (any case) or id.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.mailboxes
            .iter()
            .find(|mailbox| mailbox.upn.eq_ignore_ascii_case(name) || mailbox.id == name)
            .map(|mailbox| mailbox.number)
    }

    pub(crate) fn mailbox(&self, number: u32) -> Option<&Mailbox> {
        self.mailboxes.get(number as usize).map(AsRef::as_ref)
    }

    pub(crate) fn mailbox_mut(&mut self, number: u32) -> Option<&mut Mailbox> {
        self.mailboxes.get_mut(number as usize).map(Arc::make_mut)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    pub(crate) number: u32,
    pub(crate) id: String,
    pub(crate) upn: String,
    pub(crate) display_name: String,
    /// A Windows name.
    pub(crate) zone: String,
    pub(crate) calendars: Vec<Calendar>,
    pub(crate) events: BTreeMap<u32, Event>,
    pub(crate) next_event: u32,
    /// Raised by every change to anything in the mailbox.
    pub(crate) seq: u64,
    /// Raised to make every delta token of the mailbox unknown.
    pub(crate) sync_generation: u32,
    /// Who else may open this mailbox's calendars through `/users/{this}`.
    pub(crate) grants: Vec<Grant>,
    /// Identifiers that an administrator forced upon events.
    pub(crate) forced_ids: HashMap<String, u32>,
    /// What happened since the write lock was taken; subscribers are told of it when the lock is given back.
    pub(crate) happened: Vec<Happened>,
}

/// A change of an event, as subscribers are told of it. One of an occurrence is one of its series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Created(u32),
    Updated(u32),
    /// To another calendar: what it was before, because its regular identifier changed.
    Moved(Gone),
    Deleted(Gone),
}

/// What identifies an event that is no more, or is elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) number: u32,
    pub(crate) generation: u8,
    pub(crate) forced_id: Option<String>,
    pub(crate) version: u64,
}

impl Gone {
    fn of(event: &Event) -> Self {
        Self {
            number: event.number,
            generation: event.generation,
            forced_id: event.forced_id.clone(),
            version: event.item.version,
        }
    }
}

/// Access of another mailbox to a calendar, or to all of them.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) to: u32,
    pub(crate) calendar: Option<u32>,
    pub(crate) can_edit: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) color: String,
    pub(crate) is_default: bool,
    /// A copy of another mailbox's calendar, which is (owner, calendar number).
    pub(crate) copy_of: Option<(u32, u32)>,
    pub(crate) can_edit: bool,
    pub(crate) log: BTreeMap<u64, Change>,
}

/// An entry of a calendar's change log.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The event was created or changed; it has exactly one such entry, its newest.
    Upserted(u32),
    /// It was deleted, or moved to another calendar.
    Removed(Removal),
}

#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) number: u32,
    pub(crate) generation: u8,
    pub(crate) forced_id: Option<String>,
    pub(crate) created_seq: u64,
    pub(crate) spans: Vec<(Timestamp, Timestamp)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) number: u32,
    pub(crate) calendar: u32,
    pub(crate) generation: u8,
    /// When it came into its calendar.
    pub(crate) created_seq: u64,
    /// Its key in the calendar's log.
    pub(crate) seq: u64,
    pub(crate) item: Item,
    pub(crate) series: Option<Series>,
    /// Where it was before, so that "was it ever in this window" can be answered.
    pub(crate) former_spans: Vec<(Timestamp, Timestamp)>,
    pub(crate) forced_id: Option<String>,
    /// How often each row of it is repeated in one delta page; hostile data, otherwise 1.
    pub(crate) repeat: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) recurrence: Recurrence,
    /// By original date.
    pub(crate) exceptions: BTreeMap<Date, Item>,
    pub(crate) deleted: BTreeSet<Date>,
}

/// The content of a single instance, a master or an exception.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// Members as rendered that depend on neither the request nor the instance.
    pub(crate) properties: Map<String, Value>,
    pub(crate) start: Moment,
    pub(crate) end: Moment,
    pub(crate) all_day: bool,
    /// Members that override everything on output; hostile data.
    pub(crate) raw: Map<String, Value>,
    /// Of this version; goes into change key and etag.
    pub(crate) version: u64,
    pub(crate) fragment: OnceLock<Fragment>,
}

/// The pre-rendered part of an item: made once per version, copied into every answer.
#[derive(Clone, Debug)]
pub(crate) struct Fragment {
    /// `"member":value,...` without braces.
    pub(crate) common: String,
    pub(crate) body_html: String,
}

/// One row of a view: a single instance, or an occurrence or exception of a series.
#[derive(Clone, Debug)]
pub(crate) struct Instance<'a> {
    pub(crate) event: &'a Event,
    pub(crate) item: &'a Item,
    pub(crate) part: Part,
    pub(crate) start: Moment,
    pub(crate) end: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Single,
    Master,
    Occurrence(Date),
    Exception(Date),
}

impl Item {
    /// The span that windows are compared with: all-day events float, as they are shown, at midnight UTC.
    pub(crate) fn span(&self) -> (Timestamp, Timestamp) {
        span(&self.start, &self.end, self.all_day)
    }
}

pub(crate) fn span(start: &Moment, end: &Moment, all_day: bool) -> (Timestamp, Timestamp) {
    if all_day {
        let utc = crate::zones::Zone::utc();
        (utc.instant(start.local), utc.instant(end.local))
    } else {
        (start.instant, end.instant)
    }
}

/// Whether a span shows in a window. One without length (or that ends before it starts) shows where it starts.
pub(crate) fn overlaps(span: (Timestamp, Timestamp), window: (Timestamp, Timestamp)) -> bool {
    let (start, end) = span;
    if end <= start {
        window.0 <= start && start < window.1
    } else {
        start < window.1 && end > window.0
    }
}

impl Event {
    /// The whole stretch that the event or its series covers.
    pub(crate) fn total_span(&self) -> (Timestamp, Timestamp) {
        let Some(series) = &self.series else {
            return self.item.span();
        };
        let (mut start, mut end) = self.item.span();
        end = match series.recurrence.last_date() {
            Some(date) => {
                let (start, finish) = self.occurrence_times(date);
                end.max(span(&start, &finish, self.item.all_day).1)
            }
            None => Timestamp::MAX,
        };
        for exception in series.exceptions.values() {
            let (from, to) = exception.span();
            start = start.min(from);
            end = end.max(to);
        }
        (start, end)
    }

    /// Whether it is, or ever was, in the window.
    pub(crate) fn ever_in(&self, window: (Timestamp, Timestamp)) -> bool {
        overlaps(self.total_span(), window)
            || self.former_spans.iter().any(|span| overlaps(*span, window))
    }

    /// Start and end of the series' occurrence on a date: the master's times of day and wall-clock length.
    pub(crate) fn occurrence_times(&self, date: Date) -> (Moment, Moment) {
        let first = self.item.start.local;
        let start = date.to_datetime(first.time());
        let length = first.duration_until(self.item.end.local);
        let end = start.checked_add(length).unwrap_or(DateTime::MAX);
        (self.item.start.at(start), self.item.end.at(end))
    }

    /// The row of a single event, or the master's own row.
    pub(crate) fn own(&self) -> Instance<'_> {
        Instance {
            event: self,
            item: &self.item,
            part: if self.series.is_some() {
                Part::Master
            } else {
                Part::Single
            },
            start: self.item.start.clone(),
            end: self.item.end.clone(),
        }
    }

    fn exception<'a>(&'a self, date: Date, item: &'a Item) -> Instance<'a> {
        Instance {
            event: self,
            item,
            part: Part::Exception(date),
            start: item.start.clone(),
            end: item.end.clone(),
        }
    }

    /// The occurrence or exception whose original date this is; `None` when there is none or it was deleted.
    pub(crate) fn on(&self, date: Date) -> Option<Instance<'_>> {
        let series = self.series.as_ref()?;
        if let Some(item) = series.exceptions.get(&date) {
            return Some(self.exception(date, item));
        }
        let exists = !series.deleted.contains(&date)
            && series
                .recurrence
                .dates()
                .take_while(|candidate| *candidate <= date)
                .last()
                == Some(date);
        exists.then(|| self.occurrence(date))
    }

    fn occurrence(&self, date: Date) -> Instance<'_> {
        let (start, end) = self.occurrence_times(date);
        Instance {
            event: self,
            item: &self.item,
            part: Part::Occurrence(date),
            start,
            end,
        }
    }

    /// What of the event shows in the window: itself, or the occurrences and exceptions of the series, in the order
    /// of their original dates.
    pub(crate) fn instances(&self, window: (Timestamp, Timestamp)) -> Vec<Instance<'_>> {
        let Some(series) = &self.series else {
            return if overlaps(self.item.span(), window) {
                vec![self.own()]
            } else {
                Vec::new()
            };
        };
        // Dates are local: two days either side cover every zone; the exact test follows.
        let length = self
            .item
            .start
            .local
            .duration_until(self.item.end.local)
            .as_hours()
            / 24;
        let slack = 2 + i32::try_from(length.clamp(0, 4000)).unwrap_or(0);
        let first = day_of(window.0)
            .checked_sub(slack.days())
            .unwrap_or(Date::MIN);
        let last = day_of(window.1).checked_add(2.days()).unwrap_or(Date::MAX);
        let mut found: Vec<(Date, Instance<'_>)> = series
            .recurrence
            .dates()
            .take_while(|date| *date <= last)
            .filter(|date| {
                *date >= first
                    && !series.deleted.contains(date)
                    && !series.exceptions.contains_key(date)
            })
            .map(|date| (date, self.occurrence(date)))
            .filter(|(_, row)| overlaps(span(&row.start, &row.end, self.item.all_day), window))
            .collect();
        found.extend(
            series
                .exceptions
                .iter()
                .filter(|(_, item)| overlaps(item.span(), window))
                .map(|(date, item)| (*date, self.exception(*date, item))),
        );
        found.sort_by_key(|(date, _)| *date);
        found.into_iter().map(|(_, row)| row).collect()
    }
}

pub(crate) fn day_of(at: Timestamp) -> Date {
    jiff::tz::TimeZone::UTC.to_datetime(at).date()
}

impl Mailbox {
    pub(crate) fn calendar(&self, number: u32) -> Option<&Calendar> {
        self.calendars
            .iter()
            .find(|calendar| calendar.number == number)
    }

    pub(crate) fn calendar_mut(&mut self, number: u32) -> Option<&mut Calendar> {
        self.calendars
            .iter_mut()
            .find(|calendar| calendar.number == number)
    }

    /// The number of the default calendar, which is the first.
    pub(crate) const DEFAULT: u32 = 1;

    /// Notes a change of an event that is not its first.
    pub(crate) fn touch(&mut self, number: u32) {
        self.happened.push(Happened::Updated(number));
        self.log_change(number);
    }

    /// Puts an event's newest change at the end of its calendar's log.
    fn log_change(&mut self, number: u32) {
        self.seq += 1;
        let seq = self.seq;
        let Some(event) = self.events.get_mut(&number) else {
            return;
        };
        let (before, calendar) = (event.seq, event.calendar);
        event.seq = seq;
        if let Some(calendar) = self.calendar_mut(calendar) {
            calendar.log.remove(&before);
            calendar.log.insert(seq, Change::Upserted(number));
        }
    }

    /// Adds a new event and gives it its number.
    pub(crate) fn insert(&mut self, calendar: u32, item: Item, series: Option<Series>) -> u32 {
        let number = self.next_event;
        self.next_event += 1;
        self.events.insert(
            number,
            Event {
                number,
                calendar,
                generation: 0,
                created_seq: self.seq + 1,
                seq: 0,
                item,
                series,
                former_spans: Vec::new(),
                forced_id: None,
                repeat: 1,
            },
        );
        self.happened.push(Happened::Created(number));
        self.log_change(number);
        number
    }

    fn removal(event: &Event) -> Removal {
        let mut spans = event.former_spans.clone();
        spans.push(event.total_span());
        Removal {
            number: event.number,
            generation: event.generation,
            forced_id: event.forced_id.clone(),
            created_seq: event.created_seq,
            spans,
        }
    }

    /// Deletes an event with all its occurrences. False when there is none.
    pub(crate) fn delete(&mut self, number: u32) -> bool {
        let Some(event) = self.events.remove(&number) else {
            return false;
        };
        let removal = Self::removal(&event);
        self.happened.push(Happened::Deleted(Gone::of(&event)));
        self.log_removal(event.calendar, event.seq, removal);
        if let Some(id) = event.forced_id {
            self.forced_ids.remove(&id);
        }
        true
    }

    fn log_removal(&mut self, calendar: u32, before: u64, removal: Removal) {
        self.seq += 1;
        let seq = self.seq;
        if let Some(calendar) = self.calendar_mut(calendar) {
            calendar.log.remove(&before);
            calendar.log.insert(seq, Change::Removed(removal));
        }
    }

    /// Moves an event to another calendar of the mailbox; its regular identifier changes, the immutable one stays.
    pub(crate) fn move_to(&mut self, number: u32, calendar: u32) -> bool {
        let Some(event) = self.events.get(&number) else {
            return false;
        };
        let (from, before, removal) = (event.calendar, event.seq, Self::removal(event));
        let gone = Gone::of(event);
        self.happened.push(Happened::Moved(gone));
        self.log_removal(from, before, removal);
        let next = self.seq + 1;
        if let Some(event) = self.events.get_mut(&number) {
            event.calendar = calendar;
            event.generation = event.generation.wrapping_add(1);
            event.created_seq = next;
            event.seq = 0;
            event.former_spans.clear();
        }
        self.log_change(number);
        true
    }

    /// Drops a calendar with its events.
    pub(crate) fn drop_calendar(&mut self, number: u32) {
        let gone: Vec<u32> = self
            .events
            .values()
            .filter(|event| event.calendar == number)
            .map(|event| event.number)
            .collect();
        for event in gone {
            self.delete(event);
        }
        self.calendars.retain(|calendar| calendar.number != number);
    }
}
