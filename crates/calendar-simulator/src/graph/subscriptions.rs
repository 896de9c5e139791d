//! Subscriptions as an endpoint: what Graph accepts, whom it asks, what it answers.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::{Context, READ, no_method, no_segment};
use crate::error::GraphError;
use crate::http::Answer;
use crate::simulator::members;
use crate::subscription::{ChangeTypes, Subscription, unknown};
use crate::{lock, read, render};

/// No subscription ends sooner than this from now.
const SHORTEST: SignedDuration = SignedDuration::from_mins(45);
/// Nor later than this, as the service words it.
const LONGEST_MINUTES: i64 = 10_080;
const MAX_CLIENT_STATE: usize = 128;

/// A create request that is well-formed.
struct Wanted {
    resource: String,
    change_type: String,
    changes: ChangeTypes,
    client_state: Option<String>,
    notification_url: String,
    lifecycle_url: Option<String>,
    tls_version: String,
    expires_at: Timestamp,
}

impl Context<'_> {
    /// `/subscriptions...`; the segments after that.
    pub(super) async fn subscriptions(
        &self,
        lower: &[&str],
        exact: &[&str],
    ) -> Result<Answer, GraphError> {
        match (self.request.method.as_str(), lower) {
            ("GET", []) => self.list_subscriptions(),
            ("POST", []) => self.create_subscription().await,
            ("GET", [_]) => self.with_own(exact[0], |own| Ok(self.answer(200, own))),
            ("PATCH", [_]) => self.renew_subscription(exact[0]).await,
            ("DELETE", [_]) => {
                self.with_own(exact[0], |_| Ok(()))?;
                self.simulator.remove_subscription(exact[0])?;
                Ok(Answer::empty(204))
            }
            ("POST", [_, "reauthorize" | "microsoft.graph.reauthorize"]) => {
                self.with_own(exact[0], |own| {
                    own.silenced = false;
                    Ok(Answer::empty(204))
                })
            }
            (_, [] | [_] | [_, "reauthorize" | "microsoft.graph.reauthorize"]) => Err(no_method()),
            (_, other) => Err(no_segment(other.last().copied().unwrap_or_default())),
        }
    }

    fn is_own(&self, subscription: &Subscription) -> bool {
        subscription.mailbox == self.session.mailbox
            && subscription.application == self.session.application
    }

    /// Does something with a live subscription of this user and application, under the lock.
    fn with_own<T>(
        &self,
        id: &str,
        act: impl FnOnce(&mut Subscription) -> Result<T, GraphError>,
    ) -> Result<T, GraphError> {
        let now = self.simulator.now();
        let mut subscriptions = lock(&self.simulator.0.subscriptions);
        let own = subscriptions
            .live(now)
            .iter_mut()
            .find(|subscription| subscription.id == id && self.is_own(subscription))
            .ok_or_else(unknown)?;
        act(own)
    }

    fn list_subscriptions(&self) -> Result<Answer, GraphError> {
        let now = self.simulator.now();
        let own: Vec<String> = lock(&self.simulator.0.subscriptions)
            .live(now)
            .iter()
            .filter(|subscription| self.is_own(subscription))
            .map(|subscription| self.selected(shown(subscription)).to_string())
            .collect();
        self.list(&self.context("subscriptions"), own.len(), |from, to| {
            own[from..to].join(",")
        })
    }

    async fn create_subscription(&self) -> Result<Answer, GraphError> {
        let wanted = self.wanted(members(&self.request.json()?)?)?;
        let creator = self.check_access(&wanted.resource)?;
        let now = self.simulator.now();
        self.refuse_duplicate(
            lock(&self.simulator.0.subscriptions).live(now),
            wanted.changes,
        )?;
        self.simulator.validate(&wanted.notification_url).await?;
        if let Some(url) = &wanted.lifecycle_url {
            self.simulator.validate(url).await?;
        }
        let now = self.simulator.now();
        let ids = &self.simulator.0.ids;
        // A simulator that starts anew must not give the id of a subscription that its clients still remember.
        let number = ids.chance(
            "subscription",
            &[self.simulator.unique(), now.as_microsecond().unsigned_abs()],
        );
        let subscription = Subscription {
            id: ids.uuid("subscription", number).to_string(),
            mailbox: self.session.mailbox,
            application: self.session.application.clone(),
            creator,
            resource: wanted.resource,
            change_type: wanted.change_type,
            changes: wanted.changes,
            client_state: wanted.client_state,
            notification_url: wanted.notification_url,
            lifecycle_url: wanted.lifecycle_url,
            tls_version: wanted.tls_version,
            expires_at: wanted.expires_at,
            renewed_at: None,
            immutable: self.preferences.immutable,
            silenced: false,
        };
        let answer = self.answer(201, &subscription);
        let mut subscriptions = lock(&self.simulator.0.subscriptions);
        let live = subscriptions.live(now);
        // Asked again: another request may have been faster while the subscriber was thinking.
        self.refuse_duplicate(live, subscription.changes)?;
        live.push(subscription);
        Ok(answer)
    }

    async fn renew_subscription(&self, id: &str) -> Result<Answer, GraphError> {
        let body = self.request.json()?;
        let body = members(&body)?;
        self.with_own(id, |_| Ok(()))?;
        if let Some(other) = body.keys().find(|member| {
            !member.starts_with('@')
                && !matches!(member.as_str(), "expirationDateTime" | "notificationUrl")
        }) {
            return Err(invalid(format!("'{other}' can't be changed.")));
        }
        let now = self.simulator.now();
        let url = match body.get("notificationUrl") {
            Some(_) => Some(address(body, "notificationUrl")?),
            None => None,
        };
        let expires_at = match (body.get("expirationDateTime"), &url) {
            (None, Some(_)) => None,
            _ => Some(expiration(body, now)?),
        };
        if let Some(url) = &url {
            self.simulator.validate(url).await?;
        }
        self.with_own(id, |own| {
            if let Some(expires_at) = expires_at {
                own.expires_at = expires_at;
                own.renewed_at = Some(now);
            }
            if let Some(url) = url {
                own.notification_url = url;
            }
            own.silenced = false;
            Ok(self.answer(200, own))
        })
    }

    fn answer(&self, status: u16, subscription: &Subscription) -> Answer {
        let mut body = shown(subscription);
        body["@odata.context"] = self.context("subscriptions/$entity").into();
        Answer::graph(status, body.to_string())
    }

    fn wanted(&self, body: &Map<String, Value>) -> Result<Wanted, GraphError> {
        let resource = text(body, "resource")?;
        let change_type = text(body, "changeType")?;
        let changes = ChangeTypes::parse(&change_type).ok_or_else(|| {
            invalid(format!(
                "'{change_type}' is no valid changeType for this resource."
            ))
        })?;
        let client_state = optional(body, "clientState")?;
        if client_state
            .as_ref()
            .is_some_and(|state| state.chars().count() > MAX_CLIENT_STATE)
        {
            return Err(invalid(format!(
                "clientState must not be longer than {MAX_CLIENT_STATE} characters."
            )));
        }
        if body.get("includeResourceData") == Some(&Value::Bool(true)) {
            return Err(GraphError::new(
                501,
                "SimulatorUnsupported",
                "The simulator does not send resource data.",
            ));
        }
        let tls_version =
            optional(body, "latestSupportedTlsVersion")?.unwrap_or_else(|| "v1_2".to_owned());
        if !matches!(tls_version.as_str(), "v1_0" | "v1_1" | "v1_2" | "v1_3") {
            return Err(invalid("latestSupportedTlsVersion is invalid."));
        }
        let lifecycle_url = match body.get("lifecycleNotificationUrl") {
            None | Some(Value::Null) => None,
            Some(_) => Some(address(body, "lifecycleNotificationUrl")?),
        };
        Ok(Wanted {
            notification_url: address(body, "notificationUrl")?,
            expires_at: expiration(body, self.simulator.now())?,
            resource,
            change_type,
            changes,
            client_state,
            lifecycle_url,
            tls_version,
        })
    }

    /// Whether the session may subscribe to a resource; gives the user's id. Only one's own mailbox, whatever others
    /// share: their changes cannot be subscribed to with delegated permissions.
    fn check_access(&self, resource: &str) -> Result<String, GraphError> {
        let user = events_of(resource).ok_or_else(|| {
            invalid(format!(
                "The resource '{resource}' is not one that subscriptions are offered for."
            ))
        })?;
        let world = read(&self.simulator.0.world);
        let number = match user {
            User::Me => self.session.mailbox,
            User::Named(name) => world.find(&name).ok_or_else(|| {
                GraphError::new(404, "ResourceNotFound", "Resource could not be discovered.")
            })?,
        };
        if number != self.session.mailbox || !self.session.may(&READ) {
            return Err(GraphError::new(
                403,
                "ExtensionError",
                "Operation: Create; Exception: [Status Code: Forbidden; Reason: Forbidden]",
            ));
        }
        world
            .mailbox(number)
            .map(|mailbox| mailbox.id.clone())
            .ok_or_else(unknown)
    }

    /// 409 when the user and application have a live subscription to the same changes. Every resource there is comes down
    /// to the events of the session's mailbox.
    fn refuse_duplicate(
        &self,
        live: &[Subscription],
        changes: ChangeTypes,
    ) -> Result<(), GraphError> {
        if !self.simulator.quirks().duplicate_subscriptions_refused {
            return Ok(());
        }
        let same = live
            .iter()
            .find(|subscription| self.is_own(subscription) && subscription.changes == changes);
        match same {
            None => Ok(()),
            Some(other) => Err(GraphError::new(
                409,
                "Conflict",
                format!(
                    "Subscription Id {} already exists for the requested combination",
                    other.id
                ),
            )),
        }
    }
}

