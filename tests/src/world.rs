//! One world for each scenario: a database, a simulator, an api and a worker, and users.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use calendar_postgres::testing::TestDatabase;
use calendar_simulator::jiff::Timestamp;
use calendar_simulator::{Options, Server};
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use crate::{Answer, Binary, Http, Process};

/// How long anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// Subscriptions on as many accounts, without anybody behind them.
const SUBSCRIPTIONS: &str = "
    WITH numbers AS (SELECT n, gen_random_uuid() AS account, gen_random_uuid() AS connection
            FROM generate_series(1, $1::bigint) AS n),
        somebody AS (INSERT INTO users (email) VALUES ('load@example.com') RETURNING id),
        accounts AS (INSERT INTO calendar_accounts (id, user_id, provider, provider_user_id, push_due_at)
            SELECT account, somebody.id, 'MICROSOFT', 'user-' || n, NULL FROM numbers, somebody),
        connections AS (INSERT INTO calendar_connections (id, user_id, provider, calendar_id, account_id)
            SELECT connection, somebody.id, 'MICROSOFT', 'calendar-' || n, account FROM numbers, somebody),
        states AS (INSERT INTO calendar_sync_states (connection_id, account_id, due_at)
            SELECT connection, account, 'infinity' FROM numbers)
    INSERT INTO webhook_subscriptions (calendar_connection_id, account_id, provider, subscription_id,
            client_state, expiration_datetime)
        SELECT connection, account, 'MICROSOFT', 'subscription-' || n, 'sha256:' || encode(sha256(('state-' || n)::bytea), 'hex'), now() + interval '6 days'
        FROM numbers";

/// A database, a simulator and the binaries in front of it.
pub struct World {
    /// The database.
    pub database: TestDatabase,
    /// Microsoft.
    pub simulator: Server,
    /// The api.
    pub api: Process,
    /// The worker.
    pub worker: Process,
    /// Where the api listens.
    pub base: String,
    /// What both were started with.
    pub environment: Vec<(String, String)>,
    /// A client.
    pub http: Http,
}

/// A user who is signed in, or for whom a service key acts.
#[derive(Clone, Debug)]
pub struct User {
    /// The bearer token.
    pub token: String,
    /// The address.
    pub email: String,
    /// Whom the token acts for, if it is a service key that does.
    pub calendar_user: Option<String>,
}

/// What a user sees of an instance, from either side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// Its title.
    pub title: String,
    /// Its start: `2026-01-05T09:00:00` in UTC, or a date.
    pub start: String,
    /// Its end, likewise.
    pub end: String,
}

impl World {
    /// A migrated database, a simulator as odd as the real one, the binaries, ready.
    pub async fn start() -> Self {
        Self::start_with(Options::default(), &[]).await
    }

    /// The same, with other options or variables.
    pub async fn start_with(options: Options, variables: &[(&str, &str)]) -> Self {
        Self::start_on(TestDatabase::create().await, options, variables).await
    }

    /// The same, on a database that was made for it.
    pub async fn start_on(
        database: TestDatabase,
        options: Options,
        variables: &[(&str, &str)],
    ) -> Self {
        let simulator = Server::start(options).await.expect("the simulator starts");
        let environment = environment(database.url(), &simulator, free_port().await, variables);
        let api = Process::start(Binary::Api, &[], &environment);
        let worker = Process::start(Binary::Worker, &[], &environment);
        let base = value(&environment, "CALENDAR_PUBLIC_URL");
        let world = Self {
            database,
            simulator,
            api,
            worker,
            base,
            environment,
            http: Http::new(),
        };
        world.ready().await;
        world
    }

