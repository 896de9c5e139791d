//! The admin interface: the methods of `Simulator` over HTTP. The table of calls is in the crate's documentation.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::GraphError;
use crate::graph::instant;
use crate::http::{Answer, Incoming};
use crate::read;
use crate::simulator::Simulator;
use crate::store::OccurrenceChange;
use crate::subscription::LifecycleEvent;

impl Simulator {
    /// `/admin/...`
    pub(crate) fn admin(&self, segments: &[String], request: &Incoming) -> Answer {
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let answer = match path.as_slice() {
            ["mailboxes", mailbox, rest @ ..] => self.admin_mailbox(mailbox, rest, request),
            ["subscriptions", rest @ ..] => self.admin_subscriptions(rest, request),
            ["pushes", rest @ ..] => self.admin_pushes(rest, request),
            [what @ ("faults" | "fault-plan" | "in-flight" | "requests")] => {
                self.admin_requests(what, request)
            }
            other => self.admin_global(other, request),
        };
        match answer {
            Ok(body) => Answer::json(200, body.to_string()),
            Err(error) => Answer::json(
                error.status,
                json!({"error": {"code": error.code, "message": error.message}}).to_string(),
            ),
        }
    }

    fn admin_global(&self, path: &[&str], request: &Incoming) -> Result<Value, GraphError> {
        match (request.method.as_str(), path) {
            ("GET", ["mailboxes"]) => {
                let world = read(&self.0.world);
                let all: Vec<Value> = world
                    .mailboxes
                    .iter()
                    .map(|mailbox| {
                        json!({"upn": mailbox.upn, "id": mailbox.id,
                               "displayName": mailbox.display_name, "timeZone": mailbox.zone})
                    })
                    .collect();
                Ok(json!({"value": all}))
            }
            ("POST", ["mailboxes"]) => {
                let body = request.json()?;
                let upn = text(&body, "upn")?;
                let name = body["displayName"].as_str().unwrap_or(upn);
                let zone = body["timeZone"].as_str().unwrap_or("UTC");
                Ok(json!({"id": self.create_mailbox(upn, name, zone)?}))
            }
            ("POST", ["default-mailbox"]) => {
                self.set_default_mailbox(text(&request.json()?, "upn")?)?;
                Ok(json!({}))
            }
            ("POST", ["consent"]) => {
                self.set_consent_error(request.json()?["error"].as_str());
                Ok(json!({}))
            }
            ("POST", ["tokens"]) => {
                let body = request.json()?;
                if let Some(seconds) = body["accessTokenSeconds"].as_u64() {
                    self.set_access_token_seconds(u32::try_from(seconds).unwrap_or(u32::MAX));
                }
                if let Some(single) = body["singleUseRefreshTokens"].as_bool() {
                    self.set_single_use_refresh_tokens(single);
                }
                Ok(json!({}))
            }
            ("PUT", ["clients"]) => {
                self.set_clients(parse(request.json()?)?);
                Ok(json!({}))
            }
            (method, ["quirks"]) => {
                match method {
                    "GET" => {}
                    "PUT" => self.set_quirks(parse(request.json()?)?),
                    "PATCH" => {
                        let mut all = json!(self.quirks());
                        if let (Some(all), Value::Object(some)) =
                            (all.as_object_mut(), request.json()?)
                        {
                            all.extend(some);
                        }
                        self.set_quirks(parse(all)?);
                    }
                    _ => return Err(unknown()),
                }
                Ok(json!(self.quirks()))
            }
            (method, ["clock"]) => {
                if method == "POST" {
                    let body = request.json()?;
                    if let Some(to) = body["set"].as_str() {
                        self.set_clock(time(to)?, body["frozen"].as_bool().unwrap_or(false));
                    }
                    if let Some(seconds) = body["advanceSeconds"].as_i64() {
                        self.advance_clock(seconds);
                    }
                }
                Ok(json!({"now": self.now().to_string()}))
            }
            ("POST", ["demo"]) => {
                let body = if request.body.is_empty() {
                    json!({})
                } else {
                    request.json()?
                };
                let today = match body["today"].as_str() {
                    Some(text) => date(text)?,
                    None => crate::demo::today(self),
                };
                crate::demo::fill(self, today)?;
                Ok(json!({"upn": crate::demo::UPN}))
            }
            _ => Err(unknown()),
        }
    }

