//! The one failure taxonomy: what a caller can do about a failure, whatever broke.

use std::error::Error;
use std::time::Duration;

/// What to do about a failure. Callers branch on this, never on a provider's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// May work when tried again later: a time-out, a 5xx answer, a dropped connection.
    Retryable,
    /// The provider asks us to slow down; `retry_after` says for how long where it said so.
    RateLimited,
    /// The credential is no longer good; the user has to sign in again.
    Authentication,
    /// Somebody else was faster: a lost lease, a unique key that exists.
    Conflict,
    /// The cursor is no longer good; a full pass repairs it.
    NeedsResync,
    /// What we were given is wrong; the same input will fail again.
    InvalidInput,
    /// Gone, or forbidden. Trying again will not help until somebody changes something.
    Permanent,
}

impl FailureClass {
    /// The name in metrics: `rate_limited`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retryable => "retryable",
            Self::RateLimited => "rate_limited",
            Self::Authentication => "authentication",
            Self::Conflict => "conflict",
            Self::NeedsResync => "needs_resync",
            Self::InvalidInput => "invalid_input",
            Self::Permanent => "permanent",
        }
    }
}

/// A failure of a port: its class, a stable code, and the adapter's own error as its source.
///
/// `Display` gives the code alone; the rest is in the source chain. Neither may hold a token, an
/// e-mail address or event text.
#[derive(Debug, thiserror::Error)]
#[error("{code}")]
pub struct PortError {
    /// What the caller can do.
    pub class: FailureClass,
    /// A stable code for people and programs, such as `invalid_grant` or `lease_lost`.
    pub code: String,
    /// How long the other side asked us to wait, where it did.
    pub retry_after: Option<Duration>,
    /// The adapter's own error.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl PortError {
    /// A failure without a source.
    #[must_use]
    pub fn new(class: FailureClass, code: impl Into<String>) -> Self {
        Self {
            class,
            code: code.into(),
            retry_after: None,
            source: None,
        }
    }

    /// A failure caused by `source`.
    #[must_use]
    pub fn with_source(
        class: FailureClass,
        code: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            class,
            code: code.into(),
            retry_after: None,
            source: Some(source.into()),
        }
    }

    /// The code of [`PortError::lease_lost`].
    pub const LEASE_LOST: &'static str = "lease_lost";

    /// The lease was taken over by another worker: everything of this pass must stop.
    #[must_use]
    pub fn lease_lost() -> Self {
        Self::new(FailureClass::Conflict, Self::LEASE_LOST)
    }
}

/// The result of a port's method.
pub type PortResult<T> = Result<T, PortError>;
