//! Tests of the Job builder.

use serde_json::{Value, json};

use super::*;
use crate::digest::Digest;

fn operator() -> Operator {
    Operator {
        namespace: "outrigger-system".into(),
        claim_name: "outrigger".into(),
        default_image: "outrigger:test".into(),
        service_account: "outrigger-runner".into(),
        architecture: "amd64".into(),
        runner_subpath: "extensions/.runner/ab".into(),
        address: "https://10.0.0.1:8443".into(),
        ca_pem: "PEM".into(),
    }
}

fn built(runtime: &Runtime) -> Value {
    let tree = Digest::of("tree");
    serde_json::to_value(job(
        &operator(),
        &JobInput {
            name: job_name("6f1c0000-0000-0000-0000-000000000000", 1, 2),
            run_uid: "6f1c0000-0000-0000-0000-000000000000",
            run_name: "backup",
            run_namespace: "team-a",
            attempt: 1,
            token: Token::derive(b"key", "uid", 1),
            extension: "redfish",
            pin: TreePin { tree, entrypoint: Digest::of("entrypoint") },
            tree_subpath: format!("extensions/.store/sha256-{}", tree.hex()),
            entrypoint: "redfish.sh",
            target_dir: "/usr/share/cloudstack-management/extensions/redfish",
            runtime,
            timeout_seconds: 60,
            start_deadline_seconds: 300,
        },
    ))
    .unwrap()
}

#[test]
fn the_job_never_repeats_a_pod_by_itself_and_has_no_deadline_of_its_own() {
    let job = built(&Runtime::default());
    let spec = &job["spec"];
    assert_eq!(job["metadata"]["name"], "arun-6f1c0000-0000-0000-0000-000000000000-1-2");
    assert!(job["metadata"]["name"].as_str().unwrap().len() <= 63);
    assert_eq!(spec["backoffLimit"], 0);
    assert_eq!(spec["podReplacementPolicy"], "Failed");
    assert!(spec["activeDeadlineSeconds"].is_null() && spec["ttlSecondsAfterFinished"].is_null());
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never");
    assert_eq!(
        spec["podFailurePolicy"]["rules"],
        json!([{"action": "Ignore", "onExitCodes": {"containerName": "runner", "operator": "In", "values": [203]}}])
    );
}

#[test]
fn the_pod_outlives_start_deadline_timeout_and_grace() {
    let pod = built(&Runtime { grace_seconds: 20, ..Default::default() });
    let pod = &pod["spec"]["template"]["spec"];
    assert_eq!(pod["activeDeadlineSeconds"], 300 + 60 + 20 + 120);
    assert_eq!(pod["terminationGracePeriodSeconds"], 35);
}

#[test]
fn the_pod_meets_the_restricted_level_and_gets_no_api_token() {
    let job = built(&Runtime::default());
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(
        pod["securityContext"],
        json!({"runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    let container = &pod["containers"][0];
    assert_eq!(
        container["securityContext"],
        json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]},
        })
    );
    assert_eq!(container["terminationMessagePolicy"], "File");
    assert!(pod["hostNetwork"].is_null() && pod["hostPID"].is_null() && pod["hostUsers"].is_null());
}

#[test]
fn tree_and_runner_are_mounted_read_only_and_scratch_is_bounded() {
    let job = built(&Runtime::default());
    let pod = &job["spec"]["template"]["spec"];
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let of_store: Vec<_> = mounts.iter().filter(|mount| mount["name"] == "store").collect();
    assert_eq!(of_store.len(), 2);
    for mount in of_store {
        assert_eq!(mount["readOnly"], true);
        assert!(mount["subPath"].as_str().is_some_and(|path| !path.is_empty()));
    }
    for volume in pod["volumes"].as_array().unwrap() {
        assert!(!volume["persistentVolumeClaim"].is_null() || !volume["emptyDir"]["sizeLimit"].is_null(), "{volume}");
    }
    assert_eq!(pod["volumes"][1]["emptyDir"]["medium"], "Memory");
}

