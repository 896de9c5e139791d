//! `ApiKeyStore`, and the users whom a product manages.

use calendar_domain::api_key::{ApiScope, MOST_API_KEYS, NewApiKey};
use calendar_domain::failure::FailureClass;
use calendar_domain::ids::{ApiKeyId, SessionId, UserId};
use calendar_domain::ports::{
    ApiKeyStore as _, ConnectionStore as _, SessionStore as _, UserStore as _,
};
use calendar_domain::user::{NewManagedUser, NewSession};
use calendar_postgres::{PgApiKeyStore, PgHousekeeping, PgSessionStore};
use time::Duration;

use crate::support::{NOW, World, code};

fn key(user_id: UserId, byte: u8) -> NewApiKey {
    NewApiKey {
        id: ApiKeyId::new(),
        user_id,
        name: "backend".to_owned(),
        hint: "calkey_AbCd".to_owned(),
        token_hash: [byte; 32],
        scopes: vec![ApiScope::EventsRead, ApiScope::UsersManage],
    }
}

fn managed(managed_by: UserId, email: &str) -> NewManagedUser {
    NewManagedUser {
        managed_by,
        email: email.to_owned(),
        first_name: Some("Eve".to_owned()),
        last_name: None,
    }
}

#[tokio::test]
async fn a_key_acts_for_its_owner_and_whom_that_one_manages() {
    let world = World::new().await;
    let keys = PgApiKeyStore::new(world.pool.clone());
    let (one, two) = (
        world.user("one@example.com").await,
        world.user("two@example.com").await,
    );
    let mine = world
        .users
        .create_managed(managed(one, "eve@example.com"), NOW);
    let mine = mine.await.unwrap();
    let theirs = world
        .users
        .create_managed(managed(two, "eve@example.com"), NOW);
    let theirs = theirs.await.unwrap();
    let made = keys.create(key(one, 1), NOW).await.unwrap();
    assert_eq!(made.last_used_at, None);

    let find = |user| keys.find([1; 32], user, NOW);
    let known = find(None).await.unwrap().unwrap();
    assert_eq!(
        (known.id, known.owner, known.acts_for),
        (made.id, one, None)
    );
    assert_eq!(known.scopes, [ApiScope::EventsRead, ApiScope::UsersManage]);
    for (user, acts) in [
        (one, true),
        (mine.id, true),
        (two, false),
        (theirs.id, false),
        (UserId::new(), false),
    ] {
        let acts_for = find(Some(user)).await.unwrap().unwrap().acts_for;
        assert_eq!(acts_for, acts.then_some(user), "{user}");
    }
    assert!(keys.find([2; 32], Some(one), NOW).await.unwrap().is_none());

    // A deleted user is nobody's, and a deleted owner's key nobody.
    world.users.delete(mine.id, NOW).await.unwrap();
    assert_eq!(find(Some(mine.id)).await.unwrap().unwrap().acts_for, None);
    world.users.delete(one, NOW).await.unwrap();
    assert!(find(Some(one)).await.unwrap().is_none());
    assert_eq!(world.number("SELECT count(*) FROM api_keys").await, 0);
    assert_eq!(code(keys.create(key(one, 3), NOW).await), "user_not_found");
    let late = world
        .users
        .create_managed(managed(one, "x@example.com"), NOW);
    assert_eq!(code(late.await), "email_taken", "the key is gone meanwhile");
    assert_eq!(
        code(keys.create(key(theirs.id, 3), NOW).await),
        "user_not_found",
        "managed users have no keys"
    );

    // An application that knows nothing of keys leaves them when it deletes their owner.
    keys.create(key(two, 4), NOW).await.unwrap();
    let older = format!("UPDATE users SET deleted_at = now() WHERE id = '{two}'");
    world.sql.batch_execute(&older).await.unwrap();
    assert!(keys.find([4; 32], None, NOW).await.unwrap().is_none());
}

