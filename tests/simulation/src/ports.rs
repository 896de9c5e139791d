//! The ports as an actor sees them: each call goes through the gate, and what it wrote is watched.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use calendar_domain::account::{
    AccountIdentity, AuthorizationRequest, CalendarListing, ConnectSession, TokenGrant, TokenSet,
};
use calendar_domain::connection::{
    CalendarConnection, Connected, ConnectionChange, NewConnections,
};
use calendar_domain::event::{EventChange, ProviderEventId};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{ConnectionId, EventId, SubscriptionId, TurnId, UserId, WorkerId};
use calendar_domain::ports::{
    Authorizer, CalendarDirectory, CalendarReader, ChangeNotifier, ConnectSessionStore,
    ConnectionStore, EventStore, SubscriptionStore, SyncQueue,
};
use calendar_domain::provider::{CalendarProvider, Capabilities};
use calendar_domain::query::Listed;
use calendar_domain::rejected::RejectedEvent;
use calendar_domain::subscription::{
    EndingSubscription, KnownSubscription, NewSubscription, Notification, Notified,
    ProviderSubscription, PushEndpoint, PushWork, RenewalsScheduled, SubscriptionCursor,
    WebhookSubscription,
};
use calendar_domain::sync::{
    AfterPage, Applied, CalendarRef, ChangesFrom, ChangesPage, Claim, Cursor, Lease, Mailbox,
    NextPage, PageBatch, Pass, PassEnd, PassFailure, PassPosition, SeriesCorrection, SyncWindow,
    TouchedSeries, UnseenReport,
};
use secrecy::SecretString;
use time::OffsetDateTime;

use crate::gate::{Actor, Gate, Kind};
use crate::watch::Watch;

/// What stands behind the ports, shared by all actors.
#[derive(Clone)]
pub(crate) struct Real {
    pub(crate) queue: Arc<dyn SyncQueue>,
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) connections: Arc<dyn ConnectionStore>,
    pub(crate) sessions: Arc<dyn ConnectSessionStore>,
    pub(crate) subscriptions: Arc<dyn SubscriptionStore>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) directory: Arc<dyn CalendarDirectory>,
    pub(crate) reader: Arc<dyn CalendarReader>,
    pub(crate) notifier: Arc<dyn ChangeNotifier>,
}

/// The ports of one actor.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) actor: Actor,
    pub(crate) gate: Arc<Gate>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) real: Real,
    /// How long leases live, by the database's clock. The use case is told of hours, so that its own timer,
    /// which runs by real time, never strikes: the scheduler gives the heartbeats.
    pub(crate) lease_ttl: Duration,
}

/// The last digits of an id: enough to tell those of one run apart.
pub(crate) fn short(id: impl std::fmt::Display) -> String {
    let text = id.to_string();
    text[text.len().saturating_sub(4)..].to_owned()
}

fn nothing<T>(_: &T) -> String {
    "done".to_owned()
}

macro_rules! through {
    ($self:ident, $kind:ident, $call:literal, $detail:expr, $work:expr, $summary:expr) => {
        $self
            .gate
            .through($self.actor, Kind::$kind, $call, $detail, $work, $summary)
            .await
    };
}

/// A write under a lease: the watch is told what came of it.
macro_rules! fenced {
    ($self:ident, $lease:ident, $call:literal, $detail:expr, $work:expr, $summary:expr) => {
        through!(
            $self,
            Write,
            $call,
            $detail,
            async {
                let answer = $work.await;
                $self.watch.wrote($lease, $call, answer.is_ok());
                answer
            },
            $summary
        )
    };
}

#[async_trait]
impl SyncQueue for Ports {
    async fn claim(
        &self,
        worker: WorkerId,
        providers: &[CalendarProvider],
        pushing: &[CalendarProvider],
        now: OffsetDateTime,
        _ttl: Duration,
    ) -> PortResult<Option<Claim>> {
        through!(
            self,
            Write,
            "claim",
            String::new(),
            async {
                let ttl = self.lease_ttl;
                let claim = self
                    .real
                    .queue
                    .claim(worker, providers, pushing, now, ttl)
                    .await;
                if let Ok(claim) = &claim {
                    self.watch.claimed(self.actor, claim.as_ref());
                }
                claim
            },
            |claim: &Option<Claim>| match claim {
                None => "nothing".to_owned(),
                Some(claim) => {
                    let due = claim.connections.iter().map(|due| short(due.id));
                    let due: Vec<String> = due.collect();
                    format!(
                        "account {} fence {} due {} push {}",
                        short(claim.account.id),
                        claim.lease.fence,
                        due.join(" "),
                        claim.push.is_due
                    )
                }
            }
        )
    }

