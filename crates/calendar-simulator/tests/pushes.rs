//! Notifications over HTTP: which change makes which, and how they look.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "a test fails by panicking, and reads best whole"
)]

mod support;

use calendar_simulator::jiff::civil::date;
use calendar_simulator::{OccurrenceChange, Quirks};
use reqwest::Method;
use serde_json::{Value, json};
use support::listener::{Listener, Received};
use support::subscribing::{ALL, add, kinds, news, told};
use support::{ALEX, Bench, FROM, IMMUTABLE, MEGAN, at, meeting, series};

#[tokio::test]
async fn a_notification_names_the_event_and_its_subscription() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    let made = bench.subscribe(&listener.url("/push?a=1"), ALL, "").await;
    listener.forget();
    let event = meeting("Review", "2026-03-03T10:00:00");
    let (_, event) = bench.send(Method::POST, "/me/events", &event).await;
    bench.quiet().await;
    let came = listener.received();
    assert_eq!(came.len(), 1);
    assert_eq!(
        (came[0].path.as_str(), came[0].query.as_str()),
        ("/push", "a=1")
    );
    assert_eq!(came[0].content_type, "application/json");
    let mut items = came[0].items();
    assert_eq!(items.len(), 1);
    let (number, tenant) = (items[0]["id"].take(), items[0]["tenantId"].take());
    for uuid in [number, tenant] {
        assert_eq!(uuid.as_str().unwrap().len(), 36);
    }
    let user = bench.read("/me").await["id"].as_str().unwrap().to_owned();
    let id = event["id"].as_str().unwrap();
    let address = format!("Users/{user}/Events/{id}");
    assert_eq!(
        items[0],
        json!({
            "id": null,
            "subscriptionId": made["id"],
            "subscriptionExpirationDateTime": made["expirationDateTime"],
            "clientState": "secret",
            "changeType": "created",
            "resource": address,
            "tenantId": null,
            "resourceData": {
                "@odata.type": "#Microsoft.Graph.Event",
                "@odata.id": address,
                "@odata.etag": event["@odata.etag"],
                "id": id,
            },
        })
    );
}

#[tokio::test]
async fn ids_are_immutable_when_the_create_request_asked_for_it() {
    let bench = Bench::with(Quirks {
        duplicate_subscriptions_refused: false,
        ..Quirks::none()
    })
    .await;
    let (regular, immutable) = (Listener::start().await, Listener::start().await);
    bench.subscribe(&regular.url("/"), ALL, "").await;
    bench.subscribe(&immutable.url("/"), ALL, IMMUTABLE).await;
    let event = meeting("Review", "2026-03-03T10:00:00");
    let id = bench.server.create_event(ALEX, None, &event).unwrap();
    assert_eq!(told(&bench, &immutable).await, news("created", &id));
    let other = told(&bench, &regular).await.remove(0).1;
    assert_ne!(other, id);
    assert_eq!(
        bench.read(&format!("/me/events/{other}")).await["subject"],
        "Review"
    );

    // A move changes the regular id only.
    let calendar = bench.server.create_calendar(ALEX, "Else").unwrap();
    bench.server.move_event(ALEX, &id, Some(&calendar)).unwrap();
    assert_eq!(told(&bench, &immutable).await, news("updated", &id));
    let moved = told(&bench, &regular).await;
    assert_eq!(kinds(&moved), ["deleted", "created"]);
    assert_eq!(moved[0].1, other);
    assert_eq!(
        bench.read(&format!("/me/events/{}", moved[1].1)).await["subject"],
        "Review"
    );
}

