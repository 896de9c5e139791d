//! Use case: make a service key.

use std::sync::Arc;

use calendar_domain::api_key::{API_KEY_PREFIX, ApiKey, ApiScope, NewApiKey};
use calendar_domain::failure::{FailureClass, PortError};
use calendar_domain::ids::{ApiKeyId, UserId};
use calendar_domain::ports::{ApiKeyStore, Clock, Secrets};
use secrecy::{ExposeSecret as _, SecretString};

/// Characters of the key that are kept to recognise it by, after the prefix: 24 of its 256 bits.
const HINT: usize = 4;

/// Makes a service key.
#[derive(Clone)]
pub struct CreateApiKey {
    /// Where keys are.
    pub api_keys: Arc<dyn ApiKeyStore>,
    /// Makes the key.
    pub secrets: Arc<dyn Secrets>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// A key that was made. It is shown once and stored only as its hash.
#[derive(Clone, Debug)]
pub struct CreatedApiKey {
    /// The bearer token: `calkey_` and 43 characters of URL-safe base64.
    pub token: SecretString,
    /// What stays to be seen of it.
    pub key: ApiKey,
}

/// Why a key cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateApiKeyError {
    /// The user has as many as one may have.
    #[error("the user has too many keys")]
    TooMany,
    /// A port failed.
    #[error("making a key failed")]
    Port(#[source] PortError),
}

impl CreateApiKey {
    /// Makes a key of `owner`'s.
    pub async fn run(
        &self,
        owner: UserId,
        name: String,
        scopes: Vec<ApiScope>,
    ) -> Result<CreatedApiKey, CreateApiKeyError> {
        let secret = self.secrets.generate().map_err(CreateApiKeyError::Port)?;
        let token = format!("{API_KEY_PREFIX}{}", secret.expose_secret());
        let hint = token.chars().take(API_KEY_PREFIX.len() + HINT).collect();
        let token = SecretString::from(token);
        let new = NewApiKey {
            id: ApiKeyId::new(),
            user_id: owner,
            name,
            hint,
            token_hash: self.secrets.fingerprint(&token),
            scopes,
        };
        match self.api_keys.create(new, self.clock.now()).await {
            Ok(key) => Ok(CreatedApiKey { token, key }),
            Err(error) if error.class == FailureClass::Conflict => Err(CreateApiKeyError::TooMany),
            Err(error) => Err(CreateApiKeyError::Port(error)),
        }
    }
}
