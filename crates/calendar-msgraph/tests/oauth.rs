//! Signing in at the simulator's Entra, and every way in which it refuses.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use calendar_domain::account::AuthorizationRequest;
use calendar_domain::failure::{FailureClass, PortError};
use calendar_domain::ports::{Authorizer, CalendarDirectory};
use calendar_simulator::{Client, Fault};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use support::{ADA, Bench, NOW};

const REDIRECT: &str = "http://127.0.0.1:8080/v1/oauth/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn request(shared: bool) -> AuthorizationRequest {
    AuthorizationRequest {
        state: SecretString::from("state-1"),
        code_verifier: SecretString::from(VERIFIER),
        redirect_uri: REDIRECT.to_owned(),
        shared,
    }
}

fn query(url: &str) -> std::collections::HashMap<String, String> {
    url::Url::parse(url)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect()
}

/// What a browser does: goes where it is sent, and comes back with a code.
async fn sign_in(bench: &Bench) -> SecretString {
    let url = bench.graph.authorize_url(&request(false)).unwrap();
    // A second call answers an error; the provider is there then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let browser = reqwest::Client::builder()
        .tls_certs_only([])
        .redirect(Policy::none())
        .no_proxy()
        .build()
        .unwrap();
    let answer = browser.get(url).send().await.unwrap();
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with(REDIRECT), "{location}");
    let query = query(&location);
    assert_eq!(query["state"], "state-1");
    SecretString::from(query["code"].as_str())
}

fn verifier() -> SecretString {
    SecretString::from(VERIFIER)
}

fn assert_failure(error: &PortError, class: FailureClass, code: &str) {
    assert_eq!(
        (error.class, error.code.as_str()),
        (class, code),
        "{error:?}"
    );
    let text = format!("{error:?} {error}");
    assert!(
        !text.contains("AADSTS") && !text.contains(VERIFIER) && !text.contains("client-secret"),
        "{text}"
    );
}

#[tokio::test]
async fn the_browser_is_sent_with_pkce_and_the_scopes() {
    let bench = Bench::calm().await;
    let url = bench.graph.authorize_url(&request(false)).unwrap();
    assert!(
        url.starts_with(&format!(
            "{}/common/oauth2/v2.0/authorize?",
            bench.server.url()
        )),
        "{url}"
    );
    let query_own = query(&url);
    for (name, value) in [
        ("client_id", "client-id"),
        ("response_type", "code"),
        ("response_mode", "query"),
        ("prompt", "select_account"),
        ("redirect_uri", REDIRECT),
        ("state", "state-1"),
        ("code_challenge_method", "S256"),
        // RFC 7636, appendix B.
        (
            "code_challenge",
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        ),
        (
            "scope",
            "openid profile offline_access User.Read Calendars.Read",
        ),
    ] {
        assert_eq!(query_own[name], value, "{name}");
    }
    assert!(!url.contains(VERIFIER));
    let shared = query(&bench.graph.authorize_url(&request(true)).unwrap());
    assert!(shared["scope"].ends_with(" Calendars.Read Calendars.Read.Shared"));
}

#[tokio::test]
async fn a_user_signs_in_and_the_tokens_work_and_are_refreshed() {
    let bench = Bench::calm().await;
    let code = sign_in(&bench).await;
    let grant = bench
        .graph
        .exchange(&code, &verifier(), REDIRECT)
        .await
        .unwrap();
    assert_eq!(grant.expires_at, NOW + time::Duration::seconds(3599));
    assert!(grant.scopes.contains("Calendars.Read"), "{}", grant.scopes);

    let identity = bench.graph.identity(&grant.access_token).await.unwrap();
    assert_eq!(identity.email.as_deref(), Some(ADA));
    assert_eq!(identity.display_name.as_deref(), Some("Ada"));
    assert!(!identity.provider_user_id.is_empty());
    assert!(
        !identity.tenant_id.is_empty(),
        "the simulator's tokens name their tenant"
    );

    let refreshed = bench
        .graph
        .refresh(&grant.refresh_token.unwrap())
        .await
        .unwrap();
    assert!(bench.graph.identity(&refreshed.access_token).await.is_ok());
    assert!(!format!("{refreshed:?}").contains(refreshed.access_token.expose_secret()));
}

