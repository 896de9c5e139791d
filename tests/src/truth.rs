//! Many calendars at once: what the store holds of them beside what the provider's users see.

use std::collections::BTreeMap;
use std::time::{Duration, Instant as Moment};

use calendar_simulator::Simulator;
use calendar_simulator::jiff::{Timestamp, ToSpan as _};
use tokio_postgres::Client;

use crate::Instance;

/// Calendars by the provider's id of them, each with its instances in order; what stands there twice is there
/// twice.
pub type Calendars = BTreeMap<String, Vec<Instance>>;

/// Live singles and instances of series that overlap a window, without all-day events.
const STORED: &str = r#"
    SELECT c.calendar_id, coalesce(e.title, ''), to_char(e.start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS'),
        to_char(e.end_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
    FROM calendar_connections AS c LEFT JOIN calendar_events AS e ON e.calendar_connection_id = c.id
        AND e.deleted_at IS NULL AND NOT (e.is_recurring AND e.parent_event_id IS NULL)
        AND e.start_time < $2::text::timestamptz AND e.end_time > $1::text::timestamptz
    WHERE c.deleted_at IS NULL"#;

/// Calendars of the simulator, to be compared with the store.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// User principal name and calendar id.
    pub calendars: Vec<(String, String)>,
}

impl Truth {
    /// All of the store's calendars, and all that it shows of them; from 80 days ago to 360 days ahead, which the
    /// default window holds.
    fn window(simulator: &Simulator) -> (Timestamp, Timestamp) {
        let now = simulator.now();
        (now - (80 * 24).hours(), now + (360 * 24).hours())
    }

    fn expected(&self, simulator: &Simulator) -> Calendars {
        let (from, to) = Self::window(simulator);
        let side = |event: &serde_json::Value, name: &str| {
            let time = event[name]["dateTime"].as_str().expect("a time");
            time[..19].to_owned()
        };
        let instances = |mailbox: &str, calendar: &str| {
            let events = simulator.instances(mailbox, Some(calendar), from, to);
            let events = events.expect("the calendar is there");
            let mut instances: Vec<Instance> = events
                .iter()
                .map(|event| Instance {
                    title: event["subject"].as_str().unwrap_or_default().to_owned(),
                    start: side(event, "start"),
                    end: side(event, "end"),
                })
                .collect();
            instances.sort();
            instances
        };
        self.calendars
            .iter()
            .map(|(mailbox, calendar)| (calendar.clone(), instances(mailbox, calendar)))
            .collect()
    }

    async fn stored(simulator: &Simulator, client: &Client) -> Calendars {
        let (from, to) = Self::window(simulator);
        let parameters = [from.to_string(), to.to_string()];
        let rows = client
            .query(STORED, &[&parameters[0], &parameters[1]])
            .await;
        let mut calendars = Calendars::new();
        for row in rows.expect("the store can be read") {
            let instances = calendars.entry(row.get(0)).or_default();
            if let Some(start) = row.get(2) {
                instances.push(Instance {
                    title: row.get(1),
                    start,
                    end: row.get(3),
                });
            }
        }
        for instances in calendars.values_mut() {
            instances.sort();
        }
        calendars
    }

    /// Waits until the store equals the truth, which must stand still; for how long.
    pub async fn reached(
        &self,
        simulator: &Simulator,
        client: &Client,
        patience: Duration,
    ) -> Duration {
        let began = Moment::now();
        let expected = self.expected(simulator);
        loop {
            let stored = Self::stored(simulator, client).await;
            if stored == expected {
                return began.elapsed();
            }
            if began.elapsed() > patience {
                let wrong = expected.iter().filter(|(id, instances)| {
                    stored.get(*id).map_or(&[][..], Vec::as_slice) != instances.as_slice()
                });
                let wrong: Vec<String> = wrong
                    .map(|(id, instances)| self.differs(id, instances, &stored))
                    .collect();
                panic!(
                    "not within {patience:?}, {} of {} calendars differ: {}",
                    wrong.len(),
                    expected.len(),
                    wrong.join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn differs(&self, id: &str, expected: &[Instance], stored: &Calendars) -> String {
        let stored = stored.get(id).map_or(&[][..], Vec::as_slice);
        let without = |these: &[Instance], those: &[Instance]| -> Vec<Instance> {
            let rest = these.iter().filter(|instance| !those.contains(instance));
            rest.take(5).cloned().collect()
        };
        let mailbox = self.calendars.iter().find(|(_, calendar)| calendar == id);
        format!(
            "{}: {} stored, {} true; missing {:?}; too much {:?}",
            mailbox.map_or("?", |(mailbox, _)| mailbox),
            stored.len(),
            expected.len(),
            without(expected, stored),
            without(stored, expected),
        )
    }
}
