//! What Graph sends: notifications of changes, and of what becomes of a subscription.
//!
//! Anyone may send us such a body, and most of it is of no use: it is read in one go, entry by entry, and
//! what is not needed is stepped over without being kept, however deep it nests.
//! Source: <https://learn.microsoft.com/graph/change-notifications-lifecycle-events>.

use std::borrow::Cow;
use std::fmt;

use calendar_domain::subscription::{Notification, PushSignal};
use secrecy::SecretString;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::error::GraphError;
use crate::subscriptions::is_usable_id;
use crate::wire::Text;

/// Reads `{"value": [entry, …]}`; entries without a usable subscription are left out.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Notification>, GraphError> {
    let text =
        std::str::from_utf8(body).map_err(|_| GraphError::PushUnreadable { line: 0, column: 0 })?;
    let push: Push = serde_json::from_str(text).map_err(|error| GraphError::PushUnreadable {
        line: error.line(),
        column: error.column(),
    })?;
    push.0
        .ok_or(GraphError::PushUnreadable { line: 0, column: 0 })
}

fn notification(raw: &RawValue) -> Option<Notification> {
    let entry: Entry = serde_json::from_str(raw.get()).ok()?;
    let subscription_id = entry.subscription_id.filter(|id| is_usable_id(id))?;
    Some(Notification {
        subscription_id: subscription_id.into_owned(),
        client_state: entry
            .client_state
            .map(|state| SecretString::from(state.into_owned())),
        signal: entry
            .lifecycle_event
            .as_deref()
            .map_or(PushSignal::Changed, signal),
    })
}

/// What a `lifecycleEvent` means. One that is new to us may mean anything: a look does no harm.
fn signal(event: &str) -> PushSignal {
    let is = |known: &str| event.eq_ignore_ascii_case(known);
    if is("subscriptionRemoved") {
        PushSignal::Removed
    } else if is("reauthorizationRequired") {
        PushSignal::ReauthorizationRequired
    } else {
        PushSignal::Missed
    }
}

/// A body; `None` where there is no `value`.
struct Push(Option<Vec<Notification>>);

impl<'de> Deserialize<'de> for Push {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PushVisitor).map(Self)
    }
}

struct PushVisitor;

impl<'de> Visitor<'de> for PushVisitor {
    type Value = Option<Vec<Notification>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a push")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut notifications = None;
        while let Some(Text(name)) = map.next_key()? {
            if name.eq_ignore_ascii_case("value") {
                notifications = Some(map.next_value_seed(Entries)?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(notifications)
    }
}

/// The list in `value`.
struct Entries;

impl<'de> DeserializeSeed<'de> for Entries {
    type Value = Vec<Notification>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<Notification>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of notifications")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut notifications = Vec::new();
        while let Some(raw) = entries.next_element::<&RawValue>()? {
            notifications.extend(notification(raw));
        }
        Ok(notifications)
    }
}

/// What is read of an entry, whatever the case of its members' names.
#[derive(Default)]
struct Entry<'a> {
    subscription_id: Option<Cow<'a, str>>,
    client_state: Option<Cow<'a, str>>,
    /// Empty where there is one that is no text.
    lifecycle_event: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Entry<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a notification")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entry = Entry::default();
        while let Some(Text(name)) = map.next_key()? {
            if name.eq_ignore_ascii_case("subscriptionId") {
                entry.subscription_id = text(map.next_value()?);
            } else if name.eq_ignore_ascii_case("clientState") {
                entry.client_state = text(map.next_value()?);
            } else if name.eq_ignore_ascii_case("lifecycleEvent") {
                let raw: &RawValue = map.next_value()?;
                entry.lifecycle_event =
                    (raw.get() != "null").then(|| text(raw).unwrap_or_default());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(entry)
    }
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(raw.get()).ok().map(|Text(text)| text)
}
