//! Which rows a page of changes writes: identity, what an occurrence inherits, versions. Pure, so
//! that it can be tested without a database; the store looks up, asks here, and writes. Long because it is one
//! decision: what becomes of an entry hangs on all others of its page.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::event::{
    EventChange, EventImportance, EventKind, EventMoment, EventSpan, EventStatus, EventZone,
    Occurrence, ProviderEvent, ProviderEventId, Sensitivity, ShowAs, TeamsMeeting,
};
use crate::ids::EventId;
use crate::normalise::{normalise, stored_identifier};
use crate::rejected::RejectedEvent;
use crate::version::{content_version, event_version, occurrence_version};

/// A row that the store already holds and that a page may concern.
#[derive(Clone, Debug)]
pub struct KnownRow {
    /// Our id.
    pub id: EventId,
    /// `provider_event_id` as stored.
    pub provider_event_id: String,
    /// `parent_event_id`.
    pub parent: Option<EventId>,
    /// `original_start`.
    pub original_start: Option<OffsetDateTime>,
    /// `version`; `None` for rows of an older application.
    pub version: Option<Uuid>,
    /// Whether it is a tombstone.
    pub deleted: bool,
    /// Of a master: what its occurrences inherit.
    pub inheritable: Option<Arc<Inheritable>>,
}

/// What an occurrence's row carries of its master's content, so that queries on the table find it.
/// The rest is read from the master.
#[derive(Clone, Debug, PartialEq)]
pub struct Inheritable {
    /// Hash of all that an occurrence inherits, also of what its row doesn't carry
    /// (`content_version` of the master's row).
    pub content_version: Uuid,
    /// Whether the series is one of whole days: a stub does not say.
    pub is_all_day: bool,
    /// SUMMARY.
    pub title: Option<String>,
    /// LOCATION.
    pub location: Option<String>,
    /// IANA zone of the start.
    pub timezone: Option<String>,
    /// IANA zone of the end, where it differs.
    pub end_timezone: Option<String>,
    /// The zone could not be resolved.
    pub timezone_unresolved: bool,
    /// STATUS.
    pub status: EventStatus,
    /// Priority.
    pub importance: EventImportance,
    /// Free or busy.
    pub show_as: Option<ShowAs>,
    /// Private or not.
    pub sensitivity: Option<Sensitivity>,
    /// The Teams meeting. A master's row keeps these columns, with `teams_enabled = false`.
    pub teams: Option<TeamsMeeting>,
}

/// An unmodified occurrence that is stored under a master; asked for when the master changes.
#[derive(Clone, Debug)]
pub struct KnownOccurrence {
    /// Its row.
    pub row: KnownRow,
    /// When it takes place.
    pub span: EventSpan,
}

/// What the store knows of a page's events.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Rows whose `provider_event_id` is one of [`lookup_ids`]; tombstones too.
    pub by_provider_id: HashMap<String, KnownRow>,
    /// Live rows by `(parent_event_id, original_start)`, for the keys of [`instance_keys`].
    pub by_original_start: HashMap<(EventId, OffsetDateTime), KnownRow>,
    /// Live unmodified occurrences of the masters of [`changed_masters`].
    pub occurrences: HashMap<EventId, Vec<KnownOccurrence>>,
}

/// A row to write.
#[derive(Clone, Debug)]
pub struct RowWrite {
    /// Our id: new, or that of the row to overwrite.
    pub id: EventId,
    /// Insert; else update.
    pub is_new: bool,
    /// Update: the row's identity (`provider_event_id`, `parent_event_id`, `original_start`) changes,
    /// so that its old keys must be cleared before others take them.
    pub rekeyed: bool,
    /// `provider_event_id`: the provider's, or `sha256:…` of one that is too long.
    pub provider_event_id: String,
    /// `parent_event_id`.
    pub parent: Option<EventId>,
    /// `original_start`.
    pub original_start: Option<EventMoment>,
    /// `series_master_id`.
    pub series_master_id: Option<String>,
    /// `version`.
    pub version: Uuid,
    /// What stands in the other columns.
    pub content: RowContent,
}

/// The content of a row to write.
#[derive(Clone, Debug)]
pub enum RowContent {
    /// A single, a master or an exception: everything, normalised. `content_version` for a master.
    Full(Box<ProviderEvent>, Option<Uuid>),
    /// An unmodified occurrence (`inherits = true`).
    Inherited(EventSpan, Arc<Inheritable>),
}

