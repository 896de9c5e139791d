//! Opaque cursors of lists: a keyset, bound to the list that it came from.
//!
//! The sum over both finds cursors that were changed, or used with other conditions or by another
//! user. It is no signature and needs none: a cursor only says where to go on in a list that the
//! caller may read anyway, and every query checks the user by itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use calendar_domain::ids::ConnectionId;
use ring::digest::{SHA256, digest};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::fields::Checked;
use crate::problem::Problem;
use serde_json::Value;

const SUM: usize = 8;

/// What a cursor is bound to: the list, the user and the conditions. Two lists that differ in
/// anything but the page have different scopes.
#[derive(Clone, Debug)]
pub(crate) struct Scope(String);

impl Scope {
    /// A scope that is described by this text.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    fn sum(&self, key: &[u8]) -> [u8; SUM] {
        let whole = digest(&SHA256, &[key, self.0.as_bytes()].concat());
        let mut sum = [0; SUM];
        sum.copy_from_slice(&whole.as_ref()[..SUM]);
        sum
    }

    fn write(&self, key: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode([key, &self.sum(key)].concat())
    }

    fn read<const KEY: usize>(&self, cursor: &str) -> Result<[u8; KEY], Problem> {
        let invalid = || {
            Problem::malformed(
                "invalid_cursor",
                "The cursor is not one of this list; begin the list anew without it.",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
        let (key, sum) = bytes.split_first_chunk::<KEY>().ok_or_else(invalid)?;
        if sum == self.sum(key) {
            Ok(*key)
        } else {
            Err(invalid())
        }
    }

    /// The cursor behind a connection.
    pub(crate) fn write_connection(&self, id: ConnectionId) -> String {
        self.write(id.0.as_bytes())
    }

    /// Reads what [`Scope::write_connection`] wrote.
    pub(crate) fn read_connection(&self, cursor: &str) -> Result<ConnectionId, Problem> {
        let key: [u8; 16] = self.read(cursor)?;
        Ok(ConnectionId(Uuid::from_bytes(key)))
    }

    /// The cursor behind what is listed by its id.
    pub(crate) fn write_id(&self, id: Uuid) -> String {
        self.write(id.as_bytes())
    }

    /// Reads what [`Scope::write_id`] wrote.
    pub(crate) fn read_id(&self, cursor: &str) -> Result<Uuid, Problem> {
        self.read(cursor).map(Uuid::from_bytes)
    }

    /// The cursor behind what is listed by a time and its id.
    pub(crate) fn write_at(&self, at: OffsetDateTime, id: Uuid) -> String {
        let at = at.unix_timestamp_nanos().to_be_bytes();
        self.write(&[at.as_slice(), id.as_bytes()].concat())
    }

    /// Reads what [`Scope::write_at`] wrote.
    pub(crate) fn read_at(&self, cursor: &str) -> Result<(OffsetDateTime, Uuid), Problem> {
        let key: [u8; 32] = self.read(cursor)?;
        let (mut at, mut id) = ([0; 16], [0; 16]);
        at.copy_from_slice(&key[..16]);
        id.copy_from_slice(&key[16..]);
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from_be_bytes(at))
            .map_err(|_| Problem::malformed("invalid_cursor", "The cursor is out of range."))?;
        Ok((at, Uuid::from_bytes(id)))
    }
}

/// The parameter `cursor`: text that is to be read once the scope is known.
pub(crate) fn text(value: Value) -> Checked<String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err("is not a string".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(-1_769_842_800_123_456_000).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let scope = Scope::new("events of somebody".into());
        let id = ConnectionId::new();
        assert_eq!(
            scope.read_at(&scope.write_at(at(), id.0)).unwrap(),
            (at(), id.0)
        );
        assert_eq!(
            scope.read_connection(&scope.write_connection(id)).unwrap(),
            id
        );
    }

    #[test]
    fn every_changed_character_and_every_other_list_is_found_out() {
        let scope = Scope::new("a".into());
        let good = scope.write_at(at(), Uuid::now_v7());
        for index in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[index] = if bad[index] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            assert!(scope.read_at(&bad).is_err(), "{bad}");
        }
        assert!(Scope::new("b".into()).read_at(&good).is_err());
        assert!(scope.read_connection(&good).is_err());
        for bad in [
            "",
            "A",
            "!",
            "AAAA",
            &good[1..],
            &format!("{good}A"),
            &format!("{good}="),
        ] {
            assert!(scope.read_at(bad).is_err(), "{bad}");
        }
    }
}
