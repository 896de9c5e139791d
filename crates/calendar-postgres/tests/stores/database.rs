//! The pool and the migrations.

use calendar_domain::ports::UserStore as _;
use calendar_postgres::testing::TestDatabase;
use calendar_postgres::{MigrationState, PgUserStore, migrate};

use crate::support::{NOW, World, pool};

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_applied_once_by_whoever_comes_first() {
    let database = TestDatabase::create_empty().await;
    let url = database.url().to_owned().into();
    let pool = pool(database.url());
    let MigrationState::Behind { pending } = pool.migration_state().await.unwrap() else {
        panic!("empty")
    };
    let (one, other) = tokio::join!(migrate(&url), migrate(&url));
    let mut applied = [one.unwrap(), other.unwrap()];
    applied.sort_by_key(Vec::len);
    assert_eq!(applied, [Vec::new(), pending]);
    assert_eq!(
        pool.migration_state().await.unwrap(),
        MigrationState::Current
    );
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')";
    database.connect().await.batch_execute(newer).await.unwrap();
    assert_eq!(pool.migration_state().await.unwrap(), MigrationState::Ahead);
}

#[tokio::test]
async fn a_role_without_rights_is_told_whose_matter_that_is() {
    let database = TestDatabase::create_empty().await;
    // A role that every server has, and that may do nothing here.
    let mut url: url::Url = database.url().parse().unwrap();
    url.query_pairs_mut()
        .append_pair("options", "-crole=pg_signal_backend");
    let stranger = url.to_string();
    let refused = migrate(&stranger.clone().into()).await.unwrap_err();
    assert!(
        refused.to_string().contains("migrate as the role"),
        "{refused:?}"
    );
    migrate(&database.url().to_owned().into()).await.unwrap();
    let refused = pool(&stranger).migration_state().await.unwrap_err();
    assert!(refused.to_string().contains("roles.sql"), "{refused:?}");
}

#[tokio::test]
async fn a_connection_that_died_is_not_used_again() {
    let world = World::new().await;
    world.user("ada@example.com").await;
    let kill = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(world.number(kill).await > 0);
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    world.pool.ping().await.unwrap();
    world.user("bob@example.com").await;
}

#[tokio::test]
async fn work_that_was_cancelled_leaves_no_transaction_open() {
    let world = World::new().await;
    let synced = world.synced_user().await;
    let page: Vec<_> = (0..500)
        .map(|number| crate::support::single(&format!("e{number}"), 3))
        .collect();
    let cut = tokio::time::timeout(std::time::Duration::from_millis(20), synced.full(page)).await;
    assert!(cut.is_err(), "it takes longer");
    // The pool is not touched: nobody but the server ends it.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND state LIKE 'idle in transaction%'";
    let ended = async {
        while world.number(open).await > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended)
        .await
        .unwrap();
    for number in 0..8 {
        let users = PgUserStore::new(world.pool.clone());
        let email = format!("u{number}@example.com");
        let new = calendar_domain::user::NewUser {
            email,
            password_hash: "x".to_owned(),
            first_name: None,
            last_name: None,
        };
        users.create(new, NOW).await.unwrap();
    }
    assert_eq!(
        world
            .number("SELECT count(*) FROM users WHERE email LIKE 'u%'")
            .await,
        8
    );
    assert_eq!(
        world.number("SELECT count(*) FROM calendar_events").await,
        0
    );
}
