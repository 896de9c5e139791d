//! HTTP: reading a request, the server, the order in which a request meets faults, throttling and the two services.

mod delivery;

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request, Response};
use axum::serve::ListenerExt as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use delivery::{Outgoing, deliver, respond};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::entra::Session;
use crate::error::GraphError;
use crate::fault::{Fault, RetryAfter, Untruth};
use crate::simulator::{Options, RecordedRequest, Simulator};
use crate::{lock, push, read};

/// The content type of Graph's answers.
const GRAPH_JSON: &str = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8";
const MAX_BODY: usize = 64 * 1024 * 1024;

/// A request, read whole.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub(crate) method: String,
    /// As sent.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) raw_query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Scheme and host for links.
    pub(crate) base: String,
    /// What is to be untrue in the answer.
    pub(crate) untruth: Option<Untruth>,
}

impl Incoming {
    /// A query parameter, its name in any case.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// All `Prefer` headers as one.
    pub(crate) fn prefer(&self) -> Option<String> {
        let all: Vec<&str> = self
            .headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        let value = self.header("authorization")?;
        let (scheme, token) = value.split_once(' ')?;
        scheme
            .eq_ignore_ascii_case("bearer")
            .then_some(token.trim())
    }

    /// Client id and secret of an `Authorization: Basic`, form-decoded as RFC 6749 2.3.1 asks.
    pub(crate) fn basic(&self) -> Option<(String, String)> {
        let value = self.header("authorization")?;
        let (scheme, encoded) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (id, secret) = text.split_once(':')?;
        let decode = |part: &str| {
            percent_decode_str(&part.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        Some((decode(id), decode(secret)))
    }

    pub(crate) fn json(&self) -> Result<Value, GraphError> {
        serde_json::from_slice(&self.body).map_err(|_| {
            GraphError::new(
                400,
                "BadRequest",
                "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.",
            )
        })
    }

    /// The path's segments, decoded.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect()
    }
}

/// An answer before the headers that every answer has.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(status: u16, body: String) -> Self {
        Self {
            status,
            headers: vec![(
                "Content-Type".into(),
                "application/json; charset=utf-8".into(),
            )],
            body,
        }
    }

    pub(crate) fn graph(status: u16, body: String) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".into(), GRAPH_JSON.into())],
            body,
        }
    }

    pub(crate) fn text(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".into(), "text/plain; charset=utf-8".into())],
            body: body.to_owned(),
        }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// Replaces a header.
    fn set(&mut self, name: &str, value: &str) {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running simulator. Dropping it stops the server; it dereferences to its [`Simulator`].
#[derive(Debug)]
pub struct Server {
    simulator: Simulator,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<std::io::Result<()>>>,
    /// Sends notifications.
    delivery: JoinHandle<()>,
}

impl Server {
    /// Starts on an ephemeral port of 127.0.0.1.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        Self::listen(Simulator::new(options), "127.0.0.1:0").await
    }

    /// Serves a simulator on an address. The error is the listener's.
    pub async fn listen(simulator: Simulator, address: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        // Answers are written at once, so waiting for more to send only costs time.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        if simulator.0.client.get().is_none() {
            let client = push::client().ok_or_else(|| std::io::Error::other("no HTTP client"))?;
            // Another server of the same simulator may have been faster; one client is as good as the other.
            let _ = simulator.0.client.set(client);
        }
        let delivery = tokio::spawn(push::deliver(simulator.clone()));
        let router = Router::new().fallback(handle).with_state(simulator.clone());
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async move {
                    // A dropped sender stops the server too.
                    let _ = stopped.await;
                })
                .await
        });
        Ok(Self {
            simulator,
            address,
            stop: Some(stop),
            task: Some(task),
            delivery,
        })
    }

    /// The simulator behind this server.
    #[must_use]
    pub fn simulator(&self) -> &Simulator {
        &self.simulator
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`: the authority (append `/{tenant}/oauth2/v2.0/...`).
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://127.0.0.1:port/v1.0`: Graph's base.
    #[must_use]
    pub fn graph_url(&self) -> String {
        format!("http://{}/v1.0", self.address)
    }

    /// Stops accepting, finishes what is under way (for at most five seconds) and returns.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(task) = self.task.take() {
            let abort = task.abort_handle();
            if tokio::time::timeout(Duration::from_secs(5), task)
                .await
                .is_err()
            {
                // Idle keep-alive connections would otherwise hold the server open.
                abort.abort();
            }
        }
        self.delivery.abort();
    }
}

impl Deref for Server {
    type Target = Simulator;

    fn deref(&self) -> &Simulator {
        &self.simulator
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.delivery.abort();
    }
}

/// One more request in flight for a mailbox, until dropped.
struct UnderWay(Simulator, u32);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

