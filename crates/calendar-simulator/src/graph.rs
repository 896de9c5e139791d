//! Graph v1.0: routes, access, `Prefer`, lists and errors.

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::delta::{self, Token};
use crate::entra::Session;
use crate::error::GraphError;
use crate::http::{Answer, Incoming};
use crate::ids::Kind;
use crate::model::{Calendar, Instance, Mailbox, World};
use crate::render::{self, View};
use crate::simulator::{Simulator, members};
use crate::store::{self, Located};
use crate::zones::Zone;
use crate::{read, write};

/// What stays as it is in a query value.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

const DEFAULT_PAGE: usize = 10;
const MAX_PAGE: usize = 1000;
/// Graph refuses windows longer than this.
const MAX_WINDOW_DAYS: i64 = 1825;

const READ: [&str; 4] = [
    "Calendars.Read",
    "Calendars.ReadWrite",
    "Calendars.Read.Shared",
    "Calendars.ReadWrite.Shared",
];
const WRITE: [&str; 2] = ["Calendars.ReadWrite", "Calendars.ReadWrite.Shared"];
const READ_SHARED: [&str; 2] = ["Calendars.Read.Shared", "Calendars.ReadWrite.Shared"];
const WRITE_SHARED: [&str; 1] = ["Calendars.ReadWrite.Shared"];

/// The `Prefer` headers of a request.
#[derive(Clone, Debug)]
struct Preferences {
    immutable: bool,
    zone: Zone,
    text_body: bool,
    page_size: Option<usize>,
    applied: Vec<String>,
}

/// A request with its session and the mailbox in its path.
struct Context<'a> {
    simulator: &'a Simulator,
    request: &'a Incoming,
    session: &'a Session,
    /// The mailbox in the path: identifiers in answers belong to it.
    path: u32,
    preferences: Preferences,
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

    pub(crate) fn graph(
        &self,
        version: &str,
        segments: &[String],
        session: Option<&Session>,
        request: &Incoming,
    ) -> Answer {
        let answer = self.routed(version, segments, session, request);
        match answer {
            Ok(answer) => self.finish(answer, request),
            Err(error) => self.graph_error(&error, request),
        }
    }

    fn routed(
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
            Some("me") => (session.mailbox, 1),
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
        let lower: Vec<&str> = lower.iter().skip(rest).map(String::as_str).collect();
        let exact: Vec<&str> = segments.iter().skip(rest).map(String::as_str).collect();
        let mut answer = context.route(&lower, &exact)?;
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
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&self.now())
            .unwrap_or_default();
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

fn preferences(
    request: &Incoming,
    quirks: &crate::quirks::Quirks,
) -> Result<Preferences, GraphError> {
    let mut found = Preferences {
        immutable: !quirks.ids_per_request,
        zone: Zone::utc(),
        text_body: false,
        page_size: None,
        applied: Vec::new(),
    };
    for part in split_outside_quotes(&request.prefer().unwrap_or_default()) {
        let Some((name, value)) = part.split_once('=') else {
            continue;
        };
        let (name, bare) = (
            name.trim().to_ascii_lowercase(),
            value.trim().trim_matches('"'),
        );
        match name.as_str() {
            "outlook.timezone" => {
                found.zone = Zone::find(bare).ok_or_else(|| GraphError::zone(bare))?;
            }
            "outlook.body-content-type" => {
                found.text_body = bare.eq_ignore_ascii_case("text");
            }
            "idtype" => found.immutable |= bare.eq_ignore_ascii_case("ImmutableId"),
            "odata.maxpagesize" => {
                let size: usize = bare.parse().map_err(|_| {
                    GraphError::invalid("The value of odata.maxpagesize is invalid.")
                })?;
                found.page_size = Some(size.clamp(1, MAX_PAGE));
            }
            _ => continue,
        }
        found.applied.push(part.trim().to_owned());
    }
    Ok(found)
}

