//! Every port, in memory, by one struct: just enough to answer, and able to fail.
//! Long because the API knows all of them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use calendar_api::{NotReady, Readiness};
use calendar_domain::account::{
    AccountIdentity, AuthorizationRequest, CalendarListing, ConnectSession, StoredTokens,
    TokenGrant, TokenSet,
};
use calendar_domain::api_key::{ApiKey, KnownApiKey, MOST_API_KEYS, NewApiKey};
use calendar_domain::connection::{
    CalendarConnection, Connected, ConnectionChange, ConnectionStatus, NewConnections,
};
use calendar_domain::event::{EventChange, ProviderEventId};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{
    ApiKeyId, ConnectionId, EventId, RejectedEventId, SessionId, SubscriptionId, TurnId, UserId,
    WorkerId,
};
use calendar_domain::overview::Overview;
use calendar_domain::ports::{
    ApiKeyStore, Authorizer, CalendarDirectory, CalendarReader, ChangeNotifier, Clock,
    ConnectSessionStore, ConnectionStore, EventReader, OverviewReader, Secrets, SessionStore,
    SubscriptionStore, SyncQueue, UserStore,
};
use calendar_domain::provider::{CalendarProvider, Capabilities};
use calendar_domain::query::{EventCursor, EventQuery, Listed, StoredEvent};
use calendar_domain::rejected::StoredRejectedEvent;
use calendar_domain::subscription::{
    EndingSubscription, KnownSubscription, NewSubscription, Notification, Notified,
    ProviderSubscription, PushEndpoint, PushSignal, PushWork, RenewalsScheduled,
    SubscriptionCursor, WebhookSubscription,
};
use calendar_domain::sync::{
    CalendarRef, ChangesFrom, ChangesPage, Claim, Cursor, Lease, Mailbox, PassFailure, SyncWindow,
};
use calendar_domain::user::{NewManagedUser, NewSession, NewUser, Session, User, UserChange};
use ring::digest::{SHA256, digest};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::datetime;

use super::samples::{connection, id, state_of};

/// Everything there is.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) users: Mutex<Vec<(User, String)>>,
    pub(crate) sessions: Mutex<HashMap<[u8; 32], NewSession>>,
    pub(crate) api_keys: Mutex<Vec<(NewApiKey, ApiKey)>>,
    /// Who manages whom.
    pub(crate) managed: Mutex<HashMap<UserId, UserId>>,
    pub(crate) round_trips: Mutex<HashMap<[u8; 32], ConnectSession>>,
    pub(crate) connections: Mutex<Vec<CalendarConnection>>,
    pub(crate) events: Mutex<Vec<StoredEvent>>,
    pub(crate) rejected: Mutex<Vec<StoredRejectedEvent>>,
    pub(crate) last_query: Mutex<Option<EventQuery>>,
    pub(crate) synced: Mutex<Vec<ConnectionId>>,
    pub(crate) refuse: Mutex<Vec<String>>,
    /// The database fails like this.
    pub(crate) failure: Mutex<Option<FailureClass>>,
    /// The provider fails like this.
    pub(crate) provider_failure: Mutex<Option<FailureClass>>,
    /// With this code.
    pub(crate) provider_code: Mutex<Option<&'static str>>,
    pub(crate) calendars: Mutex<Vec<CalendarListing>>,
    pub(crate) panics: AtomicBool,
    pub(crate) not_migrated: AtomicBool,
    pub(crate) subscriptions: Mutex<Vec<WebhookSubscription>>,
    /// What notifications came to, one entry for each call.
    pub(crate) recorded: Mutex<Vec<Vec<Notified>>>,
    /// How long recording takes.
    pub(crate) recording: Mutex<Duration>,
    /// Questions about subscriptions, those that fail too.
    pub(crate) looked_up: AtomicU32,
    /// Look-ups of tokens, good or not.
    pub(crate) authenticated: AtomicU32,
    /// What ended at the provider, by its ids.
    pub(crate) unsubscribed: Mutex<Vec<String>>,
    /// Pages of events that an export asked for.
    pub(crate) exported: AtomicU32,
    /// Pages that an export gets before the database fails; all of them unless it is set.
    pub(crate) exports: Mutex<Option<u32>>,
    made: AtomicU32,
}

