//! What is read of the answers that CloudStack reads, and what of them is secret.

use super::tests::{custom, exited, lifecycle, state};
use super::*;
use crate::api::target::Nic;
use crate::protocol::Unmasked;

#[test]
fn a_secret_answer_is_whole_in_its_secret_and_masked_everywhere_else() {
    let masked =
        r#"{"console": {"host": "********", "port": "********", "password": "********", "protocol": "********"}}"#;
    let whole = r#"{"console": {"host": "bmc.example.com", "port": 5900, "password": "s3cret", "protocol": "s3cret"}}"#;
    let printed = |text: &str| Outcome { unmasked: Some(Unmasked(text.to_owned())), ..exited(0, masked, "") };
    let verdict = outcome(&lifecycle(LifecycleAction::GetConsole), &printed(whole));
    let secret = json!({"host": "bmc.example.com", "port": 5900, "password": "s3cret", "protocol": "s3cret"});
    assert_eq!((verdict.phase, &verdict.secret), (Phase::Succeeded, &Some(secret)));
    assert_eq!((verdict.console.unwrap().protocol.as_str(), &verdict.result), ("********", &None));

    let masked = r#"{"details": {"pool": "********", "vmid": "1"}, "vncPassword": "********"}"#;
    let whole = r#"{"details": {"pool": "s3cret", "vmid": "1"}, "vncPassword": "s3cret"}"#;
    let ended = Outcome { unmasked: Some(Unmasked(whole.to_owned())), ..exited(0, masked, "") };
    let verdict = outcome(&lifecycle(LifecycleAction::Prepare), &ended);
    assert_eq!(verdict.secret, Some(serde_json::from_str(whole).unwrap()));
    assert_eq!(verdict.result, Some(json!({"details": {"pool": "********", "vmid": "1"}})));
    let (prepared, message) = (verdict.prepared.unwrap(), verdict.message);
    assert_eq!(prepared.details, [("vmid".to_owned(), "1".to_owned())].into(), "a later action could not use a mask");
    assert_eq!(
        message,
        "Successfully completed Backup (not remembered, because they hold the value of a Secret: details.pool)"
    );
}

#[test]
fn a_secret_answer_of_which_only_the_masked_copy_arrived_fails_visibly() {
    let console = r#"{"console": {"host": "bmc.example.com", "port": 5900, "password": "********"}}"#;
    let prepared = r#"{"details": {"vmid": "1"}, "vncPassword": "********"}"#;
    for (action, printed) in [(LifecycleAction::GetConsole, console), (LifecycleAction::Prepare, prepared)] {
        let verdict = outcome(&lifecycle(action), &exited(0, printed, ""));
        let message = "Failed to complete Backup: the script ended with exit code 0, but the secret part of its answer is \
                       lost: what has arrived holds ******** in its place, because the pod could not report, or the answer is \
                       too large for a report; run it again";
        assert_eq!(state(&verdict), (Phase::Failed, Reason::ResultLost, message));
        assert_eq!((verdict.secret, verdict.console, verdict.prepared), (None, None, None));
        assert_eq!(verdict.stdout_tail, None);
    }
    let told = Outcome { masked: Some(true), ..exited(0, console, "") };
    assert_eq!(outcome(&lifecycle(LifecycleAction::GetConsole), &told).reason, Reason::ResultLost);
    let without = r#"{"details": {"pool": "********"}}"#;
    assert_eq!(outcome(&lifecycle(LifecycleAction::Prepare), &exited(0, without, "")).phase, Phase::Succeeded);
}

#[test]
fn asterisks_that_the_script_itself_printed_hide_nothing() {
    let console = r#"{"console": {"host": "bmc.example.com", "port": 5900, "password": "********"}}"#;
    let prepared = r#"{"vncPassword": "********"}"#;
    for (action, printed) in [(LifecycleAction::GetConsole, console), (LifecycleAction::Prepare, prepared)] {
        let verdict = outcome(&lifecycle(action), &Outcome { masked: Some(false), ..exited(0, printed, "") });
        assert_eq!((verdict.phase, verdict.reason), (Phase::Succeeded, Reason::Succeeded));
        assert!(verdict.secret.unwrap().to_string().contains(MASK));
    }
}

