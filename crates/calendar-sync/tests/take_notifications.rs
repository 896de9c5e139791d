//! Taking notifications, over mocked ports: what is recorded, in how many statements, and who is told what.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use calendar_domain::failure::{FailureClass, PortError};
use calendar_domain::ids::{AccountId, SubscriptionId};
use calendar_domain::ports::{
    Clock, MockAuthorizer, MockCalendarDirectory, MockCalendarReader, MockChangeNotifier,
    MockClock, MockSecrets, MockSubscriptionStore,
};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::{KnownSubscription, Notification, Notified, PushSignal};
use calendar_sync::{
    Provider, Providers, TakeNotifications, TakeNotificationsError, TakenNotifications,
};
use secrecy::{ExposeSecret as _, SecretString};
use time::OffsetDateTime;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// A body is one entry a line: `id state signal`.
fn read(body: &[u8]) -> Vec<Notification> {
    let text = String::from_utf8_lossy(body);
    let entries = text.lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        Notification {
            subscription_id: word(),
            client_state: Some(word())
                .filter(|state| !state.is_empty())
                .map(SecretString::from),
            signal: match word().as_str() {
                "missed" => PushSignal::Missed,
                "removed" => PushSignal::Removed,
                _ => PushSignal::Changed,
            },
        }
    });
    entries.collect()
}

fn known(id: &str, state: Option<&str>) -> KnownSubscription {
    KnownSubscription {
        id: SubscriptionId::new(),
        account_id: AccountId::new(),
        subscription_id: id.to_owned(),
        client_state: state.map(fingerprint),
    }
}

fn fingerprint(state: &str) -> [u8; 32] {
    let mut fingerprint = [0; 32];
    fingerprint[..state.len()].copy_from_slice(state.as_bytes());
    fingerprint
}

/// Takes notifications into this store; `a` and `b` are ours, with the states `x` and `y`; `c` has none.
fn taking(mut store: MockSubscriptionStore) -> (TakeNotifications, SubscriptionId, SubscriptionId) {
    let ours = [
        known("a", Some("x")),
        known("b", Some("y")),
        known("c", None),
    ];
    let (a, b) = (ours[0].id, ours[1].id);
    store.expect_find().returning(move |_, ids| {
        let asked = ours
            .iter()
            .filter(|known| ids.contains(&known.subscription_id));
        Ok(asked.cloned().collect())
    });
    let mut clock = MockClock::new();
    clock.expect_now().return_const(NOW);
    (start(store, Arc::new(clock)), a, b)
}

fn start(store: MockSubscriptionStore, clock: Arc<dyn Clock>) -> TakeNotifications {
    let mut notifier = MockChangeNotifier::new();
    notifier.expect_notifications().returning(|body| {
        if body == b"garbage" {
            return Err(PortError::new(FailureClass::InvalidInput, "unreadable"));
        }
        Ok(read(body))
    });
    let mut secrets = MockSecrets::new();
    secrets
        .expect_matches()
        .returning(|given, expected| fingerprint(given.expose_secret()) == *expected);
    let provider = Provider {
        authorizer: Arc::new(MockAuthorizer::new()),
        directory: Arc::new(MockCalendarDirectory::new()),
        reader: Arc::new(MockCalendarReader::new()),
        notifier: Arc::new(notifier),
        push: None,
    };
    let providers = Providers::new().with(CalendarProvider::Microsoft, provider);
    TakeNotifications::start(
        Arc::new(store),
        Arc::new(secrets),
        clock,
        Arc::new(providers),
    )
}

async fn take(
    taking: &TakeNotifications,
    body: &str,
) -> Result<TakenNotifications, TakeNotificationsError> {
    taking
        .run(CalendarProvider::Microsoft, body.as_bytes())
        .await
}

#[tokio::test]
async fn what_is_genuine_is_recorded_once_for_each_subscription_and_the_rest_is_counted() {
    let mut store = MockSubscriptionStore::new();
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let seen = recorded.clone();
    store
        .expect_record()
        .times(1)
        .returning(move |notified: &[Notified], now| {
            assert_eq!(now, NOW);
            seen.lock().unwrap().extend_from_slice(notified);
            Ok(())
        });
    let (taking, a, b) = taking(store);
    let body = "a x changed\na x changed\nb forged changed\nb y missed\na x removed\nz x changed\nc x changed\na";
    let taken = take(&taking, body).await.unwrap();
    let expected = TakenNotifications {
        accepted: 4,
        unknown: 1,
        refused: 3,
    };
    assert_eq!(taken, expected);
    let recorded = recorded.lock().unwrap();
    assert_eq!(recorded.len(), 2);
    let of = |id| *recorded.iter().find(|notified| notified.id == id).unwrap();
    assert!(of(a).changed && of(a).look && of(a).removed && !of(a).renew);
    assert!(!of(b).changed && of(b).look && !of(b).removed);
}

