//! Which adapter stands behind which port: the only place of this crate that knows adapters.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calendar_api::{ApiSettings, AppState, NotReady, Ports, Readiness};
use calendar_crypto::{AesTokenCipher, KeyRing, RingSecrets};
use calendar_domain::ports::{Clock, TokenCipher};
use calendar_domain::provider::CalendarProvider;
use calendar_msgraph::{MicrosoftConfig, MsGraph};
use calendar_postgres::{
    Database, MigrationState, PgApiKeyStore, PgConfig, PgConnectSessionStore, PgConnectionStore,
    PgEventReader, PgKeyRotation, PgOverviewReader, PgSessionStore, PgSubscriptionStore,
    PgSyncQueue, PgUserStore,
};
use calendar_runtime::config::{
    AdapterChecks, Config, ConfigError, DatabaseConfig, KeysConfig, MicrosoftSettings, Mistake,
};
use calendar_runtime::metrics::ProcessMetrics;
use calendar_runtime::{ErrorChain, SystemClock};
use calendar_sync::{Provider, Providers};
use secrecy::ExposeSecret as _;

/// Connections to the database: requests are short, and two cores serve many with few.
const CONNECTIONS: usize = 16;
/// A load balancer asks often, and gives up soon.
const READY_WITHIN: Duration = Duration::from_secs(3);

/// What only the adapters can find wrong with their variables.
pub(crate) const CHECKS: AdapterChecks = AdapterChecks {
    database_url: |url| {
        let database = Database::connect(PgConfig {
            url: url.clone(),
            max_connections: 1,
        });
        database.map(drop).map_err(|error| unusable(&error))
    },
    token_keys: |keys| {
        let keys = KeyRing::parse(keys.expose_secret());
        keys.map(drop).map_err(|error| unusable(&error))
    },
};

/// The adapters, ready to use; nothing is connected yet.
pub(crate) struct Adapters {
    pub(crate) database: Database,
    cipher: Arc<dyn TokenCipher>,
    clock: Arc<dyn Clock>,
    providers: Arc<Providers>,
}

impl Adapters {
    /// Fails with every mistake that only an adapter can find, and that [`CHECKS`] did not find when
    /// the configuration was read.
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let database = database(&config.database, CONNECTIONS);
        let keys = KeyRing::parse(config.token_keys.expose_secret())
            .map_err(|error| mistake("CALENDAR_TOKEN_KEYS", &error));
        let microsoft = config
            .microsoft
            .as_ref()
            .map(|settings| microsoft(settings, config, &clock));
        let microsoft = microsoft.transpose();
        match (database, keys, microsoft) {
            (Ok(database), Ok(keys), Ok(microsoft)) => {
                let mut providers = Providers::new();
                if let Some(provider) = microsoft {
                    providers = providers.with(CalendarProvider::Microsoft, provider);
                }
                Ok(Self {
                    database,
                    cipher: Arc::new(AesTokenCipher::new(keys)),
                    clock,
                    providers: Arc::new(providers),
                })
            }
            (database, keys, microsoft) => {
                let errors = [database.err(), keys.err(), microsoft.err()];
                let mistakes = errors
                    .iter()
                    .flatten()
                    .flat_map(ConfigError::mistakes)
                    .cloned();
                Err(ConfigError::new(mistakes.collect()))
            }
        }
    }

    /// The state of the router.
    pub(crate) fn state(
        self,
        config: &Config,
        public_url: String,
        metrics: ProcessMetrics,
    ) -> AppState {
        let Self {
            database,
            cipher,
            clock,
            providers,
        } = self;
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
            queue: Arc::new(
                PgSyncQueue::new(database.clone(), cipher)
                    .mailbox_concurrency(config.sync.mailbox_concurrency),
            ),
            events: Arc::new(PgEventReader::new(database.clone())),
            secrets: Arc::new(RingSecrets::new()),
            clock,
            providers,
            readiness: Arc::new(DatabaseReadiness(database.clone())),
            overview: Arc::new(PgOverviewReader::new(database)),
            process_metrics: Arc::new(move || metrics.render()),
        };
        let settings = ApiSettings {
            public_url,
            signup_open: config.signup_open,
            rate_limit_per_minute: config.rate_limit_per_minute,
            return_origins: config.return_origins.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
        };
        AppState::new(ports, settings)
    }
}

