//! Use case: delete a user.

use std::sync::Arc;

use calendar_domain::failure::PortResult;
use calendar_domain::ids::UserId;
use calendar_domain::ports::{Clock, SubscriptionStore, UserStore};

use crate::Providers;
use crate::end_subscriptions::end_subscriptions;

/// Deletes a user with all that is theirs; their subscriptions end at the providers.
#[derive(Clone)]
pub struct DeleteUser {
    /// Where users are.
    pub users: Arc<dyn UserStore>,
    /// Where subscriptions are.
    pub subscriptions: Arc<dyn SubscriptionStore>,
    /// Where they end.
    pub providers: Arc<Providers>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl DeleteUser {
    /// Whether there was such a user. That a subscription could not be ended is no failure: it expires by
    /// itself.
    pub async fn run(&self, user: UserId) -> PortResult<bool> {
        // Before: afterwards the tokens are gone.
        let ending = self.subscriptions.ending(user, None).await?;
        if !self.users.delete(user, self.clock.now()).await? {
            return Ok(false);
        }
        end_subscriptions(&self.providers, &self.clock, ending).await;
        Ok(true)
    }
}
