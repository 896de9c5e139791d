//! Edits at the simulated provider, each timed until the API shows it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::account::{Account, Connection};
use super::colleague::{self, at};
use super::http;
use super::services::{self, Services};

/// Between two edits when nobody asked for an end.
const PAUSE: Duration = Duration::from_secs(5);
const ARRIVAL_LIMIT: Duration = Duration::from_mins(1);

/// One round over the same event: it is made, renamed, moved, removed.
const ROUND: [Edit; 4] = [Edit::Create, Edit::Rename, Edit::Move, Edit::Delete];
/// What `--once` makes.
const SHORT_ROUND: [Edit; 3] = [Edit::Create, Edit::Rename, Edit::Delete];

#[derive(Clone, Copy)]
enum Edit {
    Create,
    Rename,
    Move,
    Delete,
}

/// A calendar at the simulator, and its connection.
struct Calendar<'a> {
    mailbox: String,
    connection: &'a Connection,
}

/// The calendars that are edited, and who sees them through the API.
pub(super) struct Edits<'a> {
    services: &'a Services,
    account: &'a Account,
    /// The demo user's: its changes are pushed.
    own: Calendar<'a>,
    /// A colleague's: it is polled.
    shared: Calendar<'a>,
    /// What earlier runs left in the database is not mistaken for this run's.
    run: String,
    /// How long pushed edits took so far.
    pushed: Vec<Duration>,
}

impl<'a> Edits<'a> {
    pub(super) async fn new(
        services: &'a Services,
        account: &'a Account,
        primary: &'a Connection,
        shared: &'a Connection,
    ) -> Result<Self> {
        Ok(Self {
            services,
            account,
            own: Calendar {
                mailbox: colleague::demo_mailbox(services).await?,
                connection: primary,
            },
            shared: Calendar {
                mailbox: colleague::UPN.to_owned(),
                connection: shared,
            },
            run: crate::workspace::random_hex(3)?,
            pushed: Vec::new(),
        })
    }

    /// Three edits, and one of a colleague; an error when one does not arrive.
    pub(super) async fn once(&mut self) -> Result<()> {
        self.round(1, &SHORT_ROUND, Duration::ZERO).await
    }

    /// An edit every few seconds, for ever.
    pub(super) async fn keep_on(&mut self) -> Result<()> {
        let mut number = 1;
        loop {
            self.round(number, &ROUND, PAUSE).await?;
            number += 1;
        }
    }

    async fn round(&mut self, number: u32, edits: &[Edit], pause: Duration) -> Result<()> {
        let title = format!("Demo edit {}-{number}", self.run);
        let mut id = String::new();
        for edit in edits {
            tokio::time::sleep(pause).await;
            let began = Instant::now();
            let what = self.edit(&self.own, *edit, &title, &mut id).await?;
            self.pushed.push(began.elapsed());
            report(began.elapsed(), what);
        }
        let title = format!("Megan's edit {}-{number}", self.run);
        let mut id = String::new();
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        self.edit(&self.shared, Edit::Create, &title, &mut id)
            .await?;
        report(
            began.elapsed(),
            "Megan's calendar, which is polled, has a new meeting",
        );
        self.edit(&self.shared, Edit::Delete, &title, &mut id)
            .await?;
        println!(
            "  {:>5} ms is the median of {} pushed edits",
            median(&self.pushed).as_millis(),
            self.pushed.len()
        );
        Ok(())
    }

    /// Edits, and waits until the API shows it. Answers what was done.
    async fn edit(
        &self,
        calendar: &Calendar<'_>,
        edit: Edit,
        title: &str,
        id: &mut String,
    ) -> Result<&'static str> {
        let day = colleague::today(self.services).await?;
        let renamed = format!("{title} renamed");
        let event = format!("events/{}", http::encode(id));
        match edit {
            Edit::Create => {
                let event = json!({
                    "subject": title,
                    "start": at(&day, 12), "end": at(&day, 13),
                    "isOnlineMeeting": true, "onlineMeetingProvider": "teamsForBusiness",
                });
                let made = self.at_mailbox(calendar, "POST", "events", Some(&event));
                made.await?["id"]
                    .as_str()
                    .context("the new event has no id")?
                    .clone_into(id);
                self.arrival(calendar, title, |events| shows(events, title))
                    .await?;
                Ok("a Teams meeting was made")
            }
            Edit::Rename => {
                let change = json!({"subject": renamed});
                self.at_mailbox(calendar, "PATCH", &event, Some(&change))
                    .await?;
                self.arrival(calendar, title, |events| shows(events, &renamed))
                    .await?;
                Ok("it was renamed")
            }
            Edit::Move => {
                let change = json!({"start": at(&day, 14), "end": at(&day, 15)});
                self.at_mailbox(calendar, "PATCH", &event, Some(&change))
                    .await?;
                let moved = |event: &Value| event["start"].to_string().contains("T14:00");
                self.arrival(calendar, title, |events| events.iter().any(moved))
                    .await?;
                Ok("it was moved by two hours")
            }
            Edit::Delete => {
                self.at_mailbox(calendar, "DELETE", &event, None).await?;
                self.arrival(calendar, title, <[Value]>::is_empty).await?;
                Ok("it was removed")
            }
        }
    }

    async fn at_mailbox(
        &self,
        calendar: &Calendar<'_>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let mailbox = http::encode(&calendar.mailbox);
        let path = format!("mailboxes/{mailbox}/{path}");
        colleague::admin(self.services, method, &path, body).await
    }

    /// Waits until the events whose title holds `title` are as `expected`.
    async fn arrival(
        &self,
        calendar: &Calendar<'_>,
        title: &str,
        expected: impl Fn(&[Value]) -> bool,
    ) -> Result<()> {
        let path = format!(
            "/v1/events?connection_id={}&q={}&limit=5",
            calendar.connection.id,
            http::encode(title)
        );
        let began = Instant::now();
        loop {
            let answer = self.account.send("GET", &path, None).await?;
            let events = answer["data"]
                .as_array()
                .context("the list of events has no data")?;
            if expected(events) {
                return Ok(());
            }
            if began.elapsed() > ARRIVAL_LIMIT {
                bail!(
                    "an edit did not arrive in {} s\nthe end of the worker's log:\n{}",
                    ARRIVAL_LIMIT.as_secs(),
                    services::last_lines("calendar-worker")
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn report(took: Duration, what: &str) {
    println!(
        "  {:>5} ms from the edit to the API: {what}",
        took.as_millis()
    );
}

fn shows(events: &[Value], title: &str) -> bool {
    events.iter().any(|event| event["title"] == title)
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let of = |list: &[u64]| {
            let times: Vec<_> = list.iter().copied().map(Duration::from_millis).collect();
            median(&times).as_millis()
        };
        assert_eq!((of(&[]), of(&[7]), of(&[9, 1, 5])), (0, 7, 5));
    }
}
