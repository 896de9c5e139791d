//! `GET /v1/connections/{id}/subscriptions`: what tells us of a connection's changes.

use axum::Json;
use axum::extract::State;
use calendar_domain::ids::{ConnectionId, SubscriptionId};
use calendar_domain::subscription::{SubscriptionCursor, WebhookSubscription};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::connection;
use crate::caller::{Caller, ReadsConnections};
use crate::cursor::Scope;
use crate::extract::{PathId, Query};
use crate::names;
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, PageQuery};
use crate::state::AppState;

/// A subscription. Where it is sent to is ours to know, and its client state is nobody's.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(crate) struct SubscriptionResponse {
    #[schema(value_type = Uuid)]
    id: SubscriptionId,
    /// The one it stands on: with several connections of one account, another than the one asked for.
    #[schema(value_type = Uuid)]
    connection_id: ConnectionId,
    provider: names::Provider,
    /// The provider's id.
    subscription_id: String,
    /// What it watches, as the provider calls it.
    resource_path: Option<String>,
    state: names::SubscriptionState,
    expires_at: Instant,
    last_notification_at: Option<Instant>,
    renewed_at: Option<Instant>,
    created_at: Instant,
    updated_at: Instant,
}

impl SubscriptionResponse {
    pub(super) fn new(subscription: WebhookSubscription, now: OffsetDateTime) -> Self {
        Self {
            state: names::SubscriptionState::of(&subscription, now),
            id: subscription.id,
            connection_id: subscription.connection_id,
            provider: subscription.provider.into(),
            subscription_id: subscription.subscription_id,
            resource_path: subscription.resource_path,
            expires_at: Instant(subscription.expires_at),
            last_notification_at: subscription.last_notification_at.map(Instant),
            renewed_at: subscription.renewed_at.map(Instant),
            created_at: Instant(subscription.created_at),
            updated_at: Instant(subscription.updated_at),
        }
    }
}

/// List what stands behind a connection's pushes
///
/// The webhook subscriptions of its account, newest first; those that ended stay for 30 days.
#[utoipa::path(
    get,
    path = "/v1/connections/{id}/subscriptions",
    operation_id = "list_subscriptions",
    tag = "connections",
    params(("id" = Uuid, Path, description = "The connection."), PageQuery),
    responses(
        (status = 200, description = "A page of the subscriptions.", body = ListResponse<SubscriptionResponse>),
        (status = 404, description = "`connection_not_found`: there is no connection with this id."),
    ),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller<ReadsConnections>,
    PathId(id): PathId,
    Query(mut fields): Query,
) -> Result<Json<ListResponse<SubscriptionResponse>>, Problem> {
    let page = PageQuery::read(&mut fields);
    fields.finish(|| Some(()))?;
    let (user, connection) = (caller.user_id, ConnectionId(id));
    let scope = Scope::new(format!("subscriptions of {connection} of {user}"));
    let after = page.cursor.map(|cursor| scope.read_at(&cursor));
    let after = after
        .transpose()?
        .map(|(created_at, id)| SubscriptionCursor {
            created_at,
            id: SubscriptionId(id),
        });
    let ports = &state.0.ports;
    let subscriptions = &ports.subscriptions;
    let listed = subscriptions
        .list(user, connection, after, page.limit)
        .await?;
    let listed = listed.ok_or_else(connection::unknown)?;
    let now = ports.clock.now();
    let entry = |subscription| SubscriptionResponse::new(subscription, now);
    Ok(Json(ListResponse {
        data: listed.items.into_iter().map(entry).collect(),
        next_cursor: listed
            .next
            .map(|next| scope.write_at(next.created_at, next.id.0)),
    }))
}
