//! `GET /v1/me/export`: all that is one's own, as one JSON document that is written while it is read,
//! page by page. Memory holds a page, and no connection to the database is held between two.

use std::collections::HashSet;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use calendar_domain::api_key::MOST_API_KEYS;
use calendar_domain::failure::{FailureClass, PortError};
use calendar_domain::ids::{ConnectionId, RejectedEventId, SessionId, SubscriptionId, UserId};
use calendar_domain::query::Listed;
use calendar_domain::subscription::SubscriptionCursor;
use calendar_domain::user::User;
use calendar_runtime::ErrorChain;
use futures_util::stream;
use serde::Serialize;
use time::OffsetDateTime;
use tracing::warn;

use super::api_key::ApiKeyResponse;
use super::connection::ConnectionResponse;
use super::event_response::EventResponse;
use super::rejected_event::RejectedEventResponse;
use super::session::SessionEntryResponse;
use super::subscription::SubscriptionResponse;
use super::user::{UserResponse, gone};
use crate::caller::{Caller, Credential, ExportsUsers};
use crate::extract::NoQuery;
use crate::problem::Problem;
use crate::respond::Instant;
use crate::state::AppState;

/// Entries of a page.
const PAGE: u32 = 100;
/// The same of events: one can hold a body of megabytes.
const EVENTS: u32 = 25;

/// Export all that is one's own
///
/// One JSON object: `exported_at`, `user`, `sessions`, `api_keys`, `managed_users`, `connections`, `subscriptions`,
/// `rejected_events` and `events` (series masters, instances and exceptions, each as a single event answers). It is streamed; one that
/// broke off is not valid JSON. What changes meanwhile may be in it or not; it breaks off when a
/// connection is ended. With a service key: `users:manage` and `events:read`; then `sessions` and `api_keys` are empty.
#[utoipa::path(
    get,
    path = "/v1/me/export",
    operation_id = "export_me",
    tag = "users",
    responses((status = 200, description = "The document, as an attachment.", body = Object)),
)]
pub(crate) async fn export(
    State(state): State<AppState>,
    caller: Caller<ExportsUsers>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let user = state.0.ports.users.by_id(caller.user_id).await?;
    let export = Export {
        user: caller.user_id,
        session: match caller.credential {
            Credential::Session(id) => Some(id),
            Credential::Key { .. } => None,
        },
        now: state.0.ports.clock.now(),
        state,
        connections: Vec::new(),
        subscriptions: HashSet::new(),
        step: Step::Begin(user.ok_or_else(gone)?),
        first: true,
    };
    // An error ends the body before its end, so that whoever reads it learns of it.
    let body = stream::try_unfold(export, |mut export| async move {
        match export.next().await {
            Ok(chunk) => Ok(chunk.map(|chunk| (chunk, export))),
            Err(error) => {
                warn!(error = %ErrorChain(&error), "an export broke off");
                Err(error)
            }
        }
    });
    let mut response = Body::from_stream(body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"calendar-export.json\""),
    );
    Ok(response)
}

/// An export under way.
struct Export {
    state: AppState,
    user: UserId,
    session: Option<SessionId>,
    now: OffsetDateTime,
    /// Those that were written.
    connections: Vec<ConnectionId>,
    /// Those that were written: connections of one account share one.
    subscriptions: HashSet<SubscriptionId>,
    step: Step,
    /// Whether the list that is written has no entry yet.
    first: bool,
}

/// What is written next; lists go on after what they name.
enum Step {
    Begin(User),
    Sessions(Option<SessionId>),
    ApiKeys,
    ManagedUsers(Option<UserId>),
    Connections(Option<ConnectionId>),
    /// Of the connection with this number, after this one.
    Subscriptions(usize, Option<SubscriptionCursor>),
    /// Of the connection with this number, after the one with this id.
    RejectedEvents(usize, Option<RejectedEventId>),
    /// Of the connection with this number, after the one with this provider's id.
    Events(usize, String),
    Done,
}

