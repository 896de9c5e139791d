//! The keys that seal tokens, as an operator writes them: `id:base64,id:base64`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};

/// Length of a key: AES-256.
const KEY_BYTES: usize = 32;
/// Longest key id.
const KEY_ID_CHARS: usize = 32;

/// Keys by id; the first seals, all open. `Debug` shows the ids alone.
#[derive(Clone)]
pub struct KeyRing {
    /// Never empty.
    keys: Vec<RingKey>,
}

#[derive(Clone)]
struct RingKey {
    id: String,
    key: LessSafeKey,
}

/// Why `CALENDAR_TOKEN_KEYS` is no key ring. Never holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// There is no key at all.
    #[error("no key is given; expected id:base64, separated by commas")]
    Empty,
    /// One entry is wrong.
    #[error("entry {position}: {problem}")]
    Entry {
        /// Which one, counted from 1.
        position: usize,
        /// What is wrong with it.
        problem: KeyProblem,
    },
}

/// What is wrong with one entry of a key ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyProblem {
    /// No colon.
    #[error("expected id:base64")]
    NoColon,
    /// The id is empty, too long, or has other characters.
    #[error("the key id must be 1 to 32 of A-Z a-z 0-9 _ -")]
    Id,
    /// An earlier entry has this id.
    #[error("its key id was given before")]
    DuplicateId,
    /// The key is not base64.
    #[error("the key is not base64")]
    NotBase64,
    /// The key is not 32 bytes long.
    #[error("the key has {0} bytes instead of 32")]
    Length(usize),
}

impl KeyRing {
    /// Reads `id:base64,id:base64`: ids of `[A-Za-z0-9_-]{1,32}`, keys of 32 bytes in standard or
    /// URL-safe base64, padded or not. Blanks round an entry are ignored.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        if text.trim().is_empty() {
            return Err(KeyRingError::Empty);
        }
        let mut keys: Vec<RingKey> = Vec::new();
        for (index, entry) in text.split(',').enumerate() {
            let wrong = |problem| KeyRingError::Entry {
                position: index + 1,
                problem,
            };
            let (id, encoded) = entry
                .trim()
                .split_once(':')
                .ok_or_else(|| wrong(KeyProblem::NoColon))?;
            if !is_key_id(id) {
                return Err(wrong(KeyProblem::Id));
            }
            if keys.iter().any(|key| key.id == id) {
                return Err(wrong(KeyProblem::DuplicateId));
            }
            let bytes = decode(encoded).ok_or_else(|| wrong(KeyProblem::NotBase64))?;
            let key = (bytes.len() == KEY_BYTES)
                .then(|| UnboundKey::new(&AES_256_GCM, &bytes).ok())
                .flatten()
                .ok_or_else(|| wrong(KeyProblem::Length(bytes.len())))?;
            keys.push(RingKey {
                id: id.to_owned(),
                key: LessSafeKey::new(key),
            });
        }
        Ok(Self { keys })
    }

    /// The ids, the sealing one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// The key that seals.
    pub(crate) fn sealing(&self) -> Option<(&str, &LessSafeKey)> {
        self.keys.first().map(|key| (key.id.as_str(), &key.key))
    }

    /// The key with this id.
    pub(crate) fn by_id(&self, id: &str) -> Option<&LessSafeKey> {
        self.keys
            .iter()
            .find(|key| key.id == id)
            .map(|key| &key.key)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing")
            .field(&self.ids().collect::<Vec<_>>())
            .finish()
    }
}

/// Whether `id` may name a key: it stands between dots in what is sealed.
pub(crate) fn is_key_id(id: &str) -> bool {
    (1..=KEY_ID_CHARS).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn decode(encoded: &str) -> Option<Vec<u8>> {
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(encoded).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        STANDARD.encode([byte; KEY_BYTES])
    }

    #[test]
    fn first_seals_and_all_open() {
        let ring = KeyRing::parse(&format!("new_1:{}, old-1:{}", key(1), key(2))).unwrap();
        assert_eq!(ring.ids().collect::<Vec<_>>(), ["new_1", "old-1"]);
        assert_eq!(ring.sealing().unwrap().0, "new_1");
        assert!(ring.by_id("old-1").is_some());
        assert!(ring.by_id("other").is_none());
    }

    #[test]
    fn every_base64_of_32_bytes_is_a_key() {
        let bytes = [0xfb; KEY_BYTES];
        for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
            assert!(KeyRing::parse(&format!("a:{}", engine.encode(bytes))).is_ok());
        }
    }

    #[test]
    fn mistakes_name_the_entry() {
        let good = format!("a:{}", key(1));
        let long = "x".repeat(33);
        let short = STANDARD.encode([1; 31]);
        for (text, problem) in [
            (format!("{good},b"), KeyProblem::NoColon),
            (format!("{good},"), KeyProblem::NoColon),
            (format!("{good},:{}", key(2)), KeyProblem::Id),
            (format!("{good},b.c:{}", key(2)), KeyProblem::Id),
            (format!("{good},{long}:{}", key(2)), KeyProblem::Id),
            (format!("{good},a:{}", key(2)), KeyProblem::DuplicateId),
            (format!("{good},b:not base64!"), KeyProblem::NotBase64),
            (format!("{good},b:{short}"), KeyProblem::Length(31)),
            (format!("{good},b:"), KeyProblem::Length(0)),
        ] {
            let error = KeyRing::parse(&text).unwrap_err();
            assert_eq!(
                error,
                KeyRingError::Entry {
                    position: 2,
                    problem
                },
                "{text}"
            );
        }
        for empty in ["", "  "] {
            assert_eq!(KeyRing::parse(empty).unwrap_err(), KeyRingError::Empty);
        }
    }

    #[test]
    fn neither_debug_nor_errors_show_a_key() {
        let secret = key(7);
        let ring = KeyRing::parse(&format!("main:{secret}")).unwrap();
        assert_eq!(format!("{ring:?}"), r#"KeyRing(["main"])"#);
        let error = KeyRing::parse(&format!("main:{secret}AA")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&secret[..8]));
    }
}
