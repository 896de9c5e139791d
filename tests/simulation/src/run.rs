//! One run: the scheduler, and what it may choose from.

use std::fmt::Write as _;
use std::sync::Arc;

use calendar_domain::account::CalendarChoice;
use calendar_domain::connection::ConnectionChange;
use calendar_domain::ids::{ConnectionId, UserId};
use calendar_domain::ports::{ConnectionStore as _, SyncQueue as _};
use calendar_domain::provider::CalendarProvider;
use calendar_simulator::{LifecycleEvent, Options, PushFaults, PushKind, Server};
use calendar_sync::{Disconnect, TakeNotifications};
use calendar_worker::{AccountWork, Work as _};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::BenchError;
use crate::bench::Bench;
use crate::compare::ConnectionRow;
use crate::faults::provider_fault;
use crate::gate::{Actor, Order, Stage};
use crate::pg_proxy::Cut;
use crate::plant::Plant;
use crate::rng::Rng;
use crate::setup::{LEASE, Product};
use crate::stats::Stats;
use crate::time::SimulatedTime;
use crate::world::World;

/// The longest that a timer of the product's may last, in real time.
const TIMERS: std::time::Duration = std::time::Duration::from_secs(10);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What it held.
    pub stats: Stats,
    /// What does not hold; `None` when everything does.
    pub failure: Option<String>,
    /// Every step.
    pub trace: Vec<String>,
}

/// Runs the seed, with a bug where one is planted.
pub async fn run(bench: &Bench, seed: u64, plant: Option<Plant>) -> Result<Outcome, BenchError> {
    let mut run = Run::new(bench, seed, plant).await?;
    let failure = match run.play().await {
        Ok(()) => run.product.watch.verdict(),
        Err(Stop::Broken(what)) => Some(what),
        Err(Stop::Bench(error)) => return Err(error),
    };
    run.end().await;
    let mut stats = std::mem::take(&mut run.stats);
    stats.count("runs", 1);
    stats.count("claims", run.product.watch.claims());
    stats.count("events", u64::try_from(run.world.made).unwrap_or(0));
    stats.count("edits", run.world.edits);
    stats.count(
        "mailboxes",
        u64::try_from(run.world.mailboxes.len()).unwrap_or(0),
    );
    Ok(Outcome {
        seed,
        stats,
        failure,
        trace: std::mem::take(&mut run.trace),
    })
}

/// Why a run ends before its end.
pub(crate) enum Stop {
    /// Something does not hold.
    Broken(String),
    /// The simulation does not work.
    Bench(BenchError),
}

impl<E: Into<BenchError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Bench(error.into())
    }
}

/// What a worker's turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Worked,
    NothingDue,
    Failed,
}

struct WorkerState {
    work: Arc<AccountWork>,
    turn: Option<JoinHandle<Turn>>,
}

/// A push on its way.
#[derive(Clone)]
pub(crate) struct Push {
    mailbox: usize,
    /// The last edit that it tells of.
    edit: u64,
    body: String,
}

struct Delivery {
    push: Push,
    task: JoinHandle<Taken>,
}

/// What we answered to a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Taken {
    /// It was recorded.
    Accepted,
    /// Answered alike: its subscription is none of ours.
    Unknown,
    /// It could not be recorded.
    #[default]
    Failed,
}

/// A user of ours.
pub(crate) struct UserBook {
    pub(crate) id: UserId,
    pub(crate) mailbox: usize,
    /// Whose mailbox is read too.
    pub(crate) delegate_of: Option<String>,
}

