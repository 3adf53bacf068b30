//! What a runner costs besides its script. Measured on demand, with a release build:
//! `OUTRIGGER_TEST_RUNNER=<path> cargo test --test runner overhead -- --ignored --nocapture`.

use std::process::Command;
use std::time::{Duration, Instant};

use super::bench::{Bench, RUNNER, grant};
use super::leader::Leader;

fn median(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..60)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "a measurement: it needs a release build and an idle machine"]
fn claim_start_and_report_take_less_than_10_ms() {
    let runner = std::env::var("OUTRIGGER_TEST_RUNNER").unwrap_or_else(|_| RUNNER.to_owned());
    let bench = Bench::new(std::fs::read("/bin/true").unwrap());
    let leader = Leader::start(grant());
    let alone = median(|| assert!(Command::new(bench.script()).status().unwrap().success()));
    let whole = median(|| assert!(bench.command(&runner, &leader).status().unwrap().success()));
    println!("script alone: {alone:?}, with runner, claim and report: {whole:?} (medians of 60)");
    assert!(whole - alone < Duration::from_millis(10));
}
