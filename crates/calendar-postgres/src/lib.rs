//! The stores on PostgreSQL: every line of SQL stands here.
//!
//! [`Database`] is the pool, [`migrate`] brings a database up to date, and each port of the domain
//! that stores something has its `Pg…` type here, in a file of the port's name.
//!
//! For programs that wire the ports: calendar-api, calendar-worker, and host programs, which may have a pool of
//! their own ([`Database::from_pool`]).
//!
//! ```no_run
//! use calendar_domain::ports::UserStore as _;
//! use calendar_postgres::{Database, PgConfig, PgUserStore};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let url = "postgres://calendar@localhost/calendar?options=-c%20search_path%3Dcalendar";
//! # #[cfg(feature = "migrations")]
//! for migration in calendar_postgres::migrate(&url.into()).await? {
//!     tracing::info!(migration, "applied");
//! }
//! let database = Database::connect(PgConfig {
//!     url: url.into(),
//!     max_connections: 16,
//! })?;
//! let users = PgUserStore::new(database);
//! let ann = users.by_email("ann@example.com").await?;
//! # Ok(()) }
//! ```
//!
//! Features: `migrations` (by default) embeds the migrations; `testing` makes a database for each test.

mod api_key_store;
mod codes;
mod connect_session_store;
mod connection_store;
mod database;
mod error;
mod event_reader;
mod event_store;
mod fence;
mod housekeeping;
mod key_rotation;
#[cfg(feature = "migrations")]
mod migrations;
mod overview_reader;
// The stores write their statements as SQL over arrays; this is the catalog's shape, for reviewers
// and for what is simple enough for diesel's own queries.
#[allow(dead_code, reason = "generated whole")]
mod schema;
mod session_store;
mod statement;
mod subscription_store;
mod sync_queue;
mod tls;
mod tokens;
mod turns;
mod user_store;
mod wakeups;

#[cfg(feature = "testing")]
pub mod testing;

pub use api_key_store::PgApiKeyStore;
pub use connect_session_store::PgConnectSessionStore;
pub use connection_store::PgConnectionStore;
pub use database::{Database, PgConfig};
pub use error::PgError;
pub use event_reader::PgEventReader;
pub use event_store::PgEventStore;
pub use housekeeping::PgHousekeeping;
pub use key_rotation::{PgKeyRotation, RotationPlace, RotationStep, SealedUnder};
#[cfg(feature = "migrations")]
pub use migrations::{MigrationState, migrate};
pub use overview_reader::PgOverviewReader;
pub use session_store::PgSessionStore;
pub use subscription_store::PgSubscriptionStore;
pub use sync_queue::PgSyncQueue;
pub use user_store::PgUserStore;
pub use wakeups::PgWakeups;
/// For the types of a host program's own pool.
pub use {deadpool, diesel_async};
