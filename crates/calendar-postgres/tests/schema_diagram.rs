//! The migrated database against every point of the schema diagram: columns, types, lengths,
//! nullability, defaults, keys, cascades, uniques, indexes, enum labels.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy.toml does not except"
)]

use std::collections::{BTreeMap, BTreeSet};

use calendar_postgres::testing::TestDatabase;
use tokio_postgres::Client;

/// Each table of the diagram with its columns: type, `!` for NOT NULL, default after `=`.
const TABLES: [(&str, &str); 6] = [
    (
        "users",
        "id uuid! = gen_random_uuid()
         email character varying(255)!
         password_hash character varying(255)
         first_name character varying(100)
         last_name character varying(100)
         created_at timestamp with time zone! = now()
         updated_at timestamp with time zone! = now()
         deleted_at timestamp with time zone",
    ),
    (
        "calendar_connections",
        "id uuid! = gen_random_uuid()
         user_id uuid!
         provider calendar_provider!
         calendar_id character varying(255)!
         calendar_name character varying(255)
         access_token text
         refresh_token text
         token_expires_at timestamp with time zone
         calendar_color character varying(7)
         is_primary boolean! = false
         is_connected boolean! = true
         last_synced_at timestamp with time zone
         sync_token text
         delegate_email character varying(255)
         created_at timestamp with time zone! = now()
         updated_at timestamp with time zone! = now()
         deleted_at timestamp with time zone",
    ),
    (
        "webhook_subscriptions",
        "id uuid! = gen_random_uuid()
         calendar_connection_id uuid!
         provider calendar_provider!
         subscription_id character varying(255)!
         resource_path character varying(500)
         expiration_datetime timestamp with time zone!
         client_state character varying(255)
         notification_url text
         last_notification_at timestamp with time zone
         is_active boolean! = true
         created_at timestamp with time zone! = now()
         updated_at timestamp with time zone! = now()",
    ),
    (
        "calendar_events",
        "id uuid! = gen_random_uuid()
         calendar_connection_id uuid!
         provider_event_id character varying(255)!
         title character varying(500)
         description text
         location character varying(500)
         start_time timestamp with time zone!
         end_time timestamp with time zone!
         is_all_day boolean! = false
         timezone character varying(100)
         status event_status! = 'CONFIRMED'::event_status
         sync_status sync_status! = 'SYNCED'::sync_status
         is_recurring boolean! = false
         recurrence_rule text
         recurrence_frequency recurrence_frequency
         recurrence_interval integer
         recurrence_end_type recurrence_end_type
         recurrence_end_date timestamp with time zone
         recurrence_count integer
         recurrence_by_day character varying(100)
         month_day_type month_day_type
         recurrence_by_month_day integer
         recurrence_by_set_pos integer
         recurrence_by_day_of_week character varying(100)
         recurrence_by_month character varying(50)
         exception_dates text
         parent_event_id uuid
         importance event_importance! = 'NORMAL'::event_importance
         outlook_categories text
         conversation_id character varying(255)
         series_master_id character varying(255)
         teams_enabled boolean! = false
         teams_meeting_url text
         teams_conference_id character varying(255)
         teams_dial_in_url text
         attendees jsonb
         reminders jsonb
         provider_metadata jsonb
         html_link text
         last_synced_at timestamp with time zone
         created_at timestamp with time zone! = now()
         updated_at timestamp with time zone! = now()
         deleted_at timestamp with time zone",
    ),
    (
        "event_attendees",
        "id uuid! = gen_random_uuid()
         event_id uuid!
         email character varying(255)!
         display_name character varying(255)
         rsvp_status rsvp_status! = 'NEEDS_ACTION'::rsvp_status
         is_organizer boolean! = false
         is_optional boolean! = false
         comment text
         response_time timestamp with time zone
         created_at timestamp with time zone! = now()
         updated_at timestamp with time zone! = now()",
    ),
    (
        "event_reminders",
        "id uuid! = gen_random_uuid()
         event_id uuid!
         method reminder_method! = 'POPUP'::reminder_method
         minutes_before integer!
         created_at timestamp with time zone! = now()
         updated_at timestamp with time zone! = now()",
    ),
];

