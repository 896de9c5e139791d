//! The running binaries as those who run them see them: metrics, logs, readiness, `--once`, and a role
//! that may do no more than the services need.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::path::Path;
use std::time::Duration;

use calendar_e2e::{Binary, Process, Proxy, World, eventually};
use calendar_simulator::Options;
use reqwest::Method;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(30);
const MAILBOX: &str = "ann@contoso.example";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A world with a mailbox of a few events.
async fn world(variables: &[(&str, &str)]) -> World {
    let world = World::start_with(Options::default(), variables).await;
    world
        .simulator
        .create_mailbox(MAILBOX, "Ann", "UTC")
        .unwrap();
    let now = world.simulator.now();
    world
        .simulator
        .create_events_in_bulk(MAILBOX, None, 25, now, 60)
        .unwrap();
    world
}

async fn text(world: &World, url: &str) -> Option<String> {
    let answer = world.http.send(Method::GET, url, None, None).await.ok()?;
    (answer.status == 200).then_some(answer.text)
}

/// The value of a sample whose line begins like this.
fn sample(text: &str, begins: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(begins))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_programs_say_what_they_count_and_log_json_with_the_same_ids() {
    let listen = format!("127.0.0.1:{}", free_port().await);
    let world = world(&[
        ("CALENDAR_METRICS_LISTEN", &listen),
        ("CALENDAR_LOG_FORMAT", "json"),
    ])
    .await;
    let user = world.user("ann@example.com").await;
    let connection = world.connect_primary(&user, MAILBOX).await;

    let worker = format!("http://{listen}/metrics");
    eventually("the worker has counted its pass", || async {
        let text = text(&world, &worker).await.unwrap_or_default();
        let finished = "calendar_passes_total{provider=\"microsoft\",kind=\"full\",outcome=\"finished\"}";
        let created = "calendar_events_changed_total{provider=\"microsoft\",change=\"created\"}";
        sample(&text, finished) == Some(1.0)
            && sample(&text, created) == Some(25.0)
            && sample(&text, "calendar_pages_total{provider=\"microsoft\"}") >= Some(1.0)
            && sample(&text, "calendar_database_connections{state=\"unused\"}").is_some()
            && text.contains("calendar_provider_request_duration_seconds_bucket{provider=\"microsoft\",status=\"2xx\"")
            && text.contains("calendar_build_info{program=\"calendar-worker\"")
    })
    .await;

    let api = text(&world, &format!("{}/metrics", world.base))
        .await
        .unwrap();
    assert_eq!(sample(&api, "calendar_overview_up"), Some(1.0), "{api}");
    let requests = "http_requests_total{method=\"POST\",route=\"/v1/sessions\",status=\"201\"}";
    assert_eq!(sample(&api, requests), Some(1.0), "{api}");
    assert!(
        api.contains("http_request_duration_seconds_bucket"),
        "{api}"
    );
    assert!(api.contains("# HELP calendar_connections "), "{api}");
    for secret in ["example", &connection, &user.token] {
        assert!(!api.contains(secret), "{secret}: {api}");
    }
    for line in api
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }

    // Lines of a request that came with a trace name it, and those of others name none.
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (me, token) = (
        format!("{}/v1/me", world.base),
        format!("Bearer {}", user.token),
    );
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    for (id, parent) in [("traced.1", &*parent), ("untraced.1", "00-nonsense")] {
        let headers = [
            ("authorization", &*token),
            ("x-request-id", id),
            ("traceparent", parent),
        ];
        assert_eq!(
            world.http.get_with(&me, &headers).await.unwrap().status,
            200
        );
    }
    let traces = |id: &str| -> Vec<Value> {
        let log = world.api.log();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_request = lines.filter(|line| line["span"]["request_id"] == id);
        of_request
            .map(|line| line["span"]["trace_id"].clone())
            .collect()
    };
    eventually("both are in the log", || async {
        !traces("traced.1").is_empty() && !traces("untraced.1").is_empty()
    })
    .await;
    assert!(traces("traced.1").iter().all(|found| found == trace));
    assert!(traces("untraced.1").iter().all(Value::is_null));

    let mut found = 0;
    for (process, about) in [(&world.api, "api"), (&world.worker, "worker")] {
        for line in process.log().lines() {
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("{about}: {line}"));
            if line["message"] == "request" {
                assert!(line["span"]["request_id"].is_string(), "{line}");
                found |= 1;
            }
            if line["message"] == "pass" {
                assert_eq!(line["connection_id"], connection, "{line}");
                assert!(line["account_id"].is_string() && line["pass_id"].is_string());
                found |= 2;
            }
        }
    }
    assert_eq!(found, 3, "both have their lines");
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_and_metrics_tell_a_database_that_is_away_from_one_that_is_behind() {
    let mut world = World::start().await;
    let url: url::Url = world.database.url().parse().unwrap();
    let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let proxy = Proxy::start(target, true).await;
    let mut through = url.clone();
    through.set_host(Some("127.0.0.1")).unwrap();
    through.set_port(Some(proxy.port)).unwrap();
    for (name, value) in &mut world.environment {
        if name == "DATABASE_URL" {
            *value = through.to_string();
        }
    }
    world.api.signal("TERM").await;
    assert!(world.api.end(LONG).await.success());
    world.api = Process::start(Binary::Api, &[], &world.environment);
    let ready = async || {
        let url = format!("{}/readyz", world.base);
        let answer = world.http.send(Method::GET, &url, None, None).await.ok()?;
        Some((answer.status.as_u16(), answer.json()["code"].clone()))
    };
    eventually("it is ready", || async {
        ready().await == Some((200, Value::Null))
    })
    .await;

    let sql = world.database.connect().await;
    let newest = "DELETE FROM __diesel_schema_migrations
        WHERE version = (SELECT max(version) FROM __diesel_schema_migrations) RETURNING version";
    let version: String = sql.query_one(newest, &[]).await.unwrap().get(0);
    assert_eq!(ready().await, Some((503, json!("database_not_migrated"))));
    let again = "INSERT INTO __diesel_schema_migrations (version) VALUES ($1)";
    sql.execute(again, &[&version]).await.unwrap();
    assert_eq!(ready().await, Some((200, Value::Null)));

    proxy.set_open(false);
    assert_eq!(ready().await, Some((503, json!("database_unavailable"))));
    let metrics = text(&world, &format!("{}/metrics", world.base))
        .await
        .unwrap();
    assert_eq!(sample(&metrics, "calendar_overview_up"), Some(0.0));
    assert!(!metrics.contains("calendar_connections{"), "{metrics}");

    // A cron job learns of it soon, and by the exit code.
    let mut once = Process::start(Binary::Worker, &["--once"], &world.environment);
    assert_eq!(once.end(LONG).await.code(), Some(1), "{}", once.log());
    eventually("the log says why", || async {
        once.log().contains("the database was not ready")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_no_more_than_the_rows_is_enough_and_once_does_what_is_due() {
    let mut world = world(&[]).await;
    let owner = world.database.connect().await;
    let role = "DO $$ BEGIN CREATE ROLE calendar_service LOGIN PASSWORD 'service';
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
    owner.batch_execute(role).await.unwrap();
    let rights = std::fs::read_to_string(root().join("deploy/postgres/roles.sql")).unwrap();
    owner.batch_execute(&rights).await.unwrap();
    let mut url: url::Url = world.database.url().parse().unwrap();
    url.set_username("calendar_service").unwrap();
    url.set_password(Some("service")).unwrap();
    for (name, value) in &mut world.environment {
        if name == "DATABASE_URL" {
            *value = url.to_string();
        }
    }
    world.worker.signal("TERM").await;
    world.api.signal("TERM").await;
    assert!(world.worker.end(LONG).await.success());
    assert!(world.api.end(LONG).await.success());
    world.api = Process::start(Binary::Api, &[], &world.environment);
    eventually("the api is ready", || async {
        text(&world, &format!("{}/readyz", world.base))
            .await
            .is_some()
    })
    .await;

    let user = world.user("ann@example.com").await;
    let page = world
        .connect(&user, MAILBOX, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    // Two at once, as cron does when the first one takes long.
    let mut jobs =
        [(); 2].map(|()| Process::start(Binary::Worker, &["--once"], &world.environment));
    for job in &mut jobs {
        assert!(job.end(LONG).await.success(), "{}", job.log());
    }
    let connections = world.get(&user, "/v1/connections").await;
    assert_eq!(connections["data"][0]["status"], "connected");
    assert_eq!(
        connections["data"][0]["counts"]["events"], 25,
        "{connections}"
    );
    let metrics = text(&world, &format!("{}/metrics", world.base))
        .await
        .unwrap();
    let connected = "calendar_connections{provider=\"microsoft\",status=\"connected\"}";
    assert_eq!(sample(&metrics, connected), Some(1.0), "{metrics}");
    let service = world
        .call(Some(&user), Method::DELETE, "/v1/me", None)
        .await;
    assert_eq!(service.status, 204, "{}", service.text);

    // No more than that.
    let (client, connecting) = tokio_postgres::connect(url.as_str(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connecting);
    for forbidden in [
        "DROP TABLE calendar_events",
        "CREATE TABLE x ()",
        "TRUNCATE users",
    ] {
        let error = client.batch_execute(forbidden).await.unwrap_err();
        let code = error.code().unwrap().code();
        assert!(["42501", "42P01"].contains(&code), "{forbidden}: {error:?}");
    }
}

/// What the Dockerfile copies is there and gets past .dockerignore, is a whole workspace, and its toolchain
/// is ours: an image is not built here.
#[test]
fn the_dockerfile_copies_a_whole_workspace() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let (dockerfile, ignored) = (read("Dockerfile"), read(".dockerignore"));
    let toolchain = read("rust-toolchain.toml");
    let version = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .unwrap();
    let image = format!("FROM rust:{}-", version.trim_matches('"'));
    assert!(dockerfile.contains(&image), "{image}");
    let copy = std::env::temp_dir().join(format!("calendar-docker-{}", std::process::id()));
    std::fs::create_dir_all(&copy).unwrap();
    let lines = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "));
    for line in lines.filter(|line| !line.starts_with("--from")) {
        let mut paths: Vec<&str> = line.split(' ').collect();
        let _to = paths.pop();
        for path in paths {
            assert!(
                ignored.lines().any(|line| line == format!("!{path}")),
                "{path}"
            );
            let mut copying = std::process::Command::new("cp");
            copying.arg("-r").arg(root().join(path)).arg(&copy);
            assert!(copying.status().unwrap().success(), "{path}");
        }
    }
    let workspace = std::process::Command::new("cargo")
        .args([
            "tree",
            "--locked",
            "--offline",
            "--workspace",
            "--depth=0",
            "--quiet",
        ])
        .current_dir(&copy)
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(&copy);
    assert!(
        workspace.status.success(),
        "{}",
        String::from_utf8_lossy(&workspace.stderr)
    );
}

/// What stands between quotes after `marker` and looks like a code.
fn codes_after(text: &str, marker: &str) -> Vec<String> {
    let quoted = text.split(marker).skip(1);
    let codes = quoted.filter_map(|after| after.trim_start().strip_prefix('"')?.split('"').next());
    let is_code = |code: &&str| {
        code.contains('_') && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    codes.filter(is_code).map(str::to_owned).collect()
}

#[test]
fn the_documentation_explains_every_code_of_an_adapter() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let mut codes = Vec::new();
    for file in ["error.rs", "oauth.rs", "reader.rs", "subscriptions.rs"] {
        let text = read(&format!("crates/calendar-msgraph/src/{file}"));
        // Tests name codes of Graph.
        let text = text.split("#[cfg(test)]").next().unwrap();
        codes.extend(codes_after(text, "=> "));
        for class in [
            "Permanent, ",
            "Conflict, ",
            "Retryable, ",
            "Authentication, ",
        ] {
            codes.extend(codes_after(text, class));
        }
    }
    let store = read("crates/calendar-postgres/src/error.rs");
    for class in ["Permanent, ", "Conflict, ", "Retryable, ", "InvalidInput, "] {
        codes.extend(codes_after(&store, class));
    }
    let access = read("crates/calendar-sync/src/access.rs");
    codes.extend(codes_after(&access, "why = "));
    codes.extend(codes_after(&access, "Authentication,\n"));
    let map = read("crates/calendar-msgraph/src/map.rs");
    for before in ["ok_or(", "Err(", ", ", "map_err(|_| "] {
        codes.extend(codes_after(&map, before));
    }
    let rejected = read("crates/calendar-domain/src/rejected.rs");
    codes.extend(codes_after(&rejected, "str = "));
    for reason in [
        "end_before_start",
        "id_missing",
        "recurrence_ends_twice",
        "recurrence_unreadable",
        "series_master_not_found",
        "start_missing",
    ] {
        assert!(codes.iter().any(|code| code == reason), "{codes:?}");
    }
    // Between a browser and the callback; no connection ever has it.
    codes.retain(|code| code != "invalid_authorization_request");
    assert!(codes.len() > 15, "{codes:?}");
    let documented = read("docs/operations.md");
    for code in codes {
        assert!(
            documented.contains(&format!("`{code}`")),
            "docs/operations.md lacks {code}"
        );
    }
}

#[test]
fn units_give_the_programs_the_time_to_stop() {
    for unit in ["api", "worker", "migrate"] {
        let path = format!("deploy/systemd/calendar-{unit}.service");
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        for line in [
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "DynamicUser=yes",
        ] {
            assert!(text.contains(line), "{unit}: {line}");
        }
        if unit != "migrate" {
            // Each stops by itself within 10 s.
            let stop = text
                .lines()
                .find_map(|line| line.strip_prefix("TimeoutStopSec="));
            assert!(stop.unwrap().parse::<u32>().unwrap() > 10, "{unit}");
        }
    }
}
