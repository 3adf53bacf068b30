//! What a runner costs besides its script. Measured on demand, with a release build:
//! `OUTRIGGER_TEST_RUNNER=<path> cargo test --test runner overhead -- --ignored --nocapture`.
//! With `OUTRIGGER_OVERHEAD_JSON=<path>` the medians are written there, too, in milliseconds.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::bench::{Bench, RUNNER, grant};
use super::leader::Leader;

/// How often each is measured.
const ROUNDS: usize = 100;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed(command: &mut Command) -> Duration {
    let started = Instant::now();
    assert!(command.status().unwrap().success());
    started.elapsed()
}

/// Script and runner take turns, so that both meet the same machine. The leader is a thread of this test: what it takes to
/// answer (a debug build has slow cryptography) is the runner's wait, and is taken off and told beside.
#[test]
#[ignore = "a measurement: it needs a release build and an idle machine"]
fn claim_start_and_report_take_less_than_5_ms_of_the_runners_own() {
    let bench = Bench::new(std::fs::read("/bin/true").unwrap());
    let leader = Leader::start(grant());
    let (mut alone, mut whole, mut waits, mut own) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let script = timed(&mut Command::new(bench.script()));
        let before = leader.busy();
        let run = timed(&mut bench.command(&RUNNER, &leader));
        let wait = leader.busy() - before;
        alone.push(script);
        whole.push(run);
        waits.push(wait);
        own.push(run.saturating_sub(wait).saturating_sub(script));
    }
    let (alone, whole, waits, own) = (median(alone), median(whole), median(waits), median(own));
    println!(
        "script alone {alone:?}, with its runner {whole:?}, of which it waited {waits:?} for answers: {own:?} are the \
         runner's own (medians of {ROUNDS})"
    );
    if let Some(path) = std::env::var_os("OUTRIGGER_OVERHEAD_JSON") {
        let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let json = json!({
            "runner_overhead_ms": millis(own),
            "script_alone_ms": millis(alone),
            "with_runner_ms": millis(whole),
            "waits_for_answers_ms": millis(waits),
        });
        std::fs::write(path, json.to_string()).unwrap();
    }
    assert!(own < Duration::from_millis(5), "{own:?}");
}
