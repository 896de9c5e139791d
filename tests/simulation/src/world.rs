//! What is at the provider: mailboxes, calendars, events, and the edits that people make.

use std::collections::{BTreeMap, BTreeSet};

use calendar_simulator::jiff::ToSpan as _;
use calendar_simulator::jiff::civil::{Date, date};
use calendar_simulator::{GraphError, OccurrenceChange, Simulator};
use serde_json::{Map, Value, json};

use crate::rng::Rng;

/// The first day of a run.
const TODAY: Date = date(2026, 1, 5);
/// Names of zones as Outlook writes them, with the IANA names that they mean.
pub(crate) const ZONES: [(&str, &str); 4] = [
    ("W. Europe Standard Time", "Europe/Berlin"),
    ("Pacific Standard Time", "America/Los_Angeles"),
    ("India Standard Time", "Asia/Calcutta"),
    ("UTC", "Etc/UTC"),
];
const PEOPLE: [&str; 5] = ["cleo", "dan", "eve", "finn", "gus"];

/// A mailbox.
pub(crate) struct MailboxBook {
    pub(crate) upn: String,
    zone: usize,
    /// Names of its own calendars; the default one has none.
    pub(crate) calendars: Vec<Option<String>>,
    /// The number of its last edit.
    pub(crate) last_edit: u64,
}

/// A series, as its user made it.
#[derive(Clone, Debug)]
pub(crate) struct SeriesBook {
    pub(crate) dates: Vec<Date>,
    pub(crate) deleted: BTreeSet<Date>,
    all_day: bool,
    /// Of the first occurrence, in minutes from midnight.
    start: i64,
    length: i64,
}

/// An event, as its user knows it.
#[derive(Clone, Debug)]
pub(crate) struct EventBook {
    pub(crate) id: String,
    pub(crate) mailbox: usize,
    pub(crate) calendar: usize,
    number: usize,
    pub(crate) series: Option<SeriesBook>,
    /// Nothing has happened to it since it was made.
    pub(crate) is_untouched: bool,
}

/// Everything at the provider, and the people who change it.
pub(crate) struct World {
    pub(crate) mailboxes: Vec<MailboxBook>,
    pub(crate) events: Vec<EventBook>,
    pub(crate) edits: u64,
    pub(crate) made: usize,
    pub(crate) by_kind: BTreeMap<&'static str, u64>,
}

impl World {
    /// Two or three mailboxes with one to three calendars each, and a few events in each.
    pub(crate) fn new(simulator: &Simulator, rng: &mut Rng) -> Result<Self, GraphError> {
        let mut world = Self {
            mailboxes: Vec::new(),
            events: Vec::new(),
            edits: 0,
            made: 0,
            by_kind: BTreeMap::new(),
        };
        for name in ["ann", "bob", "cleo"].iter().take(2 + rng.below(2)) {
            let upn = format!("{name}@contoso.example");
            let zone = rng.below(ZONES.len());
            simulator.create_mailbox(&upn, name, ZONES[zone].0)?;
            let mut calendars = vec![None];
            for number in 0..rng.below(3) {
                let name = format!("{name} {number}");
                simulator.create_calendar(&upn, &name)?;
                calendars.push(Some(name));
            }
            world.mailboxes.push(MailboxBook {
                upn,
                zone,
                calendars,
                last_edit: 0,
            });
        }
        for mailbox in 0..world.mailboxes.len() {
            for calendar in 0..world.mailboxes[mailbox].calendars.len() {
                for _ in 0..rng.below(7) {
                    world.create(simulator, rng, mailbox, calendar)?;
                }
            }
        }
        Ok(world)
    }

    /// Somebody does something. Answers whose mailbox it was in.
    pub(crate) fn edit(
        &mut self,
        simulator: &Simulator,
        rng: &mut Rng,
    ) -> Result<(usize, String), GraphError> {
        self.edits += 1;
        let (mailbox, what) = self.any_edit(simulator, rng)?;
        self.mailboxes[mailbox].last_edit = self.edits;
        *self.by_kind.entry(what).or_default() += 1;
        Ok((mailbox, what.to_owned()))
    }