#[test]
fn the_token_is_in_the_environment_only() {
    let token = Token::derive(b"key", "uid", 1).to_hex();
    let mut job = built(&Runtime::default());
    let variables = job["spec"]["template"]["spec"]["containers"][0]["env"].take();
    assert!(variables.to_string().contains(&token));
    assert!(!job.to_string().contains(&token));
}

#[test]
fn an_extension_cannot_choose_the_architecture() {
    let selector = BTreeMap::from([("kubernetes.io/arch".into(), "s390x".into()), ("zone".into(), "a".into())]);
    let job = built(&Runtime { node_selector: selector, ..Default::default() });
    assert_eq!(
        job["spec"]["template"]["spec"]["nodeSelector"],
        json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "zone": "a"})
    );
}

#[test]
fn what_an_extension_does_not_say_is_the_operators() {
    let job = built(&Runtime::default());
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "outrigger:test");
    assert_eq!(
        pod["containers"][0]["resources"],
        json!({"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}})
    );
    assert_eq!((&pod["tolerations"], &pod["imagePullSecrets"]), (&json!([]), &json!([])));
}

#[test]
fn an_extension_shapes_its_pod_in_the_fields_that_are_listed_and_no_other() {
    let given: crate::api::extension::Runtime = serde_json::from_value(json!({
        "image": "example.com/own:1", "imagePullSecrets": [{"name": "pull"}],
        "resources": {"limits": {"memory": "2Gi"}, "requests": {"cpu": "2"}},
        "env": {"HOME": "/root", "PATH": "/evil", "GREETING": "hello"}, "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}], "maxConcurrentRuns": 2,
        "terminationGracePeriodSeconds": 45, "networkPolicy": {"egress": [{"cidr": "192.0.2.0/24"}]}, "runHistoryLimit": 3,
    }))
    .unwrap();
    let spec =
        json!({"source": {"url": "https://example.com/x.git"}, "entrypoint": {"path": "x.sh"}, "runtime": given});
    let extension =
        crate::validate::extension("x", &serde_json::from_value(spec).unwrap(), &Default::default()).unwrap();
    let mut shaped = built(&extension.runtime);
    let plain = built(&Runtime { grace_seconds: 10, ..Runtime::default() });
    for (path, expected) in [
        ("/containers/0/image", json!("example.com/own:1")),
        ("/containers/0/resources", json!({"limits": {"memory": "2Gi"}, "requests": {"cpu": "2"}})),
        ("/imagePullSecrets", json!([{"name": "pull"}])),
        ("/nodeSelector", json!({"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "zone": "a"})),
        ("/tolerations", json!([{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}])),
        ("/terminationGracePeriodSeconds", json!(60)),
        ("/activeDeadlineSeconds", json!(300 + 60 + 45 + 120)),
    ] {
        let path = format!("/spec/template/spec{path}");
        let field = shaped.pointer_mut(&path).unwrap();
        assert_eq!(*field, expected, "{path}");
        *field = plain.pointer(&path).unwrap().clone();
    }
    // Its variables are the script's: the runner, which starts in the same container, has none of them.
    assert_eq!(shaped, plain);
}

#[test]
fn a_job_is_recognised_by_its_labels_only() {
    let job: Job = serde_json::from_value(built(&Runtime::default())).unwrap();
    assert!(is_job_of(&job, "6f1c0000-0000-0000-0000-000000000000", 1));
    assert!(!is_job_of(&job, "6f1c0000-0000-0000-0000-000000000000", 2));
    assert!(!is_job_of(&job, "other", 1));
    assert!(!is_job_of(&Job::default(), "other", 1));
    assert_eq!(job.metadata.annotations.unwrap()[TREE_ANNOTATION], Digest::of("tree").to_string());
}
