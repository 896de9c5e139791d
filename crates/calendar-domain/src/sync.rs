//! What a pass over a connection is made of: windows, cursors, leases, claims, batches.

use time::{Duration, OffsetDateTime};

use crate::account::{Account, StoredTokens};
use crate::event::{EventChange, EventMoment, EventSpan, ProviderEventId};
use crate::ids::{AccountId, ConnectionId, EventId, PassId, UserId, WorkerId};
use crate::recurrence::RecurrenceRule;
use crate::subscription::{ClaimedPush, PushLook};

/// A time window, the end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncWindow {
    /// First instant.
    pub start: OffsetDateTime,
    /// First instant after it.
    pub end: OffsetDateTime,
}

impl SyncWindow {
    /// How much more than the asked window is fetched on either side, so that a window-bound
    /// sync token lives for weeks before the window has to be moved.
    pub const SLACK: Duration = Duration::days(30);

    /// The window to fetch at `now`: `past` and `future` with slack, on whole days.
    #[must_use]
    pub fn around(now: OffsetDateTime, past: Duration, future: Duration) -> Self {
        let midnight = now
            .to_offset(time::UtcOffset::UTC)
            .replace_time(time::Time::MIDNIGHT);
        Self {
            start: midnight - past - Self::SLACK,
            end: midnight + future + Self::SLACK,
        }
    }

    /// Whether something that spans `span` touches the window. Days count as UTC days.
    #[must_use]
    pub fn overlaps(&self, span: EventSpan) -> bool {
        let (start, end) = (span.start().to_column(), span.end().to_column());
        start < self.end && (end > self.start || (start == end && start >= self.start))
    }
}

/// A provider's cursor as it came: Graph's next and delta links, Google's page and sync tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// Which calendar, and through whose mailbox it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarRef {
    /// The provider's id of the calendar.
    pub calendar_id: String,
    /// Whose mailbox.
    pub mailbox: Mailbox,
}

/// Whose mailbox a calendar is read through. The provider's request limit counts per mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mailbox {
    /// The account's own.
    Own,
    /// Another user's who shared it: that user's address.
    Delegate(String),
}

/// Where to read changes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangesFrom {
    /// From the start: everything in the window.
    Start(SyncWindow),
    /// The same, after that has failed more than once: where the provider cannot answer for the whole
    /// window, in pieces of it.
    StartInPieces(SyncWindow),
    /// From a cursor of an earlier page: the next page, or what changed since.
    Cursor(Cursor),
}

/// One page of a provider's change feed.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangesPage {
    /// What changed, in the provider's order; of entries with one id the last one counts.
    pub changes: Vec<EventChange>,
    /// What comes next.
    pub next: NextPage,
}

/// What comes after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// More pages.
    More(Cursor),
    /// That was the last one; the cursor asks for what changes from now on.
    Done(Cursor),
}

/// Whether a pass reads everything or only what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassKind {
    /// Everything in the window. Only such a pass may conclude that what it did not see is gone.
    Full,
    /// What changed since the last pass.
    Delta,
}

/// A pass under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// Its id.
    pub id: PassId,
    /// Full or delta.
    pub kind: PassKind,
    /// The window it covers.
    pub window: SyncWindow,
    /// How far it has come.
    pub position: PassPosition,
    /// Whether a page so far held anything of a series.
    pub touched_series: bool,
}

/// How far a pass has come: its checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassPosition {
    /// Nothing is stored yet.
    Begin,
    /// The next page to fetch.
    Page(Cursor),
    /// All pages are stored; the series and what was not seen remain to be judged. The cursor
    /// becomes the connection's sync token.
    Fetched(Cursor),
}

/// The right to sync an account, held by one worker at a time.
///
/// Every write of a pass names it; a store MUST refuse a write whose lease is not the account's
/// current one (`lease_lost`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The account.
    pub account_id: AccountId,
    /// Who holds it.
    pub owner: WorkerId,
    /// The fencing number: one more with each claim.
    pub fence: i64,
}

/// An account to work on, with those of its connections that are due (none when only its push is).
#[derive(Debug)]
pub struct Claim {
    /// The right to do so.
    pub lease: Lease,
    /// The account.
    pub account: Account,
    /// How its push stands.
    pub push: ClaimedPush,
    /// How many requests may go to the account's own mailbox at a time; 0 while others use all turns.
    pub turns: u32,
    /// What is due, longest overdue first.
    pub connections: Vec<DueConnection>,
}

/// A connection that is due, with all that a pass needs to begin or to go on.
#[derive(Debug)]
pub struct DueConnection {
    /// Our id.
    pub id: ConnectionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Which calendar.
    pub calendar: CalendarRef,
    /// The account's tokens, as this connection's row holds them.
    pub tokens: StoredTokens,
    /// The sync token and the window it covers; `None` before the first full pass has ended.
    pub synced: Option<(Cursor, SyncWindow)>,
    /// A pass that was begun and not ended.
    pub pass: Option<Pass>,
    /// When its last pass ended; `None` before the first one has.
    pub last_synced_at: Option<OffsetDateTime>,
    /// Its calendar is another's: pushes do not cover it.
    pub is_shared: bool,
    /// A push asked for this pass: which look after it.
    pub push_look: Option<PushLook>,
    /// The number of requests at the time of the claim.
    pub requested_seq: i64,
    /// Passes that failed one after another.
    pub failure_count: u32,
    /// The last full pass would have removed suspiciously much, and removed nothing.
    pub removal_held: bool,
    /// Some of what is set aside may be had now ([`EventStore::rejected_due`]).
    ///
    /// [`EventStore::rejected_due`]: crate::ports::EventStore::rejected_due
    pub has_rejected_due: bool,
}

