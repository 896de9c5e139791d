//! What the integration tests share: a server with one mailbox, and an HTTP client that walks pages.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it, and fails by panicking"
)]

pub mod listener;
pub mod subscribing;

use calendar_simulator::jiff::Timestamp;
use calendar_simulator::{Options, Quirks, Server};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

pub const ALEX: &str = "alex@contoso.example";
pub const MEGAN: &str = "megan@contoso.example";
pub const FROM: &str = "2026-03-01T00:00:00Z";
pub const TO: &str = "2026-04-01T00:00:00Z";
pub const IMMUTABLE: &str = "IdType=\"ImmutableId\"";

pub struct Bench {
    pub server: Server,
    pub http: Client,
    pub token: String,
}

/// Everything delta said in one round.
#[derive(Debug, Default)]
pub struct Round {
    pub rows: Vec<Value>,
    pub pages: Vec<usize>,
    pub link: String,
}

impl Round {
    pub fn removed(&self) -> Vec<&str> {
        self.rows
            .iter()
            .filter(|row| row.get("@removed").is_some())
            .map(|row| row["id"].as_str().unwrap())
            .collect()
    }

    pub fn of_type(&self, kind: &str) -> Vec<&Value> {
        self.rows.iter().filter(|row| row["type"] == kind).collect()
    }
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn client() -> Client {
    // reqwest is built without a TLS provider of its own; plain http still asks for one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

impl Bench {
    pub async fn calm() -> Self {
        Self::with(Quirks::none()).await
    }

    pub async fn with(quirks: Quirks) -> Self {
        let server = Server::start(Options {
            quirks,
            ..Options::default()
        })
        .await
        .unwrap();
        server
            .create_mailbox(ALEX, "Alex Wilber", "W. Europe Standard Time")
            .unwrap();
        server
            .create_mailbox(MEGAN, "Megan Bowen", "Pacific Standard Time")
            .unwrap();
        let token = server.issue_access_token(ALEX).unwrap();
        Self {
            server,
            http: client(),
            token,
        }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}{path}", self.server.graph_url())
        };
        self.http.request(method, url).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    /// The body of a GET that must answer 200.
    pub async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    pub async fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.request(method, path).json(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// A GET's status and error code.
    pub async fn refusal(&self, path: &str) -> (u16, String) {
        let answer = self.get(path).await;
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (
            status,
            body["error"]["code"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    }

    /// Follows links to the delta link.
    pub async fn round(&self, link: &str, prefer: &str) -> Round {
        let mut round = Round::default();
        let mut link = link.to_owned();
        loop {
            let answer = self
                .request(Method::GET, &link)
                .header("Prefer", prefer)
                .send()
                .await
                .unwrap();
            let status = answer.status();
            let body: Value = answer.json().await.unwrap();
            assert_eq!(status, StatusCode::OK, "{body}");
            let rows = body["value"].as_array().unwrap();
            round.pages.push(rows.len());
            round.rows.extend(rows.iter().cloned());
            assert!(round.pages.len() < 5000, "the round never ends");
            match (&body["@odata.nextLink"], &body["@odata.deltaLink"]) {
                (Value::String(next), Value::Null) => link.clone_from(next),
                (Value::Null, Value::String(delta)) => {
                    round.link.clone_from(delta);
                    return round;
                }
                other => panic!("exactly one link is wanted: {other:?}"),
            }
        }
    }

    /// Subscribes to the mailbox and gives the whole answer, which must be 201.
    pub async fn subscribe(&self, url: &str, changes: &str, prefer: &str) -> Value {
        let body = self.wanted(url, changes);
        let answer = self
            .request(Method::POST, "/subscriptions")
            .header("Prefer", prefer)
            .json(&body)
            .send()
            .await
            .unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body
    }

    /// The body of a create request for three days.
    pub fn wanted(&self, url: &str, changes: &str) -> Value {
        json!({
            "changeType": changes,
            "notificationUrl": url,
            "resource": "me/events",
            "expirationDateTime": self.ahead(3 * 24 * 60),
            "clientState": "secret",
        })
    }

    /// The simulator's time in so many minutes.
    pub fn ahead(&self, minutes: i64) -> String {
        (self.server.now() + calendar_simulator::jiff::SignedDuration::from_mins(minutes))
            .to_string()
    }

    /// Waits until no notification waits.
    pub async fn quiet(&self) {
        listener::until("nothing waits", || self.server.push_counts().waiting == 0).await;
    }

    pub async fn first_round(&self) -> Round {
        self.round(&delta(), IMMUTABLE).await
    }
}

pub fn delta() -> String {
    format!("/me/calendarView/delta?startDateTime={FROM}&endDateTime={TO}")
}

pub fn view() -> String {
    format!("/me/calendarView?startDateTime={FROM}&endDateTime={TO}&$top=1000")
}

/// A one-hour meeting that starts at a UTC time.
pub fn meeting(subject: &str, start: &str) -> Value {
    let end = at(&format!("{start}Z")) + calendar_simulator::jiff::SignedDuration::from_hours(1);
    json!({
        "subject": subject,
        "start": {"dateTime": start, "timeZone": "UTC"},
        "end": {"dateTime": end.to_string(), "timeZone": "UTC"},
    })
}

/// A daily half-hour series at nine in Berlin that runs from 2 to 13 March 2026, twelve occurrences.
pub fn series(subject: &str) -> Value {
    json!({
        "subject": subject,
        "start": {"dateTime": "2026-03-02T09:00:00", "timeZone": "W. Europe Standard Time"},
        "end": {"dateTime": "2026-03-02T09:30:00", "timeZone": "W. Europe Standard Time"},
        "recurrence": {
            "pattern": {"type": "daily", "interval": 1},
            "range": {"type": "numbered", "startDate": "2026-03-02", "numberOfOccurrences": 12},
        },
    })
}
