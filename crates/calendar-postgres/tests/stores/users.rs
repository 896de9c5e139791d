//! `UserStore`, `SessionStore` and housekeeping.

use calendar_domain::failure::FailureClass;
use calendar_domain::ids::SessionId;
use calendar_domain::ports::{
    ConnectionStore as _, EventStore as _, SessionStore as _, UserStore as _,
};
use calendar_domain::sync::PassKind;
use calendar_domain::user::{NewSession, NewUser, UserChange};
use calendar_postgres::{PgHousekeeping, PgSessionStore};
use time::Duration;

use crate::support::{NOW, World, change, code, master, occurrence, pass, removed, single};

fn new_user(email: &str) -> NewUser {
    NewUser {
        email: email.to_owned(),
        password_hash: "$argon2id$x".to_owned(),
        first_name: Some("Ada".to_owned()),
        last_name: None,
    }
}

#[tokio::test]
async fn an_address_is_taken_whatever_its_case() {
    let world = World::new().await;
    let user = world
        .users
        .create(new_user("Ada@Example.com"), NOW)
        .await
        .unwrap();
    assert_eq!(user.email, "ada@example.com");
    let taken = world
        .users
        .create(new_user("ADA@example.com"), NOW)
        .await
        .unwrap_err();
    assert_eq!(
        (taken.class, taken.code.as_str()),
        (FailureClass::Conflict, "email_taken")
    );
    // Also by a user of an older application, whose row keeps its capitals.
    world
        .sql
        .batch_execute("INSERT INTO users (email) VALUES ('Bob@Example.com')")
        .await
        .unwrap();
    assert_eq!(
        code(world.users.create(new_user("bob@example.com"), NOW).await),
        "email_taken"
    );
    let (_, hash) = world
        .users
        .by_email("bob@EXAMPLE.com")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(hash, "", "no password fits");
}

#[tokio::test]
async fn of_addresses_that_differ_in_case_the_exact_one_signs_in() {
    let world = World::new().await;
    let sql = "INSERT INTO users (email, created_at) VALUES ('Eve@example.com', '2020-01-01Z'),
        ('EVE@example.com', '2021-01-01Z')";
    world.sql.batch_execute(sql).await.unwrap();
    let found = |email: &'static str| {
        let world = &world;
        async move { world.users.by_email(email).await.unwrap().unwrap().0.email }
    };
    assert_eq!(found("EVE@example.com").await, "EVE@example.com");
    assert_eq!(
        found("eve@example.com").await,
        "Eve@example.com",
        "the oldest"
    );
    assert!(world.users.by_email("a\0").await.unwrap().is_none());
}

#[tokio::test]
async fn a_user_changes_names() {
    let world = World::new().await;
    let user = world
        .users
        .create(new_user("ada@example.com"), NOW)
        .await
        .unwrap();
    let later = NOW + Duration::hours(1);
    let change = UserChange {
        first_name: Some(None),
        last_name: Some(Some("L".to_owned())),
    };
    let changed = world
        .users
        .change(user.id, change, later)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (
            changed.first_name,
            changed.last_name.as_deref(),
            changed.updated_at
        ),
        (None, Some("L"), later)
    );
    let same = world
        .users
        .change(user.id, UserChange::default(), later)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(same.last_name.as_deref(), Some("L"));
    let nul = UserChange {
        first_name: Some(Some("a\0".to_owned())),
        ..UserChange::default()
    };
    assert_eq!(
        world
            .users
            .change(user.id, nul, NOW)
            .await
            .unwrap_err()
            .class,
        FailureClass::InvalidInput
    );
}

#[tokio::test]
async fn a_deleted_user_is_gone_at_once() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    synced.full(vec![single("one", 3)]).await;
    let sessions = PgSessionStore::new(world.pool.clone());
    let session = NewSession {
        id: SessionId::new(),
        user_id: synced.user,
        token_hash: [7; 32],
        expires_at: NOW + Duration::days(1),
    };
    sessions.create(session.clone(), NOW).await.unwrap();
    assert!(world.users.delete(synced.user, NOW).await.unwrap());
    assert!(!world.users.delete(synced.user, NOW).await.unwrap());
    assert!(sessions.find([7; 32], NOW).await.unwrap().is_none());
    assert_eq!(code(sessions.create(session, NOW).await), "user_not_found");
    assert!(world.users.by_id(synced.user).await.unwrap().is_none());
    assert!(
        world
            .users
            .by_email("ada@example.com")
            .await
            .unwrap()
            .is_none()
    );
    let left = "SELECT count(*) FROM calendar_connections WHERE access_token IS NOT NULL
        OR refresh_token IS NOT NULL OR is_connected OR deleted_at IS NULL";
    assert_eq!(world.number(left).await, 0);
    assert_eq!(
        world
            .number("SELECT count(*) FROM users WHERE email LIKE '%ada%'")
            .await,
        0
    );
    let corrected = world
        .events
        .correct_series(&synced.lease, synced.id, Vec::new(), NOW)
        .await;
    assert_eq!(code(corrected), "lease_lost");
    world
        .users
        .create(new_user("ada@example.com"), NOW)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_session_lasts_until_it_ends() {
    let world = World::new().await;
    let user = world.user("ada@example.com").await;
    let sessions = PgSessionStore::new(world.pool.clone());
    let id = SessionId::new();
    let expires_at = NOW + Duration::hours(1);
    sessions
        .create(
            NewSession {
                id,
                user_id: user,
                token_hash: [7; 32],
                expires_at,
            },
            NOW,
        )
        .await
        .unwrap();
    let used = "SELECT last_used_at::text FROM api_sessions";
    assert_eq!(sessions.find([7; 32], NOW).await.unwrap(), Some((id, user)));
    let first = world.text(used).await;
    sessions
        .find([7; 32], NOW + Duration::minutes(4))
        .await
        .unwrap();
    assert_eq!(world.text(used).await, first, "seldom written");
    sessions
        .find([7; 32], NOW + Duration::minutes(6))
        .await
        .unwrap();
    assert_ne!(world.text(used).await, first);
    assert!(sessions.find([7; 32], expires_at).await.unwrap().is_none());
    assert!(sessions.find([8; 32], NOW).await.unwrap().is_none());
    assert!(sessions.end(user, id).await.unwrap());
    assert!(!sessions.end(user, id).await.unwrap());
    assert!(sessions.find([7; 32], NOW).await.unwrap().is_none());
}

