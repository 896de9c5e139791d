//! Entra's authorize and token endpoints: authorization code flow with PKCE, refresh, AADSTS errors.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{ALL_SCOPES, CODE_SECONDS, Code, Refusal, later, redeem, refresh, tenant};
use crate::fault::Untruth;
use crate::http::{Answer, Incoming};
use crate::simulator::Simulator;
use crate::{lock, render};

/// Never given as scopes of an access token.
const NOT_GRAPH: [&str; 1] = ["offline_access"];
/// What is left of [`ALL_SCOPES`] without the rights to calendars.
const WITHOUT_CALENDARS: &str = "openid profile email User.Read";

impl Simulator {
    /// `/{tenant}/oauth2/v2.0/...`
    pub(crate) fn entra(&self, endpoint: &str, request: &Incoming) -> Answer {
        match (request.method.as_str(), endpoint) {
            ("GET", "authorize") => self.authorize(request),
            ("POST", "token") => match self.token(request) {
                Ok(body) => Answer::json(200, body.to_string())
                    .header("Cache-Control", "no-store, no-cache")
                    .header("Pragma", "no-cache"),
                Err(refusal) => self.refuse(&refusal),
            },
            (_, "authorize" | "token") => Answer::text(405, "Method Not Allowed"),
            _ => Answer::text(404, "Not Found"),
        }
    }

    fn refuse(&self, refusal: &Refusal) -> Answer {
        let unique = self.unique();
        let trace = self.0.ids.uuid("trace", unique);
        let correlation = self.0.ids.uuid("correlation", unique);
        let stamp = render::seconds(self.now()).replace('T', " ");
        let status = if refusal.error == "invalid_client" {
            401
        } else {
            400
        };
        let body = json!({
            "error": refusal.error,
            "error_description": format!(
                "AADSTS{}: {}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {stamp}",
                refusal.code, refusal.description
            ),
            "error_codes": [refusal.code],
            "timestamp": stamp,
            "trace_id": trace.to_string(),
            "correlation_id": correlation.to_string(),
            "error_uri": format!("https://login.microsoftonline.com/error?code={}", refusal.code),
        });
        Answer::json(status, body.to_string()).header("Cache-Control", "no-store, no-cache")
    }

    fn authorize(&self, request: &Incoming) -> Answer {
        let parameter = |name: &str| request.query(name).filter(|value| !value.is_empty());
        let page = |code: u32, text: &str| Answer::text(400, &format!("AADSTS{code}: {text}"));
        // Errors about the client or its redirect address are shown to the user, never redirected.
        let Some(client) = parameter("client_id") else {
            return page(
                900_144,
                "The request body must contain the following parameter: 'client_id'.",
            );
        };
        let Some(redirect_uri) = parameter("redirect_uri") else {
            return page(900_971, "No reply address provided.");
        };
        let Ok(mut target) = url::Url::parse(redirect_uri) else {
            return page(90_102, "'redirect_uri' value must be a valid absolute URI.");
        };
        let mut auth = lock(&self.0.auth);
        if !auth.clients.is_empty() {
            let Some(known) = auth.clients.iter().find(|known| known.id == client) else {
                return page(
                    700_016,
                    "Application with the given identifier was not found in the directory.",
                );
            };
            if !known.redirect_uris.is_empty()
                && !known.redirect_uris.iter().any(|uri| uri == redirect_uri)
            {
                return page(
                    50_011,
                    "The redirect URI specified in the request does not match the redirect URIs configured for the application.",
                );
            }
        }
        let mailbox = match parameter("login_hint") {
            None => Ok(auth.default_mailbox),
            Some(hint) => crate::read(&self.0.world).find(hint).ok_or((
                "login_required",
                "AADSTS50034: The user account does not exist in the directory.",
            )),
        };
        let challenge = parameter("code_challenge").map(str::to_owned);
        let method = parameter("code_challenge_method");
        let outcome = if parameter("response_type") != Some("code") {
            Err((
                "unsupported_response_type",
                "AADSTS700054: response_type is not enabled for the application.",
            ))
        } else if parameter("scope").is_none() {
            Err((
                "invalid_request",
                "AADSTS900144: The request body must contain the following parameter: 'scope'.",
            ))
        } else if challenge.is_some() && method != Some("S256") {
            Err((
                "invalid_request",
                "AADSTS501491: Unsupported code challenge method; S256 is required.",
            ))
        } else if let Some(error) = auth.consent_error.clone() {
            let (error, text) = consent_error(&error);
            Err((error, text))
        } else {
            mailbox
        };
        {
            let mut pairs = target.query_pairs_mut();
            match outcome {
                Ok(mailbox) => {
                    let code = format!("1.AXkA{}", auth.opaque(&self.0.ids, 500));
                    auth.codes.insert(
                        code.clone(),
                        Code {
                            mailbox,
                            client: client.to_owned(),
                            redirect_uri: redirect_uri.to_owned(),
                            scope: parameter("scope").unwrap_or_default().to_owned(),
                            challenge,
                            nonce: parameter("nonce").map(str::to_owned),
                            expires: later(self.now(), CODE_SECONDS),
                            used: false,
                        },
                    );
                    pairs.append_pair("code", &code);
                }
                Err((error, description)) => {
                    pairs.append_pair("error", error);
                    pairs.append_pair("error_description", description);
                }
            }
            if let Some(state) = request.query("state") {
                pairs.append_pair("state", state);
            }
            if outcome.is_ok() {
                let session = self.0.ids.uuid("session", auth.counter);
                pairs.append_pair("session_state", &session.to_string());
            }
        }
        Answer::text(302, "").header("Location", target.as_str())
    }

