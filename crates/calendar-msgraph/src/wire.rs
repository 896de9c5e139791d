//! Graph's JSON as it comes: tolerant of missing, null and unknown members and of unknown enum
//! values. Source: <https://learn.microsoft.com/graph/api/resources/event>.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// One page of a list. The entries stay unread, so that one that is wrong does not spoil the page.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(borrow)]
    pub(crate) value: Vec<&'a RawValue>,
    #[serde(rename = "@odata.nextLink", default)]
    pub(crate) next_link: Option<String>,
    #[serde(rename = "@odata.deltaLink", default)]
    pub(crate) delta_link: Option<String>,
}

/// The id of an entry, whatever else is wrong with it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Identified {
    id: Option<Value>,
}

impl Identified {
    /// The id of an entry; none where there is none, or it is no text.
    pub(crate) fn read(raw: &RawValue) -> Option<String> {
        let entry: Self = serde_json::from_str(raw.get()).ok()?;
        entry
            .id?
            .as_str()
            .filter(|id| !id.is_empty())
            .map(str::to_owned)
    }
}

/// `dateTimeTimeZone`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WireMoment {
    #[serde(alias = "DateTime")]
    pub(crate) date_time: Option<String>,
    #[serde(alias = "TimeZone")]
    pub(crate) time_zone: Option<String>,
}

/// `itemBody`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WireBody {
    pub(crate) content_type: Option<String>,
    pub(crate) content: Option<String>,
}

/// `emailAddress`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireAddress {
    pub(crate) name: Option<String>,
    pub(crate) address: Option<String>,
}

/// `recipient`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WireRecipient {
    pub(crate) email_address: Option<WireAddress>,
}

/// `responseStatus`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireResponse {
    pub(crate) response: Option<String>,
    pub(crate) time: Option<String>,
}

/// `attendee`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WireAttendee {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) status: Option<WireResponse>,
    pub(crate) email_address: Option<WireAddress>,
    pub(crate) proposed_new_time: Option<Value>,
}

/// `calendar`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WireCalendar {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) color: Option<String>,
    pub(crate) hex_color: Option<String>,
    pub(crate) is_default_calendar: Option<bool>,
    pub(crate) can_edit: Option<bool>,
    pub(crate) owner: Option<WireAddress>,
}

/// `user`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WireUser {
    pub(crate) id: Option<String>,
    pub(crate) display_name: Option<String>,
    pub(crate) mail: Option<String>,
    pub(crate) user_principal_name: Option<String>,
}

/// `subscription`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WireSubscription {
    pub(crate) id: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) notification_url: Option<String>,
    pub(crate) expiration_date_time: Option<String>,
}

/// A text, such as a member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Declares [`WireEvent`] with its reader: known members go to their fields, the others to `rest`.
/// By hand, because serde's `flatten` buffers every member of every event.
macro_rules! wire_event {
    ($($name:literal => $field:ident: $type:ty,)*) => {
        /// `event`, or an entry of a change feed.
        #[derive(Debug, Default)]
        pub(crate) struct WireEvent {
            $(pub(crate) $field: Option<$type>,)*
            /// There is an `@removed`.
            pub(crate) is_removed: bool,
            /// Members that have no field, but for nulls and OData's annotations (which change
            /// without the event).
            pub(crate) rest: Map<String, Value>,
        }

        impl<'de> Visitor<'de> for EventVisitor {
            type Value = WireEvent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WireEvent, A::Error> {
                let mut event = WireEvent::default();
                while let Some(Text(name)) = map.next_key()? {
                    match &*name {
                        $($name => event.$field = map.next_value()?,)*
                        "@removed" => event.is_removed = map.next_value::<Option<IgnoredAny>>()?.is_some(),
                        // `@odata.etag`, `calendar@odata.navigationLink`, …
                        other if other.contains("@odata.") => { map.next_value::<IgnoredAny>()?; }
                        _ => {
                            let value: Value = map.next_value()?;
                            if !value.is_null() {
                                event.rest.insert(name.into_owned(), value);
                            }
                        }
                    }
                }
                Ok(event)
            }
        }
    };
}

struct EventVisitor;

wire_event! {
    "id" => id: String,
    "type" => kind: String,
    "subject" => subject: String,
    "body" => body: WireBody,
    "bodyPreview" => body_preview: String,
    "start" => start: WireMoment,
    "end" => end: WireMoment,
    "originalStart" => original_start: String,
    "originalStartTimeZone" => original_start_zone: String,
    "originalEndTimeZone" => original_end_zone: String,
    "isAllDay" => is_all_day: bool,
    "isCancelled" => is_cancelled: bool,
    "isOrganizer" => is_organizer: bool,
    "isReminderOn" => is_reminder_on: bool,
    "reminderMinutesBeforeStart" => reminder_minutes: i64,
    "isOnlineMeeting" => is_online_meeting: bool,
    "onlineMeetingProvider" => online_meeting_provider: String,
    "onlineMeeting" => online_meeting: Value,
    "importance" => importance: String,
    "sensitivity" => sensitivity: String,
    "showAs" => show_as: String,
    "categories" => categories: Vec<Option<String>>,
    "conversationId" => conversation_id: String,
    "iCalUId" => ical_uid: String,
    "location" => location: Value,
    "locations" => locations: Value,
    "organizer" => organizer: WireRecipient,
    "attendees" => attendees: Vec<WireAttendee>,
    "responseStatus" => response_status: Value,
    "recurrence" => recurrence: Value,
    "seriesMasterId" => series_master_id: String,
    "webLink" => web_link: String,
}

impl<'de> Deserialize<'de> for WireEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_its_entries_apart() {
        let page: Page = serde_json::from_str(
            r#"{"@odata.context":"x","value":[{"id":"a"},5,{"id":7},{}],"@odata.nextLink":"l"}"#,
        )
        .unwrap();
        let ids: Vec<_> = page.value.iter().map(|raw| Identified::read(raw)).collect();
        assert_eq!(ids, [Some("a".to_owned()), None, None, None]);
        assert_eq!(page.next_link.as_deref(), Some("l"));
        assert_eq!(page.delta_link, None);
    }

    #[test]
    fn unknown_members_are_kept_and_annotations_are_not() {
        let event: WireEvent = serde_json::from_str(
            r#"{"@odata.etag":"W/1","@odata.type":"x","calendar@odata.navigationLink":"y","id":"a",
                "subject":null,"newMember":{"a":[1]},"none":null,"\u0069sAllDay":true}"#,
        )
        .unwrap();
        assert_eq!(event.id.as_deref(), Some("a"));
        assert_eq!(event.subject, None);
        assert_eq!(event.is_all_day, Some(true), "escaped names count");
        assert_eq!(
            Value::Object(event.rest),
            serde_json::json!({"newMember": {"a": [1]}})
        );
    }

    #[test]
    fn removed_is_an_object() {
        let removed = |text| serde_json::from_str::<WireEvent>(text).unwrap().is_removed;
        assert!(removed(r#"{"id":"a","@removed":{"reason":"deleted"}}"#));
        assert!(!removed(r#"{"id":"a","@removed":null}"#));
    }
}