impl World {
    /// What every access to the database goes through.
    fn database(&self) -> PortResult<()> {
        assert!(!self.panics.load(Ordering::Relaxed), "a canary in a panic");
        match *self.failure.lock().unwrap() {
            Some(class) => Err(PortError::with_source(
                class,
                "database_code",
                std::io::Error::other("a canary in the cause"),
            )),
            None => Ok(()),
        }
    }

    fn provider(&self) -> PortResult<()> {
        match *self.provider_failure.lock().unwrap() {
            Some(class) => {
                let code = *self.provider_code.lock().unwrap();
                Err(PortError::new(class, code.unwrap_or("provider_code")))
            }
            None => Ok(()),
        }
    }

    /// A user whom this one manages.
    pub(crate) async fn manage(&self, managed_by: UserId, email: &str) -> UserId {
        let new = NewManagedUser {
            managed_by,
            email: email.to_owned(),
            first_name: None,
            last_name: None,
        };
        self.create_managed(new, self.now()).await.unwrap().id
    }

    pub(crate) fn user(&self, email: &str) -> UserId {
        self.users
            .lock()
            .unwrap()
            .iter()
            .find(|(user, _)| user.email == email)
            .unwrap()
            .0
            .id
    }
}

impl Clock for World {
    fn now(&self) -> OffsetDateTime {
        datetime!(2026-01-05 09:00 UTC)
    }
}

#[async_trait]
impl Secrets for World {
    fn generate(&self) -> PortResult<SecretString> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Ok(format!("secret-{number:0>36}").into())
    }

    fn fingerprint(&self, secret: &SecretString) -> [u8; 32] {
        digest(&SHA256, secret.expose_secret().as_bytes())
            .as_ref()
            .try_into()
            .unwrap()
    }

    fn matches(&self, given: &SecretString, fingerprint: &[u8; 32]) -> bool {
        self.fingerprint(given) == *fingerprint
    }

    async fn hash_password(&self, password: &SecretString) -> PortResult<String> {
        Ok(format!("hash of {}", password.expose_secret()))
    }

    async fn verify_password(
        &self,
        password: &SecretString,
        hash: Option<String>,
    ) -> PortResult<bool> {
        Ok(hash == Some(format!("hash of {}", password.expose_secret())))
    }
}

#[async_trait]
impl Readiness for World {
    async fn check(&self) -> Result<(), NotReady> {
        if self.not_migrated.load(Ordering::Relaxed) {
            return Err(NotReady::NotMigrated);
        }
        self.database()
            .map_err(|error| NotReady::DatabaseDown(error.into()))
    }
}

#[async_trait]
impl OverviewReader for World {
    async fn overview(&self, _: OffsetDateTime) -> PortResult<Overview> {
        self.database()?;
        Ok(Overview::default())
    }
}

#[async_trait]
impl UserStore for World {
    async fn create(&self, user: NewUser, now: OffsetDateTime) -> PortResult<User> {
        self.database()?;
        let mut users = self.users.lock().unwrap();
        if users.iter().any(|(known, _)| known.email == user.email) {
            return Err(PortError::new(FailureClass::Conflict, "email_taken"));
        }
        let created = User {
            id: id(users.len() as u128 + 1).into(),
            email: user.email,
            first_name: user.first_name,
            last_name: user.last_name,
            created_at: now,
            updated_at: now,
        };
        users.push((created.clone(), user.password_hash));
        Ok(created)
    }

