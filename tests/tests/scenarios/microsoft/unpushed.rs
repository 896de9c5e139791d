//! Calendars of others: read by a delegate, or shared into one's own list. They give no pushes and are polled.

use calendar_e2e::{Binary, Process, User, World, eventually};
use calendar_simulator::jiff::{ToSpan, tz::TimeZone};
use calendar_simulator::{OccurrenceChange, Options, Quirks};
use reqwest::Method;
use serde_json::{Value, json};

use super::ANN;

const BOSS: &str = "boss@contoso.example";

async fn world() -> (World, User) {
    world_with(Quirks::default()).await
}

async fn world_with(quirks: Quirks) -> (World, User) {
    let world = World::start_with(
        Options {
            quirks,
            ..Options::default()
        },
        &[
            ("CALENDAR_POLL_SECONDS", "1"),
            ("CALENDAR_POLL_PUSHED_SECONDS", "3600"),
        ],
    )
    .await;
    for (mailbox, name) in [(BOSS, "The Boss"), (ANN, "Ann Example")] {
        world
            .simulator
            .create_mailbox(mailbox, name, "UTC")
            .unwrap();
    }
    let user = world.user("ann@example.com").await;
    (world, user)
}

fn event(world: &World, mailbox: &str, calendar: Option<&str>, title: &str) {
    let today = world.simulator.now().to_string();
    let today = &today[..10];
    let event = json!({
        "subject": title,
        "start": {"dateTime": format!("{today}T09:00:00"), "timeZone": "UTC"},
        "end": {"dateTime": format!("{today}T09:30:00"), "timeZone": "UTC"},
    });
    world
        .simulator
        .create_event(mailbox, calendar, &event)
        .unwrap();
}

async fn wait_for(world: &World, user: &User, connection: &str, titles: &[&str]) {
    eventually(&format!("the API shows {titles:?}"), || async {
        let events = world
            .events(user, &format!("connection_id={connection}"))
            .await;
        let mut shown: Vec<_> = events
            .iter()
            .map(|event| event["title"].as_str().unwrap().to_owned())
            .collect();
        shown.sort();
        shown == titles
    })
    .await;
}

