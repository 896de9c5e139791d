//! Configuration: environment variables, checked all at once, and shown with secrets hidden.

mod check;
mod push;
mod reader;
#[cfg(test)]
mod tests;
mod variables;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

pub use push::PushOff;
use reader::Reader;
pub use reader::{ConfigError, Environment, Mistake};
pub use variables::{VARIABLES, Variable, help};

/// How to reach PostgreSQL.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// `DATABASE_URL`.
    pub url: SecretString,
}

/// What only the adapters that use a value can find wrong with it, so that their mistakes are named
/// together with all others. An answer reads on from the variable's name and repeats no secret.
#[derive(Clone, Copy, Debug)]
pub struct AdapterChecks {
    /// `DATABASE_URL`.
    pub database_url: fn(&SecretString) -> Result<(), String>,
    /// `CALENDAR_TOKEN_KEYS`.
    pub token_keys: fn(&SecretString) -> Result<(), String>,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `CALENDAR_LOG`: a level, or directives of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// `CALENDAR_LOG_FORMAT`.
    pub format: LogFormat,
}

/// `CALENDAR_LOG_FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for each event, for people.
    Text,
    /// One JSON object for each event, for collectors.
    Json,
}

/// The application registered at Microsoft Entra.
#[derive(Clone, Debug)]
pub struct MicrosoftSettings {
    /// `CALENDAR_MICROSOFT_CLIENT_ID`.
    pub client_id: String,
    /// `CALENDAR_MICROSOFT_CLIENT_SECRET`; public clients have none.
    pub client_secret: Option<SecretString>,
    /// `CALENDAR_MICROSOFT_TENANT`.
    pub tenant: String,
    /// `CALENDAR_MICROSOFT_AUTHORITY_URL`; `None` is the real one.
    pub authority_url: Option<Url>,
    /// `CALENDAR_MICROSOFT_GRAPH_URL`; `None` is the real one.
    pub graph_url: Option<Url>,
}

/// What to sync and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncConfig {
    /// `CALENDAR_SYNC_PAST_DAYS`: how far back the window reaches.
    pub past_days: u32,
    /// `CALENDAR_SYNC_FUTURE_DAYS`: how far ahead.
    pub future_days: u32,
    /// `CALENDAR_POLL_SECONDS`: how often without a healthy push.
    pub poll: Duration,
    /// `CALENDAR_POLL_PUSHED_SECONDS`: how often with one.
    pub poll_pushed: Duration,
    /// `CALENDAR_RENEW_EVERY_SECONDS`: how often subscriptions are looked at.
    pub renew_every: Duration,
    /// `CALENDAR_RENEW_LEAD_SECONDS`: how long before its expiry one is renewed.
    pub renew_lead: Duration,
    /// `CALENDAR_WORKER_CONCURRENCY`: accounts worked on at once, in one process.
    pub worker_concurrency: usize,
    /// `CALENDAR_MAILBOX_CONCURRENCY`: requests at once to one mailbox.
    pub mailbox_concurrency: usize,
}

/// The configuration of `calendar-api` and `calendar-worker`: one set of variables for both.
#[derive(Clone, Debug)]
pub struct Config {
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// `CALENDAR_LISTEN`.
    pub listen: SocketAddr,
    /// `CALENDAR_PUBLIC_URL`, where it is set; see [`Config::public_url`].
    pub public_url: Option<Url>,
    /// `CALENDAR_TOKEN_KEYS`, as it stands: `id:base64,id:base64`.
    pub token_keys: SecretString,
    /// Microsoft; `None` is off.
    pub microsoft: Option<MicrosoftSettings>,
    /// `CALENDAR_SIGNUP`: whether anybody may sign up.
    pub signup_open: bool,
    /// `CALENDAR_RETURN_ORIGINS`, each in its serialised form (`https://app.example`).
    pub return_origins: Vec<String>,
    /// `CALENDAR_RATE_LIMIT_PER_MINUTE`: requests of one token.
    pub rate_limit_per_minute: u32,
    /// `CALENDAR_TRUSTED_PROXIES`: from whom X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What to sync and how often.
    pub sync: SyncConfig,
    /// `CALENDAR_METRICS_LISTEN`: where the worker serves its metrics.
    pub metrics_listen: Option<SocketAddr>,
    /// Logs.
    pub log: LogConfig,
    /// What is worth a word at start, though it is no mistake.
    pub warnings: Vec<String>,
    shown: String,
}

