//! One user with many mailboxes, and a hand that edits them at random.

use calendar_simulator::jiff::civil::Date;
use calendar_simulator::jiff::{ToSpan as _, tz::TimeZone};
use calendar_simulator::{OccurrenceChange, Simulator};
use serde_json::json;

use crate::{Truth, User, World};

/// Mailboxes `crowd-N@contoso.example` with their calendars and events.
pub struct Crowd {
    /// What the store has to show.
    pub truth: Truth,
    mailboxes: Vec<String>,
    today: Date,
    /// Events that may be edited: which calendar of `truth`, the id, and whether it is a series.
    events: Vec<(usize, String, bool)>,
    made: usize,
    chance: u64,
}

impl Crowd {
    /// So many mailboxes with so many calendars and, in each of them, events. The same edits follow from the
    /// same seed.
    #[must_use]
    pub fn create(
        simulator: &Simulator,
        mailboxes: usize,
        calendars: usize,
        events: usize,
        seed: u64,
    ) -> Self {
        let mut crowd = Self {
            truth: Truth::default(),
            mailboxes: (0..mailboxes)
                .map(|n| format!("crowd-{n}@contoso.example"))
                .collect(),
            today: simulator.now().to_zoned(TimeZone::UTC).date(),
            events: Vec::new(),
            made: 0,
            chance: seed,
        };
        for mailbox in &crowd.mailboxes {
            simulator
                .create_mailbox(mailbox, "Crowd", "UTC")
                .expect("a new name");
            let first = simulator.find_calendar(mailbox, None).expect("it has one");
            let others =
                (1..calendars).map(|n| simulator.create_calendar(mailbox, &format!("Team {n}")));
            let others = others.map(|made| made.expect("a calendar can be made"));
            let all = std::iter::once(first).chain(others);
            crowd
                .truth
                .calendars
                .extend(all.map(|calendar| (mailbox.clone(), calendar)));
        }
        for calendar in 0..crowd.truth.calendars.len() {
            for _ in 0..events {
                crowd.add(simulator, calendar);
            }
        }
        crowd
    }

    /// Connects all calendars of all mailboxes through the real OAuth flow.
    pub async fn connect(&self, world: &World, user: &User) {
        let every_fourth = async |first: usize| {
            for mailbox in self.mailboxes.iter().skip(first).step_by(4) {
                let page = world.connect(user, mailbox, json!({})).await;
                assert_eq!(page.status, 200, "{}", page.text);
            }
        };
        tokio::join!(
            every_fourth(0),
            every_fourth(1),
            every_fourth(2),
            every_fourth(3)
        );
    }

    /// Adds, changes or deletes something somewhere.
    pub fn edit(&mut self, simulator: &Simulator) {
        let calendar = self.below(self.truth.calendars.len());
        let what = self.below(10);
        if what < 4 || self.events.is_empty() {
            return self.add(simulator, calendar);
        }
        let index = self.below(self.events.len());
        let (calendar, id, is_series) = self.events[index].clone();
        let mailbox = self.truth.calendars[calendar].0.clone();
        if what == 9 {
            self.events.swap_remove(index);
            return simulator.delete_event(&mailbox, &id).expect("it is there");
        }
        if is_series && what > 6 {
            let date = self.today + i64::try_from(self.below(30)).expect("small").days();
            // Where there is none on that day, or no more, nothing happens.
            let _ = simulator.change_occurrence(&mailbox, &id, date, &OccurrenceChange::Delete);
            return;
        }
        self.made += 1;
        let patch = json!({"subject": format!("Renamed {}", self.made)});
        simulator
            .edit_event(&mailbox, &id, &patch)
            .expect("it is there");
    }

    fn add(&mut self, simulator: &Simulator, calendar: usize) {
        self.made += 1;
        let day = self.today + i64::try_from(1 + self.below(40)).expect("small").days();
        let (hour, is_series) = (8 + self.below(10), self.below(8) == 0);
        let mut event = json!({
            "subject": format!("Event {}", self.made),
            "start": {"dateTime": format!("{day}T{hour:02}:00:00"), "timeZone": "UTC"},
            "end": {"dateTime": format!("{day}T{hour:02}:30:00"), "timeZone": "UTC"},
        });
        if is_series {
            event["recurrence"] = json!({
                "pattern": {"type": "daily", "interval": 1},
                "range": {"type": "numbered", "startDate": day.to_string(), "numberOfOccurrences": 10},
            });
        }
        let (mailbox, id) = &self.truth.calendars[calendar];
        let made = simulator.create_event(mailbox, Some(id), &event);
        self.events
            .push((calendar, made.expect("a good event"), is_series));
    }

    /// A number below `limit`, out of a linear congruential generator.
    fn below(&mut self, limit: usize) -> usize {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.chance >> 33).expect("31 bits") % limit
    }
}