async fn handle(State(simulator): State<Simulator>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = match to_bytes(body, MAX_BODY).await {
        Ok(bytes) => bytes.to_vec(),
        Err(_) => return whole(Answer::text(413, "Payload Too Large")),
    };
    let raw_query = parts.uri.query().unwrap_or_default().to_owned();
    let host = parts
        .headers
        .get("host")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("localhost");
    let base = read(&simulator.0.public_base)
        .clone()
        .unwrap_or_else(|| format!("http://{host}"));
    let incoming = Incoming {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(raw_query.as_bytes())
            .into_owned()
            .collect(),
        raw_query,
        headers: parts.headers,
        body,
        base,
        untruth: None,
    };
    let segments = incoming.segments();
    let first = segments.first().map(String::as_str).unwrap_or_default();
    if first == "admin" {
        return whole(simulator.admin(&segments[1..], &incoming));
    }
    if first == "health" {
        return whole(Answer::text(200, "ok"));
    }
    let outgoing = serve(&simulator, &segments, incoming).await;
    deliver(&simulator, outgoing)
}

fn whole(mut answer: Answer) -> Response<Body> {
    let body = std::mem::take(&mut answer.body);
    respond(answer, body.into())
}

/// The Entra and Graph sides.
async fn serve(simulator: &Simulator, segments: &[String], mut incoming: Incoming) -> Outgoing {
    let session = incoming
        .bearer()
        .and_then(|token| lock(&simulator.0.auth).session(token, simulator.now()));
    let mailbox = session.as_ref().map(|session| session.mailbox);
    let is_graph = segments
        .first()
        .is_some_and(|first| matches!(first.as_str(), "v1.0" | "beta"));

    let addressed = simulator.addressed(segments, mailbox);
    let upn = addressed.and_then(|number| simulator.upn(number));
    let limit = read(&simulator.0.quirks).mailbox_concurrency;
    let (under_way, is_over) = match addressed.filter(|_| is_graph && session.is_some()) {
        None => (None, false),
        Some(number) => {
            let count = simulator.enter(number, upn.as_deref().unwrap_or_default());
            (
                Some(UnderWay(simulator.clone(), number)),
                limit > 0 && count > limit,
            )
        }
    };
    let mut fault = None;
    let answer = if is_over {
        let mut error = GraphError::new(
            429,
            "ApplicationThrottled",
            "Application is over its MailboxConcurrency limit.",
        );
        error.retry_after = read(&simulator.0.quirks).retry_after_seconds;
        simulator.graph_error(&error, &incoming)
    } else {
        let holder = mailbox
            .or_else(|| lock(&simulator.0.auth).holder(&incoming.body))
            .and_then(|number| simulator.upn(number));
        fault = simulator.take_fault(&incoming, holder.as_deref());
        if let Some(fault) = &fault {
            simulator.pause(Duration::from_millis(fault.delay_ms)).await;
            incoming.untruth = fault.untruth;
        }
        let mut answer = if fault.as_ref().is_none_or(Fault::lets_through) {
            carry_out(simulator, segments, session.as_ref(), &incoming).await
        } else {
            Answer::empty(0)
        };
        if let Some(fault) = &fault {
            spoil(simulator, fault, &mut answer, &incoming, is_graph);
        }
        answer
    };
    simulator.record(RecordedRequest {
        method: incoming.method.clone(),
        path: incoming.path.clone(),
        query: incoming.raw_query.clone(),
        prefer: incoming.prefer(),
        authorized: incoming.headers.contains_key("authorization"),
        mailbox: upn,
        status: answer.status,
        fault: fault.is_some(),
    });
    Outgoing {
        answer,
        delivery: fault.map(|fault| fault.delivery).unwrap_or_default(),
        under_way,
    }
}

async fn carry_out(
    simulator: &Simulator,
    segments: &[String],
    session: Option<&Session>,
    incoming: &Incoming,
) -> Answer {
    match segments {
        [version, path @ ..] if matches!(version.as_str(), "v1.0" | "beta") => {
            let latency = read(&simulator.0.quirks).latency_ms;
            simulator.pause(Duration::from_millis(latency)).await;
            simulator.graph(version, path, session, incoming).await
        }
        [_, oauth2, version, endpoint] if oauth2 == "oauth2" && version == "v2.0" => {
            simulator.entra(endpoint, incoming)
        }
        _ => Answer::text(404, "Not Found"),
    }
}

/// What a fault says of the answer itself.
fn spoil(
    simulator: &Simulator,
    fault: &Fault,
    answer: &mut Answer,
    incoming: &Incoming,
    is_graph: bool,
) {
    if fault.status != 0 {
        let body = match &fault.body {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        *answer = if is_graph {
            simulator.finish(Answer::graph(fault.status, body), incoming)
        } else {
            Answer::json(fault.status, body)
        };
    }
    match fault.retry_after {
        None => {}
        Some(RetryAfter::Seconds(seconds)) => answer.set("Retry-After", &seconds.to_string()),
        Some(RetryAfter::Date(seconds)) => {
            let now = simulator.now();
            let then = now.saturating_add(SignedDuration::from_secs(seconds));
            // Entra's answers have no date otherwise but that of the machine.
            answer.set("Date", &http_date(now));
            answer.set("Retry-After", &http_date(then.unwrap_or(now)));
        }
    }
    for (name, value) in &fault.headers {
        answer.set(name, value);
    }
}

/// RFC 9110 section 5.6.7; empty for a time that has no such form.
pub(crate) fn http_date(at: Timestamp) -> String {
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&at)
        .unwrap_or_default()
}
