//! Port: how the whole installation is doing.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::failure::PortResult;
use crate::overview::Overview;

/// How the whole installation is doing, for those who run it.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait OverviewReader: Send + Sync {
    /// Reads everything. Gives up by itself within seconds, at the server too, so that whoever asks
    /// often adds little to the load of a database that is slow.
    async fn overview(&self, now: OffsetDateTime) -> PortResult<Overview>;
}
