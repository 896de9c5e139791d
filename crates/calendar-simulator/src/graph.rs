//! Graph v1.0: routes, access, headers and errors.

mod calendars;
mod changes;
mod events;
mod lists;
mod preferences;
mod subscriptions;

use serde_json::json;

pub(crate) use lists::instant;
use preferences::{Preferences, preferences};

use crate::entra::Session;
use crate::error::GraphError;
use crate::http::{Answer, Incoming, http_date};
use crate::ids::Kind;
use crate::model::{Mailbox, World};
use crate::read;
use crate::render::{self, View};
use crate::simulator::Simulator;
use crate::store::{self, Located};

const DEFAULT_PAGE: usize = 10;
const MAX_PAGE: usize = 1000;
const READ: [&str; 4] = [
    "Calendars.Read",
    "Calendars.ReadWrite",
    "Calendars.Read.Shared",
    "Calendars.ReadWrite.Shared",
];
const WRITE: [&str; 2] = ["Calendars.ReadWrite", "Calendars.ReadWrite.Shared"];
const READ_SHARED: [&str; 2] = ["Calendars.Read.Shared", "Calendars.ReadWrite.Shared"];
const WRITE_SHARED: [&str; 1] = ["Calendars.ReadWrite.Shared"];

/// A request with its session and the mailbox in its path.
struct Context<'a> {
    simulator: &'a Simulator,
    request: &'a Incoming,
    session: &'a Session,
    /// The mailbox in the path: identifiers in answers belong to it.
    path: u32,
    preferences: Preferences,
}

/// How a path came to an event.
#[derive(Clone, Copy, Debug)]
enum Folder<'a> {
    /// `/me/events`: any calendar's event; lists are of the default calendar.
    Unnamed,
    /// `/me/calendar/events`
    Default,
    /// `/me/calendars/{id}/events`
    ById(&'a str),
}

impl<'a> Folder<'a> {
    fn id(self) -> Option<&'a str> {
        match self {
            Self::ById(id) => Some(id),
            Self::Unnamed | Self::Default => None,
        }
    }
}

/// A calendar that a request may use.
#[derive(Clone, Copy, Debug)]
struct Target {
    owner: u32,
    calendar: u32,
    can_edit: bool,
}

impl Simulator {
    /// The mailbox that a path is about, when it names one.
    pub(crate) fn addressed(&self, segments: &[String], session: Option<u32>) -> Option<u32> {
        match segments {
            [_, users, name, ..] if users.eq_ignore_ascii_case("users") => {
                read(&self.0.world).find(name)
            }
            _ => session,
        }
    }

    pub(crate) async fn graph(
        &self,
        version: &str,
        segments: &[String],
        session: Option<&Session>,
        request: &Incoming,
    ) -> Answer {
        let answer = self.routed(version, segments, session, request).await;
        match answer {
            Ok(answer) => self.finish(answer, request),
            Err(error) => self.graph_error(&error, request),
        }
    }

    async fn routed(
        &self,
        version: &str,
        segments: &[String],
        session: Option<&Session>,
        request: &Incoming,
    ) -> Result<Answer, GraphError> {
        let Some(session) = session else {
            let message = match request.bearer() {
                None => "Access token is empty.",
                Some(_) => "Lifetime validation failed, the token is expired.",
            };
            return Err(GraphError::new(401, "InvalidAuthenticationToken", message));
        };
        if version != "v1.0" {
            return Err(GraphError::new(
                400,
                "BadRequest",
                "The simulator serves v1.0 only.",
            ));
        }
        let lower: Vec<String> = segments
            .iter()
            .map(|segment| segment.to_ascii_lowercase())
            .collect();
        let (path, rest) = match lower.first().map(String::as_str) {
            // Subscriptions are of whoever asks, like everything under /me.
            Some("me" | "subscriptions") => (session.mailbox, 1),
            Some("users") => {
                let name = segments.get(1).map(String::as_str).unwrap_or_default();
                (self.mailbox_number(name)?, 2)
            }
            other => return Err(no_segment(other.unwrap_or_default())),
        };
        let context = Context {
            simulator: self,
            request,
            session,
            path,
            preferences: preferences(request, &self.quirks())?,
        };
        let is_subscription = lower.first().is_some_and(|first| first == "subscriptions");
        let lower: Vec<&str> = lower.iter().skip(rest).map(String::as_str).collect();
        let exact: Vec<&str> = segments.iter().skip(rest).map(String::as_str).collect();
        let mut answer = if is_subscription {
            context.subscriptions(&lower, &exact).await?
        } else {
            context.route(&lower, &exact)?
        };
        if !context.preferences.applied.is_empty() {
            answer = answer.header(
                "Preference-Applied",
                &context.preferences.applied.join(", "),
            );
        }
        Ok(answer)
    }

