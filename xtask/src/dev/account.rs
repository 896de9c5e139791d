//! The demo user: signed up once, signed in on each run, connected through the real OAuth flow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::http;
use super::services::{self, Services};
use crate::workspace;

/// The one user that a database of `dev` may hold.
const EMAIL: &str = "demo@example.com";
const FIRST_PASS_LIMIT: Duration = Duration::from_mins(2);

/// A signed-in user of the API.
pub(crate) struct Account {
    api_url: String,
    pub(crate) token: String,
}

/// Refuses a database that holds anybody but the demo user: the worker of `dev` has the simulator for
/// Microsoft, and would sync their accounts against it.
pub(super) async fn refuse_other_users(client: &Client) -> Result<()> {
    let table = client
        .query_one("SELECT to_regclass('users') IS NOT NULL", &[])
        .await?;
    if !table.get::<_, bool>(0) {
        return Ok(());
    }
    let others = client
        .query_one(
            "SELECT EXISTS (SELECT FROM users WHERE email IS DISTINCT FROM $1)",
            &[&EMAIL],
        )
        .await
        .context("cannot tell whose database this is")?;
    ensure!(
        !others.get::<_, bool>(0),
        "the database of DATABASE_URL holds users other than {EMAIL}, whose accounts `dev` would sync \
         against its simulator; nothing was changed: unset DATABASE_URL to use the checkout's own \
         server, or name an empty database"
    );
    Ok(())
}

/// A connected calendar.
pub(crate) struct Connection {
    pub(crate) id: String,
    pub(super) name: String,
    pub(super) is_primary: bool,
    pub(super) delegate_email: Option<String>,
    pub(super) push: Value,
    status: String,
    last_synced_at: Option<String>,
    last_error: Value,
}

impl Account {
    /// Signs in, after signing up when there is no such user yet.
    pub(crate) async fn sign_in(services: &Services) -> Result<Self> {
        let api_url = services.api_url.clone();
        let password = services::kept("password", || workspace::random_hex(12))?;
        let credentials = json!({"email": EMAIL, "password": password});
        let sessions = format!("{api_url}/v1/sessions");
        let mut answer = http::send("POST", &sessions, None, Some(&credentials)).await?;
        if answer.status == 401 {
            let mut user = credentials.clone();
            user["first_name"] = "Demo".into();
            user["last_name"] = "User".into();
            let signed_up =
                http::send("POST", &format!("{api_url}/v1/users"), None, Some(&user)).await?;
            if signed_up.status == 409 {
                bail!(
                    "{EMAIL} exists with a password that .local/dev/password does not hold: \
                     start anew with `cargo xtask dev --fresh`"
                );
            }
            signed_up.json("signing up")?;
            answer = http::send("POST", &sessions, None, Some(&credentials)).await?;
        }
        let session = answer.json("signing in")?;
        let token = session["token"]
            .as_str()
            .context("the session has no token")?
            .to_owned();
        Ok(Self { api_url, token })
    }

