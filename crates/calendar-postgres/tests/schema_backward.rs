//! "All changes are backward compatible": a database of the time before the Microsoft integration,
//! with an old application's rows and statements, is migrated up, down and up again.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy.toml does not except"
)]

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use calendar_postgres::testing::{TestDatabase, apply, migrations};
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// What the old application does: no new column, no new table. Each statement answers one text.
const OLD_STATEMENTS: [&str; 7] = [
    "INSERT INTO calendar_events
         (id, calendar_connection_id, provider_event_id, title, start_time, end_time, attendees, reminders)
     VALUES ('00000000-0000-0000-0000-0000000000e9', '00000000-0000-0000-0000-0000000000c1', 'written-late',
         'Late', '2026-03-01T10:00Z', '2026-03-01T11:00Z',
         '[{\"email\": \"late@example.com\"}]', '[{\"method\": \"popup\", \"minutes\": 5}]')
     RETURNING provider_event_id || status || sync_status || is_recurring",
    "INSERT INTO calendar_events (calendar_connection_id, provider_event_id, start_time, end_time, title)
     VALUES ('00000000-0000-0000-0000-0000000000c1', 'written-late', '2026-03-02T10:00Z',
         '2026-03-02T11:00Z', 'Later')
     ON CONFLICT (calendar_connection_id, provider_event_id)
     DO UPDATE SET title = excluded.title, start_time = excluded.start_time, end_time = excluded.end_time
     RETURNING id || title",
    "UPDATE calendar_events SET attendees = attendees || '[{\"email\": \"one@more.example\"}]'::jsonb,
         status = 'CANCELLED', updated_at = '2026-03-01T00:00Z'
     WHERE provider_event_id = 'written-late' RETURNING attendees::text || status",
    "SELECT string_agg(title || attendees::text || coalesce(reminders::text, ''), ';' ORDER BY start_time)
     FROM calendar_events WHERE calendar_connection_id = '00000000-0000-0000-0000-0000000000c1'
       AND deleted_at IS NULL AND title IS NOT NULL",
    "INSERT INTO calendar_connections (user_id, provider, calendar_id, access_token, is_primary)
     VALUES ('00000000-0000-0000-0000-0000000000a1', 'GOOGLE', 'late', 'ya29.plain', true)
     RETURNING provider || calendar_id || is_connected",
    "INSERT INTO users (email, password_hash) VALUES ('late@example.com', 'x') RETURNING email",
    "WITH gone AS (DELETE FROM calendar_events WHERE provider_event_id = 'written-late' RETURNING 1)
     SELECT count(*)::text FROM gone",
];

