//! The project's own commands, run as `cargo xtask <command>`: everything on one machine for a
//! developer, and what CI runs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks by printing"
)]

mod arrows;
mod ci;
mod codegen;
mod conformance;
mod database;
mod debian;
mod dev;
mod fuzz_api;
mod migrate;
mod postgres;
mod process;
mod simulate;
mod test;
mod workspace;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Build, run, test and check the project."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine: PostgreSQL, simulator, API, worker, a demo account.
    Dev(dev::Options),
    /// Run every test, with a PostgreSQL; the arguments go to `cargo test`.
    #[command(trailing_var_arg = true, allow_hyphen_values = true)]
    Test { arguments: Vec<String> },
    /// Run what CI runs.
    Ci,
    /// Migrate the database of `DATABASE_URL`, or the one of this checkout.
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Write what is generated: schema.rs, docs/database.md, docs/openapi.json.
    Codegen {
        /// Write nothing; fail when a file is stale.
        #[arg(long)]
        check: bool,
    },
    /// Run the conformance scenarios and write docs/conformance.md.
    Conformance {
        /// Write nothing; fail when the page says anything else.
        #[arg(long)]
        check: bool,
    },
    /// Run the seeded simulation; the arguments go to it (`--seed N --runs K`, `--help`).
    #[command(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        disable_help_flag = true
    )]
    Simulate { arguments: Vec<String> },
    /// Try the running API with schemathesis, against what its contract says.
    FuzzApi(fuzz_api::Options),
}

// One thread: children are tied to the thread that started them (see process.rs).
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let command = Arguments::parse().command;
    // `dev` has no other end.
    let ends_by_interrupt = matches!(&command, Command::Dev(options) if !options.once);
    let outcome = tokio::select! {
        outcome = run(command) => outcome,
        interrupted = interrupted() => interrupted,
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) if ends_by_interrupt && error.is::<Interrupted>() => {
            println!("\nstopped; the data is kept");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Dev(options) => dev::run(options).await,
        Command::Test { arguments } => test::run(&arguments).await,
        Command::Ci => ci::run().await,
        Command::Migrate(command) => migrate::run(command).await,
        Command::Codegen { check } => codegen::run(check).await,
        Command::Conformance { check } => conformance::run(check).await,
        Command::Simulate { arguments } => simulate::run(&arguments).await,
        Command::FuzzApi(options) => fuzz_api::run(options).await,
    }
}

/// Ends with an error on the first signal that asks to stop. The command's future is dropped then,
/// and with it the servers and processes that it started.
async fn interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Err(Interrupted.into())
}

/// A signal asked to stop.
#[derive(Debug)]
struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}
