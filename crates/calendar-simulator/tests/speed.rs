//! How fast delta is served: run by hand, in release, with
//! `cargo test --release -p calendar-simulator --test speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Instant;

use calendar_simulator::Quirks;
use reqwest::Method;
use support::{ALEX, Bench, IMMUTABLE, at};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn rows_per_second() {
    let bench = Bench::with(Quirks::default()).await;
    bench
        .server
        .create_events_in_bulk(ALEX, None, 20_000, at("2026-01-01T00:00:00Z"), 20)
        .unwrap();
    for size in [50, 200, 1000] {
        for pass in ["first", "second"] {
            let began = Instant::now();
            let (mut pages, mut bytes, mut rows) = (0, 0, 0);
            let mut link = "/me/calendarView/delta?startDateTime=2026-01-01T00:00:00Z&endDateTime=2027-01-01T00:00:00Z".to_owned();
            loop {
                let body = bench
                    .request(Method::GET, &link)
                    .header("Prefer", format!("{IMMUTABLE}, odata.maxpagesize={size}"))
                    .send()
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap();
                pages += 1;
                bytes += body.len();
                // Parsing would measure the client: the links are found as text.
                let text = std::str::from_utf8(&body).unwrap();
                rows += text.matches("\"@odata.etag\"").count();
                match text.split_once("\"@odata.nextLink\":\"") {
                    Some((_, rest)) => rest.split_once('"').unwrap().0.clone_into(&mut link),
                    None => break,
                }
            }
            let seconds = began.elapsed().as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
            let (rows_a_second, megabytes) = (rows as f64 / seconds, bytes as f64 / 1e6);
            println!(
                "pages of {size}, {pass} pass: {rows} rows in {pages} pages, {megabytes:.1} MB, {seconds:.2} s, {rows_a_second:.0} rows/s"
            );
        }
    }
}
