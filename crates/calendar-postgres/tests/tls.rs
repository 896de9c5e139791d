//! TLS to a server that takes nothing else: each `sslmode` with the right authority, a wrong one and a wrong
//! name, for the pool, for migrations and for wake-ups. The server is one of this test's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what fails here fails the test"
)]

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use calendar_domain::ports::Wakeups as _;
use calendar_postgres::{Database, MigrationState, PgConfig, PgWakeups, migrate};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use secrecy::SecretString;

/// A server under way, thrown away at its end.
struct Server {
    process: Child,
    home: PathBuf,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// The user that PostgreSQL runs as where this process is root, which it refuses.
fn unprivileged() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let named = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(|field| field.parse().unwrap());
        Some((numbers.next()?, numbers.next()?))
    };
    Some(named("postgres").or_else(|| named("nobody")).unwrap())
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
    for tree in std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
    {
        places.push(tree.unwrap().path().join("bin"));
    }
    let path = std::env::var("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&path));
    let found = places
        .into_iter()
        .find(|place| place.join("initdb").exists());
    found.expect("PostgreSQL's programs: install them, or name their directory by PG_BIN")
}

/// An authority and its certificate in PEM.
fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

impl Server {
    /// With a certificate for `localhost`, not for its address.
    async fn start(issuer: &Issuer<'_, KeyPair>) -> Self {
        let user = unprivileged();
        let home = std::env::temp_dir().join(format!("calendar-tls-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir(&home).unwrap();
        let own = |path: &Path, mode| {
            if let Some((uid, gid)) = user {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        own(&home, 0o700);
        let binaries = binaries();
        let command = |program: &str| {
            let mut command = Command::new(binaries.join(program));
            command
                .current_dir(&home)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let write = |name: &str, text: &str| {
            std::fs::write(home.join(name), text).unwrap();
            own(&home.join(name), 0o600);
        };
        write("password", "hunter2");
        let made = command("initdb")
            .args([
                "--username=calendar",
                "--pwfile=password",
                "--encoding=UTF8",
            ])
            .args(["--auth=scram-sha-256", "--no-sync", "--pgdata=data"])
            .status();
        assert!(made.unwrap().success());
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, issuer).unwrap();
        write("data/server.key", &key.serialize_pem());
        write("data/server.crt", &certificate.pem());
        write("data/pg_hba.conf", "hostssl all all all scram-sha-256\n");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = command("postgres")
            .args(["-D", "data", "-c", "ssl=on", "-c", "fsync=off"])
            .args(["-c", "listen_addresses=localhost,127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c"])
            .arg(format!("port={port}"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            process,
            home,
            port,
        };
        let up = async {
            while server
                .database("127.0.0.1", "require")
                .ping()
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), up)
            .await
            .unwrap();
        server
    }

    fn url(&self, host: &str, mode: &str) -> SecretString {
        let port = self.port;
        format!("postgres://calendar:hunter2@{host}:{port}/postgres?sslmode={mode}").into()
    }

    fn database(&self, host: &str, mode: &str) -> Database {
        let config = PgConfig {
            url: self.url(host, mode),
            max_connections: 2,
        };
        Database::connect(config).unwrap()
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_demands_tls_gets_it() {
    let (issuer, pem) = authority();
    let (_, other) = authority();
    let server = Server::start(&issuer).await;
    let file = |name: &str, text: &str| {
        let path = server.home.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (file("right.pem", &pem), file("wrong.pem", &other));
    let with = |mode: &str, root: &str| format!("{mode}&sslrootcert={root}");

    for (host, mode) in [
        ("127.0.0.1", "require".to_owned()),
        ("127.0.0.1", "prefer".to_owned()),
        ("127.0.0.1", with("require", &right)),
        ("127.0.0.1", with("verify-ca", &right)),
        ("localhost", with("verify-full", &right)),
    ] {
        let pool = server.database(host, &mode);
        pool.ping().await.unwrap_or_else(|error| {
            panic!("{host} {mode}: {}", chain(&error));
        });
    }
    for (host, mode, said) in [
        ("localhost", "disable".to_owned(), "sslmode=verify-full"),
        ("localhost", with("require", &wrong), "sslrootcert"),
        ("localhost", with("verify-ca", &wrong), "sslrootcert"),
        ("localhost", with("verify-full", &wrong), "sslrootcert"),
        ("localhost", "verify-full".to_owned(), "sslrootcert"),
        (
            "127.0.0.1",
            with("verify-full", &right),
            "another host name",
        ),
    ] {
        let refused = [
            server.database(host, &mode).ping().await.unwrap_err(),
            migrate(&server.url(host, &mode)).await.unwrap_err(),
        ];
        for error in refused {
            let error = chain(&error);
            assert!(error.contains(said), "{host} {mode}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    let mode = with("verify-full", &right);
    let applied = migrate(&server.url("localhost", &mode)).await.unwrap();
    assert!(!applied.is_empty());
    let pool = server.database("localhost", &mode);
    let state = pool.migration_state().await.unwrap();
    assert_eq!(state, MigrationState::Current);
    wake_ups_are_heard(&pool).await;
    let plain = server.database("localhost", "disable");
    let deaf = PgWakeups::start(&plain);
    let heard = tokio::time::timeout(Duration::from_secs(1), deaf.woken());
    assert!(heard.await.is_err(), "over a connection that was refused");
}

/// The first wake-up says that it listens; the second is a real one.
async fn wake_ups_are_heard(pool: &Database) {
    let wakeups = PgWakeups::start(pool);
    let within = Duration::from_secs(20);
    tokio::time::timeout(within, wakeups.woken()).await.unwrap();
}
