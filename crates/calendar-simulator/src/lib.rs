//! A Microsoft Entra and Microsoft Graph v1.0 calendar server in memory, over real HTTP, for tests and development.
//!
//! It behaves as the service was observed to, which is not always as it is documented: see [`Quirks`]. It shares no
//! code with the adapters that are tested against it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use calendar_simulator::{Options, Server};
//! let server = Server::start(Options::default()).await?;
//! server.create_mailbox("alex.wilber@contoso.example", "Alex Wilber", "W. Europe Standard Time")?;
//! let token = server.issue_access_token("alex.wilber@contoso.example")?;
//! let graph = server.graph_url(); // http://127.0.0.1:port/v1.0
//! # Ok(()) }
//! ```
//!
//! # Subscriptions
//!
//! Graph's `/subscriptions`, to all events of one's own mailbox. Every change of an event, by whomever, is told to the
//! subscribers of its mailbox: a change of an occurrence as `updated` of its master; a move to another calendar as
//! `updated`, or as `deleted` and `created` where ids are not immutable, because the regular id changes. Several
//! notifications may share a request. What is not answered with 2xx within three seconds is sent again after one second,
//! two, four, up to sixty, for four hours by the simulator's clock.
//!
//! Unlike the real service it also accepts addresses with plain http on this machine (`127.0.0.1`, `localhost`,
//! `[::1]`), and it sends no resource data. [`PushFaults`] has what can go wrong on the way.
//!
//! # Faults
//!
//! A [`Fault`] is scripted for a method, a path, a mailbox and a number of requests, or drawn from the seed of a
//! [`FaultPlan`].
//!
//! | What goes wrong | How |
//! |---|---|
//! | any status, headers, body; HTML, another shape, an empty 200 | `status`, `headers`, `body`; [`Fault::graph`] |
//! | Retry-After in seconds, as a date, missing, 0, absurd | `retry_after` |
//! | the connection is closed before an answer, in mid-body; a body that trickles or ends too soon | `delivery` |
//! | it was done, and the answer is lost: a rotated refresh token, a new subscription | `after` with [`Delivery::Closed`] or a `status` |
//! | a link that has expired, in mid-round too | [`Simulator::invalidate_delta_tokens`], [`Quirks::gone_with_location`], or `path_contains: "$skiptoken"` |
//! | access denied on the second page of another's delta | [`Quirks::delegate_pages_denied`] |
//! | an empty list, a hole that `/instances` contradicts | `untruth` |
//! | more requests at a time than a mailbox takes | [`Quirks::mailbox_concurrency`], [`Simulator::in_flight`] |
//! | an access token that is no longer good | [`Simulator::revoke_access_tokens`], or `status: 401` |
//! | a refresh token that has expired, was revoked, works once | [`Simulator::expire_refresh_tokens`], [`Simulator::revoke_refresh_tokens`], [`Simulator::set_single_use_refresh_tokens`] |
//! | any other refusal of Entra | [`Fault::entra`], [`ENTRA_REFUSALS`] |
//! | a token answer without a refresh token or with fewer scopes | `untruth` |
//! | pushes lost, doubled, late, reordered, ahead of the change | [`PushFaults`], or [`Simulator::take_pushes`] |
//! | an address that fails validation | [`Fault::not_validated`], or the subscriber's own answer |
//! | a subscription that is gone, has run out, is answered 404 or 409 | [`Simulator::remove_subscription`], [`Simulator::expire_subscription`], [`Fault::graph`] |
//! | lifecycle notifications | [`Simulator::send_lifecycle`] |
//! | a clock that jumps, forward or back | [`Simulator::advance_clock`], [`Simulator::set_clock`] |
//!
//! # Admin interface
//!
//! JSON over HTTP under `/admin`, one call per method of [`Simulator`]. Answers are 200 with a JSON object, or the
//! status of a [`GraphError`] with `{"error": {"code", "message"}}`. `calendar` is an id or a name and may be left out
//! for the default calendar. Nothing is authenticated: never expose it.
//!
//! | Call | Body or query | Answer |
//! |---|---|---|
//! | `POST /admin/mailboxes` | `{upn, displayName, timeZone}` | `{id}` |
//! | `GET /admin/mailboxes` | | `{value: [{upn, id, displayName, timeZone}]}` |
//! | `POST /admin/mailboxes/{upn}/calendars` | `{name}` | `{id}` |
//! | `GET /admin/mailboxes/{upn}/calendars` | `?name=` | `{id}` |
//! | `DELETE /admin/mailboxes/{upn}/calendars` | `?calendar=` | `{}` |
//! | `POST /admin/mailboxes/{upn}/share` | `{with, calendar?, canEdit?}`; without `calendar` the whole mailbox; `calendar: ""` the default one | `{id?}` |
//! | `POST /admin/mailboxes/{upn}/unshare` | `{with}` | `{}` |
//! | `POST /admin/mailboxes/{upn}/events` | `?calendar=`, Graph's POST shape and `raw`, `repeat` | `{id}` (immutable) |
//! | `POST /admin/mailboxes/{upn}/bulk` | `{count, start, stepMinutes?, calendar?}` | `{}` |
//! | `PATCH /admin/mailboxes/{upn}/events/{id}` | Graph's PATCH shape | `{}` |
//! | `DELETE /admin/mailboxes/{upn}/events/{id}` | | `{}` |
//! | `POST /admin/mailboxes/{upn}/events/{id}/move` | `{calendar?}` | `{}` |
//! | `POST /admin/mailboxes/{upn}/events/{id}/occurrences/{date}` | `{change: "edit", patch}`, `{change: "cancel"}` or `{change: "delete"}` | `{}` |
//! | `GET /admin/mailboxes/{upn}/events` | `?calendar=` | `{value: [event]}`: singles and masters; all calendars without `calendar` |
//! | `GET /admin/mailboxes/{upn}/instances` | `?startDateTime=&endDateTime=&calendar=` | `{value: [event]}`: as a user sees them |
//! | `POST /admin/mailboxes/{upn}/invalidate-delta-tokens` | | `{}` |
//! | `POST /admin/mailboxes/{upn}/revoke-refresh-tokens` | | `{}` |
//! | `POST /admin/mailboxes/{upn}/expire-refresh-tokens` | | `{}` |
//! | `POST /admin/mailboxes/{upn}/revoke-access-tokens` | | `{}` |
//! | `POST /admin/mailboxes/{upn}/tokens` | | `{access_token, refresh_token}` |
//! | `POST /admin/default-mailbox` | `{upn}` | `{}` |
//! | `POST /admin/consent` | `{error: null or "access_denied", ...}` | `{}` |
//! | `POST /admin/tokens` | `{accessTokenSeconds?, singleUseRefreshTokens?}` | `{}` |
//! | `PUT /admin/clients` | `[{id, secret?, redirectUris?}]` | `{}` |
//! | `GET`, `PUT`, `PATCH /admin/quirks` | [`Quirks`]; PATCH takes some members only | [`Quirks`] |
//! | `GET`, `POST /admin/clock` | `{set: "2026-01-01T00:00:00Z", frozen?}` or `{advanceSeconds}` | `{now}` |
//! | `GET`, `POST`, `DELETE /admin/faults` | [`Fault`] | `{value: [Fault], given}`; DELETE drops the plan too |
//! | `GET`, `PUT /admin/fault-plan` | [`FaultPlan`] | [`FaultPlan`] |
//! | `GET /admin/subscriptions` | | `{value: [SubscriptionInfo]}`: the live ones |
//! | `DELETE /admin/subscriptions/{id}` | | `{}`: gone without a word to the subscriber |
//! | `POST /admin/subscriptions/{id}/expire` | | `{}` |
//! | `POST /admin/subscriptions/{id}/lifecycle` | `{event: "missed"}`, `"subscriptionRemoved"` or `"reauthorizationRequired"` | `{}` |
//! | `GET`, `PUT /admin/pushes` | [`PushFaults`] | [`PushFaults`] |
//! | `GET /admin/pushes/counts` | | [`PushCounts`] |
//! | `GET`, `DELETE /admin/pushes/log` | | `{value: [PushRecord]}`: the newest thousand |
//! | `POST /admin/pushes/take` | | `{value: [HeldPush]}`: with [`Options::manual`] |
//! | `GET`, `DELETE /admin/in-flight` | | `{value: [InFlight]}`; DELETE forgets the most there were |
//! | `GET`, `DELETE /admin/requests` | | `{value: [RecordedRequest]}` |
//! | `POST /admin/demo` | `{today?: "2026-01-01"}` | `{upn}` |

mod admin;
mod bulk;
mod change;
mod clock;
mod delta;
pub mod demo;
mod entra;
mod error;
mod event;
mod fault;
mod graph;
mod http;
mod ids;
mod model;
mod push;
mod quirks;
mod recurrence;
mod render;
mod simulator;
mod store;
mod subscription;
mod zones;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use error::GraphError;
pub use fault::{Delivery, ENTRA_REFUSALS, Fault, FaultPlan, RandomFault, RetryAfter, Untruth};
pub use http::Server;
pub use push::{HeldPush, PushCounts, PushFaults, PushKind, PushRecord};
pub use quirks::Quirks;
pub use simulator::{Client, InFlight, Options, RecordedRequest, Simulator};
pub use store::OccurrenceChange;
pub use subscription::{LifecycleEvent, SubscriptionInfo};

/// The time library whose [`jiff::Timestamp`] and [`jiff::civil::Date`] this interface speaks.
pub use jiff;

// A request that panicked must not take the simulator with it: the data behind a poisoned lock is still whole enough.

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
