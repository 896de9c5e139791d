//! The simulated Microsoft Entra: clients, codes and tokens. The endpoints are in `entra/endpoints.rs`.
//! Source: Microsoft identity platform, OAuth 2.0 authorization code flow.

mod endpoints;

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::digest;
use serde_json::{Value, json};

use crate::ids::Ids;
use crate::simulator::Client;

/// What tokens made for tests may do.
pub(crate) const ALL_SCOPES: &str = "openid profile email User.Read MailboxSettings.Read Calendars.ReadWrite Calendars.ReadWrite.Shared";

const CODE_SECONDS: i64 = 600;
const REFRESH_DAYS: i64 = 90;

/// An access token's rights.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) mailbox: u32,
    /// The application that the token was issued to.
    pub(crate) application: String,
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
        application: &str,
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
            "appid": application,
            "scp": scope,
        });
        let token = self.jwt(ids, &payload, 600);
        self.access.insert(
            token.clone(),
            Session {
                mailbox,
                application: application.to_owned(),
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

    /// The application of tokens made for tests: the first one registered, or one that nobody else is.
    pub(crate) fn test_application(&self, ids: &Ids) -> String {
        self.clients.first().map_or_else(
            || ids.uuid("application", 0).to_string(),
            |client| client.id.clone(),
        )
    }

    pub(crate) fn revoke(&mut self, mailbox: u32) {
        for token in self.refresh.values_mut() {
            token.revoked |= token.mailbox == mailbox;
        }
    }

    pub(crate) fn expire(&mut self, mailbox: u32, now: Timestamp) {
        for token in self.refresh.values_mut() {
            if token.mailbox == mailbox {
                token.expires = token.expires.min(now);
            }
        }
    }

    /// A refresh token may be used once more.
    fn unuse(&mut self, token: &str) {
        if let Some(token) = self.refresh.get_mut(token) {
            token.used = false;
        }
    }

    /// Whose code or refresh token a token request has.
    pub(crate) fn holder(&self, form: &[u8]) -> Option<u32> {
        url::form_urlencoded::parse(form).find_map(|(name, value)| match &*name {
            "refresh_token" => self.refresh.get(&*value).map(|token| token.mailbox),
            "code" => self.codes.get(&*value).map(|code| code.mailbox),
            _ => None,
        })
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
