//! The embedded migrations: running them, and telling whether a database has them all.

use std::collections::BTreeSet;

use diesel::migration::Migration as _;
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Text};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, SimpleAsyncConnection as _};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness as _, embed_migrations};
use secrecy::SecretString;

use crate::database::{Database, open_one};
use crate::error::PgError;
use crate::statement::Statement;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Any number, always the same: two processes that migrate at once take turns.
const LOCK: &str = "SELECT pg_advisory_lock(7205116493320158)";

/// How a database stands to the migrations of this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrationState {
    /// It has them all.
    Current,
    /// It lacks some.
    Behind {
        /// Their names, oldest first.
        pending: Vec<String>,
    },
    /// It has one that this program does not know: a newer program migrated it.
    Ahead,
}

/// Applies what is missing, each migration in a transaction of its own. Returns their names.
pub async fn migrate(url: &SecretString) -> Result<Vec<String>, PgError> {
    let mut connection = open_one(url).await?;
    connection
        .batch_execute("SET statement_timeout = 0")
        .await?;
    // The harness would say no more than that permission is denied. Without a schema, the server says so.
    let may = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), true) AS yes";
    let may: Option<Yes> = Statement::new(may).row(&mut connection).await?;
    if !may.is_some_and(|row| row.yes) {
        return Err(PgError::MayNotMigrate);
    }
    connection.batch_execute(LOCK).await?;
    // On a thread of its own: the harness blocks, and its caller may be waiting for other things too.
    let applied = tokio::task::spawn_blocking(move || run_pending(connection)).await;
    // The lock ends with the connection.
    applied.unwrap_or_else(|error| {
        Err(PgError::Migration {
            name: None,
            source: Box::new(error),
        })
    })
}

fn run_pending(connection: AsyncPgConnection) -> Result<Vec<String>, PgError> {
    let mut harness = AsyncMigrationHarness::new(connection);
    let mut applied = Vec::new();
    let pending = harness
        .pending_migrations(MIGRATIONS)
        .map_err(|source| PgError::Migration { name: None, source })?;
    for migration in pending {
        let name = migration.name().to_string();
        harness
            .run_migration(&*migration)
            .map_err(|source| PgError::Migration {
                name: Some(name.clone()),
                source,
            })?;
        applied.push(name);
    }
    Ok(applied)
}

#[derive(diesel::QueryableByName)]
struct Yes {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

#[derive(diesel::QueryableByName)]
struct Applied {
    #[diesel(sql_type = Bool)]
    exists: bool,
    #[diesel(sql_type = Bool)]
    readable: bool,
}

#[derive(diesel::QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    version: String,
}

impl Database {
    /// How the database stands to the migrations of this program.
    pub async fn migration_state(&self) -> Result<MigrationState, PgError> {
        let mut connection = self.get().await?;
        let table = "SELECT t.oid IS NOT NULL AS exists, coalesce(has_table_privilege(t.oid, 'SELECT'), true) AS readable
            FROM (SELECT to_regclass('__diesel_schema_migrations')::oid) t (oid)";
        let table: Option<Applied> = Statement::new(table).row(&mut connection).await?;
        if table.as_ref().is_some_and(|table| !table.readable) {
            return Err(PgError::MayNotRead);
        }
        let applied: BTreeSet<String> = if table.is_some_and(|table| table.exists) {
            let versions = "SELECT version::text AS version FROM __diesel_schema_migrations";
            let rows: Vec<Version> = Statement::new(versions).rows(&mut connection).await?;
            rows.into_iter().map(|row| row.version).collect()
        } else {
            BTreeSet::new()
        };
        let known = diesel::migration::MigrationSource::<Pg>::migrations(&MIGRATIONS)
            .map_err(|source| PgError::Migration { name: None, source })?;
        let mut pending: Vec<String> = Vec::new();
        let mut versions: BTreeSet<String> = BTreeSet::new();
        for migration in &known {
            let version = migration.name().version().to_string();
            if !applied.contains(&version) {
                pending.push(migration.name().to_string());
            }
            versions.insert(version);
        }
        pending.sort();
        if !pending.is_empty() {
            return Ok(MigrationState::Behind { pending });
        }
        Ok(if applied.is_subset(&versions) {
            MigrationState::Current
        } else {
            MigrationState::Ahead
        })
    }
}