    fn any_edit(
        &mut self,
        simulator: &Simulator,
        rng: &mut Rng,
    ) -> Result<(usize, &'static str), GraphError> {
        let what = rng.weighted(&[30, 25, 12, 10, 15, 8]);
        if what == 0 || self.events.is_empty() {
            let mailbox = rng.below(self.mailboxes.len());
            let calendar = rng.below(self.mailboxes[mailbox].calendars.len());
            self.create(simulator, rng, mailbox, calendar)?;
            return Ok((mailbox, "created"));
        }
        let index = rng.below(self.events.len());
        self.events[index].is_untouched = false;
        let event = self.events[index].clone();
        let upn = self.mailboxes[event.mailbox].upn.clone();
        let what = match what {
            2 => {
                simulator.delete_event(&upn, &event.id)?;
                self.events.swap_remove(index);
                "deleted"
            }
            3 => {
                let calendar = rng.below(self.mailboxes[event.mailbox].calendars.len());
                let to = self.mailboxes[event.mailbox].calendars[calendar].clone();
                simulator.move_event(&upn, &event.id, to.as_deref())?;
                self.events[index].calendar = calendar;
                "moved"
            }
            4 | 5 if event.series.is_some() => {
                self.edit_occurrence(simulator, rng, index, &upn)?;
                "occurrence"
            }
            _ => {
                self.change(simulator, rng, index, &upn)?;
                "changed"
            }
        };
        Ok((event.mailbox, what))
    }

    fn create(
        &mut self,
        simulator: &Simulator,
        rng: &mut Rng,
        mailbox: usize,
        calendar: usize,
    ) -> Result<(), GraphError> {
        let number = self.made;
        self.made += 1;
        let day = day(rng.between(-25, 60));
        let all_day = rng.percent(20);
        let zone = if rng.percent(80) {
            self.mailboxes[mailbox].zone
        } else {
            rng.below(ZONES.len())
        };
        let (start, length) = (rng.between(14, 40) * 30, rng.between(1, 4) * 30);
        let mut body = Map::new();
        body.insert("subject".into(), json!(format!("Event {number}")));
        times(&mut body, day, start, length, all_day, ZONES[zone].0);
        decorate(&mut body, rng);
        let series = rng.percent(30).then(|| {
            let (recurrence, dates) = recurrence(rng, day);
            body.insert("recurrence".into(), recurrence);
            SeriesBook {
                dates,
                deleted: BTreeSet::new(),
                all_day,
                start,
                length,
            }
        });
        let book = &self.mailboxes[mailbox];
        let id = simulator.create_event(
            &book.upn,
            book.calendars[calendar].as_deref(),
            &Value::Object(body),
        )?;
        self.events.push(EventBook {
            id,
            mailbox,
            calendar,
            number,
            series,
            is_untouched: true,
        });
        Ok(())
    }

    fn change(
        &mut self,
        simulator: &Simulator,
        rng: &mut Rng,
        index: usize,
        upn: &str,
    ) -> Result<(), GraphError> {
        let edits = self.edits;
        let event = &mut self.events[index];
        let mut patch = Map::new();
        match (rng.below(4), &mut event.series) {
            (0, Some(series)) => {
                // Another time of day throws the exceptions away; what was deleted stays so.
                series.start = rng.between(14, 40) * 30;
                let first = series.dates[0];
                let zone = ZONES[rng.below(ZONES.len())].0;
                times(
                    &mut patch,
                    first,
                    series.start,
                    series.length,
                    series.all_day,
                    zone,
                );
            }
            (1, Some(series)) => {
                let (recurrence, dates) = recurrence(rng, series.dates[0]);
                patch.insert("recurrence".into(), recurrence);
                series.dates = dates;
                series.deleted.clear();
            }
            (0 | 1, None) => {
                let (start, length) = (rng.between(14, 40) * 30, rng.between(1, 4) * 30);
                let zone = ZONES[rng.below(ZONES.len())].0;
                let all_day = rng.percent(20);
                patch.insert("isAllDay".into(), json!(all_day));
                times(
                    &mut patch,
                    day(rng.between(-25, 60)),
                    start,
                    length,
                    all_day,
                    zone,
                );
            }
            (2, _) => {
                decorate(&mut patch, rng);
            }
            _ => {
                patch.insert(
                    "subject".into(),
                    json!(format!("Event {} edit {edits}", event.number)),
                );
            }
        }
        simulator.edit_event(upn, &event.id, &Value::Object(patch))
    }