    fn token(&self, request: &Incoming) -> Result<Value, Refusal> {
        let form: HashMap<String, String> = url::form_urlencoded::parse(&request.body)
            .into_owned()
            .collect();
        let field = |name: &str| {
            form.get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let basic = request.basic();
        let client = field("client_id")
            .or(basic.as_ref().map(|(id, _)| id.as_str()))
            .ok_or_else(|| Refusal::missing("client_id"))?;
        let secret = field("client_secret").or(basic.as_ref().map(|(_, secret)| secret.as_str()));
        let now = self.now();
        let mut auth = lock(&self.0.auth);
        if let Some(refusal) = auth.client_problem(client, secret) {
            return Err(refusal);
        }
        let (mailbox, granted, nonce) = match field("grant_type") {
            Some("authorization_code") => {
                let code = field("code").ok_or_else(|| Refusal::missing("code"))?;
                let code = redeem(&mut auth, code, client, now, &field)?;
                (code.mailbox, code.scope, code.nonce)
            }
            Some("refresh_token") => {
                let token =
                    field("refresh_token").ok_or_else(|| Refusal::missing("refresh_token"))?;
                let refresh = refresh(&mut auth, token, client, now)?;
                (refresh.mailbox, refresh.scope, None)
            }
            Some(other) => {
                return Err(Refusal::new(
                    "unsupported_grant_type",
                    70_003,
                    format!("The app requested an unsupported grant type '{other}'."),
                ));
            }
            None => return Err(Refusal::missing("grant_type")),
        };
        let asked = field("scope").unwrap_or(&granted);
        let has = |name: &str| granted.split(' ').any(|scope| scope == name);
        if let Some(extra) = asked.split(' ').find(|scope| {
            !scope.is_empty() && !scope.ends_with(".default") && !has(scope) && !has(".default")
        }) {
            return Err(Refusal::new(
                "invalid_grant",
                65_001,
                format!(
                    "The user or administrator has not consented to use the application with scope '{extra}'."
                ),
            ));
        }
        let scope = match request.untruth {
            Some(Untruth::FewerScopes) => WITHOUT_CALENDARS.to_owned(),
            _ => graph_scope(asked),
        };
        let access = auth.issue_access(&self.0.ids, mailbox, client, &scope, now);
        let seconds = auth.access_token_seconds;
        let mut answer = json!({
            "token_type": "Bearer",
            "scope": scope,
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": access,
        });
        if request.untruth == Some(Untruth::NoRefreshToken) {
            if let Some(token) = field("refresh_token") {
                auth.unuse(token);
            }
        } else if has("offline_access") {
            let token =
                auth.issue_refresh(&self.0.ids, mailbox, &granted, Some(client.to_owned()), now);
            answer["refresh_token"] = token.into();
        }
        if has("openid") {
            let (oid, upn, name) = self.identity(mailbox);
            let payload = json!({
                "ver": "2.0",
                "iss": format!("https://login.microsoftonline.com/{}/v2.0", tenant(&self.0.ids)),
                "aud": client,
                "iat": now.as_second(),
                "nbf": now.as_second(),
                "exp": later(now, 3600).as_second(),
                "tid": tenant(&self.0.ids),
                "oid": oid,
                "sub": self.0.ids.uuid("subject", u64::from(mailbox)).to_string(),
                "preferred_username": upn,
                "email": upn,
                "name": name,
                "nonce": nonce,
            });
            answer["id_token"] = auth.jwt(&self.0.ids, &payload, 342).into();
        }
        Ok(answer)
    }

    fn identity(&self, mailbox: u32) -> (String, String, String) {
        crate::read(&self.0.world)
            .mailbox(mailbox)
            .map_or_else(Default::default, |mailbox| {
                (
                    mailbox.id.clone(),
                    mailbox.upn.clone(),
                    mailbox.display_name.clone(),
                )
            })
    }
}

fn consent_error(name: &str) -> (&'static str, &'static str) {
    match name {
        "consent_required" => (
            "consent_required",
            "AADSTS65001: The user or administrator has not consented to use the application.",
        ),
        "interaction_required" => (
            "interaction_required",
            "AADSTS50076: You must use multi-factor authentication to access the resource.",
        ),
        "login_required" => (
            "login_required",
            "AADSTS50058: A silent sign-in request was sent but no user is signed in.",
        ),
        "server_error" => (
            "server_error",
            "AADSTS90033: A transient error has occurred. Please try again.",
        ),
        "temporarily_unavailable" => (
            "temporarily_unavailable",
            "AADSTS90006: The service is temporarily unavailable.",
        ),
        _ => (
            "access_denied",
            "AADSTS65004: User declined to consent to access the app.",
        ),
    }
}

/// Short names, without what is not a right on Graph; the three `OpenID` scopes are always granted along.
fn graph_scope(asked: &str) -> String {
    let mut scopes: Vec<&str> = Vec::new();
    for scope in asked.split(' ').filter(|scope| !scope.is_empty()) {
        if scope.ends_with("/.default") || scope == ".default" {
            return ALL_SCOPES.to_owned();
        }
        let short = scope
            .strip_prefix("https://graph.microsoft.com/")
            .unwrap_or(scope);
        if !NOT_GRAPH.contains(&short) && !scopes.contains(&short) {
            scopes.push(short);
        }
    }
    for always in ["openid", "profile", "email"] {
        if !scopes.contains(&always) {
            scopes.push(always);
        }
    }
    scopes.join(" ")
}
