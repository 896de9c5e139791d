//! Sealed tokens, secrets and password hashes: the `TokenCipher` and `Secrets` ports on ring and
//! argon2.

mod cipher;
mod key_ring;
mod secrets;

pub use cipher::{AesTokenCipher, CipherError};
pub use key_ring::{KeyProblem, KeyRing, KeyRingError};
pub use secrets::{RingSecrets, SecretsError};
