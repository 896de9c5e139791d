//! The pool of connections: how to reach the server, and how dead connections are told from live.

use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{PoolError, Timeouts};
use diesel::ConnectionError;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{
    AnsiTransactionManager, AsyncPgConnection, SimpleAsyncConnection as _, TransactionManager as _,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::PgError;
use crate::tls::{self, TlsOptions};

/// How long to wait for a connection to be made, or for one of the pool to become free.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Milliseconds, longer than any statement of ours takes and than we let a transaction wait: neither a runaway nor a
/// process that froze, or whose machine is gone, may hold its locks for ever.
const TIMEOUTS: [(&str, &str); 2] = [
    ("statement_timeout", "60000"),
    ("idle_in_transaction_session_timeout", "60000"),
];

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// How to reach the database.
#[derive(Clone, Debug)]
pub struct PgConfig {
    /// `postgres://user:password@host:port/database?sslmode=…&sslrootcert=…`.
    pub url: SecretString,
    /// How many connections this process opens at the most.
    pub max_connections: usize,
}

/// A pool of connections to one database. Cloning shares the pool.
#[derive(Clone)]
pub struct Database {
    pool: Pool<AsyncPgConnection>,
    opener: Opener,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("status", &self.pool.status())
            .finish_non_exhaustive()
    }
}

impl Database {
    /// A pool; no connection is opened yet. Fails only when `config` cannot be read.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the configuration is used up"
    )]
    pub fn connect(config: PgConfig) -> Result<Self, PgError> {
        let opener = Opener::new(&config.url)?;
        let pool = Pool::builder(manager(opener.clone()))
            .max_size(config.max_connections.max(1))
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(WAIT_TIMEOUT),
                create: Some(CONNECT_TIMEOUT),
                recycle: None,
            })
            .build()
            .map_err(|_| PgError::Config("the pool cannot be built".to_owned()))?;
        Ok(Self { pool, opener })
    }

    /// The stores on a pool of the host program's own, with the connections that it has: its TLS, its limits.
    /// `url` leads to the same database and schema; [`PgWakeups`](crate::PgWakeups) opens its one connection
    /// by it, since LISTEN needs one that is in no pool: to the server itself, past any `PgBouncer`. Fails only
    /// when `url` cannot be read.
    ///
    /// The pool has to keep to what ours does:
    ///
    /// - Time-outs for waiting and for connecting (and with them a runtime), else work hangs where it should fail
    ///   and be tried again.
    /// - A connection with an open transaction is not handed out again. All recycling methods of diesel-async
    ///   see to that.
    /// - Isolation `READ COMMITTED` and `synchronous_commit` not `off`, the server's defaults: what was answered is
    ///   stored.
    /// - A `statement_timeout` and an `idle_in_transaction_session_timeout` (ours are 60 s), so that neither a
    ///   runaway nor a process that froze holds its locks for ever.
    /// - Statements stay prepared per connection: a proxy that gives each transaction another connection
    ///   (`PgBouncer`'s transaction mode) has to know prepared statements.
    /// - Four connections more than passes run at once, at most twenty: passes that have to wait for one cannot
    ///   prolong their leases.
    pub fn from_pool(pool: Pool<AsyncPgConnection>, url: &SecretString) -> Result<Self, PgError> {
        let opener = Opener::new(url)?;
        Ok(Self { pool, opener })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), PgError> {
        let mut connection = self.get().await?;
        connection.batch_execute("").await?;
        Ok(())
    }

    /// Sets the gauges of the pool: `calendar_database_connections` and `calendar_database_waiting`.
    pub fn measure(&self) {
        let status = self.pool.status();
        let idle = status.available;
        #[expect(clippy::cast_precision_loss, reason = "a pool is small")]
        for (state, count) in [
            ("in_use", status.size.saturating_sub(idle)),
            ("idle", idle),
            ("unused", status.max_size.saturating_sub(status.size)),
        ] {
            metrics::gauge!("calendar_database_connections", "state" => state).set(count as f64);
        }
        #[expect(clippy::cast_precision_loss, reason = "requests that wait are few")]
        metrics::gauge!("calendar_database_waiting").set(status.waiting as f64);
    }

    /// How to open a connection of one's own to the same server.
    pub(crate) fn opener(&self) -> Opener {
        self.opener.clone()
    }

    /// A connection of the pool.
    pub(crate) async fn get(&self) -> Result<PooledConnection, PgError> {
        match self.pool.get().await {
            Ok(object) => Ok(PooledConnection(object)),
            Err(PoolError::Backend(error)) => Err(PgError::Unavailable(Some(Box::new(error)))),
            Err(error) => Err(PgError::Unavailable(Some(Box::new(error)))),
        }
    }

    /// A connection with a transaction begun. Give its outcome to [`Transaction::end`]; one that is
    /// dropped instead takes its connection along.
    pub(crate) async fn begin(&self) -> Result<Transaction, PgError> {
        let mut connection = self.get().await?;
        AnsiTransactionManager::begin_transaction(&mut *connection).await?;
        Ok(Transaction(Some(connection)))
    }
}

/// A transaction under way; empty once it has ended or was dropped.
pub(crate) struct Transaction(Option<PooledConnection>);

impl Transaction {
    /// Commits when the outcome is good, else rolls back.
    pub(crate) async fn end<T>(mut self, outcome: Result<T, PgError>) -> Result<T, PgError> {
        let ended = if outcome.is_ok() {
            AnsiTransactionManager::commit_transaction(&mut *self).await
        } else {
            AnsiTransactionManager::rollback_transaction(&mut *self).await
        };
        match (ended, outcome) {
            (Ok(()), outcome) => {
                // Nothing is open any more: back to the pool.
                self.0 = None;
                outcome
            }
            (Err(error), Ok(_)) => Err(error.into()),
            (Err(error), outcome) => {
                // The server rolls back by itself when the connection ends; the first error matters.
                tracing::debug!(error = %PgError::from(error), "a rollback failed");
                outcome
            }
        }
    }
}

