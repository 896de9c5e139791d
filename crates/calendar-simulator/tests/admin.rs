//! The admin interface over HTTP, call by call, and the program.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use support::{ALEX, Bench, FROM, IMMUTABLE, MEGAN, TO, client, delta, meeting, series};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

async fn admin(bench: &Bench, method: Method, path: &str, body: Value) -> (u16, Value) {
    let url = format!("{}/admin/{path}", bench.server.url());
    let mut request = bench.http.request(method, url);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn ok(bench: &Bench, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = admin(bench, method, path, body).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

#[tokio::test]
async fn mailboxes_calendars_and_sharing() {
    let bench = Bench::calm().await;
    let made = ok(
        &bench,
        Method::POST,
        "mailboxes",
        json!({"upn": "new@contoso.example", "displayName": "New", "timeZone": "UTC"}),
    )
    .await;
    let all = ok(&bench, Method::GET, "mailboxes", Value::Null).await;
    assert_eq!(
        all["value"][2],
        json!({"upn": "new@contoso.example", "id": made["id"], "displayName": "New", "timeZone": "UTC"})
    );
    assert_eq!(
        admin(
            &bench,
            Method::POST,
            "mailboxes",
            json!({"upn": "NEW@contoso.example"})
        )
        .await
        .0,
        409
    );
    assert_eq!(
        admin(
            &bench,
            Method::POST,
            "mailboxes",
            json!({"upn": "x@contoso.example", "timeZone": "Mars"})
        )
        .await
        .0,
        400
    );
    assert_eq!(
        admin(&bench, Method::POST, "mailboxes", json!({})).await.0,
        400
    );

    let made = ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{MEGAN}/calendars"),
        json!({"name": "Team"}),
    )
    .await;
    let found = ok(
        &bench,
        Method::GET,
        &format!("mailboxes/{MEGAN}/calendars?name=Team"),
        Value::Null,
    )
    .await;
    assert_eq!(found["id"], made["id"]);
    let copy = ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{MEGAN}/share"),
        json!({"with": ALEX, "calendar": "Team", "canEdit": true}),
    )
    .await;
    assert_eq!(
        bench.read("/me/calendars").await["value"][1]["id"],
        copy["id"]
    );
    assert_eq!(
        bench.refusal(&format!("/users/{MEGAN}/calendar")).await.0,
        403
    );
    ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{MEGAN}/share"),
        json!({"with": ALEX}),
    )
    .await;
    assert_eq!(
        bench.read(&format!("/users/{MEGAN}/calendar")).await["canEdit"],
        false
    );
    ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{MEGAN}/unshare"),
        json!({"with": ALEX}),
    )
    .await;
    assert_eq!(
        bench.refusal(&format!("/users/{MEGAN}/calendar")).await.0,
        403
    );
    ok(
        &bench,
        Method::DELETE,
        &format!("mailboxes/{MEGAN}/calendars?calendar=Team"),
        Value::Null,
    )
    .await;
    assert_eq!(
        admin(
            &bench,
            Method::GET,
            &format!("mailboxes/{MEGAN}/calendars?name=Team"),
            Value::Null
        )
        .await
        .0,
        404
    );
    assert_eq!(
        admin(
            &bench,
            Method::DELETE,
            &format!("mailboxes/{MEGAN}/calendars?calendar=Calendar"),
            Value::Null
        )
        .await
        .0,
        400
    );
    assert_eq!(
        admin(&bench, Method::GET, "nothing", Value::Null).await.0,
        404
    );
    assert_eq!(
        admin(
            &bench,
            Method::GET,
            "mailboxes/nobody@example.com/events",
            Value::Null
        )
        .await
        .0,
        404
    );
}

