//! What the handlers work with: ports and use cases only.

use std::sync::Arc;

use async_trait::async_trait;
use calendar_domain::ports::{
    ApiKeyStore, Clock, ConnectSessionStore, ConnectionStore, EventReader, OverviewReader, Secrets,
    SessionStore, SubscriptionStore, SyncQueue, UserStore,
};
use calendar_sync::{
    Authenticate, CompleteConnect, CreateApiKey, DeleteUser, Disconnect, Providers, SignIn, SignUp,
    StartConnect, TakeNotifications,
};
use ipnet::IpNet;
use url::Url;

use crate::contract;
use crate::limit::{AttemptLimit, RequestLimit};
use crate::overview_text::OverviewText;

/// The path that the provider sends browsers back to; part of what is registered with it.
pub const CALLBACK_PATH: &str = "/v1/oauth/callback";

/// What the API needs of the world.
#[derive(Clone)]
pub struct Ports {
    /// Users.
    pub users: Arc<dyn UserStore>,
    /// Sign-ins.
    pub sessions: Arc<dyn SessionStore>,
    /// Service keys.
    pub api_keys: Arc<dyn ApiKeyStore>,
    /// OAuth round trips.
    pub connect_sessions: Arc<dyn ConnectSessionStore>,
    /// Connections.
    pub connections: Arc<dyn ConnectionStore>,
    /// Push subscriptions, and what is notified through them.
    pub subscriptions: Arc<dyn SubscriptionStore>,
    /// What is due.
    pub queue: Arc<dyn SyncQueue>,
    /// Events.
    pub events: Arc<dyn EventReader>,
    /// Secrets and passwords.
    pub secrets: Arc<dyn Secrets>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whom one can connect to.
    pub providers: Arc<Providers>,
    /// Whether the service can work.
    pub readiness: Arc<dyn Readiness>,
    /// How the installation is doing, for `/metrics`.
    pub overview: Arc<dyn OverviewReader>,
    /// What the process has counted, in Prometheus' text format; a host program that shows its metrics
    /// itself gives no text.
    pub process_metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// How browsers and providers reach the API, without a slash at the end.
    pub public_url: String,
    /// Whether anybody may sign up.
    pub signup_open: bool,
    /// Requests that one token may make in a minute.
    pub rate_limit_per_minute: u32,
    /// Origins that a `return_url` may name besides the API's own, serialised.
    pub return_origins: Vec<String>,
    /// From whom X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// Whether the service can work, for load balancers.
#[async_trait]
pub trait Readiness: Send + Sync {
    /// Fails with why not.
    async fn check(&self) -> Result<(), NotReady>;
}

/// Why the service cannot work at the moment.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The database does not answer.
    #[error("the database does not answer")]
    DatabaseDown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database lacks migrations that this version needs.
    #[error("the database is not migrated")]
    NotMigrated,
}

/// The state behind the router; cheap to clone.
#[derive(Clone)]
pub struct AppState(pub(crate) Arc<Shared>);

/// What [`AppState`] leads to.
pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) sign_up: SignUp,
    pub(crate) sign_in: SignIn,
    pub(crate) authenticate: Authenticate,
    pub(crate) create_api_key: CreateApiKey,
    pub(crate) start_connect: StartConnect,
    pub(crate) complete_connect: CompleteConnect,
    pub(crate) disconnect: Disconnect,
    pub(crate) delete_user: DeleteUser,
    pub(crate) take_notifications: TakeNotifications,
    pub(crate) signup_open: bool,
    /// Serialised, the API's own among them.
    pub(crate) return_origins: Vec<String>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) attempts: AttemptLimit,
    pub(crate) requests: RequestLimit,
    /// What `/openapi.json` answers.
    pub(crate) contract: String,
    pub(crate) overview: OverviewText,
}

impl AppState {
    /// Puts the use cases together, and starts the task that records notifications: has to be called
    /// within a tokio runtime.
    #[must_use]
    pub fn new(ports: Ports, settings: ApiSettings) -> Self {
        let Ports {
            users,
            sessions,
            api_keys,
            connect_sessions,
            connections,
            subscriptions,
            secrets,
            clock,
            providers,
            ..
        } = ports.clone();
        let redirect_uri = format!("{}{CALLBACK_PATH}", settings.public_url);
        let mut return_origins = settings.return_origins;
        if let Ok(own) = Url::parse(&settings.public_url) {
            return_origins.push(own.origin().ascii_serialization());
        }
        Self(Arc::new(Shared {
            sign_up: SignUp {
                users: users.clone(),
                secrets: secrets.clone(),
                clock: clock.clone(),
            },
            create_api_key: CreateApiKey {
                api_keys: api_keys.clone(),
                secrets: secrets.clone(),
                clock: clock.clone(),
            },
            authenticate: Authenticate {
                sessions: sessions.clone(),
                api_keys,
                secrets: secrets.clone(),
                clock: clock.clone(),
            },
            delete_user: DeleteUser {
                users: users.clone(),
                subscriptions: subscriptions.clone(),
                providers: providers.clone(),
                clock: clock.clone(),
            },
            sign_in: SignIn {
                users,
                sessions,
                secrets: secrets.clone(),
                clock: clock.clone(),
            },
            start_connect: StartConnect {
                connect_sessions: connect_sessions.clone(),
                providers: providers.clone(),
                secrets: secrets.clone(),
                clock: clock.clone(),
                redirect_uri: redirect_uri.clone(),
            },
            disconnect: Disconnect {
                connections: connections.clone(),
                subscriptions: subscriptions.clone(),
                providers: providers.clone(),
                clock: clock.clone(),
            },
            take_notifications: TakeNotifications::start(
                subscriptions,
                secrets.clone(),
                clock.clone(),
                providers.clone(),
            ),
            complete_connect: CompleteConnect {
                connect_sessions,
                connections,
                queue: ports.queue.clone(),
                providers,
                secrets,
                clock,
                redirect_uri,
            },
            overview: OverviewText::new(ports.overview.clone(), ports.clock.clone()),
            ports,
            signup_open: settings.signup_open,
            return_origins,
            trusted_proxies: settings.trusted_proxies,
            attempts: AttemptLimit::default(),
            requests: RequestLimit::new(settings.rate_limit_per_minute),
            contract: contract::served_at(&settings.public_url),
        }))
    }
}
