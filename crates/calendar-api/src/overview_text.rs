//! The gauges that describe the installation, as text: measured at a scrape, so that they are true also when
//! all workers are down, and seldom, however many ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use calendar_domain::overview::Overview;
use calendar_domain::ports::{Clock, OverviewReader};
use calendar_runtime::ErrorChain;
use calendar_runtime::metrics::write_measured;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tracing::warn;

/// A measurement serves so long.
const FRESH: Duration = Duration::from_secs(10);
/// A scrape waits so long for a measurement; scrapers give up after ten seconds.
const WITHIN: Duration = Duration::from_secs(5);
/// More codes than this are told together: a series for each would be no use to anybody.
const CODES_MOST: usize = 20;

/// The last measurement, and how to make the next.
pub(crate) struct OverviewText {
    reader: Arc<dyn OverviewReader>,
    clock: Arc<dyn Clock>,
    /// Held while measuring: whoever else asks waits for that measurement.
    last: Mutex<Option<(Instant, String)>>,
}

impl OverviewText {
    pub(crate) fn new(reader: Arc<dyn OverviewReader>, clock: Arc<dyn Clock>) -> Self {
        Self {
            reader,
            clock,
            last: Mutex::new(None),
        }
    }

    /// The gauges; without the database, that it is so.
    pub(crate) async fn get(&self) -> String {
        let mut last = self.last.lock().await;
        if let Some((at, text)) = &*last
            && at.elapsed() < FRESH
        {
            return text.clone();
        }
        let now = self.clock.now();
        let text = match timeout(WITHIN, self.reader.overview(now)).await {
            Ok(Ok(overview)) => text(&overview),
            Ok(Err(error)) => {
                warn!(error = %ErrorChain(&error), "the installation could not be measured");
                down()
            }
            Err(_) => {
                warn!("the installation could not be measured in time");
                down()
            }
        };
        *last = Some((Instant::now(), text.clone()));
        text
    }
}

fn down() -> String {
    let mut text = String::new();
    write_measured(&mut text, "calendar_overview_up", [(Vec::new(), 0.0)]);
    text
}

type Labels<'l> = Vec<(&'static str, &'l str)>;

/// Numbers by their labels, in order.
#[derive(Default)]
struct Sums<'l>(BTreeMap<Labels<'l>, u64>);

impl<'l> Sums<'l> {
    fn add(&mut self, labels: Labels<'l>, count: u64) {
        *self.0.entry(labels).or_default() += count;
    }

    fn samples(self) -> impl Iterator<Item = (Labels<'l>, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "exact beyond any count of ours")]
        self.0
            .into_iter()
            .map(|(labels, count)| (labels, count as f64))
    }
}

fn text(overview: &Overview) -> String {
    let mut text = String::new();
    write_measured(&mut text, "calendar_overview_up", [(Vec::new(), 1.0)]);
    connections(&mut text, overview);
    backlogs(&mut text, overview);
    subscriptions(&mut text, overview);
    text
}

fn connections(text: &mut String, overview: &Overview) {
    let mut by_code: BTreeMap<&str, u64> = BTreeMap::new();
    for group in &overview.connections {
        if let Some(code) = &group.error_code {
            *by_code.entry(code).or_default() += group.count;
        }
    }
    let mut codes: Vec<(&str, u64)> = by_code.into_iter().collect();
    codes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    codes.truncate(CODES_MOST);
    let [mut states, mut errors, mut pushes, mut skipped] = [(); 4].map(|()| Sums::default());
    for group in &overview.connections {
        let provider = ("provider", group.provider.as_str());
        let status = ("status", group.status.as_str());
        states.add(vec![provider, status], group.count);
        pushes.add(vec![provider, ("state", group.push.as_str())], group.count);
        skipped.add(vec![provider], group.events_skipped);
        if let Some(code) = &group.error_code {
            let is_told = codes.iter().any(|(told, _)| told == code);
            let code = if is_told { code } else { "other" };
            errors.add(vec![provider, status, ("code", code)], group.count);
        }
    }
    write_measured(text, "calendar_connections", states.samples());
    write_measured(text, "calendar_connection_errors", errors.samples());
    write_measured(text, "calendar_connections_push", pushes.samples());
    write_measured(text, "calendar_events_skipped", skipped.samples());
}

/// Of a provider that has connections and nothing that waits, the lag is zero.
fn backlogs(text: &mut String, overview: &Overview) {
    let none = || {
        let connections = overview.connections.iter();
        connections.map(|group| (vec![("provider", group.provider.as_str())], (0.0, 0, 0)))
    };
    let mut waiting: BTreeMap<Labels<'_>, (f64, u64, u64)> = none().collect();
    for backlog in &overview.backlogs {
        let (lag, overdue, accounts) =
            (backlog.lag.as_secs_f64(), backlog.overdue, backlog.accounts);
        let labels = vec![("provider", backlog.provider.as_str())];
        waiting.insert(labels, (lag, overdue, accounts));
    }
    let (mut overdue, mut accounts) = (Sums::default(), Sums::default());
    for (labels, (_, connections, waiting)) in &waiting {
        overdue.add(labels.clone(), *connections);
        accounts.add(labels.clone(), *waiting);
    }
    let lags = waiting.into_iter().map(|(labels, (lag, ..))| (labels, lag));
    write_measured(text, "calendar_sync_lag_seconds", lags);
    write_measured(text, "calendar_connections_overdue", overdue.samples());
    write_measured(text, "calendar_accounts_due", accounts.samples());
}

fn subscriptions(text: &mut String, overview: &Overview) {
    let mut states = Sums::default();
    let mut soonest: BTreeMap<&str, OffsetDateTime> = BTreeMap::new();
    for group in &overview.subscriptions {
        let provider = group.provider.as_str();
        let state = match (group.is_active, group.is_expired) {
            (true, false) => "active",
            (true, true) => "expired",
            (false, _) => "ended",
        };
        states.add(vec![("provider", provider), ("state", state)], group.count);
        if state == "active" {
            let soonest = soonest.entry(provider).or_insert(group.soonest_expiry);
            *soonest = group.soonest_expiry.min(*soonest);
        }
    }
    write_measured(text, "calendar_subscriptions", states.samples());
    let soonest = soonest.into_iter().map(|(provider, at)| {
        let seconds = (at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64();
        (vec![("provider", provider)], seconds)
    });
    write_measured(
        text,
        "calendar_subscription_soonest_expiry_seconds",
        soonest,
    );
}

#[cfg(test)]
mod tests;
