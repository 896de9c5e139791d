//! Which adapter stands behind which port: what `wiring.rs` is in the programs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calendar_api::{ApiSettings, AppState, NotReady, Ports, Readiness};
use calendar_crypto::{AesTokenCipher, KeyRing, RingSecrets};
use calendar_domain::connection::{Connected, NewConnections};
use calendar_domain::failure::PortResult;
use calendar_domain::ports::TokenCipher;
use calendar_domain::provider::CalendarProvider;
use calendar_postgres::{
    Database, PgApiKeyStore, PgConnectSessionStore, PgConnectionStore, PgEventReader, PgEventStore,
    PgHousekeeping, PgOverviewReader, PgSessionStore, PgSubscriptionStore, PgSyncQueue,
    PgUserStore, PgWakeups,
};
use calendar_runtime::SystemClock;
use calendar_sync::{Authenticate, Provider, Providers, SyncAccount, SyncSettings};
use calendar_worker::{AccountWork, Worker};
use tokio::sync::watch;

use crate::holidays::Holidays;

/// The name that the holidays go by: one of the three that the schema knows, and not used otherwise here.
pub(crate) const HOLIDAYS: CalendarProvider = CalendarProvider::Apple;

/// The ports, put together once and used by the API, the worker and the intranet's own routes.
#[derive(Clone)]
pub(crate) struct Calendars {
    ports: Ports,
    database: Database,
}

impl Calendars {
    pub(crate) fn new(database: Database, keys: KeyRing) -> Self {
        let cipher: Arc<dyn TokenCipher> = Arc::new(AesTokenCipher::new(keys));
        let holidays = Arc::new(Holidays);
        let provider = Provider {
            authorizer: holidays.clone(),
            directory: holidays.clone(),
            reader: holidays.clone(),
            notifier: holidays,
            push: None,
        };
        // `.with(CalendarProvider::Microsoft, …)` of calendar-msgraph would stand here too.
        let providers = Providers::new().with(HOLIDAYS, provider);
        let ports = Ports {
            users: Arc::new(PgUserStore::new(database.clone())),
            sessions: Arc::new(PgSessionStore::new(database.clone())),
            api_keys: Arc::new(PgApiKeyStore::new(database.clone())),
            connect_sessions: Arc::new(PgConnectSessionStore::new(
                database.clone(),
                cipher.clone(),
            )),
            connections: Arc::new(PgConnectionStore::new(database.clone(), cipher.clone())),
            subscriptions: Arc::new(PgSubscriptionStore::new(database.clone(), cipher.clone())),
            queue: Arc::new(PgSyncQueue::new(database.clone(), cipher)),
            events: Arc::new(PgEventReader::new(database.clone())),
            secrets: Arc::new(RingSecrets::new()),
            clock: Arc::new(SystemClock),
            providers: Arc::new(providers),
            readiness: Arc::new(Answers(database.clone())),
            overview: Arc::new(PgOverviewReader::new(database.clone())),
            process_metrics: Arc::new(String::new),
        };
        Self { ports, database }
    }

    /// The state of the API's router.
    pub(crate) fn api(&self, public_url: String) -> AppState {
        let settings = ApiSettings {
            public_url,
            signup_open: true,
            rate_limit_per_minute: 60_000,
            return_origins: Vec::new(),
            trusted_proxies: Vec::new(),
        };
        AppState::new(self.ports.clone(), settings)
    }

    /// The worker's loop.
    pub(crate) fn worker(
        &self,
        concurrency: usize,
        stop: watch::Receiver<bool>,
    ) -> Worker<AccountWork> {
        let sync = SyncAccount {
            queue: self.ports.queue.clone(),
            events: Arc::new(PgEventStore::new(self.database.clone())),
            connections: self.ports.connections.clone(),
            subscriptions: self.ports.subscriptions.clone(),
            secrets: self.ports.secrets.clone(),
            providers: self.ports.providers.clone(),
            clock: self.ports.clock.clone(),
            settings: SyncSettings {
                past: time::Duration::days(90),
                future: time::Duration::days(365),
                poll: Duration::from_hours(1),
                poll_pushed: Duration::from_hours(6),
                lease_ttl: Duration::from_mins(1),
            },
        };
        let wakeups = Arc::new(PgWakeups::start(&self.database));
        Worker::new(Arc::new(AccountWork::new(sync, wakeups)), concurrency, stop)
    }

    /// What the worker's housekeeping does in each turn.
    pub(crate) async fn purge(&self) -> PortResult<u64> {
        let store = PgHousekeeping::new(self.database.clone());
        store.purge(self.ports.clock.now()).await
    }

    /// Recognises the API's bearer tokens.
    pub(crate) fn authenticate(&self) -> Authenticate {
        Authenticate {
            sessions: self.ports.sessions.clone(),
            api_keys: self.ports.api_keys.clone(),
            secrets: self.ports.secrets.clone(),
            clock: self.ports.clock.clone(),
        }
    }

    /// Connects calendars without a round trip through a browser.
    pub(crate) async fn connect(&self, new: NewConnections) -> PortResult<Connected> {
        let now = self.ports.clock.now();
        self.ports.connections.connect(new, now).await
    }
}

/// Ready when the database answers; it was migrated at the start.
struct Answers(Database);

#[async_trait]
impl Readiness for Answers {
    async fn check(&self) -> Result<(), NotReady> {
        let answer = self.0.ping().await;
        answer.map_err(|error| NotReady::DatabaseDown(error.into()))
    }
}