/// Entries of `calendar_events.attendees` and what becomes of them: `email|name|answer|flags|comment|time`.
const ATTENDEES: [(&str, &str); 14] = [
    // The documented shape; Google's.
    (
        r#"[{"email": "a@example.com", "displayName": "Ann", "responseStatus": "accepted",
             "organizer": true, "comment": "Gladly"},
            {"email": "b@example.com", "responseStatus": "needsAction", "optional": true},
            {"email": "c@example.com", "responseStatus": "tentative"},
            {"email": "d@example.com", "responseStatus": "declined"}]"#,
        "a@example.com|Ann|ACCEPTED|organizer|Gladly|;b@example.com||NEEDS_ACTION|optional||;\
         c@example.com||TENTATIVE|||;d@example.com||DECLINED|||",
    ),
    // Microsoft's.
    (
        r#"[{"type": "required", "emailAddress": {"name": "Ann", "address": "a@contoso.com"},
             "status": {"response": "organizer", "time": "0001-01-01T00:00:00Z"}},
            {"type": "optional", "emailAddress": {"name": "Ben", "address": "b@contoso.com"},
             "status": {"response": "tentativelyAccepted", "time": "2026-01-02T03:04:05.1234567Z"}},
            {"emailAddress": {"address": "c@contoso.com"}, "status": {"response": "notResponded"}},
            {"emailAddress": {"address": "d@contoso.com"}, "status": {"response": "none", "time": "soon"}}]"#,
        "a@contoso.com|Ann|ACCEPTED|organizer||;\
         b@contoso.com|Ben|TENTATIVE|optional||2026-01-02 03:04:05.123457;\
         c@contoso.com||NEEDS_ACTION|||;d@contoso.com||NEEDS_ACTION|||",
    ),
    // The columns' own spelling, and the plain one.
    (
        r#"[{"email": "a@example.com", "name": "Ann", "rsvp_status": "ACCEPTED"},
            {"email": "b@example.com", "status": "declined"}]"#,
        "a@example.com|Ann|ACCEPTED|||;b@example.com||DECLINED|||",
    ),
    // One attendee in two cases: the first stays.
    (
        r#"[{"email": "Ann@Example.com"}, {"email": "ann@example.com", "displayName": "Other"}]"#,
        "Ann@Example.com||NEEDS_ACTION|||",
    ),
    // Rooms without an address.
    (
        r#"[{"displayName": "Room 1"}, {"emailAddress": {"name": "Room 2", "address": ""}},
            {"email": "a@example.com"}]"#,
        "|Room 1|NEEDS_ACTION|||;a@example.com||NEEDS_ACTION|||;urn:x-attendee:2|Room 2|NEEDS_ACTION|||",
    ),
    // Malformed entries beside good ones.
    (
        r#"["a@example.com", 5, null, [], {}, {"email": null}, {"email": 7}, {"email": "b@example.com"},
            {"email": "t@example.com", "status": {"response": "accepted", "time": "2026-13-45T99:99:99Z"}}]"#,
        "b@example.com||NEEDS_ACTION|||;t@example.com||ACCEPTED|||",
    ),
    (
        r#"{"email": "not-a-list@example.com"}"#,
        "not-a-list@example.com||NEEDS_ACTION|||",
    ),
    (r#""text""#, ""),
    ("7", ""),
    ("true", ""),
    ("null", ""),
    ("[]", ""),
    ("{}", ""),
    (
        r#"[{"email": "a@example.com", "displayName": 5, "organizer": "yes", "optional": 1, "comment": {}}]"#,
        "a@example.com||NEEDS_ACTION|||",
    ),
];

/// Entries that can't be read in `ATTENDEES`: seven in the list, three that are no list, one empty object.
const ATTENDEES_LEFT: usize = 7 + 3 + 1;

/// Entries of `calendar_events.reminders` and what becomes of them.
const REMINDERS: [(&str, &str); 5] = [
    (
        r#"[{"method": "popup", "minutes": 10}, {"method": "email", "minutes": 1440}]"#,
        "POPUP 10;EMAIL 1440",
    ),
    (
        r#"[{"method": "SMS", "minutes_before": "30"}, {"minutes": 0}]"#,
        "POPUP 0;SMS 30",
    ),
    (
        r#"{"useDefault": false, "overrides": [{"method": "popup", "minutes": 15}]}"#,
        "POPUP 15",
    ),
    (r#"{"useDefault": true}"#, ""),
    (
        r#"[{"method": "pigeon", "minutes": 5}, {"method": "popup"}, 10, {"minutes": 1.5},
            {"minutes": 99999999999}, {"minutes": 5}]"#,
        "POPUP 5",
    ),
];
const REMINDERS_LEFT: usize = 5;

/// The rows of an old application, some of them long-lived.
async fn fill(client: &Client) {
    client
        .batch_execute(
            "INSERT INTO users (id, email) VALUES
                 ('00000000-0000-0000-0000-0000000000a1', 'Ann@Example.com'),
                 ('00000000-0000-0000-0000-0000000000a2', 'ann@example.com');
             INSERT INTO calendar_connections (id, user_id, provider, calendar_id, access_token, sync_token)
             VALUES ('00000000-0000-0000-0000-0000000000c1', '00000000-0000-0000-0000-0000000000a1',
                     'GOOGLE', 'primary', 'ya29.plain', 'CPDAlvWDx70CEPDAlvWDx70C'),
                    ('00000000-0000-0000-0000-0000000000c2', '00000000-0000-0000-0000-0000000000a2',
                     'MICROSOFT', 'AAMk', 'EwB4.plain', NULL);
             INSERT INTO calendar_events
                 (calendar_connection_id, provider_event_id, title, start_time, end_time, is_recurring,
                  recurrence_rule, recurrence_frequency, attendees)
             VALUES ('00000000-0000-0000-0000-0000000000c1', 'series', 'Stand-up', '2024-01-01T09:00Z',
                     '2024-01-01T09:15Z', true, 'FREQ=DAILY', 'DAILY', '[{\"email\": \"x@example.com\"}]');
             INSERT INTO calendar_events
                 (calendar_connection_id, provider_event_id, start_time, end_time, parent_event_id)
             SELECT calendar_connection_id, 'instance', '2024-01-02T09:00Z', '2024-01-02T09:15Z', id
             FROM calendar_events WHERE provider_event_id = 'series'",
        )
        .await
        .unwrap();
    for (kind, entries) in [
        ("attendees", ATTENDEES.map(|case| case.0).as_slice()),
        ("reminders", REMINDERS.map(|case| case.0).as_slice()),
    ] {
        for (number, json) in entries.iter().enumerate() {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            client
                .execute(
                    &format!(
                        "INSERT INTO calendar_events
                             (calendar_connection_id, provider_event_id, start_time, end_time, {kind})
                         VALUES ('00000000-0000-0000-0000-0000000000c2', '{kind}-' || $1, now(), now(), $2)"
                    ),
                    &[&number.to_string(), &value],
                )
                .await
                .unwrap();
        }
    }
}