impl Export {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, PortError> {
        let (state, user) = (self.state.clone(), self.user);
        let ports = &state.0.ports;
        let mut out = Vec::new();
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Begin(user) => {
                out.extend(b"{\"exported_at\":");
                write(&mut out, &Instant(self.now));
                out.extend(b",\"user\":");
                write(&mut out, &UserResponse::from(user));
                self.begin(&mut out, "sessions", Step::Sessions(None));
            }
            // What only sessions may see.
            Step::Sessions(_) if self.session.is_none() => {
                self.end(&mut out, "api_keys", Step::ApiKeys);
            }
            Step::ApiKeys if self.session.is_none() => {
                self.end(&mut out, "managed_users", Step::ManagedUsers(None));
            }
            Step::Sessions(after) => {
                let page = ports.sessions.list(user, after, PAGE, self.now).await?;
                let current = self.session;
                let entry = |session| SessionEntryResponse::new(session, current);
                self.entries(&mut out, page.items.iter().map(entry));
                match page.next {
                    Some(next) => self.step = Step::Sessions(Some(next)),
                    None => self.end(&mut out, "api_keys", Step::ApiKeys),
                }
            }
            Step::ApiKeys => {
                let page = ports.api_keys.list(user, None, MOST_API_KEYS).await?;
                self.entries(&mut out, page.items.into_iter().map(ApiKeyResponse::from));
                self.end(&mut out, "managed_users", Step::ManagedUsers(None));
            }
            Step::ManagedUsers(after) => {
                let page = ports.users.list_managed(user, None, after, PAGE).await?;
                self.entries(&mut out, page.items.into_iter().map(UserResponse::from));
                match page.next {
                    Some(next) => self.step = Step::ManagedUsers(Some(next)),
                    None => self.end(&mut out, "connections", Step::Connections(None)),
                }
            }
            Step::Connections(after) => {
                let page = ports.connections.list(user, after, PAGE).await?;
                self.connections.extend(page.items.iter().map(|it| it.id));
                let entries = page.items.into_iter().map(ConnectionResponse::from);
                self.entries(&mut out, entries);
                match page.next {
                    Some(next) => self.step = Step::Connections(Some(next)),
                    None => self.end(&mut out, "subscriptions", Step::Subscriptions(0, None)),
                }
            }
            Step::Subscriptions(number, after) => {
                self.subscriptions(&mut out, number, after).await?;
            }
            Step::RejectedEvents(number, after) => match self.connections.get(number) {
                Some(connection) => {
                    let page = ports
                        .events
                        .rejected(user, *connection, after, EVENTS)
                        .await?;
                    self.step = match page.next {
                        Some(next) => Step::RejectedEvents(number, Some(next)),
                        None => Step::RejectedEvents(number + 1, None),
                    };
                    let entries = page.items.into_iter().map(RejectedEventResponse::from);
                    self.entries(&mut out, entries);
                }
                None => self.end(&mut out, "events", Step::Events(0, String::new())),
            },
            Step::Events(number, after) => match self.connections.get(number) {
                Some(connection) => {
                    let page = ports
                        .events
                        .export(user, *connection, after, EVENTS)
                        .await?;
                    self.step = match page.next {
                        Some(next) => Step::Events(number, next),
                        // Its events would look as if there were none.
                        None if ports.connections.get(user, *connection).await?.is_none() => {
                            return Err(gone_meanwhile());
                        }
                        None => Step::Events(number + 1, String::new()),
                    };
                    self.entries(&mut out, page.items.into_iter().map(EventResponse::whole));
                }
                None => out.extend(b"]}\n"),
            },
            Step::Done => return Ok(None),
        }
        Ok(Some(out.into()))
    }

    /// A page of the subscriptions of the connection with this number; what covers several is given once.
    async fn subscriptions(
        &mut self,
        out: &mut Vec<u8>,
        number: usize,
        after: Option<SubscriptionCursor>,
    ) -> Result<(), PortError> {
        let Some(connection) = self.connections.get(number) else {
            self.end(out, "rejected_events", Step::RejectedEvents(0, None));
            return Ok(());
        };
        let (state, user) = (self.state.clone(), self.user);
        let subscriptions = &state.0.ports.subscriptions;
        let listed = subscriptions.list(user, *connection, after, PAGE).await?;
        let Listed {
            items: mut fresh,
            next,
        } = listed.ok_or_else(gone_meanwhile)?;
        fresh.retain(|it| self.subscriptions.insert(it.id));
        let now = self.now;
        let entry = |it| SubscriptionResponse::new(it, now);
        self.entries(out, fresh.into_iter().map(entry));
        self.step = match next {
            Some(next) => Step::Subscriptions(number, Some(next)),
            None => Step::Subscriptions(number + 1, None),
        };
        Ok(())
    }

    fn begin(&mut self, out: &mut Vec<u8>, name: &str, step: Step) {
        out.extend(format!(",\"{name}\":[").as_bytes());
        (self.step, self.first) = (step, true);
    }

    /// Ends a list and begins another.
    fn end(&mut self, out: &mut Vec<u8>, name: &str, step: Step) {
        out.push(b']');
        self.begin(out, name, step);
    }

    fn entries<T: Serialize>(&mut self, out: &mut Vec<u8>, entries: impl Iterator<Item = T>) {
        for entry in entries {
            if !std::mem::take(&mut self.first) {
                out.push(b',');
            }
            write(out, &entry);
        }
    }
}

/// A connection that was written has been disconnected, or the user deleted: the export would be short.
fn gone_meanwhile() -> PortError {
    PortError::new(FailureClass::Conflict, "connection_gone")
}

/// Into memory, with text as keys: this does not fail.
fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    let _ = serde_json::to_writer(out, value);
}
