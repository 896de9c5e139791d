//! How fast a page is mapped.

use super::*;

/// Not a test of behaviour: how fast a page is mapped. Run in release with
/// `cargo test --release -p calendar-msgraph -- --ignored --nocapture mapping_speed`.
#[test]
#[ignore = "a measurement, for release builds"]
fn mapping_speed() {
    let entries: Vec<Value> = (0..500)
        .map(|n| match n % 5 {
            0 => stub(&format!("O{n}"), "M", "2026-01-05T09:00:00.0000000", "2026-01-05T10:00:00.0000000"),
            _ => meeting(json!({
                "id": format!("AAMkAGI2TGuLAAA{n}="),
                "isOnlineMeeting": true,
                "onlineMeetingProvider": "teamsForBusiness",
                "onlineMeeting": {"joinUrl": "https://teams.microsoft.com/l/meetup-join/19%3ameeting_x/0", "conferenceId": "1", "tollNumber": "+1 323-555-0166"},
                "body": {"contentType": "html", "content": format!("<html><body>{}</body></html>", "<div style=\"color:gray\">Join the meeting&nbsp;now</div>\r\n".repeat(20))},
                "attendees": [
                    {"type": "required", "status": {"response": "none", "time": "0001-01-01T00:00:00Z"}, "emailAddress": {"name": "Bob", "address": "bob@example.com"}},
                    {"type": "optional", "status": {"response": "accepted", "time": "2026-01-01T00:00:00Z"}, "emailAddress": {"name": "Cy", "address": "cy@example.com"}},
                ],
            })),
        })
        .collect();
    let text = serde_json::to_string(&json!({"value": entries, "@odata.nextLink": "x"})).unwrap();
    let start = std::time::Instant::now();
    let rounds = 40;
    for _ in 0..rounds {
        let page: crate::wire::Page = serde_json::from_str(&text).unwrap();
        let changes = Mapper::default().page(&page.value, Occurrences::AsOccurrence);
        assert_eq!(changes.len(), 500);
    }
    let seconds = start.elapsed().as_secs_f64();
    let events = f64::from(rounds * 500);
    let megabytes = f64::from(u32::try_from(text.len()).unwrap()) * f64::from(rounds) / 1e6;
    println!(
        "{:.0} events/s, {:.0} MB/s",
        events / seconds,
        megabytes / seconds
    );
}