fn split_outside_quotes(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        if c == ',' && !quoted {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

impl Context<'_> {
    fn route(&self, lower: &[&str], exact: &[&str]) -> Result<Answer, GraphError> {
        let method = self.request.method.as_str();
        // Everything about events comes down to a calendar (or none) and a tail.
        let (calendar, tail, exact_tail): (Option<Option<&str>>, &[&str], &[&str]) = match lower {
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
            ["calendar", tail @ ..] => (Some(None), tail, &exact[1..]),
            ["calendars", _, tail @ ..] => (Some(Some(exact[1])), tail, &exact[2..]),
            tail @ ["events" | "calendarview", ..] => (None, tail, exact),
            [other, ..] => return Err(no_segment(other)),
        };
        let listed = calendar.unwrap_or(None);
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
                    "GET" => self.get_event(calendar, id),
                    "PATCH" => self.patch_event(calendar, id),
                    "DELETE" => self.delete_event(calendar, id),
                    _ => Err(no_method()),
                }
            }
            ["events", _, "instances"] => {
                self.only_get(|| self.event_instances(calendar, exact_tail[1]))
            }
            ["events", _, action] => {
                let name = action.strip_prefix("microsoft.graph.").unwrap_or(action);
                if method == "POST" {
                    self.act(calendar, exact_tail[1], name)
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

    fn user(&self) -> Answer {
        let world = read(&self.simulator.0.world);
        let Some(mailbox) = world.mailbox(self.path) else {
            return Answer::empty(404);
        };
        let (given, surname) = mailbox
            .display_name
            .split_once(' ')
            .unwrap_or((&mailbox.display_name, ""));
        let body = json!({
            "@odata.context": self.context("users/$entity"),
            "id": mailbox.id,
            "displayName": mailbox.display_name,
            "givenName": given,
            "surname": surname,
            "mail": mailbox.upn,
            "userPrincipalName": mailbox.upn,
            "jobTitle": null,
            "officeLocation": null,
            "preferredLanguage": "en-US",
            "businessPhones": [],
            "mobilePhone": null,
        });
        Answer::graph(200, self.selected(body).to_string())
    }

    fn mailbox_settings(&self) -> Result<Answer, GraphError> {
        if self.path != self.session.mailbox
            || !self
                .session
                .may(&["MailboxSettings.Read", "MailboxSettings.ReadWrite"])
        {
            return Err(GraphError::denied());
        }
        let world = read(&self.simulator.0.world);
        let zone = world
            .mailbox(self.path)
            .map_or("UTC", |mailbox| &mailbox.zone);
        let body = json!({
            "@odata.context": self.user_context(&world, "mailboxSettings"),
            "timeZone": zone,
            "dateFormat": "M/d/yyyy",
            "timeFormat": "h:mm tt",
            "delegateMeetingMessageDeliveryOptions": "sendToDelegateOnly",
            "userPurpose": "user",
            "language": {"locale": "en-US", "displayName": "English (United States)"},
            "workingHours": {
                "daysOfWeek": ["monday", "tuesday", "wednesday", "thursday", "friday"],
                "startTime": "08:00:00.0000000",
                "endTime": "17:00:00.0000000",
                "timeZone": {"name": zone},
            },
        });
        Ok(Answer::graph(200, self.selected(body).to_string()))
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
        calendar: Option<Option<&str>>,
        id: &str,
    ) -> Result<(Located, bool), GraphError> {
        let located = self.simulator.locate(world, self.path, id)?;
        let event = store::event_in(world, located)?;
        let can_edit = match calendar {
            Some(calendar) => {
                let target = self.target(world, calendar)?;
                if (target.owner, target.calendar) != (located.owner, event.calendar) {
                    return Err(GraphError::not_found());
                }
                target.can_edit
            }
            None if located.owner == self.path => self.access(world, event.calendar)?,
            // Through a copy of a shared calendar.
            None => world
                .mailbox(self.path)
                .into_iter()
                .flat_map(|mailbox| &mailbox.calendars)
                .find(|copy| copy.copy_of == Some((located.owner, event.calendar)))
                .map(|copy| copy.can_edit)
                .ok_or_else(GraphError::not_found)?,
        };
        Ok((located, can_edit))
    }

    fn calendar_json(&self, world: &World, mailbox: &Mailbox, calendar: &Calendar) -> Value {
        let owner = calendar
            .copy_of
            .and_then(|(owner, _)| world.mailbox(owner))
            .unwrap_or(mailbox);
        let foreign = self.path != self.session.mailbox || calendar.copy_of.is_some();
        let can_edit = calendar.can_edit && self.access(world, calendar.number).unwrap_or(false);
        let ids = &self.simulator.0.ids;
        json!({
            "id": self.simulator.calendar_id(self.path, calendar.number),
            "name": calendar.name,
            "color": calendar.color,
            "hexColor": "",
            "isDefaultCalendar": calendar.is_default,
            "changeKey": ids.change_key(mailbox.number, u64::from(calendar.number)),
            "canShare": !foreign,
            "canViewPrivateItems": !foreign,
            "canEdit": can_edit,
            "allowedOnlineMeetingProviders": ["teamsForBusiness"],
            "defaultOnlineMeetingProvider": "teamsForBusiness",
            "isTallyingResponses": calendar.is_default,
            "isRemovable": !calendar.is_default,
            "owner": {"name": owner.display_name, "address": owner.upn},
        })
    }

    fn list_calendars(&self) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let world = read(&self.simulator.0.world);
        let mailbox = world.mailbox(self.path).ok_or_else(GraphError::not_found)?;
        let all: Vec<&Calendar> = mailbox
            .calendars
            .iter()
            .filter(|calendar| self.access(&world, calendar.number).is_ok())
            .collect();
        if all.is_empty() {
            return Err(GraphError::denied());
        }
        let rows = |from: usize, to: usize| {
            all[from..to]
                .iter()
                .map(|calendar| {
                    self.selected(self.calendar_json(&world, mailbox, calendar))
                        .to_string()
                })
                .collect::<Vec<_>>()
                .join(",")
        };
        self.list(&self.user_context(&world, "calendars"), all.len(), rows)
    }

    fn create_calendar(&self) -> Result<Answer, GraphError> {
        self.scope(&WRITE, &WRITE_SHARED)?;
        if self.path != self.session.mailbox {
            return Err(GraphError::denied());
        }
        let body = self.request.json()?;
        let name = members(&body)?
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
            .ok_or_else(|| GraphError::invalid("A calendar needs a name."))?;
        let mut world = write(&self.simulator.0.world);
        let mailbox = world
            .mailbox_mut(self.path)
            .ok_or_else(GraphError::not_found)?;
        if mailbox
            .calendars
            .iter()
            .any(|calendar| calendar.name == name)
        {
            return Err(GraphError::new(
                409,
                "ErrorFolderExists",
                "A folder with the specified name already exists.",
            ));
        }
        let number = mailbox.add_calendar(name, None, true);
        drop(world);
        let id = self.simulator.calendar_id(self.path, number);
        let mut answer = self.one_calendar(Some(&id))?;
        answer.status = 201;
        Ok(answer)
    }

    fn one_calendar(&self, id: Option<&str>) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let world = read(&self.simulator.0.world);
        self.target(&world, id)?;
        let number = id
            .and_then(|id| self.simulator.0.ids.decode(id))
            .map_or(Mailbox::DEFAULT, |reference| reference.number);
        let mailbox = world.mailbox(self.path).ok_or_else(GraphError::not_found)?;
        let calendar = mailbox.calendar(number).ok_or_else(GraphError::not_found)?;
        let mut body = self.calendar_json(&world, mailbox, calendar);
        body["@odata.context"] = self.user_context(&world, "calendars/$entity").into();
        Ok(Answer::graph(200, self.selected(body).to_string()))
    }

    /// A page of a list of `count` rows, by `$top` and `$skip`.
    fn list(
        &self,
        context: &str,
        count: usize,
        rows: impl FnOnce(usize, usize) -> String,
    ) -> Result<Answer, GraphError> {
        for unsupported in ["$filter", "$expand", "$search"] {
            if self.request.query(unsupported).is_some() {
                return Err(GraphError::new(
                    501,
                    "SimulatorUnsupported",
                    format!("The simulator does not implement {unsupported} here."),
                ));
            }
        }
        let number = |name: &str| -> Result<Option<usize>, GraphError> {
            self.request
                .query(name)
                .map(|value| {
                    value.parse().map_err(|_| {
                        GraphError::new(
                            400,
                            "BadRequest",
                            format!("Invalid value '{value}' for {name} query option found."),
                        )
                    })
                })
                .transpose()
        };
        let top = number("$top")?
            .or(self.preferences.page_size)
            .unwrap_or(DEFAULT_PAGE)
            .clamp(1, MAX_PAGE);
        let from = number("$skip")?.unwrap_or(0).min(count);
        let to = from.saturating_add(top).min(count);
        let mut out = String::from("{\"@odata.context\":");
        render::quote(&mut out, context);
        out.push_str(",\"value\":[");
        out.push_str(&rows(from, to));
        out.push(']');
        if to < count {
            let mut link = format!("{}{}?", self.request.base, self.request.path);
            for (key, value) in &self.request.query {
                if !key.eq_ignore_ascii_case("$skip") && !key.eq_ignore_ascii_case("$top") {
                    link.push_str(&format!("{key}={}&", utf8_percent_encode(value, QUERY)));
                }
            }
            link.push_str(&format!("$top={top}&$skip={to}"));
            out.push_str(",\"@odata.nextLink\":");
            render::quote(&mut out, &link);
        }
        out.push('}');
        Ok(Answer::graph(200, out))
    }

    /// The members that `$select` asks for; all without it. Control information stays.
    fn selected(&self, row: Value) -> Value {
        let Some(select) = self.request.query("$select") else {
            return row;
        };
        let wanted: Vec<&str> = select.split(',').map(str::trim).collect();
        match row {
            Value::Object(members) => members
                .into_iter()
                .filter(|(member, _)| {
                    member.starts_with('@')
                        || member == "id"
                        || wanted.contains(&"*")
                        || wanted.iter().any(|name| name.eq_ignore_ascii_case(member))
                })
                .collect(),
            other => other,
        }
    }

    fn rows(&self, view: &View<'_>, rows: &[Instance<'_>]) -> String {
        let mut out = String::new();
        for row in rows {
            if !out.is_empty() {
                out.push(',');
            }
            self.write_row(&mut out, view, row);
        }
        out
    }

    fn write_row(&self, out: &mut String, view: &View<'_>, row: &Instance<'_>) {
        if self.request.query("$select").is_none() {
            view.write_full(out, row);
            return;
        }
        let mut full = String::new();
        view.write_full(&mut full, row);
        let value = serde_json::from_str(&full).unwrap_or_default();
        out.push_str(&self.selected(value).to_string());
    }

    fn window(&self) -> Result<(Timestamp, Timestamp), GraphError> {
        let bound = |name: &str| -> Result<Timestamp, GraphError> {
            let text = self
                .request
                .query(name)
                .filter(|text| !text.is_empty())
                .ok_or_else(|| {
                    GraphError::invalid(
                        "This request requires a time window specified by the query string parameters StartDateTime and EndDateTime.",
                    )
                })?;
            instant(text).ok_or_else(|| {
                GraphError::invalid(format!(
                    "The value '{text}' of parameter '{name}' is invalid."
                ))
            })
        };
        let (from, to) = (bound("startDateTime")?, bound("endDateTime")?);
        if to < from {
            return Err(GraphError::invalid(
                "The EndDateTime must not be before the StartDateTime.",
            ));
        }
        if to.duration_since(from).as_hours() > MAX_WINDOW_DAYS * 24 {
            return Err(GraphError::new(
                400,
                "ErrorCalendarViewRangeTooBig",
                "The requested time duration specified for FreeBusyViewOptions.TimeWindow is not within the allowed limits: 1825 days.",
            ));
        }
        Ok((from, to))
    }

    fn list_events(&self, calendar: Option<&str>) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let world = read(&self.simulator.0.world);
        let target = self.target(&world, calendar)?;
        let mailbox = world
            .mailbox(target.owner)
            .ok_or_else(GraphError::not_found)?;
        let events: Vec<Instance<'_>> = mailbox
            .events
            .values()
            .filter(|event| event.calendar == target.calendar)
            .map(crate::model::Event::own)
            .collect();
        let view = self.view(target.owner, false);
        self.list(
            &self.user_context(&world, "events"),
            events.len(),
            |from, to| self.rows(&view, &events[from..to]),
        )
    }

    fn calendar_view(&self, calendar: Option<&str>) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let window = self.window()?;
        let world = read(&self.simulator.0.world);
        let target = self.target(&world, calendar)?;
        let mailbox = world
            .mailbox(target.owner)
            .ok_or_else(GraphError::not_found)?;
        let mut rows = store::instances_in(mailbox, Some(target.calendar), window);
        if let Some(order) = self.request.query("$orderby") {
            let order = order.to_ascii_lowercase();
            if !order.starts_with("start/datetime") {
                return Err(GraphError::new(
                    501,
                    "SimulatorUnsupported",
                    "The simulator orders by start/dateTime only.",
                ));
            }
            if order.ends_with(" desc") {
                rows.reverse();
            }
        }
        let view = self.view(target.owner, false);
        self.list(
            &self.user_context(&world, "calendarView"),
            rows.len(),
            |from, to| self.rows(&view, &rows[from..to]),
        )
    }

    fn event_instances(
        &self,
        calendar: Option<Option<&str>>,
        id: &str,
    ) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let window = self.window()?;
        let world = read(&self.simulator.0.world);
        let (located, _) = self.event(&world, calendar, id)?;
        let event = store::event_in(&world, located)?;
        if event.series.is_none() || located.date.is_some() {
            return Err(GraphError::invalid(
                "The event is not the master of a series.",
            ));
        }
        let mut rows = event.instances(window);
        rows.retain(|row| row.item.properties.get("isCancelled") != Some(&Value::Bool(true)));
        let view = self.view(located.owner, false);
        let tail = format!(
            "events('{}')/instances",
            utf8_percent_encode(id, NON_ALPHANUMERIC)
        );
        self.list(&self.user_context(&world, &tail), rows.len(), |from, to| {
            self.rows(&view, &rows[from..to])
        })
    }

    /// One event with its context, as GET, POST and PATCH answer it.
    fn entity(&self, world: &World, located: Located, status: u16) -> Result<Answer, GraphError> {
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

    fn get_event(&self, calendar: Option<Option<&str>>, id: &str) -> Result<Answer, GraphError> {
        self.scope(&READ, &READ_SHARED)?;
        let world = read(&self.simulator.0.world);
        let (located, _) = self.event(&world, calendar, id)?;
        self.entity(&world, located, 200)
    }

    fn create_event(&self, calendar: Option<&str>) -> Result<Answer, GraphError> {
        self.scope(&WRITE, &WRITE_SHARED)?;
        let body = self.request.json()?;
        let mut world = write(&self.simulator.0.world);
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
    fn writable(
        &self,
        world: &World,
        calendar: Option<Option<&str>>,
        id: &str,
    ) -> Result<Located, GraphError> {
        self.scope(&WRITE, &WRITE_SHARED)?;
        let (located, can_edit) = self.event(world, calendar, id)?;
        if can_edit {
            Ok(located)
        } else {
            Err(GraphError::denied())
        }
    }

    fn patch_event(&self, calendar: Option<Option<&str>>, id: &str) -> Result<Answer, GraphError> {
        let body = self.request.json()?;
        let mut world = write(&self.simulator.0.world);
        let located = self.writable(&world, calendar, id)?;
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

    fn delete_event(&self, calendar: Option<Option<&str>>, id: &str) -> Result<Answer, GraphError> {
        let mut world = write(&self.simulator.0.world);
        let located = self.writable(&world, calendar, id)?;
        store::delete_in(&mut world, located)?;
        Ok(Answer::empty(204))
    }

    fn act(
        &self,
        calendar: Option<Option<&str>>,
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
        let mut world = write(&self.simulator.0.world);
        let located = self.writable(&world, calendar, id)?;
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

    fn delta(&self, calendar: Option<&str>) -> Result<Answer, GraphError> {
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
        let world = read(&self.simulator.0.world);
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
        let page = delta::page(mailbox, log, &token, size, &view, &quirks);
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

fn is_delta(segment: &str) -> bool {
    let name = segment.strip_prefix("microsoft.graph.").unwrap_or(segment);
    matches!(name, "delta" | "delta()")
}

/// A window's bound: an offset in it counts, without one it is UTC, a date alone is its midnight.
pub(crate) fn instant(text: &str) -> Option<Timestamp> {
    // A client that does not escape the plus of an offset sends a space.
    let text = text.replace(' ', "+");
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let utc = Zone::utc();
    text.parse::<jiff::civil::DateTime>()
        .ok()
        .map(|local| utc.instant(local))
}
