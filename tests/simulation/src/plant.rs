//! Bugs planted on purpose, round the ports and the HTTP: each has to be found.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::event::ProviderEventId;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{ConnectionId, EventId, PassId, TurnId, UserId, WorkerId};
use calendar_domain::ports::{EventStore, SyncQueue};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::rejected::RejectedEvent;
use calendar_domain::sync::{
    AfterPage, Applied, Claim, Lease, PageBatch, Pass, PassEnd, PassFailure, PassKind,
    PassPosition, SeriesCorrection, TouchedSeries, UnseenReport,
};
use time::OffsetDateTime;
use tokio_postgres::Client;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Writes are made under whatever lease the account has now.
    Fencing,
    /// What a full pass has not seen is removed after each of its pages.
    EarlySweep,
    /// The checkpoint is stored in a transaction of its own, before the page's rows.
    CursorFirst,
    /// Requests for further pages go without their preferences.
    PreferDropped,
    /// What a pass has seen is known to the worker only that saw it.
    SeenInMemory,
    /// Giving a lease back forgets the push that came meanwhile.
    PushForgotten,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Fencing,
        Self::EarlySweep,
        Self::CursorFirst,
        Self::PreferDropped,
        Self::SeenInMemory,
        Self::PushForgotten,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fencing => "fencing",
            Self::EarlySweep => "early-sweep",
            Self::CursorFirst => "cursor-first",
            Self::PreferDropped => "prefer-dropped",
            Self::SeenInMemory => "seen-in-memory",
            Self::PushForgotten => "push-forgotten",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|plant| plant.name() == name)
    }
}

/// The stores with a bug in them.
pub(crate) struct Planted {
    pub(crate) plant: Plant,
    pub(crate) queue: Arc<dyn SyncQueue>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) client: Arc<Client>,
    /// Who has seen something of which pass.
    pub(crate) memory: Mutex<HashSet<(WorkerId, PassId)>>,
}

fn failed(error: tokio_postgres::Error) -> PortError {
    PortError::with_source(FailureClass::Retryable, "planted", error)
}

impl Planted {
    async fn lease(&self, lease: &Lease) -> PortResult<Lease> {
        if self.plant != Plant::Fencing {
            return Ok(*lease);
        }
        let sql = "SELECT lease_owner::text, lease_fence FROM calendar_accounts WHERE id = $1::text::uuid";
        let account = lease.account_id.to_string();
        let row = self
            .client
            .query_one(sql, &[&account])
            .await
            .map_err(failed)?;
        let owner: Option<String> = row.get(0);
        Ok(owner
            .and_then(|owner| owner.parse().ok())
            .map_or(*lease, |owner| Lease {
                owner: WorkerId(owner),
                fence: row.get(1),
                ..*lease
            }))
    }

    async fn sweep(&self, connection: ConnectionId, pass: &Pass) -> PortResult<()> {
        let sql = "UPDATE calendar_events e SET deleted_at = updated_at
            WHERE e.calendar_connection_id = $1::text::uuid AND e.deleted_at IS NULL
              AND NOT (e.is_recurring AND e.parent_event_id IS NULL)
              AND e.start_time < to_timestamp($4) AND e.end_time > to_timestamp($3)
              AND NOT EXISTS (SELECT 1 FROM sync_pass_seen p
                WHERE p.pass_id = $2::text::uuid AND p.event_id = e.id)";
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        let bounds = (
            pass.window.start.unix_timestamp() as f64,
            pass.window.end.unix_timestamp() as f64,
        );
        let (connection, pass) = (connection.to_string(), pass.id.to_string());
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&connection, &pass, &bounds.0, &bounds.1];
        self.client
            .execute(sql, &parameters)
            .await
            .map_err(failed)?;
        Ok(())
    }
}

#[async_trait]
impl EventStore for Planted {
    async fn unknown_masters(
        &self,
        connection: ConnectionId,
        masters: &[ProviderEventId],
    ) -> PortResult<Vec<ProviderEventId>> {
        self.events.unknown_masters(connection, masters).await
    }

