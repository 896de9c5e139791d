//! A mailbox as a person in an office has it, around a given day, for development and demonstrations.
//!
//! Whatever weekday the day is, it has at least three Teams meetings: a single one, a daily and a weekly series. All
//! names and addresses are of example domains; identifiers follow from the simulator's seed.

use jiff::ToSpan;
use jiff::civil::{Date, Time, Weekday};
use serde_json::{Map, Value, json};

use crate::error::GraphError;
use crate::simulator::Simulator;
use crate::store::OccurrenceChange;
use crate::zones::Zone;

/// The demo mailbox.
pub const UPN: &str = "alex.wilber@contoso.example";
/// Its time zone.
pub const TIME_ZONE: &str = "W. Europe Standard Time";

const PEOPLE: [(&str, &str); 8] = [
    ("Adele Vance", "adele.vance@contoso.example"),
    ("Megan Bowen", "megan.bowen@contoso.example"),
    ("Samantha Booth", "samantha.booth@contoso.example"),
    ("Dana Swope", "dana.swope@contoso.example"),
    ("Lee Gu", "lee.gu@contoso.example"),
    ("Isaiah Langer", "isaiah.langer@contoso.example"),
    ("Priya Nair", "priya.nair@example.com"),
    ("Tom\u{e1}\u{161} Nov\u{e1}k", "tomas.novak@example.com"),
];

const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Today in the demo mailbox's zone, by the simulator's clock.
#[must_use]
pub fn today(simulator: &Simulator) -> Date {
    Zone::lenient(TIME_ZONE).local(simulator.now()).date()
}

/// Makes the demo mailbox and fills it with about 60 events around `today`. Refused when it exists.
pub fn fill(simulator: &Simulator, today: Date) -> Result<(), GraphError> {
    simulator.create_mailbox(UPN, "Alex Wilber", TIME_ZONE)?;
    let _ = simulator.create_calendar(UPN, "Birthdays")?;
    let _ = simulator.create_calendar(UPN, "Project Falcon")?;
    let demo = Demo { simulator, today };
    demo.teams_today()?;
    demo.stand_up()?;
    demo.series()?;
    demo.whole_days()?;
    demo.invitations()?;
    demo.singles()?;
    demo.other_calendars()
}

struct Demo<'a> {
    simulator: &'a Simulator,
    today: Date,
}

/// An event under construction.
struct Draft(Map<String, Value>);

impl Draft {
    /// `minutes` from `hour`:`minute` on a day, in the mailbox's zone.
    fn timed(subject: &str, day: Date, (hour, minute): (i8, i8), minutes: i64) -> Self {
        let start = day.to_datetime(Time::new(hour, minute, 0, 0).unwrap_or_default());
        let end = start.checked_add(minutes.minutes()).unwrap_or(start);
        Self::between(subject, &start.to_string(), &end.to_string())
    }

    fn whole_days(subject: &str, first: Date, days: i64) -> Self {
        let last = first.checked_add(days.days()).unwrap_or(first);
        Self::between(
            subject,
            &format!("{first}T00:00:00"),
            &format!("{last}T00:00:00"),
        )
        .with("isAllDay", true)
        .with("showAs", "free")
    }

    fn between(subject: &str, start: &str, end: &str) -> Self {
        Self(Map::new())
            .with("subject", subject)
            .with("start", json!({"dateTime": start, "timeZone": TIME_ZONE}))
            .with("end", json!({"dateTime": end, "timeZone": TIME_ZONE}))
            .with(
                "body",
                json!({"contentType": "html", "content": format!("<p>{subject}</p>")}),
            )
    }

    fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.0.insert(member.to_owned(), value.into());
        self
    }

    fn teams(self) -> Self {
        self.with("isOnlineMeeting", true)
            .with("onlineMeetingProvider", "teamsForBusiness")
            .with(
                "location",
                json!({"displayName": "Microsoft Teams Meeting"}),
            )
    }

    /// People by their place in [`PEOPLE`], with what they answered.
    fn people(self, who: &[(usize, &str)]) -> Self {
        let attendees: Vec<Value> = who
            .iter()
            .filter_map(|(index, response)| {
                let (name, address) = PEOPLE.get(*index)?;
                Some(json!({
                    "type": if *index < 5 { "required" } else { "optional" },
                    "status": {"response": response, "time": crate::event::NEVER},
                    "emailAddress": {"name": name, "address": address},
                }))
            })
            .collect();
        self.with("attendees", attendees)
    }

    fn room(mut self, name: &str, address: &str) -> Self {
        let room = json!({
            "type": "resource",
            "status": {"response": "accepted", "time": crate::event::NEVER},
            "emailAddress": {"name": name, "address": address},
        });
        if let Some(Value::Array(attendees)) = self.0.get_mut("attendees") {
            attendees.push(room);
        } else {
            self = self.with("attendees", vec![room]);
        }
        self.with(
            "location",
            json!({
                "displayName": name,
                "locationType": "conferenceRoom",
                "locationEmailAddress": address,
                "uniqueId": address,
                "uniqueIdType": "directory",
            }),
        )
    }

    /// An invitation by someone else, and the answer to it.
    fn invited_by(self, index: usize, response: &str) -> Self {
        let (name, address) = PEOPLE[index % PEOPLE.len()];
        let show_as = match response {
            "accepted" => "busy",
            "declined" => "free",
            _ => "tentative",
        };
        self.with(
            "organizer",
            json!({"emailAddress": {"name": name, "address": address}}),
        )
        .with("isOrganizer", false)
        .with(
            "responseStatus",
            json!({"response": response, "time": crate::event::NEVER}),
        )
        .with("showAs", show_as)
    }

    fn repeats(self, pattern: &Value, start: Date) -> Self {
        let range = json!({"type": "noEnd", "startDate": start.to_string(), "recurrenceTimeZone": TIME_ZONE});
        self.with("recurrence", json!({"pattern": pattern, "range": range}))
    }
}

fn weekday(date: Date) -> &'static str {
    DAYS[usize::try_from(date.weekday().to_monday_zero_offset()).unwrap_or(0) % 7]
}

