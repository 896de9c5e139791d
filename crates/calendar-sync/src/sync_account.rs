//! Use case: work on a claimed account: its push, then one due connection after the other.

use std::sync::Arc;
use std::time::Duration as StdDuration;

use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{AccountId, ConnectionId, PassId};
use calendar_domain::ports::{
    Clock, ConnectionStore, EventStore, Secrets, SubscriptionStore, SyncQueue,
};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::PushWork;
use calendar_domain::sync::{Applied, Claim, DueConnection, Lease, Mailbox, PassFailure, PassKind};
use time::Duration;
use tokio::sync::watch;

use crate::access::{Access, readable};
use crate::pass::{PassOutcome, PassRun, spread};
use crate::push::{PushRun, grace};
use crate::{Provider, Providers};

/// The first wait after a failure; each further one doubles it.
const BACKOFF_FIRST: StdDuration = StdDuration::from_secs(15);
/// The longest wait of ours.
const BACKOFF_MOST: StdDuration = StdDuration::from_hours(1);
/// The longest wait that a provider may impose.
const RETRY_AFTER_MOST: StdDuration = StdDuration::from_hours(6);

/// A claim begins no further pass after so long: others wait for the place, the account's subscription may
/// have to be renewed, and pushes may wait, which the next claim sees to first.
const CLAIM_MOST: Duration = Duration::minutes(1);

/// How long after a lease could not be given back that is tried again.
const RELEASE_AGAIN: StdDuration = StdDuration::from_secs(1);

/// What an operator sets.
#[derive(Clone, Debug)]
pub struct SyncSettings {
    /// How far back the window reaches.
    pub past: Duration,
    /// How far ahead the window reaches.
    pub future: Duration,
    /// How long after a pass the next one is due, without push.
    pub poll: StdDuration,
    /// The same, where pushes can be relied on.
    pub poll_pushed: StdDuration,
    /// How long a lease lives without a heartbeat.
    pub lease_ttl: StdDuration,
}

/// Works on a claimed account: keeps the lease alive, sees to its push, passes over its due connections,
/// gives the lease back.
#[derive(Clone)]
pub struct SyncAccount {
    /// Leases and failures.
    pub queue: Arc<dyn SyncQueue>,
    /// Where events go.
    pub events: Arc<dyn EventStore>,
    /// Where refreshed tokens go.
    pub connections: Arc<dyn ConnectionStore>,
    /// Where subscriptions are.
    pub subscriptions: Arc<dyn SubscriptionStore>,
    /// Makes their client states.
    pub secrets: Arc<dyn Secrets>,
    /// Where events come from.
    pub providers: Arc<Providers>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What an operator sets.
    pub settings: SyncSettings,
}

/// What a pass did. It is logged here, one line each.
#[derive(Clone, Debug)]
pub struct PassReport {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its account.
    pub account_id: AccountId,
    /// The pass; one that is taken up again keeps its id.
    pub pass_id: PassId,
    /// Full or delta.
    pub kind: PassKind,
    /// Pages fetched in this run.
    pub pages: u32,
    /// What was written.
    pub applied: Applied,
    /// How long it took.
    pub duration: StdDuration,
    /// The stable code of the failure, if it failed.
    pub outcome: Result<(), String>,
}

impl SyncAccount {
    /// Works until all due connections are done, the lease is lost, or `stop` becomes true.
    pub async fn run(&self, claim: Claim, stop: &watch::Receiver<bool>) -> Vec<PassReport> {
        let lease = claim.lease;
        let mut reports = Vec::with_capacity(claim.connections.len());
        let ended = tokio::select! {
            ended = self.passes(claim, stop, &mut reports) => ended,
            error = self.keep_alive(&lease) => Err(error),
        };
        // A lease that was refused is not given back: either it is another's, or (its connection was
        // removed) it runs out, so that the account is not claimed again at once, and again.
        if let Err(error) = ended {
            tracing::warn!(account_id = %lease.account_id, code = %error.code, "the lease no longer holds: the account is left to its next claim");
        } else if let Err(error) = self.give_back(&lease).await {
            // It runs out by itself.
            tracing::warn!(account_id = %lease.account_id, error = &error as &dyn std::error::Error, "the lease could not be given back");
        }
        reports
    }

