//! PostgreSQL restarts and crashes under load, and the programs are told to stop under load: what was
//! answered is kept, and everything goes on by itself.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use calendar_e2e::{Binary, Crowd, Process, User, World, eventually};
use calendar_postgres::testing::{Stop, TestDatabase, TestServer};
use calendar_simulator::{Fault, Options, Quirks};
use reqwest::Method;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Client;

const LONG: Duration = Duration::from_secs(30);
/// How long passes may take that were broken off.
const PATIENCE: Duration = Duration::from_mins(2);
/// Service managers kill what has not ended by then.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Nothing is polled while a test runs: what arrives was pushed.
const RARELY: [(&str, &str); 2] = [
    ("CALENDAR_POLL_SECONDS", "3600"),
    ("CALENDAR_POLL_PUSHED_SECONDS", "3600"),
];

/// Callers of the API, again and again, until they are told to stop or are not answered any more.
struct Callers {
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// How many answers had which status.
    answers: Arc<Mutex<BTreeMap<u16, usize>>>,
}

impl Callers {
    fn start(world: &World, user: &User, connection: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let answers = Arc::new(Mutex::new(BTreeMap::new()));
        let mut tasks = JoinSet::new();
        for (method, path) in [
            (Method::GET, "/v1/events?limit=50".to_owned()),
            (Method::GET, "/v1/connections".to_owned()),
            (Method::GET, format!("/v1/connections/{connection}")),
            (Method::POST, format!("/v1/connections/{connection}/sync")),
        ] {
            let (http, token) = (world.http.clone(), user.token.clone());
            let url = format!("{}{path}", world.base);
            let (stopped, answers) = (stopped.clone(), Arc::clone(&answers));
            tasks.spawn(async move {
                while !*stopped.borrow() {
                    let answer = http.send(method.clone(), &url, Some(&token), None).await;
                    let Ok(answer) = answer else { return };
                    if answer.status == 503 {
                        let kind = &answer.headers["content-type"];
                        assert_eq!(kind, "application/problem+json");
                        assert!(answer.headers.contains_key("retry-after"));
                    }
                    *answers
                        .lock()
                        .unwrap()
                        .entry(answer.status.as_u16())
                        .or_default() += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
        Self {
            tasks,
            stop,
            answers,
        }
    }

    fn had(&self, status: u16) -> usize {
        self.answers
            .lock()
            .unwrap()
            .get(&status)
            .copied()
            .unwrap_or(0)
    }

    /// How many answers had which status, once all callers have ended.
    async fn end(mut self) -> BTreeMap<u16, usize> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.answers.lock().unwrap().clone()
    }
}

async fn count(client: &Client, what: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {what}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

/// How often the server was ready for connections.
fn starts(server: &TestServer) -> usize {
    let log = server.log();
    log.matches("database system is ready to accept connections")
        .count()
}

#[derive(Clone, Copy, Debug)]
enum Crash {
    /// The server is stopped, stays away for a while, and is started again.
    Restart(Stop),
    /// One of its processes dies, so that it ends all others and recovers.
    Backend,
}

/// Stops the server under way, and has it back.
async fn crash(server: &mut TestServer, how: Crash, client: &Client, callers: &Callers) {
    let before = callers.had(503);
    match how {
        Crash::Restart(stop) => {
            server.stop(stop).await;
            eventually("the API says so", || async {
                callers.had(503) >= before + 10
            })
            .await;
            server.start(&SETTINGS).await;
        }
        Crash::Backend => {
            let ready = starts(server);
            let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'calendar-sync' AND state = 'active'
                UNION ALL SELECT pid FROM pg_stat_activity WHERE application_name = 'calendar-sync' LIMIT 1";
            let pid: i32 = client.query_one(sql, &[]).await.unwrap().get(0);
            let killed = Command::new("kill")
                .args(["-s", "KILL", &pid.to_string()])
                .status();
            assert!(killed.unwrap().success());
            eventually("the server has recovered", || async {
                starts(server) > ready
            })
            .await;
        }
    }
}

/// What is not written when a transaction commits is lost in a crash for certain, and not only now and then.
const SETTINGS: [&str; 1] = ["wal_writer_delay=10s"];

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_restarts_and_crashes_under_load_and_nothing_is_lost() {
    let mut server = TestServer::create();
    server.start(&SETTINGS).await;
    let database = TestDatabase::create_at(&server.url("127.0.0.1", "postgres")).await;
    // As operators run it: other test databases do not wait for the disk.
    let reset = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET synchronous_commit', current_database()); END $$";
    database.connect().await.batch_execute(reset).await.unwrap();
    let options = Options {
        // One notification for each change, so that each counts.
        quirks: Quirks {
            latency_ms: 20,
            notification_updates: 0,
            ..Quirks::default()
        },
        ..Options::default()
    };
    let world = World::start_on(database, options, &RARELY).await;
    let simulator = world.simulator.simulator().clone();
    let user = world.user("crowd@example.com").await;
    let mut crowd = Crowd::create(&simulator, 12, 1, 10, 1);
    crowd.connect(&world, &user).await;
    crowd
        .truth
        .reached(&simulator, &world.database.connect().await, PATIENCE)
        .await;
    let connections = world.get(&user, "/v1/connections").await;
    let connection = connections["data"][0]["id"].as_str().unwrap().to_owned();
    eventually("all are pushed", || async {
        simulator.subscriptions().len() == 12
    })
    .await;

    for (round, how) in [
        Crash::Restart(Stop::Fast),
        Crash::Restart(Stop::Immediate),
        Crash::Backend,
    ]
    .into_iter()
    .enumerate()
    {
        let client = world.database.connect().await;
        let callers = Callers::start(&world, &user, &connection);
        // A first pass is under way.
        let large = format!("large-{round}@contoso.example");
        simulator.create_mailbox(&large, "Large", "UTC").unwrap();
        simulator
            .create_events_in_bulk(&large, None, 1_000, simulator.now(), 60)
            .unwrap();
        crowd.truth.calendars.push((
            large.clone(),
            simulator.find_calendar(&large, None).unwrap(),
        ));
        assert_eq!(world.connect(&user, &large, json!({})).await.status, 200);
        eventually("a first pass is under way", || async {
            count(&client, "calendar_sync_states WHERE pass_pages > 1").await > 0
        })
        .await;
        let (stop, stopped) = watch::channel(false);
        let editor = {
            let simulator = simulator.clone();
            tokio::spawn(async move {
                while !*stopped.borrow() {
                    crowd.edit(&simulator);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                crowd
            })
        };
        tokio::time::sleep(Duration::from_millis(500)).await;
        // The crowd's last edits were pushed just before the crash; what comes while the server is away is
        // another calendar's, so that it makes up for none of them.
        stop.send_replace(true);
        crowd = editor.await.unwrap();
        let meanwhile = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            simulator
                .create_events_in_bulk(&large, None, 20, simulator.now(), 90)
                .unwrap();
        };
        tokio::join!(crash(&mut server, how, &client, &callers), meanwhile);
        let client = world.database.connect().await;
        let took = crowd.truth.reached(&simulator, &client, PATIENCE).await;
        println!("{how:?}: all there {took:.1?} later");
        let answers = callers.end().await;
        assert!(
            answers
                .keys()
                .all(|status| matches!(status, 200 | 202 | 503)),
            "{how:?}: {answers:?}"
        );
        assert!(
            answers[&200] > 20 && answers[&202] > 5,
            "{how:?}: {answers:?}"
        );
        for program in [&world.api, &world.worker] {
            assert!(!program.log().contains("panicked"), "{}", program.log());
        }
    }
}

/// A worker in the middle of many first passes; the provider is slow.
async fn busy_worker(variables: &[(&str, &str)]) -> (World, Crowd, Client) {
    let options = Options {
        quirks: Quirks {
            latency_ms: 100,
            ..Quirks::default()
        },
        ..Options::default()
    };
    let mut world = World::start_with(options, variables).await;
    world.worker.signal("TERM").await;
    assert!(world.worker.end(LONG).await.success());
    let crowd = Crowd::create(&world.simulator, 8, 2, 10, 1);
    for n in 0..8 {
        let (mailbox, now) = (format!("crowd-{n}@contoso.example"), world.simulator.now());
        world
            .simulator
            .create_events_in_bulk(&mailbox, None, 500, now, 60)
            .unwrap();
    }
    let user = world.user("crowd@example.com").await;
    crowd.connect(&world, &user).await;
    let client = world.database.connect().await;
    world.worker = Process::start(Binary::Worker, &[], &world.environment);
    eventually("passes are under way", || async {
        count(&client, "calendar_sync_states WHERE pass_pages > 0").await >= 6
    })
    .await;
    (world, crowd, client)
}

/// Tells a program to stop; how long it took.
async fn stop(program: &mut Process) -> Duration {
    let began = Instant::now();
    program.signal("TERM").await;
    assert!(program.end(LONG).await.success(), "{}", program.log());
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_gives_its_leases_back_and_loses_nothing() {
    let (mut world, mut crowd, client) = busy_worker(&[]).await;
    let took = stop(&mut world.worker).await;
    assert!(took < STOP_WITHIN / 2, "pages under way end soon: {took:?}");
    assert_eq!(
        count(&client, "calendar_accounts WHERE lease_owner IS NOT NULL").await,
        0
    );
    assert!(
        count(&client, "calendar_sync_states WHERE pass_id IS NOT NULL").await > 0,
        "stopped in mid pass"
    );
    for _ in 0..50 {
        crowd.edit(&world.simulator);
    }

    // Another one goes on, and is stopped while the provider lets it wait.
    world.simulator.script_fault(Fault {
        path_contains: "/calendarView/delta".to_owned(),
        skip: 8,
        delay_ms: 120_000,
        ..Fault::default()
    });
    world.worker = Process::start(Binary::Worker, &[], &world.environment);
    eventually("the provider does not answer", || async {
        world.simulator.pending_faults().is_empty()
    })
    .await;
    let took = stop(&mut world.worker).await;
    assert!(took > STOP_WITHIN / 2 && took < STOP_WITHIN, "{took:?}");
    assert_eq!(
        count(&client, "calendar_accounts WHERE lease_owner IS NOT NULL").await,
        0
    );
    world.worker = Process::start(Binary::Worker, &[], &world.environment);
    crowd
        .truth
        .reached(&world.simulator, &client, PATIENCE)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_database_hangs_stops_in_time_too() {
    let (mut world, crowd, mut client) = busy_worker(&[]).await;
    let held = client.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE calendar_accounts")
        .await
        .unwrap();
    let took = stop(&mut world.worker).await;
    assert!(took < STOP_WITHIN, "{took:?}");
    held.rollback().await.unwrap();
    // Leases that could not be given back run out; here they are made to, so that the test is quick.
    let expired =
        "UPDATE calendar_accounts SET lease_expires_at = now() WHERE lease_owner IS NOT NULL;
        UPDATE mailbox_turns SET expires_at = now()";
    client.batch_execute(expired).await.unwrap();
    world.worker = Process::start(Binary::Worker, &[], &world.environment);
    crowd
        .truth
        .reached(&world.simulator, &client, PATIENCE)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_told_to_stop_answers_what_is_under_way() {
    let mut world = World::start_with(Options::default(), &RARELY).await;
    let user = world.user("crowd@example.com").await;
    let crowd = Crowd::create(&world.simulator, 1, 1, 50, 1);
    crowd.connect(&world, &user).await;
    let connections = world.get(&user, "/v1/connections").await;
    let path = format!(
        "/v1/connections/{}",
        connections["data"][0]["id"].as_str().unwrap()
    );
    world
        .wait_for_status(
            &user,
            connections["data"][0]["id"].as_str().unwrap(),
            "connected",
        )
        .await;
    let connection = path.rsplit('/').next().unwrap().to_owned();

    for is_answered in [true, false] {
        let mut client = world.database.connect().await;
        let callers = Callers::start(&world, &user, &connection);
        eventually("requests are answered", || async {
            callers.had(200) > 20 && callers.had(202) > 5
        })
        .await;
        let held = client.transaction().await.unwrap();
        held.batch_execute("LOCK TABLE calendar_sync_states IN EXCLUSIVE MODE")
            .await
            .unwrap();
        let mut waiting = JoinSet::new();
        for _ in 0..5 {
            let (http, token) = (world.http.clone(), user.token.clone());
            let url = format!("{}{path}/sync", world.base);
            waiting.spawn(async move {
                let answer = http.send(Method::POST, &url, Some(&token), None).await;
                answer.map(|answer| answer.status.as_u16())
            });
        }
        let watcher = world.database.connect().await;
        eventually("they wait for the database", || async {
            count(
                &watcher,
                "pg_locks WHERE NOT granted AND relation = 'calendar_sync_states'::regclass",
            )
            .await
                >= 6
        })
        .await;
        let began = Instant::now();
        world.api.signal("TERM").await;
        eventually("nobody is let in any more", || async {
            let health = format!("{}/healthz", world.base);
            calendar_e2e::Http::new()
                .send(Method::GET, &health, None, None)
                .await
                .is_err()
        })
        .await;
        if is_answered {
            held.rollback().await.unwrap();
            while let Some(answer) = waiting.join_next().await {
                assert_eq!(answer.unwrap().unwrap(), 202);
            }
            assert!(world.api.end(LONG).await.success());
            assert!(began.elapsed() < STOP_WITHIN / 2, "{:?}", began.elapsed());
        } else {
            assert!(world.api.end(LONG).await.success());
            assert!(began.elapsed() < STOP_WITHIN, "{:?}", began.elapsed());
            drop(held);
        }
        let answers = callers.end().await;
        assert!(
            answers.keys().all(|status| matches!(status, 200 | 202)),
            "{answers:?}"
        );
        world.api = Process::start(Binary::Api, &[], &world.environment);
        world.ready().await;
    }
}
