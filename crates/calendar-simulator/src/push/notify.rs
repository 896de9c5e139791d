//! From changes to notifications. Several `updated` come of one change, as was seen of the real service.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Pushes;
use super::queue::{LineKey, Notice};
use crate::clock::later;
use crate::entra::tenant;
use crate::ids::{Kind, Reference, chance};
use crate::lock;
use crate::model::{Gone, Happened, Mailbox};
use crate::quirks::Quirks;
use crate::render::{stamp, write_local};
use crate::simulator::Simulator;
use crate::subscription::{LifecycleEvent, Subscription};

const CREATED: &str = "created";
const UPDATED: &str = "updated";
const DELETED: &str = "deleted";

/// An event as notifications name it.
struct Named {
    id: String,
    etag: String,
}

impl Simulator {
    /// Queues what the subscribers of a mailbox are told. Called under the world's lock.
    pub(crate) fn notify(&self, mailbox: &Mailbox, happened: &[Happened], bulk: bool) {
        let now = self.now();
        let quirks = self.quirks();
        let mut subscriptions = lock(&self.0.subscriptions);
        let told = subscriptions.live(now).iter().filter(|subscription| {
            subscription.mailbox == mailbox.number && !subscription.silenced
        });
        let mut queued = false;
        for subscription in told {
            let mut pushes = lock(&self.0.pushes);
            let news: Vec<(&str, Named)> = if bulk {
                self.summary(mailbox, subscription, happened)
            } else {
                happened
                    .iter()
                    .flat_map(|change| self.news(mailbox, subscription, change, &quirks))
                    .collect()
            };
            for (change, named) in news {
                if !covers(subscription, change) {
                    continue;
                }
                let body = self.change_body(mailbox, subscription, change, &named, &quirks);
                pushes.offer(&subscription.id, body, now, self.instant());
                queued = true;
            }
        }
        if queued {
            self.0.wake.notify_one();
        }
    }

    /// The notifications that a change makes, by change type.
    fn news(
        &self,
        mailbox: &Mailbox,
        subscription: &Subscription,
        change: &Happened,
        quirks: &Quirks,
    ) -> Vec<(&'static str, Named)> {
        let present = |number: u32| self.present(mailbox, subscription, number);
        let updates = |number: u32, count: u32| {
            (0..count).filter_map(move |_| Some((UPDATED, present(number)?)))
        };
        let after = quirks.notification_updates;
        match change {
            Happened::Created(number) => present(*number)
                .map(|named| (CREATED, named))
                .into_iter()
                .chain(updates(*number, after))
                .collect(),
            Happened::Updated(number) => updates(*number, after.max(1)).collect(),
            // Its immutable id is the same in the other calendar.
            Happened::Moved(gone) if subscription.immutable => {
                updates(gone.number, after.max(1)).collect()
            }
            Happened::Moved(gone) => [(DELETED, self.gone(mailbox, subscription, gone))]
                .into_iter()
                .chain(present(gone.number).map(|named| (CREATED, named)))
                .chain(updates(gone.number, after))
                .collect(),
            Happened::Deleted(gone) => vec![(DELETED, self.gone(mailbox, subscription, gone))],
        }
    }

    /// One notification for many new events.
    fn summary(
        &self,
        mailbox: &Mailbox,
        subscription: &Subscription,
        happened: &[Happened],
    ) -> Vec<(&'static str, Named)> {
        let Some(Happened::Created(number)) = happened.last() else {
            return Vec::new();
        };
        let change = if subscription.changes.created {
            CREATED
        } else {
            UPDATED
        };
        self.present(mailbox, subscription, *number)
            .map(|named| (change, named))
            .into_iter()
            .collect()
    }

    fn present(
        &self,
        mailbox: &Mailbox,
        subscription: &Subscription,
        number: u32,
    ) -> Option<Named> {
        let event = mailbox.events.get(&number)?;
        let named = Gone {
            number,
            generation: event.generation,
            forced_id: event.forced_id.clone(),
            version: event.item.version,
        };
        Some(self.gone(mailbox, subscription, &named))
    }

    fn gone(&self, mailbox: &Mailbox, subscription: &Subscription, gone: &Gone) -> Named {
        let id = gone.forced_id.clone().unwrap_or_else(|| {
            let immutable = subscription.immutable;
            self.0.ids.encode(&Reference {
                immutable,
                kind: Kind::Event,
                viewer: mailbox.number,
                owner: mailbox.number,
                number: gone.number,
                date: None,
                generation: if immutable { 0 } else { gone.generation },
            })
        });
        let key = self.0.ids.change_key(mailbox.number, gone.version);
        Named {
            id,
            etag: format!("W/\"{key}\""),
        }
    }

