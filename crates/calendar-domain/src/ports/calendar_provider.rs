//! Ports: a calendar provider, split by what it is asked for. The ports of one provider are
//! implemented by one adapter.

use async_trait::async_trait;
use secrecy::SecretString;

use crate::account::{AccountIdentity, AuthorizationRequest, CalendarListing, TokenGrant};
use crate::event::{EventChange, ProviderEventId};
use crate::failure::PortResult;
use crate::provider::Capabilities;
use crate::sync::{CalendarRef, ChangesFrom, ChangesPage, Cursor, Mailbox, SyncWindow};

/// Signs users in (OAuth 2.0 authorization code with PKCE, RFC 6749 and 7636).
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Where to send the user's browser.
    fn authorize_url(&self, request: &AuthorizationRequest) -> PortResult<String>;

    /// Exchanges the code that came back. A code that is not good fails `InvalidInput`; a wrong
    /// client secret fails `Permanent` (an operator's matter, not the user's).
    async fn exchange(
        &self,
        code: &SecretString,
        code_verifier: &SecretString,
        redirect_uri: &str,
    ) -> PortResult<TokenGrant>;

    /// Refreshes. A refresh token that is no longer good fails `Authentication`, its code that of the
    /// provider (`invalid_grant`, `interaction_required`, …).
    async fn refresh(&self, refresh_token: &SecretString) -> PortResult<TokenGrant>;
}

/// Says who signed in, and which calendars there are.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait CalendarDirectory: Send + Sync {
    /// Who the token belongs to.
    async fn identity(&self, token: &SecretString) -> PortResult<AccountIdentity>;

    /// All calendars of a mailbox, over all pages.
    async fn calendars(
        &self,
        token: &SecretString,
        mailbox: &Mailbox,
    ) -> PortResult<Vec<CalendarListing>>;
}

/// Reads calendars. A 401 fails `Authentication` with the code `unauthorized`: refresh once, and try
/// again.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait CalendarReader: Send + Sync {
    /// What its change feed does.
    fn capabilities(&self) -> Capabilities;

    /// Whether a cursor of this reader belongs to a change feed. Where a calendar has none that works, its
    /// window is read as a plain list, each time whole: a list changes while it is read, and may pass over an
    /// event; it shows instances without their master, also when that has changed; and the cursor that it
    /// ends with begins it anew, over the same window, until it fails `NeedsResync`.
    fn is_feed(&self, cursor: &Cursor) -> bool;

    /// One page of changes. A cursor that is no longer good fails `NeedsResync`. One event that
    /// cannot be mapped is `Rejected` in the page; it does not fail the page.
    async fn changes(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        from: &ChangesFrom,
    ) -> PortResult<ChangesPage>;

    /// One event, whole; `None` when it is gone. Never an `Occurrence`.
    async fn event(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        id: &ProviderEventId,
    ) -> PortResult<Option<EventChange>>;

    /// All instances of a series that overlap the window, over all pages: occurrences and
    /// exceptions. Empty when the series is gone.
    async fn instances(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        master: &ProviderEventId,
        window: SyncWindow,
    ) -> PortResult<Vec<EventChange>>;
}