    /// Adds the headers that every answer of Graph has.
    pub(crate) fn finish(&self, answer: Answer, request: &Incoming) -> Answer {
        let id = self.0.ids.uuid("request", self.unique()).to_string();
        let client = request
            .header("client-request-id")
            .unwrap_or(&id)
            .to_owned();
        let date = http_date(self.now());
        let answer = answer
            .header("request-id", &id)
            .header("client-request-id", &client)
            .header(
                "x-ms-ags-diagnostic",
                "{\"ServerInfo\":{\"DataCenter\":\"Simulated\",\"Slice\":\"E\",\"Ring\":\"1\",\"ScaleUnit\":\"000\",\"RoleInstance\":\"SIM\"}}",
            )
            .header("OData-Version", "4.0")
            .header("Cache-Control", "no-cache");
        if date.is_empty() {
            answer
        } else {
            answer.header("Date", &date)
        }
    }

    pub(crate) fn graph_error(&self, error: &GraphError, request: &Incoming) -> Answer {
        let answer = self.finish(Answer::graph(error.status, String::new()), request);
        let header = |name: &str| {
            answer
                .headers
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
                .unwrap_or_default()
        };
        let mut date = render::seconds(self.now());
        date.pop();
        let body = json!({"error": {
            "code": error.code,
            "message": error.message,
            "innerError": {
                "date": date,
                "request-id": header("request-id"),
                "client-request-id": header("client-request-id"),
            },
        }});
        let mut answer = Answer {
            body: body.to_string(),
            ..answer
        };
        if error.status == 401 {
            answer = answer.header(
                "WWW-Authenticate",
                "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", client_id=\"00000003-0000-0000-c000-000000000000\"",
            );
        }
        if let Some(seconds) = error.retry_after {
            answer = answer.header("Retry-After", &seconds.to_string());
        }
        if let Some(location) = &error.location {
            answer = answer.header("Location", location);
        }
        answer
    }
}

fn no_segment(segment: &str) -> GraphError {
    GraphError::new(
        400,
        "BadRequest",
        format!("Resource not found for the segment '{segment}'."),
    )
}

fn no_method() -> GraphError {
    GraphError::new(
        405,
        "Request_BadRequest",
        "Specified HTTP method is not allowed for the request target.",
    )
}