fn shown(subscription: &Subscription) -> Value {
    json!({
        "id": subscription.id,
        "resource": subscription.resource,
        "applicationId": subscription.application,
        "changeType": subscription.change_type,
        "clientState": subscription.client_state,
        "notificationUrl": subscription.notification_url,
        "notificationQueryOptions": null,
        "notificationContentType": null,
        "lifecycleNotificationUrl": subscription.lifecycle_url,
        "expirationDateTime": render::stamp(subscription.expires_at),
        "creatorId": subscription.creator,
        "includeResourceData": null,
        "latestSupportedTlsVersion": subscription.tls_version,
        "encryptionCertificate": null,
        "encryptionCertificateId": null,
        "notificationUrlAppId": null,
    })
}

fn invalid(message: impl Into<String>) -> GraphError {
    GraphError::new(400, "InvalidRequest", message)
}

fn optional(body: &Map<String, Value>, member: &str) -> Result<Option<String>, GraphError> {
    match body.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(unreadable(member)),
    }
}

fn text(body: &Map<String, Value>, member: &str) -> Result<String, GraphError> {
    optional(body, member)?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| unreadable(member))
}

fn unreadable(member: &str) -> GraphError {
    invalid(format!(
        "Could not process subscription creation payload. Are all property names spelled and camelCased properly? '{member}' is missing or invalid."
    ))
}

