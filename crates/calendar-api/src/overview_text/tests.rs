//! Measured seldom, once for all who ask at a time, and told when it failed.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use calendar_domain::connection::ConnectionStatus;
use calendar_domain::failure::{FailureClass, PortError, PortResult};
use calendar_domain::overview::{Backlog, ConnectionGroup, PushState, SubscriptionGroup};
use calendar_domain::provider::CalendarProvider;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-01-05 09:00 UTC);

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> OffsetDateTime {
        NOW
    }
}

/// Takes a second for each answer.
struct Slow {
    asked: AtomicU32,
    answer: fn(u32) -> PortResult<Overview>,
    takes: Duration,
}

#[async_trait]
impl OverviewReader for Slow {
    async fn overview(&self, now: OffsetDateTime) -> PortResult<Overview> {
        assert_eq!(now, NOW);
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.takes).await;
        (self.answer)(number)
    }
}

fn measured(takes: Duration, answer: fn(u32) -> PortResult<Overview>) -> (Arc<Slow>, OverviewText) {
    let reader = Arc::new(Slow {
        asked: AtomicU32::new(0),
        answer,
        takes,
    });
    (reader.clone(), OverviewText::new(reader, Arc::new(Fixed)))
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn all_who_ask_at_a_time_share_a_measurement_for_ten_seconds() {
    let (reader, text) = measured(SECOND, |_| Ok(Overview::default()));
    let (one, two, three) = tokio::join!(text.get(), text.get(), text.get());
    assert!(one.contains("calendar_overview_up 1"), "{one}");
    assert!(one == two && two == three);
    tokio::time::sleep(SECOND * 8).await;
    text.get().await;
    assert_eq!(reader.asked.load(Ordering::Relaxed), 1);
    tokio::time::sleep(SECOND * 3).await;
    text.get().await;
    assert_eq!(reader.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_drops_the_gauges_and_is_not_repeated_at_once() {
    let (reader, text) = measured(SECOND, |number| match number {
        0 => Err(PortError::new(FailureClass::Retryable, "database_down")),
        _ => Ok(full()),
    });
    for _ in 0..2 {
        let down = text.get().await;
        assert!(down.contains("calendar_overview_up 0"), "{down}");
        assert_eq!(down.lines().count(), 3, "{down}");
    }
    assert_eq!(reader.asked.load(Ordering::Relaxed), 1);
    tokio::time::sleep(FRESH).await;
    assert!(text.get().await.contains("calendar_overview_up 1"));
}

#[tokio::test(start_paused = true)]
async fn a_scrape_does_not_wait_for_ever() {
    let (_, text) = measured(SECOND * 60, |_| Ok(full()));
    let begun = Instant::now();
    assert!(text.get().await.contains("calendar_overview_up 0"));
    assert_eq!(begun.elapsed(), WITHIN);
}

fn group(status: ConnectionStatus, code: Option<&str>, count: u64) -> ConnectionGroup {
    ConnectionGroup {
        provider: CalendarProvider::Microsoft,
        status,
        push: PushState::Healthy,
        error_code: code.map(str::to_owned),
        count,
        events_skipped: 1,
    }
}

fn full() -> Overview {
    let mut connections = vec![
        group(ConnectionStatus::Connected, None, 5),
        group(ConnectionStatus::NeedsReauth, Some("invalid_grant"), 3),
    ];
    for number in 0..25 {
        let code = format!("rare_{number:02}");
        connections.push(group(ConnectionStatus::Failing, Some(&code), 1));
    }
    let ends = |is_active, is_expired, hours| SubscriptionGroup {
        provider: CalendarProvider::Microsoft,
        is_active,
        is_expired,
        count: 2,
        soonest_expiry: NOW + time::Duration::hours(hours),
    };
    Overview {
        connections,
        backlogs: vec![Backlog {
            provider: CalendarProvider::Google,
            accounts: 2,
            overdue: 1,
            lag: Duration::from_millis(90_500),
        }],
        subscriptions: vec![
            ends(true, false, 4),
            ends(true, true, -1),
            ends(false, true, -90),
        ],
    }
}

#[test]
fn everything_is_told_once() {
    let text = super::text(&full());
    for line in [
        "calendar_connections{provider=\"microsoft\",status=\"connected\"} 5",
        "calendar_connections{provider=\"microsoft\",status=\"failing\"} 25",
        "calendar_connections{provider=\"microsoft\",status=\"needs_reauth\"} 3",
        "calendar_connection_errors{provider=\"microsoft\",status=\"needs_reauth\",code=\"invalid_grant\"} 3",
        "calendar_connection_errors{provider=\"microsoft\",status=\"failing\",code=\"rare_00\"} 1",
        "calendar_connection_errors{provider=\"microsoft\",status=\"failing\",code=\"other\"} 6",
        "calendar_connections_push{provider=\"microsoft\",state=\"healthy\"} 33",
        "calendar_events_skipped{provider=\"microsoft\"} 27",
        "calendar_sync_lag_seconds{provider=\"google\"} 90.5",
        "calendar_sync_lag_seconds{provider=\"microsoft\"} 0",
        "calendar_connections_overdue{provider=\"google\"} 1",
        "calendar_accounts_due{provider=\"google\"} 2",
        "calendar_accounts_due{provider=\"microsoft\"} 0",
        "calendar_subscriptions{provider=\"microsoft\",state=\"active\"} 2",
        "calendar_subscriptions{provider=\"microsoft\",state=\"expired\"} 2",
        "calendar_subscriptions{provider=\"microsoft\",state=\"ended\"} 2",
        "calendar_subscription_soonest_expiry_seconds{provider=\"microsoft\"} 1767618000",
    ] {
        assert_eq!(
            text.lines().filter(|found| *found == line).count(),
            1,
            "{line}\n{text}"
        );
    }
    assert!(!text.contains("rare_24"), "{text}");
}
