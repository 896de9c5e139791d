//! All metrics: what each is called, what it means, and who has it. docs/operations.md shows the same list.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Grows, from the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size, in these buckets.
    Histogram(&'static [f64]),
}

/// Who has a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Both programs, each its own.
    Both,
    /// The api.
    Api,
    /// The worker.
    Worker,
    /// The api, which asks the database at a scrape, at most every 10 s.
    Database,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// Who has it.
    pub at: At,
    /// What it means, with its unit.
    pub meaning: &'static str,
}

#[cfg(feature = "config")]
impl Metric {
    pub(super) fn describe(&self) {
        match self.kind {
            Kind::Counter => metrics::describe_counter!(self.name, self.meaning),
            Kind::Gauge => metrics::describe_gauge!(self.name, self.meaning),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name, self.meaning),
        }
    }
}

/// Seconds: from an answer out of memory to one that everybody has given up waiting for.
const REQUESTS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
/// Seconds: providers answer in tenths of a second, and may take a minute and a half.
const PROVIDER_REQUESTS: &[f64] = &[
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0,
];
/// Seconds: from a delta pass that finds nothing to the first pass over a large calendar.
const PASSES: &[f64] = &[
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    at: At,
    meaning: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        at,
        meaning,
    }
}

/// All metrics.
pub const METRICS: &[Metric] = &[
    metric(
        "calendar_build_info",
        Kind::Gauge,
        &["program", "version"],
        At::Both,
        "1; the labels say which program runs in which version",
    ),
    metric(
        "process_start_time_seconds",
        Kind::Gauge,
        &[],
        At::Both,
        "when the process began, in seconds since 1970",
    ),
    metric(
        "calendar_database_connections",
        Kind::Gauge,
        &["state"],
        At::Both,
        "connections of the process's pool: in_use, idle, or unused (could still be opened)",
    ),
    metric(
        "calendar_database_waiting",
        Kind::Gauge,
        &[],
        At::Both,
        "how many wait for a connection of the pool",
    ),
    metric(
        "calendar_provider_request_duration_seconds",
        Kind::Histogram(PROVIDER_REQUESTS),
        &["provider", "status"],
        At::Both,
        "requests to a provider's API: 2xx, 3xx, 4xx, 429, 5xx, timeout, or failed (no answer)",
    ),
    metric(
        "calendar_token_refreshes_total",
        Kind::Counter,
        &["provider", "outcome"],
        At::Both,
        "access tokens refreshed: ok, or what failed",
    ),
    metric(
        "http_requests_total",
        Kind::Counter,
        &["method", "route", "status"],
        At::Api,
        "requests answered, by the route's template",
    ),
    metric(
        "http_request_duration_seconds",
        Kind::Histogram(REQUESTS),
        &["method", "route"],
        At::Api,
        "how long they took",
    ),
    metric(
        "calendar_notifications_total",
        Kind::Counter,
        &["provider", "outcome"],
        At::Api,
        "notifications in pushes: accepted, unknown (for no subscription of ours), or refused (without its secret)",
    ),
    metric(
        "calendar_passes_total",
        Kind::Counter,
        &["provider", "kind", "outcome"],
        At::Worker,
        "passes over a calendar, full or delta: finished, interrupted, or what failed",
    ),
    metric(
        "calendar_pass_duration_seconds",
        Kind::Histogram(PASSES),
        &["provider", "kind"],
        At::Worker,
        "how long passes took",
    ),
    metric(
        "calendar_pages_total",
        Kind::Counter,
        &["provider"],
        At::Worker,
        "pages of changes fetched and stored",
    ),
    metric(
        "calendar_events_changed_total",
        Kind::Counter,
        &["provider", "change"],
        At::Worker,
        "rows of events written: created, updated, deleted; ignored (removals of what is not there)",
    ),
    metric(
        "calendar_renewals_total",
        Kind::Counter,
        &["provider", "outcome"],
        At::Worker,
        "renewals of subscriptions: renewed, failed (tried again before the end), or lost (made anew)",
    ),
    metric(
        "calendar_overview_up",
        Kind::Gauge,
        &[],
        At::Database,
        "1; 0 when the database could not be asked, and then those that follow are missing",
    ),
    metric(
        "calendar_connections",
        Kind::Gauge,
        &["provider", "status"],
        At::Database,
        "connections: connected, syncing, needs_reauth, paused, failing",
    ),
    metric(
        "calendar_connection_errors",
        Kind::Gauge,
        &["provider", "status", "code"],
        At::Database,
        "connections that fail or need their user, by the code of why; rare codes together as other",
    ),
    metric(
        "calendar_connections_push",
        Kind::Gauge,
        &["provider", "state"],
        At::Database,
        "connections by how changes are told to us: healthy, stale, unsupported, off",
    ),
    metric(
        "calendar_events_skipped",
        Kind::Gauge,
        &["provider"],
        At::Database,
        "events that could not be read and were set aside",
    ),
    metric(
        "calendar_sync_lag_seconds",
        Kind::Gauge,
        &["provider"],
        At::Database,
        "how long what has waited the longest for a worker has waited",
    ),
    metric(
        "calendar_connections_overdue",
        Kind::Gauge,
        &["provider"],
        At::Database,
        "connections that have waited for a worker for longer than a minute",
    ),
    metric(
        "calendar_accounts_due",
        Kind::Gauge,
        &["provider"],
        At::Database,
        "accounts that wait for a worker: the depth of the queue",
    ),
    metric(
        "calendar_subscriptions",
        Kind::Gauge,
        &["provider", "state"],
        At::Database,
        "subscriptions: active, expired, ended (kept for 30 days)",
    ),
    metric(
        "calendar_subscription_soonest_expiry_seconds",
        Kind::Gauge,
        &["provider"],
        At::Database,
        "when the next active subscription ends, in seconds since 1970",
    ),
];