    async fn create_managed(&self, user: NewManagedUser, now: OffsetDateTime) -> PortResult<User> {
        let new = NewUser {
            email: user.email,
            password_hash: String::new(),
            first_name: user.first_name,
            last_name: user.last_name,
        };
        let created = UserStore::create(self, new, now).await?;
        let mut managed = self.managed.lock().unwrap();
        managed.insert(created.id, user.managed_by);
        Ok(created)
    }

    async fn list_managed(
        &self,
        owner: UserId,
        email: Option<String>,
        after: Option<UserId>,
        limit: u32,
    ) -> PortResult<Listed<User, UserId>> {
        self.database()?;
        let managed = self.managed.lock().unwrap();
        let users = self.users.lock().unwrap();
        let items = users.iter().map(|(user, _)| user).filter(|user| {
            managed.get(&user.id) == Some(&owner)
                && email.as_ref().is_none_or(|email| *email == user.email)
        });
        Ok(page(items.cloned().collect(), |user| user.id, after, limit))
    }

    async fn by_email(&self, email: &str) -> PortResult<Option<(User, String)>> {
        self.database()?;
        let email = email.to_lowercase();
        Ok(self
            .users
            .lock()
            .unwrap()
            .iter()
            .find(|(user, _)| user.email == email)
            .cloned())
    }

    async fn by_id(&self, id: UserId) -> PortResult<Option<User>> {
        self.database()?;
        let users = self.users.lock().unwrap();
        Ok(users
            .iter()
            .find(|(user, _)| user.id == id)
            .map(|(user, _)| user.clone()))
    }

    async fn change(
        &self,
        id: UserId,
        change: UserChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<User>> {
        self.database()?;
        let mut users = self.users.lock().unwrap();
        Ok(users
            .iter_mut()
            .find(|(user, _)| user.id == id)
            .map(|(user, _)| {
                if let Some(name) = change.first_name {
                    user.first_name = name;
                }
                if let Some(name) = change.last_name {
                    user.last_name = name;
                }
                user.updated_at = now;
                user.clone()
            }))
    }

    async fn delete(&self, id: UserId, _: OffsetDateTime) -> PortResult<bool> {
        self.database()?;
        self.sessions
            .lock()
            .unwrap()
            .retain(|_, session| session.user_id != id);
        let mut users = self.users.lock().unwrap();
        let before = users.len();
        users.retain(|(user, _)| user.id != id);
        Ok(users.len() < before)
    }
}

#[async_trait]
impl SessionStore for World {
    async fn create(&self, session: NewSession, _: OffsetDateTime) -> PortResult<()> {
        self.database()?;
        self.sessions
            .lock()
            .unwrap()
            .insert(session.token_hash, session);
        Ok(())
    }

    async fn find(
        &self,
        token_hash: [u8; 32],
        now: OffsetDateTime,
    ) -> PortResult<Option<(SessionId, UserId)>> {
        self.authenticated.fetch_add(1, Ordering::Relaxed);
        self.database()?;
        let sessions = self.sessions.lock().unwrap();
        let session = sessions
            .get(&token_hash)
            .filter(|session| session.expires_at > now);
        Ok(session.map(|session| (session.id, session.user_id)))
    }

    async fn list(
        &self,
        user: UserId,
        after: Option<SessionId>,
        limit: u32,
        _: OffsetDateTime,
    ) -> PortResult<Listed<Session, SessionId>> {
        self.database()?;
        let sessions = self.sessions.lock().unwrap();
        let own = sessions.values().filter(|session| session.user_id == user);
        let items = own
            .map(|session| Session {
                id: session.id,
                created_at: self.now(),
                expires_at: session.expires_at,
                last_used_at: None,
            })
            .collect();
        Ok(page(items, |session| session.id, after, limit))
    }

