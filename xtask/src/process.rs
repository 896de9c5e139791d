//! Child processes that never outlive xtask: each one leads a process group, which is asked to
//! end and then killed when its handle is dropped.

use std::path::Path;
use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, ChildStdout, Command};

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

    /// What it was called at its start.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What it prints, when its stdout is piped; once.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Notes the process in `file`, for `end_recorded` after a crash of ours.
    pub(crate) fn record(&self, file: &Path) -> Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(file)?;
        writeln!(file, "{} {}", self.group, self.name)?;
        Ok(())
    }

    /// Waits for the end; any other end than success is an error.
    pub(crate) async fn success(mut self) -> Result<()> {
        let status = self.child.wait().await?;
        if !status.success() {
            bail!("{} failed ({status})", self.name);
        }
        Ok(())
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.group, "TERM");
            let asked = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < GRACE {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        // The leader may have left children of its own behind.
        signal(self.group, "KILL");
        let _ = self.child.try_wait();
    }
}

/// Ends the programs that a killed run noted in `file`, and empties it.
pub(crate) fn end_recorded(file: &Path) -> Result<()> {
    for line in std::fs::read_to_string(file).unwrap_or_default().lines() {
        let Some((group, name)) = line.split_once(' ') else {
            continue;
        };
        // The number may belong to another program by now.
        let output = StdCommand::new("ps")
            .args(["-o", "args=", "-p", group])
            .output();
        let running = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let process = std::fs::read(format!("/proc/{group}/cmdline"));
        let process = process.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let is_ours = |text: &String| text.contains(name);
        if let Ok(group) = group.parse()
            && (running.as_ref().is_ok_and(is_ours) || process.as_ref().is_ok_and(is_ours))
        {
            println!("  ending the {name} of a run that was killed");
            signal(group, "KILL");
        }
    }
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A command for `program` that the system ends when xtask itself is killed, where it can.
pub(crate) fn dying_with_us(program: &Path) -> Command {
    let tied = StdCommand::new("setpriv")
        .args(["--pdeathsig", "TERM", "true"])
        .stderr(Stdio::null())
        .status();
    if tied.is_ok_and(|status| status.success()) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(program);
        return command;
    }
    Command::new(program)
}

/// Sends a signal to a whole group. By the shell's own `kill`: small containers have no other.
fn signal(group: u32, signal: &str) {
    let _ = StdCommand::new("sh")
        .args(["-c", &format!("kill -{signal} -{group}")])
        .stderr(Stdio::null())
        .status();
}
