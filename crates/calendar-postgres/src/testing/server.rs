//! A PostgreSQL of a test's own, for what a shared one must not suffer: other settings, a stop, a crash.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long a server may take to take connections, or to stop.
const LIMIT: Duration = Duration::from_mins(1);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A server in a directory of its own, thrown away with it when dropped.
pub struct TestServer {
    home: PathBuf,
    binaries: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    process: Option<Child>,
}

/// How a server is stopped: as by `pg_ctl stop --mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Transactions are rolled back, everything is written.
    Fast,
    /// As in a crash: nothing is written any more, and the next start recovers.
    Immediate,
}

impl TestServer {
    /// The role that owns everything.
    pub const ROLE: &str = "calendar";
    /// Its password.
    pub const PASSWORD: &str = "hunter2";

    /// A cluster that is not started yet.
    #[must_use]
    pub fn create() -> Self {
        let user = unprivileged();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("calendar-server-{}-{number}", std::process::id());
        let home = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir(&home).expect("a directory can be made");
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let server = Self {
            home,
            binaries: binaries(),
            user,
            port,
            process: None,
        };
        server.own(&server.home, 0o700);
        server.write("password", Self::PASSWORD);
        let made = server
            .command("initdb")
            .args(["--username", Self::ROLE, "--pwfile=password"])
            .args(["--encoding=UTF8", "--locale=C", "--auth=password"])
            .args(["--no-sync", "--pgdata=data"])
            .status();
        assert!(made.expect("initdb runs").success());
        server
    }

    /// Its directory; the cluster is `data` in it.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Writes a file into its directory, readable by the server alone.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.home.join(name);
        std::fs::write(&path, text).expect("a file can be written");
        self.own(&path, 0o600);
    }

    /// `postgres://…` of this database over TCP.
    #[must_use]
    pub fn url(&self, host: &str, database: &str) -> String {
        let (role, password, port) = (Self::ROLE, Self::PASSWORD, self.port);
        format!("postgres://{role}:{password}@{host}:{port}/{database}")
    }

    /// Starts it with these settings (`name=value`), and waits until it takes connections. What is committed
    /// survives [`Stop::Immediate`], though not a loss of power.
    pub async fn start(&mut self, settings: &[&str]) {
        let log = self.home.join("server.log");
        let log = File::options().create(true).append(true).open(log);
        let log = log.expect("a file can be written");
        let mut command = self.command("postgres");
        command.args(["-D", "data"]).stderr(log);
        let port = format!("port={}", self.port);
        let own = [
            port.as_str(),
            "fsync=off",
            "listen_addresses=localhost,127.0.0.1",
            "unix_socket_directories=",
        ];
        for setting in own.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        self.process = Some(command.spawn().expect("postgres starts"));
        // Says in its file when it is ready, so that nobody has to sign in to know.
        let pid_file = self.home.join("data/postmaster.pid");
        self.wait("take connections", |process| {
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            // One that crashed may have left its own.
            text.lines().next() == Some(&process.id().to_string())
                && text.lines().nth(7).map(str::trim) == Some("ready")
        })
        .await;
    }

    /// Stops it, and waits for that.
    pub async fn stop(&mut self, stop: Stop) {
        self.signal(match stop {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        });
        self.wait("stop", |process| {
            let ended = process.try_wait().expect("a child can be waited for");
            ended.is_some()
        })
        .await;
        self.process = None;
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("server.log")).unwrap_or_default()
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("kill is there").success());
    }

    async fn wait(&mut self, what: &str, mut is_done: impl FnMut(&mut Child) -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !is_done(self.process.as_mut().expect("it was started")) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the server does not {what}:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn own(&self, path: &Path, mode: u32) {
        if let Some((uid, gid)) = self.user {
            chown(path, Some(uid), Some(gid)).expect("root may");
        }
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("the owner may");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join(program));
        command
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Not killed: its children would hold its memory, and hang on in a directory that is gone.
            let id = process.id().to_string();
            let _ = Command::new("kill").args(["-s", "QUIT", &id]).status();
            let _ = process.wait();
        }
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// The user that PostgreSQL runs as where this process is root, which it refuses.
fn unprivileged() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().expect("id is there");
    if id.stdout.trim_ascii() != b"0" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("it is there");
    let named = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let user = named("postgres").or_else(|| named("nobody"));
    Some(user.expect("root needs postgres or nobody to run it as"))
}

/// Where `initdb` and `postgres` are.
#[expect(
    clippy::disallowed_methods,
    reason = "says where the programs are, as for `cargo xtask`"
)]
fn binaries() -> PathBuf {
    let mut places: Vec<PathBuf> = std::env::var("PG_BIN")
        .into_iter()
        .map(Into::into)
        .collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        places.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    let trees = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    for tree in trees.flatten().flatten() {
        places.push(tree.path().join("bin"));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&path));
    let found = places
        .into_iter()
        .find(|place| place.join("initdb").exists());
    found.expect("PostgreSQL's programs: install them, or name their directory by PG_BIN")
}
