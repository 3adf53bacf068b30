//! Tests of admission's judgement against an API in memory.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::fixture;
use super::*;
use crate::fake_api::FakeApi;

const EXTENSION: &str = "/apis/outrigger.dev/v1alpha1/orchestratorextensions/redfish";
const USES: [&str; 2] = ["use orchestratorextensions redfish", "use extensiontargets node7"];

fn api() -> FakeApi {
    let api = FakeApi::default();
    let mut extension = fixture::extension();
    for spec in ["/spec", "/status/resolved"] {
        extension.pointer_mut(spec).unwrap()["customActions"] = json!([
            {"name": "PowerOff", "enabled": true, "allowedroletypes": ["DomainAdmin"]},
            {"name": "Inventory", "enabled": true, "allowedroletypes": ["User"]},
        ]);
    }
    api.put(EXTENSION, extension);
    api.put(fixture::TARGET, fixture::target());
    api.put("/api/v1/namespaces/team-a", json!({"metadata": {"name": "team-a"}}));
    api
}

async fn checked(api: &FakeApi, action: &str) -> RunCheck {
    let mut run: Value = fixture::run();
    run["spec"]["action"] = json!(action);
    let run = serde_json::from_value(fixture::stamped(run)).unwrap();
    checker(api.client(), Policy::default())(run).await
}

#[tokio::test]
async fn a_user_runs_what_users_may_and_is_told_what_the_rest_needs() {
    let api = api();
    api.allow(&[USES[0], USES[1], "use roletypes User"]);
    for action in ["Inventory", "start"] {
        assert_eq!(checked(&api, action).await.refusals, [""; 0], "{action}");
    }
    let refusals = checked(&api, "PowerOff").await.refusals.join("\n");
    assert!(refusals.contains("needs the role type Admin or DomainAdmin"), "{refusals}");
    api.allow(&[USES[0], USES[1], "use roletypes DomainAdmin"]);
    assert_eq!(checked(&api, "PowerOff").await.refusals, [""; 0]);
    let refusals = checked(&api, "Inventory").await.refusals.join("\n");
    assert!(refusals.contains("needs the role type Admin or User"), "{refusals}");
}

#[tokio::test]
async fn whoever_may_not_use_the_extension_learns_nothing_of_it() {
    let api = api();
    api.allow(&["use extensiontargets node7", "use roletypes Admin"]);
    let refusals = checked(&api, "NoSuchAction").await.refusals.join("\n");
    assert!(refusals.starts_with("user \"alice\" may not use OrchestratorExtension \"redfish\""), "{refusals}");
    assert!(!refusals.contains("Inventory"), "{refusals}");
    api.allow(&["use orchestratorextensions redfish", "use roletypes Admin"]);
    let refusals = checked(&api, "start").await.refusals.join("\n");
    assert!(refusals.starts_with("user \"alice\" may not use ExtensionTarget \"node7\""), "{refusals}");
}

#[tokio::test]
async fn rights_are_asked_for_extensions_that_do_not_exist_yet() {
    let api = api();
    api.remove(EXTENSION);
    assert!(checked(&api, "start").await.refusals.join("\n").contains("may not use OrchestratorExtension"));
    api.allow(&USES);
    let check = checked(&api, "start").await;
    assert_eq!(check.refusals, [""; 0]);
    assert_eq!(check.warnings, ["the run will wait: extension \"redfish\" does not exist"]);
}

