//! The variables there are: what `--help` lists, and how `--print-config` shows each.

use std::fmt::Write as _;

/// One environment variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it means, in a few words.
    pub meaning: &'static str,
    /// What holds while it is not set.
    pub default: &'static str,
    /// How its value is shown.
    pub(super) show: Show,
}

/// How a value is shown by `--print-config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// As it is.
    Plain,
    /// Not at all.
    Hidden,
    /// A database URL without its password.
    DatabaseUrl,
    /// The ids of keys, without the keys.
    KeyIds,
}

const fn variable(
    name: &'static str,
    meaning: &'static str,
    default: &'static str,
    show: Show,
) -> Variable {
    Variable {
        name,
        meaning,
        default,
        show,
    }
}

/// All variables that this version knows, in the order in which they are shown.
pub const VARIABLES: &[Variable] = &[
    variable(
        "DATABASE_URL",
        "PostgreSQL, as postgres://user:password@host/name",
        "required",
        Show::DatabaseUrl,
    ),
    variable(
        "CALENDAR_LISTEN",
        "address of the API",
        "127.0.0.1:8080",
        Show::Plain,
    ),
    variable(
        "CALENDAR_PUBLIC_URL",
        "how providers and browsers reach the API; providers push to https only",
        "http:// + listen",
        Show::Plain,
    ),
    variable(
        "CALENDAR_TOKEN_KEYS",
        "id:base64,id:base64: 32-byte keys that seal tokens; the first seals, all open",
        "required",
        Show::KeyIds,
    ),
    variable(
        "CALENDAR_MICROSOFT_CLIENT_ID",
        "the Entra application",
        "provider off",
        Show::Plain,
    ),
    variable(
        "CALENDAR_MICROSOFT_CLIENT_SECRET",
        "its secret",
        "none",
        Show::Hidden,
    ),
    variable(
        "CALENDAR_MICROSOFT_TENANT",
        "its tenant",
        "common",
        Show::Plain,
    ),
    variable(
        "CALENDAR_MICROSOFT_AUTHORITY_URL",
        "where Entra is",
        "the real one",
        Show::Plain,
    ),
    variable(
        "CALENDAR_MICROSOFT_GRAPH_URL",
        "where Graph is",
        "the real one",
        Show::Plain,
    ),
    variable("CALENDAR_SIGNUP", "open or closed", "open", Show::Plain),
    variable(
        "CALENDAR_RETURN_ORIGINS",
        "origins that return_url may name, with commas",
        "only the API's own",
        Show::Plain,
    ),
    variable(
        "CALENDAR_RATE_LIMIT_PER_MINUTE",
        "requests of one token, against a caller that runs away",
        "60000",
        Show::Plain,
    ),
    variable(
        "CALENDAR_TRUSTED_PROXIES",
        "addresses or networks, with commas, whose X-Forwarded-For is believed",
        "none",
        Show::Plain,
    ),
    variable(
        "CALENDAR_SYNC_PAST_DAYS",
        "how far back the window reaches",
        "90",
        Show::Plain,
    ),
    variable(
        "CALENDAR_SYNC_FUTURE_DAYS",
        "how far ahead it reaches",
        "365",
        Show::Plain,
    ),
    variable(
        "CALENDAR_POLL_SECONDS",
        "how often to ask for changes without a healthy push",
        "300",
        Show::Plain,
    ),
    variable(
        "CALENDAR_POLL_PUSHED_SECONDS",
        "how often to ask with one",
        "21600",
        Show::Plain,
    ),
    variable(
        "CALENDAR_RENEW_EVERY_SECONDS",
        "how often to look for subscriptions to renew",
        "1800",
        Show::Plain,
    ),
    variable(
        "CALENDAR_RENEW_LEAD_SECONDS",
        "how long before its expiry a subscription is renewed",
        "3600",
        Show::Plain,
    ),
    variable(
        "CALENDAR_WORKER_CONCURRENCY",
        "accounts worked on at once",
        "16",
        Show::Plain,
    ),
    variable(
        "CALENDAR_MAILBOX_CONCURRENCY",
        "requests at once to one mailbox",
        "4",
        Show::Plain,
    ),
    variable(
        "CALENDAR_METRICS_LISTEN",
        "address where the worker serves its metrics; the API has /metrics",
        "not served",
        Show::Plain,
    ),
    variable(
        "CALENDAR_LOG",
        "level, or directives such as info,calendar_sync=debug",
        "info",
        Show::Plain,
    ),
    variable("CALENDAR_LOG_FORMAT", "text or json", "text", Show::Plain),
];

/// The variables as a table, for `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Configuration, by environment variables:\n");
    for variable in VARIABLES {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "  {:<33} {} [{}]",
            variable.name, variable.meaning, variable.default
        );
    }
    text
}
