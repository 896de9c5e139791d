//! Workers that are killed or frozen in the middle of what they do: another one goes on, nothing is lost,
//! nothing stands twice, and nothing is removed that is not gone.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use calendar_e2e::{Binary, Process, Truth, User, World, eventually};
use calendar_simulator::jiff::{ToSpan as _, tz::TimeZone};
use calendar_simulator::{Fault, OccurrenceChange, Options};
use serde_json::{Value, json};
use tokio_postgres::Client;

const MAILBOX: &str = "ann@contoso.example";
const LONG: Duration = Duration::from_secs(30);
/// How long a pass may take that was broken off.
const PATIENCE: Duration = Duration::from_mins(2);

/// A large calendar that is connected, and a worker that will die over it.
struct Scene {
    world: World,
    user: User,
    client: Client,
    truth: Truth,
    /// Ids of what was deleted at the provider.
    deleted: BTreeSet<String>,
    made: usize,
    holes: i64,
}

/// Where a worker is caught.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Waiting for the provider's answer to a request for this, after so many others.
    Request(&'static str, u32),
    /// In a transaction, waiting for this table.
    Table(&'static str, &'static str),
}

impl Scene {
    /// `singles` events and a few series with holes; the worker is stopped.
    async fn start(singles: u32) -> Self {
        let variables = [
            ("CALENDAR_POLL_SECONDS", "1"),
            ("CALENDAR_POLL_PUSHED_SECONDS", "1"),
        ];
        let mut world = World::start_with(Options::default(), &variables).await;
        world.worker.signal("TERM").await;
        assert!(world.worker.end(LONG).await.success());
        world
            .simulator
            .create_mailbox(MAILBOX, "Ann", "UTC")
            .unwrap();
        let user = world.user("ann@example.com").await;
        let client = world.database.connect().await;
        let calendar = world.simulator.find_calendar(MAILBOX, None).unwrap();
        let mut scene = Self {
            world,
            user,
            client,
            truth: Truth {
                calendars: vec![(MAILBOX.to_owned(), calendar)],
            },
            deleted: BTreeSet::new(),
            made: 0,
            holes: 0,
        };
        // What a pass shows first.
        for _ in 0..5 {
            scene.add_series();
        }
        let (simulator, now) = (&scene.world.simulator, scene.world.simulator.now());
        simulator
            .create_events_in_bulk(MAILBOX, None, singles, now, 60)
            .unwrap();
        let page = scene
            .world
            .connect(&scene.user, MAILBOX, json!({"calendars": "primary"}))
            .await;
        assert_eq!(page.status, 200, "{}", page.text);
        scene
    }

    fn event(&mut self, title: &str) -> Value {
        self.made += 1;
        let day = self.world.simulator.now().to_zoned(TimeZone::UTC).date() + 2.days();
        json!({
            "subject": format!("{title} {}", self.made),
            "start": {"dateTime": format!("{day}T09:00:00"), "timeZone": "UTC"},
            "end": {"dateTime": format!("{day}T09:30:00"), "timeZone": "UTC"},
        })
    }

    fn add_series(&mut self) {
        let mut event = self.event("Series");
        let start = event["start"]["dateTime"].as_str().unwrap()[..10].to_owned();
        event["recurrence"] = json!({
            "pattern": {"type": "daily", "interval": 1},
            "range": {"type": "numbered", "startDate": start, "numberOfOccurrences": 20},
        });
        let simulator = &self.world.simulator;
        let id = simulator.create_event(MAILBOX, None, &event).unwrap();
        self.add_hole(&id, 3);
    }

    /// Deletes an occurrence of one of these series.
    fn add_hole(&self, id: &str, day: i64) {
        let simulator = &self.world.simulator;
        let today = simulator.now().to_zoned(TimeZone::UTC).date();
        let date = today + (2 + day).days();
        simulator
            .change_occurrence(MAILBOX, id, date, &OccurrenceChange::Delete)
            .unwrap();
    }

    /// What happens at the provider while nobody works here: something new, something changed, and with
    /// `delete` something gone, each early and late in the calendar; and a series has a hole more.
    fn edit(&mut self, delete: bool) {
        for _ in 0..3 {
            let event = self.event("New");
            self.world
                .simulator
                .create_event(MAILBOX, None, &event)
                .unwrap();
        }
        self.holes += 1;
        let series = self.ids(true);
        self.add_hole(series.last().unwrap(), 5 + self.holes);
        let ids = self.singles();
        for at in [1, ids.len() / 2, ids.len() - 2] {
            self.made += 1;
            let patch = json!({"subject": format!("Renamed {}", self.made)});
            self.world
                .simulator
                .edit_event(MAILBOX, &ids[at], &patch)
                .unwrap();
        }
        if delete {
            self.delete(&[&ids[2], &ids[ids.len() / 3], &ids[ids.len() - 3]]);
        }
    }

    fn delete(&mut self, ids: &[&String]) {
        for id in ids {
            self.world.simulator.delete_event(MAILBOX, id).unwrap();
            self.deleted.insert((*id).clone());
        }
    }

