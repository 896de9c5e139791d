//! Secrets that we make, their fingerprints, and password hashes.

use std::sync::Arc;

use argon2::{Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::Secrets;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

/// Length of a secret: 256 bits.
const SECRET_BYTES: usize = 32;
/// argon2id's parameters as OWASP's Password Storage Cheat Sheet gives them: 19 MiB, two passes,
/// one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// A stored hash that asks for more than this is not ours: it is not readable.
const MAX_MEMORY_KIB: u32 = 4 * MEMORY_KIB;
const MAX_PASSES: u32 = 16;
/// Hashes at once: bounds memory (19 MiB each) and leaves the machine's other work its share.
const PARALLEL_HASHES: usize = 2;
/// Stands in where there is no hash. No known password gives it; to find that out takes as long as
/// with a real one, because the parameters are the same.
const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Random bytes and SHA-256 of ring, argon2id of the argon2 crate. Clones share one limit.
#[derive(Clone, Debug)]
pub struct RingSecrets {
    random: SystemRandom,
    hashing: Arc<Semaphore>,
}

/// Why a secret was not made or a password not hashed. Never holds either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
    /// argon2 refused: no memory, or a password of more than 4 GiB.
    #[error("the password could not be hashed")]
    Hash,
    /// The process is stopping.
    #[error("hashing was cancelled")]
    Cancelled,
}

impl SecretsError {
    /// What a caller can do about it.
    #[must_use]
    pub fn class(self) -> FailureClass {
        match self {
            Self::Random | Self::Cancelled => FailureClass::Retryable,
            Self::Hash => FailureClass::Permanent,
        }
    }

    /// A stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Random => "no_random_bytes",
            Self::Hash => "password_hash_failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<SecretsError> for PortError {
    fn from(error: SecretsError) -> Self {
        Self::with_source(error.class(), error.code(), error)
    }
}

impl RingSecrets {
    /// With at most two password hashes at once.
    #[must_use]
    pub fn new() -> Self {
        Self::with_parallel_hashes(PARALLEL_HASHES)
    }

    /// With at most `limit` password hashes at once (19 MiB of memory each); at least one.
    #[must_use]
    pub fn with_parallel_hashes(limit: usize) -> Self {
        Self {
            random: SystemRandom::new(),
            hashing: Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], SecretsError> {
        let mut bytes = [0; N];
        self.random
            .fill(&mut bytes)
            .map_err(|_| SecretsError::Random)?;
        Ok(bytes)
    }

    /// Runs `work` on a thread that may block, when it is its turn. The permit goes along, so that
    /// a caller who gives up does not make room for more hashes than the limit.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, SecretsError> {
        let permit = Arc::clone(&self.hashing)
            .acquire_owned()
            .await
            .map_err(|_| SecretsError::Cancelled)?;
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        })
        .await
        .map_err(|_| SecretsError::Cancelled)
    }
}

impl Default for RingSecrets {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Secrets for RingSecrets {
    fn generate(&self) -> PortResult<SecretString> {
        let bytes: [u8; SECRET_BYTES] = self.random()?;
        Ok(SecretString::from(URL_SAFE_NO_PAD.encode(bytes)))
    }

    fn fingerprint(&self, secret: &SecretString) -> [u8; 32] {
        let digest = digest::digest(&digest::SHA256, secret.expose_secret().as_bytes());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest.as_ref());
        fingerprint
    }

    /// Compares HMACs, whose comparison ring keeps constant-time.
    fn matches(&self, given: &SecretString, fingerprint: &[u8; 32]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"calendar-crypto: equal secrets");
        let expected = hmac::sign(&key, fingerprint);
        hmac::verify(&key, &self.fingerprint(given), expected.as_ref()).is_ok()
    }

    async fn hash_password(&self, password: &SecretString) -> PortResult<String> {
        let salt: [u8; 16] = self.random()?;
        let password = password.clone();
        let hash = self
            .in_turn(move || -> Result<String, SecretsError> {
                let params =
                    Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| SecretsError::Hash)?;
                let hash = Argon2::from(params)
                    .hash_password_with_salt(password.expose_secret().as_bytes(), &salt)
                    .map_err(|_| SecretsError::Hash)?;
                Ok(hash.to_string())
            })
            .await??;
        Ok(hash)
    }

    async fn verify_password(
        &self,
        password: &SecretString,
        hash: Option<String>,
    ) -> PortResult<bool> {
        let password = password.clone();
        let good = self
            .in_turn(move || {
                let readable = hash.as_deref().and_then(readable);
                let is_real = readable.is_some();
                let Some(hash) = readable.or_else(|| PasswordHash::new(DUMMY_HASH).ok()) else {
                    return false;
                };
                // Both sides are worked out before they are joined: the time says nothing.
                let matches = Argon2::default()
                    .verify_password(password.expose_secret().as_bytes(), &hash)
                    .is_ok();
                is_real & matches
            })
            .await?;
        Ok(good)
    }
}

