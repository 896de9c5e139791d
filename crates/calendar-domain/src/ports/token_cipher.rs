//! Port: sealing of tokens at rest.

use secrecy::SecretString;

use crate::account::SealPlace;
use crate::failure::PortResult;

/// Seals tokens so that they open only in the place that they were sealed for.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait TokenCipher: Send + Sync {
    /// Seals `plain` under the first key. The result begins with [`TokenCipher::sealed_prefix`].
    fn seal(&self, plain: &SecretString, place: SealPlace) -> PortResult<String>;

    /// How all begins that is sealed under the first key: `v1.<key id>.`. Whatever begins with `v1.` was
    /// sealed by us, under the key with the id between the dots.
    fn sealed_prefix(&self) -> String;

    /// Opens what was sealed for `place`, whatever key of ours it was sealed under.
    ///
    /// Fails `Authentication` with the code `token_not_sealed` (not our form), `token_key_missing`
    /// or `token_forged` (other place, other key, changed bytes).
    fn open(&self, sealed: &str, place: SealPlace) -> PortResult<SecretString>;
}
