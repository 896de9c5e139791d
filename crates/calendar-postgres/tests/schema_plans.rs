//! The document's three common queries use the indexes that it names: EXPLAIN on 200,000 events and
//! 40,000 subscriptions, with 10, 33 and 60 percent Teams meetings.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy.toml does not except"
)]

use calendar_postgres::testing::TestDatabase;
use tokio_postgres::Client;

const TODAYS_TEAMS_MEETINGS: &str = "SELECT * FROM calendar_events
    WHERE calendar_connection_id = $1
      AND teams_enabled = true
      AND start_time >= CURRENT_DATE
      AND end_time < CURRENT_DATE + INTERVAL '1 day'";

const EXPIRING_WEBHOOKS: &str = "SELECT * FROM webhook_subscriptions
    WHERE is_active = true
      AND expiration_datetime < NOW() + INTERVAL '1 hour'
    ORDER BY expiration_datetime";

const EXPIRING_INDEX: &str = "webhook_subscriptions_expiration_is_active_idx";

const EVENT_THREAD: &str = "SELECT * FROM calendar_events
    WHERE conversation_id = $1
    ORDER BY created_at";

/// 2,000 connections of 1,000 users; 20 subscriptions on each, most of them long ended, as they
/// stand after months of renewals.
const CONNECTIONS: &str = "
    INSERT INTO users (email) SELECT 'user' || n || '@example.com' FROM generate_series(1, 1000) AS n;
    INSERT INTO calendar_connections (user_id, provider, calendar_id)
    SELECT id, 'MICROSOFT', repeat('A', 140) || n FROM users, generate_series(1, 2) AS n;
    INSERT INTO webhook_subscriptions (calendar_connection_id, provider, subscription_id, resource_path,
        expiration_datetime, client_state, notification_url, is_active)
    SELECT id, 'MICROSOFT', gen_random_uuid(), repeat('p', 200),
        now() + CASE WHEN n <= 2 THEN random() * interval '7 days' ELSE random() * interval '-200 days' END,
        repeat('s', 64), 'https://calendar.example.com/webhooks/microsoft', n <= 2
    FROM calendar_connections, generate_series(1, 20) AS n;
    ANALYZE";

/// The same table while every subscription is active: the hardest case for the partial index.
const ALL_SUBSCRIPTIONS_ACTIVE: &str = "
    UPDATE webhook_subscriptions
    SET is_active = true, expiration_datetime = now() + random() * interval '7 days';
    VACUUM FULL ANALYZE webhook_subscriptions";

/// 100 events on each connection over the window of a sync; `$teams` percent of them Teams meetings,
/// a thread for every three.
const EVENTS: &str = "
    INSERT INTO calendar_events (calendar_connection_id, provider_event_id, title, description, location,
        start_time, end_time, timezone, importance, outlook_categories, conversation_id, teams_enabled,
        teams_meeting_url, provider_metadata, html_link, ical_uid, created_at)
    SELECT c.id, repeat('A', 130) || c.number || '-' || n, 'Meeting ' || n, repeat('agenda ', 30), 'Room 1',
        s.at, s.at + interval '30 minutes', 'Europe/Berlin',
        (ARRAY['NORMAL', 'NORMAL', 'NORMAL', 'NORMAL', 'HIGH'])[1 + n % 5]::event_importance, '[\"Blue\"]',
        'AAQk' || c.number || '-' || n / 3, s.share < $teams,
        CASE WHEN s.share < $teams THEN 'https://teams.example.com/l/meetup-join/' || repeat('m', 110) END,
        '{\"changeKey\": \"x\"}', 'https://outlook.example.com/' || repeat('l', 100), repeat('U', 100) || n,
        now() - random() * interval '300 days'
    FROM (SELECT id, row_number() OVER () AS number FROM calendar_connections) AS c
    CROSS JOIN generate_series(1, 100) AS n
    CROSS JOIN LATERAL (
        SELECT date_trunc('hour', now()) + (random() * 455 - 90 + n * 0)::integer * interval '1 day'
            + (n % 18) * interval '30 minutes' AS at, random() * 100 + c.number * 0 AS share
    ) AS s";

