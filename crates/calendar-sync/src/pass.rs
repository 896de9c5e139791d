//! A pass over one connection: page by page, then the judgement of series and of what was not seen.

use std::collections::HashSet;
use std::time::Duration as StdDuration;

use calendar_domain::event::{EventChange, EventKind, ProviderEventId};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::PassId;
use calendar_domain::ports::{CalendarReader, Clock, EventStore};
use calendar_domain::series::{Suspects, judge};
use calendar_domain::sync::{
    AfterPage, Applied, ChangesFrom, ChangesPage, DueConnection, NextPage, PageBatch, Pass,
    PassEnd, PassKind, PassPosition, SyncWindow, Unseen, UnseenReport,
};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::SyncSettings;
use crate::access::Access;
use crate::sync_account::SyncAccount;

/// Series judged between two reads of the store: bounds the memory, whatever the calendar's size.
const SERIES_AT_ONCE: u32 = 100;

/// Events that are asked for again in one pass, of those that are set aside.
const REJECTED_AT_ONCE: u32 = 50;

/// Fewer unseen events than this are removed without a second look.
const REMOVALS_NEVER_SUSPICIOUS: u64 = 20;

/// So many passes in a row may fail because a page names a master that is not found; then its occurrences are
/// passed over, so that the rest of the calendar is not held up.
const MASTER_ATTEMPTS: u32 = 3;

/// A pass that failed so often is begun in pieces: the whole window may be too much for the provider.
const FAILURES_BEFORE_PIECES: u32 = 2;

/// What a plain list costs is paid back: so long nothing is asked for each request that it took.
const LISTED_REQUEST: StdDuration = StdDuration::from_secs(30);
/// But at most so long.
const LISTED_MOST: StdDuration = StdDuration::from_hours(1);

/// A pass over one connection, under way.
pub(crate) struct PassRun<'a, 'p> {
    pub(crate) connection: &'a DueConnection,
    pub(crate) reader: &'a dyn CalendarReader,
    pub(crate) events: &'a dyn EventStore,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) settings: &'a SyncSettings,
    /// Whether pushes tell of this calendar's changes.
    is_pushed: bool,
    /// How many requests may go to the mailbox at a time: with two, a page is fetched while another is stored.
    turns: u32,
    pub(crate) access: &'a mut Access<'p>,
    pub(crate) pass: Pass,
    pub(crate) pages: u32,
    pub(crate) applied: Applied,
    /// Masters that are stored, as far as this run knows: saves asking the store again.
    known_masters: HashSet<ProviderEventId>,
    restarted: bool,
    /// Whether a page of this run held anything; of a plain list, whether anything was written.
    found: bool,
    /// Requests made for masters.
    masters_fetched: u32,
}

/// How a run of a pass ended, without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassOutcome {
    /// The connection is up to date.
    Finished,
    /// The process is asked to stop: the checkpoint stands, the next worker goes on.
    Interrupted,
}

impl<'a, 'p> PassRun<'a, 'p> {
    pub(crate) fn new(
        account: &'a SyncAccount,
        connection: &'a DueConnection,
        reader: &'a dyn CalendarReader,
        is_pushed: bool,
        turns: u32,
        access: &'a mut Access<'p>,
    ) -> Self {
        let (clock, settings) = (account.clock.as_ref(), &account.settings);
        let pass = next_pass(connection, reader, settings, clock.now());
        Self {
            connection,
            reader,
            events: account.events.as_ref(),
            clock,
            settings,
            is_pushed,
            turns,
            access,
            pass,
            pages: 0,
            applied: Applied::default(),
            known_masters: HashSet::new(),
            restarted: false,
            found: false,
            masters_fetched: 0,
        }
    }

