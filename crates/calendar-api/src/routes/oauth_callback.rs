//! `GET /v1/oauth/callback`: where the provider sends the user's browser back.
//!
//! A person looks at this, so it answers with a redirect or a small page and not with JSON. Nothing
//! that came in the query, or that the provider said, is shown: texts are ours, chosen by a code.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::body::Body;
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use calendar_domain::failure::FailureClass;
use calendar_runtime::ErrorChain;
use calendar_sync::{CallbackInput, CompleteConnectError, CompletedConnect};
use ring::digest::{SHA256, digest};
use secrecy::SecretString;
use tracing::warn;
use url::Url;

use crate::observe::RequestId;
use crate::state::{AppState, CALLBACK_PATH};

const STYLE: &str = "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:12vh auto;padding:0 1.5rem}\
small{color:#666}";

/// The page runs nothing and loads nothing; the one style is named by its hash.
static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The longest value of a parameter that is looked at; codes of Microsoft have about 1,500.
const LONGEST: usize = 8_192;

/// Where the provider sends the user's browser back
///
/// Exchanges the code, lists the calendars, and makes a connection for each that was chosen. Parameters that are not
/// named here are the provider's own, and ignored. It answers a browser, and not with JSON.
#[utoipa::path(
    get,
    path = CALLBACK_PATH,
    operation_id = "oauth_callback",
    tag = "connections",
    security(()),
    params(
        ("state" = Option<String>, Query, description = "What the connect session gave; used once."),
        ("code" = Option<String>, Query, description = "The authorization code."),
        ("error" = Option<String>, Query, description = "Why there is none (RFC 6749 4.1.2.1)."),
    ),
    responses(
        (status = 200, description = "A small page that says what was connected.", body = String, content_type = "text/html"),
        (status = 302, description = "To `return_url`, with `connected=N` and `refused=M`, or with `error=CODE`."),
        (status = 400, description = "A page: the state or the code is not good, or the access was not granted.", body = String, content_type = "text/html"),
        (status = 409, description = "A page: these calendars are connected through another account.", body = String, content_type = "text/html"),
        (status = 422, description = "A page: the account has none of these calendars.", body = String, content_type = "text/html"),
        (status = 502, description = "A page: the provider fails.", body = String, content_type = "text/html"),
        (status = 503, description = "A page: the provider or the database does not answer.", body = String, content_type = "text/html"),
    ),
)]
pub(crate) async fn callback(
    State(state): State<AppState>,
    Extension(request_id): Extension<RequestId>,
    RawQuery(query): RawQuery,
) -> Response {
    let input = read(query.as_deref().unwrap_or_default());
    match state.0.complete_connect.run(input).await {
        Ok(done) => match &done.return_url {
            Some(url) => succeeded_elsewhere(url, &done),
            None => page(StatusCode::OK, "Connected", &connected(&done), &request_id),
        },
        Err(error) => {
            let failure = Failure::of(&error);
            // The one place where this failure is logged, with its causes.
            warn!(code = %failure.code, error = %ErrorChain(&error), "connecting failed");
            match return_url(error) {
                Some(url) => redirect(&url, &[("error", &failure.code)]),
                None => failure.page(&request_id),
            }
        }
    }
}

/// `HEAD` would use the state up: link checkers and previews send it.
pub(crate) async fn refuse_head() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")]).into_response()
}

fn read(query: &str) -> CallbackInput {
    let mut input = CallbackInput::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if value.is_empty() || value.len() > LONGEST || value.contains('\0') {
            continue;
        }
        match name.as_ref() {
            "state" => input.state = Some(SecretString::from(value.into_owned())),
            "code" => input.code = Some(SecretString::from(value.into_owned())),
            "error" => input.error = Some(value.into_owned()),
            _ => {}
        }
    }
    input
}

/// The codes of a refusal that somebody can undo by agreeing, or by letting the user in.
const NOT_GRANTED: [&str; 8] = [
    "access_denied",
    "admin_consent_required",
    "consent_declined",
    "consent_required",
    "interaction_required",
    "login_required",
    "policy_blocks_access",
    "user_disabled",
];

/// What to tell the user, or the application that the user comes from.
struct Failure {
    status: StatusCode,
    code: String,
    text: &'static str,
}

