//! The simulated Microsoft Entra: authorization code flow with PKCE, refresh tokens, AADSTS errors.
//! Source: Microsoft identity platform, OAuth 2.0 authorization code flow.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::digest;
use serde_json::{Value, json};

use crate::http::{Answer, Incoming};
use crate::ids::Ids;
use crate::lock;
use crate::render;
use crate::simulator::{Client, Simulator};

/// What tokens made for tests may do.
pub(crate) const ALL_SCOPES: &str = "openid profile email User.Read MailboxSettings.Read Calendars.ReadWrite Calendars.ReadWrite.Shared";

const CODE_SECONDS: i64 = 600;
const REFRESH_DAYS: i64 = 90;
/// Never given as scopes of an access token.
const NOT_GRAPH: [&str; 1] = ["offline_access"];

/// An access token's rights.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) mailbox: u32,
    pub(crate) scope: String,
    expires: Timestamp,
}

impl Session {
    /// Whether one of the scopes was granted.
    pub(crate) fn may(&self, scopes: &[&str]) -> bool {
        self.scope.split(' ').any(|granted| {
            scopes
                .iter()
                .any(|scope| scope.eq_ignore_ascii_case(granted))
        })
    }
}

#[derive(Clone, Debug)]
struct Code {
    mailbox: u32,
    client: String,
    redirect_uri: String,
    scope: String,
    challenge: Option<String>,
    nonce: Option<String>,
    expires: Timestamp,
    used: bool,
}

#[derive(Clone, Debug)]
struct Refresh {
    mailbox: u32,
    /// The client it was given to; any when made for a test.
    client: Option<String>,
    scope: String,
    expires: Timestamp,
    used: bool,
    revoked: bool,
}

/// Clients, codes and tokens.
#[derive(Debug)]
pub(crate) struct Auth {
    pub(crate) access_token_seconds: u32,
    pub(crate) single_use_refresh: bool,
    pub(crate) clients: Vec<Client>,
    pub(crate) consent_error: Option<String>,
    pub(crate) default_mailbox: u32,
    codes: HashMap<String, Code>,
    access: HashMap<String, Session>,
    refresh: HashMap<String, Refresh>,
    counter: u64,
}

impl Auth {
    pub(crate) fn new(seconds: u32, single_use: bool, clients: Vec<Client>) -> Self {
        Self {
            access_token_seconds: seconds,
            single_use_refresh: single_use,
            clients,
            consent_error: None,
            default_mailbox: 0,
            codes: HashMap::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            counter: 0,
        }
    }

    /// The session of a bearer token, unless it is unknown or expired.
    pub(crate) fn session(&self, token: &str, now: Timestamp) -> Option<Session> {
        self.access
            .get(token)
            .filter(|session| now < session.expires)
            .cloned()
    }

    pub(crate) fn issue_access(
        &mut self,
        ids: &Ids,
        mailbox: u32,
        scope: &str,
        now: Timestamp,
    ) -> String {
        let expires = later(now, i64::from(self.access_token_seconds));
        let payload = json!({
            "aud": "00000003-0000-0000-c000-000000000000",
            "iss": format!("https://sts.windows.net/{}/", tenant(ids)),
            "iat": now.as_second(),
            "nbf": now.as_second(),
            "exp": expires.as_second(),
            "oid": ids.uuid("user", u64::from(mailbox)).to_string(),
            "tid": tenant(ids),
            "scp": scope,
        });
        let token = self.jwt(ids, &payload, 600);
        self.access.insert(
            token.clone(),
            Session {
                mailbox,
                scope: scope.to_owned(),
                expires,
            },
        );
        token
    }

    pub(crate) fn issue_refresh(
        &mut self,
        ids: &Ids,
        mailbox: u32,
        scope: &str,
        client: Option<String>,
        now: Timestamp,
    ) -> String {
        let token = format!("1.AXkA{}", self.opaque(ids, 700));
        self.refresh.insert(
            token.clone(),
            Refresh {
                mailbox,
                client,
                scope: scope.to_owned(),
                expires: later(now, REFRESH_DAYS * 86_400),
                used: false,
                revoked: false,
            },
        );
        token
    }

    pub(crate) fn revoke(&mut self, mailbox: u32) {
        for token in self.refresh.values_mut() {
            token.revoked |= token.mailbox == mailbox;
        }
    }

    pub(crate) fn forget_access(&mut self, mailbox: u32) {
        self.access.retain(|_, session| session.mailbox != mailbox);
    }

