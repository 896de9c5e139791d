//! The passes of workers, out of their logs in JSON: who passed over which account, and when.

use std::collections::BTreeMap;

use calendar_simulator::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// A pass, as its worker logged it.
#[derive(Clone, Debug)]
pub struct LoggedPass {
    /// Which of the logs it stands in.
    pub worker: usize,
    /// The account.
    pub account: String,
    /// The connection.
    pub connection: String,
    /// When it began, at the most a millisecond too late.
    pub began_at: Timestamp,
    /// When it had ended.
    pub ended_at: Timestamp,
    /// What it failed with.
    pub code: Option<String>,
}

/// The passes of these logs, by when they began.
#[must_use]
pub fn logged_passes(logs: &[String]) -> Vec<LoggedPass> {
    let mut passes = Vec::new();
    for (worker, log) in logs.iter().enumerate() {
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            if line["message"] != "pass" && line["message"] != "pass failed" {
                continue;
            }
            let text = |name: &str| line[name].as_str().expect("it is in the line").to_owned();
            let ended_at: Timestamp = text("timestamp").parse().expect("RFC 3339");
            let millis = line["duration_ms"].as_i64().expect("a number");
            passes.push(LoggedPass {
                worker,
                account: text("account_id"),
                connection: text("connection_id"),
                began_at: ended_at - SignedDuration::from_millis(millis),
                ended_at,
                code: line["code"].as_str().map(str::to_owned),
            });
        }
    }
    passes.sort_by_key(|pass| pass.began_at);
    passes
}

/// The first two passes over one account that ran at the same time. Their order has to be that of
/// [`logged_passes`].
#[must_use]
pub fn at_once(passes: &[LoggedPass]) -> Option<(&LoggedPass, &LoggedPass)> {
    let mut last: BTreeMap<&str, &LoggedPass> = BTreeMap::new();
    passes.iter().find_map(|pass| {
        let before = last.insert(&pass.account, pass)?;
        (pass.began_at < before.ended_at).then_some((before, pass))
    })
}