    /// Runs the pass to its end, or to the next page when the process is to stop.
    pub(crate) async fn run(&mut self, stop: &watch::Receiver<bool>) -> PortResult<PassOutcome> {
        let mut ahead = None;
        loop {
            if *stop.borrow() {
                return Ok(PassOutcome::Interrupted);
            }
            let from = match &self.pass.position {
                PassPosition::Begin => self.beginning(),
                PassPosition::Page(cursor) => ChangesFrom::Cursor(cursor.clone()),
                PassPosition::Fetched(_) => {
                    self.conclude().await?;
                    return Ok(PassOutcome::Finished);
                }
            };
            let fetched = match ahead.take() {
                Some(fetched) => fetched,
                None => self.fetch(&from).await,
            };
            let page = match fetched {
                Err(error) if refuses_the_cursor(&error, &from) => {
                    tracing::info!(connection_id = %self.connection.id, code = %error.code, "the cursor is no longer good: full pass");
                    let now = self.clock.now();
                    let (lease, id) = (&self.access.lease, self.connection.id);
                    self.events.restart(lease, id, &self.pass, now).await?;
                    if self.restarted {
                        return Err(error);
                    }
                    self.pass = full_pass(self.settings, now);
                    self.restarted = true;
                    continue;
                }
                page => page?,
            };
            self.pages += 1;
            metrics::counter!("calendar_pages_total", "provider" => self.access.provider.as_str())
                .increment(1);
            // The provider works on the next page while the database works on this one.
            let next = self.fetch_ahead(&page.next).await?;
            let (finished, next) = tokio::join!(self.store(page), next);
            if finished? {
                return Ok(PassOutcome::Finished);
            }
            ahead = next;
        }
    }

    /// A request for the page after this one, if there is one. `None` when it has to be made again: the
    /// token was refused, and refreshing it is not this request's business.
    async fn fetch_ahead(
        &mut self,
        next: &NextPage,
    ) -> PortResult<impl Future<Output = Option<PortResult<ChangesPage>>> + use<'a, 'p>> {
        let (reader, calendar) = (self.reader, &self.connection.calendar);
        let request = match next {
            NextPage::More(cursor) if self.turns > 1 => Some((
                self.access.token().await?,
                ChangesFrom::Cursor(cursor.clone()),
            )),
            NextPage::More(_) | NextPage::Done(_) => None,
        };
        Ok(async move {
            let (token, from) = request?;
            let page = reader.changes(&token, calendar, &from).await;
            let refused =
                matches!(&page, Err(error) if error.class == FailureClass::Authentication);
            (!refused).then_some(page)
        })
    }

    /// Where a pass of which nothing is stored yet reads from.
    fn beginning(&self) -> ChangesFrom {
        match (self.pass.kind, &self.connection.synced) {
            (PassKind::Delta, Some((token, _))) => ChangesFrom::Cursor(token.clone()),
            (PassKind::Full, Some((token, window)))
                if !self.restarted
                    && *window == self.pass.window
                    && !self.reader.is_feed(token) =>
            {
                ChangesFrom::Cursor(token.clone())
            }
            _ if self.connection.failure_count >= FAILURES_BEFORE_PIECES => {
                ChangesFrom::StartInPieces(self.pass.window)
            }
            _ => ChangesFrom::Start(self.pass.window),
        }
    }

    async fn fetch(&mut self, from: &ChangesFrom) -> PortResult<ChangesPage> {
        let (reader, calendar) = (self.reader, &self.connection.calendar);
        with_token!(self.access, token => reader.changes(&token, calendar, from))
    }

    async fn event(&mut self, id: &ProviderEventId) -> PortResult<Option<EventChange>> {
        let (reader, calendar) = (self.reader, &self.connection.calendar);
        with_token!(self.access, token => reader.event(&token, calendar, id))
    }

    /// The same; `None` also when its id is none that can be asked for: one bad event must not fail the pass.
    async fn event_if_any(&mut self, id: &ProviderEventId) -> PortResult<Option<EventChange>> {
        match self.event(id).await {
            Err(error) if error.class == FailureClass::InvalidInput => Ok(None),
            answer => answer,
        }
    }

