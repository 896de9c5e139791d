//! The router over ports in memory: shapes of answers, bad input, the callback, pushes, failures.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod callback;
mod contract;
mod export;
mod failures;
mod flows;
mod rejected_events;
mod service_keys;
mod shapes;
mod subscriptions;
mod support;
mod webhooks;