    /// Waits until the api is ready.
    pub async fn ready(&self) {
        eventually("the api is ready", || async {
            self.try_call(None, Method::GET, "/readyz", None)
                .await
                .is_some_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Asks the worker to stop, and waits until it has.
    pub async fn stop_worker(&mut self) {
        self.worker.signal("TERM").await;
        assert!(self.worker.end(PATIENCE).await.success());
    }

    /// Starts a worker in place of one that ended.
    pub fn start_worker(&mut self) {
        self.worker = Process::start(Binary::Worker, &[], &self.environment);
    }

    /// A mailbox at the provider, and a user who is signed in here.
    pub async fn mailbox_and_user(&self, mailbox: &str) -> User {
        self.simulator
            .create_mailbox(mailbox, "Somebody", "W. Europe Standard Time")
            .expect("its name is free");
        self.user(&mailbox.replace("contoso", "home")).await
    }

    /// Stores so many subscriptions, each of an account of its own, without anybody behind them: `subscription-1` with
    /// the client state `state-1`, and so on.
    pub async fn subscribe_nobody(&self, count: i64) {
        let client = self.database.connect().await;
        client.execute(SUBSCRIPTIONS, &[&count]).await.expect("SQL");
        client.batch_execute("ANALYZE").await.expect("SQL");
    }

    /// One number of the api's metrics: `name{label="value"}`, labels in the order of the text. Zero where it is missing.
    pub async fn metric(&self, series: &str) -> f64 {
        let metrics = self.call(None, Method::GET, "/metrics", None).await;
        let lines = metrics.text.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        values
            .next()
            .map_or(0.0, |value| value.parse().expect("a number"))
    }

    async fn try_call(
        &self,
        user: Option<&User>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Answer> {
        let token = user.map(|user| user.token.as_str());
        let calendar_user = user.and_then(|user| user.calendar_user.as_deref());
        let url = format!("{}{path}", self.base);
        self.http
            .send_for(method, &url, token, calendar_user, body)
            .await
            .ok()
    }

    /// Calls the API; `path` begins with a slash.
    pub async fn call(
        &self,
        user: Option<&User>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let answer = self.try_call(user, method, path, body.as_ref()).await;
        answer.unwrap_or_else(|| panic!("the api does not answer:\n{}", self.api.log()))
    }

    /// GET, expecting 200.
    pub async fn get(&self, user: &User, path: &str) -> Value {
        self.call(Some(user), Method::GET, path, None)
            .await
            .expect(200)
    }

    /// Signs a new user up and in.
    pub async fn user(&self, email: &str) -> User {
        let credentials = json!({"email": email, "password": "correct horse battery", "first_name": "Ann", "last_name": "Example"});
        self.call(None, Method::POST, "/v1/users", Some(credentials.clone()))
            .await
            .expect(201);
        let credentials = json!({"email": email, "password": "correct horse battery"});
        let session = self
            .call(None, Method::POST, "/v1/sessions", Some(credentials))
            .await
            .expect(201);
        User {
            token: text(&session["token"]),
            email: email.to_owned(),
            calendar_user: None,
        }
    }

    /// Makes a service key with every scope. Answers what the API did.
    pub async fn service_key(&self, owner: &User) -> Value {
        let scopes = ["events:read", "connections:manage", "users:manage"];
        let body = json!({"name": "backend", "scopes": scopes});
        self.call(Some(owner), Method::POST, "/v1/api_keys", Some(body))
            .await
            .expect(201)
    }

    /// Makes a user with a service key, which acts for them.
    pub async fn managed_user(&self, key: &str, email: &str) -> User {
        let mut user = User {
            token: key.to_owned(),
            email: email.to_owned(),
            calendar_user: None,
        };
        let body = json!({"email": email});
        let made = self
            .call(Some(&user), Method::POST, "/v1/users", Some(body))
            .await
            .expect(201);
        user.calendar_user = Some(text(&made["id"]));
        user
    }

    /// Asks for an OAuth round trip; answers where the browser is to go.
    pub async fn authorize_url(&self, user: &User, body: Value) -> Url {
        let session = self
            .call(Some(user), Method::POST, "/v1/connect_sessions", Some(body))
            .await
            .expect(201);
        text(&session["authorize_url"]).parse().expect("a URL")
    }

    /// Signs in at the provider as `mailbox`, as the user's browser would; answers the callback's URL.
    pub async fn sign_in_at_provider(&self, mut authorize_url: Url, mailbox: &str) -> String {
        authorize_url
            .query_pairs_mut()
            .append_pair("login_hint", mailbox);
        let answer = self
            .http
            .send(Method::GET, authorize_url.as_str(), None, None)
            .await
            .expect("Entra answers");
        assert_eq!(answer.status, 302, "{}", answer.text);
        answer.headers["location"]
            .to_str()
            .expect("ASCII")
            .to_owned()
    }

    /// Connects a mailbox through the real OAuth flow. Answers the callback's page.
    pub async fn connect(&self, user: &User, mailbox: &str, mut body: Value) -> Answer {
        body["provider"] = json!("microsoft");
        let authorize_url = self.authorize_url(user, body).await;
        let callback = self.sign_in_at_provider(authorize_url, mailbox).await;
        self.http
            .send(Method::GET, &callback, None, None)
            .await
            .expect("the api answers")
    }

    /// Connects the primary calendar of a mailbox and waits for its first pass. Answers the id.
    pub async fn connect_primary(&self, user: &User, mailbox: &str) -> String {
        let page = self
            .connect(user, mailbox, json!({"calendars": "primary"}))
            .await;
        assert_eq!(page.status, 200, "{}", page.text);
        let connections = self.get(user, "/v1/connections").await;
        let id = text(&connections["data"][0]["id"]);
        self.wait_for_status(user, &id, "connected").await;
        id
    }

    /// Waits until a connection is in this state, and has been synced if that is `connected`.
    pub async fn wait_for_status(&self, user: &User, connection: &str, status: &str) -> Value {
        let path = format!("/v1/connections/{connection}");
        eventually(&format!("the connection is {status}"), || async {
            let got = self.get(user, &path).await;
            got["status"] == status && (status != "connected" || !got["last_synced_at"].is_null())
        })
        .await;
        self.get(user, &path).await
    }

    /// All events of a list, over all its pages. `query` without a question mark.
    pub async fn events(&self, user: &User, query: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self
                .get(user, &format!("/v1/events?limit=37&{query}{cursor}"))
                .await;
            events.extend(page["data"].as_array().expect("a list").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return events,
            }
        }
    }

    /// What a mirror is told of events that changed after `since`: those that are there, and the ids of
    /// those that are not any more.
    pub async fn told_since(&self, user: &User, since: &str) -> (Vec<Value>, BTreeSet<String>) {
        let query = format!("updated_since={since}&include_deleted=true");
        let events = self.events(user, &query).await;
        let (gone, mut there): (Vec<_>, Vec<_>) = events
            .into_iter()
            .partition(|event| event["deleted_at"].is_string());
        // `updated_since` includes the instant itself.
        let instant = |text: &str| text.parse::<Timestamp>().expect("RFC 3339");
        there.retain(|event| instant(&text(&event["updated_at"])) > instant(since));
        (there, gone.iter().map(|event| text(&event["id"])).collect())
    }

    /// What the API shows of a connection between two instants (RFC 3339, `Z`).
    pub async fn stored(
        &self,
        user: &User,
        connection: &str,
        from: &str,
        to: &str,
    ) -> BTreeSet<Instance> {
        let events = self
            .events(
                user,
                &format!("connection_id={connection}&from={from}&to={to}"),
            )
            .await;
        let count = events.len();
        let instances: BTreeSet<Instance> = events
            .iter()
            .map(|event| {
                let side = |time: &str, date: &str| {
                    let value = if event[date].is_null() {
                        &event[time]
                    } else {
                        &event[date]
                    };
                    text(value).trim_end_matches('Z').to_owned()
                };
                Instance {
                    title: event["title"].as_str().unwrap_or_default().to_owned(),
                    start: side("start", "start_date"),
                    end: side("end", "end_date"),
                }
            })
            .collect();
        assert_eq!(instances.len(), count, "an instance is shown twice");
        instances
    }

    /// What the provider's user sees of the default calendar between two instants.
    #[must_use]
    pub fn truth(&self, mailbox: &str, from: &str, to: &str) -> BTreeSet<Instance> {
        let (from, to) = (
            from.parse().expect("RFC 3339"),
            to.parse().expect("RFC 3339"),
        );
        let calendar = self
            .simulator
            .find_calendar(mailbox, None)
            .expect("the mailbox is there");
        let events = self
            .simulator
            .instances(mailbox, Some(&calendar), from, to)
            .expect("the calendar is there");
        events
            .iter()
            .map(|event| {
                let all_day = event["isAllDay"] == true;
                let side = |name: &str| {
                    let time = text(&event[name]["dateTime"]);
                    let length = if all_day { 10 } else { 19 };
                    time[..length].to_owned()
                };
                Instance {
                    title: event["subject"].as_str().unwrap_or_default().to_owned(),
                    start: side("start"),
                    end: side("end"),
                }
            })
            .collect()
    }

    /// Waits until the API shows what the provider has between two instants.
    pub async fn converge(
        &self,
        user: &User,
        connection: &str,
        mailbox: &str,
        from: &str,
        to: &str,
    ) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (stored, truth) = (
                self.stored(user, connection, from, to).await,
                self.truth(mailbox, from, to),
            );
            if stored == truth {
                return;
            }
            if tokio::time::Instant::now() > deadline {
                let missing: Vec<_> = truth.difference(&stored).collect();
                let extra: Vec<_> = stored.difference(&truth).collect();
                panic!(
                    "missing: {missing:#?}\ntoo much: {extra:#?}\n{}",
                    self.worker.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a pass that begins from now on has ended.
    pub async fn pass(&self, user: &User, connection: &str) {
        let path = format!("/v1/connections/{connection}");
        let before = self.get(user, &path).await["last_synced_at"].clone();
        self.call(Some(user), Method::POST, &format!("{path}/sync"), None)
            .await
            .expect(202);
        eventually("a pass has ended", || async {
            self.get(user, &path).await["last_synced_at"] != before
        })
        .await;
    }
}

/// The environment of both binaries.
fn environment(
    database_url: &str,
    simulator: &Server,
    port: u16,
    variables: &[(&str, &str)],
) -> Vec<(String, String)> {
    let key = base64::engine::general_purpose::STANDARD.encode([7_u8; 32]);
    let keys = format!("test:{key}");
    let listen = format!("127.0.0.1:{port}");
    let public_url = format!("http://{listen}");
    let mut environment: Vec<(String, String)> = [
        ("DATABASE_URL", database_url),
        ("CALENDAR_TOKEN_KEYS", &keys),
        ("CALENDAR_LISTEN", &listen),
        ("CALENDAR_PUBLIC_URL", &public_url),
        ("CALENDAR_MICROSOFT_CLIENT_ID", "client"),
        ("CALENDAR_MICROSOFT_CLIENT_SECRET", "client-secret"),
        ("CALENDAR_MICROSOFT_AUTHORITY_URL", &simulator.url()),
        ("CALENDAR_MICROSOFT_GRAPH_URL", &simulator.graph_url()),
        ("CALENDAR_POLL_SECONDS", "1"),
        ("CALENDAR_LOG", "debug"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in variables {
        environment.retain(|(known, _)| known != name);
        environment.push(((*name).to_owned(), (*value).to_owned()));
    }
    environment
}

fn value(environment: &[(String, String)], name: &str) -> String {
    environment
        .iter()
        .find(|(known, _)| known == name)
        .expect("it is set")
        .1
        .clone()
}

/// A port of 127.0.0.1 that was free a moment ago.
pub async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    listener.local_addr().expect("bound").port()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

/// Waits until something is true, at the most half a minute.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !check().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
