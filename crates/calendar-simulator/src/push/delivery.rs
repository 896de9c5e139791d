//! Sending: validation requests, and the task that empties the queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::queue::{Batch, Ready};
use super::{HeldPush, PushKind, PushRecord};
use crate::error::GraphError;
use crate::lock;
use crate::simulator::Simulator;

/// A subscriber has so long to answer a notification.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(3);
/// And so long to answer a validation request.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(10);
/// The content type of notifications.
const CONTENT: &str = "application/json";
/// The code of every refusal of an address.
pub(crate) const VALIDATION_ERROR: &str = "ValidationError";
pub(crate) const NOT_REACHED: &str =
    "Subscription validation request failed. The endpoint could not be reached.";
/// No answer of a subscriber is read beyond this.
const MAX_ANSWER: usize = 64 * 1024;

/// The client of a simulator: no proxies of the environment, no redirects, the roots that Mozilla trusts, ring.
/// `None` when it cannot be built.
pub(crate) fn client() -> Option<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .ok()
}

/// What a subscriber answered.
struct Reply {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

async fn read_reply(mut response: Response) -> Result<Reply, reqwest::Error> {
    let mut body = Vec::new();
    // Read to its end, or the connection could not be used again.
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply {
        status: response.status().as_u16(),
        content_type: response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase(),
        body,
    })
}

/// A request that was sent; its record is complete but for the answer.
struct Sending {
    kind: PushKind,
    url: String,
    body: Value,
    at: Timestamp,
    since: Instant,
}

