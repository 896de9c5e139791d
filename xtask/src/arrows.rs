//! Who may depend on whom, as docs/architecture.md says: an allow-table held against
//! `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

use crate::workspace;

/// What one crate may use.
struct Rule {
    /// Our crates, in the program.
    own: &'static [&'static str],
    /// Our crates, in its tests.
    own_in_tests: &'static [&'static str],
    /// Crates of others, where the list is closed.
    others: Option<&'static [&'static str]>,
}

const DOMAIN: &str = "calendar-domain";
const SIMULATOR: &str = "calendar-simulator";
const HOST: &str = "calendar-embedded";
const SERVICE: &[&str] = &[
    DOMAIN,
    "calendar-sync",
    "calendar-runtime",
    "calendar-postgres",
    "calendar-msgraph",
    "calendar-crypto",
];

/// Pure: no runtime, no HTTP, no SQL.
const DOMAIN_USES: &[&str] = &[
    "async-trait",
    "jiff",
    "mockall",
    "secrecy",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "time",
    "uuid",
    "windows-timezones",
];

/// Ports and the clock of a heartbeat; nothing that reaches a network or a database by itself.
const SYNC_USES: &[&str] = &[
    "async-trait",
    "futures-util",
    "metrics",
    "mockall",
    "secrecy",
    "serde",
    "serde_json",
    "thiserror",
    "time",
    "tokio",
    "tracing",
    "uuid",
];

fn rule(name: &str) -> Option<Rule> {
    let rule = |own, own_in_tests, others| {
        Some(Rule {
            own,
            own_in_tests,
            others,
        })
    };
    match name {
        DOMAIN => rule(&[], &[], Some(DOMAIN_USES)),
        "calendar-sync" => rule(&[DOMAIN], &[DOMAIN], Some(SYNC_USES)),
        "calendar-postgres" => rule(&[DOMAIN], &["calendar-postgres", DOMAIN], None),
        "calendar-crypto" | "calendar-runtime" => rule(&[DOMAIN], &[], None),
        "calendar-msgraph" => rule(&[DOMAIN], &[SIMULATOR], None),
        SIMULATOR | "xtask" => rule(&[], &[], None),
        "calendar-api" | "calendar-worker" => {
            rule(SERVICE, &[SIMULATOR, "calendar-postgres"], None)
        }
        // A host program: it brings no provider but its own.
        HOST => rule(
            &[
                DOMAIN,
                "calendar-sync",
                "calendar-runtime",
                "calendar-postgres",
                "calendar-crypto",
                "calendar-api",
                "calendar-worker",
            ],
            &[],
            None,
        ),
        "calendar-e2e" => rule(
            &[
                DOMAIN,
                "calendar-sync",
                "calendar-runtime",
                "calendar-postgres",
                "calendar-msgraph",
                "calendar-crypto",
                SIMULATOR,
                "calendar-api",
                "calendar-worker",
            ],
            &[],
            None,
        ),
        "calendar-simulation" => rule(
            &[
                DOMAIN,
                "calendar-sync",
                "calendar-postgres",
                "calendar-msgraph",
                "calendar-crypto",
                SIMULATOR,
                "calendar-worker",
            ],
            &[],
            None,
        ),
        _ => None,
    }
}

/// Crates of others that only some of ours may name.
const KEEPERS: [(&[&str], &[&str]); 5] = [
    (
        &["diesel", "diesel-async", "diesel_migrations", "deadpool"],
        // The host has a pool of its own.
        &["calendar-postgres", HOST],
    ),
    (
        &["tokio-postgres", "tokio-postgres-rustls"],
        &[
            "calendar-postgres",
            "xtask",
            "calendar-e2e",
            "calendar-simulation",
        ],
    ),
    (
        &[
            "graph-rs-sdk",
            "graph-http",
            "graph-core",
            "graph-error",
            "graph-oauth",
        ],
        &["calendar-msgraph"],
    ),
    (
        &["axum", "axum-extra", "tower-http"],
        &["calendar-api", SIMULATOR, HOST],
    ),
    (
        &["utoipa", "utoipa-axum", "utoipa-swagger-ui"],
        &["calendar-api"],
    ),
];

/// What a host program does not get with a library whose default features it turns off.
const KEPT_OUT: [(&str, &[&str]); 4] = [
    (
        "calendar-api",
        &[
            "anyhow",
            "calendar-crypto",
            "calendar-msgraph",
            "calendar-postgres",
            "clap",
            "tracing-subscriber",
            "utoipa-swagger-ui",
        ],
    ),
    (
        "calendar-worker",
        &[
            "anyhow",
            "axum",
            "calendar-crypto",
            "calendar-msgraph",
            "calendar-postgres",
            "clap",
            "tracing-subscriber",
        ],
    ),
    ("calendar-postgres", &["diesel_migrations"]),
    (
        "calendar-runtime",
        &["metrics-exporter-prometheus", "tracing-subscriber", "url"],
    ),
];

/// The libraries of [`KEPT_OUT`].
pub(crate) fn libraries() -> impl Iterator<Item = &'static str> {
    KEPT_OUT.iter().map(|(library, _)| *library)
}

/// Fails with every arrow that is not allowed.
pub(crate) fn check() -> Result<()> {
    let metadata = MetadataCommand::new()
        .cargo_path(workspace::cargo())
        .manifest_path(workspace::root().join("Cargo.toml"))
        .other_options(vec!["--locked".to_owned()])
        .no_deps()
        .exec()?;
    let mut broken = broken_arrows(&metadata);
    broken.extend(adapters_outside_the_wiring(workspace::root())?);
    for (library, kept_out) in KEPT_OUT {
        broken.extend(brought_along(library, kept_out)?);
    }
    if broken.is_empty() {
        return Ok(());
    }
    bail!(
        "these arrows are not allowed (docs/architecture.md; the table stands in xtask/src/arrows.rs):\n  {}",
        broken.join("\n  ")
    )
}

