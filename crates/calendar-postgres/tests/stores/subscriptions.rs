//! `SubscriptionStore`: what is kept of a subscription, and what becomes of it under a lease.

use calendar_domain::account::StoredTokens;
use calendar_domain::connection::NewConnections;
use calendar_domain::failure::PortResult;
use calendar_domain::ids::{ConnectionId, SubscriptionId, UserId};
use calendar_domain::ports::{ConnectionStore as _, SubscriptionStore as _, SyncQueue as _};
use calendar_domain::provider::CalendarProvider;
use calendar_domain::subscription::{NewSubscription, ProviderSubscription, WebhookSubscription};
use calendar_domain::sync::{Claim, Lease};
use secrecy::ExposeSecret as _;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::support::{NOW, TTL, World, code, new_connections};

/// Far away by every clock.
pub(crate) const EXPIRES_AT: OffsetDateTime = datetime!(2199-01-01 0:00 UTC);

fn fingerprint(id: &str) -> [u8; 32] {
    let mut bytes = [0xf0; 32];
    for (byte, of_id) in bytes.iter_mut().zip(id.bytes()) {
        *byte = of_id;
    }
    bytes
}

pub(crate) fn new_subscription(connection: ConnectionId, id: &str) -> NewSubscription {
    NewSubscription {
        connection_id: connection,
        provider: CalendarProvider::Microsoft,
        subscription: ProviderSubscription {
            subscription_id: id.to_owned(),
            resource_path: "me/events".to_owned(),
            notification_url: "https://calendar.example.com/webhooks/microsoft".to_owned(),
            expires_at: EXPIRES_AT,
        },
        client_state: fingerprint(id),
    }
}

/// An account with two calendars of its own and one that is another's.
pub(crate) struct Pushed {
    pub(crate) world: World,
    pub(crate) user: UserId,
    /// `main`.
    pub(crate) main: ConnectionId,
    /// `other`.
    pub(crate) other: ConnectionId,
    /// `theirs`, another's.
    pub(crate) shared: ConnectionId,
    pub(crate) lease: Lease,
}

/// As [`new_connections`], with `theirs` being another's.
pub(crate) fn with_shared(user: UserId, who: &str, calendars: &[&str]) -> NewConnections {
    let mut new = new_connections(user, who, calendars);
    for calendar in &mut new.calendars {
        calendar.is_shared = calendar.id.starts_with("theirs");
    }
    new
}

impl Pushed {
    /// Claimed, without a subscription.
    pub(crate) async fn unsubscribed() -> Self {
        let world = World::new().await;
        let user = world.user("ada@example.com").await;
        let new = with_shared(user, "ada", &["main", "other", "theirs"]);
        let ids = world
            .connections
            .connect(new, NOW)
            .await
            .unwrap()
            .connection_ids;
        let lease = world.claim().await.unwrap().lease;
        Self {
            world,
            user,
            main: ids[0],
            other: ids[1],
            shared: ids[2],
            lease,
        }
    }

    /// Claimed, with the subscription `one` on `main`, nothing due until far away.
    pub(crate) async fn new() -> Self {
        let pushed = Self::unsubscribed().await;
        pushed.start("one", NOW).await.unwrap();
        pushed.rest().await;
        pushed
    }

    /// Nothing is due any more.
    pub(crate) async fn rest(&self) {
        self.sql(
            "UPDATE calendar_sync_states SET due_at = '2100-01-01Z';
            UPDATE calendar_accounts SET pushed_at = NULL, push_due_at = NULL",
        )
        .await;
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.world.sql.batch_execute(sql).await.unwrap();
    }

    pub(crate) async fn start(&self, id: &str, now: OffsetDateTime) -> PortResult<()> {
        let new = new_subscription(self.main, id);
        self.world.subscriptions.start(&self.lease, new, now).await
    }

    /// The row with the provider's id.
    pub(crate) async fn get(&self, id: &str) -> WebhookSubscription {
        let work = self
            .world
            .subscriptions
            .push_work(&self.lease)
            .await
            .unwrap();
        let subscription = work.subscription.unwrap();
        assert_eq!(subscription.subscription_id, id);
        subscription
    }

    pub(crate) async fn id(&self, id: &str) -> SubscriptionId {
        let found = self
            .world
            .subscriptions
            .find(CalendarProvider::Microsoft, &[id.to_owned()])
            .await
            .unwrap();
        found[0].id
    }

