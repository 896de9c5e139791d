//! What passes find: `EventStore` on PostgreSQL. Which rows a page writes is decided by
//! [`calendar_domain::plan`]; the statements stand in the files below this one.
//!
//! Every statement on the event tables names the connection, so that they can be spread by it.

use std::collections::HashSet;

use async_trait::async_trait;
use calendar_domain::event::{EventChange, EventKind, ProviderEventId};
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{ConnectionId, EventId};
use calendar_domain::normalise::stored_identifier;
use calendar_domain::plan::{self, Known, WritePlan};
use calendar_domain::ports::EventStore;
use calendar_domain::rejected::RejectedEvent;
use calendar_domain::sync::{
    AfterPage, Applied, Lease, PageBatch, Pass, PassEnd, PassKind, PassPosition, SeriesCorrection,
    TouchedSeries, Unseen, UnseenReport,
};
use diesel::sql_types::{Array, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::AsyncPgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::database::Database;
use crate::error::PgError;
use crate::fence;
use crate::statement::Statement;
use end::Written;

mod children;
mod end;
mod known;
mod rejected;
mod rows;
mod series;

pub(crate) use known::span;
pub(crate) use rejected::{may_be_retried, tries};
pub(crate) use rows::teams_of;

/// `EventStore` on PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgEventStore {
    database: Database,
}

impl PgEventStore {
    /// The store in this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
}

#[derive(diesel::QueryableByName)]
struct ProviderIdRow {
    #[diesel(sql_type = Text)]
    provider_event_id: String,
}

fn uuids(ids: &[EventId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.0).collect()
}

/// Makes tombstones of live rows, and of the live instances of those that are masters; how many.
async fn remove(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    events: &[EventId],
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    if events.is_empty() {
        return Ok(0);
    }
    let sql = "
        UPDATE calendar_events AS e SET deleted_at = $2, updated_at = $2, teams_enabled = false
        WHERE e.calendar_connection_id = $1 AND e.deleted_at IS NULL
          AND (e.id = ANY ($3) OR e.parent_event_id = ANY ($3))";
    Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Timestamptz, _>(now)
        .bind::<Array<SqlUuid>, _>(uuids(events))
        .run(connection)
        .await
}

/// Makes way for the page's rows: identities that pass from one row to another are cleared first.
/// Returns how many live rows became tombstones.
async fn make_way(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    plan: &WritePlan,
    known: &Known,
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    let mut removed = 0;
    if !plan.displaced.is_empty() {
        let sql = "
            UPDATE calendar_events AS e SET provider_event_id = 'displaced:' || e.id,
                deleted_at = coalesce(e.deleted_at, $2), updated_at = $2, teams_enabled = false
            WHERE e.calendar_connection_id = $1 AND e.id = ANY ($3)";
        Statement::new(sql)
            .bind::<SqlUuid, _>(id.0)
            .bind::<Timestamptz, _>(now)
            .bind::<Array<SqlUuid>, _>(uuids(&plan.displaced))
            .run(connection)
            .await?;
        let displaced: HashSet<EventId> = plan.displaced.iter().copied().collect();
        let live = known
            .by_provider_id
            .values()
            .filter(|row| !row.deleted && displaced.contains(&row.id));
        removed += live.count() as u64;
    }
    let rekeyed: Vec<Uuid> = plan
        .writes
        .iter()
        .filter(|write| write.rekeyed)
        .map(|write| write.id.0)
        .collect();
    if !rekeyed.is_empty() {
        let sql = "
            UPDATE calendar_events AS e SET provider_event_id = 'parked:' || e.id,
                original_start = NULL
            WHERE e.calendar_connection_id = $1 AND e.id = ANY ($2)";
        Statement::new(sql)
            .bind::<SqlUuid, _>(id.0)
            .bind::<Array<SqlUuid>, _>(rekeyed)
            .run(connection)
            .await?;
    }
    removed += remove(connection, id, &plan.removed, now).await?;
    if !plan.no_longer_masters.is_empty() {
        let written: Vec<Uuid> = plan.writes.iter().map(|write| write.id.0).collect();
        let sql = "
            UPDATE calendar_events AS e SET deleted_at = $2, updated_at = $2, teams_enabled = false
            WHERE e.calendar_connection_id = $1 AND e.parent_event_id = ANY ($3)
              AND e.deleted_at IS NULL AND e.id <> ALL ($4)";
        removed += Statement::new(sql)
            .bind::<SqlUuid, _>(id.0)
            .bind::<Timestamptz, _>(now)
            .bind::<Array<SqlUuid>, _>(uuids(&plan.no_longer_masters))
            .bind::<Array<SqlUuid>, _>(written)
            .run(connection)
            .await?;
    }
    Ok(removed + evict(connection, id, plan, known, now).await?)
}

