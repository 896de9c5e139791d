//! Port: what time it is.

use time::OffsetDateTime;

/// What time it is. Everything but lease expiry (the database's clock) asks here.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> OffsetDateTime;
}