pub(crate) struct Run<'b> {
    pub(crate) bench: &'b Bench,
    pub(crate) rng: Rng,
    pub(crate) simulator: Server,
    pub(crate) product: Product,
    pub(crate) world: World,
    pub(crate) users: Vec<UserBook>,
    pub(crate) stats: Stats,
    trace: Vec<String>,
    workers: Vec<WorkerState>,
    user: Option<JoinHandle<String>>,
    renewals: Option<JoinHandle<bool>>,
    intake: TakeNotifications,
    deliveries: Vec<Delivery>,
    pushes: Vec<Push>,
    /// The last edit of each mailbox that an accepted push has told of.
    pub(crate) accepted: Vec<u64>,
    stop: watch::Sender<bool>,
    pub(crate) with_faults: bool,
    /// A worker that stands still, and until which step.
    stalled: Option<(usize, u32)>,
    step: u32,
    /// Our clock was wrong at times.
    pub(crate) is_skewed: bool,
    may_skew: bool,
}

impl<'b> Run<'b> {
    async fn new(bench: &'b Bench, seed: u64, plant: Option<Plant>) -> Result<Self, BenchError> {
        bench.reset().await?;
        calendar_domain::ids::seeded::seed(seed);
        let mut rng = Rng::new(seed);
        let time = Arc::new(SimulatedTime::new());
        bench.set_clock(time.seconds()).await?;
        let mut options = Options {
            seed: rng.next(),
            single_use_refresh_tokens: rng.percent(40),
            manual: true,
            ..Options::default()
        };
        // One call runs at a time: what would be throttled here is the simulation's own doing.
        options.quirks.mailbox_concurrency = 0;
        options.quirks.notification_updates = u32::from(rng.percent(30));
        let simulator = Server::start(options).await?;
        simulator.set_clock(time.timestamp(), true);
        // In some runs pushes run ahead of what delta shows.
        simulator.set_pushes(PushFaults {
            visible_after_ms: *rng.pick(&[0, 0, 4_000, 20_000]),
            ..PushFaults::default()
        });
        let world = World::new(&simulator, &mut rng)?;
        let product = Product::new(bench, &simulator, time, &mut rng, plant).await?;
        let ports = product.ports(Actor::Intake);
        let intake = TakeNotifications::start(
            ports.clone(),
            product.secrets(),
            product.time.clone(),
            product.providers(&ports),
        );
        let workers = (0..2 + rng.below(2)).map(|number| WorkerState {
            work: product.worker(number),
            turn: None,
        });
        let workers = workers.collect();
        let accepted = vec![0; world.mailboxes.len()];
        let may_skew = rng.percent(25);
        Ok(Self {
            bench,
            rng,
            simulator,
            product,
            world,
            users: Vec::new(),
            stats: Stats::default(),
            trace: Vec::new(),
            workers,
            user: None,
            renewals: None,
            intake,
            deliveries: Vec::new(),
            pushes: Vec::new(),
            accepted,
            stop: watch::channel(false).0,
            with_faults: false,
            stalled: None,
            step: 0,
            is_skewed: false,
            may_skew,
        })
    }

    pub(crate) fn note(&mut self, what: impl std::fmt::Display) {
        let seconds = self.product.time.seconds() - crate::time::BEGIN;
        self.trace
            .push(format!("{:4} {seconds:>7}s {what}", self.step));
    }

    async fn play(&mut self) -> Result<(), Stop> {
        self.begin().await?;
        self.with_faults = true;
        let steps = 120 + self.rng.below(300);
        for _ in 0..steps {
            self.step().await?;
            self.hold()?;
        }
        self.converge().await
    }

    /// Whether everything held so far.
    pub(crate) fn hold(&self) -> Result<(), Stop> {
        match self.product.watch.verdict() {
            Some(what) => Err(Stop::Broken(what)),
            None => Ok(()),
        }
    }

