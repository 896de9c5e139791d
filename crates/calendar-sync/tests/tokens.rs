//! Tokens during a claim: one refresh for all of an account, what a refusal and a failure mean, and that no
//! answer of the provider is lost.

#![allow(
    clippy::expect_used,
    reason = "for tests: what fails here fails the test"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration as StdDuration;

use calendar_domain::account::{Account, AccountIdentity, StoredTokens, TokenGrant, TokenSet};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{AccountId, ConnectionId, UserId, WorkerId};
use calendar_domain::ports::{
    MockAuthorizer, MockCalendarDirectory, MockCalendarReader, MockChangeNotifier, MockClock,
    MockConnectionStore, MockEventStore, MockSecrets, MockSubscriptionStore, MockSyncQueue,
};
use calendar_domain::provider::{CalendarProvider, Capabilities};
use calendar_domain::subscription::ClaimedPush;
use calendar_domain::sync::{
    Applied, CalendarRef, ChangesPage, Claim, Cursor, DueConnection, Lease, Mailbox, NextPage,
    PassFailure, SyncWindow,
};
use calendar_sync::{Provider, Providers, SyncAccount, SyncSettings};
use mockall::Sequence;
use secrecy::{ExposeSecret as _, SecretString};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;

const NOW: OffsetDateTime = datetime!(2026-01-05 9:00 UTC);

/// The ports that tokens are about. What a test does not expect panics when it is called.
struct Ports {
    queue: MockSyncQueue,
    connections: MockConnectionStore,
    authorizer: MockAuthorizer,
    reader: MockCalendarReader,
    failures: Arc<Mutex<Vec<PassFailure>>>,
}

impl Ports {
    fn new() -> Self {
        Self::giving_back(1)
    }

    /// With a lease that is given back so often.
    fn giving_back(times: usize) -> Self {
        let mut queue = MockSyncQueue::new();
        queue.expect_release().times(times).returning(|_| Ok(()));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let failed = Arc::clone(&failures);
        queue.expect_fail().returning(move |_, _, failure, _| {
            failed.lock().expect("no test panics there").push(failure);
            Ok(())
        });
        let mut reader = MockCalendarReader::new();
        reader.expect_is_feed().return_const(true);
        reader.expect_capabilities().return_const(Capabilities {
            window_bound: true,
            silent_holes: true,
        });
        Self {
            queue,
            connections: MockConnectionStore::new(),
            authorizer: MockAuthorizer::new(),
            reader,
            failures,
        }
    }

    /// The provider's answer to this refresh token, asked for once.
    fn refreshes(&mut self, token: &'static str, answer: PortResult<TokenGrant>) {
        self.authorizer
            .expect_refresh()
            .withf(move |given| given.expose_secret() == token)
            .times(1)
            .return_once(move |_| answer);
    }

    /// So many passes that find nothing, with this access token.
    fn reads(&mut self, token: &'static str, passes: usize) {
        self.reader
            .expect_changes()
            .withf(move |given, _, _| given.expose_secret() == token)
            .times(passes)
            .returning(|_, _, _| {
                Ok(ChangesPage {
                    changes: Vec::new(),
                    next: NextPage::Done(Cursor("d".to_owned())),
                })
            });
    }

