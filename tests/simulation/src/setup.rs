//! The product as a run wires it: the real stores and the real adapter behind the gate, one set of ports for each
//! actor.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use calendar_crypto::{AesTokenCipher, KeyRing, RingSecrets};
use calendar_domain::account::CalendarChoice;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::UserId;
use calendar_domain::ports::{EventStore, Secrets, TokenCipher, Wakeups};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::PushEndpoint;
use calendar_msgraph::{MicrosoftConfig, MsGraph};
use calendar_postgres::{
    Database, PgConfig, PgConnectSessionStore, PgConnectionStore, PgEventStore,
    PgSubscriptionStore, PgSyncQueue,
};
use calendar_simulator::Server;
use calendar_sync::{
    CallbackInput, CompleteConnect, Provider, Providers, StartConnect, StartConnectInput,
    SyncAccount, SyncSettings,
};
use calendar_worker::{AccountWork, Renewals};
use secrecy::SecretString;

use crate::BenchError;
use crate::bench::Bench;
use crate::gate::{Actor, Gate, Kind};
use crate::http::{PreferFilter, redirected};
use crate::plant::{CursorFirst, Plant, Planted};
use crate::ports::{Ports, Real};
use crate::rng::Rng;
use crate::time::SimulatedTime;
use crate::watch::Watch;

/// How long a lease lives without a heartbeat, by the database's clock.
pub(crate) const LEASE: Duration = Duration::from_mins(1);
const REDIRECT: &str = "http://127.0.0.1/v1/oauth/callback";

/// What is wired.
pub(crate) struct Product {
    pub(crate) gate: Arc<Gate>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) time: Arc<SimulatedTime>,
    pub(crate) real: Real,
    pub(crate) settings: SyncSettings,
    push: PushEndpoint,
    secrets: Arc<SeededSecrets>,
    plant: Option<Plant>,
    _filter: Option<PreferFilter>,
}

impl Product {
    pub(crate) async fn new(
        bench: &Bench,
        simulator: &Server,
        time: Arc<SimulatedTime>,
        rng: &mut Rng,
        plant: Option<Plant>,
    ) -> Result<Self, BenchError> {
        let set_up = |error: &dyn std::fmt::Display| BenchError::SetUp(error.to_string());
        let database = Database::connect(PgConfig {
            url: bench.url.clone().into(),
            max_connections: 4,
        })
        .map_err(|error| set_up(&error))?;
        let keys = KeyRing::parse("simulation:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=")
            .map_err(|error| set_up(&error))?;
        let cipher: Arc<dyn TokenCipher> = Arc::new(AesTokenCipher::new(keys));
        let mut config = MicrosoftConfig::new("client");
        config.client_secret = Some("client-secret".into());
        config.authority_url = simulator.url();
        config.graph_url = simulator.graph_url();
        config.page_size = u32::try_from(rng.between(3, 12)).unwrap_or(5);
        let mut filter = None;
        if plant == Some(Plant::PreferDropped) {
            let between = PreferFilter::start(simulator.address()).await?;
            config.graph_url = between.url("/v1.0");
            filter = Some(between);
        }
        let adapter = Arc::new(MsGraph::new(config, time.clone()).map_err(|error| set_up(&error))?);
        let mut real = Real {
            queue: Arc::new(PgSyncQueue::new(database.clone(), cipher.clone())),
            events: Arc::new(PgEventStore::new(database.clone())),
            connections: Arc::new(PgConnectionStore::new(database.clone(), cipher.clone())),
            sessions: Arc::new(PgConnectSessionStore::new(database.clone(), cipher.clone())),
            subscriptions: Arc::new(PgSubscriptionStore::new(database, cipher)),
            authorizer: adapter.clone(),
            directory: adapter.clone(),
            reader: adapter.clone(),
            notifier: adapter,
        };
        if let Some(plant) = plant {
            let planted = Arc::new(Planted {
                plant,
                queue: real.queue,
                events: real.events,
                client: bench.client.clone(),
                memory: Mutex::default(),
            });
            real.queue = planted.clone();
            real.events = planted;
        }
        let settings = SyncSettings {
            past: time::Duration::days(20),
            future: time::Duration::days(40),
            poll: Duration::from_mins(10),
            poll_pushed: Duration::from_hours(6),
            // By real time, which does not matter here: see `Ports::lease_ttl`.
            lease_ttl: Duration::from_hours(24),
        };
        Ok(Self {
            gate: Arc::default(),
            watch: Arc::default(),
            time,
            real,
            settings,
            push: PushEndpoint {
                notification_url: "https://calendar.example/webhooks/microsoft".to_owned(),
                lifecycle_url: "https://calendar.example/webhooks/microsoft/lifecycle".to_owned(),
            },
            secrets: Arc::new(SeededSecrets::new(rng.next())),
            plant,
            _filter: filter,
        })
    }

    pub(crate) fn ports(&self, actor: Actor) -> Arc<Ports> {
        Arc::new(Ports {
            actor,
            gate: self.gate.clone(),
            watch: self.watch.clone(),
            real: self.real.clone(),
            lease_ttl: LEASE,
        })
    }

