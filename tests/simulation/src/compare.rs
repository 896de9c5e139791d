//! The store against the provider's truth, event by event and instance by instance.

use std::collections::{BTreeMap, BTreeSet};

use calendar_simulator::Simulator;
use calendar_simulator::jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::{Client, Row};

use crate::world::{World, ZONES};

/// A connection of ours, and what it is at the provider.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a column of the query"
)]
pub(crate) struct ConnectionRow {
    pub(crate) id: String,
    pub(crate) account: String,
    /// The mailbox of who signed in.
    pub(crate) signed_in: String,
    /// Whose calendar it is, by place in the world, and which of that mailbox's.
    pub(crate) mailbox: usize,
    pub(crate) calendar: usize,
    /// Another's calendar: the provider's ids differ from those that its owner sees.
    pub(crate) is_shared: bool,
    pub(crate) window: Option<(i64, i64)>,
    pub(crate) is_paused: bool,
    pub(crate) needs_reauth: bool,
    pub(crate) failures: i32,
    pub(crate) is_held: bool,
    pub(crate) is_due: bool,
    pub(crate) is_pushed: bool,
    pub(crate) user: String,
}

/// An event as both sides can say it.
type Facts = BTreeMap<&'static str, String>;

/// What differs; empty when nothing does.
pub(crate) async fn differences(
    client: &Client,
    simulator: &Simulator,
    world: &World,
    connection: &ConnectionRow,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut differences = Vec::new();
    let Some(window) = connection.window else {
        return Ok(vec!["it has never been synced".to_owned()]);
    };
    let truth = truth(simulator, world, connection, window);
    let stored = stored(client, connection, window).await?;
    let name = |key: &str, facts: &Facts| format!("{key} ({})", facts["title"]);
    for (key, facts) in &truth {
        match stored.get(key) {
            None => differences.push(format!("missing: {} {facts:?}", name(key, facts))),
            Some(stored) => {
                for (member, value) in facts {
                    let other = stored.get(member).map_or("", String::as_str);
                    if other != value {
                        differences.push(format!(
                            "{}: {member} is {other:?} and should be {value:?}",
                            name(key, facts)
                        ));
                    }
                }
            }
        }
    }
    for (key, facts) in &stored {
        if !truth.contains_key(key) {
            differences.push(format!("should be gone: {} {facts:?}", name(key, facts)));
        }
    }
    differences.extend(exceptions(client, world, connection, window).await?);
    differences.extend(doubles(client, connection).await?);
    Ok(differences)
}

/// Ids differ by who looks, so a shared event is known by its title (which only its series has too) and its start.
fn key(connection: &ConnectionRow, id: &str, facts: &Facts) -> String {
    if connection.is_shared {
        let occurrence = if facts["inherits"] == "true" {
            " occurrence"
        } else {
            ""
        };
        format!("{} {}{occurrence}", facts["title"], facts["start"])
    } else {
        id.to_owned()
    }
}

fn truth(
    simulator: &Simulator,
    world: &World,
    connection: &ConnectionRow,
    window: (i64, i64),
) -> BTreeMap<String, Facts> {
    let book = &world.mailboxes[connection.mailbox];
    let calendar =
        simulator.find_calendar(&book.upn, book.calendars[connection.calendar].as_deref());
    let at = |seconds| Timestamp::from_second(seconds).unwrap_or_default();
    let instances = calendar.and_then(|calendar| {
        let calendar = Some(calendar.as_str());
        let masters = simulator.events(&book.upn, calendar)?;
        let instances = simulator.instances(&book.upn, calendar, at(window.0), at(window.1))?;
        Ok((masters, instances))
    });
    let Ok((masters, instances)) = instances else {
        return BTreeMap::new();
    };
    let masters: BTreeMap<String, &Value> = masters
        .iter()
        .filter(|event| event["type"] == "seriesMaster")
        .map(|event| (text(&event["id"]), event))
        .collect();
    let mut rows = Vec::new();
    let mut shown = BTreeSet::new();
    for event in &instances {
        let facts = facts(event, &masters, connection);
        if let Some(master) = event["seriesMasterId"].as_str() {
            shown.insert(master.to_owned());
        }
        rows.push((key(connection, &text(&event["id"]), &facts), facts));
    }
    // A master stands for what its series shows.
    for id in shown {
        if let Some(master) = masters.get(&id) {
            let facts = facts(master, &masters, connection);
            let key = format!("master {}", key(connection, &id, &facts));
            rows.push((key, facts));
        }
    }
    by_key(rows)
}

