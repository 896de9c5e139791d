//! Disconnecting and deleting a user, over mocked ports: subscriptions end at the provider, and whatever the
//! provider does, calendar and user are gone.

use std::sync::Arc;

use calendar_domain::account::{StoredTokens, TokenGrant, TokenSet};
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::ids::{ConnectionId, UserId};
use calendar_domain::ports::{
    MockAuthorizer, MockCalendarDirectory, MockCalendarReader, MockChangeNotifier, MockClock,
    MockConnectionStore, MockSubscriptionStore, MockUserStore,
};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::EndingSubscription;
use calendar_sync::{DeleteUser, Disconnect, Provider, Providers};
use mockall::Sequence;
use secrecy::{ExposeSecret as _, SecretString};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = datetime!(2026-01-05 9:00 UTC);

fn ending(id: &str, expires_at: OffsetDateTime) -> EndingSubscription {
    EndingSubscription {
        provider: CalendarProvider::Microsoft,
        subscription_id: id.to_owned(),
        tokens: StoredTokens::Open(TokenSet {
            access_token: SecretString::from("old"),
            refresh_token: Some(SecretString::from("refresh")),
            expires_at,
        }),
        account_stays: false,
    }
}

fn providers(authorizer: MockAuthorizer, notifier: MockChangeNotifier) -> Arc<Providers> {
    let provider = Provider {
        authorizer: Arc::new(authorizer),
        directory: Arc::new(MockCalendarDirectory::new()),
        reader: Arc::new(MockCalendarReader::new()),
        notifier: Arc::new(notifier),
        push: None,
    };
    Arc::new(Providers::new().with(CalendarProvider::Microsoft, provider))
}

fn clock() -> Arc<MockClock> {
    let mut clock = MockClock::new();
    clock.expect_now().return_const(NOW);
    Arc::new(clock)
}

fn refreshing() -> MockAuthorizer {
    let mut authorizer = MockAuthorizer::new();
    authorizer
        .expect_refresh()
        .withf(|token| token.expose_secret() == "refresh")
        .times(1)
        .returning(|_| {
            Ok(TokenGrant {
                access_token: SecretString::from("fresh"),
                refresh_token: None,
                expires_at: NOW + Duration::HOUR,
                scopes: String::new(),
                missing: Vec::new(),
            })
        });
    authorizer
}

/// Disconnects a calendar with this subscription; the store has one.
async fn disconnect(
    subscription: EndingSubscription,
    authorizer: MockAuthorizer,
    notifier: MockChangeNotifier,
) -> PortResult<bool> {
    let mut subscriptions = MockSubscriptionStore::new();
    subscriptions
        .expect_ending()
        .withf(|_, connection| connection.is_some())
        .times(1)
        .return_once(|_, _| Ok(vec![subscription]));
    let mut connections = MockConnectionStore::new();
    connections
        .expect_disconnect()
        .times(1)
        .returning(|_, _, _| Ok(true));
    let use_case = Disconnect {
        connections: Arc::new(connections),
        subscriptions: Arc::new(subscriptions),
        providers: providers(authorizer, notifier),
        clock: clock(),
    };
    use_case.run(UserId::new(), ConnectionId::new()).await
}

#[tokio::test]
async fn a_subscription_ends_with_a_token_that_is_good() {
    // The stored one.
    let mut notifier = MockChangeNotifier::new();
    notifier
        .expect_unsubscribe()
        .withf(|token, id| token.expose_secret() == "old" && id == "s")
        .times(1)
        .returning(|_, _| Ok(()));
    let subscription = ending("s", NOW + Duration::HOUR);
    assert!(
        disconnect(subscription, MockAuthorizer::new(), notifier)
            .await
            .unwrap()
    );

    // A fresh one, as the stored one has expired.
    let mut notifier = MockChangeNotifier::new();
    notifier
        .expect_unsubscribe()
        .withf(|token, _| token.expose_secret() == "fresh")
        .times(1)
        .returning(|_, _| Ok(()));
    assert!(
        disconnect(ending("s", NOW), refreshing(), notifier)
            .await
            .unwrap()
    );

    // A fresh one, as the stored one is refused.
    let mut notifier = MockChangeNotifier::new();
    let mut order = Sequence::new();
    notifier
        .expect_unsubscribe()
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _| Err(PortError::new(FailureClass::Authentication, "unauthorized")));
    notifier
        .expect_unsubscribe()
        .withf(|token, _| token.expose_secret() == "fresh")
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _| Ok(()));
    let subscription = ending("s", NOW + Duration::HOUR);
    assert!(
        disconnect(subscription, refreshing(), notifier)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_provider_that_fails_keeps_nobody_from_disconnecting() {
    let mut notifier = MockChangeNotifier::new();
    notifier
        .expect_unsubscribe()
        .times(1)
        .returning(|_, _| Err(PortError::new(FailureClass::Retryable, "timeout")));
    let subscription = ending("s", NOW + Duration::HOUR);
    assert!(
        disconnect(subscription, MockAuthorizer::new(), notifier)
            .await
            .unwrap()
    );

    // Others' calendars of the account stay: nobody uses up its refresh token without its lease.
    let staying = EndingSubscription {
        account_stays: true,
        ..ending("s", NOW)
    };
    let disconnected = disconnect(staying, MockAuthorizer::new(), MockChangeNotifier::new()).await;
    assert!(disconnected.unwrap());

    let unreadable = EndingSubscription {
        tokens: StoredTokens::Unreadable("token_missing"),
        ..ending("s", NOW)
    };
    assert!(
        disconnect(unreadable, MockAuthorizer::new(), MockChangeNotifier::new())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn what_is_not_there_ends_nothing() {
    let mut subscriptions = MockSubscriptionStore::new();
    subscriptions
        .expect_ending()
        .returning(|_, _| Ok(vec![ending("s", NOW + Duration::HOUR)]));
    let mut connections = MockConnectionStore::new();
    connections
        .expect_disconnect()
        .returning(|_, _, _| Ok(false));
    let use_case = Disconnect {
        connections: Arc::new(connections),
        subscriptions: Arc::new(subscriptions),
        providers: providers(MockAuthorizer::new(), MockChangeNotifier::new()),
        clock: clock(),
    };
    assert!(
        !use_case
            .run(UserId::new(), ConnectionId::new())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn a_deleted_users_subscriptions_all_end_after_the_user() {
    let mut order = Sequence::new();
    let mut subscriptions = MockSubscriptionStore::new();
    subscriptions
        .expect_ending()
        .withf(|_, connection| connection.is_none())
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _| {
            let later = NOW + Duration::HOUR;
            Ok(vec![ending("a", later), ending("b", later)])
        });
    let mut users = MockUserStore::new();
    users
        .expect_delete()
        .times(1)
        .in_sequence(&mut order)
        .returning(|_, _| Ok(true));
    let mut notifier = MockChangeNotifier::new();
    notifier
        .expect_unsubscribe()
        .times(2)
        .in_sequence(&mut order)
        .returning(|_, _| Ok(()));
    let use_case = DeleteUser {
        users: Arc::new(users),
        subscriptions: Arc::new(subscriptions),
        providers: providers(MockAuthorizer::new(), notifier),
        clock: clock(),
    };
    assert!(use_case.run(UserId::new()).await.unwrap());
}
