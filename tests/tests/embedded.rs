//! The example of a host program, as its users meet it: our API under its own path, its own routes over
//! our tables, its own provider synced by our worker, in one process with one pool.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use calendar_e2e::{Answer, Binary, Http, Process, eventually, free_port};
use calendar_postgres::testing::TestDatabase;
use reqwest::Method;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(30);

struct Intranet {
    database: TestDatabase,
    process: Process,
    base: String,
    http: Http,
}

impl Intranet {
    /// On a database without any table.
    async fn start() -> Self {
        let database = TestDatabase::create_empty().await;
        let listen = format!("127.0.0.1:{}", free_port().await);
        let key = base64::engine::general_purpose::STANDARD.encode([7_u8; 32]);
        let environment = [
            ("DATABASE_URL", database.url().to_owned()),
            ("INTRANET_LISTEN", listen.clone()),
            ("INTRANET_TOKEN_KEYS", format!("test:{key}")),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let process = Process::start(Binary::Embedded, &[], &environment);
        let (base, http) = (format!("http://{listen}"), Http::new());
        let ready = format!("{base}/calendar/readyz");
        eventually("the intranet is ready", || async {
            let answer = http.send(Method::GET, &ready, None, None).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        Self {
            database,
            process,
            base,
            http,
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let url = format!("{}{path}", self.base);
        let answer = self.http.send(method, &url, token, body.as_ref()).await;
        answer.unwrap_or_else(|error| panic!("{error}:\n{}", self.process.log()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_program_serves_and_syncs_in_its_own_process() {
    let mut intranet = Intranet::start().await;
    let ann = json!({"email": "ann@example.com", "password": "correct horse battery", "first_name": "Ann", "last_name": "Example"});
    let signed_up = intranet.call(Method::POST, "/calendar/v1/users", None, Some(ann));
    signed_up.await.expect(201);
    let ann = json!({"email": "ann@example.com", "password": "correct horse battery"});
    let signed_in = intranet.call(Method::POST, "/calendar/v1/sessions", None, Some(ann));
    let session = signed_in.await.expect(201);
    let token = session["token"].as_str();

    for stranger in [None, Some("nobody's")] {
        let refused = intranet.call(Method::PUT, "/holidays", stranger, None);
        refused.await.expect(401);
    }
    let none = intranet.call(Method::GET, "/holidays", None, None).await;
    assert_eq!(none.expect(200), json!([]));
    let shown = intranet.call(Method::PUT, "/holidays", token, None).await;
    shown.expect(204);

    // By the worker's loop, and by the intranet's own SQL.
    eventually("the holidays are stored", || async {
        let holidays = intranet.call(Method::GET, "/holidays", None, None).await;
        let holidays = holidays.expect(200);
        let days = holidays.as_array().into_iter().flatten();
        let titles: BTreeSet<_> = days.filter_map(|day| day["title"].as_str()).collect();
        titles == BTreeSet::from(["Christmas Day", "Company Day", "New Year's Day"])
    })
    .await;

    // And by the API.
    let path = "/calendar/v1/connections";
    let connections = intranet
        .call(Method::GET, path, token, None)
        .await
        .expect(200);
    let connection = &connections["data"][0];
    assert_eq!(connection["calendar_name"], "Company holidays");
    assert_eq!(connection["status"], "connected");
    let path = "/calendar/v1/events?category=Holiday";
    let events = intranet
        .call(Method::GET, path, token, None)
        .await
        .expect(200);
    let events = events["data"].as_array().cloned().unwrap_or_default();
    // A year and a half: each at least once, in whole days.
    assert!(events.len() >= 3, "{events:?}");
    for event in &events {
        assert_eq!(event["is_all_day"], true, "{event}");
        assert!(
            event["start_date"].is_string() && event["start"].is_null(),
            "{event}"
        );
    }
    let missing = intranet.call(Method::GET, "/calendar/v1/nothing", None, None);
    assert_eq!(missing.await.expect(404)["code"], "no_such_route");

    intranet.process.signal("TERM").await;
    let ended = intranet.process.end(LONG).await;
    assert!(ended.success(), "{}", intranet.process.log());
    let client = intranet.database.connect().await;
    let leases = "SELECT count(*) FROM calendar_accounts WHERE lease_expires_at > now()";
    let leases = client.query_one(leases, &[]).await;
    assert_eq!(leases.map(|row| row.get(0)).ok(), Some(0_i64));
}
