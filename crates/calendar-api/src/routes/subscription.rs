//! `GET /v1/connections/{id}/subscriptions`: what tells us of a connection's changes.

use axum::Json;
use axum::extract::State;
use calendar_domain::ids::{ConnectionId, SubscriptionId};
use calendar_domain::subscription::WebhookSubscription;
use serde::Serialize;
use time::OffsetDateTime;

use super::connection;
use crate::extract::{Caller, NoQuery, PathId};
use crate::names;
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse};
use crate::state::AppState;

/// A subscription. Where it is sent to is ours to know, and its client state is nobody's.
#[derive(Debug, Serialize)]
pub(crate) struct SubscriptionResponse {
    id: SubscriptionId,
    /// The one it stands on: with several connections of one account, another than the one asked for.
    connection_id: ConnectionId,
    provider: &'static str,
    /// The provider's id.
    subscription_id: String,
    resource_path: Option<String>,
    state: &'static str,
    expires_at: Instant,
    last_notification_at: Option<Instant>,
    renewed_at: Option<Instant>,
    created_at: Instant,
    updated_at: Instant,
}

impl SubscriptionResponse {
    fn new(subscription: WebhookSubscription, now: OffsetDateTime) -> Self {
        Self {
            state: names::subscription_state(&subscription, now),
            id: subscription.id,
            connection_id: subscription.connection_id,
            provider: subscription.provider.as_str(),
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

/// `GET /v1/connections/{id}/subscriptions`: those of its account, newest first; a few, and so one page.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<Json<ListResponse<SubscriptionResponse>>, Problem> {
    let ports = &state.0.ports;
    let listed = ports.subscriptions.list(caller.user_id, id.into()).await?;
    let now = ports.clock.now();
    let subscriptions = listed.ok_or_else(connection::unknown)?.into_iter();
    Ok(Json(ListResponse {
        data: subscriptions
            .map(|subscription| SubscriptionResponse::new(subscription, now))
            .collect(),
        next_cursor: None,
    }))
}
