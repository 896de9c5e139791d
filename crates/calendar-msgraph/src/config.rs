//! The Entra application, and where Entra and Graph are.

use std::fmt;
use std::net::IpAddr;

use secrecy::SecretString;
use url::{Host, Url};

/// What an operator says of the Entra application. `Debug` hides the secret.
#[derive(Clone, Debug)]
pub struct MicrosoftConfig {
    /// Application (client) id.
    pub client_id: String,
    /// Client secret; `None` for a public client.
    pub client_secret: Option<SecretString>,
    /// `common`, `organizations`, `consumers`, or a tenant's id or domain.
    pub tenant: String,
    /// Where Entra is: https, or http on a loopback address.
    pub authority_url: String,
    /// Where Graph is, with its version; without a path, `/v1.0` is meant.
    pub graph_url: String,
    /// Requests at once per mailbox. Graph allows four per application and mailbox.
    /// Source: <https://learn.microsoft.com/graph/throttling-limits#outlook-service-limits>.
    pub mailbox_concurrency: usize,
    /// Events asked for per page (`odata.maxpagesize`); the service may give fewer.
    pub page_size: u32,
}

/// What is wrong with a [`MicrosoftConfig`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MicrosoftConfigError {
    /// No client id.
    #[error("the Microsoft client id is empty")]
    ClientId,
    /// Not a tenant.
    #[error(
        "the Microsoft tenant must be common, organizations, consumers, a tenant id or a domain"
    )]
    Tenant,
    /// Not a URL that a request can be sent to.
    #[error("{0} is not a URL")]
    NotUrl(Endpoint),
    /// Tokens would go over the network in the clear.
    #[error("{0} must be https, or http on a loopback address")]
    Insecure(Endpoint),
    /// A query, a fragment or a user name.
    #[error("{0} must have no query, fragment or user name")]
    Extra(Endpoint),
    /// No request could ever be sent.
    #[error("the Microsoft mailbox concurrency must be between 1 and 1000")]
    MailboxConcurrency,
    /// No page, or pages beyond what Graph gives.
    #[error("the Microsoft page size must be between 1 and 1000")]
    PageSize,
    /// The HTTP client could not be set up.
    #[error("the HTTP client for Microsoft could not be set up")]
    HttpClient,
}

/// One of the two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Entra.
    Authority,
    /// Graph.
    Graph,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "the Microsoft authority URL",
            Self::Graph => "the Microsoft Graph URL",
        })
    }
}

impl MicrosoftConfig {
    /// The global service's defaults for the application `client_id`.
    #[must_use]
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            client_secret: None,
            tenant: "common".to_owned(),
            authority_url: "https://login.microsoftonline.com".to_owned(),
            graph_url: "https://graph.microsoft.com/v1.0".to_owned(),
            mailbox_concurrency: 4,
            page_size: 200,
        }
    }

    /// Every mistake; none when it is good.
    #[must_use]
    pub fn validate(&self) -> Vec<MicrosoftConfigError> {
        let mut mistakes = Vec::new();
        if self.client_id.trim().is_empty() {
            mistakes.push(MicrosoftConfigError::ClientId);
        }
        let is_tenant = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if !self.tenant.bytes().all(is_tenant) || self.tenant.trim_matches('.').is_empty() {
            mistakes.push(MicrosoftConfigError::Tenant);
        }
        mistakes.extend(base(&self.authority_url, Endpoint::Authority).err());
        mistakes.extend(base(&self.graph_url, Endpoint::Graph).err());
        if !(1..=1000).contains(&self.mailbox_concurrency) {
            mistakes.push(MicrosoftConfigError::MailboxConcurrency);
        }
        if !(1..=1000).contains(&self.page_size) {
            mistakes.push(MicrosoftConfigError::PageSize);
        }
        mistakes
    }

    /// Graph's base: no slash at the end, with its version.
    pub(crate) fn graph_base(&self) -> Result<Url, MicrosoftConfigError> {
        let mut url = base(&self.graph_url, Endpoint::Graph)?;
        if url.path() == "/" {
            url.set_path("/v1.0");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(url)
    }

    /// `{authority}/{tenant}/oauth2/v2.0/{leaf}`.
    pub(crate) fn authority(&self, leaf: &str) -> Result<Url, MicrosoftConfigError> {
        let mut url = base(&self.authority_url, Endpoint::Authority)?;
        url.path_segments_mut()
            .map_err(|()| MicrosoftConfigError::NotUrl(Endpoint::Authority))?
            .pop_if_empty()
            .extend([self.tenant.as_str(), "oauth2", "v2.0", leaf]);
        Ok(url)
    }
}

