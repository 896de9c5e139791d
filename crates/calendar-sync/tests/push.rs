//! Seeing to an account's push, over mocked ports: what is asked of the provider, what is stored, when it
//! is tried again, and what passes make of it.
//! Long because each rule has a test of its own, all over the same mocks.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration as StdDuration;

use calendar_domain::account::{Account, AccountIdentity, StoredTokens, TokenSet};
use calendar_domain::event::{EventChange, EventSpan, Occurrence};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{AccountId, ConnectionId, SubscriptionId, UserId, WorkerId};
use calendar_domain::ports::{
    Clock, MockAuthorizer, MockCalendarDirectory, MockCalendarReader, MockChangeNotifier,
    MockConnectionStore, MockEventStore, MockSecrets, MockSubscriptionStore, MockSyncQueue,
};
use calendar_domain::provider::{CalendarProvider, Capabilities};
use calendar_domain::subscription::{
    ClaimedPush, KnownSubscription, ProviderSubscription, PushEndpoint, PushLook, PushWork,
    WebhookSubscription,
};
use calendar_domain::sync::{
    AfterPage, Applied, CalendarRef, ChangesPage, Claim, Cursor, DueConnection, Lease, Mailbox,
    NextPage, PassEnd, SyncWindow,
};
use calendar_sync::{Provider, Providers, SyncAccount, SyncSettings};
use mockall::Sequence;
use mockall::predicate::eq;
use secrecy::{ExposeSecret as _, SecretString};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;

const NOW: OffsetDateTime = datetime!(2026-01-05 9:00 UTC);
const WEEK: Duration = Duration::days(7);
const URL: &str = "https://calendar.example/webhooks/microsoft";

/// A clock that a test sets.
struct TestClock(Mutex<OffsetDateTime>);

impl Clock for TestClock {
    fn now(&self) -> OffsetDateTime {
        *self.0.lock().unwrap()
    }
}

/// The mocked ports of one claim. What a test does not expect panics when it is called.
struct Ports {
    clock: Arc<TestClock>,
    queue: MockSyncQueue,
    events: MockEventStore,
    connections: MockConnectionStore,
    subscriptions: MockSubscriptionStore,
    authorizer: MockAuthorizer,
    reader: MockCalendarReader,
    notifier: MockChangeNotifier,
}

impl Ports {
    fn new() -> Self {
        let mut queue = MockSyncQueue::new();
        queue.expect_release().returning(|_| Ok(()));
        let mut reader = MockCalendarReader::new();
        reader
            .expect_is_feed()
            .returning(|cursor| !cursor.0.starts_with("list"));
        reader.expect_capabilities().return_const(Capabilities {
            window_bound: true,
            silent_holes: true,
        });
        Self {
            clock: Arc::new(TestClock(Mutex::new(NOW))),
            queue,
            events: MockEventStore::new(),
            connections: MockConnectionStore::new(),
            subscriptions: MockSubscriptionStore::new(),
            authorizer: MockAuthorizer::new(),
            reader,
            notifier: MockChangeNotifier::new(),
        }
    }

    /// What the store says that there is to see to.
    fn work(&mut self, work: PushWork) {
        self.subscriptions
            .expect_push_work()
            .times(1)
            .return_once(|_| Ok(work));
    }

    /// A pass that reads one page with these changes.
    fn passes(&mut self, changes: Vec<EventChange>, applied: Applied) -> Arc<Mutex<Vec<PassEnd>>> {
        self.reader.expect_changes().returning(move |_, _, _| {
            Ok(ChangesPage {
                changes: changes.clone(),
                next: NextPage::Done(Cursor("d2".to_owned())),
            })
        });
        self.events
            .expect_unknown_masters()
            .returning(|_, _| Ok(Vec::new()));
        self.events
            .expect_touched_series()
            .returning(|_, _, _, _| Ok(Vec::new()));
        let ends = Arc::new(Mutex::new(Vec::new()));
        let seen = ends.clone();
        self.events.expect_apply().returning(move |_, batch, _| {
            if let AfterPage::Finish(end) = batch.then {
                seen.lock().unwrap().push(end);
            }
            Ok(applied)
        });
        let seen = ends.clone();
        self.events
            .expect_finish()
            .returning(move |_, _, _, end, _| {
                seen.lock().unwrap().push(end);
                Ok(0)
            });
        ends
    }

