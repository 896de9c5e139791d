//! A subscriber: an address that answers as a test tells it to and remembers what it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How a validation request is answered.
#[derive(Clone, Debug)]
pub enum Validation {
    /// As Graph wants it.
    Echo,
    /// The token, but with another status.
    Status(u16),
    /// The token, but with this content type.
    ContentType(&'static str),
    /// This text.
    Text(&'static str),
    /// The token after a while.
    After(Duration),
}

#[derive(Clone, Debug)]
pub struct Behaviour {
    pub validation: Validation,
    /// Of notifications.
    pub status: u16,
    /// Before a notification is answered.
    pub delay: Duration,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub query: String,
    pub content_type: String,
    pub body: String,
    pub at: Instant,
    /// The status answered.
    pub status: u16,
}

impl Received {
    pub fn is_validation(&self) -> bool {
        self.query.contains("validationToken=")
    }

    pub fn items(&self) -> Vec<Value> {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["value"].as_array().unwrap().clone()
    }
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    received: Mutex<Vec<Received>>,
    connections: AtomicU32,
}

pub struct Listener {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour {
                validation: Validation::Echo,
                status: 202,
                delay: Duration::ZERO,
            }),
            received: Mutex::default(),
            connections: AtomicU32::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counted = shared.clone();
        let listener = listener.tap_io(move |_| {
            counted.connections.fetch_add(1, Ordering::Relaxed);
        });
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let task = tokio::spawn(async move {
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            shared,
            task,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.behaviour.lock().unwrap());
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    pub fn validations(&self) -> Vec<Received> {
        let mut all = self.received();
        all.retain(Received::is_validation);
        all
    }

    /// The requests with notifications.
    pub fn pushes(&self) -> Vec<Received> {
        let mut all = self.received();
        all.retain(|request| !request.is_validation());
        all
    }

    /// All notifications that were accepted, in the order of their arrival.
    pub fn items(&self) -> Vec<Value> {
        self.pushes()
            .iter()
            .filter(|request| request.status < 300)
            .flat_map(Received::items)
            .collect()
    }

    pub fn forget(&self) {
        self.shared.received.lock().unwrap().clear();
    }

    pub fn connections(&self) -> u32 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let behaviour = shared.behaviour.lock().unwrap().clone();
    let query = uri.query().unwrap_or_default().to_owned();
    let token = url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "validationToken")
        .map(|(_, token)| token.into_owned());
    let status = match (&token, &behaviour.validation) {
        (Some(_), Validation::Status(status)) => *status,
        (Some(_), _) => 200,
        (None, _) => behaviour.status,
    };
    shared.received.lock().unwrap().push(Received {
        path: uri.path().to_owned(),
        query,
        content_type: headers[header::CONTENT_TYPE].to_str().unwrap().to_owned(),
        body,
        at: Instant::now(),
        status,
    });
    let status = StatusCode::from_u16(status).unwrap();
    let Some(token) = token else {
        tokio::time::sleep(behaviour.delay).await;
        return status.into_response();
    };
    let plain = "text/plain; charset=utf-8";
    let (kind, text) = match behaviour.validation {
        Validation::ContentType(kind) => (kind, token),
        Validation::Text(text) => (plain, text.to_owned()),
        Validation::After(time) => {
            tokio::time::sleep(time).await;
            (plain, token)
        }
        Validation::Echo | Validation::Status(_) => (plain, token),
    };
    // Where a redirect would lead to, for those that follow one.
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::LOCATION, uri.to_string()),
    ];
    (status, headers, text).into_response()
}

/// Waits until something is so, for ten seconds.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < Duration::from_secs(10), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