    async fn end(&self, user: UserId, id: SessionId) -> PortResult<bool> {
        self.database()?;
        let mut sessions = self.sessions.lock().unwrap();
        let before = sessions.len();
        sessions.retain(|_, session| (session.user_id, session.id) != (user, id));
        Ok(sessions.len() < before)
    }
}

#[async_trait]
impl ApiKeyStore for World {
    async fn create(&self, key: NewApiKey, now: OffsetDateTime) -> PortResult<ApiKey> {
        self.database()?;
        let mut keys = self.api_keys.lock().unwrap();
        if keys.len() >= MOST_API_KEYS as usize {
            return Err(PortError::new(FailureClass::Conflict, "too_many_keys"));
        }
        let stored = stored(&key, now);
        keys.push((key, stored.clone()));
        Ok(stored)
    }

    async fn find(
        &self,
        token_hash: [u8; 32],
        user: Option<UserId>,
        _: OffsetDateTime,
    ) -> PortResult<Option<KnownApiKey>> {
        self.authenticated.fetch_add(1, Ordering::Relaxed);
        self.database()?;
        let keys = self.api_keys.lock().unwrap();
        let found = keys.iter().find(|(key, _)| key.token_hash == token_hash);
        let managed = self.managed.lock().unwrap();
        Ok(found.map(|(key, _)| KnownApiKey {
            id: key.id,
            owner: key.user_id,
            scopes: key.scopes.clone(),
            acts_for: user
                .filter(|user| *user == key.user_id || managed.get(user) == Some(&key.user_id)),
        }))
    }

    async fn list(
        &self,
        owner: UserId,
        after: Option<ApiKeyId>,
        limit: u32,
    ) -> PortResult<Listed<ApiKey, ApiKeyId>> {
        self.database()?;
        let keys = self.api_keys.lock().unwrap();
        let own = keys.iter().filter(|(key, _)| key.user_id == owner);
        let items = own.map(|(_, stored)| stored.clone()).collect();
        Ok(page(items, |key| key.id, after, limit))
    }

    async fn delete(&self, owner: UserId, id: ApiKeyId) -> PortResult<bool> {
        self.database()?;
        let mut keys = self.api_keys.lock().unwrap();
        let before = keys.len();
        keys.retain(|(key, _)| (key.user_id, key.id) != (owner, id));
        Ok(keys.len() < before)
    }
}

/// A page of what is listed by its id.
fn page<T, C: Ord + Copy>(
    mut items: Vec<T>,
    id: impl Fn(&T) -> C,
    after: Option<C>,
    limit: u32,
) -> Listed<T, C> {
    items.retain(|item| after.is_none_or(|after| id(item) > after));
    items.sort_by_key(&id);
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(id);
    Listed { items, next }
}

fn stored(key: &NewApiKey, now: OffsetDateTime) -> ApiKey {
    ApiKey {
        id: key.id,
        name: key.name.clone(),
        hint: key.hint.clone(),
        scopes: key.scopes.clone(),
        created_at: now,
        last_used_at: None,
    }
}

#[async_trait]
impl ConnectSessionStore for World {
    async fn create(
        &self,
        session: ConnectSession,
        state_hash: [u8; 32],
        _: OffsetDateTime,
    ) -> PortResult<()> {
        self.database()?;
        self.round_trips.lock().unwrap().insert(state_hash, session);
        Ok(())
    }

    async fn consume(
        &self,
        state_hash: [u8; 32],
        _: OffsetDateTime,
    ) -> PortResult<Option<ConnectSession>> {
        self.database()?;
        Ok(self.round_trips.lock().unwrap().remove(&state_hash))
    }
}

#[async_trait]
impl ConnectionStore for World {
    async fn connect(&self, new: NewConnections, _: OffsetDateTime) -> PortResult<Connected> {
        self.database()?;
        let refused = self.refuse.lock().unwrap().clone();
        let mut connections = self.connections.lock().unwrap();
        let mut connection_ids = Vec::new();
        for (number, calendar) in (100..).zip(&new.calendars) {
            if !refused.contains(&calendar.id) {
                let made = connection(new.user_id, number);
                connection_ids.push(made.id);
                connections.push(made);
            }
        }
        Ok(Connected {
            connection_ids,
            refused,
        })
    }

