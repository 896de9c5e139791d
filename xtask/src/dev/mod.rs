//! `cargo xtask dev`: the whole service on this machine with a demo calendar, from nothing to the
//! first synced event, then an edit every few seconds until Ctrl-C.

mod account;
mod colleague;
mod edits;
mod http;
mod report;
mod services;

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::postgres::Postgres;
use crate::process::ProcessGroup;
use crate::test::{PROGRAMS, cargo};
use crate::{database, workspace};
pub(crate) use account::{Account, Connection};
use edits::Edits;
use services::Services;

/// How to run.
#[derive(Args, Clone, Copy)]
pub(crate) struct Options {
    /// Make a few edits, check that they arrive, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// Start from nothing: throw away the data of earlier runs.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Use the programs that a build before this one left.
    #[arg(long)]
    pub(crate) no_build: bool,
}

/// The programs, and the demo user with calendars that have had their first pass.
pub(crate) struct Demo {
    pub(crate) services: Services,
    pub(crate) account: Account,
    pub(crate) connections: Vec<Connection>,
    took: Duration,
}

impl Demo {
    /// Starts everything on a database of nobody's but the demo user's, with these settings besides its own.
    pub(crate) async fn start(database_url: &str, settings: &[(&str, &str)]) -> Result<Self> {
        services::clear_logs();
        let mut services = Services::start(database_url, settings).await?;
        let account = Account::sign_in(&services).await?;
        colleague::share(&services).await?;
        println!(
            "\nconnecting demo@example.com to the simulated Microsoft 365 through OAuth, and to the calendar that {} shares",
            colleague::UPN
        );
        let (connections, took) = account
            .connect_and_sync(&mut services, colleague::UPN)
            .await?;
        Ok(Self {
            services,
            account,
            connections,
            took,
        })
    }
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let began = Instant::now();
    let _only_one = lock()?;
    if !options.no_build {
        build().await?;
    }
    println!("starting");
    let server = if options.fresh {
        // Not before: with DATABASE_URL this fails, and the kept keys belong to what is kept.
        let server = Postgres::start_fresh().await?;
        forget()?;
        server
    } else {
        Postgres::start().await?
    };
    if !server.is_own() {
        account::refuse_other_users(&database::connect(server.url()).await?).await?;
    }
    let whose = if server.is_own() {
        "of this checkout"
    } else {
        "of DATABASE_URL"
    };
    println!("  PostgreSQL {whose}: {}", server.url());
    let Demo {
        services,
        account,
        connections,
        took,
    } = Demo::start(server.url(), &[]).await?;
    let client = database::connect(server.url()).await?;
    report::print_counts(&client, &connections, took).await?;
    let primary = connections
        .first()
        .filter(|one| one.is_primary)
        .context("no primary calendar")?;
    let shared = connections
        .iter()
        .find(|one| one.delegate_email.is_some())
        .context("no calendar of a colleague")?;
    report::print_todays_teams_meetings(&client, primary).await?;
    report::print_push(&account, &connections).await?;
    print_addresses(&services, &account, &server);
    println!("ready after {:.1} s\n", began.elapsed().as_secs_f64());

    let mut edits = Edits::new(&services, &account, primary, shared).await?;
    if options.once {
        println!("three edits at the provider, and one by Megan:");
        edits.once().await?;
        println!("all arrived; stopping");
        return Ok(());
    }
    println!(
        "an edit at the provider every few seconds; Ctrl-C stops everything and keeps the data:"
    );
    edits.keep_on().await
}

fn print_addresses(services: &Services, account: &Account, server: &Postgres) {
    let (api, token) = (&services.api_url, &account.token);
    println!("\nAPI        {api}/v1/events");
    println!("simulator  {}/admin/mailboxes", services.simulator_url);
    println!("database   psql {}", server.url());
    println!("logs       {}", services::log_file("*").display());
    println!(
        "try        curl -s -H 'Authorization: Bearer {token}' '{api}/v1/events?teams_enabled=true&limit=5'"
    );
}

/// Builds the programs.
pub(crate) async fn build() -> Result<()> {
    let began = Instant::now();
    println!("building the service and the simulator");
    let mut build = cargo("build");
    for program in PROGRAMS {
        build.args(["--package", program]);
    }
    ProcessGroup::spawn("cargo build", build.arg("--bins"))?
        .success()
        .await?;
    println!("built in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// One `dev` at a time in a checkout: two would work on the same data.
pub(crate) fn lock() -> Result<File> {
    let path = services::directory()?.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    if file.try_lock().is_err() {
        bail!("another `cargo xtask dev` or `fuzz-api` runs in this checkout: stop it first");
    }
    Ok(file)
}

/// Removes the keys, the password and the ports of earlier runs; the lock and the list of running
/// programs stay.
fn forget() -> Result<()> {
    let directory = workspace::local_dir().join("dev");
    for name in ["token-keys", "password", "simulator-port", "api-port"] {
        match std::fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