impl Demo<'_> {
    fn day(&self, offset: i64) -> Date {
        self.today.checked_add(offset.days()).unwrap_or(self.today)
    }

    /// The `n`-th working day after (or, when negative, before) today.
    fn working_day(&self, n: i64) -> Date {
        let mut left = n.abs();
        let mut date = self.today;
        while left > 0 {
            date = date.checked_add(n.signum().days()).unwrap_or(date);
            if !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) {
                left -= 1;
            }
        }
        date
    }

    fn add(&self, draft: Draft) -> Result<String, GraphError> {
        self.simulator
            .create_event(UPN, None, &Value::Object(draft.0))
    }

    fn teams_today(&self) -> Result<(), GraphError> {
        let today = self.today;
        self.add(
            Draft::timed("Customer call: Fabrikam", today, (14, 0), 45)
                .teams()
                .people(&[(0, "accepted"), (6, "tentativelyAccepted")])
                .with("importance", "high")
                .with("categories", vec!["Red category"]),
        )?;
        let begun = self.day(-120);
        let daily = json!({"type": "daily", "interval": 1});
        self.add(
            Draft::timed("Operations check-in", begun, (16, 30), 15)
                .teams()
                .people(&[(4, "accepted"), (5, "none")])
                .repeats(&daily, begun),
        )?;
        let begun = self.day(-7 * 26);
        let weekly = json!({"type": "weekly", "interval": 1, "daysOfWeek": [weekday(today)]});
        self.add(
            Draft::timed("Design review", begun, (11, 0), 60)
                .teams()
                .people(&[(1, "accepted"), (2, "declined"), (3, "notResponded")])
                .with(
                    "body",
                    json!({"contentType": "html", "content": "<p>Bring one open question each.</p>"}),
                )
                .repeats(&weekly, begun),
        )?;
        Ok(())
    }

    /// Every working day for two years, with moved, renamed, cancelled and deleted occurrences around today.
    fn stand_up(&self) -> Result<(), GraphError> {
        let two_years = self.today.checked_sub(2.years()).unwrap_or(self.today);
        let begun = (0..7)
            .filter_map(|n: i64| two_years.checked_add(n.days()).ok())
            .find(|date| date.weekday() == Weekday::Monday)
            .unwrap_or(two_years);
        let pattern = json!({"type": "weekly", "interval": 1, "daysOfWeek": &DAYS[..5], "firstDayOfWeek": "monday"});
        let id = self.add(
            Draft::timed("Stand-up", begun, (9, 15), 15)
                .teams()
                .people(&[
                    (0, "accepted"),
                    (1, "accepted"),
                    (2, "accepted"),
                    (3, "accepted"),
                ])
                .repeats(&pattern, begun),
        )?;
        let moved = |day: Date, hour: i8| {
            let draft = Draft::timed("Stand-up", day, (hour, 0), 15).0;
            json!({"start": draft["start"], "end": draft["end"]})
        };
        let renamed = json!({"subject": "Stand-up with demo"});
        let changes = [
            (-8, OccurrenceChange::Delete),
            (-3, OccurrenceChange::Edit(moved(self.working_day(-3), 13))),
            (-2, OccurrenceChange::Edit(renamed.clone())),
            (-1, OccurrenceChange::Delete),
            (2, OccurrenceChange::Edit(moved(self.working_day(2), 10))),
            (3, OccurrenceChange::Delete),
            (4, OccurrenceChange::Edit(renamed)),
            (6, OccurrenceChange::Cancel),
        ];
        for (offset, change) in changes {
            self.simulator
                .change_occurrence(UPN, &id, self.working_day(offset), &change)?;
        }
        Ok(())
    }

    fn series(&self) -> Result<(), GraphError> {
        let begun = self.day(-14 * 12);
        let biweekly = json!({"type": "weekly", "interval": 2, "daysOfWeek": [weekday(begun)]});
        self.add(
            Draft::timed("1:1 with Megan", begun, (15, 0), 30)
                .people(&[(1, "accepted")])
                .with("sensitivity", "private")
                .repeats(&biweekly, begun),
        )?;
        let begun = self.day(-400);
        let last_friday = json!({"type": "relativeMonthly", "interval": 1, "daysOfWeek": ["friday"], "index": "last"});
        self.add(
            Draft::timed("Monthly review", begun, (13, 0), 90)
                .room("Conf Room Stevens", "stevens@contoso.example")
                .repeats(&last_friday, begun),
        )?;
        let begun = Date::new(self.today.year() - 3, 1, 1).unwrap_or(begun);
        let first_of_quarter = json!({"type": "absoluteMonthly", "interval": 3, "dayOfMonth": 1});
        self.add(
            Draft::timed("Quarterly numbers", begun, (10, 0), 60)
                .people(&[(3, "accepted"), (4, "accepted")])
                .repeats(&first_of_quarter, begun),
        )?;
        let summer = Date::new(self.today.year() - 2, 6, 1).unwrap_or(begun);
        let party = json!({"type": "relativeYearly", "interval": 1, "month": 6, "daysOfWeek": ["friday"], "index": "second"});
        self.add(
            Draft::timed("Summer party", summer, (18, 0), 300)
                .with("categories", vec!["Green category"])
                .repeats(&party, summer),
        )?;
        Ok(())
    }

    fn whole_days(&self) -> Result<(), GraphError> {
        let born =
            Date::new(1988, self.day(5).month(), self.day(5).day().min(28)).unwrap_or(self.today);
        let yearly = json!({"type": "absoluteYearly", "interval": 1, "month": born.month(), "dayOfMonth": born.day()});
        self.add(
            Draft::whole_days("Adele's birthday", born, 1)
                .with("categories", vec!["Purple category"])
                .repeats(&yearly, born),
        )?;
        self.add(Draft::whole_days("Public holiday", self.day(9), 1).with("showAs", "oof"))?;
        self.add(
            Draft::whole_days("Annual leave", self.day(20), 5)
                .with("showAs", "oof")
                .with("isReminderOn", false),
        )?;
        self.add(
            Draft::whole_days("Conference: Example Summit", self.day(-12), 3)
                .with("showAs", "workingElsewhere")
                .with(
                    "location",
                    json!({"displayName": "Example Congress Centre"}),
                ),
        )?;
        self.add(Draft::whole_days("Release 2.4", self.today, 1).with("importance", "high"))?;
        // Over midnight, and over several days without being all-day.
        self.add(Draft::timed("Night deployment", self.day(1), (22, 30), 180))?;
        self.add(
            Draft::timed("Offsite", self.day(13), (12, 0), 2 * 24 * 60)
                .with("showAs", "oof")
                .with("location", json!({"displayName": "Lake house"})),
        )?;
        Ok(())
    }

    fn invitations(&self) -> Result<(), GraphError> {
        let day = |n| self.working_day(n);
        self.add(
            Draft::timed("Budget planning", day(1), (10, 0), 60)
                .people(&[(0, "accepted"), (1, "none")])
                .invited_by(3, "tentativelyAccepted"),
        )?;
        self.add(
            Draft::timed("All hands", day(2), (16, 0), 60)
                .teams()
                .invited_by(1, "declined"),
        )?;
        self.add(
            Draft::timed("Interview: platform engineer", day(3), (13, 30), 60)
                .invited_by(2, "notResponded"),
        )?;
        self.add(
            Draft::timed("Canceled: Vendor demo", day(1), (15, 0), 60)
                .invited_by(6, "accepted")
                .with("isCancelled", true)
                .with("showAs", "free"),
        )?;
        let new_york = |time: &str| json!({"dateTime": format!("{}T{time}:00", day(2)), "timeZone": "Eastern Standard Time"});
        self.add(
            Draft::timed("Sync with New York", day(2), (15, 0), 30)
                .with("start", new_york("09:00"))
                .with("end", new_york("09:45"))
                .teams()
                .people(&[(7, "accepted")])
                .invited_by(6, "accepted"),
        )?;
        // A conference without a join link: dial in only.
        self.add(
            Draft::timed("Insurance hotline", day(1), (9, 45), 20)
                .invited_by(7, "accepted")
                .with("isOnlineMeeting", true)
                .with("onlineMeetingProvider", "unknown")
                .with(
                    "onlineMeeting",
                    json!({
                        "conferenceId": "771203945",
                        "tollNumber": "+1 323-555-0166",
                        "quickDial": "+13235550166,,771203945#",
                        "phones": [{"number": "+49 30 555 0123", "type": "business", "language": "de-DE", "region": "DE"}],
                    }),
                ),
        )?;
        Ok(())
    }

    fn singles(&self) -> Result<(), GraphError> {
        self.add(
            Draft::timed("Dentist", self.working_day(4), (8, 30), 45)
                .with("sensitivity", "private")
                .with("location", json!({"displayName": "Dr. Example"})),
        )?;
        self.add(
            Draft::timed("Focus time", self.today, (8, 0), 60)
                .with("importance", "low")
                .with("isReminderOn", false),
        )?;
        self.add(
            Draft::timed("Lunch with Lee", self.today, (12, 15), 60)
                .people(&[(4, "accepted")])
                .with("location", json!({"displayName": "Harry's Bar"})),
        )?;
        self.add(
            Draft::timed("Architecture board", self.working_day(1), (13, 0), 90)
                .people(&[(0, "accepted"), (2, "none"), (5, "declined")])
                .room("Conf Room Baker", "baker@contoso.example")
                .with("categories", vec!["Blue category", "Red category"]),
        )?;
        let subjects = [
            "Code review",
            "Roadmap",
            "Support rotation",
            "Security training",
            "Customer onboarding",
            "Retrospective",
            "Sprint planning",
            "Data model workshop",
            "Hiring sync",
            "Expense report",
        ];
        // Two a day over three working weeks back and forth.
        for n in -15_i64..=15 {
            if n == 0 {
                continue;
            }
            let index = usize::try_from(n + 15).unwrap_or(0);
            let subject = subjects[index % subjects.len()];
            let hour = i8::try_from(8 + index % 9).unwrap_or(8);
            let mut draft = Draft::timed(
                subject,
                self.working_day(n),
                (hour, 30),
                30 + 15 * (n.abs() % 3),
            )
            .people(&[(index % 8, "accepted"), ((index + 3) % 8, "none")])
            .with("reminderMinutesBeforeStart", 5 + n.abs() % 25);
            if index.is_multiple_of(4) {
                draft = draft.teams();
            }
            self.add(draft)?;
        }
        Ok(())
    }

    fn other_calendars(&self) -> Result<(), GraphError> {
        let draft = Draft::whole_days("Isaiah's birthday", self.day(2), 1);
        self.simulator
            .create_event(UPN, Some("Birthdays"), &Value::Object(draft.0))?;
        for (n, subject) in ["Kick-off", "Milestone 1", "Steering committee"]
            .iter()
            .enumerate()
        {
            let offset = i64::try_from(n).unwrap_or(0) * 4 + 1;
            let draft = Draft::timed(subject, self.working_day(offset), (17, 0), 30)
                .people(&[(2, "accepted")]);
            self.simulator
                .create_event(UPN, Some("Project Falcon"), &Value::Object(draft.0))?;
        }
        Ok(())
    }
}
