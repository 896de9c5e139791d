//! `/v1/events`: what happens, and what was changed.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use calendar_domain::ids::{ConnectionId, EventId, UserId};
use calendar_domain::query::{EventQuery, StoredEvent};
use serde::Serialize;

use super::connection;
use super::event_response::{EventResponse, TombstoneResponse};
use crate::check;
use crate::cursor::{self, Scope};
use crate::extract::{Caller, NoQuery, PathId, Query};
use crate::fields::Fields;
use crate::names;
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, WindowResponse};
use crate::state::AppState;

/// A page of events; of one connection, with how fresh it is and what it covers.
#[derive(Debug, Serialize)]
struct EventsResponse {
    #[serde(flatten)]
    list: ListResponse<EntryResponse>,
    #[serde(flatten)]
    coverage: Option<CoverageResponse>,
}

#[derive(Debug, Serialize)]
struct CoverageResponse {
    /// How fresh the list is: when the last pass over the calendar ended; `null` before the first
    /// has.
    as_of: Option<Instant>,
    /// The time that is covered; outside of it there may be more at the provider.
    window: Option<WindowResponse>,
}

/// An event, or what is left of one.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum EntryResponse {
    Event(Box<EventResponse>),
    Tombstone(TombstoneResponse),
}

impl From<StoredEvent> for EntryResponse {
    fn from(event: StoredEvent) -> Self {
        match event.deleted_at {
            Some(deleted_at) => Self::Tombstone(TombstoneResponse::new(&event, deleted_at)),
            None => Self::Event(Box::new(EventResponse::listed(event))),
        }
    }
}

/// `GET /v1/events`.
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    Query(fields): Query,
) -> Result<Response, Problem> {
    // The conditions are part of the cursor's scope: going on with others would skip events.
    let conditions = fields.fingerprint(&["limit", "cursor"]);
    let scope = Scope::new(format!("events of {} {conditions}", caller.user_id));
    let query = read_query(caller.user_id, fields, &scope)?;
    // Read before the events, so that what it claims holds for them.
    let coverage = match query.connection_id {
        Some(id) => {
            let connection = connection::find(&state, caller.user_id, id).await?;
            Some(CoverageResponse {
                as_of: connection.last_synced_at.map(Instant),
                window: connection.window.map(Into::into),
            })
        }
        None => None,
    };
    let page = state.0.ports.events.list(query).await?;
    let list = ListResponse {
        data: page.items.into_iter().map(Into::into).collect(),
        next_cursor: page.next.map(|cursor| scope.write_event(cursor)),
    };
    Ok(Json(EventsResponse { list, coverage }).into_response())
}

fn read_query(user_id: UserId, mut fields: Fields, scope: &Scope) -> Result<EventQuery, Problem> {
    let connection_id = fields
        .optional("connection_id", check::uuid)
        .map(ConnectionId);
    let from = fields.optional("from", check::instant);
    let to = fields.optional("to", check::instant);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        fields.error("to", "is not after `from`");
    }
    let teams_enabled = fields.optional("teams_enabled", check::flag);
    let conversation_id = fields.optional("conversation_id", check::line(1..=1024));
    let importance = fields.optional("importance", check::one_of(names::IMPORTANCE));
    let category = fields.optional("category", check::line(1..=255));
    let status = fields.optional("status", check::one_of(names::EVENT_STATUS));
    let text = fields.optional("q", check::line(1..=200));
    let updated_since = fields.optional("updated_since", check::instant);
    let include_deleted = fields.optional("include_deleted", check::flag);
    let view = fields.optional("view", check::one_of(names::VIEW));
    let limit = fields.optional("limit", check::number(1..=500));
    let after = fields.optional("cursor", cursor::text);
    fields.finish(|| Some(()))?;
    Ok(EventQuery {
        user_id,
        connection_id,
        from,
        to,
        teams_enabled,
        conversation_id,
        importance,
        category,
        status,
        text,
        updated_since,
        include_deleted: include_deleted.unwrap_or(false),
        view: view.unwrap_or_default(),
        limit: limit.unwrap_or(50),
        after: after.map(|cursor| scope.read_event(&cursor)).transpose()?,
    })
}

/// `GET /v1/events/{id}`: everything that is stored of it. A tombstone is not found.
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller,
    PathId(id): PathId,
    _: NoQuery,
) -> Result<Json<EventResponse>, Problem> {
    let event = state
        .0
        .ports
        .events
        .get(caller.user_id, EventId(id))
        .await?;
    let event = event
        .filter(|event| event.deleted_at.is_none())
        .ok_or_else(|| Problem::not_found("event_not_found", "There is no event with this id."))?;
    Ok(Json(EventResponse::whole(event)))
}
