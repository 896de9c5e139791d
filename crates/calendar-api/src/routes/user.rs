//! `POST /v1/users` and `/v1/me`: signing up, and one's own account.

use std::time::Instant as StdInstant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use calendar_domain::failure::FailureClass;
use calendar_domain::ids::UserId;
use calendar_domain::user::{NewManagedUser, User, UserChange};
use calendar_sync::{SignUpError, SignUpInput};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::caller::{self, Caller, Credential, ManagesUsers, Owner};
use crate::check;
use crate::cursor::Scope;
use crate::extract::{JsonBody, NoQuery, Peer, Query};
use crate::fields::{Checked, Fields};
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, PageQuery};
use crate::state::AppState;

/// A name as the table holds it.
const NAME_LENGTH: usize = 100;

/// Who signs up.
#[derive(ToSchema)]
#[schema(as = SignUp)]
pub(crate) struct SignUpBody {
    /// One user has it, whatever its case.
    #[schema(format = Email, max_length = 254, examples("ann@example.com"))]
    email: String,
    /// Needed to sign up. With a service key it is left out: managed users have none.
    #[schema(required = false, value_type = String, format = Password, min_length = 8, max_length = 1024, examples("correct horse battery"))]
    password: SecretString,
    #[schema(min_length = 1, max_length = 100, examples("Ann"))]
    first_name: Option<String>,
    #[schema(min_length = 1, max_length = 100, examples("Example"))]
    last_name: Option<String>,
}

impl SignUpBody {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let email = fields.required("email", check::email);
        let password = fields.required("password", check::password(8..=1024));
        let first_name = fields.optional("first_name", name());
        let last_name = fields.optional("last_name", name());
        fields.finish(|| {
            Some(Self {
                email: email?,
                password: password?,
                first_name: first_name.flatten(),
                last_name: last_name.flatten(),
            })
        })
    }
}

/// What to change of a user: what is not named stays, `null` clears.
#[derive(ToSchema)]
#[schema(as = UserChange)]
#[expect(clippy::option_option, reason = "left out, cleared, set")]
pub(crate) struct UserChangeBody {
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    first_name: Option<Option<String>>,
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    last_name: Option<Option<String>>,
}

impl UserChangeBody {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let first_name = fields.optional("first_name", name());
        let last_name = fields.optional("last_name", name());
        fields.finish(|| {
            Some(Self {
                first_name,
                last_name,
            })
        })
    }
}

fn name() -> impl FnOnce(Value) -> Checked<Option<String>> {
    check::nullable(check::line(1..=NAME_LENGTH))
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct UserResponse {
    #[schema(value_type = Uuid)]
    id: UserId,
    #[schema(examples("ann@example.com"))]
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

/// Sign up
///
/// Limited per address. No token is needed, and that of a session changes nothing. With a service key (`users:manage`) it
/// makes a user of the key's owner instead, also where signing up is closed: without a password, and so unable to sign
/// in. Its address is unique among its owner's users.
#[utoipa::path(
    post,
    path = "/v1/users",
    operation_id = "sign_up",
    tag = "users",
    security((), ("bearer" = [])),
    request_body = SignUpBody,
    responses(
        (status = 201, description = "The user.", body = UserResponse),
        (status = 401, description = "`token_missing`: `Authorization` holds no bearer token. `token_invalid`: the token is \
            unknown or has expired."),
        (status = 403, description = "`signup_closed`: nobody can sign up here by themselves; ask the operator. \
            `scope_missing`: the service key lacks a scope."),
        (status = 409, description = "`email_taken`: a user with this e-mail address exists."),
        (status = 429, description = "`too_many_attempts`: wait as long as Retry-After says. `rate_limited`: so does the \
            token."),
    ),
)]
pub(crate) async fn sign_up(
    State(state): State<AppState>,
    owner: Option<Owner<ManagesUsers>>,
    Peer(peer): Peer,
    _: NoQuery,
    JsonBody(fields): JsonBody,
) -> Result<(StatusCode, Json<UserResponse>), Problem> {
    if let Some(owner) = owner {
        return make_managed(&state, owner.user_id, fields).await;
    }
    if !state.0.signup_open {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "signup_closed",
            "Nobody can sign up here by themselves; ask the operator.",
        ));
    }
    let body = SignUpBody::read(fields)?;
    let input = SignUpInput {
        email: body.email,
        password: body.password,
        first_name: body.first_name,
        last_name: body.last_name,
    };

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

