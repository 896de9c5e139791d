//! Signing in at Entra: the OAuth 2.0 authorization code flow with PKCE, and refreshing.
//!
//! Source: <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow>.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::account::{AuthorizationRequest, Permission, TokenGrant};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::{Authorizer, Clock};
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken,
    EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, RefreshToken, RequestTokenError, Scope, TokenResponse as _, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};

use crate::MsGraph;
use crate::config::{MicrosoftConfig, MicrosoftConfigError, is_loopback};
use crate::error::tidy;
use crate::timer::RequestTimer;
use crate::transport::retry_after;

const SCOPES: [&str; 5] = [
    "openid",
    "profile",
    "offline_access",
    "User.Read",
    "Calendars.Read",
];
/// For calendars that other users shared.
const SHARED_SCOPE: &str = "Calendars.Read.Shared";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A token answer has some kilobytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Where the answer does not say how long the access token lives. Entra always does.
const ASSUMED_LIFETIME: Duration = Duration::from_mins(10);
/// Lengths of a PKCE verifier (RFC 7636 section 4.1); oauth2 panics on others.
const VERIFIER_CHARS: std::ops::RangeInclusive<usize> = 43..=128;

type EntraClient =
    BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// Entra's endpoints for one application.
#[derive(Clone)]
pub(crate) struct Entra {
    client: EntraClient,
    http: Http,
}

/// What oauth2 sends its requests with.
#[derive(Clone)]
struct Http {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

/// Why a sign-in or a refresh failed. Holds no token, and not Entra's description, which names users.
#[derive(Debug, thiserror::Error)]
pub enum OAuthError {
    /// Entra refused (RFC 6749 section 5.2).
    #[error("Entra refused: {error}{}", number.map(|n| format!(" ({n})")).unwrap_or_default())]
    Refused {
        /// Its `error` field.
        error: String,
        /// The number that its description begins with: `AADSTS700082: …`.
        number: Option<u32>,
    },
    /// An answer that is no token and no refusal.
    #[error("Entra answered {status}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Retry-After, at most one hour.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    #[error("Entra did not answer in time")]
    Timeout,
    /// The connection failed.
    #[error("the connection to Entra failed")]
    Transport(#[source] Box<dyn Error + Send + Sync>),
    /// An answer that cannot be read.
    #[error("the answer of Entra is not readable")]
    Unreadable,
    /// What we were given to ask with is no redirect URI or no PKCE verifier.
    #[error("the redirect URI or the PKCE verifier is not valid")]
    InvalidRequest,
}

/// Which of the two calls failed: a bad code is the caller's input, a bad refresh token is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Exchange,
    Refresh,
}

/// What one of Entra's numbers says more than RFC 6749's codes do.
struct Meaning {
    class: FailureClass,
    /// Stable, and documented with its remedy.
    code: &'static str,
}

/// Source: <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>.
fn meaning(number: u32) -> Option<Meaning> {
    use FailureClass::{Authentication, Permanent};
    let (class, code) = match number {
        // The grant has ended.
        700_082 => (Authentication, "grant_inactive"),
        70_008 | 700_084 => (Authentication, "grant_expired"),
        50_132 | 50_133 | 50_173 => (Authentication, "grant_revoked"),
        50_057 => (Authentication, "user_disabled"),
        // Somebody has to agree, or to do more than sign in.
        65_001 => (Authentication, "consent_required"),
        65_004 => (Authentication, "consent_declined"),
        90_094 | 90_095 => (Authentication, "admin_consent_required"),
        50_072 | 50_074 | 50_076 | 50_079 | 50_158 => (Authentication, "interaction_required"),
        53_000..=53_004 | 530_003 => (Authentication, "policy_blocks_access"),
        // The operator's matter.
        7_000_215 => (Permanent, "client_secret_wrong"),
        7_000_222 => (Permanent, "client_secret_expired"),
        700_016 => (Permanent, "application_unknown"),
        7_000_112 => (Permanent, "application_disabled"),
        _ => return None,
    };
    Some(Meaning { class, code })
}

/// The number of a description; the rest of it names users.
fn number_of(description: &str) -> Option<u32> {
    let after = description.strip_prefix("AADSTS")?;
    let end = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    after[..end].parse().ok()
}

/// What is missing in a list of scopes. A right to write is one to read; names come with or without their
/// resource before them, in any case.
fn missing(scopes: &[&str]) -> Vec<Permission> {
    let has = |wanted: &[&str]| {
        scopes.iter().any(|scope| {
            let name = scope.rsplit('/').next().unwrap_or_default();
            wanted
                .iter()
                .any(|wanted| name.eq_ignore_ascii_case(wanted))
        })
    };
    let shared = ["Calendars.Read.Shared", "Calendars.ReadWrite.Shared"];
    let own = ["Calendars.Read", "Calendars.ReadWrite"];
    let mut missing = Vec::new();
    if !scopes.is_empty() && !has(&shared) {
        missing.push(Permission::ReadSharedCalendars);
        if !has(&own) {
            missing.push(Permission::ReadCalendars);
        }
    }
    missing
}

impl OAuthError {
    fn class(&self, call: Call) -> FailureClass {
        match self {
            Self::Refused { error, number } => match number.and_then(meaning) {
                // Of a code that is exchanged, not of a grant.
                Some(meaning) if call == Call::Exchange && meaning.code.starts_with("grant_") => {
                    FailureClass::InvalidInput
                }
                Some(meaning) => meaning.class,
                None => match error.as_str() {
                    // The number of a code that is old, used or wrong means nothing more.
                    "invalid_grant" if call == Call::Exchange => FailureClass::InvalidInput,
                    "invalid_grant"
                    | "interaction_required"
                    | "consent_required"
                    | "login_required"
                    | "access_denied" => FailureClass::Authentication,
                    "temporarily_unavailable" | "server_error" => FailureClass::Retryable,
                    // invalid_client, unauthorized_client, invalid_scope, …: the operator's matter.
                    _ => FailureClass::Permanent,
                },
            },
            Self::Status { status: 429, .. } => FailureClass::RateLimited,
            Self::Status {
                status: 408 | 425 | 500..,
                ..
            }
            | Self::Timeout
            | Self::Transport(_)
            | Self::Unreadable => FailureClass::Retryable,
            Self::Status { .. } => FailureClass::Permanent,
            Self::InvalidRequest => FailureClass::InvalidInput,
        }
    }

