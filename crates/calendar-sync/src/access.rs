//! An account's access token during a claim: refreshed under the lease, stored before it is used.

use calendar_domain::account::{StoredTokens, TokenSet};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::{Authorizer, Clock, ConnectionStore};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::Lease;
use secrecy::SecretString;
use time::Duration;

/// A token is refreshed so long before it expires, so that it is good for a page and its retry.
const MARGIN: Duration = Duration::minutes(5);

/// Makes a request of the provider with a token that is good; after a 401, once more with a fresh one.
macro_rules! with_token {
    ($access:expr, $token:ident => $request:expr) => {{
        let $token = $access.token().await?;
        match $request.await {
            Err(error) if error.class == FailureClass::Authentication => {
                $access.refresh().await?;
                let $token = $access.token().await?;
                // A 401 with a fresh token is no matter of the user's: it is tried again later.
                $request.await.map_err($crate::access::still_unauthorized)
            }
            answer => answer,
        }
    }};
}

pub(crate) fn still_unauthorized(error: PortError) -> PortError {
    match error.class {
        FailureClass::Authentication => PortError {
            class: FailureClass::Retryable,
            ..error
        },
        _ => error,
    }
}

/// The tokens of the leased account.
pub(crate) struct Access<'a> {
    pub(crate) provider: CalendarProvider,
    pub(crate) lease: Lease,
    pub(crate) authorizer: &'a dyn Authorizer,
    pub(crate) connections: &'a dyn ConnectionStore,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) tokens: TokenSet,
}

/// The tokens to begin with: the first that open among the account's connections.
///
/// Without any, and with what an older application stored, the user has to sign in. A key that is
/// missing or wrong is the operator's matter: with the key back, the tokens are good again.
pub(crate) fn readable<'t>(stored: impl Iterator<Item = &'t StoredTokens>) -> PortResult<TokenSet> {
    let mut why = "token_missing";
    for tokens in stored {
        match tokens {
            StoredTokens::Open(tokens) => return Ok(tokens.clone()),
            StoredTokens::Unreadable(code) => why = code,
        }
    }
    let class = match why {
        "token_key_missing" | "token_forged" => FailureClass::Permanent,
        _ => FailureClass::Authentication,
    };
    Err(PortError::new(class, why))
}

impl Access<'_> {
    /// A token that is good for the next request.
    pub(crate) async fn token(&mut self) -> PortResult<SecretString> {
        if self.tokens.expires_at - MARGIN <= self.clock.now() {
            self.refresh().await?;
        }
        Ok(self.tokens.access_token.clone())
    }

    /// Refreshes. The new tokens are stored before the new access token is used: a crash in between
    /// must not lose a refresh token that the provider has already rotated.
    pub(crate) async fn refresh(&mut self) -> PortResult<()> {
        let Some(refresh_token) = &self.tokens.refresh_token else {
            return Err(PortError::new(
                FailureClass::Authentication,
                "no_refresh_token",
            ));
        };
        let refreshed = self.authorizer.refresh(refresh_token).await;
        let outcome = match &refreshed {
            Ok(_) => "ok",
            Err(error) => error.class.as_str(),
        };
        metrics::counter!("calendar_token_refreshes_total", "provider" => self.provider.as_str(), "outcome" => outcome)
            .increment(1);
        let grant = refreshed?;
        self.connections
            .store_grant(&self.lease, grant.clone(), self.clock.now())
            .await?;
        self.tokens.access_token = grant.access_token;
        self.tokens.expires_at = grant.expires_at;
        if grant.refresh_token.is_some() {
            self.tokens.refresh_token = grant.refresh_token;
        }
        Ok(())
    }
}
