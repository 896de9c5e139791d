//! Answers that are well-formed and wrong, refused or lost: delta, tokens, subscriptions.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::collections::BTreeSet;

use calendar_simulator::{Delivery, ENTRA_REFUSALS, Fault, PushFaults, Quirks, Untruth};
use reqwest::Method;
use serde_json::{Value, json};
use support::listener::Listener;
use support::subscribing::{ALL, admin, attempt, kinds, refused, told};
use support::{ALEX, Bench, FROM, IMMUTABLE, MEGAN, TO, delta, meeting, series, view};

const TOKEN: &str = "/oauth2/v2.0/token";

fn untrue(untruth: Untruth, path: &str) -> Fault {
    Fault {
        path_contains: path.to_owned(),
        untruth: Some(untruth),
        ..Fault::default()
    }
}

/// What a refresh answers; `None` when nothing came.
async fn refresh(bench: &Bench, token: &str) -> Option<(u16, Value)> {
    let answer = bench
        .http
        .post(format!("{}/common{TOKEN}", bench.server.url()))
        .form(&[
            ("grant_type", "refresh_token"),
            ("client_id", "app"),
            ("refresh_token", token),
        ])
        .send()
        .await
        .ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json().await.unwrap()))
}

fn code((status, body): &(u16, Value)) -> (u16, &str, u64) {
    let error = body["error"].as_str().unwrap();
    (*status, error, body["error_codes"][0].as_u64().unwrap())
}

