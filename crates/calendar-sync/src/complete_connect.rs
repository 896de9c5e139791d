//! Use case: the provider sent the browser back; connect the account.

use std::sync::Arc;
use std::time::Duration;

use calendar_domain::account::{AccountIdentity, CalendarChoice, CalendarListing, TokenGrant};
use calendar_domain::connection::NewConnections;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::TurnId;
use calendar_domain::ports::{Clock, ConnectSessionStore, ConnectionStore, Secrets, SyncQueue};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::Mailbox;
use secrecy::SecretString;

use crate::{Provider, Providers};

/// How long to wait for a turn, and how often to ask for one: somebody's browser waits.
const TURN_WITHIN: Duration = Duration::from_secs(10);
const TURN_AGAIN: Duration = Duration::from_millis(100);
/// How long a turn lives that nobody gives back: longer than any list of calendars takes.
const TURN_TTL: Duration = Duration::from_mins(2);

/// Ends an OAuth round trip: exchanges the code, lists the calendars, makes the connections.
#[derive(Clone)]
pub struct CompleteConnect {
    /// Where round trips are.
    pub connect_sessions: Arc<dyn ConnectSessionStore>,
    /// Where connections are.
    pub connections: Arc<dyn ConnectionStore>,
    /// Where a mailbox's turns are.
    pub queue: Arc<dyn SyncQueue>,
    /// Whom one can connect to.
    pub providers: Arc<Providers>,
    /// Hashes the state.
    pub secrets: Arc<dyn Secrets>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where the provider sent the browser back: the same as when it began.
    pub redirect_uri: String,
}

/// The query of the callback (RFC 6749 sections 4.1.2 and 4.1.2.1).
#[derive(Clone, Debug, Default)]
pub struct CallbackInput {
    /// `state`.
    pub state: Option<SecretString>,
    /// `code`.
    pub code: Option<SecretString>,
    /// `error`.
    pub error: Option<String>,
}

/// What was connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompletedConnect {
    /// The provider.
    pub provider: CalendarProvider,
    /// The names of the calendars that are connected now.
    pub connected: Vec<String>,
    /// The names of those that were refused: connected through another account already.
    pub refused: Vec<String>,
    /// Where to send the browser.
    pub return_url: Option<String>,
}

/// Why nothing was connected. In all cases nothing is stored.
#[derive(Debug, thiserror::Error)]
pub enum CompleteConnectError {
    /// No state, or one that is unknown, used or expired.
    #[error("the state is unknown, used or expired")]
    UnknownState,
    /// The provider answered with an error: the user said no, an administrator must agree, ….
    #[error("the provider refused")]
    ProviderRefused {
        /// RFC 6749's `error`; not to be trusted.
        code: String,
        /// Where to send the browser.
        return_url: Option<String>,
    },
    /// Neither a code nor an error.
    #[error("the callback holds no code")]
    NoCode {
        /// Where to send the browser.
        return_url: Option<String>,
    },
    /// None of the chosen calendars is there.
    #[error("there is no such calendar")]
    NoCalendars {
        /// Where to send the browser.
        return_url: Option<String>,
    },
    /// All of the calendars are connected through another account of the provider.
    #[error("connected through another account already")]
    AllRefused {
        /// Where to send the browser.
        return_url: Option<String>,
    },
    /// The provider is not configured any more.
    #[error("the provider is not configured")]
    ProviderOff,
    /// A port failed.
    #[error("connecting failed")]
    Port {
        /// Why.
        #[source]
        source: PortError,
        /// Where to send the browser.
        return_url: Option<String>,
    },
}

