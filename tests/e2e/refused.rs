//! What the definition of OrchestratorExtension itself refuses, where no webhook answers.

use crate::extensions::extension;
use crate::harness::World;

/// Specs, each with words of the rule that it breaks.
const RULES: &[(&str, &str)] = &[
    ("{enabled: true}", "one of source and manifestURL is required"),
    ("{manifestURL: nonsense}", "manifestURL must start with https://"),
    ("{source: {type: svn, url: 'ftp://x'}}", "must be one of git, archive"),
    ("{source: {type: git}}", "one of source.url and source.configMapRef is required"),
    ("{source: {url: 'https://example.com/x.git', configMapRef: {name: x}}}", "and not both"),
    ("{source: {type: git, configMapRef: {name: x}}}", "goes with type configMap"),
    ("{source: {type: git, url: 'oci://example.com/x'}}", "begins with oci:// goes with type oci"),
    ("{source: {url: 'https://example.com/x.git', insecure: true}}", "source.insecure goes with type oci"),
    ("{source: {url: 'https://bob:hunter2@example.com/x.git'}}", "must not hold a user name or password"),
    (
        "{source: {type: archive, url: 'https://example.com/x.zip', refs: main}}",
        "source.refs goes with type git or oci",
    ),
    (
        "{source: {url: 'https://example.com/x.git', digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}}",
        "a git repository is pinned by a commit",
    ),
    (
        "{source: {type: Git, url: 'https://example.com/x', verify: {provider: cosign, secretRef: {name: x}}}}",
        "signatures of git repositories are not checked",
    ),
    ("{source: {url: 'https://example.com/x.zip', path: a/../b}}", "source.path must be relative"),
    ("{source: {url: 'ftp://example.com/x.zip'}}", "source.url must start with https://"),
    ("{source: {url: 'https://example.com/x.zip', digest: 'sha256:0'}}", "should match '^sha256:[0-9a-f]{64}$'"),
    (
        "{source: {url: 'https://example.com/x.zip', verify: {provider: gpg, secretRef: {name: x}}}}",
        "source.verify.provider must be one of cosign, minisign",
    ),
    (
        "{source: {url: 'https://example.com/x.zip', verify: {provider: minisign, secretRef: {name: x}, signatureURL: x.sig}}}",
        "source.verify.signatureURL must start with https://",
    ),
];

/// The same, beside a good source.
const OTHERS: &[(&str, &str)] = &[
    ("name: ''", "should be at least 1 chars long"),
    ("type: NetworkOrchestrator", "type must be \"Orchestrator\""),
    ("version: latest", "version must be a semantic version"),
    ("compatibility: {cloudstack: {minVersion: '>=4'}}", "minVersion must be a version"),
    ("entrypoint: {path: ../x}", "entrypoint.path must be relative"),
    ("entrypoint: {path: /x}", "entrypoint.path must be relative"),
    ("entrypoint: {targetDir: x}", "entrypoint.targetDir must be an absolute path"),
    ("customActions: [{name: start}]", "a lifecycle action, which every extension has"),
    ("customActions: [{name: a/b}]", "should match '^[a-zA-Z0-9 _-]+$'"),
    ("customActions: [{name: A}, {name: A}]", "Duplicate value"),
    ("customActions: [{name: A, resourcetype: Network}]", "resourcetype must be VirtualMachine"),
    ("customActions: [{name: A, allowedroletypes: [admin]}]", "allowedroletypes must be of Admin"),
    ("customActions: [{name: A, parameters: [{name: p, type: TEXT}]}]", "type must be one of STRING"),
    (
        "customActions: [{name: A, parameters: [{name: p, type: NUMBER, validationformat: UUID}]}]",
        "validationformat must fit the type",
    ),
    (
        "customActions: [{name: A, parameters: [{name: p, type: STRING, validationformat: IBAN}]}]",
        "validationformat must be one of NONE",
    ),
    (
        "customActions: [{name: A, parameters: [{name: p, type: DATE, valueoptions: x}]}]",
        "valueoptions are not supported",
    ),
    ("interval: soon", "should match '^([0-9]+"),
    ("revision: latest", "should match '^sha256:[0-9a-f]{64}$'"),
    (
        "runtime: {networkPolicy: {egress: [{cidr: 192.0.2.0/24, ports: [{port: 1, protocol: GRE}]}]}}",
        "protocol must be one of TCP, UDP",
    ),
];

/// Applies a resource per rule, all in one call, and looks for the words of each.
pub fn by_the_definition(world: &World) {
    let good = "source: {url: 'https://example.com/x.git'}";
    let mut rules: Vec<(String, &str)> = RULES.iter().map(|(spec, text)| ((*spec).to_owned(), *text)).collect();
    rules.extend(OTHERS.iter().map(|(spec, text)| (format!("{{{good}, {spec}}}"), *text)));
    let name = |number: usize| format!("refused-{number}");
    let mut resources: String = rules
        .iter()
        .enumerate()
        .map(|(number, (spec, _))| format!("---\n{}", extension(&name(number), spec)))
        .collect();
    let long = "x".repeat(64);
    resources.push_str(&format!("---\n{}", extension(&long, &format!("{{{good}}}"))));
    let printed = world.apply(&resources);
    let refusal = |name: &str| {
        let begins = format!("{name:?} is invalid");
        let after = printed.text.split_once(&begins).map_or("", |(_, after)| after);
        after.split("is invalid").next().unwrap_or_default().to_owned()
    };
    for (number, (spec, text)) in rules.iter().enumerate() {
        assert!(refusal(&name(number)).contains(text), "{spec}: {text}: {}", printed.text);
    }
    assert!(refusal(&long).contains("at most 63 characters"), "{}", printed.text);
}