#[tokio::test]
async fn every_change_is_told_by_whomever() {
    let (bench, listener) = (Bench::calm().await, Listener::start().await);
    bench.subscribe(&listener.url("/"), ALL, IMMUTABLE).await;
    listener.forget();
    let server = &bench.server;
    let prefer =
        |method: Method, path: String| bench.request(method, &path).header("Prefer", IMMUTABLE);

    // Graph.
    let event = meeting("Review", "2026-03-03T10:00:00");
    let answer = prefer(Method::POST, "/me/events".into())
        .json(&event)
        .send()
        .await
        .unwrap();
    let made: Value = answer.json().await.unwrap();
    let id = made["id"].as_str().unwrap();
    assert_eq!(told(&bench, &listener).await, news("created", id));
    let path = format!("/me/events/{id}");
    assert_eq!(
        bench
            .send(Method::PATCH, &path, &json!({"subject": "Other"}))
            .await
            .0,
        200
    );
    assert_eq!(told(&bench, &listener).await, news("updated", id));
    assert_eq!(
        bench
            .send(
                Method::PATCH,
                &path,
                &json!({"start": {"dateTime": "2026-03-03T10:00:00", "timeZone": "Mars"}})
            )
            .await
            .0,
        400
    );
    assert_eq!(told(&bench, &listener).await, []);
    assert_eq!(
        prefer(Method::DELETE, path).send().await.unwrap().status(),
        204
    );
    assert_eq!(told(&bench, &listener).await, news("deleted", id));

    // An answer to an invitation.
    let mut invitation = meeting("Invitation", "2026-03-03T12:00:00");
    invitation["organizer"] = json!({"emailAddress": {"name": "M", "address": MEGAN}});
    let id = server.create_event(ALEX, None, &invitation).unwrap();
    assert_eq!(told(&bench, &listener).await, news("created", &id));
    assert_eq!(
        bench
            .send(Method::POST, &format!("/me/events/{id}/accept"), &json!({}))
            .await
            .0,
        202
    );
    assert_eq!(told(&bench, &listener).await, news("updated", &id));

    // The admin interface; what happens to an occurrence happens to its master.
    let master = server.create_event(ALEX, None, &series("Daily")).unwrap();
    assert_eq!(told(&bench, &listener).await, news("created", &master));
    server
        .edit_event(ALEX, &master, &json!({"subject": "Other"}))
        .unwrap();
    assert_eq!(told(&bench, &listener).await, news("updated", &master));
    for (day, change) in [
        (4, OccurrenceChange::Edit(json!({"subject": "Only today"}))),
        (5, OccurrenceChange::Cancel),
        (6, OccurrenceChange::Delete),
    ] {
        server
            .change_occurrence(ALEX, &master, date(2026, 3, day), &change)
            .unwrap();
        assert_eq!(
            told(&bench, &listener).await,
            news("updated", &master),
            "{change:?}"
        );
    }
    let occurrence = server
        .occurrence_id(ALEX, &master, date(2026, 3, 9))
        .unwrap();
    let path = format!("/me/events/{occurrence}");
    assert_eq!(
        bench
            .send(Method::PATCH, &path, &json!({"subject": "x"}))
            .await
            .0,
        200
    );
    assert_eq!(told(&bench, &listener).await, news("updated", &master));
    assert_eq!(bench.send(Method::DELETE, &path, &json!({})).await.0, 204);
    assert_eq!(told(&bench, &listener).await, news("updated", &master));
    server.delete_event(ALEX, &master).unwrap();
    assert_eq!(told(&bench, &listener).await, news("deleted", &master));

    // A calendar goes with its events; one without any goes quietly.
    let calendar = server.create_calendar(ALEX, "Else").unwrap();
    let id = server.create_event(ALEX, Some("Else"), &event).unwrap();
    assert_eq!(told(&bench, &listener).await, news("created", &id));
    server.delete_calendar(ALEX, &calendar).unwrap();
    assert_eq!(told(&bench, &listener).await, news("deleted", &id));
    server.create_calendar(ALEX, "Empty").unwrap();
    server.delete_calendar(ALEX, "Empty").unwrap();
    assert_eq!(told(&bench, &listener).await, []);

    // Forced identifiers are told as they are shown.
    let mut hostile = event.clone();
    hostile["raw"] = json!({"id": "forced"});
    server.create_event(ALEX, None, &hostile).unwrap();
    assert_eq!(told(&bench, &listener).await, news("created", "forced"));

    // Over HTTP, too.
    let url = format!("{}/admin/mailboxes/{ALEX}/events", bench.server.url());
    let answer = bench.http.post(url).json(&event).send().await.unwrap();
    let made: Value = answer.json().await.unwrap();
    assert_eq!(
        told(&bench, &listener).await,
        news("created", made["id"].as_str().unwrap())
    );
}

#[tokio::test]
async fn a_change_is_told_several_times_as_was_seen() {
    let (bench, listener) = (
        Bench::with(Quirks::default()).await,
        Listener::start().await,
    );
    bench.subscribe(&listener.url("/"), ALL, IMMUTABLE).await;
    listener.forget();
    let event = meeting("Review", "2026-03-03T10:00:00");
    let id = bench.server.create_event(ALEX, None, &event).unwrap();
    let all = told(&bench, &listener).await;
    assert_eq!(kinds(&all), ["created", "updated", "updated", "updated"]);
    assert!(all.iter().all(|(_, named)| *named == id));
    bench
        .server
        .edit_event(ALEX, &id, &json!({"subject": "x"}))
        .unwrap();
    assert_eq!(kinds(&told(&bench, &listener).await), ["updated"; 3]);
    bench.server.set_quirks(Quirks {
        notification_updates: 1,
        ..Quirks::default()
    });
    bench
        .server
        .edit_event(ALEX, &id, &json!({"subject": "y"}))
        .unwrap();
    assert_eq!(kinds(&told(&bench, &listener).await), ["updated"]);
    bench.server.delete_event(ALEX, &id).unwrap();
    assert_eq!(kinds(&told(&bench, &listener).await), ["deleted"]);
}

