//! A pass, over mocked ports: what is asked, what is stored, in which order, and what a failure does.
//! Long because each rule of a pass has a test of its own, all over the same mocks.

use std::sync::{Arc, Mutex};
use std::time::Duration as StdDuration;

use calendar_domain::account::{Account, AccountIdentity, StoredTokens, TokenGrant, TokenSet};
use calendar_domain::event::{
    EventChange, EventImportance, EventKind, EventMoment, EventSpan, EventStatus, Occurrence,
    ProviderEvent, ProviderEventId,
};
use calendar_domain::failure::{FailureClass, PortError};
use calendar_domain::ids::{AccountId, ConnectionId, EventId, PassId, UserId, WorkerId};
use calendar_domain::ports::{
    MockAuthorizer, MockCalendarDirectory, MockCalendarReader, MockChangeNotifier, MockClock,
    MockConnectionStore, MockEventStore, MockSecrets, MockSubscriptionStore, MockSyncQueue,
};
use calendar_domain::provider::{CalendarProvider, Capabilities};
use calendar_domain::rejected::RejectedEvent;
use calendar_domain::subscription::{ClaimedPush, PushLook};
use calendar_domain::sync::{
    AfterPage, Applied, CalendarRef, ChangesFrom, ChangesPage, Claim, Cursor, DueConnection, Lease,
    Mailbox, NextPage, Pass, PassKind, PassPosition, SeriesInstance, SyncWindow, TouchedSeries,
    Unseen, UnseenReport,
};
use calendar_sync::{PassReport, Provider, Providers, SyncAccount, SyncSettings};
use mockall::Sequence;
use secrecy::{ExposeSecret, SecretString};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tokio::sync::watch;

const NOW: OffsetDateTime = datetime!(2026-01-05 9:00 UTC);

/// The mocked ports of one run. What a test does not expect panics when it is called.
struct Ports {
    queue: MockSyncQueue,
    events: MockEventStore,
    connections: MockConnectionStore,
    authorizer: MockAuthorizer,
    reader: MockCalendarReader,
}

impl Ports {
    fn new() -> Self {
        Self::giving_back(1)
    }

    /// With a lease that is given back so often.
    fn giving_back(times: usize) -> Self {
        let mut queue = MockSyncQueue::new();
        queue.expect_release().times(times).returning(|_| Ok(()));
        let mut reader = MockCalendarReader::new();
        reader
            .expect_is_feed()
            .returning(|cursor| !cursor.0.starts_with("list"));
        reader.expect_capabilities().return_const(Capabilities {
            window_bound: true,
            silent_holes: true,
        });
        Self {
            queue,
            events: MockEventStore::new(),
            connections: MockConnectionStore::new(),
            authorizer: MockAuthorizer::new(),
            reader,
        }
    }

    /// Pages in order: what is asked for, and the answer.
    fn pages(&mut self, pages: Vec<(ChangesFrom, Result<ChangesPage, FailureClass>)>) {
        let mut order = Sequence::new();
        for (from, answer) in pages {
            self.reader
                .expect_changes()
                .withf(move |_, _, asked| *asked == from)
                .times(1)
                .in_sequence(&mut order)
                .return_once(|_, _, _| answer.map_err(|class| PortError::new(class, "scripted")));
        }
    }

    async fn run(self, connection: DueConnection) -> Vec<PassReport> {
        self.run_until(connection, false).await
    }

    async fn run_until(self, connection: DueConnection, stopped: bool) -> Vec<PassReport> {
        let mut clock = MockClock::new();
        clock.expect_now().return_const(NOW);
        self.work(vec![connection], clock, stopped).await
    }

    async fn work(
        self,
        connections: Vec<DueConnection>,
        clock: MockClock,
        stopped: bool,
    ) -> Vec<PassReport> {
        let provider = Provider {
            authorizer: Arc::new(self.authorizer),
            directory: Arc::new(MockCalendarDirectory::new()),
            reader: Arc::new(self.reader),
            notifier: Arc::new(MockChangeNotifier::new()),
            push: None,
        };
        let use_case = SyncAccount {
            queue: Arc::new(self.queue),
            events: Arc::new(self.events),
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
        let (_stop, stop) = watch::channel(stopped);
        use_case.run(claim(connections), &stop).await
    }
}

fn claim(connections: Vec<DueConnection>) -> Claim {
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
        push: ClaimedPush::default(),
        turns: 2,
        connections,
    }
}

fn tokens(expires_at: OffsetDateTime) -> StoredTokens {
    StoredTokens::Open(TokenSet {
        access_token: SecretString::from("old"),
        refresh_token: Some(SecretString::from("refresh")),
        expires_at,
    })
}

fn window() -> SyncWindow {
    SyncWindow::around(NOW, Duration::days(90), Duration::days(365))
}

fn new_connection() -> DueConnection {
    DueConnection {
        id: ConnectionId::new(),
        user_id: UserId::new(),
        calendar: CalendarRef {
            calendar_id: "cal".to_owned(),
            mailbox: Mailbox::Own,
        },
        tokens: tokens(NOW + Duration::HOUR),
        synced: None,
        pass: None,
        last_synced_at: None,
        is_shared: false,
        push_look: None,
        requested_seq: 3,
        failure_count: 0,
        removal_held: false,
        has_rejected_due: false,
    }
}

