//! Typed ids: the UUIDs of our tables, one type each, so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

fn fresh() -> Uuid {
    #[cfg(feature = "seeded")]
    if let Some(id) = seeded::next() {
        return id;
    }
    Uuid::now_v7()
}

/// Ids that follow from a seed, for simulations that have to replay step by step.
#[cfg(feature = "seeded")]
pub mod seeded {
    use std::cell::Cell;

    use sha2::{Digest as _, Sha256};
    use uuid::Uuid;

    thread_local! {
        static MADE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    /// From now on, new ids on this thread follow from `seed` and from how many there were; they ascend,
    /// as UUIDv7 does.
    pub fn seed(seed: u64) {
        MADE.set(Some((seed, 0)));
    }

    pub(super) fn next() -> Option<Uuid> {
        let (seed, made) = MADE.get()?;
        MADE.set(Some((seed, made + 1)));
        let random = Sha256::digest([seed.to_be_bytes(), made.to_be_bytes()].concat());
        let mut bits = [0; 10];
        bits.copy_from_slice(&random[..10]);
        Some(uuid::Builder::from_unix_timestamp_millis(made, &bits).into_uuid())
    }
}

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
                Self(fresh())
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
    /// One event that was set aside (`calendar_rejected_events.id`).
    RejectedEventId;
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
