//! `/v1/sessions`: signing in and out.

use std::time::Instant as StdInstant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use calendar_sync::SignInError;
use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::check;
use crate::extract::{JsonBody, NoQuery, Peer, Token};
use crate::problem::Problem;
use crate::respond::Instant;
use crate::state::AppState;

/// A sign-in; the token is shown this once.
#[derive(Serialize)]
pub(crate) struct SessionResponse {
    token: String,
    expires_at: Instant,
}

/// `POST /v1/sessions`.
pub(crate) async fn sign_in(
    State(state): State<AppState>,
    Peer(peer): Peer,
    _: NoQuery,
    JsonBody(mut fields): JsonBody,
) -> Result<(StatusCode, Json<SessionResponse>), Problem> {
    // Not held against the rules for new addresses and passwords: older users may break them.
    let email = fields.required("email", check::line(1..=255));
    let password = fields.required("password", check::password(1..=1024));
    let (email, password) = fields.finish(|| Some((email?, password?)))?;

    let attempt = state
        .0
        .attempts
        .sign_in(peer, &email, StdInstant::now())
        .map_err(Problem::too_many)?;
    let answer = state.0.sign_in.run(&email, password).await;
    if !matches!(answer, Err(SignInError::WrongCredentials)) {
        state.0.attempts.give_back(attempt, StdInstant::now());
    }
    match answer {
        Ok(signed_in) => {
            let token = signed_in.token.expose_secret().to_owned();
            let expires_at = Instant(signed_in.expires_at);
            Ok((
                StatusCode::CREATED,
                Json(SessionResponse { token, expires_at }),
            ))
        }
        Err(SignInError::WrongCredentials) => Err(Problem::unauthorized(
            "wrong_credentials",
            "The e-mail address or the password is wrong.",
        )),
        Err(SignInError::Port(error)) => Err(error.into()),
    }
}

/// `DELETE /v1/sessions`: ends the session of the token that it is sent with. Idempotent: a token
/// that is no longer good is signed out, too.
pub(crate) async fn sign_out(
    State(state): State<AppState>,
    Token(token): Token,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    if let Some((session, _)) = state.0.authenticate.run(&token).await? {
        state.0.ports.sessions.end(session).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