    /// Ids at the provider.
    fn ids(&self, series: bool) -> Vec<String> {
        let all = self.world.simulator.events(MAILBOX, None).unwrap();
        let wanted = all
            .iter()
            .filter(|event| (event["type"] == "seriesMaster") == series);
        wanted
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn singles(&self) -> Vec<String> {
        self.ids(false)
    }

    /// Starts a worker, waits until it is caught there, and says so.
    async fn catch(&mut self, at: At) {
        let mut holder = self.world.database.connect().await;
        let held = match at {
            At::Request(path, skip) => {
                self.world.simulator.script_fault(Fault {
                    path_contains: path.to_owned(),
                    skip,
                    delay_ms: 120_000,
                    ..Fault::default()
                });
                None
            }
            At::Table(table, mode) => {
                let transaction = holder.transaction().await.unwrap();
                let lock = format!("LOCK TABLE {table} IN {mode} MODE");
                transaction.batch_execute(&lock).await.unwrap();
                Some(transaction)
            }
        };
        self.world.worker = Process::start(Binary::Worker, &[], &self.world.environment);
        eventually(&format!("the worker is at {at:?}"), || async {
            match at {
                At::Request(..) => self.world.simulator.pending_faults().is_empty(),
                At::Table(table, _) => self.waits_for(table).await,
            }
        })
        .await;
        self.world.worker.signal("KILL").await;
        self.world.worker.end(LONG).await;
        if let Some(transaction) = held {
            // The dead worker's statement goes on now, and finds that nobody waits for its end.
            transaction.rollback().await.unwrap();
            eventually("the dead worker's session has ended", || async {
                let sql = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                    AND application_name = 'calendar-sync' AND state <> 'idle')";
                self.client.query_one(sql, &[]).await.unwrap().get(0)
            })
            .await;
        }
        self.expire_lease().await;
        self.check().await;
    }

    async fn waits_for(&self, table: &str) -> bool {
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass)";
        self.client.query_one(sql, &[&table]).await.unwrap().get(0)
    }

    /// The dead worker's lease and its turns run out by themselves; here they are made to, so that the test is
    /// quick.
    async fn expire_lease(&self) {
        let sql = "UPDATE mailbox_turns SET expires_at = now()";
        self.client.execute(sql, &[]).await.unwrap();
        let sql =
            "UPDATE calendar_accounts SET lease_expires_at = now() WHERE lease_owner IS NOT NULL";
        assert_eq!(
            self.client.execute(sql, &[]).await.unwrap(),
            1,
            "it died with its lease"
        );
    }

    /// What has to hold at any moment.
    async fn check(&self) {
        let doubled = "SELECT count(*) FROM (SELECT 1 FROM calendar_events WHERE deleted_at IS NULL
            GROUP BY calendar_connection_id, provider_event_id HAVING count(*) > 1) AS doubled";
        let doubled: i64 = self.client.query_one(doubled, &[]).await.unwrap().get(0);
        assert_eq!(doubled, 0);
        let gone = self.tombstones().await;
        let wrong: Vec<_> = gone.difference(&self.deleted).collect();
        assert!(wrong.is_empty(), "removed, though it is there: {wrong:?}");
    }

    /// Ids of singles and masters that are removed here.
    async fn tombstones(&self) -> BTreeSet<String> {
        let sql = "SELECT provider_event_id FROM calendar_events WHERE deleted_at IS NOT NULL AND parent_event_id IS NULL";
        let rows = self.client.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Where the pass stands: pages stored, and whether all are.
    async fn progress(&self) -> (i32, bool) {
        let sql = "SELECT pass_pages, pass_sync_token IS NOT NULL FROM calendar_sync_states";
        let row = self.client.query_one(sql, &[]).await.unwrap();
        (row.get(0), row.get(1))
    }

    /// How many rounds were begun from nothing, since this was last asked.
    fn begun(&self) -> usize {
        let requests = self.world.simulator.requests();
        self.world.simulator.clear_requests();
        let begun = requests.iter().filter(|request| {
            request.path.ends_with(DELTA)
                && request.query.contains("startDateTime=")
                && request.status == 200
        });
        begun.count()
    }

    async fn reached(&mut self) {
        self.world.worker = Process::start(Binary::Worker, &[], &self.world.environment);
        self.truth
            .reached(&self.world.simulator, &self.client, PATIENCE)
            .await;
        self.check().await;
        assert!(self.tombstones().await.is_subset(&self.deleted));
    }

    async fn stop_worker(&mut self) {
        self.world.worker.signal("TERM").await;
        assert!(self.world.worker.end(LONG).await.success());
    }
}

const DELTA: &str = "/calendarView/delta";

