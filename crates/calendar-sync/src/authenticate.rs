//! Use case: recognise the bearer token that was given, a session's or a service key.

use std::sync::Arc;

use calendar_domain::api_key::{API_KEY_PREFIX, KnownApiKey};
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{SessionId, UserId};
use calendar_domain::ports::{ApiKeyStore, Clock, Secrets, SessionStore};
use secrecy::{ExposeSecret as _, SecretString};

/// Recognises a bearer token.
#[derive(Clone)]
pub struct Authenticate {
    /// Where sign-ins are.
    pub sessions: Arc<dyn SessionStore>,
    /// Where service keys are.
    pub api_keys: Arc<dyn ApiKeyStore>,
    /// Hashes the token.
    pub secrets: Arc<dyn Secrets>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authenticated {
    /// A user signed in.
    Session {
        /// Our id of the session.
        id: SessionId,
        /// Who.
        user_id: UserId,
    },
    /// A backend with a service key.
    Key(KnownApiKey),
}

impl Authenticate {
    /// Whose token this is, and if it is a key, whether it may act for `user`; `None` when it is
    /// nobody's.
    pub async fn run(
        &self,
        token: &SecretString,
        user: Option<UserId>,
    ) -> PortResult<Option<Authenticated>> {
        let (hash, now) = (self.secrets.fingerprint(token), self.clock.now());
        if token.expose_secret().starts_with(API_KEY_PREFIX) {
            let known = self.api_keys.find(hash, user, now).await?;
            return Ok(known.map(Authenticated::Key));
        }
        let found = self.sessions.find(hash, now).await?;
        Ok(found.map(|(id, user_id)| Authenticated::Session { id, user_id }))
    }
}
