//! Which adapter stands behind which port: the only place of this crate that knows adapters.

use std::sync::Arc;
use std::time::Duration;

use calendar_crypto::{AesTokenCipher, KeyRing, RingSecrets};
use calendar_domain::ports::{Clock, SubscriptionStore, SyncQueue, TokenCipher};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::PushEndpoint;
use calendar_msgraph::{MicrosoftConfig, MsGraph};
use calendar_postgres::{
    Database, PgConfig, PgConnectionStore, PgEventStore, PgSubscriptionStore, PgSyncQueue,
    PgWakeups,
};
use calendar_runtime::config::{
    AdapterChecks, Config, ConfigError, MicrosoftSettings, Mistake, PushOff,
};
use calendar_runtime::{ErrorChain, SystemClock};
use calendar_sync::{Provider, Providers, SyncAccount, SyncSettings};
use calendar_worker::{AccountWork, Renewals};
use secrecy::ExposeSecret as _;

/// How long a lease lives without a heartbeat; the use case prolongs it three times as often.
const LEASE_TTL: Duration = Duration::from_mins(1);
/// Passes hold a connection only while a page is stored; more of them gain nothing.
const MOST_CONNECTIONS: usize = 16;
/// For heartbeats, claims and housekeeping, so that passes cannot starve them.
const SPARE_CONNECTIONS: usize = 4;

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
    pub(crate) clock: Arc<dyn Clock>,
    cipher: Arc<dyn TokenCipher>,
    providers: Arc<Providers>,
    /// Why a provider cannot reach us with pushes.
    pub(crate) push_off: Option<PushOff>,
}

impl Adapters {
    /// Fails with every mistake that only an adapter can find, and that [`CHECKS`] did not find when
    /// the configuration was read.
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let max_connections =
            config.sync.worker_concurrency.min(MOST_CONNECTIONS) + SPARE_CONNECTIONS;
        let database = Database::connect(PgConfig {
            url: config.database.url.clone(),
            max_connections,
        })
        .map_err(|error| mistake("DATABASE_URL", &error));
        let keys = KeyRing::parse(config.token_keys.expose_secret())
            .map_err(|error| mistake("CALENDAR_TOKEN_KEYS", &error));
        let settings = config.microsoft.as_ref();
        let push = settings.map(|settings| {
            config.push_endpoint(CalendarProvider::Microsoft, settings.graph_url.as_ref())
        });
        let (push, push_off) = match push.transpose() {
            Ok(endpoint) => (endpoint, None),
            Err(off) => (None, Some(off)),
        };
        let microsoft = settings.map(|settings| microsoft(settings, config, push, &clock));
        let microsoft = microsoft.transpose();
        match (database, keys, microsoft) {
            (Ok(database), Ok(keys), Ok(microsoft)) => {
                let mut providers = Providers::new();
                if let Some(provider) = microsoft {
                    providers = providers.with(CalendarProvider::Microsoft, provider);
                }
                Ok(Self {
                    database,
                    clock,
                    cipher: Arc::new(AesTokenCipher::new(keys)),
                    providers: Arc::new(providers),
                    push_off,
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

    /// The job that finds subscriptions to renew.
    pub(crate) fn renewals(&self, config: &Config) -> Renewals {
        Renewals {
            subscriptions: self.subscriptions(),
            clock: self.clock.clone(),
            every: config.sync.renew_every,
            lead: config.sync.renew_lead,
            reachable: self.providers.notification_urls(),
        }
    }

    fn subscriptions(&self) -> Arc<dyn SubscriptionStore> {
        Arc::new(PgSubscriptionStore::new(
            self.database.clone(),
            self.cipher.clone(),
        ))
    }

    /// What the loop does. Begins to listen for wake-ups: needs a tokio runtime.
    pub(crate) fn work(&self, config: &Config) -> AccountWork {
        let queue = PgSyncQueue::new(self.database.clone(), self.cipher.clone())
            .mailbox_concurrency(config.sync.mailbox_concurrency);
        let queue: Arc<dyn SyncQueue> = Arc::new(queue);
        let connections = PgConnectionStore::new(self.database.clone(), self.cipher.clone());
        let sync = &config.sync;
        let sync = SyncAccount {
            queue,
            events: Arc::new(PgEventStore::new(self.database.clone())),
            connections: Arc::new(connections),
            subscriptions: self.subscriptions(),
            secrets: Arc::new(RingSecrets::new()),
            providers: self.providers.clone(),
            clock: self.clock.clone(),
            settings: SyncSettings {
                past: time::Duration::days(sync.past_days.into()),
                future: time::Duration::days(sync.future_days.into()),
                poll: sync.poll,
                poll_pushed: sync.poll_pushed,
                lease_ttl: LEASE_TTL,
            },
        };
        AccountWork::new(sync, Arc::new(PgWakeups::start(&self.database)))
    }
}

fn microsoft(
    settings: &MicrosoftSettings,
    config: &Config,
    push: Option<PushEndpoint>,
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
        push,
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