    fn code(&self) -> String {
        match self {
            Self::Refused { error, number } => match number.and_then(meaning) {
                Some(meaning) => meaning.code.to_owned(),
                None => error.clone(),
            },
            Self::Status { status, .. } => format!("http_{status}"),
            Self::Timeout => "timeout".to_owned(),
            Self::Transport(_) => "connection_failed".to_owned(),
            Self::Unreadable => "answer_unreadable".to_owned(),
            Self::InvalidRequest => "invalid_authorization_request".to_owned(),
        }
    }

    fn into_port(self, call: Call) -> PortError {
        let retry_after = match self {
            Self::Status { retry_after, .. } => retry_after,
            _ => None,
        };
        PortError {
            retry_after,
            ..PortError::with_source(self.class(call), self.code(), self)
        }
    }
}

impl Entra {
    pub(crate) fn new(
        config: MicrosoftConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, MicrosoftConfigError> {
        let token_url = config.authority("token")?;
        let authorize_url = config.authority("authorize")?;
        let http = Http {
            client: http_client(!is_loopback(&token_url))
                .ok_or(MicrosoftConfigError::HttpClient)?,
            clock,
        };
        let mut client = BasicClient::new(ClientId::new(config.client_id));
        if let Some(secret) = &config.client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        }
        let client = client
            .set_auth_type(AuthType::RequestBody)
            .set_auth_uri(AuthUrl::from_url(authorize_url))
            .set_token_uri(TokenUrl::from_url(token_url));
        Ok(Self { client, http })
    }

    fn authorize_url(&self, request: &AuthorizationRequest) -> Result<String, OAuthError> {
        let redirect = redirect_url(&request.redirect_uri)?;
        let challenge =
            PkceCodeChallenge::from_code_verifier_sha256(&verifier(&request.code_verifier)?);
        let state = CsrfToken::new(request.state.expose_secret().to_owned());
        let shared = request.shared.then_some(SHARED_SCOPE);
        let (url, _) = self
            .client
            .authorize_url(|| state)
            .add_scopes(
                SCOPES
                    .into_iter()
                    .chain(shared)
                    .map(|scope| Scope::new(scope.to_owned())),
            )
            .set_pkce_challenge(challenge)
            .set_redirect_uri(Cow::Owned(redirect))
            .add_extra_param("response_mode", "query")
            .add_extra_param("prompt", "select_account")
            .url();
        Ok(url.into())
    }