impl Drop for Transaction {
    /// In the pool it would keep its locks until it is next handed out. Without its connection, the server
    /// rolls it back at once.
    fn drop(&mut self) {
        if let Some(PooledConnection(object)) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "only `end` and `drop` empty it, and nobody has it after them"
)]
impl std::ops::Deref for Transaction {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        self.0.as_ref().expect("the transaction has not ended")
    }
}

#[expect(
    clippy::expect_used,
    reason = "only `end` and `drop` empty it, and nobody has it after them"
)]
impl std::ops::DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        self.0.as_mut().expect("the transaction has not ended")
    }
}

/// A connection that goes back to the pool when it is dropped.
pub(crate) struct PooledConnection(Object<AsyncPgConnection>);

impl std::ops::Deref for PooledConnection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.0
    }
}

impl std::ops::DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.0
    }
}

/// Opens connections, all with the same settings.
#[derive(Clone)]
pub(crate) struct Opener {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Opener {
    fn new(url: &SecretString) -> Result<Self, PgError> {
        let (config, tls) = read_url(url.expose_secret())?;
        Ok(Self {
            config,
            tls: tls.connector()?,
        })
    }

    /// The driver's own two halves.
    pub(crate) async fn connect(&self) -> Result<(Client, Connection<Socket, TlsStream>), PgError> {
        let connected = self.config.connect(self.tls.clone()).await;
        connected.map_err(|error| PgError::Unavailable(Some(tls::explained(error))))
    }

    async fn open(&self) -> Result<AsyncPgConnection, PgError> {
        let (client, connection) = self.connect().await?;
        Ok(AsyncPgConnection::try_from_client_and_connection(client, connection).await?)
    }
}

/// Opens the pool's connections. One is not used again when the server hung up (known without asking it), or
/// when a transaction was left open because the work on it was cancelled.
fn manager(opener: Opener) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    let mut config = ManagerConfig::default();
    config.recycling_method = RecyclingMethod::Fast;
    config.custom_setup = Box::new(move |_| {
        let opener = opener.clone();
        Box::pin(async move { opener.open().await.map_err(|error| refused(&error)) })
    });
    AsyncDieselConnectionManager::new_with_config("", config)
}

/// The causes in one text: diesel's error has no room for a source.
fn refused(error: &PgError) -> ConnectionError {
    let first = std::error::Error::source(error);
    let causes = std::iter::successors(first, |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    ConnectionError::BadConnection(texts.join(": "))
}

/// One connection outside any pool, for migrations.
#[cfg(feature = "migrations")]
pub(crate) async fn open_one(url: &SecretString) -> Result<AsyncPgConnection, PgError> {
    Opener::new(url)?.open().await
}

/// The driver's configuration; `sslmode` and `sslrootcert` apart, whose values it does not all know.
fn read_url(url: &str) -> Result<(Config, TlsOptions), PgError> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut root_certificate) = (None, None);
    let mut rest: Vec<&str> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let decoded = url::form_urlencoded::parse(part.as_bytes()).next();
        match decoded {
            Some((name, value)) if name == "sslmode" => mode = Some(value.into_owned()),
            Some((name, value)) if name == "sslrootcert" => {
                root_certificate = Some(value.into_owned());
            }
            _ => rest.push(part),
        }
    }
    let tls = TlsOptions::new(mode.as_deref(), root_certificate)?;
    let address = if rest.is_empty() {
        address.to_owned()
    } else {
        format!("{address}?{}", rest.join("&"))
    };
    // The driver's own message can quote the password.
    let mut config: Config = address.parse().map_err(|_| {
        PgError::Config("it must read postgres://user:password@host:port/database".to_owned())
    })?;
    if config.get_hosts().is_empty() {
        return Err(PgError::Config("it names no host".to_owned()));
    }
    config.ssl_mode(tls.mode);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("calendar-sync");
    }
    let mut options = config.get_options().unwrap_or_default().to_owned();
    for (name, milliseconds) in TIMEOUTS {
        if !options.contains(name) {
            options = format!("{options} -c {name}={milliseconds}");
        }
    }
    config.options(options.trim());
    Ok((config, tls))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_postgres::config::SslMode;

    #[test]
    fn tls_parameters_are_taken_out_of_the_url() {
        let url = "postgres://u:p@db:5433/calendar?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fetc%2Fca.pem";
        let (config, tls) = read_url(url).unwrap();
        assert_eq!(config.get_ssl_mode(), SslMode::Require);
        assert_eq!(tls.root_certificate.as_deref(), Some("/etc/ca.pem"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_dbname(), Some("calendar"));
        for timeout in [
            "-c statement_timeout=60000",
            "-c idle_in_transaction_session_timeout=60000",
        ] {
            assert!(config.get_options().unwrap().contains(timeout));
        }
    }

    #[test]
    fn a_statement_timeout_of_ones_own_stays() {
        let (config, _) = read_url("postgres://db/x?options=-c%20statement_timeout%3D5").unwrap();
        assert_eq!(
            config.get_options(),
            Some("-c statement_timeout=5 -c idle_in_transaction_session_timeout=60000")
        );
    }

    #[test]
    fn a_bad_url_is_refused_without_showing_it() {
        for url in [
            "",
            "mysql://u:secret@h/d",
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?sslmode=on",
        ] {
            let error = read_url(url).err().unwrap();
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{error:?}"
            );
        }
    }
}
