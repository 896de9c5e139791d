//! One event: reading, creating, changing, deleting, answering.

use serde_json::{Value, json};

use super::{Context, Folder, READ, READ_SHARED, WRITE, WRITE_SHARED, no_segment};
use crate::error::GraphError;
use crate::http::Answer;
use crate::model::World;
use crate::render;
use crate::store::{self, Located};

impl Context<'_> {
    /// One event with its context, as GET, POST and PATCH answer it.
    pub(super) fn entity(
        &self,
        world: &World,
        located: Located,
        status: u16,
    ) -> Result<Answer, GraphError> {
        let row = store::row_in(world, located)?;
        let view = self.view(located.owner, false);
        let mut out = String::from("{\"@odata.context\":");
        render::quote(&mut out, &self.user_context(world, "events/$entity"));
        out.push(',');
        let mut body = String::new();
        self.write_row(&mut body, &view, &row);
        let select = self.request.query("$select").unwrap_or_default();
        let expand = self.request.query("$expand").unwrap_or_default();
        if let (Some(series), None) = (&row.event.series, located.date) {
            let mut value: Value = serde_json::from_str(&body).unwrap_or_default();
            if select
                .split(',')
                .any(|name| name.trim().eq_ignore_ascii_case("cancelledOccurrences"))
            {
                let id = view.id_of(&row);
                value["cancelledOccurrences"] = series
                    .deleted
                    .iter()
                    .map(|date| Value::from(format!("OID.{id}.{date}")))
                    .collect();
            }
            if expand.eq_ignore_ascii_case("exceptionOccurrences") {
                value["exceptionOccurrences"] = series
                    .exceptions
                    .keys()
                    .filter_map(|date| row.event.on(*date))
                    .map(|exception| {
                        let mut text = String::new();
                        view.write_full(&mut text, &exception);
                        serde_json::from_str::<Value>(&text).unwrap_or_default()
                    })
                    .collect();
            }
            body = value.to_string();
        }
        out.push_str(&body[1..]);
        let etag = format!(
            "W/\"{}\"",
            self.simulator
                .0
                .ids
                .change_key(located.owner, row.item.version)
        );
        Ok(Answer::graph(status, out).header("ETag", &etag))
    }

    pub(super) fn get_event(&self, folder: Folder<'_>, id: &str) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let world = self.simulator.seen();
        let (located, _) = self.event(&world, folder, id)?;
        self.entity(&world, located, 200)
    }

    pub(super) fn create_event(&self, calendar: Option<&str>) -> Result<Answer, GraphError> {
        self.scope(&WRITE, &WRITE_SHARED)?;
        let body = self.request.json()?;
        let mut world = self.simulator.change();
        let target = self.target(&world, calendar)?;
        if !target.can_edit {
            return Err(GraphError::denied());
        }
        // The same transactionId again is the same event, not a second one.
        if let Some(transaction) = body.get("transactionId").filter(|id| id.is_string()) {
            let known = world.mailbox(target.owner).and_then(|mailbox| {
                mailbox.events.values().find(|event| {
                    event.calendar == target.calendar
                        && event.item.properties.get("transactionId") == Some(transaction)
                })
            });
            if let Some(event) = known {
                let located = Located {
                    owner: target.owner,
                    number: event.number,
                    date: None,
                };
                return self.entity(&world, located, 201);
            }
        }
        let number =
            self.simulator
                .create_in(&mut world, target.owner, target.calendar, &body, false)?;
        let located = Located {
            owner: target.owner,
            number,
            date: None,
        };
        let location = format!(
            "{}/v1.0/users('{}')/events('{}')",
            self.request.base,
            world.mailbox(self.path).map_or("", |mailbox| &mailbox.id),
            self.view(target.owner, false).event_id(number, 0, None)
        );
        Ok(self
            .entity(&world, located, 201)?
            .header("Location", &location))
    }

    /// An event that the session may change.
    pub(super) fn writable(
        &self,
        world: &World,
        folder: Folder<'_>,
        id: &str,
    ) -> Result<Located, GraphError> {
        self.scope(&WRITE, &WRITE_SHARED)?;
        let (located, can_edit) = self.event(world, folder, id)?;
        if can_edit {
            Ok(located)
        } else {
            Err(GraphError::denied())
        }
    }

    pub(super) fn patch_event(&self, folder: Folder<'_>, id: &str) -> Result<Answer, GraphError> {
        let body = self.request.json()?;
        let mut world = self.simulator.change();
        let located = self.writable(&world, folder, id)?;
        if let Some(expected) = self.request.header("if-match").filter(|etag| *etag != "*") {
            let version = store::row_in(&world, located)?.item.version;
            let key = self.simulator.0.ids.change_key(located.owner, version);
            if expected != format!("W/\"{key}\"") {
                return Err(GraphError::new(
                    412,
                    "ErrorIrresolvableConflict",
                    "The send or update operation could not be performed because the change key passed in the request does not match the current change key for the item.",
                ));
            }
        }
        self.simulator.edit_in(&mut world, located, &body, false)?;
        self.entity(&world, located, 200)
    }

    pub(super) fn delete_event(&self, folder: Folder<'_>, id: &str) -> Result<Answer, GraphError> {
        let mut world = self.simulator.change();
        let located = self.writable(&world, folder, id)?;
        store::delete_in(&mut world, located)?;
        Ok(Answer::empty(204))
    }

    pub(super) fn act(
        &self,
        folder: Folder<'_>,
        id: &str,
        action: &str,
    ) -> Result<Answer, GraphError> {
        let body = if self.request.body.is_empty() {
            json!({})
        } else {
            self.request.json()?
        };
        let parameter = |name: &str| {
            body.as_object()
                .into_iter()
                .flatten()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        let mut world = self.simulator.change();
        let located = self.writable(&world, folder, id)?;
        let properties = &store::row_in(&world, located)?.item.properties;
        let response = match action {
            "accept" => "accepted",
            "decline" => "declined",
            "tentativelyaccept" => "tentativelyAccepted",
            "cancel" => {
                if properties.get("isOrganizer") != Some(&Value::Bool(true)) {
                    return Err(GraphError::invalid(
                        "Your request can't be completed. You need to be an organizer to cancel a meeting.",
                    ));
                }
                store::delete_in(&mut world, located)?;
                return Ok(Answer::empty(202));
            }
            other => return Err(no_segment(other)),
        };
        if parameter("proposedNewTime").is_some_and(|time| !time.is_null())
            && (properties.get("allowNewTimeProposals") == Some(&Value::Bool(false))
                || parameter("sendResponse") == Some(Value::Bool(false))
                || response == "accepted")
        {
            return Err(GraphError::invalid(
                "A new time can't be proposed for this event.",
            ));
        }
        store::respond(self.simulator, &mut world, located, response)?;
        Ok(Answer::empty(202))
    }
}
