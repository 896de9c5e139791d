//! Signing in over HTTP: code flow with PKCE, refresh tokens, expiry, revocation, and Entra's errors.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use calendar_simulator::Client;
use serde_json::Value;
use support::{ALEX, Bench, MEGAN, at};

const REDIRECT: &str = "http://localhost:9/callback";
/// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const SCOPE: &str = "openid profile offline_access Calendars.ReadWrite User.Read";

async fn authorize(bench: &Bench, change: &[(&str, &str)]) -> (u16, Vec<(String, String)>, String) {
    let mut query: Vec<(&str, &str)> = vec![
        ("client_id", "app"),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT),
        ("scope", SCOPE),
        ("state", "st&te="),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in change {
        query.retain(|(known, _)| known != name);
        query.push((name, value));
    }
    let answer = bench
        .http
        .get(format!(
            "{}/common/oauth2/v2.0/authorize",
            bench.server.url()
        ))
        .query(&query)
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let location = answer
        .headers()
        .get("location")
        .map(|value| value.to_str().unwrap().to_owned());
    let pairs = location.as_deref().map(|location| {
        assert!(location.starts_with(REDIRECT));
        url::Url::parse(location)
            .unwrap()
            .query_pairs()
            .into_owned()
            .collect()
    });
    (
        status,
        pairs.unwrap_or_default(),
        answer.text().await.unwrap(),
    )
}

fn value<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

async fn code(bench: &Bench, change: &[(&str, &str)]) -> String {
    let (status, pairs, text) = authorize(bench, change).await;
    assert_eq!(status, 302, "{text}");
    assert_eq!(value(&pairs, "state"), Some("st&te="));
    value(&pairs, "code").unwrap().to_owned()
}