    async fn take_turns(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        now: OffsetDateTime,
        _ttl: Duration,
    ) -> PortResult<u32> {
        fenced!(
            self,
            lease,
            "take_turns",
            short(connection),
            self.real
                .queue
                .take_turns(lease, connection, now, self.lease_ttl),
            ToString::to_string
        )
    }

    /// Where all turns are taken the use case would wait, by real time: here that has been in vain.
    async fn take_turn(
        &self,
        provider: CalendarProvider,
        mailbox: &str,
        ttl: Duration,
    ) -> PortResult<Option<TurnId>> {
        let turn = through!(
            self,
            Write,
            "take_turn",
            mailbox.to_owned(),
            self.real.queue.take_turn(provider, mailbox, ttl),
            |turn: &Option<TurnId>| turn.is_some().to_string()
        )?;
        if turn.is_none() {
            return Err(PortError::new(FailureClass::RateLimited, "mailbox_busy"));
        }
        Ok(turn)
    }

    async fn give_turn_back(&self, turn: TurnId) -> PortResult<()> {
        through!(
            self,
            Write,
            "give_turn_back",
            String::new(),
            self.real.queue.give_turn_back(turn),
            nothing
        )
    }

    async fn wait_behind_others(&self, lease: &Lease, now: OffsetDateTime) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "wait_behind_others",
            String::new(),
            self.real.queue.wait_behind_others(lease, now),
            nothing
        )
    }

    async fn heartbeat(&self, lease: &Lease, _ttl: Duration) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "heartbeat",
            String::new(),
            self.real.queue.heartbeat(lease, self.lease_ttl),
            nothing
        )
    }

    async fn fail(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        failure: PassFailure,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "fail",
            format!(
                "{} {} in {} s",
                short(connection),
                failure.code,
                (failure.retry_at - now).whole_seconds()
            ),
            self.real.queue.fail(lease, connection, failure, now),
            nothing
        )
    }

    async fn release(&self, lease: &Lease) -> PortResult<()> {
        through!(
            self,
            Write,
            "release",
            short(lease.account_id),
            self.real.queue.release(lease),
            nothing
        )
    }

    async fn request_sync(
        &self,
        user: UserId,
        connection: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool> {
        through!(
            self,
            Write,
            "request_sync",
            short(connection),
            self.real.queue.request_sync(user, connection, now),
            nothing
        )
    }
}

fn position(pass: &Pass) -> &'static str {
    match pass.position {
        PassPosition::Begin => "begin",
        PassPosition::Page(_) => "page",
        PassPosition::Fetched(_) => "fetched",
    }
}

#[async_trait]
impl EventStore for Ports {
    async fn unknown_masters(
        &self,
        connection: ConnectionId,
        masters: &[ProviderEventId],
    ) -> PortResult<Vec<ProviderEventId>> {
        through!(
            self,
            Read,
            "unknown_masters",
            format!("{} {}", short(connection), masters.len()),
            self.real.events.unknown_masters(connection, masters),
            |unknown: &Vec<ProviderEventId>| unknown.len().to_string()
        )
    }

    async fn apply(
        &self,
        lease: &Lease,
        batch: PageBatch,
        now: OffsetDateTime,
    ) -> PortResult<Applied> {
        let then = match &batch.then {
            AfterPage::Checkpoint(PassPosition::Page(_)) => "page",
            AfterPage::Checkpoint(_) => "fetched",
            AfterPage::Finish(_) => "finish",
        };
        fenced!(
            self,
            lease,
            "apply",
            format!(
                "{} {:?} {} {} changes then {then}",
                short(batch.connection_id),
                batch.pass.kind,
                position(&batch.pass),
                batch.changes.len(),
            ),
            self.real.events.apply(lease, batch, now),
            |applied: &Applied| format!(
                "+{} ~{} ={} -{} skipped {}",
                applied.inserted,
                applied.updated,
                applied.unchanged,
                applied.removed,
                applied.skipped
            )
        )
    }

    async fn rejected_due(
        &self,
        connection: ConnectionId,
        limit: u32,
    ) -> PortResult<Vec<RejectedEvent>> {
        through!(
            self,
            Read,
            "rejected_due",
            short(connection),
            self.real.events.rejected_due(connection, limit),
            |due: &Vec<RejectedEvent>| due.len().to_string()
        )
    }