/// The keys and uniques that the diagram shows.
const CONSTRAINTS: [(&str, &str); 16] = [
    ("users", "PRIMARY KEY (id)"),
    ("users", "UNIQUE (email)"),
    ("calendar_connections", "PRIMARY KEY (id)"),
    (
        "calendar_connections",
        "FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE",
    ),
    (
        "calendar_connections",
        "UNIQUE (user_id, provider, calendar_id)",
    ),
    ("webhook_subscriptions", "PRIMARY KEY (id)"),
    (
        "webhook_subscriptions",
        "FOREIGN KEY (calendar_connection_id) REFERENCES calendar_connections(id) ON DELETE CASCADE",
    ),
    (
        "webhook_subscriptions",
        "UNIQUE (subscription_id, provider)",
    ),
    ("calendar_events", "PRIMARY KEY (id)"),
    (
        "calendar_events",
        "FOREIGN KEY (calendar_connection_id) REFERENCES calendar_connections(id) ON DELETE CASCADE",
    ),
    (
        "calendar_events",
        "FOREIGN KEY (parent_event_id) REFERENCES calendar_events(id) ON DELETE CASCADE",
    ),
    (
        "calendar_events",
        "UNIQUE (calendar_connection_id, provider_event_id)",
    ),
    ("event_attendees", "PRIMARY KEY (id)"),
    (
        "event_attendees",
        "FOREIGN KEY (event_id) REFERENCES calendar_events(id) ON DELETE CASCADE",
    ),
    ("event_attendees", "UNIQUE (event_id, email)"),
    (
        "event_reminders",
        "FOREIGN KEY (event_id) REFERENCES calendar_events(id) ON DELETE CASCADE",
    ),
];

/// The indexes that the diagram lists, by the columns that each leads with; the last one is named by
/// the Event Thread query.
const INDEXES: [(&str, &[&str]); 4] = [
    (
        "calendar_connections",
        &[
            "user_id",
            "provider",
            "is_connected",
            "last_synced_at",
            "deleted_at",
            "delegate_email",
        ],
    ),
    (
        "webhook_subscriptions",
        &[
            "calendar_connection_id",
            "subscription_id",
            "expiration_datetime",
            "is_active",
            "provider",
            "provider, is_active",
            "expiration_datetime, is_active",
        ],
    ),
    (
        "calendar_events",
        &[
            "calendar_connection_id",
            "provider_event_id",
            "start_time",
            "end_time",
            "status",
            "sync_status",
            "is_recurring",
            "parent_event_id",
            "importance",
            "conversation_id",
            "series_master_id",
            "teams_enabled",
            "calendar_connection_id, start_time, end_time",
            "calendar_connection_id, teams_enabled, start_time",
            "created_at",
        ],
    ),
    (
        "event_attendees",
        &[
            "event_id",
            "email",
            "rsvp_status",
            "is_organizer",
            "event_id, rsvp_status",
        ],
    ),
];

const REMINDER_INDEXES: [&str; 3] = ["event_id", "minutes_before", "event_id, minutes_before"];

const ENUMS: [(&str, &str); 9] = [
    ("calendar_provider", "GOOGLE, MICROSOFT, APPLE"),
    ("event_importance", "LOW, NORMAL, HIGH"),
    ("event_status", "CONFIRMED, TENTATIVE, CANCELLED"),
    ("sync_status", "SYNCED, PENDING, FAILED, CONFLICT"),
    ("recurrence_frequency", "DAILY, WEEKLY, MONTHLY, YEARLY"),
    ("recurrence_end_type", "NEVER, UNTIL_DATE, AFTER_COUNT"),
    ("month_day_type", "DAY_OF_MONTH, DAY_OF_WEEK"),
    ("rsvp_status", "NEEDS_ACTION, ACCEPTED, DECLINED, TENTATIVE"),
    ("reminder_method", "POPUP, EMAIL, SMS"),
];

