//! Subscriptions to the changes of a mailbox's events.
//!
//! Source: <https://learn.microsoft.com/graph/api/subscription-post-subscriptions>,
//! <https://learn.microsoft.com/graph/api/resources/subscription>.

use async_trait::async_trait;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::ChangeNotifier;
use calendar_domain::subscription::{Notification, ProviderSubscription, PushEndpoint};
use calendar_domain::sync::Mailbox;
use graph_rs_sdk::http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::MsGraph;
use crate::error::{Complaint, GraphError};
use crate::moment::{parse_instant, rfc3339};
use crate::notifications;
use crate::transport::Target;
use crate::wire::WireSubscription;

/// The events of all calendars of the mailbox: Graph knows no subscription to one calendar.
const RESOURCE: &str = "me/events";
const CHANGES: &str = "created,updated,deleted";
/// Ten minutes less than the 10,080 that Graph allows, because its clock may differ from ours.
/// Source: <https://learn.microsoft.com/graph/change-notifications-overview#subscription-lifetime>.
const LIFETIME: Duration = Duration::minutes(10_070);
/// The limit that Graph had before, and has in places.
const OLDER_LIFETIME: Duration = Duration::minutes(4_230);
/// Longest id that is believed.
const MAX_ID_CHARS: usize = 255;

/// Whether a subscription can have this id.
pub(crate) fn is_usable_id(id: &str) -> bool {
    !id.is_empty() && id.chars().count() <= MAX_ID_CHARS && !id.chars().any(char::is_control)
}

impl MsGraph {
    /// Asks that `body` holds for as long as Graph allows; where that is too long, for as long as it
    /// allowed before. Gives the end that was asked for, and the answer.
    async fn ask_longest(
        &self,
        method: Method,
        token: &SecretString,
        target: Target,
        body: Value,
    ) -> Result<(OffsetDateTime, Option<Vec<u8>>), GraphError> {
        let ask = async |lifetime| {
            let end = self.transport.now().saturating_add(lifetime);
            let mut body = body.clone();
            body["expirationDateTime"] = rfc3339(end).into();
            let answer = self
                .transport
                .change(
                    method.clone(),
                    token,
                    target.clone(),
                    Some(body.to_string()),
                )
                .await?;
            Ok((end, answer))
        };
        match ask(LIFETIME).await {
            Err(error) if is_too_long(&error) => ask(OLDER_LIFETIME).await,
            answer => answer,
        }
    }

    async fn create(
        &self,
        token: &SecretString,
        endpoint: &PushEndpoint,
        client_state: &SecretString,
    ) -> Result<ProviderSubscription, GraphError> {
        let body = json!({
            "changeType": CHANGES,
            "resource": RESOURCE,
            "notificationUrl": endpoint.notification_url,
            "lifecycleNotificationUrl": endpoint.lifecycle_url,
            "clientState": client_state.expose_secret(),
        });
        let target = Target::service(["subscriptions"]);
        let (end, answer) = self.ask_longest(Method::POST, token, target, body).await?;
        let mut made: WireSubscription =
            serde_json::from_slice(&answer.unwrap_or_default()).map_err(GraphError::unreadable)?;
        made.resource.get_or_insert_with(|| RESOURCE.to_owned());
        // As it was asked for: the answer may spell it in another way.
        made.notification_url = Some(endpoint.notification_url.clone());
        subscription(made, end).ok_or(GraphError::Unreadable { line: 0, column: 0 })
    }

    async fn prolong(
        &self,
        token: &SecretString,
        subscription_id: &str,
    ) -> Result<OffsetDateTime, GraphError> {
        let target = Target::service(["subscriptions", subscription_id]);
        let (end, answer) = self
            .ask_longest(Method::PATCH, token, target, json!({}))
            .await?;
        let Some(answer) = answer else {
            return Ok(end);
        };
        let renewed: WireSubscription =
            serde_json::from_slice(&answer).map_err(GraphError::unreadable)?;
        // Without either it is no subscription, and perhaps no answer of Graph.
        if renewed.id.is_none() && renewed.expiration_date_time.is_none() {
            return Err(GraphError::Unreadable { line: 0, column: 0 });
        }
        Ok(expiration(&renewed).unwrap_or(end))
    }
}

#[async_trait]
impl ChangeNotifier for MsGraph {
    async fn subscribe(
        &self,
        token: &SecretString,
        endpoint: &PushEndpoint,
        client_state: &SecretString,
    ) -> PortResult<ProviderSubscription> {
        self.create(token, endpoint, client_state)
            .await
            .map_err(not_made)
    }

    async fn renew(
        &self,
        token: &SecretString,
        subscription_id: &str,
    ) -> PortResult<OffsetDateTime> {
        self.prolong(token, subscription_id).await.map_err(|error| {
            if is_gone(&error) {
                error.told_as(FailureClass::Permanent, "subscription_not_found")
            } else {
                error.into()
            }
        })
    }

    async fn unsubscribe(&self, token: &SecretString, subscription_id: &str) -> PortResult<()> {
        let target = Target::service(["subscriptions", subscription_id]);
        match self
            .transport
            .change(Method::DELETE, token, target, None)
            .await
        {
            Err(error) if !is_gone(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn subscriptions(&self, token: &SecretString) -> PortResult<Vec<ProviderSubscription>> {
        let mut subscriptions = Vec::new();
        let now = self.transport.now();
        let target = Target::service(["subscriptions"]);
        self.list(token, &Mailbox::Own, target, |entries| {
            subscriptions.extend(
                entries
                    .iter()
                    .filter_map(|raw| subscription(serde_json::from_str(raw.get()).ok()?, now)),
            );
        })
        .await?;
        Ok(subscriptions)
    }

    fn notifications(&self, body: &[u8]) -> PortResult<Vec<Notification>> {
        Ok(notifications::read(body)?)
    }
}

fn is_too_long(error: &GraphError) -> bool {
    error.complaint() == Some(Complaint::Lifetime)
}

fn is_gone(error: &GraphError) -> bool {
    matches!(error.status(), Some(404 | 410))
}

/// Why there is no subscription.
fn not_made(error: GraphError) -> PortError {
    match (error.complaint(), error.status()) {
        (Some(Complaint::Endpoint), _) => {
            error.told_as(FailureClass::Retryable, "push_endpoint_unreachable")
        }
        (Some(Complaint::Quota), _) => error.into(),
        // Outlook gives none for the mailboxes of others.
        (_, Some(403)) => error.told_as(FailureClass::Permanent, "push_unsupported"),
        _ => error.into(),
    }
}

/// A subscription that has an id; without an end it ends at `end`.
fn subscription(wire: WireSubscription, end: OffsetDateTime) -> Option<ProviderSubscription> {
    let expires_at = expiration(&wire).unwrap_or(end);
    Some(ProviderSubscription {
        subscription_id: wire.id.filter(|id| is_usable_id(id))?,
        resource_path: wire.resource.unwrap_or_default(),
        notification_url: wire.notification_url.unwrap_or_default(),
        expires_at,
    })
}

fn expiration(wire: &WireSubscription) -> Option<OffsetDateTime> {
    parse_instant(wire.expiration_date_time.as_deref()?)
}