    async fn restart(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "restart",
            short(connection),
            self.real.events.restart(lease, connection, pass, now),
            nothing
        )
    }

    async fn touched_series(
        &self,
        connection: ConnectionId,
        pass: &Pass,
        after: Option<EventId>,
        limit: u32,
    ) -> PortResult<Vec<TouchedSeries>> {
        through!(
            self,
            Read,
            "touched_series",
            short(connection),
            self.real
                .events
                .touched_series(connection, pass, after, limit),
            |series: &Vec<TouchedSeries>| series.len().to_string()
        )
    }

    async fn correct_series(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        corrections: Vec<SeriesCorrection>,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        fenced!(
            self,
            lease,
            "correct_series",
            format!("{} {}", short(connection), corrections.len()),
            self.real
                .events
                .correct_series(lease, connection, corrections, now),
            ToString::to_string
        )
    }

    async fn unseen(&self, connection: ConnectionId, pass: &Pass) -> PortResult<UnseenReport> {
        through!(
            self,
            Read,
            "unseen",
            short(connection),
            self.real.events.unseen(connection, pass),
            |report: &UnseenReport| format!("{} of {}", report.unseen, report.live)
        )
    }

    async fn finish(
        &self,
        lease: &Lease,
        connection: ConnectionId,
        pass: &Pass,
        end: PassEnd,
        now: OffsetDateTime,
    ) -> PortResult<u64> {
        fenced!(
            self,
            lease,
            "finish",
            format!("{} {:?} {:?}", short(connection), pass.kind, end.unseen),
            self.real.events.finish(lease, connection, pass, end, now),
            |removed: &u64| format!("-{removed}")
        )
    }
}

#[async_trait]
impl ConnectSessionStore for Ports {
    async fn create(
        &self,
        session: ConnectSession,
        state_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<()> {
        through!(
            self,
            Write,
            "sessions.create",
            String::new(),
            self.real.sessions.create(session, state_hash, now),
            nothing
        )
    }

    async fn consume(
        &self,
        state_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<Option<ConnectSession>> {
        through!(
            self,
            Write,
            "sessions.consume",
            String::new(),
            self.real.sessions.consume(state_hash, now),
            nothing
        )
    }
}

#[async_trait]
impl ConnectionStore for Ports {
    async fn connect(&self, new: NewConnections, now: OffsetDateTime) -> PortResult<Connected> {
        through!(
            self,
            Write,
            "connect",
            new.calendars.len().to_string(),
            self.real.connections.connect(new, now),
            |connected: &Connected| {
                let ids = connected.connection_ids.iter();
                ids.map(short).collect::<Vec<_>>().join(" ")
            }
        )
    }

    async fn list(
        &self,
        user: UserId,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> PortResult<Listed<CalendarConnection, ConnectionId>> {
        through!(
            self,
            Read,
            "connections.list",
            String::new(),
            self.real.connections.list(user, after, limit),
            nothing
        )
    }

    async fn get(&self, user: UserId, id: ConnectionId) -> PortResult<Option<CalendarConnection>> {
        through!(
            self,
            Read,
            "connections.get",
            short(id),
            self.real.connections.get(user, id),
            nothing
        )
    }

    async fn change(
        &self,
        user: UserId,
        id: ConnectionId,
        change: ConnectionChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<CalendarConnection>> {
        through!(
            self,
            Write,
            "connections.change",
            format!("{} paused {:?}", short(id), change.paused),
            self.real.connections.change(user, id, change, now),
            nothing
        )
    }

    async fn disconnect(
        &self,
        user: UserId,
        id: ConnectionId,
        now: OffsetDateTime,
    ) -> PortResult<bool> {
        through!(
            self,
            Write,
            "disconnect",
            short(id),
            self.real.connections.disconnect(user, id, now),
            ToString::to_string
        )
    }

    async fn tokens(&self, lease: &Lease) -> PortResult<Vec<TokenSet>> {
        through!(
            self,
            Read,
            "tokens",
            short(lease.account_id),
            self.real.connections.tokens(lease),
            |tokens: &Vec<TokenSet>| tokens.len().to_string()
        )
    }

    async fn store_grant(
        &self,
        lease: &Lease,
        grant: TokenGrant,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "store_grant",
            short(lease.account_id),
            self.real.connections.store_grant(lease, grant, now),
            nothing
        )
    }

    async fn need_reauth(&self, lease: &Lease, code: &str, now: OffsetDateTime) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "need_reauth",
            format!("{} {code}", short(lease.account_id)),
            self.real.connections.need_reauth(lease, code, now),
            nothing
        )
    }
}

#[async_trait]
impl SubscriptionStore for Ports {
    async fn find(
        &self,
        provider: CalendarProvider,
        subscription_ids: &[String],
    ) -> PortResult<Vec<KnownSubscription>> {
        through!(
            self,
            Read,
            "subscriptions.find",
            subscription_ids.len().to_string(),
            self.real.subscriptions.find(provider, subscription_ids),
            |found: &Vec<KnownSubscription>| found.len().to_string()
        )
    }

