//! The adapter in front of a server that gives prepared answers, one after the other, and keeps what it
//! was asked.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "shared by test binaries that each use a part"
)]

use std::collections::VecDeque;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use calendar_domain::failure::PortError;
use calendar_domain::ports::Clock;
use calendar_msgraph::{MicrosoftConfig, MsGraph};
use secrecy::SecretString;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

pub const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
pub const TOKEN: &str = "hush-token";

#[derive(Debug)]
pub struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> OffsetDateTime {
        NOW
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub after: Duration,
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[derive(Debug, Default)]
struct State {
    answers: VecDeque<Answer>,
    asked: Vec<Asked>,
    under_way: usize,
    most_under_way: usize,
}

#[derive(Clone, Debug)]
pub struct Scripted {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            state: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        server
    }

    pub fn adapter(&self) -> MsGraph {
        self.adapter_with(|_| {})
    }

    pub fn adapter_with(&self, change: impl FnOnce(&mut MicrosoftConfig)) -> MsGraph {
        let mut config = MicrosoftConfig {
            graph_url: format!("{}/v1.0", self.url),
            page_size: 5,
            ..MicrosoftConfig::new("client-id")
        };
        change(&mut config);
        MsGraph::new(config, Arc::new(FixedClock)).unwrap()
    }

    pub fn push(&self, answer: Answer) {
        self.state.lock().unwrap().answers.push_back(answer);
    }

    pub fn answer(&self, status: u16, body: impl ToString) {
        self.push(Answer {
            status,
            headers: Vec::new(),
            body: body.to_string(),
            after: Duration::ZERO,
        });
    }

    /// Refuses with a code and a message.
    pub fn refuse(&self, status: u16, code: &str, message: &str) {
        self.answer(
            status,
            json!({"error": {"code": code, "message": message, "innerError": {"request-id": "r-1"}}}),
        );
    }

    /// What was asked since the last time; every answer must have been given.
    pub fn asked(&self) -> Vec<Asked> {
        let mut state = self.state.lock().unwrap();
        assert!(state.answers.is_empty(), "answers that nobody asked for");
        std::mem::take(&mut state.asked)
    }

    pub fn most_under_way(&self) -> usize {
        self.state.lock().unwrap().most_under_way
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let Some(asked) = read(&mut stream).await else {
            return;
        };
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(asked);
            state.under_way += 1;
            state.most_under_way = state.most_under_way.max(state.under_way);
            state.answers.pop_front()
        };
        let answer = answer.unwrap_or_else(|| Answer {
            status: 418,
            headers: Vec::new(),
            body: String::new(),
            after: Duration::ZERO,
        });
        tokio::time::sleep(answer.after).await;
        self.state.lock().unwrap().under_way -= 1;
        let mut head = format!(
            "HTTP/1.1 {} Scripted\r\nConnection: close\r\n",
            answer.status
        );
        for (name, value) in answer.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if answer.status != 204 {
            let _ = write!(head, "Content-Length: {}\r\n", answer.body.len());
        }
        let text = format!("{head}\r\n{}", answer.body);
        let _ = stream.get_mut().write_all(text.as_bytes()).await;
        let _ = stream.get_mut().shutdown().await;
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let mut parts = line.split(' ');
    let (method, target) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked {
        method,
        target,
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}

pub fn token() -> SecretString {
    SecretString::from(TOKEN)
}

/// Everything that an error says, to itself and through its sources.
pub fn all_text(error: &PortError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(inner) = source {
        let _ = write!(text, " {inner} {inner:?}");
        source = inner.source();
    }
    text
}