#[tokio::test]
async fn a_right_that_cannot_be_asked_for_is_refused() {
    let api = api();
    api.allow(&USES);
    api.before(|_, _, path| path.ends_with("subjectaccessreviews").then_some(StatusCode::INTERNAL_SERVER_ERROR));
    let refusals = checked(&api, "start").await.refusals.join("\n");
    assert!(refusals.starts_with("the caller's rights cannot be asked for, try again: "), "{refusals}");
    // What cannot be read is looked at again before the start; rights count all the same.
    api.before(|_, _, path| path.ends_with("/redfish").then_some(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(checked(&api, "start").await.refusals, [""; 0]);
    api.allow(&[]);
    assert_eq!(checked(&api, "start").await.refusals.len(), 2);
}

#[tokio::test]
async fn what_is_not_there_yet_hides_nothing_else_that_is_wrong() {
    let api = api();
    api.change(EXTENSION, |extension| {
        for spec in ["/spec", "/status/resolved"] {
            let actions = extension.pointer_mut(spec).unwrap();
            actions["customActions"][0]["parameters"] = json!([
                {"name": "delay", "type": "NUMBER"}, {"name": "pin", "type": "STRING", "required": true}]);
        }
    });
    api.allow(&[USES[0], USES[1], "use roletypes User", "get secrets db"]);
    api.remove(fixture::TARGET);
    assert_eq!(checked(&api, "start").await.warnings, ["the run will wait: ExtensionTarget \"node7\" does not exist"]);
    let refusals = checked(&api, "NoSuchAction").await.refusals.join("\n");
    assert!(refusals.starts_with("spec.action: extension \"redfish\" has no action \"NoSuchAction\""), "{refusals}");
    let check = async |parameters: Value| {
        let mut run: Value = fixture::run();
        run["spec"]["action"] = json!("PowerOff");
        run["spec"]["parameters"] = parameters;
        run["spec"]["parametersFrom"] = json!([{"name": "pin", "secretKeyRef": {"name": "db", "key": "pin"}}]);
        let run = serde_json::from_value(fixture::stamped(run)).unwrap();
        checker(api.client(), Policy::default())(run).await
    };
    // Neither target nor Secret is there, a parameter is wrong, one is unknown, and the role type is missing.
    let refusals = check(json!({"delay": "soon", "x": 1})).await.refusals.join("\n");
    for expected in
        ["needs the role type", "spec.parameters.delay: \"soon\" is not valid", "spec.parameters.x: is unknown"]
    {
        assert!(refusals.contains(expected), "{expected:?} is not in: {refusals}");
    }
    assert!(!refusals.contains("does not exist"), "what may still come is no refusal: {refusals}");
    api.allow(&[USES[0], USES[1], "use roletypes Admin", "get secrets db"]);
    assert_eq!(
        check(json!({})).await.warnings,
        [
            "the run will wait: ExtensionTarget \"node7\" does not exist; spec.parametersFrom: Secret \"db\" in namespace \
          \"team-a\" does not exist"
        ]
    );
    let mut target = fixture::target();
    target["spec"]["allowedNamespaces"] = json!({});
    target["spec"]["resourcetype"] = json!("Vpc");
    api.put(fixture::TARGET, target);
    let refusals = check(json!({"delay": "soon"})).await.refusals.join("\n");
    assert!(refusals.contains("does not allow namespace") && refusals.contains("\"soon\""), "{refusals}");
    assert!(!refusals.contains("Vpc"), "a target that may not be used is not described: {refusals}");
}

#[tokio::test]
async fn a_password_in_the_open_is_warned_of_and_not_echoed() {
    let api = api();
    api.change(EXTENSION, |extension| {
        for spec in ["/spec", "/status/resolved"] {
            extension.pointer_mut(spec).unwrap()["customActions"][1]["parameters"] =
                json!([{"name": "pin", "type": "STRING", "validationformat": "password"}, {"name": "who", "type": "STRING"}]);
        }
    });
    api.allow(&[USES[0], USES[1], "use roletypes User"]);
    let mut run: Value = fixture::run();
    run["spec"]["action"] = json!("Inventory");
    run["spec"]["parameters"] = json!({"pin": "hunter2", "who": "me"});
    let run: ActionRun = serde_json::from_value(fixture::stamped(run)).unwrap();
    let check = checker(api.client(), Policy::default())(run).await;
    let warning =
        "spec.parameters: whoever may read the run reads the PASSWORD \"pin\": give it by spec.parametersFrom";
    assert_eq!((check.refusals, check.warnings), (vec![], vec![warning.to_owned()]));
    assert_eq!(checked(&api, "Inventory").await.warnings, [""; 0]);
}

/// An action that became invalid after admission fails its run with the words that admission would have said now.
#[tokio::test]
async fn an_action_that_becomes_invalid_fails_its_run_with_admissions_words() {
    let action = json!({"name": "Scan", "enabled": true, "allowedroletypes": ["User"],
        "parameters": [{"name": "depth", "type": "STRING"}]});
    let extension = |action: Value| {
        let mut extension = fixture::extension();
        for spec in ["/spec", "/status/resolved"] {
            extension.pointer_mut(spec).unwrap()["customActions"] = json!([action, {"name": "Other", "enabled": true}]);
        }
        extension
    };
    let changed = |path: &str, value: Value| {
        let mut action = action.clone();
        *action.pointer_mut(path).unwrap() = value;
        extension(action)
    };
    for (now, expected) in [
        (
            changed("/enabled", json!(false)),
            "spec.action: action \"Scan\" of extension \"redfish\" is disabled; allowed are Other",
        ),
        (changed("/name", json!("Probe")), "spec.action: extension \"redfish\" has no action \"Scan\""),
        (changed("/parameters/0/type", json!("NUMBER")), "spec.parameters.depth: \"deep\" is not valid"),
        (changed("/allowedroletypes", json!(["DomainAdmin"])), "user \"alice\" may not run action \"Scan\""),
    ] {
        let mut fixture = fixture::Fixture::admitted();
        fixture.api.change(fixture::RUN, |run| {
            run["spec"]["action"] = json!("Scan");
            run["spec"]["parameters"] = json!({"depth": "deep"});
            *run = fixture::stamped(run.clone());
        });
        fixture.api.allow(&[USES[0], USES[1], "use roletypes User"]);
        fixture.api.put("/api/v1/namespaces/team-a", json!({"metadata": {"name": "team-a"}}));
        let run: ActionRun = serde_json::from_value(fixture.api.get(fixture::RUN).unwrap()).unwrap();
        let check = async |api: &FakeApi| checker(api.client(), Policy::default())(run.clone()).await;
        fixture.api.put(EXTENSION, extension(action.clone()));
        assert_eq!(check(&fixture.api).await.refusals, [""; 0]);
        fixture.api.put(EXTENSION, now.clone());
        fixture.extend(now);
        fixture.refresh();
        let run = fixture.context.caches.runs.state().into_iter().next().unwrap();
        super::super::controller::reconcile(run, fixture.context.clone()).await.unwrap();
        let status = fixture.status();
        assert_eq!(
            (&status["phase"], check(&fixture.api).await.refusals),
            (&json!("Failed"), vec![status["message"].as_str().unwrap().to_owned()])
        );
        assert!(status["message"].as_str().unwrap().starts_with(expected), "{status}");
    }
}

#[tokio::test]
async fn a_secret_is_read_only_for_a_caller_who_may_read_it() {
    const SECRET: &str = "/api/v1/namespaces/team-a/secrets/db";
    let (api, mut run) = (api(), fixture::run());
    api.change(EXTENSION, |extension| {
        for spec in ["/spec", "/status/resolved"] {
            let actions = extension.pointer_mut(spec).unwrap();
            actions["customActions"][1]["parameters"] = json!([{"name": "pin", "type": "NUMBER", "required": true}]);
        }
    });
    run["spec"]["action"] = json!("Inventory");
    run["spec"]["parametersFrom"] = json!([{"name": "pin", "secretKeyRef": {"name": "db", "key": "pin"}}]);
    let run: ActionRun = serde_json::from_value(fixture::stamped(run)).unwrap();
    let check = async || checker(api.client(), Policy::default())(run.clone()).await;
    api.allow(&[USES[0], USES[1], "use roletypes User"]);
    api.before(|_, _, path| {
        assert_ne!(path, SECRET, "read for somebody who may not read it");
        None
    });
    let refusals = check().await.refusals.join("\n");
    assert!(refusals.starts_with("spec.parametersFrom: user \"alice\" may not read Secret \"db\""), "{refusals}");
    api.before(|_, _, _| None);
    api.allow(&[USES[0], USES[1], "use roletypes User", "get secrets db"]);
    let waiting = "the run will wait: spec.parametersFrom: Secret \"db\" in namespace \"team-a\" does not exist";
    assert_eq!(check().await.warnings, [waiting]);
    api.put(SECRET, json!({"metadata": {"name": "db"}, "data": {"pin": "aHVudGVyMg=="}}));
    let refusals = check().await.refusals.join("\n");
    assert!(refusals.contains("the value (not shown) is not valid") && !refusals.contains("hunter2"), "{refusals}");
    api.put(SECRET, json!({"metadata": {"name": "db"}, "data": {"pin": "MTIzNA=="}}));
    assert_eq!(check().await.refusals, [""; 0]);
    api.before(|_, _, path| (path == SECRET).then_some(StatusCode::FORBIDDEN));
    let refusals = check().await.refusals.join("\n");
    assert!(refusals.contains("rbac.readTenantSecrets=true"), "{refusals}");
}
