//! Attendees and meetings.

use calendar_e2e::{World, day, eventually, timed};
use serde_json::{Value, json};

use super::ANN;

#[tokio::test(flavor = "multi_thread")]
async fn t54_an_attendee_who_was_removed_at_the_provider_is_removed_here() {
    let world = World::start().await;
    let user = world.mailbox_and_user(ANN).await;
    let attendees = |names: &[&str]| -> Value {
        let attendee = |name: &&str| json!({"type": "required", "emailAddress": {"name": name, "address": format!("{name}@example.com")}});
        names.iter().map(attendee).collect()
    };
    let mut meeting = timed("Planning", day(&world.simulator, 1), 10);
    meeting["attendees"] = attendees(&["bob", "carl", "dora"]);
    let id = world.simulator.create_event(ANN, None, &meeting).unwrap();
    let connection = world.connect_primary(&user, ANN).await;
    let query = format!("connection_id={connection}");
    for left in [
        &["bob", "carl", "dora"][..],
        &["bob", "dora"],
        &[],
        &["carl"],
    ] {
        world
            .simulator
            .edit_event(ANN, &id, &json!({"attendees": attendees(left)}))
            .unwrap();
        eventually(&format!("{left:?} are left"), || async {
            let events = world.events(&user, &query).await;
            let shown = events[0]["attendees"].as_array().unwrap().iter();
            let mut shown: Vec<_> = shown
                .map(|one| one["email"].as_str().unwrap().to_owned())
                .collect();
            shown.sort();
            shown
                .iter()
                .map(|email| email.trim_end_matches("@example.com"))
                .eq(left.iter().copied())
        })
        .await;
    }
}
