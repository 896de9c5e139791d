//! Finds PostgreSQL's programs, and installs Debian's package where that is allowed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{debian, workspace};

const NEEDED: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

/// The directory with `initdb`, `postgres` and `pg_ctl`; of major version `major` when one is asked for.
pub(super) fn find_or_install(major: Option<u32>) -> Result<PathBuf> {
    if let Some(found) = find(major) {
        return Ok(found);
    }
    if let Some(named) = workspace::env("PG_BIN") {
        bail!(
            "PG_BIN is {named}, which does not hold {}{}: correct it or unset it",
            NEEDED.join(", "),
            major.map_or(String::new(), |major| format!(" of PostgreSQL {major}"))
        );
    }
    if let (Some(major), Some(other)) = (major, find(None)) {
        bail!(
            "the database of this checkout was made by PostgreSQL {major}, found is only {}: \
             install PostgreSQL {major}, name it by PG_BIN, or start anew with `cargo xtask dev --fresh`",
            other.display()
        );
    }
    if debian::may_install()? {
        install()?;
        if let Some(found) = find(major) {
            return Ok(found);
        }
    }
    bail!(
        "PostgreSQL was not found: install it (Debian, Ubuntu: apt-get install postgresql; Fedora: \
         dnf install postgresql-server; macOS: brew install postgresql), or set PG_BIN to the \
         directory of initdb and postgres, or DATABASE_URL to a running server"
    )
}

fn find(major: Option<u32>) -> Option<PathBuf> {
    candidates()
        .into_iter()
        .filter(|directory| NEEDED.iter().all(|name| directory.join(name).exists()))
        .find(|directory| major.is_none() || major_version(directory) == major)
}

/// Best first: what was asked for, what `pg_config` says, the newest of a distribution's tree, PATH.
fn candidates() -> Vec<PathBuf> {
    if let Some(named) = workspace::env("PG_BIN") {
        return vec![named.into()];
    }
    let mut candidates = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        candidates.push(PathBuf::from(
            String::from_utf8_lossy(&output.stdout).trim(),
        ));
    }
    let mut trees: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql@"),
        ("/usr/local/opt", "postgresql@"),
    ] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
            if let Some(version) = version {
                trees.push((version, entry.path().join("bin")));
            }
        }
    }
    trees.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    candidates.extend(trees.into_iter().map(|(_, path)| path));
    for directory in std::env::split_paths(&workspace::env("PATH").unwrap_or_default()) {
        // A distribution may link a single program into PATH; its siblings stand where it points.
        if let Ok(program) = directory.join("postgres").canonicalize() {
            candidates.extend(program.parent().map(Path::to_path_buf));
        }
    }
    candidates
}

/// The major version that a directory's `postgres` reports.
pub(super) fn major_version(directory: &Path) -> Option<u32> {
    let output = Command::new(directory.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

/// Debian's package, without the server of its own that it would start.
fn install() -> Result<()> {
    println!("PostgreSQL was not found: installing Debian's package");
    debian::install("postgresql-common")?;
    let settings = Path::new("/etc/postgresql-common/createcluster.conf");
    let text = std::fs::read_to_string(settings).unwrap_or_default();
    let others = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("create_main_cluster"));
    let text = others
        .chain(["create_main_cluster = false", ""])
        .collect::<Vec<_>>()
        .join("\n");
    std::fs::write(settings, text)
        .with_context(|| format!("cannot write {}", settings.display()))?;
    debian::install("postgresql")
}
