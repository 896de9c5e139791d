//! `cargo xtask simulate`: the seeded simulation, built for speed, with a PostgreSQL of its own.

use anyhow::Result;

use crate::postgres::Postgres;
use crate::process::ProcessGroup;
use crate::test::cargo;

pub(crate) async fn run(arguments: &[String]) -> Result<()> {
    let server = Postgres::start().await?;
    let mut command = cargo("run");
    command
        .args([
            "--release",
            "--quiet",
            "--package",
            "calendar-simulation",
            "--",
        ])
        .args(arguments)
        .env("DATABASE_URL", server.url());
    ProcessGroup::spawn("the simulation", &mut command)?
        .success()
        .await
}