/// One page to store: everything in it happens in one transaction, or nothing.
#[derive(Clone, Debug)]
pub struct PageBatch {
    /// The connection.
    pub connection_id: ConnectionId,
    /// The pass it belongs to, as it stood before this page (`position` is what was fetched).
    pub pass: Pass,
    /// What the page held.
    pub changes: Vec<EventChange>,
    /// What is to happen next.
    pub then: AfterPage,
}

/// What a page's transaction leaves behind.
#[derive(Clone, Debug)]
pub enum AfterPage {
    /// The checkpoint moves on: `Page` or `Fetched`.
    Checkpoint(PassPosition),
    /// The pass ends with this page.
    Finish(PassEnd),
}

/// How a pass ends.
#[derive(Clone, Debug)]
pub struct PassEnd {
    /// The sync token for the next pass.
    pub sync_token: Cursor,
    /// When the next pass is due, unless another was asked for meanwhile.
    pub next_due_at: OffsetDateTime,
    /// The look after a push that the next pass is; `None` when it is no such look.
    pub push_look: Option<PushLook>,
    /// `requested_seq` as it was claimed: if it has moved, the connection is due now.
    pub requested_seq: i64,
    /// What to do with rows in the window that a full pass did not see.
    pub unseen: Unseen,
}

/// What to do, at the end of a pass, with rows that overlap its window and were not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// Leave them: a delta pass says nothing about what it does not mention.
    Keep,
    /// Make them tombstones: the end of a full pass.
    Remove,
    /// Leave them, and remember that the next full pass is to confirm (`removal_held`).
    Hold,
}

/// What storing a page did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows that are new.
    pub inserted: u64,
    /// Rows that changed, revived tombstones among them.
    pub updated: u64,
    /// Entries whose row was as it should be: nothing was written.
    pub unchanged: u64,
    /// Rows that became tombstones.
    pub removed: u64,
    /// Entries set aside: rejected by the adapter, or without their master.
    pub skipped: u64,
    /// Removals of what is not there.
    pub ignored: u64,
    /// Whether anything of a series was in it.
    pub touched_series: bool,
}

impl std::ops::AddAssign for Applied {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.removed += other.removed;
        self.skipped += other.skipped;
        self.ignored += other.ignored;
        self.touched_series |= other.touched_series;
    }
}

/// A series that a pass touched, as it stands after the last page.
#[derive(Clone, Debug, PartialEq)]
pub struct TouchedSeries {
    /// The master's row.
    pub master_id: EventId,
    /// The master's id at the provider.
    pub master: ProviderEventId,
    /// Its rule; `None` where we cannot read it.
    pub rule: Option<RecurrenceRule>,
    /// When the first occurrence takes place.
    pub span: EventSpan,
    /// The IANA zone that the rule runs in.
    pub zone: Option<String>,
    /// What stands in `exception_dates`.
    pub exception_dates: Vec<EventMoment>,
    /// Its rows that are no tombstones and overlap the window, or whose original start does.
    pub instances: Vec<SeriesInstance>,
}

/// A live row of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesInstance {
    /// Our id.
    pub id: EventId,
    /// The provider's id.
    pub provider_event_id: ProviderEventId,
    /// Its identity within the series.
    pub original_start: EventMoment,
    /// When it takes place.
    pub span: EventSpan,
    /// Whether the pass saw it.
    pub seen: bool,
}

/// What judging a series came to.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesCorrection {
    /// The master's row.
    pub master_id: EventId,
    /// What is to stand in `exception_dates`, sorted.
    pub exception_dates: Vec<EventMoment>,
    /// Instances that are gone.
    pub removed: Vec<EventId>,
}

/// What a full pass did not see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnseenReport {
    /// Live rows that overlap the window (masters apart).
    pub live: u64,
    /// How many of them were not seen.
    pub unseen: u64,
    /// Masters that were not seen although they have live instances in the window.
    pub masters: Vec<ProviderEventId>,
    /// Single events that were not seen, at most [`UnseenReport::MOST_SINGLES`].
    pub singles: Vec<ProviderEventId>,
}

impl UnseenReport {
    /// So many single events can be asked for one by one.
    pub const MOST_SINGLES: usize = 100;
}

/// Why a pass did not end, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassFailure {
    /// A stable code (`calendar_sync_states.last_error_code`).
    pub code: String,
    /// When to try again.
    pub retry_at: OffsetDateTime,
    /// The provider asks to be left alone by all of the account's connections that are read through the
    /// same mailbox: none is due before `retry_at`.
    pub whole_mailbox: bool,
}
