//! TLS to a server that takes nothing else: each `sslmode` with the right authority, a wrong one and a wrong
//! name, for the pool, for migrations and for wake-ups. The server is one of this test's own.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use calendar_domain::ports::Wakeups as _;
use calendar_postgres::testing::TestServer;
use calendar_postgres::{Database, MigrationState, PgConfig, PgWakeups, migrate};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use secrecy::SecretString;

/// A server that takes TLS alone.
struct Server(TestServer);

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
        let mut server = TestServer::create();
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, issuer).unwrap();
        server.write("data/server.key", &key.serialize_pem());
        server.write("data/server.crt", &certificate.pem());
        server.write("data/pg_hba.conf", "hostssl all all all scram-sha-256\n");
        server.start(&["ssl=on"]).await;
        Self(server)
    }

    fn url(&self, host: &str, mode: &str) -> SecretString {
        let url = self.0.url(host, "postgres");
        format!("{url}?sslmode={mode}").into()
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
        let path = server.0.home().join(name);
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
            assert!(!error.contains(TestServer::PASSWORD), "{error}");
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
