//! Who may: a tenant's ServiceAccount in its namespace, and everything that it must not do.

use serde_json::Value;

use crate::Test;
use crate::harness::{NAMESPACE, World, condition};
use crate::runs::{probe, run};

/// The tests.
pub const TESTS: &[Test] = &[
    ("a_tenant_runs_what_users_may_in_its_namespace", a_tenant_runs_what_users_may_in_its_namespace),
    ("a_role_type_opens_an_action", a_role_type_opens_an_action),
    ("a_secret_of_the_namespace_reaches_the_script_alone", a_secret_of_the_namespace_reaches_the_script_alone),
    ("a_right_that_is_taken_away_stops_a_waiting_run", a_right_that_is_taken_away_stops_a_waiting_run),
];

/// The ServiceAccount `tenant` of a namespace, bound there to a ClusterRole.
pub fn bind(world: &World, namespace: &str, role: &str) {
    world.applied(&format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: tenant, namespace: {namespace}}}\n---\napiVersion: \
         rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {role}, namespace: {namespace}}}\nroleRef: \
         {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\nsubjects: [{{kind: ServiceAccount, name: \
         tenant, namespace: {namespace}}}]\n"
    ));
}

/// Creates objects as the tenant of a namespace; what kubectl printed, and whether they were taken.
pub fn create_as(world: &World, tenant_of: &str, yaml: &str) -> (bool, String) {
    let file = tempfile::NamedTempFile::new_in(world.dir.path()).unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    let user = format!("--as=system:serviceaccount:{tenant_of}:tenant");
    let printed = world.kubectl(&["create", "-f", &file.path().display().to_string(), &user]);
    (printed.success, printed.text)
}

pub fn refused(world: &World, tenant_of: &str, yaml: &str, texts: &[&str]) {
    let (success, text) = create_as(world, tenant_of, yaml);
    assert!(!success, "{yaml} was taken: {text}");
    for expected in texts {
        assert!(text.contains(expected), "{expected:?} is not in: {text}");
    }
}

pub fn taken(world: &World, tenant_of: &str, yaml: &str) {
    let (success, text) = create_as(world, tenant_of, yaml);
    assert!(success, "{text}\n{yaml}");
}

pub fn payload(world: &World, namespace: &str, name: &str) -> Value {
    let run = world.finished(namespace, name);
    assert_eq!(run["status"]["phase"], "Succeeded", "{run}");
    run["status"]["result"].clone()
}

fn a_tenant_runs_what_users_may_in_its_namespace(world: &World) {
    probe(world, "tenant");
    world.namespace("tenant-foreign");
    bind(world, "tenant", "outrigger-tenant");
    taken(world, "tenant", &run("tenant", "open", "action: Open"));
    let caller = payload(world, "tenant", "open")["caller"].clone();
    assert_eq!(caller["name"], "system:serviceaccount:tenant:tenant", "{caller}");
    assert_eq!(caller["roletype"], "User", "{caller}");
    // a lifecycle action needs no role type
    taken(world, "tenant", &run("tenant", "power", "action: status"));
    assert_eq!(world.finished("tenant", "power")["status"]["power"], "PowerOn");
    // an action that allows no role type is the administrators'
    refused(
        world,
        "tenant",
        &run("tenant", "echo", "action: Echo, parameters: {text: x}"),
        &[
            "user \"system:serviceaccount:tenant:tenant\" may not run action \"Echo\"",
            "needs the role type Admin",
            "bind ClusterRole outrigger-role-admin",
        ],
    );
    // without rights in a namespace nothing starts from there: neither a run …
    let foreign = run("tenant-foreign", "open", "action: Open").replace("{name: tenant-foreign},", "{name: tenant},");
    refused(world, "tenant", &foreign, &["forbidden", "cannot create resource \"actionruns\""]);
    // … nor, where runs alone may be created, the use of the extension
    world.applied(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: runs, namespace: tenant-foreign}\nrules: \
         [{apiGroups: [outrigger.dev], resources: [actionruns], verbs: [create]}]\n---\napiVersion: \
         rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: runs, namespace: tenant-foreign}\nroleRef: \
         {apiGroup: rbac.authorization.k8s.io, kind: Role, name: runs}\nsubjects: [{kind: ServiceAccount, name: tenant, \
         namespace: tenant}]\n",
    );
    refused(
        world,
        "tenant",
        &foreign,
        &[
            "may not use OrchestratorExtension \"tenant\" in namespace \"tenant-foreign\"",
            "bind ClusterRole outrigger-tenant there",
        ],
    );
    // the outcome is the operator's to write
    let forged = "{\"status\":{\"phase\":\"Succeeded\"}}";
    let user = "--as=system:serviceaccount:tenant:tenant";
    let patched = world.kubectl(&[
        "-n",
        "tenant",
        "patch",
        "arun",
        "open",
        "--subresource=status",
        "--type=merge",
        "-p",
        forged,
        user,
    ]);
    assert!(!patched.success && patched.text.contains("forbidden"), "{}", patched.text);
}