#[tokio::test]
async fn the_common_queries_use_the_named_indexes() {
    let database = TestDatabase::create().await;
    let client = database.connect().await;
    client.batch_execute(CONNECTIONS).await.unwrap();
    let plan = explain(&client, EXPIRING_WEBHOOKS, None).await;
    assert_uses(&plan, EXPIRING_INDEX, "most have ended");
    // In statements of its own: VACUUM runs outside a transaction.
    for statement in ALL_SUBSCRIPTIONS_ACTIVE.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
    let plan = explain(&client, EXPIRING_WEBHOOKS, None).await;
    assert_uses(&plan, EXPIRING_INDEX, "all are active");
    for percent in [10, 33, 60] {
        fill_events(&client, percent).await;
        let setting = format!("{percent} percent Teams");
        let connection = "(SELECT id FROM calendar_connections ORDER BY id LIMIT 1)";
        let plan = explain(&client, TODAYS_TEAMS_MEETINGS, Some(("uuid", connection))).await;
        assert_uses(
            &plan,
            "calendar_events_connection_teams_start_idx",
            &setting,
        );
        let thread = "(SELECT max(conversation_id) FROM calendar_events)";
        let plan = explain(&client, EVENT_THREAD, Some(("text", thread))).await;
        assert_uses(&plan, "calendar_events_conversation_id_idx", &setting);
        assert!(
            !plan.contains("Sort"),
            "{setting}: the index gives the order:\n{plan}"
        );
    }
}

/// Loads the events without indexes and builds them afterwards: a quarter of the time.
async fn fill_events(client: &Client, percent: u32) {
    let indexes = client
        .query(
            "SELECT i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) FROM pg_index i
             WHERE i.indrelid = 'calendar_events'::regclass AND NOT i.indisunique",
            &[],
        )
        .await
        .unwrap();
    client
        .batch_execute("TRUNCATE calendar_events CASCADE")
        .await
        .unwrap();
    for index in &indexes {
        client
            .batch_execute(&format!("DROP INDEX {}", index.get::<_, String>(0)))
            .await
            .unwrap();
    }
    client
        .batch_execute(&EVENTS.replace("$teams", &percent.to_string()))
        .await
        .unwrap();
    for index in &indexes {
        client.batch_execute(index.get(1)).await.unwrap();
    }
    client
        .batch_execute("ANALYZE calendar_events")
        .await
        .unwrap();
    let counts = client
        .query_one(
            "SELECT count(*), round(100.0 * count(*) FILTER (WHERE teams_enabled) / count(*))::int
             FROM calendar_events",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(counts.get::<_, i64>(0), 200_000);
    assert_eq!(counts.get::<_, i32>(1), i32::try_from(percent).unwrap());
}

/// The plans for one value and for any value: a prepared statement comes to use the second.
async fn explain(client: &Client, query: &str, argument: Option<(&str, &str)>) -> String {
    let (parameters, arguments) = match argument {
        Some((sql_type, value)) => {
            let row = client
                .query_one(&format!("SELECT {value}::text"), &[])
                .await
                .unwrap();
            (
                format!("({sql_type})"),
                format!("('{}')", row.get::<_, String>(0)),
            )
        }
        None => (String::new(), String::new()),
    };
    let mut plans = String::new();
    client
        .batch_execute(&format!("PREPARE common{parameters} AS {query}"))
        .await
        .unwrap();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        client
            .batch_execute(&format!("SET plan_cache_mode = {mode}"))
            .await
            .unwrap();
        let explain = format!("EXPLAIN EXECUTE common{arguments}");
        for message in client.simple_query(&explain).await.unwrap() {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                plans.push_str(row.get(0).unwrap_or_default());
                plans.push('\n');
            }
        }
        plans.push('\n');
    }
    client
        .batch_execute("DEALLOCATE common; RESET plan_cache_mode")
        .await
        .unwrap();
    plans
}

#[track_caller]
fn assert_uses(plan: &str, index: &str, setting: &str) {
    let uses = plan.matches(&format!(" {index} ")).count();
    assert_eq!(uses, 2, "{setting}: both plans use {index}:\n{plan}");
    assert!(!plan.contains("Seq Scan"), "{setting}:\n{plan}");
}