#[tokio::test]
async fn codes_that_are_not_good_are_the_callers_input() {
    let bench = Bench::calm().await;
    let code = sign_in(&bench).await;
    let other = SecretString::from("x".repeat(43));
    let error = bench
        .graph
        .exchange(&code, &other, REDIRECT)
        .await
        .unwrap_err();
    assert_failure(&error, FailureClass::InvalidInput, "invalid_grant");

    let code = sign_in(&bench).await;
    bench
        .graph
        .exchange(&code, &verifier(), REDIRECT)
        .await
        .unwrap();
    let error = bench
        .graph
        .exchange(&code, &verifier(), REDIRECT)
        .await
        .unwrap_err();
    assert_failure(&error, FailureClass::InvalidInput, "invalid_grant");

    for (verifier, redirect) in [("short", REDIRECT), (VERIFIER, "no url")] {
        let error = bench
            .graph
            .exchange(&code, &SecretString::from(verifier), redirect)
            .await
            .unwrap_err();
        assert_failure(
            &error,
            FailureClass::InvalidInput,
            "invalid_authorization_request",
        );
    }
}

#[tokio::test]
async fn a_wrong_client_secret_is_the_operators_matter() {
    let bench = Bench::calm().await;
    let code = sign_in(&bench).await;
    bench.server.set_clients(vec![Client {
        id: "client-id".to_owned(),
        secret: Some("another".to_owned()),
        redirect_uris: vec![REDIRECT.to_owned()],
    }]);
    let error = bench
        .graph
        .exchange(&code, &verifier(), REDIRECT)
        .await
        .unwrap_err();
    assert_failure(&error, FailureClass::Permanent, "client_secret_wrong");
}

#[tokio::test]
async fn a_revoked_refresh_token_needs_a_new_sign_in() {
    let bench = Bench::calm().await;
    let token = SecretString::from(bench.server.issue_refresh_token(ADA).unwrap());
    bench.graph.refresh(&token).await.unwrap();
    bench.server.revoke_refresh_tokens(ADA).unwrap();
    let error = bench.graph.refresh(&token).await.unwrap_err();
    assert_failure(&error, FailureClass::Authentication, "grant_revoked");
}

#[tokio::test]
async fn refusals_and_faults_of_the_token_endpoint_have_a_class() {
    use FailureClass::{Authentication, Permanent, RateLimited, Retryable};
    let bench = Bench::calm().await;
    let token = SecretString::from(bench.server.issue_refresh_token(ADA).unwrap());
    let refusal =
        |error: &str| json!({"error": error, "error_description": "AADSTS70000: ada@example.com"});
    for (status, body, class, code) in [
        (
            400,
            refusal("interaction_required"),
            Authentication,
            "interaction_required",
        ),
        (
            400,
            refusal("consent_required"),
            Authentication,
            "consent_required",
        ),
        (401, refusal("invalid_client"), Permanent, "invalid_client"),
        (
            400,
            refusal("temporarily_unavailable"),
            Retryable,
            "temporarily_unavailable",
        ),
        (429, json!({}), RateLimited, "http_429"),
        (500, json!("<html>"), Retryable, "http_500"),
        (
            503,
            refusal("temporarily_unavailable"),
            Retryable,
            "http_503",
        ),
        (400, json!("<html>"), Retryable, "answer_unreadable"),
        (
            200,
            json!({"token_type": "Bearer"}),
            Retryable,
            "answer_unreadable",
        ),
    ] {
        bench.server.script_fault(Fault {
            path_contains: "/token".to_owned(),
            status,
            headers: vec![("Retry-After".to_owned(), "17".to_owned())],
            body,
            ..Fault::default()
        });
        let error = bench.graph.refresh(&token).await.unwrap_err();
        assert_failure(&error, class, code);
        let waits = matches!(status, 429 | 500 | 503);
        assert_eq!(
            error.retry_after.map(|wait| wait.as_secs()),
            waits.then_some(17)
        );
    }
    assert!(bench.server.pending_faults().is_empty());
}

#[tokio::test]
async fn an_entra_that_is_away_is_tried_again_later() {
    let bench = Bench::calm().await;
    let token = SecretString::from("refresh");
    let graph = support::adapter(&bench.server, |config| {
        config.authority_url = "http://127.0.0.1:9".to_owned();
    });
    let error = graph.refresh(&token).await.unwrap_err();
    assert_failure(&error, FailureClass::Retryable, "connection_failed");
}
