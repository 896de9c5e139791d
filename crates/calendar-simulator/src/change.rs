//! Changing the world: the write lock that tells subscribers on its way out, and what readers see meanwhile.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crate::clock::later;
use crate::model::World;
use crate::simulator::Simulator;
use crate::{lock, read, write};

/// States from before changes that Graph does not show yet, each until an instant; see
/// [`crate::PushFaults::visible_after_ms`].
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<(Instant, World)>);

impl History {
    /// What is shown at an instant; `None` when that is the present. The oldest state in force wins, so that nobody
    /// ever sees time run backwards.
    fn shown(&mut self, now: Instant) -> Option<World> {
        while self.0.front().is_some_and(|(until, _)| *until <= now) {
            self.0.pop_front();
        }
        self.0.front().map(|(_, world)| world.clone())
    }
}

/// The world as a reader of Graph sees it.
pub(crate) enum Seen<'a> {
    Now(RwLockReadGuard<'a, World>),
    Before(World),
}

impl Deref for Seen<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        match self {
            Self::Now(world) => world,
            Self::Before(world) => world,
        }
    }
}

/// The world, to be changed. Giving it back notifies the subscribers of what happened; still under the lock, so that
/// notifications are queued in the order of the changes.
pub(crate) struct Changing<'a> {
    simulator: &'a Simulator,
    world: RwLockWriteGuard<'a, World>,
    /// What to show for how long instead of the change.
    before: Option<(Duration, World)>,
    bulk: bool,
}

impl Changing<'_> {
    /// Subscribers get one notification for everything.
    pub(crate) fn in_bulk(mut self) -> Self {
        self.bulk = true;
        self
    }
}

impl Deref for Changing<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut changed = false;
        for mailbox in &mut self.world.mailboxes {
            // Asked first, because touching a mailbox that somebody keeps a state of copies it.
            if mailbox.happened.is_empty() {
                continue;
            }
            changed = true;
            let mailbox = Arc::make_mut(mailbox);
            let happened = std::mem::take(&mut mailbox.happened);
            self.simulator.notify(mailbox, &happened, self.bulk);
        }
        if let (true, Some((time, before))) = (changed, self.before.take()) {
            let until = later(self.simulator.instant(), time);
            lock(&self.simulator.0.history).0.push_back((until, before));
        }
    }
}

impl Simulator {
    /// The world, to change events in it.
    pub(crate) fn change(&self) -> Changing<'_> {
        let world = write(&self.0.world);
        let hidden = lock(&self.0.pushes).faults.visible_after_ms;
        let before = (hidden > 0).then(|| (Duration::from_millis(hidden), world.clone()));
        Changing {
            simulator: self,
            world,
            before,
            bulk: false,
        }
    }

    /// The world as Graph shows it.
    pub(crate) fn seen(&self) -> Seen<'_> {
        let world = read(&self.0.world);
        match lock(&self.0.history).shown(self.instant()) {
            None => Seen::Now(world),
            Some(before) => Seen::Before(before),
        }
    }
}
