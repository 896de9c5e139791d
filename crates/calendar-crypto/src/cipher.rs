//! Sealing of tokens: AES-256-GCM, bound to the table, row and column that a token stands in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use calendar_domain::account::SealPlace;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::TokenCipher;
use ring::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretString};

use crate::key_ring::{KeyRing, is_key_id};

/// The form that we write; a new one gets a new number.
const VERSION: &str = "v1";

/// Seals tokens as `v1.<key id>.<base64url(nonce || ciphertext || tag)>`.
///
/// AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D section 8.2.2: good for 2^32 seals under
/// one key). Version, key id, table, row and column are associated data.
#[derive(Clone, Debug)]
pub struct AesTokenCipher {
    keys: KeyRing,
    random: SystemRandom,
}

/// Why something was not sealed or opened. Never holds what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// Not `v1.<key id>.<base64url>`: an older application's token, for instance.
    #[error("the value is not sealed by this service")]
    NotSealed,
    /// Sealed under a key that is not in the ring.
    #[error("the value is sealed under a key that is not configured")]
    KeyMissing,
    /// Other place, other key, or changed bytes.
    #[error("the sealed value does not belong here or was changed")]
    Forged,
    /// The system gave no random bytes, or the cipher refused.
    #[error("the value could not be sealed")]
    Seal,
}

impl CipherError {
    /// What a caller can do about it.
    #[must_use]
    pub fn class(self) -> FailureClass {
        match self {
            Self::NotSealed | Self::KeyMissing | Self::Forged => FailureClass::Authentication,
            Self::Seal => FailureClass::Retryable,
        }
    }

    /// The stable code that the port promises.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSealed => "token_not_sealed",
            Self::KeyMissing => "token_key_missing",
            Self::Forged => "token_forged",
            Self::Seal => "token_seal_failed",
        }
    }
}

impl From<CipherError> for PortError {
    fn from(error: CipherError) -> Self {
        Self::with_source(error.class(), error.code(), error)
    }
}

impl AesTokenCipher {
    /// A cipher with these keys.
    #[must_use]
    pub fn new(keys: KeyRing) -> Self {
        Self {
            keys,
            random: SystemRandom::new(),
        }
    }

    fn try_seal(&self, plain: &SecretString, place: SealPlace) -> Result<String, CipherError> {
        let (id, key) = self.keys.sealing().ok_or(CipherError::Seal)?;
        let mut nonce = [0; NONCE_LEN];
        self.random
            .fill(&mut nonce)
            .map_err(|_| CipherError::Seal)?;
        let mut sealed = plain.expose_secret().as_bytes().to_vec();
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated_data(id, place)),
                &mut sealed,
            )
            .map_err(|_| CipherError::Seal)?;
        let blob = [nonce.as_slice(), &sealed, tag.as_ref()].concat();
        Ok(format!("{VERSION}.{id}.{}", URL_SAFE_NO_PAD.encode(blob)))
    }

    fn try_open(&self, sealed: &str, place: SealPlace) -> Result<SecretString, CipherError> {
        let mut parts = sealed.split('.');
        let (Some(VERSION), Some(id), Some(encoded), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(CipherError::NotSealed);
        };
        if !is_key_id(id) {
            return Err(CipherError::NotSealed);
        }
        let mut blob = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| CipherError::NotSealed)?;
        if blob.len() < NONCE_LEN + AES_256_GCM.tag_len() {
            return Err(CipherError::NotSealed);
        }
        let key = self.keys.by_id(id).ok_or(CipherError::KeyMissing)?;
        let (nonce, sealed) = blob.split_at_mut(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CipherError::Forged)?;
        let plain = key
            .open_in_place(nonce, Aad::from(associated_data(id, place)), sealed)
            .map_err(|_| CipherError::Forged)?;
        std::str::from_utf8(plain)
            .map(SecretString::from)
            .map_err(|_| CipherError::Forged)
    }
}

impl TokenCipher for AesTokenCipher {
    fn sealed_prefix(&self) -> String {
        // A ring is never empty.
        let id = self.keys.ids().next().unwrap_or_default();
        format!("{VERSION}.{id}.")
    }

    fn seal(&self, plain: &SecretString, place: SealPlace) -> PortResult<String> {
        Ok(self.try_seal(plain, place)?)
    }

    fn open(&self, sealed: &str, place: SealPlace) -> PortResult<SecretString> {
        Ok(self.try_open(sealed, place)?)
    }
}