    /// What requests meet, and which there were.
    fn admin_requests(&self, what: &str, request: &Incoming) -> Result<Value, GraphError> {
        match (request.method.as_str(), what) {
            ("GET", _) => {}
            ("POST", "faults") => self.script_fault(parse(request.json()?)?),
            ("DELETE", "faults") => self.clear_faults(),
            ("PUT", "fault-plan") => self.set_fault_plan(parse(request.json()?)?),
            ("DELETE", "in-flight") => self.clear_in_flight(),
            ("DELETE", "requests") => self.clear_requests(),
            _ => return Err(unknown()),
        }
        Ok(match what {
            "faults" => json!({"value": self.pending_faults(), "given": self.faults_given()}),
            "fault-plan" => json!(self.fault_plan()),
            "in-flight" => json!({"value": self.in_flight()}),
            _ => json!({"value": self.requests()}),
        })
    }

    fn admin_subscriptions(&self, path: &[&str], request: &Incoming) -> Result<Value, GraphError> {
        match (request.method.as_str(), path) {
            ("GET", []) => return Ok(json!({"value": self.subscriptions()})),
            ("DELETE", [id]) => self.remove_subscription(id)?,
            ("POST", [id, "expire"]) => self.expire_subscription(id)?,
            ("POST", [id, "lifecycle"]) => {
                let event: LifecycleEvent = parse(request.json()?["event"].take())?;
                self.send_lifecycle(id, event)?;
            }
            _ => return Err(unknown()),
        }
        Ok(json!({}))
    }

    fn admin_pushes(&self, path: &[&str], request: &Incoming) -> Result<Value, GraphError> {
        match (request.method.as_str(), path) {
            ("GET", []) => {}
            ("PUT", []) => self.set_pushes(parse(request.json()?)?),
            ("GET", ["counts"]) => return Ok(json!(self.push_counts())),
            ("GET", ["log"]) => return Ok(json!({"value": self.push_log()})),
            ("POST", ["take"]) => return Ok(json!({"value": self.take_pushes()})),
            ("DELETE", ["log"]) => {
                self.clear_push_log();
                return Ok(json!({"value": []}));
            }
            _ => return Err(unknown()),
        }
        Ok(json!(self.pushes()))
    }

