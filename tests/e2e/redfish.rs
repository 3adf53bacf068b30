//! The Redfish example against a Redfish service that is not ours, installed and run by Outrigger.

use crate::Test;
use crate::harness::{Server, World, root};
use crate::repositories::Repository;

/// The tests.
pub const TESTS: &[Test] = &[("a_server_is_powered_on_by_redfish", a_server_is_powered_on_by_redfish)];

fn a_server_is_powered_on_by_redfish(world: &World) {
    let certificate = rcgen::generate_simple_self_signed([world.address.clone()]).unwrap();
    let file = |name: &str, text: String| {
        let path = world.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let cert = file("bmc.crt", certificate.cert.pem());
    let key = file("bmc.key", certificate.signing_key.serialize_pem());
    let emulator = Server::start("sushy", &world.address, &["--cert", &cert, "--key", &key]).unwrap();
    let url = &emulator.url;
    let indented = certificate.cert.pem().replace('\n', "\n    ");
    let repository = Repository::of(world, "redfish", &root().join("examples/redfish"));
    world.namespace("metal");
    world.applied(&format!(
        "apiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata: {{name: redfish}}\nspec: {{source: {{url: \
         {}}}}}\n---\napiVersion: v1\nkind: Secret\nmetadata: {{name: bmc, namespace: outrigger-system}}\nstringData:\n  username: \
         admin\n  password: swordfish-bmc\n  ca_bundle: |\n    {indented}\n---\napiVersion: outrigger.dev/v1alpha1\nkind: \
         ExtensionTarget\nmetadata: {{name: node1}}\nspec:\n  extensionRef: {{name: redfish}}\n  host: {{url: \
         '{url}'}}\n  hostFrom: [{{secretRef: {{name: bmc}}}}]\n  allowedNamespaces: {{names: [metal]}}\n",
        repository.url
    ));
    world.condition("oext/redfish", "Ready", "True");
    let act = |name: &str, spec: &str| {
        world.applied(&format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: ActionRun\nmetadata: {{name: {name}, namespace: metal}}\nspec: \
             {{extensionRef: {{name: redfish}}, targetRef: {{name: node1}}, {spec}}}\n"
        ));
        let run = world.finished("metal", name);
        assert_eq!(run["status"]["phase"], "Succeeded", "{run}");
        run
    };
    let before = act("status-before", "action: status");
    let other = if before["status"]["power"] == "PowerOn" { ("stop", "PowerOff") } else { ("start", "PowerOn") };
    act("change", &format!("action: {}", other.0));
    assert_eq!(act("status-after", "action: status")["status"]["power"], other.1);
    world.wait("xtgt/node1", "power state", |target| (target["status"]["powerState"] == other.1).then_some(()));
    act("boot", "action: SetBootDevice, parameters: {device: Pxe}");
    let refused = world.apply(
        "apiVersion: outrigger.dev/v1alpha1\nkind: ActionRun\nmetadata: {name: floppy, namespace: metal}\nspec: \
         {extensionRef: {name: redfish}, targetRef: {name: node1}, action: SetBootDevice, parameters: {device: Floppy}}\n",
    );
    assert!(!refused.success && refused.text.contains("Pxe"), "{}", refused.text);
}
