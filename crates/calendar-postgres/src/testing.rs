//! A migrated database of its own for each test, cloned from a template, dropped at its end.
//!
//! Compiled with the feature `testing`. This crate turns it on for its own tests by depending on
//! itself: `[dev-dependencies] calendar-postgres = { path = ".", features = ["testing"] }`.
//! `DATABASE_URL` names the server; its user must be allowed to create databases.

#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "for tests: a server that fails here fails the test"
)]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

mod server;

pub use server::{Stop, TestServer};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A database that lives as long as this value.
///
/// While it lives, its session on the server holds an advisory lock named after the database: what
/// a killed process left behind is what nobody holds, and the next process drops it.
pub struct TestDatabase {
    name: String,
    url: String,
    admin_url: String,
    _lock: Client,
}

/// One migration of the checkout.
#[derive(Debug, Clone)]
pub struct TestMigration {
    /// The directory's name.
    pub name: String,
    /// What applies it.
    pub up: String,
    /// What reverts it.
    pub down: String,
}

impl TestDatabase {
    /// A database with every migration applied.
    pub async fn create() -> Self {
        Self::create_at(&server_url()).await
    }

    /// The same, on the server of this URL.
    pub async fn create_at(url: &str) -> Self {
        let admin = connect(url).await;
        let template = template(url, &admin).await;
        Self::clone_of(&template, url.to_owned(), admin).await
    }

    /// A database without any table.
    pub async fn create_empty() -> Self {
        let url = server_url();
        let admin = connect(&url).await;
        Self::clone_of("template0", url, admin).await
    }

    /// `postgres://…` of this database.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A new connection to this database.
    pub async fn connect(&self) -> Client {
        connect(&self.url).await
    }

    async fn clone_of(template: &str, admin_url: String, admin: Client) -> Self {
        drop_stale(&admin).await;
        let name = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("cal_test_{}_{number}", std::process::id());
            // The lock first: from its creation on, the database must look used to others.
            if !try_lock(&admin, &name).await {
                continue;
            }
            let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
            match admin.batch_execute(&create).await {
                Ok(()) => break name,
                // Another machine's process with the same id.
                Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => {}
                Err(error) => panic!("cannot create the test database {name}: {error:?}"),
            }
        };
        // It is thrown away: nothing waits for the disk.
        admin
            .batch_execute(&format!(
                "ALTER DATABASE {name} SET synchronous_commit = off"
            ))
            .await
            .expect("a database of ours can be altered");
        Self {
            url: with_database(&admin_url, &name),
            name,
            admin_url,
            _lock: admin,
        }
    }
}

impl Drop for TestDatabase {
    /// On a thread and runtime of its own: the test's runtime may be ending.
    fn drop(&mut self) {
        let (admin_url, name) = (self.admin_url.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime starts").block_on(async {
                drop_database(&connect(&admin_url).await, &name).await;
            });
        })
        .join();
        // A second panic while a failed test unwinds would abort the process; the next one cleans up.
        drop(dropped);
    }
}

/// Every migration of the checkout, oldest first.
#[must_use]
pub fn migrations() -> Vec<TestMigration> {
    let directory = migrations_directory();
    let read = |path: &Path| std::fs::read_to_string(path).expect("a migration has both files");
    let mut migrations: Vec<TestMigration> = std::fs::read_dir(directory)
        .expect("migrations/ can be read")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .map(|path| TestMigration {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            up: read(&path.join("up.sql")),
            down: read(&path.join("down.sql")),
        })
        .collect();
    migrations.sort_by(|left, right| left.name.cmp(&right.name));
    migrations
}

/// Of the checkout whose tests run: checkouts may share a target directory, and with it a program.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo's own variable for the programs that it runs, no configuration"
)]
fn migrations_directory() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR");
    let package = PathBuf::from(package.as_deref().unwrap_or(env!("CARGO_MANIFEST_DIR")));
    let found = package
        .ancestors()
        .map(|path| path.join("migrations"))
        .find(|path| path.is_dir());
    found.expect("the checkout has migrations/")
}