fn broken_arrows(metadata: &Metadata) -> Vec<String> {
    let ours: BTreeMap<&str, &Package> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.as_str(), package))
        .collect();
    let mut broken = Vec::new();
    for (name, package) in &ours {
        let Some(rule) = rule(name) else {
            broken.push(format!(
                "{name} is not in the table: say there what it may use"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            let in_tests = dependency.kind == DependencyKind::Development;
            let allowed = if ours.contains_key(used) {
                rule.own.contains(&used) || (in_tests && rule.own_in_tests.contains(&used))
            } else {
                let open = in_tests || rule.others.is_none_or(|others| others.contains(&used));
                open && KEEPERS
                    .iter()
                    .all(|(kept, keepers)| !kept.contains(&used) || keepers.contains(name))
            };
            if !allowed {
                let tests = if in_tests { " (in tests)" } else { "" };
                broken.push(format!("{name} → {used}{tests}"));
            }
        }
    }
    broken
}

/// Which of `kept_out` the library needs without its default features, directly or through others.
fn brought_along(library: &str, kept_out: &[&str]) -> Result<Vec<String>> {
    let output = std::process::Command::new(workspace::cargo())
        .current_dir(workspace::root())
        .args(["tree", "--locked", "--no-default-features", "--package"])
        .args([library, "--edges", "normal", "--prefix", "none"])
        .output()?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    }
    let tree = String::from_utf8(output.stdout)?;
    let names: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let brought = kept_out.iter().filter(|kept| names.contains(*kept));
    Ok(brought
        .map(|kept| format!("{library} → {kept} (without default features)"))
        .collect())
}

/// In the two services only `main.rs`, its subcommand `keys.rs`, and `wiring.rs` (or `wiring/`) may name an adapter.
fn adapters_outside_the_wiring(root: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for service in ["calendar-api", "calendar-worker"] {
        let mut waiting = vec![root.join("crates").join(service).join("src")];
        while let Some(path) = waiting.pop() {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if name != "wiring" {
                    for entry in std::fs::read_dir(&path)? {
                        waiting.push(entry?.path());
                    }
                }
            } else if path.extension().is_some_and(|end| end == "rs")
                && !["main.rs", "keys.rs"].contains(&name.as_str())
                && name != "wiring.rs"
            {
                let text = std::fs::read_to_string(&path)?;
                for adapter in ["calendar_postgres", "calendar_msgraph"] {
                    if text.contains(adapter) {
                        let file = path.strip_prefix(root).unwrap_or(&path).display();
                        broken.push(format!("{file} → {adapter} (only the wiring may)"));
                    }
                }
            }
        }
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use cargo_metadata::{Metadata, MetadataCommand};

    use super::broken_arrows;

    /// The checkout's own metadata with `from` made to depend on `to` as well.
    fn with_arrow(from: &str, to: &str, kind: &str) -> Metadata {
        let root = crate::workspace::root().join("Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(root)
            .no_deps()
            .exec()
            .unwrap();
        let mut json = serde_json::to_value(metadata).unwrap();
        for package in json["packages"].as_array_mut().unwrap() {
            if package["name"] == from {
                let dependencies = package["dependencies"].as_array_mut().unwrap();
                let mut added = dependencies[0].clone();
                added["name"] = to.into();
                added["kind"] = kind.into();
                dependencies.push(added);
            }
        }
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_checkout_keeps_to_the_table() {
        super::check().unwrap();
    }

    #[test]
    fn what_a_library_brings_along_is_named() {
        let brought = super::brought_along("calendar-worker", &["clap", "tokio"]).unwrap();
        assert_eq!(
            brought,
            ["calendar-worker → tokio (without default features)"]
        );
    }

    #[test]
    fn a_forbidden_arrow_is_named() {
        for (from, to, kind, expected) in [
            (
                "calendar-domain",
                "tokio",
                "normal",
                Some("calendar-domain → tokio"),
            ),
            (
                "calendar-domain",
                "calendar-sync",
                "normal",
                Some("calendar-domain → calendar-sync"),
            ),
            (
                "calendar-sync",
                "calendar-postgres",
                "normal",
                Some("calendar-sync → calendar-postgres"),
            ),
            (
                "calendar-sync",
                "reqwest",
                "normal",
                Some("calendar-sync → reqwest"),
            ),
            (
                "calendar-api",
                "diesel",
                "normal",
                Some("calendar-api → diesel"),
            ),
            (
                "calendar-worker",
                "axum",
                "normal",
                Some("calendar-worker → axum"),
            ),
            (
                "calendar-worker",
                "graph-rs-sdk",
                "normal",
                Some("calendar-worker → graph-rs-sdk"),
            ),
            (
                "calendar-msgraph",
                "calendar-simulator",
                "normal",
                Some("calendar-msgraph → calendar-simulator"),
            ),
            (
                "calendar-simulator",
                "calendar-domain",
                "dev",
                Some("calendar-simulator → calendar-domain (in tests)"),
            ),
            (
                "xtask",
                "calendar-postgres",
                "normal",
                Some("xtask → calendar-postgres"),
            ),
            ("calendar-msgraph", "calendar-simulator", "dev", None),
            ("calendar-postgres", "diesel", "normal", None),
        ] {
            let broken = broken_arrows(&with_arrow(from, to, kind));
            assert_eq!(
                broken,
                expected.map(str::to_owned).into_iter().collect::<Vec<_>>()
            );
        }
    }
}
