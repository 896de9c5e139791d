//! What can be made to go wrong with an answer, over real HTTP with a plain client.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::time::{Duration, Instant};

use calendar_simulator::{Delivery, Fault, FaultPlan, Quirks, RandomFault, RetryAfter};
use reqwest::Method;
use serde_json::{Value, json};
use support::subscribing::admin;
use support::{ALEX, Bench, FROM, IMMUTABLE, MEGAN, TO, delta, meeting};

/// Status and body of a GET; `Err` where the connection broke, with the status if there was one.
async fn attempt(bench: &Bench, path: &str) -> Result<(u16, String), Option<u16>> {
    let answer = bench
        .request(Method::GET, path)
        .header("Prefer", format!("{IMMUTABLE}, odata.maxpagesize=5"))
        .send()
        .await
        .map_err(|_| None)?;
    let status = answer.status().as_u16();
    let body = answer.text().await.map_err(|_| Some(status))?;
    Ok((status, body))
}

async fn create(bench: &Bench, subject: &str) -> Result<u16, reqwest::Error> {
    let event = meeting(subject, "2026-03-03T10:00:00");
    let answer = bench
        .request(Method::POST, "/me/events")
        .json(&event)
        .send()
        .await?;
    Ok(answer.status().as_u16())
}

/// Status and whether it met a fault, of every request since the last time.
fn recorded(bench: &Bench) -> Vec<(u16, bool)> {
    let requests = bench.server.requests();
    bench.server.clear_requests();
    requests
        .iter()
        .map(|request| (request.status, request.fault))
        .collect()
}

