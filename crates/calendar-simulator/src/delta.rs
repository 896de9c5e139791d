//! calendarView/delta: pages over a calendar's change log. A token is a position in that log, with its window, sealed;
//! the server keeps nothing per client.
//!
//! A round walks the log from the client's position to its end. What changes meanwhile moves to the end of the log and
//! is met there, so a round never misses a change, and may show an event twice.

use std::ops::Bound;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::error::GraphError;
use crate::ids::Ids;
use crate::model::{Calendar, Change, Event, Instance, Mailbox, Part, Removal, overlaps};
use crate::quirks::Quirks;
use crate::render::View;

/// Bytes of a token before it is padded, without the seal.
const FIELDS: usize = 78;
const SEAL: usize = 16;
/// About 460 characters, as seen.
const PADDED: usize = 345;

/// A client's position. Rendered into `$skiptoken` and `$deltatoken`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The mailbox in whose address space the links are.
    pub(crate) viewer: u32,
    pub(crate) owner: u32,
    pub(crate) calendar: u32,
    /// The mailbox's sync generation when the round began.
    sync_generation: u32,
    pub(crate) window: (Timestamp, Timestamp),
    /// Of the first round: where the log ended when it began. 0 in later rounds.
    first_round_end: u64,
    /// Everything up to here was sent.
    position: u64,
    /// Rows already sent of the entry `partial`, when a series is split.
    partial: u64,
    offset: u32,
    /// Where the log ended when the last page was served.
    head: u64,
    page: u32,
    /// An event to show once more, 0 for none.
    again: u32,
    was_empty: bool,
    /// A delta token (begins a round) rather than a skip token (continues one).
    pub(crate) begins_round: bool,
}

/// A page and the way on.
#[derive(Debug)]
pub(crate) struct Page {
    /// The rows, comma separated.
    pub(crate) rows: String,
    pub(crate) next: Token,
}

impl Token {
    /// The start of a first round.
    pub(crate) fn first(
        mailbox: &Mailbox,
        viewer: u32,
        calendar: u32,
        window: (Timestamp, Timestamp),
    ) -> Self {
        Self {
            viewer,
            owner: mailbox.number,
            calendar,
            sync_generation: mailbox.sync_generation,
            window,
            first_round_end: mailbox.seq,
            position: 0,
            partial: 0,
            offset: 0,
            head: mailbox.seq,
            page: 0,
            again: 0,
            was_empty: false,
            begins_round: false,
        }
    }

