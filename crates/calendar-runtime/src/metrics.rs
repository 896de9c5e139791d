//! Metrics: the list of all of them, counting in this process, and Prometheus' text.
//!
//! Whatever counts does so through the façade `metrics`, by the names of [`METRICS`]; without a recorder,
//! as `install` sets up, that costs nothing. No label holds an id, an address or a name that a person gave.

mod list;
#[cfg(feature = "config")]
mod process;
#[cfg(test)]
#[cfg(feature = "config")]
mod tests;

use std::fmt::Write as _;

pub use list::{At, Kind, METRICS, Metric};
#[cfg(feature = "config")]
pub use process::{MetricsError, ProcessMetrics, install};

/// Writes a gauge that was measured for this answer, with its head; without samples, nothing.
pub fn write_measured<'l>(
    text: &mut String,
    name: &str,
    samples: impl IntoIterator<Item = (Vec<(&'static str, &'l str)>, f64)>,
) {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return;
    }
    let meaning = METRICS
        .iter()
        .find(|metric| metric.name == name)
        .map_or("", |metric| metric.meaning);
    // Writing to a String does not fail.
    let _ = writeln!(text, "# HELP {name} {meaning}\n# TYPE {name} gauge");
    for (labels, value) in samples {
        text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let _ = write!(text, "{open}{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}