    fn use_case(self) -> SyncAccount {
        let mut secrets = MockSecrets::new();
        secrets
            .expect_generate()
            .returning(|| Ok(SecretString::from("state")));
        secrets
            .expect_fingerprint()
            .withf(|secret| secret.expose_secret() == "state")
            .returning(|_| [7; 32]);
        let provider = Provider {
            authorizer: Arc::new(self.authorizer),
            directory: Arc::new(MockCalendarDirectory::new()),
            reader: Arc::new(self.reader),
            notifier: Arc::new(self.notifier),
            push: Some(PushEndpoint {
                notification_url: URL.to_owned(),
                lifecycle_url: format!("{URL}/lifecycle"),
            }),
        };
        SyncAccount {
            queue: Arc::new(self.queue),
            events: Arc::new(self.events),
            connections: Arc::new(self.connections),
            subscriptions: Arc::new(self.subscriptions),
            secrets: Arc::new(secrets),
            providers: Arc::new(Providers::new().with(CalendarProvider::Microsoft, provider)),
            clock: self.clock,
            settings: SyncSettings {
                past: Duration::days(90),
                future: Duration::days(365),
                poll: StdDuration::from_mins(5),
                poll_pushed: StdDuration::from_hours(6),
                lease_ttl: StdDuration::from_mins(1),
            },
        }
    }

    /// Works on a claim whose push is due, without a connection that is.
    async fn run(self) {
        self.run_claim(claim(true, Vec::new())).await;
    }

    async fn run_claim(self, claim: Claim) {
        let (_stop, stop) = watch::channel(false);
        self.use_case().run(claim, &stop).await;
    }
}

fn claim(push_is_due: bool, connections: Vec<DueConnection>) -> Claim {
    let account_id = AccountId::new();
    Claim {
        lease: Lease {
            account_id,
            owner: WorkerId::new(),
            fence: 7,
        },
        account: Account {
            id: account_id,
            user_id: UserId::new(),
            provider: CalendarProvider::Microsoft,
            identity: AccountIdentity {
                tenant_id: String::new(),
                provider_user_id: "u".to_owned(),
                email: None,
                display_name: None,
            },
            needs_reauth: None,
        },
        push: ClaimedPush {
            is_due: push_is_due,
            is_healthy: !push_is_due,
        },
        turns: 2,
        connections,
    }
}

fn tokens() -> StoredTokens {
    StoredTokens::Open(TokenSet {
        access_token: SecretString::from("token"),
        refresh_token: Some(SecretString::from("refresh")),
        expires_at: NOW + Duration::days(1),
    })
}

/// A synced connection that is due.
fn due(push_look: Option<PushLook>, is_shared: bool) -> DueConnection {
    let window = SyncWindow::around(NOW, Duration::days(90), Duration::days(365));
    DueConnection {
        id: ConnectionId::new(),
        user_id: UserId::new(),
        calendar: CalendarRef {
            calendar_id: "cal".to_owned(),
            mailbox: Mailbox::Own,
        },
        tokens: tokens(),
        synced: Some((Cursor("delta".to_owned()), window)),
        pass: None,
        last_synced_at: Some(NOW - Duration::HOUR),
        is_shared,
        push_look,
        requested_seq: 0,
        failure_count: 0,
        removal_held: false,
        has_rejected_due: false,
    }
}

/// An account without a subscription.
fn nothing() -> PushWork {
    PushWork {
        anchor: Some(ConnectionId::new()),
        subscription: None,
        tokens: tokens(),
        failure_count: 0,
        silent_since: None,
    }
}

/// An account with a subscription that was made a day ago.
fn subscribed(expires_at: OffsetDateTime) -> PushWork {
    PushWork {
        subscription: Some(WebhookSubscription {
            id: SubscriptionId::new(),
            connection_id: ConnectionId::new(),
            provider: CalendarProvider::Microsoft,
            subscription_id: "old".to_owned(),
            resource_path: Some("me/events".to_owned()),
            notification_url: Some(URL.to_owned()),
            expires_at,
            is_active: true,
            last_notification_at: None,
            renewed_at: None,
            created_at: NOW - Duration::DAY,
            updated_at: NOW - Duration::DAY,
        }),
        ..nothing()
    }
}

fn answer(id: &str, url: &str) -> ProviderSubscription {
    ProviderSubscription {
        subscription_id: id.to_owned(),
        resource_path: "me/events".to_owned(),
        notification_url: url.to_owned(),
        expires_at: NOW + WEEK,
    }
}