/// A PHC string of argon2 that does not ask for more memory or time than ours could.
fn readable(phc: &str) -> Option<PasswordHash> {
    let hash = PasswordHash::new(phc).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let is_argon2 = hash.algorithm.as_str().starts_with("argon2");
    (is_argon2
        && hash.salt.is_some()
        && hash.hash.is_some()
        && params.m_cost() <= MAX_MEMORY_KIB
        && params.t_cost() <= MAX_PASSES)
        .then_some(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn secrets_are_43_characters_and_never_the_same() {
        let secrets = RingSecrets::new();
        let made: HashSet<String> = (0..100)
            .map(|_| secrets.generate().unwrap().expose_secret().to_owned())
            .collect();
        assert_eq!(made.len(), 100);
        assert!(made.iter().all(|text| {
            text.len() == 43
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        }));
    }

    #[test]
    fn fingerprint_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        let expected = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae,
            0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61,
            0xf2, 0x00, 0x15, 0xad,
        ];
        let actual = RingSecrets::new().fingerprint(&secret("abc"));
        assert_eq!(actual, expected);
    }

    #[tokio::test]
    async fn a_password_opens_its_own_hash_alone() {
        let secrets = RingSecrets::new();
        let hash = secrets
            .hash_password(&secret("correct horse"))
            .await
            .unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        let other = secrets
            .hash_password(&secret("correct horse"))
            .await
            .unwrap();
        assert_ne!(hash, other, "the salt is random");
        assert!(
            secrets
                .verify_password(&secret("correct horse"), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !secrets
                .verify_password(&secret("correct horsf"), Some(hash))
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn no_hash_and_unreadable_hashes_are_wrong_passwords_and_take_as_long() {
        let secrets = RingSecrets::new();
        let hash = secrets.hash_password(&secret("x")).await.unwrap();
        let mut wrong = Duration::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            assert!(
                !secrets
                    .verify_password(&secret("y"), Some(hash.clone()))
                    .await
                    .unwrap()
            );
            wrong = wrong.min(start.elapsed());
        }
        let huge = hash.replace("m=19456", "m=4194304");
        for bad in [
            None,
            Some(String::new()),
            Some("$2b$12$abcdefghijklmnopqrstuv".to_owned()),
            Some("$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA".to_owned()),
            Some(huge),
        ] {
            let start = Instant::now();
            assert!(
                !secrets
                    .verify_password(&secret("y"), bad.clone())
                    .await
                    .unwrap()
            );
            assert!(start.elapsed() > wrong / 4, "{bad:?} answered too fast");
        }
    }

    #[test]
    fn the_dummy_is_read_as_a_hash_and_greedy_ones_are_not() {
        assert!(readable(DUMMY_HASH).is_some());
        for greedy in [("m=19456", "m=4194304"), ("t=2", "t=100")] {
            assert!(readable(&DUMMY_HASH.replace(greedy.0, greedy.1)).is_none());
        }
    }

    #[tokio::test]
    async fn hashing_waits_for_its_turn_and_leaves_the_runtime_free() {
        let secrets = RingSecrets::with_parallel_hashes(1);
        let running = Arc::clone(&secrets.hashing).acquire_owned().await.unwrap();
        let waiting = {
            let secrets = secrets.clone();
            tokio::spawn(async move { secrets.hash_password(&secret("x")).await })
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!waiting.is_finished());
        drop(running);
        assert!(waiting.await.unwrap().is_ok());
    }

    #[test]
    fn the_same_secret_matches_and_no_other() {
        let secrets = RingSecrets::new();
        let matches =
            |a: &str, b: &str| secrets.matches(&a.into(), &secrets.fingerprint(&b.into()));
        assert!(matches("", "") && matches("state", "state"));
        for (a, b) in [("state", "statf"), ("state", "stat"), ("", "x")] {
            assert!(!matches(a, b) && !matches(b, a), "{a} {b}");
        }
    }
}