async fn connections(world: &World, user: &User) -> Vec<Value> {
    let list = world.get(user, "/v1/connections").await;
    list["data"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn t41_a_delegate_reads_the_owners_calendar_by_polling_until_access_is_taken_away() {
    let (world, user) = world().await;
    event(&world, BOSS, None, "Board");
    world.simulator.share_mailbox(BOSS, ANN, false).unwrap();
    let body = json!({"delegate_email": BOSS, "calendars": "primary"});
    let page = world.connect(&user, ANN, body).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let connection = connections(&world, &user).await.remove(0);
    assert_eq!(connection["delegate_email"], BOSS);
    let id = connection["id"].as_str().unwrap().to_owned();
    wait_for(&world, &user, &id, &["Board"]).await;

    // No push, and healthy so: an edit is found by polling, though pushes are what own calendars wait for.
    event(&world, BOSS, None, "Budget");
    wait_for(&world, &user, &id, &["Board", "Budget"]).await;
    let shown = world.wait_for_status(&user, &id, "connected").await;
    assert_eq!(
        shown["push"],
        json!({"state": "unsupported", "expires_at": null})
    );
    let path = format!("/v1/connections/{id}/subscriptions");
    assert_eq!(world.get(&user, &path).await["data"], json!([]));
    assert!(world.simulator.subscriptions().is_empty());
    assert!(
        world
            .simulator
            .requests()
            .iter()
            .all(|request| !request.path.contains("subscriptions")),
        "nobody asks for what the provider refuses"
    );

    world.simulator.unshare(BOSS, ANN).unwrap();
    let shown = world.wait_for_status(&user, &id, "failing").await;
    let code = shown["last_error"]["code"].as_str().unwrap();
    assert!(
        ["calendar_access_denied", "calendar_not_found"].contains(&code),
        "{code}"
    );
    // What was read is kept; nothing is guessed.
    wait_for(&world, &user, &id, &["Board", "Budget"]).await;

    world.simulator.share_mailbox(BOSS, ANN, false).unwrap();
    event(&world, BOSS, None, "Cuts");
    world
        .call(
            Some(&user),
            Method::POST,
            &format!("/v1/connections/{id}/sync"),
            None,
        )
        .await
        .expect(202);
    wait_for(&world, &user, &id, &["Board", "Budget", "Cuts"]).await;
    world.wait_for_status(&user, &id, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t41_a_shared_calendar_in_ones_own_list_is_polled_beside_pushed_ones() {
    let (world, user) = world().await;
    world.simulator.create_calendar(BOSS, "Projects").unwrap();
    world
        .simulator
        .share_calendar(BOSS, Some("Projects"), ANN, false)
        .unwrap();
    let page = world.connect(&user, ANN, json!({})).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let list = connections(&world, &user).await;
    let id = |is_primary: bool| {
        let found = list.iter().find(|one| one["is_primary"] == is_primary);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (own, shared) = (id(true), id(false));
    for id in [&own, &shared] {
        world.wait_for_status(&user, id, "connected").await;
    }
    let push = async |id: &str| {
        let path = format!("/v1/connections/{id}");
        world.get(&user, &path).await["push"]["state"].clone()
    };
    eventually("the own one is pushed", || async {
        push(&own).await == "healthy"
    })
    .await;
    assert_eq!(push(&shared).await, "unsupported");

    event(&world, BOSS, Some("Projects"), "Launch");
    wait_for(&world, &user, &shared, &["Launch"]).await;
    assert_eq!(world.simulator.push_counts().sent, 0, "by polling alone");
    event(&world, ANN, None, "Lunch");
    wait_for(&world, &user, &own, &["Lunch"]).await;
}

/// Graph shows the first page of such a calendar's delta and denies the second.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegates_calendar_whose_feed_is_refused_is_read_as_a_list() {
    let (world, user) = world_with(Quirks {
        delegate_pages_denied: true,
        ..Quirks::default()
    })
    .await;
    let simulator = &world.simulator;
    let today = simulator.now().to_zoned(TimeZone::UTC).date();
    let timed = |title: &str, days: i64| {
        let date = today + days.days();
        json!({
            "subject": title,
            "start": {"dateTime": format!("{date}T09:00:00"), "timeZone": "UTC"},
            "end": {"dateTime": format!("{date}T09:30:00"), "timeZone": "UTC"},
        })
    };
    let mut series = timed("Stand-up", -200);
    series["recurrence"] = json!({
        "pattern": {"type": "daily", "interval": 1},
        "range": {"type": "noEnd", "startDate": (today - 200.days()).to_string()},
    });
    let series = simulator.create_event(BOSS, None, &series).unwrap();
    let singles: Vec<String> = (0..25)
        .map(|n| {
            let event = timed(&format!("Meeting {n}"), n);
            simulator.create_event(BOSS, None, &event).unwrap()
        })
        .collect();
    simulator.share_mailbox(BOSS, ANN, false).unwrap();
    let body = json!({"delegate_email": BOSS, "calendars": "primary"});
    let page = world.connect(&user, ANN, body).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let id = connections(&world, &user).await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (from, to) = (
        format!("{}T00:00:00Z", today - 80.days()),
        format!("{}T00:00:00Z", today + 360.days()),
    );
    let same = || world.converge(&user, &id, BOSS, &from, &to);
    same().await;
    world.wait_for_status(&user, &id, "connected").await;

    let (renamed, moved) = (json!({"subject": "Renamed"}), timed("Moved", -5));
    simulator.edit_event(BOSS, &singles[0], &renamed).unwrap();
    simulator.edit_event(BOSS, &singles[1], &moved).unwrap();
    simulator.delete_event(BOSS, &singles[2]).unwrap();
    let daily = json!({"subject": "Daily"});
    simulator.edit_event(BOSS, &series, &daily).unwrap();
    let deleted = OccurrenceChange::Delete;
    simulator
        .change_occurrence(BOSS, &series, today + 3.days(), &deleted)
        .unwrap();
    simulator.clear_requests();
    world.pass(&user, &id).await;
    same().await;
    let requests = simulator.requests();
    let feed = requests.iter().filter(|asked| asked.path.contains("delta"));
    assert_eq!(feed.count(), 0, "the list is remembered");

    let written = || async {
        let sql = "SELECT md5(string_agg(e.id || e.xmin::text || e.ctid, '' ORDER BY e.id)) FROM calendar_events AS e";
        let client = world.database.connect().await;
        let row = client.query_one(sql, &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    let before = written().await;
    world.pass(&user, &id).await;
    assert_eq!(
        written().await,
        before,
        "nothing changed, nothing is written"
    );

    simulator.unshare(BOSS, ANN).unwrap();
    let path = format!("/v1/connections/{id}/sync");
    let sync = world.call(Some(&user), Method::POST, &path, None).await;
    sync.expect(202);
    let shown = world.wait_for_status(&user, &id, "failing").await;
    let code = shown["last_error"]["code"].as_str().unwrap();
    assert!(
        ["calendar_access_denied", "calendar_not_found"].contains(&code),
        "{code}"
    );
    assert_eq!(written().await, before);
}

/// An owner, her second user here and delegates read one mailbox, in three workers, while others connect.
#[tokio::test(flavor = "multi_thread")]
async fn t50_one_mailbox_gets_four_requests_at_a_time_from_all_processes() {
    let world = World::start_with(
        Options {
            quirks: Quirks {
                latency_ms: 30,
                ..Quirks::default()
            },
            ..Options::default()
        },
        &[
            ("CALENDAR_POLL_SECONDS", "1"),
            ("CALENDAR_POLL_PUSHED_SECONDS", "1"),
        ],
    )
    .await;
    let simulator = &world.simulator;
    simulator.create_mailbox(BOSS, "The Boss", "UTC").unwrap();
    for day in 1..=9 {
        event(&world, BOSS, None, &format!("Event {day}"));
    }
    let workers = [(); 2].map(|()| Process::start(Binary::Worker, &[], &world.environment));
    let mut users = Vec::new();
    for n in 0..7 {
        let user = world.user(&format!("user{n}@example.com")).await;
        let mailbox = format!("d{n}@contoso.example");
        let (mailbox, body) = match n {
            0 | 1 => (BOSS, json!({"calendars": "primary"})),
            _ => {
                simulator
                    .create_mailbox(&mailbox, "Delegate", "UTC")
                    .unwrap();
                simulator.share_mailbox(BOSS, &mailbox, false).unwrap();
                let body = json!({"delegate_email": BOSS, "calendars": "primary"});
                (mailbox.as_str(), body)
            }
        };
        let page = world.connect(&user, mailbox, body).await;
        assert_eq!(page.status, 200, "{}", page.text);
        users.push(user);
    }
    // Each of them is read again and again, whoever else reads the mailbox.
    let synced = |list: &Value| list["data"][0]["last_synced_at"].clone();
    for _ in 0..3 {
        for user in &users {
            let path = "/v1/connections";
            let before = synced(&world.get(user, path).await);
            eventually("everybody has a turn", || async {
                let now = synced(&world.get(user, path).await);
                !now.is_null() && now != before
            })
            .await;
        }
    }
    let at_most = simulator.in_flight();
    let boss = at_most.iter().find(|of| of.mailbox == BOSS).unwrap();
    assert!((2..=4).contains(&boss.most), "{boss:?}");
    let requests = simulator.requests();
    assert!(requests.iter().all(|asked| asked.status != 429));
    drop(workers);
}
