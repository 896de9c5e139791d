//! What must hold during a run, and the first thing that did not.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use calendar_domain::ids::AccountId;
use calendar_domain::sync::{Claim, Lease};

use crate::gate::Actor;
use crate::ports::short;

#[derive(Default)]
struct State {
    /// The newest fencing number that was handed out.
    fences: HashMap<AccountId, i64>,
    /// The lease that an actor works under.
    leases: HashMap<Actor, Lease>,
    broken: Option<String>,
    claims: u64,
}

/// Watches writes.
#[derive(Default)]
pub(crate) struct Watch(Mutex<State>);

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What does not hold.
    pub(crate) fn verdict(&self) -> Option<String> {
        self.state().broken.clone()
    }

    pub(crate) fn claimed(&self, actor: Actor, claim: Option<&Claim>) {
        let mut state = self.state();
        let Some(claim) = claim else {
            return;
        };
        state.claims += 1;
        let lease = claim.lease;
        state.leases.insert(actor, lease);
        let newest = state.fences.entry(lease.account_id).or_default();
        if lease.fence > *newest {
            *newest = lease.fence;
            return;
        }
        let what = format!(
            "account {}: fence {} was handed out after {newest}",
            short(lease.account_id),
            lease.fence
        );
        state.broken.get_or_insert(what);
    }

    /// A write under a lease was answered.
    pub(crate) fn wrote(&self, lease: &Lease, call: &str, accepted: bool) {
        let mut state = self.state();
        let newest = state.fences.get(&lease.account_id).copied();
        if accepted && newest.is_some_and(|newest| lease.fence < newest) {
            let what = format!(
                "{call} wrote to account {} under the stale fence {}: the newest is {}",
                short(lease.account_id),
                lease.fence,
                newest.unwrap_or_default()
            );
            state.broken.get_or_insert(what);
        }
    }

    /// The lease of an actor that works.
    pub(crate) fn lease(&self, actor: Actor) -> Option<Lease> {
        self.state().leases.get(&actor).copied()
    }

    pub(crate) fn stopped(&self, actor: Actor) {
        self.state().leases.remove(&actor);
    }

    /// Claims that found something.
    pub(crate) fn claims(&self) -> u64 {
        self.state().claims
    }
}
