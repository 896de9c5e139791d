//! Calendars of others: which they are, and what it is like when access is taken away.

mod scripted;

use calendar_domain::event::ProviderEventId;
use calendar_domain::failure::FailureClass::{self, NeedsResync, Permanent, RateLimited};
use calendar_domain::failure::PortError;
use calendar_domain::ports::{CalendarDirectory, CalendarReader};
use calendar_domain::sync::{CalendarRef, ChangesFrom, Cursor, Mailbox, SyncWindow};
use scripted::{Scripted, all_text, token};
use serde_json::{Value, json};
use time::macros::datetime;

const WINDOW: SyncWindow = SyncWindow {
    start: datetime!(2026-03-01 00:00 UTC),
    end: datetime!(2026-04-01 00:00 UTC),
};

fn calendar(id: &str, owner: &str, is_default: bool) -> Value {
    json!({"id": id, "name": id, "isDefaultCalendar": is_default, "owner": {"name": "x", "address": owner}})
}

#[tokio::test]
async fn a_calendar_of_another_is_told_by_its_owner_over_all_pages() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    for (mailbox, path) in [
        (Mailbox::Own, "/v1.0/me/calendars"),
        (
            Mailbox::Delegate("ada@example.com".to_owned()),
            "/v1.0/users/ada@example.com/calendars",
        ),
    ] {
        server.answer(
            200,
            json!({
                "value": [
                    calendar("team", "bea@example.com", false),
                    calendar("holidays", "ADA@example.com", false),
                    {"id": "nobody's"},
                ],
                "@odata.nextLink": format!("{}{path}?$skip=3", server.url),
            }),
        );
        server.answer(
            200,
            json!({
                "value": [
                    calendar("main", "Ada@Example.com", true),
                    calendar("cleo's", "cleo@example.com", false),
                ]
            }),
        );
        let calendars = graph.calendars(&token(), &mailbox).await.unwrap();
        let marks: Vec<_> = calendars
            .iter()
            .map(|calendar| (calendar.id.as_str(), calendar.is_shared))
            .collect();
        assert_eq!(
            marks,
            [
                ("team", true),
                ("holidays", false),
                ("nobody's", false),
                ("main", false),
                ("cleo's", true),
            ]
        );
        assert_eq!(server.asked()[0].target, path);
    }
}

#[tokio::test]
async fn access_that_was_taken_away_has_one_code() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    let (denied, gone) = ("calendar_access_denied", "calendar_not_found");
    for mailbox in [
        Mailbox::Own,
        Mailbox::Delegate("bea@example.com".to_owned()),
    ] {
        let calendar = CalendarRef {
            calendar_id: "AAMk=".to_owned(),
            mailbox,
        };
        let link = Cursor(format!(
            "{}/v1.0/me/calendarView/delta?$skiptoken=x",
            server.url
        ));
        let id = ProviderEventId("e".to_owned());
        for (status, code, class, told) in [
            (403, "ErrorAccessDenied", Permanent, denied),
            (403, "AccessDenied", Permanent, denied),
            (403, "DelegatedCalendarAccessDenied", Permanent, denied),
            (403, "", Permanent, denied),
            (404, "MailboxNotEnabledForRESTAPI", Permanent, gone),
            (404, "ResourceNotFound", Permanent, gone),
            (404, "ErrorInvalidUser", Permanent, gone),
            (403, "resyncRequired", NeedsResync, "resyncRequired"),
            (404, "SyncStateNotFound", NeedsResync, "SyncStateNotFound"),
            (410, "SyncStateNotFound", NeedsResync, "SyncStateNotFound"),
            (
                429,
                "ApplicationThrottled",
                RateLimited,
                "ApplicationThrottled",
            ),
        ] {
            let expect = |error: &PortError, class: FailureClass, told: &str| {
                assert_eq!(
                    (error.class, error.code.as_str()),
                    (class, told),
                    "{status} {code}"
                );
                let text = all_text(error);
                assert!(text.contains(code), "Graph's code stays: {text}");
                assert!(
                    !text.contains("hush") && !text.contains("example.com"),
                    "{text}"
                );
            };
            for from in [
                ChangesFrom::Start(WINDOW),
                ChangesFrom::Cursor(link.clone()),
            ] {
                server.refuse(status, code, "of bea@example.com");
                let changes = graph.changes(&token(), &calendar, &from).await;
                expect(&changes.unwrap_err(), class, told);
            }
            server.refuse(status, code, "of bea@example.com");
            let event = graph.event(&token(), &calendar, &id).await;
            expect(&event.unwrap_err(), class, told);
            server.refuse(status, code, "of bea@example.com");
            let instances = graph.instances(&token(), &calendar, &id, WINDOW).await;
            expect(&instances.unwrap_err(), class, told);
            // Where a link is denied, it is tried whether the calendar can be listed.
            let tried = usize::from(class == Permanent && status == 403);
            assert_eq!(server.asked().len(), 4 + tried);
        }
    }
}

#[tokio::test]
async fn an_item_that_is_gone_is_no_calendar_that_is_gone() {
    let server = Scripted::start().await;
    let graph = server.adapter();
    let calendar = CalendarRef {
        calendar_id: "AAMk=".to_owned(),
        mailbox: Mailbox::Own,
    };
    let id = ProviderEventId("e".to_owned());
    for code in ["ErrorItemNotFound", "itemNotFound"] {
        server.refuse(404, code, "");
        assert!(
            graph
                .event(&token(), &calendar, &id)
                .await
                .unwrap()
                .is_none()
        );
        server.refuse(404, code, "");
        let instances = graph.instances(&token(), &calendar, &id, WINDOW).await;
        assert!(instances.unwrap().is_empty());
        // A change feed is the calendar's.
        server.refuse(404, code, "");
        let error = graph
            .changes(&token(), &calendar, &ChangesFrom::Start(WINDOW))
            .await
            .unwrap_err();
        assert_eq!(
            (error.class, error.code.as_str()),
            (Permanent, "calendar_not_found")
        );
    }
}
