//! The project's own commands, run as `cargo xtask <command>`: everything on one machine for a
//! developer, and what CI runs.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks by printing"
)]

mod codegen;
mod database;
mod migrate;
mod postgres;
mod process;
mod workspace;

use anyhow::{Result, bail};
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
    /// Migrate the database of DATABASE_URL, or the one of this checkout.
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Write what is generated from the migrations: schema.rs, docs/database.md.
    Codegen {
        /// Write nothing; fail when a file is stale.
        #[arg(long)]
        check: bool,
    },
}

// One thread: children are tied to the thread that started them (see process.rs).
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let outcome = tokio::select! {
        outcome = run(Arguments::parse().command) => outcome,
        interrupted = interrupted() => interrupted,
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Migrate(command) => migrate::run(command).await,
        Command::Codegen { check } => codegen::run(check).await,
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
    bail!("interrupted")
}
