//! Connections and events with fixed ids, one of each kind.

use calendar_domain::connection::{CalendarConnection, ConnectionStatus};
use calendar_domain::event::{
    Attendee, AttendeeType, EventImportance, EventMoment, EventSpan, EventStatus, Organizer,
    Reminder, ReminderMethod, RsvpStatus, Sensitivity, ShowAs, TeamsMeeting,
};
use calendar_domain::ids::UserId;
use calendar_domain::provider::CalendarProvider;
use calendar_domain::query::{StoredEvent, StoredRecurrence};
use calendar_domain::recurrence::{Frequency, MonthDayType, RecurrenceColumns, RecurrenceEndType};
use calendar_domain::rejected::StoredRejectedEvent;
use calendar_domain::subscription::{PushHealth, WebhookSubscription};
use calendar_domain::sync::SyncWindow;
use serde_json::json;
use time::macros::{date, datetime};
use uuid::Uuid;

/// The same id for the same number.
pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0198_b5a0_0000_7000_8000_0000_0000_0000 + number)
}

pub(crate) fn connection(user_id: UserId, number: u128) -> CalendarConnection {
    CalendarConnection {
        id: id(number).into(),
        user_id,
        account_id: Some(id(900).into()),
        account_email: Some("ada@contoso.example".into()),
        provider: CalendarProvider::Microsoft,
        calendar_id: format!("calendar-{number}"),
        calendar_name: Some("Calendar".into()),
        calendar_color: Some("#0078d4".into()),
        is_primary: true,
        can_edit: true,
        delegate_email: None,
        status: ConnectionStatus::Connected,
        missing_permission: None,
        push: PushHealth::Off,
        last_synced_at: Some(datetime!(2026-01-05 08:59:30.5 UTC)),
        window: Some(SyncWindow {
            start: datetime!(2025-09-07 00:00 UTC),
            end: datetime!(2027-02-04 00:00 UTC),
        }),
        next_sync_at: Some(datetime!(2026-01-05 09:04:30 UTC)),
        last_error: Some(("throttled".into(), datetime!(2026-01-04 12:00 UTC))),
        events_skipped: 1,
        event_count: 42,
        created_at: datetime!(2026-01-01 00:00 UTC),
        updated_at: datetime!(2026-01-05 08:59:30 UTC),
    }
}

/// An event that ends before it starts; the provider calls it `rejected-<number>`.
pub(crate) fn rejected(number: u128, connection: u128) -> StoredRejectedEvent {
    StoredRejectedEvent {
        id: id(number).into(),
        connection_id: id(connection).into(),
        provider_event_id: format!("rejected-{number}"),
        reason: "end_before_start".into(),
        raw: Some(json!({"id": format!("rejected-{number}"), "subject": "Backwards"})),
        attempts: 3,
        first_seen_at: datetime!(2026-01-02 09:00 UTC),
        last_seen_at: datetime!(2026-01-05 08:00 UTC),
    }
}

/// A subscription that lives; the provider calls it `subscription-<number>`.
pub(crate) fn subscription(number: u128, connection: u128) -> WebhookSubscription {
    WebhookSubscription {
        id: id(number).into(),
        connection_id: id(connection).into(),
        provider: CalendarProvider::Microsoft,
        subscription_id: format!("subscription-{number}"),
        resource_path: Some("me/events".into()),
        notification_url: Some("https://calendar.example/webhooks/canary".into()),
        expires_at: datetime!(2026-01-08 09:00 UTC),
        is_active: true,
        last_notification_at: Some(datetime!(2026-01-05 08:59:59.25 UTC)),
        renewed_at: Some(datetime!(2026-01-04 09:00 UTC)),
        created_at: datetime!(2026-01-01 00:00 UTC),
        updated_at: datetime!(2026-01-04 09:00 UTC),
    }
}

/// The client state of a subscription, by the provider's id.
pub(crate) fn state_of(subscription_id: &str) -> String {
    format!("canary of {subscription_id}")
}

