//! `/v1/connections`: the user's calendars, how they are doing, and what the user may do with them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use calendar_domain::connection::{CalendarConnection, ConnectionChange, ConnectionStatus};
use calendar_domain::ids::{AccountId, ConnectionId, UserId};
use calendar_domain::subscription::PushHealth;
use serde::Serialize;

use crate::check;
use crate::cursor::{self, Scope};
use crate::extract::{Caller, JsonBody, NoQuery, PathId, Query};
use crate::names;
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, WindowResponse};
use crate::state::AppState;

/// A connection.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionResponse {
    id: ConnectionId,
    provider: &'static str,
    account_id: Option<AccountId>,
    account_email: Option<String>,
    calendar_id: String,
    calendar_name: Option<String>,
    calendar_color: Option<String>,
    is_primary: bool,
    can_edit: bool,
    delegate_email: Option<String>,
    status: &'static str,
    /// How fresh the store is: when the last pass over the calendar ended. Holds within `window`.
    as_of: Option<Instant>,
    window: Option<WindowResponse>,
    last_synced_at: Option<Instant>,
    next_sync_at: Option<Instant>,
    last_error: Option<LastErrorResponse>,
    push: PushResponse,
    counts: CountsResponse,
    created_at: Instant,
    updated_at: Instant,
}

#[derive(Debug, Serialize)]
struct LastErrorResponse {
    code: String,
    at: Instant,
}

/// How the provider tells us of changes; where its pushes cannot be relied on, connections are polled.
#[derive(Debug, Serialize)]
struct PushResponse {
    state: &'static str,
    expires_at: Option<Instant>,
}

#[derive(Debug, Serialize)]
struct CountsResponse {
    events: u64,
    /// Set aside because they could not be read, in the last full pass and since.
    events_skipped: u32,
}

impl From<PushHealth> for PushResponse {
    fn from(push: PushHealth) -> Self {
        let expires_at = match push {
            PushHealth::Healthy { expires_at } | PushHealth::Stale { expires_at } => {
                Some(Instant(expires_at))
            }
            PushHealth::Unsupported | PushHealth::Off => None,
        };
        Self {
            state: names::push_state(push),
            expires_at,
        }
    }
}

impl From<CalendarConnection> for ConnectionResponse {
    fn from(connection: CalendarConnection) -> Self {
        let last_synced_at = connection.last_synced_at.map(Instant);
        Self {
            id: connection.id,
            provider: connection.provider.as_str(),
            account_id: connection.account_id,
            account_email: connection.account_email,
            calendar_id: connection.calendar_id,
            calendar_name: connection.calendar_name,
            calendar_color: connection.calendar_color,
            is_primary: connection.is_primary,
            can_edit: connection.can_edit,
            delegate_email: connection.delegate_email,
            status: names::connection_status(connection.status),
            as_of: last_synced_at,
            window: connection.window.map(Into::into),
            last_synced_at,
            next_sync_at: connection.next_sync_at.map(Instant),
            last_error: connection.last_error.map(|(code, at)| LastErrorResponse {
                code,
                at: Instant(at),
            }),
            push: connection.push.into(),
            counts: CountsResponse {
                events: connection.event_count,
                events_skipped: connection.events_skipped,
            },
            created_at: Instant(connection.created_at),
            updated_at: Instant(connection.updated_at),
        }
    }
}

/// The connection with this id, if it is this user's.
pub(crate) async fn find(
    state: &AppState,
    user: UserId,
    id: ConnectionId,
) -> Result<CalendarConnection, Problem> {
    state
        .0
        .ports
        .connections
        .get(user, id)
        .await?
        .ok_or_else(unknown)
}

pub(super) fn unknown() -> Problem {
    Problem::not_found(
        "connection_not_found",
        "There is no connection with this id.",
    )
}

/// `GET /v1/connections`.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(mut fields): Query,
) -> Result<Json<ListResponse<ConnectionResponse>>, Problem> {
    let limit = fields.optional("limit", check::number(1..=500));
    let after = fields.optional("cursor", cursor::text);
    fields.finish(|| Some(()))?;
    let scope = Scope::new(format!("connections of {}", caller.user_id));
    let after = after
        .map(|cursor| scope.read_connection(&cursor))
        .transpose()?;
    let page = state
        .0
        .ports
        .connections
        .list(caller.user_id, after, limit.unwrap_or(50))
        .await?;
    Ok(Json(ListResponse {
        data: page.items.into_iter().map(Into::into).collect(),
        next_cursor: page.next.map(|id| scope.write_connection(id)),
    }))
}

/// `GET /v1/connections/{id}`.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<Json<ConnectionResponse>, Problem> {
    Ok(Json(find(&state, caller.user_id, id.into()).await?.into()))
}

/// `PATCH /v1/connections/{id}`: `paused`, `calendar_name`, `calendar_color`.
pub(crate) async fn change(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId,
    _: NoQuery,
    JsonBody(mut fields): JsonBody,
) -> Result<Json<ConnectionResponse>, Problem> {
    let paused = fields.optional("paused", check::boolean);
    let calendar_name = fields.optional("calendar_name", check::line(1..=255));
    let calendar_color = fields.optional("calendar_color", check::color);
    let change = fields.finish(|| {
        Some(ConnectionChange {
            paused,
            calendar_name,
            calendar_color,
        })
    })?;
    let now = state.0.ports.clock.now();
    let changed = state
        .0
        .ports
        .connections
        .change(caller.user_id, id.into(), change, now)
        .await?;
    Ok(Json(changed.ok_or_else(unknown)?.into()))
}

/// `DELETE /v1/connections/{id}`: ends its subscription at the provider, too, if no other needs it.
pub(crate) async fn disconnect(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    if state.0.disconnect.run(caller.user_id, id.into()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}

/// `POST /v1/connections/{id}/sync`: due now. A body, if there is one, says nothing.
pub(crate) async fn sync(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<(StatusCode, Json<ConnectionResponse>), Problem> {
    let id = ConnectionId(id);
    // These would be accepted and never done.
    match find(&state, caller.user_id, id).await?.status {
        ConnectionStatus::Paused => {
            return Err(Problem::conflict(
                "connection_paused",
                "The connection is paused; resume it with PATCH.",
            ));
        }
        ConnectionStatus::NeedsReauth => {
            return Err(Problem::conflict(
                "connection_needs_reauth",
                "The user has to sign in at the provider again, with a new connect session.",
            ));
        }
        ConnectionStatus::Connected | ConnectionStatus::Syncing | ConnectionStatus::Failing => {}
    }
    let now = state.0.ports.clock.now();
    if !state
        .0
        .ports
        .queue
        .request_sync(caller.user_id, id, now)
        .await?
    {
        return Err(unknown());
    }
    let connection = find(&state, caller.user_id, id).await?;
    Ok((StatusCode::ACCEPTED, Json(connection.into())))
}
