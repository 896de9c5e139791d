//! `cargo xtask test`: every test, with a PostgreSQL and the service's programs.

use std::path::PathBuf;

use anyhow::Result;
use cargo_metadata::MetadataCommand;
use tokio::process::Command;

use crate::postgres::Postgres;
use crate::process::ProcessGroup;
use crate::workspace;

/// The programs that the scenarios under tests/ run.
pub(crate) const PROGRAMS: [&str; 3] = ["calendar-api", "calendar-worker", "calendar-simulator"];

/// Runs `cargo test` with `arguments`, over the whole workspace unless they name a package.
pub(crate) async fn run(arguments: &[String]) -> Result<()> {
    let server = Postgres::start().await?;
    let names_package = arguments.iter().any(|argument| {
        argument == "-p" || argument == "--package" || argument.starts_with("--package=")
    });
    // Programs and tests in one build: apart, their features differ and half of it is built twice.
    let mut build = cargo("build");
    if names_package {
        for program in PROGRAMS {
            build.args(["--package", program]);
        }
        build.arg("--bins");
    } else {
        build.args(["--workspace", "--bins", "--tests"]);
    }
    ProcessGroup::spawn("cargo build", &mut build)?
        .success()
        .await?;
    let mut test = cargo("test");
    if !names_package {
        test.arg("--workspace");
    }
    test.args(arguments)
        .env("DATABASE_URL", server.url())
        .env("CALENDAR_E2E_BIN_DIR", program_directory()?);
    ProcessGroup::spawn("cargo test", &mut test)?
        .success()
        .await
}

/// Where cargo puts the programs of a debug build.
pub(crate) fn program_directory() -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .cargo_path(workspace::cargo())
        .manifest_path(workspace::root().join("Cargo.toml"))
        .no_deps()
        .exec()?;
    Ok(metadata.target_directory.into_std_path_buf().join("debug"))
}

/// A cargo command in the checkout.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo.arg(command).current_dir(workspace::root());
    cargo
}