/// The rotation of the keys, and their ids.
pub(crate) fn key_rotation(
    database: Database,
    config: &KeysConfig,
) -> Result<(PgKeyRotation, Vec<String>), ConfigError> {
    let keys = KeyRing::parse(config.token_keys.expose_secret())
        .map_err(|error| mistake("CALENDAR_TOKEN_KEYS", &error))?;
    let ids = keys.ids().map(str::to_owned).collect();
    let rotation = PgKeyRotation::new(database, Arc::new(AesTokenCipher::new(keys)));
    Ok((rotation, ids))
}

/// The pool.
pub(crate) fn database(
    config: &DatabaseConfig,
    connections: usize,
) -> Result<Database, ConfigError> {
    Database::connect(PgConfig {
        url: config.url.clone(),
        max_connections: connections,
    })
    .map_err(|error| mistake("DATABASE_URL", &error))
}

fn microsoft(
    settings: &MicrosoftSettings,
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> Result<Provider, ConfigError> {
    let mut microsoft = MicrosoftConfig::new(settings.client_id.as_str());
    microsoft.client_secret.clone_from(&settings.client_secret);
    microsoft.tenant.clone_from(&settings.tenant);
    microsoft.mailbox_concurrency = config.sync.mailbox_concurrency;
    if let Some(url) = &settings.authority_url {
        microsoft.authority_url = url.as_str().trim_end_matches('/').into();
    }
    if let Some(url) = &settings.graph_url {
        microsoft.graph_url = url.as_str().trim_end_matches('/').into();
    }
    let adapter = MsGraph::new(microsoft, clock.clone()).map_err(|error| {
        mistake(
            "CALENDAR_MICROSOFT_CLIENT_ID and what belongs to it",
            &error,
        )
    })?;
    let adapter = Arc::new(adapter);
    Ok(Provider {
        authorizer: adapter.clone(),
        directory: adapter.clone(),
        reader: adapter.clone(),
        notifier: adapter,
        // The worker subscribes; here pushes are only read.
        push: None,
    })
}

fn mistake(variable: &str, error: &(dyn std::error::Error + 'static)) -> ConfigError {
    Mistake {
        variable: variable.to_owned(),
        what: unusable(error),
    }
    .into()
}

fn unusable(error: &(dyn std::error::Error + 'static)) -> String {
    format!("cannot be used: {}", ErrorChain(error))
}

struct DatabaseReadiness(Database);

#[async_trait]
impl Readiness for DatabaseReadiness {
    async fn check(&self) -> Result<(), NotReady> {
        match tokio::time::timeout(READY_WITHIN, self.0.migration_state()).await {
            Ok(Ok(MigrationState::Current | MigrationState::Ahead)) => Ok(()),
            Ok(Ok(MigrationState::Behind { .. })) => Err(NotReady::NotMigrated),
            Ok(Err(error)) => Err(NotReady::DatabaseDown(error.into())),
            Err(elapsed) => Err(NotReady::DatabaseDown(elapsed.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use calendar_runtime::Environment;

    use super::*;

    #[test]
    fn what_adapters_find_is_named_together_with_what_is_missing_or_wrong() {
        let keys = format!("{}:{}", "k".repeat(33), "A".repeat(43));
        let environment: Environment = [
            ("DATABASE_URL", "postgres://me:hunter2@db/cal?sslmode=on"),
            ("CALENDAR_TOKEN_KEYS", &keys),
            ("CALENDAR_POLL_SECONDS", "soon"),
        ]
        .into_iter()
        .collect();
        let error = Config::read(&environment, CHECKS).unwrap_err().to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        for (line, (name, what)) in lines.iter().zip([
            ("DATABASE_URL ", "sslmode"),
            ("CALENDAR_TOKEN_KEYS ", "1 to 32"),
            ("CALENDAR_POLL_SECONDS ", "whole number"),
        ]) {
            assert!(line.starts_with(name) && line.contains(what), "{line}");
        }
        assert!(
            !error.contains("hunter2") && !error.contains("AAAA"),
            "{error}"
        );
    }
}
