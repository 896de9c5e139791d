//! Where the provider sends the browser back: pages and redirects, and what must not happen there.

use calendar_domain::account::CalendarListing;
use calendar_domain::failure::FailureClass;
use serde_json::{Value, json};

use crate::support::{Answer, App};

async fn app() -> App {
    let app = App::signed_in().await;
    let listing = |id: &str, name: &str, is_primary| CalendarListing {
        id: id.into(),
        name: name.into(),
        color: None,
        is_primary,
        can_edit: true,
        owner_email: None,
        is_shared: false,
    };
    *app.world.calendars.lock().unwrap() = vec![
        listing("a", "<b>Mine</b> & \"co\"", true),
        listing("b", "Other", false),
    ];
    app
}

async fn begin(app: &App, more: Value) -> String {
    let mut body = json!({"provider": "microsoft"});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let answer = app.post("/v1/connect_sessions", &body).await;
    let url = answer.json()["authorize_url"].as_str().unwrap().to_owned();
    url.split_once("state=")
        .unwrap()
        .1
        .split('&')
        .next()
        .unwrap()
        .to_owned()
}

async fn callback(app: &App, query: &str) -> Answer {
    app.get(&format!("/v1/oauth/callback?{query}")).await
}

#[track_caller]
fn assert_page(answer: &Answer, status: u16) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_hardened(answer);
    assert!(
        !answer.text.contains("<script") && !answer.text.contains("<b>"),
        "{}",
        answer.text
    );
}

#[track_caller]
fn assert_hardened(answer: &Answer) {
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert!(
        answer
            .header("content-security-policy")
            .starts_with("default-src 'none'; style-src 'sha256-")
    );
    assert!(!answer.header("x-request-id").is_empty());
}

#[tokio::test]
async fn a_page_names_what_was_connected_escaped() {
    let app = app().await;
    let state = begin(&app, json!({})).await;
    let answer = callback(&app, &format!("code=c&state={state}&session_state=x")).await;
    assert_page(&answer, 200);
    assert!(
        answer
            .text
            .contains("<li>&lt;b&gt;Mine&lt;/b&gt; &amp; &quot;co&quot;</li><li>Other</li>"),
        "{}",
        answer.text
    );
    assert_eq!(app.world.connections.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn the_browser_goes_back_to_where_it_came_from() {
    let app = app().await;
    let state = begin(
        &app,
        json!({"return_url": "https://app.example/done?x=1#y"}),
    )
    .await;
    app.world.refuse.lock().unwrap().push("b".into());
    let answer = callback(&app, &format!("code=c&state={state}")).await;
    assert_eq!(answer.status, 302);
    assert_eq!(
        answer.header("location"),
        "https://app.example/done?x=1&connected=1&refused=1#y"
    );
    assert_hardened(&answer);

    let state = begin(&app, json!({"return_url": "https://calendar.example/"})).await;
    let answer = callback(
        &app,
        &format!("error=access_denied&error_description=no&state={state}"),
    )
    .await;
    assert_eq!(
        answer.header("location"),
        "https://calendar.example/?error=access_denied"
    );
}

#[tokio::test]
async fn a_state_that_is_wrong_used_or_missing_stores_nothing() {
    let app = app().await;
    let state = begin(&app, json!({})).await;
    for query in [
        "",
        "code=c",
        "code=c&state=",
        "code=c&state=%00",
        "code=c&state=nobodys",
    ] {
        let answer = callback(&app, query).await;
        assert_page(&answer, 400);
        assert!(answer.text.contains("invalid_state"));
    }
    assert!(app.world.connections.lock().unwrap().is_empty());
    assert_page(&callback(&app, &format!("code=c&state={state}")).await, 200);
    assert_page(&callback(&app, &format!("code=c&state={state}")).await, 400);
    assert_eq!(app.world.connections.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn nothing_of_the_provider_is_reflected() {
    let app = app().await;
    for (error, code) in [
        ("access_denied", "access_denied"),
        ("%3Cscript%3Ealert(1)%3C/script%3E", "provider_refused"),
        ("invalid_scope%0d%0aSet-Cookie:a", "provider_refused"),
    ] {
        for more in [json!({}), json!({"return_url": "https://app.example/"})] {
            let state = begin(&app, more.clone()).await;
            let query =
                format!("state={state}&error={error}&error_description=%3Cb%3Ecanary%3C/b%3E");
            let answer = callback(&app, &query).await;
            if more == json!({}) {
                assert_page(&answer, 400);
                assert!(answer.text.contains(code), "{}", answer.text);
            } else {
                assert_eq!(
                    answer.header("location"),
                    format!("https://app.example/?error={code}")
                );
            }
            assert!(!answer.text.contains("canary") && !answer.text.contains("alert"));
        }
    }
    assert!(app.world.connections.lock().unwrap().is_empty());
}

#[tokio::test]
async fn failures_on_the_way_have_a_page_each() {
    let app = app().await;
    for (class, status, code) in [
        (FailureClass::Retryable, 503, "temporarily_unavailable"),
        (FailureClass::InvalidInput, 400, "code_rejected"),
        (FailureClass::Permanent, 502, "provider_error"),
    ] {
        *app.world.provider_failure.lock().unwrap() = Some(class);
        let state = begin(&app, json!({})).await;
        let answer = callback(&app, &format!("code=c&state={state}")).await;
        assert_page(&answer, status);
        assert!(answer.text.contains(code) && !answer.text.contains("provider_code"));
    }
    // Entra may say it only when the code is exchanged.
    for (told, shown) in [
        ("admin_consent_required", "admin_consent_required"),
        ("policy_blocks_access", "an administrator has to agree"),
        ("unauthorized", "code_rejected"),
    ] {
        *app.world.provider_failure.lock().unwrap() = Some(FailureClass::Authentication);
        *app.world.provider_code.lock().unwrap() = Some(told);
        let state = begin(&app, json!({})).await;
        let answer = callback(&app, &format!("code=c&state={state}")).await;
        assert_page(&answer, 400);
        assert!(answer.text.contains(shown), "{told}: {}", answer.text);
    }
    *app.world.provider_failure.lock().unwrap() = None;

    let state = begin(&app, json!({})).await;
    assert!(
        callback(&app, &format!("state={state}"))
            .await
            .text
            .contains("code_missing")
    );
    let state = begin(&app, json!({"calendars": ["z"]})).await;
    assert_page(&callback(&app, &format!("code=c&state={state}")).await, 422);
    app.world
        .refuse
        .lock()
        .unwrap()
        .extend(["a".into(), "b".into()]);
    let state = begin(&app, json!({})).await;
    assert_page(&callback(&app, &format!("code=c&state={state}")).await, 409);
    assert!(app.world.connections.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_preview_does_not_use_the_state_up() {
    let app = app().await;
    let state = begin(&app, json!({})).await;
    let path = format!("/v1/oauth/callback?code=c&state={state}");
    assert_eq!(app.call("HEAD", &path).await.status, 405);
    assert_page(&app.get(&path).await, 200);
}
