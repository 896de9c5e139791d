//! Reading calendars: the change feed page by page, a plain list where that is refused, one event, the
//! instances of a series.
//!
//! Source: <https://learn.microsoft.com/graph/api/event-delta> (v1.0 knows it on calendarView only),
//! <https://learn.microsoft.com/graph/api/event-list-instances>.

use async_trait::async_trait;
use calendar_domain::event::{EventChange, ProviderEventId};
use calendar_domain::failure::{FailureClass, PortResult};
use calendar_domain::ports::CalendarReader;
use calendar_domain::provider::Capabilities;
use calendar_domain::rejected::RejectedEvent;
use calendar_domain::sync::{
    CalendarRef, ChangesFrom, ChangesPage, Cursor, Mailbox, NextPage, SyncWindow,
};
use secrecy::SecretString;
use serde_json::value::RawValue;
use time::Duration;
use url::Url;

use crate::MsGraph;
use crate::cursor::{List, Place};
use crate::error::GraphError;
use crate::map::{Mapper, Occurrences};
use crate::moment::rfc3339;
use crate::transport::Target;
use crate::wire::Page;

/// Pages of a list that are read before it counts as endless.
const MAX_PAGES: usize = 1000;

impl MsGraph {
    /// Follows a list to its end; `take` gets each page's entries.
    pub(crate) async fn list(
        &self,
        token: &SecretString,
        mailbox: &Mailbox,
        first: Target,
        mut take: impl FnMut(&[&RawValue]) + Send,
    ) -> Result<(), GraphError> {
        let mut target = first;
        for _ in 0..MAX_PAGES {
            let body = self
                .transport
                .get(token, mailbox, target, self.page_size)
                .await?;
            let page: Page = serde_json::from_slice(&body).map_err(GraphError::unreadable)?;
            take(&page.value);
            match page.next_link {
                Some(link) => target = Target::Link(self.answered_link(&link)?),
                None => return Ok(()),
            }
        }
        Err(GraphError::ForeignLink)
    }

    fn answered_link(&self, link: &str) -> Result<Url, GraphError> {
        self.transport.link(link).ok_or(GraphError::ForeignLink)
    }

    async fn changes_page(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        from: &ChangesFrom,
    ) -> Result<ChangesPage, GraphError> {
        let start = |window| {
            let path = calendar_path(&calendar.calendar_id, &["calendarView", "delta"]);
            within(Target::path(path), window)
        };
        let (target, window, refused) = match from {
            ChangesFrom::Start(window) => (start(*window), Some(*window), None),
            ChangesFrom::StartInPieces(window) => {
                let heavy: fn(&GraphError) -> bool = GraphError::is_too_heavy;
                (start(*window), Some(*window), Some(heavy))
            }
            ChangesFrom::Cursor(cursor) => {
                match Place::read(cursor).ok_or(GraphError::ForeignCursor)? {
                    Place::Feed { link, window } => {
                        let denied: fn(&GraphError) -> bool = GraphError::is_denied;
                        (self.stored_link(&link)?, window, Some(denied))
                    }
                    Place::List(list) => return self.list_page(token, calendar, list).await,
                }
            }
        };
        let answer = self
            .transport
            .get(token, &calendar.mailbox, target, self.page_size)
            .await;
        let body = match answer {
            Err(error) if refused.is_some_and(|refused| refused(&error)) => {
                self.can_be_listed(token, calendar, error).await?;
                let window = window.ok_or(GraphError::FeedRefused)?;
                let list = List::begin(window, self.transport.now());
                return Ok(ChangesPage {
                    changes: Vec::new(),
                    next: NextPage::More(Place::List(list).into_cursor()),
                });
            }
            answer => answer?,
        };
        let page: Page = serde_json::from_slice(&body).map_err(GraphError::unreadable)?;
        let next = match (page.next_link, page.delta_link) {
            (Some(link), _) => {
                self.answered_link(&link)?;
                NextPage::More(Place::Feed { link, window }.into_cursor())
            }
            (None, Some(link)) => {
                self.answered_link(&link)?;
                NextPage::Done(Cursor(link))
            }
            (None, None) => return Err(GraphError::Unreadable { line: 0, column: 0 }),
        };
        Ok(ChangesPage {
            changes: changes_of(&page.value),
            next,
        })
    }