    /// Runs a claim of an account whose access token has expired; the failures that were recorded.
    async fn run(self, mailboxes: Vec<Mailbox>) -> Vec<PassFailure> {
        let mut clock = MockClock::new();
        clock.expect_now().return_const(NOW);
        let mut events = MockEventStore::new();
        events
            .expect_apply()
            .returning(|_, _, _| Ok(Applied::default()));
        let provider = Provider {
            authorizer: Arc::new(self.authorizer),
            directory: Arc::new(MockCalendarDirectory::new()),
            reader: Arc::new(self.reader),
            notifier: Arc::new(MockChangeNotifier::new()),
            push: None,
        };
        let use_case = SyncAccount {
            queue: Arc::new(self.queue),
            events: Arc::new(events),
            connections: Arc::new(self.connections),
            subscriptions: Arc::new(MockSubscriptionStore::new()),
            secrets: Arc::new(MockSecrets::new()),
            providers: Arc::new(Providers::new().with(CalendarProvider::Microsoft, provider)),
            clock: Arc::new(clock),
            settings: SyncSettings {
                past: Duration::days(90),
                future: Duration::days(365),
                poll: StdDuration::from_mins(5),
                poll_pushed: StdDuration::from_hours(6),
                lease_ttl: StdDuration::from_mins(1),
            },
        };
        let (_stop, stop) = watch::channel(false);
        use_case.run(claim(mailboxes), &stop).await;
        let failures = self.failures.lock().expect("no test panics there");
        failures.clone()
    }
}

fn tokens(refresh: &str, expires_at: OffsetDateTime) -> TokenSet {
    TokenSet {
        access_token: SecretString::from(format!("access of {refresh}")),
        refresh_token: Some(SecretString::from(refresh)),
        expires_at,
    }
}

fn grant(access: &str, refresh: Option<&str>) -> TokenGrant {
    TokenGrant {
        access_token: SecretString::from(access),
        refresh_token: refresh.map(SecretString::from),
        expires_at: NOW + Duration::HOUR,
        scopes: String::new(),
        missing: Vec::new(),
    }
}

fn claim(mailboxes: Vec<Mailbox>) -> Claim {
    let account_id = AccountId::new();
    let connection = |mailbox| DueConnection {
        id: ConnectionId::new(),
        user_id: UserId::new(),
        calendar: CalendarRef {
            calendar_id: "cal".to_owned(),
            mailbox,
        },
        tokens: StoredTokens::Open(tokens("old", NOW)),
        synced: Some((
            Cursor("delta".to_owned()),
            SyncWindow::around(NOW, Duration::days(90), Duration::days(365)),
        )),
        pass: None,
        last_synced_at: None,
        is_shared: false,
        push_look: None,
        requested_seq: 0,
        failure_count: 0,
        removal_held: false,
        has_rejected_due: false,
    };
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
        push: ClaimedPush::default(),
        turns: 2,
        connections: mailboxes.into_iter().map(connection).collect(),
    }
}

fn three() -> Vec<Mailbox> {
    vec![Mailbox::Own; 3]
}

fn refused() -> PortResult<TokenGrant> {
    Err(PortError::new(
        FailureClass::Authentication,
        "grant_revoked",
    ))
}

#[tokio::test]
async fn all_calendars_of_an_account_share_one_refresh() {
    let mut ports = Ports::new();
    ports.refreshes("old", Ok(grant("new", Some("next"))));
    ports
        .connections
        .expect_store_grant()
        .times(1)
        .returning(|_, _, _| Ok(()));
    ports.reads("new", 3);
    assert_eq!(ports.run(three()).await, []);
}

#[tokio::test]
async fn a_refused_refresh_token_that_was_replaced_meanwhile_asks_nobody_to_sign_in() {
    // What is stored by now is good as it is, or is refreshed in turn.
    for expires_at in [NOW + Duration::HOUR, NOW] {
        let mut ports = Ports::new();
        ports.refreshes("old", refused());
        ports
            .connections
            .expect_tokens()
            .withf(|lease| lease.fence == 7)
            .times(1)
            .returning(move |_| Ok(vec![tokens("old", NOW), tokens("other", expires_at)]));
        if expires_at > NOW {
            ports.reads("access of other", 3);
        } else {
            ports.refreshes("other", Ok(grant("new", None)));
            ports
                .connections
                .expect_store_grant()
                .times(1)
                .returning(|_, _, _| Ok(()));
            ports.reads("new", 3);
        }
        assert_eq!(ports.run(three()).await, []);
    }
}