#[test]
fn a_status_is_read_and_never_fails_by_its_output() {
    let power = |code: i32, stdout: &str| outcome(&lifecycle(LifecycleAction::Status), &exited(code, stdout, "")).power;
    for (stdout, state) in [
        ("PowerOn\n", PowerState::On),
        ("poweroff", PowerState::Off),
        (r#"{"status": "success", "power_state": "PowerOn"}"#, PowerState::On),
        ("debug\n{\"power_state\": \"POWEROFF\"}", PowerState::Off),
        (r#"{"status": "error"}"#, PowerState::Unknown),
        ("unknown", PowerState::Unknown),
        ("", PowerState::Unknown),
    ] {
        assert_eq!(power(0, stdout), Some(state), "{stdout}");
    }
    assert_eq!(power(1, "PowerOn"), Some(PowerState::Unknown));
}

#[test]
fn what_cloudstack_takes_for_json_is_taken_where_cloudstack_reads_it() {
    let printed = "{'status': 'success', 'power_state': 'PowerOn'}\n";
    let verdict = outcome(&lifecycle(LifecycleAction::Status), &exited(0, printed, ""));
    assert_eq!(
        (verdict.power, verdict.result),
        (Some(PowerState::On), Some(json!({"status": "success", "power_state": "PowerOn"})))
    );
    let prepared = outcome(&lifecycle(LifecycleAction::Prepare), &exited(0, "{'details': {'vmid': 103}}", ""));
    assert_eq!(prepared.prepared.unwrap().details, [("vmid".to_owned(), "103".to_owned())].into());
    let console = "{'console': {'host': 'h', 'port': '5900', 'password': 's3cret'}}";
    let masked =
        Outcome { unmasked: Some(Unmasked(console.into())), ..exited(0, &console.replace("s3cret", MASK), "") };
    let verdict = outcome(&lifecycle(LifecycleAction::GetConsole), &masked);
    assert_eq!(verdict.secret, Some(json!({"host": "h", "port": 5900, "password": "s3cret"})));
    assert_eq!(custom(0, printed, "").result, None, "a browser shows this one, and takes JSON alone");
}

#[test]
fn statuses_need_success_and_a_map() {
    let read = |stdout: &str| outcome(&lifecycle(LifecycleAction::Statuses), &exited(0, stdout, ""));
    let good = read(r#"{"status": "Success", "power_state": {"vm1": "poweron", "vm2": "odd", "vm3": 1}}"#);
    assert_eq!(
        good.result,
        Some(
            json!({"status": "success", "power_state": {"vm1": "PowerOn", "vm2": "PowerUnknown", "vm3": "PowerUnknown"}})
        )
    );
    assert_eq!(read(r#"{"status": "success", "power_state": {}}"#).phase, Phase::Succeeded);
    let bad = read(r#"{"status": "error"}"#);
    let message = "Failed to complete Backup: the output lacks \"status\": \"success\": ask for each instance by \"status\", as \
                   CloudStack then does";
    assert_eq!(state(&bad), (Phase::Failed, Reason::ResultInvalid, message));
    // What the script that CloudStack gives a new extension answers.
    let unsupported = read(r#"{"status": "error", "message": "Not here"}"#);
    assert_eq!(unsupported.message, message.replace(": ask", ", and says \"Not here\": ask"));
    assert_eq!(read("x").message, "Failed to complete Backup: the output is not JSON");
    let list = read(r#"{"status": "success", "power_state": []}"#);
    assert_eq!(
        list.message,
        "Failed to complete Backup: the output lacks the object \"power_state\" of instance names and states"
    );
}

#[test]
fn a_console_shows_its_protocol_only() {
    let read = |stdout: &str| outcome(&lifecycle(LifecycleAction::GetConsole), &exited(0, stdout, "note"));
    let verdict =
        read(r#"{"status": "x", "console": {"host": "h", "port": "5900", "password": "s3cret", "protocol": "vnc"}}"#);
    let console = verdict.console.clone().unwrap();
    assert_eq!(console.protocol, "vnc");
    assert_eq!(console.secret, json!({"host": "h", "port": 5900, "password": "s3cret", "protocol": "vnc"}));
    assert_eq!((verdict.result.as_ref(), verdict.stdout_tail.as_ref()), (None, None));
    assert_eq!(verdict.secret, Some(console.secret));
    assert!(read(r#"{"console": {"url": "https://u", "protocol": "direct"}}"#).console.is_some());
    for (stdout, message) in [
        ("x", "Failed to complete Backup: Failed to parse output"),
        ("{}", "Failed to complete Backup: Missing console object in output"),
        (
            r#"{"console": {"host": "h", "port": 70000, "password": "s3cret"}}"#,
            "Failed to complete Backup: Missing required fields in output: console needs \"url\", or \"host\" and \"port\"",
        ),
    ] {
        let verdict = read(stdout);
        assert_eq!(state(&verdict), (Phase::Failed, Reason::ResultInvalid, message));
        assert!(!format!("{verdict:?}").contains("s3cret"));
    }
    let failed = |printed: &str| outcome(&lifecycle(LifecycleAction::GetConsole), &exited(1, printed, ""));
    for printed in [r#"{"message": "s3cret"}"#, r#"{"console": {"password": "s3cret"}, "error": "s3cret"}"#] {
        assert!(!format!("{:?}", failed(printed)).contains("s3cret"));
    }
}

#[test]
fn a_script_that_has_no_console_to_give_can_say_so() {
    let printed = r#"{"status": "error", "error": "this system has no consoles"}"#;
    let verdict = outcome(&lifecycle(LifecycleAction::GetConsole), &exited(1, printed, ""));
    let message = "Failed to complete Backup: this system has no consoles (exit code 1)";
    assert_eq!(state(&verdict), (Phase::Failed, Reason::ActionFailed, message));
    assert_eq!((verdict.result, verdict.stdout_tail), (None, None));
}

#[test]
fn what_prepare_answers_is_kept_without_its_password() {
    let read = |stdout: &str| outcome(&lifecycle(LifecycleAction::Prepare), &exited(0, stdout, ""));
    let stdout =
        r#"{"details": {"proxmox_vmid": "103", "n": 5}, "nics": [{"uuid": "u", "mac": "m"}], "vncPassword": "s3cret"}"#;
    let verdict = read(stdout);
    let prepared = verdict.prepared.clone().unwrap();
    assert_eq!(
        prepared.details,
        [("n".to_owned(), "5".to_owned()), ("proxmox_vmid".to_owned(), "103".to_owned())].into()
    );
    assert_eq!(prepared.nics, [Nic { uuid: "u".into(), mac: Some("m".into()), ..Nic::default() }]);
    assert!(prepared.has_password);
    assert_eq!(
        verdict.result,
        Some(json!({"details": {"proxmox_vmid": "103", "n": 5}, "nics": [{"uuid": "u", "mac": "m"}]}))
    );
    assert_eq!((verdict.secret.unwrap()["vncPassword"].as_str(), verdict.stdout_tail), (Some("s3cret"), None));
    assert_eq!(read("\n").prepared, Some(Prepared::default()));
    let bad = read("oops");
    let message = "Failed to complete Backup: Failed to parse VM: the output is neither empty nor a JSON object";
    assert_eq!(state(&bad), (Phase::Failed, Reason::ResultInvalid, message));
    let plain = read(r#"{"details": {"n": "5"}}"#);
    assert_eq!((plain.stdout_tail, plain.result.is_some()), (None, true), "its text is shown nowhere");
}

#[test]
fn nics_that_cannot_be_remembered_are_told() {
    let read = |printed: &str| outcome(&lifecycle(LifecycleAction::Prepare), &exited(0, printed, ""));
    let verdict = read(r#"{"nics": [{"mac": "m"}, {"uuid": "", "ip": "i"}, {"uuid": "u", "mac": "m"}, {"x": 1}, {}]}"#);
    let message = "Successfully completed Backup (not remembered, because they have no uuid: 2 of nics)";
    assert_eq!(state(&verdict), (Phase::Succeeded, Reason::Succeeded, message));
    assert_eq!(verdict.prepared.unwrap().nics, [Nic { uuid: "u".into(), mac: Some("m".into()), ..Nic::default() }]);
    let both = read(r#"{"details": {"pool": "********"}, "nics": [{"mac": "m"}, {"uuid": "u", "mac": "********"}]}"#);
    let note = "(not remembered, because they hold the value of a Secret: details.pool, nics; not remembered, because they have \
                no uuid: 1 of nics)";
    assert!(both.message.ends_with(note), "{}", both.message);
}

#[test]
fn whatever_prepare_prints_nothing_is_shown_that_could_be_a_password_and_nothing_is_lost() {
    let read = |code: i32, stdout: &str| outcome(&lifecycle(LifecycleAction::Prepare), &exited(code, stdout, ""));
    for code in [0, 1] {
        for stdout in [
            r#"{"vncPassword": "s3cret"}"#,
            r#"{"vncP\u0061ssword": "s3cret"}"#,
            r#"{"vm": {"vncPassword": "s3cret"}}"#,
            r#"{"password": "s3cret"}"#,
            r#"{"details": "s3cret", "nics": {"a": "s3cret"}, "message": {"a": "s3cret"}}"#,
        ] {
            let verdict = read(code, stdout);
            assert_eq!(verdict.result, Some(json!({})), "{stdout} {code}");
            assert_eq!(verdict.secret, Some(serde_json::from_str(stdout).unwrap()), "{stdout} {code}");
            assert!(!format!("{:?}", Verdict { secret: None, ..verdict }).contains("s3cret"), "{stdout} {code}");
        }
        for stdout in [r#"[{"vncPassword": "s3cret"}]"#, r#""s3cret""#, "s3cret", r#"{"vncP\u0061ssword": "s3cret", "#]
        {
            let verdict = read(code, stdout);
            assert_eq!((&verdict.result, &verdict.secret), (&None, &None), "{stdout} {code}");
            assert!(!format!("{verdict:?}").contains("s3cret"), "{stdout} {code}");
        }
        let shown = json!({"details": {"n": "5"}, "nics": [], "status": "error", "success": false, "error": "full",
            "message": null});
        let verdict = read(code, &shown.to_string());
        assert_eq!((verdict.result, verdict.secret), (Some(shown), None), "what people need is shown");
    }
}
