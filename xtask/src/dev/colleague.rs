//! A colleague at the simulated Microsoft 365 who shares a calendar with the demo user.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::http;
use super::services::Services;

/// Whose calendar the demo user reads as a delegate.
pub(super) const UPN: &str = "megan.bowen@contoso.example";

/// The mailbox that the simulator filled at its start: the demo user's.
pub(super) async fn demo_mailbox(services: &Services) -> Result<String> {
    let mailboxes = admin(services, "GET", "mailboxes", None).await?;
    let upn = mailboxes["value"][0]["upn"].as_str();
    Ok(upn.context("no demo mailbox")?.to_owned())
}

/// Makes the colleague's mailbox, with two meetings of today, and shares it.
pub(super) async fn share(services: &Services) -> Result<()> {
    let with = demo_mailbox(services).await?;
    let mailbox =
        json!({"upn": UPN, "displayName": "Megan Bowen", "timeZone": "W. Europe Standard Time"});
    admin(services, "POST", "mailboxes", Some(&mailbox)).await?;
    let day = today(services).await?;
    for (title, hour) in [("Megan: budget review", 8), ("Megan: interviews", 15)] {
        let event = json!({"subject": title, "start": at(&day, hour), "end": at(&day, hour + 1)});
        let path = format!("mailboxes/{UPN}/events");
        admin(services, "POST", &path, Some(&event)).await?;
    }
    let path = format!("mailboxes/{UPN}/share");
    admin(services, "POST", &path, Some(&json!({"with": with}))).await?;
    Ok(())
}

/// A call of the simulator's admin interface.
pub(super) async fn admin(
    services: &Services,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Value> {
    let url = format!("{}/admin/{path}", services.simulator_url);
    http::send(method, &url, None, body)
        .await?
        .json("the simulator")
}

/// The simulator's date: its clock may be set.
pub(super) async fn today(services: &Services) -> Result<String> {
    let clock = admin(services, "GET", "clock", None).await?;
    let now = clock["now"].as_str().context("the clock has no now")?;
    Ok(now.chars().take(10).collect())
}

/// A full hour of a day, as Graph writes it.
pub(super) fn at(day: &str, hour: u8) -> Value {
    json!({"dateTime": format!("{day}T{hour:02}:00:00"), "timeZone": "UTC"})
}