fn synced_connection() -> DueConnection {
    DueConnection {
        synced: Some((cursor("delta"), window())),
        ..new_connection()
    }
}

fn cursor(text: &str) -> Cursor {
    Cursor(text.to_owned())
}

fn at(text: &str) -> ChangesFrom {
    ChangesFrom::Cursor(cursor(text))
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "pages and failures stand in one list"
)]
fn page(changes: Vec<EventChange>, next: NextPage) -> Result<ChangesPage, FailureClass> {
    Ok(ChangesPage { changes, next })
}

fn more(text: &str) -> NextPage {
    NextPage::More(cursor(text))
}

fn done(text: &str) -> NextPage {
    NextPage::Done(cursor(text))
}

fn occurrence(id: &str, master: &str) -> EventChange {
    let span = EventSpan::Timed {
        start: NOW,
        end: NOW + Duration::HOUR,
    };
    EventChange::Occurrence(Occurrence {
        id: id.into(),
        master: master.into(),
        span,
    })
}

fn master(id: &str) -> EventChange {
    EventChange::Event(Box::new(ProviderEvent {
        id: id.into(),
        kind: EventKind::Master {
            rule: None,
            exception_dates: None,
        },
        title: None,
        description: None,
        location: None,
        span: EventSpan::Timed {
            start: NOW,
            end: NOW + Duration::HOUR,
        },
        zone: None,
        end_zone: None,
        status: EventStatus::default(),
        importance: EventImportance::default(),
        show_as: None,
        sensitivity: None,
        categories: Vec::new(),
        conversation_id: None,
        ical_uid: None,
        teams: None,
        organizer: None,
        is_organizer: None,
        attendees: Vec::new(),
        reminders: Vec::new(),
        html_link: None,
        metadata: std::iter::empty().collect(),
    }))
}

#[tokio::test]
async fn a_first_pass_checkpoints_each_page_and_sweeps_only_after_the_last() {
    let mut ports = Ports::new();
    ports.pages(vec![
        (ChangesFrom::Start(window()), page(Vec::new(), more("p2"))),
        (at("p2"), page(Vec::new(), done("d1"))),
    ]);
    let mut order = Sequence::new();
    for position in [
        PassPosition::Page(cursor("p2")),
        PassPosition::Fetched(cursor("d1")),
    ] {
        ports
            .events
            .expect_apply()
            .withf(move |_, batch, _| matches!(&batch.then, AfterPage::Checkpoint(to) if *to == position))
            .times(1)
            .in_sequence(&mut order)
            .returning(|_, _, _| Ok(Applied { inserted: 2, ..Applied::default() }));
    }
    ports
        .events
        .expect_unseen()
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _| {
            Ok(UnseenReport {
                live: 10,
                unseen: 3,
                masters: Vec::new(),
                singles: Vec::new(),
            })
        });
    ports
        .events
        .expect_finish()
        .withf(|lease, _, pass, end, _| {
            lease.fence == 7
                && pass.kind == PassKind::Full
                && end.unseen == Unseen::Remove
                && end.sync_token == cursor("d1")
                && end.requested_seq == 3
                && end.next_due_at > NOW + Duration::minutes(4)
                && end.next_due_at < NOW + Duration::minutes(6)
        })
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _, _, _, _| Ok(3));
    let reports = ports.run(new_connection()).await;
    assert_eq!(
        (
            reports[0].pages,
            reports[0].applied.inserted,
            reports[0].applied.removed
        ),
        (2, 4, 3)
    );
    assert_eq!(reports[0].outcome, Ok(()));
}

#[tokio::test]
async fn a_delta_pass_without_a_change_is_one_write() {
    let mut ports = Ports::new();
    ports.pages(vec![(at("delta"), page(Vec::new(), done("d2")))]);
    ports
        .events
        .expect_apply()
        .withf(|_, batch, _| {
            batch.pass.kind == PassKind::Delta
                && matches!(&batch.then, AfterPage::Finish(end) if end.sync_token == cursor("d2") && end.unseen == Unseen::Keep)
        })
        .times(1)
        .returning(|_, _, _| Ok(Applied::default()));
    assert_eq!(ports.run(synced_connection()).await[0].outcome, Ok(()));
}

#[tokio::test]
async fn a_pass_that_died_goes_on_where_it_was() {
    let mut ports = Ports::new();
    let pass = Pass {
        id: PassId::new(),
        kind: PassKind::Full,
        window: window(),
        position: PassPosition::Page(cursor("p4")),
        touched_series: false,
    };
    let id = pass.id;
    ports.pages(vec![
        (at("p4"), page(Vec::new(), more("p5"))),
        (at("p5"), Err(FailureClass::Retryable)),
    ]);
    ports
        .events
        .expect_apply()
        .withf(move |_, batch, _| batch.pass.id == id)
        .times(1)
        .returning(|_, _, _| Ok(Applied::default()));
    ports
        .queue
        .expect_fail()
        .withf(|_, _, failure, _| failure.code == "scripted" && failure.retry_at > NOW)
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    let reports = ports
        .run(DueConnection {
            pass: Some(pass),
            ..new_connection()
        })
        .await;
    assert_eq!(reports[0].outcome, Err("scripted".to_owned()));
}