    /// The account's columns on push.
    pub(crate) async fn account(&self) -> String {
        self.world
            .text(
                "SELECT concat_ws(' ',
                    coalesce('pushed ' || extract(epoch FROM pushed_at - '2026-03-02 12:00Z')::float, 'no push'),
                    coalesce('due ' || extract(epoch FROM push_due_at - '2026-03-02 12:00Z')::float, 'no due'),
                    push_failure_count, coalesce(push_error_code, '-'),
                    coalesce('silent ' || extract(epoch FROM push_silent_since - '2026-03-02 12:00Z')::float, 'heard'))
                FROM calendar_accounts",
            )
            .await
            .unwrap()
    }

    pub(crate) async fn claim_at(&self, now: OffsetDateTime) -> Option<Claim> {
        self.world
            .queue
            .claim(
                self.world.worker,
                &[CalendarProvider::Microsoft],
                &[CalendarProvider::Microsoft],
                now,
                TTL,
            )
            .await
            .unwrap()
    }

    pub(crate) async fn release(&self) {
        self.sql("UPDATE calendar_accounts SET lease_owner = NULL, lease_expires_at = NULL")
            .await;
    }

    /// Provider ids of the active subscriptions with the connection each stands on.
    pub(crate) async fn active(&self) -> Vec<String> {
        self.world
            .texts(
                "SELECT w.subscription_id || ' on ' || c.calendar_id FROM webhook_subscriptions AS w
                JOIN calendar_connections AS c ON c.id = w.calendar_connection_id
                WHERE w.is_active ORDER BY 1",
            )
            .await
    }
}

#[tokio::test]
async fn what_is_stored_of_a_subscription_is_found_again() {
    let pushed = Pushed::new().await;
    let store = &pushed.world.subscriptions;
    let ids = ["one".to_owned(), "unknown".to_owned(), "a\0b".to_owned()];
    let found = store.find(CalendarProvider::Microsoft, &ids).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].account_id, pushed.lease.account_id);
    assert_eq!(found[0].subscription_id, "one");
    assert_eq!(found[0].client_state, Some(fingerprint("one")));
    assert!(
        store
            .find(CalendarProvider::Google, &ids)
            .await
            .unwrap()
            .is_empty()
    );
    let stored = pushed.get("one").await;
    assert_eq!(
        (stored.id, stored.connection_id),
        (found[0].id, pushed.main)
    );
    assert_eq!((stored.expires_at, stored.created_at), (EXPIRES_AT, NOW));
    assert!(stored.is_active && stored.renewed_at.is_none());
    // One that has ended is known still, and one of an account that is gone is not.
    pushed
        .sql("UPDATE webhook_subscriptions SET is_active = false")
        .await;
    assert_eq!(
        store
            .find(CalendarProvider::Microsoft, &ids)
            .await
            .unwrap()
            .len(),
        1
    );
    pushed
        .sql("UPDATE calendar_accounts SET deleted_at = now()")
        .await;
    assert!(
        store
            .find(CalendarProvider::Microsoft, &ids)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn all_own_calendars_show_the_accounts_subscriptions() {
    let pushed = Pushed::new().await;
    pushed
        .start("two", NOW + Duration::minutes(1))
        .await
        .unwrap();
    let store = &pushed.world.subscriptions;
    let ids = |list: Vec<WebhookSubscription>| -> Vec<String> {
        list.into_iter().map(|one| one.subscription_id).collect()
    };
    let list = async |id| {
        let listed = store.list(pushed.user, id, None, 10).await.unwrap();
        listed.map(|listed| listed.items)
    };
    // The first ended months ago by the database's clock.
    assert_eq!(ids(list(pushed.main).await.unwrap()), ["two"]);
    pushed
        .sql("UPDATE webhook_subscriptions SET updated_at = now()")
        .await;
    assert_eq!(ids(list(pushed.main).await.unwrap()), ["two", "one"]);
    assert_eq!(ids(list(pushed.other).await.unwrap()), ["two", "one"]);
    assert!(list(pushed.shared).await.unwrap().is_empty());
    assert!(list(ConnectionId::new()).await.is_none());
    let eve = pushed.world.user("eve@example.com").await;
    assert!(
        store
            .list(eve, pushed.main, None, 10)
            .await
            .unwrap()
            .is_none()
    );
    pushed
        .world
        .connections
        .disconnect(pushed.user, pushed.other, NOW)
        .await
        .unwrap();
    assert!(list(pushed.other).await.is_none());
}

#[tokio::test]
async fn subscriptions_are_listed_page_by_page_newest_first() {
    let pushed = Pushed::new().await;
    // Three of each minute, whose ids decide; one more becomes the newest between two pages.
    let insert = |from, to| {
        format!(
            "INSERT INTO webhook_subscriptions (id, calendar_connection_id, account_id, provider,
                subscription_id, expiration_datetime, is_active, created_at, updated_at)
            SELECT lpad(n::text, 32, '0')::uuid, c.id, c.account_id, 'MICROSOFT', 's' || n, now(), false,
                timestamptz '2199-01-01Z' + n / 3 * interval '1 minute', now()
            FROM calendar_connections AS c, generate_series({from}, {to}) AS n
            WHERE c.id = '{}'",
            pushed.main
        )
    };
    pushed.sql("DELETE FROM webhook_subscriptions").await;
    pushed.sql(&insert(1, 20)).await;
    let store = &pushed.world.subscriptions;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .list(pushed.user, pushed.main, after, 4)
            .await
            .unwrap();
        let page = page.unwrap();
        seen.push(page.items.len());
        let ids = page.items.into_iter().map(|one| one.subscription_id);
        let from = 20 - seen[..seen.len() - 1].iter().sum::<usize>();
        let expected = (1..=from).rev().take(4).map(|n| format!("s{n}"));
        assert!(ids.eq(expected), "page {}", seen.len());
        after = page.next;
        if after.is_none() {
            break;
        }
        if seen.len() == 1 {
            pushed.sql(&insert(21, 21)).await;
        }
    }
    assert_eq!(
        seen, [4; 5],
        "the last one is full, and no empty one follows"
    );
}

