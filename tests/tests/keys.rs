//! Keys of both kinds through the real programs: those that seal tokens, rotated while traffic goes on, and
//! those with which a product's backend acts for its users.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::time::Duration;

use calendar_e2e::{Binary, Process, User, World, eventually};
use calendar_simulator::Options;
use reqwest::Method;
use serde_json::{Value, json};

const ANN: &str = "ann@contoso.example";
const BOB: &str = "bob@contoso.example";
const LONG: Duration = Duration::from_secs(30);
const OLD: &str = "old:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const NEW: &str = "new:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
/// Sign-ins under way: more than one statement of a rotation reads.
const BEGUN: usize = 260;

/// Both programs end, and begin again with these keys.
async fn restart(world: &mut World, keys: &str) {
    for process in [&mut world.worker, &mut world.api] {
        process.signal("TERM").await;
        assert!(process.end(LONG).await.success());
    }
    let mut variables = world.environment.iter_mut();
    let (_, value) = variables
        .find(|(name, _)| name == "CALENDAR_TOKEN_KEYS")
        .unwrap();
    keys.clone_into(value);
    world.api = Process::start(Binary::Api, &[], &world.environment);
    world.worker = Process::start(Binary::Worker, &[], &world.environment);
    world.ready().await;
}

/// The ids of the keys that seal something, as an operator is told.
async fn sealing(world: &World) -> Vec<String> {
    let mut status = Process::start(Binary::Api, &["keys", "status"], &world.environment);
    assert!(status.end(LONG).await.success(), "{}", status.log());
    eventually("it says so", || async { status.log().contains('\t') }).await;
    let log = status.log();
    let lines = log.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(id, _)| id.to_owned()).collect()
}

fn refreshes(world: &World) -> usize {
    let requests = world.simulator.requests();
    requests
        .iter()
        .filter(|request| request.path.contains("/oauth2/v2.0/token") && request.status == 200)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn t47_a_rotation_that_was_killed_goes_on_and_then_the_old_key_can_go() {
    let options = Options {
        access_token_seconds: 2,
        ..Options::default()
    };
    let mut world = World::start_with(options, &[("CALENDAR_TOKEN_KEYS", OLD)]).await;
    for mailbox in [ANN, BOB] {
        let simulator = &world.simulator;
        simulator
            .create_mailbox(mailbox, "Somebody", "UTC")
            .unwrap();
    }
    let (ann, bob) = (
        world.user("ann@example.com").await,
        world.user("bob@example.com").await,
    );
    let anns = world.connect_primary(&ann, ANN).await;
    let bobs = world.connect_primary(&bob, BOB).await;
    // Nothing but the rotation seals what is Bob's anew.
    let pause = async |world: &World, paused: bool| {
        let path = format!("/v1/connections/{bobs}");
        world
            .call(
                Some(&bob),
                Method::PATCH,
                &path,
                Some(json!({"paused": paused})),
            )
            .await
            .expect(200);
    };
    pause(&world, true).await;
    let begin = json!({"provider": "microsoft"});
    let mut begun = world.authorize_url(&ann, begin.clone()).await;
    for _ in 1..BEGUN {
        begun = world.authorize_url(&ann, begin.clone()).await;
    }
    assert_eq!(sealing(&world).await, ["old"]);
    restart(&mut world, &format!("{NEW},{OLD}")).await;

    // A rotation is killed where it waits: at a value of its second statement.
    let client = world.database.connect().await;
    let under = async |key: &str| {
        let sql = "SELECT count(*) FROM connect_sessions WHERE starts_with(code_verifier, $1)";
        let rows = client.query_one(sql, &[&format!("v1.{key}.")]).await;
        rows.unwrap().get::<_, i64>(0)
    };
    let all = under("old").await;
    let sql = "SELECT FROM connect_sessions WHERE id = (SELECT id FROM connect_sessions
        WHERE starts_with(code_verifier, 'v1.old.') ORDER BY id OFFSET 230 LIMIT 1) FOR UPDATE";
    let other = world.database.connect().await;
    other.batch_execute("BEGIN").await.unwrap();
    assert_eq!(other.execute(sql, &[]).await.unwrap(), 1);
    let mut rotation = Process::start(Binary::Api, &["keys", "rotate"], &world.environment);
    eventually("it is where it waits", || async {
        under("old").await == all - 230
    })
    .await;
    // Traffic goes on.
    world.pass(&ann, &anns).await;
    world.authorize_url(&ann, begin).await;
    rotation.signal("KILL").await;
    assert!(!rotation.end(LONG).await.success());
    other.batch_execute("ROLLBACK").await.unwrap();
    assert!(under("old").await > 0 && under("new").await > 0);
    assert_eq!(sealing(&world).await, ["new", "old"]);

    let mut rotation = Process::start(Binary::Api, &["keys", "rotate"], &world.environment);
    assert!(rotation.end(LONG).await.success(), "{}", rotation.log());
    assert_eq!(sealing(&world).await, ["new"]);

    restart(&mut world, NEW).await;
    let before = refreshes(&world);
    // A pass that the pause refused leaves its lease to run out: as if that minute had passed.
    let expire = "UPDATE calendar_accounts SET lease_expires_at = now()";
    client.execute(expire, &[]).await.unwrap();
    pause(&world, false).await;
    world.pass(&bob, &bobs).await;
    world.pass(&ann, &anns).await;
    eventually("tokens are refreshed", || async {
        refreshes(&world) >= before + 2
    })
    .await;
    for (user, id) in [(&ann, &anns), (&bob, &bobs)] {
        world.pass(user, id).await;
        world.wait_for_status(user, id, "connected").await;
    }
    // A sign-in that was begun under the old key.
    let callback = world.sign_in_at_provider(begun, ANN).await;
    let page = world.http.send(Method::GET, &callback, None, None).await;
    let page = page.unwrap();
    assert_eq!(page.status, 200, "{}", page.text);
}