#[tokio::test]
async fn housekeeping_removes_what_is_no_longer_needed() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let mut page: Vec<_> = (0..1_200)
        .map(|number| single(&format!("e{number}"), 3))
        .collect();
    page.extend([
        change(master("m")),
        occurrence("o", "m", 3),
        single("kept", 4),
    ]);
    synced.full(page).await;
    let mut gone: Vec<_> = (0..1_200)
        .map(|number| removed(&format!("e{number}")))
        .collect();
    gone.push(removed("m"));
    synced.delta(gone).await;
    let sessions = PgSessionStore::new(world.pool.clone());
    let session = NewSession {
        id: SessionId::new(),
        user_id: synced.user,
        token_hash: [7; 32],
        expires_at: NOW,
    };
    sessions.create(session, NOW).await.unwrap();
    let orphan = pass(PassKind::Full);
    let sql = format!(
        "INSERT INTO sync_pass_seen SELECT '{}', '{}', id FROM calendar_events WHERE provider_event_id = 'kept'",
        synced.id, orphan.id
    );
    world.sql.batch_execute(&sql).await.unwrap();
    let mut running = pass(PassKind::Full);
    synced.page(&mut running, vec![single("kept", 4)]).await;
    let housekeeping = PgHousekeeping::new(world.pool.clone());
    let purged = housekeeping
        .purge(NOW + Duration::seconds(1))
        .await
        .unwrap();
    assert_eq!(
        purged, 2,
        "the session and the orphan; tombstones stay for 30 days"
    );
    assert_eq!(
        world.number("SELECT count(*) FROM sync_pass_seen").await,
        1,
        "of the running pass"
    );
    let purged = housekeeping.purge(NOW + Duration::days(31)).await.unwrap();
    assert_eq!(purged, 1_202);
    assert_eq!(
        world
            .texts("SELECT provider_event_id::text FROM calendar_events")
            .await,
        ["kept"]
    );
    assert_eq!(
        world.number("SELECT count(*) FROM event_attendees").await,
        2
    );
}

#[tokio::test]
async fn what_users_and_connections_leave_behind_is_purged() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let series = vec![change(master("m")), occurrence("o", "m", 3), single("s", 4)];
    synced.full(series.clone()).await;
    let housekeeping = PgHousekeeping::new(world.pool.clone());
    let events = "SELECT count(*) FROM calendar_events";
    let connections = "SELECT count(*) FROM calendar_connections";

    // A connection's events wait for 30 days for it to be connected again.
    world
        .connections
        .disconnect(synced.user, synced.id, NOW)
        .await
        .unwrap();
    housekeeping.purge(NOW + Duration::days(29)).await.unwrap();
    assert_eq!(world.number(events).await, 3);
    housekeeping.purge(NOW + Duration::days(31)).await.unwrap();
    assert_eq!(world.number(events).await, 0);
    assert_eq!(world.number(connections).await, 0);

    // A user's go at once, and nobody else's do.
    let other = world.user("bob@example.com").await;
    world.connect(other, "bob", &["his"]).await;
    let id = world
        .connect(synced.user, "ada", &["main"])
        .await
        .connection_ids[0];
    let sql = format!(
        "INSERT INTO calendar_events (calendar_connection_id, provider_event_id, start_time, end_time)
         SELECT id, 'e', now(), now() FROM calendar_connections WHERE id IN ('{id}') OR user_id = '{other}'"
    );
    world.sql.batch_execute(&sql).await.unwrap();
    world.users.delete(synced.user, NOW).await.unwrap();
    housekeeping
        .purge(NOW + Duration::seconds(1))
        .await
        .unwrap();
    let left = "SELECT count(*) FROM calendar_events AS e
        JOIN calendar_connections AS c ON c.id = e.calendar_connection_id
        JOIN calendar_accounts AS a ON a.id = c.account_id
        JOIN users AS u ON u.id = c.user_id WHERE u.email = 'bob@example.com'";
    assert_eq!(world.number(left).await, 1);
    for table in [
        "calendar_events",
        "calendar_connections",
        "calendar_accounts",
    ] {
        let count = world.number(&format!("SELECT count(*) FROM {table}")).await;
        assert_eq!(count, 1, "{table}");
    }
}
