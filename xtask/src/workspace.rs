//! Where things are in the checkout, and the one place that reads the environment.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::Context as _;

/// The root of the checkout. Not from when xtask was compiled: checkouts may share a target
/// directory, and then cargo runs the same program for each.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let xtask = env("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").to_owned());
        let root = Path::new(&xtask).parent().unwrap_or(Path::new("."));
        root.to_path_buf()
    })
}

/// What stays on this machine and is in no commit: the private PostgreSQL, keys, pid files.
pub(crate) fn local_dir() -> PathBuf {
    root().join(".local")
}

/// An environment variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "xtask is no service: its few variables are read here and nowhere else"
)]
pub(crate) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The cargo that runs this xtask.
pub(crate) fn cargo() -> String {
    env("CARGO").unwrap_or_else(|| "cargo".to_owned())
}

/// Random bytes from the system as lower-case hex; for passwords and keys of this machine.
pub(crate) fn random_hex(bytes: usize) -> anyhow::Result<String> {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(bytes * 2);
    for byte in random_bytes(bytes)? {
        write!(hex, "{byte:02x}")?;
    }
    Ok(hex)
}

/// Random bytes from the system.
pub(crate) fn random_bytes(count: usize) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut buffer = vec![0_u8; count];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    writeln!(file, "{text}")?;
    Ok(())
}
