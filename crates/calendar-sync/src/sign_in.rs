//! Use case: sign a user in.

use std::sync::Arc;

use calendar_domain::failure::PortError;
use calendar_domain::ids::{SessionId, UserId};
use calendar_domain::ports::{Clock, Secrets, SessionStore, UserStore};
use calendar_domain::user::NewSession;
use secrecy::SecretString;
use time::{Duration, OffsetDateTime};

/// How long a sign-in lasts.
pub const SESSION_LIFETIME: Duration = Duration::days(30);

/// Signs a user in.
#[derive(Clone)]
pub struct SignIn {
    /// Where users are.
    pub users: Arc<dyn UserStore>,
    /// Where sign-ins are.
    pub sessions: Arc<dyn SessionStore>,
    /// Checks the password, makes the token.
    pub secrets: Arc<dyn Secrets>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// A sign-in. The token is shown once and stored only as its hash.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The bearer token.
    pub token: SecretString,
    /// Our id of the session.
    pub session_id: SessionId,
    /// Who signed in.
    pub user_id: UserId,
    /// When it ends.
    pub expires_at: OffsetDateTime,
}

/// Why a user cannot sign in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Unknown address or wrong password: the same answer in the same time.
    #[error("unknown address or wrong password")]
    WrongCredentials,
    /// A port failed.
    #[error("signing in failed")]
    Port(#[from] PortError),
}

impl SignIn {
    /// Checks the password and makes a session.
    pub async fn run(&self, email: &str, password: SecretString) -> Result<SignedIn, SignInError> {
        let found = self.users.by_email(email).await?;
        let (user, hash) = found.unzip();
        // Also without a user: an unknown address must take as long as a wrong password.
        let right = self.secrets.verify_password(&password, hash).await?;
        let Some(user) = user.filter(|_| right) else {
            return Err(SignInError::WrongCredentials);
        };
        let token = self.secrets.generate()?;
        let now = self.clock.now();
        let session = NewSession {
            id: SessionId::new(),
            user_id: user.id,
            token_hash: self.secrets.fingerprint(&token),
            expires_at: now + SESSION_LIFETIME,
        };
        let (session_id, expires_at) = (session.id, session.expires_at);
        self.sessions.create(session, now).await?;
        Ok(SignedIn {
            token,
            session_id,
            user_id: user.id,
            expires_at,
        })
    }
}