async fn make_managed(
    state: &AppState,
    owner: UserId,
    mut fields: Fields,
) -> Result<(StatusCode, Json<UserResponse>), Problem> {
    let email = fields.required("email", check::email);
    let first_name = fields.optional("first_name", name());
    let last_name = fields.optional("last_name", name());
    let user = fields.finish(|| {
        Some(NewManagedUser {
            managed_by: owner,
            email: email?,
            first_name: first_name.flatten(),
            last_name: last_name.flatten(),
        })
    })?;
    let ports = &state.0.ports;
    match ports.users.create_managed(user, ports.clock.now()).await {
        Ok(user) => Ok((StatusCode::CREATED, Json(user.into()))),
        Err(error) if error.class == FailureClass::Conflict => Err(Problem::conflict(
            "email_taken",
            "A user with this e-mail address exists.",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Which users to list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsersQuery {
    /// The one with this address, whatever its case.
    #[param(min_length = 1, max_length = 255)]
    email: Option<String>,
}

/// List the users that one manages
///
/// Those that one's service keys made, by id. With a service key (`users:manage`) those of its owner.
#[utoipa::path(
    get,
    path = "/v1/users",
    operation_id = "list_users",
    tag = "users",
    params(UsersQuery, PageQuery),
    responses(
        (status = 200, description = "A page of the users.", body = ListResponse<UserResponse>),
        (status = 403, description = "`scope_missing`: the service key lacks a scope."),
    ),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    owner: Owner<ManagesUsers>,
    Query(mut fields): Query,
) -> Result<Json<ListResponse<UserResponse>>, Problem> {
    let conditions = fields.fingerprint(&["limit", "cursor"]);
    let query = UsersQuery {
        email: fields.optional("email", check::line(1..=255)),
    };
    let page = PageQuery::read(&mut fields);
    fields.finish(|| Some(()))?;
    let scope = Scope::new(format!("users of {} {conditions}", owner.user_id));
    let after = page.cursor.map(|cursor| scope.read_id(&cursor));
    let after = after.transpose()?.map(UserId);
    let users = &state.0.ports.users;
    let listed = users
        .list_managed(owner.user_id, query.email, after, page.limit)
        .await?;
    Ok(Json(ListResponse {
        data: listed.items.into_iter().map(Into::into).collect(),
        next_cursor: listed.next.map(|id| scope.write_id(id.0)),
    }))
}

/// Show one's own account
#[utoipa::path(
    get,
    path = "/v1/me",
    operation_id = "show_me",
    tag = "users",
    responses((status = 200, description = "The user.", body = UserResponse)),
)]
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller<ManagesUsers>,
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

/// Change one's own account
#[utoipa::path(
    patch,
    path = "/v1/me",
    operation_id = "change_me",
    tag = "users",
    request_body = UserChangeBody,
    responses((status = 200, description = "The user as it is now.", body = UserResponse)),
)]
pub(crate) async fn change(
    State(state): State<AppState>,
    caller: Caller<ManagesUsers>,
    _: NoQuery,
    JsonBody(fields): JsonBody,
) -> Result<Json<UserResponse>, Problem> {
    let body = UserChangeBody::read(fields)?;
    let change = UserChange {
        first_name: body.first_name,
        last_name: body.last_name,
    };
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

/// Delete one's own account
///
/// Removes all that is the user's, service keys and the users that they made among it; subscriptions end at the
/// providers. At once: every token, ours and the providers', and all access; calendars, events, and the names and
/// addresses of users that keys made follow within minutes. A service key deletes the users that it made, and not its
/// owner.
#[utoipa::path(
    delete,
    path = "/v1/me",
    operation_id = "delete_me",
    tag = "users",
    responses(
        (status = 204, description = "Gone, and every token with it."),
        (status = 403, description = "`session_required`: a service key does not delete its owner; sign in."),
    ),
)]
pub(crate) async fn delete(
    State(state): State<AppState>,
    caller: Caller<ManagesUsers>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let owner = caller.user_id;
    if caller.credential == (Credential::Key { owner }) {
        return Err(caller::session_required());
    }
    // Whether it was there: with two such requests at once, both are right.
    state.0.delete_user.run(caller.user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deleted between the look at the token and now.
pub(super) fn gone() -> Problem {
    Problem::unauthorized(
        "token_invalid",
        "The token is unknown or has expired; sign in again.",
    )
}