    async fn record(&self, notified: &[Notified], now: OffsetDateTime) -> PortResult<()> {
        through!(
            self,
            Write,
            "record",
            notified.len().to_string(),
            self.real.subscriptions.record(notified, now),
            nothing
        )
    }

    async fn list(
        &self,
        user: UserId,
        connection: ConnectionId,
        after: Option<SubscriptionCursor>,
        limit: u32,
    ) -> PortResult<Option<Listed<WebhookSubscription, SubscriptionCursor>>> {
        through!(
            self,
            Read,
            "subscriptions.list",
            short(connection),
            self.real.subscriptions.list(user, connection, after, limit),
            nothing
        )
    }

    async fn schedule_renewals(
        &self,
        now: OffsetDateTime,
        lead: Duration,
        spread: Duration,
    ) -> PortResult<RenewalsScheduled> {
        through!(
            self,
            Write,
            "schedule_renewals",
            String::new(),
            self.real.subscriptions.schedule_renewals(now, lead, spread),
            |found: &RenewalsScheduled| format!("due {} expired {}", found.due, found.expired)
        )
    }

    async fn end_unreachable(
        &self,
        reachable: &[(CalendarProvider, String)],
        now: OffsetDateTime,
        spread: Duration,
    ) -> PortResult<u64> {
        through!(
            self,
            Write,
            "end_unreachable",
            String::new(),
            self.real
                .subscriptions
                .end_unreachable(reachable, now, spread),
            ToString::to_string
        )
    }

    async fn push_work(&self, lease: &Lease) -> PortResult<PushWork> {
        through!(
            self,
            Read,
            "push_work",
            short(lease.account_id),
            self.real.subscriptions.push_work(lease),
            nothing
        )
    }

    async fn start(
        &self,
        lease: &Lease,
        new: NewSubscription,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "subscriptions.start",
            short(new.connection_id),
            self.real.subscriptions.start(lease, new, now),
            nothing
        )
    }

    async fn renewed(
        &self,
        lease: &Lease,
        id: SubscriptionId,
        expires_at: OffsetDateTime,
        next_at: Option<OffsetDateTime>,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "subscriptions.renewed",
            short(id),
            self.real
                .subscriptions
                .renewed(lease, id, expires_at, next_at, now),
            nothing
        )
    }

    async fn ended(
        &self,
        lease: &Lease,
        id: SubscriptionId,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "subscriptions.ended",
            short(id),
            self.real.subscriptions.ended(lease, id, now),
            nothing
        )
    }

    async fn settle(&self, lease: &Lease) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "subscriptions.settle",
            short(lease.account_id),
            self.real.subscriptions.settle(lease),
            nothing
        )
    }

    async fn failed(&self, lease: &Lease, code: &str, retry_at: OffsetDateTime) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "subscriptions.failed",
            code.to_owned(),
            self.real.subscriptions.failed(lease, code, retry_at),
            nothing
        )
    }

    async fn suspect_silence(
        &self,
        lease: &Lease,
        since: OffsetDateTime,
        check_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> PortResult<()> {
        fenced!(
            self,
            lease,
            "suspect_silence",
            short(lease.account_id),
            self.real
                .subscriptions
                .suspect_silence(lease, since, check_at, now),
            nothing
        )
    }

    async fn ending(
        &self,
        user: UserId,
        connection: Option<ConnectionId>,
    ) -> PortResult<Vec<EndingSubscription>> {
        through!(
            self,
            Read,
            "subscriptions.ending",
            String::new(),
            self.real.subscriptions.ending(user, connection),
            |ending: &Vec<EndingSubscription>| ending.len().to_string()
        )
    }
}

#[async_trait]
impl Authorizer for Ports {
    fn authorize_url(&self, request: &AuthorizationRequest) -> PortResult<String> {
        self.real.authorizer.authorize_url(request)
    }

