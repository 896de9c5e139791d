//! Whose address a request comes from, when it comes through proxies.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address: the peer's, or where the peer is a trusted proxy, the last address in X-Forwarded-For
/// that is not a trusted proxy's itself. What stands before that was written by anybody.
///
/// What is no address ends the search with the last hop that is known.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let mut client = peer.to_canonical();
    // Each proxy adds to the end; several headers are one list (RFC 9110 section 5.3).
    let headers: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    let mut hops = headers
        .iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    while is_trusted(client)
        && let Some(hop) = hops.next().and_then(address)
    {
        client = hop;
    }
    client
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client seen for a request of `peer` with these headers, behind proxies in `10.0.0.0/8` and `fd00::/8`.
    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_peer_is_believed() {
        assert_eq!(seen("192.0.2.1", &["198.51.100.9"]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn what_the_client_wrote_itself_is_not_believed() {
        assert_eq!(
            seen("10.0.0.1", &["203.0.113.5, 10.0.0.9, 198.51.100.9"]),
            "198.51.100.9"
        );
        assert_eq!(
            seen("10.0.0.1", &["203.0.113.5", "198.51.100.9, 10.0.0.2"]),
            "198.51.100.9",
            "several headers are one list"
        );
        assert_eq!(
            seen("10.0.0.1", &["10.0.0.3,10.0.0.2"]),
            "10.0.0.3",
            "all are trusted"
        );
    }

    #[test]
    fn addresses_are_known_in_each_spelling() {
        for (hop, address) in [
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("198.51.100.9:4711", "198.51.100.9"),
            ("::ffff:198.51.100.9", "198.51.100.9"),
            (" 198.51.100.9\t", "198.51.100.9"),
        ] {
            assert_eq!(seen("fd00::1", &[hop]), address, "{hop}");
            assert_eq!(seen("::ffff:10.0.0.1", &[hop]), address, "{hop}");
        }
    }

    #[test]
    fn garbage_ends_the_search_at_the_last_known_hop() {
        for garbage in [
            "unknown",
            "_hidden",
            "",
            "1.2.3",
            "198.51.100.9 x",
            "[::1",
            "999.1.1.1",
        ] {
            assert_eq!(seen("10.0.0.1", &[garbage]), "10.0.0.1", "{garbage}");
            let list = format!("198.51.100.9, {garbage}, 10.0.0.2");
            assert_eq!(seen("10.0.0.1", &[&list]), "10.0.0.2", "{garbage}");
        }
        let mut headers = HeaderMap::new();
        let bytes = axum::http::HeaderValue::from_bytes(b"198.51.100.9, \xff\xfe").unwrap();
        headers.append(FORWARDED_FOR, bytes);
        let peer = "10.0.0.1".parse().unwrap();
        assert_eq!(
            client(peer, &headers, &["10.0.0.0/8".parse().unwrap()]),
            peer
        );
    }
}
