//! Change-notification subscriptions: what is kept of them, and what a test can do to them without HTTP. Their endpoint
//! is in `graph/subscriptions.rs`, their notifications in `push.rs`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::GraphError;
use crate::simulator::Simulator;
use crate::{lock, read};

/// What a subscriber wants to hear of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChangeTypes {
    pub(crate) created: bool,
    pub(crate) updated: bool,
    pub(crate) deleted: bool,
}

impl ChangeTypes {
    /// Comma separated, as in `changeType`; `None` when it is none of ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for name in text.split(',') {
            match name.trim().to_ascii_lowercase().as_str() {
                "created" => found.created = true,
                "updated" => found.updated = true,
                "deleted" => found.deleted = true,
                _ => return None,
            }
        }
        Some(found)
    }
}

/// A subscription to the events of a mailbox.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) mailbox: u32,
    pub(crate) application: String,
    /// The user's id.
    pub(crate) creator: String,
    /// As it was sent.
    pub(crate) resource: String,
    /// As it was sent.
    pub(crate) change_type: String,
    pub(crate) changes: ChangeTypes,
    pub(crate) client_state: Option<String>,
    pub(crate) notification_url: String,
    pub(crate) lifecycle_url: Option<String>,
    pub(crate) tls_version: String,
    pub(crate) expires_at: Timestamp,
    pub(crate) renewed_at: Option<Timestamp>,
    /// Notifications carry immutable ids.
    pub(crate) immutable: bool,
    /// It was asked to reauthorize and has not yet: nothing is sent.
    pub(crate) silenced: bool,
}

/// The subscriptions of all mailboxes, in the order of their creation.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions(Vec<Subscription>);

impl Subscriptions {
    /// Those that have not expired; the others disappear.
    pub(crate) fn live(&mut self, now: Timestamp) -> &mut Vec<Subscription> {
        self.0.retain(|subscription| now < subscription.expires_at);
        &mut self.0
    }
}

/// A subscription as a test or the admin interface sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionInfo {
    /// Graph's id of it.
    pub id: String,
    /// The user principal name of the mailbox.
    pub mailbox: String,
    /// `resource` as the subscriber sent it.
    pub resource: String,
    /// `changeType` as the subscriber sent it.
    pub change_type: String,
    /// Where notifications go.
    pub notification_url: String,
    /// Where lifecycle notifications go.
    pub lifecycle_notification_url: Option<String>,
    /// The subscriber's secret, which every notification carries.
    pub client_state: Option<String>,
    /// When it disappears, by the simulator's clock.
    #[serde(serialize_with = "text")]
    pub expires_at: Timestamp,
    /// When its expiry was last moved by a PATCH; `None` before the first.
    #[serde(serialize_with = "text_or_null")]
    pub renewed_at: Option<Timestamp>,
    /// `reauthorizationRequired` was sent and neither a reauthorize nor a PATCH came: nothing is sent until then.
    pub awaits_reauthorization: bool,
}

fn text<S: serde::Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

#[expect(clippy::ref_option, reason = "serde hands it over like this")]
fn text_or_null<S: serde::Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => to.collect_str(at),
        None => to.serialize_none(),
    }
}

/// What Graph says about a subscription rather than about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LifecycleEvent {
    /// Notifications were lost.
    Missed,
    /// The subscription is gone.
    SubscriptionRemoved,
    /// Notifications stop until the subscriber reauthorizes or renews.
    ReauthorizationRequired,
}

impl LifecycleEvent {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::SubscriptionRemoved => "subscriptionRemoved",
            Self::ReauthorizationRequired => "reauthorizationRequired",
        }
    }
}

/// Graph's answer to a subscription that is unknown, deleted, expired or another's.
pub(crate) fn unknown() -> GraphError {
    GraphError::new(404, "ResourceNotFound", "The object was not found.")
}

impl Simulator {
    /// Every live subscription, oldest first.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        let all = lock(&self.0.subscriptions).live(self.now()).clone();
        let world = read(&self.0.world);
        all.into_iter()
            .map(|subscription| SubscriptionInfo {
                mailbox: world
                    .mailbox(subscription.mailbox)
                    .map_or_else(String::new, |mailbox| mailbox.upn.clone()),
                id: subscription.id,
                resource: subscription.resource,
                change_type: subscription.change_type,
                notification_url: subscription.notification_url,
                lifecycle_notification_url: subscription.lifecycle_url,
                client_state: subscription.client_state,
                expires_at: subscription.expires_at,
                renewed_at: subscription.renewed_at,
                awaits_reauthorization: subscription.silenced,
            })
            .collect()
    }

    /// Removes a subscription without a word to its subscriber, whose next renewal answers 404.
    pub fn remove_subscription(&self, id: &str) -> Result<(), GraphError> {
        let now = self.now();
        let mut subscriptions = lock(&self.0.subscriptions);
        let live = subscriptions.live(now);
        let at = live
            .iter()
            .position(|subscription| subscription.id == id)
            .ok_or_else(unknown)?;
        live.remove(at);
        Ok(())
    }

    /// Lets a subscription's time run out now.
    pub fn expire_subscription(&self, id: &str) -> Result<(), GraphError> {
        let now = self.now();
        let mut subscriptions = lock(&self.0.subscriptions);
        let subscription = subscriptions
            .live(now)
            .iter_mut()
            .find(|subscription| subscription.id == id)
            .ok_or_else(unknown)?;
        subscription.expires_at = now;
        Ok(())
    }

    /// Sends a lifecycle notification. `SubscriptionRemoved` also removes the subscription;
    /// `ReauthorizationRequired` stops its notifications (changes meanwhile are never told) until a reauthorize or a
    /// PATCH. Refused with 404 when there is no such subscription, 400 when it has no lifecycle address.
    pub fn send_lifecycle(&self, id: &str, event: LifecycleEvent) -> Result<(), GraphError> {
        let now = self.now();
        let mut subscriptions = lock(&self.0.subscriptions);
        let live = subscriptions.live(now);
        let at = live
            .iter()
            .position(|subscription| subscription.id == id)
            .ok_or_else(unknown)?;
        if live[at].lifecycle_url.is_none() {
            return Err(GraphError::invalid(
                "The subscription has no lifecycleNotificationUrl.",
            ));
        }
        match event {
            LifecycleEvent::Missed => self.push_lifecycle(&live[at], event),
            LifecycleEvent::SubscriptionRemoved => {
                let removed = live.remove(at);
                self.push_lifecycle(&removed, event);
            }
            LifecycleEvent::ReauthorizationRequired => {
                live[at].silenced = true;
                self.push_lifecycle(&live[at], event);
            }
        }
        Ok(())
    }
}
