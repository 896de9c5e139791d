//! The loop over work that is made up: how much at once, when it asks again, how it stops.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::account::{Account, AccountIdentity};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{AccountId, UserId, WorkerId};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::ClaimedPush;
use calendar_domain::sync::{Claim, Lease};
use calendar_worker::{Work, Worker};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

/// One account of the queue and how it behaves.
#[derive(Clone, Copy)]
enum Behaviour {
    /// Takes so long, or until the stop.
    Takes(Duration),
    /// Takes so long whatever happens.
    Ignores(Duration),
    Panics,
}

#[derive(Default)]
struct Queue {
    due: Mutex<VecDeque<Behaviour>>,
    behaviours: Mutex<Vec<(AccountId, Behaviour)>>,
    /// Claims that fail before the database is back.
    down: AtomicUsize,
    /// Whether claims are not answered any more once nothing is due.
    hangs: AtomicBool,
    claims: AtomicUsize,
    running: AtomicUsize,
    most: AtomicUsize,
    done: AtomicUsize,
    released: Mutex<Vec<AccountId>>,
    wakeups: Notify,
}

impl Queue {
    fn of(behaviours: impl IntoIterator<Item = Behaviour>) -> Arc<Self> {
        let queue = Self::default();
        queue.due.lock().unwrap().extend(behaviours);
        Arc::new(queue)
    }

    /// Work that another process makes due, and says so.
    fn wake_with(&self, behaviour: Behaviour) {
        self.due.lock().unwrap().push_back(behaviour);
        self.wakeups.notify_one();
    }

