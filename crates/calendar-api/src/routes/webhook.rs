//! `POST /webhooks/…`: where providers send their pushes.
//!
//! A push only says that there is something to look at. Whether it names a subscription of ours and
//! carries its secret is not answered: that would teach those who guess.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use calendar_domain::provider::CalendarProvider;
use calendar_sync::{TakeNotificationsError, TakenNotifications};
use tokio::time::timeout;
use tracing::{debug, warn};
use url::form_urlencoded;

use crate::extract;
use crate::problem::Problem;
use crate::state::AppState;

/// How long recording a push may take. Graph gives up after 3 s, and sends again; with an
/// answer it knows that it has to.
const WITHIN: Duration = Duration::from_millis(2_500);
/// The longest token that is echoed; Graph's have a few hundred bytes.
const LONGEST_TOKEN: usize = 8_192;

/// Take Microsoft's change notifications
///
/// With `validationToken` it is the handshake that a subscription begins with.
#[utoipa::path(
    post,
    path = "/webhooks/microsoft",
    operation_id = "take_microsoft_notifications",
    tag = "webhooks",
    security(()),
    params(("validationToken" = Option<String>, Query, description = "What to answer as text.")),
    request_body(content = Option<Value>, description = "Microsoft Graph's `changeNotificationCollection`; with `validationToken` it is not looked at."),
    responses(
        (status = 200, description = "The validation token.", body = String, content_type = "text/plain"),
        (status = 202, description = "Taken, whether it names a subscription of ours or not."),
        (status = 400, description = "`malformed_notifications`: the body is not one that Microsoft sends. \
            `invalid_validation_token`: it is longer than 8 KiB."),
        (status = 404, description = "`provider_off`: this provider is not available here."),
        (status = 503, description = "`database_unavailable`: send again."),
    ),
)]
pub(crate) async fn microsoft(
    state: State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    notified(state, request).await
}

/// Take Microsoft's lifecycle notifications
///
/// With `validationToken` it is the handshake that a subscription begins with.
#[utoipa::path(
    post,
    path = "/webhooks/microsoft/lifecycle",
    operation_id = "take_microsoft_lifecycle_notifications",
    tag = "webhooks",
    security(()),
    params(("validationToken" = Option<String>, Query, description = "What to answer as text.")),
    request_body(content = Option<Value>, description = "Microsoft Graph's `changeNotificationCollection`; with `validationToken` it is not looked at."),
    responses(
        (status = 200, description = "The validation token.", body = String, content_type = "text/plain"),
        (status = 202, description = "Taken, whether it names a subscription of ours or not."),
        (status = 400, description = "`malformed_notifications`: the body is not one that Microsoft sends. \
            `invalid_validation_token`: it is longer than 8 KiB."),
        (status = 404, description = "`provider_off`: this provider is not available here."),
        (status = 503, description = "`database_unavailable`: send again."),
    ),
)]
pub(crate) async fn microsoft_lifecycle(
    state: State<AppState>,
    request: Request,
) -> Result<Response, Problem> {
    notified(state, request).await
}

/// An entry says itself what it is, wherever it was sent.
async fn notified(State(state): State<AppState>, request: Request) -> Result<Response, Problem> {
    match validation_token(request.uri().query().unwrap_or_default()) {
        Some(token) => echo(token),
        None => take(&state, CalendarProvider::Microsoft, request).await,
    }
}

fn validation_token(query: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "validationToken")
        .map(|(_, token)| token.into_owned())
}

/// Proves that we are there. Plain text, and never anything else, whatever the token looks like.
fn echo(token: String) -> Result<Response, Problem> {
    if token.len() > LONGEST_TOKEN {
        return Err(Problem::malformed(
            "invalid_validation_token",
            "The validation token is longer than 8 KiB.",
        ));
    }
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, plain)], token).into_response())
}

/// Records what a body notifies of. The provider sends again what is answered with a 5xx.
async fn take(
    state: &AppState,
    provider: CalendarProvider,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = extract::read(&parts.headers, body).await?;
    let taking = state.0.take_notifications.run(provider, &bytes);
    let taken = timeout(WITHIN, taking).await.map_err(|elapsed| {
        Problem::unavailable("timeout", "The request took too long.", None, &elapsed)
    })?;
    let taken = taken.map_err(problem)?;
    let TakenNotifications {
        accepted,
        unknown,
        refused,
    } = taken;
    if refused > 0 {
        warn!(%provider, accepted, unknown, refused, "notifications with a wrong client state");
    } else {
        debug!(%provider, accepted, unknown, refused, "notifications");
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

fn problem(error: TakeNotificationsError) -> Problem {
    match error {
        TakeNotificationsError::ProviderOff => {
            Problem::not_found("provider_off", "This provider is not available here.")
        }
        TakeNotificationsError::Unreadable(_) => Problem::malformed(
            "malformed_notifications",
            "The body is not one that this provider sends.",
        ),
        // Whatever its class: the provider is to send again. One line for all bodies that failed
        // together was logged by the use case.
        TakeNotificationsError::Port(error) => Problem::unavailable_already_logged(
            "database_unavailable",
            "The database does not answer; send again.",
            error.retry_after,
        ),
    }
}
