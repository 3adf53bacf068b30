//! End-to-end tests on a real cluster: the chart is installed once, the tests run against it, then it is removed.
//!
//! Needs a cluster (`make cluster-up`) with the image loaded; `make e2e` sees to both.
//! Tests of one group run side by side; those that kill or restart the operator run one after the other.

#![allow(clippy::unwrap_used, reason = "all of this is tests, which clippy cannot see without #[test]")]

mod harness;
mod installation;

mod answers;
mod authors;
mod beside;
mod disruption;
mod extensions;
mod faults;
mod faulty;
mod network;
mod outputs;
mod outside;
mod queue;
mod redfish;
mod refused;
mod registry;
mod removal;
mod repositories;
mod retries;
mod rights;
mod runs;
mod soak;
mod storm;
mod trouble;
mod unadmitted;
mod upkeep;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use harness::World;

/// A named test.
pub type Test = (&'static str, fn(&World));

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runs = [runs::TESTS, retries::TESTS, outputs::TESTS, answers::TESTS, authors::TESTS, removal::TESTS].concat();
    let disruption = [disruption::TESTS, unadmitted::TESTS].concat();
    let groups: [(&str, &[Test], usize); 12] = [
        ("extensions", extensions::TESTS, 4),
        ("runs", &runs, 4),
        ("queue", queue::TESTS, 4),
        ("rights", rights::TESTS, 4),
        ("network", network::TESTS, 2),
        ("redfish", redfish::TESTS, 1),
        ("disruption", &disruption, 1),
        ("trouble", trouble::TESTS, 1),
        ("storm", storm::TESTS, 1),
        ("outside", outside::TESTS, 1),
        ("faults", faults::TESTS, 1),
        ("soak", soak::TESTS, 1),
    ];
    let count: usize = groups.iter().map(|(_, tests, _)| tests.len()).sum();
    if arguments.list || count == 0 {
        let trials =
            groups.iter().flat_map(|(_, tests, _)| tests.iter()).map(|(name, _)| Trial::test(*name, || Ok(())));
        return libtest_mimic::run(&arguments, trials.collect()).exit_code();
    }
    let world = match World::start() {
        Ok(world) => Arc::new(world),
        Err(problem) => {
            eprintln!("setting up the end-to-end tests: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = false;
    for (group, tests, threads) in groups {
        println!("\n{group}:");
        let trials = tests.iter().map(|&(name, test)| {
            let world = world.clone();
            Trial::test(name, move || {
                test(&world);
                Ok(())
            })
        });
        let arguments =
            Arguments { test_threads: Some(arguments.test_threads.unwrap_or(threads)), ..arguments.clone() };
        failed |= libtest_mimic::run(&arguments, trials.collect()).has_failed();
    }
    world.finish(failed);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
