//! What a good value of each variable looks like. A check answers with what is wrong and the remedy,
//! so that it reads on from the variable's name, and never repeats a secret.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use ipnet::IpNet;
use secrecy::SecretString;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::{Host, Url};

pub(super) fn database_url(text: &str) -> Result<SecretString, String> {
    const FORM: &str = "postgres://user:password@host:5432/name";
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error}); write {FORM}"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(format!("does not begin with postgres://; write {FORM}"));
    }
    Ok(SecretString::from(text))
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "is not an IP address with a port; write it like 127.0.0.1:8080 or [::]:8080".to_owned()
    })
}

pub(super) fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| format!("is not a whole number from {least} to {most}"))
}

/// An id without blanks.
pub(super) fn word(text: &str) -> Result<String, String> {
    if text.contains(char::is_whitespace) {
        return Err("contains a blank; give the id alone".to_owned());
    }
    Ok(text.to_owned())
}

pub(super) fn tenant(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if text.chars().all(fits) && !text.trim_matches('.').is_empty() {
        Ok(text.to_owned())
    } else {
        Err(
            "is not a tenant; set a tenant id, a domain, common, organizations or consumers"
                .to_owned(),
        )
    }
}

/// Whether a URL names this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("is not an http or https URL with a host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or password; remove it".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("holds a query or a fragment; remove it".to_owned());
    }
    Ok(url)
}

pub(super) fn public_url(text: &str) -> Result<Url, String> {
    base_url(text).map_err(|what| format!("{what}; write it like https://calendar.example"))
}

/// Tokens go there: https, or this machine.
pub(super) fn provider_url(text: &str) -> Result<Url, String> {
    let url = base_url(text)?;
    if url.scheme() == "https" || is_loopback(&url) {
        Ok(url)
    } else {
        Err("is neither https nor on this machine; tokens go there, so use https".to_owned())
    }
}

/// Origins with commas between them, each in its serialised form.
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let url = base_url(part).map_err(|what| format!("names `{part}`, which {what}"))?;
            if url.path() == "/" {
                Ok(url.origin().ascii_serialization())
            } else {
                Err(format!("names `{part}`, which has a path; give the origin alone, like https://app.example"))
            }
        })
        .collect()
}

/// Addresses and networks with commas between them; every wrong one is named.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let parts = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let mut networks = Vec::new();
    let mut wrong = Vec::new();
    for part in parts {
        let address = || part.parse::<IpAddr>().map(IpNet::from);
        match part.parse::<IpNet>().or_else(|_| address()) {
            Ok(network) => networks.push(network),
            Err(_) => wrong.push(format!("`{part}`")),
        }
    }
    if wrong.is_empty() {
        return Ok(networks);
    }
    Err(format!(
        "names {}, which is neither an IP address nor a network; write them like 10.0.0.7,192.168.0.0/16,fd00::/8",
        wrong.join(" and ")
    ))
}

/// `id:base64,id:base64`, 32 bytes each, ids unique. The form alone; the adapter that seals reads it.
pub(super) fn token_keys(text: &str) -> Result<SecretString, String> {
    const REMEDY: &str = "make one with `openssl rand -base64 32` and set k1:<the key>";
    let mut ids = Vec::new();
    for (index, part) in text.split(',').map(str::trim).enumerate() {
        let number = index + 1;
        let Some((id, key)) = part.split_once(':') else {
            return Err(format!("has no id in front of key {number}; {REMEDY}"));
        };
        if id.is_empty()
            || !id
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        {
            return Err(format!(
                "has a key {number} whose id is not made of letters, digits, - and _; {REMEDY}"
            ));
        }
        let bytes = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
            .into_iter()
            .find_map(|engine| engine.decode(key.trim()).ok());
        match bytes {
            None => return Err(format!("has a key `{id}` that is not base64; {REMEDY}")),
            Some(bytes) if bytes.len() != 32 => {
                return Err(format!(
                    "has a key `{id}` of {} bytes instead of 32; {REMEDY}",
                    bytes.len()
                ));
            }
            Some(_) if ids.contains(&id) => {
                return Err(format!(
                    "names the id `{id}` twice; give each key an id of its own"
                ));
            }
            Some(_) => ids.push(id),
        }
    }
    Ok(SecretString::from(text))
}

/// Directives of [`EnvFilter`]. A lone word must be a level: the filter itself would take `inof` for
/// the name of a module, and log nothing else.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    let lone_words_are_levels = text
        .split(',')
        .filter(|directive| !directive.contains(['=', '[']))
        .all(|word| word.trim().parse::<LevelFilter>().is_ok());
    if lone_words_are_levels && EnvFilter::try_new(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err("is not a level (error, warn, info, debug, trace) or a list of directives such as `info,calendar_sync=debug`".to_owned())
}
