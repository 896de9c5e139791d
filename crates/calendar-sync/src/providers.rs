//! The providers that are configured, each with the adapter behind its ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use calendar_domain::ports::{Authorizer, CalendarDirectory, CalendarReader, ChangeNotifier};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::PushEndpoint;

/// One provider's ports, all implemented by one adapter.
#[derive(Clone)]
pub struct Provider {
    /// Signs users in.
    pub authorizer: Arc<dyn Authorizer>,
    /// Says who they are and which calendars they have.
    pub directory: Arc<dyn CalendarDirectory>,
    /// Reads the calendars.
    pub reader: Arc<dyn CalendarReader>,
    /// Subscribes to pushes, and reads them.
    pub notifier: Arc<dyn ChangeNotifier>,
    /// Where it can reach us with pushes; `None`: it cannot, and calendars are polled.
    pub push: Option<PushEndpoint>,
}

/// The providers that are configured.
#[derive(Clone, Default)]
pub struct Providers(BTreeMap<CalendarProvider, Provider>);

impl Providers {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, name: CalendarProvider, provider: Provider) -> Self {
        self.0.insert(name, provider);
        self
    }

    /// The ports of a provider; `None` when it is not configured.
    #[must_use]
    pub fn get(&self, name: CalendarProvider) -> Option<&Provider> {
        self.0.get(&name)
    }

    /// Which are configured.
    #[must_use]
    pub fn configured(&self) -> Vec<CalendarProvider> {
        self.0.keys().copied().collect()
    }

    /// Where those that can reach us send the pushes for changes.
    #[must_use]
    pub fn notification_urls(&self) -> Vec<(CalendarProvider, String)> {
        let reaching = self.0.iter().filter_map(|(name, ports)| {
            let endpoint = ports.push.as_ref()?;
            Some((*name, endpoint.notification_url.clone()))
        });
        reaching.collect()
    }

    /// Which can reach us with pushes.
    #[must_use]
    pub fn pushing(&self) -> Vec<CalendarProvider> {
        let reaching = self.0.iter().filter(|(_, ports)| ports.push.is_some());
        reaching.map(|(name, _)| *name).collect()
    }
}
