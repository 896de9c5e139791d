//! An API over ports in memory, and requests to it.

pub(crate) mod contract;
mod samples;
mod world;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::Response;
use calendar_api::{ApiSettings, AppState, Ports, router};
use calendar_domain::provider::CalendarProvider;
use calendar_sync::{Provider, Providers};
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) use samples::{
    all_day, connection, id, master, occurrence, rejected, single, state_of, subscription,
};
pub(crate) use world::World;

pub(crate) const PASSWORD: &str = "correct horse";

/// An API and the world behind it.
pub(crate) struct App {
    pub(crate) world: Arc<World>,
    router: Router,
    /// Sent with each request, where there is one.
    pub(crate) token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: impl header::AsHeaderName) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// A problem in the form that every error has.
    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), self.code().as_str()),
            (status, code),
            "{}",
            self.text
        );
        assert_eq!(
            self.header(header::CONTENT_TYPE),
            "application/problem+json"
        );
        assert_eq!(self.header(header::CACHE_CONTROL), "no-store");
        let body = self.json();
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["status"], status);
        assert!(!body["title"].as_str().unwrap().is_empty());
        assert!(!body["detail"].as_str().unwrap().is_empty());
        assert_eq!(body["request_id"], self.header("x-request-id"));
        assert!(!self.header("x-request-id").is_empty());
        if status == 401 {
            assert_eq!(self.header(header::WWW_AUTHENTICATE), "Bearer");
        }
        if status == 429 || status == 503 {
            assert!(self.header(header::RETRY_AFTER).parse::<u64>().unwrap() >= 1);
        }
    }

    /// A 422 that names exactly these.
    #[track_caller]
    pub(crate) fn assert_invalid(&self, pointers: &[&str]) {
        self.assert_problem(422, "invalid_input");
        let body = self.json();
        let named: Vec<_> = body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(named, pointers, "{body}");
    }
}

impl App {
    /// Nobody has signed up yet.
    pub(crate) fn new() -> Self {
        Self::with(true)
    }

    pub(crate) fn with(signup_open: bool) -> Self {
        Self::made(signup_open, true, 600)
    }

    /// Microsoft is not configured.
    pub(crate) fn without_provider() -> Self {
        Self::made(true, false, 600)
    }

    /// A token may make so many requests in a minute.
    pub(crate) fn limited(per_minute: u32) -> Self {
        Self::made(true, true, per_minute)
    }

    fn made(signup_open: bool, has_provider: bool, rate_limit_per_minute: u32) -> Self {
        let world = Arc::new(World::default());
        let microsoft = Provider {
            authorizer: world.clone(),
            directory: world.clone(),
            reader: world.clone(),
            notifier: world.clone(),
            push: None,
        };
        let mut providers = Providers::new();
        if has_provider {
            providers = providers.with(CalendarProvider::Microsoft, microsoft);
        }
        let ports = Ports {
            users: world.clone(),
            sessions: world.clone(),
            api_keys: world.clone(),
            connect_sessions: world.clone(),
            connections: world.clone(),
            subscriptions: world.clone(),
            queue: world.clone(),
            events: world.clone(),
            secrets: world.clone(),
            clock: world.clone(),
            providers: Arc::new(providers),
            readiness: world.clone(),
            overview: world.clone(),
            process_metrics: Arc::new(|| "counted 1\n".to_owned()),
        };
        let settings = ApiSettings {
            public_url: "https://calendar.example".into(),
            signup_open,
            rate_limit_per_minute,
            return_origins: vec!["https://app.example".into()],
            trusted_proxies: vec!["192.0.2.80/32".parse().unwrap()],
        };
        let router = router(AppState::new(ports, settings));
        Self {
            world,
            router,
            token: None,
        }
    }

    /// Somebody has signed up and in.
    pub(crate) async fn signed_in() -> Self {
        let mut app = Self::new();
        app.token = Some(app.token_of("ada@example.com").await);
        app
    }

    /// Signs a user up and in.
    pub(crate) async fn token_of(&self, email: &str) -> String {
        let body = json!({"email": email, "password": PASSWORD});
        assert_eq!(self.post("/v1/users", &body).await.status, 201);
        let answer = self.post("/v1/sessions", &body).await;
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().to_string(), request.uri().to_string());
        let (parts, body) = self.begin(request).await.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        contract::assert_documented(&method, &path, parts.status, &parts.headers, &text);
        Answer {
            status: parts.status,
            headers: parts.headers,
            text,
        }
    }

    /// The answer before its body is read.
    pub(crate) async fn begin(&self, mut request: Request<Body>) -> Response {
        if let Some(token) = &self.token
            && !request.headers().contains_key(header::AUTHORIZATION)
        {
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        if request
            .extensions()
            .get::<ConnectInfo<SocketAddr>>()
            .is_none()
        {
            let peer: SocketAddr = "192.0.2.1:5000".parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    pub(crate) async fn call(&self, method: &str, path: &str) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.send(
            Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw("POST", path, Some("application/json"), body.to_string())
            .await
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.raw("PATCH", path, Some("application/json"), body.to_string())
            .await
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        self.send(request.body(body.into()).unwrap()).await
    }
}
