//! What waits to be sent: a line per subscription, in which order is kept, and another for its lifecycle notifications.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::PushKind;

/// Notifications in one request.
const BATCH: usize = 100;
/// Requests at a time to one address.
const PER_ADDRESS: u32 = 4;
/// A notification that was refused is given up after this, by the simulator's clock.
const GIVE_UP: SignedDuration = SignedDuration::from_hours(4);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A notification that waits.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) body: Value,
    /// Of a lifecycle notification its address: it goes out although the subscription may be gone.
    pub(super) url: Option<String>,
    pub(super) queued_at: Timestamp,
    pub(super) not_before: Instant,
    pub(super) refused: bool,
}

/// Whose line it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineKey {
    pub(super) subscription: String,
    pub(super) lifecycle: bool,
}

#[derive(Debug, Default)]
struct Line {
    notices: VecDeque<Notice>,
    /// How many are being sent. As long as there are any, nothing else of the line is.
    under_way: usize,
    failures: u32,
    /// After a failure: when to try again.
    not_before: Option<Instant>,
}

impl Line {
    fn due(&self) -> Option<Instant> {
        let first = self.notices.front()?.not_before;
        Some(self.not_before.map_or(first, |wait| wait.max(first)))
    }
}

/// The notifications of one request.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) url: String,
    pub(super) lifecycle: bool,
    pub(super) parts: Vec<(LineKey, Vec<Notice>)>,
}

impl Batch {
    pub(super) fn kind(&self) -> PushKind {
        if self.lifecycle {
            PushKind::Lifecycle
        } else {
            PushKind::Change
        }
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|(_, notices)| notices.len()).sum()
    }
}

/// What can be sent now.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) batches: Vec<Batch>,
    /// When to look again, if nothing happens before.
    pub(super) next: Option<Instant>,
    pub(super) given_up: u64,
}

/// All lines.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: BTreeMap<LineKey, Line>,
    under_way: HashMap<String, u32>,
}

impl Queue {
    pub(super) fn waiting(&self) -> u64 {
        self.lines
            .values()
            .map(|line| (line.notices.len() + line.under_way) as u64)
            .sum()
    }

    pub(super) fn add(&mut self, key: LineKey, notice: Notice) {
        let line = self.lines.entry(key).or_default();
        line.notices.push_back(notice);
    }

    /// Adds a notification in front of those that are held back with it: until the same instant, or a new one when none
    /// are.
    pub(super) fn add_reversed(&mut self, key: LineKey, mut notice: Notice, now: Instant) {
        let line = self.lines.entry(key).or_default();
        let held = line
            .notices
            .back()
            .map(|last| last.not_before)
            .filter(|until| *until > now);
        let Some(until) = held else {
            line.notices.push_back(notice);
            return;
        };
        notice.not_before = until;
        let at = line
            .notices
            .iter()
            .position(|other| other.not_before == until)
            .unwrap_or(line.notices.len());
        line.notices.insert(at, notice);
    }

    /// Takes what can be sent now. `addresses` has the subscriptions that are told of changes; the lines of others are
    /// dropped.
    pub(super) fn take(
        &mut self,
        addresses: &HashMap<String, String>,
        now: Instant,
        clock: Timestamp,
    ) -> Ready {
        self.lines.retain(|key, line| {
            if !key.lifecycle && !addresses.contains_key(&key.subscription) {
                line.notices.clear();
            }
            line.under_way > 0 || !line.notices.is_empty()
        });
        let mut ready = Ready::default();
        // Per address the batch that is being filled; its place in `ready.batches`.
        let mut open: HashMap<(String, bool), usize> = HashMap::new();
        for (key, line) in &mut self.lines {
            let before = line.notices.len();
            line.notices.retain(|notice| {
                !notice.refused || clock.duration_since(notice.queued_at) < GIVE_UP
            });
            ready.given_up += (before - line.notices.len()) as u64;
            if line.under_way > 0 {
                continue;
            }
            let (Some(due), Some(first)) = (line.due(), line.notices.front()) else {
                continue;
            };
            if due > now {
                ready.next = Some(ready.next.map_or(due, |next| next.min(due)));
                continue;
            }
            let Some(url) = first
                .url
                .clone()
                .or_else(|| addresses.get(&key.subscription).cloned())
            else {
                continue;
            };
            let slot = (url, key.lifecycle);
            let at = match open.get(&slot) {
                Some(at) if ready.batches[*at].len() < BATCH => *at,
                _ => {
                    let busy = self.under_way.entry(slot.0.clone()).or_default();
                    // Whoever finishes looks again.
                    if *busy >= PER_ADDRESS {
                        continue;
                    }
                    *busy += 1;
                    ready.batches.push(Batch {
                        url: slot.0.clone(),
                        lifecycle: key.lifecycle,
                        parts: Vec::new(),
                    });
                    open.insert(slot.clone(), ready.batches.len() - 1);
                    ready.batches.len() - 1
                }
            };
            let room = BATCH - ready.batches[at].len();
            let count = line
                .notices
                .iter()
                .take(room)
                .take_while(|notice| {
                    notice.not_before <= now
                        && notice.url.as_ref().is_none_or(|other| *other == slot.0)
                })
                .count();
            let part: Vec<Notice> = line.notices.drain(..count).collect();
            line.under_way = part.len();
            ready.batches[at].parts.push((key.clone(), part));
        }
        ready
    }

