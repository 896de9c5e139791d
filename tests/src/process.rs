//! The real binaries as child processes, their logs kept.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Which binary.
#[derive(Clone, Copy, Debug)]
pub enum Binary {
    /// `calendar-api`.
    Api,
    /// `calendar-worker`.
    Worker,
    /// `calendar-embedded`, the example of a host program.
    Embedded,
}

/// A running binary; killed when dropped.
pub struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a binary with these arguments and nothing in its environment but these variables.
    #[must_use]
    pub fn start(binary: Binary, arguments: &[&str], environment: &[(String, String)]) -> Self {
        let mut child = Command::new(program(binary))
            .args(arguments)
            .env_clear()
            .envs(
                environment
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str())),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{binary:?} does not start ({error}): run `cargo xtask test`")
            });
        let log = Arc::new(Mutex::new(String::new()));
        collect(child.stdout.take().expect("piped"), Arc::clone(&log));
        collect(child.stderr.take().expect("piped"), Arc::clone(&log));
        Self { child, log }
    }

    /// What it has written so far, to stdout and stderr.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics with it").clone()
    }

    /// The most memory that it has used at once so far, in bytes (Linux: `VmHWM`).
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let id = self.child.id().expect("it has not ended");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kibibytes.expect("a number") * 1024
    }

    /// Sends a signal, as `kill` would.
    pub async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it has not ended").to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()
            .await;
        assert!(status.expect("kill is there").success());
    }

    /// Waits for its end, at the most this long.
    pub async fn end(&mut self, within: Duration) -> ExitStatus {
        let Ok(status) = tokio::time::timeout(within, self.child.wait()).await else {
            panic!("still running after {within:?}:\n{}", self.log());
        };
        status.expect("a child can be waited for")
    }
}

fn collect(from: impl AsyncRead + Unpin + Send + 'static, into: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = into.lock().expect("nobody panics with it");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// Where a binary is.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the test runner says where the binaries are"
)]
pub fn program(binary: Binary) -> PathBuf {
    let folder = std::env::var("CALENDAR_E2E_BIN_DIR")
        .expect("CALENDAR_E2E_BIN_DIR names the folder of the binaries: run `cargo xtask test`");
    PathBuf::from(folder).join(match binary {
        Binary::Api => "calendar-api",
        Binary::Worker => "calendar-worker",
        Binary::Embedded => "calendar-embedded",
    })
}
