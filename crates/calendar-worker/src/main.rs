//! The command line of the worker: work, do what is due once, print the configuration.

mod wiring;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use calendar_postgres::{MigrationState, PgHousekeeping};
use calendar_runtime::config::{Config, Environment, help};
use calendar_runtime::startup::{DATABASE_WAIT, StartError, wait_for_database};
use calendar_runtime::{ErrorChain, cli, metrics, shutdown, telemetry};
use calendar_worker::{Worker, housekeep};
use clap::Parser;
use tracing::{error, info, warn};

use wiring::{Adapters, CHECKS};

/// Whoever runs `--once` runs it again soon: no long wait for a database that is away.
const DATABASE_WAIT_ONCE: Duration = Duration::from_secs(5);

/// Syncs connected calendars.
#[derive(Parser)]
#[command(name = "calendar-worker", version, after_help = help())]
struct Arguments {
    /// Do what is due, and exit.
    #[arg(long)]
    once: bool,
    /// Print the configuration, with secrets hidden, and exit.
    #[arg(long)]
    print_config: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let read = Config::read(&Environment::of_process(), CHECKS)
        .and_then(|config| Adapters::new(&config).map(|adapters| (config, adapters)));
    let (config, adapters) = match read {
        Ok(read) => read,
        Err(error) => return cli::refuse("calendar-worker", &error),
    };
    if arguments.print_config {
        cli::print_config("calendar-worker", &config);
        return ExitCode::SUCCESS;
    }
    match Box::pin(work(&config, &adapters, arguments.once)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The one place where what ended the process is logged.
            error!("{}", ErrorChain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn work(config: &Config, adapters: &Adapters, once: bool) -> anyhow::Result<()> {
    telemetry::init(&config.log).context("setting up logs")?;
    cli::log_warnings(config);
    if let Some(off) = adapters.push_off {
        let poll_s = config.sync.poll.as_secs();
        warn!("push off, polling every {poll_s} s: {off}");
    }
    let stop = shutdown::listen().context("listening for signals")?;
    let limit = if once {
        DATABASE_WAIT_ONCE
    } else {
        DATABASE_WAIT
    };
    match wait_for_database(limit, &stop, || adapters.database.migration_state()).await {
        Ok(MigrationState::Current) => {}
        Ok(MigrationState::Ahead) => {
            warn!(
                "the database was migrated by a newer version; migrations are backward compatible"
            );
        }
        Ok(MigrationState::Behind { pending }) => {
            return Err(StartError::NotMigrated { pending }.into());
        }
        Err(StartError::Stopped) => return Ok(()),
        Err(error) => return Err(error.into()),
    }

    if !once && let Some(listen) = config.metrics_listen {
        let database = adapters.database.clone();
        let sample = move || database.measure();
        metrics::install(
            "calendar-worker",
            env!("CARGO_PKG_VERSION"),
            Some(listen),
            sample,
        )?;
        info!(%listen, "serving metrics");
    }
    let work = Arc::new(adapters.work(config));
    let concurrency = config.sync.worker_concurrency;
    info!(version = env!("CARGO_PKG_VERSION"), worker = %work.worker(), concurrency, once, "working");
    let worker = Worker::new(work, concurrency, stop.clone());
    let store = PgHousekeeping::new(adapters.database.clone());
    let renewals = adapters.renewals(config);
    if once {
        renewals
            .run_once()
            .await
            .context("looking for subscriptions to renew")?;
        worker.run_once().await?;
        let purged = store.purge(adapters.clock.now()).await.context("purging")?;
        info!(purged, "done");
    } else {
        let renewing = renewals.run(stop.clone());
        let purging = housekeep(stop, || store.purge(adapters.clock.now()));
        tokio::join!(worker.run(), renewing, purging);
        info!("stopped");
    }
    Ok(())
}