impl Sending {
    fn record(self, status: Option<u16>) -> PushRecord {
        PushRecord {
            at: self.at,
            kind: self.kind,
            url: self.url,
            body: self.body,
            status,
            took_ms: u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A batch that is being sent. Dropped before it is settled (the server stopped), it goes back to the queue.
struct UnderWay {
    simulator: Simulator,
    batch: Option<Batch>,
}

impl UnderWay {
    fn settle(mut self, delivered: bool) {
        self.finish(delivered);
    }

    fn finish(&mut self, delivered: bool) {
        if let Some(batch) = self.batch.take() {
            let mut pushes = lock(&self.simulator.0.pushes);
            pushes
                .queue
                .finish(batch, delivered, self.simulator.instant());
            self.simulator.0.wake.notify_one();
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.finish(false);
    }
}

/// Delivers a simulator's notifications until dropped; leaves those that a test delivers.
pub(crate) async fn deliver(simulator: Simulator) {
    if simulator.0.timer.is_manual() {
        return;
    }
    let mut requests = JoinSet::new();
    loop {
        let Ready { batches, next, .. } = simulator.ready();
        for batch in batches {
            let under_way = UnderWay {
                simulator: simulator.clone(),
                batch: Some(batch),
            };
            requests.spawn(post(under_way));
        }
        while requests.try_join_next().is_some() {}
        // Without anything to wait for, an hour is as good as any time.
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
        tokio::select! {
            () = simulator.0.wake.notified() => {}
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
}

/// Sends a batch and takes note of what came of it.
async fn post(under_way: UnderWay) {
    let simulator = under_way.simulator.clone();
    let Some(batch) = &under_way.batch else {
        return;
    };
    let items: Vec<&Value> = batch
        .parts
        .iter()
        .flat_map(|(_, notices)| notices.iter().map(|notice| &notice.body))
        .collect();
    let count = items.len() as u64;
    let sending = Sending {
        kind: batch.kind(),
        url: batch.url.clone(),
        body: json!({"value": items}),
        at: simulator.now(),
        since: Instant::now(),
    };
    lock(&simulator.0.pushes).counts.sent += count;
    let status = simulator.send(&sending).await;
    let delivered = status.is_some_and(|status| (200..300).contains(&status));
    {
        let mut pushes = lock(&simulator.0.pushes);
        if delivered {
            pushes.counts.delivered += count;
        } else {
            pushes.counts.refused += count;
        }
        pushes.record(sending.record(status));
    }
    under_way.settle(delivered);
}

impl Simulator {
    fn ready(&self) -> Ready {
        let clock = self.now();
        let addresses: HashMap<String, String> = lock(&self.0.subscriptions)
            .live(clock)
            .iter()
            .filter(|subscription| !subscription.silenced)
            .map(|subscription| {
                (
                    subscription.id.clone(),
                    subscription.notification_url.clone(),
                )
            })
            .collect();
        let mut pushes = lock(&self.0.pushes);
        let ready = pushes.queue.take(&addresses, self.instant(), clock);
        pushes.counts.given_up += ready.given_up;
        ready
    }

    /// What is to be sent now, by the simulator's clock, each notification in a request of its own. It counts as
    /// delivered: whoever takes it may deliver it, late, twice or never. For [`crate::Options::manual`]; otherwise they
    /// are on their way already.
    #[must_use]
    pub fn take_pushes(&self) -> Vec<HeldPush> {
        let mut held = Vec::new();
        loop {
            let batches = self.ready().batches;
            if batches.is_empty() {
                return held;
            }
            for batch in batches {
                let notices = batch.parts.iter().flat_map(|(_, notices)| notices);
                let before = held.len();
                held.extend(notices.map(|notice| HeldPush {
                    kind: batch.kind(),
                    url: batch.url.clone(),
                    content_type: CONTENT.to_owned(),
                    body: json!({"value": [notice.body]}).to_string(),
                }));
                let count = (held.len() - before) as u64;
                let mut pushes = lock(&self.0.pushes);
                pushes.counts.sent += count;
                pushes.counts.delivered += count;
                pushes.queue.finish(batch, true, self.instant());
            }
        }
    }

    async fn send(&self, sending: &Sending) -> Option<u16> {
        let request = self
            .0
            .client
            .get()?
            .post(&sending.url)
            .header(CONTENT_TYPE, CONTENT)
            .body(sending.body.to_string())
            .timeout(NOTIFICATION_TIMEOUT);
        let reply = read_reply(request.send().await.ok()?).await.ok()?;
        Some(reply.status)
    }

    /// Asks an address whether it expects notifications: it has to answer with the token it is sent.
    pub(crate) async fn validate(&self, url: &str) -> Result<(), GraphError> {
        if self.0.timer.is_manual() {
            return Ok(());
        }
        let request_id = self.0.ids.uuid("validation", self.unique());
        let token = format!(
            "Validation: Testing client application reachability for subscription Request-Id: {request_id}"
        );
        // As the service writes it: blanks as plus signs, escapes in lower case.
        let encoded = token.replace(':', "%3a").replace(' ', "+");
        let joint = if url.contains('?') { '&' } else { '?' };
        let sending = Sending {
            kind: PushKind::Validation,
            url: format!("{url}{joint}validationToken={encoded}"),
            body: Value::Null,
            at: self.now(),
            since: Instant::now(),
        };
        let outcome = self.ask(&sending.url).await;
        let status = outcome.as_ref().ok().map(|reply| reply.status);
        lock(&self.0.pushes).record(sending.record(status));
        let problem = match outcome {
            Err(None) => NOT_REACHED,
            Err(Some(_)) => "Subscription validation request timed out.",
            Ok(reply) if reply.status != 200 => {
                "Subscription validation request failed. Notification endpoint must respond with 200 OK to validation request."
            }
            Ok(reply) if !is_plain_text(&reply.content_type) => {
                "Subscription validation request failed. The response's content type must be text/plain."
            }
            Ok(reply) if reply.body != token.as_bytes() => {
                "Subscription validation request failed. Response must exactly match validationToken query parameter."
            }
            Ok(_) => return Ok(()),
        };
        Err(GraphError::new(400, VALIDATION_ERROR, problem))
    }

    /// The error says whether time ran out.
    async fn ask(&self, url: &str) -> Result<Reply, Option<TimedOut>> {
        let client = self.0.client.get().ok_or(None)?;
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "text/plain; charset=utf-8")
            .body("")
            .timeout(VALIDATION_TIMEOUT);
        let timed_out = |error: reqwest::Error| error.is_timeout().then_some(TimedOut);
        read_reply(request.send().await.map_err(timed_out)?)
            .await
            .map_err(timed_out)
    }
}

/// A subscriber took too long.
struct TimedOut;

fn is_plain_text(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim() == "text/plain")
}