/// What changed since it began may be in none of its pages: whoever asked for a look gets another.
#[tokio::test]
async fn a_pass_that_was_taken_up_is_followed_by_another_at_once() {
    for push_look in [None, Some(PushLook::First)] {
        let mut ports = Ports::new();
        ports
            .events
            .expect_finish()
            .times(1)
            .returning(move |_, _, _, end, _| {
                assert_eq!((end.next_due_at, end.push_look), (NOW, push_look));
                Ok(0)
            });
        let connection = DueConnection {
            pass: Some(Pass {
                id: PassId::new(),
                kind: PassKind::Delta,
                window: window(),
                position: PassPosition::Fetched(cursor("d1")),
                touched_series: false,
            }),
            push_look,
            ..synced_connection()
        };
        assert!(ports.run(connection).await[0].outcome.is_ok());
    }
}

#[tokio::test]
async fn a_lost_cursor_becomes_a_full_pass_at_once() {
    let mut ports = Ports::new();
    ports.pages(vec![
        (at("delta"), Err(FailureClass::NeedsResync)),
        (ChangesFrom::Start(window()), Err(FailureClass::NeedsResync)),
    ]);
    // Forgotten before the full pass reads, so that nobody takes the connection for up to date; and again.
    ports
        .events
        .expect_restart()
        .withf(|lease, _, _, _| lease.fence == 7)
        .times(2)
        .returning(|_, _, _, _| Ok(()));
    ports
        .queue
        .expect_fail()
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    let reports = ports.run(synced_connection()).await;
    assert_eq!(reports[0].kind, PassKind::Full);
    assert!(
        reports[0].outcome.is_err(),
        "a second time is a failure, not a loop"
    );
}

#[tokio::test]
async fn a_window_whose_slack_is_used_up_is_moved_by_a_full_pass() {
    for (end, kind) in [
        (NOW + Duration::days(364), PassKind::Full),
        (NOW + Duration::days(395), PassKind::Delta),
    ] {
        let mut ports = Ports::new();
        let old = SyncWindow {
            start: NOW - Duration::days(150),
            end,
        };
        ports
            .reader
            .expect_changes()
            .times(1)
            .returning(|_, _, _| Err(PortError::new(FailureClass::Retryable, "x")));
        ports
            .queue
            .expect_fail()
            .times(1)
            .returning(|_, _, _, _| Ok(()));
        let connection = DueConnection {
            synced: Some((cursor("delta"), old)),
            ..new_connection()
        };
        assert_eq!(ports.run(connection).await[0].kind, kind);
    }
}

#[tokio::test]
async fn a_master_that_is_neither_in_the_page_nor_stored_is_fetched() {
    let mut ports = Ports::new();
    let page_of = vec![
        occurrence("M1", "M"),
        occurrence("K1", "K"),
        occurrence("G1", "G"),
    ];
    ports.pages(vec![
        (at("delta"), page(page_of, more("p2"))),
        (at("p2"), Err(FailureClass::Retryable)),
    ]);
    ports
        .events
        .expect_unknown_masters()
        .times(1)
        .returning(|_, masters| {
            Ok(masters
                .iter()
                .filter(|id| id.as_str() != "K")
                .cloned()
                .collect())
        });
    ports.reader.expect_event().times(2).returning(|_, _, id| {
        Ok((id.as_str() == "M")
            .then(|| EventChange::Rejected(RejectedEvent::master_not_found(id.clone()))))
    });
    ports
        .events
        .expect_apply()
        .withf(|_, batch, _| batch.changes.len() == 4 && batch.changes[3].id().as_str() == "M")
        .times(1)
        .returning(|_, _, _| {
            Ok(Applied {
                touched_series: true,
                ..Applied::default()
            })
        });
    ports
        .queue
        .expect_fail()
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    let connection = DueConnection {
        failure_count: 3,
        ..synced_connection()
    };
    ports.run(connection).await;
}

#[tokio::test]
async fn a_master_that_is_not_found_is_asked_for_again_before_its_occurrences_are_passed_over() {
    let mut ports = Ports::new();
    ports.pages(vec![(
        at("delta"),
        page(vec![occurrence("M1", "M")], done("d2")),
    )]);
    ports
        .events
        .expect_unknown_masters()
        .returning(|_, masters| Ok(masters.to_vec()));
    ports.reader.expect_event().returning(|_, _, _| Ok(None));
    ports
        .queue
        .expect_fail()
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    let reports = ports.run(synced_connection()).await;
    assert_eq!(reports[0].outcome, Err("master_not_found".to_owned()));
}

