//! Validated values of an extension. Pure: no client, clock, disk or network. Holding one proves that its rules hold.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};

use super::parameter::ParameterDefinition;
use super::problem::quoted;
use crate::archive::RelativePath;

/// Reads a path beneath the extension's root; `./` and doubled slashes are removed. The error says what is allowed.
pub(super) fn relative_path(text: &str) -> Result<RelativePath, String> {
    let allowed = "allowed is a path relative to the extension's root, such as \"bin/run.py\", without \"..\"";
    let shown = quoted(text);
    if text.starts_with('/') {
        return Err(format!("{shown} is absolute; {allowed}"));
    }
    if text.contains('\\') || text.chars().any(char::is_control) {
        return Err(format!("{shown} holds a backslash or a control character; {allowed}"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(format!("{shown} holds \"..\"; {allowed}"));
    }
    if parts.is_empty() {
        return Err(format!("{shown} names nothing; {allowed}"));
    }
    if parts.iter().any(|part| part.len() > 255) || text.len() > 1024 {
        return Err("is too long: a name in it may have 255 bytes, the path 1024".into());
    }
    RelativePath::parse(parts.join("/")).map_err(|fault| format!("{shown} {fault}; {allowed}"))
}

/// Directories that a tree is mounted neither at nor beneath: the kernel's, the system's and the runner's.
const RESERVED: &[&str] = &[
    "/proc",
    "/dev",
    "/sys",
    "/tmp",
    "/etc",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/lib",
    "/run",
    "/var/run",
    "/var/lock",
    "/boot",
    "/outrigger",
];
/// Directories that hold what an image needs: a tree may be mounted beneath, never at them.
const PARENTS: &[&str] = &["/", "/usr", "/usr/local", "/usr/share", "/var", "/var/lib", "/root", "/home"];

/// An absolute, normalised directory at which a tree may be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetDir(String);

impl TargetDir {
    /// Reads a directory; doubled and trailing slashes are removed. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let shown = quoted(text);
        if !text.starts_with('/') {
            return Err(format!("{shown} is not absolute; allowed is a directory such as {:?}", Self::of("name").0));
        }
        if text.contains(['\\', ':']) || text.chars().any(char::is_control) {
            return Err(format!("{shown} holds a colon, a backslash or a control character, which no mount path may"));
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(format!("{shown} holds \"..\"; allowed is an absolute path without it"));
        }
        let path = format!("/{}", parts.join("/"));
        let beneath =
            |parent: &str| path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(reserved) = RESERVED.iter().find(|reserved| beneath(reserved)) {
            return Err(format!("{shown} would hide what a container needs at {reserved}; choose another directory"));
        }
        if PARENTS.contains(&path.as_str()) {
            return Err(format!("{shown} would hide what a container needs there; choose a directory beneath it"));
        }
        Ok(Self(path))
    }

    /// CloudStack's directory for an extension: `/usr/share/cloudstack-management/extensions/<name>`.
    pub fn of(object_name: &str) -> Self {
        Self(format!("/usr/share/cloudstack-management/extensions/{object_name}"))
    }

    /// The directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A custom action's name: `^[a-zA-Z0-9 _-]+$`, at most 128 characters, no lifecycle action, not blank.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionName(String);

impl ActionName {
    /// Reads a name. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-');
        let shown = quoted(text);
        if text.trim().is_empty() || text.len() > 128 || !text.chars().all(fits) {
            return Err(format!(
                "{shown} is no action name; allowed are 1 to 128 letters, digits, spaces, \"_\" and \"-\""
            ));
        }
        if LifecycleAction::named(text).is_some() {
            return Err(format!(
                "{shown} is a lifecycle action, which every extension has; a custom action needs another name"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ActionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The one with this exact word.
            pub fn named(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The actions that CloudStack itself sends. (`deploy`, which its documentation shows, is never sent.)
    LifecycleAction {
        /// Before an instance is first created.
        Prepare = "prepare",
        /// Creates the instance and starts it.
        Create = "create",
        /// Starts it.
        Start = "start",
        /// Stops it.
        Stop = "stop",
        /// Restarts it.
        Reboot = "reboot",
        /// Deletes it.
        Delete = "delete",
        /// Its power state.
        Status = "status",
        /// The power states of all instances of a host.
        Statuses = "statuses",
        /// How to reach its console.
        GetConsole = "getconsole",
    }
}

words! {
    /// Role types, as CloudStack spells them. Holders of `Admin` may run every action.
    RoleType {
        /// Root administrators.
        Admin = "Admin",
        /// Administrators of resources.
        ResourceAdmin = "ResourceAdmin",
        /// Administrators of a domain.
        DomainAdmin = "DomainAdmin",
        /// Everybody.
        User = "User",
    }
}

words! {
    /// What an action acts on. An extension of type Orchestrator acts on instances alone.
    ResourceType {
        /// An instance.
        VirtualMachine = "VirtualMachine",
    }
}

/// A validated extension: the effective spec with every rule checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Extension {
    /// `metadata.name` of the resource: directories, links and labels.
    pub object_name: String,
    /// The extension's own name: `{{extensionName}}`.
    pub name: String,
    /// Name shown to people.
    pub display_name: Option<String>,
    /// Semantic version.
    pub version: Option<semver::Version>,
    /// What is started.
    pub entrypoint: Entrypoint,
    /// Whether actions may run.
    pub enabled: bool,
    /// Custom actions, in the manifest's order.
    pub actions: Vec<Action>,
    /// `externaldetails.extension`, without what `detailsFrom` adds.
    pub details: BTreeMap<String, String>,
    /// Secrets, by name, whose entries are added to `details`.
    pub details_from: Vec<String>,
    /// Names under which the script knows an action.
    pub aliases: BTreeMap<String, String>,
    /// Whether output that says so fails a run.
    pub strict_result: bool,
    /// Whether undefined parameters are passed on as text.
    pub allow_unknown_parameters: bool,
    /// How its Jobs look.
    pub runtime: Runtime,
    /// How often the source is checked again.
    pub interval: Duration,
    /// Whether fetching and installing is paused.
    pub suspend: bool,
    /// How many former revisions are kept.
    pub revision_history_limit: u32,
    /// What is legal but deserves a look, such as action names that differ in case only.
    pub notes: Vec<String>,
}

impl Extension {
    /// The custom action of this exact name.
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions.iter().find(|action| action.name.as_str() == name)
    }
}

/// What is started, and where its tree is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrypoint {
    /// The script, relative to the extension's root.
    pub path: RelativePath,
    /// Where the tree is mounted.
    pub target_dir: TargetDir,
    /// How to start a script without execute bit and `#!` line.
    pub language: Option<String>,
}

/// A custom action.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Its name, verbatim on the wire.
    pub name: ActionName,
    /// Name shown to people.
    pub display_name: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// Whether it may run.
    pub enabled: bool,
    /// Seconds that it may take; none is the operator's default.
    pub timeout_seconds: Option<u64>,
    /// Who may run it; `Admin` always.
    pub roles: Vec<RoleType>,
    /// What it acts on.
    pub resource_type: ResourceType,
    /// Template of the message of a run that succeeded; none is the default text.
    pub success_message: Option<String>,
    /// Template of the message of a run that failed; none is the default text.
    pub error_message: Option<String>,
    /// `externaldetails.action`.
    pub details: BTreeMap<String, String>,
    /// What a run may or must give.
    pub parameters: Vec<ParameterDefinition>,
}

/// How the Jobs of an extension's actions look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Runtime {
    /// Image with the interpreter; none is the operator's own.
    pub image: Option<String>,
    /// Names of pull Secrets in the operator's namespace.
    pub image_pull_secrets: Vec<String>,
    /// Limits and requests; none is the operator's default.
    pub resources: Option<ResourceRequirements>,
    /// Environment of the script.
    pub env: BTreeMap<String, String>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    pub tolerations: Vec<Toleration>,
    /// Seconds between TERM and KILL.
    pub grace_seconds: u64,
    /// What its pods may connect to, besides DNS and the operator; none is anything.
    pub egress: Option<Vec<EgressRule>>,
}

/// A network that the pods of an extension's actions may connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// The network.
    pub network: IpNet,
    /// Its open ports; none named is all.
    pub ports: Vec<EgressPort>,
}

/// An open port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPort {
    /// The port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}
