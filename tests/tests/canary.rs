//! Secrets and event text through every flow, with the most talkative logs there are: what crossed the wire as a
//! secret stands afterwards in no log line, no answer, no metric and no column, and event text in no log line
//! and no error. Long because it is one story: each flow needs what the one before has made.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use calendar_e2e::{Answer, Binary, Process, User, World, eventually, free_port};
use calendar_simulator::{Fault, LifecycleEvent, Options};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::form_urlencoded;

const MAILBOX: &str = "ann@contoso.example";
const BOSS: &str = "boss@contoso.example";
const PASSWORD: &str = "canary horse battery";
const CLIENT_SECRET: &str = "canary-client-secret";
const KEY: &str = "test:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// The one that a rotation brings to the front.
const NEXT_KEY: &str = "next:CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";
/// In titles, bodies, places, names, addresses, search words and errors of the provider.
const TEXT: &str = "xcanaryx";
const LONG: Duration = Duration::from_secs(30);

/// What passes between the service and the provider.
#[derive(Clone, Default)]
struct Tap {
    target: Arc<OnceLock<String>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// Listens; where it leads is said later. Answers its port.
    async fn start(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tap = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = tap.target.get().unwrap().clone();
                let (up, down) = (Arc::clone(&tap.heard), Arc::clone(&tap.heard));
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else {
                        return;
                    };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::join!(
                        pass(from_client, to_server, up),
                        pass(from_server, to_client, down)
                    );
                });
            }
        });
        port
    }
}

