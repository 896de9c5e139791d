//! `/v1/connections`: the user's calendars, how they are doing, and what the user may do with them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use calendar_domain::connection::{CalendarConnection, ConnectionChange, ConnectionStatus};
use calendar_domain::ids::{AccountId, ConnectionId, UserId};
use calendar_domain::subscription::PushHealth;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::{Caller, ManagesConnections, ReadsConnections};
use crate::check;
use crate::cursor::Scope;
use crate::extract::{JsonBody, NoQuery, PathId, Query};
use crate::fields::Fields;
use crate::names;
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, PageQuery, WindowResponse};
use crate::state::AppState;

/// What to change of a connection; what is not named stays.
#[derive(ToSchema)]
#[schema(as = ConnectionChange)]
pub(crate) struct ConnectionChangeBody {
    /// Whether it is left alone, or synced again.
    #[schema(nullable = false)]
    paused: Option<bool>,
    #[schema(nullable = false, min_length = 1, max_length = 255, examples("Work"))]
    calendar_name: Option<String>,
    #[schema(nullable = false, pattern = "^#[0-9A-Fa-f]{6}$", examples("#1a2b3c"))]
    calendar_color: Option<String>,
}

impl ConnectionChangeBody {
    fn read(mut fields: Fields) -> Result<Self, Problem> {
        let paused = fields.optional("paused", check::boolean);
        let calendar_name = fields.optional("calendar_name", check::line(1..=255));
        let calendar_color = fields.optional("calendar_color", check::color);
        fields.finish(|| {
            Some(Self {
                paused,
                calendar_name,
                calendar_color,
            })
        })
    }
}

/// A connection: one calendar that is kept in sync.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connection)]
pub(crate) struct ConnectionResponse {
    #[schema(value_type = Uuid)]
    id: ConnectionId,
    provider: names::Provider,
    /// The sign-in at the provider that it is read with.
    #[schema(value_type = Option<Uuid>)]
    account_id: Option<AccountId>,
    account_email: Option<String>,
    /// The provider's id.
    calendar_id: String,
    #[schema(examples("Calendar"))]
    calendar_name: Option<String>,
    /// `#rrggbb`.
    #[schema(examples("#1a2b3c"))]
    calendar_color: Option<String>,
    is_primary: bool,
    can_edit: bool,
    /// Whose calendar it is, where it is read as a delegate.
    delegate_email: Option<String>,
    status: names::ConnectionStatus,
    /// What the sign-in does not grant although this calendar needs it. It is synced as long as the provider lets us;
    /// connecting again, and agreeing, mends it.
    missing_permission: Option<names::Permission>,
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

/// Why the last pass failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LastError)]
struct LastErrorResponse {
    /// Stable.
    code: String,
    at: Instant,
}

/// How the provider tells us of changes; where its pushes cannot be relied on, connections are polled.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Push)]
struct PushResponse {
    state: names::PushState,
    /// When the subscription behind it ends, unless it is renewed.
    expires_at: Option<Instant>,
}

/// How much there is of a calendar.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Counts)]
struct CountsResponse {
    events: u64,
    /// Set aside because they cannot be stored: `GET /v1/connections/{id}/rejected_events` lists them.
    events_skipped: u64,
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
            state: push.into(),
            expires_at,
        }
    }
}

