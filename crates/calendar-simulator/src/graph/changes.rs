//! calendarView/delta as an endpoint: what it refuses, its links, its page.

use super::{Context, DEFAULT_PAGE, READ, READ_SHARED};
use crate::delta::{self, Token};
use crate::error::GraphError;
use crate::fault::Untruth;
use crate::http::Answer;
use crate::render;

impl Context<'_> {
    pub(super) fn delta(&self, calendar: Option<&str>) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        for unsupported in [
            "$select", "$filter", "$expand", "$orderby", "$search", "$top",
        ] {
            if self.request.query(unsupported).is_some() {
                return Err(GraphError::invalid(format!(
                    "The following parameters are not supported with change tracking over the 'CalendarView' resource: '{unsupported}'."
                )));
            }
        }
        let quirks = self.simulator.quirks();
        let ids = &self.simulator.0.ids;
        let world = self.simulator.seen();
        let target = self.target(&world, calendar)?;
        let mailbox = world
            .mailbox(target.owner)
            .ok_or_else(GraphError::not_found)?;
        let log = mailbox
            .calendar(target.calendar)
            .ok_or_else(GraphError::not_found)?;
        let (skip, delta) = (
            self.request.query("$skiptoken"),
            self.request.query("$deltatoken"),
        );
        let token = match skip.or(delta).filter(|text| !text.is_empty()) {
            None => Token::first(mailbox, self.path, target.calendar, self.window()?),
            Some(text) => {
                let token = Token::decode(ids, text)
                    .filter(|token| token.begins_round == skip.is_none())
                    .ok_or_else(|| {
                        GraphError::new(
                            400,
                            "ErrorInvalidSyncStateData",
                            "Sync state data is invalid.",
                        )
                    })?;
                if (token.viewer, token.owner, token.calendar)
                    != (self.path, target.owner, target.calendar)
                {
                    return Err(GraphError::new(
                        400,
                        "ErrorInvalidSyncStateData",
                        "Sync state data is invalid: it belongs to another folder.",
                    ));
                }
                // Seen of mailboxes of others: the first page came, the second one was denied.
                let is_foreign = target.owner != self.session.mailbox;
                if skip.is_some() && is_foreign && quirks.delegate_pages_denied {
                    return Err(GraphError::denied());
                }
                token.check(mailbox).map_err(|mut error| {
                    if quirks.gone_with_location {
                        error.location = Some(format!(
                            "{}{}?startDateTime={}&endDateTime={}&$deltatoken=",
                            self.request.base,
                            self.request.path,
                            render::seconds(token.window.0),
                            render::seconds(token.window.1),
                        ));
                    }
                    error
                })?;
                token
            }
        };
        let size = self.preferences.page_size.unwrap_or(DEFAULT_PAGE);
        let view = self.view(target.owner, true);
        let page = match self.request.untruth {
            Some(Untruth::EmptyList) => delta::nothing(mailbox, &token),
            untruth => {
                let holes = untruth == Some(Untruth::Holes);
                delta::page(mailbox, log, &token, size, &view, &quirks, holes)
            }
        };
        let (link, parameter) = if page.next.begins_round {
            ("@odata.deltaLink", "$deltatoken")
        } else {
            ("@odata.nextLink", "$skiptoken")
        };
        let mut out = String::with_capacity(page.rows.len() + 1024);
        out.push_str("{\"@odata.context\":");
        render::quote(&mut out, &self.context("Collection(event)"));
        out.push_str(",\"");
        out.push_str(link);
        out.push_str("\":");
        render::quote(
            &mut out,
            &format!(
                "{}{}?{parameter}={}",
                self.request.base,
                self.request.path,
                page.next.encode(ids, quirks.long_tokens)
            ),
        );
        out.push_str(",\"value\":[");
        out.push_str(&page.rows);
        out.push_str("]}");
        Ok(Answer::graph(200, out).header("Preference-Applied", "odata.track-changes"))
    }
}
