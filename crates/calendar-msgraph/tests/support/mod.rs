//! The adapter in front of a simulator, over real HTTP.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by test binaries that each use a part"
)]

use std::sync::Arc;

use calendar_domain::event::{EventChange, ProviderEvent};
use calendar_domain::failure::PortError;
use calendar_domain::ports::{CalendarReader, Clock};
use calendar_domain::sync::{CalendarRef, ChangesFrom, Cursor, Mailbox, NextPage, SyncWindow};
use calendar_msgraph::{MicrosoftConfig, MsGraph};
use calendar_simulator::{Fault, Options, Quirks, Server};
use secrecy::SecretString;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

pub const ADA: &str = "ada@example.com";
pub const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
pub const WINDOW: SyncWindow = SyncWindow {
    start: datetime!(2026-03-01 00:00 UTC),
    end: datetime!(2026-04-01 00:00 UTC),
};
pub const PREFER: &str = r#"IdType="ImmutableId", outlook.timezone="UTC", odata.maxpagesize="#;

#[derive(Debug)]
pub struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> OffsetDateTime {
        NOW
    }
}

pub struct Bench {
    pub server: Server,
    pub graph: MsGraph,
    pub token: SecretString,
    pub calendar: CalendarRef,
}

impl Bench {
    /// With everything odd that the simulator knows.
    pub async fn start() -> Self {
        Self::with(Quirks::default(), |_| {}).await
    }

    /// With the protocol alone.
    pub async fn calm() -> Self {
        Self::with(Quirks::none(), |_| {}).await
    }

    /// With the protocol alone, no push sent and no address asked.
    pub async fn manual() -> Self {
        let options = Options {
            quirks: Quirks::none(),
            manual: true,
            ..Options::default()
        };
        let bench = Self::of(options, |_| {}).await;
        // As the adapter's clock.
        let now = calendar_simulator::jiff::Timestamp::from_second(NOW.unix_timestamp());
        bench.server.set_clock(now.unwrap(), true);
        let token = SecretString::from(bench.server.issue_access_token(ADA).unwrap());
        Self { token, ..bench }
    }

    pub async fn with(quirks: Quirks, change: impl FnOnce(&mut MicrosoftConfig)) -> Self {
        let options = Options {
            quirks,
            ..Options::default()
        };
        Self::of(options, change).await
    }

    async fn of(options: Options, change: impl FnOnce(&mut MicrosoftConfig)) -> Self {
        let server = Server::start(options).await.unwrap();
        server
            .create_mailbox(ADA, "Ada", "W. Europe Standard Time")
            .unwrap();
        let graph = adapter(&server, change);
        let token = SecretString::from(server.issue_access_token(ADA).unwrap());
        let calendar = CalendarRef {
            calendar_id: server.find_calendar(ADA, None).unwrap(),
            mailbox: Mailbox::Own,
        };
        Self {
            server,
            graph,
            token,
            calendar,
        }
    }

    pub async fn page(
        &self,
        from: &ChangesFrom,
    ) -> Result<(Vec<EventChange>, NextPage), PortError> {
        let page = self
            .graph
            .changes(&self.token, &self.calendar, from)
            .await?;
        Ok((page.changes, page.next))
    }

    /// Reads a round to its end: how many pages, what they held, the delta link.
    pub async fn round(&self, from: ChangesFrom) -> (usize, Vec<EventChange>, Cursor) {
        let (mut from, mut pages, mut all) = (from, 0, Vec::new());
        loop {
            let (changes, next) = self.page(&from).await.unwrap();
            pages += 1;
            all.extend(changes);
            match next {
                NextPage::More(cursor) => from = ChangesFrom::Cursor(cursor),
                NextPage::Done(cursor) => return (pages, all, cursor),
            }
        }
    }

    pub async fn first_round(&self) -> Vec<EventChange> {
        self.round(ChangesFrom::Start(WINDOW)).await.1
    }

    pub async fn failure(&self) -> PortError {
        self.page(&ChangesFrom::Start(WINDOW)).await.unwrap_err()
    }

    pub fn fault(&self, status: u16, headers: &[(&str, &str)], body: Value) {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.server.script_fault(Fault {
            path_contains: "/v1.0/".to_owned(),
            status,
            headers: headers.collect(),
            body,
            ..Fault::default()
        });
    }
}

pub fn adapter(server: &Server, change: impl FnOnce(&mut MicrosoftConfig)) -> MsGraph {
    let mut config = MicrosoftConfig {
        client_secret: Some(SecretString::from("client-secret")),
        authority_url: server.url(),
        graph_url: server.graph_url(),
        page_size: 5,
        ..MicrosoftConfig::new("client-id")
    };
    change(&mut config);
    MsGraph::new(config, Arc::new(FixedClock)).unwrap()
}

pub fn meeting(subject: &str, start: &str, end: &str) -> Value {
    json!({
        "subject": subject,
        "start": {"dateTime": start, "timeZone": "W. Europe Standard Time"},
        "end": {"dateTime": end, "timeZone": "W. Europe Standard Time"},
    })
}

pub fn daily(subject: &str) -> Value {
    let mut series = meeting(subject, "2026-02-02T09:00:00", "2026-02-02T09:15:00");
    series["recurrence"] = json!({
        "pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["monday", "wednesday"]},
        "range": {"type": "endDate", "startDate": "2026-02-02", "endDate": "2026-06-30"},
    });
    series
}

pub fn error_body(code: &str) -> Value {
    json!({"error": {"code": code, "message": "secret text", "innerError": {"request-id": "r-1"}}})
}

/// The events, masters and exceptions among changes.
pub fn events(changes: &[EventChange]) -> Vec<&ProviderEvent> {
    changes
        .iter()
        .filter_map(|change| match change {
            EventChange::Event(event) => Some(&**event),
            _ => None,
        })
        .collect()
}