#[tokio::test]
async fn events_and_the_truth_about_them() {
    let bench = Bench::calm().await;
    let base = format!("mailboxes/{ALEX}");
    let single = ok(
        &bench,
        Method::POST,
        &format!("{base}/events"),
        meeting("One", "2026-03-05T10:00:00"),
    )
    .await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let master = ok(
        &bench,
        Method::POST,
        &format!("{base}/events?calendar=Calendar"),
        series("Stand-up"),
    )
    .await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let first = bench.first_round().await;
    ok(
        &bench,
        Method::PATCH,
        &format!("{base}/events/{single}"),
        json!({"subject": "Two"}),
    )
    .await;
    for (day, body) in [
        ("2026-03-03", json!({"change": "delete"})),
        ("2026-03-04", json!({"change": "cancel"})),
        (
            "2026-03-05",
            json!({"change": "edit", "patch": {"subject": "Other"}}),
        ),
    ] {
        ok(
            &bench,
            Method::POST,
            &format!("{base}/events/{master}/occurrences/{day}"),
            body,
        )
        .await;
    }
    for (day, body, status) in [
        ("2026-03-03", json!({"change": "delete"}), 404),
        ("2026-07-03", json!({"change": "delete"}), 404),
        ("soon", json!({"change": "delete"}), 400),
        ("2026-03-06", json!({"change": "explode"}), 400),
    ] {
        let path = format!("{base}/events/{master}/occurrences/{day}");
        assert_eq!(
            admin(&bench, Method::POST, &path, body).await.0,
            status,
            "{day}"
        );
    }
    let events = ok(&bench, Method::GET, &format!("{base}/events"), Value::Null).await;
    let kinds: Vec<&str> = events["value"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["singleInstance", "seriesMaster"]);
    let path = format!("{base}/instances?startDateTime={FROM}&endDateTime={TO}");
    let rows = ok(&bench, Method::GET, &path, Value::Null).await["value"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(rows.len(), 12);
    let subjects: Vec<&str> = rows
        .iter()
        .map(|row| row["subject"].as_str().unwrap())
        .take(4)
        .collect();
    assert_eq!(subjects, ["Stand-up", "Canceled: Stand-up", "Other", "Two"]);
    assert_eq!(
        bench.round(&first.link, IMMUTABLE).await.rows.len(),
        1 + 1 + 11
    );

    bench.server.create_calendar(ALEX, "Elsewhere").unwrap();
    ok(
        &bench,
        Method::POST,
        &format!("{base}/events/{single}/move"),
        json!({"calendar": "Elsewhere"}),
    )
    .await;
    let there = ok(
        &bench,
        Method::GET,
        &format!("{base}/events?calendar=Elsewhere"),
        Value::Null,
    )
    .await;
    assert_eq!(there["value"][0]["id"], single);
    ok(
        &bench,
        Method::DELETE,
        &format!("{base}/events/{master}"),
        Value::Null,
    )
    .await;
    assert_eq!(
        ok(
            &bench,
            Method::GET,
            &format!("{base}/events?calendar=Calendar"),
            Value::Null
        )
        .await["value"],
        json!([])
    );
    ok(
        &bench,
        Method::POST,
        &format!("{base}/bulk"),
        json!({"count": 50, "start": FROM, "stepMinutes": 60}),
    )
    .await;
    let view = bench.read(&support::view()).await;
    let rows = view["value"].as_array().unwrap();
    assert_eq!(rows.len(), 50);
    assert!(
        rows.iter()
            .all(|row| row["attendees"].as_array().unwrap().len() == 2
                && row["isReminderOn"] == true)
    );
}

#[tokio::test]
async fn switches_clock_faults_tokens_and_requests() {
    let bench = Bench::calm().await;
    let quirks = ok(
        &bench,
        Method::PATCH,
        "quirks",
        json!({"latencyMs": 1, "duplicates": true}),
    )
    .await;
    assert_eq!(
        (
            &quirks["latencyMs"],
            &quirks["duplicates"],
            &quirks["emptyPages"]
        ),
        (&json!(1), &json!(true), &json!(false))
    );
    assert!(bench.server.quirks().duplicates);
    assert_eq!(
        admin(&bench, Method::PATCH, "quirks", json!({"unknown": 1}))
            .await
            .0,
        400
    );
    let all = ok(&bench, Method::PUT, "quirks", json!({})).await;
    assert_eq!(all["emptyPages"], true, "what is not said is the default");

    ok(
        &bench,
        Method::POST,
        "clock",
        json!({"set": "2031-01-01T00:00:00Z", "frozen": true}),
    )
    .await;
    ok(&bench, Method::POST, "clock", json!({"advanceSeconds": 60})).await;
    assert_eq!(
        ok(&bench, Method::GET, "clock", Value::Null).await["now"],
        "2031-01-01T00:01:00Z"
    );
    assert_eq!(
        admin(&bench, Method::POST, "clock", json!({"set": "soon"}))
            .await
            .0,
        400
    );

    let tokens = ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{MEGAN}/tokens"),
        Value::Null,
    )
    .await;
    assert!(tokens["refresh_token"].is_string());
    let me = async || {
        bench
            .http
            .get(format!("{}/me", bench.server.graph_url()))
            .bearer_auth(tokens["access_token"].as_str().unwrap())
            .header("Prefer", "a=b")
            .header("Prefer", "c=d")
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    ok(&bench, Method::DELETE, "requests", Value::Null).await;
    assert_eq!(me().await, 200);
    ok(
        &bench,
        Method::POST,
        "faults",
        json!({"pathContains": "/me", "status": 504}),
    )
    .await;
    assert_eq!(me().await, 504);
    ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{MEGAN}/revoke-access-tokens"),
        Value::Null,
    )
    .await;
    assert_eq!(me().await, 401);
    let seen = ok(&bench, Method::GET, "requests", Value::Null).await;
    assert_eq!(
        seen["value"][0],
        json!({"method": "GET", "path": "/v1.0/me", "query": "", "prefer": "a=b, c=d", "authorized": true, "fault": false, "mailbox": MEGAN, "status": 200})
    );
    assert_eq!(
        (&seen["value"][1]["status"], &seen["value"][2]["status"]),
        (&json!(504), &json!(401))
    );
    assert_eq!(
        seen["value"].as_array().unwrap().len(),
        3,
        "admin calls are not among them"
    );
    assert_eq!(
        admin(
            &bench,
            Method::POST,
            "faults",
            json!({"pathContain": "/me"})
        )
        .await
        .0,
        400
    );

    ok(
        &bench,
        Method::POST,
        "tokens",
        json!({"accessTokenSeconds": 5, "singleUseRefreshTokens": true}),
    )
    .await;
    ok(
        &bench,
        Method::POST,
        "default-mailbox",
        json!({"upn": MEGAN}),
    )
    .await;
    ok(&bench, Method::POST, "consent", json!({"error": null})).await;
    ok(&bench, Method::PUT, "clients", json!([{"id": "app"}])).await;
    ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{MEGAN}/revoke-refresh-tokens"),
        Value::Null,
    )
    .await;
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", tokens["refresh_token"].as_str().unwrap()),
    ];
    let answer = bench
        .http
        .post(format!("{}/t/oauth2/v2.0/token", bench.server.url()))
        .form(&form)
        .send()
        .await
        .unwrap();
    assert_eq!(
        answer.json::<Value>().await.unwrap()["error_codes"][0],
        50_173
    );
}

