//! Sealed tokens, secrets and password hashes: the `TokenCipher` and `Secrets` ports on ring and
//! argon2.
//!
//! For programs that wire the stores of `calendar-postgres`, which seal by these ports.
//!
//! ```
//! use calendar_crypto::{AesTokenCipher, KeyRing};
//! use calendar_domain::account::SealPlace;
//! use calendar_domain::ports::TokenCipher as _;
//! use secrecy::{ExposeSecret as _, SecretString};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The first key seals, all open. A real one: `head -c 32 /dev/urandom | base64`.
//! let keys = KeyRing::parse("2026:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")?;
//! let cipher = AesTokenCipher::new(keys);
//! let place = |column| SealPlace {
//!     table: "calendar_connections",
//!     row: uuid::Uuid::nil(),
//!     column,
//! };
//!
//! let sealed = cipher.seal(&SecretString::from("a token"), place("access_token"))?;
//! assert_eq!(cipher.open(&sealed, place("access_token"))?.expose_secret(), "a token");
//! // What is sealed for one column opens in no other.
//! assert!(cipher.open(&sealed, place("refresh_token")).is_err());
//! # Ok(()) }
//! ```

mod cipher;
mod key_ring;
mod secrets;

pub use cipher::{AesTokenCipher, CipherError};
pub use key_ring::{KeyProblem, KeyRing, KeyRingError};
pub use secrets::{RingSecrets, SecretsError};