    fn change_body(
        &self,
        mailbox: &Mailbox,
        subscription: &Subscription,
        change: &str,
        named: &Named,
        quirks: &Quirks,
    ) -> Value {
        let unique = self.unique();
        let odd = |label: &str| {
            quirks.notification_spellings && self.0.ids.chance(label, &[unique]).is_multiple_of(2)
        };
        let address = |functional: bool| {
            if functional {
                format!("Users('{}')/events('{}')", mailbox.id, named.id)
            } else {
                format!("Users/{}/Events/{}", mailbox.id, named.id)
            }
        };
        let kind = if odd("notification-type") {
            "#microsoft.graph.event"
        } else {
            "#Microsoft.Graph.Event"
        };
        json!({
            "id": self.0.ids.uuid("notification", unique).to_string(),
            "subscriptionId": subscription.id,
            "subscriptionExpirationDateTime": expiry(subscription.expires_at, odd("notification-time")),
            "clientState": subscription.client_state,
            "changeType": change,
            "resource": address(odd("notification-resource")),
            "tenantId": tenant(&self.0.ids),
            "resourceData": {
                "@odata.type": kind,
                "@odata.id": address(odd("notification-address")),
                "@odata.etag": named.etag,
                "id": named.id,
            },
        })
    }

    /// Queues a lifecycle notification of a subscription that has an address for it.
    pub(crate) fn push_lifecycle(&self, subscription: &Subscription, event: LifecycleEvent) {
        let odd = self.quirks().notification_spellings;
        let notice = Notice {
            body: json!({
                "subscriptionId": subscription.id,
                "subscriptionExpirationDateTime": expiry(subscription.expires_at, odd),
                "tenantId": tenant(&self.0.ids),
                "clientState": subscription.client_state,
                "lifecycleEvent": event.name(),
            }),
            url: subscription.lifecycle_url.clone(),
            queued_at: self.now(),
            not_before: self.instant(),
            refused: false,
        };
        let key = LineKey {
            subscription: subscription.id.clone(),
            lifecycle: true,
        };
        lock(&self.0.pushes).queue.add(key, notice);
        self.0.wake.notify_one();
    }
}

impl Pushes {
    /// Queues a change notification, with what is to go wrong with it.
    fn offer(&mut self, subscription: &str, body: Value, clock: Timestamp, now: Instant) {
        let faults = self.faults.clone();
        self.offered += 1;
        let drawn = |label: &str, per_mille: u32| {
            chance(faults.seed, label, &[self.offered]) % 1000 < u64::from(per_mille)
        };
        let is_dropped =
            faults.drop_every > 0 && self.offered.is_multiple_of(u64::from(faults.drop_every));
        if is_dropped || drawn("lost", faults.lost_per_mille) {
            self.counts.lost += 1;
            return;
        }
        let mut wait = if faults.reorder_ms > 0 {
            faults.reorder_ms
        } else {
            faults.delay_ms
        };
        if drawn("late", faults.late_per_mille) {
            wait = wait.saturating_add(faults.late_ms);
        }
        let more = u32::from(drawn("doubled", faults.doubled_per_mille));
        let notice = Notice {
            body,
            url: None,
            queued_at: clock,
            not_before: later(now, Duration::from_millis(wait)),
            refused: false,
        };
        let key = LineKey {
            subscription: subscription.to_owned(),
            lifecycle: false,
        };
        for _ in 0..=faults.duplicates.saturating_add(more) {
            if faults.reorder_ms > 0 {
                self.queue.add_reversed(key.clone(), notice.clone(), now);
            } else {
                self.queue.add(key.clone(), notice.clone());
            }
        }
    }
}

fn covers(subscription: &Subscription, change: &str) -> bool {
    match change {
        CREATED => subscription.changes.created,
        DELETED => subscription.changes.deleted,
        _ => subscription.changes.updated,
    }
}

/// A subscription's end, in UTC or as a data centre in America writes it.
fn expiry(at: Timestamp, odd: bool) -> String {
    if !odd {
        return stamp(at);
    }
    let mut text = String::with_capacity(33);
    write_local(&mut text, jiff::tz::Offset::constant(-8).to_datetime(at));
    text.push_str("-08:00");
    text
}
