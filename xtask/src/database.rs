//! Connections of xtask to a PostgreSQL: by URL, printing what the server has to say.

use std::future::poll_fn;
use std::pin::Pin;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

/// Connects and prints the server's notices, which is how a migration reports.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let mut config = Config::from_str(url).context("DATABASE_URL is no PostgreSQL URL")?;
    config.connect_timeout(Duration::from_secs(10));
    config.application_name("xtask");
    let (client, mut connection) = config.connect(NoTls).await.context(
        "cannot connect to PostgreSQL (xtask speaks without TLS: \
         give it a database on this machine, or unset DATABASE_URL to use its own)",
    )?;
    tokio::spawn(async move {
        while let Some(Ok(message)) =
            poll_fn(|context| Pin::new(&mut connection).poll_message(context)).await
        {
            if let AsyncMessage::Notice(notice) = message
                // "does not exist, skipping" and its like.
                && !notice.message().ends_with(", skipping")
            {
                println!("  {}: {}", notice.severity(), notice.message());
            }
        }
    });
    Ok(client)
}

/// The same server and user, another database.
pub(crate) fn with_database(url: &str, database: &str) -> String {
    let (address, query) = url
        .split_once('?')
        .map_or((url, None), |(a, q)| (a, Some(q)));
    let authority_at = address.find("://").map_or(0, |at| at + 3);
    let authority_end = address[authority_at..]
        .find('/')
        .map_or(address.len(), |at| authority_at + at);
    let base = &address[..authority_end];
    match query {
        Some(query) => format!("{base}/{database}?{query}"),
        None => format!("{base}/{database}"),
    }
}

/// Creates an empty database, replacing one of that name.
pub(crate) async fn recreate(client: &Client, name: &str) -> Result<()> {
    drop_database(client, name).await?;
    client
        .batch_execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE template0"))
        .await
        .with_context(|| format!("cannot create the database {name}"))
}

/// Drops a database, with whoever is still connected to it.
pub(crate) async fn drop_database(client: &Client, name: &str) -> Result<()> {
    client
        .batch_execute(&format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))
        .await
        .with_context(|| format!("cannot drop the database {name}"))
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn replaces_only_the_database() {
        for (url, expected) in [
            ("postgres://a:b@h:1/x", "postgres://a:b@h:1/new"),
            ("postgres://h", "postgres://h/new"),
            (
                "postgres://h/x?sslmode=disable",
                "postgres://h/new?sslmode=disable",
            ),
            ("postgres://h?host=/run", "postgres://h/new?host=/run"),
        ] {
            assert_eq!(with_database(url, "new"), expected);
        }
    }
}
