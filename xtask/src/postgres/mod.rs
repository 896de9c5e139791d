//! A PostgreSQL of this checkout's own, under .local/pg: found or installed, started for the
//! command that needs it, stopped when the last such command ends. `DATABASE_URL`, when set, wins.
//!
//! Commands may run side by side: each holds a shared lock on `.local/pg/users` while it uses the
//! server, and whoever can turn that lock into an exclusive one at its end is the last and stops
//! the server. Locks die with their process, so a killed command leaves nothing to clean up: the
//! next one takes over the running server and stops it at its end.

mod binaries;
mod cluster;

use std::fs::{File, OpenOptions};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{database, workspace};
use cluster::Cluster;

/// The database that `dev` and `migrate` work on.
const DATABASE: &str = "calendar";

/// A PostgreSQL to work with, for as long as this value lives.
pub(crate) struct Postgres {
    url: String,
    own: Option<Own>,
}

struct Own {
    cluster: Cluster,
    users: File,
}

impl Postgres {
    /// The server of `DATABASE_URL`, else this checkout's own one, started when it isn't running.
    pub(crate) async fn start() -> Result<Self> {
        if let Some(url) = workspace::env("DATABASE_URL") {
            return Ok(Self { url, own: None });
        }
        let _turn = turn()?;
        let users = lock_file("users")?;
        users.lock_shared()?;
        let cluster = Cluster::open()?;
        let url = cluster.start(DATABASE).await?;
        let own = Some(Own { cluster, users });
        Ok(Self { url, own })
    }

    /// The same with an empty working database. The whole cluster is made anew, unless another
    /// command uses it.
    pub(crate) async fn start_fresh() -> Result<Self> {
        if workspace::env("DATABASE_URL").is_some() {
            bail!(
                "--fresh throws a database away, and DATABASE_URL names one that is not xtask's: \
                 empty it yourself, or unset DATABASE_URL"
            );
        }
        {
            let _turn = turn()?;
            let users = lock_file("users")?;
            if users.try_lock().is_ok() {
                cluster::remove_any()?;
            }
        }
        let server = Self::start().await?;
        let admin = database::with_database(&server.url, "postgres");
        database::recreate(&database::connect(&admin).await?, DATABASE).await?;
        Ok(server)
    }

    /// The URL of the working database.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether the server is this checkout's own.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(own) = &self.own else { return };
        let stopped = turn().and_then(|_turn| {
            own.users.unlock()?;
            if own.users.try_lock().is_ok() {
                own.cluster.stop()?;
            }
            Ok(())
        });
        if let Err(error) = stopped {
            eprintln!("warning: PostgreSQL was not stopped: {error:#}");
        }
    }
}

/// Held while the server is started or stopped: one command at a time.
fn turn() -> Result<File> {
    let lock = lock_file("lock")?;
    lock.lock()?;
    Ok(lock)
}

fn lock_file(name: &str) -> Result<File> {
    let path = directory()?.join(name);
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn directory() -> Result<PathBuf> {
    let directory = workspace::local_dir().join("pg");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}
