//! What our cursors hold: a link of the change feed, or where a plain list of the window stands.

use calendar_domain::sync::{Cursor, SyncWindow};
use time::{Duration, OffsetDateTime};

/// What the cursors of a list begin with; links begin with `http`.
const LIST: &str = "list:";
/// A piece of the window is halved down to this.
const SMALLEST_PIECE: Duration = Duration::days(1);
/// calendarView refuses windows of more than 1825 days.
const LARGEST_PIECE: Duration = Duration::days(1800);
/// The change feed is tried again so long after it failed.
const FEED_TRIED_AFTER: Duration = Duration::days(1);

/// Where to read on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    /// A link of the change feed; in a first round with the window it reads. That stands behind the link as
    /// its fragment, which no request sends.
    Feed {
        /// The link, not yet checked.
        link: String,
        /// What the round reads; `None` in rounds of changes.
        window: Option<SyncWindow>,
    },
    /// A list, piece by piece.
    List(List),
}

/// A window that is read by calendarView, piece by piece.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct List {
    window: SyncWindow,
    /// Where the piece begins.
    from: OffsetDateTime,
    /// How long pieces are.
    step: Duration,
    /// When the change feed failed.
    since: OffsetDateTime,
    /// The next page of the piece.
    pub(crate) link: Option<String>,
}

impl Place {
    pub(crate) fn is_feed(cursor: &Cursor) -> bool {
        !cursor.0.starts_with(LIST)
    }

    /// Reads a cursor; `None` where we did not write it.
    pub(crate) fn read(Cursor(text): &Cursor) -> Option<Self> {
        if let Some(list) = text.strip_prefix(LIST) {
            return List::read(list).map(Self::List);
        }
        let (link, window) = match text.split_once('#') {
            Some((link, window)) => (link, Some(read_window(&mut window.split('/'))?)),
            None => (text.as_str(), None),
        };
        let link = link.to_owned();
        Some(Self::Feed { link, window })
    }

    pub(crate) fn into_cursor(self) -> Cursor {
        Cursor(match self {
            Self::Feed { link, window: None } => link,
            Self::Feed {
                link,
                window: Some(SyncWindow { start, end }),
            } => format!("{link}#{}/{}", start.unix_timestamp(), end.unix_timestamp()),
            Self::List(list) => list.text(),
        })
    }
}

impl List {
    /// The whole window, in as few pieces as may be.
    pub(crate) fn begin(window: SyncWindow, now: OffsetDateTime) -> Self {
        let step = (window.end - window.start).clamp(Duration::ZERO, LARGEST_PIECE);
        Self {
            window,
            from: window.start,
            step,
            since: now,
            link: None,
        }
    }

    /// Whether to try the change feed again instead: the list is at its beginning, and a day old.
    pub(crate) fn is_outdated(&self, now: OffsetDateTime) -> bool {
        self.link.is_none() && self.from == self.window.start && now - self.since > FEED_TRIED_AFTER
    }

    /// The piece to read.
    pub(crate) fn piece(&self) -> SyncWindow {
        let end = self.from.checked_add(self.step).unwrap_or(self.window.end);
        SyncWindow {
            start: self.from,
            end: end.min(self.window.end),
        }
    }

    /// The same piece in halves; `None` where it is small enough.
    pub(crate) fn halved(&self) -> Option<Self> {
        let piece = self.piece();
        let step: Duration = (piece.end - piece.start) / 2;
        (step >= SMALLEST_PIECE).then(|| Self {
            step: Duration::seconds(step.whole_seconds()),
            link: None,
            ..self.clone()
        })
    }

    /// What comes after a page that named `link` as the next one. Whether more follows: else it is the
    /// beginning of the next reading, in pieces of the same length.
    pub(crate) fn after(self, link: Option<String>) -> (Self, bool) {
        let end = self.piece().end;
        let more = link.is_some() || end < self.window.end;
        let from = match (&link, more) {
            (Some(_), _) => self.from,
            (None, true) => end,
            (None, false) => self.window.start,
        };
        (Self { from, link, ..self }, more)
    }