impl Context<'_> {
    fn route(&self, lower: &[&str], exact: &[&str]) -> Result<Answer, GraphError> {
        let method = self.request.method.as_str();
        // Everything about events comes down to a calendar (or none) and a tail.
        let (folder, tail, exact_tail): (Folder<'_>, &[&str], &[&str]) = match lower {
            [] => return self.only_get(|| Ok(self.user())),
            ["mailboxsettings"] => return self.only_get(|| self.mailbox_settings()),
            ["calendars"] => {
                return match method {
                    "GET" => self.list_calendars(),
                    "POST" => self.create_calendar(),
                    _ => Err(no_method()),
                };
            }
            ["calendar"] => return self.only_get(|| self.one_calendar(None)),
            ["calendars", _] => return self.only_get(|| self.one_calendar(Some(exact[1]))),
            ["calendar", tail @ ..] => (Folder::Default, tail, &exact[1..]),
            ["calendars", _, tail @ ..] => (Folder::ById(exact[1]), tail, &exact[2..]),
            tail @ ["events" | "calendarview", ..] => (Folder::Unnamed, tail, exact),
            [other, ..] => return Err(no_segment(other)),
        };
        let listed = folder.id();
        match tail {
            ["events", function] if is_delta(function) => Err(GraphError::new(
                400,
                "ErrorInvalidRequest",
                "Unsupported request: Change tracking is not supported against 'microsoft.graph.event'.",
            )),
            ["calendarview", function] if is_delta(function) => {
                self.only_get(|| self.delta(listed))
            }
            ["calendarview"] => self.only_get(|| self.calendar_view(listed)),
            ["events"] => match method {
                "GET" => self.list_events(listed),
                "POST" => self.create_event(listed),
                _ => Err(no_method()),
            },
            ["events", _] => {
                let id = exact_tail[1];
                match method {
                    "GET" => self.get_event(folder, id),
                    "PATCH" => self.patch_event(folder, id),
                    "DELETE" => self.delete_event(folder, id),
                    _ => Err(no_method()),
                }
            }
            ["events", _, "instances"] => {
                self.only_get(|| self.event_instances(folder, exact_tail[1]))
            }
            ["events", _, action] => {
                let name = action.strip_prefix("microsoft.graph.").unwrap_or(action);
                if method == "POST" {
                    self.act(folder, exact_tail[1], name)
                } else {
                    Err(no_method())
                }
            }
            other => Err(no_segment(other.last().copied().unwrap_or_default())),
        }
    }

    fn only_get(
        &self,
        answer: impl FnOnce() -> Result<Answer, GraphError>,
    ) -> Result<Answer, GraphError> {
        if self.request.method == "GET" {
            answer()
        } else {
            Err(no_method())
        }
    }

    fn scope(&self, own: &[&str], shared: &[&str]) -> Result<(), GraphError> {
        let wanted = if self.path == self.session.mailbox {
            own
        } else {
            shared
        };
        if self.session.may(wanted) {
            Ok(())
        } else {
            Err(GraphError::denied())
        }
    }

    fn view(&self, owner: u32, typed: bool) -> View<'_> {
        View {
            ids: &self.simulator.0.ids,
            viewer: self.path,
            owner,
            immutable: self.preferences.immutable,
            zone: self.preferences.zone.clone(),
            text_body: self.preferences.text_body,
            typed,
        }
    }

    fn context(&self, tail: &str) -> String {
        format!("{}/v1.0/$metadata#{tail}", self.request.base)
    }

    fn user_context(&self, world: &World, tail: &str) -> String {
        let id = world.mailbox(self.path).map_or("", |mailbox| &mailbox.id);
        self.context(&format!("users('{id}')/{tail}"))
    }

    /// Whether the session may use a calendar of the mailbox in the path; and whether it may write.
    fn access(&self, world: &World, number: u32) -> Result<bool, GraphError> {
        if self.path == self.session.mailbox {
            return Ok(true);
        }
        let mailbox = world.mailbox(self.path).ok_or_else(GraphError::not_found)?;
        mailbox
            .grants
            .iter()
            .filter(|grant| grant.to == self.session.mailbox)
            .filter(|grant| grant.calendar.is_none_or(|shared| shared == number))
            .map(|grant| grant.can_edit)
            .reduce(|one, other| one || other)
            .ok_or_else(GraphError::denied)
    }

    fn target(&self, world: &World, id: Option<&str>) -> Result<Target, GraphError> {
        let mailbox = world.mailbox(self.path).ok_or_else(GraphError::not_found)?;
        let number = match id {
            None => Mailbox::DEFAULT,
            Some(id) => {
                let reference = self.simulator.0.ids.decode(id).ok_or_else(|| {
                    GraphError::new(400, "ErrorInvalidIdMalformed", "Id is malformed.")
                })?;
                if reference.kind != Kind::Calendar || reference.viewer != self.path {
                    return Err(GraphError::not_found());
                }
                reference.number
            }
        };
        let calendar = mailbox.calendar(number).ok_or_else(GraphError::not_found)?;
        let can_edit = self.access(world, number)? && calendar.can_edit;
        let (owner, number) = calendar.copy_of.unwrap_or((self.path, number));
        Ok(Target {
            owner,
            calendar: number,
            can_edit,
        })
    }

    /// An event that the session may see, in the calendar that the path names, if it names one.
    fn event(
        &self,
        world: &World,
        folder: Folder<'_>,
        id: &str,
    ) -> Result<(Located, bool), GraphError> {
        let located = self.simulator.locate(world, self.path, id)?;
        let event = store::event_in(world, located)?;
        let can_edit = match folder {
            Folder::Default | Folder::ById(_) => {
                let target = self.target(world, folder.id())?;
                if (target.owner, target.calendar) != (located.owner, event.calendar) {
                    return Err(GraphError::not_found());
                }
                target.can_edit
            }
            Folder::Unnamed if located.owner == self.path => self.access(world, event.calendar)?,
            // Through a copy of a shared calendar.
            Folder::Unnamed => world
                .mailbox(self.path)
                .into_iter()
                .flat_map(|mailbox| &mailbox.calendars)
                .find(|copy| copy.copy_of == Some((located.owner, event.calendar)))
                .map(|copy| copy.can_edit)
                .ok_or_else(GraphError::not_found)?,
        };
        Ok((located, can_edit))
    }
}

fn is_delta(segment: &str) -> bool {
    let name = segment.strip_prefix("microsoft.graph.").unwrap_or(segment);
    matches!(name, "delta" | "delta()")
}
