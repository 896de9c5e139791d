//! Tokens and consent.

use std::time::Duration;

use calendar_e2e::{Binary, Process, User, World, day, eventually, timed};
use calendar_simulator::{Delivery, Fault, Options};
use serde_json::{Value, json};

use super::{ANN, BOB};

/// A key with which nothing was sealed.
const WRONG_KEY: &str = "other:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";

async fn connections(world: &World, user: &User) -> Vec<Value> {
    let list = world.get(user, "/v1/connections?limit=100").await;
    list["data"].as_array().unwrap().clone()
}

/// How often tokens were asked for.
fn token_requests(world: &World) -> usize {
    let requests = world.simulator.requests();
    let asked = requests
        .iter()
        .filter(|request| request.path.contains("/oauth2/v2.0/token"));
    asked.count()
}

/// The columns in which the account's tokens are, and what it waits for.
async fn grant_of(world: &World, connection: &str) -> String {
    let client = world.database.connect().await;
    let sql = "SELECT concat_ws(' ', c.access_token, c.refresh_token, c.calendar_id, a.provider_user_id, a.needs_reauth_reason)
        FROM calendar_connections AS c JOIN calendar_accounts AS a ON a.id = c.account_id WHERE c.id = $1::text::uuid";
    client.query_one(sql, &[&connection]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn t42_twenty_calendars_and_three_processes_meet_an_expired_token_and_refresh_once() {
    let options = Options {
        single_use_refresh_tokens: true,
        ..Options::default()
    };
    let mut world = World::start_with(options, &[("CALENDAR_POLL_PUSHED_SECONDS", "3600")]).await;
    let user = world.mailbox_and_user(ANN).await;
    for number in 1..20 {
        world
            .simulator
            .create_calendar(ANN, &format!("Calendar {number}"))
            .unwrap();
    }
    let page = world.connect(&user, ANN, json!({})).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let all = async |synced: &dyn Fn(&Value) -> bool| {
        let list = connections(&world, &user).await;
        list.len() == 20 && list.iter().all(synced)
    };
    eventually("all twenty are synced", || {
        all(&|one| one["status"] == "connected" && one["push"]["state"] == "healthy")
    })
    .await;

    world.stop_worker().await;
    let client = world.database.connect().await;
    let due = "UPDATE calendar_sync_states SET due_at = now(), requested_seq = requested_seq + 1, push_look = NULL";
    client.execute(due, &[]).await.unwrap();
    let expire = "UPDATE calendar_connections SET token_expires_at = now()";
    client.execute(expire, &[]).await.unwrap();
    world.simulator.revoke_access_tokens(ANN).unwrap();
    let ended: String = client
        .query_one("SELECT now()::text", &[])
        .await
        .unwrap()
        .get(0);
    let before = token_requests(&world);
    let start = || Process::start(Binary::Worker, &[], &world.environment);
    let mut workers = [start(), start(), start()];
    eventually("all twenty are synced again", || async {
        let sql = "SELECT count(*) FROM calendar_connections WHERE last_synced_at > $1::text::timestamptz";
        client.query_one(sql, &[&ended]).await.unwrap().get::<_, i64>(0) == 20
    })
    .await;
    assert_eq!(token_requests(&world), before + 1);
    let list = connections(&world, &user).await;
    assert!(
        list.iter().all(|one| one["status"] == "connected"),
        "{list:#?}"
    );
    for worker in &mut workers {
        worker.signal("TERM").await;
        assert!(worker.end(Duration::from_secs(30)).await.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t46_a_user_whose_provider_hangs_delays_nobody_else() {
    let world = World::start_with(
        Options::default(),
        &[
            ("CALENDAR_WORKER_CONCURRENCY", "2"),
            ("CALENDAR_POLL_PUSHED_SECONDS", "1"),
        ],
    )
    .await;
    let ann = world.mailbox_and_user(ANN).await;
    let bob = world.mailbox_and_user(BOB).await;
    let anns = world.connect_primary(&ann, ANN).await;
    let bobs = world.connect_primary(&bob, BOB).await;
    // First Ann's provider does not answer for longer than this test lasts; then it refuses.
    let hang = Fault {
        path_contains: "calendarView".to_owned(),
        mailbox: Some(ANN.to_owned()),
        status: 503,
        delay_ms: 60_000,
        ..Fault::default()
    };
    world.simulator.script_fault(hang.clone());
    eventually("Ann's pass waits", || async {
        world.simulator.pending_faults().is_empty()
    })
    .await;
    for number in 0..3 {
        let title = format!("Bob's {number}");
        let event = timed(&title, day(&world.simulator, 1), 9);
        world.simulator.create_event(BOB, None, &event).unwrap();
        eventually("Bob's edit is shown", || async {
            let events = world
                .events(&bob, &format!("connection_id={bobs}&q={number}"))
                .await;
            events.len() == 1
        })
        .await;
    }
    let requests = world.simulator.requests();
    let is_refused = requests.iter().any(|request| request.status == 503);
    assert!(!is_refused, "Ann's pass still waits");
    for (user, id) in [(&ann, &anns), (&bob, &bobs)] {
        world.wait_for_status(user, id, "connected").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t47_a_wrong_key_is_an_error_of_its_own_and_no_end() {
    let mut world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let connection = world.connect_primary(&user, ANN).await;
    let sealed = grant_of(&world, &connection).await;
    world.stop_worker().await;
    let right = world.environment.clone();
    for (name, value) in &mut world.environment {
        if name == "CALENDAR_TOKEN_KEYS" {
            WRONG_KEY.clone_into(value);
        }
    }
    let client = world.database.connect().await;
    let due = async || {
        let sql = "UPDATE calendar_sync_states SET due_at = now()";
        assert_eq!(client.execute(sql, &[]).await.unwrap(), 1);
    };
    due().await;
    world.start_worker();
    let state = world.wait_for_status(&user, &connection, "failing").await;
    assert_eq!(
        state["last_error"]["code"], "token_key_missing",
        "{state:#}"
    );
    world.stop_worker().await;
    let log = world.worker.log();
    assert!(
        log.contains("CALENDAR_TOKEN_KEYS") && !log.contains("panicked"),
        "{log}"
    );
    // Nobody is asked to sign in for that, and with the right key it goes on.
    assert_eq!(grant_of(&world, &connection).await, sealed);
    world.environment = right;
    due().await;
    world.start_worker();
    world.wait_for_status(&user, &connection, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t48_signing_in_again_with_another_mailbox_swaps_nothing() {
    let world =
        World::start_with(Options::default(), &[("CALENDAR_POLL_PUSHED_SECONDS", "1")]).await;
    let user = world.mailbox_and_user(ANN).await;
    world.simulator.create_mailbox(BOB, "Bob", "UTC").unwrap();
    for (mailbox, title) in [(ANN, "Ann's"), (BOB, "Bob's")] {
        let event = timed(title, day(&world.simulator, 1), 9);
        world.simulator.create_event(mailbox, None, &event).unwrap();
    }
    let anns = world.connect_primary(&user, ANN).await;
    world.simulator.revoke_refresh_tokens(ANN).unwrap();
    world.simulator.revoke_access_tokens(ANN).unwrap();
    world.wait_for_status(&user, &anns, "needs_reauth").await;
    let before = grant_of(&world, &anns).await;

    // Asked to sign in again, the user picks the other mailbox.
    let page = world
        .connect(&user, BOB, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    let list = connections(&world, &user).await;
    assert_eq!(list.len(), 2, "{list:#?}");
    let bobs = list.iter().find(|one| one["id"] != anns.as_str()).unwrap();
    let bobs = bobs["id"].as_str().unwrap();
    world.wait_for_status(&user, bobs, "connected").await;
    let title = async |connection: &str| {
        let events = world
            .events(&user, &format!("connection_id={connection}"))
            .await;
        assert_eq!(events.len(), 1);
        events[0]["title"].clone()
    };
    assert_eq!(
        (title(&anns).await, title(bobs).await),
        (json!("Ann's"), json!("Bob's"))
    );
    assert_eq!(grant_of(&world, &anns).await, before);
    world.wait_for_status(&user, &anns, "needs_reauth").await;

    // And with the right one it goes on under the same id.
    let page = world
        .connect(&user, ANN, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    world.wait_for_status(&user, &anns, "connected").await;
    assert_eq!(connections(&world, &user).await.len(), 2);
}

/// Access tokens that have expired, and a pass that is due.
async fn expire(world: &World) {
    let client = world.database.connect().await;
    let expire = "UPDATE calendar_connections SET token_expires_at = now();
        UPDATE calendar_sync_states SET due_at = now(), requested_seq = requested_seq + 1;
        NOTIFY calendar_sync";
    client.batch_execute(expire).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t43_a_lost_answer_to_a_refresh_asks_the_user_once_and_says_why() {
    let options = Options {
        single_use_refresh_tokens: true,
        ..Options::default()
    };
    let world = World::start_with(options, &[]).await;
    let user = world.mailbox_and_user(ANN).await;
    let connection = world.connect_primary(&user, ANN).await;
    let before = token_requests(&world);
    // The token is rotated, and we do not learn to what.
    world.simulator.script_fault(Fault {
        path_contains: "/oauth2/v2.0/token".to_owned(),
        after: true,
        delivery: Delivery::Closed,
        ..Fault::default()
    });
    expire(&world).await;
    eventually("the answer is lost", || async {
        token_requests(&world) == before + 1
    })
    .await;
    world.wait_for_status(&user, &connection, "failing").await;
    expire(&world).await;
    let state = world
        .wait_for_status(&user, &connection, "needs_reauth")
        .await;
    assert_eq!(state["last_error"]["code"], "invalid_grant", "{state:#}");
    expire(&world).await;
    let mut once = Process::start(Binary::Worker, &["--once"], &world.environment);
    assert!(once.end(Duration::from_secs(30)).await.success());
    assert_eq!(token_requests(&world), before + 2, "nobody asks again");
    let page = world
        .connect(&user, ANN, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    world.wait_for_status(&user, &connection, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t44_a_refresh_that_grants_less_keeps_the_token_and_is_told() {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let connection = world.connect_primary(&user, ANN).await;
    let path = format!("/v1/connections/{connection}");
    assert!(world.get(&user, &path).await["missing_permission"].is_null());
    let refreshed = world.simulator.issue_access_token(ANN).unwrap();
    world.simulator.script_fault(Fault {
        path_contains: "/oauth2/v2.0/token".to_owned(),
        status: 200,
        body: json!({"token_type": "Bearer", "expires_in": 3599, "access_token": refreshed, "scope": "openid User.Read"}),
        ..Fault::default()
    });
    expire(&world).await;
    eventually("the loss is told", || async {
        world.get(&user, &path).await["missing_permission"] == "read_calendars"
    })
    .await;
    let event = timed("Still read", day(&world.simulator, 1), 9);
    world.simulator.create_event(ANN, None, &event).unwrap();
    eventually("reads go on", || async {
        let state = world.get(&user, &path).await;
        let events = world
            .events(&user, &format!("connection_id={connection}&q=Still"))
            .await;
        state["status"] == "connected" && events.len() == 1
    })
    .await;
    // The old refresh token is still good, and what it gives now is whole again.
    expire(&world).await;
    eventually("nothing is missing", || async {
        let state = world.get(&user, &path).await;
        state["status"] == "connected" && state["missing_permission"].is_null()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t45_refusals_are_told_apart_and_not_repeated() {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let id = world.connect_primary(&user, ANN).await;
    let refuse = |error: &str, number: u32| {
        world.simulator.script_fault(Fault {
            path_contains: "/oauth2/v2.0/token".to_owned(),
            ..Fault::entra(error, number, None)
        });
    };
    for (error, number, code) in [
        ("invalid_grant", 65_001, "consent_required"),
        ("interaction_required", 50_076, "interaction_required"),
        ("invalid_grant", 700_082, "grant_inactive"),
        ("invalid_grant", 90_094, "admin_consent_required"),
    ] {
        let before = token_requests(&world);
        refuse(error, number);
        expire(&world).await;
        let state = world.wait_for_status(&user, &id, "needs_reauth").await;
        assert_eq!(state["last_error"]["code"], code, "{state:#}");
        // Due or not, nobody asks again.
        expire(&world).await;
        let mut once = Process::start(Binary::Worker, &["--once"], &world.environment);
        assert!(once.end(Duration::from_secs(30)).await.success());
        assert_eq!(token_requests(&world), before + 1);
        let page = world
            .connect(&user, ANN, json!({"calendars": "primary"}))
            .await;
        assert_eq!(page.status, 200, "{}", page.text);
        world.wait_for_status(&user, &id, "connected").await;
    }

    // The secret is no user's matter: it fails, and recovers.
    refuse("invalid_client", 7_000_222);
    expire(&world).await;
    let state = world.wait_for_status(&user, &id, "failing").await;
    assert_eq!(
        state["last_error"]["code"], "client_secret_expired",
        "{state:#}"
    );
    expire(&world).await;
    world.wait_for_status(&user, &id, "connected").await;
}
