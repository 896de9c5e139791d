//! Who signed in, and which calendars there are.

use async_trait::async_trait;
use calendar_domain::account::{AccountIdentity, CalendarListing};
use calendar_domain::failure::PortResult;
use calendar_domain::ports::CalendarDirectory;
use calendar_domain::sync::Mailbox;
use secrecy::SecretString;

use crate::MsGraph;
use crate::claims::Claims;
use crate::error::GraphError;
use crate::transport::Target;
use crate::wire::{WireCalendar, WireUser};

/// Graph's named calendar colours as `#rrggbb`. Graph documents the names only; the shades are
/// those of Outlook on the web, by eye. `auto` and `maxColor` are no colours.
/// Source of the names: <https://learn.microsoft.com/graph/api/resources/calendar>.
const COLORS: [(&str, &str); 9] = [
    ("lightBlue", "#71a8e6"),
    ("lightGreen", "#7fc97f"),
    ("lightOrange", "#f5a35c"),
    ("lightGray", "#a6a6a6"),
    ("lightYellow", "#f0d95b"),
    ("lightTeal", "#5bc0be"),
    ("lightPink", "#f29ac0"),
    ("lightBrown", "#b58a6b"),
    ("lightRed", "#ec6b6b"),
];

#[async_trait]
impl CalendarDirectory for MsGraph {
    /// `GET /me`; the tenant out of the access token's `tid`, empty where the token is opaque (that
    /// of a personal account).
    async fn identity(&self, token: &SecretString) -> PortResult<AccountIdentity> {
        let me = Target::path::<&str>([]);
        let body = self
            .transport
            .get(token, &Mailbox::Own, me, self.page_size)
            .await?;
        let user: WireUser = serde_json::from_slice(&body).map_err(GraphError::unreadable)?;
        let provider_user_id = user
            .id
            .filter(|id| !id.is_empty())
            .ok_or(GraphError::Unreadable { line: 0, column: 0 })?;
        Ok(AccountIdentity {
            tenant_id: Claims::of(token).tid.unwrap_or_default(),
            provider_user_id,
            email: non_empty(user.mail).or_else(|| non_empty(user.user_principal_name)),
            display_name: non_empty(user.display_name),
        })
    }

    async fn calendars(
        &self,
        token: &SecretString,
        mailbox: &Mailbox,
    ) -> PortResult<Vec<CalendarListing>> {
        let mut calendars = Vec::new();
        self.list(token, mailbox, Target::path(["calendars"]), |entries| {
            calendars.extend(
                entries.iter().filter_map(|raw| {
                    listing(serde_json::from_str::<WireCalendar>(raw.get()).ok()?)
                }),
            );
        })
        .await?;
        mark_shared(&mut calendars);
        Ok(calendars)
    }
}

/// Marks the calendars of others: those whose owner is not that of the default calendar. Where Graph does
/// not say whose the default calendar is, none can be told apart.
fn mark_shared(calendars: &mut [CalendarListing]) {
    let address = |calendar: &CalendarListing| {
        calendar
            .owner_email
            .as_ref()
            .map(|owner| owner.to_lowercase())
    };
    let default = calendars.iter().find(|calendar| calendar.is_primary);
    let Some(home) = default.and_then(address) else {
        return;
    };
    for calendar in calendars {
        calendar.is_shared = address(calendar).is_some_and(|owner| owner != home);
    }
}

fn listing(calendar: WireCalendar) -> Option<CalendarListing> {
    let color = calendar.hex_color.as_deref().and_then(hex_color);
    Some(CalendarListing {
        id: non_empty(calendar.id)?,
        name: calendar.name.unwrap_or_default(),
        color: color.or_else(|| named_color(calendar.color.as_deref()?)),
        is_primary: calendar.is_default_calendar.unwrap_or(false),
        can_edit: calendar.can_edit.unwrap_or(false),
        owner_email: calendar.owner.and_then(|owner| non_empty(owner.address)),
        is_shared: false,
    })
}

/// `#rrggbb` in lower case; Graph gives an empty text for automatic colours.
fn hex_color(text: &str) -> Option<String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let is_color = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_color.then(|| format!("#{}", digits.to_ascii_lowercase()))
}

fn named_color(name: &str) -> Option<String> {
    let color = COLORS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    color.map(|(_, hex)| (*hex).to_owned())
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_say_what_graph_says() {
        let calendar = |json: &str| listing(serde_json::from_str(json).unwrap());
        assert_eq!(
            calendar(
                r##"{"id":"AAMk=","name":"Team","color":"auto","hexColor":"#0078D4","isDefaultCalendar":true,
                    "canEdit":true,"owner":{"name":"Ada","address":"ada@example.com"},"new":1}"##
            ),
            Some(CalendarListing {
                id: "AAMk=".to_owned(),
                name: "Team".to_owned(),
                color: Some("#0078d4".to_owned()),
                is_primary: true,
                can_edit: true,
                owner_email: Some("ada@example.com".to_owned()),
                is_shared: false,
            })
        );
        let bare = calendar(r#"{"id":"a","name":null,"owner":{"address":""}}"#).unwrap();
        assert!(!bare.is_primary && !bare.can_edit && bare.owner_email.is_none());
        assert_eq!(calendar(r#"{"id":"","name":"x"}"#), None);
    }

    #[test]
    fn calendars_of_others_are_shared() {
        let calendar = |id: &str, owner: Option<&str>, is_primary| CalendarListing {
            id: id.to_owned(),
            name: String::new(),
            color: None,
            is_primary,
            can_edit: true,
            owner_email: owner.map(str::to_owned),
            is_shared: false,
        };
        let (ada, loud, bea) = (
            Some("ada@example.com"),
            Some("ADA@Example.com"),
            Some("bea@example.com"),
        );
        for (calendars, shared) in [
            // The default calendar comes last.
            (
                vec![
                    calendar("1", bea, false),
                    calendar("2", loud, false),
                    calendar("3", None, false),
                    calendar("4", ada, true),
                ],
                vec!["1"],
            ),
            (
                vec![calendar("1", bea, false), calendar("2", ada, false)],
                vec![],
            ),
            (
                vec![calendar("1", bea, false), calendar("2", None, true)],
                vec![],
            ),
            (vec![], vec![]),
        ] {
            let mut calendars = calendars;
            mark_shared(&mut calendars);
            let marked: Vec<_> = calendars
                .iter()
                .filter(|calendar| calendar.is_shared)
                .map(|calendar| calendar.id.as_str())
                .collect();
            assert_eq!(marked, shared);
        }
    }

    #[test]
    fn colours_are_hex_or_named() {
        for (hex, name, expected) in [
            ("#A1B2C3", "lightRed", Some("#a1b2c3")),
            ("", "lightRed", Some("#ec6b6b")),
            ("#12", "LIGHTTEAL", Some("#5bc0be")),
            ("#gggggg", "auto", None),
            ("", "maxColor", None),
        ] {
            let calendar = WireCalendar {
                id: Some("a".to_owned()),
                hex_color: Some(hex.to_owned()),
                color: Some(name.to_owned()),
                ..WireCalendar::default()
            };
            assert_eq!(
                listing(calendar).unwrap().color.as_deref(),
                expected,
                "{hex} {name}"
            );
        }
    }
}