/// A row that moves to a place in a series, or comes back to it, is its only live one: whatever
/// else stands there is gone at the provider.
async fn evict(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    plan: &WritePlan,
    known: &Known,
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    let tombstones: HashSet<EventId> = known
        .by_provider_id
        .values()
        .filter(|row| row.deleted)
        .map(|row| row.id)
        .collect();
    let places: Vec<(Uuid, OffsetDateTime)> = plan
        .writes
        .iter()
        .filter(|write| !write.is_new && (write.rekeyed || tombstones.contains(&write.id)))
        .filter_map(|write| Some((write.parent?.0, write.original_start?.to_column())))
        .collect();
    if places.is_empty() {
        return Ok(0);
    }
    let (parents, starts): (Vec<Uuid>, Vec<OffsetDateTime>) = places.into_iter().unzip();
    let written: Vec<Uuid> = plan.writes.iter().map(|write| write.id.0).collect();
    let sql = "
        UPDATE calendar_events AS e SET deleted_at = $2, updated_at = $2, teams_enabled = false
        FROM unnest($3::uuid[], $4::timestamptz[]) AS g (parent, original_start)
        WHERE e.calendar_connection_id = $1 AND e.parent_event_id = g.parent
          AND e.original_start = g.original_start AND e.deleted_at IS NULL AND e.id <> ALL ($5)";
    Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Timestamptz, _>(now)
        .bind::<Array<SqlUuid>, _>(parents)
        .bind::<Array<Timestamptz>, _>(starts)
        .bind::<Array<SqlUuid>, _>(written)
        .run(connection)
        .await
}

/// What a full pass saw it needs at its end. A delta pass asks only about the series it touched.
async fn write_seen(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    pass: &Pass,
    masters: &[String],
    plan: &WritePlan,
) -> Result<(), PgError> {
    if plan.seen.is_empty() || (pass.kind == PassKind::Delta && !plan.touched_series) {
        return Ok(());
    }
    forget_resent(connection, id, pass, masters).await?;
    let sql = "
        INSERT INTO sync_pass_seen (calendar_connection_id, pass_id, event_id)
        SELECT $1, $2, event_id FROM unnest($3::uuid[]) AS event_id
        ON CONFLICT (calendar_connection_id, pass_id, event_id) DO NOTHING";
    Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<SqlUuid, _>(pass.id.0)
        .bind::<Array<SqlUuid>, _>(uuids(&plan.seen))
        .run(connection)
        .await?;
    Ok(())
}

/// A master that a pass meets again was changed meanwhile, and its series comes once more: an occurrence
/// that was seen the first time may be missing now. One too many that is forgotten is only asked for.
async fn forget_resent(
    connection: &mut AsyncPgConnection,
    id: ConnectionId,
    pass: &Pass,
    masters: &[String],
) -> Result<(), PgError> {
    if masters.is_empty() || pass.position == PassPosition::Begin {
        return Ok(());
    }
    let sql = "
        WITH resent AS MATERIALIZED (
            SELECT m.id FROM calendar_events AS m
            WHERE m.calendar_connection_id = $1 AND m.provider_event_id = ANY ($3)
              AND EXISTS (SELECT 1 FROM sync_pass_seen AS p WHERE p.calendar_connection_id = $1
                AND p.pass_id = $2 AND p.event_id = m.id OFFSET 0)
        )
        DELETE FROM sync_pass_seen AS p USING resent, calendar_events AS e
        WHERE e.calendar_connection_id = $1 AND e.parent_event_id = resent.id
          AND p.calendar_connection_id = $1 AND p.pass_id = $2 AND p.event_id = e.id";
    Statement::new(sql)
        .bind::<SqlUuid, _>(id.0)
        .bind::<SqlUuid, _>(pass.id.0)
        .bind::<Array<Text>, _>(masters)
        .run(connection)
        .await?;
    Ok(())
}

/// Stored ids of the masters among a page's entries.
fn masters(changes: &[EventChange]) -> Vec<String> {
    let masters = changes.iter().filter(|change| {
        matches!(change, EventChange::Event(event) if matches!(event.kind, EventKind::Master { .. }))
    });
    masters
        .map(|master| stored_identifier(master.id().as_str()).into_owned())
        .collect()
}

async fn apply(
    connection: &mut AsyncPgConnection,
    lease: &Lease,
    batch: PageBatch,
    now: OffsetDateTime,
) -> Result<Applied, PgError> {
    let PageBatch {
        connection_id: id,
        pass,
        changes,
        then,
    } = batch;
    fence::check(connection, lease, id, Some(&pass)).await?;
    let changes = plan::last_wins(changes);
    let masters = masters(&changes);
    let known = known::known(connection, id, &changes).await?;
    let plan = plan::plan(changes, &known);
    let inserted = plan.writes.iter().filter(|write| write.is_new).count() as u64;
    let mut applied = Applied {
        inserted,
        updated: plan.writes.len() as u64 - inserted,
        unchanged: plan.unchanged,
        removed: make_way(connection, id, &plan, &known, now).await?,
        skipped: plan.skipped,
        ignored: plan.ignored,
        touched_series: plan.touched_series,
    };
    rows::write(connection, id, &plan.writes, now).await?;
    children::write(connection, id, &plan.writes, now).await?;
    rejected::write(connection, id, &pass, &plan.rejected, now).await?;
    write_seen(connection, id, &pass, &masters, &plan).await?;
    if end::sweeps(&then) {
        applied.removed += end::sweep(connection, id, &pass, now).await?;
    }
    let written = Written {
        touched_series: plan.touched_series,
        resolved: &plan.resolved,
    };
    end::settle(connection, lease, id, &pass, &then, written, now).await?;
    Ok(applied)
}

