//! Child processes that never outlive xtask: each one leads a process group, which is asked to
//! end and then killed when its handle is dropped.

use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// A running child with everything that it starts itself.
pub(crate) struct ProcessGroup {
    name: String,
    child: Child,
    group: u32,
}

impl ProcessGroup {
    /// Starts `command` as the leader of a process group. A terminal's Ctrl-C then reaches only
    /// xtask, which stops its children in its own order.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let group = child
            .id()
            .with_context(|| format!("{name} ended at once"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            group,
        })
    }

    /// Waits for the end; any other end than success is an error.
    pub(crate) async fn success(mut self) -> Result<()> {
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("{} failed ({status})", self.name);
        }
        Ok(())
    }

    /// Sends a signal to the whole group. By the shell's own `kill`: small containers have no other.
    fn signal(&self, signal: &str) {
        let _ = StdCommand::new("sh")
            .args(["-c", &format!("kill -{signal} -- -{}", self.group)])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            let asked = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // The leader may have left children of its own behind.
        self.signal("KILL");
        let _ = self.child.try_wait();
    }
}