async fn texts(client: &Client, sql: &str, table: &str) -> Vec<String> {
    let rows = client.query(sql, &[&table]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn columns_are_the_diagrams() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    for (table, expected) in TABLES {
        let present: BTreeSet<String> = texts(
            &client,
            "SELECT a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                 || CASE WHEN a.attnotnull THEN '!' ELSE '' END
                 || coalesce(' = ' || pg_get_expr(d.adbin, d.adrelid), '')
             FROM pg_attribute a
             LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE a.attrelid = to_regclass($1::text) AND a.attnum > 0 AND NOT a.attisdropped",
            table,
        )
        .await
        .into_iter()
        .collect();
        for column in expected.lines().map(str::trim) {
            assert!(
                present.contains(column),
                "{table} has no `{column}`, but {present:#?}"
            );
        }
    }
}

#[tokio::test]
async fn keys_cascades_and_uniques_are_the_diagrams() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    for (table, expected) in CONSTRAINTS {
        let present = texts(
            &client,
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = to_regclass($1::text)",
            table,
        )
        .await;
        assert!(
            present.iter().any(|text| text == expected),
            "{table}: {expected}: {present:#?}"
        );
    }
}

#[tokio::test]
async fn each_listed_index_exists_as_its_own() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    let reminders: (&str, &[&str]) = ("event_reminders", &REMINDER_INDEXES);
    for (table, listed) in INDEXES.into_iter().chain([reminders]) {
        // Not those of a primary key or a unique constraint: the diagram lists them apart.
        let mut unused = texts(
            &client,
            "SELECT (SELECT string_agg(pg_get_indexdef(x.indexrelid, n, true), ', ' ORDER BY n)
                     FROM generate_series(1, x.indnkeyatts) AS n)
             FROM pg_index x
             WHERE x.indrelid = to_regclass($1::text) AND x.indisvalid AND NOT x.indisunique",
            table,
        )
        .await;
        // The longest first, and each takes the shortest index that leads with it.
        let mut listed = listed.to_vec();
        listed.sort_by_key(|columns| std::cmp::Reverse(columns.len()));
        for columns in listed {
            let led = |index: &str| index == columns || index.starts_with(&format!("{columns}, "));
            let found = unused
                .iter()
                .filter(|index| led(index))
                .min_by_key(|index| index.len());
            let found = found.cloned();
            let found =
                found.unwrap_or_else(|| panic!("{table} has no index ({columns}): {unused:#?}"));
            let position = unused.iter().position(|index| *index == found).unwrap();
            unused.remove(position);
        }
    }
}

#[tokio::test]
async fn enum_labels_are_the_designs() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    for (name, expected) in ENUMS {
        let labels = texts(
            &client,
            "SELECT enumlabel::text FROM pg_enum WHERE enumtypid = to_regtype($1::text)
             ORDER BY enumsortorder",
            name,
        )
        .await;
        assert_eq!(labels.join(", "), expected, "{name}");
    }
}

/// What docs/database.md and the way to Citus rest on.
#[tokio::test]
async fn every_column_is_explained_and_no_trigger_or_sequence_exists() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    let silent = texts(
        &client,
        "SELECT c.relname || '.' || a.attname
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = to_regnamespace($1::text) AND c.relkind = 'r'
           AND c.relname <> '__diesel_schema_migrations' AND a.attnum > 0 AND NOT a.attisdropped
           AND col_description(c.oid, a.attnum) IS NULL",
        "public",
    )
    .await;
    assert_eq!(silent, Vec::<String>::new(), "columns without a comment");
    let unwanted = texts(
        &client,
        "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal
         UNION ALL
         SELECT relname::text FROM pg_class
         WHERE relkind = 'S' AND relnamespace = to_regnamespace($1::text)",
        "public",
    )
    .await;
    assert_eq!(unwanted, Vec::<String>::new(), "triggers and sequences");
}

