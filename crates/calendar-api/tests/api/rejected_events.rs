//! What was set aside, as its user sees it: page by page, and in the export.

use serde_json::json;

use crate::support::{App, connection, id, rejected};

async fn app() -> App {
    let app = App::signed_in().await;
    let user = app.world.user("ada@example.com");
    let connections = [connection(user, 500), connection(user, 501)];
    app.world.connections.lock().unwrap().extend(connections);
    let mut raw_less = rejected(12, 500);
    raw_less.raw = None;
    *app.world.rejected.lock().unwrap() = vec![
        rejected(10, 500),
        rejected(11, 501),
        raw_less,
        rejected(13, 500),
    ];
    app
}

#[tokio::test]
async fn they_are_listed_page_by_page() {
    let app = app().await;
    let path = format!("/v1/connections/{}/rejected_events", id(500));
    let first = app.get(&format!("{path}?limit=2")).await;
    assert_eq!(first.status, 200);
    insta::assert_json_snapshot!("rejected_events", first.json(), {".next_cursor" => "[cursor]"});
    let cursor = first.json()["next_cursor"].as_str().unwrap().to_owned();
    let second = app
        .get(&format!("{path}?limit=2&cursor={cursor}"))
        .await
        .json();
    assert_eq!(second["data"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&second["data"][0]["id"], &second["next_cursor"]),
        (&json!(id(13)), &json!(null))
    );
    // A cursor of another connection's list is none of this one.
    let other = format!(
        "/v1/connections/{}/rejected_events?cursor={cursor}",
        id(501)
    );
    app.get(&other).await.assert_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn an_export_holds_them() {
    let app = app().await;
    let document = app.get("/v1/me/export").await.json();
    let ids: Vec<_> = document["rejected_events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rejected| &rejected["id"])
        .collect();
    let expected = [10, 12, 13, 11].map(|number| json!(id(number)));
    assert!(ids.into_iter().eq(&expected), "{document:#}");
    assert_eq!(
        document["rejected_events"][0]["raw"]["subject"],
        "Backwards"
    );
}