#[tokio::test]
async fn a_new_subscription_takes_the_place_of_others_and_catches_up() {
    let pushed = Pushed::new().await;
    let failing = format!(
        "UPDATE calendar_sync_states SET failure_count = 1 WHERE connection_id = '{}';
        UPDATE calendar_accounts SET push_failure_count = 3, push_error_code = 'x', push_due_at = '2026-01-01Z',
            push_silent_since = '2026-03-02 12:00Z'",
        pushed.other
    );
    pushed.sql(&failing).await;
    let later = NOW + Duration::seconds(30);
    pushed.start("two", later).await.unwrap();
    assert_eq!(pushed.active().await, ["two on main"]);
    // What was changed or pushed before it is looked at as after a push.
    assert_eq!(pushed.account().await, "pushed 30 no due 0 - silent 0");
    // The provider's id again is the same subscription.
    let before = pushed.id("two").await;
    pushed.start("two", later).await.unwrap();
    assert_eq!(
        (pushed.id("two").await, pushed.active().await.len()),
        (before, 1)
    );
    // A silence that a push has ended says nothing about a new one.
    pushed
        .sql("UPDATE webhook_subscriptions SET last_notification_at = '2026-03-02 12:00:10Z'")
        .await;
    pushed.start("three", later).await.unwrap();
    assert_eq!(pushed.account().await, "pushed 30 no due 0 - heard");
}

#[tokio::test]
async fn what_is_pushed_to_an_address_that_is_not_ours_any_more_ends() {
    let pushed = Pushed::new().await;
    let store = &pushed.world.subscriptions;
    let end = async |url: &str| {
        let reachable = [(CalendarProvider::Microsoft, url.to_owned())];
        store
            .end_unreachable(&reachable, NOW, std::time::Duration::from_mins(1))
            .await
            .unwrap()
    };
    assert_eq!(
        end("https://calendar.example.com/webhooks/microsoft").await,
        0
    );
    assert_eq!(pushed.account().await, "no push no due 0 - heard");
    assert_eq!(end("https://new.example.com/webhooks/microsoft").await, 1);
    assert!(pushed.active().await.is_empty());
    let sql = "SELECT count(*) FROM calendar_accounts WHERE pushed_at = push_due_at
        AND pushed_at >= '2026-03-02 12:00Z' AND pushed_at < '2026-03-02 12:01Z'";
    assert_eq!(pushed.world.number(sql).await, 1);

    // Nothing reaches us any more.
    pushed.start("two", NOW).await.unwrap();
    assert_eq!(store.end_unreachable(&[], NOW, TTL).await.unwrap(), 1);
    assert!(pushed.active().await.is_empty());
}

