//! Ordinary events in any number, for benchmarks.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::render::seconds;

const SUBJECTS: [&str; 6] = [
    "Weekly planning",
    "Design review",
    "1:1",
    "Customer call",
    "Budget",
    "Retrospective",
];

/// The `n`-th: two attendees, a reminder, a room and an html body; every fifth is a Teams meeting.
pub(crate) fn event(n: u32, from: Timestamp, to: Timestamp) -> Value {
    let subject = SUBJECTS[n as usize % SUBJECTS.len()];
    json!({
        "subject": format!("{subject} {n}"),
        "start": {"dateTime": seconds(from), "timeZone": "UTC"},
        "end": {"dateTime": seconds(to), "timeZone": "UTC"},
        "body": {"contentType": "html", "content": format!("<p>Agenda of {subject} number {n}: status, risks, next steps.</p>")},
        "location": {"displayName": format!("Conf Room {}", n % 12)},
        "categories": if n.is_multiple_of(7) { json!(["Blue category"]) } else { json!([]) },
        "isReminderOn": true,
        "reminderMinutesBeforeStart": 5 + 10 * (n % 3),
        "isOnlineMeeting": n.is_multiple_of(5),
        "attendees": [
            {"type": "required", "emailAddress": {"name": format!("Person {}", n % 50), "address": format!("person{}@contoso.example", n % 50)}},
            {"type": "optional", "emailAddress": {"name": format!("Guest {}", n % 30), "address": format!("guest{}@example.com", n % 30)}},
        ],
    })
}
