//! The provider's limits.

use calendar_e2e::{User, World, day, eventually, timed};
use calendar_simulator::jiff::{SignedDuration, Timestamp};
use calendar_simulator::{Fault, Options, RetryAfter};
use reqwest::Method;
use serde_json::{Value, json};

use super::BOB;

/// Connects the primary calendar of one more mailbox to the same user. Answers its connection.
async fn one_more(world: &World, user: &User, mailbox: &str) -> String {
    world
        .simulator
        .create_mailbox(mailbox, "Somebody", "UTC")
        .unwrap();
    let page = world
        .connect(user, mailbox, json!({"calendars": "primary"}))
        .await;
    assert_eq!(page.status, 200, "{}", page.text);
    let list = world.get(user, "/v1/connections?limit=100").await;
    let list = list["data"].as_array().unwrap();
    let made = list.iter().find(|one| one["account_email"] == mailbox);
    let id = made.unwrap()["id"].as_str().unwrap().to_owned();
    world.wait_for_status(user, &id, "connected").await;
    id
}

/// How long a connection that has just failed waits.
fn wait_of(connection: &Value) -> SignedDuration {
    let at = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    at(&connection["next_sync_at"]).duration_since(at(&connection["last_error"]["at"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn t49_each_retry_after_is_honoured_within_reason_and_others_go_on() {
    const HOUR: i64 = 3_600;
    let world = World::start_with(
        Options::default(),
        &[
            ("CALENDAR_POLL_SECONDS", "3600"),
            ("CALENDAR_POLL_PUSHED_SECONDS", "3600"),
        ],
    )
    .await;
    let user = world.user("ann@example.com").await;
    let bobs = one_more(&world, &user, BOB).await;
    // What is answered, and the seconds that may pass until the next attempt: what was asked, or a first wait of ours.
    let answers = [
        ("seconds", Some(RetryAfter::Seconds(60)), 59..62),
        ("date", Some(RetryAfter::Date(90)), 87..92),
        ("missing", None, 1..17),
        ("zero", Some(RetryAfter::Seconds(0)), 1..17),
        (
            "for-ever",
            Some(RetryAfter::Seconds(u64::MAX)),
            HOUR - 2..24 * HOUR,
        ),
    ];
    let mut connections = Vec::new();
    for (name, retry_after, allowed) in answers {
        let mailbox = format!("{name}@contoso.example");
        let id = one_more(&world, &user, &mailbox).await;
        world.simulator.script_fault(Fault {
            mailbox: Some(mailbox.clone()),
            path_contains: "calendarView".to_owned(),
            retry_after,
            ..Fault::graph(429, "ApplicationThrottled", "")
        });
        let path = format!("/v1/connections/{id}/sync");
        world
            .call(Some(&user), Method::POST, &path, None)
            .await
            .expect(202);
        connections.push((mailbox, id, allowed));
    }
    let asked = |mailbox: &str| {
        let requests = world.simulator.requests();
        let its = requests
            .iter()
            .filter(|request| request.mailbox.as_deref() == Some(mailbox));
        its.count()
    };
    let mut waiting = Vec::new();
    for (mailbox, id, allowed) in &connections {
        let shown = world.wait_for_status(&user, id, "failing").await;
        let wait = wait_of(&shown).as_secs();
        assert!(allowed.contains(&wait), "{mailbox}: {wait} s");
        if allowed.start > 1 {
            waiting.push((mailbox, asked(mailbox)));
        }
        // A push is no reason to ask sooner.
        let event = timed("Pushed", day(&world.simulator, 1), 9);
        world.simulator.create_event(mailbox, None, &event).unwrap();
    }
    let event = timed("Bob's", day(&world.simulator, 1), 9);
    world.simulator.create_event(BOB, None, &event).unwrap();
    eventually("Bob's edit is shown", || async {
        world
            .events(&user, &format!("connection_id={bobs}"))
            .await
            .len()
            == 1
    })
    .await;
    for (_, id, allowed) in &connections {
        if allowed.start == 1 {
            world.wait_for_status(&user, id, "connected").await;
        }
    }
    for (mailbox, before) in waiting {
        assert_eq!(asked(mailbox), before, "{mailbox} is left alone");
    }
}