#[tokio::test]
async fn keys_are_counted_listed_and_ended() {
    let world = World::new().await;
    let keys = PgApiKeyStore::new(world.pool.clone());
    let (one, two) = (
        world.user("one@example.com").await,
        world.user("two@example.com").await,
    );
    for byte in 1..MOST_API_KEYS {
        let byte = u8::try_from(byte).unwrap();
        keys.create(key(one, byte), NOW).await.unwrap();
    }
    // The last one is being made when another is asked for: that one waits, and sees it.
    let other = world.database.connect().await;
    let last = format!(
        "BEGIN; SELECT FROM users WHERE id = '{one}' FOR NO KEY UPDATE;
        INSERT INTO api_keys (user_id, name, token_hint, token_hash, scopes)
        VALUES ('{one}', 'last', 'calkey_last', 'last', '{{events:read}}')"
    );
    other.batch_execute(&last).await.unwrap();
    let asked = {
        let keys = keys.clone();
        tokio::spawn(async move { keys.create(key(one, 200), NOW).await })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = async {
        while world.number(waits).await == 0 && !asked.is_finished() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waiting)
        .await
        .unwrap();
    other.batch_execute("COMMIT").await.unwrap();
    let refused = asked.await.unwrap().unwrap_err();
    assert_eq!(
        (refused.class, refused.code.as_str()),
        (FailureClass::Conflict, "too_many_keys")
    );
    let other = keys.create(key(two, 251), NOW).await.unwrap();

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = keys.list(one, after, 20).await.unwrap();
        seen.extend(page.items.into_iter().map(|key| key.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), MOST_API_KEYS as usize);
    assert!(seen.is_sorted() && !seen.contains(&other.id));

    assert!(!keys.delete(one, other.id).await.unwrap(), "another's");
    assert!(keys.find([251; 32], None, NOW).await.unwrap().is_some());
    assert!(keys.delete(two, other.id).await.unwrap());
    assert!(!keys.delete(two, other.id).await.unwrap());
    assert!(keys.find([251; 32], None, NOW).await.unwrap().is_none());
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_once_an_hour() {
    let world = World::new().await;
    let keys = PgApiKeyStore::new(world.pool.clone());
    let user = world.user("one@example.com").await;
    keys.create(key(user, 1), NOW).await.unwrap();
    let mut noted = Vec::new();
    for minutes in [0, 1, 59, 60, 61, 119, 121] {
        let now = NOW + Duration::minutes(minutes);
        keys.find([1; 32], None, now).await.unwrap().unwrap();
        let at = keys.list(user, None, 1).await.unwrap().items[0].last_used_at;
        noted.push((at.unwrap() - NOW).whole_minutes());
    }
    assert_eq!(noted, [0, 0, 0, 60, 60, 60, 120 + 1]);
}

#[tokio::test]
async fn an_address_is_unique_within_its_product_only() {
    let world = World::new().await;
    let (one, two) = (
        world.user("one@example.com").await,
        world.user("two@example.com").await,
    );
    let create = |owner, email| world.users.create_managed(managed(owner, email), NOW);
    let eve = create(one, "Eve@Example.com").await.unwrap();
    assert_eq!(eve.email, "eve@example.com");
    assert_eq!(code(create(one, "EVE@example.com").await), "email_taken");
    create(two, "eve@example.com").await.unwrap();
    // Neither is in the way of a person who signs up, nor the other way round.
    world.user("eve@example.com").await;
    create(one, "two@example.com").await.unwrap();
    assert_eq!(
        code(create(eve.id, "x@example.com").await),
        "email_taken",
        "managed users manage nobody"
    );

    let find = |email: &str| {
        let email = Some(email.to_owned());
        let users = &world.users;
        async move {
            users
                .list_managed(one, email, None, 10)
                .await
                .unwrap()
                .items
        }
    };
    assert_eq!(find("EVE@EXAMPLE.COM").await, std::slice::from_ref(&eve));
    assert!(find("one@example.com").await.is_empty());
    assert!(find("a\0").await.is_empty());
    let page = world.users.list_managed(one, None, None, 1).await.unwrap();
    assert_eq!((page.items, page.next), (vec![eve.clone()], Some(eve.id)));
    let rest = world
        .users
        .list_managed(one, None, page.next, 9)
        .await
        .unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));

    // Nobody signs in as one.
    let synthetic = format!("managed-{}@invalid", eve.id);
    assert!(world.users.by_email(&synthetic).await.unwrap().is_none());
    // Deleted, the address is free again.
    world.users.delete(eve.id, NOW).await.unwrap();
    let anew = create(one, "eve@example.com").await.unwrap();
    assert_ne!(anew.id, eve.id);
    assert_eq!(find("eve@example.com").await, [anew]);
}

