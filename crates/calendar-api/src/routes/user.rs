//! `POST /v1/users` and `/v1/me`: signing up, and one's own account.

use std::time::Instant as StdInstant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use calendar_domain::ids::UserId;
use calendar_domain::user::{User, UserChange};
use calendar_sync::{SignUpError, SignUpInput};
use serde::Serialize;

use crate::check;
use crate::extract::{Caller, JsonBody, NoQuery, Peer};
use crate::problem::Problem;
use crate::respond::Instant;
use crate::state::AppState;

/// A name as the table holds it.
const NAME_LENGTH: usize = 100;

/// A user.
#[derive(Debug, Serialize)]
pub(crate) struct UserResponse {
    id: UserId,
    email: String,
    first_name: Option<String>,
    last_name: Option<String>,
    created_at: Instant,
    updated_at: Instant,
}

impl From<User> for UserResponse {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            email: user.email,
            first_name: user.first_name,
            last_name: user.last_name,
            created_at: Instant(user.created_at),
            updated_at: Instant(user.updated_at),
        }
    }
}

/// `POST /v1/users`.
pub(crate) async fn sign_up(
    State(state): State<AppState>,
    Peer(peer): Peer,
    _: NoQuery,
    JsonBody(mut fields): JsonBody,
) -> Result<(StatusCode, Json<UserResponse>), Problem> {
    if !state.0.signup_open {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "signup_closed",
            "Nobody can sign up here by themselves; ask the operator.",
        ));
    }
    let email = fields.required("email", check::email);
    let password = fields.required("password", check::password(8..=1024));
    let first_name = fields.optional("first_name", check::nullable(check::line(1..=NAME_LENGTH)));
    let last_name = fields.optional("last_name", check::nullable(check::line(1..=NAME_LENGTH)));
    let input = fields.finish(|| {
        Some(SignUpInput {
            email: email?,
            password: password?,
            first_name: first_name.flatten(),
            last_name: last_name.flatten(),
        })
    })?;

    let attempt = state
        .0
        .attempts
        .sign_up(peer, StdInstant::now())
        .map_err(Problem::too_many)?;
    match state.0.sign_up.run(input).await {
        Ok(user) => Ok((StatusCode::CREATED, Json(user.into()))),
        Err(SignUpError::EmailTaken) => Err(Problem::conflict(
            "email_taken",
            "A user with this e-mail address exists.",
        )),
        Err(SignUpError::Port(error)) => {
            state.0.attempts.give_back(attempt, StdInstant::now());
            Err(error.into())
        }
    }
}

/// `GET /v1/me`.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    _: NoQuery,
) -> Result<Json<UserResponse>, Problem> {
    let user = state
        .0
        .ports
        .users
        .by_id(caller.user_id)
        .await?
        .ok_or_else(gone)?;
    Ok(Json(user.into()))
}

/// `PATCH /v1/me`: what is not named stays; `null` clears.
pub(crate) async fn change(
    State(state): State<AppState>,
    caller: Caller,
    _: NoQuery,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<UserResponse>, Problem> {
    let first_name = fields.optional("first_name", check::nullable(check::line(1..=NAME_LENGTH)));
    let last_name = fields.optional("last_name", check::nullable(check::line(1..=NAME_LENGTH)));
    let change = fields.finish(|| {
        Some(UserChange {
            first_name,
            last_name,
        })
    })?;
    let now = state.0.ports.clock.now();
    let user = state
        .0
        .ports
        .users
        .change(caller.user_id, change, now)
        .await?
        .ok_or_else(gone)?;
    Ok(Json(user.into()))
}

/// `DELETE /v1/me`: removes all that is the user's; subscriptions end at the providers.
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    // Whether it was there: with two such requests at once, both are right.
    state.0.delete_user.run(caller.user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deleted between the look at the token and now.
fn gone() -> Problem {
    Problem::unauthorized(
        "token_invalid",
        "The token is unknown or has expired; sign in again.",
    )
}