impl Config {
    /// Reads and checks everything. Fails with *every* mistake.
    pub fn read(environment: &Environment, checks: AdapterChecks) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let database = read_database(&mut reader, checks.database_url);
        let listen = reader.parsed(
            "CALENDAR_LISTEN",
            SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            check::listen,
        );
        let public_url = reader.optional("CALENDAR_PUBLIC_URL", check::public_url);
        let token_keys = read_token_keys(&mut reader, checks.token_keys);
        let microsoft = read_microsoft(&mut reader);
        let signup_open = reader.parsed("CALENDAR_SIGNUP", true, |text| match text {
            "open" => Ok(true),
            "closed" => Ok(false),
            _ => Err("is neither `open` nor `closed`; set one of them".to_owned()),
        });
        let return_origins = reader.parsed("CALENDAR_RETURN_ORIGINS", Vec::new(), check::origins);
        let rate_limit_per_minute =
            reader.parsed("CALENDAR_RATE_LIMIT_PER_MINUTE", 60_000, |text| {
                check::number(text, 1, 1_000_000)
            });
        let trusted_proxies =
            reader.parsed("CALENDAR_TRUSTED_PROXIES", Vec::new(), check::networks);
        let sync = read_sync(&mut reader);
        let metrics_listen = reader.optional("CALENDAR_METRICS_LISTEN", check::listen);
        let log = read_log(&mut reader);

        if let Some(url) = &public_url
            && url.scheme() == "http"
            && !check::is_loopback(url)
        {
            reader.warn("CALENDAR_PUBLIC_URL is not https: tokens of callers cross the network in the clear");
        }
        if public_url.is_none() && !listen.ip().is_loopback() {
            reader.warn("CALENDAR_PUBLIC_URL is not set, though CALENDAR_LISTEN is open to other machines: browsers are sent back to the address listened on; set how they reach the API");
        }
        if microsoft.is_none() {
            reader.warn("no provider is configured: set CALENDAR_MICROSOFT_CLIENT_ID to connect Microsoft calendars");
        }
        let (shown, warnings) = reader.finish()?;
        // A required variable that is missing is a mistake, and was returned above.
        let (Some(database), Some(token_keys)) = (database, token_keys) else {
            return Err(ConfigError::new(Vec::new()));
        };
        Ok(Self {
            database,
            listen,
            public_url,
            token_keys,
            microsoft,
            signup_open,
            return_origins,
            rate_limit_per_minute,
            trusted_proxies,
            sync,
            metrics_listen,
            log,
            warnings,
            shown,
        })
    }

    /// How browsers and providers reach the API, without a slash at the end: what is configured,
    /// else the address that the API is bound to.
    #[must_use]
    pub fn public_url(&self, bound: SocketAddr) -> String {
        if let Some(url) = &self.public_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        // Nobody can be sent to the unspecified address.
        let ip = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, bound.port()))
    }
}

/// What `--print-config` shows: a line for each variable, secrets hidden.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What `calendar-api migrate` needs: it runs before there are keys or providers.
#[derive(Clone, Debug)]
pub struct MigrateConfig {
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// Logs.
    pub log: LogConfig,
}

impl MigrateConfig {
    /// Reads and checks `DATABASE_URL`, with what only its adapter can find, and how to log.
    pub fn read(
        environment: &Environment,
        database_url: fn(&SecretString) -> Result<(), String>,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let database = read_database(&mut reader, database_url);
        let log = read_log(&mut reader);
        reader.finish()?;
        let Some(database) = database else {
            return Err(ConfigError::new(Vec::new()));
        };
        Ok(Self { database, log })
    }
}

/// What `calendar-api keys` needs: no providers.
#[derive(Clone, Debug)]
pub struct KeysConfig {
    /// PostgreSQL.
    pub database: DatabaseConfig,
    /// `CALENDAR_TOKEN_KEYS`, as it stands.
    pub token_keys: SecretString,
    /// Logs.
    pub log: LogConfig,
}

impl KeysConfig {
    /// Reads and checks `DATABASE_URL` and `CALENDAR_TOKEN_KEYS`, with what only their adapters can
    /// find, and how to log.
    pub fn read(environment: &Environment, checks: AdapterChecks) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        let database = read_database(&mut reader, checks.database_url);
        let token_keys = read_token_keys(&mut reader, checks.token_keys);
        let log = read_log(&mut reader);
        reader.finish()?;
        let (Some(database), Some(token_keys)) = (database, token_keys) else {
            return Err(ConfigError::new(Vec::new()));
        };
        Ok(Self {
            database,
            token_keys,
            log,
        })
    }
}

