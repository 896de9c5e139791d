//! Every command of README and docs is run as it stands there: each file's `sh` blocks, one after the other, in a
//! folder that looks like a checkout with the programs built. What only names a place (a port, a role, a database)
//! is made this test's own. A block that cannot be run here is fenced `sh no-run`, below a comment that says why.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use calendar_e2e::{Binary, program};
use calendar_postgres::testing::TestDatabase;
use tokio::process::Command;

const LONG: Duration = Duration::from_mins(2);

/// What cargo is asked for, and who does that instead.
const CARGO: &[(&str, &str)] = &[
    (
        "cargo build --release",
        "the programs are built when the tests run",
    ),
    (
        "cargo build --release --locked",
        "the programs are built when the tests run",
    ),
    (
        "cargo build --package calendar-embedded",
        "tests/embedded.rs runs it",
    ),
    ("cargo xtask dev", "`cargo xtask ci` runs it with --once"),
    ("cargo xtask test", "this runs under it"),
    ("cargo xtask test -p calendar-domain", "a part of that"),
    (
        "cargo xtask test -p calendar-postgres --test stores users",
        "a part of that",
    ),
    (
        "cargo xtask migrate up",
        "`cargo xtask ci` runs each migration up and down",
    ),
    (
        "cargo xtask codegen",
        "`cargo xtask ci` runs it with --check",
    ),
    ("cargo xtask codegen --check", "`cargo xtask ci` runs it"),
    (
        "cargo xtask conformance",
        "`cargo xtask ci` makes the same page of its own run",
    ),
    (
        "cargo xtask simulate --seed 1 --runs 1000",
        "a few seeds run with `cargo xtask test`",
    ),
    (
        "cargo xtask simulate --seed 17 --trace",
        "a few seeds run with `cargo xtask test`",
    ),
    (
        "cargo xtask simulate --plants",
        "each planted bug is looked for with `cargo xtask test`",
    ),
    (
        "cargo xtask fuzz-api --max-examples 500",
        "takes minutes and Python: a command of its own",
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// README and what lies in docs/.
fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.push(root().join("README.md"));
    files.sort();
    files
}

/// The `sh` blocks of a file, without the indent of a list.
fn blocks(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let (mut blocks, mut open, mut before) = (Vec::new(), None, "");
    for line in text.lines() {
        let bare = line.trim_start();
        match (&mut open, bare.strip_prefix("```")) {
            (None, Some("sh")) => open = Some((line.len() - bare.len(), String::new())),
            (None, Some(fence @ ("sh no-run" | "bash" | "console" | "shell"))) => {
                let is_reasoned = fence == "sh no-run" && before.starts_with("<!--");
                assert!(
                    is_reasoned,
                    "{}: {line}: say why it is not run, or run it",
                    path.display()
                );
            }
            (Some(_), Some(_)) => blocks.push(open.take().unwrap().1),
            (Some((indent, block)), None) => {
                block.push_str(line.get(*indent..).unwrap_or_default());
                block.push('\n');
            }
            (None, _) => {}
        }
        before = bare;
    }
    blocks
}

/// A folder like a checkout whose programs are built.
fn checkout(folder: &Path, own: &[(String, String)]) {
    fs::create_dir_all(folder.join("target/release")).unwrap();
    for binary in [Binary::Api, Binary::Worker] {
        let program = program(binary);
        let name = program.file_name().unwrap();
        symlink(&program, folder.join("target/release").join(name)).unwrap();
    }
    fs::create_dir_all(folder.join("deploy/postgres")).unwrap();
    let roles = root().join("deploy/postgres/roles.sql");
    let roles = replaced(&fs::read_to_string(roles).unwrap(), own);
    fs::write(folder.join("deploy/postgres/roles.sql"), roles).unwrap();
}

fn replaced(text: &str, own: &[(String, String)]) -> String {
    own.iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// All blocks as one script. Cargo does nothing; what was started is ready before the next block, and ends last.
fn script(blocks: &[String], port: u16) -> String {
    let mut script = String::from("set -euo pipefail\n");
    let known: Vec<_> = CARGO
        .iter()
        .map(|(command, _)| format!("'{command}'"))
        .collect();
    write!(
        script,
        "cargo() {{ case \"cargo $*\" in {}) ;; *) echo \"nobody runs: cargo $*\" >&2; exit 1;; esac; }}\n\
         trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n",
        known.join("|")
    )
    .unwrap();
    for block in blocks {
        script.push_str(block);
        if block.contains(" &\n") {
            writeln!(
                script,
                "for _ in $(seq 150); do curl -sf http://127.0.0.1:{port}/readyz >/dev/null && break; sleep 0.2; done\n\
                 curl -sfS http://127.0.0.1:{port}/readyz >/dev/null"
            )
            .unwrap();
        }
    }
    script
}

async fn run(path: &Path, blocks: &[String]) {
    let name = path.file_stem().unwrap().to_string_lossy().to_lowercase();
    let database = TestDatabase::create_empty().await;
    let admin = database.connect().await;
    let own_name = format!("docs_{name}_{}", std::process::id());
    let port = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    // Each file begins from nothing, beside other tests on the same server.
    let own: Vec<(String, String)> = [
        ("calendar_owner", format!("{own_name}_owner")),
        ("calendar_service", format!("{own_name}_service")),
        ("DATABASE calendar ", format!("DATABASE {own_name} ")),
        ("calendar_restored", format!("{own_name}_restored")),
        (
            "postgres://calendar:secret@localhost/calendar",
            database.url().to_owned(),
        ),
        ("8080", port.to_string()),
    ]
    .map(|(from, to)| (from.to_owned(), to))
    .into();
    let folder = std::env::temp_dir().join(&own_name);
    checkout(&folder, &own);
    let script = replaced(&script(blocks, port), &own);

    let url = |user: &str, database_name: &str| {
        let mut url = url::Url::parse(database.url()).unwrap();
        url.set_path(database_name);
        url.set_username(&format!("{own_name}_{user}")).unwrap();
        url.set_password(Some("secret")).unwrap();
        // As a URL with sslmode and sslrootcert has it: an & that no shell must see.
        url.query_pairs_mut()
            .append_pair("sslmode", "prefer")
            .append_pair("application_name", "calendar");
        url.to_string()
    };
    let mut command = Command::new("bash");
    command
        .arg("-c")
        .arg(&script)
        .current_dir(&folder)
        .env("HOME", &folder)
        .env("ADMIN_URL", database.url())
        .env("OWNER_PASSWORD", "secret")
        .env("SERVICE_PASSWORD", "secret")
        .env("OWNER_URL", url("owner", &own_name))
        .env("SERVICE_URL", url("service", &own_name))
        .env(
            "RESTORED_URL",
            url("owner", &format!("{own_name}_restored")),
        )
        .env("CALENDAR_LISTEN", format!("127.0.0.1:{port}"))
        .env("CALENDAR_MICROSOFT_CLIENT_ID", "client")
        .env("CALENDAR_MICROSOFT_CLIENT_SECRET", "secret")
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LONG, command.output()).await;
    for left in [own_name.clone(), format!("{own_name}_restored")] {
        let drop = format!("DROP DATABASE IF EXISTS {left} WITH (FORCE)");
        admin.batch_execute(&drop).await.unwrap();
    }
    for role in ["owner", "service"] {
        let drop = format!("DROP ROLE IF EXISTS {own_name}_{role}");
        admin.batch_execute(&drop).await.unwrap();
    }
    let _ = fs::remove_dir_all(&folder);
    let output = output
        .unwrap_or_else(|_| panic!("{}: not done within {LONG:?}:\n{script}", path.display()))
        .unwrap();
    assert!(
        output.status.success(),
        "{}:\n{script}\n--- {}\n{}{}",
        path.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documentation_runs() {
    let mut count = 0;
    for path in files() {
        let blocks = blocks(&path);
        if !blocks.is_empty() {
            count += blocks.len();
            run(&path, &blocks).await;
        }
    }
    assert!(
        count > 5,
        "{count} blocks: the fences are not found any more"
    );
}