/// Everything about the schema that a reader or writer could notice.
async fn shape(client: &Client) -> Vec<String> {
    let rows = client
        .query(
            "SELECT concat_ws(' ', c.relname, a.attnum - (SELECT count(*) FROM pg_attribute b
                        WHERE b.attrelid = c.oid AND b.attisdropped AND b.attnum < a.attnum),
                    a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                    pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
               AND NOT a.attisdropped AND c.relname <> '__diesel_schema_migrations'
             UNION ALL SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
             FROM pg_constraint WHERE connamespace = 'public'::regnamespace
               AND conrelid <> '__diesel_schema_migrations'::regclass
             UNION ALL SELECT indexdef FROM pg_indexes
             WHERE schemaname = 'public' AND tablename <> '__diesel_schema_migrations'
             UNION ALL SELECT concat_ws(' ', t.typname, e.enumlabel, e.enumsortorder,
                    obj_description(t.oid, 'pg_type'))
             FROM pg_type t JOIN pg_enum e ON e.enumtypid = t.oid
             UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
             ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Every row of an old application's tables in its own columns.
async fn old_rows(client: &Client, old_columns: &[(String, String)]) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, columns) in old_columns {
        let sql = format!("SELECT t::text FROM (SELECT {columns} FROM {table} ORDER BY id) AS t");
        for row in client.query(&sql, &[]).await.unwrap() {
            rows.push(row.get(0));
        }
    }
    rows
}

async fn columns_of_each_table(client: &Client) -> Vec<(String, String)> {
    let rows = client
        .query(
            "SELECT table_name::text, string_agg(column_name, ', ' ORDER BY ordinal_position)
             FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name <> '__diesel_schema_migrations'
             GROUP BY table_name ORDER BY table_name",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn run_old_statements(client: &Client) -> Vec<String> {
    client.batch_execute("BEGIN").await.unwrap();
    let mut answers = Vec::new();
    for sql in OLD_STATEMENTS {
        answers.push(
            client
                .query_one(sql, &[])
                .await
                .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
                .get(0),
        );
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    answers
}

async fn connect_with_notices(url: &str) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|cx| Pin::new(&mut connection).poll_message(cx)).await
        {
            if let AsyncMessage::Notice(notice) = message {
                heard.lock().unwrap().push(notice.message().to_owned());
            }
        }
    });
    (client, notices)
}

#[tokio::test]
async fn an_old_application_works_on() {
    let database = TestDatabase::create_empty().await;
    let client = database.connect().await;
    let all = migrations();
    apply(&client, &all[0]).await;
    fill(&client).await;
    let columns = columns_of_each_table(&client).await;
    let rows = old_rows(&client, &columns).await;
    let answers = run_old_statements(&client).await;
    for migration in &all[1..] {
        apply(&client, migration).await;
        assert_eq!(
            run_old_statements(&client).await,
            answers,
            "after {}",
            migration.name
        );
        assert_eq!(
            old_rows(&client, &columns).await,
            rows,
            "after {}",
            migration.name
        );
    }
    // `SELECT *` read by position: the old columns still come first, in their order.
    for (table, present) in columns_of_each_table(&client).await {
        if let Some((_, old)) = columns.iter().find(|(name, _)| *name == table) {
            assert!(present.starts_with(old.as_str()), "{table}: {present}");
        }
    }
}

