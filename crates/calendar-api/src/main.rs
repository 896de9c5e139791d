//! The command line of the API: serve, migrate, print the configuration.

mod keys;
mod wiring;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use calendar_postgres::MigrationState;
use calendar_runtime::config::{Config, Environment, KeysConfig, MigrateConfig, help};
use calendar_runtime::startup::{DATABASE_WAIT, StartError, wait_for_database};
use calendar_runtime::{ErrorChain, cli, metrics, shutdown, telemetry};
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{error, info, warn};

use keys::KeysCommand;
use wiring::{Adapters, CHECKS};

/// How long requests in flight have once we are asked to stop. After ten seconds, service managers kill.
const LAST_REQUESTS: Duration = Duration::from_secs(9);

/// Serves the calendar API.
#[derive(Parser)]
#[command(name = "calendar-api", version, after_help = help())]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Print the configuration, with secrets hidden, and exit.
    #[arg(long)]
    print_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Bring the database up to date, and exit.
    Migrate,
    /// Print the contract (OpenAPI 3.1), and exit.
    Openapi,
    /// Look after the keys that seal tokens, and exit.
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = Environment::of_process();
    match arguments.command {
        Some(Command::Migrate) => match MigrateConfig::read(&environment, CHECKS.database_url) {
            Ok(config) => end(migrate(&config).await),
            Err(error) => cli::refuse("calendar-api", &error),
        },
        Some(Command::Openapi) => {
            cli::print(calendar_api::openapi());
            ExitCode::SUCCESS
        }
        Some(Command::Keys(command)) => match KeysConfig::read(&environment, CHECKS) {
            Ok(config) => end(keys::run(command, &config).await),
            Err(error) => cli::refuse("calendar-api", &error),
        },
        None => {
            let read = Config::read(&environment, CHECKS)
                .and_then(|config| Adapters::new(&config).map(|adapters| (config, adapters)));
            match read {
                Ok((config, _)) if arguments.print_config => {
                    cli::print_config("calendar-api", &config);
                    ExitCode::SUCCESS
                }
                Ok((config, adapters)) => end(serve(&config, adapters).await),
                Err(error) => cli::refuse("calendar-api", &error),
            }
        }
    }
}

/// The one place where what ended the process is logged.
fn end(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{}", ErrorChain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn migrate(config: &MigrateConfig) -> anyhow::Result<()> {
    telemetry::init(&config.log).context("setting up logs")?;
    let stop = shutdown::listen().context("listening for signals")?;
    let database = wiring::database(&config.database, 1)?;
    wait_for_database(DATABASE_WAIT, &stop, || database.ping()).await?;
    let applied = calendar_postgres::migrate(&config.database.url)
        .await
        .context("migrating")?;
    for name in &applied {
        info!(migration = name, "applied");
    }
    info!(applied = applied.len(), "the database is up to date");
    Ok(())
}

async fn serve(config: &Config, adapters: Adapters) -> anyhow::Result<()> {
    telemetry::init(&config.log).context("setting up logs")?;
    cli::log_warnings(config);
    let stop = shutdown::listen().context("listening for signals")?;
    let state = wait_for_database(DATABASE_WAIT, &stop, || adapters.database.migration_state());
    match state.await {
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

    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listening on {}", config.listen))?;
    let bound = listener.local_addr().context("asking for the address")?;
    let public_url = config.public_url(bound);
    info!(version = env!("CARGO_PKG_VERSION"), listen = %bound, public_url, "serving");

    let database = adapters.database.clone();
    let metrics = metrics::install("calendar-api", env!("CARGO_PKG_VERSION"), None, move || {
        database.measure();
    })?;
    let app = calendar_api::router(adapters.state(config, public_url, metrics))
        .into_make_service_with_connect_info::<SocketAddr>();
    // Answers are small and whole: waiting for more to send only delays them.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let serving = axum::serve(listener, app)
        .with_graceful_shutdown(shutdown::stopped(stop.clone()))
        .into_future();
    tokio::select! {
        served = serving => served.context("serving")?,
        () = patience(stop) => warn!("some requests did not end in time"),
    }
    info!("stopped");
    Ok(())
}

/// Ends so long after the stop was asked for that requests in flight have had their time.
async fn patience(stop: watch::Receiver<bool>) {
    shutdown::stopped(stop).await;
    tokio::time::sleep(LAST_REQUESTS).await;
}

#[cfg(test)]
mod tests {
    use calendar_runtime::config::ConfigError;

    use super::*;

    #[test]
    fn one_thing_at_a_time() {
        let parse = |arguments: &[&str]| {
            Arguments::try_parse_from([&["calendar-api"], arguments].concat()).is_ok()
        };
        assert!(parse(&[]) && parse(&["migrate"]) && parse(&["openapi"]));
        assert!(parse(&["--print-config"]));
        assert!(!parse(&["--print-config", "migrate"]));
        assert!(!parse(&["migrate", "--print-config"]));
    }

    #[test]
    fn migrating_refuses_a_wrong_parameter_as_a_mistake_of_its_variable() {
        let environment: Environment = [("DATABASE_URL", "postgres://me@db/cal?sslmode=on")]
            .into_iter()
            .collect();
        let error: ConfigError =
            MigrateConfig::read(&environment, CHECKS.database_url).unwrap_err();
        let mistakes = error.mistakes();
        assert_eq!(mistakes.len(), 1, "{error}");
        assert_eq!(mistakes[0].variable, "DATABASE_URL");
        assert!(mistakes[0].what.contains("sslmode"), "{error}");
    }
}