#[tokio::test]
async fn with_its_owner_all_of_a_product_is_gone_at_once_and_wholly_in_the_end() {
    let world = World::new().await;
    let (owner, other) = (
        world.user("one@example.com").await,
        world.user("two@example.com").await,
    );
    let keys = PgApiKeyStore::new(world.pool.clone());
    let sessions = PgSessionStore::new(world.pool.clone());
    for (user, byte) in [(owner, 1), (other, 2)] {
        keys.create(key(user, byte), NOW).await.unwrap();
        let session = NewSession {
            id: SessionId::new(),
            user_id: user,
            token_hash: [byte; 32],
            expires_at: NOW + Duration::days(1),
        };
        sessions.create(session, NOW).await.unwrap();
        let eve = world
            .users
            .create_managed(managed(user, "eve@example.com"), NOW);
        world
            .connect(eve.await.unwrap().id, &format!("eve-{byte}"), &["main"])
            .await;
        world.connect(user, &format!("own-{byte}"), &["main"]).await;
    }
    let sql = "INSERT INTO calendar_events (calendar_connection_id, provider_event_id, start_time, end_time)
        SELECT id, 'e', now(), now() FROM calendar_connections";
    world.sql.batch_execute(sql).await.unwrap();

    assert!(world.users.delete(owner, NOW).await.unwrap());
    let tokens = "SELECT count(*) FROM calendar_connections WHERE access_token IS NOT NULL";
    assert_eq!(world.number(tokens).await, 2, "the other's");
    assert!(sessions.find([1; 32], NOW).await.unwrap().is_none());
    for table in ["api_keys", "api_sessions"] {
        let left = world.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(left, 1, "{table}");
    }
    world.user("one@example.com").await;

    // What the managed users were called, and what else is theirs, housekeeping deletes.
    let housekeeping = PgHousekeeping::new(world.pool.clone());
    housekeeping
        .purge(NOW + Duration::seconds(1))
        .await
        .unwrap();
    let states = "SELECT count(*) FROM calendar_sync_states";
    assert_eq!(world.number(states).await, 2);
    let personal = "SELECT count(*) FROM users WHERE deleted_at IS NOT NULL
        AND (email NOT LIKE 'deleted-%@invalid' OR managed_email IS NOT NULL OR first_name IS NOT NULL
            OR last_name IS NOT NULL OR password_hash IS NOT NULL)";
    assert_eq!(world.number(personal).await, 0);
    for table in [
        "calendar_events",
        "calendar_connections",
        "calendar_accounts",
    ] {
        let left = world.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(left, 2, "{table}");
    }
    let users = "SELECT count(*) FROM users";
    assert_eq!(world.number(users).await, 5, "two ids are left");
    // Whom somebody manages goes first.
    let month = NOW + Duration::days(31);
    housekeeping.purge(month).await.unwrap();
    housekeeping.purge(month).await.unwrap();
    assert_eq!(world.number(users).await, 3);
    assert!(world.users.by_id(other).await.unwrap().is_some());
}

/// Somebody with this many managed users; each has a calendar with tokens, and a subscription.
async fn owner_of(world: &World, email: &str, count: usize) -> UserId {
    let owner = world.user(email).await;
    let sql = format!(
        "INSERT INTO users (email, managed_by, managed_email, first_name)
        SELECT 'managed-' || n || '-{email}', '{owner}', n || '@product.example', 'Eve'
        FROM generate_series(1, {count}) AS n;
        INSERT INTO calendar_accounts (user_id, provider, tenant_id, provider_user_id, email, push_due_at)
        SELECT id, 'MICROSOFT', 't', 'x', managed_email, '2026-03-02 12:00Z' FROM users
        WHERE managed_by = '{owner}';
        INSERT INTO calendar_connections (user_id, account_id, provider, calendar_id, calendar_name,
            access_token, refresh_token)
        SELECT a.user_id, a.id, 'MICROSOFT', repeat('A', 140), 'Eve', repeat('t', 2000), repeat('t', 1500)
        FROM calendar_accounts AS a JOIN users AS u ON u.id = a.user_id WHERE u.managed_by = '{owner}';
        INSERT INTO calendar_sync_states (connection_id, account_id, due_at)
        SELECT c.id, c.account_id, '2026-03-02 12:00Z' FROM calendar_connections AS c
        JOIN users AS u ON u.id = c.user_id WHERE u.managed_by = '{owner}';
        INSERT INTO webhook_subscriptions (calendar_connection_id, account_id, provider, subscription_id,
            expiration_datetime)
        SELECT c.id, c.account_id, 'MICROSOFT', gen_random_uuid(), '2199-01-01Z'
        FROM calendar_connections AS c JOIN users AS u ON u.id = c.user_id WHERE u.managed_by = '{owner}';
        ANALYZE"
    );
    world.sql.batch_execute(&sql).await.unwrap();
    owner
}