    /// Users sign up and connect their calendars; some a colleague's too.
    async fn begin(&mut self) -> Result<(), Stop> {
        let count = self.world.mailboxes.len();
        for mailbox in 0..count {
            let other = (mailbox + 1) % count;
            let (upn, owner) = (
                self.world.mailboxes[mailbox].upn.clone(),
                self.world.mailboxes[other].upn.clone(),
            );
            let is_delegate = self.rng.percent(40);
            let shared = self.world.mailboxes[other]
                .calendars
                .last()
                .cloned()
                .flatten();
            if is_delegate {
                self.simulator.share_mailbox(&owner, &upn, false)?;
            } else if let Some(name) = shared
                && self.rng.percent(40)
            {
                self.simulator
                    .share_calendar(&owner, Some(&name), &upn, false)?;
            }
            let id = UserId::new();
            let sql =
                "INSERT INTO users (id, email, password_hash) VALUES ($1::text::uuid, $2, 'none')";
            self.bench
                .client
                .execute(sql, &[&id.to_string(), &upn])
                .await?;
            self.users.push(UserBook {
                id,
                mailbox,
                delegate_of: is_delegate.then_some(owner),
            });
            self.sign_in(mailbox);
            self.rest().await?;
        }
        Ok(())
    }

    /// The user connects all calendars, and the colleague's too where there is one. The colleague's come second:
    /// the grant of the last sign-in is the account's, and only then is it asked for others' calendars.
    pub(crate) fn sign_in(&mut self, user: usize) {
        let book = &self.users[user];
        let (id, upn) = (book.id, self.world.mailboxes[book.mailbox].upn.clone());
        let own = self
            .product
            .sign_in(id, upn.clone(), None, CalendarChoice::All);
        let delegate = book.delegate_of.clone().map(|owner| {
            self.product
                .sign_in(id, upn.clone(), Some(owner), CalendarChoice::All)
        });
        self.note(format!("{upn} signs in"));
        self.user = Some(tokio::spawn(async move {
            let came = own.await;
            match delegate {
                Some(delegate) => format!("{came}, as a delegate {}", delegate.await),
                None => came,
            }
        }));
    }

    /// Lets everything that goes on come to its end, without choosing anything else.
    pub(crate) async fn rest(&mut self) -> Result<(), Stop> {
        for _ in 0..20_000 {
            self.settle().await?;
            let waiting = self.product.gate.waiting();
            if waiting.is_empty() {
                return if self.is_busy() {
                    Err(BenchError::Restless("somebody works and does not call".to_owned()).into())
                } else {
                    Ok(())
                };
            }
            let index = self.rng.below(waiting.len());
            self.release(index).await?;
            self.hold()?;
        }
        Err(BenchError::Restless("there is always another call".to_owned()).into())
    }

    fn is_busy(&self) -> bool {
        self.user.is_some()
            || self.renewals.is_some()
            || !self.deliveries.is_empty()
            || self.workers.iter().any(|worker| worker.turn.is_some())
    }

    /// Whether somebody neither waits at the gate nor has ended: there is a timer before the next attempt. Time is
    /// none of what a seed decides, so whoever sleeps is waited for.
    fn is_asleep(&self) -> bool {
        let waiting = self.product.gate.waiting();
        let sleeps = |actor, task: Option<&JoinHandle<_>>| {
            task.is_some_and(|task| !task.is_finished())
                && waiting.iter().all(|(waiting, ..)| *waiting != actor)
        };
        let mut workers = self.workers.iter().enumerate();
        workers.any(|(number, worker)| sleeps(Actor::Worker(number), worker.turn.as_ref()))
    }

