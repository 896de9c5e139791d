//! The gate: every call of a port waits here before it is made, and those with an effect after it too,
//! until the scheduler lets it go on. One call runs at a time, to its end.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use calendar_domain::failure::{FailureClass, PortError, PortResult};
use tokio::sync::oneshot;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Actor {
    /// A worker process.
    Worker(usize),
    /// What takes pushes.
    Intake,
    /// A user at the API.
    User,
    /// The job that finds subscriptions to renew.
    Renewals,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(number) => write!(f, "worker{number}"),
            Self::Intake => f.write_str("intake"),
            Self::User => f.write_str("user"),
            Self::Renewals => f.write_str("renewals"),
        }
    }
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Asks the provider.
    Ask,
    /// Changes something at the provider.
    Tell,
    /// Reads the database.
    Read,
    /// Writes to the database.
    Write,
}

impl Kind {
    pub(crate) fn is_provider(self) -> bool {
        matches!(self, Self::Ask | Self::Tell)
    }

    fn has_effect(self) -> bool {
        matches!(self, Self::Tell | Self::Write)
    }
}

/// Where a caller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// The call has not been made.
    Before,
    /// It has been made; its caller does not know the answer yet.
    After,
}

/// What becomes of a caller that waits.
pub(crate) enum Order {
    /// It goes on; the sender is dropped when the call has ended.
    Go(oneshot::Sender<()>),
    /// Its answer is lost.
    Lose,
}

/// A caller that waits.
pub(crate) struct Parked {
    pub(crate) actor: Actor,
    pub(crate) call: &'static str,
    pub(crate) detail: String,
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    ticket: u64,
    go: oneshot::Sender<Order>,
}

impl Parked {
    pub(crate) fn order(self, order: Order) {
        // Nobody there: the caller was dropped.
        let _ = self.go.send(order);
    }
}

#[derive(Default)]
struct State {
    parked: Vec<Parked>,
    tickets: u64,
    outcome: String,
}

/// Where callers wait.
#[derive(Default)]
pub(crate) struct Gate(Mutex<State>);

impl Gate {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a call through.
    pub(crate) async fn through<T>(
        &self,
        actor: Actor,
        kind: Kind,
        call: &'static str,
        detail: String,
        work: impl Future<Output = PortResult<T>>,
        summary: impl FnOnce(&T) -> String,
    ) -> PortResult<T> {
        let ended = match self
            .park(actor, kind, call, detail.clone(), Stage::Before)
            .await
        {
            Order::Go(ended) => ended,
            Order::Lose => return Err(lost()),
        };
        let answer = work.await;
        self.state().outcome = match &answer {
            Ok(answer) => summary(answer),
            Err(error) => format!("failed: {error}"),
        };
        drop(ended);
        if kind.has_effect() {
            match self.park(actor, kind, call, detail, Stage::After).await {
                Order::Go(_) => {}
                Order::Lose => return Err(lost()),
            }
        }
        answer
    }

    async fn park(
        &self,
        actor: Actor,
        kind: Kind,
        call: &'static str,
        detail: String,
        stage: Stage,
    ) -> Order {
        let (go, going) = oneshot::channel();
        {
            let mut state = self.state();
            let ticket = state.tickets;
            state.tickets += 1;
            state.parked.push(Parked {
                actor,
                call,
                detail,
                kind,
                stage,
                ticket,
                go,
            });
        }
        match going.await {
            Ok(order) => order,
            // The run has ended.
            Err(_) => std::future::pending().await,
        }
    }

    /// Who waits, in an order that follows from the run alone. Callers that were dropped are forgotten.
    pub(crate) fn waiting(&self) -> Vec<(Actor, Kind, Stage)> {
        let mut state = self.state();
        state.parked.retain(|parked| !parked.go.is_closed());
        state.parked.sort_by(|a, b| {
            (a.actor, a.call, &a.detail, a.stage, a.ticket)
                .cmp(&(b.actor, b.call, &b.detail, b.stage, b.ticket))
        });
        let row = |parked: &Parked| (parked.actor, parked.kind, parked.stage);
        state.parked.iter().map(row).collect()
    }

    /// Takes one of those out.
    pub(crate) fn take(&self, index: usize) -> Parked {
        self.state().parked.remove(index)
    }

    /// What the last call came to.
    pub(crate) fn outcome(&self) -> String {
        std::mem::take(&mut self.state().outcome)
    }
}

fn lost() -> PortError {
    PortError::new(FailureClass::Retryable, "answer_lost")
}