fn a_role_type_opens_an_action(world: &World) {
    probe(world, "role");
    bind(world, "role", "outrigger-tenant");
    let guarded = |name: &str| run("role", name, "action: Guarded");
    refused(
        world,
        "role",
        &guarded("one"),
        &["needs the role type Admin or DomainAdmin", "outrigger-role-domainadmin"],
    );
    bind(world, "role", "outrigger-role-domainadmin");
    taken(world, "role", &guarded("one"));
    assert_eq!(payload(world, "role", "one")["caller"]["roletype"], "DomainAdmin");
}

fn a_secret_of_the_namespace_reaches_the_script_alone(world: &World) {
    probe(world, "lent");
    bind(world, "lent", "outrigger-tenant");
    world.applied(
        "apiVersion: v1\nkind: Secret\nmetadata: {name: safe, namespace: lent}\nstringData: {pin: swordfish-7}\n---\napiVersion: \
         rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: safe, namespace: lent}\nrules: [{apiGroups: [''], resources: \
         [secrets], resourceNames: [safe], verbs: [get]}]\n",
    );
    let spec = "action: Open, parametersFrom: [{name: pin, secretKeyRef: {name: safe, key: pin}}]";
    let lend = |to: &str, namespace: &str| {
        world.applied(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: safe-{to}, namespace: lent}}\nroleRef: \
             {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: safe}}\nsubjects: [{{kind: ServiceAccount, name: {to}, \
             namespace: {namespace}}}]\n"
        ));
    };
    refused(
        world,
        "lent",
        &run("lent", "one", spec),
        &["may not read Secret \"safe\"", "grant the verb get on secrets"],
    );
    lend("tenant", "lent");
    refused(world, "lent", &run("lent", "one", spec), &["the operator may not read", "rbac.readTenantSecrets=true"]);
    lend("outrigger", NAMESPACE);
    taken(world, "lent", &run("lent", "one", spec));
    assert_eq!(payload(world, "lent", "one")["parameters"]["pin"], "********");
    assert!(!world.get("-n lent arun/one").to_string().contains("swordfish-7"));
}

fn a_right_that_is_taken_away_stops_a_waiting_run(world: &World) {
    world.namespace("taken");
    bind(world, "taken", "outrigger-tenant");
    taken(world, "taken", &run("taken", "one", "action: Open"));
    world.wait("-n taken arun/one", "waiting", |run| condition(run, "Ready").cloned());
    assert!(world.kubectl(&["-n", "taken", "delete", "rolebinding", "outrigger-tenant"]).success);
    probe(world, "taken");
    let ended = world.finished("taken", "one");
    assert_eq!(ended["status"]["reason"], "NotAllowed", "{ended}");
    assert!(ended["status"].get("attempts").is_none(), "{ended}");
}
