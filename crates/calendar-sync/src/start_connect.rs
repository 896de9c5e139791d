//! Use case: begin an OAuth round trip.

use std::sync::Arc;

use calendar_domain::account::{AuthorizationRequest, CalendarChoice, ConnectSession};
use calendar_domain::failure::PortError;
use calendar_domain::ids::{ConnectSessionId, UserId};
use calendar_domain::ports::{Clock, ConnectSessionStore, Secrets};
use calendar_domain::provider::CalendarProvider;
use time::{Duration, OffsetDateTime};

use crate::Providers;

/// How long the user has for signing in at the provider.
const LIFETIME: Duration = Duration::minutes(15);

/// Begins an OAuth round trip.
#[derive(Clone)]
pub struct StartConnect {
    /// Where round trips are.
    pub connect_sessions: Arc<dyn ConnectSessionStore>,
    /// Whom one can connect to.
    pub providers: Arc<Providers>,
    /// Makes the state and the verifier.
    pub secrets: Arc<dyn Secrets>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where the provider sends the browser back.
    pub redirect_uri: String,
}

/// What to connect. The caller has checked `return_url` against the allowed origins.
#[derive(Clone, Debug)]
pub struct StartConnectInput {
    /// Who connects.
    pub user_id: UserId,
    /// Where.
    pub provider: CalendarProvider,
    /// A user whose shared calendars are to be read, instead of one's own.
    pub delegate_email: Option<String>,
    /// Which calendars.
    pub calendars: CalendarChoice,
    /// Where to send the browser in the end.
    pub return_url: Option<String>,
}

/// A round trip that was begun.
#[derive(Clone, Debug)]
pub struct StartedConnect {
    /// Our id.
    pub id: ConnectSessionId,
    /// Where to send the user's browser.
    pub authorize_url: String,
    /// Until when it may come back.
    pub expires_at: OffsetDateTime,
}

/// Why a round trip cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartConnectError {
    /// The provider is not configured here.
    #[error("the provider is not configured")]
    ProviderOff,
    /// A port failed.
    #[error("beginning to connect failed")]
    Port(#[from] PortError),
}

impl StartConnect {
    /// Makes state and verifier, stores them, and says where to go.
    pub async fn run(&self, input: StartConnectInput) -> Result<StartedConnect, StartConnectError> {
        let provider = self
            .providers
            .get(input.provider)
            .ok_or(StartConnectError::ProviderOff)?;
        let (state, code_verifier) = (self.secrets.generate()?, self.secrets.generate()?);
        let now = self.clock.now();
        let session = ConnectSession {
            id: ConnectSessionId::new(),
            user_id: input.user_id,
            provider: input.provider,
            code_verifier: code_verifier.clone(),
            delegate_email: input.delegate_email,
            calendars: input.calendars,
            return_url: input.return_url,
            expires_at: now + LIFETIME,
        };
        let state_hash = self.secrets.fingerprint(&state);
        let authorize_url = provider.authorizer.authorize_url(&AuthorizationRequest {
            state,
            code_verifier,
            redirect_uri: self.redirect_uri.clone(),
            shared: session.delegate_email.is_some(),
        })?;
        let (id, expires_at) = (session.id, session.expires_at);
        self.connect_sessions
            .create(session, state_hash, now)
            .await?;
        Ok(StartedConnect {
            id,
            authorize_url,
            expires_at,
        })
    }
}
