//! Who may: a tenant's ServiceAccount in its namespace, and everything that it must not do.

use serde_json::Value;

use crate::Test;
use crate::harness::{NAMESPACE, World, condition, until};
use crate::runs::{probe, run};

/// The tests.
pub const TESTS: &[Test] = &[
    ("a_tenant_runs_what_users_may_in_its_namespace", a_tenant_runs_what_users_may_in_its_namespace),
    ("a_role_type_opens_an_action", a_role_type_opens_an_action),
    ("a_secret_of_the_namespace_reaches_the_script_alone", a_secret_of_the_namespace_reaches_the_script_alone),
    ("a_right_that_is_taken_away_stops_a_waiting_run", a_right_that_is_taken_away_stops_a_waiting_run),
    ("every_role_gives_what_it_says_and_no_more", every_role_gives_what_it_says_and_no_more),
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

/// Objects are refused with these words. Those of a right that was given just now come later: the authorizer learns of
/// bindings from a watch.
pub fn refused(world: &World, tenant_of: &str, yaml: &str, texts: &[&str]) {
    until("refusal with the words", || {
        let (success, text) = create_as(world, tenant_of, yaml);
        assert!(!success, "{yaml} was taken: {text}");
        let lacking = texts.iter().find(|expected| !text.contains(**expected));
        lacking.map_or(Ok(()), |expected| Err(format!("{expected:?} is not in: {text}")))
    });
}

/// Objects are taken, once the authorizer knows of the tenant's rights.
pub fn taken(world: &World, tenant_of: &str, yaml: &str) {
    until("right", || {
        let (success, text) = create_as(world, tenant_of, yaml);
        if success { Ok(()) } else { Err(format!("{text}\n{yaml}")) }
    });
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
    let user = "--as=system:serviceaccount:taken:tenant";
    until("end of the right", || {
        let printed = world.kubectl(&["-n", "taken", "auth", "can-i", "create", "actionruns.outrigger.dev", user]);
        if printed.text.trim() == "no" { Ok(()) } else { Err(printed.text) }
    });
    probe(world, "taken");
    let ended = world.finished("taken", "one");
    assert_eq!(ended["status"]["reason"], "NotAllowed", "{ended}");
    assert!(ended["status"].get("attempts").is_none(), "{ended}");
}

/// What is asked: `<verb> <group>/<resource> <name>`, the name empty for any. No group is the core's.
const ASKED: [&str; 17] = [
    "create outrigger.dev/actionruns ",
    "get outrigger.dev/actionruns ",
    "patch outrigger.dev/actionruns/status ",
    "create outrigger.dev/orchestratorextensions ",
    "get outrigger.dev/orchestratorextensions ",
    "create outrigger.dev/extensiontargets ",
    "patch outrigger.dev/extensiontargets ",
    "get outrigger.dev/extensiontargets ",
    "use outrigger.dev/orchestratorextensions any",
    "use outrigger.dev/extensiontargets any",
    "use outrigger.dev/freeformtargets any",
    "use outrigger.dev/roletypes Admin",
    "use outrigger.dev/roletypes ResourceAdmin",
    "use outrigger.dev/roletypes DomainAdmin",
    "use outrigger.dev/roletypes User",
    "get /secrets any",
    "create outrigger.dev/extensiontargets/status ",
];

fn review(user: &str, asked: &str) -> Value {
    let [verb, path, name] = asked.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{asked}") };
    let (group, resource) = path.split_once('/').unwrap();
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    serde_json::json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": {"namespace": "roles", "verb": verb, "group": group,
            "resource": resource, "subresource": subresource, "name": name}},
    })
}

/// Of what is asked, what these users may, as the API server's authorizer says.
fn may(world: &World, users: &[&str]) -> Vec<Vec<&'static str>> {
    let asked = users.iter().flat_map(|user| ASKED.iter().map(|asked| review(user, asked).to_string()));
    let path = world.dir.path().join("reviews.json");
    std::fs::write(&path, asked.collect::<Vec<_>>().join("\n---\n")).unwrap();
    let printed = world.kubectl(&["create", "-o", "json", "-f", &path.display().to_string()]);
    let answers = serde_json::Deserializer::from_str(&printed.text).into_iter::<Value>().map_while(Result::ok);
    let answers = answers.flat_map(|answer| answer["items"].as_array().cloned().unwrap_or_else(|| vec![answer]));
    let allowed: Vec<bool> = answers.map(|answer| answer["status"]["allowed"] == true).collect();
    assert_eq!(allowed.len(), users.len() * ASKED.len(), "{}", printed.text);
    let of = |allowed: &[bool]| ASKED.iter().zip(allowed).filter(|(_, is)| **is).map(|(asked, _)| *asked).collect();
    allowed.chunks(ASKED.len()).map(of).collect()
}

fn every_role_gives_what_it_says_and_no_more(world: &World) {
    // every role for a user of its own, in one namespace: the cluster-wide ones too, of which only that namespace is asked
    let expected: [(&str, &[usize]); 9] = [
        ("outrigger-author", &[0, 1, 3, 4, 7, 8, 10, 11, 12, 13, 14]),
        ("outrigger-admin", &[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]),
        ("outrigger-tenant", &[0, 1, 8, 9, 14]),
        ("outrigger-viewer", &[1]),
        ("outrigger-role-admin", &[11]),
        ("outrigger-role-resourceadmin", &[12]),
        ("outrigger-role-user", &[14]),
        // by aggregation
        ("edit", &[0, 1, 8, 9, 14, 15]),
        ("view", &[1]),
    ];
    world.namespace("roles");
    let users: Vec<String> = expected.iter().map(|(role, _)| format!("e2e:{role}")).collect();
    let bindings = expected.iter().zip(&users).map(|((role, _), user)| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {role}, namespace: \
             roles}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\nsubjects: [{{kind: \
             User, apiGroup: rbac.authorization.k8s.io, name: '{user}'}}]\n"
        )
    });
    world.applied(&bindings.collect::<Vec<_>>().join("---\n"));
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let held = || users.iter().copied().zip(may(world, &users)).collect::<Vec<_>>();
    let wanted = expected.iter().map(|(_, wanted)| wanted.iter().map(|index| ASKED[*index]).collect::<Vec<_>>());
    let wanted: Vec<_> = users.iter().copied().zip(wanted).collect();
    // the authorizer learns of bindings from a watch
    until("rights as they are written", || {
        let held = held();
        if held == wanted { Ok(()) } else { Err(format!("{held:?}, not {wanted:?}")) }
    });
}