#[tokio::test]
async fn nothing_genuine_writes_nothing() {
    let (taking, ..) = taking(MockSubscriptionStore::new());
    let taken = take(&taking, "b x changed\nz z changed").await.unwrap();
    assert_eq!((taken.accepted, taken.unknown, taken.refused), (0, 1, 1));
    assert_eq!(
        take(&taking, "").await.unwrap(),
        TakenNotifications::default()
    );
}

#[tokio::test]
async fn what_cannot_be_read_or_recorded_is_said() {
    let mut store = MockSubscriptionStore::new();
    store
        .expect_record()
        .times(1)
        .returning(|_, _| Err(PortError::new(FailureClass::Retryable, "database_down")));
    store.expect_record().times(1).returning(|_, _| Ok(()));
    let (taking, ..) = taking(store);
    assert!(matches!(
        take(&taking, "garbage").await,
        Err(TakeNotificationsError::Unreadable(_))
    ));
    assert!(matches!(
        taking.run(CalendarProvider::Google, b"a x changed").await,
        Err(TakeNotificationsError::ProviderOff)
    ));
    assert!(matches!(
        take(&taking, "a x changed").await,
        Err(TakeNotificationsError::Port(error)) if error.class == FailureClass::Retryable
    ));
    // The next one is tried afresh.
    assert_eq!(take(&taking, "a x changed").await.unwrap().accepted, 1);
}

#[tokio::test]
async fn bodies_that_arrive_together_share_a_statement() {
    let mut store = MockSubscriptionStore::new();
    store
        .expect_record()
        .withf(|notified, _| notified.len() == 1)
        .times(1)
        .returning(|_, _| Ok(()));
    let (taking, ..) = taking(store);
    // On one thread all of them have sent before the recorder has its turn.
    let bodies = (0..100).map(|_| take(&taking, "a x changed"));
    for taken in futures_util::future::join_all(bodies).await {
        assert_eq!(taken.unwrap().accepted, 1);
    }
}

#[tokio::test]
async fn a_body_that_is_out_of_all_proportion_is_refused() {
    let (taking, ..) = taking(MockSubscriptionStore::new());
    let body = "z z changed\n".repeat(5_000);
    assert_eq!(take(&taking, &body).await.unwrap().unknown, 5_000);
    let refused = take(&taking, &(body + "z z changed")).await;
    assert!(matches!(
        refused,
        Err(TakeNotificationsError::Unreadable(_))
    ));
}

/// A clock that panics when it is asked first.
#[derive(Default)]
struct BrokenOnce(AtomicBool);

impl Clock for BrokenOnce {
    fn now(&self) -> OffsetDateTime {
        assert!(self.0.swap(true, Ordering::SeqCst), "broken once");
        NOW
    }
}

#[tokio::test]
async fn a_panic_costs_one_batch_and_not_all_that_follow() {
    let mut store = MockSubscriptionStore::new();
    store.expect_record().times(1).returning(|_, _| Ok(()));
    let ours = known("a", Some("x"));
    store
        .expect_find()
        .returning(move |_, _| Ok(vec![ours.clone()]));
    let taking = start(store, Arc::new(BrokenOnce::default()));
    assert!(matches!(
        take(&taking, "a x changed").await,
        Err(TakeNotificationsError::Port(_))
    ));
    assert_eq!(take(&taking, "a x changed").await.unwrap().accepted, 1);
}

#[tokio::test]
async fn who_gives_up_waiting_takes_nobody_elses_answer_along() {
    let mut store = MockSubscriptionStore::new();
    store.expect_record().returning(|_, _| Ok(()));
    let (taking, ..) = taking(store);
    let mut first = Box::pin(take(&taking, "a x changed"));
    let mut second = Box::pin(take(&taking, "b y changed"));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(second.await.unwrap().accepted, 1);
}