/// Managed users of this owner who are there.
fn there(owner: UserId) -> String {
    format!("SELECT count(*) FROM users WHERE managed_by = '{owner}' AND deleted_at IS NULL")
}

/// Rows that still hold something of the deleted users of this owner.
fn left_of(owner: UserId) -> String {
    format!(
        "WITH gone AS (SELECT * FROM users WHERE managed_by = '{owner}')
        SELECT (SELECT count(*) FROM gone WHERE deleted_at IS NULL OR managed_email IS NOT NULL
                OR first_name IS NOT NULL OR email NOT LIKE 'deleted-%@invalid')
            + (SELECT count(*) FROM calendar_accounts WHERE user_id IN (SELECT id FROM gone))
            + (SELECT count(*) FROM calendar_connections WHERE user_id IN (SELECT id FROM gone))"
    )
}

#[tokio::test]
async fn an_owner_of_very_many_users_is_deleted_at_once_and_they_little_by_little() {
    const MANY: i64 = 20_000;
    let world = World::new().await;
    let owner = owner_of(&world, "one@example.com", 20_000).await;
    let claim = world.claim().await.unwrap();
    let begun = std::time::Instant::now();
    assert!(world.users.delete(owner, NOW).await.unwrap());
    println!("deleting the owner of {MANY}: {:?}", begun.elapsed());

    // At once: nobody syncs for them any more, by whatever a worker holds.
    let tokens = "SELECT count(*) FROM calendar_connections WHERE access_token IS NOT NULL
        OR refresh_token IS NOT NULL OR is_connected";
    assert_eq!(world.number(tokens).await, 0);
    assert!(world.claim().await.is_none());
    let grant = crate::support::grant("late", Some("late"));
    let stored = world.connections.store_grant(&claim.lease, grant, NOW);
    assert_eq!(code(stored.await), "lease_lost");
    // Nobody connects for them, by whatever was begun before.
    let eve = format!("SELECT id::text FROM users WHERE managed_by = '{owner}' LIMIT 1");
    let eve = UserId(world.text(&eve).await.unwrap().parse().unwrap());
    let new = crate::support::new_connections(eve, "eve", &["main"]);
    assert_eq!(
        code(world.connections.connect(new, NOW).await),
        "user_not_found"
    );
    // The rest is not the request's work.
    assert_eq!(world.number(&there(owner)).await, MANY);

    let begun = std::time::Instant::now();
    PgHousekeeping::new(world.pool.clone())
        .purge(NOW + Duration::seconds(1))
        .await
        .unwrap();
    println!("purging {MANY}: {:?}", begun.elapsed());
    assert_eq!(world.number(&left_of(owner)).await, 0);
}

#[tokio::test]
async fn what_an_older_application_leaves_of_a_product_is_picked_up_in_small_steps() {
    let world = World::new().await;
    let (owner, other) = (
        owner_of(&world, "one@example.com", 2_500).await,
        owner_of(&world, "two@example.com", 10).await,
    );
    // It knows nothing of managed users.
    let sql = format!("UPDATE users SET deleted_at = now() WHERE id = '{owner}'");
    world.sql.batch_execute(&sql).await.unwrap();
    // One transaction writes its own number into the rows, and each step is one.
    let housekeeping = PgHousekeeping::new(world.pool.clone());
    housekeeping
        .purge(NOW + Duration::seconds(1))
        .await
        .unwrap();
    assert_eq!(world.number(&left_of(owner)).await, 0);
    let steps = format!(
        "SELECT count(*) FROM users WHERE managed_by = '{owner}' GROUP BY xmin::text ORDER BY 1 DESC LIMIT 1"
    );
    assert_eq!(world.number(&steps).await, 1_000, "the largest step");
    assert_eq!(world.number(&there(other)).await, 10);
    let tokens = "SELECT count(*) FROM calendar_connections WHERE access_token IS NOT NULL";
    assert_eq!(world.number(tokens).await, 10);
}
