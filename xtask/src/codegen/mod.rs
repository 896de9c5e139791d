//! Writes what is generated, or checks that it is fresh. What comes from the migrations has its source in the
//! catalog of a scratch database that is migrated up, so it can't differ from what runs; the contract is
//! printed by the program that serves it.

mod catalog;
mod database_md;
mod schema_rs;

use std::process;

use anyhow::{Context as _, Result, bail};

use crate::postgres::Postgres;
use crate::test::cargo;
use crate::{database, migrate, workspace};

const COMMAND: &str = "cargo xtask codegen";

pub(crate) async fn run(check: bool) -> Result<()> {
    let catalog = read_catalog().await?;
    let generated = [
        (
            "crates/calendar-postgres/src/schema.rs",
            schema_rs::render(&catalog)?,
        ),
        ("docs/database.md", database_md::render(&catalog)?),
    ];
    write(&generated, check, COMMAND)?;
    // After schema.rs: with a stale one the program may not compile.
    write(&[("docs/openapi.json", contract().await?)], check, COMMAND)
}

/// Writes generated files, or says which are stale and which command writes them.
pub(crate) fn write(generated: &[(&str, String)], check: bool, command: &str) -> Result<()> {
    let mut stale = Vec::new();
    for (path, text) in generated {
        let file = workspace::root().join(path);
        if std::fs::read_to_string(&file).is_ok_and(|present| present == *text) {
            continue;
        }
        if check {
            stale.push(*path);
        } else {
            std::fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
            println!("wrote {path}");
        }
    }
    if !stale.is_empty() {
        bail!("stale: {}; run `{command}` and commit", stale.join(", "));
    }
    Ok(())
}

async fn contract() -> Result<String> {
    let mut program = cargo("run");
    program.args(["--quiet", "--package", "calendar-api", "--", "openapi"]);
    let output = program
        .stderr(process::Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run calendar-api")?;
    if !output.status.success() {
        bail!("`calendar-api openapi` failed ({})", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

async fn read_catalog() -> Result<catalog::Catalog> {
    let server = Postgres::start().await?;
    let admin = database::connect(server.url()).await?;
    let scratch = format!("calendar_codegen_{}", process::id());
    database::recreate(&admin, &scratch).await?;
    let read = async {
        let client = database::connect(&database::with_database(server.url(), &scratch)).await?;
        client
            .batch_execute("SET client_min_messages = warning")
            .await?;
        migrate::up(&client, &migrate::all()?, false).await?;
        catalog::read(&client).await
    }
    .await;
    database::drop_database(&admin, &scratch).await?;
    read
}