/// A product's backend: its owner, its key, and a user whom it made.
struct Product {
    owner: User,
    eve: User,
}

async fn product(world: &World, owner: &str) -> Product {
    let owner = world.user(owner).await;
    let key = world.service_key(&owner).await;
    let key = key["key"].as_str().unwrap();
    let eve = world.managed_user(key, "eve@example.com").await;
    Product { owner, eve }
}

async fn status(world: &World, user: &User, path: &str) -> (u16, Value) {
    let answer = world.call(Some(user), Method::GET, path, None).await;
    (answer.status.as_u16(), answer.json()["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_products_backend_acts_for_its_users_and_for_nobody_elses() {
    let world = World::start().await;
    let simulator = &world.simulator;
    simulator.create_mailbox(ANN, "Ann", "UTC").unwrap();
    let today = simulator.now().to_string();
    let today = &today[..10];
    let event = json!({"subject": "Planning",
        "start": {"dateTime": format!("{today}T09:00:00"), "timeZone": "UTC"},
        "end": {"dateTime": format!("{today}T10:00:00"), "timeZone": "UTC"}});
    simulator.create_event(ANN, None, &event).unwrap();
    let one = product(&world, "owner@one.example").await;
    let two = product(&world, "owner@two.example").await;
    assert_ne!(one.eve.calendar_user, two.eve.calendar_user);

    let connection = world.connect_primary(&one.eve, ANN).await;
    let events = world.events(&one.eve, "").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["title"], "Planning");
    let event = events[0]["id"].as_str().unwrap().to_owned();

    // The other product's user of the same address, and its owner, and this one's: they have nothing of it.
    let things = [
        format!("/v1/connections/{connection}"),
        format!("/v1/connections/{connection}/subscriptions"),
        format!("/v1/events/{event}"),
    ];
    for user in [&two.eve, &two.owner, &one.owner] {
        for list in ["/v1/events", "/v1/connections"] {
            assert_eq!(world.get(user, list).await["data"], json!([]), "{list}");
        }
        for path in &things {
            assert_eq!(status(&world, user, path).await.0, 404, "{path}");
        }
    }
    // For the other product that user is nowhere.
    let stranger = User {
        token: two.eve.token.clone(),
        ..one.eve.clone()
    };
    let lists = ["/v1/me", "/v1/me/export", "/v1/events", "/v1/connections"];
    for path in lists.into_iter().chain(things.iter().map(String::as_str)) {
        let answer = status(&world, &stranger, path).await;
        assert_eq!(answer, (404, json!("user_not_found")), "{path}");
    }
    let found = world
        .get(&two.owner, "/v1/users?email=eve@example.com")
        .await;
    let ids = found["data"].as_array().unwrap().iter();
    let ids: Vec<_> = ids.map(|user| user["id"].as_str()).collect();
    assert_eq!(ids, [two.eve.calendar_user.as_deref()]);

    // With the owner goes all that the product had, and nothing else.
    let theirs = world.connect_primary(&two.eve, ANN).await;
    let gone = world.call(Some(&one.owner), Method::DELETE, "/v1/me", None);
    assert_eq!(gone.await.status, 204);
    for user in [&one.owner, &one.eve] {
        assert_eq!(
            status(&world, user, "/v1/me").await,
            (401, json!("token_invalid"))
        );
    }
    let client = world.database.connect().await;
    let sql = "SELECT count(*) FILTER (WHERE c.access_token IS NOT NULL OR c.refresh_token IS NOT NULL),
            bool_and(c.deleted_at IS NOT NULL)
        FROM users AS u JOIN calendar_connections AS c ON c.user_id = u.id WHERE u.id = $1::text::uuid";
    let row = client.query_one(sql, &[&one.eve.calendar_user]).await;
    let row = row.unwrap();
    assert_eq!((row.get(0), row.get(1)), (0_i64, Some(true)));
    world.pass(&two.eve, &theirs).await;
    assert_eq!(world.events(&two.eve, "").await.len(), 1);
}
