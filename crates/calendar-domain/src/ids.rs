//! Typed ids: the UUIDs of our tables, one type each, so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! typed_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id: UUIDv7, so that rows inserted together lie together in the index.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "a default id would not be a default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )*};
}

typed_id! {
    /// A user of the service (`users.id`).
    UserId;
    /// One sign-in of one user at one provider (`calendar_accounts.id`).
    AccountId;
    /// One calendar (`calendar_connections.id`).
    ConnectionId;
    /// One event, series master or instance (`calendar_events.id`).
    EventId;
    /// One sign-in at our API (`api_sessions.id`).
    SessionId;
    /// One service key (`api_keys.id`).
    ApiKeyId;
    /// One OAuth round trip (`connect_sessions.id`).
    ConnectSessionId;
    /// One pass over one connection, over all its pages and restarts (`calendar_sync_states.pass_id`).
    PassId;
    /// One push subscription (`webhook_subscriptions.id`).
    SubscriptionId;
    /// One worker process (`calendar_accounts.lease_owner`).
    WorkerId;
    /// A turn of a mailbox that a request outside of claims holds (`mailbox_turns.holder`).
    TurnId;
}