fn subjects(bench: &Bench) -> Vec<String> {
    let events = bench.server.events(ALEX, None).unwrap();
    events
        .iter()
        .map(|event| event["subject"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn an_answer_can_be_anything() {
    let bench = Bench::calm().await;
    for (status, body, seen) in [
        (503, Value::Null, ""),
        (
            502,
            json!("<html>Bad Gateway</html>"),
            "<html>Bad Gateway</html>",
        ),
        (200, json!("<html>a portal</html>"), "<html>a portal</html>"),
        (200, json!({"unexpected": [1]}), r#"{"unexpected":[1]}"#),
        (200, Value::Null, ""),
        (
            418,
            json!({"error": {"code": ""}}),
            r#"{"error":{"code":""}}"#,
        ),
    ] {
        bench.server.script_fault(Fault {
            status,
            body,
            headers: vec![("X-Odd".to_owned(), "1".to_owned())],
            ..Fault::default()
        });
        let answer = bench.get("/me").await;
        assert_eq!(answer.status().as_u16(), status);
        assert_eq!(answer.headers()["x-odd"], "1");
        assert_eq!(answer.text().await.unwrap(), seen);
        assert_eq!(bench.get("/me").await.status(), 200, "once");
    }
    bench
        .server
        .script_fault(Fault::graph(410, "SyncStateNotFound", "Gone."));
    let (status, code) = bench.refusal("/me/calendars").await;
    assert_eq!((status, code.as_str()), (410, "SyncStateNotFound"));
}

#[tokio::test]
async fn retry_after_comes_in_every_form() {
    let bench = Bench::calm().await;
    bench
        .server
        .set_clock("2026-03-01T12:00:00Z".parse().unwrap(), true);
    for (form, seen) in [
        (None, None),
        (Some(RetryAfter::Seconds(7)), Some("7")),
        (Some(RetryAfter::Seconds(0)), Some("0")),
        (
            Some(RetryAfter::Seconds(u64::MAX)),
            Some("18446744073709551615"),
        ),
        (
            Some(RetryAfter::Date(90)),
            Some("Sun, 01 Mar 2026 12:01:30 GMT"),
        ),
        (
            Some(RetryAfter::Date(-90)),
            Some("Sun, 01 Mar 2026 11:58:30 GMT"),
        ),
        (
            Some(RetryAfter::Date(i64::MAX)),
            Some("Thu, 30 Dec 9999 22:00:00 GMT"),
        ),
    ] {
        for path in ["/v1.0/me", "/common/oauth2/v2.0/token"] {
            bench.server.script_fault(Fault {
                path_contains: String::new(),
                retry_after: form,
                ..Fault::graph(429, "TooManyRequests", "")
            });
            let url = format!("{}{path}", bench.server.url());
            let answer = bench
                .http
                .get(url)
                .bearer_auth(&bench.token)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 429);
            let header = |name: &str| {
                let value = answer.headers().get(name)?;
                Some(value.to_str().unwrap().to_owned())
            };
            assert_eq!(header("retry-after").as_deref(), seen, "{path}");
            if matches!(form, Some(RetryAfter::Date(_))) {
                let date = header("date");
                assert_eq!(date.as_deref(), Some("Sun, 01 Mar 2026 12:00:00 GMT"));
            }
        }
    }
}

#[tokio::test]
async fn a_connection_closes_before_an_answer() {
    let bench = Bench::calm().await;
    let closed = Fault {
        method: Some("POST".to_owned()),
        delivery: Delivery::Closed,
        ..Fault::default()
    };
    bench.server.script_fault(closed.clone());
    assert!(create(&bench, "never").await.is_err());
    assert_eq!(recorded(&bench), [(0, true)], "asked once");
    assert_eq!(subjects(&bench), [] as [&str; 0], "not carried out");
    assert_eq!(create(&bench, "then").await.unwrap(), 201);
    assert_eq!(recorded(&bench), [(201, false)]);

    // It was done, and nobody hears of it.
    bench.server.script_fault(Fault {
        after: true,
        ..closed
    });
    assert!(create(&bench, "lost").await.is_err());
    assert_eq!(recorded(&bench), [(201, true)]);
    bench.server.script_fault(Fault {
        after: true,
        ..Fault::graph(503, "serviceNotAvailable", "")
    });
    assert_eq!(create(&bench, "denied").await.unwrap(), 503);
    assert_eq!(recorded(&bench), [(503, true)]);
    assert_eq!(subjects(&bench), ["then", "lost", "denied"]);
}

#[tokio::test]
async fn a_body_ends_too_soon() {
    let bench = Bench::calm().await;
    create(&bench, "x").await.unwrap();
    let whole = attempt(&bench, "/me/events").await.unwrap().1;
    let deliver = |delivery| {
        bench.server.script_fault(Fault {
            delivery,
            ..Fault::default()
        });
    };
    deliver(Delivery::Cut);
    let mut answer = bench.get("/me/events").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.content_length(), Some(whole.len() as u64));
    let mut came = 0;
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => came += chunk.len(),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(broken, "half of it looks like the whole");
    assert_eq!(came, whole.len() / 2);

    deliver(Delivery::Truncated);
    let (status, body) = attempt(&bench, "/me/events").await.unwrap();
    assert_eq!((status, body.len()), (200, whole.len() / 2));
    assert!(serde_json::from_str::<Value>(&body).is_err());

    // Of a refusal, too; where there is no body, there is no answer.
    bench.server.script_fault(Fault {
        delivery: Delivery::Cut,
        ..Fault::graph(500, "generalException", "")
    });
    assert_eq!(attempt(&bench, "/me/events").await, Err(Some(500)));
    bench.server.script_fault(Fault {
        status: 500,
        delivery: Delivery::Cut,
        ..Fault::default()
    });
    assert_eq!(attempt(&bench, "/me/events").await, Err(None));
}

#[tokio::test]
async fn a_body_trickles_and_is_under_way_until_its_end() {
    let bench = Bench::calm().await;
    create(&bench, "x").await.unwrap();
    let whole = attempt(&bench, "/me/events").await.unwrap().1;
    bench.server.script_fault(Fault {
        delivery: Delivery::Slow {
            pieces: 8,
            pause_ms: 40,
        },
        ..Fault::default()
    });
    let since = Instant::now();
    let mut answer = bench.get("/me/events").await;
    let mut text = Vec::new();
    while let Some(piece) = answer.chunk().await.unwrap() {
        text.extend_from_slice(&piece);
        if text.len() < whole.len() {
            assert_eq!(bench.server.in_flight()[0].now, 1);
        }
    }
    assert!(since.elapsed() >= Duration::from_millis(8 * 40));
    assert_eq!(text.len(), whole.len());
    assert!(serde_json::from_slice::<Value>(&text).is_ok());
    support::listener::until("it has ended", || bench.server.in_flight()[0].now == 0).await;
}

#[tokio::test]
async fn a_fault_meets_the_requests_it_is_for() {
    let bench = Bench::calm().await;
    let fault = json!({
        "method": "get", "pathContains": "/ME/calendars", "mailbox": ALEX, "skip": 1, "times": 2,
        "status": 500, "retryAfter": {"date": 5}, "delivery": {"slow": {"pieces": 2, "pauseMs": 1}},
    });
    let (status, waiting) = admin(&bench, Method::POST, "faults", fault).await;
    assert_eq!((status, &waiting["given"]), (200, &json!(0)));
    let mut other = Bench {
        token: bench.server.issue_access_token(MEGAN).unwrap(),
        http: bench.http.clone(),
        server: bench.server,
    };
    assert_eq!(other.get("/me/calendars").await.status(), 200);
    other.token = other.server.issue_access_token(ALEX).unwrap();
    let bench = other;
    let mut seen = Vec::new();
    for path in ["calendars", "calendars", "events", "calendars", "calendars"] {
        seen.push(bench.get(&format!("/me/{path}")).await.status().as_u16());
    }
    assert_eq!(seen, [200, 500, 200, 500, 200]);
    let (_, waiting) = admin(&bench, Method::GET, "faults", Value::Null).await;
    assert_eq!(waiting, json!({"value": [], "given": 2}));

    // Until told otherwise.
    bench.server.script_fault(Fault {
        times: 0,
        ..Fault::graph(503, "serviceNotAvailable", "")
    });
    for _ in 0..20 {
        assert_eq!(bench.get("/me").await.status(), 503);
    }
    admin(&bench, Method::DELETE, "faults", Value::Null).await;
    assert_eq!(bench.get("/me").await.status(), 200);
    let odd = json!({"delivery": "sideways"});
    assert_eq!(admin(&bench, Method::POST, "faults", odd).await.0, 400);
}

#[tokio::test]
async fn drawn_faults_follow_from_the_seed() {
    let bench = Bench::calm().await;
    let plan = |seed| {
        json!({"seed": seed, "faults": [
            {"perMille": 200, "fault": {"times": 0, "status": 503, "pathContains": "/me"}},
            {"perMille": 200, "fault": {"times": 0, "delivery": "closed", "pathContains": "/me"}},
        ]})
    };
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let (status, set) = admin(&bench, Method::PUT, "fault-plan", plan(seed)).await;
        assert_eq!((status, &set["seed"]), (200, &json!(seed)));
        let mut seen = Vec::new();
        for _ in 0..60 {
            seen.push(attempt(&bench, "/me").await.map(|(status, _)| status));
        }
        runs.push(seen);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    for outcome in [Ok(200), Ok(503), Err(None)] {
        assert!(runs[0].contains(&outcome), "{outcome:?}");
    }
    let (_, set) = admin(&bench, Method::GET, "fault-plan", Value::Null).await;
    assert_eq!(set["faults"].as_array().unwrap().len(), 2);
    bench.server.clear_faults();
    assert_eq!(bench.server.fault_plan(), FaultPlan::default());
    for _ in 0..30 {
        assert_eq!(attempt(&bench, "/me").await.unwrap().0, 200);
    }
}

#[tokio::test]
async fn a_scripted_fault_comes_before_a_drawn_one() {
    let bench = Bench::calm().await;
    bench.server.set_fault_plan(FaultPlan {
        seed: 1,
        faults: vec![RandomFault {
            per_mille: 1000,
            fault: Fault {
                times: 0,
                ..Fault::graph(500, "generalException", "")
            },
        }],
    });
    bench
        .server
        .script_fault(Fault::graph(410, "resyncRequired", ""));
    assert_eq!(bench.get("/me").await.status(), 410);
    assert_eq!(bench.get("/me").await.status(), 500);
}

#[tokio::test]
async fn who_tries_again_gets_through_everything_transient() {
    let bench = Bench::with(Quirks {
        latency_ms: 0,
        ..Quirks::default()
    })
    .await;
    for n in 10..28 {
        let event = meeting(&n.to_string(), &format!("2026-03-{n}T10:00:00"));
        bench.server.create_event(ALEX, None, &event).unwrap();
    }
    let truth = bench
        .server
        .instances(ALEX, None, FROM.parse().unwrap(), TO.parse().unwrap());
    let truth = truth.unwrap().len();
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..20 {
        bench.server.set_fault_plan(FaultPlan::transient(seed, 25));
        let mut link = delta();
        let mut ids = std::collections::BTreeSet::new();
        let mut tries = 0;
        loop {
            tries += 1;
            assert!(tries < 500, "seed {seed} never ends");
            let outcome = attempt(&bench, &link).await;
            kinds.insert(
                outcome
                    .as_ref()
                    .map_err(|status| *status)
                    .map(|(status, _)| *status),
            );
            if matches!(outcome, Ok((410, _))) {
                link = delta();
                ids.clear();
            }
            let Ok((200, body)) = outcome else { continue };
            let Ok(page) = serde_json::from_str::<Value>(&body) else {
                continue;
            };
            for row in page["value"].as_array().into_iter().flatten() {
                ids.insert(row["id"].as_str().unwrap().to_owned());
            }
            match (&page["@odata.nextLink"], &page["@odata.deltaLink"]) {
                (Value::String(next), _) => link.clone_from(next),
                (_, Value::String(_)) => break,
                _ => {}
            }
        }
        assert_eq!(ids.len(), truth, "seed {seed}");
    }
    for kind in [
        Ok(401),
        Ok(410),
        Ok(429),
        Ok(500),
        Ok(503),
        Err(None),
        Err(Some(200)),
    ] {
        assert!(kinds.contains(&kind), "{kind:?} is not among {kinds:?}");
    }
    assert!(bench.server.faults_given() > 50);
}

#[tokio::test]
async fn the_clock_jumps_anywhere() {
    let bench = Bench::calm().await;
    create(&bench, "x").await.unwrap();
    let token = |bench: &Bench| bench.server.issue_access_token(ALEX).unwrap();
    let mut bench = bench;
    let years = 365 * 86_400;
    // At the end of time every token has ended.
    for (jump, status) in [
        (7200, 200),
        (-years, 200),
        (10 * years, 200),
        (-10 * years, 200),
        (i64::MAX, 401),
        (i64::MIN, 200),
    ] {
        bench.server.advance_clock(jump);
        bench.token = token(&bench);
        let answer = bench.get("/me/events").await;
        assert_eq!(answer.status().as_u16(), status, "{jump}");
        bench.server.set_clock(FROM.parse().unwrap(), false);
    }
    // An hour on, what was issued before has ended; back again, it has not.
    bench.token = token(&bench);
    bench.server.advance_clock(3600);
    assert_eq!(bench.get("/me").await.status(), 401);
    bench.server.advance_clock(-3600);
    assert_eq!(bench.get("/me").await.status(), 200);
}
