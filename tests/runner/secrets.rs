//! Secrets that a script prints.

use super::bench::{Bench, grant};
use super::leader::Leader;

#[test]
fn a_secret_split_over_two_writes_appears_nowhere() {
    let script = "printf 'it is hunt'; sleep 1.5; printf 'er2 & co.\\n'; echo 'stderr: hunter2 & co' >&2; sleep 1.5
                  printf %s '{\"p\":\"hunter2 \\u0026 co\"} hunter2%20%26%20co '; printf 'hunter2 & co' | base64";
    let bench = Bench::sh(script);
    let leader = Leader::start(grant());
    let done = bench.run(&leader);
    let outcome = leader.reports().remove(0).outcome;
    assert_eq!(outcome.stdout.text, "it is ********.\n{\"p\":\"********\"} ******** ********\n");
    assert_eq!(outcome.stderr.text, "stderr: ********\n");
    let told = format!("{:?}", leader.progress());
    assert!(told.contains("it is ") && told.contains("********"), "{told}");
    for text in
        [format!("{outcome:?}"), told, String::from_utf8(done.stdout).unwrap(), done.stderr, bench.read("termination")]
    {
        assert!(!text.contains("hunt") && !text.contains("aHVudGVy"), "{text}");
    }
}
