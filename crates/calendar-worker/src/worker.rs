//! Claims accounts that are due, works on so many of them at once, and stops cleanly.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::failure::{PortError, PortResult};
use calendar_domain::subscription::{PUSHED_PASSES_APART, PUSHED_PASSES_APART_MOST};
use calendar_domain::sync::{Claim, Lease};
use calendar_runtime::{ErrorChain, shutdown};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{error, info, warn};

/// How often the queue is asked while nothing is due and nobody wakes us.
const POLL: Duration = Duration::from_millis(500);
/// How often it is asked for a while after a wake-up: a push that comes soon after another wakes us before
/// its pass is due, and nobody wakes us when it is.
const POLL_WOKEN: Duration = PUSHED_PASSES_APART;
/// For how long.
const WOKEN_FOR: Duration = PUSHED_PASSES_APART_MOST.saturating_add(POLL_WOKEN);
/// The first pause and the longest one between two attempts while the database is away.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a claim under way has once we are asked to stop, then pages in flight, and then giving back the
/// leases of those that did not end. Less than 10 s together: after that, service managers kill.
const LAST_CLAIM: Duration = Duration::from_secs(1);
const LAST_PAGES: Duration = Duration::from_secs(6);
const LAST_LEASES: Duration = Duration::from_secs(2);

/// What the worker does, so that the loop can be tried without a database.
#[async_trait]
pub trait Work: Send + Sync + 'static {
    /// Claims the account that is longest overdue.
    async fn claim(&self) -> PortResult<Option<Claim>>;

    /// Works on a claim, and gives its lease back. Ends early, between two pages, when `stop` turns
    /// true.
    async fn sync(&self, claim: Claim, stop: &watch::Receiver<bool>);

    /// Gives a lease back whose work was broken off.
    async fn release(&self, lease: &Lease) -> PortResult<()>;

    /// Resolves when another process says that there is work; also when it said so while nobody waited
    /// here. May be dropped at any time.
    async fn woken(&self);
}