impl From<CalendarConnection> for ConnectionResponse {
    fn from(connection: CalendarConnection) -> Self {
        let last_synced_at = connection.last_synced_at.map(Instant);
        Self {
            id: connection.id,
            provider: connection.provider.into(),
            account_id: connection.account_id,
            account_email: connection.account_email,
            calendar_id: connection.calendar_id,
            calendar_name: connection.calendar_name,
            calendar_color: connection.calendar_color,
            is_primary: connection.is_primary,
            can_edit: connection.can_edit,
            delegate_email: connection.delegate_email,
            status: connection.status.into(),
            missing_permission: connection.missing_permission.map(Into::into),
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

/// List the connections
#[utoipa::path(
    get,
    path = "/v1/connections",
    operation_id = "list_connections",
    tag = "connections",
    params(PageQuery),
    responses((status = 200, description = "A page of the user's connections.", body = ListResponse<ConnectionResponse>)),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller<ReadsConnections>,
    Query(mut fields): Query,
) -> Result<Json<ListResponse<ConnectionResponse>>, Problem> {
    let query = PageQuery::read(&mut fields);
    fields.finish(|| Some(()))?;
    let scope = Scope::new(format!("connections of {}", caller.user_id));
    let after = query
        .cursor
        .map(|cursor| scope.read_connection(&cursor))
        .transpose()?;
    let page = state
        .0
        .ports
        .connections
        .list(caller.user_id, after, query.limit)
        .await?;
    Ok(Json(ListResponse {
        data: page.items.into_iter().map(Into::into).collect(),
        next_cursor: page.next.map(|id| scope.write_connection(id)),
    }))
}

/// Show a connection
#[utoipa::path(
    get,
    path = "/v1/connections/{id}",
    operation_id = "show_connection",
    tag = "connections",
    params(("id" = Uuid, Path, description = "The connection.")),
    responses(
        (status = 200, description = "The connection.", body = ConnectionResponse),
        (status = 404, description = "`connection_not_found`: there is no connection with this id."),
    ),
)]
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller<ReadsConnections>,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<Json<ConnectionResponse>, Problem> {
    Ok(Json(find(&state, caller.user_id, id.into()).await?.into()))
}

/// Pause, resume or rename a connection
#[utoipa::path(
    patch,
    path = "/v1/connections/{id}",
    operation_id = "change_connection",
    tag = "connections",
    params(("id" = Uuid, Path, description = "The connection.")),
    request_body = ConnectionChangeBody,
    responses(
        (status = 200, description = "The connection as it is now.", body = ConnectionResponse),
        (status = 404, description = "`connection_not_found`: there is no connection with this id."),
    ),
)]
pub(crate) async fn change(
    State(state): State<AppState>,
    caller: Caller<ManagesConnections>,
    PathId(id): PathId,
    _: NoQuery,
    JsonBody(fields): JsonBody,
) -> Result<Json<ConnectionResponse>, Problem> {
    let body = ConnectionChangeBody::read(fields)?;
    let change = ConnectionChange {
        paused: body.paused,
        calendar_name: body.calendar_name,
        calendar_color: body.calendar_color,
    };
    let now = state.0.ports.clock.now();
    let changed = state
        .0
        .ports
        .connections
        .change(caller.user_id, id.into(), change, now)
        .await?;
    Ok(Json(changed.ok_or_else(unknown)?.into()))
}

/// Disconnect a calendar
///
/// Ends its subscription at the provider, too, if no other needs it.
#[utoipa::path(
    delete,
    path = "/v1/connections/{id}",
    operation_id = "disconnect",
    tag = "connections",
    params(("id" = Uuid, Path, description = "The connection.")),
    responses(
        (status = 204, description = "Disconnected."),
        (status = 404, description = "`connection_not_found`: there is no connection with this id."),
    ),
)]
pub(crate) async fn disconnect(
    State(state): State<AppState>,
    caller: Caller<ManagesConnections>,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    if state.0.disconnect.run(caller.user_id, id.into()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}

/// Sync a connection now
///
/// It is due at once. A body, if there is one, says nothing.
#[utoipa::path(
    post,
    path = "/v1/connections/{id}/sync",
    operation_id = "sync_connection",
    tag = "connections",
    params(("id" = Uuid, Path, description = "The connection.")),
    responses(
        (status = 202, description = "The connection, which is due.", body = ConnectionResponse),
        (status = 404, description = "`connection_not_found`: there is no connection with this id."),
        (status = 409, description = "`connection_paused`: resume it with PATCH. `connection_needs_reauth`: the \
            user has to sign in at the provider again, with a new connect session."),
    ),
)]
pub(crate) async fn sync(
    State(state): State<AppState>,
    caller: Caller<ManagesConnections>,
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
