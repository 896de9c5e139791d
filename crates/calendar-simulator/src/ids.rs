//! Identifiers as Outlook makes them: about 150 characters of URL-safe base64 that end in `=`, case-sensitive, in two
//! kinds (regular and immutable). They carry what they name, sealed with the seed, so that no table is needed.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use jiff::civil::Date;
use ring::hmac;
use uuid::Uuid;

/// What Outlook puts in front of an immutable identifier.
const IMMUTABLE_PREFIX: &str = "AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0A";
/// Bytes of an identifier: 152 characters with exactly one `=`.
const LENGTH: usize = 113;
const PAYLOAD: usize = 22;
const SEAL: usize = 8;

/// What an identifier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) immutable: bool,
    pub(crate) kind: Kind,
    /// The mailbox in which the identifier is valid (a copy of a shared calendar has identifiers of its own).
    pub(crate) viewer: u32,
    /// The mailbox that holds the item.
    pub(crate) owner: u32,
    pub(crate) number: u32,
    /// Of an occurrence: its original date.
    pub(crate) date: Option<Date>,
    /// Raised when a move gives the item a new regular identifier; always 0 in an immutable one.
    pub(crate) generation: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Calendar,
}

/// Makes and reads identifiers, etags and other deterministic values of one simulator.
#[derive(Debug)]
pub(crate) struct Ids {
    key: hmac::Key,
    seed: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &seed.to_be_bytes()),
            seed,
        }
    }

    pub(crate) fn sign(&self, data: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.key, data).as_ref());
        out
    }

    /// A number that depends on the simulator's seed and the parts only: the source of every "sometimes".
    pub(crate) fn chance(&self, label: &str, parts: &[u64]) -> u64 {
        chance(self.seed, label, parts)
    }

    pub(crate) fn uuid(&self, label: &str, number: u64) -> Uuid {
        // Two goes at the cheap hash: rows need a few of these each.
        let high = self.chance(label, &[number, 0]);
        let low = self.chance(label, &[number, 1, high]);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    pub(crate) fn encode(&self, reference: &Reference) -> String {
        let payload = payload(reference);
        let seal = self.sign(&payload);
        let mut bytes = Vec::with_capacity(LENGTH);
        if reference.immutable {
            bytes.extend(URL_SAFE.decode(IMMUTABLE_PREFIX).unwrap_or_default());
        } else {
            // "AAMkAG", then the mailbox's guid in text, as real ones have it.
            bytes.extend_from_slice(&[0x00, 0x03, 0x24, 0x00, 0x60 | 0x08]);
            let guid = self.uuid("mailbox-store", u64::from(reference.viewer));
            bytes.extend_from_slice(guid.to_string().as_bytes());
            bytes.extend_from_slice(&[0x00, 0x46, 0, 0, 0, 0]);
        }
        // The filler differs from item to item only by the seal, like the folder and record keys of real ones.
        let filler = LENGTH - bytes.len() - PAYLOAD - SEAL;
        bytes.extend(seal.iter().copied().skip(SEAL).chain([0; 64]).take(filler));
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&seal[..SEAL]);
        URL_SAFE.encode(bytes)
    }

    /// `None` for anything this simulator did not make.
    pub(crate) fn decode(&self, id: &str) -> Option<Reference> {
        let bytes = URL_SAFE.decode(id).ok()?;
        if bytes.len() != LENGTH {
            return None;
        }
        let payload = &bytes[LENGTH - SEAL - PAYLOAD..LENGTH - SEAL];
        let word = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(
                payload.get(at..at + 4)?.try_into().ok()?,
            ))
        };
        let day = word(16)?;
        let reference = Reference {
            immutable: payload[0] & 2 != 0,
            kind: if payload[0] & 1 == 0 {
                Kind::Event
            } else {
                Kind::Calendar
            },
            generation: payload[1],
            viewer: word(4)?,
            owner: word(8)?,
            number: word(12)?,
            date: if day == 0 { None } else { from_day(day) },
        };
        // Encoding again checks the seal and every filler byte.
        (self.encode(&reference) == id).then_some(reference)
    }

    /// An Exchange change key: it differs for every version of every item.
    pub(crate) fn change_key(&self, mailbox: u32, version: u64) -> String {
        let mut bytes = self.uuid("change-key", u64::from(mailbox)).as_bytes()[..14].to_vec();
        bytes.extend_from_slice(&version.to_be_bytes());
        STANDARD.encode(bytes)
    }
}

/// A number that depends on the seed and the parts only.
pub(crate) fn chance(seed: u64, label: &str, parts: &[u64]) -> u64 {
    // FNV-1a: cheap, and good enough to spread a handful of pages.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = label
        .bytes()
        .chain(parts.iter().flat_map(|part| part.to_le_bytes()));
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 29)
}

fn payload(reference: &Reference) -> [u8; PAYLOAD] {
    let mut bytes = [0; PAYLOAD];
    bytes[0] = u8::from(reference.kind == Kind::Calendar) | (u8::from(reference.immutable) << 1);
    bytes[1] = reference.generation;
    bytes[4..8].copy_from_slice(&reference.viewer.to_be_bytes());
    bytes[8..12].copy_from_slice(&reference.owner.to_be_bytes());
    bytes[12..16].copy_from_slice(&reference.number.to_be_bytes());
    bytes[16..20].copy_from_slice(&reference.date.map_or(0, to_day).to_be_bytes());
    bytes
}

/// `yyyymmdd` as a number; 0 stands for no date.
fn to_day(date: Date) -> u32 {
    u32::from(date.year().unsigned_abs()) * 10_000
        + u32::from(date.month().unsigned_abs()) * 100
        + u32::from(date.day().unsigned_abs())
}

fn from_day(day: u32) -> Option<Date> {
    Date::new(
        i16::try_from(day / 10_000).ok()?,
        i8::try_from(day / 100 % 100).ok()?,
        i8::try_from(day % 100).ok()?,
    )
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(immutable: bool) -> Reference {
        Reference {
            immutable,
            kind: Kind::Event,
            viewer: 1,
            owner: 2,
            number: 77,
            date: Some(Date::constant(2026, 3, 4)),
            generation: 0,
        }
    }

    #[test]
    fn ids_look_like_outlooks_and_come_back() {
        let ids = Ids::new(7);
        let regular = ids.encode(&reference(false));
        let immutable = ids.encode(&reference(true));
        assert_eq!(regular.len(), 152);
        assert!(regular.starts_with("AAMkA") && regular.ends_with('=') && !regular.ends_with("=="));
        assert!(immutable.starts_with("AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0A"));
        assert_ne!(regular, immutable);
        assert_eq!(ids.decode(&regular), Some(reference(false)));
        assert_eq!(ids.decode(&immutable), Some(reference(true)));
    }

    #[test]
    fn ids_are_case_sensitive_and_sealed() {
        let ids = Ids::new(7);
        let id = ids.encode(&reference(false));
        assert_eq!(ids.decode(&id.to_lowercase()), None);
        assert_eq!(Ids::new(8).decode(&id), None);
        for nonsense in ["", "x", "AAMk=", "ö", "../../etc"] {
            assert_eq!(ids.decode(nonsense), None);
        }
    }

    #[test]
    fn change_keys_differ() {
        let ids = Ids::new(1);
        assert_ne!(ids.change_key(1, 1), ids.change_key(1, 2));
        assert_ne!(ids.change_key(1, 1), ids.change_key(2, 1));
    }
}