fn ids(rows: &[Value]) -> BTreeSet<&str> {
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_is_empty_where_there_are_many() {
    let bench = Bench::calm().await;
    for n in 10..25 {
        let event = meeting(&n.to_string(), &format!("2026-03-{n}T10:00:00"));
        bench.server.create_event(ALEX, None, &event).unwrap();
    }
    for path in [view(), "/me/events".to_owned(), "/me/calendars".to_owned()] {
        bench
            .server
            .script_fault(untrue(Untruth::EmptyList, &path[..10]));
        let body = bench.read(&path).await;
        assert_eq!(body["value"], json!([]), "{path}");
        assert_eq!(body["@odata.nextLink"], Value::Null, "{path}");
        let body = bench.read(&path).await;
        assert!(!body["value"].as_array().unwrap().is_empty(), "{path}");
    }
    bench
        .server
        .script_fault(untrue(Untruth::EmptyList, "/delta"));
    let round = bench.first_round().await;
    assert_eq!(round.pages, [0]);
    // From there on only what changes is told.
    bench
        .server
        .create_event(ALEX, None, &meeting("new", "2026-03-26T10:00:00"))
        .unwrap();
    assert_eq!(bench.round(&round.link, IMMUTABLE).await.rows.len(), 1);
    assert_eq!(bench.first_round().await.rows.len(), 16);
}

#[tokio::test]
async fn delta_leaves_out_occurrences_that_instances_has() {
    let bench = Bench::with(Quirks {
        split_series: true,
        ..Quirks::none()
    })
    .await;
    let master = bench
        .server
        .create_event(ALEX, None, &series("Stand-up"))
        .unwrap();
    bench
        .server
        .create_event(ALEX, None, &meeting("x", "2026-03-03T10:00:00"))
        .unwrap();
    bench.server.script_fault(Fault {
        times: 0,
        ..untrue(Untruth::Holes, "calendarView/delta")
    });
    let round = bench.first_round().await;
    assert_eq!(round.of_type("occurrence").len(), 8, "of twelve");
    assert_eq!(round.of_type("seriesMaster").len(), 1);
    assert_eq!(round.of_type("singleInstance").len(), 1);
    // Over several pages the holes are the same ones.
    let split = bench
        .round(&delta(), &format!("{IMMUTABLE}, odata.maxpagesize=3"))
        .await;
    assert!(split.pages.len() > 2);
    assert_eq!(ids(&split.rows), ids(&round.rows));
    let path =
        format!("/me/events/{master}/instances?startDateTime={FROM}&endDateTime={TO}&$top=100");
    let answer = bench
        .request(Method::GET, &path)
        .header("Prefer", IMMUTABLE);
    let body: Value = answer.send().await.unwrap().json().await.unwrap();
    let instances = body["value"].as_array().unwrap();
    assert_eq!(instances.len(), 12);
    let told: BTreeSet<&str> = ids(&round.rows);
    assert_eq!(ids(instances).difference(&told).count(), 4);
    bench.server.clear_faults();
    assert_eq!(bench.first_round().await.of_type("occurrence").len(), 12);
}

#[tokio::test]
async fn a_round_is_lost_in_its_middle() {
    let bench = Bench::calm().await;
    for n in 10..25 {
        let event = meeting(&n.to_string(), &format!("2026-03-{n}T10:00:00"));
        bench.server.create_event(ALEX, None, &event).unwrap();
    }
    for location in [None, Some("https://graph.microsoft.com/v1.0/me")] {
        let body = bench.read(&delta()).await;
        let next = body["@odata.nextLink"].as_str().unwrap();
        bench.server.script_fault(Fault {
            path_contains: "$skiptoken".to_owned(),
            headers: location
                .map(|to| ("Location".to_owned(), to.to_owned()))
                .into_iter()
                .collect(),
            ..Fault::graph(410, "SyncStateNotFound", "")
        });
        let answer = bench.get(next).await;
        assert_eq!(answer.status(), 410);
        let seen = answer.headers().get("location");
        assert_eq!(seen.map(|to| to.to_str().unwrap()), location);
        assert_eq!(bench.get(next).await.status(), 200);
    }
}

#[tokio::test]
async fn the_second_page_of_anothers_delta_is_denied() {
    let bench = Bench::with(Quirks {
        delegate_pages_denied: true,
        ..Quirks::none()
    })
    .await;
    bench.server.create_calendar(MEGAN, "Team").unwrap();
    for calendar in [None, Some("Team")] {
        for n in 10..25 {
            let event = meeting(&n.to_string(), &format!("2026-03-{n}T10:00:00"));
            bench.server.create_event(MEGAN, calendar, &event).unwrap();
            bench.server.create_event(ALEX, None, &event).unwrap();
        }
    }
    bench.server.share_mailbox(MEGAN, ALEX, false).unwrap();
    let copy = bench
        .server
        .share_calendar(MEGAN, Some("Team"), ALEX, false)
        .unwrap();
    let window = format!("startDateTime={FROM}&endDateTime={TO}");
    for path in [format!("/users/{MEGAN}"), format!("/me/calendars/{copy}")] {
        let body = bench
            .read(&format!("{path}/calendarView/delta?{window}"))
            .await;
        assert_eq!(body["value"].as_array().unwrap().len(), 10);
        let next = body["@odata.nextLink"].as_str().unwrap();
        assert_eq!(bench.refusal(next).await, refused(403, "ErrorAccessDenied"));
        let body = bench
            .read(&format!("{path}/calendarView?{window}&$top=100"))
            .await;
        assert_eq!(body["value"].as_array().unwrap().len(), 15);
    }
    assert_eq!(
        bench.first_round().await.rows.len(),
        30,
        "one's own is whole"
    );
}

#[tokio::test]
async fn a_refresh_is_refused_lost_or_poorer() {
    let bench = Bench::calm().await;
    let issue = || bench.server.issue_refresh_token(ALEX).unwrap();
    // Lost, when tokens work once: the old one is used up and the new one is nobody's.
    bench.server.set_single_use_refresh_tokens(true);
    let token = issue();
    bench.server.script_fault(Fault {
        path_contains: TOKEN.to_owned(),
        mailbox: Some(ALEX.to_owned()),
        after: true,
        delivery: Delivery::Closed,
        ..Fault::default()
    });
    let other = bench.server.issue_refresh_token(MEGAN).unwrap();
    assert_eq!(refresh(&bench, &other).await.unwrap().0, 200, "another's");
    assert_eq!(refresh(&bench, &token).await, None);
    let answer = refresh(&bench, &token).await.unwrap();
    assert_eq!(code(&answer), (400, "invalid_grant", 70_000));

    let token = issue();
    bench
        .server
        .script_fault(untrue(Untruth::NoRefreshToken, TOKEN));
    let (status, body) = refresh(&bench, &token).await.unwrap();
    assert_eq!(status, 200);
    assert!(body["access_token"].is_string() && body.get("refresh_token").is_none());
    assert_eq!(refresh(&bench, &token).await.unwrap().0, 200, "still good");

    bench
        .server
        .script_fault(untrue(Untruth::FewerScopes, TOKEN));
    let (status, body) = refresh(&bench, &issue()).await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(body["scope"], "openid profile email User.Read");
    let poor = Bench {
        token: body["access_token"].as_str().unwrap().to_owned(),
        http: bench.http.clone(),
        server: bench.server,
    };
    assert_eq!(
        poor.refusal("/me/calendars").await,
        refused(403, "ErrorAccessDenied")
    );
    let bench = poor;

    let issue = || bench.server.issue_refresh_token(ALEX).unwrap();
    let path = format!("mailboxes/{ALEX}/expire-refresh-tokens");
    let token = issue();
    assert_eq!(admin(&bench, Method::POST, &path, Value::Null).await.0, 200);
    let answer = refresh(&bench, &token).await.unwrap();
    assert_eq!(code(&answer), (400, "invalid_grant", 700_082));
    assert_eq!(refresh(&bench, &issue()).await.unwrap().0, 200);

    for (error, number, suberror) in ENTRA_REFUSALS {
        bench
            .server
            .script_fault(Fault::entra(error, number, suberror));
        let answer = refresh(&bench, &issue()).await.unwrap();
        let status = if error == "invalid_client" { 401 } else { 400 };
        assert_eq!(code(&answer), (status, error, u64::from(number)));
        assert_eq!(answer.1["suberror"].as_str(), suberror);
    }
}

#[tokio::test]
async fn a_subscription_is_refused_or_made_unheard_of() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let url = listener.url("/");
    let ask = async || attempt(&bench, &url, json!({})).await;
    // Not reached, for a time.
    bench.server.script_fault(Fault {
        times: 2,
        ..Fault::not_validated()
    });
    assert_eq!(ask().await, refused(400, "ValidationError"));
    assert_eq!(ask().await, refused(400, "ValidationError"));
    assert_eq!(listener.pushes().len(), 0, "nobody was asked");
    // Made, and the answer is lost: it is there when asked for again.
    bench.server.script_fault(Fault {
        path_contains: "/subscriptions".to_owned(),
        after: true,
        delivery: Delivery::Closed,
        ..Fault::default()
    });
    let wanted = bench.wanted(&url, ALL);
    let lost = bench.request(Method::POST, "/subscriptions").json(&wanted);
    assert!(lost.send().await.is_err());
    assert_eq!(ask().await.0, 409);
    let id = bench.server.subscriptions()[0].id.clone();
    bench.server.script_fault(Fault {
        method: Some("PATCH".to_owned()),
        ..Fault::graph(404, "ResourceNotFound", "The object was not found.")
    });
    let later = json!({"expirationDateTime": bench.ahead(600)});
    let path = format!("/subscriptions/{id}");
    assert_eq!(bench.send(Method::PATCH, &path, &later).await.0, 404);
    assert_eq!(bench.send(Method::PATCH, &path, &later).await.0, 200);
}