    async fn exchange(
        &self,
        code: &SecretString,
        code_verifier: &SecretString,
        redirect_uri: &str,
    ) -> PortResult<TokenGrant> {
        through!(
            self,
            Tell,
            "exchange",
            String::new(),
            self.real
                .authorizer
                .exchange(code, code_verifier, redirect_uri),
            nothing
        )
    }

    async fn refresh(&self, refresh_token: &SecretString) -> PortResult<TokenGrant> {
        through!(
            self,
            Tell,
            "refresh",
            String::new(),
            self.real.authorizer.refresh(refresh_token),
            nothing
        )
    }
}

#[async_trait]
impl CalendarDirectory for Ports {
    async fn identity(&self, token: &SecretString) -> PortResult<AccountIdentity> {
        through!(
            self,
            Ask,
            "identity",
            String::new(),
            self.real.directory.identity(token),
            nothing
        )
    }

    async fn calendars(
        &self,
        token: &SecretString,
        mailbox: &Mailbox,
    ) -> PortResult<Vec<CalendarListing>> {
        through!(
            self,
            Ask,
            "calendars",
            String::new(),
            self.real.directory.calendars(token, mailbox),
            |listed: &Vec<CalendarListing>| listed.len().to_string()
        )
    }
}

#[async_trait]
impl CalendarReader for Ports {
    fn capabilities(&self) -> Capabilities {
        self.real.reader.capabilities()
    }

    fn is_feed(&self, cursor: &Cursor) -> bool {
        self.real.reader.is_feed(cursor)
    }

    async fn changes(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        from: &ChangesFrom,
    ) -> PortResult<ChangesPage> {
        let start = match from {
            ChangesFrom::Start(_) => "from the start",
            ChangesFrom::StartInPieces(_) => "in pieces",
            ChangesFrom::Cursor(_) => "from a cursor",
        };
        through!(
            self,
            Ask,
            "changes",
            format!("{} {start}", short(&calendar.calendar_id)),
            self.real.reader.changes(token, calendar, from),
            |page: &ChangesPage| format!(
                "{} changes, {}",
                page.changes.len(),
                match page.next {
                    NextPage::More(_) => "more",
                    NextPage::Done(_) => "done",
                }
            )
        )
    }

    async fn event(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        id: &ProviderEventId,
    ) -> PortResult<Option<EventChange>> {
        through!(
            self,
            Ask,
            "event",
            short(&id.0),
            self.real.reader.event(token, calendar, id),
            |event: &Option<EventChange>| event.is_some().to_string()
        )
    }

    async fn instances(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        master: &ProviderEventId,
        window: SyncWindow,
    ) -> PortResult<Vec<EventChange>> {
        through!(
            self,
            Ask,
            "instances",
            short(&master.0),
            self.real.reader.instances(token, calendar, master, window),
            |instances: &Vec<EventChange>| instances.len().to_string()
        )
    }
}

#[async_trait]
impl ChangeNotifier for Ports {
    async fn subscribe(
        &self,
        token: &SecretString,
        endpoint: &PushEndpoint,
        client_state: &SecretString,
    ) -> PortResult<ProviderSubscription> {
        through!(
            self,
            Tell,
            "subscribe",
            String::new(),
            self.real.notifier.subscribe(token, endpoint, client_state),
            nothing
        )
    }

    async fn renew(
        &self,
        token: &SecretString,
        subscription_id: &str,
    ) -> PortResult<OffsetDateTime> {
        through!(
            self,
            Tell,
            "renew",
            short(subscription_id),
            self.real.notifier.renew(token, subscription_id),
            nothing
        )
    }

    async fn unsubscribe(&self, token: &SecretString, subscription_id: &str) -> PortResult<()> {
        through!(
            self,
            Tell,
            "unsubscribe",
            short(subscription_id),
            self.real.notifier.unsubscribe(token, subscription_id),
            nothing
        )
    }

    async fn subscriptions(&self, token: &SecretString) -> PortResult<Vec<ProviderSubscription>> {
        through!(
            self,
            Ask,
            "subscriptions",
            String::new(),
            self.real.notifier.subscriptions(token),
            |listed: &Vec<ProviderSubscription>| listed.len().to_string()
        )
    }

    fn notifications(&self, body: &[u8]) -> PortResult<Vec<Notification>> {
        self.real.notifier.notifications(body)
    }
}