/// What a page comes to.
#[derive(Clone, Debug, Default)]
pub struct WritePlan {
    /// Rows to write, masters before their instances; no id and no key twice.
    pub writes: Vec<RowWrite>,
    /// Rows (tombstones too) whose `provider_event_id` is taken over by a row of `writes`: their old
    /// identity was given to another event. They become tombstones, with `provider_event_id` changed
    /// to `displaced:{id}`, before `writes`.
    pub displaced: Vec<EventId>,
    /// Live rows that become tombstones; of a master, all its instances too.
    pub removed: Vec<EventId>,
    /// Rows that were masters and are none any more: their live instances become tombstones, but for
    /// those that `writes` gives another place.
    pub no_longer_masters: Vec<EventId>,
    /// Rows that the pass has seen, written or not (new ones too).
    pub seen: Vec<EventId>,
    /// Entries whose row is as it should be.
    pub unchanged: u64,
    /// Entries set aside.
    pub skipped: u64,
    /// Removals of what is not there.
    pub ignored: u64,
    /// What is set aside, each id once, as it is stored: what was rejected, and the masters that occurrences
    /// of the page came without.
    pub rejected: Vec<RejectedEvent>,
    /// The stored ids of entries that are stored or gone: they are set aside no longer.
    pub resolved: Vec<String>,
    /// Whether anything of a series was in the page.
    pub touched_series: bool,
}

/// The entries of a page, each id once: the last one wins, in the order of the first.
///
/// Sources: Graph's delta query overview ("the same entity may appear more than once").
#[must_use]
pub fn last_wins(changes: Vec<EventChange>) -> Vec<EventChange> {
    let mut last: HashMap<ProviderEventId, usize> = HashMap::with_capacity(changes.len());
    let mut kept: Vec<EventChange> = Vec::with_capacity(changes.len());
    for change in changes {
        match last.get(change.id()) {
            Some(&index) => kept[index] = change,
            None => {
                last.insert(change.id().clone(), kept.len());
                kept.push(change);
            }
        }
    }
    kept
}

/// The stored ids to look up for a page: of its entries and of the masters they name.
#[must_use]
pub fn lookup_ids(changes: &[EventChange]) -> Vec<String> {
    let ids: HashSet<String> = changes
        .iter()
        .flat_map(|change| std::iter::once(change.id()).chain(change.master()))
        .map(|id| stored_identifier(id.as_str()).into_owned())
        .collect();
    ids.into_iter().collect()
}

impl Inheritable {
    /// What occurrences inherit from a normalised master.
    fn of(master: &ProviderEvent) -> Self {
        let unresolved = |zone: &Option<EventZone>| matches!(zone, Some(EventZone::Unresolved(_)));
        Self {
            content_version: content_version(master),
            is_all_day: master.span.is_all_day(),
            title: master.title.clone(),
            location: master.location.clone(),
            timezone: master
                .zone
                .as_ref()
                .and_then(EventZone::iana)
                .map(str::to_owned),
            end_timezone: master
                .end_zone
                .as_ref()
                .and_then(EventZone::iana)
                .map(str::to_owned),
            timezone_unresolved: unresolved(&master.zone) || unresolved(&master.end_zone),
            status: master.status,
            importance: master.importance,
            show_as: master.show_as,
            sensitivity: master.sensitivity,
            teams: master.teams.clone(),
        }
    }
}

/// An instance's place in its series: the master's stored id, and the original start as a column.
fn place(change: &EventChange) -> Option<(String, OffsetDateTime)> {
    let original_start = match change {
        EventChange::Occurrence(occurrence) => occurrence.span.start(),
        EventChange::Event(event) => match &event.kind {
            EventKind::Exception { original_start, .. } => *original_start,
            EventKind::Single | EventKind::Master { .. } => return None,
        },
        EventChange::Removed(_) | EventChange::Rejected(_) => return None,
    };
    let master = change.master()?;
    Some((
        stored_identifier(master.as_str()).into_owned(),
        original_start.to_column(),
    ))
}

/// The `(parent_event_id, original_start)` to look up, of instances that are not found where their
/// provider id says.
#[must_use]
pub fn instance_keys(changes: &[EventChange], known: &Known) -> Vec<(EventId, OffsetDateTime)> {
    changes
        .iter()
        .filter_map(|change| {
            let (master, original_start) = place(change)?;
            let master = known.by_provider_id.get(&master)?;
            let key = (master.id, original_start);
            let row = known
                .by_provider_id
                .get(stored_identifier(change.id().as_str()).as_ref());
            (!row.is_some_and(|row| !row.deleted && row.is_at(key))).then_some(key)
        })
        .collect()
}

