//! Microsoft Graph and Entra behind the domain's ports: [`MsGraph`] signs users in, lists calendars,
//! reads their change feeds and subscribes to pushes. docs/microsoft.md has the mapping tables.
//!
//! For programs that offer Microsoft: all four ports of `calendar_sync::Provider` are one [`MsGraph`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use calendar_domain::account::AuthorizationRequest;
//! use calendar_domain::ports::{Authorizer as _, Clock};
//! use calendar_msgraph::{MicrosoftConfig, MsGraph};
//!
//! # fn example(clock: Arc<dyn Clock>) -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = MicrosoftConfig::new("00000000-0000-0000-0000-000000000000");
//! config.tenant = "contoso.onmicrosoft.com".to_owned();
//! let microsoft = MsGraph::new(config, clock)?;
//! let url = microsoft.authorize_url(&AuthorizationRequest {
//!     state: "comes back to the callback".into(),
//!     code_verifier: "forty-three-to-a-hundred-and-28-characters-".into(),
//!     redirect_uri: "https://intranet.example/calendar/v1/oauth/callback".to_owned(),
//!     shared: false,
//! })?;
//! # Ok(()) }
//! ```

mod claims;
mod config;
mod cursor;
mod directory;
mod error;
mod html;
mod link;
mod mailbox;
mod map;
mod moment;
mod notifications;
mod oauth;
mod reader;
mod recurrence;
mod subscriptions;
mod teams;
mod timer;
mod transport;
mod wire;

use std::sync::Arc;

use calendar_domain::ports::Clock;

pub use config::{MicrosoftConfig, MicrosoftConfigError};
pub use error::{GraphAnswer, GraphError};
pub use oauth::OAuthError;
pub use recurrence::{
    GraphPattern, GraphRange, GraphRecurrence, NotExpressible, from_graph, to_graph,
};

use oauth::Entra;
use transport::Transport;

/// Microsoft 365 and Outlook.com: the `Authorizer`, `CalendarDirectory`, `CalendarReader` and
/// `ChangeNotifier` ports.
///
/// Clones share the connection pool and the limits. Holds no token and no state of any user.
#[derive(Clone, Debug)]
pub struct MsGraph {
    transport: Transport,
    entra: Entra,
    page_size: u32,
}

impl MsGraph {
    /// An adapter for one Entra application. Fails on the first mistake in `config`.
    pub fn new(
        config: MicrosoftConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, MicrosoftConfigError> {
        if let Some(mistake) = config.validate().into_iter().next() {
            return Err(mistake);
        }
        Ok(Self {
            transport: Transport::new(&config, Arc::clone(&clock))?,
            page_size: config.page_size,
            entra: Entra::new(config, clock)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    struct Epoch;

    impl Clock for Epoch {
        fn now(&self) -> OffsetDateTime {
            OffsetDateTime::UNIX_EPOCH
        }
    }

    #[test]
    fn the_real_service_can_be_set_up_without_a_process_wide_crypto_provider() {
        let graph = MsGraph::new(MicrosoftConfig::new("app"), Arc::new(Epoch)).unwrap();
        assert!(format!("{graph:?}").contains("https://graph.microsoft.com/v1.0"));
    }

    #[test]
    fn mistakes_are_refused() {
        let config = MicrosoftConfig {
            page_size: 0,
            ..MicrosoftConfig::new("app")
        };
        assert_eq!(
            MsGraph::new(config, Arc::new(Epoch)).unwrap_err(),
            MicrosoftConfigError::PageSize
        );
    }
}
