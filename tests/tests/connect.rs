//! Signing in at the provider: what can go wrong, tokens that end, other users.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use calendar_e2e::{Binary, Process, World, eventually};
use calendar_simulator::Options;
use reqwest::Method;
use serde_json::json;

const MAILBOX: &str = "ann@contoso.example";

async fn world() -> World {
    let world = World::start().await;
    world
        .simulator
        .create_mailbox(MAILBOX, "Ann Example", "UTC")
        .unwrap();
    world
}

async fn nothing_is_stored(world: &World) {
    let client = world.database.connect().await;
    let count: i64 = client
        .query_one("SELECT (SELECT count(*) FROM calendar_connections) + (SELECT count(*) FROM calendar_accounts)", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_that_is_wrong_shows_a_clear_page_and_stores_nothing() {
    let world = world().await;
    let user = world.user("ann@example.com").await;
    let callback = format!("{}/v1/oauth/callback", world.base);
    let page = async |url: &str| world.http.send(Method::GET, url, None, None).await.unwrap();

    for query in [
        "",
        "?state=unknown&code=x",
        "?code=x",
        "?error=access_denied",
        "?state=%00&code=%3Cscript%3E",
    ] {
        let answer = page(&format!("{callback}{query}")).await;
        assert!(
            answer.status.is_client_error(),
            "{query}: {}",
            answer.status
        );
        assert!(
            answer.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html"),
            "{query}"
        );
        assert!(!answer.text.contains("<script>"), "{query}");
    }
    nothing_is_stored(&world).await;

    // The user says no.
    world.simulator.set_consent_error(Some("access_denied"));
    let url = world
        .authorize_url(&user, json!({"provider": "microsoft"}))
        .await;
    let refused = world.sign_in_at_provider(url, MAILBOX).await;
    assert!(page(&refused).await.status.is_client_error());
    world.simulator.set_consent_error(None);
    nothing_is_stored(&world).await;

    // No code; then the state is used up.
    let url = world
        .authorize_url(&user, json!({"provider": "microsoft"}))
        .await;
    let good = world.sign_in_at_provider(url, MAILBOX).await;
    let without_code = good.replace("code=", "kode=");
    assert!(page(&without_code).await.status.is_client_error());
    assert!(
        page(&good).await.status.is_client_error(),
        "a state is good once"
    );
    nothing_is_stored(&world).await;

    // A code that Entra does not know.
    let url = world
        .authorize_url(&user, json!({"provider": "microsoft"}))
        .await;
    let good = world.sign_in_at_provider(url, MAILBOX).await;
    let forged = good.replace("code=", "code=forged");
    assert!(!page(&forged).await.status.is_success());
    nothing_is_stored(&world).await;

    // And one that is right.
    let url = world
        .authorize_url(&user, json!({"provider": "microsoft"}))
        .await;
    let good = world.sign_in_at_provider(url, MAILBOX).await;
    assert_eq!(page(&good).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_calendars_are_connected_and_belong_to_their_user_alone() {
    let world = world().await;
    world
        .simulator
        .create_calendar(MAILBOX, "Projects")
        .unwrap();
    let ann = world.user("ann@example.com").await;
    let bob = world.user("bob@example.com").await;
    assert_eq!(world.connect(&ann, MAILBOX, json!({})).await.status, 200);
    let connections = world.get(&ann, "/v1/connections").await;
    let connections = connections["data"].as_array().unwrap();
    assert_eq!(connections.len(), 2, "{connections:#?}");
    assert_eq!(
        connections
            .iter()
            .filter(|connection| connection["is_primary"] == true)
            .count(),
        1
    );
    let id = connections[0]["id"].as_str().unwrap();
    for (method, path) in [
        (Method::GET, format!("/v1/connections/{id}")),
        (Method::PATCH, format!("/v1/connections/{id}")),
        (Method::DELETE, format!("/v1/connections/{id}")),
        (Method::POST, format!("/v1/connections/{id}/sync")),
        (Method::GET, format!("/v1/events?connection_id={id}")),
    ] {
        let body = (method == Method::PATCH).then(|| json!({"paused": true}));
        world
            .call(Some(&bob), method, &path, body)
            .await
            .expect(404);
    }
    assert_eq!(world.get(&bob, "/v1/connections").await["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_refreshed_and_one_that_is_revoked_asks_for_the_user() {
    // Tokens of two minutes are within the margin at once: each pass refreshes.
    let options = Options {
        access_token_seconds: 120,
        single_use_refresh_tokens: true,
        ..Options::default()
    };
    let world = World::start_with(options, &[("CALENDAR_POLL_PUSHED_SECONDS", "1")]).await;
    world
        .simulator
        .create_mailbox(MAILBOX, "Ann Example", "UTC")
        .unwrap();
    let user = world.user("ann@example.com").await;
    let connection = world.connect_primary(&user, MAILBOX).await;
    for _ in 0..3 {
        world.pass(&user, &connection).await;
    }
    world.simulator.revoke_refresh_tokens(MAILBOX).unwrap();
    let state = world
        .wait_for_status(&user, &connection, "needs_reauth")
        .await;
    assert_eq!(state["last_error"]["code"], "grant_revoked", "{state:#}");

    let sync = format!("/v1/connections/{connection}/sync");
    world
        .call(Some(&user), Method::POST, &sync, None)
        .await
        .expect(409);
    // However due it is: nobody asks the provider with a dead grant.
    let client = world.database.connect().await;
    client
        .execute("UPDATE calendar_sync_states SET due_at = now()", &[])
        .await
        .unwrap();
    let asked = world.simulator.requests().len();
    let mut worker = Process::start(Binary::Worker, &["--once"], &world.environment);
    assert!(
        worker
            .end(std::time::Duration::from_secs(30))
            .await
            .success()
    );
    assert_eq!(world.simulator.requests().len(), asked);

    world
        .connect(&user, MAILBOX, json!({"calendars": "primary"}))
        .await;
    world.wait_for_status(&user, &connection, "connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_sealed_and_no_secret_or_text_is_logged() {
    let world = world().await;
    let soon = world.simulator.now().to_string();
    let event = json!({
        "subject": "Canary subject",
        "body": {"contentType": "text", "content": "Canary body"},
        "start": {"dateTime": &soon[..19], "timeZone": "UTC"},
        "end": {"dateTime": &soon[..19], "timeZone": "UTC"},
        "attendees": [{"type": "required", "emailAddress": {"name": "Canary", "address": "canary@example.com"}}],
    });
    world.simulator.create_event(MAILBOX, None, &event).unwrap();
    let user = world.user("ann@example.com").await;
    let connection = world.connect_primary(&user, MAILBOX).await;
    let events = world
        .events(&user, &format!("connection_id={connection}&q=canary"))
        .await;
    assert_eq!(events[0]["attendees"][0]["email"], "canary@example.com");

    let client = world.database.connect().await;
    let row = client
        .query_one(
            "SELECT access_token, refresh_token FROM calendar_connections",
            &[],
        )
        .await
        .unwrap();
    for column in 0..2 {
        assert!(row.get::<_, String>(column).starts_with("v1."));
    }
    let logs = world.api.log() + &world.worker.log();
    assert!(logs.contains("pass"), "{logs}");
    let secrets = [
        "Canary",
        "canary@",
        "ann@",
        "client-secret",
        "correct horse",
        user.token.as_str(),
        "Bearer ",
        "code=",
        "state=",
        "refresh_token=",
    ];
    for secret in secrets {
        assert!(!logs.contains(secret), "{secret} is logged:\n{logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_user_leaves_no_token_and_frees_the_address() {
    let world = world().await;
    let user = world.user("ann@example.com").await;
    world.connect_primary(&user, MAILBOX).await;
    world
        .call(Some(&user), Method::DELETE, "/v1/me", None)
        .await
        .expect(204);
    world
        .call(Some(&user), Method::GET, "/v1/me", None)
        .await
        .expect(401);
    let client = world.database.connect().await;
    let count: i64 = client
        .query_one("SELECT count(*) FROM calendar_connections WHERE access_token IS NOT NULL OR refresh_token IS NOT NULL", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(count, 0);
    let again = world.user("Ann@Example.com").await;
    assert_eq!(
        world.get(&again, "/v1/connections").await["data"],
        json!([])
    );
    assert_eq!(world.connect(&again, MAILBOX, json!({})).await.status, 200);
    eventually("the new user's calendar is synced", || async {
        world.get(&again, "/v1/connections").await["data"][0]["status"] == "connected"
    })
    .await;
}