/// A Teams meeting, once.
pub(crate) fn single(number: u128, connection: u128) -> StoredEvent {
    StoredEvent {
        id: id(number).into(),
        connection_id: id(connection).into(),
        provider: CalendarProvider::Microsoft,
        provider_event_id: format!("AAMk{number}"),
        title: Some("Review".into()),
        description: Some("Bring the numbers".into()),
        location: Some("Room 1".into()),
        span: EventSpan::Timed {
            start: datetime!(2026-01-05 09:00 +01:00),
            end: datetime!(2026-01-05 10:00 +01:00),
        },
        timezone: Some("Europe/Berlin".into()),
        end_timezone: None,
        timezone_unresolved: false,
        status: EventStatus::Tentative,
        show_as: Some(ShowAs::WorkingElsewhere),
        sensitivity: Some(Sensitivity::Private),
        importance: EventImportance::High,
        categories: vec!["Red".into()],
        conversation_id: Some("AAQk".into()),
        series_master_id: None,
        ical_uid: Some("0400".into()),
        teams: Some(TeamsMeeting {
            meeting_url: Some("https://teams.example/l/1".into()),
            conference_id: Some("123".into()),
            dial_in_url: Some("tel:+49 30 1".into()),
        }),
        organizer: Some(Organizer {
            email: Some("grace@contoso.example".into()),
            display_name: Some("Grace".into()),
        }),
        is_organizer: Some(false),
        attendees: vec![Attendee {
            email: Some("ada@contoso.example".into()),
            display_name: None,
            rsvp_status: RsvpStatus::Accepted,
            attendee_type: AttendeeType::Optional,
            is_organizer: false,
            comment: None,
            response_time: Some(datetime!(2026-01-02 10:00 UTC)),
        }],
        reminders: vec![Reminder {
            method: ReminderMethod::Popup,
            minutes_before: 15,
        }],
        recurrence: None,
        master_id: None,
        original_start: None,
        is_exception: false,
        html_link: Some("https://outlook.example/1".into()),
        metadata: json!({"changeKey": "x"}).as_object().unwrap().clone(),
        version: Some(id(800)),
        created_at: datetime!(2026-01-01 00:00 UTC),
        updated_at: datetime!(2026-01-02 00:00:00.123456 UTC),
        deleted_at: None,
    }
}

/// Two days, as dates.
pub(crate) fn all_day(number: u128, connection: u128) -> StoredEvent {
    StoredEvent {
        title: Some("Fair".into()),
        span: EventSpan::AllDay {
            start: date!(2026 - 01 - 05),
            end: date!(2026 - 01 - 07),
        },
        timezone: Some("Europe/Berlin".into()),
        teams: None,
        attendees: Vec::new(),
        organizer: None,
        ..single(number, connection)
    }
}

/// Every second Tuesday of the month, until a day.
pub(crate) fn master(number: u128, connection: u128) -> StoredEvent {
    StoredEvent {
        title: Some("Board".into()),
        recurrence: Some(StoredRecurrence {
            rule: Some("FREQ=MONTHLY;UNTIL=20261231T080000Z;BYDAY=2TU".into()),
            columns: Some(RecurrenceColumns {
                frequency: Frequency::Monthly,
                interval: 1,
                end_type: RecurrenceEndType::UntilDate,
                end_date: Some(datetime!(2026-12-31 08:00 UTC)),
                count: None,
                by_day: None,
                month_day_type: Some(MonthDayType::DayOfWeek),
                by_month_day: None,
                by_set_pos: Some(2),
                by_day_of_week: Some("TU".into()),
                by_month: Some("1,6".into()),
            }),
            exception_dates: vec![EventMoment::Instant(datetime!(2026-02-10 08:00 UTC))],
        }),
        ..single(number, connection)
    }
}

/// A moved instance of an all-day series.
pub(crate) fn occurrence(number: u128, connection: u128) -> StoredEvent {
    StoredEvent {
        master_id: Some(id(number + 1).into()),
        series_master_id: Some("AAMkMaster".into()),
        original_start: Some(EventMoment::Date(date!(2026 - 01 - 04))),
        is_exception: true,
        ..all_day(number, connection)
    }
}
