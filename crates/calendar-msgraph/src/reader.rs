//! Reading calendars: the change feed page by page, one event, the instances of a series.
//!
//! Source: <https://learn.microsoft.com/graph/api/event-delta> (v1.0 knows it on calendarView only),
//! <https://learn.microsoft.com/graph/api/event-list-instances>.

use async_trait::async_trait;
use calendar_domain::event::{EventChange, ProviderEventId};
use calendar_domain::failure::PortResult;
use calendar_domain::ports::CalendarReader;
use calendar_domain::provider::Capabilities;
use calendar_domain::sync::{
    CalendarRef, ChangesFrom, ChangesPage, Cursor, Mailbox, NextPage, SyncWindow,
};
use secrecy::SecretString;
use serde_json::value::RawValue;
use url::Url;

use crate::MsGraph;
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
        let target = match from {
            ChangesFrom::Start(window) => {
                let path = calendar_path(&calendar.calendar_id, &["calendarView", "delta"]);
                within(Target::path(path), *window)
            }
            ChangesFrom::Cursor(Cursor(link)) => {
                Target::Link(self.transport.link(link).ok_or(GraphError::ForeignCursor)?)
            }
        };
        let body = self
            .transport
            .get(token, &calendar.mailbox, target, self.page_size)
            .await?;
        let page: Page = serde_json::from_slice(&body).map_err(GraphError::unreadable)?;
        let next = match (page.next_link, page.delta_link) {
            (Some(link), _) => NextPage::More(Cursor(link)),
            (None, Some(link)) => NextPage::Done(Cursor(link)),
            (None, None) => return Err(GraphError::Unreadable { line: 0, column: 0 }),
        };
        let (NextPage::More(Cursor(link)) | NextPage::Done(Cursor(link))) = &next;
        self.answered_link(link)?;
        let (changes, without_id) = Mapper::default().page(&page.value, Occurrences::AsOccurrence);
        if without_id > 0 {
            tracing::warn!(
                without_id,
                "Graph sent entries without an id; they were passed over"
            );
        }
        Ok(ChangesPage { changes, next })
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
        let raw: &RawValue = serde_json::from_slice(&body).map_err(GraphError::unreadable)?;
        let change = Mapper::default().entry(raw, Occurrences::AsException);
        change
            .map(Some)
            .ok_or(GraphError::Unreadable { line: 0, column: 0 })
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
                    instances.extend(mapper.page(entries, Occurrences::AsOccurrence).0);
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

fn calendar_path<'a>(calendar_id: &'a str, leaf: &[&'a str]) -> Vec<&'a str> {
    [&["calendars", calendar_id], leaf].concat()
}

fn within(target: Target, window: SyncWindow) -> Target {
    target
        .with("startDateTime", rfc3339(window.start))
        .with("endDateTime", rfc3339(window.end))
}