#[tokio::test]
async fn a_subscription_of_another_account_is_not_taken_away() {
    let pushed = Pushed::new().await;
    let eve = pushed.world.user("eve@example.com").await;
    let id = pushed
        .world
        .connect(eve, "ada", &["main"])
        .await
        .connection_ids[0];
    let lease = pushed.world.claim().await.unwrap().lease;
    let store = &pushed.world.subscriptions;
    let taken = store.start(&lease, new_subscription(id, "one"), NOW).await;
    assert_eq!(code(taken), "subscription_taken");
    assert_eq!(pushed.get("one").await.connection_id, pushed.main);
    pushed
        .sql("UPDATE webhook_subscriptions SET is_active = false")
        .await;
    store
        .start(&lease, new_subscription(id, "one"), NOW)
        .await
        .unwrap();
    assert_eq!(pushed.active().await, ["one on main"]);
    assert!(
        store
            .push_work(&pushed.lease)
            .await
            .unwrap()
            .subscription
            .is_none()
    );
}

#[tokio::test]
async fn push_work_says_what_to_stand_on() {
    let pushed = Pushed::unsubscribed().await;
    let store = &pushed.world.subscriptions;
    let work = store.push_work(&pushed.lease).await.unwrap();
    assert_eq!((work.anchor, work.failure_count), (Some(pushed.main), 0));
    assert!(work.subscription.is_none() && work.silent_since.is_none());
    let StoredTokens::Open(tokens) = work.tokens else {
        panic!("they open")
    };
    assert_eq!(tokens.access_token.expose_secret(), "access-1");
    pushed
        .world
        .connections
        .disconnect(pushed.user, pushed.main, NOW)
        .await
        .unwrap();
    let anchor = async || store.push_work(&pushed.lease).await.unwrap();
    assert_eq!(anchor().await.anchor, Some(pushed.other));
    pushed
        .world
        .connections
        .disconnect(pushed.user, pushed.other, NOW)
        .await
        .unwrap();
    let work = anchor().await;
    assert!(work.anchor.is_none(), "what is left is another's");
    assert!(matches!(work.tokens, StoredTokens::Open(_)));
    // Unreadable tokens of one connection are no reason while another's open.
    pushed
        .sql("UPDATE calendar_connections SET access_token = 'v1.forged'")
        .await;
    let StoredTokens::Unreadable(why) = anchor().await.tokens else {
        panic!("forged")
    };
    assert_eq!(why, "token_forged");
}

#[tokio::test]
async fn a_renewed_subscription_keeps_what_became_due_by_its_removal() {
    let pushed = Pushed::new().await;
    let store = &pushed.world.subscriptions;
    let id = pushed.id("one").await;
    pushed.sql("UPDATE calendar_accounts SET push_failure_count = 2, push_error_code = 'x', push_due_at = '2026-03-02 12:00Z'").await;
    let later = NOW + Duration::hours(1);
    let ends = datetime!(2199-02-01 0:00 UTC);
    let next = Some(NOW + Duration::seconds(90));
    store
        .renewed(&pushed.lease, id, ends, next, later)
        .await
        .unwrap();
    let renewed = pushed.get("one").await;
    assert_eq!(
        (renewed.expires_at, renewed.renewed_at, renewed.updated_at),
        (ends, Some(later), later)
    );
    // What the provider did not tell while it waited for this is looked at.
    assert_eq!(pushed.account().await, "pushed 3600 due 90 0 - heard");
    store.ended(&pushed.lease, id, NOW).await.unwrap();
    assert_eq!(pushed.active().await, Vec::<String>::new());
    // What it covered has been polled rarely so far.
    assert_eq!(pushed.account().await, "pushed 0 due 0 0 - heard");
    store
        .renewed(&pushed.lease, id, ends, None, later)
        .await
        .unwrap();
    assert_eq!(
        pushed.active().await,
        Vec::<String>::new(),
        "it stays removed"
    );
    assert_eq!(pushed.account().await, "pushed 0 due 0 0 - heard");
}

#[tokio::test]
async fn what_fails_is_tried_again_and_what_is_settled_is_not() {
    let pushed = Pushed::unsubscribed().await;
    let store = &pushed.world.subscriptions;
    for number in 1..=2 {
        let retry_at = NOW + Duration::seconds(10 * number);
        store
            .failed(&pushed.lease, "push_endpoint\0_unreachable", retry_at)
            .await
            .unwrap();
        let expected = format!("no push due {number}0 {number} push_endpoint_unreachable heard");
        assert_eq!(pushed.account().await, expected);
    }
    store
        .failed(&pushed.lease, &"x".repeat(200), NOW)
        .await
        .unwrap();
    assert!(pushed.account().await.starts_with("no push due 0 3 xxx"));
    store.settle(&pushed.lease).await.unwrap();
    assert!(pushed.account().await.starts_with("no push no due"));
    let work = store.push_work(&pushed.lease).await.unwrap();
    assert_eq!(work.failure_count, 3);
}

