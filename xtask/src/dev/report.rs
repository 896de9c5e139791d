//! What `dev` shows of the database: how much was synced, and today's Teams meetings by the schema
//! document's own query.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::account::{Account, Connection};

/// The document's query, word for word; `?` is the connection.
const TODAYS_TEAMS_MEETINGS: &str = "\
SELECT * FROM calendar_events
WHERE calendar_connection_id = ?
  AND teams_enabled = true
  AND start_time >= CURRENT_DATE
  AND end_time < CURRENT_DATE + INTERVAL '1 day'";

const COUNTS: &str = "\
SELECT count(*) FILTER (WHERE parent_event_id IS NULL AND recurrence_rule IS NULL) AS singles,
       count(*) FILTER (WHERE recurrence_rule IS NOT NULL) AS series,
       count(*) FILTER (WHERE parent_event_id IS NOT NULL) AS instances,
       (SELECT count(*) FROM event_attendees a JOIN calendar_events e ON e.id = a.event_id
        WHERE e.calendar_connection_id = ANY (?)) AS attendees
FROM calendar_events WHERE calendar_connection_id = ANY (?) AND deleted_at IS NULL";

/// One line about what stands in the database after the pass.
pub(super) async fn print_counts(
    client: &Client,
    connections: &[Connection],
    took: Duration,
) -> Result<()> {
    let ids: Vec<String> = connections.iter().map(|one| one.id.clone()).collect();
    let list = format!("'{{{}}}'::uuid[]", ids.join(","));
    let rows = rows(client, &COUNTS.replace('?', &list)).await?;
    let Some(row) = rows.first() else {
        bail!("the counts answered no row")
    };
    let number = |name: &str| {
        row.get(name)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let (singles, series, instances) = (number("singles"), number("series"), number("instances"));
    println!(
        "synced {} calendars in {:.2} s: {singles} single events, {series} series with {instances} \
         instances in the window, {} attendees",
        connections.len(),
        took.as_secs_f64(),
        number("attendees")
    );
    if singles + series == 0 {
        bail!("nothing was synced");
    }
    Ok(())
}

/// Today's Teams meetings of a connection as an aligned table.
pub(super) async fn print_todays_teams_meetings(
    client: &Client,
    connection: &Connection,
) -> Result<()> {
    let query = TODAYS_TEAMS_MEETINGS.replace('?', &format!("'{}'", connection.id));
    let mut meetings = rows(client, &query).await?;
    meetings.sort_by_key(|row| row.get("start_time").map(str::to_owned));
    // An unmodified instance takes its title from its series.
    let titles: BTreeMap<String, String> = rows(
        client,
        &format!(
            "SELECT id, title FROM calendar_events
             WHERE calendar_connection_id = '{}' AND recurrence_rule IS NOT NULL",
            connection.id
        ),
    )
    .await?
    .iter()
    .filter_map(|row| Some((row.get("id")?.to_owned(), row.get("title")?.to_owned())))
    .collect();
    let mut table = vec![["start (UTC)", "end", "title", "series", "join"].map(str::to_owned)];
    for row in &meetings {
        let clock = |name: &str| {
            let instant = row.get(name).unwrap_or_default();
            instant.get(11..16).unwrap_or_default().to_owned()
        };
        let series = row.get("parent_event_id").and_then(|id| titles.get(id));
        let title = row
            .get("title")
            .or(series.map(String::as_str))
            .unwrap_or("(no title)");
        table.push([
            clock("start_time"),
            clock("end_time"),
            shortened(title, 40),
            if series.is_some() { "yes" } else { "" }.to_owned(),
            shortened(
                row.get("teams_meeting_url").unwrap_or("(of its series)"),
                60,
            ),
        ]);
    }
    println!(
        "\ntoday's Teams meetings in \"{}\", by a query on the table:",
        connection.name
    );
    if meetings.is_empty() {
        println!("  (none)");
    } else {
        print_table(&table);
    }
    Ok(())
}

/// How each calendar tells of its changes, and the subscriptions behind that.
pub(super) async fn print_push(account: &Account, connections: &[Connection]) -> Result<()> {
    let heads = ["calendar", "of", "push", "subscription ends", "last push"];
    let mut table = vec![heads.map(str::to_owned)];
    for connection in connections {
        let path = format!("/v1/connections/{}/subscriptions", connection.id);
        let list = account.send("GET", &path, None).await?;
        let active = &list["data"][0];
        let minute = |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            text.get(..16).unwrap_or_default().replace('T', " ")
        };
        table.push([
            shortened(&connection.name, 30),
            shortened(connection.delegate_email.as_deref().unwrap_or("me"), 40),
            connection.push["state"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            minute(&connection.push["expires_at"]),
            minute(&active["last_notification_at"]),
        ]);
    }
    println!("\nhow changes arrive (unsupported: the provider pushes none, so it is polled):");
    print_table(&table);
    Ok(())
}

async fn rows(client: &Client, sql: &str) -> Result<Vec<SimpleQueryRow>> {
    let messages = client.simple_query(sql).await?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect())
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn print_table<const N: usize>(table: &[[String; N]]) {
    let widths: [usize; N] = std::array::from_fn(|at| {
        table
            .iter()
            .map(|row| row[at].chars().count())
            .max()
            .unwrap_or(0)
    });
    for (number, row) in table.iter().enumerate() {
        let line = |cells: [String; N]| cells.join("  ").trim_end().to_owned();
        let cell = |at: usize| format!("{:<width$}", row[at], width = widths[at]);
        println!("  {}", line(std::array::from_fn(cell)));
        if number == 0 {
            println!(
                "  {}",
                line(std::array::from_fn(|at| "─".repeat(widths[at])))
            );
        }
    }
}