/// An exception may have been moved to where another stands: then both have their place in the map.
fn by_key(mut rows: Vec<(String, Facts)>) -> BTreeMap<String, Facts> {
    rows.sort();
    let mut map = BTreeMap::new();
    for (mut key, facts) in rows {
        while map.contains_key(&key) {
            key.push_str(" again");
        }
        map.insert(key, facts);
    }
    map
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn facts(event: &Value, masters: &BTreeMap<String, &Value>, connection: &ConnectionRow) -> Facts {
    let mut facts = Facts::new();
    let kind = text(&event["type"]);
    let is_master = kind == "seriesMaster";
    let is_occurrence = kind == "occurrence";
    facts.insert("title", text(&event["subject"]));
    let time = |member: &str| text(&event[member]["dateTime"]).chars().take(19).collect();
    facts.insert("start", time("start"));
    facts.insert("end", time("end"));
    let all_day = event["isAllDay"] == true;
    facts.insert("all_day", all_day.to_string());
    let zone = text(&event["originalStartTimeZone"]);
    let iana = ZONES.iter().find(|(windows, _)| *windows == zone);
    facts.insert(
        "zone",
        iana.map_or(zone.clone(), |(_, iana)| (*iana).to_owned()),
    );
    facts.insert("location", text(&event["location"]["displayName"]));
    let status = if event["isCancelled"] == true {
        "CANCELLED"
    } else if event["showAs"] == "tentative" {
        "TENTATIVE"
    } else {
        "CONFIRMED"
    };
    facts.insert("status", status.to_owned());
    facts.insert("show_as", text(&event["showAs"]).to_uppercase());
    facts.insert("importance", text(&event["importance"]).to_uppercase());
    let is_teams = event["isOnlineMeeting"] == true;
    facts.insert("teams", (is_teams && !is_master).to_string());
    facts.insert("teams_url", text(&event["onlineMeeting"]["joinUrl"]));
    facts.insert("recurring", is_master.to_string());
    facts.insert("inherits", is_occurrence.to_string());
    if let Some(master) = event["seriesMasterId"].as_str() {
        let title = masters.get(master).map(|master| text(&master["subject"]));
        facts.insert("master", title.unwrap_or_default());
        if !connection.is_shared {
            facts.insert("master_id", master.to_owned());
        }
    }
    // An occurrence has its master's, which stand there.
    let (attendees, reminders) = if is_occurrence {
        (String::new(), String::new())
    } else {
        (attendees(event), reminders(event))
    };
    facts.insert("attendees", attendees);
    facts.insert("reminders", reminders);
    facts
}

fn attendees(event: &Value) -> String {
    let all = event["attendees"].as_array().map_or(&[][..], Vec::as_slice);
    let mut rows: Vec<String> = all
        .iter()
        .map(|attendee| {
            let answer = match attendee["status"]["response"].as_str().unwrap_or_default() {
                "accepted" | "organizer" => "ACCEPTED",
                "declined" => "DECLINED",
                "tentativelyAccepted" => "TENTATIVE",
                _ => "NEEDS_ACTION",
            };
            format!(
                "{} {} {answer}",
                text(&attendee["emailAddress"]["address"]),
                text(&attendee["type"])
            )
        })
        .collect();
    rows.sort();
    rows.join(", ")
}

fn reminders(event: &Value) -> String {
    if event["isReminderOn"] == true {
        event["reminderMinutesBeforeStart"].to_string()
    } else {
        String::new()
    }
}

/// Live rows in the window, and the masters of instances among them.
const STORED: &str = "
    SELECT e.provider_event_id, p.provider_event_id AS master_id, p.title AS master, e.is_recurring,
        e.inherits, e.title, e.location, e.is_all_day, e.timezone, e.status::text, e.show_as::text,
        e.importance::text, e.teams_enabled, e.teams_meeting_url,
        to_char(e.start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') AS start,
        to_char(e.end_time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS') AS end,
        (SELECT string_agg(concat_ws(' ', a.email, a.attendee_type, a.rsvp_status), ', '
            ORDER BY concat_ws(' ', a.email, a.attendee_type, a.rsvp_status) COLLATE \"C\")
            FROM event_attendees a WHERE a.event_id = e.id) AS attendees,
        (SELECT string_agg(r.minutes_before::text, ', ') FROM event_reminders r WHERE r.event_id = e.id) AS reminders
    FROM calendar_events e LEFT JOIN calendar_events p ON p.id = e.parent_event_id
    WHERE e.calendar_connection_id = $1::text::uuid AND e.deleted_at IS NULL AND (
        (NOT (e.is_recurring AND e.parent_event_id IS NULL) AND e.start_time < to_timestamp($3)
            AND (e.end_time > to_timestamp($2) OR (e.start_time = e.end_time AND e.start_time >= to_timestamp($2))))
        OR e.id IN (SELECT i.parent_event_id FROM calendar_events i WHERE i.calendar_connection_id = $1::text::uuid
            AND i.deleted_at IS NULL AND i.start_time < to_timestamp($3) AND i.end_time > to_timestamp($2)))";

async fn stored(
    client: &Client,
    connection: &ConnectionRow,
    window: (i64, i64),
) -> Result<BTreeMap<String, Facts>, tokio_postgres::Error> {
    #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
    let (from, to) = (window.0 as f64, window.1 as f64);
    let found = client.query(STORED, &[&connection.id, &from, &to]).await?;
    let mut rows = Vec::new();
    for row in found {
        let facts = facts_of_row(&row, connection);
        let id: String = row.get("provider_event_id");
        let is_master: bool = row.get("is_recurring");
        let mut at = key(connection, &id, &facts);
        if is_master {
            at = format!("master {at}");
        }
        rows.push((at, facts));
    }
    Ok(by_key(rows))
}

fn facts_of_row(row: &Row, connection: &ConnectionRow) -> Facts {
    let mut facts = Facts::new();
    let text = |name: &str| row.get::<_, Option<String>>(name).unwrap_or_default();
    let flag = |name: &str| row.get::<_, bool>(name).to_string();
    for name in [
        "title",
        "start",
        "end",
        "location",
        "status",
        "show_as",
        "importance",
        "attendees",
        "reminders",
    ] {
        facts.insert(name, text(name));
    }
    facts.insert("zone", text("timezone"));
    facts.insert("all_day", flag("is_all_day"));
    facts.insert("teams", flag("teams_enabled"));
    facts.insert("teams_url", text("teams_meeting_url"));
    facts.insert("recurring", flag("is_recurring"));
    facts.insert("inherits", flag("inherits"));
    if let Some(master) = row.get::<_, Option<String>>("master_id") {
        facts.insert("master", text("master"));
        if !connection.is_shared {
            facts.insert("master_id", master);
        }
    }
    facts
}

/// Deleted occurrences are the exception dates of their masters, and nothing else is.
async fn exceptions(
    client: &Client,
    world: &World,
    connection: &ConnectionRow,
    window: (i64, i64),
) -> Result<Vec<String>, tokio_postgres::Error> {
    if connection.is_shared {
        return Ok(Vec::new());
    }
    let sql = "SELECT provider_event_id, exception_dates FROM calendar_events
        WHERE calendar_connection_id = $1::text::uuid AND deleted_at IS NULL AND is_recurring";
    let stored: BTreeMap<String, BTreeSet<String>> = client
        .query(sql, &[&connection.id])
        .await?
        .iter()
        .map(|row| {
            let dates = row.get::<_, Option<String>>(1).unwrap_or_default();
            let dates = dates.split(',').filter(|date| !date.is_empty());
            let dates = dates.map(|date| date.chars().take(8).collect());
            (row.get(0), dates.collect())
        })
        .collect();
    let mut differences = Vec::new();
    let mine = world.events.iter().filter(|event| {
        (event.mailbox, event.calendar) == (connection.mailbox, connection.calendar)
    });
    for event in mine {
        let (Some(series), Some(stored)) = (&event.series, stored.get(&event.id)) else {
            continue;
        };
        // Near the ends of the window a view may or may not show what the rule makes; and UTC's date of an
        // instant may be the day before or after the user's.
        let inside = |day: calendar_simulator::jiff::civil::Date| {
            let midnight = day
                .to_zoned(calendar_simulator::jiff::tz::TimeZone::UTC)
                .map_or(0, |day| day.timestamp().as_second());
            midnight > window.0 + 3 * 86_400 && midnight < window.1 - 3 * 86_400
        };
        let name = |day: calendar_simulator::jiff::civil::Date| day.strftime("%Y%m%d").to_string();
        for day in series.deleted.iter().filter(|day| inside(**day)) {
            let near = [
                *day,
                day.tomorrow().unwrap_or(*day),
                day.yesterday().unwrap_or(*day),
            ];
            if !near.iter().any(|day| stored.contains(&name(*day))) {
                differences.push(format!(
                    "series {}: {day} was deleted and is no exception date: {stored:?}",
                    event.id
                ));
            }
        }
        // One that was moved out of the window is a hole in it like one that was deleted: near its ends they are
        // not told apart.
        let count = series.deleted.len();
        let is_inside = |date: &&String| {
            let day = calendar_simulator::jiff::civil::Date::strptime("%Y%m%d", date);
            day.is_ok_and(inside)
        };
        if stored.iter().filter(is_inside).count() > count {
            differences.push(format!(
                "series {}: {count} occurrences were deleted, {stored:?} are exception dates",
                event.id
            ));
        }
    }
    Ok(differences)
}

/// No key of an event may stand twice.
async fn doubles(
    client: &Client,
    connection: &ConnectionRow,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "SELECT provider_event_id || ' stands twice' FROM calendar_events
            WHERE calendar_connection_id = $1::text::uuid
            GROUP BY provider_event_id HAVING count(*) > 1
        UNION ALL SELECT parent_event_id || ' has two instances at ' || original_start FROM calendar_events
            WHERE calendar_connection_id = $1::text::uuid AND deleted_at IS NULL AND parent_event_id IS NOT NULL
            GROUP BY parent_event_id, original_start HAVING count(*) > 1";
    let rows = client.query(sql, &[&connection.id]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
