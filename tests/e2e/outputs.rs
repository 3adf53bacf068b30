//! What runs print is kept for administrators, without secrets, for as long as the run is there.

use crate::Test;
use crate::harness::{Printed, World, until};
use crate::runs::{finished, probe};

/// The tests.
pub const TESTS: &[Test] =
    &[("what_a_run_printed_is_kept_and_goes_with_the_run", what_a_run_printed_is_kept_and_goes_with_the_run)];

/// What is kept of a run, read in the operator's pod.
pub fn output(world: &World, run: &str, more: &[&str]) -> Printed {
    world.exec(&[&["outrigger", "store", "output", run, "--store", "/var/lib/outrigger"], more].concat())
}

/// Asks until the answer is what is wanted.
pub fn eventually(ask: impl Fn() -> Printed, is_wanted: impl Fn(&Printed) -> bool) {
    until("answer that is wanted", || {
        let answer = ask();
        if is_wanted(&answer) { Ok(()) } else { Err(answer.text) }
    });
}

fn what_a_run_printed_is_kept_and_goes_with_the_run(world: &World) {
    probe(world, "outputs");
    let ended = finished(world, "outputs", "one", "action: Echo, parameters: {text: kept, secret: hunter2}");
    let said = &ended["status"]["output"];
    assert_eq!((&said["attempt"], &said["truncated"]), (&1.into(), &false.into()), "{ended}");
    assert!(said["stdoutBytes"].as_i64().unwrap() > 0 && said["stderrBytes"].as_i64().unwrap() > 0, "{said}");

    // the runner hands it over after the outcome stands in status
    eventually(|| output(world, "outputs/one", &["--stream", "stdout"]), |printed| printed.success);
    let stdout = output(world, "outputs/one", &["--stream", "stdout"]).text;
    assert!(stdout.contains("\"text\":\"kept\""), "{stdout}");
    let stderr = output(world, "outputs/one", &["--stream", "stderr", "--attempt", "1"]).text;
    assert_eq!(stderr, "working on it\nthe secret is ********\n");

    world.kubectl(&["-n", "outputs", "delete", "arun", "one"]);
    let gone = |printed: &Printed| printed.text.contains("no output of run outputs/one is kept on /var/lib/outrigger");
    eventually(|| output(world, "outputs/one", &[]), gone);
}
