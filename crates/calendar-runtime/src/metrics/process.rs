//! What this process counts: the recorder behind the façade, and where it is served.

use std::net::SocketAddr;
use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::error;

use super::list::{Kind, METRICS};

/// How often histograms are taken in and samples of the process are taken.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why metrics cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The address cannot be listened on.
    #[error("CALENDAR_METRICS_LISTEN: {address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: BuildError,
    },
    /// The list is wrong.
    #[error("the metrics cannot be set up")]
    Build(#[from] BuildError),
    /// The process counts already.
    #[error("the metrics were set up before")]
    Installed,
}

/// What the process has counted.
#[derive(Clone)]
pub struct ProcessMetrics(PrometheusHandle);

impl ProcessMetrics {
    /// As text, in Prometheus' format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// Counts from now on, once in a process; with an address, `GET` there answers with the text. `sample` is
/// called now and every few seconds, to set gauges. Needs a tokio runtime.
pub fn install(
    program: &'static str,
    version: &'static str,
    listen: Option<SocketAddr>,
    sample: impl Fn() + Send + 'static,
) -> Result<ProcessMetrics, MetricsError> {
    let recorder = match listen {
        None => builder()?.build_recorder(),
        Some(address) => {
            let built = builder()?.with_http_listener(address).build();
            let (recorder, serving) =
                built.map_err(|source| MetricsError::Listen { address, source })?;
            tokio::spawn(async {
                if serving.await.is_err() {
                    error!("metrics are no longer served");
                }
            });
            recorder
        }
    };
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
    for metric in METRICS {
        metric.describe();
    }
    metrics::gauge!("calendar_build_info", "program" => program, "version" => version).set(1.0);
    metrics::gauge!("process_start_time_seconds").set(started());
    let kept = handle.clone();
    tokio::spawn(async move {
        loop {
            sample();
            kept.run_upkeep();
            tokio::time::sleep(UPKEEP).await;
        }
    });
    Ok(ProcessMetrics(handle))
}

pub(super) fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            let matcher = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(matcher, buckets)?;
        }
    }
    Ok(builder)
}

#[expect(
    clippy::disallowed_methods,
    reason = "when the process began is a matter of the real clock"
)]
fn started() -> f64 {
    let now = time::OffsetDateTime::now_utc() - time::OffsetDateTime::UNIX_EPOCH;
    now.as_seconds_f64()
}
