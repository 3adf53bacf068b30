//! Secrets that a script prints.

use outrigger::protocol::{ClaimGrant, Unmasked};

use super::bench::{Bench, grant, outcome_with};
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

#[test]
fn every_writers_json_and_base64_in_lines_are_masked() {
    let token = "k9=&+'<>\"".to_owned() + &"0123456789abcdef".repeat(5)[9..];
    assert_eq!(token.len(), 80);
    let script = r#"
        rest=$(printf %s "$TOKEN" | cut -c10-)
        printf '{"go":"k9=\\u0026+'"'"'\\u003c\\u003e\\"%s",' "$rest"
        printf '"dotnet":"k9=\\u0026\\u002B\\u0027\\u003C\\u003E\\u0022%s",' "$rest"
        printf '"powershell":"k9=\\u0026+\\u0027\\u003c\\u003e\\"%s"}\n' "$rest"
        printf %s "$TOKEN" | base64
        printf %s "user:$TOKEN:" | base64 --wrap 64 >&2"#;
    let env = [("TOKEN".to_owned(), token.clone())].into();
    let (done, outcome) = outcome_with(&Bench::sh(script), ClaimGrant { redact: vec![token], env, ..grant() });
    let expected = "{\"go\":\"********\",\"dotnet\":\"********\",\"powershell\":\"********\"}\n********\n";
    assert_eq!((outcome.stdout.text.as_str(), done.stdout.as_slice()), (expected, expected.as_bytes()));
    let rest: Vec<&str> = outcome.stderr.text.split("********").collect();
    assert!(rest.len() == 2 && rest.concat().len() < 16, "{}", outcome.stderr.text);
}

#[test]
fn an_answer_with_a_secret_number_stays_json() {
    let script = "printf '{\"pin\": 5900,\\n \"on\": true, \"text\": \"pin: 5900, on\"}'";
    let redact = vec!["5900".to_owned(), "true".to_owned()];
    let (_, outcome) = outcome_with(&Bench::sh(script), ClaimGrant { redact, ..grant() });
    let expected = "{\"pin\": \"********\",\n \"on\": true, \"text\": \"pin: ********, on\"}";
    assert_eq!((outcome.stdout.text.as_str(), outcome.unmasked), (expected, None));
}

#[test]
fn of_an_answer_that_goes_to_a_secret_only_the_report_has_it_as_it_was_printed() {
    let bench = Bench::sh("echo '{\"console\": {\"host\": \"hunter2 & co\", \"port\": 5900}}'");
    let leader = Leader::start(ClaimGrant { withhold_stdout: true, output_bytes: 1000, ..grant() });
    let done = bench.run(&leader);
    let outcome = leader.reports().remove(0).outcome;
    let printed = "{\"console\": {\"host\": \"hunter2 & co\", \"port\": 5900}}\n";
    assert_eq!(outcome.unmasked, Some(Unmasked(printed.to_owned())));
    assert_eq!((outcome.stdout.text, outcome.masked), (printed.replace("hunter2 & co", "********"), Some(true)));
    let rest = format!("{:?} {:?} {} {:?}", leader.outputs(), leader.progress(), done.stderr, done.message);
    assert!(!rest.contains("hunter2") && !bench.read("termination").contains("hunter2"), "{rest}");
    assert!(!String::from_utf8(done.stdout).unwrap().contains("hunter2"));
}

#[test]
fn asterisks_that_a_script_prints_are_not_told_as_masked() {
    let bench = Bench::sh("echo '{\"console\": {\"host\": \"bmc\", \"port\": 5900, \"password\": \"********\"}}'");
    let (_, outcome) = outcome_with(&bench, ClaimGrant { withhold_stdout: true, ..grant() });
    assert_eq!((outcome.unmasked, outcome.masked), (None, Some(false)));
    assert!(outcome.stdout.text.contains("********"));
}

#[test]
fn an_answer_that_does_not_fit_twice_is_reported_as_it_may_be_shown() {
    let bench = Bench::sh("head -c 900000 /dev/zero | tr '\\0' '\\001'; printf 'hunter2 & co'");
    let leader = Leader::start(ClaimGrant { withhold_stdout: true, ..grant() });
    bench.run(&leader);
    let report = leader.reports().remove(0);
    assert!(report.outcome.stdout.text.ends_with("\u{1}********"));
    assert_eq!((report.outcome.stdout.text.len(), report.outcome.unmasked), (900_008, None));
}

#[test]
fn a_mebibyte_of_beginnings_of_secrets_are_redacted() {
    let redact: Vec<String> = (1..5).map(|n| format!("0123456789abcde{n}")).collect();
    let script = "yes '0123456789abcde\\' | head -c 1048576; echo 0123456789abcde3";
    let (done, outcome) = outcome_with(&Bench::sh(script), ClaimGrant { redact, ..grant() });
    assert_eq!(done.stdout.len(), 1_048_576 + "********\n".len());
    assert!(outcome.stdout.text.ends_with("********\n"));
}
