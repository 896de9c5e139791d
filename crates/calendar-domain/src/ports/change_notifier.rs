//! Port: a provider's pushes.

use async_trait::async_trait;
use secrecy::SecretString;
use time::OffsetDateTime;

use crate::failure::PortResult;
use crate::subscription::{Notification, ProviderSubscription, PushEndpoint};

/// Subscribes to the changes of an account's own calendars, and reads what the provider sends.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait ChangeNotifier: Send + Sync {
    /// Subscribes for as long as the provider allows. The provider asks the endpoint before it answers.
    ///
    /// Fails `Conflict` when there is such a subscription already; `Permanent` with the code
    /// `push_unsupported` when the provider sends none for this mailbox; `Retryable` with the code
    /// `push_endpoint_unreachable` when it could not reach the endpoint.
    async fn subscribe(
        &self,
        token: &SecretString,
        endpoint: &PushEndpoint,
        client_state: &SecretString,
    ) -> PortResult<ProviderSubscription>;

    /// Prolongs a subscription, for as long as the provider allows; the answer is its new end. Also
    /// reauthorises it. Fails `Permanent` with the code `subscription_not_found` when it is no more.
    async fn renew(
        &self,
        token: &SecretString,
        subscription_id: &str,
    ) -> PortResult<OffsetDateTime>;

    /// Ends a subscription; one that is no more is no error.
    async fn unsubscribe(&self, token: &SecretString, subscription_id: &str) -> PortResult<()>;

    /// The account's subscriptions, those made by other services of the same application too.
    async fn subscriptions(&self, token: &SecretString) -> PortResult<Vec<ProviderSubscription>>;

    /// Reads the body of a push. An entry that cannot be read is left out; a body that cannot fails
    /// `InvalidInput`.
    fn notifications(&self, body: &[u8]) -> PortResult<Vec<Notification>>;
}
