//! A database with a user and an account, what a provider might send, and short ways to say both.

use std::sync::Arc;
use std::time::Duration;

use calendar_domain::account::{AccountIdentity, CalendarListing, SealPlace, TokenGrant};
use calendar_domain::connection::{Connected, NewConnections};
use calendar_domain::event::{
    Attendee, EventChange, EventImportance, EventKind, EventMoment, EventSpan, EventStatus,
    EventZone, Occurrence, Organizer, ProviderEvent, ProviderEventId, Reminder, RsvpStatus,
    TeamsMeeting,
};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{ConnectionId, PassId, UserId, WorkerId};
use calendar_domain::ports::{
    ConnectionStore as _, EventStore as _, SyncQueue as _, TokenCipher, UserStore as _,
};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::recurrence::{Frequency, RecurrenceRule};
use calendar_domain::sync::{
    AfterPage, Applied, Claim, Cursor, Lease, Mailbox, PageBatch, Pass, PassEnd, PassKind,
    PassPosition, SyncWindow, Unseen,
};
use calendar_domain::user::NewUser;
use calendar_postgres::testing::TestDatabase;
use calendar_postgres::{
    Database, PgConfig, PgConnectionStore, PgEventReader, PgEventStore, PgSubscriptionStore,
    PgSyncQueue, PgUserStore,
};
use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;
use time::macros::datetime;
use tokio_postgres::Client;

/// When the tests take place.
pub(crate) const NOW: OffsetDateTime = datetime!(2026-03-02 12:00 UTC);
pub(crate) const TTL: Duration = Duration::from_mins(1);

/// Seals so that a test can see what was sealed for which place.
pub(crate) struct TestCipher;

fn mask(text: &str) -> String {
    text.bytes()
        .flat_map(|byte| {
            let masked = byte ^ 0x5a;
            [masked >> 4, masked & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap())
        })
        .collect()
}

impl TokenCipher for TestCipher {
    fn sealed_prefix(&self) -> String {
        "v1.".to_owned()
    }

    fn seal(&self, plain: &SecretString, place: SealPlace) -> PortResult<String> {
        let SealPlace { table, row, column } = place;
        Ok(format!(
            "v1.{table}.{row}.{column}.{}",
            mask(plain.expose_secret())
        ))
    }

    fn open(&self, sealed: &str, place: SealPlace) -> PortResult<SecretString> {
        let fail = |code: &str| PortError::new(FailureClass::Authentication, code);
        let sealed = sealed
            .strip_prefix("v1.")
            .ok_or_else(|| fail("token_not_sealed"))?;
        let SealPlace { table, row, column } = place;
        let prefix = format!("{table}.{row}.{column}.");
        let masked = sealed
            .strip_prefix(&prefix)
            .ok_or_else(|| fail("token_forged"))?;
        let bytes = (0..masked.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&masked[at..at + 2], 16).unwrap() ^ 0x5a);
        Ok(String::from_utf8(bytes.collect()).unwrap().into())
    }
}

/// A database, the stores in it, and a second way to look at it.
pub(crate) struct World {
    pub(crate) pool: Database,
    pub(crate) users: PgUserStore,
    pub(crate) connections: PgConnectionStore,
    pub(crate) queue: PgSyncQueue,
    pub(crate) events: PgEventStore,
    pub(crate) reader: PgEventReader,
    pub(crate) subscriptions: PgSubscriptionStore,
    pub(crate) sql: Client,
    pub(crate) worker: WorkerId,
    pub(crate) database: TestDatabase,
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::create().await;
        let pool = pool(database.url());
        let cipher: Arc<dyn TokenCipher> = Arc::new(TestCipher);
        Self {
            users: PgUserStore::new(pool.clone()),
            connections: PgConnectionStore::new(pool.clone(), Arc::clone(&cipher)),
            queue: PgSyncQueue::new(pool.clone(), Arc::clone(&cipher)),
            subscriptions: PgSubscriptionStore::new(pool.clone(), cipher),
            events: PgEventStore::new(pool.clone()),
            reader: PgEventReader::new(pool.clone()),
            sql: database.connect().await,
            worker: WorkerId::new(),
            pool,
            database,
        }
    }

    pub(crate) async fn user(&self, email: &str) -> UserId {
        let user = NewUser {
            email: email.to_owned(),
            password_hash: "$argon2id$x".to_owned(),
            first_name: None,
            last_name: None,
        };
        self.users.create(user, NOW).await.unwrap().id
    }

    /// Connects calendars of the account `who`.
    pub(crate) async fn connect(&self, user: UserId, who: &str, calendars: &[&str]) -> Connected {
        self.connections
            .connect(new_connections(user, who, calendars), NOW)
            .await
            .unwrap()
    }

    pub(crate) async fn claim_at(&self, worker: WorkerId, now: OffsetDateTime) -> Option<Claim> {
        self.queue
            .claim(worker, &[CalendarProvider::Microsoft], &[], now, TTL)
            .await
            .unwrap()
    }

    pub(crate) async fn claim(&self) -> Option<Claim> {
        self.claim_at(self.worker, NOW).await
    }

    /// A user with one calendar, claimed.
    pub(crate) async fn synced_user(&self) -> Synced<'_> {
        let user = self.user("ada@example.com").await;
        let id = self.connect(user, "ada", &["main"]).await.connection_ids[0];
        let lease = self.claim().await.unwrap().lease;
        Synced {
            world: self,
            user,
            id,
            lease,
        }
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub(crate) async fn text(&self, sql: &str) -> Option<String> {
        self.sql
            .query(sql, &[])
            .await
            .unwrap()
            .first()
            .and_then(|row| row.get(0))
    }

    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        self.sql
            .query(sql, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    }
}

