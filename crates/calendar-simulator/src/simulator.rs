//! The handle on a simulator: everything a test or the admin interface can do to it without HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::change::History;
use crate::clock::{Clock, Timer};
use crate::entra::Auth;
use crate::error::GraphError;
use crate::event::Author;
use crate::fault::Faults;
use crate::ids::Ids;
use crate::model::{Mailbox, World};
use crate::push::Pushes;
use crate::quirks::Quirks;
use crate::subscription::Subscriptions;
use crate::zones::Zone;
use crate::{lock, read, write};

/// How a simulator starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// All identifiers, tokens and every "sometimes" follow from it.
    pub seed: u64,
    /// The base of links in answers, for example `http://graph.localtest:8080`; without it the request's `Host`.
    pub public_base: Option<String>,
    /// Behaviour switches.
    pub quirks: Quirks,
    /// Seconds that an access token is good for.
    pub access_token_seconds: u32,
    /// A refresh token works once only. Off by default, as at Entra.
    pub single_use_refresh_tokens: bool,
    /// Registered clients; when empty, every client id and secret is accepted.
    pub clients: Vec<Client>,
    /// For simulations in which time passes by the simulator's clock alone. No request leaves the simulator: notifications
    /// wait for [`Simulator::take_pushes`], and a subscriber's address counts as validated without being asked. Nothing
    /// waits: [`PushFaults`](crate::PushFaults) delay by the simulator's clock, and an answer that is to come late comes
    /// at once.
    pub manual: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            public_base: None,
            quirks: Quirks::default(),
            access_token_seconds: 3599,
            single_use_refresh_tokens: false,
            clients: Vec::new(),
            manual: false,
        }
    }
}

/// An application registered at the simulated Entra.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// `client_secret`; `None` for a public client.
    #[serde(default)]
    pub secret: Option<String>,
    /// Allowed redirect addresses; when empty, any.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
}

/// A request that the simulator received on its Graph or Entra side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordedRequest {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path as sent, still percent-encoded.
    pub path: String,
    /// The query as sent, without `?`; empty when there was none.
    pub query: String,
    /// All `Prefer` headers, joined with `, `.
    pub prefer: Option<String>,
    /// Whether there was an `Authorization` header.
    pub authorized: bool,
    /// The user principal name of the mailbox that was addressed, when the request got that far.
    pub mailbox: Option<String>,
    /// The status answered, whether or not the answer arrived; 0 when the connection was closed instead.
    pub status: u16,
    /// Whether it met a fault.
    pub fault: bool,
}

/// Requests to Graph about one mailbox at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// The mailbox's user principal name.
    pub mailbox: String,
    /// Under way now.
    pub now: u32,
    /// The most there ever were, those refused for it included.
    pub most: u32,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) ids: Ids,
    pub(crate) clock: Clock,
    pub(crate) timer: Timer,
    pub(crate) world: RwLock<World>,
    pub(crate) quirks: RwLock<Quirks>,
    pub(crate) auth: Mutex<Auth>,
    pub(crate) requests: Mutex<Vec<RecordedRequest>>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) in_flight: Mutex<BTreeMap<u32, InFlight>>,
    pub(crate) counter: AtomicU64,
    pub(crate) public_base: RwLock<Option<String>>,
    pub(crate) history: Mutex<History>,
    pub(crate) subscriptions: Mutex<Subscriptions>,
    pub(crate) pushes: Mutex<Pushes>,
    /// There is something to deliver.
    pub(crate) wake: Notify,
    /// What notifications are sent with; set when the simulator is served.
    pub(crate) client: OnceLock<reqwest::Client>,
}

/// A Microsoft Graph and Entra in memory. Cheap to clone; all clones are the same simulator.
///
/// Mailboxes are named by user principal name or id, events by either of their identifiers, calendars by id or name
/// (`None` is the default calendar). Changes made here are seen by Graph clients at once.
#[derive(Clone, Debug)]
pub struct Simulator(pub(crate) Arc<Inner>);

