//! `GET /v1/connections/{id}/rejected_events`: what of a calendar could not be stored, and why.

use axum::Json;
use axum::extract::State;
use calendar_domain::ids::{ConnectionId, RejectedEventId};
use calendar_domain::rejected::StoredRejectedEvent;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::connection;
use crate::caller::{Caller, ReadsEvents};
use crate::cursor::Scope;
use crate::extract::{PathId, Query};
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, PageQuery};
use crate::state::AppState;

/// An event that is set aside because it cannot be stored. Of one that could be stored before, that earlier form
/// is still among the events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RejectedEvent)]
pub(crate) struct RejectedEventResponse {
    /// Of this entry, not of the event.
    #[schema(value_type = Uuid)]
    id: RejectedEventId,
    #[schema(value_type = Uuid)]
    connection_id: ConnectionId,
    /// The provider's id; `sha256:…` of an entry without one.
    provider_event_id: String,
    /// Stable.
    #[schema(examples("end_before_start"))]
    reason: String,
    /// As the provider sent it; a string where it is no JSON that can be stored, or longer than 65,536 characters:
    /// then these. `null` for a series of which only occurrences came.
    #[schema(value_type = Value, examples(json!({"id": "AAMkAGI2TG93AAA=", "start": null})))]
    raw: Option<Value>,
    /// In how many passes it came, or was asked for, and could not be stored.
    attempts: u32,
    first_seen_at: Instant,
    last_seen_at: Instant,
}

impl From<StoredRejectedEvent> for RejectedEventResponse {
    fn from(rejected: StoredRejectedEvent) -> Self {
        Self {
            id: rejected.id,
            connection_id: rejected.connection_id,
            provider_event_id: rejected.provider_event_id,
            reason: rejected.reason,
            raw: rejected.raw,
            attempts: rejected.attempts,
            first_seen_at: Instant(rejected.first_seen_at),
            last_seen_at: Instant(rejected.last_seen_at),
        }
    }
}

/// List the events that were set aside
///
/// What could not be stored, with its raw form and why; the calendar's other events are not affected. An entry
/// goes when the event can be stored, is deleted, or is not there any more. It is tried again when it changes. A page
/// holds at most 100.
#[utoipa::path(
    get,
    path = "/v1/connections/{id}/rejected_events",
    operation_id = "list_rejected_events",
    tag = "connections",
    params(("id" = Uuid, Path, description = "The connection."), PageQuery),
    responses(
        (status = 200, description = "A page of what is set aside.", body = ListResponse<RejectedEventResponse>),
        (status = 404, description = "`connection_not_found`: there is no connection with this id."),
    ),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller<ReadsEvents>,
    PathId(id): PathId,
    Query(mut fields): Query,
) -> Result<Json<ListResponse<RejectedEventResponse>>, Problem> {
    let page = PageQuery::read(&mut fields);
    fields.finish(|| Some(()))?;
    let scope = Scope::new(format!("rejected events of {id} of {}", caller.user_id));
    let after = page.cursor.map(|cursor| scope.read_id(&cursor));
    let after = after.transpose()?.map(RejectedEventId);
    let connection = connection::find(&state, caller.user_id, id.into())
        .await?
        .id;
    let events = &state.0.ports.events;
    let listed = events.rejected(caller.user_id, connection, after, page.limit);
    let listed = listed.await?;
    Ok(Json(ListResponse {
        data: listed.items.into_iter().map(Into::into).collect(),
        next_cursor: listed.next.map(|id| scope.write_id(id.0)),
    }))
}
