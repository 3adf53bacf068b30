//! What the end-to-end tests share: the installed operator, and what they ask and tell it through kubectl.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use crate::installation::{NAMESPACE, Printed, Server, cluster, end_group, root, run};
use crate::installation::{install, printed, uninstall};

/// Label of the namespaces that the tests make.
const E2E_LABEL: &str = "outrigger.dev/e2e";

/// The installed operator, and servers beside it.
pub struct World {
    /// Address of this machine as pods see it.
    pub address: String,
    /// Everything that the tests write.
    pub dir: tempfile::TempDir,
    /// URL of the git server; repositories are bare directories under `git/`.
    pub git: String,
    /// URL of the archive server; files are under `archives/`.
    pub archives: String,
    /// URL of the server that appends lines to files.
    pub append: String,
    _servers: Vec<Server>,
}

impl World {
    /// Starts the servers and installs the chart.
    pub fn start() -> Result<Self, String> {
        let address = run(&mut cluster(&["address"]))?.trim().to_owned();
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut servers = vec![];
        let mut serve = |program: &str, arguments: &[&str]| -> Result<String, String> {
            let server = Server::start(program, &address, arguments)?;
            let url = server.url.clone();
            servers.push(server);
            Ok(url)
        };
        let path = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).map(|()| path.display().to_string()).map_err(|error| error.to_string())
        };
        let git = serve("git-server", &["--root", &path("git")?, "--log", &path("logs").map(|dir| dir + "/git")?])?;
        let archives = serve("archive-server", &["--root", &path("archives")?])?;
        let append = serve("append-server", &["--root", &path("append")?])?;
        let world = Self { address, dir, git, archives, append, _servers: servers };
        let has_leftovers = world.has_leftovers()?;
        world.install()?;
        if has_leftovers {
            world.sweep();
        }
        Ok(world)
    }

    /// Installs or upgrades the chart and waits until it is ready.
    pub fn install(&self) -> Result<(), String> {
        install(&self.address, &[])
    }

    /// Stops the servers. The chart is removed after success and left for a look after failure.
    pub fn finish(&self, failed: bool) {
        if failed {
            println!("left as it is for a look: kubectl -n {NAMESPACE} logs deployment/outrigger");
            for line in self.kubectl(&["-n", NAMESPACE, "logs", "deployment/outrigger", "--tail=80"]).text.lines() {
                println!("  {line}");
            }
            return;
        }
        // some tests end without the chart, and finalizers need the operator
        if self.get(&format!("-n {NAMESPACE} deployment/outrigger")).is_null()
            && let Err(problem) = self.install()
        {
            println!("installing the chart again, to clean up: {problem}");
        }
        self.sweep();
        let _ = uninstall();
    }

    /// Deletes everything that the tests make. `start` saw to it that nothing else is there.
    fn sweep(&self) {
        for kinds in ["actionruns", "extensiontargets,orchestratorextensions"] {
            self.kubectl(&["delete", kinds, "--all", "--all-namespaces", "--wait", "--timeout=60s"]);
        }
        self.kubectl(&["delete", "namespaces", "-l", E2E_LABEL, "--wait", "--timeout=120s"]);
    }

    /// Whether an earlier run left something. An error where a cluster is not only for tests: what is in it stays.
    fn has_leftovers(&self) -> Result<bool, String> {
        let listed = |arguments: &[&str]| {
            let printed = self.kubectl(&[&["get", "-o", "name"], arguments].concat());
            if printed.success { printed.text.trim().to_owned() } else { String::new() }
        };
        let found = listed(&["orchestratorextensions"]) + &listed(&["namespaces", "-l", E2E_LABEL]);
        let ours = std::env::var("KUBECONFIG").is_ok_and(|path| path.starts_with("/var/lib/outrigger-clusters/"));
        if !found.is_empty() && !ours {
            return Err(format!("the cluster is in use, and the tests would delete this:\n{found}"));
        }
        Ok(!found.is_empty())
    }

    /// Runs kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Printed {
        printed(Command::new("kubectl").args(arguments), None)
    }

    /// `kubectl apply` of a text.
    pub fn apply(&self, yaml: &str) -> Printed {
        printed(Command::new("kubectl").args(["apply", "-f", "-"]), Some(yaml))
    }

    /// `kubectl apply` of a text that must be taken.
    pub fn applied(&self, yaml: &str) {
        let printed = self.apply(yaml);
        assert!(printed.success, "{}\n{yaml}", printed.text);
    }

    /// An object as JSON; null where there is none. `what` is as kubectl takes it: `oext/name` or `-n ns arun/name`.
    pub fn get(&self, what: &str) -> Value {
        let mut arguments: Vec<_> = what.split(' ').collect();
        arguments.splice(0..0, ["get", "-o", "json", "--ignore-not-found"]);
        let printed = self.kubectl(&arguments);
        serde_json::from_str(&printed.text).unwrap_or(Value::Null)
    }

    /// Asks until `found` finds something in the object, for at most 90 s.
    pub fn wait<T>(&self, what: &str, waiting_for: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let object = self.get(what);
            if let Some(found) = found(&object) {
                return found;
            }
            let status = serde_json::to_string_pretty(&object["status"]).unwrap_or_default();
            assert!(
                started.elapsed() < Duration::from_secs(90),
                "{what}: no {waiting_for} after 90 s; status: {status}"
            );
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Waits for a condition of the object's current generation; returns it.
    pub fn condition(&self, what: &str, type_: &str, status: &str) -> Value {
        self.wait(what, &format!("{type_}={status}"), |object| {
            let condition = condition(object, type_)?;
            let current = condition["observedGeneration"] == object["metadata"]["generation"];
            (current && condition["status"] == status).then(|| condition.clone())
        })
    }

    /// Waits until the run has ended; returns it whole.
    pub fn finished(&self, namespace: &str, run: &str) -> Value {
        self.wait(&format!("-n {namespace} actionrun/{run}"), "end", |object| {
            condition(object, "Complete").is_some_and(|complete| complete["status"] == "True").then(|| object.clone())
        })
    }

    /// Makes a namespace under the strictest Pod Security level.
    pub fn namespace(&self, name: &str) {
        let labels = format!("{{pod-security.kubernetes.io/enforce: restricted, {E2E_LABEL}: ''}}");
        self.applied(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n"));
    }

    /// What is in the shared volume below `extensions/`, seen from the operator's pod.
    pub fn volume(&self, command: &str) -> String {
        let script = format!("cd /var/lib/outrigger/extensions && {command}");
        let printed = self.kubectl(&["-n", NAMESPACE, "exec", "deployment/outrigger", "--", "sh", "-c", &script]);
        printed.text
    }

    /// Waits until what is staged now is gone: what an extension fetches that fails and is tried again comes and goes.
    pub fn nothing_stays_staged(&self) {
        let (staged, started) = (self.volume("ls -A .staging"), Instant::now());
        let is_left = || staged.lines().any(|name| self.volume("ls -A .staging").lines().any(|left| left == name));
        while is_left() {
            assert!(started.elapsed() < Duration::from_secs(60), "left in .staging: {staged}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The lines that were appended to a file of the append server.
    pub fn appended(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("append").join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// The condition of an object.
pub fn condition<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// Choices that a seed repeats (splitmix64).
pub struct Random {
    /// What was begun with: `OUTRIGGER_SEED`, else another one each time.
    pub seed: u64,
    state: u64,
}

impl Random {
    /// Begins with `OUTRIGGER_SEED` if that is set.
    pub fn seeded() -> Self {
        let seed = std::env::var("OUTRIGGER_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        Self { seed, state: seed }
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