/// Each part with its length in front, so that no two places give the same bytes.
fn associated_data(key_id: &str, place: SealPlace) -> Vec<u8> {
    let parts = [
        VERSION.as_bytes(),
        key_id.as_bytes(),
        place.table.as_bytes(),
        place.row.as_bytes(),
        place.column.as_bytes(),
    ];
    let mut data = Vec::with_capacity(96);
    for part in parts {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part);
    }
    data
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const PLACE: SealPlace = SealPlace {
        table: "calendar_connections",
        row: Uuid::from_u128(1),
        column: "access_token",
    };

    fn cipher(keys: &[(&str, u8)]) -> AesTokenCipher {
        let text: Vec<String> = keys
            .iter()
            .map(|(id, byte)| format!("{id}:{}", STANDARD.encode([*byte; 32])))
            .collect();
        AesTokenCipher::new(KeyRing::parse(&text.join(",")).unwrap())
    }

    fn code(result: PortResult<SecretString>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.class, FailureClass::Authentication);
        error.code
    }

    #[test]
    fn rotation_keeps_what_older_keys_sealed() {
        let plain = SecretString::from("refresh");
        let old = cipher(&[("k1", 1)]);
        let both = cipher(&[("k2", 2), ("k1", 1)]);
        let new = cipher(&[("k2", 2)]);
        let sealed = old.seal(&plain, PLACE).unwrap();
        assert!(sealed.starts_with("v1.k1."));
        assert_eq!(
            both.open(&sealed, PLACE).unwrap().expose_secret(),
            "refresh"
        );
        assert!(both.seal(&plain, PLACE).unwrap().starts_with("v1.k2."));
        assert_eq!(code(new.open(&sealed, PLACE)), "token_key_missing");
        assert_eq!(
            code(cipher(&[("k1", 9)]).open(&sealed, PLACE)),
            "token_forged"
        );
    }

    #[test]
    fn the_key_id_is_sealed_in() {
        let ring = cipher(&[("a", 1)]);
        let sealed = ring.seal(&SecretString::from("x"), PLACE).unwrap();
        // The same key under another name: only the associated data differs.
        let renamed = cipher(&[("b", 1)]);
        assert_eq!(
            code(renamed.open(&sealed.replace("v1.a.", "v1.b."), PLACE)),
            "token_forged"
        );
    }

    #[test]
    fn what_we_did_not_seal_is_told_apart() {
        let ring = cipher(&[("k1", 1)]);
        let long = "A".repeat(60);
        for text in [
            "",
            "ya29.a0AfH6SMBx",
            "eyJ0eXAi.eyJhdWQi.c2ln",
            "v1.",
            "v1.k1",
            "v1.k1.",
            "v1.k1.AAAA",
            "v1.k1.not base64",
            &format!("v1.k1.{long}.x"),
            &format!("v1.k 1.{long}"),
            &format!("v2.k1.{long}"),
        ] {
            assert_eq!(code(ring.open(text, PLACE)), "token_not_sealed", "{text}");
        }
        assert_eq!(
            code(ring.open(&format!("v1.k1.{long}"), PLACE)),
            "token_forged"
        );
    }

    #[test]
    fn two_seals_of_one_token_differ() {
        let ring = cipher(&[("k1", 1)]);
        let plain = SecretString::from("same");
        assert_ne!(
            ring.seal(&plain, PLACE).unwrap(),
            ring.seal(&plain, PLACE).unwrap()
        );
    }

    #[test]
    fn boundaries_between_the_parts_count() {
        let plain = SecretString::from("x");
        // The same key under two ids: run together, id and table would be the same bytes.
        let place = SealPlace {
            table: "bc",
            ..PLACE
        };
        let sealed = cipher(&[("a", 1)]).seal(&plain, place).unwrap();
        let moved = SealPlace {
            table: "c",
            ..PLACE
        };
        let renamed = sealed.replace("v1.a.", "v1.ab.");
        assert_eq!(
            code(cipher(&[("ab", 1)]).open(&renamed, moved)),
            "token_forged"
        );
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(text in ".*", row in any::<u128>()) {
            let ring = cipher(&[("k1", 1)]);
            let place = SealPlace { row: Uuid::from_u128(row), ..PLACE };
            let sealed = ring.seal(&SecretString::from(text.as_str()), place).unwrap();
            prop_assert!(sealed.starts_with("v1."));
            prop_assert_eq!(ring.open(&sealed, place).unwrap().expose_secret().to_owned(), text);
        }

        #[test]
        fn what_is_moved_does_not_open(text in ".{0,40}", row in any::<u128>(), other in any::<u128>()) {
            prop_assume!(row != other);
            let ring = cipher(&[("k1", 1)]);
            let place = SealPlace { row: Uuid::from_u128(row), ..PLACE };
            let sealed = ring.seal(&SecretString::from(text), place).unwrap();
            for moved in [
                SealPlace { row: Uuid::from_u128(other), ..place },
                SealPlace { table: "calendar_connect_sessions", ..place },
                SealPlace { column: "refresh_token", ..place },
            ] {
                prop_assert_eq!(code(ring.open(&sealed, moved)), "token_forged");
            }
        }

        #[test]
        fn no_flipped_byte_opens(text in ".{0,40}", at in any::<prop::sample::Index>(), mask in 1..=255_u8) {
            let ring = cipher(&[("k1", 1)]);
            let sealed = ring.seal(&SecretString::from(text), PLACE).unwrap();
            let mut blob = URL_SAFE_NO_PAD.decode(sealed.strip_prefix("v1.k1.").unwrap()).unwrap();
            let at = at.index(blob.len());
            blob[at] ^= mask;
            let changed = format!("v1.k1.{}", URL_SAFE_NO_PAD.encode(blob));
            prop_assert_eq!(code(ring.open(&changed, PLACE)), "token_forged");
        }

        #[test]
        fn no_changed_character_opens(at in any::<prop::sample::Index>(), to in "[ -~]") {
            let ring = cipher(&[("k1", 1)]);
            let sealed = ring.seal(&SecretString::from("token"), PLACE).unwrap();
            let at = at.index(sealed.len());
            let changed = format!("{}{to}{}", &sealed[..at], &sealed[at + 1..]);
            prop_assume!(changed != sealed);
            prop_assert!(ring.open(&changed, PLACE).is_err());
        }

        #[test]
        fn no_text_panics(text in ".*") {
            prop_assert!(cipher(&[("k1", 1)]).open(&text, PLACE).is_err());
        }
    }
}
