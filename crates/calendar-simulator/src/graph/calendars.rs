//! Users, mailbox settings and calendars.

use serde_json::{Value, json};

use super::{Context, READ, READ_SHARED, WRITE, WRITE_SHARED};
use crate::error::GraphError;
use crate::http::Answer;
use crate::model::{Calendar, Mailbox, World};
use crate::simulator::members;
use crate::{read, write};

impl Context<'_> {
    pub(super) fn user(&self) -> Answer {
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

    pub(super) fn mailbox_settings(&self) -> Result<Answer, GraphError> {
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

    pub(super) fn calendar_json(
        &self,
        world: &World,
        mailbox: &Mailbox,
        calendar: &Calendar,
    ) -> Value {
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

    pub(super) fn list_calendars(&self) -> Result<Answer, GraphError> {
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

    pub(super) fn create_calendar(&self) -> Result<Answer, GraphError> {
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

    pub(super) fn one_calendar(&self, id: Option<&str>) -> Result<Answer, GraphError> {
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
}
