//! How long requests to Microsoft take, and what they are answered with, for metrics.

use std::time::Instant;

/// A request under way.
pub(crate) struct RequestTimer(Instant);

impl RequestTimer {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The status of the answer, or without one whether it was a time-out.
    pub(crate) fn end(self, answer: Result<u16, bool>) {
        let status = match answer {
            Ok(429) => "429",
            Ok(200..300) => "2xx",
            Ok(300..400) => "3xx",
            Ok(400..500) => "4xx",
            Ok(_) => "5xx",
            Err(true) => "timeout",
            Err(false) => "failed",
        };
        metrics::histogram!("calendar_provider_request_duration_seconds", "provider" => "microsoft", "status" => status)
            .record(self.0.elapsed());
    }
}
