//! The programs that `dev` runs: simulator, API, worker; their ports, settings, logs and end.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use super::http;
use crate::process::{self, ProcessGroup};
use crate::{test, workspace};

/// For what is not pushed: small, so that an edit is seen soon.
const POLL_SECONDS: &str = "2";
const START_LIMIT: Duration = Duration::from_mins(1);

/// Everything that runs; ends with this value, in the order of the fields.
pub(crate) struct Services {
    pub(crate) api_url: String,
    pub(super) simulator_url: String,
    worker: Option<ProcessGroup>,
    worker_settings: Vec<(String, String)>,
    _api: ProcessGroup,
    _simulator: ProcessGroup,
}

impl Services {
    /// Migrates the database and starts everything, with `more` settings; returns when all answer.
    pub(super) async fn start(database_url: &str, more: &[(&str, &str)]) -> Result<Self> {
        process::end_recorded(&record_file())?;
        let simulator_port = kept_port("simulator", None)?;
        let api_port = kept_port("api", Some(8080))?;
        let simulator_url = format!("http://127.0.0.1:{simulator_port}");
        let api_url = format!("http://127.0.0.1:{api_port}");

        let mut simulator = program("calendar-simulator")?;
        simulator.args(["--listen", &format!("127.0.0.1:{simulator_port}"), "--demo"]);
        let mut simulator = start("calendar-simulator", simulator)?;
        answers(&mut simulator, &format!("{simulator_url}/admin/clock")).await?;
        println!("  simulator  {simulator_url}");

        let mut settings = settings(database_url, &api_url, &simulator_url)?;
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        settings.extend(more.iter().map(owned));
        let mut migrate = configured("calendar-api", &settings)?;
        migrate.arg("migrate");
        let migrated = start("calendar-api", migrate)?.success().await;
        migrated
            .with_context(|| format!("calendar-api migrate\n{}", last_lines("calendar-api")))?;

        let mut api = start("calendar-api", configured("calendar-api", &settings)?)?;
        answers(&mut api, &format!("{api_url}/readyz")).await?;
        println!("  api        {api_url}");
        Ok(Self {
            api_url,
            simulator_url,
            worker: None,
            worker_settings: settings,
            _api: api,
            _simulator: simulator,
        })
    }

    /// Starts the worker. Not before the account is connected: on kept data it would meet tokens that
    /// the simulator of an earlier run gave out.
    pub(super) fn start_worker(&mut self) -> Result<()> {
        let worker = configured("calendar-worker", &self.worker_settings)?;
        self.worker = Some(start("calendar-worker", worker)?);
        println!("  worker     is pushed; polls calendars of others every {POLL_SECONDS} s");
        Ok(())
    }
}

/// What `dev` keeps between runs.
pub(super) fn directory() -> Result<PathBuf> {
    let directory = workspace::local_dir().join("dev");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

fn record_file() -> PathBuf {
    workspace::local_dir().join("dev/running")
}

/// A value that is made once and then kept in a file of .local/dev.
pub(super) fn kept(name: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
    let path = directory()?.join(name);
    if let Ok(text) = std::fs::read_to_string(&path) {
        return Ok(text.trim().to_owned());
    }
    let value = make()?;
    workspace::write_private(&path, &value)?;
    Ok(value)
}

/// The port of an earlier run, because stored delta links name it; another one when it is taken.
fn kept_port(name: &str, preferred: Option<u16>) -> Result<u16> {
    let path = directory()?.join(format!("{name}-port"));
    let earlier = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = match earlier.filter(free).or(preferred.filter(free)) {
        Some(port) => port,
        None => TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port(),
    };
    std::fs::write(&path, port.to_string())?;
    Ok(port)
}

fn settings(
    database_url: &str,
    api_url: &str,
    simulator_url: &str,
) -> Result<Vec<(String, String)>> {
    let listen = api_url.trim_start_matches("http://");
    let keys = kept("token-keys", || {
        Ok(format!("dev:{}", base64(&workspace::random_bytes(32)?)))
    })?;
    let settings = [
        ("DATABASE_URL", database_url),
        ("CALENDAR_LISTEN", listen),
        ("CALENDAR_PUBLIC_URL", api_url),
        ("CALENDAR_TOKEN_KEYS", &keys),
        ("CALENDAR_MICROSOFT_CLIENT_ID", "calendar-dev"),
        ("CALENDAR_MICROSOFT_CLIENT_SECRET", "dev-secret"),
        ("CALENDAR_MICROSOFT_AUTHORITY_URL", simulator_url),
        (
            "CALENDAR_MICROSOFT_GRAPH_URL",
            &format!("{simulator_url}/v1.0"),
        ),
        ("CALENDAR_POLL_SECONDS", POLL_SECONDS),
    ];
    Ok(settings
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec())
}

/// A program of ours, without the settings that the caller's own shell may have for another one.
fn program(name: &str) -> Result<Command> {
    let path = test::program_directory(false)?.join(name);
    let mut command = process::dying_with_us(&path);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("CALENDAR_") {
            command.env_remove(key);
        }
    }
    Ok(command)
}

fn configured(name: &str, settings: &[(String, String)]) -> Result<Command> {
    let mut command = program(name)?;
    command.envs(settings.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

fn start(name: &str, mut command: Command) -> Result<ProcessGroup> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_file(name))?;
    command
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log));
    let group = ProcessGroup::spawn(name, &mut command)?;
    group.record(&record_file())?;
    Ok(group)
}

/// Waits until a GET is answered with 200.
async fn answers(process: &mut ProcessGroup, url: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let answer = http::send("GET", url, None, None).await;
        if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        let ended = process.has_ended();
        let name = process.name();
        if ended {
            bail!(
                "{name} ended at its start; the end of its log:\n{}",
                last_lines(name)
            );
        }
        if began.elapsed() > START_LIMIT {
            bail!(
                "{name} does not answer at {url}; the end of its log:\n{}",
                last_lines(name)
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Where a program's output goes.
pub(super) fn log_file(name: &str) -> PathBuf {
    workspace::local_dir()
        .join("dev")
        .join(format!("{name}.log"))
}

/// Begins the logs of this run.
pub(super) fn clear_logs() {
    for name in test::PROGRAMS {
        let _ = std::fs::remove_file(log_file(name));
    }
}

/// The end of a program's log, for an error.
pub(super) fn last_lines(name: &str) -> String {
    let path: &Path = &log_file(name);
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// RFC 4648, with padding; `CALENDAR_TOKEN_KEYS` is written in it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0_usize, |number, at| {
            number << 8 | usize::from(chunk.get(at).copied().unwrap_or(0))
        });
        for digit in 0..4 {
            let used = digit <= chunk.len();
            let value = number >> (18 - 6 * digit) & 63;
            text.push(if used { char::from(DIGITS[value]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_rfc_4648() {
        for (plain, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), expected);
        }
    }
}