/// The masters whose stored occurrences have to be written anew, because what they inherit changes.
#[must_use]
pub fn changed_masters(changes: &[EventChange], known: &Known) -> Vec<EventId> {
    changes
        .iter()
        .filter_map(|change| {
            let EventChange::Event(event) = change else {
                return None;
            };
            let EventKind::Master { .. } = event.kind else {
                return None;
            };
            let row = known
                .by_provider_id
                .get(stored_identifier(event.id.as_str()).as_ref())?;
            let stored = row.inheritable.as_ref()?;
            let changed = content_version(&normalise((**event).clone())) != stored.content_version;
            changed.then_some(row.id)
        })
        .collect()
}

impl KnownRow {
    fn is_at(&self, (parent, original_start): (EventId, OffsetDateTime)) -> bool {
        self.parent == Some(parent) && self.original_start == Some(original_start)
    }
}

/// A master that instances of the page can stand under.
struct Master {
    id: EventId,
    inheritable: Arc<Inheritable>,
}

/// An entry to store, on its way to its row.
struct Candidate {
    provider_event_id: String,
    /// The place in the series, under a master that is there.
    key: Option<(EventId, OffsetDateTime)>,
    content: Content,
    row: Option<KnownRow>,
}

enum Content {
    Event(Box<ProviderEvent>),
    Occurrence(Occurrence, Arc<Inheritable>),
}

/// What storing the page comes to. `changes` as [`last_wins`] leaves them.
///
/// An instance is the row at its place in the series, `(master, original_start)`, whatever its provider
/// id, and only then the row with its provider id.
#[must_use]
pub fn plan(changes: Vec<EventChange>, known: &Known) -> WritePlan {
    let mut plan = WritePlan::default();
    let changes: Vec<EventChange> = changes
        .into_iter()
        .map(|change| match change {
            EventChange::Event(event) => EventChange::Event(Box::new(normalise(*event))),
            other => other,
        })
        .collect();
    let masters = masters(&changes, known);
    let mut removed: Vec<String> = Vec::new();
    let mut orphaned: BTreeSet<ProviderEventId> = BTreeSet::new();
    let mut candidates: Vec<Candidate> = Vec::with_capacity(changes.len());
    let mut places: HashMap<(EventId, OffsetDateTime), usize> = HashMap::new();
    for change in changes {
        let place = place(&change);
        let provider_event_id = stored_identifier(change.id().as_str()).into_owned();
        plan.touched_series |= place.is_some();
        let master = place.as_ref().and_then(|(master, _)| masters.get(master));
        let key = master
            .zip(place.as_ref())
            .map(|(master, (_, start))| (master.id, *start));
        let content = match change {
            EventChange::Removed(_) => {
                plan.resolved.push(provider_event_id.clone());
                removed.push(provider_event_id);
                continue;
            }
            EventChange::Rejected(rejected) => {
                plan.skipped += 1;
                plan.seen.extend(
                    known
                        .by_provider_id
                        .get(&provider_event_id)
                        .map(|row| row.id),
                );
                plan.rejected.push(RejectedEvent {
                    id: ProviderEventId(provider_event_id),
                    ..rejected
                });
                continue;
            }
            EventChange::Event(event) => {
                plan.touched_series |= matches!(event.kind, EventKind::Master { .. });
                Content::Event(event)
            }
            EventChange::Occurrence(mut occurrence) => {
                let Some(master) = master else {
                    plan.skipped += 1;
                    orphaned.extend(place.map(|(master, _)| ProviderEventId(master)));
                    continue;
                };
                occurrence.span = of_kind(occurrence.span, master.inheritable.is_all_day);
                Content::Occurrence(occurrence, Arc::clone(&master.inheritable))
            }
        };
        plan.resolved.push(provider_event_id.clone());
        let candidate = Candidate {
            provider_event_id,
            key,
            content,
            row: None,
        };
        match key.and_then(|key| places.get(&key).copied()) {
            // Two ids at one place of one series: the later entry is the truth.
            Some(index) => candidates[index] = candidate,
            None => {
                places.extend(key.map(|key| (key, candidates.len())));
                candidates.push(candidate);
            }
        }
    }
    set_aside(orphaned, &mut plan);
    let claimed = assign_rows(&mut candidates, known);
    let mut ids: HashMap<String, EventId> = HashMap::new();
    for (stored_id, master) in &masters {
        ids.insert(stored_id.clone(), master.id);
    }
    for candidate in candidates {
        write(candidate, &ids, known, &claimed, &mut plan);
    }
    remove(&removed, known, &claimed, &mut plan);
    refresh_occurrences(&masters, known, &claimed, &mut plan);
    // Masters before their instances.
    plan.writes.sort_by_key(|write| write.parent.is_some());
    plan.seen.sort_unstable();
    plan.seen.dedup();
    plan
}

