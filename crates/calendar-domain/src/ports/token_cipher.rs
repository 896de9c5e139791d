//! Port: sealing of tokens at rest.

use secrecy::SecretString;

use crate::account::SealPlace;
use crate::failure::PortResult;

/// Seals tokens so that they open only in the place that they were sealed for.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait TokenCipher: Send + Sync {
    /// Seals `plain` under the first key. The result begins with `v1.`.
    fn seal(&self, plain: &SecretString, place: SealPlace) -> PortResult<String>;

    /// Opens what was sealed for `place`, whatever key of ours it was sealed under.
    ///
    /// Fails `Authentication` with the code `token_not_sealed` (not our form), `token_key_missing`
    /// or `token_forged` (other place, other key, changed bytes).
    fn open(&self, sealed: &str, place: SealPlace) -> PortResult<SecretString>;
}