#[tokio::test]
async fn a_hole_is_confirmed_before_it_is_an_exception_date() {
    let mut ports = Ports::new();
    ports.pages(vec![(
        at("delta"),
        page(vec![occurrence("M1", "M")], done("d2")),
    )]);
    ports
        .events
        .expect_unknown_masters()
        .returning(|_, _| Ok(Vec::new()));
    ports
        .events
        .expect_apply()
        .withf(|_, batch, _| matches!(&batch.then, AfterPage::Checkpoint(PassPosition::Fetched(_))))
        .times(1)
        .returning(|_, _, _| {
            Ok(Applied {
                touched_series: true,
                ..Applied::default()
            })
        });
    let span = EventSpan::Timed {
        start: NOW + Duration::DAY,
        end: NOW + Duration::days(1) + Duration::HOUR,
    };
    let gone = SeriesInstance {
        id: EventId::new(),
        provider_event_id: "M2".into(),
        original_start: EventMoment::Instant(NOW + Duration::DAY),
        span,
        seen: false,
    };
    let gone_id = gone.id;
    let series = TouchedSeries {
        master_id: EventId::new(),
        master: "M".into(),
        rule: None,
        span,
        zone: None,
        exception_dates: Vec::new(),
        instances: vec![gone],
    };
    ports
        .events
        .expect_touched_series()
        .times(2)
        .returning(move |_, _, after, _| {
            Ok(if after.is_none() {
                vec![series.clone()]
            } else {
                Vec::new()
            })
        });
    ports
        .reader
        .expect_instances()
        .withf(|_, _, master, asked| master.as_str() == "M" && *asked == window())
        .times(1)
        .returning(|_, _, _, _| Ok(vec![occurrence("M1", "M")]));
    ports
        .events
        .expect_correct_series()
        .withf(move |_, _, corrections, _| {
            corrections.len() == 1 && corrections[0].removed == [gone_id]
        })
        .times(1)
        .returning(|_, _, _, _| Ok(1));
    ports
        .events
        .expect_finish()
        .withf(|_, _, _, end, _| end.unseen == Unseen::Keep)
        .times(1)
        .returning(|_, _, _, _, _| Ok(0));
    assert_eq!(ports.run(synced_connection()).await[0].applied.removed, 1);
}

#[tokio::test]
async fn a_suspicious_removal_is_held_until_a_second_pass_agrees() {
    // The second pass is a full one, although there is a sync token.
    for (connection, expected) in [
        (new_connection(), Unseen::Hold),
        (
            DueConnection {
                removal_held: true,
                ..synced_connection()
            },
            Unseen::Remove,
        ),
    ] {
        let mut ports = Ports::new();
        ports.pages(vec![(
            ChangesFrom::Start(window()),
            page(Vec::new(), done("d")),
        )]);
        ports
            .events
            .expect_apply()
            .returning(|_, _, _| Ok(Applied::default()));
        ports.events.expect_unseen().returning(|_, _| {
            Ok(UnseenReport {
                live: 100,
                unseen: 100,
                masters: Vec::new(),
                singles: Vec::new(),
            })
        });
        ports
            .events
            .expect_finish()
            .withf(move |_, _, _, end, _| end.unseen == expected)
            .times(1)
            .returning(|_, _, _, _, _| Ok(0));
        ports.run(connection).await;
    }
}

#[tokio::test]
async fn a_master_that_a_full_pass_did_not_see_is_asked_for() {
    let mut ports = Ports::new();
    ports.pages(vec![(
        ChangesFrom::Start(window()),
        page(Vec::new(), done("d")),
    )]);
    ports
        .events
        .expect_apply()
        .withf(|_, batch, _| batch.changes.is_empty())
        .times(1)
        .returning(|_, _, _| Ok(Applied::default()));
    ports.events.expect_unseen().returning(|_, _| {
        Ok(UnseenReport {
            live: 3,
            unseen: 3,
            singles: Vec::new(),
            masters: vec!["M".into()],
        })
    });
    ports
        .reader
        .expect_event()
        .times(1)
        .returning(|_, _, _| Ok(None));
    ports
        .events
        .expect_apply()
        .withf(|_, batch, _| batch.changes == [EventChange::Removed("M".into())])
        .times(1)
        .returning(|_, _, _| {
            Ok(Applied {
                removed: 4,
                ..Applied::default()
            })
        });
    ports
        .events
        .expect_finish()
        .times(1)
        .returning(|_, _, _, _, _| Ok(0));
    assert_eq!(ports.run(new_connection()).await[0].applied.removed, 4);
}

fn grant() -> TokenGrant {
    TokenGrant {
        access_token: SecretString::from("new"),
        refresh_token: None,
        expires_at: NOW + Duration::HOUR,
        scopes: String::new(),
        missing: Vec::new(),
    }
}

#[tokio::test]
async fn an_expiring_token_is_refreshed_and_stored_before_it_is_used() {
    let mut ports = Ports::new();
    let mut order = Sequence::new();
    ports
        .authorizer
        .expect_refresh()
        .withf(|token| token.expose_secret() == "refresh")
        .times(1)
        .in_sequence(&mut order)
        .returning(|_| Ok(grant()));
    ports
        .connections
        .expect_store_grant()
        .withf(|lease, _, _| lease.fence == 7)
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _, _| Ok(()));
    ports
        .reader
        .expect_changes()
        .withf(|token, _, _| token.expose_secret() == "new")
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _, _| {
            Ok(ChangesPage {
                changes: Vec::new(),
                next: done("d2"),
            })
        });
    ports
        .events
        .expect_apply()
        .returning(|_, _, _| Ok(Applied::default()));
    let connection = DueConnection {
        tokens: tokens(NOW + Duration::minutes(4)),
        ..synced_connection()
    };
    ports.run(connection).await;
}