    /// One page of a list. A piece that is too heavy for Graph is halved: an empty page, so that the
    /// shorter pieces are remembered.
    async fn list_page(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        list: List,
    ) -> Result<ChangesPage, GraphError> {
        if list.is_outdated(self.transport.now()) {
            return Err(GraphError::FeedRefused);
        }
        let target = match &list.link {
            Some(link) => self.stored_link(link)?,
            None => within(
                Target::path(calendar_path(&calendar.calendar_id, &["calendarView"])),
                list.piece(),
            ),
        };
        let answer = self
            .transport
            .get(token, &calendar.mailbox, target, self.page_size)
            .await;
        let body = match (answer, list.halved()) {
            (Err(error), Some(halved)) if error.is_too_heavy() => {
                self.can_be_listed(token, calendar, error).await?;
                return Ok(ChangesPage {
                    changes: Vec::new(),
                    next: NextPage::More(Place::List(halved).into_cursor()),
                });
            }
            (answer, _) => answer?,
        };
        let page: Page = serde_json::from_slice(&body).map_err(GraphError::unreadable)?;
        if let Some(link) = &page.next_link {
            self.answered_link(link)?;
        }
        let (next, more) = list.after(page.next_link);
        let next = Place::List(next).into_cursor();
        Ok(ChangesPage {
            changes: changes_of(&page.value),
            next: if more {
                NextPage::More(next)
            } else {
                NextPage::Done(next)
            },
        })
    }

    /// Whether the calendar can be read as a list: today's first event is asked for. Fails with
    /// `otherwise` where it cannot.
    async fn can_be_listed(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        otherwise: GraphError,
    ) -> Result<(), GraphError> {
        let now = self.transport.now();
        let today = SyncWindow {
            start: now,
            end: now.checked_add(Duration::DAY).unwrap_or(now),
        };
        let path = calendar_path(&calendar.calendar_id, &["calendarView"]);
        let target = within(Target::path(path), today).with("$top", "1".to_owned());
        match self
            .transport
            .get(token, &calendar.mailbox, target, self.page_size)
            .await
        {
            Ok(_) => Ok(()),
            // Its own refusal says how long to wait, or that the token is no longer good.
            Err(error) if error.class() != FailureClass::Permanent => Err(error),
            Err(_) => Err(otherwise),
        }
    }

    fn stored_link(&self, link: &str) -> Result<Target, GraphError> {
        let link = self.transport.link(link).ok_or(GraphError::ForeignCursor)?;
        Ok(Target::Link(link))
    }

    async fn one_event(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        id: &ProviderEventId,
    ) -> Result<Option<EventChange>, GraphError> {
        let target = Target::path(calendar_path(
            &calendar.calendar_id,
            &["events", id.as_str()],
        ));
        let body = match self
            .transport
            .get(token, &calendar.mailbox, target, self.page_size)
            .await
        {
            Ok(body) => body,
            Err(error) if error.is_item_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let _: Identified = serde_json::from_slice(&body).map_err(GraphError::unreadable)?;
        let raw: &RawValue = serde_json::from_slice(&body).map_err(GraphError::unreadable)?;
        Ok(Some(
            match Mapper::default().entry(raw, Occurrences::AsException) {
                // Whatever it says of its id.
                EventChange::Rejected(rejected) => EventChange::Rejected(RejectedEvent {
                    id: id.clone(),
                    ..rejected
                }),
                change => change,
            },
        ))
    }

    async fn all_instances(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        master: &ProviderEventId,
        window: SyncWindow,
    ) -> Result<Vec<EventChange>, GraphError> {
        let path = calendar_path(
            &calendar.calendar_id,
            &["events", master.as_str(), "instances"],
        );
        let mut mapper = Mapper::default();
        let mut instances = Vec::new();
        let listed = self
            .list(
                token,
                &calendar.mailbox,
                within(Target::path(path), window),
                |entries| {
                    instances.extend(mapper.page(entries, Occurrences::AsOccurrence));
                },
            )
            .await;
        match listed {
            Ok(()) => Ok(instances),
            Err(error) if error.is_item_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl CalendarReader for MsGraph {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            window_bound: true,
            silent_holes: true,
        }
    }

    fn is_feed(&self, cursor: &Cursor) -> bool {
        Place::is_feed(cursor)
    }

    async fn changes(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        from: &ChangesFrom,
    ) -> PortResult<ChangesPage> {
        self.changes_page(token, calendar, from)
            .await
            .map_err(GraphError::of_calendar)
    }

    async fn event(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        id: &ProviderEventId,
    ) -> PortResult<Option<EventChange>> {
        self.one_event(token, calendar, id)
            .await
            .map_err(GraphError::of_calendar)
    }

    async fn instances(
        &self,
        token: &SecretString,
        calendar: &CalendarRef,
        master: &ProviderEventId,
        window: SyncWindow,
    ) -> PortResult<Vec<EventChange>> {
        self.all_instances(token, calendar, master, window)
            .await
            .map_err(GraphError::of_calendar)
    }
}

/// What every event has: an answer without it is none.
#[derive(serde::Deserialize)]
struct Identified {
    #[serde(rename = "id")]
    _id: String,
}

fn changes_of(entries: &[&RawValue]) -> Vec<EventChange> {
    Mapper::default().page(entries, Occurrences::AsOccurrence)
}

fn calendar_path<'a>(calendar_id: &'a str, leaf: &[&'a str]) -> Vec<&'a str> {
    [&["calendars", calendar_id], leaf].concat()
}

fn within(target: Target, window: SyncWindow) -> Target {
    target
        .with("startDateTime", rfc3339(window.start))
        .with("endDateTime", rfc3339(window.end))
}
