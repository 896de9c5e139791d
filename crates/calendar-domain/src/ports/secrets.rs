//! Port: secrets that we make, and what we keep of them.

use async_trait::async_trait;
use secrecy::SecretString;

use crate::failure::PortResult;

/// Makes and fingerprints secrets, and hashes passwords.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Secrets: Send + Sync {
    /// A new secret: 256 random bits in URL-safe base64 (43 characters; also good as PKCE verifier).
    fn generate(&self) -> PortResult<SecretString>;

    /// SHA-256 of a secret: what is stored of it.
    fn fingerprint(&self, secret: &SecretString) -> [u8; 32];

    /// Whether a secret has this fingerprint, in a time that does not depend on how they differ.
    fn matches(&self, given: &SecretString, fingerprint: &[u8; 32]) -> bool;

    /// A PHC string (argon2id) of a password. Takes long on purpose; MUST NOT block the runtime.
    async fn hash_password(&self, password: &SecretString) -> PortResult<String>;

    /// Whether `password` is the one that `hash` was made of. `None`, and a hash that is not
    /// readable, take as long as a wrong password, and are one.
    async fn verify_password(
        &self,
        password: &SecretString,
        hash: Option<String>,
    ) -> PortResult<bool>;
}
