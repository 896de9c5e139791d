//! How the installation is doing, as operators see it: the same as users see of their own.

use std::time::Duration;

use calendar_domain::connection::ConnectionStatus;
use calendar_domain::overview::{ConnectionGroup, PushState};
use calendar_domain::ports::{ConnectionStore as _, OverviewReader as _};
use calendar_postgres::PgOverviewReader;

use crate::support::{NOW, World};

/// A connection in each state, by what makes it so, and one that does not count.
const CONNECTIONS: &str = "
    INSERT INTO users (email) VALUES ('a@example.com');
    INSERT INTO calendar_accounts (user_id, provider, provider_user_id, needs_reauth_reason, push_due_at,
        push_error_code, push_silent_since, lease_expires_at)
    SELECT id, 'MICROSOFT', name, reason, NULL, push_error, silent_since, lease FROM users, (VALUES
        ('well', NULL, NULL, NULL::timestamptz, NULL::timestamptz),
        ('out', 'invalid_grant', NULL, NULL, NULL),
        ('silent', NULL, NULL, timestamptz '2026-03-02 11:00Z', NULL),
        ('unpushed', NULL, 'push_unsupported', NULL, NULL),
        ('busy', NULL, NULL, NULL, now() + interval '1 hour')
    ) AS accounts (name, reason, push_error, silent_since, lease);
    INSERT INTO calendar_connections (user_id, account_id, provider, calendar_id, access_token, sync_token,
        is_connected)
    SELECT a.user_id, a.id, 'MICROSOFT', name, 'v1.x', token, is_connected
    FROM calendar_accounts AS a JOIN (VALUES
        ('well', 'connected', 't', true), ('well', 'failing', 't', true), ('well', 'paused', 't', true),
        ('well', 'gone', 't', false), ('out', 'needs_reauth', 't', true), ('silent', 'silent', NULL, true),
        ('unpushed', 'unpushed', 't', true), ('busy', 'busy', 't', true)
    ) AS c (account, name, token, is_connected) ON c.account = a.provider_user_id;
    INSERT INTO calendar_sync_states (connection_id, account_id, due_at, is_paused, failure_count,
        last_error_code, last_error_at, window_start, window_end)
    SELECT id, account_id, CASE WHEN calendar_id IN ('connected', 'busy', 'needs_reauth')
            THEN timestamptz '2026-03-02 11:58Z' ELSE timestamptz '2026-03-02 11:59:30Z' END,
        calendar_id = 'paused', (calendar_id = 'failing')::int, 'http_503', now(), now(), now()
    FROM calendar_connections;
    INSERT INTO calendar_rejected_events (calendar_connection_id, provider_event_id, reason, mapper_version, pass_id)
    SELECT id, event, 'end_missing', 1, id FROM calendar_connections, (VALUES ('a'), ('b')) AS events (event);
    INSERT INTO webhook_subscriptions (calendar_connection_id, account_id, provider, subscription_id,
        resource_path, expiration_datetime, client_state, notification_url, is_active)
    SELECT id, account_id, 'MICROSOFT', calendar_id, 'me/events', timestamptz '2026-03-05Z', 's', 'https://x',
        true
    FROM calendar_connections WHERE calendar_id IN ('connected', 'silent')";

#[tokio::test]
async fn every_connection_is_counted_once_as_its_user_sees_it() {
    let world = World::new().await;
    world.sql.batch_execute(CONNECTIONS).await.unwrap();
    // Ends and starts lie around the time of the test.
    let user = world
        .sql
        .query_one("SELECT id FROM users WHERE email = 'a@example.com'", &[]);
    let user: uuid::Uuid = user.await.unwrap().get(0);
    let reader = PgOverviewReader::new(world.pool.clone());
    let overview = reader.overview(NOW).await.unwrap();

    let mut seen: Vec<(ConnectionStatus, u64)> = Vec::new();
    let listed = world
        .connections
        .list(user.into(), None, 100)
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 7);
    for connection in &listed.items {
        match seen
            .iter_mut()
            .find(|(status, _)| *status == connection.status)
        {
            Some((_, count)) => *count += 1,
            None => seen.push((connection.status, 1)),
        }
    }
    for (status, count) in seen {
        let groups = overview.connections.iter();
        let groups = groups.filter(|group| group.status == status);
        assert_eq!(
            groups.map(|group| group.count).sum::<u64>(),
            count,
            "{status:?}"
        );
    }
    let sum = |is_meant: fn(&ConnectionGroup) -> bool| -> u64 {
        let groups = overview.connections.iter();
        groups
            .filter(|group| is_meant(group))
            .map(|group| group.count)
            .sum()
    };
    assert_eq!(sum(|_| true), 7);
    assert_eq!(sum(|group| group.push == PushState::Healthy), 3);
    assert_eq!(sum(|group| group.push == PushState::Stale), 1);
    assert_eq!(sum(|group| group.push == PushState::Unsupported), 1);
    assert_eq!(sum(|group| group.push == PushState::Off), 2);
    let coded = |code: &str| {
        let mut groups = overview.connections.iter();
        groups
            .find(|group| group.error_code.as_deref() == Some(code))
            .unwrap()
            .status
    };
    assert_eq!(coded("http_503"), ConnectionStatus::Failing);
    assert_eq!(coded("invalid_grant"), ConnectionStatus::NeedsReauth);
    let skipped: u64 = overview
        .connections
        .iter()
        .map(|group| group.events_skipped)
        .sum();
    assert_eq!(skipped, 14);

    // What is leased, paused, gone or without its user does not wait.
    let [backlog] = overview.backlogs[..] else {
        panic!("{:?}", overview.backlogs)
    };
    assert_eq!((backlog.accounts, backlog.overdue), (3, 1));
    assert_eq!(backlog.lag, Duration::from_mins(2));
    let [subscriptions] = overview.subscriptions[..] else {
        panic!("{:?}", overview.subscriptions)
    };
    assert!(subscriptions.is_active && !subscriptions.is_expired);
    assert_eq!(subscriptions.count, 2);
}

#[tokio::test]
async fn an_empty_installation_is_measured_too() {
    let world = World::new().await;
    let overview = PgOverviewReader::new(world.pool.clone())
        .overview(NOW)
        .await;
    assert!(overview.unwrap().backlogs.is_empty());
}
