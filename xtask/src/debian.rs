//! Installs Debian's packages, where that is allowed: as root.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const APT: &str = "/usr/bin/apt-get";

/// Whether this is Debian or its kin, and we are root.
pub(crate) fn may_install() -> Result<bool> {
    Ok(is_root()? && Path::new(APT).exists())
}

/// Whether this process is root.
pub(crate) fn is_root() -> Result<bool> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("cannot run `id -u`")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Installs a package without what it only recommends.
pub(crate) fn install(package: &str) -> Result<()> {
    apt_get(package, &["update", "--quiet"])?;
    apt_get(
        package,
        &["install", "--yes", "--no-install-recommends", package],
    )
}

fn apt_get(package: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(APT)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()?;
    if !status.success() {
        bail!(
            "apt-get {} failed ({status}): install the package {package} by hand",
            arguments.join(" ")
        );
    }
    Ok(())
}