/// The cascades at work: deleting a user leaves nothing of theirs, and nothing else goes. What passes
/// have seen is purged by housekeeping.
#[tokio::test]
async fn deleting_a_user_removes_all_that_is_theirs() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    for email in ["goes@example.com", "stays@example.com"] {
        let sql = format!(
            "WITH person AS (INSERT INTO users (email) VALUES ('{email}') RETURNING id),
             account AS (INSERT INTO calendar_accounts (user_id, provider, provider_user_id)
                 SELECT id, 'MICROSOFT', 'p' FROM person RETURNING id),
             connection AS (INSERT INTO calendar_connections (user_id, provider, calendar_id, account_id)
                 SELECT person.id, 'MICROSOFT', 'c', account.id FROM person, account RETURNING id),
             state AS (INSERT INTO calendar_sync_states (connection_id, account_id)
                 SELECT connection.id, account.id FROM connection, account),
             sign_in AS (INSERT INTO connect_sessions
                     (user_id, provider, state_hash, code_verifier, calendars, expires_at)
                 SELECT id, 'MICROSOFT', '{email}', 'v1.', '\"all\"', now() FROM person),
             session AS (INSERT INTO api_sessions (user_id, token_hash, expires_at)
                 SELECT id, '{email}', now() FROM person),
             managed AS (INSERT INTO users (email, managed_by, managed_email)
                 SELECT 'managed-' || id || '@invalid', id, 'm@example.com' FROM person),
             key AS (INSERT INTO api_keys (user_id, name, token_hint, token_hash, scopes)
                 SELECT id, 'k', 'h', '{email}', ARRAY['events:read'] FROM person),
             webhook AS (INSERT INTO webhook_subscriptions
                     (calendar_connection_id, provider, subscription_id, expiration_datetime)
                 SELECT id, 'MICROSOFT', '{email}', now() FROM connection),
             rejected AS (INSERT INTO calendar_rejected_events
                     (calendar_connection_id, provider_event_id, reason, mapper_version, pass_id)
                 SELECT id, 'bad', 'end_missing', 1, id FROM connection),
             master AS (INSERT INTO calendar_events
                     (calendar_connection_id, provider_event_id, start_time, end_time)
                 SELECT id, 'master', now(), now() FROM connection RETURNING id, calendar_connection_id),
             instance AS (INSERT INTO calendar_events
                     (calendar_connection_id, provider_event_id, start_time, end_time, parent_event_id)
                 SELECT calendar_connection_id, 'instance', now(), now(), id FROM master RETURNING id),
             attendee AS (INSERT INTO event_attendees (event_id, email) SELECT id, 'a' FROM instance)
             INSERT INTO event_reminders (event_id, minutes_before) SELECT id, 5 FROM instance"
        );
        client.batch_execute(&sql).await.unwrap();
    }
    let counts = async || {
        let mut counts = BTreeMap::new();
        let tables = texts(
            &client,
            "SELECT relname::text FROM pg_class WHERE relkind = 'r'
             AND relnamespace = to_regnamespace($1::text)
             AND relname NOT IN ('__diesel_schema_migrations', 'sync_pass_seen', 'mailbox_turns')",
            "public",
        )
        .await;
        for table in tables {
            let count = client
                .query_one(&format!("SELECT count(*) FROM {table}"), &[])
                .await;
            counts.insert(table, count.unwrap().get::<_, i64>(0));
        }
        counts
    };
    let before = counts().await;
    assert!(
        before.values().all(|count| *count >= 2),
        "a table was not filled: {before:?}"
    );
    // The master alone takes its instance with it.
    let one_master = "DELETE FROM calendar_events WHERE id IN
        (SELECT id FROM calendar_events WHERE provider_event_id = 'master' LIMIT 1)";
    client
        .batch_execute(&format!("BEGIN; {one_master}"))
        .await
        .unwrap();
    assert_eq!(
        counts().await["calendar_events"],
        before["calendar_events"] - 2
    );
    client.batch_execute("ROLLBACK").await.unwrap();

    client
        .batch_execute("DELETE FROM users WHERE email = 'goes@example.com'")
        .await
        .unwrap();
    let halved: BTreeMap<String, i64> = before
        .into_iter()
        .map(|(table, count)| (table, count / 2))
        .collect();
    assert_eq!(counts().await, halved);
}