    async fn exchange(
        &self,
        code: &SecretString,
        code_verifier: &SecretString,
        redirect_uri: &str,
    ) -> Result<TokenGrant, OAuthError> {
        let answer = self
            .client
            .exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()))
            .set_pkce_verifier(verifier(code_verifier)?)
            .set_redirect_uri(Cow::Owned(redirect_url(redirect_uri)?))
            .request_async(&self.http)
            .await;
        self.grant(answer)
    }

    async fn refresh(&self, refresh_token: &SecretString) -> Result<TokenGrant, OAuthError> {
        let token = RefreshToken::new(refresh_token.expose_secret().to_owned());
        let answer = self
            .client
            .exchange_refresh_token(&token)
            .request_async(&self.http)
            .await;
        self.grant(answer)
    }

    fn grant(
        &self,
        answer: Result<BasicTokenResponse, RequestTokenError<OAuthError, BasicErrorResponse>>,
    ) -> Result<TokenGrant, OAuthError> {
        let answer = answer.map_err(|error| match error {
            RequestTokenError::ServerResponse(refusal) => OAuthError::Refused {
                error: tidy(refusal.error().as_ref()).unwrap_or_else(|| "unknown_error".to_owned()),
                number: refusal.error_description().and_then(|text| number_of(text)),
            },
            RequestTokenError::Request(error) => error,
            // Both quote the body, which may hold a token.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => OAuthError::Unreadable,
        })?;
        let scopes: Vec<&str> = answer
            .scopes()
            .into_iter()
            .flatten()
            .map(|scope| scope.as_str())
            .collect();
        Ok(TokenGrant {
            access_token: SecretString::from(answer.access_token().secret().as_str()),
            refresh_token: answer
                .refresh_token()
                .map(|token| SecretString::from(token.secret().as_str())),
            expires_at: self
                .http
                .clock
                .now()
                .saturating_add(lifetime(answer.expires_in().unwrap_or(ASSUMED_LIFETIME))),
            missing: missing(&scopes),
            scopes: scopes.join(" "),
        })
    }
}

impl fmt::Debug for Entra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entra")
            .field("token_url", &self.client.token_uri().as_str())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Authorizer for MsGraph {
    fn authorize_url(&self, request: &AuthorizationRequest) -> PortResult<String> {
        self.entra
            .authorize_url(request)
            .map_err(|error| error.into_port(Call::Exchange))
    }

    async fn exchange(
        &self,
        code: &SecretString,
        code_verifier: &SecretString,
        redirect_uri: &str,
    ) -> PortResult<TokenGrant> {
        let grant = self.entra.exchange(code, code_verifier, redirect_uri).await;
        grant.map_err(|error| error.into_port(Call::Exchange))
    }

    async fn refresh(&self, refresh_token: &SecretString) -> PortResult<TokenGrant> {
        let grant = self.entra.refresh(refresh_token).await;
        grant.map_err(|error| error.into_port(Call::Refresh))
    }
}

fn lifetime(expires_in: Duration) -> time::Duration {
    time::Duration::try_from(expires_in).unwrap_or(time::Duration::MAX)
}

fn redirect_url(uri: &str) -> Result<RedirectUrl, OAuthError> {
    RedirectUrl::new(uri.to_owned()).map_err(|_| OAuthError::InvalidRequest)
}

fn verifier(verifier: &SecretString) -> Result<PkceCodeVerifier, OAuthError> {
    let verifier = verifier.expose_secret();
    if VERIFIER_CHARS.contains(&verifier.len()) {
        Ok(PkceCodeVerifier::new(verifier.to_owned()))
    } else {
        Err(OAuthError::InvalidRequest)
    }
}

/// No redirects (they would carry the client secret along), no proxies of the environment, the
/// roots that Mozilla trusts, ring.
fn http_client(https_only: bool) -> Option<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(https_only)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .user_agent(concat!("calendar-sync/", env!("CARGO_PKG_VERSION")))
        .build()
        .ok()
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = OAuthError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, OAuthError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

