//! Edits at the simulated provider, each timed until the API shows it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::account::{Account, Connection};
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

/// The demo mailbox at the simulator, and who sees it through the API.
pub(super) struct Edits<'a> {
    services: &'a Services,
    account: &'a Account,
    connection: &'a Connection,
    mailbox: String,
    /// What earlier runs left in the database is not mistaken for this run's.
    run: String,
}

impl<'a> Edits<'a> {
    pub(super) async fn new(
        services: &'a Services,
        account: &'a Account,
        connection: &'a Connection,
    ) -> Result<Self> {
        let url = format!("{}/admin/mailboxes", services.simulator_url);
        let mailboxes = http::send("GET", &url, None, None)
            .await?
            .json("the mailboxes")?;
        let mailbox = mailboxes["value"][0]["upn"]
            .as_str()
            .context("no demo mailbox")?
            .to_owned();
        let run = crate::workspace::random_hex(3)?;
        Ok(Self {
            services,
            account,
            connection,
            mailbox,
            run,
        })
    }

    /// Three edits; an error when one does not arrive.
    pub(super) async fn once(&self) -> Result<()> {
        self.round(1, &SHORT_ROUND, Duration::ZERO).await
    }

    /// An edit every few seconds, for ever.
    pub(super) async fn keep_on(&self) -> Result<()> {
        let mut number = 1;
        loop {
            self.round(number, &ROUND, PAUSE).await?;
            number += 1;
        }
    }

    async fn round(&self, number: u32, edits: &[Edit], pause: Duration) -> Result<()> {
        let title = format!("Demo edit {}-{number}", self.run);
        let renamed = format!("{title} renamed");
        let day = self.today().await?;
        let mut id = String::new();
        for edit in edits {
            tokio::time::sleep(pause).await;
            let began = Instant::now();
            let what = match edit {
                Edit::Create => {
                    let event = json!({
                        "subject": title,
                        "start": at(&day, 12), "end": at(&day, 13),
                        "isOnlineMeeting": true, "onlineMeetingProvider": "teamsForBusiness",
                    });
                    let made = self.admin("POST", "events", Some(&event)).await?;
                    made["id"]
                        .as_str()
                        .context("the new event has no id")?
                        .clone_into(&mut id);
                    self.arrival(&title, |events| shows(events, &title)).await?;
                    format!("a Teams meeting \"{title}\" was made")
                }
                Edit::Rename => {
                    self.patch(&id, &json!({"subject": renamed})).await?;
                    self.arrival(&title, |events| shows(events, &renamed))
                        .await?;
                    "it was renamed".to_owned()
                }
                Edit::Move => {
                    self.patch(&id, &json!({"start": at(&day, 14), "end": at(&day, 15)}))
                        .await?;
                    self.arrival(&title, |events| {
                        let start = |event: &Value| {
                            event["start"].to_string() + &event["start_time"].to_string()
                        };
                        events.iter().any(|event| start(event).contains("T14:00"))
                    })
                    .await?;
                    "it was moved by two hours".to_owned()
                }
                Edit::Delete => {
                    self.admin("DELETE", &format!("events/{}", http::encode(&id)), None)
                        .await?;
                    self.arrival(&title, <[Value]>::is_empty).await?;
                    "it was removed".to_owned()
                }
            };
            println!(
                "  {:>5} ms from the edit to the API: {what}",
                began.elapsed().as_millis()
            );
        }
        Ok(())
    }

    async fn patch(&self, id: &str, change: &Value) -> Result<()> {
        let path = format!("events/{}", http::encode(id));
        self.admin("PATCH", &path, Some(change)).await.map(|_| ())
    }

    async fn admin(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mailbox = http::encode(&self.mailbox);
        let url = format!(
            "{}/admin/mailboxes/{mailbox}/{path}",
            self.services.simulator_url
        );
        http::send(method, &url, None, body)
            .await?
            .json("the simulator")
    }

    /// The simulator's date: its clock may be set.
    async fn today(&self) -> Result<String> {
        let url = format!("{}/admin/clock", self.services.simulator_url);
        let clock = http::send("GET", &url, None, None)
            .await?
            .json("the clock")?;
        let now = clock["now"].as_str().context("the clock has no now")?;
        Ok(now.chars().take(10).collect())
    }

    /// Waits until the events whose title holds `title` are as `expected`.
    async fn arrival(&self, title: &str, expected: impl Fn(&[Value]) -> bool) -> Result<()> {
        let path = format!(
            "/v1/events?connection_id={}&q={}&limit=5",
            self.connection.id,
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
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

fn shows(events: &[Value], title: &str) -> bool {
    events.iter().any(|event| event["title"] == title)
}

fn at(day: &str, hour: u8) -> Value {
    json!({"dateTime": format!("{day}T{hour:02}:00:00"), "timeZone": "UTC"})
}
