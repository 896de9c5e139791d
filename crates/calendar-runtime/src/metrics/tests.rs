//! The list is what the code counts and what the documentation says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::process::builder;
use super::*;

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap()
}

fn names() -> BTreeSet<String> {
    METRICS
        .iter()
        .map(|metric| metric.name.to_owned())
        .collect()
}

/// What stands between quotes after each `counter!(`, `gauge!(`, `histogram!(` and `write_measured(` of the
/// crates' sources.
fn counted(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            counted(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for start in ["counter!(", "gauge!(", "histogram!(", "measured("] {
                for after in text.split(start).skip(1) {
                    let name = after.trim_start_matches(|c| " \n&mut*tex,".contains(c));
                    if let Some(name) = name.strip_prefix('"') {
                        found.insert(name.split('"').next().unwrap().to_owned());
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_counted_is_listed_and_what_is_listed_is_counted() {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        counted(&entry.unwrap().path().join("src"), &mut found);
    }
    assert_eq!(found, names());
    assert_eq!(names().len(), METRICS.len(), "a name stands twice");
}

#[test]
fn the_documentation_shows_the_list() {
    let mut table =
        String::from("| metric | kind | labels | at | meaning |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let at = match metric.at {
            At::Both => "both",
            At::Api => "api",
            At::Worker => "worker",
            At::Database => "api, of the database",
        };
        let labels = metric.labels.join(", ");
        let _ = writeln!(
            table,
            "| `{}` | {kind} | {labels} | {at} | {} |",
            metric.name, metric.meaning
        );
    }
    let text = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    assert!(
        text.contains(&table),
        "docs/operations.md has to hold:\n\n{table}"
    );
}

#[test]
fn what_is_measured_is_written_with_its_head_and_escaped() {
    let mut text = String::new();
    write_measured(&mut text, "calendar_events_skipped", []);
    assert_eq!(text, "");
    let labels = vec![("provider", "micro\"soft\\"), ("status", "a\nb")];
    write_measured(
        &mut text,
        "calendar_events_skipped",
        [(labels, 3.0), (Vec::new(), 0.5)],
    );
    assert_eq!(
        text,
        "# HELP calendar_events_skipped events that could not be read and were set aside\n\
         # TYPE calendar_events_skipped gauge\n\
         calendar_events_skipped{provider=\"micro\\\"soft\\\\\",status=\"a\\nb\"} 3\n\
         calendar_events_skipped 0.5\n"
    );
}

#[test]
fn buckets_are_in_order() {
    for metric in METRICS {
        if let Kind::Histogram(buckets) = metric.kind {
            assert!(buckets.is_sorted(), "{}", metric.name);
        }
    }
    assert!(builder().is_ok());
}
