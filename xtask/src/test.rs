//! `cargo xtask test`: every test, with a PostgreSQL and the service's programs.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Result;
use cargo_metadata::MetadataCommand;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::postgres::Postgres;
use crate::process::ProcessGroup;
use crate::workspace;

/// The programs that the scenarios under tests/ run.
pub(crate) const PROGRAMS: [&str; 3] = ["calendar-api", "calendar-worker", "calendar-simulator"];
/// The example that they run too.
const EXAMPLE: &str = "calendar-embedded";

/// The crate that runs them.
const SCENARIOS: &str = "calendar-e2e";

/// Runs `cargo test` with `arguments`, over the whole workspace unless they name a package.
pub(crate) async fn run(arguments: &[String]) -> Result<()> {
    run_into(arguments, None).await
}

/// The same, and gives what the tests printed.
pub(crate) async fn run_and_collect(arguments: &[String]) -> Result<String> {
    let mut output = String::new();
    run_into(arguments, Some(&mut output)).await?;
    Ok(output)
}

async fn run_into(arguments: &[String], output: Option<&mut String>) -> Result<()> {
    let server = Postgres::start().await?;
    let packages = packages(arguments);
    let is_release = own(arguments).any(|word| word == "--release" || word == "-r");
    // Programs and tests in one build: apart, their features differ and half of it is built twice.
    let mut build = cargo("build");
    if packages.is_empty() {
        build.args(["--workspace", "--bins", "--tests"]);
    } else {
        for program in PROGRAMS.iter().chain([&EXAMPLE]) {
            build.args(["--package", program]);
        }
        build.arg("--bins");
    }
    if is_release {
        build.arg("--release");
    }
    if packages.is_empty() || packages.contains(&SCENARIOS) {
        ProcessGroup::spawn("cargo build", &mut build)?
            .success()
            .await?;
    }
    let mut test = cargo("test");
    if packages.is_empty() {
        test.arg("--workspace");
    }
    test.args(arguments)
        .env("DATABASE_URL", server.url())
        .env("CALENDAR_E2E_BIN_DIR", program_directory(is_release)?);
    if output.is_some() {
        test.stdout(Stdio::piped());
    }
    let mut test = ProcessGroup::spawn("cargo test", &mut test)?;
    if let Some(output) = output
        && let Some(stdout) = test.stdout()
    {
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await? {
            println!("{line}");
            output.push_str(&line);
            output.push('\n');
        }
    }
    test.success().await
}

/// The packages that `arguments` name, in each of cargo's spellings.
fn packages(arguments: &[String]) -> Vec<&str> {
    let mut packages = Vec::new();
    let mut words = own(arguments);
    while let Some(word) = words.next() {
        if word == "-p" || word == "--package" {
            packages.extend(words.next());
        } else if let Some(name) = word.strip_prefix("--package=").or(word.strip_prefix("-p")) {
            packages.push(name);
        }
    }
    packages
}

/// What is for cargo, and not for the tests.
fn own(arguments: &[String]) -> impl Iterator<Item = &str> {
    let words = arguments.iter().map(String::as_str);
    words.take_while(|word| *word != "--")
}

/// Where cargo puts the programs.
pub(crate) fn program_directory(is_release: bool) -> Result<PathBuf> {
    let metadata = MetadataCommand::new()
        .cargo_path(workspace::cargo())
        .manifest_path(workspace::root().join("Cargo.toml"))
        .no_deps()
        .exec()?;
    let profile = if is_release { "release" } else { "debug" };
    Ok(metadata.target_directory.into_std_path_buf().join(profile))
}

/// A cargo command in the checkout.
pub(crate) fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo.arg(command).current_dir(workspace::root());
    cargo
}

#[cfg(test)]
mod tests {
    use super::packages;

    #[test]
    fn packages_are_found_in_each_spelling() {
        let words = "-p a --package b --package=c -pd name -- -p e";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        assert_eq!(packages(&words), ["a", "b", "c", "d"]);
        assert!(packages(&["name".to_owned()]).is_empty());
    }
}