    async fn list(
        &self,
        user: UserId,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> PortResult<Listed<CalendarConnection, ConnectionId>> {
        self.database()?;
        let mut items: Vec<_> = self.connections.lock().unwrap().clone();
        items.retain(|item| item.user_id == user);
        Ok(page(items, |item| item.id, after, limit))
    }

    async fn get(&self, user: UserId, id: ConnectionId) -> PortResult<Option<CalendarConnection>> {
        self.database()?;
        let connections = self.connections.lock().unwrap();
        Ok(connections
            .iter()
            .find(|item| item.id == id && item.user_id == user)
            .cloned())
    }

    async fn change(
        &self,
        user: UserId,
        id: ConnectionId,
        change: ConnectionChange,
        now: OffsetDateTime,
    ) -> PortResult<Option<CalendarConnection>> {
        self.database()?;
        let mut connections = self.connections.lock().unwrap();
        let found = connections
            .iter_mut()
            .find(|item| item.id == id && item.user_id == user);
        Ok(found.map(|item| {
            match change.paused {
                Some(true) => item.status = ConnectionStatus::Paused,
                Some(false) => item.status = ConnectionStatus::Connected,
                None => {}
            }
            item.calendar_name = change.calendar_name.or(item.calendar_name.take());
            item.calendar_color = change.calendar_color.or(item.calendar_color.take());
            item.updated_at = now;
            item.clone()
        }))
    }

    async fn disconnect(
        &self,
        user: UserId,
        id: ConnectionId,
        _: OffsetDateTime,
    ) -> PortResult<bool> {
        self.database()?;
        let mut connections = self.connections.lock().unwrap();
        let before = connections.len();
        connections.retain(|item| item.id != id || item.user_id != user);
        Ok(connections.len() < before)
    }

    async fn tokens(&self, _: &Lease) -> PortResult<Vec<TokenSet>> {
        unreachable!("the API refreshes no tokens")
    }

    async fn store_grant(&self, _: &Lease, _: TokenGrant, _: OffsetDateTime) -> PortResult<()> {
        unreachable!("the API refreshes no tokens")
    }

    async fn need_reauth(&self, _: &Lease, _: &str, _: OffsetDateTime) -> PortResult<()> {
        unreachable!("the API runs no passes")
    }
}

#[async_trait]
impl SyncQueue for World {
    async fn claim(
        &self,
        _: WorkerId,
        _: &[CalendarProvider],
        _: &[CalendarProvider],
        _: OffsetDateTime,
        _: Duration,
    ) -> PortResult<Option<Claim>> {
        unreachable!("the API claims nothing")
    }

    async fn heartbeat(&self, _: &Lease, _: Duration) -> PortResult<()> {
        unreachable!("the API holds no lease")
    }

    async fn fail(
        &self,
        _: &Lease,
        _: ConnectionId,
        _: PassFailure,
        _: OffsetDateTime,
    ) -> PortResult<()> {
        unreachable!("the API runs no passes")
    }

    async fn take_turns(
        &self,
        _: &Lease,
        _: ConnectionId,
        _: OffsetDateTime,
        _: Duration,
    ) -> PortResult<u32> {
        unreachable!("the API works on no account")
    }

    async fn take_turn(
        &self,
        _: CalendarProvider,
        _: &str,
        _: Duration,
    ) -> PortResult<Option<TurnId>> {
        Ok(Some(TurnId::new()))
    }

    async fn give_turn_back(&self, _: TurnId) -> PortResult<()> {
        Ok(())
    }

    async fn wait_behind_others(&self, _: &Lease, _: OffsetDateTime) -> PortResult<()> {
        unreachable!("the API works on no account")
    }

    async fn release(&self, _: &Lease) -> PortResult<()> {
        unreachable!("the API holds no lease")
    }

