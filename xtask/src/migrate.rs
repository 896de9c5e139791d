//! Applies and reverts the migrations of `migrations/`, in step with the ones that the service
//! embeds: the same table of versions, the same advisory lock.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand as ClapSubcommand;
use tokio_postgres::Client;

use crate::postgres::Postgres;
use crate::{database, workspace};

/// Held while migrations run; calendar-postgres takes the same one (its migrations.rs).
const LOCK: i64 = 7_205_116_493_320_158;

/// What to do.
#[derive(ClapSubcommand)]
pub(crate) enum Command {
    /// Apply every pending migration.
    Up,
    /// Revert the last applied migration.
    Down,
    /// List the migrations and whether each is applied.
    Status,
    /// Make the files of a new migration.
    New {
        /// Verb and object in snake case: `add_room_capacity`.
        name: String,
    },
}

/// One directory of `migrations/`.
pub(crate) struct Migration {
    /// As diesel writes it: the digits before the name.
    pub(crate) version: String,
    /// The directory's name.
    pub(crate) name: String,
    up: String,
    down: String,
}

pub(crate) async fn run(command: Command) -> Result<()> {
    if let Command::New { name } = command {
        return new(&name);
    }
    let server = Postgres::start().await?;
    let client = database::connect(server.url()).await?;
    match command {
        Command::Up => {
            let applied = up(&client, &all()?, true).await?;
            println!("{applied} applied, the database is migrated");
        }
        Command::Down => match down(&client, &all()?).await? {
            Some(name) => println!("reverted {name}"),
            None => println!("nothing is applied"),
        },
        Command::Status => {
            let applied = applied(&client).await?;
            for migration in all()? {
                let state = if applied.contains(&migration.version) {
                    "applied"
                } else {
                    "pending"
                };
                println!("{state}  {}", migration.name);
            }
        }
        Command::New { .. } => {}
    }
    Ok(())
}

/// Every migration of the checkout, oldest first.
pub(crate) fn all() -> Result<Vec<Migration>> {
    let directory = workspace::root().join("migrations");
    let mut migrations = Vec::new();
    for entry in std::fs::read_dir(&directory).context("cannot read migrations/")? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let version = name.split('_').next().unwrap_or_default().replace('-', "");
        let read = |file: &str| {
            std::fs::read_to_string(path.join(file))
                .with_context(|| format!("migrations/{name}/{file} cannot be read"))
        };
        migrations.push(Migration {
            version,
            up: read("up.sql")?,
            down: read("down.sql")?,
            name,
        });
    }
    migrations.sort_by(|left, right| left.version.cmp(&right.version));
    Ok(migrations)
}

/// Applies what is pending, each migration in a transaction of its own; answers how many.
pub(crate) async fn up(client: &Client, migrations: &[Migration], verbose: bool) -> Result<usize> {
    locked(client, async {
        let applied = applied(client).await?;
        let mut count = 0;
        for migration in migrations {
            if applied.contains(&migration.version) {
                continue;
            }
            let began = Instant::now();
            let record = format!(
                "INSERT INTO __diesel_schema_migrations (version) VALUES ('{}')",
                migration.version
            );
            in_transaction(client, &migration.up, &record)
                .await
                .with_context(|| format!("migrations/{}/up.sql failed", migration.name))?;
            if verbose {
                println!("  {} ({} ms)", migration.name, began.elapsed().as_millis());
            }
            count += 1;
        }
        Ok(count)
    })
    .await
}

/// Reverts the newest applied migration; answers its name.
pub(crate) async fn down(client: &Client, migrations: &[Migration]) -> Result<Option<String>> {
    locked(client, async {
        let applied = applied(client).await?;
        let Some(version) = applied.last() else {
            return Ok(None);
        };
        let migration = migrations
            .iter()
            .find(|migration| migration.version == *version)
            .with_context(|| {
                format!("version {version} is applied, but migrations/ has no such migration")
            })?;
        let record = format!("DELETE FROM __diesel_schema_migrations WHERE version = '{version}'");
        in_transaction(client, &migration.down, &record)
            .await
            .with_context(|| format!("migrations/{}/down.sql failed", migration.name))?;
        Ok(Some(migration.name.clone()))
    })
    .await
}

/// The versions that are applied, oldest first.
async fn applied(client: &Client) -> Result<Vec<String>> {
    client
        .batch_execute(
            "SET client_min_messages = warning;
             CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (
                 version VARCHAR(50) PRIMARY KEY NOT NULL,
                 run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
             RESET client_min_messages",
        )
        .await?;
    let rows = client
        .query(
            "SELECT version FROM __diesel_schema_migrations ORDER BY version",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn in_transaction(client: &Client, sql: &str, record: &str) -> Result<()> {
    let outcome = async {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(sql).await?;
        client.batch_execute(record).await?;
        client.batch_execute("COMMIT").await
    }
    .await;
    if outcome.is_err() {
        client.batch_execute("ROLLBACK").await?;
    }
    outcome.map_err(describe)
}

/// The server's own words, with the line in the file when it names a position.
fn describe(error: tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(server) => anyhow::anyhow!("{server}"),
        None => error.into(),
    }
}

async fn locked<T>(client: &Client, work: impl Future<Output = Result<T>>) -> Result<T> {
    client
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await?;
    let outcome = work.await;
    client
        .execute("SELECT pg_advisory_unlock($1)", &[&LOCK])
        .await?;
    outcome
}

fn new(name: &str) -> Result<()> {
    let fits = name.contains('_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !fits {
        bail!(
            "a migration is named by a verb and an object in snake case, such as add_room_capacity"
        );
    }
    let now = std::process::Command::new("date")
        .args(["-u", "+%Y-%m-%d-%H%M%S"])
        .output()
        .context("cannot run date")?;
    let now = String::from_utf8_lossy(&now.stdout).trim().to_owned();
    let directory: PathBuf = workspace::root()
        .join("migrations")
        .join(format!("{now}_{name}"));
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join("up.sql"), "-- Why this change.\n")?;
    std::fs::write(
        directory.join("down.sql"),
        "-- Brings back what was before up.sql.\n",
    )?;
    println!(
        "write {}/{{up,down}}.sql, then run `cargo xtask codegen`",
        directory.display()
    );
    Ok(())
}