async fn token(bench: &Bench, form: &[(&str, &str)]) -> (u16, Value) {
    let answer = bench
        .http
        .post(format!("{}/tenant/oauth2/v2.0/token", bench.server.url()))
        .form(form)
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn redeem<'a>(code: &'a str, change: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut form = vec![
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("client_secret", "s"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("code_verifier", VERIFIER),
    ];
    for (name, value) in change {
        form.retain(|(known, _)| known != name);
        form.push((name, value));
    }
    form
}

async fn me(bench: &Bench, token: &Value) -> (u16, Value) {
    let answer = bench
        .http
        .get(format!("{}/me", bench.server.graph_url()))
        .bearer_auth(token.as_str().unwrap())
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn the_code_flow_signs_in_the_hinted_mailbox() {
    let bench = Bench::calm().await;
    for (hint, upn) in [(None, ALEX), (Some(MEGAN), MEGAN)] {
        let hint: Vec<(&str, &str)> = hint.map(|hint| ("login_hint", hint)).into_iter().collect();
        let code = code(&bench, &hint).await;
        let (status, body) = token(&bench, &redeem(&code, &[])).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(
            (&body["token_type"], &body["expires_in"]),
            (&"Bearer".into(), &3599.into())
        );
        assert!(
            body["scope"]
                .as_str()
                .unwrap()
                .contains("Calendars.ReadWrite")
        );
        assert!(body["refresh_token"].as_str().unwrap().len() > 500);
        let claims = body["id_token"]
            .as_str()
            .unwrap()
            .split('.')
            .nth(1)
            .unwrap();
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let (_, user) = me(&bench, &body["access_token"]).await;
        assert_eq!(
            (&claims["preferred_username"], &claims["oid"]),
            (&upn.into(), &user["id"])
        );
        assert!(claims["tid"].is_string());
        assert_eq!(user["userPrincipalName"], upn);
    }
    bench.server.set_default_mailbox(MEGAN).unwrap();
    let code = code(&bench, &[]).await;
    let (_, body) = token(&bench, &redeem(&code, &[])).await;
    assert_eq!(
        me(&bench, &body["access_token"]).await.1["userPrincipalName"],
        MEGAN
    );
}

#[tokio::test]
async fn without_offline_access_and_openid_there_are_fewer_tokens() {
    let bench = Bench::calm().await;
    let code = code(
        &bench,
        &[("scope", "https://graph.microsoft.com/Calendars.Read")],
    )
    .await;
    let (_, body) = token(&bench, &redeem(&code, &[])).await;
    assert_eq!(
        (body.get("refresh_token"), body.get("id_token")),
        (None, None)
    );
    let get = |path: &str| {
        bench
            .http
            .get(format!("{}{path}", bench.server.graph_url()))
            .bearer_auth(body["access_token"].as_str().unwrap())
    };
    assert_eq!(
        get("/me/events").send().await.unwrap().status().as_u16(),
        200
    );
    let post = bench
        .http
        .post(format!("{}/me/events", bench.server.graph_url()))
        .bearer_auth(body["access_token"].as_str().unwrap())
        .json(&support::meeting("x", "2026-03-05T10:00:00"));
    assert_eq!(
        post.send().await.unwrap().status().as_u16(),
        403,
        "Calendars.Read does not write"
    );
    assert_eq!(
        get("/me/mailboxSettings")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16(),
        403
    );
}

#[tokio::test]
async fn codes_are_checked() {
    let bench = Bench::calm().await;
    for (change, number, status, error) in [
        (
            vec![("code_verifier", "wrong")],
            501_481,
            400,
            "invalid_grant",
        ),
        (vec![("code_verifier", "")], 501_481, 400, "invalid_grant"),
        (
            vec![("redirect_uri", "http://localhost:9/other")],
            50_011,
            400,
            "invalid_grant",
        ),
        (vec![("client_id", "other")], 70_000, 400, "invalid_grant"),
        (vec![("code", "nonsense")], 70_000, 400, "invalid_grant"),
        (vec![("code", "")], 900_144, 400, "invalid_request"),
        (vec![("client_id", "")], 900_144, 400, "invalid_request"),
        (
            vec![("grant_type", "password")],
            70_003,
            400,
            "unsupported_grant_type",
        ),
        (vec![("grant_type", "")], 900_144, 400, "invalid_request"),
    ] {
        let code = code(&bench, &[]).await;
        let (got, body) = token(&bench, &redeem(&code, &change)).await;
        assert_eq!(
            (
                got,
                body["error"].as_str().unwrap(),
                &body["error_codes"][0]
            ),
            (status, error, &number.into()),
            "{change:?}"
        );
        assert!(
            body["error_description"]
                .as_str()
                .unwrap()
                .starts_with(&format!("AADSTS{number}: "))
        );
        for member in ["timestamp", "trace_id", "correlation_id"] {
            assert!(body[member].is_string(), "{member}");
        }
    }
    let code = code(&bench, &[]).await;
    assert_eq!(token(&bench, &redeem(&code, &[])).await.0, 200);
    assert_eq!(
        token(&bench, &redeem(&code, &[])).await.1["error_codes"][0],
        54_005,
        "single use"
    );
    let late = self::code(&bench, &[]).await;
    bench.server.advance_clock(601);
    assert_eq!(
        token(&bench, &redeem(&late, &[])).await.1["error_codes"][0],
        70_008
    );
}

#[tokio::test]
async fn authorize_refuses_through_the_redirect_or_on_a_page() {
    let bench = Bench::calm().await;
    for (change, expected) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("scope", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("login_hint", "nobody@example.com"), "login_required"),
    ] {
        let (status, pairs, _) = authorize(&bench, &[change]).await;
        assert_eq!(
            (status, value(&pairs, "error")),
            (302, Some(expected)),
            "{change:?}"
        );
        assert_eq!(
            (value(&pairs, "state"), value(&pairs, "code")),
            (Some("st&te="), None)
        );
        assert!(
            value(&pairs, "error_description")
                .unwrap()
                .starts_with("AADSTS")
        );
    }
    for error in ["access_denied", "consent_required"] {
        bench.server.set_consent_error(Some(error));
        let (_, pairs, _) = authorize(&bench, &[("login_hint", MEGAN)]).await;
        assert_eq!(value(&pairs, "error"), Some(error));
    }
    bench.server.set_consent_error(None);
    assert!(!code(&bench, &[]).await.is_empty());
    for change in [
        ("client_id", ""),
        ("redirect_uri", ""),
        ("redirect_uri", "not a uri"),
    ] {
        let (status, pairs, text) = authorize(&bench, &[change]).await;
        assert_eq!((status, pairs.len()), (400, 0));
        assert!(text.starts_with("AADSTS"), "{text}");
    }
}

#[tokio::test]
async fn registered_clients_are_checked() {
    let bench = Bench::calm().await;
    bench.server.set_clients(vec![Client {
        id: "app".into(),
        secret: Some("s+%&".into()),
        redirect_uris: vec![REDIRECT.into()],
    }]);
    assert_eq!(authorize(&bench, &[("client_id", "other")]).await.0, 400);
    assert_eq!(
        authorize(&bench, &[("redirect_uri", "http://localhost:9/callback2")])
            .await
            .0,
        400
    );
    let code = code(&bench, &[]).await;
    for (secret, number) in [("wrong", 7_000_215), ("", 7_000_218)] {
        let (status, body) = token(&bench, &redeem(&code, &[("client_secret", secret)])).await;
        assert_eq!(
            (
                status,
                body["error"].as_str().unwrap(),
                &body["error_codes"][0]
            ),
            (401, "invalid_client", &number.into())
        );
    }
    let (_, body) = token(&bench, &redeem(&code, &[("client_id", "other")])).await;
    assert_eq!(body["error_codes"][0], 700_016);
    // In the header instead, form-encoded first.
    let form: Vec<_> = redeem(&code, &[])
        .into_iter()
        .filter(|(name, _)| !name.starts_with("client_"))
        .collect();
    let answer = bench
        .http
        .post(format!("{}/common/oauth2/v2.0/token", bench.server.url()))
        .basic_auth("app", Some("s%2B%25%26"))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

#[tokio::test]
async fn refresh_tokens_rotate_and_old_ones_go_on_unless_strict() {
    let bench = Bench::calm().await;
    let first = bench.server.issue_refresh_token(ALEX).unwrap();
    let refresh = |token: &str| {
        vec![
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", "app".to_owned()),
            ("refresh_token", token.to_owned()),
        ]
    };
    let ask = async |refresh_token: &str| {
        let form = refresh(refresh_token);
        let form: Vec<(&str, &str)> = form
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        token(&bench, &form).await
    };
    let (status, body) = ask(&first).await;
    assert_eq!(status, 200, "{body}");
    let second = body["refresh_token"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(ask(&first).await.0, 200, "the old one goes on working");
    bench.server.set_single_use_refresh_tokens(true);
    assert_eq!(ask(&second).await.0, 200);
    let (status, body) = ask(&second).await;
    assert_eq!(
        (status, body["error"].as_str().unwrap()),
        (400, "invalid_grant")
    );
    bench.server.set_single_use_refresh_tokens(false);
    bench.server.revoke_refresh_tokens(MEGAN).unwrap();
    assert_eq!(ask(&first).await.0, 200, "another mailbox's");
    bench.server.revoke_refresh_tokens(ALEX).unwrap();
    assert_eq!(ask(&first).await.1["error_codes"][0], 50_173);
    let fresh = bench.server.issue_refresh_token(ALEX).unwrap();
    bench.server.advance_clock(90 * 86_400 + 1);
    assert_eq!(ask(&fresh).await.1["error_codes"][0], 700_082);
    assert_eq!(ask("nonsense").await.1["error_codes"][0], 70_000);
    let fresh = bench.server.issue_refresh_token(ALEX).unwrap();
    let mut form = refresh(&fresh);
    form.push(("scope", "Calendars.ReadWrite Mail.Send".to_owned()));
    let form: Vec<(&str, &str)> = form
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(
        token(&bench, &form).await.1["error_codes"][0],
        65_001,
        "more than was granted"
    );
}

#[tokio::test]
async fn access_tokens_expire_by_the_simulators_clock() {
    let bench = Bench::calm().await;
    bench.server.set_access_token_seconds(100);
    bench.server.set_clock(at("2026-01-01T00:00:00Z"), true);
    let token: Value = bench.server.issue_access_token(ALEX).unwrap().into();
    assert_eq!(me(&bench, &token).await.0, 200);
    bench.server.advance_clock(99);
    assert_eq!(me(&bench, &token).await.0, 200);
    bench.server.advance_clock(1);
    let answer = bench
        .http
        .get(format!("{}/me", bench.server.graph_url()))
        .bearer_auth(token.as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 401);
    assert!(
        answer
            .headers()
            .get("www-authenticate")
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("Bearer")
    );
    assert_eq!(
        answer.json::<Value>().await.unwrap()["error"]["code"],
        "InvalidAuthenticationToken"
    );
    let answer = bench
        .http
        .get(format!("{}/me", bench.server.graph_url()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 401);
    let token: Value = bench.server.issue_access_token(ALEX).unwrap().into();
    bench.server.revoke_access_tokens(ALEX).unwrap();
    assert_eq!(me(&bench, &token).await.0, 401);
}
