//! Whether a provider can reach us with pushes, and where.

use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::PushEndpoint;
use url::Url;

use super::{Config, check};

/// Why a provider cannot reach us with pushes: its calendars are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushOff {
    /// Providers push to https only.
    #[error("CALENDAR_PUBLIC_URL is not an https address that the provider can reach")]
    NotReachable,
    /// Only the API knows the port that it was given.
    #[error(
        "CALENDAR_PUBLIC_URL is not set, and CALENDAR_LISTEN leaves the port to the operating system"
    )]
    PortUnknown,
}

impl Config {
    /// Where a provider, whose API is at `api_url` (`None`: the real one), is to send its pushes.
    ///
    /// That is possible at an https address; or, with a simulator for development, where both the API's
    /// public URL and `api_url` are http on this machine.
    pub fn push_endpoint(
        &self,
        provider: CalendarProvider,
        api_url: Option<&Url>,
    ) -> Result<PushEndpoint, PushOff> {
        if self.public_url.is_none() && self.listen.port() == 0 {
            return Err(PushOff::PortUnknown);
        }
        let public = self.public_url(self.listen);
        let url = Url::parse(&public).map_err(|_| PushOff::NotReachable)?;
        if url.scheme() != "https" && !(is_local(&url) && api_url.is_some_and(is_local)) {
            return Err(PushOff::NotReachable);
        }
        let notification_url = format!("{public}/webhooks/{provider}");
        Ok(PushEndpoint {
            lifecycle_url: format!("{notification_url}/lifecycle"),
            notification_url,
        })
    }
}

fn is_local(url: &Url) -> bool {
    url.scheme() == "http" && check::is_loopback(url)
}