    /// What was sent has arrived, or has not and goes back to the head of its lines.
    pub(super) fn finish(&mut self, batch: Batch, delivered: bool, now: Instant) {
        if let Some(busy) = self.under_way.get_mut(&batch.url) {
            *busy = busy.saturating_sub(1);
            if *busy == 0 {
                self.under_way.remove(&batch.url);
            }
        }
        for (key, notices) in batch.parts {
            let line = self.lines.entry(key).or_default();
            line.under_way = 0;
            if delivered {
                line.failures = 0;
                line.not_before = None;
                continue;
            }
            let wait = FIRST_WAIT * 2_u32.saturating_pow(line.failures.min(16));
            line.failures += 1;
            line.not_before = Some(now + wait.min(LONGEST_WAIT));
            for mut notice in notices.into_iter().rev() {
                notice.refused = true;
                line.notices.push_front(notice);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(subscription: &str) -> LineKey {
        LineKey {
            subscription: subscription.to_owned(),
            lifecycle: false,
        }
    }

    fn notice(body: &str, now: Instant) -> Notice {
        Notice {
            body: json!(body),
            url: None,
            queued_at: Timestamp::UNIX_EPOCH,
            not_before: now,
            refused: false,
        }
    }

    fn addresses(all: &[(&str, &str)]) -> HashMap<String, String> {
        all.iter()
            .map(|(id, url)| ((*id).to_owned(), (*url).to_owned()))
            .collect()
    }

    fn bodies(batch: &Batch) -> Vec<&str> {
        batch
            .parts
            .iter()
            .flat_map(|(_, notices)| notices.iter().filter_map(|notice| notice.body.as_str()))
            .collect()
    }

    #[test]
    fn one_request_holds_what_waits_for_an_address() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        for (id, body) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
            queue.add(key(id), notice(body, now));
        }
        let to = addresses(&[("a", "x"), ("b", "x"), ("c", "y")]);
        let ready = queue.take(&to, now, Timestamp::UNIX_EPOCH);
        assert_eq!(ready.batches.len(), 2);
        assert_eq!(bodies(&ready.batches[0]), ["1", "3", "2"]);
        assert_eq!(bodies(&ready.batches[1]), ["4"]);
        assert_eq!(queue.waiting(), 4);
    }

    #[test]
    fn a_line_waits_for_its_own_request_and_others_do_not() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        let to = addresses(&[("a", "x"), ("b", "x")]);
        queue.add(key("a"), notice("1", now));
        let first = queue
            .take(&to, now, Timestamp::UNIX_EPOCH)
            .batches
            .remove(0);
        queue.add(key("a"), notice("2", now));
        queue.add(key("b"), notice("3", now));
        let second = queue
            .take(&to, now, Timestamp::UNIX_EPOCH)
            .batches
            .remove(0);
        assert_eq!(bodies(&second), ["3"]);
        queue.finish(first, true, now);
        let third = queue
            .take(&to, now, Timestamp::UNIX_EPOCH)
            .batches
            .remove(0);
        assert_eq!(bodies(&third), ["2"]);
    }

    #[test]
    fn a_hundred_at_most_and_four_requests_at_a_time() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        let ids: Vec<String> = (0..6).map(|n| n.to_string()).collect();
        for id in &ids {
            for n in 0..150 {
                queue.add(key(id), notice(&n.to_string(), now));
            }
        }
        let to = ids.iter().map(|id| (id.clone(), "x".to_owned())).collect();
        let ready = queue.take(&to, now, Timestamp::UNIX_EPOCH);
        assert_eq!(
            ready.batches.iter().map(Batch::len).collect::<Vec<_>>(),
            [100, 100, 100, 100]
        );
        assert_eq!(queue.waiting(), 900);
    }

    #[test]
    fn a_refusal_is_tried_again_later_and_later_and_given_up_after_four_hours() {
        let (mut now, mut queue) = (Instant::now(), Queue::default());
        let (to, mut clock) = (addresses(&[("a", "x")]), Timestamp::UNIX_EPOCH);
        queue.add(key("a"), notice("1", now));
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let batch = queue.take(&to, now, clock).batches.remove(0);
            queue.finish(batch, false, now);
            let ready = queue.take(&to, now, clock);
            assert!(ready.batches.is_empty());
            assert_eq!(ready.next, Some(now + Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
        }
        clock += SignedDuration::from_hours(4);
        let ready = queue.take(&to, now, clock);
        assert_eq!((ready.batches.len(), ready.given_up), (0, 1));
        // A first attempt is made however late.
        queue.add(key("a"), notice("2", now));
        queue.finish(
            Batch {
                url: "x".into(),
                lifecycle: false,
                parts: vec![(key("a"), vec![])],
            },
            true,
            now,
        );
        let ready = queue.take(&to, now, clock);
        assert_eq!(bodies(&ready.batches[0]), ["2"]);
    }

    #[test]
    fn what_is_held_back_comes_in_reverse() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        let to = addresses(&[("a", "x")]);
        let late = now + Duration::from_secs(1);
        for body in ["1", "2", "3"] {
            let mut notice = notice(body, now);
            notice.not_before = late;
            queue.add_reversed(key("a"), notice, now);
        }
        let ready = queue.take(&to, now, Timestamp::UNIX_EPOCH);
        assert_eq!((ready.batches.len(), ready.next), (0, Some(late)));
        let ready = queue.take(&to, late, Timestamp::UNIX_EPOCH);
        assert_eq!(bodies(&ready.batches[0]), ["3", "2", "1"]);
    }

    #[test]
    fn lines_of_nobody_are_dropped() {
        let (now, mut queue) = (Instant::now(), Queue::default());
        queue.add(key("a"), notice("1", now));
        let ready = queue.take(&HashMap::new(), now, Timestamp::UNIX_EPOCH);
        assert_eq!((ready.batches.len(), queue.waiting()), (0, 0));
    }
}
