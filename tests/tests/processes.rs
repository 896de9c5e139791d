//! The binaries as an operator meets them: start, wrong configuration, a database that is away, signals.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::time::Duration;

use calendar_e2e::{Binary, Process, Proxy, World, eventually};
use calendar_postgres::testing::TestDatabase;
use reqwest::Method;

const LONG: Duration = Duration::from_secs(30);

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_names_every_mistake_and_exits_2() {
    for binary in [Binary::Api, Binary::Worker] {
        let environment = variables(&[
            ("CALENDAR_TOKEN_KEYS", "broken"),
            ("CALENDAR_LISTEN", "nowhere"),
            ("CALENDAR_POLL_SECONDS", "soon"),
            ("CALENDAR_MICROSOFT_CLIENT_ID", "client"),
            ("CALENDAR_MICROSOFT_GRAPH_URL", "http://graph.example.com"),
        ]);
        let mut process = Process::start(binary, &[], &environment);
        assert_eq!(process.end(LONG).await.code(), Some(2));
        eventually("all mistakes are named", || async {
            let log = process.log();
            [
                "DATABASE_URL",
                "CALENDAR_TOKEN_KEYS",
                "CALENDAR_LISTEN",
                "CALENDAR_POLL_SECONDS",
                "CALENDAR_MICROSOFT_GRAPH_URL",
            ]
            .iter()
            .all(|name| log.lines().filter(|line| line.contains(name)).count() >= 1)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_shown_with_what_it_is_warned_of() {
    for binary in [Binary::Api, Binary::Worker] {
        let environment = variables(&[
            ("DATABASE_URL", "postgres://calendar@127.0.0.1:1/calendar"),
            ("CALENDAR_TOKEN_KEYS", &format!("k1:{}=", "A".repeat(43))),
            ("CALENDAR_POLL_SECOND", "60"),
        ]);
        let mut process = Process::start(binary, &["--print-config"], &environment);
        assert!(process.end(LONG).await.success(), "{}", process.log());
        eventually("the misspelt variable is named", || async {
            process
                .log()
                .contains("CALENDAR_POLL_SECOND is not a variable")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_refuse_a_database_that_is_not_migrated_and_migrate_mends_it() {
    let world = World::start().await;
    let database = TestDatabase::create_empty().await;
    let mut environment = world.environment.clone();
    environment.retain(|(name, _)| name != "DATABASE_URL" && name != "CALENDAR_LISTEN");
    environment.push(("DATABASE_URL".to_owned(), database.url().to_owned()));
    environment.push(("CALENDAR_LISTEN".to_owned(), "127.0.0.1:0".to_owned()));
    for binary in [Binary::Api, Binary::Worker] {
        let mut process = Process::start(binary, &[], &environment);
        assert_eq!(process.end(LONG).await.code(), Some(1), "{}", process.log());
        eventually("the remedy is named", || async {
            process.log().contains("calendar-api migrate")
        })
        .await;
    }
    for _ in 0..2 {
        let mut migrate = Process::start(Binary::Api, &["migrate"], &environment);
        assert!(migrate.end(LONG).await.success(), "{}", migrate.log());
    }
    let mut worker = Process::start(Binary::Worker, &["--once"], &environment);
    assert!(worker.end(LONG).await.success(), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_gives_503_and_comes_back_by_itself() {
    let mut world = World::start().await;
    world
        .simulator
        .create_mailbox("ann@contoso.example", "Ann", "UTC")
        .unwrap();
    let user = world.user("ann@example.com").await;
    world.connect_primary(&user, "ann@contoso.example").await;

    // The same database, by a way that is closed at the start.
    let url: url::Url = world.database.url().parse().unwrap();
    let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let proxy = Proxy::start(target, false).await;
    let mut through = url.clone();
    through.set_host(Some("127.0.0.1")).unwrap();
    through.set_port(Some(proxy.port)).unwrap();
    for (name, value) in &mut world.environment {
        if name == "DATABASE_URL" {
            *value = through.to_string();
        }
    }
    world.api.signal("TERM").await;
    world.worker.signal("TERM").await;
    assert!(world.api.end(LONG).await.success(), "{}", world.api.log());
    assert!(
        world.worker.end(LONG).await.success(),
        "{}",
        world.worker.log()
    );
    world.api = Process::start(Binary::Api, &[], &world.environment);
    world.worker = Process::start(Binary::Worker, &[], &world.environment);
    eventually("both say that they wait", || async {
        [&world.api, &world.worker]
            .iter()
            .all(|process| process.log().contains("waiting for the database"))
    })
    .await;
    let ready = async || {
        let url = format!("{}/readyz", world.base);
        world
            .http
            .send(Method::GET, &url, None, None)
            .await
            .map(|answer| answer.status.as_u16())
            .ok()
    };
    assert_ne!(ready().await, Some(200));
    proxy.set_open(true);
    eventually("the api is ready", || async { ready().await == Some(200) }).await;

    proxy.set_open(false);
    eventually("requests get 503", || async {
        world
            .call(Some(&user), Method::GET, "/v1/connections", None)
            .await
            .status
            == 503
    })
    .await;
    let answer = world
        .call(Some(&user), Method::GET, "/v1/connections", None)
        .await;
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert!(answer.headers.contains_key("retry-after"));
    assert!(
        !answer.text.to_lowercase().contains("sql"),
        "{}",
        answer.text
    );
    let alive = format!("{}/healthz", world.base);
    assert_eq!(
        world
            .http
            .send(Method::GET, &alive, None, None)
            .await
            .unwrap()
            .status,
        200
    );

    proxy.set_open(true);
    eventually("requests are answered again", || async {
        world
            .call(Some(&user), Method::GET, "/v1/connections", None)
            .await
            .status
            == 200
    })
    .await;
    let connections = world.get(&user, "/v1/connections").await;
    world
        .pass(&user, connections["data"][0]["id"].as_str().unwrap())
        .await;
}
