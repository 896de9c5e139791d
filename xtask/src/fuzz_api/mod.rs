//! `cargo xtask fuzz-api`: schemathesis against the running API, all its checks, what the contract allows and what it
//! does not. It runs against the demo of `dev`, on a database of its own that is made anew each time.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::process::Command;

use crate::dev::{self, Account, Demo};
use crate::postgres::Postgres;
use crate::process::{self, ProcessGroup};
use crate::{database, debian, workspace};

const VERSION: &str = "4.32.5";
const DATABASE: &str = "calendar_fuzz";
/// Nobody's requests are too many here.
const SETTINGS: &[(&str, &str)] = &[("CALENDAR_RATE_LIMIT_PER_MINUTE", "1000000")];

/// Operations that take away what others need, a calendar, the session, the user: each has a run of its own with a session
/// of its own, after all others.
const TAKES_AWAY: &[&str] = &["disconnect", "end_session", "sign_out", "delete_me"];

/// How hard to try.
#[derive(Args, Clone, Copy)]
pub(crate) struct Options {
    /// Requests that are made up for each operation, in each phase.
    #[arg(long, default_value_t = 50)]
    max_examples: u32,
    /// Repeat a run: the seed that it printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Use the programs that a build before this one left.
    #[arg(long)]
    no_build: bool,
}

pub(crate) async fn run(options: Options) -> Result<()> {
    let _only_one = dev::lock()?;
    let schemathesis = schemathesis().await?;
    if !options.no_build {
        dev::build().await?;
    }
    let server = Postgres::start().await?;
    let admin = database::connect(server.url()).await?;
    database::recreate(&admin, DATABASE).await?;
    let database_url = database::with_database(server.url(), DATABASE);
    let Demo {
        services,
        account,
        connections,
        ..
    } = Demo::start(&database_url, SETTINGS).await?;
    let connection = &connections.first().context("no calendar")?.id;
    let events = account.send("GET", "/v1/events?limit=1", None).await?;
    let event = events["data"][0]["id"].as_str().context("no event")?;

    let others = TAKES_AWAY
        .iter()
        .flat_map(|id| ["--exclude-operation-id", id]);
    let mut runs = vec![(account.token, others.collect::<Vec<_>>())];
    for id in TAKES_AWAY {
        let token = Account::sign_in(&services).await?.token;
        runs.push((token, vec!["--include-operation-id", id]));
    }
    let mut failed = false;
    for (token, operations) in runs {
        let mut command = process::dying_with_us(&schemathesis);
        command
            .current_dir(directory())
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .env("PYTHONPATH", workspace::root().join("xtask/src/fuzz_api"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FUZZ_CONNECTION", connection)
            .env("FUZZ_EVENT", event)
            .args(["run", &format!("{}/openapi.json", services.api_url)])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--checks", "all", "--generation-database", "none"])
            .args(["--max-examples", &options.max_examples.to_string()])
            .args(operations);
        if let Some(seed) = options.seed {
            command.args(["--seed", &seed.to_string()]);
        }
        let run = ProcessGroup::spawn("schemathesis", &mut command)?;
        failed |= run.success().await.is_err();
    }
    if failed {
        bail!("the API and its contract differ: see above");
    }
    Ok(())
}

fn directory() -> PathBuf {
    workspace::local_dir().join("fuzz-api")
}

/// The program, in an environment of Python's that holds nothing else; made at the first run.
async fn schemathesis() -> Result<PathBuf> {
    let environment = directory().join(format!("schemathesis-{VERSION}"));
    let program = environment.join("bin/schemathesis");
    if program.exists() {
        return Ok(program);
    }
    println!("installing schemathesis {VERSION} under .local");
    if !has_venv() && debian::may_install()? {
        debian::install("python3-venv")?;
    }
    if !has_venv() {
        bail!(
            "Python's venv was not found: install Python 3 with it (Debian, Ubuntu: apt-get install \
             python3-venv)"
        );
    }
    let _ = std::fs::remove_dir_all(&environment);
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&environment);
    ProcessGroup::spawn("python3 -m venv", &mut venv)?
        .success()
        .await?;
    let mut pip = Command::new(environment.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"])
        .arg(format!("schemathesis=={VERSION}"));
    let installed = ProcessGroup::spawn("pip", &mut pip)?.success().await;
    installed.context("schemathesis comes from PyPI, which cannot be reached or refuses")?;
    Ok(program)
}

/// Debian's Python has the module `venv` and not what it needs.
fn has_venv() -> bool {
    let output = std::process::Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output();
    output.is_ok_and(|output| output.status.success())
}
