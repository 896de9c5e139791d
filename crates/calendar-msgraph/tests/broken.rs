//! The adapter when connections break, answers are lost, and answers are not what they seem: nothing panics, no part is
//! taken for the whole, and each failure says what can be done about it.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use calendar_domain::event::{EventChange, ProviderEventId};
use calendar_domain::failure::FailureClass::{
    Authentication, Conflict, NeedsResync, Permanent, RateLimited, Retryable,
};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ports::{Authorizer, CalendarDirectory, CalendarReader, ChangeNotifier};
use calendar_domain::subscription::{ProviderSubscription, PushEndpoint};
use calendar_domain::sync::{CalendarRef, ChangesFrom, Mailbox, NextPage};
use calendar_simulator::{Delivery, ENTRA_REFUSALS, Fault, FaultPlan, Quirks, RetryAfter, Untruth};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use support::{ADA, Bench, WINDOW, daily, error_body, meeting};

const TOKEN: &str = "/oauth2/v2.0/token";

/// Every call that Graph is asked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Identity,
    Calendars,
    Changes,
    Event,
    Instances,
    Subscriptions,
    Subscribe,
    Renew,
}

const CALLS: [Call; 8] = [
    Call::Identity,
    Call::Calendars,
    Call::Changes,
    Call::Event,
    Call::Instances,
    Call::Subscriptions,
    Call::Renew,
    Call::Subscribe,
];

/// A mailbox with more of everything than a page holds.
struct Full {
    bench: Bench,
    master: ProviderEventId,
}

impl Full {
    async fn new() -> Self {
        let bench = Bench::manual().await;
        for n in 10..28 {
            let day = format!("2026-03-{n}T");
            let event = meeting("x", &format!("{day}10:00:00"), &format!("{day}11:00:00"));
            bench.server.create_event(ADA, None, &event).unwrap();
        }
        for n in 0..12 {
            bench.server.create_calendar(ADA, &n.to_string()).unwrap();
        }
        let master = bench.server.create_event(ADA, None, &daily("y")).unwrap();
        let full = Self {
            bench,
            master: ProviderEventId(master),
        };
        full.count(Call::Subscribe).await.unwrap();
        full
    }

    fn subscription(&self) -> String {
        self.bench.server.subscriptions()[0].id.clone()
    }

    /// How much a call gives. A new subscription replaces the one there is.
    async fn count(&self, call: Call) -> PortResult<usize> {
        let Bench {
            server,
            graph,
            token,
            calendar,
        } = &self.bench;
        let count = match call {
            Call::Identity => graph.identity(token).await.map(|_| 1),
            Call::Calendars => {
                let all = graph.calendars(token, &Mailbox::Own).await;
                all.map(|all| all.len())
            }
            Call::Changes => {
                let start = ChangesFrom::Start(WINDOW);
                let page = graph.changes(token, calendar, &start).await;
                page.map(|page| page.changes.len())
            }
            Call::Event => {
                let event = graph.event(token, calendar, &self.master).await;
                event.map(|event| usize::from(event.is_some()))
            }
            Call::Instances => {
                let all = graph.instances(token, calendar, &self.master, WINDOW).await;
                all.map(|all| all.len())
            }
            Call::Subscriptions => graph.subscriptions(token).await.map(|all| all.len()),
            Call::Subscribe => {
                for other in server.subscriptions() {
                    server.remove_subscription(&other.id).unwrap();
                }
                subscribe(&self.bench).await.map(|_| 1)
            }
            Call::Renew => graph.renew(token, &self.subscription()).await.map(|_| 1),
        };
        let text = format!("{count:?}");
        assert!(!text.contains("hush") && !text.contains(ADA), "{text}");
        count
    }
}

async fn subscribe(bench: &Bench) -> PortResult<ProviderSubscription> {
    let endpoint = PushEndpoint {
        notification_url: "https://calendar.example.com/hook".to_owned(),
        lifecycle_url: "https://calendar.example.com/life".to_owned(),
    };
    let state = SecretString::from("hush-state");
    bench.graph.subscribe(&bench.token, &endpoint, &state).await
}

fn told(error: &PortError) -> (FailureClass, &str) {
    (error.class, error.code.as_str())
}