/// Plans the removal of the rows with these provider ids, those apart that an entry of the page has claimed.
fn remove(removed: &[String], known: &Known, claimed: &HashSet<EventId>, plan: &mut WritePlan) {
    for id in removed {
        let row = known.by_provider_id.get(id).filter(|row| !row.deleted);
        let Some(row) = row else {
            plan.ignored += 1;
            continue;
        };
        if claimed.contains(&row.id) {
            continue;
        }
        plan.removed.push(row.id);
        // Its series is to be judged: the hole may be an exception date.
        if let Some(parent) = row.parent {
            plan.touched_series = true;
            plan.seen.push(parent);
        }
    }
}

/// Sets aside the masters that the page's occurrences came without, each once. A reason of its own goes first.
fn set_aside(orphaned: BTreeSet<ProviderEventId>, plan: &mut WritePlan) {
    for master in orphaned {
        if plan.rejected.iter().all(|rejected| rejected.id != master) {
            plan.rejected.push(RejectedEvent::master_not_found(master));
        }
    }
}

/// The span as dates or as instants, whichever its series has. From midnight UTC to midnight UTC it
/// can be read either way, and Graph's stubs do not say which.
fn of_kind(span: EventSpan, all_day: bool) -> EventSpan {
    match span {
        EventSpan::Timed { start, end } if all_day => EventSpan::AllDay {
            start: start.date(),
            end: end.date(),
        },
        EventSpan::AllDay { .. } if !all_day => EventSpan::Timed {
            start: span.start().to_column(),
            end: span.end().to_column(),
        },
        _ => span,
    }
}

/// Masters by stored id: those of the page (new ones get their id here), and live stored ones.
fn masters(changes: &[EventChange], known: &Known) -> HashMap<String, Master> {
    let mut masters: HashMap<String, Master> = HashMap::new();
    for row in known.by_provider_id.values().filter(|row| !row.deleted) {
        if let Some(inheritable) = &row.inheritable {
            let master = Master {
                id: row.id,
                inheritable: Arc::clone(inheritable),
            };
            masters.insert(row.provider_event_id.clone(), master);
        }
    }
    for change in changes {
        match change {
            EventChange::Event(event) if matches!(event.kind, EventKind::Master { .. }) => {
                let row = known.by_provider_id.get(&event.id.0);
                let id = row.map_or_else(EventId::new, |row| row.id);
                let inheritable = Arc::new(Inheritable::of(event));
                masters.insert(event.id.0.clone(), Master { id, inheritable });
            }
            // What was a master and is none any more has no instances to inherit from it.
            EventChange::Event(event) => {
                masters.remove(&event.id.0);
            }
            EventChange::Removed(id) => {
                masters.remove(stored_identifier(id.as_str()).as_ref());
            }
            EventChange::Occurrence(_) | EventChange::Rejected(_) => {}
        }
    }
    masters
}

/// The row with the provider's id, where it stands in the place it should. A tombstone leaves an
/// instance's place to whatever lives there now.
fn at_its_place<'k>(candidate: &Candidate, known: &'k Known) -> Option<&'k KnownRow> {
    let row = known.by_provider_id.get(&candidate.provider_event_id)?;
    match candidate.key {
        Some(key) => (!row.deleted && row.is_at(key)).then_some(row),
        None => row.parent.is_none().then_some(row),
    }
}

/// The row that stands in the place.
fn by_place<'k>(candidate: &Candidate, known: &'k Known) -> Option<&'k KnownRow> {
    known.by_original_start.get(&candidate.key?)
}

/// The row with the provider's id, wherever it stands.
fn by_id<'k>(candidate: &Candidate, known: &'k Known) -> Option<&'k KnownRow> {
    known.by_provider_id.get(&candidate.provider_event_id)
}

