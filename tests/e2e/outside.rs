//! The controller outside the cluster, with `--kubeconfig`, `--store` and `--advertise`: the chart is gone, and a process
//! beside the cluster takes its place, on the same volume.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use crate::Test;
use crate::faulty::{Bench, OWN};
use crate::harness::{NAMESPACE, TIMEOUT, World, cluster, end_group};
use crate::installation::uninstall;
use crate::runs::{finished, probe, too_late};
use crate::unadmitted::judged;

/// The tests. They end with the chart uninstalled.
pub const TESTS: &[Test] = &[
    ("the_controller_runs_outside_the_cluster", the_controller_runs_outside_the_cluster),
    ("a_volume_that_cannot_be_mounted_ends_the_run_with_its_words", a_volume_that_cannot_be_mounted_ends_the_run),
];

struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        end_group(&mut self.0);
    }
}

fn the_controller_runs_outside_the_cluster(world: &World) {
    probe(world, "outside");
    // the volume outlives the chart's claim: another claim of the same name binds another volume
    uninstall().unwrap();
    world.applied(&format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: outside, namespace: {NAMESPACE}}}\nspec: {{accessModes: \
         [ReadWriteMany], resources: {{requests: {{storage: 1Gi}}}}}}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: \
         {{name: outrigger-action, namespace: {NAMESPACE}}}\nautomountServiceAccountToken: false\n"
    ));
    let volume = world.wait(&format!("-n {NAMESPACE} pvc/outside"), "volume", |claim| {
        claim["spec"]["volumeName"].as_str().map(str::to_owned)
    });
    let volume = world.get(&format!("pv/{volume}"));
    let Some(store) = volume["spec"]["hostPath"]["path"].as_str() else {
        println!("skipped: the cluster's volumes are no directories of this machine");
        return;
    };
    let image = std::env::var("OUTRIGGER_IMAGE").unwrap_or_else(|_| "localhost/outrigger:dev".into());
    let log = std::fs::File::create(world.dir.path().join("outside.log")).unwrap();
    let mut outside = cluster(&["exec", env!("CARGO_BIN_EXE_outrigger"), "controller"]);
    outside.args(["--store", store, "--store-claim=outside", "--namespace", NAMESPACE]);
    outside.args(["--runner", env!("CARGO_BIN_EXE_outrigger-runner"), "--action-image", &image]);
    outside.args([format!("--advertise={}:18443", world.address), format!("--listen={}:18443", world.address)]);
    outside.args(["--health-listen=127.0.0.1:18089", &format!("--allow-address={}/32", world.address)]);
    let child =
        outside.process_group(0).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let controller = Controller(child);

    // a new revision on the new volume: what status says was installed elsewhere is fetched again
    world.wait("oext/outside", "tree on the new volume", |_| {
        std::fs::read_link(std::path::Path::new(store).join("extensions/outside")).ok().map(drop)
    });
    world.condition("oext/outside", "Installed", "True");
    // admission works outside, too
    judged(world, "outside", true);
    let log = || std::fs::read_to_string(world.dir.path().join("outside.log")).unwrap_or_default();
    let ended = finished(world, "outside", "one", "action: Echo, parameters: {text: from-outside}");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}\n{}", log());
    assert_eq!(ended["status"]["result"]["text"], "from-outside");
    drop(controller);
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        world.kubectl(&["delete", kind, "outrigger"]);
    }
    // Helm takes over nothing that it did not make
    world.kubectl(&["-n", NAMESPACE, "delete", "serviceaccount", "outrigger-action"]);
    world.kubectl(&["-n", NAMESPACE, "delete", "pvc", "outside", "--wait=false"]);
}

/// The claim that Jobs mount is bound to a directory that no node has.
fn a_volume_that_cannot_be_mounted_ends_the_run(world: &World) {
    let bench = Bench::new(world, "2m");
    bench.installed(OWN, "one");
    world.applied(&format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: e2e-missing}}\nspec: {{storageClassName: '', accessModes: \
         [ReadWriteMany], capacity: {{storage: 1Mi}}, persistentVolumeReclaimPolicy: Retain, hostPath: {{path: \
         /no/such/outrigger, type: Directory}}}}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: outrigger-store, \
         namespace: {OWN}}}\nspec: {{storageClassName: '', volumeName: e2e-missing, accessModes: [ReadWriteMany], resources: \
         {{requests: {{storage: 1Mi}}}}}}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: outrigger-action, \
         namespace: {OWN}}}\nautomountServiceAccountToken: false\n"
    ));
    let is_told = |message: &str| message.contains(" s: FailedMount: ") && message.contains("/no/such/outrigger");
    too_late(world, OWN, "unmounted", "action: Act", is_told);
    bench.end(&[OWN]);
    for object in [["serviceaccount", "outrigger-action"], ["pvc", "outrigger-store"]] {
        world.kubectl(&["-n", OWN, "delete", object[0], object[1], TIMEOUT]);
    }
    world.kubectl(&["delete", "pv", "e2e-missing", TIMEOUT]);
}