fn delivered(delivery: Delivery, after: bool) -> Fault {
    Fault {
        after,
        delivery,
        ..Fault::default()
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_by_nobody_but_the_caller() {
    let full = Full::new().await;
    let server = &full.bench.server;
    for call in CALLS {
        let whole = full.count(call).await.unwrap();
        for (delivery, after, code) in [
            (Delivery::Closed, false, "connection_failed"),
            (Delivery::Cut, false, "connection_failed"),
            (Delivery::Truncated, false, "answer_unreadable"),
            (Delivery::Closed, true, "connection_failed"),
        ] {
            server.clear_requests();
            server.script_fault(delivered(delivery, after));
            let error = full.count(call).await.unwrap_err();
            assert_eq!(told(&error), (Retryable, code), "{call:?} {delivery:?}");
            assert_eq!(server.requests().len(), 1, "{call:?} {delivery:?}");
            if call == Call::Subscribe && after {
                assert_eq!(server.subscriptions().len(), 1, "it was made");
            }
        }
        assert_eq!(full.count(call).await.unwrap(), whole, "{call:?}");
    }
}

#[tokio::test]
async fn an_answer_of_another_shape_is_no_answer() {
    let full = Full::new().await;
    for call in CALLS {
        for body in [
            json!("<html><body>Sign in to the network</body></html>"),
            json!(""),
            json!("{}"),
            json!("[]"),
            json!("null"),
            json!("7"),
            json!({"unexpected": true}),
            json!({"value": null}),
            json!({"value": {"id": "x"}}),
            error_body("UnknownError"),
        ] {
            full.bench.server.script_fault(Fault {
                status: 200,
                body: body.clone(),
                ..Fault::default()
            });
            let outcome = full.count(call).await;
            let error = outcome.expect_err(&format!("{call:?} believed {body}"));
            assert_eq!(
                told(&error),
                (Retryable, "answer_unreadable"),
                "{call:?} {body}"
            );
        }
    }
}

#[tokio::test]
async fn a_list_that_breaks_on_a_later_page_is_no_list() {
    let full = Full::new().await;
    let refused = |status, code: &str| Fault::graph(status, code, "");
    for call in [Call::Calendars, Call::Instances] {
        for (fault, class) in [
            (delivered(Delivery::Closed, false), Retryable),
            (delivered(Delivery::Cut, false), Retryable),
            (delivered(Delivery::Truncated, false), Retryable),
            (refused(429, "ApplicationThrottled"), RateLimited),
            (refused(503, ""), Retryable),
            (refused(401, "InvalidAuthenticationToken"), Authentication),
            (refused(403, "ErrorAccessDenied"), Permanent),
            (
                Fault {
                    status: 200,
                    ..Fault::default()
                },
                Retryable,
            ),
        ] {
            full.bench.server.script_fault(Fault {
                path_contains: String::new(),
                skip: 1,
                ..fault.clone()
            });
            let error = full.count(call).await.unwrap_err();
            assert_eq!(error.class, class, "{call:?} {fault:?}");
            assert_eq!(full.bench.server.pending_faults(), []);
        }
    }
}

#[tokio::test]
async fn a_body_that_trickles_is_read_whole_and_counts_until_its_end() {
    let bench = Bench::with(
        Quirks {
            mailbox_concurrency: 4,
            ..Quirks::none()
        },
        |_| {},
    )
    .await;
    bench.server.create_event(ADA, None, &daily("x")).unwrap();
    let whole = bench
        .page(&ChangesFrom::Start(WINDOW))
        .await
        .unwrap()
        .0
        .len();
    bench.server.clear_in_flight();
    bench.server.script_fault(Fault {
        times: 0,
        ..delivered(
            Delivery::Slow {
                pieces: 6,
                pause_ms: 10,
            },
            false,
        )
    });
    let reads: Vec<_> = (0..12)
        .map(|_| {
            let (graph, token) = (bench.graph.clone(), bench.token.clone());
            let calendar = bench.calendar.clone();
            tokio::spawn(async move {
                let start = ChangesFrom::Start(WINDOW);
                let page = graph.changes(&token, &calendar, &start).await;
                page.map(|page| page.changes.len())
            })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap(), whole);
    }
    assert_eq!(bench.server.in_flight()[0].most, 4);
}

#[tokio::test]
async fn a_link_that_expires_in_mid_round_leads_nowhere() {
    let (full, other) = (Full::new().await, Bench::manual().await);
    let bench = &full.bench;
    let elsewhere = format!(
        "{}/me/calendarView/delta?$deltatoken=",
        other.server.graph_url()
    );
    let (_, next) = bench.page(&ChangesFrom::Start(WINDOW)).await.unwrap();
    let NextPage::More(cursor) = next else {
        panic!("one page only")
    };
    for (status, code) in [
        (410, "SyncStateNotFound"),
        (410, ""),
        (404, "resyncRequired"),
        (400, "syncStateInvalid"),
    ] {
        for location in [None, Some(&elsewhere)] {
            other.server.clear_requests();
            bench.server.clear_requests();
            let location = location.map(|to| ("Location".to_owned(), to.clone()));
            bench.server.script_fault(Fault {
                path_contains: "$skiptoken".to_owned(),
                headers: location.into_iter().collect(),
                ..Fault::graph(status, code, "")
            });
            let from = ChangesFrom::Cursor(cursor.clone());
            let error = bench.page(&from).await.unwrap_err();
            assert_eq!(error.class, NeedsResync, "{status} {code}");
            assert_eq!(bench.server.requests().len(), 1);
            assert_eq!(other.server.requests(), []);
        }
    }
}

#[tokio::test]
async fn after_a_denied_second_page_anothers_calendar_is_read_as_a_list() {
    let bench = Bench::with(
        Quirks {
            delegate_pages_denied: true,
            ..Quirks::none()
        },
        |_| {},
    )
    .await;
    let bob = "bob@example.com";
    bench.server.create_mailbox(bob, "Bob", "UTC").unwrap();
    bench.server.share_mailbox(bob, ADA, false).unwrap();
    for n in 10..20 {
        let day = format!("2026-03-{n}T");
        let event = meeting("x", &format!("{day}10:00:00"), &format!("{day}11:00:00"));
        bench.server.create_event(bob, None, &event).unwrap();
    }
    let mailbox = Mailbox::Delegate(bob.to_owned());
    let listed = bench.graph.calendars(&bench.token, &mailbox).await.unwrap();
    let calendar = CalendarRef {
        calendar_id: listed[0].id.clone(),
        mailbox,
    };
    let read = async |from| bench.graph.changes(&bench.token, &calendar, &from).await;
    let page = read(ChangesFrom::Start(WINDOW)).await.unwrap();
    assert_eq!(page.changes.len(), 5);
    let NextPage::More(cursor) = page.next else {
        panic!("a part is taken for the whole")
    };
    // The feed is denied from here on: the list takes over, from the start of the window.
    let mut found = BTreeSet::new();
    let mut next = cursor;
    loop {
        let page = read(ChangesFrom::Cursor(next)).await.unwrap();
        found.extend(page.changes.iter().map(|change| change.id().clone()));
        next = match page.next {
            NextPage::More(cursor) => cursor,
            NextPage::Done(_) => break,
        };
    }
    assert_eq!(found.len(), 10);
}

#[tokio::test]
async fn what_graph_leaves_out_is_not_made_up() {
    let full = Full::new().await;
    let bench = &full.bench;
    let untrue = |untruth| {
        bench.server.script_fault(Fault {
            times: 0,
            path_contains: "/delta".to_owned(),
            untruth: Some(untruth),
            ..Fault::default()
        });
    };
    let occurrences = |changes: &[EventChange]| {
        let all = changes.iter();
        all.filter(|change| matches!(change, EventChange::Occurrence(_)))
            .count()
    };
    untrue(Untruth::EmptyList);
    let (pages, changes, _) = bench.round(ChangesFrom::Start(WINDOW)).await;
    assert_eq!((pages, changes.len()), (1, 0));
    bench.server.clear_faults();
    let whole = occurrences(&bench.first_round().await);
    untrue(Untruth::Holes);
    let told = occurrences(&bench.first_round().await);
    assert!(told < whole, "{told} of {whole}");
    assert_eq!(full.count(Call::Instances).await.unwrap(), whole);
}

#[tokio::test]
async fn a_refresh_breaks_in_every_way() {
    let bench = Bench::manual().await;
    let issue = || SecretString::from(bench.server.issue_refresh_token(ADA).unwrap());
    let at_entra = |fault: Fault| {
        bench.server.script_fault(Fault {
            path_contains: TOKEN.to_owned(),
            ..fault
        });
    };
    for (fault, class, code) in [
        (
            delivered(Delivery::Closed, false),
            Retryable,
            "connection_failed",
        ),
        (
            delivered(Delivery::Cut, false),
            Retryable,
            "connection_failed",
        ),
        (
            delivered(Delivery::Truncated, false),
            Retryable,
            "answer_unreadable",
        ),
        (answer(200, "<html>"), Retryable, "answer_unreadable"),
        (answer(200, ""), Retryable, "answer_unreadable"),
        (
            answer(200, "{\"value\":[]}"),
            Retryable,
            "answer_unreadable",
        ),
        (answer(401, ""), Retryable, "answer_unreadable"),
        (answer(408, ""), Retryable, "http_408"),
        (answer(425, ""), Retryable, "http_425"),
        (answer(502, "<html>"), Retryable, "http_502"),
        (answer(404, ""), Permanent, "http_404"),
    ] {
        at_entra(fault.clone());
        let error = bench.graph.refresh(&issue()).await.unwrap_err();
        assert_eq!(told(&error), (class, code), "{fault:?}");
    }
    for (form, seconds) in [
        (RetryAfter::Seconds(0), 0),
        (RetryAfter::Seconds(9), 9),
        (RetryAfter::Seconds(u64::MAX), 3600),
        (RetryAfter::Date(40), 40),
        (RetryAfter::Date(-40), 0),
        (RetryAfter::Date(i64::MAX), 3600),
    ] {
        at_entra(Fault {
            retry_after: Some(form),
            ..answer(429, "")
        });
        let error = bench.graph.refresh(&issue()).await.unwrap_err();
        assert_eq!(told(&error), (RateLimited, "http_429"));
        let wait = Some(Duration::from_secs(seconds));
        assert_eq!(error.retry_after, wait, "{form:?}");
    }
    for (error, code, suberror) in ENTRA_REFUSALS {
        at_entra(Fault::entra(error, code, suberror));
        let failure = bench.graph.refresh(&issue()).await.unwrap_err();
        let expected = match code {
            700_082 => (Authentication, "grant_inactive"),
            50_173 => (Authentication, "grant_revoked"),
            70_008 | 700_084 => (Authentication, "grant_expired"),
            65_001 => (Authentication, "consent_required"),
            50_076 | 50_079 => (Authentication, "interaction_required"),
            53_003 => (Authentication, "policy_blocks_access"),
            50_057 => (Authentication, "user_disabled"),
            700_016 => (Permanent, "application_unknown"),
            7_000_222 => (Permanent, "client_secret_expired"),
            90_002 => (Permanent, error),
            90_006 => (Retryable, error),
            _ => (Authentication, error),
        };
        assert_eq!(told(&failure), expected, "{code}");
    }
    let token = issue();
    bench.server.expire_refresh_tokens(ADA).unwrap();
    let error = bench.graph.refresh(&token).await.unwrap_err();
    assert_eq!(told(&error), (Authentication, "grant_inactive"));
}

fn answer(status: u16, body: &str) -> Fault {
    Fault {
        status,
        body: body.into(),
        ..Fault::default()
    }
}

#[tokio::test]
async fn a_refresh_is_lost_or_gives_less() {
    let bench = Bench::manual().await;
    bench.server.set_single_use_refresh_tokens(true);
    let issue = || SecretString::from(bench.server.issue_refresh_token(ADA).unwrap());
    let token = issue();
    bench.server.script_fault(Fault {
        path_contains: TOKEN.to_owned(),
        ..delivered(Delivery::Closed, true)
    });
    let error = bench.graph.refresh(&token).await.unwrap_err();
    assert_eq!(told(&error), (Retryable, "connection_failed"));
    let error = bench.graph.refresh(&token).await.unwrap_err();
    assert_eq!(told(&error), (Authentication, "invalid_grant"), "used up");

    let untrue = |untruth| {
        bench.server.script_fault(Fault {
            path_contains: TOKEN.to_owned(),
            untruth: Some(untruth),
            ..Fault::default()
        });
    };
    untrue(Untruth::NoRefreshToken);
    let grant = bench.graph.refresh(&issue()).await.unwrap();
    assert!(grant.refresh_token.is_none());
    assert!(bench.graph.identity(&grant.access_token).await.is_ok());

    untrue(Untruth::FewerScopes);
    let grant = bench.graph.refresh(&issue()).await.unwrap();
    assert!(!grant.scopes.contains("Calendars"), "{}", grant.scopes);
    let start = ChangesFrom::Start(WINDOW);
    let changes = bench
        .graph
        .changes(&grant.access_token, &bench.calendar, &start);
    let error = changes.await.unwrap_err();
    assert_eq!(told(&error), (Permanent, "calendar_access_denied"));
    assert!(!format!("{error:?}").contains(grant.access_token.expose_secret()));
}

#[tokio::test]
async fn a_subscription_that_was_lost_on_its_way_is_found() {
    let bench = Bench::manual().await;
    bench.server.script_fault(Fault::not_validated());
    let error = subscribe(&bench).await.unwrap_err();
    assert_eq!(told(&error), (Retryable, "push_endpoint_unreachable"));

    bench.server.script_fault(delivered(Delivery::Closed, true));
    let error = subscribe(&bench).await.unwrap_err();
    assert_eq!(told(&error), (Retryable, "connection_failed"));
    assert_eq!(subscribe(&bench).await.unwrap_err().class, Conflict);
    let found = bench.graph.subscriptions(&bench.token).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].subscription_id, bench.server.subscriptions()[0].id);

    bench.server.script_fault(Fault {
        method: Some("PATCH".to_owned()),
        ..Fault::graph(404, "ResourceNotFound", "")
    });
    let renew = async || {
        let id = &found[0].subscription_id;
        bench.graph.renew(&bench.token, id).await
    };
    let error = renew().await.unwrap_err();
    assert_eq!(told(&error), (Permanent, "subscription_not_found"));
    renew().await.unwrap();
    bench
        .server
        .remove_subscription(&found[0].subscription_id)
        .unwrap();
    let error = renew().await.unwrap_err();
    assert_eq!(told(&error), (Permanent, "subscription_not_found"));
}

