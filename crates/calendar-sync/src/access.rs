//! An account's access token during a claim: refreshed under the lease, stored before it is used.

use calendar_domain::account::{StoredTokens, TokenGrant, TokenSet};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::{Authorizer, Clock, ConnectionStore};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::sync::Lease;
use secrecy::{ExposeSecret as _, SecretString};
use time::Duration;

/// A token is refreshed so long before it expires, so that it is good for a page and its retry.
const MARGIN: Duration = Duration::minutes(5);

/// Makes a request of the provider with a token that is good; after a 401, once more with a fresh one.
macro_rules! with_token {
    ($access:expr, $token:ident => $request:expr) => {{
        let $token = $access.token().await?;
        match $request.await {
            Err(error) if error.class == FailureClass::Authentication => {
                $access.refresh_refused(error).await?;
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
    /// Why refreshing failed under this claim: it is not tried again for each connection.
    pub(crate) failure: Option<PortError>,
    /// New tokens that the store could not take: they are offered again, and the provider is not asked.
    pub(crate) unstored: Option<TokenGrant>,
    /// Whether the access token is of this claim: one that is refused then is not refreshed for each connection.
    pub(crate) is_fresh: bool,
}

/// The tokens to begin with: the first that open among the account's connections.
///
/// Without any, and with what an older application stored, the user has to sign in. A key that is
/// missing or wrong is the operator's matter: with the key back, the tokens are good again. One that is
/// missing may be a moment's: while the keys are rotated, this process was not restarted yet.
pub(crate) fn readable<'t>(stored: impl Iterator<Item = &'t StoredTokens>) -> PortResult<TokenSet> {
    let mut why = "token_missing";
    for tokens in stored {
        match tokens {
            StoredTokens::Open(tokens) => return Ok(tokens.clone()),
            StoredTokens::Unreadable(code) => why = code,
        }
    }
    let class = match why {
        "token_key_missing" => FailureClass::Retryable,
        "token_forged" => FailureClass::Permanent,
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

    /// Refreshes a token that the provider has refused, unless it is a fresh one.
    pub(crate) async fn refresh_refused(&mut self, refused: PortError) -> PortResult<()> {
        if self.is_fresh {
            return Err(still_unauthorized(refused));
        }
        self.refresh().await
    }

    /// Refreshes, once under a claim where that fails.
    pub(crate) async fn refresh(&mut self) -> PortResult<()> {
        if let Some(failure) = &self.failure {
            return Err(again(failure));
        }
        let refreshed = match self.unstored.take() {
            Some(grant) => self.store(grant).await,
            None => self.refresh_or_reread().await,
        };
        if let Err(error) = &refreshed
            && self.unstored.is_none()
        {
            self.failure = Some(again(error));
        }
        refreshed
    }

    /// A refresh token that is refused may have been replaced: what is stored is read again before it is
    /// believed. An answer of the store may have been lost that had taken the new one.
    async fn refresh_or_reread(&mut self) -> PortResult<()> {
        let mut reread = false;
        loop {
            let refused = match self.ask().await {
                Ok(grant) => return self.store(grant).await,
                Err(error) if error.class == FailureClass::Authentication && !reread => error,
                Err(error) => return Err(error),
            };
            let stored = self.connections.tokens(&self.lease).await?;
            let other = stored.into_iter().find(|stored| !self.is_tried(stored));
            self.tokens = other.ok_or(refused)?;
            if self.tokens.expires_at - MARGIN > self.clock.now() {
                return Ok(());
            }
            reread = true;
        }
    }

    fn is_tried(&self, stored: &TokenSet) -> bool {
        let secret = |tokens: &TokenSet| {
            let token = tokens.refresh_token.as_ref();
            token.map(|token| token.expose_secret().to_owned())
        };
        secret(stored) == secret(&self.tokens)
    }

    async fn ask(&self) -> PortResult<TokenGrant> {
        let Some(refresh_token) = &self.tokens.refresh_token else {
            return Err(PortError::new(
                FailureClass::Authentication,
                "no_refresh_token",
            ));
        };
        let answer = self.authorizer.refresh(refresh_token).await;
        let outcome = match &answer {
            Ok(_) => "ok",
            Err(error) => error.class.as_str(),
        };
        metrics::counter!("calendar_token_refreshes_total", "provider" => self.provider.as_str(), "outcome" => outcome)
            .increment(1);
        answer
    }

    /// Stores the new tokens before the new access token is used: a crash in between must not lose a refresh
    /// token that the provider has already rotated. What the store cannot take now is kept.
    async fn store(&mut self, grant: TokenGrant) -> PortResult<()> {
        let now = self.clock.now();
        let stored = self
            .connections
            .store_grant(&self.lease, grant.clone(), now);
        if let Err(error) = stored.await {
            if error.class == FailureClass::Retryable {
                self.unstored = Some(grant);
            }
            return Err(error);
        }
        self.is_fresh = true;
        self.tokens.access_token = grant.access_token;
        self.tokens.expires_at = grant.expires_at;
        if grant.refresh_token.is_some() {
            self.tokens.refresh_token = grant.refresh_token;
        }
        Ok(())
    }
}

/// The same failure, for another who runs into it. Its source was told already.
fn again(error: &PortError) -> PortError {
    PortError {
        retry_after: error.retry_after,
        ..PortError::new(error.class, error.code.clone())
    }
}