    fn admin_mailbox(
        &self,
        mailbox: &str,
        path: &[&str],
        request: &Incoming,
    ) -> Result<Value, GraphError> {
        let calendar = request.query("calendar");
        match (request.method.as_str(), path) {
            ("POST", ["calendars"]) => {
                let body = request.json()?;
                Ok(json!({"id": self.create_calendar(mailbox, text(&body, "name")?)?}))
            }
            ("GET", ["calendars"]) => {
                Ok(json!({"id": self.find_calendar(mailbox, request.query("name"))?}))
            }
            ("DELETE", ["calendars"]) => {
                self.delete_calendar(mailbox, calendar.unwrap_or_default())?;
                Ok(json!({}))
            }
            ("POST", ["share"]) => {
                let body = request.json()?;
                let with = text(&body, "with")?;
                let can_edit = body["canEdit"].as_bool().unwrap_or(false);
                match body["calendar"].as_str() {
                    None => {
                        self.share_mailbox(mailbox, with, can_edit)?;
                        Ok(json!({}))
                    }
                    Some(name) => {
                        let name = Some(name).filter(|name| !name.is_empty());
                        let id = self.share_calendar(mailbox, name, with, can_edit)?;
                        Ok(json!({"id": id}))
                    }
                }
            }
            ("POST", ["unshare"]) => {
                self.unshare(mailbox, text(&request.json()?, "with")?)?;
                Ok(json!({}))
            }
            ("POST", ["bulk"]) => {
                let body = request.json()?;
                let count = body["count"].as_u64().unwrap_or(0);
                self.create_events_in_bulk(
                    mailbox,
                    body["calendar"].as_str(),
                    u32::try_from(count).unwrap_or(u32::MAX),
                    time(text(&body, "start")?)?,
                    body["stepMinutes"].as_i64().unwrap_or(30),
                )?;
                Ok(json!({}))
            }
            ("POST", ["events"]) => {
                let id = self.create_event(mailbox, calendar, &request.json()?)?;
                Ok(json!({"id": id}))
            }
            ("GET", ["events"]) => Ok(json!({"value": self.events(mailbox, calendar)?})),
            ("GET", ["instances"]) => {
                let bound = |name: &str| time(request.query(name).unwrap_or_default());
                let (from, to) = (bound("startDateTime")?, bound("endDateTime")?);
                Ok(json!({"value": self.instances(mailbox, calendar, from, to)?}))
            }
            ("PATCH", ["events", id]) => {
                self.edit_event(mailbox, id, &request.json()?)?;
                Ok(json!({}))
            }
            ("DELETE", ["events", id]) => {
                self.delete_event(mailbox, id)?;
                Ok(json!({}))
            }
            ("POST", ["events", id, "move"]) => {
                self.move_event(mailbox, id, request.json()?["calendar"].as_str())?;
                Ok(json!({}))
            }
            ("POST", ["events", id, "occurrences", day]) => {
                let body = request.json()?;
                let change = match text(&body, "change")? {
                    "edit" => OccurrenceChange::Edit(body["patch"].clone()),
                    "cancel" => OccurrenceChange::Cancel,
                    "delete" => OccurrenceChange::Delete,
                    other => {
                        return Err(GraphError::invalid(format!("Unknown change '{other}'.")));
                    }
                };
                self.change_occurrence(mailbox, id, date(day)?, &change)?;
                Ok(json!({}))
            }
            ("POST", ["invalidate-delta-tokens"]) => {
                self.invalidate_delta_tokens(mailbox)?;
                Ok(json!({}))
            }
            ("POST", [call]) => self.admin_tokens(mailbox, call),
            _ => Err(unknown()),
        }
    }

    fn admin_tokens(&self, mailbox: &str, call: &str) -> Result<Value, GraphError> {
        match call {
            "revoke-refresh-tokens" => self.revoke_refresh_tokens(mailbox)?,
            "expire-refresh-tokens" => self.expire_refresh_tokens(mailbox)?,
            "revoke-access-tokens" => self.revoke_access_tokens(mailbox)?,
            "tokens" => {
                return Ok(json!({
                    "access_token": self.issue_access_token(mailbox)?,
                    "refresh_token": self.issue_refresh_token(mailbox)?,
                }));
            }
            _ => return Err(unknown()),
        }
        Ok(json!({}))
    }
}

fn unknown() -> GraphError {
    GraphError::new(404, "UnknownAdminCall", "There is no such admin call.")
}

fn text<'a>(body: &'a Value, member: &str) -> Result<&'a str, GraphError> {
    body[member]
        .as_str()
        .ok_or_else(|| GraphError::invalid(format!("The call needs {member}.")))
}

fn parse<T: DeserializeOwned>(body: Value) -> Result<T, GraphError> {
    serde_json::from_value(body).map_err(|error| GraphError::invalid(error.to_string()))
}

fn time(text: &str) -> Result<Timestamp, GraphError> {
    instant(text).ok_or_else(|| GraphError::invalid(format!("'{text}' is no time.")))
}

fn date(text: &str) -> Result<Date, GraphError> {
    text.parse()
        .map_err(|_| GraphError::invalid(format!("'{text}' is no date.")))
}
