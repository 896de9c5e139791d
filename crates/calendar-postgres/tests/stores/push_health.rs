//! Push where connections and users are changed and read: what ends with them, what they show.

use calendar_domain::account::StoredTokens;
use calendar_domain::ids::ConnectionId;
use calendar_domain::ports::{ConnectionStore as _, SubscriptionStore as _, UserStore as _};
use calendar_domain::subscription::PushHealth;
use calendar_domain::sync::Mailbox;
use calendar_postgres::PgHousekeeping;
use time::Duration;

use crate::subscriptions::{EXPIRES_AT, Pushed, new_subscription};
use crate::support::{NOW, World, listing, new_connections};

impl Pushed {
    async fn health(&self, id: ConnectionId) -> PushHealth {
        let found = self.world.connections.get(self.user, id).await.unwrap();
        found.unwrap().push
    }
}

#[tokio::test]
async fn a_subscription_ends_with_the_last_calendar_it_covers() {
    let pushed = Pushed::new().await;
    let (store, connections) = (&pushed.world.subscriptions, &pushed.world.connections);
    let ending = async |connection: Option<ConnectionId>| -> Vec<String> {
        let ending = store.ending(pushed.user, connection).await.unwrap();
        assert!(
            ending
                .iter()
                .all(|one| matches!(one.tokens, StoredTokens::Open(_)))
        );
        ending.into_iter().map(|one| one.subscription_id).collect()
    };
    let none = Vec::<String>::new();
    assert_eq!(ending(Some(pushed.main)).await, none, "a sibling is left");
    assert_eq!(ending(Some(pushed.shared)).await, none);
    assert_eq!(ending(None).await, ["one"]);
    let eve = pushed.world.user("eve@example.com").await;
    assert!(
        store
            .ending(eve, Some(pushed.main))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.ending(eve, None).await.unwrap().is_empty());
    // It moves to the sibling in the transaction that disconnects its own.
    connections
        .disconnect(pushed.user, pushed.main, NOW)
        .await
        .unwrap();
    assert_eq!(pushed.active().await, ["one on other"]);
    assert_eq!(ending(Some(pushed.main)).await, none, "it is gone already");
    assert_eq!(
        ending(Some(pushed.other)).await,
        ["one"],
        "what is left is another's"
    );
    connections
        .disconnect(pushed.user, pushed.other, NOW)
        .await
        .unwrap();
    assert_eq!(pushed.active().await, none);
    assert_eq!(ending(None).await, none);
}