fn base(text: &str, endpoint: Endpoint) -> Result<Url, MicrosoftConfigError> {
    let url = Url::parse(text.trim()).map_err(|_| MicrosoftConfigError::NotUrl(endpoint))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err(MicrosoftConfigError::Insecure(endpoint)),
        _ => return Err(MicrosoftConfigError::NotUrl(endpoint)),
    }
    let has_extra = url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some();
    if has_extra {
        Err(MicrosoftConfigError::Extra(endpoint))
    } else {
        Ok(url)
    }
}

/// Whether what is sent to this URL stays on the machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_good() {
        let config = MicrosoftConfig::new("app");
        assert_eq!(config.validate(), []);
        assert_eq!(
            config.graph_base().unwrap().as_str(),
            "https://graph.microsoft.com/v1.0"
        );
        assert_eq!(
            config.authority("token").unwrap().as_str(),
            "https://login.microsoftonline.com/common/oauth2/v2.0/token"
        );
    }

    #[test]
    fn tokens_never_leave_in_the_clear() {
        use MicrosoftConfigError::{Extra, Insecure, NotUrl};
        for (url, expected) in [
            ("http://127.0.0.1:8931/v1.0", None),
            ("http://localhost:8931", None),
            ("http://[::1]:8931/", None),
            ("https://graph.microsoft.us/v1.0/", None),
            (
                "http://graph.microsoft.com/v1.0",
                Some(Insecure(Endpoint::Graph)),
            ),
            (
                "http://127.0.0.1.example.com/",
                Some(Insecure(Endpoint::Graph)),
            ),
            ("http://10.0.0.1/", Some(Insecure(Endpoint::Graph))),
            ("ftp://127.0.0.1/", Some(NotUrl(Endpoint::Graph))),
            ("graph.microsoft.com", Some(NotUrl(Endpoint::Graph))),
            ("", Some(NotUrl(Endpoint::Graph))),
            (
                "https://user@graph.microsoft.com",
                Some(Extra(Endpoint::Graph)),
            ),
            (
                "https://graph.microsoft.com/v1.0?x=1",
                Some(Extra(Endpoint::Graph)),
            ),
        ] {
            let config = MicrosoftConfig {
                graph_url: url.to_owned(),
                ..MicrosoftConfig::new("app")
            };
            assert_eq!(config.validate().first(), expected.as_ref(), "{url}");
        }
    }

    #[test]
    fn a_base_without_a_path_means_version_one() {
        for url in [
            "http://127.0.0.1:1",
            "http://127.0.0.1:1/",
            "http://127.0.0.1:1/v1.0/",
        ] {
            let config = MicrosoftConfig {
                graph_url: url.to_owned(),
                ..MicrosoftConfig::new("app")
            };
            assert_eq!(
                config.graph_base().unwrap().as_str(),
                "http://127.0.0.1:1/v1.0"
            );
        }
    }

    #[test]
    fn all_mistakes_are_named_at_once() {
        let config = MicrosoftConfig {
            client_id: " ".to_owned(),
            client_secret: Some(SecretString::from("hush")),
            tenant: "a/b".to_owned(),
            authority_url: "http://login.example.com".to_owned(),
            graph_url: "x".to_owned(),
            mailbox_concurrency: 0,
            page_size: 0,
        };
        assert_eq!(config.validate().len(), 6);
        assert!(!format!("{config:?}").contains("hush"));
    }
}