    fn read(text: &str) -> Option<Self> {
        let (numbers, link) = match text.split_once(' ') {
            Some((numbers, link)) => (numbers, Some(link.to_owned())),
            None => (text, None),
        };
        let mut numbers = numbers.split('/');
        let list = Self {
            window: read_window(&mut numbers)?,
            from: instant(numbers.next()?)?,
            step: Duration::seconds(numbers.next()?.parse().ok()?),
            since: instant(numbers.next()?)?,
            link,
        };
        let goes_on = list.step >= Duration::SECOND && list.from >= list.window.start;
        (goes_on && numbers.next().is_none()).then_some(list)
    }

    fn text(&self) -> String {
        let numbers = format!(
            "{LIST}{}/{}/{}/{}/{}",
            self.window.start.unix_timestamp(),
            self.window.end.unix_timestamp(),
            self.from.unix_timestamp(),
            self.step.whole_seconds(),
            self.since.unix_timestamp(),
        );
        match &self.link {
            Some(link) => format!("{numbers} {link}"),
            None => numbers,
        }
    }
}

fn read_window<'a>(numbers: &mut impl Iterator<Item = &'a str>) -> Option<SyncWindow> {
    Some(SyncWindow {
        start: instant(numbers.next()?)?,
        end: instant(numbers.next()?)?,
    })
}

fn instant(seconds: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-03-01 12:00 UTC);
    const WINDOW: SyncWindow = SyncWindow {
        start: datetime!(2026-03-01 00:00 UTC),
        end: datetime!(2026-04-01 00:00 UTC),
    };

    #[test]
    fn cursors_come_back_as_they_were() {
        let link = "https://graph.example.com/v1.0/me/x?$skiptoken=a%2Fb".to_owned();
        let begun = List::begin(WINDOW, NOW);
        let on_its_way = List {
            link: Some(link.clone()),
            from: datetime!(2026-03-08 18:00 UTC),
            ..begun.clone()
        };
        for (place, is_feed) in [
            (
                Place::Feed {
                    link: link.clone(),
                    window: None,
                },
                true,
            ),
            (
                Place::Feed {
                    link,
                    window: Some(WINDOW),
                },
                true,
            ),
            (Place::List(begun), false),
            (Place::List(on_its_way), false),
        ] {
            let cursor = place.clone().into_cursor();
            assert_eq!(Place::is_feed(&cursor), is_feed);
            assert_eq!(Place::read(&cursor), Some(place));
        }
        for text in [
            "list:",
            "list:1/2/3/4",
            "list:1/2/1/0/5",
            "list:5/9/1/4/5",
            "list:1/2/1/4/5/6",
            "list:1/2/x/4/5",
            "https://graph.example.com/v1.0/x#y",
        ] {
            assert_eq!(Place::read(&Cursor(text.to_owned())), None, "{text}");
        }
    }

    #[test]
    fn pieces_cover_the_window_and_follow_each_other() {
        for halvings in 0..5 {
            let mut list = List::begin(WINDOW, NOW);
            for _ in 0..halvings {
                list = list.halved().unwrap();
            }
            let begun = list.clone();
            let mut covered = WINDOW.start;
            loop {
                let piece = list.piece();
                assert_eq!(piece.start, covered);
                assert!(piece.end > piece.start && piece.end <= WINDOW.end);
                covered = piece.end;
                let (next, more) = list.after(None);
                list = next;
                if !more {
                    break;
                }
            }
            assert_eq!((covered, list), (WINDOW.end, begun));
        }
        let mut smallest = List::begin(WINDOW, NOW);
        while let Some(half) = smallest.halved() {
            smallest = half;
        }
        assert!(smallest.step >= SMALLEST_PIECE && smallest.step < SMALLEST_PIECE * 2);
        let decade = SyncWindow {
            end: WINDOW.start + Duration::days(3650),
            ..WINDOW
        };
        let first = List::begin(decade, NOW).piece();
        assert_eq!(first.end - first.start, LARGEST_PIECE);
    }

    #[test]
    fn the_feed_is_tried_again_after_a_day_and_between_two_readings_only() {
        let list = List::begin(WINDOW, NOW);
        assert!(!list.is_outdated(NOW + Duration::hours(24)));
        let later = NOW + Duration::hours(25);
        assert!(list.is_outdated(later));
        let (on_its_way, _) = list.after(Some("https://graph.example.com/v1.0/x".to_owned()));
        assert!(!on_its_way.is_outdated(later));
    }
}