async fn finish(
    connection: &mut AsyncPgConnection,
    lease: &Lease,
    id: ConnectionId,
    pass: &Pass,
    then: &AfterPage,
    now: OffsetDateTime,
) -> Result<u64, PgError> {
    fence::check(connection, lease, id, Some(pass)).await?;
    let removed = end::sweep(connection, id, pass, now).await?;
    end::settle(connection, lease, id, pass, then, Written::default(), now).await?;
    Ok(removed)
}

#[async_trait]
impl EventStore for PgEventStore {
    async fn unknown_masters(
        &self,
        connection: ConnectionId,
        masters: &[ProviderEventId],
    ) -> PortResult<Vec<ProviderEventId>> {
        if masters.is_empty() {
            return Ok(Vec::new());
        }
        let stored: Vec<String> = masters
            .iter()
            .map(|master| stored_identifier(master.as_str()).into_owned())
            .collect();
        let sql = "
            SELECT e.provider_event_id FROM calendar_events AS e
            WHERE e.calendar_connection_id = $1 AND e.provider_event_id = ANY ($2)
              AND e.deleted_at IS NULL AND e.content_version IS NOT NULL";
        let mut pooled = self.database.get().await?;
        let rows: Vec<ProviderIdRow> = Statement::new(sql)
            .bind::<SqlUuid, _>(connection.0)
            .bind::<Array<Text>, _>(&stored)
            .rows(&mut pooled)
            .await?;
        let known: HashSet<String> = rows.into_iter().map(|row| row.provider_event_id).collect();
        let unknown = masters
            .iter()
            .zip(&stored)
            .filter(|(_, stored)| !known.contains(*stored));
        Ok(unknown.map(|(master, _)| master.clone()).collect())
    }

    async fn apply(
        &self,
        lease: &Lease,
        batch: PageBatch,
        now: OffsetDateTime,
    ) -> PortResult<Applied> {
        if batch.changes.is_empty() && !end::sweeps(&batch.then) {
            // Nothing but the state is written: one statement, no transaction round it.
            let mut connection = self.database.get().await?;
            let PageBatch {
                connection_id,
                pass,
                then,
                ..
            } = batch;
            end::settle(
                &mut connection,
                lease,
                connection_id,
                &pass,
                &then,
                Written::default(),
                now,
            )
            .await?;
            return Ok(Applied::default());
        }
        let mut transaction = self.database.begin().await?;
        let outcome = apply(&mut transaction, lease, batch, now).await;
        Ok(transaction.end(outcome).await?)
    }

    async fn rejected_due(
        &self,
        connection: ConnectionId,
        limit: u32,
    ) -> PortResult<Vec<RejectedEvent>> {
        let mut pooled = self.database.get().await?;
        Ok(rejected::due(&mut pooled, connection, limit).await?)
    }

    async fn touched_series(
        &self,
        connection: ConnectionId,
        pass: &Pass,
        after: Option<EventId>,
        limit: u32,
    ) -> PortResult<Vec<TouchedSeries>> {
        let mut pooled = self.database.get().await?;
        Ok(series::touched(&mut pooled, connection, pass, after, limit).await?)
    }

    async fn correct_series(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        corrections: Vec<SeriesCorrection>,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        let mut transaction = self.database.begin().await?;
        let outcome = async {
            fence::check(&mut transaction, lease, connection, None).await?;
            series::correct(&mut transaction, connection, &corrections, now).await
        }
        .await;
        Ok(transaction.end(outcome).await?)
    }

    async fn unseen(&self, connection: ConnectionId, pass: &Pass) -> PortResult<UnseenReport> {
        let mut pooled = self.database.get().await?;
        Ok(end::unseen(&mut pooled, connection, pass).await?)
    }

    async fn restart(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        let mut pooled = self.database.get().await?;
        Ok(end::restart(&mut pooled, lease, connection, pass, now).await?)
    }

    async fn finish(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        pass_end: PassEnd,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        let sweeps = pass_end.unseen == Unseen::Remove;
        let then = AfterPage::Finish(pass_end);
        if !sweeps {
            let mut pooled = self.database.get().await?;
            end::settle(
                &mut pooled,
                lease,
                connection,
                pass,
                &then,
                Written::default(),
                now,
            )
            .await?;
            return Ok(0);
        }
        let mut transaction = self.database.begin().await?;
        let outcome = finish(&mut transaction, lease, connection, pass, &then, now).await;
        Ok(transaction.end(outcome).await?)
    }
}