pub(crate) fn pool(url: &str) -> Database {
    Database::connect(PgConfig {
        url: url.to_owned().into(),
        max_connections: 4,
    })
    .unwrap()
}

/// A user's connection under a lease.
#[derive(Clone, Copy)]
pub(crate) struct Synced<'a> {
    pub(crate) world: &'a World,
    pub(crate) user: UserId,
    pub(crate) id: ConnectionId,
    pub(crate) lease: Lease,
}

impl Synced<'_> {
    pub(crate) async fn try_apply(
        &self,
        pass: &Pass,
        changes: Vec<EventChange>,
        then: AfterPage,
    ) -> PortResult<Applied> {
        let batch = PageBatch {
            connection_id: self.id,
            pass: pass.clone(),
            changes,
            then,
        };
        self.world.events.apply(&self.lease, batch, NOW).await
    }

    /// A page in the midst of a pass; moves the pass on.
    pub(crate) async fn page(&self, pass: &mut Pass, changes: Vec<EventChange>) -> Applied {
        let next = PassPosition::Page(Cursor("next".to_owned()));
        let then = AfterPage::Checkpoint(next.clone());
        let applied = self.try_apply(pass, changes, then).await.unwrap();
        pass.position = next;
        pass.touched_series |= applied.touched_series;
        applied
    }

    /// A delta pass with one page.
    pub(crate) async fn delta(&self, changes: Vec<EventChange>) -> Applied {
        let then = AfterPage::Finish(pass_end("token", Unseen::Keep));
        self.try_apply(&pass(PassKind::Delta), changes, then)
            .await
            .unwrap()
    }

    /// A full pass with one page.
    pub(crate) async fn full(&self, changes: Vec<EventChange>) -> Applied {
        let then = AfterPage::Finish(pass_end("token", Unseen::Remove));
        self.try_apply(&pass(PassKind::Full), changes, then)
            .await
            .unwrap()
    }

    /// `provider_event_id id` of all rows.
    pub(crate) async fn ids(&self) -> Vec<String> {
        self.world
            .texts("SELECT provider_event_id || ' ' || id FROM calendar_events ORDER BY provider_event_id")
            .await
    }

    /// What changes when a row is written, of all rows of the event tables.
    pub(crate) async fn tuples(&self) -> Vec<String> {
        self.world
            .texts(
                "SELECT 'e' || id || xmin || ctid FROM calendar_events
                UNION ALL SELECT 'a' || id || xmin || ctid FROM event_attendees
                UNION ALL SELECT 'r' || id || xmin || ctid FROM event_reminders ORDER BY 1",
            )
            .await
    }
}

pub(crate) fn new_connections(user: UserId, who: &str, calendars: &[&str]) -> NewConnections {
    NewConnections {
        user_id: user,
        provider: CalendarProvider::Microsoft,
        identity: AccountIdentity {
            tenant_id: "tenant".to_owned(),
            provider_user_id: who.to_owned(),
            email: Some(format!("{who}@example.com")),
            display_name: None,
        },
        grant: grant("access-1", Some("refresh-1")),
        mailbox: Mailbox::Own,
        calendars: calendars.iter().map(|id| listing(id)).collect(),
    }
}

pub(crate) fn listing(id: &str) -> CalendarListing {
    CalendarListing {
        id: id.to_owned(),
        name: format!("Calendar {id}"),
        color: Some("#336699".to_owned()),
        is_primary: id == "main",
        can_edit: true,
        owner_email: Some("ada@example.com".to_owned()),
        is_shared: false,
    }
}

