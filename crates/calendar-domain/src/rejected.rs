//! Events that are set aside: those that an adapter could not map, and masters that could not be had. They
//! are kept with their reason, shown, and tried again.

use serde_json::Value;
use time::OffsetDateTime;

use crate::event::ProviderEventId;
use crate::ids::{ConnectionId, RejectedEventId};
use crate::normalise::{fingerprint, value_without_nul};

pub use crate::version::MAPPER_VERSION;

/// More than so many characters of a raw form are not kept: one event may hold a body of megabytes.
const RAW_CHARS: usize = 64 << 10;

/// An event that cannot be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct RejectedEvent {
    /// Its id; of one without any, `sha256:` and a hash of the raw form.
    pub id: ProviderEventId,
    /// Why: a stable code without event text, such as `start_missing`.
    pub reason: String,
    /// As it came, without NULs; a text where it is no JSON that we can read, or cut because it is long.
    /// `None` where nothing of its own came, only its occurrences.
    pub raw: Option<Value>,
}

impl RejectedEvent {
    /// The reason of a master that could not be had although occurrences of it came. It may only not be
    /// there yet: it is asked for again.
    pub const MASTER_NOT_FOUND: &'static str = "series_master_not_found";

    /// How often a master is asked for that could not be had, one pass after another.
    pub const MASTER_TRIES: u32 = 5;

    /// An entry of a provider's answer, `raw` in JSON.
    #[must_use]
    pub fn new(id: Option<ProviderEventId>, reason: &str, raw: &str) -> Self {
        let id = id.unwrap_or_else(|| ProviderEventId(fingerprint(raw)));
        let short = raw
            .char_indices()
            .nth(RAW_CHARS)
            .map(|(at, _)| Value::from(&raw[..at]));
        // What serde_json does not hold (numbers out of range, lone surrogates) is kept as its text.
        let raw = short
            .or_else(|| serde_json::from_str(raw).ok())
            .unwrap_or_else(|| Value::from(raw));
        Self {
            id,
            reason: reason.to_owned(),
            raw: Some(value_without_nul(raw)),
        }
    }

    /// A master that could not be had, by its id.
    #[must_use]
    pub fn master_not_found(id: ProviderEventId) -> Self {
        Self {
            id,
            reason: Self::MASTER_NOT_FOUND.to_owned(),
            raw: None,
        }
    }
}

/// An event that is set aside, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRejectedEvent {
    /// Our id of the entry; the event's own, where we hold an earlier form of it, is another.
    pub id: RejectedEventId,
    /// The connection it belongs to.
    pub connection_id: ConnectionId,
    /// The provider's id.
    pub provider_event_id: String,
    /// Why.
    pub reason: String,
    /// As it came.
    pub raw: Option<Value>,
    /// In how many passes it came, or was asked for, and could not be stored.
    pub attempts: u32,
    /// When first.
    pub first_seen_at: OffsetDateTime,
    /// When last.
    pub last_seen_at: OffsetDateTime,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_raw_form_is_kept_as_far_as_it_can_be() {
        let rejected = |raw: &str| RejectedEvent::new(Some("a".into()), "r", raw).raw.unwrap();
        assert_eq!(rejected(r#"{"a":[1,"x"]}"#), json!({"a": [1, "x"]}));
        assert_eq!(
            rejected(r#"{"k\u0000":"a\u0000b"}"#),
            json!({"k\u{fffd}": "a\u{fffd}b"})
        );
        for unreadable in [r#"{"a":1e999}"#, r#""\ud800""#, &"[".repeat(500)] {
            assert_eq!(rejected(unreadable), json!(unreadable));
        }
        let long = format!("\"{}\"", "ü".repeat(100_000));
        assert_eq!(rejected(&long).as_str().unwrap().chars().count(), 65_536);
    }

    #[test]
    fn an_entry_without_an_id_has_the_same_one_each_time() {
        let id = |raw: &str| RejectedEvent::new(None, "id_missing", raw).id.0;
        assert_eq!(id("5"), id("5"));
        assert_ne!(id("5"), id("6"));
        assert!(id("5").starts_with("sha256:") && id("5").len() == 71);
    }
}