#[tokio::test(flavor = "multi_thread")]
async fn a_first_pass_that_is_killed_again_and_again_goes_on_where_it_was() {
    let mut scene = Scene::start(1_500).await;
    // Before anything is stored; then after two pages, and two more.
    scene.catch(At::Request(DELTA, 0)).await;
    assert_eq!(scene.progress().await.0, 0);
    scene.edit(true);
    let mut last = 0;
    for _ in 0..2 {
        scene.catch(At::Request(DELTA, 3)).await;
        scene.edit(true);
        let (pages, all) = scene.progress().await;
        assert!(pages > last && !all, "{pages} pages after {last}");
        last = pages;
    }
    // With half a page written; and where the pass ends.
    scene.catch(At::Table("event_attendees", "SHARE")).await;
    scene.edit(false);
    scene.catch(At::Request("/instances", 1)).await;
    scene.edit(true);
    assert!(scene.progress().await.1, "all pages are stored");
    scene
        .catch(At::Table("calendar_connections", "SHARE ROW EXCLUSIVE"))
        .await;
    scene.edit(true);
    assert_eq!(
        scene.begun(),
        1,
        "no page was asked for again from the start"
    );
    scene.reached().await;
    assert_eq!(scene.begun(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pass_that_is_killed_removes_what_is_gone_and_nothing_before_its_end() {
    let mut scene = Scene::start(1_500).await;
    scene.reached().await;
    scene.stop_worker().await;
    let (singles, series) = (scene.singles(), scene.ids(true));
    let gone: Vec<&String> = singles.iter().step_by(4).chain(&series[..2]).collect();
    scene.delete(&gone);
    for id in &series[2..] {
        scene.add_hole(id, 5);
    }
    let before = scene.tombstones().await;
    assert!(before.is_empty());
    scene
        .world
        .simulator
        .invalidate_delta_tokens(MAILBOX)
        .unwrap();
    scene.begun();

    // The first request of all is refused, with 410.
    scene.catch(At::Request(DELTA, 4)).await;
    scene.edit(false);
    scene.catch(At::Table("sync_pass_seen", "SHARE")).await;
    scene.edit(false);
    scene.catch(At::Request("/instances", 1)).await;
    // A master that was not seen is asked for, before anything goes.
    scene.catch(At::Request("/events/", 1)).await;
    assert!(scene.progress().await.1, "all pages are stored");
    assert_eq!(scene.tombstones().await, before, "removed before the end");
    scene
        .catch(At::Table("calendar_connections", "SHARE ROW EXCLUSIVE"))
        .await;
    assert_eq!(
        scene.begun(),
        1,
        "no page was asked for again from the start"
    );
    scene.reached().await;
    assert_eq!(scene.tombstones().await, scene.deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_wakes_late_writes_nothing_any_more() {
    let mut scene = Scene::start(1_000).await;
    // It sleeps while the answer to its request arrives, and longer than its lease.
    scene.world.simulator.script_fault(Fault {
        path_contains: DELTA.to_owned(),
        skip: 2,
        delay_ms: 2_000,
        ..Fault::default()
    });
    let mut late = Process::start(Binary::Worker, &[], &scene.world.environment);
    eventually("two pages are stored, and the third is awaited", || async {
        scene.world.simulator.pending_faults().is_empty() && scene.progress().await.0 >= 2
    })
    .await;
    late.signal("STOP").await;
    scene.edit(true);
    scene.expire_lease().await;
    scene.reached().await;
    late.signal("CONT").await;
    eventually("the late one is refused", || async {
        late.log().contains("the lease no longer holds")
    })
    .await;
    scene.edit(true);
    scene
        .truth
        .reached(&scene.world.simulator, &scene.client, PATIENCE)
        .await;
    scene.check().await;
    // Both go on as before.
    for worker in [&mut late, &mut scene.world.worker] {
        worker.signal("TERM").await;
        assert!(worker.end(LONG).await.success());
    }
    assert!(
        !scene.world.worker.log().contains("lease_lost"),
        "{}",
        scene.world.worker.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_freezes_in_a_transaction_does_not_keep_its_account() {
    let mut scene = Scene::start(300).await;
    let frozen = {
        let mut holder = scene.world.database.connect().await;
        let transaction = holder.transaction().await.unwrap();
        transaction
            .batch_execute("LOCK TABLE event_attendees IN SHARE MODE")
            .await
            .unwrap();
        let mut environment = scene.world.environment.clone();
        for (name, value) in &mut environment {
            if name == "DATABASE_URL" {
                // A minute by default.
                value.push_str("?options=-c%20idle_in_transaction_session_timeout%3D1000");
            }
        }
        let frozen = Process::start(Binary::Worker, &[], &environment);
        eventually("it is in a transaction", || {
            scene.waits_for("event_attendees")
        })
        .await;
        frozen.signal("STOP").await;
        transaction.rollback().await.unwrap();
        frozen
    };
    scene.expire_lease().await;
    scene.reached().await;
    frozen.signal("CONT").await;
    eventually("it has noticed", || async {
        frozen.log().contains("pass failed") || frozen.log().contains("the lease no longer holds")
    })
    .await;
    scene.edit(true);
    scene
        .truth
        .reached(&scene.world.simulator, &scene.client, PATIENCE)
        .await;
    scene.check().await;
}