fn read_token_keys(
    reader: &mut Reader<'_>,
    adapter: fn(&SecretString) -> Result<(), String>,
) -> Option<SecretString> {
    reader.required("CALENDAR_TOKEN_KEYS", |text| {
        checked(check::token_keys(text)?, adapter)
    })
}

fn read_database(
    reader: &mut Reader<'_>,
    adapter: fn(&SecretString) -> Result<(), String>,
) -> Option<DatabaseConfig> {
    reader
        .required("DATABASE_URL", |text| {
            checked(check::database_url(text)?, adapter)
        })
        .map(|url| DatabaseConfig { url })
}

/// A value that its adapter takes, too.
fn checked<T>(value: T, adapter: fn(&T) -> Result<(), String>) -> Result<T, String> {
    adapter(&value).map(|()| value)
}

fn read_microsoft(reader: &mut Reader<'_>) -> Option<MicrosoftSettings> {
    let client_id = reader.optional("CALENDAR_MICROSOFT_CLIENT_ID", check::word);
    let client_secret = reader.optional("CALENDAR_MICROSOFT_CLIENT_SECRET", |text| {
        Ok(SecretString::from(text))
    });
    let tenant = reader.parsed(
        "CALENDAR_MICROSOFT_TENANT",
        "common".to_owned(),
        check::tenant,
    );
    let authority_url = reader.optional("CALENDAR_MICROSOFT_AUTHORITY_URL", check::provider_url);
    let graph_url = reader.optional("CALENDAR_MICROSOFT_GRAPH_URL", check::provider_url);
    if client_id.is_none() && client_secret.is_some() {
        reader.mistake(
            "CALENDAR_MICROSOFT_CLIENT_ID",
            "is missing, though CALENDAR_MICROSOFT_CLIENT_SECRET is set; set both, or neither",
        );
    }
    Some(MicrosoftSettings {
        client_id: client_id?,
        client_secret,
        tenant,
        authority_url,
        graph_url,
    })
}

fn read_sync(reader: &mut Reader<'_>) -> SyncConfig {
    const DAY: u32 = 86_400;
    const WEEK: u32 = 7 * DAY;
    let mut number = |name, default, least, most| {
        reader.parsed(name, default, |text| check::number(text, least, most))
    };
    let past_days = number("CALENDAR_SYNC_PAST_DAYS", 90, 0, 3_650);
    let future_days = number("CALENDAR_SYNC_FUTURE_DAYS", 365, 1, 3_650);
    let poll = number("CALENDAR_POLL_SECONDS", 300, 1, DAY);
    let poll_pushed = number("CALENDAR_POLL_PUSHED_SECONDS", 21_600, 1, WEEK);
    let renew_every = number("CALENDAR_RENEW_EVERY_SECONDS", 1_800, 1, DAY);
    let renew_lead = number("CALENDAR_RENEW_LEAD_SECONDS", 3_600, 1, DAY);
    let worker_concurrency = number("CALENDAR_WORKER_CONCURRENCY", 16, 1, 256);
    let mailbox_concurrency = number("CALENDAR_MAILBOX_CONCURRENCY", 4, 1, 64);
    if renew_lead < renew_every {
        reader.mistake(
            "CALENDAR_RENEW_LEAD_SECONDS",
            "is shorter than CALENDAR_RENEW_EVERY_SECONDS, so that subscriptions would expire between two looks; make it at least as long",
        );
    }
    let seconds = |number: u32| Duration::from_secs(number.into());
    SyncConfig {
        past_days,
        future_days,
        poll: seconds(poll),
        poll_pushed: seconds(poll_pushed),
        renew_every: seconds(renew_every),
        renew_lead: seconds(renew_lead),
        worker_concurrency: worker_concurrency as usize,
        mailbox_concurrency: mailbox_concurrency as usize,
    }
}

fn read_log(reader: &mut Reader<'_>) -> LogConfig {
    let filter = reader.parsed("CALENDAR_LOG", "info".to_owned(), check::log_filter);
    let format = reader.parsed("CALENDAR_LOG_FORMAT", LogFormat::Text, |text| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("is neither `text` nor `json`; set one of them".to_owned()),
    });
    LogConfig { filter, format }
}