/// Gives each candidate its row; a row is given once. Returns the rows given.
fn assign_rows(candidates: &mut [Candidate], known: &Known) -> HashSet<EventId> {
    let mut claimed: HashSet<EventId> = HashSet::with_capacity(candidates.len());
    for rule in [at_its_place, by_place, by_id] {
        for candidate in candidates
            .iter_mut()
            .filter(|candidate| candidate.row.is_none())
        {
            if let Some(row) = rule(candidate, known)
                && claimed.insert(row.id)
            {
                candidate.row = Some(row.clone());
            }
        }
    }
    claimed
}

fn write(
    candidate: Candidate,
    masters: &HashMap<String, EventId>,
    known: &Known,
    claimed: &HashSet<EventId>,
    plan: &mut WritePlan,
) {
    let Candidate {
        provider_event_id,
        key,
        content,
        row,
    } = candidate;
    let (version, content, original_start, series_master_id) = match content {
        Content::Event(event) => {
            let (original_start, master) = match &event.kind {
                EventKind::Exception {
                    master,
                    original_start,
                } => (
                    Some(*original_start),
                    Some(stored_identifier(master.as_str()).into_owned()),
                ),
                EventKind::Single | EventKind::Master { .. } => (None, None),
            };
            let inherited = match event.kind {
                EventKind::Master { .. } => Some(content_version(&event)),
                EventKind::Single | EventKind::Exception { .. } => None,
            };
            (
                event_version(&event),
                RowContent::Full(event, inherited),
                original_start,
                master,
            )
        }
        Content::Occurrence(occurrence, inheritable) => (
            occurrence_version(&occurrence, inheritable.content_version),
            RowContent::Inherited(occurrence.span, inheritable),
            Some(occurrence.span.start()),
            Some(stored_identifier(occurrence.master.as_str()).into_owned()),
        ),
    };
    let parent = key.map(|(parent, _)| parent);
    // Graph keeps the id when a series becomes a single event, and removes no occurrence by name.
    let is_master = matches!(&content, RowContent::Full(event, _) if matches!(event.kind, EventKind::Master { .. }));
    if !is_master
        && let Some(row) = &row
        && row.inheritable.is_some()
    {
        plan.no_longer_masters.push(row.id);
    }
    // A new master got its id before its row was looked for.
    let new_id = || {
        masters
            .get(&provider_event_id)
            .copied()
            .unwrap_or_else(EventId::new)
    };
    let id = row.as_ref().map_or_else(new_id, |row| row.id);
    plan.seen.push(id);
    let rekeyed = row.as_ref().is_some_and(|row| {
        row.provider_event_id != provider_event_id
            || row.parent != parent
            || row.original_start != original_start.map(EventMoment::to_column)
    });
    let same = |row: &KnownRow| !row.deleted && row.version == Some(version);
    if !rekeyed && row.as_ref().is_some_and(same) {
        plan.unchanged += 1;
        return;
    }
    // Another row holds the provider id, and no entry of this page has claimed that row.
    if let Some(holder) = known.by_provider_id.get(&provider_event_id)
        && holder.id != id
        && !claimed.contains(&holder.id)
    {
        plan.displaced.push(holder.id);
    }
    plan.writes.push(RowWrite {
        id,
        is_new: row.is_none(),
        rekeyed,
        provider_event_id,
        parent,
        original_start,
        series_master_id,
        version,
        content,
    });
}

/// Writes the stored occurrences of changed masters that the page itself does not hold.
fn refresh_occurrences(
    masters: &HashMap<String, Master>,
    known: &Known,
    claimed: &HashSet<EventId>,
    plan: &mut WritePlan,
) {
    for (stored_id, master) in masters {
        for occurrence in known.occurrences.get(&master.id).into_iter().flatten() {
            let KnownOccurrence { row, span } = occurrence;
            let gone = plan.removed.contains(&row.id) || plan.displaced.contains(&row.id);
            if gone || claimed.contains(&row.id) {
                continue;
            }
            let stub = Occurrence {
                id: ProviderEventId(row.provider_event_id.clone()),
                master: ProviderEventId(stored_id.clone()),
                span: *span,
            };
            let version = occurrence_version(&stub, master.inheritable.content_version);
            if row.version == Some(version) {
                continue;
            }
            plan.writes.push(RowWrite {
                id: row.id,
                is_new: false,
                rekeyed: false,
                provider_event_id: row.provider_event_id.clone(),
                parent: Some(master.id),
                original_start: Some(span.start()),
                series_master_id: Some(stored_id.clone()),
                version,
                content: RowContent::Inherited(*span, Arc::clone(&master.inheritable)),
            });
        }
    }
}