#[tokio::test]
async fn the_subscriptions_of_a_user_end_with_the_user() {
    let pushed = Pushed::new().await;
    pushed
        .world
        .connect(pushed.user, "work", &["w1", "w2"])
        .await;
    let lease = pushed.world.claim().await.unwrap().lease;
    let sql = "SELECT id::text FROM calendar_connections WHERE calendar_id = 'w1'";
    let id = ConnectionId(pushed.world.text(sql).await.unwrap().parse().unwrap());
    let store = &pushed.world.subscriptions;
    store
        .start(&lease, new_subscription(id, "work"), NOW)
        .await
        .unwrap();
    let ending = store.ending(pushed.user, None).await.unwrap();
    assert_eq!(ending.len(), 2);
    pushed.world.users.delete(pushed.user, NOW).await.unwrap();
    assert_eq!(pushed.active().await, Vec::<String>::new());
    assert!(store.ending(pushed.user, None).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_connection_shows_how_its_push_is() {
    let pushed = Pushed::unsubscribed().await;
    assert_eq!(pushed.health(pushed.main).await, PushHealth::Off);
    assert_eq!(pushed.health(pushed.shared).await, PushHealth::Unsupported);
    let store = &pushed.world.subscriptions;
    store
        .failed(&pushed.lease, "push_unsupported", NOW)
        .await
        .unwrap();
    assert_eq!(pushed.health(pushed.main).await, PushHealth::Unsupported);
    store.failed(&pushed.lease, "timeout", NOW).await.unwrap();
    assert_eq!(pushed.health(pushed.main).await, PushHealth::Off);
    pushed.start("one", NOW).await.unwrap();
    let (healthy, stale) = (
        PushHealth::Healthy {
            expires_at: EXPIRES_AT,
        },
        PushHealth::Stale {
            expires_at: EXPIRES_AT,
        },
    );
    assert_eq!(pushed.health(pushed.main).await, healthy);
    assert_eq!(pushed.health(pushed.other).await, healthy);
    assert_eq!(pushed.health(pushed.shared).await, PushHealth::Unsupported);
    store
        .suspect_silence(
            &pushed.lease,
            NOW + Duration::SECOND,
            NOW,
            NOW + Duration::MINUTE,
        )
        .await
        .unwrap();
    assert_eq!(pushed.health(pushed.main).await, stale);
    pushed
        .sql("UPDATE webhook_subscriptions SET last_notification_at = '2026-03-02 12:00Z'")
        .await;
    assert_eq!(
        pushed.health(pushed.main).await,
        stale,
        "that push was before"
    );
    pushed
        .sql("UPDATE webhook_subscriptions SET last_notification_at = '2026-03-02 12:02Z'")
        .await;
    assert_eq!(pushed.health(pushed.main).await, healthy);
    store
        .failed(&pushed.lease, "push_unsupported", NOW)
        .await
        .unwrap();
    assert_eq!(pushed.health(pushed.main).await, healthy, "it stands still");
    let all = pushed
        .world
        .connections
        .list(pushed.user, None, 10)
        .await
        .unwrap()
        .items;
    assert_eq!(all.iter().filter(|one| one.push == healthy).count(), 2);
    pushed
        .sql(
            "UPDATE webhook_subscriptions SET expiration_datetime = now() - interval '1 s';
        UPDATE calendar_accounts SET push_error_code = NULL",
        )
        .await;
    assert_eq!(pushed.health(pushed.main).await, PushHealth::Off);
}

#[tokio::test]
async fn a_calendar_read_through_anothers_mailbox_is_shared() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let mut new = new_connections(user, "ada", &["boss"]);
    new.mailbox = Mailbox::Delegate("boss@example.com".to_owned());
    let id = world
        .connections
        .connect(new, NOW)
        .await
        .unwrap()
        .connection_ids[0];
    let push = async || world.connections.get(user, id).await.unwrap().unwrap().push;
    assert_eq!(push().await, PushHealth::Unsupported);
    assert!(world.claim().await.unwrap().connections[0].is_shared);
    // Connected again as the account's own.
    let mut new = new_connections(user, "ada", &[]);
    new.calendars.push(listing("boss"));
    world.connections.connect(new, NOW).await.unwrap();
    assert_eq!(push().await, PushHealth::Off);
}

#[tokio::test]
async fn signing_in_makes_push_due_again() {
    let pushed = Pushed::new().await;
    let store = &pushed.world.subscriptions;
    store
        .failed(&pushed.lease, "push_unsupported", EXPIRES_AT)
        .await
        .unwrap();
    let later = NOW + Duration::seconds(7);
    let new = new_connections(pushed.user, "ada", &["main"]);
    pushed.world.connections.connect(new, later).await.unwrap();
    assert_eq!(pushed.account().await, "no push due 7 0 - heard");
}

#[tokio::test]
async fn subscriptions_that_ended_long_ago_are_purged() {
    let pushed = Pushed::new().await;
    pushed.start("two", NOW).await.unwrap();
    let housekeeping = PgHousekeeping::new(pushed.world.pool.clone());
    let month = NOW + Duration::days(30);
    assert_eq!(housekeeping.purge(month).await.unwrap(), 0);
    assert_eq!(
        housekeeping.purge(month + Duration::SECOND).await.unwrap(),
        1
    );
    assert_eq!(pushed.active().await, ["two on main"]);
    let left = "SELECT count(*) FROM webhook_subscriptions";
    assert_eq!(pushed.world.number(left).await, 1);
}
