//! Next and delta links: followed as they come, but only into the configured API.

use url::Url;

/// `link` as a URL, when it leads to the origin of `base` and below its path.
///
/// A token goes with every request, so a link to another host would give it away.
pub(crate) fn pinned(base: &Url, link: &str) -> Option<Url> {
    let url = Url::parse(link).ok()?;
    let below = url
        .path()
        .strip_prefix(base.path())
        .is_some_and(|rest| rest.starts_with('/'));
    let is_ours = url.origin() == base.origin()
        && below
        && url.username().is_empty()
        && url.password().is_none();
    is_ours.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_into_the_api_are_followed() {
        let base = Url::parse("https://graph.example.com/v1.0").unwrap();
        for (link, followed) in [
            (
                "https://graph.example.com/v1.0/me/calendarView/delta?$deltatoken=a%2Fb",
                true,
            ),
            ("https://GRAPH.example.com:443/v1.0/me", true),
            ("https://graph.example.com.evil.test/v1.0/me", false),
            ("https://evil.test/v1.0/me", false),
            ("http://graph.example.com/v1.0/me", false),
            ("https://graph.example.com:8443/v1.0/me", false),
            ("https://graph.example.com@evil.test/v1.0/me", false),
            ("https://user:pw@graph.example.com/v1.0/me", false),
            ("https://graph.example.com/v1.0", false),
            ("https://graph.example.com/v1.0evil/me", false),
            ("https://graph.example.com/v1.0/../beta/me", false),
            ("https://graph.example.com/v1.0/%2e%2e/beta/me", false),
            ("https://graph.example.com/beta/me", false),
            ("//graph.example.com/v1.0/me", false),
            ("/v1.0/me", false),
            ("", false),
        ] {
            assert_eq!(pinned(&base, link).is_some(), followed, "{link}");
        }
    }

    #[test]
    fn the_query_stays_as_it_came() {
        let base = Url::parse("http://127.0.0.1:1/v1.0").unwrap();
        let link = "http://127.0.0.1:1/v1.0/me/calendarView/delta?$skiptoken=R0us%2Bm=_-~!";
        assert_eq!(pinned(&base, link).unwrap().as_str(), link);
    }
}