/// Applies a migration to a database, in a transaction, and records it as diesel does.
pub async fn apply(client: &Client, migration: &TestMigration) {
    let version = migration
        .name
        .split('_')
        .next()
        .unwrap_or_default()
        .replace('-', "");
    let record = format!(
        "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (
             version VARCHAR(50) PRIMARY KEY NOT NULL,
             run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
         INSERT INTO __diesel_schema_migrations (version) VALUES ('{version}')"
    );
    for statements in ["BEGIN", &migration.up, &record, "COMMIT"] {
        if let Err(error) = client.batch_execute(statements).await {
            panic!("{}/up.sql failed: {error:?}", migration.name);
        }
    }
}

/// The template with every migration applied; made by the first process that asks.
async fn template(admin_url: &str, admin: &Client) -> String {
    let migrations = migrations();
    let mut hasher = DefaultHasher::new();
    for migration in &migrations {
        (&migration.name, &migration.up).hash(&mut hasher);
    }
    let name = format!("cal_template_{:016x}", hasher.finish());
    admin
        .execute("SELECT pg_advisory_lock(hashtextextended($1, 0))", &[&name])
        .await
        .expect("an advisory lock is granted");
    let exists = admin
        .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name])
        .await
        .expect("the list of databases can be read");
    if exists.is_none() {
        // Under another name until it is complete: a killed process leaves no half template.
        let unfinished = format!("{name}_unfinished");
        drop_database(admin, &unfinished).await;
        let execute = |sql: String| async move {
            admin
                .batch_execute(&sql)
                .await
                .expect("a template can be made");
        };
        execute(format!("CREATE DATABASE {unfinished} TEMPLATE template0")).await;
        {
            let client = connect(&with_database(admin_url, &unfinished)).await;
            for migration in &migrations {
                apply(&client, migration).await;
            }
        }
        // Nobody may connect to it: a database with a session can be neither renamed nor cloned.
        execute(format!(
            "ALTER DATABASE {unfinished} ALLOW_CONNECTIONS false"
        ))
        .await;
        execute(format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{unfinished}'"
        ))
        .await;
        execute(format!("ALTER DATABASE {unfinished} RENAME TO {name}")).await;
    }
    admin
        .execute(
            "SELECT pg_advisory_unlock(hashtextextended($1, 0))",
            &[&name],
        )
        .await
        .expect("an advisory lock is given back");
    name
}

/// Drops the databases of processes that ended without doing it themselves.
async fn drop_stale(admin: &Client) {
    let names = admin
        .query(
            "SELECT datname::text FROM pg_database WHERE datname LIKE 'cal\\_test\\_%'",
            &[],
        )
        .await
        .expect("the list of databases can be read");
    for row in names {
        let name: String = row.get(0);
        if try_lock(admin, &name).await {
            drop_database(admin, &name).await;
            admin
                .execute(
                    "SELECT pg_advisory_unlock(hashtextextended($1, 0))",
                    &[&name],
                )
                .await
                .expect("an advisory lock is given back");
        }
    }
}

async fn try_lock(admin: &Client, name: &str) -> bool {
    admin
        .query_one(
            "SELECT pg_try_advisory_lock(hashtextextended($1, 0))",
            &[&name],
        )
        .await
        .expect("an advisory lock can be asked for")
        .get(0)
}

async fn drop_database(admin: &Client, name: &str) {
    admin
        .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        .await
        .expect("a test database can be dropped");
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration but the server they run on"
)]
fn server_url() -> String {
    std::env::var("DATABASE_URL")
        .expect("DATABASE_URL is not set: run `cargo xtask test`, which starts a PostgreSQL")
}

async fn connect(url: &str) -> Client {
    let config = Config::from_str(url).expect("DATABASE_URL is a PostgreSQL URL");
    let (client, connection) = config
        .connect(NoTls)
        .await
        .expect("PostgreSQL answers at DATABASE_URL: run `cargo xtask test`, which starts one");
    tokio::spawn(connection);
    client
}

/// The same server and user, another database.
fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..]
        .find('/')
        .map_or(address.len(), |at| authority + at);
    let query = if query.is_empty() {
        String::new()
    } else {
        format!("?{query}")
    };
    format!("{}/{database}{query}", &address[..end])
}
