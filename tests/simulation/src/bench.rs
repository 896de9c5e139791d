//! What all runs of a process share: a database, emptied before each run, and the proxy in front of it.

use std::sync::Arc;

use calendar_postgres::testing::TestDatabase;
use tokio_postgres::{Client, Config};

use crate::BenchError;
use crate::pg_proxy::PgProxy;

/// The database of all runs of a process.
pub struct Bench {
    _database: TestDatabase,
    pub(crate) client: Arc<Client>,
    pub(crate) proxy: PgProxy,
    /// Leads through the proxy, and finds the simulated `now()` before PostgreSQL's own.
    pub(crate) url: String,
}

/// `now()` of the stores' connections: the scheduler's time.
const CLOCK: &str = "
    CREATE SCHEMA sim;
    CREATE TABLE sim.clock (at timestamptz NOT NULL);
    INSERT INTO sim.clock VALUES (to_timestamp(0));
    CREATE FUNCTION sim.now() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT at FROM sim.clock';";

/// Statistics that change while a run goes on would change plans, and with them the order of rows.
const NO_AUTOVACUUM: &str = "
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE 'ALTER TABLE public.' || name || ' SET (autovacuum_enabled = false)';
        END LOOP;
    END $$;";

impl Bench {
    /// Makes the database on the server of `DATABASE_URL`.
    pub async fn start() -> Result<Self, BenchError> {
        let database = TestDatabase::create().await;
        let client = database.connect().await;
        client.batch_execute(CLOCK).await?;
        client.batch_execute(NO_AUTOVACUUM).await?;
        let server: Config = database.url().parse()?;
        let host = match server.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            _ => return Err(BenchError::Socket),
        };
        let port = server.get_ports().first().copied().unwrap_or(5432);
        let proxy = PgProxy::start(format!("{host}:{port}")).await?;
        let mut url = url::Url::parse(database.url())?;
        let address = proxy.address();
        url.set_ip_host(address.ip())
            .map_err(|()| BenchError::Socket)?;
        url.set_port(Some(address.port()))
            .map_err(|()| BenchError::Socket)?;
        url.set_query(Some(
            "sslmode=disable&options=-c%20search_path%3Dsim%2Cpg_catalog%2Cpublic",
        ));
        Ok(Self {
            _database: database,
            client: Arc::new(client),
            proxy,
            url: url.into(),
        })
    }

    /// Empties the database.
    pub(crate) async fn reset(&self) -> Result<(), BenchError> {
        self.proxy.disarm();
        let sql = "TRUNCATE users, sync_pass_seen, mailbox_turns CASCADE";
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Sets the database's clock.
    pub(crate) async fn set_clock(&self, seconds: i64) -> Result<(), BenchError> {
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        let seconds = seconds as f64;
        self.client
            .execute("UPDATE sim.clock SET at = to_timestamp($1)", &[&seconds])
            .await?;
        Ok(())
    }

    /// Waits until a process of the server has ended, so that what it held is free.
    pub(crate) async fn gone(&self, process: i32) -> Result<(), BenchError> {
        for _ in 0..5000 {
            let found = self
                .client
                .query_opt("SELECT 1 FROM pg_stat_activity WHERE pid = $1", &[&process])
                .await?;
            if found.is_none() {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        Err(BenchError::Backend(process))
    }

    /// What stands in the tables of events, down to the version of each row.
    pub(crate) async fn versions(&self) -> Result<Vec<String>, BenchError> {
        let sql = "SELECT 'event ' || id || ' ' || xmin || ' ' || ctid FROM calendar_events
            UNION ALL SELECT 'attendee ' || id || ' ' || xmin || ' ' || ctid FROM event_attendees
            UNION ALL SELECT 'reminder ' || id || ' ' || xmin || ' ' || ctid FROM event_reminders ORDER BY 1";
        let rows = self.client.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
