//! An intranet that embeds calendar-sync: one process, its own PostgreSQL pool, its own routes, a
//! provider of its own, the API nested under `/calendar`, and the worker's loop as a task.
//!
//! `tests/tests/embedded.rs` runs it; docs/embedding.md says why each part is there.

mod calendars;
mod holidays;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, serve};
use calendar_crypto::KeyRing;
use calendar_domain::connection::NewConnections;
use calendar_domain::ports::CalendarDirectory as _;
use calendar_domain::sync::Mailbox;
use calendar_runtime::shutdown;
use calendar_sync::Authenticated;
use calendar_worker::housekeep;
use diesel::sql_types::{Date, Text};
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _};
use secrecy::SecretString;
use serde::Serialize;
use tokio::net::TcpListener;

use calendars::Calendars;
use holidays::Holidays;

/// The API is nested here; its public URL ends with it.
const MOUNTED_AT: &str = "/calendar";
/// Passes at once.
const CONCURRENCY: usize = 4;
/// For requests, for passes, and for what prolongs their leases.
const CONNECTIONS: usize = 8 + CONCURRENCY + 4;

/// What the intranet's own routes need.
#[derive(Clone)]
struct Intranet {
    pool: Pool<AsyncPgConnection>,
    calendars: Calendars,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let url = SecretString::from(variable("DATABASE_URL")?);
    let listen: SocketAddr = variable("INTRANET_LISTEN")?.parse()?;
    let keys = KeyRing::parse(&variable("INTRANET_TOKEN_KEYS")?)?;

    let pool = pool(&variable("DATABASE_URL")?)?;
    calendar_postgres::migrate(&url).await?;
    let database = calendar_postgres::Database::from_pool(pool.clone(), &url)?;
    let calendars = Calendars::new(database, keys);

    let stop = shutdown::listen()?;
    let api = calendars.api(format!("http://{listen}{MOUNTED_AT}"));
    let worker = calendars.worker(CONCURRENCY, stop.clone());
    let purging = housekeep(stop.clone(), || calendars.purge());

    let app = Router::new()
        .route("/holidays", get(next_holidays).put(show_me_holidays))
        .with_state(Intranet {
            pool,
            calendars: calendars.clone(),
        })
        .nest(MOUNTED_AT, calendar_api::router(api))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(listen).await.context("listening")?;
    let serving = serve(listener, app).with_graceful_shutdown(shutdown::stopped(stop));
    let (served, (), ()) = tokio::join!(serving.into_future(), worker.run(), purging);
    Ok(served?)
}

/// The intranet's own pool, which its own queries use too. For a server that asks for TLS it would need a
/// `custom_setup`.
fn pool(url: &str) -> anyhow::Result<Pool<AsyncPgConnection>> {
    let query = if url.contains('?') { '&' } else { '?' };
    let url = format!(
        "{url}{query}options=-c%20statement_timeout%3D60000%20-c%20idle_in_transaction_session_timeout%3D60000"
    );
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    let pool = Pool::builder(manager)
        .max_size(CONNECTIONS)
        .wait_timeout(Some(Duration::from_secs(10)))
        .create_timeout(Some(Duration::from_secs(5)))
        .runtime(deadpool::Runtime::Tokio1);
    Ok(pool.build()?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the intranet's configuration is its own"
)]
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set"))
}

#[derive(diesel::QueryableByName, Serialize)]
struct Holiday {
    #[diesel(sql_type = Text)]
    title: String,
    #[diesel(sql_type = Date)]
    date: time::Date,
}

/// `GET /holidays`: by SQL over the tables that docs/database.md describes.
async fn next_holidays(State(intranet): State<Intranet>) -> Result<impl IntoResponse, Failed> {
    const NEXT: &str = "SELECT DISTINCT e.title, (e.start_time AT TIME ZONE 'UTC')::date AS date
        FROM calendar_events e
        JOIN calendar_connections c ON c.id = e.calendar_connection_id
        WHERE c.calendar_id = $1 AND c.deleted_at IS NULL AND e.deleted_at IS NULL
          AND e.start_time >= now() - interval '1 day'
        ORDER BY date LIMIT 3";
    let mut connection = intranet.pool.get().await.map_err(failed)?;
    let holidays: Vec<Holiday> = diesel::sql_query(NEXT)
        .bind::<Text, _>(Holidays::calendar().id)
        .load(&mut connection)
        .await
        .map_err(failed)?;
    Ok(Json(holidays))
}

/// `PUT /holidays`: whoever is signed in at the API has the holidays among the own calendars from now on.
async fn show_me_holidays(
    State(intranet): State<Intranet>,
    headers: HeaderMap,
) -> Result<StatusCode, Failed> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let Some(token) = bearer.map(SecretString::from) else {
        return Ok(StatusCode::UNAUTHORIZED);
    };
    let calendars = &intranet.calendars;
    let known = calendars.authenticate().run(&token, None).await;
    let Some(Authenticated::Session { user_id, .. }) = known.map_err(failed)? else {
        return Ok(StatusCode::UNAUTHORIZED);
    };
    let grant = Holidays::grant();
    let identity = Holidays
        .identity(&grant.access_token)
        .await
        .map_err(failed)?;
    let new = NewConnections {
        user_id,
        provider: calendars::HOLIDAYS,
        identity,
        grant,
        mailbox: Mailbox::Own,
        calendars: vec![Holidays::calendar()],
    };
    calendars.connect(new).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

/// An answer that tells no more than that it went wrong.
type Failed = StatusCode;

fn failed(_: impl std::error::Error) -> Failed {
    StatusCode::SERVICE_UNAVAILABLE
}