fn failure<T>(class: FailureClass, code: &str) -> PortResult<T> {
    Err(PortError::new(class, code))
}

fn change() -> EventChange {
    let span = EventSpan::Timed {
        start: NOW,
        end: NOW + Duration::HOUR,
    };
    EventChange::Occurrence(Occurrence {
        id: "o".into(),
        master: "m".into(),
        span,
    })
}

/// Expects that a new subscription is made and stored.
fn expect_new(ports: &mut Ports) {
    ports
        .notifier
        .expect_subscribe()
        .withf(|token, endpoint, state| {
            token.expose_secret() == "token"
                && endpoint.notification_url == URL
                && state.expose_secret() == "state"
        })
        .times(1)
        .returning(|_, endpoint, _| Ok(answer("new", &endpoint.notification_url)));
    ports
        .subscriptions
        .expect_start()
        .withf(|lease, new, _| {
            lease.fence == 7
                && new.subscription.subscription_id == "new"
                && new.client_state == [7; 32]
                && new.subscription.expires_at == NOW + WEEK
        })
        .times(1)
        .returning(|_, _, _| Ok(()));
}

/// Expects that the subscription is given up here.
fn expect_ended(ports: &mut Ports) {
    ports
        .subscriptions
        .expect_ended()
        .times(1)
        .returning(|_, _, _| Ok(()));
}

#[tokio::test]
async fn the_subscription_is_made_before_the_first_pass_reads() {
    let mut ports = Ports::new();
    let mut order = Sequence::new();
    let work = nothing();
    let anchor = work.anchor.unwrap();
    ports.work(work);
    ports
        .notifier
        .expect_subscribe()
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, endpoint, _| Ok(answer("new", &endpoint.notification_url)));
    ports
        .subscriptions
        .expect_start()
        .withf(move |_, new, _| new.connection_id == anchor)
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _, _| Ok(()));
    ports
        .reader
        .expect_changes()
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _, _| {
            Ok(ChangesPage {
                changes: Vec::new(),
                next: NextPage::Done(Cursor("d2".to_owned())),
            })
        });
    // From now on pushes are relied on.
    ports
        .events
        .expect_apply()
        .withf(|_, batch, _| {
            matches!(&batch.then, AfterPage::Finish(end) if end.next_due_at > NOW + Duration::hours(5))
        })
        .times(1)
        .returning(|_, _, _| Ok(Applied::default()));
    ports.run_claim(claim(true, vec![due(None, false)])).await;
}

#[tokio::test]
async fn a_provider_that_is_down_for_fifty_of_the_last_sixty_minutes_is_asked_again_in_time() {
    let expires_at = NOW + Duration::HOUR;
    let back_at = NOW + Duration::minutes(50);
    let work = subscribed(expires_at);
    let id = work.subscription.as_ref().unwrap().id;
    let (mut now, mut failures, mut renewed) = (NOW, 0, None);
    while renewed.is_none() {
        assert!(now < expires_at, "it has expired");
        let mut ports = Ports::new();
        *ports.clock.0.lock().unwrap() = now;
        let subscription = work.subscription.clone();
        ports.work(PushWork {
            subscription,
            failure_count: failures,
            ..nothing()
        });
        ports
            .notifier
            .expect_renew()
            .withf(|token, id| token.expose_secret() == "token" && id == "old")
            .times(1)
            .returning(move |_, _| {
                if now < back_at {
                    failure(FailureClass::Retryable, "http_503")
                } else {
                    Ok(now + WEEK)
                }
            });
        let outcome = Arc::new(Mutex::new((None, None)));
        let seen = outcome.clone();
        ports
            .subscriptions
            .expect_failed()
            .returning(move |_, code, retry_at| {
                assert_eq!(code, "http_503");
                seen.lock().unwrap().0 = Some(retry_at);
                Ok(())
            });
        let seen = outcome.clone();
        ports
            .subscriptions
            .expect_renewed()
            .withf(move |_, renewed, _, next_at, _| *renewed == id && next_at.is_none())
            .returning(move |_, _, expires_at, _, _| {
                seen.lock().unwrap().1 = Some(expires_at);
                Ok(())
            });
        ports.run().await;
        let (retry_at, renewed_until) = *outcome.lock().unwrap();
        if let Some(retry_at) = retry_at {
            assert!(retry_at > now);
            now = retry_at;
            failures += 1;
        }
        renewed = renewed_until;
    }
    assert_eq!(renewed, Some(now + WEEK));
    assert!((5..40).contains(&failures), "{failures} attempts in vain");
}

