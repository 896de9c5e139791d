//! Notifications on their way to subscribers: what waits, what goes wrong on purpose, what was sent. How a change
//! becomes a notification is in `push/notify.rs`, the queue in `push/queue.rs`, sending in `push/delivery.rs`.

mod delivery;
mod notify;
mod queue;

use std::collections::VecDeque;

pub(crate) use delivery::{NOT_REACHED, VALIDATION_ERROR, client, deliver};
use jiff::Timestamp;
pub(crate) use queue::Queue;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::lock;
use crate::simulator::Simulator;

/// How many sendings the log keeps.
const LOG: usize = 1000;

/// What goes wrong with the change notifications queued from now on; nothing by default. Lifecycle notifications are
/// left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PushFaults {
    /// Each so-manieth notification is lost: 1 all of them, 2 every second one, 0 none.
    pub drop_every: u32,
    /// Each is sent so many times more.
    pub duplicates: u32,
    /// Each waits so long first.
    pub delay_ms: u64,
    /// A subscription's notifications are held back so long from the first on and then sent the last one first; 0 keeps
    /// their order. Takes the place of `delay_ms`.
    pub reorder_ms: u64,
    /// What is drawn of `lost_per_mille`, `doubled_per_mille` and `late_per_mille` follows from it, and from how many
    /// notifications there were before.
    pub seed: u64,
    /// So many of a thousand are lost.
    pub lost_per_mille: u32,
    /// So many of a thousand are sent once more.
    pub doubled_per_mille: u32,
    /// So many of a thousand wait `late_ms` more, and those after them for the same subscription behind them.
    pub late_per_mille: u32,
    /// How long late ones wait.
    pub late_ms: u64,
    /// Graph shows a change (in delta and everywhere else) only so long after it was made, while its notification
    /// leaves at once. The answer to the change itself and the truth of the admin interface do show it.
    pub visible_after_ms: u64,
}

/// Notifications so far, change and lifecycle alike. Each attempt to send one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushCounts {
    /// Sent, whatever came of it.
    pub sent: u64,
    /// Answered with 2xx in time.
    pub delivered: u64,
    /// Answered otherwise, late or not at all: will be sent again.
    pub refused: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Not sent again, because four hours had passed.
    pub given_up: u64,
    /// Queued or being sent now; 0 when all is quiet.
    pub waiting: u64,
}

/// What a sending was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PushKind {
    /// Change notifications.
    Change,
    /// Lifecycle notifications.
    Lifecycle,
    /// The question whether the address is the subscriber's.
    Validation,
}

/// One request that the simulator sent, with what came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushRecord {
    /// When it left, by the simulator's clock.
    #[serde(serialize_with = "text")]
    pub at: Timestamp,
    /// What it was about.
    pub kind: PushKind,
    /// Where it went.
    pub url: String,
    /// The body; null for a validation.
    pub body: Value,
    /// The status answered; `None` when there was no answer in time.
    pub status: Option<u16>,
    /// Milliseconds until the answer, or until giving up on it.
    pub took_ms: u64,
}

/// A request to a subscriber that is left to a test to send, see [`crate::Options::manual`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldPush {
    /// What it is about.
    pub kind: PushKind,
    /// Where it is to go, by POST.
    pub url: String,
    /// Its `Content-Type`.
    pub content_type: String,
    /// Its body: `{"value": [notification]}`, one notification.
    pub body: String,
}

fn text<S: serde::Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(at)
}

/// Everything about notifications behind one lock.
#[derive(Debug, Default)]
pub(crate) struct Pushes {
    pub(crate) faults: PushFaults,
    counts: PushCounts,
    /// Change notifications so far, for `drop_every`.
    offered: u64,
    queue: Queue,
    log: VecDeque<PushRecord>,
}

impl Pushes {
    fn record(&mut self, record: PushRecord) {
        if self.log.len() >= LOG {
            self.log.pop_front();
        }
        self.log.push_back(record);
    }
}

impl Simulator {
    /// What goes wrong with notifications.
    #[must_use]
    pub fn pushes(&self) -> PushFaults {
        lock(&self.0.pushes).faults.clone()
    }

    /// Replaces what goes wrong with notifications, for those to come. What waits already keeps its delay.
    pub fn set_pushes(&self, faults: PushFaults) {
        lock(&self.0.pushes).faults = faults;
    }

    /// How many notifications were sent and what became of them.
    #[must_use]
    pub fn push_counts(&self) -> PushCounts {
        let pushes = lock(&self.0.pushes);
        PushCounts {
            waiting: pushes.queue.waiting(),
            ..pushes.counts
        }
    }

    /// The newest thousand requests sent to subscribers, oldest first.
    #[must_use]
    pub fn push_log(&self) -> Vec<PushRecord> {
        lock(&self.0.pushes).log.iter().cloned().collect()
    }

    /// Forgets the requests sent to subscribers. The counts stay.
    pub fn clear_push_log(&self) {
        lock(&self.0.pushes).log.clear();
    }
}