    /// Stores a page. Whether the pass ended with it.
    async fn store(&mut self, page: ChangesPage) -> PortResult<bool> {
        let mut changes = page.changes;
        for change in &changes {
            if let EventChange::Rejected(rejected) = change {
                tracing::warn!(connection_id = %self.connection.id, reason = %rejected.reason, "an event is set aside");
            }
        }
        let (NextPage::More(cursor) | NextPage::Done(cursor)) = &page.next;
        let is_feed = self.reader.is_feed(cursor);
        self.found |= is_feed && !changes.is_empty();
        self.add_missing_masters(&mut changes, is_feed).await?;
        let nothing_to_judge = self.pass.kind == PassKind::Delta
            && !self.pass.touched_series
            && !self.connection.has_rejected_due
            && changes.iter().all(|change| matches!(change, EventChange::Event(event) if event.kind == EventKind::Single));
        let (then, position) = match page.next {
            NextPage::More(cursor) => {
                let position = PassPosition::Page(cursor);
                (AfterPage::Checkpoint(position.clone()), Some(position))
            }
            NextPage::Done(token) if nothing_to_judge => {
                (AfterPage::Finish(self.end(token, Unseen::Keep)), None)
            }
            NextPage::Done(token) => {
                let position = PassPosition::Fetched(token);
                (AfterPage::Checkpoint(position.clone()), Some(position))
            }
        };
        self.apply(changes, then).await?;
        match position {
            Some(position) => {
                self.pass.position = position;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    async fn apply(&mut self, changes: Vec<EventChange>, then: AfterPage) -> PortResult<()> {
        let batch = PageBatch {
            connection_id: self.connection.id,
            pass: self.pass.clone(),
            changes,
            then,
        };
        let applied = self
            .events
            .apply(&self.access.lease, batch, self.clock.now())
            .await?;
        self.applied += applied;
        self.count("created", applied.inserted);
        self.count("updated", applied.updated);
        self.count("deleted", applied.removed);
        self.count("ignored", applied.ignored);
        self.pass.touched_series |= applied.touched_series;
        Ok(())
    }

    /// Fetches the masters that the page's instances need and that are neither in it nor stored: the
    /// order of a round is undefined, and a series may be split over pages. Without a feed, stored ones too,
    /// once in a run.
    async fn add_missing_masters(
        &mut self,
        changes: &mut Vec<EventChange>,
        is_feed: bool,
    ) -> PortResult<()> {
        let here: HashSet<&ProviderEventId> = changes
            .iter()
            .filter(|change| is_master(change))
            .map(EventChange::id)
            .collect();
        let mut needed: Vec<ProviderEventId> = changes
            .iter()
            .filter_map(EventChange::master)
            .filter(|master| !here.contains(master) && !self.known_masters.contains(*master))
            .cloned()
            .collect();
        needed.sort_unstable();
        needed.dedup();
        let here: Vec<ProviderEventId> = here.into_iter().cloned().collect();
        if !needed.is_empty() {
            let unknown = if is_feed {
                let id = self.connection.id;
                self.events.unknown_masters(id, &needed).await?
            } else {
                needed.clone()
            };
            self.masters_fetched += u32::try_from(unknown.len()).unwrap_or(u32::MAX);
            for master in &unknown {
                match self.event_if_any(master).await? {
                    Some(change) => changes.push(change),
                    // The page was shown by a replica that knows it, so others will soon.
                    None if self.connection.failure_count < MASTER_ATTEMPTS => {
                        let class = FailureClass::Retryable;
                        return Err(PortError::new(class, "master_not_found"));
                    }
                    None => needed.retain(|id| id != master),
                }
            }
        }
        self.known_masters.extend(needed);
        self.known_masters.extend(here);
        // What this page removes or turns into something else is no longer known.
        for change in changes.iter() {
            if !is_master(change) {
                self.known_masters.remove(change.id());
            }
        }
        Ok(())
    }

    /// All pages are in: judge the series, then what a full pass did not see, then end the pass.
    async fn conclude(&mut self) -> PortResult<()> {
        let PassPosition::Fetched(token) = self.pass.position.clone() else {
            return Ok(());
        };
        // A full pass has just seen what there is.
        if self.pass.kind == PassKind::Delta && self.connection.has_rejected_due {
            self.retry_rejected().await?;
        }
        if self.pass.touched_series && self.reader.capabilities().silent_holes {
            self.judge_series().await?;
        }
        let unseen = match self.pass.kind {
            PassKind::Delta => Unseen::Keep,
            PassKind::Full => {
                let report = self.events.unseen(self.connection.id, &self.pass).await?;
                let is_feed = self.reader.is_feed(&token);
                let verdict = verdict(&report, is_feed, self.connection.removal_held);
                if verdict == Unseen::Remove {
                    self.confirm(report, is_feed).await?;
                } else {
                    tracing::warn!(
                        connection_id = %self.connection.id, live = report.live, unseen = report.unseen,
                        "the provider showed suspiciously little: nothing is removed before a second full pass agrees"
                    );
                }
                verdict
            }
        };
        let end = self.end(token, unseen);
        let removed = self
            .events
            .finish(
                &self.access.lease,
                self.connection.id,
                &self.pass,
                end,
                self.clock.now(),
            )
            .await?;
        self.removed(removed);
        Ok(())
    }

    /// Asks for what is set aside and may be had now. A master comes with its instances, which were passed over
    /// without it and which the feed does not send again.
    async fn retry_rejected(&mut self) -> PortResult<()> {
        let due = self
            .events
            .rejected_due(self.connection.id, REJECTED_AT_ONCE)
            .await?;
        for rejected in due {
            let mut changes = Vec::new();
            match self.event_if_any(&rejected.id).await? {
                None => changes.push(EventChange::Rejected(rejected)),
                Some(change) => {
                    if is_master(&change) {
                        let (reader, calendar) = (self.reader, &self.connection.calendar);
                        let (id, window) = (change.id().clone(), self.pass.window);
                        let answer = with_token!(self.access, token => reader.instances(&token, calendar, &id, window));
                        changes = match answer {
                            // It is a series no longer.
                            Err(error) if error.class == FailureClass::InvalidInput => Vec::new(),
                            instances => instances?,
                        };
                    }
                    changes.push(change);
                }
            }
            let position = self.pass.position.clone();
            self.apply(changes, AfterPage::Checkpoint(position)).await?;
        }
        Ok(())
    }

    fn removed(&mut self, rows: u64) {
        self.applied.removed += rows;
        self.count("deleted", rows);
    }

    fn count(&self, change: &'static str, rows: u64) {
        if rows > 0 {
            let provider = self.access.provider.as_str();
            metrics::counter!("calendar_events_changed_total", "provider" => provider, "change" => change)
                .increment(rows);
        }
    }

    async fn judge_series(&mut self) -> PortResult<()> {
        let mut after = None;
        loop {
            let chunk = self
                .events
                .touched_series(self.connection.id, &self.pass, after, SERIES_AT_ONCE)
                .await?;
            let Some(last) = chunk.last() else {
                return Ok(());
            };
            after = Some(last.master_id);
            let mut corrections = Vec::new();
            let mut contradictions = Vec::new();
            for series in &chunk {
                let suspects = Suspects::of(series, self.pass.window);
                let actual = if suspects.any() {
                    let (reader, calendar) = (self.reader, &self.connection.calendar);
                    let window = self.pass.window;
                    let answer = with_token!(self.access, token => reader.instances(&token, calendar, &series.master, window));
                    match answer {
                        // It was a series when its page was read, and is none now: the next pass will
                        // say what it is. Nothing is concluded from this one.
                        Err(error) if error.class == FailureClass::InvalidInput => continue,
                        actual => actual?,
                    }
                } else {
                    Vec::new()
                };
                let (correction, contradicting) = judge(series, &suspects, actual);
                corrections.extend(correction);
                contradictions.extend(contradicting);
            }
            if !contradictions.is_empty() {
                let position = self.pass.position.clone();
                self.apply(contradictions, AfterPage::Checkpoint(position))
                    .await?;
            }
            if !corrections.is_empty() {
                let removed = self
                    .events
                    .correct_series(
                        &self.access.lease,
                        self.connection.id,
                        corrections,
                        self.clock.now(),
                    )
                    .await?;
                self.removed(removed);
            }
        }
    }

    /// A master that a full pass did not see has either gone, or no instance in the window any more. Without
    /// a feed, anything else may have been passed over as well.
    async fn confirm(&mut self, report: UnseenReport, is_feed: bool) -> PortResult<()> {
        let has_masters = !report.masters.is_empty();
        let mut unseen = report.masters;
        if !is_feed {
            unseen.extend(report.singles);
        }
        let mut changes = Vec::with_capacity(unseen.len());
        for id in unseen {
            changes.push(match self.event(&id).await? {
                Some(change) => change,
                None => EventChange::Removed(id),
            });
        }
        if changes.is_empty() {
            return Ok(());
        }
        let position = self.pass.position.clone();
        self.apply(changes, AfterPage::Checkpoint(position)).await?;
        if has_masters && !is_feed {
            self.judge_series().await?;
        }
        Ok(())
    }

    fn end(&self, sync_token: calendar_domain::sync::Cursor, unseen: Unseen) -> PassEnd {
        // What was set aside may be had soon, and no push tells of that.
        let mut poll = if self.is_pushed && self.applied.skipped == 0 {
            self.settings.poll_pushed
        } else {
            self.settings.poll
        };
        let mut found = self.found;
        if !self.reader.is_feed(&sync_token) {
            let requests = self.pages.saturating_add(self.masters_fetched);
            poll = poll.max(LISTED_REQUEST.saturating_mul(requests).min(LISTED_MOST));
            let Applied {
                inserted,
                updated,
                removed,
                ..
            } = self.applied;
            found = inserted + updated + removed > 0;
        }
        // What changed since a pass began may be in none of its pages. One that was begun by an earlier claim
        // is not the look that this claim is for.
        let is_old = self
            .connection
            .pass
            .as_ref()
            .is_some_and(|pass| pass.id == self.pass.id);
        let look = self.connection.push_look;
        let (push_look, wait) = match (unseen, look.and_then(|look| look.next(found))) {
            (Unseen::Hold, _) => (None, self.settings.poll.min(StdDuration::from_mins(1))),
            _ if is_old => (look, StdDuration::ZERO),
            (_, Some((look, wait))) => (Some(look), wait.min(poll)),
            (_, None) => (None, poll.mul_f64(0.9 + 0.2 * spread(self.pass.id))),
        };
        PassEnd {
            sync_token,
            next_due_at: self.clock.now() + wait,
            push_look,
            requested_seq: self.connection.requested_seq,
            unseen,
        }
    }
}

fn is_master(change: &EventChange) -> bool {
    matches!(change, EventChange::Event(event) if matches!(event.kind, EventKind::Master { .. }))
}

/// Whether a full pass may help: the cursor is no longer good, or the provider calls the request that
/// it made itself, as a link, invalid.
fn refuses_the_cursor(error: &PortError, from: &ChangesFrom) -> bool {
    match error.class {
        FailureClass::NeedsResync => true,
        FailureClass::InvalidInput => matches!(from, ChangesFrom::Cursor(_)),
        _ => false,
    }
}

/// The pass to go on with, or the next one to begin.
fn next_pass(
    connection: &DueConnection,
    reader: &dyn CalendarReader,
    settings: &SyncSettings,
    now: OffsetDateTime,
) -> Pass {
    let bound = reader.capabilities().window_bound;
    let spread = time::Duration::seconds_f64(
        SyncWindow::SLACK.as_seconds_f64() / 2.0 * spread(PassId(connection.id.0)),
    );
    // A full pass is due before the slack is used up, at another day for each connection.
    let covers = |window: &SyncWindow| {
        !bound
            || (window.end >= now + settings.future + spread && window.start <= now - settings.past)
    };
    if let Some(pass) = &connection.pass
        && covers(&pass.window)
    {
        return pass.clone();
    }
    match &connection.synced {
        Some((token, window))
            if covers(window) && !connection.removal_held && reader.is_feed(token) =>
        {
            Pass {
                id: PassId::new(),
                kind: PassKind::Delta,
                window: *window,
                position: PassPosition::Begin,
                touched_series: false,
            }
        }
        // A list that does not fail goes on over its window.
        Some((token, window)) if covers(window) && !reader.is_feed(token) => Pass {
            window: *window,
            ..full_pass(settings, now)
        },
        _ => full_pass(settings, now),
    }
}

fn full_pass(settings: &SyncSettings, now: OffsetDateTime) -> Pass {
    Pass {
        id: PassId::new(),
        kind: PassKind::Full,
        window: SyncWindow::around(now, settings.past, settings.future),
        position: PassPosition::Begin,
        touched_series: false,
    }
}

/// Whether what a full pass did not see may be removed. Providers have answered an empty list by
/// mistake; such a pass removes nothing until a second one agrees.
fn verdict(report: &UnseenReport, is_feed: bool, removal_held: bool) -> Unseen {
    let suspicious = (report.unseen > REMOVALS_NEVER_SUSPICIOUS && report.unseen * 2 > report.live)
        || (!is_feed && report.singles.len() >= UnseenReport::MOST_SINGLES);
    if suspicious && !removal_held {
        Unseen::Hold
    } else {
        Unseen::Remove
    }
}

/// A number from 0 to 1 out of an id's random bits: spreads what would happen at once.
pub(crate) fn spread(id: PassId) -> f64 {
    let bytes = id.0.as_bytes();
    f64::from(u16::from_be_bytes([bytes[14], bytes[15]])) / f64::from(u16::MAX)
}