impl Simulator {
    /// A simulator without mailboxes that listens nowhere yet; see [`crate::Server::start`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        let clock = Clock::new();
        Self(Arc::new(Inner {
            ids: Ids::new(options.seed),
            timer: Timer::new(&clock, options.manual),
            clock,
            world: RwLock::default(),
            quirks: RwLock::new(options.quirks),
            auth: Mutex::new(Auth::new(
                options.access_token_seconds,
                options.single_use_refresh_tokens,
                options.clients,
            )),
            requests: Mutex::default(),
            faults: Mutex::default(),
            in_flight: Mutex::default(),
            counter: AtomicU64::new(1),
            public_base: RwLock::new(options.public_base),
            history: Mutex::default(),
            subscriptions: Mutex::default(),
            pushes: Mutex::default(),
            wake: Notify::new(),
            client: OnceLock::new(),
        }))
    }

    /// Makes a mailbox with a default calendar called "Calendar" and gives its user id (the token's `oid`).
    /// `time_zone` is a Windows or IANA name. Refused when the name is taken or the zone unknown.
    pub fn create_mailbox(
        &self,
        upn: &str,
        display_name: &str,
        time_zone: &str,
    ) -> Result<String, GraphError> {
        if Zone::find(time_zone).is_none() {
            return Err(GraphError::zone(time_zone));
        }
        let mut world = write(&self.0.world);
        if world.find(upn).is_some() {
            return Err(GraphError::new(
                409,
                "NameAlreadyExists",
                "The mailbox exists.",
            ));
        }
        let number = u32::try_from(world.mailboxes.len()).unwrap_or(u32::MAX);
        let id = self.0.ids.uuid("user", u64::from(number)).to_string();
        let mut mailbox = Mailbox {
            number,
            id: id.clone(),
            upn: upn.to_owned(),
            display_name: display_name.to_owned(),
            zone: time_zone.to_owned(),
            calendars: Vec::new(),
            events: std::collections::BTreeMap::new(),
            next_event: 1,
            seq: 0,
            sync_generation: 0,
            grants: Vec::new(),
            forced_ids: HashMap::new(),
            happened: Vec::new(),
        };
        mailbox.add_calendar("Calendar", None, true);
        world.mailboxes.push(Arc::new(mailbox));
        Ok(id)
    }

    /// Sets the mailbox that signs in when an authorize request has no `login_hint`; the first one by default.
    pub fn set_default_mailbox(&self, mailbox: &str) -> Result<(), GraphError> {
        let number = self.mailbox_number(mailbox)?;
        lock(&self.0.auth).default_mailbox = number;
        Ok(())
    }

    /// Sets what becomes of authorize requests: `None` approves; `Some("access_denied")`, `consent_required`,
    /// `interaction_required`, `login_required`, `server_error` or `temporarily_unavailable` refuse.
    pub fn set_consent_error(&self, error: Option<&str>) {
        lock(&self.0.auth).consent_error = error.map(str::to_owned);
    }

    /// Seconds that access tokens issued from now on are good for.
    pub fn set_access_token_seconds(&self, seconds: u32) {
        lock(&self.0.auth).access_token_seconds = seconds;
    }

    /// Whether a refresh token works only once.
    pub fn set_single_use_refresh_tokens(&self, single_use: bool) {
        lock(&self.0.auth).single_use_refresh = single_use;
    }

    /// Replaces the registered clients; none means that every client is accepted.
    pub fn set_clients(&self, clients: Vec<Client>) {
        lock(&self.0.auth).clients = clients;
    }

    /// Revokes every refresh token of a mailbox: their next use answers `invalid_grant` (AADSTS50173).
    pub fn revoke_refresh_tokens(&self, mailbox: &str) -> Result<(), GraphError> {
        let number = self.mailbox_number(mailbox)?;
        lock(&self.0.auth).revoke(number);
        Ok(())
    }

    /// Lets every refresh token of a mailbox expire: their next use answers `invalid_grant` (AADSTS700082).
    pub fn expire_refresh_tokens(&self, mailbox: &str) -> Result<(), GraphError> {
        let number = self.mailbox_number(mailbox)?;
        let now = self.now();
        lock(&self.0.auth).expire(number, now);
        Ok(())
    }

    /// Makes every access token of a mailbox unknown: its next use answers 401.
    pub fn revoke_access_tokens(&self, mailbox: &str) -> Result<(), GraphError> {
        let number = self.mailbox_number(mailbox)?;
        lock(&self.0.auth).forget_access(number);
        Ok(())
    }

    /// An access token with every calendar scope, for tests that are not about signing in.
    pub fn issue_access_token(&self, mailbox: &str) -> Result<String, GraphError> {
        let number = self.mailbox_number(mailbox)?;
        let mut auth = lock(&self.0.auth);
        let application = auth.test_application(&self.0.ids);
        Ok(auth.issue_access(
            &self.0.ids,
            number,
            &application,
            crate::entra::ALL_SCOPES,
            self.now(),
        ))
    }

    /// A refresh token with every calendar scope.
    pub fn issue_refresh_token(&self, mailbox: &str) -> Result<String, GraphError> {
        let number = self.mailbox_number(mailbox)?;
        Ok(lock(&self.0.auth).issue_refresh(
            &self.0.ids,
            number,
            &format!("{} offline_access", crate::entra::ALL_SCOPES),
            None,
            self.now(),
        ))
    }

    /// Makes a calendar and gives its id.
    pub fn create_calendar(&self, mailbox: &str, name: &str) -> Result<String, GraphError> {
        let owner = self.mailbox_number(mailbox)?;
        let mut world = write(&self.0.world);
        let mailbox = world.mailbox_mut(owner).ok_or_else(GraphError::not_found)?;
        let number = mailbox.add_calendar(name, None, true);
        Ok(self.calendar_id(owner, number))
    }

    /// The id of a calendar, by name; `None` is the default one.
    pub fn find_calendar(&self, mailbox: &str, name: Option<&str>) -> Result<String, GraphError> {
        let (owner, number) = self.resolve_calendar(mailbox, name)?;
        Ok(self.calendar_id(owner, number))
    }

    /// Deletes a calendar with its events. The default calendar stays.
    pub fn delete_calendar(&self, mailbox: &str, calendar: &str) -> Result<(), GraphError> {
        let (owner, number) = self.resolve_calendar(mailbox, Some(calendar))?;
        if number == Mailbox::DEFAULT {
            return Err(GraphError::new(
                400,
                "ErrorDeleteDistinguishedFolder",
                "Distinguished folders can't be deleted.",
            ));
        }
        let mut world = self.change();
        if let Some(mailbox) = world.mailbox_mut(owner) {
            mailbox.drop_calendar(number);
        }
        for mailbox in &mut world.mailboxes {
            Arc::make_mut(mailbox)
                .calendars
                .retain(|calendar| calendar.copy_of != Some((owner, number)));
        }
        Ok(())
    }

    /// Lets `with` open every calendar of `owner` through `/users/{owner}/...`.
    pub fn share_mailbox(&self, owner: &str, with: &str, can_edit: bool) -> Result<(), GraphError> {
        self.grant(owner, with, None, can_edit)
    }

    /// Shares one calendar: `with` may open it through `/users/{owner}/...`, and a custom calendar appears as a copy
    /// with an id of its own in `/me/calendars` of `with`. Gives that id, or the owner's for the default calendar.
    pub fn share_calendar(
        &self,
        owner: &str,
        calendar: Option<&str>,
        with: &str,
        can_edit: bool,
    ) -> Result<String, GraphError> {
        let (owner_number, number) = self.resolve_calendar(owner, calendar)?;
        self.grant(owner, with, Some(number), can_edit)?;
        if number == Mailbox::DEFAULT {
            return Ok(self.calendar_id(owner_number, number));
        }
        let viewer = self.mailbox_number(with)?;
        let mut world = write(&self.0.world);
        let name = world
            .mailbox(owner_number)
            .and_then(|mailbox| mailbox.calendar(number))
            .map(|calendar| calendar.name.clone())
            .unwrap_or_default();
        let mailbox = world
            .mailbox_mut(viewer)
            .ok_or_else(GraphError::not_found)?;
        let copy = mailbox.add_calendar(&name, Some((owner_number, number)), can_edit);
        Ok(self.calendar_id(viewer, copy))
    }

    /// Takes back everything that `owner` shared with `with`.
    pub fn unshare(&self, owner: &str, with: &str) -> Result<(), GraphError> {
        let (owner, viewer) = (self.mailbox_number(owner)?, self.mailbox_number(with)?);
        let mut world = write(&self.0.world);
        if let Some(mailbox) = world.mailbox_mut(owner) {
            mailbox.grants.retain(|grant| grant.to != viewer);
        }
        if let Some(mailbox) = world.mailbox_mut(viewer) {
            mailbox
                .calendars
                .retain(|calendar| calendar.copy_of.is_none_or(|(from, _)| from != owner));
        }
        Ok(())
    }

    fn grant(
        &self,
        owner: &str,
        with: &str,
        calendar: Option<u32>,
        can_edit: bool,
    ) -> Result<(), GraphError> {
        let (owner, to) = (self.mailbox_number(owner)?, self.mailbox_number(with)?);
        let mut world = write(&self.0.world);
        let mailbox = world.mailbox_mut(owner).ok_or_else(GraphError::not_found)?;
        mailbox.grants.push(crate::model::Grant {
            to,
            calendar,
            can_edit,
        });
        Ok(())
    }

    /// Makes the delta and skip tokens of a mailbox unknown: their use answers 410 `SyncStateNotFound`.
    pub fn invalidate_delta_tokens(&self, mailbox: &str) -> Result<(), GraphError> {
        let number = self.mailbox_number(mailbox)?;
        if let Some(mailbox) = write(&self.0.world).mailbox_mut(number) {
            mailbox.sync_generation += 1;
        }
        Ok(())
    }

    /// The simulator's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Sets the time; `frozen` holds it there, otherwise it runs on.
    pub fn set_clock(&self, to: Timestamp, frozen: bool) {
        self.0.clock.set(to, frozen);
    }

    /// Moves the time by seconds, back when negative.
    pub fn advance_clock(&self, seconds: i64) {
        self.0.clock.advance(SignedDuration::from_secs(seconds));
    }

    /// The switches in force.
    #[must_use]
    pub fn quirks(&self) -> Quirks {
        read(&self.0.quirks).clone()
    }

    /// Replaces the switches.
    pub fn set_quirks(&self, quirks: Quirks) {
        *write(&self.0.quirks) = quirks;
    }

    /// Replaces the base of links in answers; `None` uses the request's `Host`.
    pub fn set_public_base(&self, base: Option<String>) {
        *write(&self.0.public_base) = base;
    }

    /// The requests received, oldest first; the newest 100,000 are kept.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.0.requests).clone()
    }

    /// Forgets the requests received.
    pub fn clear_requests(&self) {
        lock(&self.0.requests).clear();
    }

    /// Requests at the same time per mailbox that was asked about. What a client is allowed is
    /// [`Quirks::mailbox_concurrency`].
    #[must_use]
    pub fn in_flight(&self) -> Vec<InFlight> {
        lock(&self.0.in_flight).values().cloned().collect()
    }

    /// Forgets the most requests there were at the same time; those under way count on.
    pub fn clear_in_flight(&self) {
        for mailbox in lock(&self.0.in_flight).values_mut() {
            mailbox.most = mailbox.now;
        }
    }

    /// Counts a request about a mailbox; gives how many there are now.
    pub(crate) fn enter(&self, number: u32, upn: &str) -> u32 {
        let mut all = lock(&self.0.in_flight);
        let mailbox = all.entry(number).or_insert_with(|| InFlight {
            mailbox: upn.to_owned(),
            ..InFlight::default()
        });
        mailbox.now += 1;
        mailbox.most = mailbox.most.max(mailbox.now);
        mailbox.now
    }

    pub(crate) fn leave(&self, number: u32) {
        if let Some(mailbox) = lock(&self.0.in_flight).get_mut(&number) {
            mailbox.now = mailbox.now.saturating_sub(1);
        }
    }

    /// The instant that delays count from.
    pub(crate) fn instant(&self) -> Instant {
        self.0.timer.now(&self.0.clock)
    }

    /// Waits, unless nothing does.
    pub(crate) async fn pause(&self, time: Duration) {
        if !self.0.timer.is_manual() && !time.is_zero() {
            tokio::time::sleep(time).await;
        }
    }

    pub(crate) fn record(&self, request: RecordedRequest) {
        let mut requests = lock(&self.0.requests);
        if requests.len() >= 100_000 {
            requests.drain(..50_000);
        }
        requests.push(request);
    }

    pub(crate) fn unique(&self) -> u64 {
        self.0.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// A mailbox's user principal name.
    pub(crate) fn upn(&self, number: u32) -> Option<String> {
        let world = read(&self.0.world);
        world.mailbox(number).map(|mailbox| mailbox.upn.clone())
    }

    pub(crate) fn mailbox_number(&self, name: &str) -> Result<u32, GraphError> {
        read(&self.0.world).find(name).ok_or_else(|| {
            GraphError::new(
                404,
                "ErrorInvalidUser",
                format!("The requested user '{name}' is invalid."),
            )
        })
    }

    /// The mailbox and number of one of a mailbox's own calendars, by id or name.
    pub(crate) fn resolve_calendar(
        &self,
        mailbox: &str,
        calendar: Option<&str>,
    ) -> Result<(u32, u32), GraphError> {
        let owner = self.mailbox_number(mailbox)?;
        let Some(name) = calendar else {
            return Ok((owner, Mailbox::DEFAULT));
        };
        let world = read(&self.0.world);
        let found = world.mailbox(owner).and_then(|mailbox| {
            let by_id = self.0.ids.decode(name).map(|reference| reference.number);
            mailbox.calendars.iter().find(|calendar| match by_id {
                Some(number) => calendar.number == number,
                None => calendar.name == name,
            })
        });
        match found {
            Some(calendar) => Ok(calendar.copy_of.unwrap_or((owner, calendar.number))),
            None => Err(GraphError::not_found()),
        }
    }

    pub(crate) fn calendar_id(&self, mailbox: u32, number: u32) -> String {
        self.0.ids.encode(&crate::ids::Reference {
            immutable: false,
            kind: crate::ids::Kind::Calendar,
            viewer: mailbox,
            owner: mailbox,
            number,
            date: None,
            generation: 0,
        })
    }

    pub(crate) fn author<'a>(&'a self, mailbox: &Mailbox, admin: bool) -> Author<'a> {
        Author {
            ids: &self.0.ids,
            upn: mailbox.upn.clone(),
            display_name: mailbox.display_name.clone(),
            now: self.now(),
            unique: self.unique(),
            admin,
        }
    }
}

/// The members of a JSON object, or a refusal.
pub(crate) fn members(value: &Value) -> Result<&Map<String, Value>, GraphError> {
    value.as_object().ok_or_else(|| {
        GraphError::new(
            400,
            "BadRequest",
            "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format.",
        )
    })
}