    /// Gives the lease back. Where the database is away it is asked again for as long as the lease would last,
    /// so that the account does not wait for its end when the database is back.
    async fn give_back(&self, lease: &Lease) -> PortResult<()> {
        let mut waited = StdDuration::ZERO;
        loop {
            match self.queue.release(lease).await {
                Err(error)
                    if error.class == FailureClass::Retryable
                        && waited < self.settings.lease_ttl =>
                {
                    tokio::time::sleep(RELEASE_AGAIN).await;
                    waited += RELEASE_AGAIN;
                }
                answer => return answer,
            }
        }
    }

    /// Prolongs the lease until that fails; returns why.
    async fn keep_alive(&self, lease: &Lease) -> PortError {
        let mut failures = 0;
        loop {
            tokio::time::sleep(self.settings.lease_ttl / 3).await;
            match self.queue.heartbeat(lease, self.settings.lease_ttl).await {
                Ok(()) => failures = 0,
                // The database may be away for a moment; writes are fenced in any case.
                Err(error) if error.class == FailureClass::Retryable && failures < 2 => {
                    failures += 1;
                }
                Err(error) => return error,
            }
        }
    }

    /// Does what the claim is for. Fails when a write was refused.
    async fn passes(
        &self,
        claim: Claim,
        stop: &watch::Receiver<bool>,
        reports: &mut Vec<PassReport>,
    ) -> PortResult<()> {
        let Some(provider) = self.providers.get(claim.account.provider) else {
            return Ok(());
        };
        let lease = &claim.lease;
        let work = if claim.push.is_due {
            Some(self.subscriptions.push_work(lease).await?)
        } else {
            None
        };
        if claim.connections.is_empty() && work.is_none() {
            return Ok(());
        }
        let due = claim.connections.iter().map(|due| &due.tokens);
        let tokens = match readable(due.chain(work.iter().map(|work| &work.tokens))) {
            Ok(tokens) => tokens,
            Err(error) if error.class == FailureClass::Authentication => {
                self.need_reauth(lease, &error).await;
                return Ok(());
            }
            Err(error) => {
                tracing::error!(account_id = %claim.account.id, code = %error.code, "the account's tokens do not open: is its key in CALENDAR_TOKEN_KEYS?");
                let all: Vec<&DueConnection> = claim.connections.iter().collect();
                self.give_up(lease, &all, &error).await;
                if let Some(work) = work {
                    self.push_failed(lease, work.failure_count, &error).await;
                }
                return Ok(());
            }
        };
        let mut access = Access {
            provider: claim.account.provider,
            lease: claim.lease,
            authorizer: provider.authorizer.as_ref(),
            connections: self.connections.as_ref(),
            clock: self.clock.as_ref(),
            tokens,
            failure: None,
            unstored: None,
            is_fresh: false,
        };
        // Before the passes: what changes from now on is pushed, what changed before they read.
        let is_pushed = match work {
            None => claim.push.is_healthy,
            Some(work) => match self.see_to_push(&claim, provider, work, &mut access).await {
                Ok(is_pushed) => is_pushed,
                Err(error) if error.class == FailureClass::Authentication => {
                    self.need_reauth(lease, &error).await;
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        self.pass_over(&claim, provider, is_pushed, &mut access, stop, reports)
            .await
    }

    /// Passes over the due connections. Fails when a write was refused.
    async fn pass_over(
        &self,
        claim: &Claim,
        provider: &Provider,
        is_pushed: bool,
        access: &mut Access<'_>,
        stop: &watch::Receiver<bool>,
        reports: &mut Vec<PassReport>,
    ) -> PortResult<()> {
        let lease = &claim.lease;
        let began = self.clock.now();
        let mut turns = (&Mailbox::Own, claim.turns);
        // Mailboxes whose provider asked us to slow down.
        let mut throttled: Vec<&Mailbox> = Vec::new();
        for (index, connection) in claim.connections.iter().enumerate() {
            let started = self.clock.now();
            if *stop.borrow() {
                return Ok(());
            }
            if started - began > CLAIM_MOST {
                return self.queue.wait_behind_others(lease, started).await;
            }
            let mailbox = &connection.calendar.mailbox;
            if throttled.contains(&mailbox) {
                continue;
            }
            if turns.0 != mailbox || turns.1 == 0 {
                let ttl = self.settings.lease_ttl;
                let taken = self.queue.take_turns(lease, connection.id, started, ttl);
                turns = (mailbox, taken.await?);
            }
            if turns.1 == 0 {
                continue;
            }
            let mut run = PassRun::new(
                self,
                connection,
                provider.reader.as_ref(),
                is_pushed && !connection.is_shared,
                turns.1,
                access,
            );
            let result = run.run(stop).await;
            let report = PassReport {
                connection_id: connection.id,
                account_id: claim.account.id,
                pass_id: run.pass.id,
                kind: run.pass.kind,
                pages: run.pages,
                applied: run.applied,
                duration: (self.clock.now() - started).try_into().unwrap_or_default(),
                outcome: result
                    .as_ref()
                    .map(|_| ())
                    .map_err(|error| error.code.clone()),
            };
            count(claim.account.provider, &report, &result);
            log(&report, &result);
            reports.push(report);
            let Err(error) = result else {
                if is_pushed && !connection.is_shared {
                    self.suspect_silence(lease, connection, reports).await?;
                }
                continue;
            };
            if error.code == PortError::LEASE_LOST {
                return Err(error);
            }
            if error.class == FailureClass::Authentication {
                self.need_reauth(lease, &error).await;
                return Ok(());
            }
            if access.failure.is_some() {
                // Without a token all fail. They come again together, and ask for one once.
                let rest: Vec<&DueConnection> = claim.connections[index..].iter().collect();
                self.give_up(lease, &rest, &error).await;
                return Ok(());
            }
            if error.class == FailureClass::RateLimited {
                throttled.push(mailbox);
            }
            self.give_up(lease, &[connection], &error).await;
        }
        Ok(())
    }

    /// Sees to the account's push. Whether pushes can be relied on. Fails when the user has to sign in
    /// again, and when a write was refused; anything else is tried again, and passes go on without push.
    async fn see_to_push(
        &self,
        claim: &Claim,
        provider: &Provider,
        work: PushWork,
        access: &mut Access<'_>,
    ) -> PortResult<bool> {
        // A claim asks only for providers that can reach us.
        let Some(endpoint) = &provider.push else {
            return Ok(false);
        };
        let failures = work.failure_count;
        if claim.turns == 0 {
            let busy = PortError::new(FailureClass::RateLimited, "mailbox_busy");
            self.push_failed(&claim.lease, failures, &busy).await;
            return Ok(claim.push.is_healthy);
        }
        let mut run = PushRun {
            provider: claim.account.provider,
            notifier: provider.notifier.as_ref(),
            endpoint,
            subscriptions: self.subscriptions.as_ref(),
            secrets: self.secrets.as_ref(),
            grace: grace(self.settings.poll_pushed),
            access,
        };
        match run.run(work).await {
            Err(error)
                if error.class != FailureClass::Authentication
                    && error.code != PortError::LEASE_LOST =>
            {
                self.push_failed(&claim.lease, failures, &error).await;
                Ok(false)
            }
            answer => answer,
        }
    }

    async fn push_failed(&self, lease: &Lease, failures: u32, error: &PortError) {
        let retry_at = self.clock.now() + backoff(failures, error, spread(PassId::new()));
        tracing::warn!(account_id = %lease.account_id, error = error as &dyn std::error::Error, %retry_at, "the subscription could not be seen to; it is tried again");
        let recorded = self
            .subscriptions
            .failed(lease, &error.code, retry_at)
            .await;
        if let Err(error) = recorded {
            tracing::warn!(account_id = %lease.account_id, error = &error as &dyn std::error::Error, "that could not be recorded");
        }
    }

    /// A poll that finds a change which no push has announced means that pushes may no longer arrive.
    /// Fails when a write was refused.
    async fn suspect_silence(
        &self,
        lease: &Lease,
        connection: &DueConnection,
        reports: &[PassReport],
    ) -> PortResult<()> {
        let (Some(report), Some(since)) = (reports.last(), connection.last_synced_at) else {
            return Ok(());
        };
        let Applied {
            inserted,
            updated,
            removed,
            ..
        } = report.applied;
        if connection.push_look.is_some()
            || report.kind == PassKind::Full
            || inserted + updated + removed == 0
        {
            return Ok(());
        }
        let now = self.clock.now();
        let check_at = now + grace(self.settings.poll_pushed);
        let suspected = self
            .subscriptions
            .suspect_silence(lease, since, check_at, now)
            .await;
        match suspected {
            Err(error) if error.code == PortError::LEASE_LOST => Err(error),
            Err(error) => {
                tracing::warn!(account_id = %lease.account_id, error = &error as &dyn std::error::Error, "that pushes may be lost could not be recorded");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Records a failure that these connections share: all wait as long as the first of them.
    async fn give_up(&self, lease: &Lease, connections: &[&DueConnection], error: &PortError) {
        let failures = connections.first().map_or(0, |first| first.failure_count);
        let wait = backoff(failures, error, spread(PassId::new()));
        for connection in connections {
            let now = self.clock.now();
            let failure = PassFailure {
                code: error.code.clone(),
                retry_at: now + wait,
                whole_mailbox: error.class == FailureClass::RateLimited,
            };
            if let Err(error) = self.queue.fail(lease, connection.id, failure, now).await {
                tracing::warn!(connection_id = %connection.id, error = &error as &dyn std::error::Error, "the failure could not be recorded");
            }
        }
    }

    async fn need_reauth(&self, lease: &Lease, error: &PortError) {
        tracing::warn!(account_id = %lease.account_id, code = %error.code, "the user has to sign in at the provider again");
        if let Err(error) = self
            .connections
            .need_reauth(lease, &error.code, self.clock.now())
            .await
        {
            tracing::warn!(account_id = %lease.account_id, error = &error as &dyn std::error::Error, "that could not be recorded");
        }
    }
}

/// How long to wait: what the provider asked for, else exponential with full jitter (`chance` from 0
/// to 1), and longer where trying again helps only after somebody has changed something.
pub(crate) fn backoff(failures: u32, error: &PortError, chance: f64) -> StdDuration {
    let most = BACKOFF_FIRST
        .saturating_mul(1 << failures.min(10))
        .min(BACKOFF_MOST);
    if let Some(asked) = error.retry_after {
        // Not less than our own wait: "at once", for ever, is no wait at all.
        return asked
            .min(RETRY_AFTER_MOST)
            .max(StdDuration::from_secs(1) + most.mul_f64(chance));
    }
    match error.class {
        FailureClass::Permanent | FailureClass::InvalidInput => {
            BACKOFF_MOST / 2 + (BACKOFF_MOST / 2).mul_f64(chance)
        }
        _ => StdDuration::from_secs(1) + most.mul_f64(chance),
    }
}

fn count(provider: CalendarProvider, report: &PassReport, result: &PortResult<PassOutcome>) {
    let (provider, kind) = (provider.as_str(), name(report.kind));
    let outcome = match result {
        Ok(PassOutcome::Finished) => "finished",
        Ok(PassOutcome::Interrupted) => "interrupted",
        Err(error) => error.class.as_str(),
    };
    metrics::counter!("calendar_passes_total", "provider" => provider, "kind" => kind, "outcome" => outcome)
        .increment(1);
    metrics::histogram!("calendar_pass_duration_seconds", "provider" => provider, "kind" => kind)
        .record(report.duration);
}

fn name(kind: PassKind) -> &'static str {
    match kind {
        PassKind::Full => "full",
        PassKind::Delta => "delta",
    }
}

fn log(report: &PassReport, result: &PortResult<PassOutcome>) {
    let Applied {
        inserted,
        updated,
        unchanged,
        removed,
        skipped,
        ignored,
        ..
    } = report.applied;
    let kind = name(report.kind);
    let millis = u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX);
    let PassReport {
        connection_id,
        account_id,
        pass_id,
        pages,
        ..
    } = report;
    match result {
        Ok(outcome) => tracing::info!(
            %connection_id, %account_id, %pass_id, kind, pages, changed = inserted + updated, unchanged, removed, skipped, ignored,
            duration_ms = millis, interrupted = *outcome == PassOutcome::Interrupted, "pass"
        ),
        Err(error) => tracing::warn!(
            %connection_id, %account_id, %pass_id, kind, pages, changed = inserted + updated, removed,
            duration_ms = millis, code = %error.code, class = ?error.class,
            error = error.source.as_deref().map(|source| source as &dyn std::error::Error), "pass failed"
        ),
    }
}
