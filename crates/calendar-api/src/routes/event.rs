//! `/v1/events`: what happens, and what was changed.

use axum::Json;
use axum::extract::State;
use calendar_domain::event::{EventImportance, EventStatus};
use calendar_domain::ids::{ConnectionId, EventId};
use calendar_domain::query::{EventCursor, EventQuery, EventView, StoredEvent};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::openapi::schema::AnyOf;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{IntoParams, PartialSchema as _, ToSchema};
use uuid::Uuid;

use super::connection;
use super::event_response::{EventResponse, TombstoneResponse};
use crate::caller::{Caller, ReadsEvents};
use crate::check;
use crate::cursor::Scope;
use crate::extract::{NoQuery, PathId, Query};
use crate::fields::Fields;
use crate::names;
use crate::problem::Problem;
use crate::respond::{Instant, ListResponse, PageQuery, WindowResponse};
use crate::state::AppState;

/// Which events to list; all conditions hold together.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsQuery {
    /// Of this connection only; the page then says how fresh it is, and what it covers.
    connection_id: Option<Uuid>,
    /// That end after this instant.
    #[param(value_type = Option<Instant>, inline, example = "2026-01-01T00:00:00Z")]
    from: Option<OffsetDateTime>,
    /// That start before this instant, which is after `from`.
    #[param(value_type = Option<Instant>, inline, example = "2026-02-01T00:00:00Z")]
    to: Option<OffsetDateTime>,
    /// Teams meetings, or all others.
    teams_enabled: Option<bool>,
    /// Of this thread of mails.
    #[param(min_length = 1, max_length = 1024)]
    conversation_id: Option<String>,
    /// Of this priority.
    #[param(value_type = Option<names::Importance>, inline)]
    importance: Option<EventImportance>,
    /// With this category.
    #[param(min_length = 1, max_length = 255)]
    category: Option<String>,
    /// Of this status.
    #[param(value_type = Option<names::EventStatus>, inline)]
    status: Option<EventStatus>,
    /// With this text in title or location, whatever its case.
    #[param(min_length = 1, max_length = 200)]
    q: Option<String>,
    /// Changed since; orders by the change instead of the start. Ask for a few minutes more than was seen.
    #[param(value_type = Option<Instant>, inline)]
    updated_since: Option<OffsetDateTime>,
    /// Tombstones too, so that a consumer can mirror; they stay for 30 days.
    #[param(required = false, default = false)]
    include_deleted: bool,
    /// Events as they happen (when left out), or series as they are kept.
    #[param(value_type = names::EventView, inline, required = false)]
    view: EventView,
}

impl EventsQuery {
    fn read(fields: &mut Fields) -> Self {
        let connection_id = fields.optional("connection_id", check::uuid);
        let from = fields.optional("from", check::instant);
        let to = fields.optional("to", check::instant);
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            fields.error("to", "is not after `from`");
        }
        Self {
            connection_id,
            from,
            to,
            teams_enabled: fields.optional("teams_enabled", check::flag),
            conversation_id: fields.optional("conversation_id", check::line(1..=1024)),
            importance: fields.optional("importance", check::one_of(names::IMPORTANCE)),
            category: fields.optional("category", check::line(1..=255)),
            status: fields.optional("status", check::one_of(names::EVENT_STATUS)),
            q: fields.optional("q", check::line(1..=200)),
            updated_since: fields.optional("updated_since", check::instant),
            include_deleted: fields
                .optional("include_deleted", check::flag)
                .unwrap_or(false),
            view: fields
                .optional("view", check::one_of(names::VIEW))
                .unwrap_or_default(),
        }
    }
}

/// A page of events; of one connection, with how fresh it is and what it covers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventPage)]
pub(crate) struct EventsResponse {
    #[serde(flatten)]
    list: ListResponse<EntryResponse>,
    #[serde(flatten)]
    #[schema(schema_with = coverage_schema)]
    coverage: Option<CoverageResponse>,
}

/// Both, or neither.
fn coverage_schema() -> RefOr<Schema> {
    let mut either = AnyOf::new();
    either.items = vec![
        CoverageResponse::schema(),
        Schema::from(ObjectBuilder::new()).into(),
    ];
    Schema::AnyOf(either).into()
}

/// With `connection_id`.
#[derive(Debug, Serialize, ToSchema)]
struct CoverageResponse {
    /// How fresh the list is: when the last pass over the calendar ended; `null` before the first
    /// has.
    #[schema(required)]
    as_of: Option<Instant>,
    /// The time that is covered; outside of it there may be more at the provider.
    #[schema(required)]
    window: Option<WindowResponse>,
}

/// An event, or what is left of one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventEntry)]
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

/// List events
///
/// Ordered by their start, or by their change with `updated_since`.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_events",
    tag = "events",
    params(EventsQuery, PageQuery),
    responses(
        (status = 200, description = "A page of the user's events.", body = EventsResponse),
        (status = 404, description = "`connection_not_found`: there is no connection with this id."),
    ),
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller<ReadsEvents>,
    Query(mut fields): Query,
) -> Result<Json<EventsResponse>, Problem> {
    // The conditions are part of the cursor's scope: going on with others would skip events.
    let conditions = fields.fingerprint(&["limit", "cursor"]);
    let scope = Scope::new(format!("events of {} {conditions}", caller.user_id));
    let (query, page) = (EventsQuery::read(&mut fields), PageQuery::read(&mut fields));
    fields.finish(|| Some(()))?;
    let after = page.cursor.map(|cursor| scope.read_at(&cursor));
    let after = after
        .transpose()?
        .map(|(at, id)| EventCursor { at, id: id.into() });
    let query = EventQuery {
        user_id: caller.user_id,
        connection_id: query.connection_id.map(ConnectionId),
        from: query.from,
        to: query.to,
        teams_enabled: query.teams_enabled,
        conversation_id: query.conversation_id,
        importance: query.importance,
        category: query.category,
        status: query.status,
        text: query.q,
        updated_since: query.updated_since,
        include_deleted: query.include_deleted,
        view: query.view,
        limit: page.limit,
        after,
    };
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
        next_cursor: page.next.map(|next| scope.write_at(next.at, next.id.0)),
    };
    Ok(Json(EventsResponse { list, coverage }))
}

/// Show an event
///
/// Everything that is stored of it. A tombstone is not found.
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    operation_id = "show_event",
    tag = "events",
    params(("id" = Uuid, Path, description = "The event.")),
    responses(
        (status = 200, description = "The event.", body = EventResponse),
        (status = 404, description = "`event_not_found`: there is no event with this id."),
    ),
)]
pub(crate) async fn show(
    State(state): State<AppState>,
    caller: Caller<ReadsEvents>,
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