    /// Lets all tasks run until each waits at the gate or has ended.
    async fn settle(&mut self) -> Result<(), Stop> {
        let deadline = tokio::time::Instant::now() + TIMERS;
        loop {
            for _ in 0..12 {
                tokio::task::yield_now().await;
            }
            if !self.is_asleep() || tokio::time::Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        if let Some(task) = self.user.take_if(|task| task.is_finished()) {
            let came = ended(task).await;
            self.note(format!("user: {came}"));
        }
        if let Some(task) = self.renewals.take_if(|task| task.is_finished()) {
            ended(task).await;
        }
        let mut at = 0;
        while at < self.deliveries.len() {
            if !self.deliveries[at].task.is_finished() {
                at += 1;
                continue;
            }
            let Delivery { push, task } = self.deliveries.remove(at);
            let accepted = ended(task).await;
            self.delivered(push, accepted);
        }
        for number in 0..self.workers.len() {
            if let Some(task) = self.workers[number].turn.take_if(|task| task.is_finished()) {
                let turn = task
                    .await
                    .map_err(|error| Stop::Broken(format!("worker{number} panicked: {error}")))?;
                self.product.watch.stopped(Actor::Worker(number));
                self.note(format!("worker{number}: {turn:?}"));
            }
        }
        Ok(())
    }

    fn delivered(&mut self, push: Push, taken: Taken) {
        match taken {
            Taken::Accepted => {
                let upto = &mut self.accepted[push.mailbox];
                *upto = push.edit.max(*upto);
                self.stats.count("pushes taken", 1);
            }
            Taken::Unknown => {}
            // The provider sends again what was not answered with 202.
            Taken::Failed => self.pushes.push(push),
        }
    }

    /// Lets the call at `index` go on.
    async fn release(&mut self, index: usize) -> Result<(), Stop> {
        let parked = self.product.gate.take(index);
        let (actor, call, kind) = (parked.actor, parked.call, parked.kind);
        let mut line = format!("{actor} {call} {}", parked.detail);
        if parked.stage == Stage::After {
            let lose = self.with_faults && kind.is_provider() && self.rng.permille(30);
            if lose {
                self.stats.count("answers lost", 1);
                self.note(format!("{line} → its answer is lost"));
            }
            parked.order(if lose {
                Order::Lose
            } else {
                Order::Go(oneshot::channel().0)
            });
            return self.settle().await;
        }
        if self.with_faults && kind.is_provider() && self.rng.permille(120) {
            let (name, fault) = provider_fault(&mut self.rng);
            self.simulator.script_fault(fault);
            let _ = write!(line, " [{name}]");
        }
        if self.with_faults && !kind.is_provider() && self.rng.permille(40) {
            let (nth, cut) = (
                1 + self.rng.below(8),
                *self.rng.pick(&[Cut::Before, Cut::After]),
            );
            self.bench.proxy.arm(u32::try_from(nth).unwrap_or(1), cut);
            let _ = write!(line, " [cut {cut:?} {nth}]");
        }
        let (going, gone) = oneshot::channel();
        parked.order(Order::Go(going));
        // Answers when the call has ended: it drops its side.
        let _ = gone.await;
        if !self.simulator.pending_faults().is_empty() {
            self.simulator.clear_faults();
        } else if line.contains('[') && kind.is_provider() {
            self.stats.count("provider faults", 1);
        }
        if let Some(process) = self.bench.proxy.disarm() {
            self.stats.count("connections lost", 1);
            self.bench.gone(process).await?;
        }
        let outcome = self.product.gate.outcome();
        if call == "apply" || call == "finish" {
            self.stats.count("pages and ends stored", 1);
        }
        self.note(format!("{line} → {outcome}"));
        self.settle().await?;
        if matches!(call, "apply" | "finish" | "correct_series") {
            self.nothing_vanished().await?;
        }
        Ok(())
    }

    /// What nobody has touched is at the provider, and so it is no tombstone here.
    async fn nothing_vanished(&mut self) -> Result<(), Stop> {
        let untouched = self.world.events.iter().filter(|event| event.is_untouched);
        let ids: Vec<&str> = untouched.map(|event| event.id.as_str()).collect();
        let sql =
            "SELECT e.provider_event_id || ' ' || coalesce(e.title, '') FROM calendar_events e
            LEFT JOIN calendar_events p ON p.id = e.parent_event_id
            WHERE e.deleted_at IS NOT NULL
              AND (e.provider_event_id = ANY ($1) OR p.provider_event_id = ANY ($1))";
        let rows = self.bench.client.query(sql, &[&ids]).await?;
        match rows.first() {
            None => Ok(()),
            Some(row) => {
                let event: String = row.get(0);
                Err(Stop::Broken(format!(
                    "{event} is at the provider, nobody has touched it, and here it is a tombstone"
                )))
            }
        }
    }

    pub(crate) fn start_worker(&mut self, number: usize) {
        let work = self.workers[number].work.clone();
        let stop = self.stop.subscribe();
        self.workers[number].turn = Some(tokio::spawn(async move {
            match work.claim().await {
                Ok(Some(claim)) => {
                    work.sync(claim, &stop).await;
                    Turn::Worked
                }
                Ok(None) => Turn::NothingDue,
                Err(_) => Turn::Failed,
            }
        }));
    }

    /// Lets one worker do what is due until nothing is. Whether it came to that.
    pub(crate) async fn drain(&mut self) -> Result<(), Stop> {
        self.rest().await?;
        for _ in 0..200 {
            let before = self.product.watch.claims();
            for number in 0..self.workers.len() {
                self.start_worker(number);
            }
            self.rest().await?;
            if self.product.watch.claims() == before {
                return Ok(());
            }
        }
        Err(Stop::Broken(
            "something is always due: after 200 turns of each worker there is still work"
                .to_owned(),
        ))
    }

    /// One choice of the scheduler.
    async fn step(&mut self) -> Result<(), Stop> {
        self.step += 1;
        self.settle().await?;
        if self.stalled.is_some_and(|(_, until)| until <= self.step) {
            self.stalled = None;
        }
        let stalled = self.stalled.map(|(number, _)| Actor::Worker(number));
        let waiting = self.product.gate.waiting();
        let ready: Vec<usize> = (0..waiting.len())
            .filter(|index| Some(waiting[*index].0) != stalled)
            .collect();
        let idle: Vec<usize> = (0..self.workers.len())
            .filter(|number| self.workers[*number].turn.is_none())
            .collect();
        let busy: Vec<usize> = (0..self.workers.len())
            .filter(|number| self.workers[*number].turn.is_some())
            .collect();
        let if_any = |list: &[usize], weight: u32| if list.is_empty() { 0 } else { weight };
        let pushes = u32::from(!self.pushes.is_empty());
        let weights = [
            if_any(&ready, 120),
            if_any(&idle, 25),
            14,
            pushes * 20,
            pushes * 2,
            pushes * 2,
            12,
            u32::from(self.renewals.is_none()) * 2,
            u32::from(self.user.is_none()) * 2,
            if_any(&busy, 3),
            if_any(&busy, u32::from(self.stalled.is_none()) * 2),
            3,
            u32::from(self.may_skew),
        ];
        match self.rng.weighted(&weights) {
            0 => {
                let index = *self.rng.pick(&ready);
                self.release(index).await?;
            }
            1 => {
                let number = *self.rng.pick(&idle);
                self.start_worker(number);
            }
            2 => self.edit()?,
            3 => {
                let index = self.rng.below(self.pushes.len());
                let push = self.pushes.remove(index);
                self.deliver(push);
            }
            4 => {
                let index = self.rng.below(self.pushes.len());
                self.pushes.remove(index);
                self.stats.count("pushes lost", 1);
                self.note("a push is lost");
            }
            5 => {
                let index = self.rng.below(self.pushes.len());
                let push = self.pushes[index].clone();
                self.stats.count("pushes doubled", 1);
                self.pushes.push(push);
            }
            6 => {
                let seconds = self.some_time();
                self.advance(seconds).await?;
            }
            7 => self.renew(),
            8 => self.user_acts().await?,
            9 => {
                let number = *self.rng.pick(&busy);
                self.crash(number).await;
            }
            10 => {
                let number = *self.rng.pick(&busy);
                self.stalled = Some((number, self.step + 25));
                self.stats.count("stalls", 1);
                self.note(format!("worker{number} stands still"));
                self.advance(i64::try_from(LEASE.as_secs()).unwrap_or(60) + 1)
                    .await?;
            }
            11 => self.provider_acts()?,
            _ => {
                let skew = *self.rng.pick(&[-3600, -60, 30, 600, 7200, 0]);
                self.product.time.set_skew(skew);
                self.is_skewed = true;
                self.stats.count("clock jumps", 1);
                self.note(format!("our clock is {skew} s ahead"));
            }
        }
        Ok(())
    }

    fn some_time(&mut self) -> i64 {
        match self.rng.weighted(&[50, 28, 16, 5, 1]) {
            0 => self.rng.between(1, 10),
            1 => self.rng.between(20, 90),
            2 => self.rng.between(300, 1200),
            3 => self.rng.between(6 * 3600, 40 * 3600),
            _ => self.rng.between(20 * 86_400, 35 * 86_400),
        }
    }

    /// Time passes. Workers that do not stand still have kept their leases alive meanwhile.
    pub(crate) async fn advance(&mut self, seconds: i64) -> Result<(), Stop> {
        for number in 0..self.workers.len() {
            let actor = Actor::Worker(number);
            let is_alive = self.workers[number].turn.is_some()
                && self.stalled.is_none_or(|(stalled, _)| stalled != number);
            let Some(lease) = self.product.watch.lease(actor).filter(|_| is_alive) else {
                continue;
            };
            let until = LEASE + std::time::Duration::from_secs(seconds.unsigned_abs());
            if self
                .product
                .real
                .queue
                .heartbeat(&lease, until)
                .await
                .is_err()
            {
                // What the use case does when its own heartbeat is refused.
                self.note(format!("worker{number} has lost its lease and stops"));
                self.abort(number).await;
            }
        }
        self.product.time.advance(seconds);
        self.simulator
            .set_clock(self.product.time.timestamp(), true);
        self.bench.set_clock(self.product.time.seconds()).await?;
        self.note(format!("{seconds} s pass"));
        Ok(())
    }

    /// The process dies, and another takes its place.
    async fn crash(&mut self, number: usize) {
        self.note(format!("worker{number} crashes"));
        self.stats.count("crashes", 1);
        self.abort(number).await;
        self.workers[number].work = self.product.worker(number);
    }

    async fn abort(&mut self, number: usize) {
        if let Some(task) = self.workers[number].turn.take() {
            task.abort();
            let _ = task.await;
        }
        self.product.watch.stopped(Actor::Worker(number));
    }

    fn edit(&mut self) -> Result<(), Stop> {
        let (mailbox, what) = self.world.edit(&self.simulator, &mut self.rng)?;
        let upn = self.world.mailboxes[mailbox].upn.clone();
        self.note(format!("{upn}: an event is {what}"));
        self.collect(mailbox);
        Ok(())
    }

    /// Pushes about a mailbox set out.
    fn collect(&mut self, mailbox: usize) {
        for held in self.simulator.take_pushes() {
            let is_change = held.kind == PushKind::Change;
            self.stats.count("pushes", 1);
            self.pushes.push(Push {
                mailbox,
                edit: if is_change {
                    self.world.mailboxes[mailbox].last_edit
                } else {
                    0
                },
                body: held.body,
            });
        }
    }

    fn deliver(&mut self, push: Push) {
        let (intake, body) = (self.intake.clone(), push.body.clone());
        let task = tokio::spawn(async move {
            let taken = intake
                .run(CalendarProvider::Microsoft, body.as_bytes())
                .await;
            match taken {
                Ok(taken) if taken.accepted > 0 => Taken::Accepted,
                Ok(_) => Taken::Unknown,
                Err(_) => Taken::Failed,
            }
        });
        self.note("a push arrives");
        self.deliveries.push(Delivery { push, task });
    }

    /// All pushes that are on their way arrive.
    pub(crate) async fn deliver_all(&mut self) -> Result<(), Stop> {
        while let Some(push) = self.pushes.pop() {
            self.deliver(push);
            self.rest().await?;
        }
        Ok(())
    }

    pub(crate) fn renew(&mut self) {
        let renewals = self.product.renewals();
        self.note("renewals");
        self.renewals = Some(tokio::spawn(
            async move { renewals.run_once().await.is_ok() },
        ));
    }

    /// A user does something at our API.
    async fn user_acts(&mut self) -> Result<(), Stop> {
        let user = self.rng.below(self.users.len());
        let connections = self.connections().await?;
        let upn = self.world.mailboxes[self.users[user].mailbox].upn.clone();
        let mine: Vec<&ConnectionRow> = connections
            .iter()
            .filter(|connection| connection.signed_in == upn)
            .collect();
        let id = self.users[user].id;
        let what = self.rng.weighted(&[4, 2, 2, 3]);
        if mine.is_empty() || what == 0 {
            self.sign_in(user);
            return Ok(());
        }
        let connection = (*self.rng.pick(&mine)).clone();
        let Ok(target) = connection.id.parse().map(ConnectionId) else {
            return Ok(());
        };
        let ports = self.product.ports(Actor::User);
        let now = calendar_domain::ports::Clock::now(self.product.time.as_ref());
        self.user = Some(match what {
            1 => {
                self.note(format!("{upn} disconnects"));
                let disconnect = Disconnect {
                    connections: ports.clone(),
                    subscriptions: ports.clone(),
                    providers: self.product.providers(&ports),
                    clock: self.product.time.clone(),
                };
                tokio::spawn(
                    async move { format!("{:?}", disconnect.run(id, target).await.is_ok()) },
                )
            }
            2 => {
                let paused = !connection.is_paused;
                let change = ConnectionChange {
                    paused: Some(paused),
                    ..ConnectionChange::default()
                };
                tokio::spawn(async move {
                    format!("{:?}", ports.change(id, target, change, now).await.is_ok())
                })
            }
            _ => tokio::spawn(async move {
                format!("{:?}", ports.request_sync(id, target, now).await.is_ok())
            }),
        });
        Ok(())
    }

    /// The provider loses something.
    fn provider_acts(&mut self) -> Result<(), Stop> {
        let mailbox = self.rng.below(self.world.mailboxes.len());
        let upn = self.world.mailboxes[mailbox].upn.clone();
        let subscriptions = self.simulator.subscriptions();
        let subscription = subscriptions
            .iter()
            .find(|subscription| subscription.mailbox == upn);
        let what = match (self.rng.weighted(&[5, 4, 1, 3, 2, 3]), subscription) {
            (0, _) => {
                self.simulator.invalidate_delta_tokens(&upn)?;
                "delta tokens are invalid"
            }
            (1, _) => {
                self.simulator.revoke_access_tokens(&upn)?;
                "access tokens are revoked"
            }
            (2, _) => {
                self.simulator.revoke_refresh_tokens(&upn)?;
                "refresh tokens are revoked"
            }
            (3, Some(subscription)) => {
                if self.rng.percent(70) {
                    self.simulator
                        .send_lifecycle(&subscription.id, LifecycleEvent::SubscriptionRemoved)?;
                }
                // The event may have removed it already.
                let _ = self.simulator.remove_subscription(&subscription.id);
                "the subscription is removed"
            }
            (4, Some(subscription)) => {
                self.simulator.expire_subscription(&subscription.id)?;
                "the subscription expires"
            }
            (5, Some(subscription)) => {
                let event = *self.rng.pick(&[
                    LifecycleEvent::Missed,
                    LifecycleEvent::ReauthorizationRequired,
                ]);
                self.simulator.send_lifecycle(&subscription.id, event)?;
                "a lifecycle event is sent"
            }
            _ => return Ok(()),
        };
        self.stats.count("provider's losses", 1);
        self.note(format!("{upn}: {what}"));
        self.collect(mailbox);
        Ok(())
    }

    /// Everything stops, wherever it is.
    async fn end(&mut self) {
        for number in 0..self.workers.len() {
            self.abort(number).await;
        }
        for delivery in std::mem::take(&mut self.deliveries) {
            delivery.task.abort();
            let _ = delivery.task.await;
        }
        if let Some(task) = self.renewals.take() {
            task.abort();
            let _ = task.await;
        }
        if let Some(task) = self.user.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

/// What a task came to that has ended.
async fn ended<T: Default>(task: JoinHandle<T>) -> T {
    task.await.unwrap_or_default()
}