#[tokio::test]
async fn who_tries_again_as_told_reads_everything() {
    let full = Full::new().await;
    let bench = &full.bench;
    let whole: BTreeSet<String> = ids(&bench.first_round().await);
    let (mut classes, mut failures) = (BTreeSet::new(), 0);
    for seed in 0..25 {
        bench.server.set_fault_plan(FaultPlan::transient(seed, 30));
        let (mut from, mut seen) = (ChangesFrom::Start(WINDOW), BTreeSet::new());
        for tries in 0.. {
            assert!(tries < 500, "seed {seed} never ends");
            match bench.page(&from).await {
                Ok((changes, next)) => {
                    seen.extend(ids(&changes));
                    match next {
                        NextPage::More(cursor) => from = ChangesFrom::Cursor(cursor),
                        NextPage::Done(_) => break,
                    }
                }
                Err(error) => {
                    failures += 1;
                    classes.insert(error.class.as_str());
                    let longest = Some(Duration::from_hours(1));
                    assert!(error.retry_after <= longest, "{error:?}");
                    match error.class {
                        NeedsResync => (from, seen) = (ChangesFrom::Start(WINDOW), BTreeSet::new()),
                        Retryable | RateLimited | Authentication => {}
                        _ => panic!("seed {seed}: {error:?}"),
                    }
                }
            }
        }
        assert_eq!(seen, whole, "seed {seed}");
    }
    let expected = [
        "authentication",
        "needs_resync",
        "rate_limited",
        "retryable",
    ];
    assert!(classes.iter().copied().eq(expected), "{classes:?}");
    assert!(failures > 50, "{failures}");
}

/// What a page names.
fn ids(changes: &[EventChange]) -> BTreeSet<String> {
    changes
        .iter()
        .map(|change| change.id().as_str().to_owned())
        .collect()
}
