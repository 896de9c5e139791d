//! What answers look like, field by field.

use calendar_domain::event::EventMoment;
use serde_json::json;
use time::macros::{date, datetime};

use crate::support::{App, all_day, connection, id, master, occurrence, single};

async fn app_with_events() -> App {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    app.world
        .connections
        .lock()
        .unwrap()
        .push(connection(user, 500));
    *app.world.events.lock().unwrap() = vec![
        single(10, 500),
        all_day(11, 500),
        master(12, 500),
        occurrence(13, 500),
    ];
    app
}

#[tokio::test]
async fn a_user() {
    let app = App::new();
    let body =
        json!({"email": " Ada@Example.com ", "password": "correct horse", "first_name": "Ada"});
    let answer = app.post("/v1/users", &body).await;
    assert_eq!(answer.status, 201);
    insta::assert_json_snapshot!("user", answer.json());
}

#[tokio::test]
async fn a_sign_in() {
    let app = App::new();
    app.token_of("ada@example.com").await;
    let body = json!({"email": "ADA@example.com", "password": "correct horse"});
    let answer = app.post("/v1/sessions", &body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["token"].as_str().unwrap().len(), 43);
    insta::assert_json_snapshot!("session", answer.json(), {".token" => "[token]"});
}

#[tokio::test]
async fn a_round_trip() {
    let app = App::signed_in().await;
    let answer = app
        .post("/v1/connect_sessions", &json!({"provider": "microsoft"}))
        .await;
    assert_eq!(answer.status, 201);
    insta::assert_json_snapshot!("connect_session", answer.json(), {
        ".id" => "[id]", ".authorize_url" => "[url]",
    });
    assert!(
        answer.json()["authorize_url"]
            .as_str()
            .unwrap()
            .starts_with("https://login.example/")
    );
}

#[tokio::test]
async fn a_connection() {
    let app = app_with_events().await;
    let one = app.get(&format!("/v1/connections/{}", id(500))).await;
    assert_eq!(one.status, 200);
    insta::assert_json_snapshot!("connection", one.json());
    let list = app.get("/v1/connections").await.json();
    assert_eq!(list, json!({"data": [one.json()], "next_cursor": null}));
}

#[tokio::test]
async fn a_timed_event_has_instants_and_no_dates() {
    let answer = app_with_events()
        .await
        .get(&format!("/v1/events/{}", id(10)))
        .await;
    assert_eq!(answer.status, 200);
    insta::assert_json_snapshot!("event_timed", answer.json());
}

#[tokio::test]
async fn an_all_day_event_has_dates_and_no_instants() {
    let answer = app_with_events()
        .await
        .get(&format!("/v1/events/{}", id(11)))
        .await;
    insta::assert_json_snapshot!("event_all_day", answer.json());
}

#[tokio::test]
async fn a_master_has_its_rule_in_whole_and_in_parts() {
    let answer = app_with_events()
        .await
        .get(&format!("/v1/events/{}", id(12)))
        .await;
    insta::assert_json_snapshot!("event_master_recurrence", answer.json()["recurrence"]);
}

#[tokio::test]
async fn an_instance_names_its_series() {
    let answer = app_with_events()
        .await
        .get(&format!("/v1/events/{}", id(13)))
        .await;
    insta::assert_json_snapshot!("event_instance_series", answer.json()["series"]);
}

#[tokio::test]
async fn a_list_of_one_connection_says_how_fresh_it_is_and_what_it_covers() {
    let app = app_with_events().await;
    let of_all = app.get("/v1/events").await.json();
    assert_eq!(of_all["data"].as_array().unwrap().len(), 4);
    assert!(of_all.get("as_of").is_none() && of_all.get("window").is_none());
    assert!(
        of_all["data"][0].get("provider_metadata").is_none(),
        "not in lists"
    );

    let of_one = app
        .get(&format!("/v1/events?connection_id={}", id(500)))
        .await
        .json();
    assert_eq!(of_one["as_of"], "2026-01-05T08:59:30.5Z");
    assert_eq!(
        of_one["window"],
        json!({"from": "2025-09-07T00:00:00Z", "to": "2027-02-04T00:00:00Z"})
    );
    assert_eq!(of_one["next_cursor"], json!(null));
}

#[tokio::test]
async fn a_tombstone_is_three_fields_and_is_not_found_alone() {
    let app = app_with_events().await;
    app.world.events.lock().unwrap()[0].deleted_at = Some(datetime!(2026-01-05 08:00 UTC));
    let list = app
        .get("/v1/events?updated_since=2026-01-01T00:00:00Z&include_deleted=true")
        .await;
    assert_eq!(
        list.json()["data"][0],
        json!({"id": id(10), "connection_id": id(500), "deleted_at": "2026-01-05T08:00:00Z"})
    );
    app.get(&format!("/v1/events/{}", id(10)))
        .await
        .assert_problem(404, "event_not_found");
    let without = app.get("/v1/events").await.json();
    assert_eq!(without["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_zone_that_is_unknown_and_a_rule_that_cannot_be_said() {
    let app = app_with_events().await;
    {
        let mut events = app.world.events.lock().unwrap();
        events[0].timezone = None;
        events[0].timezone_unresolved = true;
        let recurrence = events[2].recurrence.as_mut().unwrap();
        (recurrence.rule, recurrence.columns) = (None, None);
    }
    let event = app.get(&format!("/v1/events/{}", id(10))).await.json();
    assert_eq!(
        (&event["timezone"], &event["timezone_unresolved"]),
        (&json!(null), &json!(true))
    );
    let series = app.get(&format!("/v1/events/{}", id(12))).await.json();
    assert_eq!(series["recurrence"]["rule"], json!(null));
    assert_eq!(series["recurrence"]["by_month"], json!([]));
    assert_eq!(
        series["recurrence"]["exception_dates"],
        json!(["2026-02-10T08:00:00Z"])
    );
}

#[tokio::test]
async fn the_dates_of_an_all_day_series_are_dates_everywhere() {
    let app = app_with_events().await;
    {
        let mut events = app.world.events.lock().unwrap();
        events[2].span = events[1].span;
        let recurrence = events[2].recurrence.as_mut().unwrap();
        recurrence.exception_dates = vec![EventMoment::Date(date!(2026 - 02 - 10))];
    }
    let series = app.get(&format!("/v1/events/{}", id(12))).await.json();
    assert_eq!(
        series["recurrence"]["exception_dates"],
        json!(["2026-02-10"])
    );
    assert_eq!(series["recurrence"]["end_date"], "2026-12-31");
}
