//! The ways in which the real service differs from its documentation, each a switch. All are on by default.

use serde::{Deserialize, Serialize};

/// Behaviour switches. `Quirks::default()` is the service as observed; `Quirks::none()` the one a reader of the
/// documentation would expect, which makes answers predictable for tests that are about something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent switch of a test bench"
)]
pub struct Quirks {
    /// Delta shows occurrences with type, ids, etag, start and end only. Off: in full.
    pub stub_occurrences: bool,
    /// Delta shows the series master too.
    pub master_in_delta: bool,
    /// A deleted occurrence gets no `@removed`: it is missing from the resent series. Off: it gets one.
    pub deleted_occurrence_unreported: bool,
    /// Events outside the window that were added, changed or deleted come as `@removed`, though never shown before.
    /// Off: `@removed` comes only for what once was in the window.
    pub removed_for_unknown: bool,
    /// Now and then a page is empty and has a nextLink.
    pub empty_pages: bool,
    /// Now and then an event of one page is repeated on the next.
    pub duplicates: bool,
    /// A series may begin on one page and go on on the next. Off: a page grows beyond its size instead.
    pub split_series: bool,
    /// An event that was created and deleted between two requests of a client is not shown to it.
    pub short_lived_unreported: bool,
    /// The text of `$skiptoken` and `$deltatoken` is padded to several hundred characters.
    pub long_tokens: bool,
    /// Without `Prefer: IdType="ImmutableId"` an answer shows the other identifiers. Off: always immutable ones.
    pub ids_per_request: bool,
    /// More than this many requests at a time for one mailbox answer 429 `ApplicationThrottled`; 0 is no limit.
    pub mailbox_concurrency: u32,
    /// Seconds in the `Retry-After` of that 429; `None` leaves the header out, as was seen.
    pub retry_after_seconds: Option<u32>,
    /// A 410 carries `Location` with a fresh request's address.
    pub gone_with_location: bool,
    /// Of a calendar in another's mailbox delta shows the first page of a round and denies the others
    /// (`ErrorAccessDenied`). Off by default: it was seen, but not of every mailbox.
    pub delegate_pages_denied: bool,
    /// A PATCH with a `body` takes the Teams link away. Off by default: the service does so only when the body lacks
    /// the meeting's block.
    pub patch_body_drops_join_url: bool,
    /// Each answer of Graph waits this long; 0 by default.
    pub latency_ms: u64,
    /// A second subscription of the same user and application to the same resource and change types answers 409.
    /// Off: both live, as was seen too.
    pub duplicate_subscriptions_refused: bool,
    /// So many `updated` notifications follow a `created`, and so many (one at least) come of a change. One, and none
    /// after `created`, is what the documentation lets expect: 0.
    pub notification_updates: u32,
    /// Notifications spell types, addresses and times in several ways: `#Microsoft.Graph.Event` and
    /// `#microsoft.graph.event`, `Users/{id}/Events/{id}` and `Users('{id}')/events('{id}')`, `Z` and an offset.
    pub notification_spellings: bool,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            stub_occurrences: true,
            master_in_delta: true,
            deleted_occurrence_unreported: true,
            removed_for_unknown: true,
            empty_pages: true,
            duplicates: true,
            split_series: true,
            short_lived_unreported: true,
            long_tokens: true,
            ids_per_request: true,
            mailbox_concurrency: 4,
            retry_after_seconds: Some(1),
            gone_with_location: true,
            delegate_pages_denied: false,
            patch_body_drops_join_url: false,
            latency_ms: 0,
            duplicate_subscriptions_refused: true,
            notification_updates: 3,
            notification_spellings: true,
        }
    }
}

impl Quirks {
    /// No quirk but the stubs, the master row, the silent holes and the refusal of a second subscription, which are the
    /// protocol rather than an accident.
    #[must_use]
    pub fn none() -> Self {
        Self {
            removed_for_unknown: false,
            empty_pages: false,
            duplicates: false,
            split_series: false,
            short_lived_unreported: true,
            long_tokens: false,
            mailbox_concurrency: 0,
            notification_updates: 0,
            notification_spellings: false,
            ..Self::default()
        }
    }
}