#[tokio::test]
async fn delta_tokens_are_forgotten_on_demand() {
    let bench = Bench::calm().await;
    let round = bench.first_round().await;
    ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{MEGAN}/invalidate-delta-tokens"),
        Value::Null,
    )
    .await;
    assert_eq!(
        bench.get(&round.link).await.status().as_u16(),
        200,
        "another mailbox's"
    );
    ok(
        &bench,
        Method::POST,
        &format!("mailboxes/{ALEX}/invalidate-delta-tokens"),
        Value::Null,
    )
    .await;
    assert_eq!(
        bench.refusal(&round.link).await,
        (410, "SyncStateNotFound".into())
    );
    // A next link too, in the middle of a round.
    bench
        .server
        .create_events_in_bulk(ALEX, None, 30, support::at(FROM), 60)
        .unwrap();
    let page = bench.read(&delta()).await;
    bench.server.invalidate_delta_tokens(ALEX).unwrap();
    assert_eq!(
        bench
            .refusal(page["@odata.nextLink"].as_str().unwrap())
            .await
            .0,
        410
    );
}

#[tokio::test]
async fn links_have_the_configured_base() {
    let bench = Bench::calm().await;
    bench
        .server
        .set_public_base(Some("https://graph.example.com".into()));
    let body = bench.read(&delta()).await;
    assert!(
        body["@odata.deltaLink"]
            .as_str()
            .unwrap()
            .starts_with("https://graph.example.com/v1.0/me/calendarView/delta?$deltatoken=")
    );
}

#[tokio::test]
async fn the_program_announces_itself_serves_the_demo_and_stops() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_calendar-simulator"))
        .args(["--demo", "--seed", "7"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let url = line.strip_prefix("listening on ").unwrap().to_owned();
    let http = client();
    let tokens: Value = http
        .post(format!(
            "{url}/admin/mailboxes/alex.wilber@contoso.example/tokens"
        ))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let me: Value = http
        .get(format!("{url}/v1.0/me"))
        .bearer_auth(tokens["access_token"].as_str().unwrap())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(me["displayName"], "Alex Wilber");
    let id = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .arg(id)
            .status()
            .await
            .unwrap()
            .success()
    );
    let status = tokio::time::timeout(Duration::from_secs(10), child.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(status.success(), "{status}");
}