    pub(crate) fn providers(&self, ports: &Arc<Ports>) -> Arc<Providers> {
        let provider = Provider {
            authorizer: ports.clone(),
            directory: ports.clone(),
            reader: ports.clone(),
            notifier: ports.clone(),
            push: Some(self.push.clone()),
        };
        Arc::new(Providers::new().with(CalendarProvider::Microsoft, provider))
    }

    pub(crate) fn secrets(&self) -> Arc<dyn Secrets> {
        self.secrets.clone()
    }

    /// A worker process that has just started.
    pub(crate) fn worker(&self, number: usize) -> Arc<AccountWork> {
        let ports = self.ports(Actor::Worker(number));
        let mut events: Arc<dyn EventStore> = ports.clone();
        if self.plant == Some(Plant::CursorFirst) {
            events = Arc::new(CursorFirst(events));
        }
        let sync = SyncAccount {
            queue: ports.clone(),
            events,
            connections: ports.clone(),
            subscriptions: ports.clone(),
            secrets: self.secrets(),
            providers: self.providers(&ports),
            clock: self.time.clone(),
            settings: self.settings.clone(),
        };
        Arc::new(AccountWork::new(sync, Arc::new(NoWakeups)))
    }

    pub(crate) fn renewals(&self) -> Renewals {
        let ports = self.ports(Actor::Renewals);
        let reachable = self.providers(&ports).notification_urls();
        Renewals {
            subscriptions: ports,
            clock: self.time.clone(),
            every: Duration::from_mins(30),
            lead: Duration::from_hours(1),
            reachable,
        }
    }

    /// Signs in at the provider as `upn` and connects what `choice` says, through `delegate`'s mailbox if there
    /// is one. What came of it.
    pub(crate) fn sign_in(
        &self,
        user: UserId,
        upn: String,
        delegate: Option<String>,
        choice: CalendarChoice,
    ) -> impl Future<Output = String> + Send + use<> {
        let ports = self.ports(Actor::User);
        let start = StartConnect {
            connect_sessions: ports.clone(),
            providers: self.providers(&ports),
            secrets: self.secrets(),
            clock: self.time.clone(),
            redirect_uri: REDIRECT.to_owned(),
        };
        let complete = CompleteConnect {
            queue: ports.clone(),
            connect_sessions: ports.clone(),
            connections: ports.clone(),
            providers: self.providers(&ports),
            secrets: self.secrets(),
            clock: self.time.clone(),
            redirect_uri: REDIRECT.to_owned(),
        };
        async move {
            let started = start
                .run(StartConnectInput {
                    user_id: user,
                    provider: CalendarProvider::Microsoft,
                    delegate_email: delegate,
                    calendars: choice,
                    return_url: None,
                })
                .await;
            let started = match started {
                Ok(started) => started,
                Err(error) => return format!("not started: {error}"),
            };
            let url = format!("{}&login_hint={upn}", started.authorize_url);
            let browse = async {
                let answer = redirected(&url).await;
                answer.map_err(|error| {
                    PortError::with_source(FailureClass::Retryable, "browser", error)
                })
            };
            let location = ports
                .gate
                .through(
                    ports.actor,
                    Kind::Ask,
                    "browser",
                    upn.clone(),
                    browse,
                    |to| to.is_some().to_string(),
                )
                .await;
            let Ok(Some(location)) = location else {
                return "not sent back".to_owned();
            };
            let Ok(location) = url::Url::parse(&location) else {
                return "sent nowhere".to_owned();
            };
            let parameter = |name: &str| {
                let mut pairs = location.query_pairs();
                pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
            };
            let completed = complete
                .run(CallbackInput {
                    state: parameter("state").map(SecretString::from),
                    code: parameter("code").map(SecretString::from),
                    error: parameter("error"),
                })
                .await;
            match completed {
                Ok(completed) => format!("connected {}", completed.connected.len()),
                Err(error) => format!("not connected: {error}"),
            }
        }
    }
}

/// Nobody wakes workers: the scheduler starts them.
struct NoWakeups;

#[async_trait]
impl Wakeups for NoWakeups {
    async fn woken(&self) {
        std::future::pending::<()>().await;
    }
}

/// Secrets from a seed; fingerprints are the product's own.
struct SeededSecrets {
    rng: Mutex<Rng>,
    real: RingSecrets,
}

impl SeededSecrets {
    fn new(seed: u64) -> Self {
        Self {
            rng: Mutex::new(Rng::new(seed)),
            real: RingSecrets::new(),
        }
    }
}

#[async_trait]
impl Secrets for SeededSecrets {
    fn generate(&self) -> PortResult<SecretString> {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let text: String = (0..43)
            .map(|_| {
                char::from(
                    *rng.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
                )
            })
            .collect();
        Ok(text.into())
    }

    fn fingerprint(&self, secret: &SecretString) -> [u8; 32] {
        self.real.fingerprint(secret)
    }

    fn matches(&self, given: &SecretString, fingerprint: &[u8; 32]) -> bool {
        self.real.matches(given, fingerprint)
    }

    async fn hash_password(&self, password: &SecretString) -> PortResult<String> {
        self.real.hash_password(password).await
    }

    async fn verify_password(
        &self,
        password: &SecretString,
        hash: Option<String>,
    ) -> PortResult<bool> {
        self.real.verify_password(password, hash).await
    }
}