    async fn request_sync(
        &self,
        user: UserId,
        connection: ConnectionId,
        _: OffsetDateTime,
    ) -> PortResult<bool> {
        let found = ConnectionStore::get(self, user, connection)
            .await?
            .is_some();
        self.synced
            .lock()
            .unwrap()
            .extend(found.then_some(connection));
        Ok(found)
    }
}

#[async_trait]
impl SubscriptionStore for World {
    async fn find(
        &self,
        _: CalendarProvider,
        subscription_ids: &[String],
    ) -> PortResult<Vec<KnownSubscription>> {
        self.looked_up.fetch_add(1, Ordering::Relaxed);
        self.database()?;
        let subscriptions = self.subscriptions.lock().unwrap();
        let known = subscriptions
            .iter()
            .filter(|known| subscription_ids.contains(&known.subscription_id));
        Ok(known
            .map(|known| KnownSubscription {
                id: known.id,
                account_id: id(900).into(),
                subscription_id: known.subscription_id.clone(),
                client_state: Some(self.fingerprint(&state_of(&known.subscription_id).into())),
            })
            .collect())
    }

    async fn record(&self, notified: &[Notified], _: OffsetDateTime) -> PortResult<()> {
        let recording = *self.recording.lock().unwrap();
        tokio::time::sleep(recording).await;
        self.database()?;
        self.recorded.lock().unwrap().push(notified.to_vec());
        Ok(())
    }

    async fn list(
        &self,
        user: UserId,
        connection: ConnectionId,
        after: Option<SubscriptionCursor>,
        limit: u32,
    ) -> PortResult<Option<Listed<WebhookSubscription, SubscriptionCursor>>> {
        let found = ConnectionStore::get(self, user, connection).await?;
        let key = |one: &WebhookSubscription| SubscriptionCursor {
            created_at: one.created_at,
            id: one.id,
        };
        let mut items = self.subscriptions.lock().unwrap().clone();
        items.retain(|one| after.is_none_or(|after| key(one) < after));
        items.sort_by_key(|one| Reverse(key(one)));
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().filter(|_| more).map(key);
        Ok(found.map(|_| Listed { items, next }))
    }

    async fn schedule_renewals(
        &self,
        _: OffsetDateTime,
        _: Duration,
        _: Duration,
    ) -> PortResult<RenewalsScheduled> {
        unreachable!("the API renews nothing")
    }

    async fn end_unreachable(
        &self,
        _: &[(CalendarProvider, String)],
        _: OffsetDateTime,
        _: Duration,
    ) -> PortResult<u64> {
        unreachable!("the API renews nothing")
    }

    async fn push_work(&self, _: &Lease) -> PortResult<PushWork> {
        unreachable!("the API holds no lease")
    }

    async fn start(&self, _: &Lease, _: NewSubscription, _: OffsetDateTime) -> PortResult<()> {
        unreachable!("the API holds no lease")
    }

    async fn renewed(
        &self,
        _: &Lease,
        _: SubscriptionId,
        _: OffsetDateTime,
        _: Option<OffsetDateTime>,
        _: OffsetDateTime,
    ) -> PortResult<()> {
        unreachable!("the API holds no lease")
    }

    async fn ended(&self, _: &Lease, _: SubscriptionId, _: OffsetDateTime) -> PortResult<()> {
        unreachable!("the API holds no lease")
    }

    async fn settle(&self, _: &Lease) -> PortResult<()> {
        unreachable!("the API holds no lease")
    }

    async fn failed(&self, _: &Lease, _: &str, _: OffsetDateTime) -> PortResult<()> {
        unreachable!("the API holds no lease")
    }

    async fn suspect_silence(
        &self,
        _: &Lease,
        _: OffsetDateTime,
        _: OffsetDateTime,
        _: OffsetDateTime,
    ) -> PortResult<()> {
        unreachable!("the API holds no lease")
    }