    pub(crate) fn encode(&self, ids: &Ids, padded: bool) -> String {
        let mut bytes = Vec::with_capacity(PADDED);
        for number in [
            self.viewer,
            self.owner,
            self.calendar,
            self.sync_generation,
            self.offset,
            self.page,
            self.again,
        ] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.first_round_end, self.position, self.partial, self.head] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for at in [self.window.0, self.window.1] {
            // Milliseconds are all that Graph keeps of a window.
            bytes.extend_from_slice(&at.as_millisecond().to_be_bytes());
        }
        bytes.push(u8::from(self.was_empty));
        bytes.push(u8::from(self.begins_round));
        let seal = ids.sign(&bytes);
        bytes.extend_from_slice(&seal[..SEAL]);
        if padded {
            let mut block = 0_u8;
            while bytes.len() < PADDED {
                let noise = ids.sign(&[&seal[..], &[block]].concat());
                let missing = PADDED - bytes.len();
                bytes.extend(noise.iter().take(missing));
                block = block.wrapping_add(1);
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` for what this simulator did not write.
    pub(crate) fn decode(ids: &Ids, text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let fields = bytes.get(..FIELDS)?;
        let seal = ids.sign(fields);
        if bytes.get(FIELDS..FIELDS + SEAL)? != &seal[..SEAL] {
            return None;
        }
        let small = |index: usize| -> Option<u32> {
            let at = index * 4;
            Some(u32::from_be_bytes(fields.get(at..at + 4)?.try_into().ok()?))
        };
        let large = |index: usize| -> Option<[u8; 8]> {
            let at = 28 + index * 8;
            fields.get(at..at + 8)?.try_into().ok()
        };
        let number = |index: usize| large(index).map(u64::from_be_bytes);
        let time =
            |index: usize| Timestamp::from_millisecond(i64::from_be_bytes(large(index)?)).ok();
        Some(Self {
            viewer: small(0)?,
            owner: small(1)?,
            calendar: small(2)?,
            sync_generation: small(3)?,
            offset: small(4)?,
            page: small(5)?,
            again: small(6)?,
            first_round_end: number(0)?,
            position: number(1)?,
            partial: number(2)?,
            head: number(3)?,
            window: (time(4)?, time(5)?),
            was_empty: fields[76] == 1,
            begins_round: fields[77] == 1,
        })
    }

    /// The start of the next round.
    fn at_the_end(self, mailbox: &Mailbox) -> Self {
        Self {
            position: mailbox.seq,
            first_round_end: 0,
            partial: 0,
            offset: 0,
            head: mailbox.seq,
            page: 0,
            again: 0,
            was_empty: false,
            begins_round: true,
            ..self
        }
    }

    /// 410 when the mailbox has forgotten the token's state.
    pub(crate) fn check(&self, mailbox: &Mailbox) -> Result<(), GraphError> {
        if self.sync_generation == mailbox.sync_generation && self.position <= mailbox.seq {
            return Ok(());
        }
        Err(GraphError::new(
            410,
            "SyncStateNotFound",
            format!(
                "The sync state generation is not found; generation={};[highest={}].",
                self.sync_generation, mailbox.sync_generation
            ),
        ))
    }
}

/// Collects the rows of one page.
struct Rows<'a> {
    out: String,
    count: usize,
    size: usize,
    view: &'a View<'a>,
    quirks: &'a Quirks,
    /// Leaves out the second of every three occurrences.
    holes: bool,
}

impl Rows<'_> {
    fn full(&self) -> bool {
        self.count >= self.size
    }

    fn next(&mut self) -> &mut String {
        if self.count > 0 {
            self.out.push(',');
        }
        self.count += 1;
        &mut self.out
    }

    fn event(&mut self, row: &Instance<'_>) {
        let (view, stub) = (self.view, self.quirks.stub_occurrences);
        let out = self.next();
        if stub && matches!(row.part, Part::Occurrence(_)) {
            view.write_stub(out, row);
        } else {
            view.write_full(out, row);
        }
    }

    fn removed(&mut self, id: &str) {
        View::write_removed(self.next(), id);
    }
}

/// The untruth that there is nothing to tell.
pub(crate) fn nothing(mailbox: &Mailbox, token: &Token) -> Page {
    Page {
        rows: String::new(),
        next: token.clone().at_the_end(mailbox),
    }
}

/// Serves the page that a token asks for.
pub(crate) fn page(
    mailbox: &Mailbox,
    calendar: &Calendar,
    token: &Token,
    size: usize,
    view: &View<'_>,
    quirks: &Quirks,
    holes: bool,
) -> Page {
    let mut next = Token {
        page: token.page + 1,
        again: 0,
        was_empty: false,
        begins_round: false,
        head: mailbox.seq,
        ..token.clone()
    };
    let first_in_line = token.begins_round || token.page == 0;
    if token.begins_round {
        next.page = 1;
    }
    let chance = |label: &str, one_in: u64| {
        view.ids
            .chance(
                label,
                &[
                    u64::from(token.page),
                    u64::from(token.calendar),
                    u64::from(token.owner),
                ],
            )
            .is_multiple_of(one_in)
    };
    // An empty page stands first in about a third of all rounds, and before every eighth page.
    if quirks.empty_pages && !token.was_empty && chance("empty", if first_in_line { 3 } else { 8 })
    {
        next.was_empty = true;
        return Page {
            rows: String::new(),
            next,
        };
    }

    let mut rows = Rows {
        out: String::new(),
        count: 0,
        size,
        view,
        quirks,
        holes,
    };
    repeat(&mut rows, mailbox, token);
    let mut shown = 0;
    let mut finished = true;
    let start = (Bound::Excluded(token.position), Bound::Unbounded);
    for (seq, change) in calendar.log.range(start) {
        if rows.full() {
            finished = false;
            break;
        }
        match change {
            Change::Removed(removal) => removed(&mut rows, removal, token, *seq),
            Change::Upserted(number) => {
                let Some(event) = mailbox.events.get(number) else {
                    next.position = *seq;
                    continue;
                };
                let skip = if token.partial == *seq {
                    token.offset as usize
                } else {
                    0
                };
                let sent = upserted(&mut rows, event, token, *seq, skip);
                if let Some(sent) = sent {
                    next.partial = *seq;
                    next.offset = u32::try_from(sent).unwrap_or(u32::MAX);
                    finished = false;
                    break;
                }
                if event.series.is_none() && overlaps(event.item.span(), token.window) {
                    shown = *number;
                }
            }
        }
        next.position = *seq;
        next.partial = 0;
        next.offset = 0;
    }
    if finished {
        next = next.at_the_end(mailbox);
    } else if quirks.duplicates && chance("again", 3) {
        next.again = shown;
    }
    Page {
        rows: rows.out,
        next,
    }
}

/// The event that the last page promised to show once more.
fn repeat(rows: &mut Rows<'_>, mailbox: &Mailbox, token: &Token) {
    // A page of one row would never get on with its work.
    if token.again == 0 || rows.size < 2 {
        return;
    }
    let again = mailbox.events.get(&token.again).filter(|event| {
        event.calendar == token.calendar
            && event.series.is_none()
            && overlaps(event.item.span(), token.window)
    });
    if let Some(event) = again {
        rows.event(&event.own());
    }
}

/// Whether the entry belongs to what a first round found at its start, and so cannot contradict anything shown.
fn initial(token: &Token, seq: u64) -> bool {
    seq <= token.first_round_end
}

fn removed(rows: &mut Rows<'_>, removal: &Removal, token: &Token, seq: u64) {
    let short_lived = removal.created_seq > token.head && rows.quirks.short_lived_unreported;
    let known = removal
        .spans
        .iter()
        .any(|span| overlaps(*span, token.window));
    if initial(token, seq) || short_lived || !(known || rows.quirks.removed_for_unknown) {
        return;
    }
    let id = removal
        .forced_id
        .clone()
        .unwrap_or_else(|| rows.view.event_id(removal.number, removal.generation, None));
    rows.removed(&id);
}

/// Writes an event's rows from the `skip`-th on. Gives how many were sent in all when the page is full before the end.
fn upserted(
    rows: &mut Rows<'_>,
    event: &Event,
    token: &Token,
    seq: u64,
    skip: usize,
) -> Option<usize> {
    let mut instances = event.instances(token.window);
    if instances.is_empty() {
        if !initial(token, seq) && (rows.quirks.removed_for_unknown || event.ever_in(token.window))
        {
            let id = rows.view.id_of(&event.own());
            rows.removed(&id);
        }
        return None;
    }
    if rows.holes && event.series.is_some() {
        let mut place = 0;
        instances.retain(|_| {
            place += 1;
            place % 3 != 2
        });
    }
    let master = (event.series.is_some() && rows.quirks.master_in_delta).then(|| event.own());
    let mut sent = 0;
    for row in master.iter().chain(&instances) {
        for _ in 0..event.repeat.max(1) {
            sent += 1;
            if sent <= skip {
                continue;
            }
            if rows.full() && (rows.quirks.split_series || event.series.is_none()) {
                return Some(sent - 1);
            }
            rows.event(row);
        }
    }
    if !rows.quirks.deleted_occurrence_unreported
        && !initial(token, seq)
        && let Some(series) = &event.series
    {
        for date in &series.deleted {
            let (start, end) = event.occurrence_times(*date);
            let span = crate::model::span(&start, &end, event.item.all_day);
            if overlaps(span, token.window) {
                let id = rows
                    .view
                    .event_id(event.number, event.generation, Some(*date));
                rows.removed(&id);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            viewer: 1,
            owner: 2,
            calendar: 3,
            sync_generation: 4,
            window: (
                "2026-01-01T00:00:00Z".parse().unwrap(),
                "2026-02-01T00:00:00Z".parse().unwrap(),
            ),
            first_round_end: 5,
            position: 6,
            partial: 7,
            offset: 8,
            head: 9,
            page: 10,
            again: 11,
            was_empty: true,
            begins_round: false,
        }
    }

    #[test]
    fn tokens_come_back_long_and_short() {
        let ids = Ids::new(3);
        for padded in [true, false] {
            let text = token().encode(&ids, padded);
            assert_eq!(Token::decode(&ids, &text), Some(token()));
            assert_eq!(text.len() > 400, padded);
        }
    }

    #[test]
    fn a_changed_token_is_refused() {
        let ids = Ids::new(3);
        let text = token().encode(&ids, true);
        assert_eq!(Token::decode(&Ids::new(4), &text), None);
        for at in [0, 20, 60, 110] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(Token::decode(&ids, &changed), None, "{at}");
        }
        assert_eq!(Token::decode(&ids, ""), None);
        assert_eq!(Token::decode(&ids, "R0usmcdvmMu7jxWP8"), None);
    }
}