    fn opaque(&mut self, ids: &Ids, characters: usize) -> String {
        self.counter += 1;
        let mut text = String::with_capacity(characters + 43);
        let mut block = 0_u64;
        while text.len() < characters {
            let bytes = ids.sign(format!("token {} {block}", self.counter).as_bytes());
            text.push_str(&URL_SAFE_NO_PAD.encode(bytes));
            block += 1;
        }
        text.truncate(characters);
        text
    }

    /// A token in the form of a JWT. Its signature is noise: no client may check it.
    fn jwt(&mut self, ids: &Ids, payload: &Value, signature: usize) -> String {
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": "simulated"});
        format!(
            "{}.{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload.to_string()),
            self.opaque(ids, signature)
        )
    }

    fn client_problem(&self, id: &str, secret: Option<&str>) -> Option<Refusal> {
        if self.clients.is_empty() {
            return None;
        }
        let Some(client) = self.clients.iter().find(|client| client.id == id) else {
            return Some(Refusal::new(
                "unauthorized_client",
                700_016,
                "Application with the given identifier was not found in the directory.",
            ));
        };
        match (&client.secret, secret) {
            (None, _) => None,
            (Some(_), None) => Some(Refusal::new(
                "invalid_client",
                7_000_218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )),
            (Some(expected), Some(given)) if expected == given => None,
            (Some(_), Some(_)) => Some(Refusal::new(
                "invalid_client",
                7_000_215,
                "Invalid client secret provided.",
            )),
        }
    }
}

fn later(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// The one tenant.
pub(crate) fn tenant(ids: &Ids) -> String {
    ids.uuid("tenant", 0).to_string()
}

struct Refusal {
    error: &'static str,
    code: u32,
    description: String,
}

impl Refusal {
    fn new(error: &'static str, code: u32, description: impl Into<String>) -> Self {
        Self {
            error,
            code,
            description: description.into(),
        }
    }

    fn missing(parameter: &str) -> Self {
        Self::new(
            "invalid_request",
            900_144,
            format!("The request body must contain the following parameter: '{parameter}'."),
        )
    }
}

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
        let scope = graph_scope(asked);
        let access = auth.issue_access(&self.0.ids, mailbox, &scope, now);
        let seconds = auth.access_token_seconds;
        let mut answer = json!({
            "token_type": "Bearer",
            "scope": scope,
            "expires_in": seconds,
            "ext_expires_in": seconds,
            "access_token": access,
        });
        if has("offline_access") {
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

/// Short names, without what is not a right on Graph; the three OpenID scopes are always granted along.
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

fn redeem<'a>(
    auth: &mut Auth,
    code: &str,
    client: &str,
    now: Timestamp,
    field: &impl Fn(&str) -> Option<&'a str>,
) -> Result<Code, Refusal> {
    let grant = |code: u32, text: &str| Err(Refusal::new("invalid_grant", code, text));
    let Some(known) = auth.codes.get_mut(code) else {
        return grant(
            70_000,
            "The provided authorization code is invalid or malformed.",
        );
    };
    if known.client != client {
        return grant(
            70_000,
            "The authorization code was issued to another client.",
        );
    }
    if known.used {
        return grant(54_005, "OAuth2 Authorization code was already redeemed.");
    }
    if now >= known.expires {
        return grant(70_008, "The provided authorization code is expired.");
    }
    if field("redirect_uri") != Some(known.redirect_uri.as_str()) {
        return grant(
            50_011,
            "The redirect URI of the token request does not match that of the authorization request.",
        );
    }
    if let Some(challenge) = &known.challenge {
        let Some(verifier) = field("code_verifier") else {
            return grant(
                501_481,
                "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
            );
        };
        let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
        if URL_SAFE_NO_PAD.encode(hash) != *challenge {
            return grant(
                501_481,
                "The Code_Verifier does not match the code_challenge supplied in the authorization request.",
            );
        }
    }
    known.used = true;
    Ok(known.clone())
}

fn refresh(auth: &mut Auth, token: &str, client: &str, now: Timestamp) -> Result<Refresh, Refusal> {
    let single_use = auth.single_use_refresh;
    let grant = |code: u32, text: &str| Err(Refusal::new("invalid_grant", code, text));
    let Some(known) = auth.refresh.get_mut(token) else {
        return grant(
            70_000,
            "The provided value for the input parameter 'refresh_token' is not valid.",
        );
    };
    if known.client.as_deref().is_some_and(|owner| owner != client) {
        return grant(70_000, "The refresh token was issued to another client.");
    }
    if known.revoked {
        return grant(
            50_173,
            "The provided grant has expired due to it being revoked, a fresh auth token is needed.",
        );
    }
    if now >= known.expires {
        return grant(700_082, "The refresh token has expired due to inactivity.");
    }
    if single_use && known.used {
        return grant(70_000, "The refresh token has already been used.");
    }
    known.used = true;
    Ok(known.clone())
}