/// Hands on what comes, and keeps it: each direction whole, once it has ended.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    heard: Arc<Mutex<Vec<u8>>>,
) {
    let (mut whole, mut part) = (Vec::new(), vec![0; 65_536]);
    while let Ok(length @ 1..) = from.read(&mut part).await {
        // On a connection that is kept, nothing else parts a form from the next request.
        if [b"GET ".as_slice(), b"POST ", b"PATCH ", b"DELETE "]
            .iter()
            .any(|method| part.starts_with(method))
        {
            whole.push(b'\n');
        }
        whole.extend_from_slice(&part[..length]);
        if to.write_all(&part[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    whole.push(b'\n');
    heard.lock().unwrap().append(&mut whole);
}

/// Secrets by what they are.
#[derive(Default)]
struct Secrets(BTreeSet<(String, &'static str)>);

impl Secrets {
    fn add(&mut self, what: &'static str, secret: &str) {
        assert!(
            secret.len() >= 12,
            "{what} is too short to look for: {secret:?}"
        );
        self.0.insert((secret.to_owned(), what));
    }

    /// Finds what the service and the provider said to each other.
    fn hear(&mut self, heard: &[u8]) {
        let heard = String::from_utf8_lossy(heard);
        for (what, mark, end) in [
            ("an access token", "\"access_token\":\"", '"'),
            ("a refresh token", "\"refresh_token\":\"", '"'),
            ("a client state", "\"clientState\":\"", '"'),
            ("a bearer token", "authorization: Bearer ", '\r'),
        ] {
            for found in heard.split(mark).skip(1) {
                self.add(what, found.split(end).next().unwrap());
            }
        }
        // Forms are the last thing of their request, and hold no blank.
        let forms = heard.split(|c: char| c.is_whitespace() || c == '{' || c == '}');
        for (name, value) in forms
            .filter(|word| word.contains("grant_type="))
            .flat_map(|form| form_urlencoded::parse(form.as_bytes()))
        {
            match &*name {
                "code" => self.add("an authorization code", &value),
                "code_verifier" => self.add("a PKCE verifier", &value),
                "client_secret" => assert_eq!(value, CLIENT_SECRET),
                "refresh_token" => self.add("a refresh token that was used", &value),
                _ => {}
            }
        }
    }

    fn count(&self, what: &str) -> usize {
        self.0.iter().filter(|(_, one)| *one == what).count()
    }

    #[track_caller]
    fn assert_not_in(&self, place: &str, text: &str) {
        for (secret, what) in &self.0 {
            if let Some(at) = text.find(secret.as_str()) {
                let from = text[..at]
                    .char_indices()
                    .rev()
                    .nth(200)
                    .map_or(0, |(at, _)| at);
                panic!(
                    "{what} stands in {place}: …{}",
                    &text[from..at + secret.len()]
                );
            }
        }
    }
}

/// A world whose traffic with the provider is heard, and whose answers are kept.
struct Heard {
    world: World,
    tap: Tap,
    /// Where the worker serves its metrics.
    worker: String,
    answers: Mutex<Vec<(String, Answer)>>,
}

impl Heard {
    async fn start() -> Self {
        let tap = Tap::default();
        let port = tap.start().await;
        let authority = format!("http://127.0.0.1:{port}");
        let graph = format!("{authority}/v1.0");
        let metrics = format!("127.0.0.1:{}", free_port().await);
        let world = World::start_with(
            Options {
                access_token_seconds: 2,
                ..Options::default()
            },
            &[
                ("CALENDAR_MICROSOFT_AUTHORITY_URL", &authority),
                ("CALENDAR_MICROSOFT_GRAPH_URL", &graph),
                ("CALENDAR_MICROSOFT_CLIENT_SECRET", CLIENT_SECRET),
                ("CALENDAR_TOKEN_KEYS", &format!("{KEY},{NEXT_KEY}")),
                ("CALENDAR_METRICS_LISTEN", &metrics),
                ("CALENDAR_LOG", "trace"),
                ("CALENDAR_LOG_FORMAT", "json"),
            ],
        )
        .await;
        let target = world.simulator.url();
        tap.target
            .set(target["http://".len()..].to_owned())
            .unwrap();
        assert!(world.simulator.graph_url().ends_with("/v1.0"));
        Self {
            world,
            tap,
            worker: format!("http://{metrics}"),
            answers: Mutex::default(),
        }
    }

    /// Calls the API and keeps the answer.
    async fn call(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let user = token.map(|token| User {
            token: token.to_owned(),
            email: String::new(),
            calendar_user: None,
        });
        self.call_as(user.as_ref(), method, path, body).await
    }

    async fn call_as(
        &self,
        user: Option<&User>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let answer = self.world.call(user, method.clone(), path, body).await;
        let json = answer.json();
        self.answers
            .lock()
            .unwrap()
            .push((format!("the answer to {method} {path}"), answer));
        json
    }

    async fn connect(&self, user: &User, body: Value) {
        let page = self.world.connect(user, MAILBOX, body).await;
        assert_eq!(page.status, 200, "{}", page.text);
        self.answers
            .lock()
            .unwrap()
            .push(("the callback's page".to_owned(), page));
    }

    /// Makes connections due whatever their back-off says.
    async fn sync(&self, token: &str, ids: &[String]) {
        for id in ids {
            let path = format!("/v1/connections/{id}/sync");
            self.call(Some(token), Method::POST, &path, None).await;
        }
    }

    fn requests(&self, path: &str) -> usize {
        let requests = self.world.simulator.requests();
        requests
            .iter()
            .filter(|request| request.path.contains(path))
            .count()
    }
}

fn event(world: &World) -> Value {
    let today = world.simulator.now().to_string();
    let today = &today[..10];
    json!({
        "subject": format!("{TEXT} title"),
        "body": {"contentType": "text", "content": format!("{TEXT} body")},
        "location": {"displayName": format!("{TEXT} place")},
        "start": {"dateTime": format!("{today}T09:00:00"), "timeZone": "UTC"},
        "end": {"dateTime": format!("{today}T09:30:00"), "timeZone": "UTC"},
        "attendees": [{"type": "required",
            "emailAddress": {"address": format!("{TEXT}@contoso.example"), "name": TEXT}}],
    })
}

/// An answer of the provider that is full of text.
fn fault(path: &str, status: u16) -> Fault {
    Fault {
        path_contains: path.to_owned(),
        status,
        headers: vec![("retry-after".to_owned(), "1".to_owned())],
        body: json!({"error": {"code": "ErrorCanary", "message": format!("{TEXT} message")},
            "error_description": format!("{TEXT} description")}),
        ..Fault::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one world goes through every flow")]
async fn t47_no_secret_and_no_text_stands_where_it_must_not() {
    let mut heard = Heard::start().await;
    let mut secrets = Secrets::default();
    for (mailbox, name) in [(MAILBOX, "Ann"), (BOSS, "Boss")] {
        heard
            .world
            .simulator
            .create_mailbox(mailbox, name, "UTC")
            .unwrap();
    }
    let simulator = heard.world.simulator.clone();
    simulator.share_mailbox(BOSS, MAILBOX, false).unwrap();
    simulator
        .create_event(MAILBOX, None, &event(&heard.world))
        .unwrap();
    simulator
        .create_event(BOSS, None, &event(&heard.world))
        .unwrap();

    // Signing up and in, rightly and wrongly.
    let email = format!("{TEXT}@example.com");
    let account = json!({"email": email, "password": PASSWORD, "first_name": TEXT});
    heard
        .call(None, Method::POST, "/v1/users", Some(account.clone()))
        .await;
    heard
        .call(None, Method::POST, "/v1/users", Some(account))
        .await;
    secrets.add("the password", PASSWORD);
    secrets.add("the client secret", CLIENT_SECRET);
    for (password, fails) in [(PASSWORD, false), ("canary horse batteries", true)] {
        let body = json!({"email": email, "password": password});
        let session = heard
            .world
            .call(None, Method::POST, "/v1/sessions", Some(body))
            .await;
        assert_eq!(session.status.is_client_error(), fails);
        match session.json()["token"].as_str() {
            Some(token) => secrets.add("a session's token", token),
            None => heard
                .answers
                .lock()
                .unwrap()
                .push(("a refused sign-in".to_owned(), session)),
        }
    }
    let token = secrets
        .0
        .iter()
        .find(|(_, what)| *what == "a session's token")
        .unwrap()
        .0
        .clone();
    let user = User {
        token: token.clone(),
        email: email.clone(),
        calendar_user: None,
    };
    heard
        .call(
            Some("canary-of-an-unknown-token"),
            Method::GET,
            "/v1/me",
            None,
        )
        .await;
    secrets.add("an unknown token", "canary-of-an-unknown-token");
    let malformed = format!("/v1/events?q={TEXT}&from={TEXT}&cursor={TEXT}");
    heard
        .call(Some(&token), Method::GET, &malformed, None)
        .await;
    heard
        .call(
            Some(&token),
            Method::GET,
            &format!("/v1/events/{TEXT}"),
            None,
        )
        .await;
    let body = json!({"provider": TEXT, "return_url": format!("https://{TEXT}.example/")});
    heard
        .call(
            Some(&token),
            Method::POST,
            "/v1/connect_sessions",
            Some(body),
        )
        .await;

    // The OAuth round trip, refused, failing, and done.
    let begin = json!({"provider": "microsoft"});
    let mut url = heard.world.authorize_url(&user, begin.clone()).await;
    let state = url
        .query_pairs()
        .find(|(name, _)| name == "state")
        .unwrap()
        .1
        .into_owned();
    secrets.add("a state", &state);
    let refused =
        format!("/v1/oauth/callback?state={state}&error=access_denied&error_description={TEXT}");
    heard.call(None, Method::GET, &refused, None).await;
    heard
        .call(
            None,
            Method::GET,
            &format!("/v1/oauth/callback?state={TEXT}&code={TEXT}"),
            None,
        )
        .await;
    simulator.script_fault(fault("/oauth2/v2.0/token", 400));
    url = heard.world.authorize_url(&user, begin).await;
    let callback = heard.world.sign_in_at_provider(url, MAILBOX).await;
    let path = &callback[heard.world.base.len()..];
    heard.call(None, Method::GET, path, None).await;
    heard.connect(&user, json!({})).await;
    heard.connect(&user, json!({"delegate_email": BOSS})).await;
    let list = heard
        .call(Some(&token), Method::GET, "/v1/connections", None)
        .await;
    let ids: Vec<String> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|connection| connection["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2, "{list}");
    for id in &ids {
        heard.world.wait_for_status(&user, id, "connected").await;
    }
    let own = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|connection| connection["delegate_email"].is_null())
        .unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    eventually("there is a subscription", || async {
        simulator.subscriptions().len() == 1
    })
    .await;

    // Reads, with search words.
    let events = heard.world.events(&user, &format!("q={TEXT}")).await;
    assert_eq!(events.len(), 2, "the text is there to be found");

    // Refreshes, pushes, lifecycle, forged pushes; answers of the provider that fail in each way.
    let refreshes = heard.requests("/oauth2/v2.0/token");
    eventually("tokens were refreshed", || async {
        heard.requests("/oauth2/v2.0/token") > refreshes
    })
    .await;
    for status in [400, 403, 429, 500, 503] {
        simulator.script_fault(fault("calendarView", status));
        heard.sync(&token, &ids).await;
        eventually("the provider was asked", || async {
            simulator.pending_faults().is_empty()
        })
        .await;
    }
    let subscription = simulator.subscriptions().remove(0).id;
    let forged = json!({"value": [{"subscriptionId": subscription, "clientState": "canary-client-state", "tenantId": TEXT,
        "changeType": "updated", "resource": TEXT, "resourceData": {"id": TEXT}}]});
    secrets.add("a forged client state", "canary-client-state");
    heard
        .call(None, Method::POST, "/webhooks/microsoft", Some(forged))
        .await;
    heard
        .call(
            None,
            Method::POST,
            "/webhooks/microsoft",
            Some(json!({"value": TEXT})),
        )
        .await;
    simulator
        .send_lifecycle(&subscription, LifecycleEvent::Missed)
        .unwrap();
    simulator
        .create_event(MAILBOX, None, &event(&heard.world))
        .unwrap();
    heard.sync(&token, &ids).await;
    eventually("the edit is shown", || async {
        heard.world.events(&user, &format!("q={TEXT}")).await.len() == 3
    })
    .await;

    // The sign-in ends: at the provider, then here.
    simulator.script_fault(fault("/oauth2/v2.0/token", 500));
    simulator.revoke_refresh_tokens(MAILBOX).unwrap();
    simulator.revoke_access_tokens(MAILBOX).unwrap();
    heard.sync(&token, &ids).await;
    eventually("the provider was asked for tokens", || async {
        simulator.pending_faults().is_empty()
    })
    .await;
    heard.sync(&token, &ids).await;
    heard
        .world
        .wait_for_status(&user, &own, "needs_reauth")
        .await;
    heard.connect(&user, json!({})).await;
    heard.world.wait_for_status(&user, &own, "connected").await;
    heard
        .call(
            Some(&token),
            Method::GET,
            &format!("/v1/connections/{own}/subscriptions"),
            None,
        )
        .await;
    a_products_backend(&heard, &user, &mut secrets).await;
    let mut metrics = Vec::new();
    for server in [&heard.world.base, &heard.worker] {
        let url = format!("{server}/metrics");
        let answer = heard.world.http.send(Method::GET, &url, None, None).await;
        let answer = answer.unwrap();
        assert!(answer.status == 200 && answer.text.contains("calendar_"));
        metrics.push(answer.text);
    }
    heard.world.worker.signal("TERM").await;
    heard.world.worker.end(LONG).await;
    let mut once = Process::start(Binary::Worker, &["--once"], &heard.world.environment);
    once.end(LONG).await;
    let mut shown = Process::start(
        Binary::Worker,
        &["--print-config"],
        &heard.world.environment,
    );
    shown.end(LONG).await;
    let mut environment = heard.world.environment.clone();
    environment.retain(|(name, _)| name != "CALENDAR_TOKEN_KEYS");
    let keys = format!("{NEXT_KEY},{KEY}");
    environment.push(("CALENDAR_TOKEN_KEYS".to_owned(), keys));
    let mut rotation = Process::start(Binary::Api, &["keys", "rotate"], &environment);
    assert!(rotation.end(LONG).await.success(), "{}", rotation.log());
    let mut status = Process::start(Binary::Api, &["keys", "status"], &environment);
    assert!(status.end(LONG).await.success(), "{}", status.log());
    for key in [KEY, NEXT_KEY] {
        secrets.add("a token key", key.split_once(':').unwrap().1);
    }

    // Everything is there to be found; now look while the rows are still there.
    let columns = columns(&heard.world).await;
    heard
        .call(
            Some(&token),
            Method::DELETE,
            &format!("/v1/connections/{}", ids[0]),
            None,
        )
        .await;
    heard
        .call(Some(&token), Method::DELETE, "/v1/me", None)
        .await;
    heard
        .call(Some(&token), Method::DELETE, "/v1/sessions", None)
        .await;
    heard.world.api.signal("TERM").await;
    heard.world.api.end(LONG).await;
    eventually("the traffic was heard", || async {
        let mut all = Secrets::default();
        all.hear(&heard.tap.heard.lock().unwrap());
        all.count("a client state") >= 1
    })
    .await;
    secrets.hear(&heard.tap.heard.lock().unwrap());
    for what in [
        "an access token",
        "a refresh token",
        "a client state",
        "a bearer token",
        "an authorization code",
        "a PKCE verifier",
        "a refresh token that was used",
        "a service key",
    ] {
        assert!(
            secrets.count(what) > 0,
            "no {what} was heard: nothing is looked for"
        );
    }

    secrets.assert_not_in("a column", &columns);
    // PostgreSQL shows bytes in hex.
    let bytes = Secrets(
        secrets
            .0
            .iter()
            .map(|(secret, what)| (hex(secret), *what))
            .collect(),
    );
    bytes.assert_not_in("a column of bytes", &columns);
    for (place, answer) in &*heard.answers.lock().unwrap() {
        secrets.assert_not_in(place, &answer.text);
        secrets.assert_not_in(place, &format!("{:?}", answer.headers));
        if !answer.status.is_success() || place.contains("/v1/connections/") {
            assert!(!answer.text.contains(TEXT), "{place}: {}", answer.text);
        }
    }
    for metrics in metrics {
        secrets.assert_not_in("metrics", &metrics);
        assert!(
            !metrics.contains(TEXT) && !metrics.contains(MAILBOX),
            "{metrics}"
        );
    }
    for (place, process) in [
        ("the api's log", &heard.world.api),
        ("the worker's log", &heard.world.worker),
        ("the log of --once", &once),
        ("the printed configuration", &shown),
        ("the log of a rotation", &rotation),
        ("the status of the keys", &status),
    ] {
        let log = process.log();
        assert!(!log.is_empty(), "{place} says nothing");
        secrets.assert_not_in(place, &log);
        let line = log.lines().find(|line| line.contains(TEXT));
        assert_eq!(line, None, "text stands in {place}");
    }
}

/// A service key is made, used rightly and wrongly, and listed; and all that is one's own is exported.
async fn a_products_backend(heard: &Heard, owner: &User, secrets: &mut Secrets) {
    let made = heard.world.service_key(owner).await;
    let key = made["key"].as_str().unwrap();
    secrets.add("a service key", key);
    let email = format!("{TEXT}-managed@example.com");
    let managed = heard.world.managed_user(key, &email).await;
    let wrong = [
        (key, None),
        (key, Some(TEXT.to_owned())),
        (key, Some("01890a5d-ac96-774b-bcce-b302099a8057".to_owned())),
        ("calkey_canary-of-an-unknown-key", None),
    ];
    secrets.add("an unknown key", wrong[3].0);
    for (token, calendar_user) in wrong {
        let user = User {
            token: token.to_owned(),
            email: String::new(),
            calendar_user,
        };
        let problem = heard
            .call_as(Some(&user), Method::GET, "/v1/events", None)
            .await;
        assert!(problem["code"].is_string(), "{problem}");
    }
    heard.connect(&managed, json!({})).await;
    eventually("the key reads", || async {
        heard.world.events(&managed, "").await.len() == 2
    })
    .await;
    let found = format!("/v1/users?email={email}");
    for (user, path) in [
        (&managed, "/v1/me"),
        (&managed, "/v1/connections"),
        (&managed, "/v1/me/export"),
        (&managed, "/v1/api_keys"),
        (&managed, &found),
        (owner, &found),
        (owner, "/v1/api_keys"),
        (owner, "/v1/sessions"),
        (owner, "/v1/me/export"),
    ] {
        heard.call_as(Some(user), Method::GET, path, None).await;
    }
    let answers = heard.answers.lock().unwrap();
    let exports = answers.iter().filter(|(_, answer)| {
        answer.json()["events"]
            .as_array()
            .is_some_and(|events| events.len() > 1)
    });
    assert_eq!(exports.count(), 2, "both exports are whole");
}

fn hex(text: &str) -> String {
    text.bytes().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Every row of every table, as text.
async fn columns(world: &World) -> String {
    let client = world.database.connect().await;
    let tables = "SELECT quote_ident(relname) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname";
    let mut text = String::new();
    for table in client.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        let rows = client
            .query(&format!("SELECT t::text FROM {table} AS t"), &[])
            .await
            .unwrap();
        for row in rows {
            text.push_str(&row.get::<_, String>(0));
            text.push('\n');
        }
    }
    assert!(text.contains(TEXT), "the rows are there");
    text
}
