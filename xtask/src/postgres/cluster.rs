//! The private cluster: where its files stand, whose they are, how it is made, started and stopped.
//!
//! PostgreSQL refuses to run as root. As root, its programs run as `postgres` (or `nobody`), and the
//! files must be where that user can go: under .local/pg when everybody may pass the directories
//! above it, else under /var/lib/calendar-sync, in a directory named after the checkout's path.
//! `.local/pg/location` always says where.

use std::hash::{Hash as _, Hasher as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::binaries;
use crate::{database, debian, workspace};

/// How long a server may take to accept connections.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The role that owns everything in the cluster.
const ROLE: &str = "calendar";

pub(super) struct Cluster {
    /// Owned by the user that the server runs as; holds `data` and `server.log`.
    home: PathBuf,
    binaries: PathBuf,
    /// Whom the programs run as when xtask is root.
    user: Option<User>,
}

#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Cluster {
    /// The cluster of this checkout; made when there is none, or only half of one.
    pub(super) fn open() -> Result<Self> {
        let user = if debian::is_root()? {
            Some(unprivileged_user()?)
        } else {
            None
        };
        let home = home(user)?;
        let version = std::fs::read_to_string(home.join("data/PG_VERSION")).ok();
        let major = version.and_then(|text| text.trim().parse().ok());
        let cluster = Self {
            binaries: binaries::find_or_install(major)?,
            home,
            user,
        };
        if !cluster.ready_marker().exists() {
            cluster.initialise()?;
        }
        Ok(cluster)
    }

    /// Starts the server when it isn't running; answers the URL of `database`, created when missing.
    pub(super) async fn start(&self, database: &str) -> Result<String> {
        let password = read_kept("password")
            .context(".local/pg/password is missing: start anew with `cargo xtask dev --fresh`")?;
        // A server that a killed command left may still be starting, or be dying itself.
        let began = Instant::now();
        let (admin, client) = loop {
            let port = if self.is_running()? {
                self.port_of_running()
            } else {
                None
            };
            let port = match port {
                Some(port) => Ok(port),
                None => self.launch_on_free_port(),
            };
            let connected = match port {
                Ok(port) => {
                    let admin = format!("postgres://{ROLE}:{password}@127.0.0.1:{port}/postgres");
                    database::connect(&admin)
                        .await
                        .map(|client| (admin, client))
                }
                Err(error) => Err(error),
            };
            match connected {
                Ok(connected) => break connected,
                Err(error) if began.elapsed() > START_LIMIT => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let exists = client
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&database])
            .await?;
        if exists.is_none() {
            client
                .batch_execute(&format!("CREATE DATABASE {database}"))
                .await?;
        }
        Ok(database::with_database(&admin, database))
    }

    /// Stops the server; connections still open are ended.
    pub(super) fn stop(&self) -> Result<()> {
        if self.is_running()? {
            self.run(
                "pg_ctl",
                &[
                    "stop",
                    "--silent",
                    "--wait",
                    "--mode=fast",
                    "--pgdata",
                    &self.data(),
                ],
            )?;
        }
        Ok(())
    }

    fn port_of_running(&self) -> Option<u16> {
        let lines = std::fs::read_to_string(self.home.join("data/postmaster.pid")).ok()?;
        lines.lines().nth(3)?.trim().parse().ok()
    }

    fn launch_on_free_port(&self) -> Result<u16> {
        // Another program may have taken the port since; any free one will do.
        let kept = read_kept("port").and_then(|text| text.parse::<u16>().ok());
        let free = kept.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
        let port = match free {
            Some(port) => port,
            None => TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port(),
        };
        keep("port", &port.to_string())?;
        self.launch(port)?;
        Ok(port)
    }

    fn launch(&self, port: u16) -> Result<()> {
        let mut options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories= \
             -c max_connections=200 -c shared_buffers=256MB -c max_wal_size=2GB -c timezone=UTC \
             -c log_timezone=UTC"
        );
        // Lets tests and benchmarks count statements; part of most packages, but not of all.
        if self.binaries.join("../lib/pg_stat_statements.so").exists() {
            options.push_str(" -c shared_preload_libraries=pg_stat_statements");
        }
        let log = self.home.join("server.log");
        let started = self.run(
            "pg_ctl",
            &[
                "start",
                "--silent",
                "--wait",
                "--timeout=60",
                "--pgdata",
                &self.data(),
                "--log",
                &log.display().to_string(),
                "--options",
                &options,
            ],
        );
        started.with_context(|| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(5).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            format!(
                "PostgreSQL did not start; the end of {}:\n{}\n",
                log.display(),
                last.join("\n")
            )
        })
    }

    fn initialise(&self) -> Result<()> {
        println!("making a PostgreSQL cluster in {}", self.home.display());
        // What an interrupted attempt left behind.
        let _ = std::fs::remove_dir_all(self.home.join("data"));
        let password = workspace::random_hex(16)?;
        keep("password", &password)?;
        let password_file = self.home.join("password");
        std::fs::write(&password_file, &password)?;
        self.hand_over(&password_file)?;
        let password_argument = format!("--pwfile={}", password_file.display());
        let data = self.data();
        let initdb = |locale: &str| {
            self.run(
                "initdb",
                &[
                    // A password sent plainly over loopback: others on this machine stay out, and a
                    // debug build doesn't spend its time on SCRAM for each of a test's connections.
                    "--auth=password",
                    "--username",
                    ROLE,
                    &password_argument,
                    "--encoding=UTF8",
                    locale,
                    "--pgdata",
                    &data,
                ],
            )
        };
        // C.UTF-8 knows the case of letters beyond ASCII; not every system has it.
        let made = initdb("--locale=C.UTF-8").or_else(|_| initdb("--locale=C"));
        std::fs::remove_file(&password_file)?;
        made?;
        std::fs::write(self.ready_marker(), "")?;
        Ok(())
    }

    fn is_running(&self) -> Result<bool> {
        let status = self
            .command("pg_ctl")
            .args(["status", "--pgdata", &self.data()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        Ok(status.success())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        // Into a file, not a pipe: the server inherits it from pg_ctl and would hold a pipe open.
        let output = self.home.join("command.log");
        let file = std::fs::File::create(&output)?;
        let status = self
            .command(program)
            .args(arguments)
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("cannot run {program}"))?;
        if !status.success() {
            let said = std::fs::read_to_string(&output).unwrap_or_default();
            bail!("{program} failed ({status}): {}", said.trim());
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        // A group of its own: a terminal's Ctrl-C must not reach the server before its clients end.
        command
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .process_group(0);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn hand_over(&self, path: &Path) -> Result<()> {
        match self.user {
            Some(user) => Ok(chown(path, Some(user.uid), Some(user.gid))?),
            None => Ok(()),
        }
    }

    fn data(&self) -> String {
        self.home.join("data").display().to_string()
    }

    fn ready_marker(&self) -> PathBuf {
        self.home.join("ready")
    }
}

/// Removes the cluster of this checkout, also one that another PostgreSQL made; the next `open`
/// makes a new one.
pub(super) fn remove_any() -> Result<()> {
    let user = if debian::is_root()? {
        Some(unprivileged_user()?)
    } else {
        None
    };
    let home = choose_home(user)?;
    if !home.exists() {
        return Ok(());
    }
    if let Ok(cluster) = Cluster::open() {
        cluster.stop()?;
    }
    std::fs::remove_dir_all(&home).with_context(|| format!("cannot remove {}", home.display()))
}

/// `postgres`, else `nobody`.
fn unprivileged_user() -> Result<User> {
    let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    let find = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some(User {
            uid: numbers.next()?.ok()?,
            gid: numbers.next()?.ok()?,
        })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .context("PostgreSQL refuses to run as root and neither postgres nor nobody is a user here")
}

/// Where the cluster stands; created and handed to `user`.
fn home(user: Option<User>) -> Result<PathBuf> {
    let home = choose_home(user)?;
    keep("location", &home.display().to_string())?;
    std::fs::create_dir_all(&home).with_context(|| format!("cannot create {}", home.display()))?;
    if let Some(user) = user {
        chown(&home, Some(user.uid), Some(user.gid))?;
    }
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700))?;
    Ok(home)
}

fn choose_home(user: Option<User>) -> Result<PathBuf> {
    let directory = super::directory()?.canonicalize()?;
    let inside = directory.join("cluster");
    let mut hasher = std::hash::DefaultHasher::new();
    directory.hash(&mut hasher);
    let outside = PathBuf::from(format!("/var/lib/calendar-sync/{:016x}", hasher.finish()));
    // Where it was, but not where it was for the checkout that this one is a copy of.
    let kept = read_kept("location").map(PathBuf::from);
    if let Some(kept) = kept.filter(|kept| *kept == inside || *kept == outside) {
        return Ok(kept);
    }
    let everybody_may_pass = |path: &Path| {
        path.metadata()
            .is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    };
    if user.is_none() || directory.ancestors().all(everybody_may_pass) {
        return Ok(inside);
    }
    Ok(outside)
}

/// A small file beside the cluster.
fn read_kept(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(workspace::local_dir().join("pg").join(name)).ok()?;
    Some(text.trim().to_owned())
}

fn keep(name: &str, value: &str) -> Result<()> {
    workspace::write_private(&super::directory()?.join(name), value)
}