/// The database could not be asked what is due.
#[derive(Debug, thiserror::Error)]
#[error("the database does not answer")]
pub struct DatabaseDown(#[source] PortError);

/// The loop.
pub struct Worker<W> {
    work: Arc<W>,
    concurrency: usize,
    stop: watch::Receiver<bool>,
    /// When we were last woken.
    woken_at: Option<Instant>,
    running: JoinSet<()>,
    /// What to give back if it has to be broken off.
    leases: HashMap<Id, Lease>,
}

impl<W: Work> Worker<W> {
    /// A worker that works on up to `concurrency` accounts at once, until `stop` turns true.
    #[must_use]
    pub fn new(work: Arc<W>, concurrency: usize, stop: watch::Receiver<bool>) -> Self {
        let running = JoinSet::new();
        Self {
            work,
            concurrency: concurrency.max(1),
            stop,
            woken_at: None,
            running,
            leases: HashMap::new(),
        }
    }

    /// Works until it is asked to stop. While the database is away it says so, waits, and goes on by
    /// itself when it is back.
    pub async fn run(mut self) {
        let mut failures = 0;
        while !*self.stop.borrow() {
            let pause = match self.fill().await {
                Ok(()) => {
                    if failures > 0 {
                        info!("the database answers again");
                    }
                    failures = 0;
                    let is_woken = |woken_at: Instant| woken_at.elapsed() < WOKEN_FOR;
                    if self.woken_at.is_some_and(is_woken) {
                        POLL_WOKEN
                    } else {
                        POLL
                    }
                }
                Err(error) => {
                    let pause = LONGEST_PAUSE.min(FIRST_PAUSE * (1 << failures.min(5)));
                    failures += 1;
                    warn!(error = %ErrorChain(&error), retry_s = pause.as_secs(), "what is due is unknown");
                    pause
                }
            };
            self.wait(pause, failures > 0).await;
        }
        self.end().await;
    }

    /// Does what is due and ends: when nothing is due, nothing runs, and nothing became due by it.
    pub async fn run_once(mut self) -> Result<(), DatabaseDown> {
        let mut answer = Ok(());
        while !*self.stop.borrow() {
            answer = self.fill().await.map_err(DatabaseDown);
            if answer.is_err() || self.running.is_empty() {
                break;
            }
            self.wait(LONGEST_PAUSE, false).await;
        }
        self.end().await;
        answer
    }

    /// Claims until all places are taken or nothing is due.
    async fn fill(&mut self) -> PortResult<()> {
        while self.running.len() < self.concurrency && !*self.stop.borrow() {
            let claimed = tokio::select! {
                claimed = self.work.claim() => claimed?,
                // The database does not answer. Should it grant the claim yet, the lease runs out by itself.
                () = too_late(self.stop.clone()) => None,
            };
            let Some(claim) = claimed else {
                break;
            };
            let lease = claim.lease;
            let (work, stop) = (self.work.clone(), self.stop.clone());
            let task = self
                .running
                .spawn(async move { work.sync(claim, &stop).await });
            self.leases.insert(task.id(), lease);
        }
        Ok(())
    }

    /// Waits until it is worth asking for work again: when an account is done, somebody wakes us, or
    /// `pause` has passed; with all places taken, only the first; with `whole` (the database is away),
    /// only the last. A stop ends it in any case.
    async fn wait(&mut self, pause: Duration, whole: bool) {
        let until = Instant::now() + pause;
        loop {
            let full = self.running.len() >= self.concurrency;
            let busy = !self.running.is_empty();
            tokio::select! {
                ended = self.running.join_next_with_id(), if busy => {
                    self.ended(ended);
                    if !whole {
                        return;
                    }
                }
                () = self.work.woken(), if !whole && !full => {
                    self.woken_at = Some(Instant::now());
                    return;
                }
                () = sleep_until(until), if whole || !full => return,
                () = shutdown::stopped(self.stop.clone()) => return,
            }
        }
    }

    fn ended(&mut self, ended: Option<Result<(Id, ()), JoinError>>) {
        match ended {
            Some(Ok((id, ()))) => {
                self.leases.remove(&id);
            }
            Some(Err(failed)) => {
                let lease = self.leases.remove(&failed.id());
                if failed.is_panic() {
                    // Its place was logged by the panic hook. The lease is kept until it expires: what
                    // panics once would do so again at once.
                    let account_id = lease.map(|lease| lease.account_id.to_string());
                    error!(account_id, "a pass panicked");
                }
            }
            None => {}
        }
    }

    /// Lets pages in flight end; what takes too long is broken off, and its lease given back.
    async fn end(&mut self) {
        let pages = async {
            while let Some(ended) = self.running.join_next_with_id().await {
                if let Ok((id, ())) = ended {
                    self.leases.remove(&id);
                }
            }
        };
        if timeout(LAST_PAGES, pages).await.is_ok() {
            return;
        }
        warn!(
            accounts = self.running.len(),
            "broken off: these did not end in time"
        );
        self.running.abort_all();
        let mut given_back = JoinSet::new();
        while let Some(ended) = self.running.join_next_with_id().await {
            let id = ended.map_or_else(|failed| failed.id(), |(id, ())| id);
            if let Some(lease) = self.leases.remove(&id) {
                let work = self.work.clone();
                // One that is given back already is stale, and that is no error.
                given_back.spawn(async move { work.release(&lease).await });
            }
        }
        let leases = async { while given_back.join_next().await.is_some() {} };
        if timeout(LAST_LEASES, leases).await.is_err() {
            warn!("some leases were not given back; they expire by themselves");
        }
    }
}

/// Ends when a claim has had its time after the stop.
async fn too_late(stop: watch::Receiver<bool>) {
    shutdown::stopped(stop).await;
    sleep(LAST_CLAIM).await;
}
