//! In a host program: its own pool, and a schema of our own beside its tables.

use std::time::Duration;

use calendar_domain::ports::{UserStore as _, Wakeups as _};
use calendar_domain::user::NewUser;
use calendar_postgres::diesel_async::pooled_connection::AsyncDieselConnectionManager;
use calendar_postgres::diesel_async::pooled_connection::deadpool::Pool;
use calendar_postgres::diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use calendar_postgres::testing::TestDatabase;
use calendar_postgres::{Database, MigrationState, PgUserStore, PgWakeups, migrate};
use secrecy::SecretString;

use crate::support::NOW;

const IN_OUR_SCHEMA: &str = "options=-c%20search_path%3Dcalendar";

fn ann() -> NewUser {
    NewUser {
        email: "ann@example.com".to_owned(),
        password_hash: "x".to_owned(),
        first_name: None,
        last_name: None,
    }
}

#[tokio::test]
async fn a_hosts_pool_and_tables_stay_its_own() {
    let server = TestDatabase::create_empty().await;
    let host = server.connect().await;
    // A table of a name that ours has too, and migrations of the host's in diesel's table.
    host.batch_execute(
        "CREATE TABLE users (login TEXT PRIMARY KEY);
         CREATE TABLE __diesel_schema_migrations (
             version VARCHAR(50) PRIMARY KEY NOT NULL,
             run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
         INSERT INTO __diesel_schema_migrations (version) VALUES ('20010101000000');
         CREATE SCHEMA calendar",
    )
    .await
    .unwrap();

    let query = if server.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{query}{IN_OUR_SCHEMA}", server.url());
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(&url);
    let pool = Pool::builder(manager).max_size(2).build().unwrap();
    let url = SecretString::from(url);
    let database = Database::from_pool(pool.clone(), &url).unwrap();

    let state = database.migration_state().await.unwrap();
    assert!(matches!(state, MigrationState::Behind { .. }), "{state:?}");
    assert!(!migrate(&url).await.unwrap().is_empty());
    let state = database.migration_state().await.unwrap();
    assert_eq!(state, MigrationState::Current);

    let users = PgUserStore::new(database.clone());
    let user = users.create(ann(), NOW).await.unwrap();
    let found = users.by_email("ann@example.com").await.unwrap();
    assert_eq!(found.map(|(found, _)| found.id), Some(user.id));
    assert!((1..=2).contains(&pool.status().size), "{:?}", pool.status());

    // What the page on embedding warns of: on this pool, the host has to qualify its names.
    let mut lent = pool.get().await.unwrap();
    let insert = "INSERT INTO public.users (login) VALUES ('host')";
    lent.batch_execute(insert).await.unwrap();
    let insert = "INSERT INTO users (login) VALUES ('host')";
    assert!(lent.batch_execute(insert).await.is_err());
    drop(lent);

    let text = "SELECT string_agg(table_name, ',' ORDER BY table_name)
        FROM information_schema.tables WHERE table_schema = 'public'";
    let tables: String = host.query_one(text, &[]).await.unwrap().get(0);
    assert_eq!(tables, "__diesel_schema_migrations,users");
    let text = "SELECT (SELECT count(*) FROM calendar.users), (SELECT count(*) FROM public.users),
        (SELECT count(*) FROM public.__diesel_schema_migrations)";
    let row = host.query_one(text, &[]).await.unwrap();
    let counts: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(counts, [1, 1, 1]);

    let wakeups = PgWakeups::start(&database);
    let woken = || tokio::time::timeout(Duration::from_secs(10), wakeups.woken());
    woken().await.unwrap();
    host.batch_execute("NOTIFY calendar_sync").await.unwrap();
    woken().await.unwrap();
}

#[tokio::test]
async fn a_pool_that_cannot_connect_says_why_and_shows_no_password() {
    let url = "postgres://ann:hunter2@127.0.0.1:1/calendar";
    let database = crate::support::pool(url);
    let error = database.ping().await.unwrap_err();
    let shown = format!("{error:?}");
    assert!(shown.contains("error connecting to server: "), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
