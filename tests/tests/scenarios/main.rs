//! The conformance scenarios (tests/conformance.txt) over the running programs, PostgreSQL and the simulator: a test's
//! number is its row's. What shows a row better beside other tests has its number there.

#![allow(
    clippy::unwrap_used,
    reason = "for tests: what fails here fails the test"
)]

mod microsoft;
