//! `calendar-api keys`: what is sealed under which key, and sealing it anew under the first.

use anyhow::{Context as _, bail};
use calendar_postgres::{Database, MigrationState, PgKeyRotation, RotationPlace, SealedUnder};
use calendar_runtime::config::KeysConfig;
use calendar_runtime::startup::{DATABASE_WAIT, StartError, wait_for_database};
use calendar_runtime::{cli, shutdown, telemetry};
use clap::Subcommand;
use tokio::sync::watch;
use tracing::info;

use crate::wiring;

/// So many values are sealed anew between two words on it.
const PROGRESS_EVERY: u64 = 2_000;

/// What to do with the keys.
#[derive(Clone, Copy, Subcommand)]
pub(crate) enum KeysCommand {
    /// Seal every token anew under the first key of `CALENDAR_TOKEN_KEYS`; may be run at any time, and again.
    Rotate,
    /// Say how many values are sealed under which key.
    Status,
}

/// Fails when the keys cannot be looked at, and after rotating when anything is still sealed under
/// another key than the first.
pub(crate) async fn run(command: KeysCommand, config: &KeysConfig) -> anyhow::Result<()> {
    telemetry::init(&config.log).context("setting up logs")?;
    let stop = shutdown::listen().context("listening for signals")?;
    let database = wiring::database(&config.database, 1)?;
    let (rotation, ring) = wiring::key_rotation(database.clone(), config)?;
    migrated(&database, &stop).await?;
    match command {
        KeysCommand::Rotate => rotate(&rotation, &ring, &stop).await,
        KeysCommand::Status => {
            let status = rotation.status().await.context("counting")?;
            for under in &status {
                cli::print(line(under, &ring));
            }
            Ok(())
        }
    }
}

async fn migrated(database: &Database, stop: &watch::Receiver<bool>) -> anyhow::Result<()> {
    match wait_for_database(DATABASE_WAIT, stop, || database.migration_state()).await? {
        MigrationState::Current | MigrationState::Ahead => Ok(()),
        MigrationState::Behind { pending } => Err(StartError::NotMigrated { pending }.into()),
    }
}

async fn rotate(
    rotation: &PgKeyRotation,
    ring: &[String],
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut place = Some(RotationPlace::START);
    let (mut resealed, mut unreadable, mut told) = (0, 0, 0);
    while let Some(from) = place {
        if *stop.borrow() {
            info!(resealed, "stopped");
            bail!("stopped before the end; run it again to go on");
        }
        let step = rotation.step(from).await.context("sealing anew")?;
        resealed += step.resealed;
        unreadable += step.unreadable;
        place = step.next;
        if resealed - told >= PROGRESS_EVERY {
            info!(resealed, "sealing anew");
            told = resealed;
        }
    }
    let status = rotation.status().await.context("counting what remains")?;
    let mut remaining = 0;
    for under in &status {
        if !under.is_first {
            remaining += under.count;
        }
        info!(
            key = under.key_id,
            values = under.count,
            standing = standing(under, ring)
        );
    }
    info!(resealed, unreadable, remaining, "rotated");
    if remaining > 0 {
        bail!(
            "{remaining} values are still sealed under other keys than the first, {unreadable} of them do not open"
        );
    }
    Ok(())
}

/// What an operator has to know of a key.
fn standing(under: &SealedUnder, ring: &[String]) -> &'static str {
    if under.is_first {
        "the first: it seals"
    } else if ring.contains(&under.key_id) {
        "an older one: keep it until it has no values"
    } else {
        "not in CALENDAR_TOKEN_KEYS: add it again, or the users have to sign in at the provider again"
    }
}

fn line(under: &SealedUnder, ring: &[String]) -> String {
    format!(
        "{}\t{}\t{}\n",
        under.key_id,
        under.count,
        standing(under, ring)
    )
}