    fn edit_occurrence(
        &mut self,
        simulator: &Simulator,
        rng: &mut Rng,
        index: usize,
        upn: &str,
    ) -> Result<(), GraphError> {
        let edits = self.edits;
        let event = &mut self.events[index];
        let Some(series) = &mut event.series else {
            return Ok(());
        };
        let left = series
            .dates
            .iter()
            .filter(|date| !series.deleted.contains(date));
        let left: Vec<Date> = left.copied().collect();
        if left.len() < 2 {
            return Ok(());
        }
        let date = *rng.pick(&left);
        let change = match rng.below(4) {
            0 => {
                series.deleted.insert(date);
                OccurrenceChange::Delete
            }
            1 => OccurrenceChange::Cancel,
            2 => {
                let mut patch = Map::new();
                let zone = ZONES[rng.below(ZONES.len())].0;
                let to = date.checked_add(rng.between(0, 1).days()).unwrap_or(date);
                times(
                    &mut patch,
                    to,
                    rng.between(14, 40) * 30,
                    series.length,
                    series.all_day,
                    zone,
                );
                OccurrenceChange::Edit(Value::Object(patch))
            }
            _ => OccurrenceChange::Edit(
                json!({"subject": format!("Event {} on {date} edit {edits}", event.number)}),
            ),
        };
        simulator.change_occurrence(upn, &event.id, date, &change)
    }
}

fn day(offset: i64) -> Date {
    TODAY.checked_add(offset.days()).unwrap_or(TODAY)
}

/// Start and end, from minutes after midnight.
fn times(
    body: &mut Map<String, Value>,
    day: Date,
    start: i64,
    length: i64,
    all_day: bool,
    zone: &str,
) {
    let midnight = day.to_datetime(calendar_simulator::jiff::civil::Time::midnight());
    let at = |minutes: i64| midnight.checked_add(minutes.minutes()).unwrap_or(midnight);
    let (from, to) = if all_day {
        (midnight, at(24 * 60))
    } else {
        (at(start), at(start + length))
    };
    body.insert("isAllDay".into(), json!(all_day));
    for (member, time) in [("start", from), ("end", to)] {
        let value = json!({"dateTime": time.to_string(), "timeZone": zone});
        body.insert(member.into(), value);
    }
}

/// Everything that is no time.
fn decorate(body: &mut Map<String, Value>, rng: &mut Rng) {
    let attendees: Vec<Value> = PEOPLE
        .iter()
        .take(rng.below(4))
        .map(|name| {
            let response = *rng.pick(&["none", "accepted", "declined", "tentativelyAccepted"]);
            json!({
                "type": rng.pick(&["required", "optional"]),
                "status": {"response": response, "time": "0001-01-01T00:00:00Z"},
                "emailAddress": {"name": name, "address": format!("{name}@contoso.example")},
            })
        })
        .collect();
    body.insert("attendees".into(), json!(attendees));
    body.insert("isReminderOn".into(), json!(rng.percent(60)));
    body.insert(
        "reminderMinutesBeforeStart".into(),
        json!(rng.between(0, 4) * 15),
    );
    if rng.percent(40) {
        body.insert("isOnlineMeeting".into(), json!(true));
        body.insert("onlineMeetingProvider".into(), json!("teamsForBusiness"));
    }
    let room = format!("Room {}", rng.below(9));
    body.insert("location".into(), json!({"displayName": room}));
    body.insert(
        "showAs".into(),
        json!(rng.pick(&["busy", "free", "tentative"])),
    );
    body.insert(
        "importance".into(),
        json!(rng.pick(&["low", "normal", "high"])),
    );
}

/// A rule that begins on `first`, and the dates that it makes.
fn recurrence(rng: &mut Rng, first: Date) -> (Value, Vec<Date>) {
    let count = rng.between(2, 7);
    let interval = rng.between(1, 2);
    let weekly = rng.percent(50);
    let step = if weekly { interval * 7 } else { interval };
    let at = |n: i64| first.checked_add((n * step).days()).unwrap_or(first);
    let dates: Vec<Date> = (0..count).map(at).collect();
    let pattern = if weekly {
        let names = [
            "monday",
            "tuesday",
            "wednesday",
            "thursday",
            "friday",
            "saturday",
            "sunday",
        ];
        let day = usize::try_from(first.weekday().to_monday_zero_offset()).unwrap_or(0);
        json!({"type": "weekly", "interval": interval, "daysOfWeek": [names[day]], "firstDayOfWeek": "monday"})
    } else {
        json!({"type": "daily", "interval": interval})
    };
    let range = if rng.percent(50) {
        json!({"type": "numbered", "startDate": first.to_string(), "numberOfOccurrences": count})
    } else {
        let last = dates.last().copied().unwrap_or(first);
        json!({"type": "endDate", "startDate": first.to_string(), "endDate": last.to_string()})
    };
    (json!({"pattern": pattern, "range": range}), dates)
}