impl CompleteConnect {
    /// Takes the round trip's state, once, and connects.
    pub async fn run(
        &self,
        input: CallbackInput,
    ) -> Result<CompletedConnect, CompleteConnectError> {
        let state = input.state.ok_or(CompleteConnectError::UnknownState)?;
        let now = self.clock.now();
        let session = self
            .connect_sessions
            .consume(self.secrets.fingerprint(&state), now)
            .await
            .map_err(|source| CompleteConnectError::Port {
                source,
                return_url: None,
            })?
            .ok_or(CompleteConnectError::UnknownState)?;
        let return_url = session.return_url;
        let failed = |source| CompleteConnectError::Port {
            source,
            return_url: return_url.clone(),
        };
        if let Some(code) = input.error {
            return Err(CompleteConnectError::ProviderRefused { code, return_url });
        }
        let Some(code) = input.code else {
            return Err(CompleteConnectError::NoCode { return_url });
        };
        let provider = self
            .providers
            .get(session.provider)
            .ok_or(CompleteConnectError::ProviderOff)?;
        let grant = provider
            .authorizer
            .exchange(&code, &session.code_verifier, &self.redirect_uri)
            .await
            .map_err(failed)?;
        let identity = provider
            .directory
            .identity(&grant.access_token)
            .await
            .map_err(failed)?;
        let mailbox = session
            .delegate_email
            .map_or(Mailbox::Own, Mailbox::Delegate);
        let listed = self
            .calendars(provider, session.provider, &identity, &grant, &mailbox)
            .await
            .map_err(failed)?;
        let calendars = chosen(listed, &session.calendars);
        if calendars.is_empty() {
            return Err(CompleteConnectError::NoCalendars { return_url });
        }
        let names: Vec<(String, String)> = calendars
            .iter()
            .map(|calendar| (calendar.id.clone(), calendar.name.clone()))
            .collect();
        let connected = self
            .connections
            .connect(
                NewConnections {
                    user_id: session.user_id,
                    provider: session.provider,
                    identity,
                    grant,
                    mailbox,
                    calendars,
                },
                now,
            )
            .await
            .map_err(failed)?;
        let (refused, connected): (Vec<_>, Vec<_>) = names
            .into_iter()
            .partition(|(id, _)| connected.refused.contains(id));
        if connected.is_empty() {
            return Err(CompleteConnectError::AllRefused { return_url });
        }
        let names = |calendars: Vec<(String, String)>| {
            calendars.into_iter().map(|(_, name)| name).collect()
        };
        Ok(CompletedConnect {
            provider: session.provider,
            connected: names(connected),
            refused: names(refused),
            return_url,
        })
    }
}

impl CompleteConnect {
    /// The calendars of the mailbox, asked for in a turn of its own.
    async fn calendars(
        &self,
        provider: &Provider,
        name: CalendarProvider,
        identity: &AccountIdentity,
        grant: &TokenGrant,
        mailbox: &Mailbox,
    ) -> PortResult<Vec<CalendarListing>> {
        let address = match mailbox {
            Mailbox::Delegate(owner) => owner,
            Mailbox::Own => identity
                .email
                .as_ref()
                .unwrap_or(&identity.provider_user_id),
        };
        let turn = self.turn(name, address).await?;
        let listed = provider
            .directory
            .calendars(&grant.access_token, mailbox)
            .await;
        if let Err(error) = self.queue.give_turn_back(turn).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a turn was not given back; it ends by itself"
            );
        }
        listed
    }

    /// Waits until a request may go to the mailbox: passes may have it, here or in other processes.
    async fn turn(&self, provider: CalendarProvider, address: &str) -> PortResult<TurnId> {
        let deadline = tokio::time::Instant::now() + TURN_WITHIN;
        loop {
            if let Some(turn) = self.queue.take_turn(provider, address, TURN_TTL).await? {
                return Ok(turn);
            }
            if tokio::time::Instant::now() > deadline {
                return Err(PortError::new(FailureClass::RateLimited, "mailbox_busy"));
            }
            tokio::time::sleep(TURN_AGAIN).await;
        }
    }
}

fn chosen(listed: Vec<CalendarListing>, choice: &CalendarChoice) -> Vec<CalendarListing> {
    listed
        .into_iter()
        .filter(|calendar| match choice {
            CalendarChoice::All => true,
            CalendarChoice::Primary => calendar.is_primary,
            CalendarChoice::Some(ids) => ids.contains(&calendar.id),
        })
        .collect()
}