    /// A request to the API as this user.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let url = format!("{}{path}", self.api_url);
        let answer = http::send(method, &url, Some(&self.token), body).await?;
        answer.json(&format!("{method} {path}"))
    }

    /// Goes through OAuth as a browser would: to the provider, and back with a code. With `delegate_email`,
    /// to read the calendar that this colleague shares.
    async fn connect(&self, delegate_email: Option<&str>) -> Result<()> {
        let mut body = json!({"provider": "microsoft"});
        if let Some(colleague) = delegate_email {
            body["delegate_email"] = colleague.into();
            body["calendars"] = "primary".into();
        }
        let session = self
            .send("POST", "/v1/connect_sessions", Some(&body))
            .await?;
        let authorize = session["authorize_url"]
            .as_str()
            .context("no authorize_url")?;
        let consent = http::send("GET", authorize, None, None).await?;
        let Some(callback) = consent.location.filter(|_| consent.status == 302) else {
            bail!(
                "the simulator's sign-in answered {} {}",
                consent.status,
                consent.body
            );
        };
        let back = http::send("GET", &callback, None, None).await?;
        if !(200..400).contains(&back.status) {
            bail!("the OAuth callback answered {} {}", back.status, back.body);
        }
        Ok(())
    }

    /// The connected calendars, the primary one first.
    pub(super) async fn connections(&self) -> Result<Vec<Connection>> {
        let answer = self.send("GET", "/v1/connections?limit=500", None).await?;
        let list = answer["data"]
            .as_array()
            .context("the list of connections has no data")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut connections: Vec<Connection> = list
            .iter()
            .map(|item| Connection {
                id: text(&item["id"]),
                name: text(&item["calendar_name"]),
                is_primary: item["is_primary"] == true,
                delegate_email: item["delegate_email"].as_str().map(str::to_owned),
                push: item["push"].clone(),
                status: text(&item["status"]),
                last_synced_at: item["last_synced_at"].as_str().map(str::to_owned),
                last_error: item["last_error"].clone(),
            })
            .collect();
        connections.sort_by_key(|one| (one.delegate_email.is_some(), !one.is_primary));
        Ok(connections)
    }

    /// Connects one's own calendars and a colleague's, starts the worker, and waits until each has had a pass
    /// since, and pushes come for those that give any.
    pub(super) async fn connect_and_sync(
        &self,
        services: &mut Services,
        colleague: &str,
    ) -> Result<(Vec<Connection>, Duration)> {
        let before: BTreeMap<String, Option<String>> = self
            .connections()
            .await?
            .into_iter()
            .map(|connection| (connection.id, connection.last_synced_at))
            .collect();
        self.connect(None).await?;
        self.connect(Some(colleague)).await?;
        services.start_worker()?;
        let began = Instant::now();
        loop {
            let connections = self.connections().await?;
            let synced = |connection: &&Connection| {
                let earlier = before.get(&connection.id).cloned().flatten();
                connection.last_synced_at.is_some() && connection.last_synced_at != earlier
            };
            if !connections.is_empty()
                && connections.iter().all(|one| one.push["state"] != "off")
                && connections.iter().filter(synced).count() == connections.len()
            {
                return Ok((connections, began.elapsed()));
            }
            if began.elapsed() > FIRST_PASS_LIMIT {
                let states: Vec<String> = connections
                    .iter()
                    .map(|one| {
                        let push = &one.push["state"];
                        format!(
                            "{}: {}, push {push} {}",
                            one.name, one.status, one.last_error
                        )
                    })
                    .collect();
                bail!(
                    "the first pass did not end in {} s: {}\nthe end of the worker's log:\n{}",
                    FIRST_PASS_LIMIT.as_secs(),
                    states.join("; "),
                    services::last_lines("calendar-worker")
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database;

    #[tokio::test]
    async fn a_database_with_other_users_is_refused() {
        let url = workspace::env("DATABASE_URL").expect("run `cargo xtask test`");
        let admin = database::connect(&url).await.unwrap();
        let name = format!("xtask_dev_{}", std::process::id());
        database::recreate(&admin, &name).await.unwrap();
        let client = database::connect(&database::with_database(&url, &name))
            .await
            .unwrap();

        let empty = refuse_other_users(&client).await;
        let users = "CREATE TABLE users (email text NOT NULL)";
        client.batch_execute(users).await.unwrap();
        let nobody = refuse_other_users(&client).await;
        let add = "INSERT INTO users VALUES ($1)";
        client.execute(add, &[&EMAIL]).await.unwrap();
        let demo = refuse_other_users(&client).await;
        client.execute(add, &[&"ann@example.com"]).await.unwrap();
        let others = refuse_other_users(&client).await;

        drop(client);
        database::drop_database(&admin, &name).await.unwrap();
        for allowed in [empty, nobody, demo] {
            allowed.unwrap();
        }
        let error = others.unwrap_err().to_string();
        assert!(error.contains("unset DATABASE_URL"), "{error}");
        assert!(!error.contains("ann@"), "{error}");
    }
}