#[tokio::test]
async fn silence_is_suspected_once_until_a_push_comes() {
    let pushed = Pushed::new().await;
    let store = &pushed.world.subscriptions;
    let at = |seconds| NOW + Duration::seconds(seconds);
    let suspect = async |since, now| {
        store
            .suspect_silence(&pushed.lease, at(since), at(now + 60), at(now))
            .await
            .unwrap();
        pushed.account().await
    };
    assert_eq!(
        suspect(0, 100).await,
        "no push no due 0 - heard",
        "it was made at 0"
    );
    assert_eq!(suspect(1, 100).await, "pushed 100 due 160 0 - silent 100");
    assert_eq!(
        suspect(1, 200).await,
        "pushed 100 due 160 0 - silent 100",
        "known"
    );
    assert_eq!(
        store.push_work(&pushed.lease).await.unwrap().silent_since,
        Some(at(100))
    );
    let pushed_at = "UPDATE webhook_subscriptions SET last_notification_at = timestamptz '2026-03-02 12:00Z' + interval '150 s'";
    pushed.sql(pushed_at).await;
    assert_eq!(
        store.push_work(&pushed.lease).await.unwrap().silent_since,
        None
    );
    assert_eq!(
        suspect(150, 300).await,
        "pushed 100 due 160 0 - silent 100",
        "a push came"
    );
    assert_eq!(
        suspect(151, 300).await,
        "pushed 100 due 160 0 - silent 300",
        "none since"
    );
    // A day later what stands is looked at anew.
    let day = 24 * 3600;
    assert_eq!(suspect(151, day).await, "pushed 100 due 160 0 - silent 300");
    assert_eq!(
        suspect(151, day + 1).await,
        format!("pushed 100 due 160 0 - silent {}", day + 1)
    );
}

#[tokio::test]
async fn a_stale_lease_changes_no_subscription() {
    let pushed = Pushed::new().await;
    let (store, id) = (&pushed.world.subscriptions, pushed.id("one").await);
    let shape = async || {
        let sql = "SELECT w::text FROM webhook_subscriptions AS w UNION ALL SELECT a::text FROM calendar_accounts AS a
            UNION ALL SELECT s::text FROM calendar_sync_states AS s ORDER BY 1";
        pushed.world.texts(sql).await
    };
    let refused = async |lease: Lease| {
        let before = shape().await;
        let later = NOW + Duration::hours(1);
        assert_eq!(code(store.push_work(&lease).await), "lease_lost");
        let new = new_subscription(pushed.main, "two");
        assert_eq!(code(store.start(&lease, new, later).await), "lease_lost");
        assert_eq!(
            code(store.renewed(&lease, id, later, None, later).await),
            "lease_lost"
        );
        assert_eq!(code(store.ended(&lease, id, later).await), "lease_lost");
        assert_eq!(code(store.settle(&lease).await), "lease_lost");
        assert_eq!(code(store.failed(&lease, "x", later).await), "lease_lost");
        assert_eq!(
            code(store.suspect_silence(&lease, later, later, later).await),
            "lease_lost"
        );
        assert_eq!(shape().await, before);
    };
    refused(Lease {
        fence: pushed.lease.fence - 1,
        ..pushed.lease
    })
    .await;
    refused(Lease {
        owner: calendar_domain::ids::WorkerId::new(),
        ..pushed.lease
    })
    .await;
    pushed
        .sql("UPDATE calendar_accounts SET lease_expires_at = now() - interval '1 s'")
        .await;
    refused(pushed.lease).await;
}

#[tokio::test]
async fn a_subscription_starts_on_a_live_connection_of_the_account_only() {
    let pushed = Pushed::new().await;
    let store = &pushed.world.subscriptions;
    let eve = pushed.world.user("eve@example.com").await;
    let foreign = pushed
        .world
        .connect(eve, "eve", &["main"])
        .await
        .connection_ids[0];
    pushed
        .world
        .connections
        .disconnect(pushed.user, pushed.other, NOW)
        .await
        .unwrap();
    for connection in [pushed.other, foreign] {
        let refused = store
            .start(&pushed.lease, new_subscription(connection, "two"), NOW)
            .await;
        assert_eq!(code(refused), "lease_lost");
    }
    assert_eq!(pushed.active().await, ["one on main"]);
}