#[tokio::test]
async fn what_the_provider_does_not_know_or_has_expired_is_made_anew() {
    for (expires_at, class, code) in [
        (
            NOW + Duration::HOUR,
            FailureClass::Permanent,
            "subscription_not_found",
        ),
        (NOW - Duration::HOUR, FailureClass::Retryable, "http_503"),
    ] {
        let mut ports = Ports::new();
        ports.work(subscribed(expires_at));
        ports
            .notifier
            .expect_renew()
            .times(1)
            .returning(move |_, _| failure(class, code));
        expect_ended(&mut ports);
        expect_new(&mut ports);
        ports.run().await;
    }
}

#[tokio::test]
async fn without_a_calendar_of_its_own_an_account_has_nothing_to_subscribe_to() {
    let mut ports = Ports::new();
    ports.work(PushWork {
        anchor: None,
        ..nothing()
    });
    ports
        .subscriptions
        .expect_settle()
        .times(1)
        .returning(|_| Ok(()));
    ports.run().await;
}

/// Works on an account whose mailbox has these subscriptions at the provider, the ones in `known` being
/// known, as this account's or another's. Answers which were ended.
async fn conflict(listed: &[(&str, &str)], known: &[(&str, bool)]) -> Vec<String> {
    let mut ports = Ports::new();
    ports.work(nothing());
    let claim = claim(true, Vec::new());
    let account_id = claim.account.id;
    let known: Vec<KnownSubscription> = known
        .iter()
        .map(|(id, is_ours)| KnownSubscription {
            id: SubscriptionId::new(),
            account_id: if *is_ours {
                account_id
            } else {
                AccountId::new()
            },
            subscription_id: (*id).to_owned(),
            client_state: None,
        })
        .collect();
    let listed: Vec<_> = listed.iter().map(|(id, url)| answer(id, url)).collect();
    ports
        .notifier
        .expect_subscriptions()
        .times(1)
        .returning(move |_| Ok(listed.clone()));
    ports
        .subscriptions
        .expect_find()
        .times(1)
        .returning(move |_, _| Ok(known.clone()));
    let ended = Arc::new(Mutex::new(Vec::new()));
    let seen = ended.clone();
    ports.notifier.expect_unsubscribe().returning(move |_, id| {
        seen.lock().unwrap().push(id.to_owned());
        Ok(())
    });
    let seen = ended.clone();
    ports
        .notifier
        .expect_subscribe()
        .returning(move |_, endpoint, _| {
            if seen.lock().unwrap().is_empty() {
                return failure(FailureClass::Conflict, "Conflict");
            }
            Ok(answer("new", &endpoint.notification_url))
        });
    ports
        .subscriptions
        .expect_start()
        .returning(|_, _, _| Ok(()));
    ports
        .subscriptions
        .expect_failed()
        .withf(|_, code, retry_at| code == "Conflict" && *retry_at >= NOW + Duration::HOUR)
        .returning(|_, _, _| Ok(()));
    ports.run_claim(claim).await;
    Arc::try_unwrap(ended).unwrap().into_inner().unwrap()
}