    async fn apply(
        &self,
        lease: &Lease,
        batch: PageBatch,
        now: OffsetDateTime,
    ) -> PortResult<Applied> {
        let lease = self.lease(lease).await?;
        let (connection, pass) = (batch.connection_id, batch.pass.clone());
        let goes_on = matches!(batch.then, AfterPage::Checkpoint(PassPosition::Page(_)));
        let applied = self.events.apply(&lease, batch, now).await?;
        if self.plant == Plant::EarlySweep && pass.kind == PassKind::Full && goes_on {
            self.sweep(connection, &pass).await?;
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.insert((lease.owner, pass.id));
        Ok(applied)
    }

    async fn rejected_due(
        &self,
        connection: ConnectionId,
        limit: u32,
    ) -> PortResult<Vec<RejectedEvent>> {
        self.events.rejected_due(connection, limit).await
    }

    async fn restart(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        let lease = self.lease(lease).await?;
        self.events.restart(&lease, connection, pass, now).await
    }

    async fn touched_series(
        &self,
        connection: ConnectionId,
        pass: &Pass,
        after: Option<EventId>,
        limit: u32,
    ) -> PortResult<Vec<TouchedSeries>> {
        self.events
            .touched_series(connection, pass, after, limit)
            .await
    }

    async fn correct_series(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        corrections: Vec<SeriesCorrection>,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        let lease = self.lease(lease).await?;
        self.events
            .correct_series(&lease, connection, corrections, now)
            .await
    }

    async fn unseen(&self, connection: ConnectionId, pass: &Pass) -> PortResult<UnseenReport> {
        self.events.unseen(connection, pass).await
    }

    async fn finish(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        end: PassEnd,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        let lease = self.lease(lease).await?;
        self.events.finish(&lease, connection, pass, end, now).await
    }
}

#[async_trait]
impl SyncQueue for Planted {
    async fn claim(
        &self,
        worker: WorkerId,
        providers: &[CalendarProvider],
        pushing: &[CalendarProvider],
        now: OffsetDateTime,
        ttl: Duration,
    ) -> PortResult<Option<Claim>> {
        let claim = self
            .queue
            .claim(worker, providers, pushing, now, ttl)
            .await?;
        let due = claim.iter().flat_map(|claim| &claim.connections);
        for pass in due.filter_map(|due| due.pass.as_ref()) {
            let is_mine = {
                let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
                memory.contains(&(worker, pass.id))
            };
            if self.plant == Plant::SeenInMemory && !is_mine {
                let sql = "DELETE FROM sync_pass_seen WHERE pass_id = $1::text::uuid";
                let pass = pass.id.to_string();
                self.client.execute(sql, &[&pass]).await.map_err(failed)?;
            }
        }
        Ok(claim)
    }

    async fn take_turns(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        now: OffsetDateTime,
        ttl: Duration,
    ) -> PortResult<u32> {
        self.queue.take_turns(lease, connection, now, ttl).await
    }

    async fn take_turn(
        &self,
        provider: CalendarProvider,
        mailbox: &str,
        ttl: Duration,
    ) -> PortResult<Option<TurnId>> {
        self.queue.take_turn(provider, mailbox, ttl).await
    }

    async fn give_turn_back(&self, turn: TurnId) -> PortResult<()> {
        self.queue.give_turn_back(turn).await
    }

    async fn wait_behind_others(&self, lease: &Lease, now: OffsetDateTime) -> PortResult<()> {
        self.queue.wait_behind_others(lease, now).await
    }

    async fn heartbeat(&self, lease: &Lease, ttl: Duration) -> PortResult<()> {
        self.queue.heartbeat(lease, ttl).await
    }

    async fn fail(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        failure: PassFailure,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        self.queue.fail(lease, connection, failure, now).await
    }

    async fn release(&self, lease: &Lease) -> PortResult<()> {
        self.queue.release(lease).await?;
        if self.plant == Plant::PushForgotten {
            // The looks that are still to come would hide it: they are part of what a push asks for.
            let sql = "WITH pushed AS (
                    SELECT id FROM calendar_accounts WHERE id = $1::text::uuid AND pushed_at IS NOT NULL
                ), looks AS (
                    UPDATE calendar_sync_states AS s
                    SET push_look = NULL, due_at = s.due_at + interval '6 hours'
                    FROM pushed WHERE s.account_id = pushed.id AND s.push_look IS NOT NULL
                )
                UPDATE calendar_accounts AS a SET pushed_at = NULL FROM pushed WHERE a.id = pushed.id";
            let account = lease.account_id.to_string();
            self.client
                .execute(sql, &[&account])
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    async fn request_sync(
        &self,
        user: UserId,
        connection: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool> {
        self.queue.request_sync(user, connection, now).await
    }
}

/// Stands before the gate: between its two transactions a worker may die.
pub(crate) struct CursorFirst(pub(crate) Arc<dyn EventStore>);

#[async_trait]
impl EventStore for CursorFirst {
    async fn unknown_masters(
        &self,
        connection: ConnectionId,
        masters: &[ProviderEventId],
    ) -> PortResult<Vec<ProviderEventId>> {
        self.0.unknown_masters(connection, masters).await
    }

    async fn apply(
        &self,
        lease: &Lease,
        batch: PageBatch,
        now: OffsetDateTime,
    ) -> PortResult<Applied> {
        let cursor = PageBatch {
            changes: Vec::new(),
            ..batch.clone()
        };
        self.0.apply(lease, cursor, now).await?;
        // As if it began, or a pass that has just ended could not be written to.
        let rows = PageBatch {
            pass: Pass {
                position: PassPosition::Begin,
                ..batch.pass
            },
            ..batch
        };
        self.0.apply(lease, rows, now).await
    }

    async fn rejected_due(
        &self,
        connection: ConnectionId,
        limit: u32,
    ) -> PortResult<Vec<RejectedEvent>> {
        self.0.rejected_due(connection, limit).await
    }

    async fn restart(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        self.0.restart(lease, connection, pass, now).await
    }

    async fn touched_series(
        &self,
        connection: ConnectionId,
        pass: &Pass,
        after: Option<EventId>,
        limit: u32,
    ) -> PortResult<Vec<TouchedSeries>> {
        self.0.touched_series(connection, pass, after, limit).await
    }

    async fn correct_series(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        corrections: Vec<SeriesCorrection>,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        self.0
            .correct_series(lease, connection, corrections, now)
            .await
    }

    async fn unseen(&self, connection: ConnectionId, pass: &Pass) -> PortResult<UnseenReport> {
        self.0.unseen(connection, pass).await
    }

    async fn finish(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        end: PassEnd,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        self.0.finish(lease, connection, pass, end, now).await
    }
}
