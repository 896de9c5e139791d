//! The router over ports in memory: shapes of answers, bad input, the callback, failures.

mod bad_input;
mod callback;
mod failures;
mod flows;
mod shapes;
mod support;