    fn get(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Work for Queue {
    async fn claim(&self) -> PortResult<Option<Claim>> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        if Self::get(&self.down) > 0 {
            self.down.fetch_sub(1, Ordering::SeqCst);
            return Err(PortError::new(FailureClass::Retryable, "database_down"));
        }
        let next = self.due.lock().unwrap().pop_front();
        let Some(behaviour) = next else {
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            return Ok(None);
        };
        let account_id = AccountId::new();
        self.behaviours
            .lock()
            .unwrap()
            .push((account_id, behaviour));
        Ok(Some(Claim {
            lease: Lease {
                account_id,
                owner: WorkerId::new(),
                fence: 1,
            },
            account: Account {
                id: account_id,
                user_id: UserId::new(),
                provider: CalendarProvider::Microsoft,
                identity: AccountIdentity {
                    tenant_id: String::new(),
                    provider_user_id: String::new(),
                    email: None,
                    display_name: None,
                },
                needs_reauth: None,
            },
            push: ClaimedPush::default(),
            turns: 2,
            connections: Vec::new(),
        }))
    }

    async fn sync(&self, claim: Claim, stop: &watch::Receiver<bool>) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let behaviours = self.behaviours.lock().unwrap().clone();
        let found = behaviours
            .iter()
            .find(|(id, _)| *id == claim.lease.account_id)
            .unwrap()
            .1;
        match found {
            Behaviour::Takes(duration) => tokio::select! {
                () = sleep(duration) => {}
                () = calendar_runtime::shutdown::stopped(stop.clone()) => {}
            },
            Behaviour::Ignores(duration) => sleep(duration).await,
            Behaviour::Panics => {
                self.running.fetch_sub(1, Ordering::SeqCst);
                panic!("made up");
            }
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        self.done.fetch_add(1, Ordering::SeqCst);
        self.released.lock().unwrap().push(claim.lease.account_id);
    }

    async fn release(&self, lease: &Lease) -> PortResult<()> {
        self.released.lock().unwrap().push(lease.account_id);
        Ok(())
    }

    async fn woken(&self) {
        self.wakeups.notified().await;
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Runs a worker for so long, stops it, and says how long the stop took.
async fn run_for(queue: &Arc<Queue>, concurrency: usize, duration: Duration) -> Duration {
    let (sender, stop) = watch::channel(false);
    let worker = tokio::spawn(Worker::new(queue.clone(), concurrency, stop).run());
    sleep(duration).await;
    sender.send(true).unwrap();
    let stopping = Instant::now();
    worker.await.unwrap();
    stopping.elapsed()
}

#[tokio::test(start_paused = true)]
async fn it_works_on_so_many_at_once_and_no_more() {
    let queue = Queue::of([Behaviour::Takes(SECOND); 10]);
    run_for(&queue, 3, SECOND * 5).await;
    assert_eq!(Queue::get(&queue.most), 3);
    assert_eq!(Queue::get(&queue.done), 10, "four rounds of a second each");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_due_is_found_within_half_a_second_also_beside_long_work() {
    let queue = Queue::of([Behaviour::Takes(Duration::from_hours(1))]);
    let (sender, stop) = watch::channel(false);
    let worker = tokio::spawn(Worker::new(queue.clone(), 4, stop).run());
    sleep(Duration::from_millis(10_250)).await;
    queue
        .due
        .lock()
        .unwrap()
        .push_back(Behaviour::Takes(Duration::ZERO));
    sleep(Duration::from_millis(550)).await;
    assert_eq!(Queue::get(&queue.done), 1);
    sender.send(true).unwrap();
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_wakes_it_finds_it_at_work_at_once() {
    let queue = Queue::of([Behaviour::Takes(Duration::from_hours(1))]);
    let (sender, stop) = watch::channel(false);
    let worker = tokio::spawn(Worker::new(queue.clone(), 4, stop).run());
    sleep(Duration::from_millis(10_250)).await;
    for done in 1..=3 {
        queue.wake_with(Behaviour::Takes(Duration::ZERO));
        sleep(Duration::from_millis(1)).await;
        assert_eq!(Queue::get(&queue.done), done);
    }
    sender.send(true).unwrap();
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn with_all_places_taken_a_wake_up_waits_for_a_place() {
    let queue = Queue::of([Behaviour::Takes(SECOND * 10)]);
    let (sender, stop) = watch::channel(false);
    let worker = tokio::spawn(Worker::new(queue.clone(), 1, stop).run());
    sleep(SECOND).await;
    queue.wake_with(Behaviour::Takes(Duration::ZERO));
    sleep(SECOND * 8).await;
    assert_eq!(Queue::get(&queue.claims), 1, "there is no place for it");
    sleep(Duration::from_millis(1_001)).await;
    assert_eq!(Queue::get(&queue.done), 2);
    sender.send(true).unwrap();
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_asks_twice_a_second() {
    let queue = Queue::of([]);
    run_for(&queue, 4, Duration::from_mins(1)).await;
    assert!(
        (115..=125).contains(&Queue::get(&queue.claims)),
        "{}",
        Queue::get(&queue.claims)
    );
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_is_asked_ever_less_and_work_goes_on_when_it_is_back() {
    let queue = Queue::of([Behaviour::Takes(SECOND)]);
    queue.down.store(12, Ordering::SeqCst);
    run_for(&queue, 4, Duration::from_mins(1)).await;
    // Pauses of 1, 2, 4 and 8 s, and then of 10 s, make nine attempts in the first minute.
    assert_eq!((Queue::get(&queue.claims), Queue::get(&queue.done)), (9, 0));
    run_for(&queue, 4, Duration::from_mins(1)).await;
    assert_eq!(Queue::get(&queue.done), 1);
}

#[tokio::test(start_paused = true)]
async fn for_a_while_after_a_wake_up_it_asks_more_often() {
    let queue = Queue::of([]);
    let (sender, stop) = watch::channel(false);
    let worker = tokio::spawn(Worker::new(queue.clone(), 4, stop).run());
    sleep(Duration::from_millis(10_250)).await;
    queue.wakeups.notify_one();
    for done in 1..=5 {
        // What the wake-up announced is due a little later, as a second push of one edit is.
        sleep(Duration::from_millis(50)).await;
        let behaviour = Behaviour::Takes(Duration::ZERO);
        queue.due.lock().unwrap().push_back(behaviour);
        sleep(Duration::from_millis(150)).await;
        assert_eq!(Queue::get(&queue.done), done);
    }
    sleep(SECOND * 2).await;
    let before = Queue::get(&queue.claims);
    sleep(SECOND * 10).await;
    let asked = Queue::get(&queue.claims) - before;
    assert!((19..=21).contains(&asked), "{asked} times in 10 s");
    sender.send(true).unwrap();
    worker.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_does_not_make_it_ask_a_database_that_is_away() {
    let queue = Queue::of([]);
    queue.down.store(usize::MAX, Ordering::SeqCst);
    let waking = queue.clone();
    let wakeups = tokio::spawn(async move {
        loop {
            waking.wakeups.notify_one();
            sleep(Duration::from_millis(10)).await;
        }
    });
    run_for(&queue, 4, Duration::from_mins(1)).await;
    assert_eq!(Queue::get(&queue.claims), 9, "as without wake-ups");
    wakeups.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_what_runs_end_and_claims_nothing_more() {
    let queue = Queue::of([Behaviour::Takes(Duration::from_hours(1)); 5]);
    let took = run_for(&queue, 2, SECOND * 3).await;
    assert!(took < SECOND, "{took:?}");
    assert_eq!(
        (Queue::get(&queue.done), queue.due.lock().unwrap().len()),
        (2, 3)
    );
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_broken_off_and_its_lease_given_back() {
    let forever = Behaviour::Ignores(Duration::from_hours(1));
    let queue = Queue::of([forever, Behaviour::Ignores(SECOND * 5), forever]);
    let took = run_for(&queue, 3, SECOND).await;
    assert!(took < SECOND * 10, "{took:?}");
    assert_eq!(
        Queue::get(&queue.done),
        1,
        "the one that took four seconds more ended by itself"
    );
    let mut released = queue.released.lock().unwrap().clone();
    released.sort();
    let mut all: Vec<_> = queue
        .behaviours
        .lock()
        .unwrap()
        .iter()
        .map(|(id, _)| *id)
        .collect();
    all.sort();
    assert_eq!(released, all, "each lease once");
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_not_answered_does_not_hold_up_the_stop() {
    let forever = Behaviour::Ignores(Duration::from_hours(1));
    let queue = Queue::of([forever, Behaviour::Takes(SECOND * 30)]);
    queue.hangs.store(true, Ordering::SeqCst);
    let took = run_for(&queue, 3, SECOND).await;
    assert!(took < SECOND * 10, "{took:?}");
    assert_eq!(queue.released.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_its_account_only() {
    let queue = Queue::of([
        Behaviour::Panics,
        Behaviour::Takes(SECOND),
        Behaviour::Takes(SECOND),
    ]);
    run_for(&queue, 1, SECOND * 5).await;
    assert_eq!(Queue::get(&queue.done), 2);
    assert_eq!(
        queue.released.lock().unwrap().len(),
        2,
        "the lease of what panicked expires"
    );
}

#[tokio::test(start_paused = true)]
async fn once_does_all_that_is_due_and_what_becomes_due_by_it() {
    let queue = Queue::of([Behaviour::Takes(SECOND); 5]);
    let later = queue.clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(2_500)).await;
        later
            .due
            .lock()
            .unwrap()
            .push_back(Behaviour::Takes(SECOND));
    });
    let (_sender, stop) = watch::channel(false);
    let begun = Instant::now();
    Worker::new(queue.clone(), 2, stop)
        .run_once()
        .await
        .unwrap();
    assert_eq!(Queue::get(&queue.done), 6);
    assert!(begun.elapsed() < SECOND * 5);
}

#[tokio::test(start_paused = true)]
async fn once_says_when_the_database_is_away() {
    let queue = Queue::of([]);
    queue.down.store(1, Ordering::SeqCst);
    let (_sender, stop) = watch::channel(false);
    assert!(Worker::new(queue, 2, stop).run_once().await.is_err());
}