/// An address that notifications may go to: https, or this machine.
fn address(body: &Map<String, Value>, member: &str) -> Result<String, GraphError> {
    let given = text(body, member)?;
    let url = Url::parse(&given).map_err(|_| invalid(format!("'{member}' is no valid URL.")))?;
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && is_loopback) {
        Ok(given)
    } else {
        Err(invalid(format!("'{member}' must start with https.")))
    }
}

/// When a subscription is to end: with a zone, ahead of us, not too far; raised when too near.
fn expiration(body: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, GraphError> {
    let member = "expirationDateTime";
    // Without zone it is no instant, and Graph does not guess.
    let asked: Timestamp = text(body, member)?
        .parse()
        .map_err(|_| unreadable(member))?;
    let ahead = asked.duration_since(now);
    if ahead <= SignedDuration::ZERO {
        return Err(invalid(
            "The expirationDateTime of a subscription must be in the future.",
        ));
    }
    if ahead > SignedDuration::from_mins(LONGEST_MINUTES) {
        return Err(GraphError::new(
            400,
            "ExtensionError",
            format!("Subscription expiration can only be {LONGEST_MINUTES} minutes in the future."),
        ));
    }
    Ok(now
        .checked_add(ahead.max(SHORTEST))
        .unwrap_or(Timestamp::MAX))
}

/// Whose events a resource means.
#[derive(Debug, PartialEq, Eq)]
enum User {
    Me,
    /// By user principal name or id.
    Named(String),
}

/// The user in a resource that means all events of a mailbox; `None` for another resource. There are no subscriptions
/// to the events of a single calendar.
fn events_of(resource: &str) -> Option<User> {
    let path = resource.strip_prefix('/').unwrap_or(resource);
    let (user, events) = path.rsplit_once('/')?;
    if !events.eq_ignore_ascii_case("events") {
        return None;
    }
    if user.eq_ignore_ascii_case("me") {
        return Some(User::Me);
    }
    let (users, name) = user.split_at_checked(5)?;
    if !users.eq_ignore_ascii_case("users") {
        return None;
    }
    let name = name
        .strip_prefix('/')
        .or_else(|| name.strip_prefix("('")?.strip_suffix("')"))?;
    let name = percent_encoding::percent_decode_str(name)
        .decode_utf8_lossy()
        .into_owned();
    (!name.is_empty() && !name.contains('/')).then_some(User::Named(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_name_a_mailbox_or_are_refused() {
        let named = |name: &str| Some(User::Named(name.to_owned()));
        for (resource, expected) in [
            ("me/events", Some(User::Me)),
            ("/me/events", Some(User::Me)),
            ("/Me/Events", Some(User::Me)),
            ("users/a@b.example/events", named("a@b.example")),
            ("/users/a%40b.example/events", named("a@b.example")),
            ("/users('a@b.example')/events", named("a@b.example")),
            ("me/calendars/1/events", None),
            ("me/calendar/events", None),
            ("users/a/calendars/1/events", None),
            ("users//events", None),
            ("users('a)/events", None),
            ("usersa/events", None),
            ("me/events?$select=subject", None),
            ("me/messages", None),
            ("events", None),
            ("", None),
        ] {
            assert_eq!(events_of(resource), expected, "{resource}");
        }
    }
}