#[tokio::test]
async fn a_subscriber_hears_what_it_asked_for() {
    let (bench, listener) = (
        Bench::with(Quirks::default()).await,
        Listener::start().await,
    );
    for kind in ["created", "updated", "deleted"] {
        bench
            .subscribe(&listener.url(&format!("/{kind}")), kind, "")
            .await;
    }
    listener.forget();
    let id = add(&bench, "Review").await;
    bench.server.delete_event(ALEX, &id).unwrap();
    bench.quiet().await;
    for (kind, count) in [("created", 1), ("updated", 3), ("deleted", 1)] {
        let heard: Vec<Value> = listener
            .pushes()
            .iter()
            .filter(|request| request.path == format!("/{kind}"))
            .flat_map(Received::items)
            .collect();
        assert_eq!(heard.len(), count, "{kind}");
        assert!(heard.iter().all(|item| item["changeType"] == kind));
    }
}

#[tokio::test]
async fn notifications_are_spelt_in_several_ways() {
    let (bench, listener) = (
        Bench::with(Quirks::default()).await,
        Listener::start().await,
    );
    let made = bench.subscribe(&listener.url("/"), ALL, "").await;
    for n in 0..12 {
        add(&bench, &n.to_string()).await;
    }
    bench.quiet().await;
    let user = bench.read("/me").await["id"].as_str().unwrap().to_owned();
    let items = listener.items();
    assert_eq!(items.len(), 48);
    let until = at(made["expirationDateTime"].as_str().unwrap());
    let mut seen = [0; 8];
    for item in &items {
        let id = item["resourceData"]["id"].as_str().unwrap();
        for (place, text) in [
            (0, &item["resource"]),
            (2, &item["resourceData"]["@odata.id"]),
        ] {
            if *text == format!("Users/{user}/Events/{id}") {
                seen[place] += 1;
            } else {
                assert_eq!(*text, format!("Users('{user}')/events('{id}')"));
                seen[place + 1] += 1;
            }
        }
        match item["resourceData"]["@odata.type"].as_str().unwrap() {
            "#Microsoft.Graph.Event" => seen[4] += 1,
            "#microsoft.graph.event" => seen[5] += 1,
            other => panic!("{other}"),
        }
        let expiry = item["subscriptionExpirationDateTime"].as_str().unwrap();
        assert_eq!(at(expiry).as_microsecond(), until.as_microsecond());
        seen[if expiry.ends_with('Z') { 6 } else { 7 }] += 1;
    }
    assert!(seen.iter().all(|count| *count > 5), "{seen:?}");
}

#[tokio::test]
async fn a_change_is_the_owners_alone() {
    let mut bench = Bench::calm().await;
    let (alex, megan) = (Listener::start().await, Listener::start().await);
    bench.subscribe(&alex.url("/"), ALL, "").await;
    let token = bench.server.issue_access_token(MEGAN).unwrap();
    let own = std::mem::replace(&mut bench.token, token);
    bench.subscribe(&megan.url("/"), ALL, "").await;
    bench.server.create_calendar(MEGAN, "Team").unwrap();
    let copy = bench
        .server
        .share_calendar(MEGAN, Some("Team"), ALEX, true)
        .unwrap();
    bench.token = own;
    // Alex writes into the copy, which is Megan's calendar.
    let event = meeting("Shared", "2026-03-03T10:00:00");
    let path = format!("/me/calendars/{copy}/events");
    assert_eq!(bench.send(Method::POST, &path, &event).await.0, 201);
    assert_eq!(kinds(&told(&bench, &megan).await), ["created"]);
    assert_eq!(told(&bench, &alex).await, []);
    bench.server.create_event(MEGAN, None, &event).unwrap();
    assert_eq!(kinds(&told(&bench, &megan).await), ["created"]);
    assert_eq!(told(&bench, &alex).await, []);
}

#[tokio::test]
async fn many_events_at_once_are_told_once() {
    let (bench, listener) = (
        Bench::with(Quirks::default()).await,
        Listener::start().await,
    );
    bench.subscribe(&listener.url("/"), ALL, "").await;
    bench
        .subscribe(&listener.url("/updates"), "updated", "")
        .await;
    listener.forget();
    bench
        .server
        .create_events_in_bulk(ALEX, None, 500, at(FROM), 30)
        .unwrap();
    let mut all = told(&bench, &listener).await;
    all.sort();
    assert_eq!(kinds(&all), ["created", "updated"]);
}
