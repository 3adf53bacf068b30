//! End-to-end tests on a real cluster: the chart is installed once, the tests run against it, then it is removed.
//!
//! Needs a cluster (`make cluster-up`) with the image loaded; `make e2e` sees to both.
//! Tests that leave the operator alone run side by side; those that kill or restart it, or have another one, run one after
//! the other.

#![allow(clippy::unwrap_used, reason = "all of this is tests, which clippy cannot see without #[test]")]

mod harness;
mod installation;
mod nodes;
mod objects;

mod admitted;
mod answers;
mod authors;
mod beside;
mod disruption;
mod extensions;
mod faults;
mod faulty;
mod lost;
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
mod rollout;
mod runs;
mod soak;
mod storm;
mod trouble;
mod unadmitted;
mod upkeep;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};

use harness::World;

/// A named test.
pub type Test = (&'static str, fn(&World));

/// After these groups, what they made is deleted: the next ones have the operator, or the volume, for themselves.
const SWEPT: [&str; 2] = ["quiet", "storm"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // those that wait most of the time come first, so that they do it beside others
    let waiting = [network::TESTS, outputs::TESTS, retries::TESTS, queue::TESTS, trouble::BESIDE_OTHERS].concat();
    let runs = [runs::TESTS, admitted::TESTS, answers::TESTS, authors::TESTS, removal::TESTS, redfish::TESTS].concat();
    let quiet = [waiting, runs, rights::TESTS.to_vec(), extensions::TESTS.to_vec()].concat();
    let disruption = [disruption::TESTS, rollout::TESTS, unadmitted::TESTS, lost::TESTS].concat();
    let groups: [(&str, &[Test], usize); 7] = [
        ("quiet", &quiet, 8),
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
    let mut times = vec![];
    for (group, tests, threads) in groups {
        println!("\n{group}:");
        let began = Instant::now();
        let took = Arc::new(Mutex::new(vec![]));
        let trials = tests.iter().map(|&(name, test)| {
            let (world, took) = (world.clone(), took.clone());
            Trial::test(name, move || {
                let began = Instant::now();
                test(&world);
                took.lock().unwrap_or_else(PoisonError::into_inner).push((began.elapsed().as_secs(), name));
                Ok(())
            })
        });
        let arguments =
            Arguments { test_threads: Some(arguments.test_threads.unwrap_or(threads)), ..arguments.clone() };
        failed |= libtest_mimic::run(&arguments, trials.collect()).has_failed();
        // while the operator is there that does it fast; what a failure left is to be looked at
        if !failed && SWEPT.contains(&group) && !took.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            world.sweep();
        }
        let mut took = std::mem::take(&mut *took.lock().unwrap_or_else(PoisonError::into_inner));
        took.sort_unstable_by_key(|(seconds, _)| std::cmp::Reverse(*seconds));
        let slowest: Vec<_> = took.iter().take(3).map(|(seconds, name)| format!("{name} {seconds} s")).collect();
        times.push(format!("{group:>12} {:4} s   {}", began.elapsed().as_secs(), slowest.join(", ")));
    }
    println!("\nwhere the time went, and the slowest tests\n{}", times.join("\n"));
    world.finish(failed);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
