//! Port: being told that work has become due.

use async_trait::async_trait;

/// Tells waiting workers that something has become due. It may be lost: what is due is found by asking
/// [`SyncQueue`](super::SyncQueue) too.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Wakeups: Send + Sync {
    /// Returns when a wake-up has come since the last call, or may have been missed; also when it came while
    /// nobody waited. May be dropped at any time.
    async fn woken(&self);
}