impl Failure {
    fn of(error: &CompleteConnectError) -> Self {
        let failure = |status, code: &str, text| Self {
            status,
            code: code.to_owned(),
            text,
        };
        let not_granted = |code: &str| {
            failure(
                StatusCode::BAD_REQUEST,
                code,
                "The access was not granted. If your organisation requires it, an administrator has to agree first.",
            )
        };
        match error {
            CompleteConnectError::UnknownState => failure(
                StatusCode::BAD_REQUEST,
                "invalid_state",
                "This sign-in is unknown, was used already, or took too long.",
            ),
            CompleteConnectError::ProviderRefused { code, .. } => match code.as_str() {
                code if NOT_GRANTED.contains(&code) => not_granted(code),
                "server_error" | "temporarily_unavailable" => failure(
                    StatusCode::BAD_GATEWAY,
                    code,
                    "The provider cannot sign you in at the moment.",
                ),
                _ => failure(
                    StatusCode::BAD_REQUEST,
                    "provider_refused",
                    "The provider refused the sign-in.",
                ),
            },
            CompleteConnectError::NoCode { .. } => failure(
                StatusCode::BAD_REQUEST,
                "code_missing",
                "The provider sent you back without its answer.",
            ),
            CompleteConnectError::NoCalendars { .. } => failure(
                StatusCode::UNPROCESSABLE_ENTITY,
                "no_calendars",
                "This account has none of the calendars that were to be connected.",
            ),
            CompleteConnectError::AllRefused { .. } => failure(
                StatusCode::CONFLICT,
                "already_connected",
                "These calendars are connected through another account already.",
            ),
            CompleteConnectError::ProviderOff => failure(
                StatusCode::SERVICE_UNAVAILABLE,
                "provider_off",
                "This provider is not available here any more.",
            ),
            CompleteConnectError::Port { source, .. } => match source.class {
                FailureClass::Authentication if NOT_GRANTED.contains(&source.code.as_str()) => {
                    not_granted(&source.code)
                }
                FailureClass::Retryable | FailureClass::RateLimited => failure(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "temporarily_unavailable",
                    "The provider or our database does not answer at the moment.",
                ),
                FailureClass::InvalidInput | FailureClass::Authentication => failure(
                    StatusCode::BAD_REQUEST,
                    "code_rejected",
                    "The provider did not accept its own answer; it may have expired.",
                ),
                FailureClass::Conflict => failure(
                    StatusCode::CONFLICT,
                    "already_connected",
                    "These calendars are connected through another account already.",
                ),
                FailureClass::NeedsResync | FailureClass::Permanent => failure(
                    StatusCode::BAD_GATEWAY,
                    "provider_error",
                    "The provider does not let us in; the operator of this service can see why.",
                ),
            },
        }
    }

    fn page(&self, request_id: &RequestId) -> Response {
        let text = format!(
            "<p>{}</p><p>Nothing was connected. Go back to where you came from and begin again.</p><p><small>Code: {}</small></p>",
            escaped(self.text),
            escaped(&self.code),
        );
        page(self.status, "Not connected", &text, request_id)
    }
}

fn return_url(error: CompleteConnectError) -> Option<String> {
    match error {
        CompleteConnectError::ProviderRefused { return_url, .. }
        | CompleteConnectError::NoCode { return_url }
        | CompleteConnectError::NoCalendars { return_url }
        | CompleteConnectError::AllRefused { return_url }
        | CompleteConnectError::Port { return_url, .. } => return_url,
        CompleteConnectError::UnknownState | CompleteConnectError::ProviderOff => None,
    }
}

fn succeeded_elsewhere(url: &str, done: &CompletedConnect) -> Response {
    let connected = done.connected.len().to_string();
    let refused = done.refused.len().to_string();
    let mut parameters = vec![("connected", connected.as_str())];
    if !done.refused.is_empty() {
        parameters.push(("refused", refused.as_str()));
    }
    redirect(url, &parameters)
}

/// 302 to a URL that was checked when the round trip began.
fn redirect(url: &str, parameters: &[(&str, &str)]) -> Response {
    let location = Url::parse(url).ok().and_then(|mut url| {
        url.query_pairs_mut().extend_pairs(parameters);
        HeaderValue::from_str(url.as_str()).ok()
    });
    let Some(location) = location else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut response = StatusCode::FOUND.into_response();
    response.headers_mut().insert(header::LOCATION, location);
    harden(&mut response);
    response
}

fn connected(done: &CompletedConnect) -> String {
    let mut text = String::from("<p>These calendars are connected now:</p><ul>");
    for name in &done.connected {
        let _ = write!(text, "<li>{}</li>", escaped(name));
    }
    text.push_str("</ul>");
    if !done.refused.is_empty() {
        text.push_str(
            "<p>These are connected through another account already, and stay so:</p><ul>",
        );
        for name in &done.refused {
            let _ = write!(text, "<li>{}</li>", escaped(name));
        }
        text.push_str("</ul>");
    }
    text.push_str("<p>You can close this page.</p>");
    text
}

/// `text` is HTML; whoever makes it has escaped what is not ours.
fn page(status: StatusCode, title: &str, text: &str, request_id: &RequestId) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <style>{STYLE}</style><h1>{title}</h1>{text}<p><small>Request: {}</small></p></html>\n",
        escaped(&request_id.0),
    );
    let mut response = (status, Body::from(html)).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    harden(&mut response);
    response
}

/// The URL of this page holds a code: no other site, cache or frame may get at it.
fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if let Ok(policy) = HeaderValue::from_str(&CONTENT_SECURITY_POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