#[tokio::test]
async fn a_refused_refresh_token_that_is_still_the_stored_one_needs_the_user_once() {
    for stored in [vec![tokens("old", NOW)], vec![]] {
        let mut ports = Ports::new();
        ports.refreshes("old", refused());
        ports
            .connections
            .expect_tokens()
            .times(1)
            .return_once(|_| Ok(stored));
        ports
            .connections
            .expect_need_reauth()
            .withf(|_, code, _| code == "grant_revoked")
            .times(1)
            .returning(|_, _, _| Ok(()));
        assert_eq!(ports.run(three()).await, []);
    }
    // The one that replaced it is refused as well: that is enough.
    let mut ports = Ports::new();
    ports.refreshes("old", refused());
    ports.refreshes("other", refused());
    ports
        .connections
        .expect_tokens()
        .times(1)
        .returning(|_| Ok(vec![tokens("other", NOW)]));
    ports
        .connections
        .expect_need_reauth()
        .times(1)
        .returning(|_, _, _| Ok(()));
    assert_eq!(ports.run(three()).await, []);
}

#[tokio::test]
async fn a_user_is_not_asked_to_sign_in_because_the_row_could_not_be_read() {
    let mut ports = Ports::new();
    ports.refreshes("old", refused());
    ports.connections.expect_tokens().times(1).returning(|_| {
        Err(PortError::new(
            FailureClass::Retryable,
            "database_unavailable",
        ))
    });
    let failures = ports.run(three()).await;
    assert_eq!(failures.len(), 3);
    assert!(
        failures
            .iter()
            .all(|failure| failure.code == "database_unavailable")
    );
}

#[tokio::test]
async fn one_failure_is_enough_for_all_and_they_come_again_together() {
    for (class, code) in [
        (FailureClass::Retryable, "timeout"),
        (FailureClass::RateLimited, "http_429"),
        (FailureClass::Permanent, "client_secret_wrong"),
    ] {
        let mut ports = Ports::new();
        ports.refreshes("old", Err(PortError::new(class, code)));
        let delegate = Mailbox::Delegate("bob@example.com".to_owned());
        let failures = ports.run(vec![Mailbox::Own, delegate, Mailbox::Own]).await;
        let [first, _, _] = &failures[..] else {
            panic!("{failures:?}")
        };
        assert!(failures.iter().all(|failure| failure == first));
        assert_eq!(first.code, code);
        assert!(first.retry_at > NOW);
    }
}

#[tokio::test]
async fn a_grant_that_the_store_did_not_take_is_offered_again() {
    let away = || PortError::new(FailureClass::Retryable, "database_unavailable");
    let mut ports = Ports::new();
    ports.refreshes("old", Ok(grant("new", Some("next"))));
    let mut order = Sequence::new();
    ports
        .connections
        .expect_store_grant()
        .times(2)
        .in_sequence(&mut order)
        .returning(move |_, _, _| Err(away()));
    ports
        .connections
        .expect_store_grant()
        .withf(|_, grant, _| {
            let token = grant.refresh_token.as_ref();
            token.is_some_and(|token| token.expose_secret() == "next")
        })
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _, _| Ok(()));
    ports.reads("new", 1);
    assert_eq!(ports.run(three()).await.len(), 2);

    // Where the lease is another's, nothing is tried again.
    let mut ports = Ports::giving_back(0);
    ports.refreshes("old", Ok(grant("new", Some("next"))));
    ports
        .connections
        .expect_store_grant()
        .times(1)
        .returning(|_, _, _| Err(PortError::lease_lost()));
    assert_eq!(ports.run(three()).await, []);
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_is_not_refreshed_for_each_calendar() {
    let mut ports = Ports::new();
    ports.refreshes("old", Ok(grant("new", None)));
    ports
        .connections
        .expect_store_grant()
        .times(1)
        .returning(|_, _, _| Ok(()));
    ports
        .reader
        .expect_changes()
        .times(3)
        .returning(|_, _, _| Err(PortError::new(FailureClass::Authentication, "unauthorized")));
    let failures = ports.run(three()).await;
    let codes: Vec<&str> = failures.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(codes, ["unauthorized"; 3]);
}