pub(crate) fn grant(access: &str, refresh: Option<&str>) -> TokenGrant {
    TokenGrant {
        access_token: access.to_owned().into(),
        refresh_token: refresh.map(|token| token.to_owned().into()),
        expires_at: datetime!(2026-03-02 13:00 UTC),
        scopes: "Calendars.Read offline_access".to_owned(),
        missing: Vec::new(),
    }
}

pub(crate) fn window() -> SyncWindow {
    SyncWindow {
        start: datetime!(2026-01-01 0:00 UTC),
        end: datetime!(2026-07-01 0:00 UTC),
    }
}

pub(crate) fn pass(kind: PassKind) -> Pass {
    Pass {
        id: PassId::new(),
        kind,
        window: window(),
        position: PassPosition::Begin,
        touched_series: false,
    }
}

pub(crate) fn pass_end(token: &str, unseen: Unseen) -> PassEnd {
    PassEnd {
        sync_token: Cursor(token.to_owned()),
        next_due_at: datetime!(2026-03-02 13:00 UTC),
        push_look: None,
        requested_seq: 0,
        unseen,
    }
}

/// From ten o'clock on this day of March 2026, an hour long.
pub(crate) fn at(day: u8) -> EventSpan {
    let start = datetime!(2026-03-01 10:00 UTC) + time::Duration::days(i64::from(day) - 1);
    EventSpan::Timed {
        start,
        end: start + time::Duration::hours(1),
    }
}

pub(crate) fn attendee(email: &str, rsvp_status: RsvpStatus) -> Attendee {
    Attendee {
        email: Some(email.to_owned()),
        rsvp_status,
        ..Attendee::default()
    }
}

pub(crate) fn event(id: &str, day: u8) -> ProviderEvent {
    ProviderEvent {
        id: id.into(),
        kind: EventKind::Single,
        title: Some(format!("Event {id}")),
        description: Some("What it is about".to_owned()),
        location: None,
        span: at(day),
        zone: Some(EventZone::Iana("Europe/Berlin".to_owned())),
        end_zone: None,
        status: EventStatus::Confirmed,
        importance: EventImportance::Normal,
        show_as: None,
        sensitivity: None,
        categories: Vec::new(),
        conversation_id: Some(format!("thread {id}")),
        ical_uid: Some(format!("uid {id}")),
        teams: None,
        organizer: Some(Organizer {
            email: Some("boss@example.com".to_owned()),
            display_name: None,
        }),
        is_organizer: Some(false),
        attendees: vec![
            attendee("a@example.com", RsvpStatus::Accepted),
            attendee("b@example.com", RsvpStatus::NeedsAction),
        ],
        reminders: vec![Reminder {
            method: calendar_domain::event::ReminderMethod::Popup,
            minutes_before: 15,
        }],
        html_link: Some("https://example.com/e".to_owned()),
        metadata: serde_json::Map::new(),
    }
}

pub(crate) fn change(event: ProviderEvent) -> EventChange {
    EventChange::Event(Box::new(event))
}

pub(crate) fn single(id: &str, day: u8) -> EventChange {
    change(event(id, day))
}

/// A daily Teams meeting.
pub(crate) fn master(id: &str) -> ProviderEvent {
    ProviderEvent {
        kind: EventKind::Master {
            rule: Some(RecurrenceRule::every(Frequency::Daily)),
            exception_dates: None,
        },
        teams: Some(TeamsMeeting {
            meeting_url: Some("https://teams/1".to_owned()),
            ..TeamsMeeting::default()
        }),
        categories: vec!["Red".to_owned(), "a \"quoted\" one".to_owned()],
        ..event(id, 1)
    }
}

pub(crate) fn occurrence(id: &str, master: &str, day: u8) -> EventChange {
    EventChange::Occurrence(Occurrence {
        id: id.into(),
        master: master.into(),
        span: at(day),
    })
}

/// An instance with a title of its own, moved to another day.
pub(crate) fn exception(id: &str, master: &str, original: u8, day: u8) -> EventChange {
    change(ProviderEvent {
        kind: EventKind::Exception {
            master: master.into(),
            original_start: at(original).start(),
        },
        ..event(id, day)
    })
}

pub(crate) fn removed(id: &str) -> EventChange {
    EventChange::Removed(ProviderEventId::from(id))
}

pub(crate) fn start(day: u8) -> EventMoment {
    at(day).start()
}

pub(crate) fn code<T: std::fmt::Debug>(result: PortResult<T>) -> String {
    result.unwrap_err().code
}