#[tokio::test]
async fn a_401_is_answered_by_one_refresh_and_is_no_reason_to_bother_the_user() {
    let mut ports = Ports::new();
    ports
        .reader
        .expect_changes()
        .times(2)
        .returning(|_, _, _| Err(PortError::new(FailureClass::Authentication, "unauthorized")));
    ports
        .authorizer
        .expect_refresh()
        .times(1)
        .returning(|_| Ok(grant()));
    ports
        .connections
        .expect_store_grant()
        .times(1)
        .returning(|_, _, _| Ok(()));
    ports
        .queue
        .expect_fail()
        .withf(|_, _, failure, _| failure.code == "unauthorized")
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    ports.run(synced_connection()).await;
}

#[tokio::test]
async fn a_refused_refresh_and_unreadable_tokens_need_the_user() {
    let mut ports = Ports::new();
    ports.authorizer.expect_refresh().returning(|_| {
        Err(PortError::new(
            FailureClass::Authentication,
            "invalid_grant",
        ))
    });
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
    let reports = ports
        .run(DueConnection {
            tokens: tokens(NOW),
            ..synced_connection()
        })
        .await;
    assert_eq!(reports[0].outcome, Err("invalid_grant".to_owned()));

    let mut ports = Ports::new();
    ports
        .connections
        .expect_need_reauth()
        .withf(|_, code, _| code == "token_not_sealed")
        .times(1)
        .returning(|_, _, _| Ok(()));
    let unreadable = StoredTokens::Unreadable("token_not_sealed");
    assert_eq!(
        ports
            .run(DueConnection {
                tokens: unreadable,
                ..synced_connection()
            })
            .await
            .len(),
        0
    );
}

#[tokio::test]
async fn a_missing_key_is_the_operators_matter_and_waits_for_it() {
    // A missing one may come with the next restart, while the keys are rotated.
    for (code, waited) in [
        ("token_key_missing", 1..=16),
        ("token_forged", 20 * 60..=60 * 60),
    ] {
        let mut ports = Ports::new();
        ports
            .queue
            .expect_fail()
            .withf(move |_, _, failure, _| {
                failure.code == code && waited.contains(&(failure.retry_at - NOW).whole_seconds())
            })
            .times(1)
            .returning(|_, _, _, _| Ok(()));
        let tokens = StoredTokens::Unreadable(code);
        ports
            .run(DueConnection {
                tokens,
                ..synced_connection()
            })
            .await;
    }
}

#[tokio::test]
async fn retry_after_is_honoured_and_capped() {
    // "At once" is never sooner than our own first wait.
    for (asked, waited) in [
        (120, 120..=120),
        (u64::MAX / 4, 21_600..=21_600),
        (0, 1..=16),
    ] {
        let mut ports = Ports::new();
        ports.reader.expect_changes().returning(move |_, _, _| {
            let mut error = PortError::new(FailureClass::RateLimited, "throttled");
            error.retry_after = Some(StdDuration::from_secs(asked));
            Err(error)
        });
        ports
            .queue
            .expect_fail()
            .withf(move |_, _, failure, _| {
                waited.contains(&(failure.retry_at - NOW).whole_seconds())
            })
            .times(1)
            .returning(|_, _, _, _| Ok(()));
        ports.run(synced_connection()).await;
    }
}