#[tokio::test]
async fn a_subscription_that_we_lost_sight_of_is_ended_and_another_accounts_is_not() {
    let elsewhere = "https://old.example/webhooks/microsoft";
    assert_eq!(conflict(&[("lost", URL)], &[]).await, ["lost"]);
    assert_eq!(conflict(&[("lost", "")], &[]).await, ["lost"]);
    // This account's goes wherever its pushes went; what we do not know, only when they come to us.
    let listed = [("ours", elsewhere), ("staging", elsewhere)];
    assert_eq!(conflict(&listed, &[("ours", true)]).await, ["ours"]);
    // The mailbox is another account's of ours: that is no reason to take its subscription away.
    assert!(
        conflict(&[("taken", URL)], &[("taken", false)])
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_subscription_that_cannot_be_stored_does_not_stay_at_the_provider() {
    for (error, ended) in [
        (PortError::lease_lost(), 1),
        (PortError::new(FailureClass::Retryable, "database_down"), 1),
        // Another account counts on it.
        (
            PortError::new(FailureClass::Conflict, "subscription_taken"),
            0,
        ),
    ] {
        let mut ports = Ports::new();
        ports.work(nothing());
        ports
            .notifier
            .expect_subscribe()
            .times(1)
            .returning(|_, _, _| Ok(answer("new", URL)));
        ports
            .subscriptions
            .expect_start()
            .times(1)
            .return_once(|_, _, _| Err(error));
        ports
            .subscriptions
            .expect_failed()
            .returning(|_, _, _| Ok(()));
        ports
            .notifier
            .expect_unsubscribe()
            .with(mockall::predicate::always(), eq("new"))
            .times(ended)
            .returning(|_, _| Ok(()));
        ports.run().await;
    }
}

#[tokio::test]
async fn without_push_passes_go_on_and_are_as_frequent_as_before() {
    for (class, code, earliest) in [
        (
            FailureClass::Permanent,
            "push_unsupported",
            Duration::days(1),
        ),
        (
            FailureClass::Retryable,
            "push_endpoint_unreachable",
            Duration::SECOND,
        ),
    ] {
        let mut ports = Ports::new();
        ports.work(nothing());
        ports
            .notifier
            .expect_subscribe()
            .times(1)
            .returning(move |_, _, _| failure(class, code));
        ports
            .subscriptions
            .expect_failed()
            .withf(move |_, given, retry_at| given == code && *retry_at >= NOW + earliest)
            .times(1)
            .returning(|_, _, _| Ok(()));
        let ends = ports.passes(Vec::new(), Applied::default());
        ports.run_claim(claim(true, vec![due(None, false)])).await;
        let next = ends.lock().unwrap()[0].next_due_at;
        assert!(next < NOW + Duration::minutes(6), "{next}");
    }
}

#[tokio::test]
async fn a_refused_refresh_needs_the_user_and_no_pass_runs() {
    let mut ports = Ports::new();
    let mut work = nothing();
    if let StoredTokens::Open(tokens) = &mut work.tokens {
        tokens.expires_at = NOW;
    }
    ports.work(work);
    ports
        .authorizer
        .expect_refresh()
        .times(1)
        .returning(|_| failure(FailureClass::Authentication, "invalid_grant"));
    ports
        .connections
        .expect_tokens()
        .times(1)
        .returning(|_| Ok(Vec::new()));
    ports
        .connections
        .expect_need_reauth()
        .withf(|_, code, _| code == "invalid_grant")
        .times(1)
        .returning(|_, _, _| Ok(()));
    ports.run().await;
}

#[tokio::test]
async fn tokens_that_do_not_open_are_tried_again_later() {
    for (tokens, soonest, latest) in [
        ("token_key_missing", 1, 16),
        ("token_forged", 20 * 60, 60 * 60),
    ] {
        let mut ports = Ports::new();
        ports.work(PushWork {
            tokens: StoredTokens::Unreadable(tokens),
            ..nothing()
        });
        ports
            .subscriptions
            .expect_failed()
            .withf(move |_, code, retry_at| {
                code == tokens && (soonest..=latest).contains(&(*retry_at - NOW).whole_seconds())
            })
            .times(1)
            .returning(|_, _, _| Ok(()));
        ports.run().await;
    }
}

#[tokio::test]
async fn a_claim_without_anything_due_asks_nobody() {
    Ports::new().run_claim(claim(false, Vec::new())).await;
}

#[tokio::test]
async fn silent_pushes_are_waited_for_and_then_the_subscription_is_made_anew() {
    let silent = |since: Duration| PushWork {
        silent_since: Some(NOW - since),
        ..subscribed(NOW + WEEK)
    };
    let mut ports = Ports::new();
    ports.work(silent(Duration::minutes(4)));
    ports
        .notifier
        .expect_renew()
        .returning(|_, _| Ok(NOW + WEEK));
    ports
        .subscriptions
        .expect_renewed()
        .withf(|_, _, _, next_at, _| *next_at == Some(NOW + Duration::minutes(6)))
        .times(1)
        .returning(|_, _, _, _, _| Ok(()));
    ports.run().await;

    let mut ports = Ports::new();
    ports.work(silent(Duration::minutes(11)));
    ports
        .notifier
        .expect_unsubscribe()
        .with(mockall::predicate::always(), eq("old"))
        .times(1)
        .returning(|_, _| Ok(()));
    expect_ended(&mut ports);
    expect_new(&mut ports);
    // Until a push has come, it is polled as without.
    let ends = ports.passes(Vec::new(), Applied::default());
    ports.run_claim(claim(true, vec![due(None, false)])).await;
    assert!(ends.lock().unwrap()[0].next_due_at < NOW + Duration::minutes(6));

    // Silence from before the subscription was made says nothing about it.
    let mut ports = Ports::new();
    ports.work(silent(Duration::days(2)));
    ports
        .notifier
        .expect_renew()
        .times(1)
        .returning(|_, _| Ok(NOW + WEEK));
    ports
        .subscriptions
        .expect_renewed()
        .returning(|_, _, _, _, _| Ok(()));
    ports.run().await;
}

#[tokio::test]
async fn what_fails_but_the_subscription_itself_does_not_end_it() {
    let mut ports = Ports::new();
    ports.work(subscribed(NOW + Duration::HOUR));
    ports
        .notifier
        .expect_renew()
        .times(1)
        .returning(|_, _| failure(FailureClass::Permanent, "invalid_client"));
    ports
        .subscriptions
        .expect_failed()
        .withf(|_, code, retry_at| {
            code == "invalid_client" && *retry_at <= NOW + Duration::minutes(5)
        })
        .times(1)
        .returning(|_, _, _| Ok(()));
    ports.run().await;
}

#[tokio::test]
async fn a_long_claim_gives_way_to_what_is_due_meanwhile() {
    let mut ports = Ports::new();
    let clock = ports.clock.clone();
    ports
        .reader
        .expect_changes()
        .times(2)
        .returning(move |_, _, _| {
            *clock.0.lock().unwrap() += Duration::seconds(40);
            Ok(ChangesPage {
                changes: Vec::new(),
                next: NextPage::Done(Cursor("d2".to_owned())),
            })
        });
    ports
        .events
        .expect_apply()
        .times(2)
        .returning(|_, _, _| Ok(Applied::default()));
    ports
        .queue
        .expect_wait_behind_others()
        .times(1)
        .returning(|_, _| Ok(()));
    let three = vec![due(None, false), due(None, false), due(None, false)];
    ports.run_claim(claim(false, three)).await;
}

#[tokio::test]
async fn a_poll_that_finds_what_no_push_announced_is_reported() {
    let changed = Applied {
        updated: 1,
        ..Applied::default()
    };
    for (push_look, is_shared, applied, reported) in [
        (None, false, changed, 1),
        (Some(PushLook::First), false, changed, 0),
        (None, true, changed, 0),
        (None, false, Applied::default(), 0),
    ] {
        let mut ports = Ports::new();
        ports.passes(vec![change()], applied);
        ports
            .subscriptions
            .expect_suspect_silence()
            .withf(|_, since, check_at, _| {
                *since == NOW - Duration::HOUR && *check_at == NOW + Duration::minutes(10)
            })
            .times(reported)
            .returning(|_, _, _, _| Ok(()));
        ports
            .run_claim(claim(false, vec![due(push_look, is_shared)]))
            .await;
    }
}

#[tokio::test]
async fn looks_are_repeated_whatever_they_find() {
    let (first, second, third) = (
        Some(PushLook::First),
        Some(PushLook::Second),
        Some(PushLook::Third),
    );
    for (look, found, is_shared, next_look, next) in [
        (first, false, false, second, Duration::seconds(5)),
        (second, false, false, third, Duration::MINUTE),
        (third, false, false, None, Duration::hours(6)),
        // What it has found may be another change than the one that was pushed.
        (first, true, false, third, Duration::MINUTE),
        (second, true, false, third, Duration::MINUTE),
        (third, true, false, None, Duration::hours(6)),
        (None, false, false, None, Duration::hours(6)),
        (None, false, true, None, Duration::minutes(5)),
    ] {
        let mut ports = Ports::new();
        let changes = if found { vec![change()] } else { Vec::new() };
        let ends = ports.passes(changes, Applied::default());
        ports
            .run_claim(claim(false, vec![due(look, is_shared)]))
            .await;
        let ends = ends.lock().unwrap();
        let end = ends.last().unwrap();
        assert_eq!(end.push_look, next_look, "{look:?} {found}");
        let wait = end.next_due_at - NOW;
        assert!(
            wait >= next * 9 / 10 && wait <= next * 11 / 10,
            "{look:?} {found}: {wait}"
        );
    }
}
