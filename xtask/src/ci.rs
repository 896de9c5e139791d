//! `cargo xtask ci`: what CI runs, step by step, each with its time; stops at the first that fails.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::postgres::Postgres;
use crate::process::ProcessGroup;
use crate::test::cargo;
use crate::{arrows, codegen, conformance, database, dev, migrate, test};

pub(crate) async fn run() -> Result<()> {
    let began = Instant::now();
    let mut times = Vec::new();
    step(
        &mut times,
        "format",
        run_cargo("fmt", &["--all", "--check"], &[]),
    )
    .await?;
    step(&mut times, "arrows between crates", async {
        arrows::check()
    })
    .await?;
    let clippy = ["--workspace", "--all-targets", "--", "-D", "warnings"];
    step(&mut times, "clippy", run_cargo("clippy", &clippy, &[])).await?;
    let mut bare = vec!["--lib", "--no-default-features"];
    bare.extend(arrows::libraries().flat_map(|library| ["--package", library]));
    bare.extend(["--", "-D", "warnings"]);
    step(
        &mut times,
        "libraries without their programs",
        run_cargo("clippy", &bare, &[]),
    )
    .await?;
    // Held over the steps that need it, so that it starts once.
    let server = Postgres::start().await?;
    step(&mut times, "generated files", codegen::run(true)).await?;
    step(
        &mut times,
        "migrations up, down, up",
        each_migration(&server),
    )
    .await?;
    step(&mut times, "tests", async {
        let output = test::run_and_collect(&[]).await?;
        conformance::update(&output, true)
    })
    .await?;
    let doc = ["--workspace", "--no-deps", "--all-features", "--quiet"];
    let strict = [("RUSTDOCFLAGS", "-D warnings")];
    step(&mut times, "documentation", run_cargo("doc", &doc, &strict)).await?;
    // With the programs that the tests built.
    let demo = dev::Options {
        once: true,
        fresh: false,
        no_build: true,
    };
    step(&mut times, "dev --once", dev::run(demo)).await?;
    drop(server);
    println!("\nall passed in {}", text(began.elapsed()));
    for (name, time) in times {
        println!("  {:>7}  {name}", text(time));
    }
    Ok(())
}

async fn step(
    times: &mut Vec<(&'static str, Duration)>,
    name: &'static str,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    println!("\n=== {name}");
    let began = Instant::now();
    work.await
        .with_context(|| format!("the step \"{name}\" failed"))?;
    println!("=== {name}: {}", text(began.elapsed()));
    times.push((name, began.elapsed()));
    Ok(())
}

async fn run_cargo(command: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    let mut command_line = cargo(command);
    command_line
        .args(arguments)
        .envs(environment.iter().copied());
    ProcessGroup::spawn(&format!("cargo {command}"), &mut command_line)?
        .success()
        .await
}

/// Applies, reverts and re-applies each migration in turn; then all down and up again.
async fn each_migration(server: &Postgres) -> Result<()> {
    let admin = database::connect(server.url()).await?;
    let scratch = format!("calendar_ci_{}", std::process::id());
    database::recreate(&admin, &scratch).await?;
    let outcome = async {
        let client = database::connect(&database::with_database(server.url(), &scratch)).await?;
        client
            .batch_execute("SET client_min_messages = warning")
            .await?;
        let all = migrate::all()?;
        for count in 1..=all.len() {
            migrate::up(&client, &all[..count], false).await?;
            migrate::down(&client, &all).await?;
            migrate::up(&client, &all[..count], false).await?;
            println!("  {}", all[count - 1].name);
        }
        while migrate::down(&client, &all).await?.is_some() {}
        migrate::up(&client, &all, false).await?;
        Ok(())
    }
    .await;
    database::drop_database(&admin, &scratch).await?;
    outcome
}

fn text(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        return format!("{:.1} s", time.as_secs_f64());
    }
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
