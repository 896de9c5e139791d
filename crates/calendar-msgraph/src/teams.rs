//! Teams meetings out of `isOnlineMeeting`, `onlineMeetingProvider` and `onlineMeeting`.

use calendar_domain::event::TeamsMeeting;
use serde_json::Value;
use url::Url;

/// Hosts of join links that are Teams' (personal accounts give `onlineMeetingProvider` `unknown`).
const TEAMS_HOSTS: [&str; 5] = [
    "teams.microsoft.com",
    "teams.live.com",
    "teams.cloud.microsoft",
    "gov.teams.microsoft.us",
    "dod.teams.microsoft.us",
];

/// The Teams meeting of an event, where it is one: the provider is `teamsForBusiness` and the event
/// is an online meeting, or the join link is Teams'. The link may come later than the event.
pub(crate) fn teams_meeting(
    is_online_meeting: Option<bool>,
    provider: Option<&str>,
    online_meeting: Option<&Value>,
) -> Option<TeamsMeeting> {
    let info = online_meeting.unwrap_or(&Value::Null);
    let join_url = text(info, "joinUrl");
    let by_provider = is_online_meeting == Some(true)
        && provider.is_some_and(|name| name.eq_ignore_ascii_case("teamsForBusiness"));
    if !by_provider && !join_url.is_some_and(is_teams_link) {
        return None;
    }
    Some(TeamsMeeting {
        meeting_url: join_url.map(str::to_owned),
        conference_id: text(info, "conferenceId").map(str::to_owned),
        dial_in_url: dial_in(info),
    })
}

/// How to dial in: `quickDial` where it is a URL or a number, else `tollNumber`, else the first of
/// `phones`, else the first of `tollFreeNumbers`; numbers as `tel:` URLs (RFC 3966).
fn dial_in(info: &Value) -> Option<String> {
    let quick_dial = text(info, "quickDial");
    if let Some(url) = quick_dial.filter(|text| is_dial_url(text)) {
        return Some(url.to_owned());
    }
    let phones = info["phones"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| text(p, "number"));
    let toll_free = info["tollFreeNumbers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    quick_dial
        .into_iter()
        .chain(text(info, "tollNumber"))
        .chain(phones)
        .chain(toll_free)
        .find_map(tel_url)
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object[name]
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty())
}

fn is_teams_link(link: &str) -> bool {
    Url::parse(link).is_ok_and(|url| {
        url.host_str()
            .is_some_and(|host| TEAMS_HOSTS.contains(&host))
    })
}

fn is_dial_url(text: &str) -> bool {
    ["tel:", "https:", "http:"].iter().any(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && text.len() > scheme.len()
    })
}

/// A written number as a `tel:` URL: `+1 323-555-0166,,291633251#` is `tel:+13235550166,,291633251%23`.
/// `None` for what is no number.
fn tel_url(number: &str) -> Option<String> {
    let mut url = String::from("tel:");
    let mut digits = 0;
    for c in number.trim().chars() {
        match c {
            '0'..='9' => {
                digits += 1;
                url.push(c);
            }
            '+' if url == "tel:" => url.push(c),
            // Pauses, then the conference id.
            ',' | ';' | '*' => url.push(c),
            '#' => url.push_str("%23"),
            ' ' | '\u{a0}' | '-' | '.' | '(' | ')' | '/' => {}
            _ => return None,
        }
    }
    (digits >= 3).then_some(url)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const JOIN: &str = "https://teams.microsoft.com/l/meetup-join/19%3ameeting_x/0";

    #[test]
    fn what_is_a_teams_meeting() {
        let join = json!({"joinUrl": JOIN});
        let other = json!({"joinUrl": "https://meet.example.com/1"});
        let live = json!({"joinUrl": "https://teams.live.com/meet/1"});
        for (online, provider, info, expected) in [
            (Some(true), Some("teamsForBusiness"), Some(&join), true),
            (Some(true), Some("teamsForBusiness"), None, true),
            (
                Some(true),
                Some("TeamsForBusiness"),
                Some(&Value::Null),
                true,
            ),
            (Some(true), Some("unknown"), Some(&live), true),
            (Some(true), Some("unknown"), None, false),
            (Some(true), Some("skypeForBusiness"), Some(&other), false),
            (Some(true), Some("unknown"), Some(&json!("x")), false),
            (Some(false), Some("teamsForBusiness"), None, false),
            (None, None, None, false),
        ] {
            assert_eq!(
                teams_meeting(online, provider, info).is_some(),
                expected,
                "{provider:?} {info:?}"
            );
        }
    }

    #[test]
    fn the_dial_in_is_the_first_that_can_be_dialled() {
        let phones = json!([{"type": "home"}, {"number": "+49 30 555 0101", "type": "business"}]);
        for (info, expected) in [
            (
                json!({"quickDial": "tel:+13235550166,,291633251#"}),
                Some("tel:+13235550166,,291633251#"),
            ),
            (
                json!({"quickDial": "https://dialin.teams.microsoft.com/x?id=2"}),
                Some("https://dialin.teams.microsoft.com/x?id=2"),
            ),
            (
                json!({"quickDial": "+1 323-555-0166,,291633251#", "tollNumber": "1"}),
                Some("tel:+13235550166,,291633251%23"),
            ),
            (
                json!({"quickDial": "", "tollNumber": "+1 (323) 555-0166"}),
                Some("tel:+13235550166"),
            ),
            (
                json!({"quickDial": "ask the desk", "tollNumber": "+1 323 555 0166"}),
                Some("tel:+13235550166"),
            ),
            (
                json!({"tollNumber": null, "phones": phones}),
                Some("tel:+49305550101"),
            ),
            (
                json!({"phones": [], "tollFreeNumbers": [null, "800 555 0100"]}),
                Some("tel:8005550100"),
            ),
            (json!({"quickDial": "tel:"}), None),
            (json!({"phones": "x"}), None),
            (json!({}), None),
        ] {
            assert_eq!(dial_in(&info).as_deref(), expected, "{info}");
        }
    }
}