impl Http {
    /// What is no success and no refusal in JSON is an error of ours, with status and Retry-After,
    /// which oauth2 would drop.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, OAuthError> {
        let request = reqwest::Request::try_from(request).map_err(failed)?;
        let timer = RequestTimer::start();
        let answered = self.client.execute(request).await;
        timer.end(match &answered {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) => Err(error.is_timeout()),
        });
        let mut response = answered.map_err(failed)?;
        let status = response.status();
        // 400 and 401 are refusals, with a reason in their body.
        let is_refusal = matches!(status.as_u16(), 400 | 401);
        if !status.is_success() && !is_refusal {
            let retry_after = retry_after(response.headers(), self.clock.now());
            return Err(OAuthError::Status {
                status: status.as_u16(),
                retry_after,
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(OAuthError::Unreadable);
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = HttpResponse::new(body);
        *answer.status_mut() = status;
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

fn failed(error: reqwest::Error) -> OAuthError {
    if error.is_timeout() {
        OAuthError::Timeout
    } else {
        OAuthError::Transport(error.without_url().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_a_class() {
        use FailureClass::{Authentication, InvalidInput, Permanent, RateLimited, Retryable};
        let refused = |error: &str| OAuthError::Refused {
            error: error.to_owned(),
            number: None,
        };
        let status = |status| OAuthError::Status {
            status,
            retry_after: None,
        };
        for (error, exchange, refresh) in [
            (refused("invalid_grant"), InvalidInput, Authentication),
            (
                refused("interaction_required"),
                Authentication,
                Authentication,
            ),
            (refused("consent_required"), Authentication, Authentication),
            (refused("invalid_client"), Permanent, Permanent),
            (refused("invalid_scope"), Permanent, Permanent),
            (refused("temporarily_unavailable"), Retryable, Retryable),
            (status(429), RateLimited, RateLimited),
            (status(503), Retryable, Retryable),
            (status(408), Retryable, Retryable),
            (status(404), Permanent, Permanent),
            (OAuthError::Unreadable, Retryable, Retryable),
        ] {
            assert_eq!(error.class(Call::Exchange), exchange, "{error}");
            assert_eq!(error.class(Call::Refresh), refresh, "{error}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn numbers_say_more_than_codes() {
        use FailureClass::{Authentication, InvalidInput, Permanent};
        for (error, description, refresh, code) in [
            (
                "invalid_grant",
                "AADSTS700082: The refresh token has expired due to inactivity.",
                Authentication,
                "grant_inactive",
            ),
            (
                "invalid_grant",
                "AADSTS700084: The refresh token was issued to a single page app.",
                Authentication,
                "grant_expired",
            ),
            (
                "invalid_grant",
                "AADSTS50173: The provided grant has expired due to it being revoked.",
                Authentication,
                "grant_revoked",
            ),
            (
                "invalid_grant",
                "AADSTS65001: The user or administrator has not consented.",
                Authentication,
                "consent_required",
            ),
            (
                "invalid_grant",
                "AADSTS90094: The grant requires administrator permission.",
                Authentication,
                "admin_consent_required",
            ),
            (
                "interaction_required",
                "AADSTS50076: you must use multi-factor authentication.",
                Authentication,
                "interaction_required",
            ),
            (
                "invalid_grant",
                "AADSTS50076: you must use multi-factor authentication.",
                Authentication,
                "interaction_required",
            ),
            (
                "interaction_required",
                "AADSTS53003: Access has been blocked.",
                Authentication,
                "policy_blocks_access",
            ),
            (
                "invalid_client",
                "AADSTS7000215: Invalid client secret provided.",
                Permanent,
                "client_secret_wrong",
            ),
            (
                "invalid_client",
                "AADSTS7000222: The provided client secret keys are expired.",
                Permanent,
                "client_secret_expired",
            ),
            (
                "unauthorized_client",
                "AADSTS700016: Application was not found.",
                Permanent,
                "application_unknown",
            ),
            (
                "invalid_grant",
                "AADSTS70000: not valid.",
                Authentication,
                "invalid_grant",
            ),
            (
                "invalid_grant",
                "Ada has left. AADSTS50173",
                Authentication,
                "invalid_grant",
            ),
            (
                "invalid_grant",
                "AADSTS: none",
                Authentication,
                "invalid_grant",
            ),
            (
                "invalid_grant",
                "AADSTS99999999999: too long",
                Authentication,
                "invalid_grant",
            ),
        ] {
            let refused = OAuthError::Refused {
                error: error.to_owned(),
                number: number_of(description),
            };
            assert_eq!(
                (refused.class(Call::Refresh), refused.code().as_str()),
                (refresh, code),
                "{description}"
            );
        }
        let used = OAuthError::Refused {
            error: "invalid_grant".to_owned(),
            number: Some(54_005),
        };
        assert_eq!(used.class(Call::Exchange), InvalidInput);
        assert_eq!(used.to_string(), "Entra refused: invalid_grant (54005)");
    }

    #[test]
    fn what_is_missing_in_the_scopes() {
        use Permission::{ReadCalendars, ReadSharedCalendars};
        for (scopes, expected) in [
            ("", vec![]),
            (
                "openid profile User.Read",
                vec![ReadSharedCalendars, ReadCalendars],
            ),
            ("openid Calendars.Read", vec![ReadSharedCalendars]),
            (
                "openid https://graph.microsoft.com/calendars.readwrite",
                vec![ReadSharedCalendars],
            ),
            ("Calendars.Read.Shared", vec![]),
            (
                "Calendars.ReadBasic",
                vec![ReadSharedCalendars, ReadCalendars],
            ),
        ] {
            let scopes: Vec<&str> = scopes.split_whitespace().collect();
            assert_eq!(missing(&scopes), expected, "{scopes:?}");
        }
    }
}