#[tokio::test]
async fn a_stale_lease_ends_the_pass_without_another_write() {
    // It is not given back: it is another worker's, or runs out.
    let mut ports = Ports::giving_back(0);
    // The page after it is asked for while this one is stored, and then no other.
    ports.pages(vec![
        (at("delta"), page(Vec::new(), more("p2"))),
        (at("p2"), page(Vec::new(), more("p3"))),
    ]);
    ports
        .events
        .expect_apply()
        .times(1)
        .returning(|_, _, _| Err(PortError::lease_lost()));
    assert_eq!(
        ports.run(synced_connection()).await[0].outcome,
        Err("lease_lost".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_given_back_is_tried_again_while_it_would_last() {
    for (failures, asked) in [(5, 6), (100, 61)] {
        let mut ports = Ports::giving_back(0);
        let mut left = failures;
        ports
            .queue
            .expect_release()
            .times(asked)
            .returning(move |_| {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                let code = "database_unavailable";
                Err(PortError::new(FailureClass::Retryable, code))
            });
        ports.run_until(synced_connection(), true).await;
    }
}

#[tokio::test]
async fn what_was_asked_for_after_the_last_page_is_looked_for_at_once() {
    let mut ports = Ports::new();
    ports
        .events
        .expect_finish()
        .withf(|_, _, _, end, _| end.next_due_at == NOW && end.push_look == Some(PushLook::First))
        .times(1)
        .returning(|_, _, _, _, _| Ok(0));
    let resumed = Pass {
        id: PassId::new(),
        kind: PassKind::Delta,
        window: window(),
        position: PassPosition::Fetched(cursor("d1")),
        touched_series: false,
    };
    let connection = DueConnection {
        pass: Some(resumed),
        push_look: Some(PushLook::First),
        ..synced_connection()
    };
    assert_eq!(ports.run(connection).await[0].outcome, Ok(()));
}

#[tokio::test]
async fn a_process_that_is_to_stop_begins_no_pass_and_gives_the_lease_back() {
    assert!(
        Ports::new()
            .run_until(synced_connection(), true)
            .await
            .is_empty()
    );
}

fn listed_connection() -> DueConnection {
    DueConnection {
        synced: Some((cursor("list"), window())),
        ..new_connection()
    }
}

/// A calendar without a feed: each pass is full, asks for masters anew, and confirms what it did not see.
#[tokio::test]
async fn a_list_is_read_whole_and_what_it_passed_over_is_asked_for() {
    let mut ports = Ports::new();
    ports.pages(vec![
        (
            at("list"),
            page(vec![occurrence("M1", "M")], more("list p2")),
        ),
        (
            at("list p2"),
            page(vec![occurrence("M2", "M")], done("list")),
        ),
    ]);
    let gone = |id: &ProviderEventId| id.as_str() == "gone";
    ports
        .reader
        .expect_event()
        .times(4)
        .returning(move |_, _, id| {
            Ok((!gone(id))
                .then(|| EventChange::Rejected(RejectedEvent::master_not_found(id.clone()))))
        });
    let mut order = Sequence::new();
    for expected in [
        vec!["M1", "M"],
        vec!["M2", "M"],
        vec!["gone", "moved to an earlier page"],
    ] {
        ports
            .events
            .expect_apply()
            .withf(move |_, batch, _| {
                let ids: Vec<_> = batch
                    .changes
                    .iter()
                    .map(|change| change.id().as_str())
                    .collect();
                batch.pass.kind == PassKind::Full
                    && batch.pass.window == window()
                    && ids == expected
            })
            .times(1)
            .in_sequence(&mut order)
            .returning(|_, _, _| Ok(Applied::default()));
    }
    ports.events.expect_unseen().times(1).returning(|_, _| {
        Ok(UnseenReport {
            live: 10,
            unseen: 2,
            masters: Vec::new(),
            singles: vec!["gone".into(), "moved to an earlier page".into()],
        })
    });
    ports
        .events
        .expect_finish()
        .withf(|_, _, _, end, _| end.unseen == Unseen::Remove && end.sync_token == cursor("list"))
        .times(1)
        .returning(|_, _, _, _, _| Ok(0));
    assert_eq!(ports.run(listed_connection()).await[0].outcome, Ok(()));
}

#[tokio::test]
async fn a_list_that_took_many_requests_is_read_less_often_and_many_holes_are_held() {
    for (singles, unseen, minutes) in [
        (2, Unseen::Remove, 18..22),
        (UnseenReport::MOST_SINGLES, Unseen::Hold, 1..2),
    ] {
        let mut ports = Ports::new();
        let mut pages = vec![(at("list"), page(Vec::new(), more("list 1")))];
        pages.extend((1..39).map(|n| {
            let next = format!("list {}", n + 1);
            (at(&format!("list {n}")), page(Vec::new(), more(&next)))
        }));
        pages.push((at("list 39"), page(Vec::new(), done("list"))));
        ports.pages(pages);
        ports
            .events
            .expect_apply()
            .returning(|_, _, _| Ok(Applied::default()));
        ports.events.expect_unseen().returning(move |_, _| {
            Ok(UnseenReport {
                live: 1000,
                unseen: 100,
                masters: Vec::new(),
                singles: vec!["x".into(); singles],
            })
        });
        ports.reader.expect_event().returning(|_, _, _| Ok(None));
        ports
            .events
            .expect_finish()
            .withf(move |_, _, _, end, _| {
                let wait = (end.next_due_at - NOW).whole_minutes();
                end.unseen == unseen && minutes.contains(&wait)
            })
            .times(1)
            .returning(|_, _, _, _, _| Ok(0));
        let reports = ports.run(listed_connection()).await;
        assert_eq!(reports[0].outcome, Ok(()));
    }
}

#[tokio::test]
async fn a_list_that_is_no_longer_good_becomes_a_full_pass_by_the_feed() {
    let mut ports = Ports::new();
    ports.pages(vec![
        (at("list"), Err(FailureClass::NeedsResync)),
        (ChangesFrom::Start(window()), page(Vec::new(), done("d1"))),
    ]);
    ports
        .events
        .expect_restart()
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    ports
        .events
        .expect_apply()
        .times(1)
        .returning(|_, _, _| Ok(Applied::default()));
    ports
        .events
        .expect_unseen()
        .times(1)
        .returning(|_, _| Ok(UnseenReport::default()));
    ports
        .events
        .expect_finish()
        .withf(|_, _, _, end, _| end.sync_token == cursor("d1"))
        .times(1)
        .returning(|_, _, _, _, _| Ok(0));
    assert_eq!(ports.run(listed_connection()).await[0].outcome, Ok(()));
}

#[tokio::test]
async fn t22_a_first_pass_that_failed_twice_is_begun_in_pieces() {
    for (failure_count, from) in [
        (1, ChangesFrom::Start(window())),
        (2, ChangesFrom::StartInPieces(window())),
    ] {
        let mut ports = Ports::new();
        ports.pages(vec![(from, Err(FailureClass::Retryable))]);
        ports
            .queue
            .expect_fail()
            .times(1)
            .returning(|_, _, _, _| Ok(()));
        let connection = DueConnection {
            failure_count,
            ..new_connection()
        };
        ports.run(connection).await;
    }
}

/// One throttled mailbox is one failure, whatever the account has in it, and no other's.
#[tokio::test]
async fn t49_a_throttled_mailbox_is_left_alone_and_others_go_on() {
    let mut ports = Ports::new();
    let delegate = CalendarRef {
        calendar_id: "other".to_owned(),
        mailbox: Mailbox::Delegate("bea@example.com".to_owned()),
    };
    let connections = vec![
        synced_connection(),
        synced_connection(),
        DueConnection {
            calendar: delegate.clone(),
            ..synced_connection()
        },
    ];
    let (throttled, other) = (connections[0].id, connections[2].id);
    ports
        .reader
        .expect_changes()
        .times(2)
        .returning(move |_, calendar, _| {
            if *calendar == delegate {
                Ok(ChangesPage {
                    changes: Vec::new(),
                    next: done("d2"),
                })
            } else {
                Err(PortError::new(FailureClass::RateLimited, "throttled"))
            }
        });
    ports
        .queue
        .expect_fail()
        .withf(move |_, id, failure, _| *id == throttled && failure.whole_mailbox)
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    ports
        .queue
        .expect_take_turns()
        .withf(move |_, id, _, _| *id == other)
        .times(1)
        .returning(|_, _, _, _| Ok(1));
    ports
        .events
        .expect_apply()
        .withf(move |_, batch, _| batch.connection_id == other)
        .times(1)
        .returning(|_, _, _| Ok(Applied::default()));
    let mut clock = MockClock::new();
    clock.expect_now().return_const(NOW);
    let reports = ports.work(connections, clock, false).await;
    assert_eq!(reports.len(), 2);
}

/// A day of 429, whatever they say: so many attempts at most, spread by full jitter.
#[tokio::test]
async fn t49_a_provider_that_throttles_for_ever_is_asked_ever_less() {
    for asked in [None, Some(0), Some(1), Some(120), Some(1800)] {
        let asked = asked.map(StdDuration::from_secs);
        let (mut now, mut waits) = (NOW, Vec::new());
        while now < NOW + Duration::DAY {
            let mut ports = Ports::new();
            ports.reader.expect_changes().returning(move |_, _, _| {
                let mut error = PortError::new(FailureClass::RateLimited, "throttled");
                error.retry_after = asked;
                Err(error)
            });
            let retry_at = Arc::new(Mutex::new(now));
            let told = Arc::clone(&retry_at);
            ports
                .queue
                .expect_fail()
                .returning(move |_, _, failure, _| {
                    *told.lock().unwrap() = failure.retry_at;
                    Ok(())
                });
            let mut clock = MockClock::new();
            clock.expect_now().return_const(now);
            let connection = DueConnection {
                failure_count: u32::try_from(waits.len()).unwrap(),
                tokens: tokens(now + Duration::HOUR),
                synced: Some((
                    cursor("delta"),
                    SyncWindow::around(now, Duration::days(90), Duration::days(365)),
                )),
                ..new_connection()
            };
            ports.work(vec![connection], clock, false).await;
            let next = *retry_at.lock().unwrap();
            waits.push(next - now);
            now = next;
        }
        let least = asked.unwrap_or_default().max(StdDuration::from_secs(1));
        assert!(
            waits.iter().all(|wait| *wait >= least),
            "{asked:?}: {waits:?}"
        );
        assert!(
            waits.len() <= 110,
            "{asked:?}: {} attempts a day",
            waits.len()
        );
        // Without a long wait of the provider's own, ours are anywhere below the limit.
        if least < StdDuration::from_mins(1) {
            let late = &waits[8..];
            assert!(
                late.iter().any(|wait| *wait < Duration::minutes(20)),
                "{waits:?}"
            );
            assert!(
                late.iter().any(|wait| *wait > Duration::minutes(40)),
                "{waits:?}"
            );
        }
    }
}

/// The place is given up after a minute, however much is left, or however slow the provider is.
#[tokio::test]
async fn t46_a_claim_that_has_lasted_long_waits_behind_others() {
    let mut ports = Ports::new();
    let now = Arc::new(Mutex::new(NOW));
    let passing = Arc::clone(&now);
    ports
        .reader
        .expect_changes()
        .times(1)
        .returning(move |_, _, _| {
            *passing.lock().unwrap() += Duration::seconds(100);
            Err(PortError::new(FailureClass::Retryable, "timeout"))
        });
    ports
        .queue
        .expect_fail()
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    ports
        .queue
        .expect_wait_behind_others()
        .withf(|lease, now| lease.fence == 7 && *now == NOW + Duration::seconds(100))
        .times(1)
        .returning(|_, _| Ok(()));
    let mut clock = MockClock::new();
    clock.expect_now().returning(move || *now.lock().unwrap());
    let connections = (0..50).map(|_| synced_connection()).collect();
    assert_eq!(ports.work(connections, clock, false).await.len(), 1);
}

#[tokio::test]
async fn without_a_turn_a_connection_waits_and_with_one_nothing_is_fetched_ahead() {
    let mut ports = Ports::new();
    let delegate = |calendar_id: &str, owner: &str| DueConnection {
        calendar: CalendarRef {
            calendar_id: calendar_id.to_owned(),
            mailbox: Mailbox::Delegate(owner.to_owned()),
        },
        ..synced_connection()
    };
    let connections = vec![
        delegate("busy", "bea@example.com"),
        delegate("free", "cem@example.com"),
    ];
    let busy = connections[0].id;
    ports
        .queue
        .expect_take_turns()
        .times(2)
        .returning(move |_, id, _, _| Ok(u32::from(id != busy)));
    // The next page would be asked for while this one is stored.
    ports
        .reader
        .expect_changes()
        .withf(|_, calendar, from| calendar.calendar_id == "free" && *from == at("delta"))
        .times(1)
        .returning(|_, _, _| {
            Ok(ChangesPage {
                changes: Vec::new(),
                next: more("p2"),
            })
        });
    ports
        .events
        .expect_apply()
        .times(1)
        .returning(|_, _, _| Err(PortError::new(FailureClass::Retryable, "away")));
    ports
        .queue
        .expect_fail()
        .times(1)
        .returning(|_, _, _, _| Ok(()));
    let mut clock = MockClock::new();
    clock.expect_now().return_const(NOW);
    let reports = ports.work(connections, clock, false).await;
    assert_eq!(reports.len(), 1, "the busy one was left to a later claim");
}

#[tokio::test]
async fn what_is_set_aside_is_asked_for_again_and_a_master_comes_with_its_instances() {
    let mut ports = Ports::new();
    ports.pages(vec![(at("delta"), page(Vec::new(), done("d2")))]);
    let due = ["there", "gone", "no id"].map(|id| RejectedEvent::master_not_found(id.into()));
    ports
        .events
        .expect_rejected_due()
        .times(1)
        .return_once(move |_, _| Ok(due.to_vec()));
    ports
        .reader
        .expect_event()
        .times(3)
        .returning(|_, _, id| match id.as_str() {
            "there" => Ok(Some(master("there"))),
            "gone" => Ok(None),
            _ => Err(PortError::new(FailureClass::InvalidInput, "invalid_id")),
        });
    ports
        .reader
        .expect_instances()
        .withf(|_, _, id, asked| id.as_str() == "there" && *asked == window())
        .times(1)
        .returning(|_, _, _, _| Ok(vec![occurrence("o", "there")]));
    let mut order = Sequence::new();
    // Before the end: what a crash leaves undone is done again.
    for expected in [
        vec![],
        vec![occurrence("o", "there"), master("there")],
        vec![EventChange::Rejected(RejectedEvent::master_not_found(
            "gone".into(),
        ))],
        vec![EventChange::Rejected(RejectedEvent::master_not_found(
            "no id".into(),
        ))],
    ] {
        let skipped = u64::from(matches!(expected[..], [EventChange::Rejected(_)]));
        ports
            .events
            .expect_apply()
            .withf(move |_, batch, _| {
                batch.changes == expected
                    && matches!(&batch.then, AfterPage::Checkpoint(PassPosition::Fetched(token)) if *token == cursor("d2"))
            })
            .times(1)
            .in_sequence(&mut order)
            .returning(move |_, _, _| Ok(Applied { skipped, ..Applied::default() }));
    }
    ports
        .events
        .expect_finish()
        .times(1)
        .returning(|_, _, _, _, _| Ok(0));
    let connection = DueConnection {
        has_rejected_due: true,
        ..synced_connection()
    };
    assert_eq!(ports.run(connection).await[0].outcome, Ok(()));
}

#[tokio::test]
async fn a_master_whose_id_cannot_be_asked_for_does_not_fail_the_pass() {
    let mut ports = Ports::new();
    let orphan = vec![occurrence("O", "..")];
    ports.pages(vec![(at("delta"), page(orphan.clone(), done("d2")))]);
    ports
        .events
        .expect_unknown_masters()
        .returning(|_, masters| Ok(masters.to_vec()));
    ports
        .reader
        .expect_event()
        .returning(|_, _, _| Err(PortError::new(FailureClass::InvalidInput, "invalid_id")));
    ports
        .events
        .expect_apply()
        .withf(move |_, batch, _| batch.changes == orphan)
        .times(1)
        .returning(|_, _, _| {
            Ok(Applied {
                skipped: 1,
                ..Applied::default()
            })
        });
    ports
        .events
        .expect_finish()
        .times(1)
        .returning(|_, _, _, _, _| Ok(0));
    // It was asked for again.
    let connection = DueConnection {
        failure_count: 3,
        ..synced_connection()
    };
    assert_eq!(ports.run(connection).await[0].outcome, Ok(()));
}
