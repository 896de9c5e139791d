//! `/v1/sessions`: signing in and out.

use std::time::Instant as StdInstant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use calendar_domain::ids::SessionId;
use calendar_domain::user::Session;
use calendar_sync::SignInError;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::SignedIn;
use crate::check;
use crate::cursor::Scope;
use crate::extract::{JsonBody, NoQuery, PathId, Peer, Query};
use crate::fields::Fields;
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, PageQuery};
use crate::state::AppState;

/// An e-mail address and its password.
#[derive(ToSchema)]
#[schema(as = SignIn)]
pub(crate) struct SignInBody {
    #[schema(min_length = 1, max_length = 255, examples("ann@example.com"))]
    email: String,
    #[schema(value_type = String, format = Password, min_length = 1, max_length = 1024, examples("correct horse battery"))]
    password: SecretString,
}

impl SignInBody {
    /// Not held against the rules for new addresses and passwords: older users may break them.
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let email = fields.required("email", check::line(1..=255));
        let password = fields.required("password", check::password(1..=1024));
        fields.finish(|| {
            Some(Self {
                email: email?,
                password: password?,
            })
        })
    }
}

/// A sign-in; the token is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SessionResponse {
    /// For `Authorization: Bearer …`.
    token: String,
    /// 30 days later.
    expires_at: Instant,
}

/// Sign in
///
/// An unknown address and a wrong password answer alike, and take the same time. Limited per address and per account.
#[utoipa::path(
    post,
    path = "/v1/sessions",
    operation_id = "sign_in",
    tag = "sessions",
    security(()),
    request_body = SignInBody,
    responses(
        (status = 201, description = "Signed in.", body = SessionResponse),
        (status = 401, description = "`wrong_credentials`: the address or the password is wrong."),
        (status = 429, description = "`too_many_attempts`: wait as long as Retry-After says."),
    ),
)]
pub(crate) async fn sign_in(
    State(state): State<AppState>,
    Peer(peer): Peer,
    _: NoQuery,
    JsonBody(fields): JsonBody,
) -> Result<(StatusCode, Json<SessionResponse>), Problem> {
    let SignInBody { email, password } = SignInBody::read(fields)?;
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

/// Sign out
///
/// Ends the session of the token that it is sent with.
#[utoipa::path(
    delete,
    path = "/v1/sessions",
    operation_id = "sign_out",
    tag = "sessions",
    responses(
        (status = 204, description = "Signed out."),
        (status = 403, description = "`session_required`: a service key cannot do this; sign in."),
    ),
)]
pub(crate) async fn sign_out(
    State(state): State<AppState>,
    caller: SignedIn,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    // Whether it was there: with two such requests at once, both are right.
    let sessions = &state.0.ports.sessions;
    sessions.end(caller.user_id, caller.session_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A sign-in that has not ended; what its token is, nobody can tell any more.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionEntry)]
pub(crate) struct SessionEntryResponse {
    #[schema(value_type = Uuid)]
    id: SessionId,
    created_at: Instant,
    expires_at: Instant,
    /// To the nearest few minutes.
    last_used_at: Option<Instant>,
    /// Whether it is the one that asks.
    is_current: bool,
}

impl SessionEntryResponse {
    pub(super) fn new(session: &Session, current: Option<SessionId>) -> Self {
        Self {
            id: session.id,
            created_at: Instant(session.created_at),
            expires_at: Instant(session.expires_at),
            last_used_at: session.last_used_at.map(Instant),
            is_current: current == Some(session.id),
        }
    }
}

/// List one's sessions
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "list_sessions",
    tag = "sessions",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of the sessions that have not ended.", body = ListResponse<SessionEntryResponse>),
        (status = 403, description = "`session_required`: a service key cannot do this; sign in."),
    ),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: SignedIn,
    Query(mut fields): Query,
) -> Result<Json<ListResponse<SessionEntryResponse>>, Problem> {
    let page = PageQuery::read(&mut fields);
    fields.finish(|| Some(()))?;
    let scope = Scope::new(format!("sessions of {}", caller.user_id));
    let after = page.cursor.map(|cursor| scope.read_id(&cursor));
    let after = after.transpose()?.map(SessionId);
    let ports = &state.0.ports;
    let listed = ports
        .sessions
        .list(caller.user_id, after, page.limit, ports.clock.now())
        .await?;
    let current = Some(caller.session_id);
    let entry = |session| SessionEntryResponse::new(session, current);
    Ok(Json(ListResponse {
        data: listed.items.iter().map(entry).collect(),
        next_cursor: listed.next.map(|id| scope.write_id(id.0)),
    }))
}

/// End a session
///
/// One's own, or another of the same user.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    operation_id = "end_session",
    tag = "sessions",
    params(("id" = Uuid, Path, description = "The session.")),
    responses(
        (status = 204, description = "Ended."),
        (status = 403, description = "`session_required`: a service key cannot do this; sign in."),
        (status = 404, description = "`session_not_found`: there is no session with this id."),
    ),
)]
pub(crate) async fn end(
    State(state): State<AppState>,
    caller: SignedIn,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let sessions = &state.0.ports.sessions;
    if sessions.end(caller.user_id, SessionId(id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(
            "session_not_found",
            "There is no session with this id.",
        ))
    }
}