    async fn ending(
        &self,
        user: UserId,
        connection: Option<ConnectionId>,
    ) -> PortResult<Vec<EndingSubscription>> {
        self.database()?;
        let connections = self.connections.lock().unwrap();
        let goes = |item: &&CalendarConnection| {
            item.user_id == user && connection.is_none_or(|id| item.id == id)
        };
        let gone: Vec<_> = connections
            .iter()
            .filter(goes)
            .map(|item| item.id)
            .collect();
        let subscriptions = self.subscriptions.lock().unwrap();
        let ending = subscriptions
            .iter()
            .filter(|known| known.is_active && gone.contains(&known.connection_id));
        Ok(ending
            .map(|known| EndingSubscription {
                provider: known.provider,
                subscription_id: known.subscription_id.clone(),
                tokens: StoredTokens::Open(TokenSet {
                    access_token: "access".into(),
                    refresh_token: Some("refresh".into()),
                    expires_at: datetime!(2026-01-05 10:00 UTC),
                }),
                account_stays: false,
            })
            .collect())
    }
}

#[async_trait]
impl ChangeNotifier for World {
    async fn subscribe(
        &self,
        _: &SecretString,
        _: &PushEndpoint,
        _: &SecretString,
    ) -> PortResult<ProviderSubscription> {
        unreachable!("the API subscribes to nothing")
    }

    async fn renew(&self, _: &SecretString, _: &str) -> PortResult<OffsetDateTime> {
        unreachable!("the API renews nothing")
    }

    async fn unsubscribe(&self, token: &SecretString, subscription_id: &str) -> PortResult<()> {
        assert_eq!(token.expose_secret(), "access");
        let id = subscription_id.to_owned();
        self.unsubscribed.lock().unwrap().push(id);
        self.provider()
    }

    async fn subscriptions(&self, _: &SecretString) -> PortResult<Vec<ProviderSubscription>> {
        unreachable!("the API subscribes to nothing")
    }

    fn notifications(&self, body: &[u8]) -> PortResult<Vec<Notification>> {
        let unreadable = || PortError::new(FailureClass::InvalidInput, "notifications_unreadable");
        let body: Value = serde_json::from_slice(body).map_err(|_| unreadable())?;
        let entries = body["value"].as_array().ok_or_else(unreadable)?;
        let readable = entries.iter().filter_map(|entry| {
            Some(Notification {
                subscription_id: entry["subscriptionId"].as_str()?.to_owned(),
                client_state: entry["clientState"].as_str().map(Into::into),
                signal: match entry["lifecycleEvent"].as_str() {
                    None => PushSignal::Changed,
                    Some("missed") => PushSignal::Missed,
                    Some("subscriptionRemoved") => PushSignal::Removed,
                    Some(_) => PushSignal::ReauthorizationRequired,
                },
            })
        });
        Ok(readable.collect())
    }
}

#[async_trait]
impl EventReader for World {
    async fn list(&self, query: EventQuery) -> PortResult<Listed<StoredEvent, EventCursor>> {
        self.database()?;
        let mut items = self.events.lock().unwrap().clone();
        items.retain(|item| query.include_deleted || item.deleted_at.is_none());
        items.sort_by_key(|item| item.id);
        items.retain(|item| query.after.is_none_or(|after| item.id > after.id));
        let more = items.len() > query.limit as usize;
        items.truncate(query.limit as usize);
        let next = items.last().filter(|_| more).map(|item| EventCursor {
            at: item.span.start().to_column(),
            id: item.id,
        });
        *self.last_query.lock().unwrap() = Some(query);
        Ok(Listed { items, next })
    }