#[tokio::test]
async fn attendees_and_reminders_are_carried_over() {
    let database = TestDatabase::create_empty().await;
    let (client, notices) = connect_with_notices(database.url()).await;
    let all = migrations();
    apply(&client, &all[0]).await;
    fill(&client).await;
    for migration in &all[1..] {
        apply(&client, migration).await;
    }
    let mut carried = 1;
    for (number, (json, expected)) in ATTENDEES.iter().enumerate() {
        let row = client
            .query_one(
                "SELECT coalesce(string_agg(concat_ws('|', a.email, coalesce(display_name, ''),
                            rsvp_status, CASE WHEN a.is_organizer THEN 'organizer'
                                              WHEN is_optional THEN 'optional' ELSE '' END,
                            coalesce(comment, ''),
                            coalesce((response_time AT TIME ZONE 'UTC')::text, '')),
                        ';' ORDER BY a.email COLLATE \"C\") FILTER (WHERE a.id IS NOT NULL), ''),
                    bool_and(a.calendar_connection_id = e.calendar_connection_id), count(a.id)
                 FROM calendar_events e LEFT JOIN event_attendees a ON a.event_id = e.id
                 WHERE e.provider_event_id = 'attendees-' || $1",
                &[&number.to_string()],
            )
            .await
            .unwrap();
        assert_eq!(row.get::<_, String>(0), *expected, "{json}");
        assert_ne!(
            row.get::<_, Option<bool>>(1),
            Some(false),
            "the connection of {json}"
        );
        carried += row.get::<_, i64>(2);
    }
    let mut reminders = 0;
    for (number, (json, expected)) in REMINDERS.iter().enumerate() {
        let row = client
            .query_one(
                "SELECT coalesce(string_agg(method || ' ' || minutes_before, ';'
                            ORDER BY method, minutes_before) FILTER (WHERE r.id IS NOT NULL), ''), count(r.id)
                 FROM calendar_events e LEFT JOIN event_reminders r ON r.event_id = e.id
                 WHERE e.provider_event_id = 'reminders-' || $1",
                &[&number.to_string()],
            )
            .await
            .unwrap();
        assert_eq!(row.get::<_, String>(0), *expected, "{json}");
        reminders += row.get::<_, i64>(1);
    }
    let notice = format!(
        "carried over {carried} attendees and {reminders} reminders; {ATTENDEES_LEFT} attendee and \
         {REMINDERS_LEFT} reminder entries could not be read and stay in the JSONB columns only"
    );
    assert!(
        notices.lock().unwrap().contains(&notice),
        "{notice}\n{:#?}",
        notices.lock().unwrap()
    );
}

#[tokio::test]
async fn up_down_up_brings_each_state_back() {
    let database = TestDatabase::create_empty().await;
    let client = database.connect().await;
    let all = migrations();
    apply(&client, &all[0]).await;
    fill(&client).await;
    let columns = columns_of_each_table(&client).await;
    let rows = old_rows(&client, &columns).await;
    let mut shapes = vec![shape(&client).await];
    for migration in &all[1..] {
        apply(&client, migration).await;
        shapes.push(shape(&client).await);
    }
    for (number, migration) in all.iter().enumerate().skip(1).rev() {
        client.batch_execute(&migration.down).await.unwrap();
        assert_eq!(
            shape(&client).await,
            shapes[number - 1],
            "after {}/down.sql",
            migration.name
        );
        assert_eq!(
            old_rows(&client, &columns).await,
            rows,
            "after {}/down.sql",
            migration.name
        );
    }
    for (number, migration) in all.iter().enumerate().skip(1) {
        client.batch_execute(&migration.up).await.unwrap();
        assert_eq!(
            shape(&client).await,
            shapes[number],
            "after {}/up.sql again",
            migration.name
        );
    }
    assert_eq!(old_rows(&client, &columns).await, rows);
    for migration in all.iter().rev() {
        client.batch_execute(&migration.down).await.unwrap();
    }
    assert_eq!(
        shape(&client).await,
        Vec::<String>::new(),
        "left behind by the down.sql files"
    );
}
