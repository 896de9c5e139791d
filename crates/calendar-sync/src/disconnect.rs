//! Use case: disconnect a calendar.

use std::sync::Arc;

use calendar_domain::failure::PortResult;
use calendar_domain::ids::{ConnectionId, UserId};
use calendar_domain::ports::{Clock, ConnectionStore, SubscriptionStore};

use crate::Providers;
use crate::end_subscriptions::end_subscriptions;

/// Disconnects a calendar; with the last one that needs it, the account's subscription ends at the provider.
#[derive(Clone)]
pub struct Disconnect {
    /// Where connections are.
    pub connections: Arc<dyn ConnectionStore>,
    /// Where subscriptions are.
    pub subscriptions: Arc<dyn SubscriptionStore>,
    /// Where they end.
    pub providers: Arc<Providers>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Disconnect {
    /// Whether the user had such a connection. That a subscription could not be ended is no failure: it
    /// expires by itself.
    pub async fn run(&self, user: UserId, connection: ConnectionId) -> PortResult<bool> {
        // Before: afterwards the tokens are gone.
        let ending = self.subscriptions.ending(user, Some(connection)).await?;
        let now = self.clock.now();
        if !self.connections.disconnect(user, connection, now).await? {
            return Ok(false);
        }
        end_subscriptions(&self.providers, &self.clock, ending).await;
        Ok(true)
    }
}