    async fn export(
        &self,
        _: UserId,
        connection: ConnectionId,
        after: String,
        limit: u32,
    ) -> PortResult<Listed<StoredEvent, String>> {
        self.database()?;
        let asked = self.exported.fetch_add(1, Ordering::Relaxed);
        if self
            .exports
            .lock()
            .unwrap()
            .is_some_and(|most| asked >= most)
        {
            return Err(PortError::new(FailureClass::Retryable, "database_code"));
        }
        let events = self.events.lock().unwrap();
        let mut items: Vec<_> = events
            .iter()
            .filter(|event| event.connection_id == connection && event.deleted_at.is_none())
            .filter(|event| event.provider_event_id > after)
            .cloned()
            .collect();
        items.sort_by(|a, b| a.provider_event_id.cmp(&b.provider_event_id));
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().map(|event| event.provider_event_id.clone());
        Ok(Listed {
            items,
            next: next.filter(|_| more),
        })
    }

    async fn rejected(
        &self,
        _: UserId,
        connection: ConnectionId,
        after: Option<RejectedEventId>,
        limit: u32,
    ) -> PortResult<Listed<StoredRejectedEvent, RejectedEventId>> {
        self.database()?;
        let mut items = self.rejected.lock().unwrap().clone();
        items.retain(|item| item.connection_id == connection);
        items.retain(|item| after.is_none_or(|after| item.id > after));
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = items.last().map(|item| item.id).filter(|_| more);
        Ok(Listed { items, next })
    }

    async fn get(&self, user: UserId, id: EventId) -> PortResult<Option<StoredEvent>> {
        self.database()?;
        let events = self.events.lock().unwrap();
        let event = events.iter().find(|item| item.id == id);
        let connections = self.connections.lock().unwrap();
        let owned = |event: &&StoredEvent| {
            connections
                .iter()
                .any(|item| item.id == event.connection_id && item.user_id == user)
        };
        Ok(event.filter(owned).cloned())
    }
}

#[async_trait]
impl Authorizer for World {
    fn authorize_url(&self, request: &AuthorizationRequest) -> PortResult<String> {
        Ok(format!(
            "https://login.example/authorize?state={}&redirect_uri={}",
            request.state.expose_secret(),
            request.redirect_uri,
        ))
    }

    async fn exchange(
        &self,
        _: &SecretString,
        _: &SecretString,
        redirect_uri: &str,
    ) -> PortResult<TokenGrant> {
        assert_eq!(redirect_uri, "https://calendar.example/v1/oauth/callback");
        self.provider()?;
        Ok(TokenGrant {
            access_token: "access".into(),
            refresh_token: Some("refresh".into()),
            expires_at: datetime!(2026-01-05 10:00 UTC),
            scopes: String::new(),
            missing: Vec::new(),
        })
    }

    async fn refresh(&self, _: &SecretString) -> PortResult<TokenGrant> {
        unreachable!("the API refreshes no tokens")
    }
}

#[async_trait]
impl CalendarDirectory for World {
    async fn identity(&self, _: &SecretString) -> PortResult<AccountIdentity> {
        Ok(AccountIdentity {
            tenant_id: "tenant".into(),
            provider_user_id: "user".into(),
            email: None,
            display_name: None,
        })
    }

    async fn calendars(&self, _: &SecretString, _: &Mailbox) -> PortResult<Vec<CalendarListing>> {
        Ok(self.calendars.lock().unwrap().clone())
    }
}

#[async_trait]
impl CalendarReader for World {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            window_bound: true,
            silent_holes: true,
        }
    }

    fn is_feed(&self, _: &Cursor) -> bool {
        unreachable!("the API reads no calendars")
    }

    async fn changes(
        &self,
        _: &SecretString,
        _: &CalendarRef,
        _: &ChangesFrom,
    ) -> PortResult<ChangesPage> {
        unreachable!("the API reads no calendars")
    }

    async fn event(
        &self,
        _: &SecretString,
        _: &CalendarRef,
        _: &ProviderEventId,
    ) -> PortResult<Option<EventChange>> {
        unreachable!("the API reads no calendars")
    }

    async fn instances(
        &self,
        _: &SecretString,
        _: &CalendarRef,
        _: &ProviderEventId,
        _: SyncWindow,
    ) -> PortResult<Vec<EventChange>> {
        unreachable!("the API reads no calendars")
    }
}