#[tokio::test]
async fn pushes_are_lost_doubled_and_late_by_chance() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.subscribe(&listener.url("/"), ALL, "").await;
    listener.forget();
    let run = async |faults: PushFaults| {
        bench.server.set_pushes(faults);
        let before = bench.server.push_counts();
        let mut created = Vec::new();
        for _ in 0..60 {
            let event = meeting("x", "2026-03-03T10:00:00");
            created.push(bench.server.create_event(ALEX, None, &event).unwrap());
        }
        let told = told(&bench, &listener).await;
        let lost = bench.server.push_counts().lost - before.lost;
        let mut once = told.clone();
        once.dedup();
        (lost, told.len(), once.len(), kinds(&told).len())
    };
    let faults = |seed| PushFaults {
        seed,
        lost_per_mille: 300,
        doubled_per_mille: 300,
        late_per_mille: 200,
        late_ms: 50,
        ..PushFaults::default()
    };
    let (lost, told, once, _) = run(faults(3)).await;
    assert!((5..35).contains(&lost), "{lost}");
    assert_eq!(once as u64, 60 - lost);
    assert!(told > once + 3, "{told} of {once}");
    assert_eq!(run(PushFaults::default()).await, (0, 60, 60, 60));
    let all = PushFaults {
        lost_per_mille: 1000,
        ..PushFaults::default()
    };
    assert_eq!(run(all).await.0, 60);
    // Absurd ones, too.
    let (status, _) = admin(
        &bench,
        Method::PUT,
        "pushes",
        json!({"delayMs": u64::MAX, "lateMs": u64::MAX,
        "latePerMille": 1000, "visibleAfterMs": u64::MAX}),
    )
    .await;
    assert_eq!(status, 200);
    bench
        .server
        .create_event(ALEX, None, &meeting("x", "2026-03-03T10:00:00"))
        .unwrap();
    assert_eq!(bench.server.push_counts().waiting, 1);
}
