//! `cargo xtask simulate`: runs seeds one after the other, and says what they held.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool speaks by printing"
)]

use std::process::ExitCode;
use std::time::Instant;

use calendar_simulation::{Bench, BenchError, Plant, Stats, run};
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask simulate", about = "Run the seeded simulation.")]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// A bug to plant: fencing, early-sweep, cursor-first, prefer-dropped, seen-in-memory, push-forgotten.
    #[arg(long, value_parser = planted)]
    plant: Option<Plant>,
    /// Plant each bug, and show how many runs it took to find it.
    #[arg(long, conflicts_with_all = ["plant", "runs"])]
    plants: bool,
    /// Print every step.
    #[arg(long)]
    trace: bool,
}

fn planted(name: &str) -> Result<Plant, String> {
    Plant::named(name).ok_or_else(|| "no such bug".to_owned())
}

/// A planted bug has to be found within so many runs.
const FOUND_WITHIN: u64 = 100;
/// How many steps of a run that fails are shown.
const TAIL: usize = 60;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match simulate(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                eprintln!("  because: {error}");
                source = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn simulate(arguments: &Arguments) -> Result<bool, BenchError> {
    let bench = Bench::start().await?;
    if arguments.plants {
        return plants(&bench, arguments.seed).await;
    }
    let began = Instant::now();
    let mut stats = Stats::default();
    let mut failed = Vec::new();
    for seed in arguments.seed..arguments.seed + arguments.runs {
        let outcome = run(&bench, seed, arguments.plant).await?;
        stats += &outcome.stats;
        if arguments.trace {
            println!("{}", outcome.trace.join("\n"));
        }
        if let Some(failure) = outcome.failure {
            let begin = outcome.trace.len().saturating_sub(TAIL);
            if !arguments.trace {
                println!("{}", outcome.trace[begin..].join("\n"));
            }
            println!(
                "\nseed {seed} FAILED: {failure}\nreplay: cargo xtask simulate --seed {seed} --trace\n"
            );
            failed.push(seed);
        }
        if (seed - arguments.seed) % 50 == 49 {
            println!(
                "{} runs, {:.0} s",
                seed - arguments.seed + 1,
                began.elapsed().as_secs_f64()
            );
        }
    }
    println!();
    for (what, times) in stats.iter() {
        println!("{times:>9}  {what}");
    }
    println!("{:>9.1}  seconds", began.elapsed().as_secs_f64());
    if failed.is_empty() {
        println!("none diverged");
    } else {
        println!("{} diverged: {failed:?}", failed.len());
    }
    Ok(failed.is_empty())
}

/// Plants one bug after the other. Whether each was found.
async fn plants(bench: &Bench, first: u64) -> Result<bool, BenchError> {
    let mut all_found = true;
    println!("{:<16} {:>5}  what was found", "bug", "runs");
    for plant in Plant::ALL {
        let mut found = None;
        for seed in first..first + FOUND_WITHIN {
            if let Some(failure) = run(bench, seed, Some(plant)).await?.failure {
                found = Some((seed - first + 1, failure));
                break;
            }
        }
        match found {
            Some((runs, failure)) => {
                let line = failure.lines().next().unwrap_or_default();
                println!("{:<16} {runs:>5}  {line}", plant.name());
            }
            None => {
                all_found = false;
                println!("{:<16} {:>5}  NOT FOUND", plant.name(), FOUND_WITHIN);
            }
        }
    }
    Ok(all_found)
}
