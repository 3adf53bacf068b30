//! What the end-to-end tests share: the installed operator, and what they ask and tell it.
//!
//! No test rests on how fast the machine is. What takes a while is waited for, for [`PATIENCE`]; what has to last until a
//! test has seen something waits at a [gate](World::open); and a request that the API server or the operator's webhook did
//! not answer is made again.

use std::process::Command;
use std::time::{Duration, Instant};

use outrigger::api::RECONCILE_REQUESTED_AT;
use serde_json::Value;

pub use crate::installation::{NAMESPACE, Printed, Server, cluster, end_group, root, run};
use crate::installation::{install, printed, uninstall};
use crate::objects::Objects;

/// How long is waited for what comes by itself. Only tests that fail wait so long.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// The same for kubectl.
pub const TIMEOUT: &str = "--timeout=240s";
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

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
    /// The cluster's objects.
    pub objects: Objects,
    append: String,
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
        let objects = Objects::new()?;
        let world = Self { address, dir, git, archives, objects, append, _servers: servers };
        let has_leftovers = world.has_leftovers()?;
        if is_ours() {
            world.forget_earlier_runs()?;
        }
        world.install()?;
        if has_leftovers {
            world.sweep();
            world.kubectl(&["delete", "namespaces", "-l", E2E_LABEL, "--wait", TIMEOUT]);
        }
        Ok(world)
    }

    /// Deletes what earlier runs left of the operator: its CAs (a third one would have to wait for an hour), what a test that
    /// failed put in the chart's place, and claims, whose volumes are a dozen.
    fn forget_earlier_runs(&self) -> Result<(), String> {
        uninstall()?;
        for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
            self.kubectl(&["delete", kind, "outrigger", "--ignore-not-found"]);
        }
        self.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found", TIMEOUT]);
        run(&mut cluster(&["volumes"])).map(drop)
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
        let is_empty = |kind: &str| self.get(kind)["items"].as_array().is_none_or(Vec::is_empty);
        if !(is_empty("actionruns") && is_empty("orchestratorextensions"))
            && let Err(problem) = self.install()
        {
            println!("installing the chart again, to clean up: {problem}");
        }
        self.sweep();
        self.kubectl(&["delete", "namespaces", "-l", E2E_LABEL, "--wait", TIMEOUT]);
        let _ = uninstall();
    }

    /// Deletes everything that the tests make; the namespaces go in the background. `start` saw to it that nothing else is
    /// there. Tests that come later would have to wait for it otherwise.
    pub fn sweep(&self) {
        for kinds in ["actionruns", "extensiontargets,orchestratorextensions"] {
            self.kubectl(&["delete", kinds, "--all", "--all-namespaces", "--wait", TIMEOUT]);
        }
        self.kubectl(&["delete", "namespaces", "-l", E2E_LABEL, "--wait=false"]);
    }

    /// Whether an earlier run left something. An error where a cluster is not only for tests: what is in it stays.
    fn has_leftovers(&self) -> Result<bool, String> {
        let listed = |arguments: &[&str]| {
            let printed = self.kubectl(&[&["get", "-o", "name"], arguments].concat());
            if printed.success { printed.text.trim().to_owned() } else { String::new() }
        };
        let found = listed(&["orchestratorextensions"]) + &listed(&["namespaces", "-l", E2E_LABEL]);
        if !found.is_empty() && !is_ours() {
            return Err(format!("the cluster is in use, and the tests would delete this:\n{found}"));
        }
        Ok(!found.is_empty())
    }

    /// Runs kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Printed {
        answered(|| printed(Command::new("kubectl").args(arguments), None))
    }

    /// Asks for a look at an extension's source now, by a token that no other request has.
    pub fn ask_for_look(&self, name: &str, token: &str) {
        let asked = self.kubectl(&["annotate", "--overwrite", "oext", name, &look_at_source(token)]);
        assert!(asked.success, "{}", asked.text);
    }

    /// `kubectl apply` of a text.
    pub fn apply(&self, yaml: &str) -> Printed {
        answered(|| self.apply_once(yaml))
    }

    /// The same, and not again where nobody answers.
    pub fn apply_once(&self, yaml: &str) -> Printed {
        printed(Command::new("kubectl").args(["apply", "-f", "-"]), Some(yaml))
    }

    /// `kubectl apply` of a text that must be taken.
    pub fn applied(&self, yaml: &str) {
        let printed = self.apply(yaml);
        assert!(printed.success, "{}\n{yaml}", printed.text);
    }

    /// An object as JSON, null where there is none, or a list. `what` is as [`Objects::get`] takes it.
    pub fn get(&self, what: &str) -> Value {
        until(what, || self.objects.get(what))
    }

    /// Asks until `found` finds something in the object.
    pub fn wait<T>(&self, what: &str, waiting_for: &str, found: impl Fn(&Value) -> Option<T>) -> T {
        until(&format!("{waiting_for} of {what}"), || {
            let object = self.objects.get(what)?;
            found(&object).ok_or_else(|| format!("status: {:#}", object["status"]))
        })
    }

    /// Waits for a condition of the object's current generation; returns it.
    pub fn condition(&self, what: &str, type_: &str, status: &str) -> Value {
        self.wait(what, &format!("{type_}={status}"), |object| {
            let condition = condition(object, type_)?;
            let current = condition["observedGeneration"] == object["metadata"]["generation"];
            (current && condition["status"] == status).then(|| condition.clone())
        })
    }

    /// The same, of one with this reason.
    pub fn condition_for(&self, what: &str, type_: &str, status: &str, reason: &str) -> Value {
        self.wait(what, &format!("{type_}={status} {reason}"), |object| {
            let condition = condition(object, type_)?;
            let current = condition["observedGeneration"] == object["metadata"]["generation"];
            (current && condition["status"] == status && condition["reason"] == reason).then(|| condition.clone())
        })
    }

    /// Waits until the run has ended; returns it whole.
    pub fn finished(&self, namespace: &str, run: &str) -> Value {
        self.wait(&format!("-n {namespace} arun/{run}"), "end", |object| {
            condition(object, "Complete").is_some_and(|complete| complete["status"] == "True").then(|| object.clone())
        })
    }

    /// Makes a namespace under the strictest Pod Security level.
    pub fn namespace(&self, name: &str) {
        let labels = format!("{{pod-security.kubernetes.io/enforce: restricted, {E2E_LABEL}: ''}}");
        self.applied(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {labels}}}\n"));
    }

    /// Runs a command in the operator's pod, as often as there is none that takes it.
    pub fn exec(&self, command: &[&str]) -> Printed {
        let exec = ["-n", NAMESPACE, "exec", "deployment/outrigger", "--"];
        until("pod of the operator", || {
            let printed = self.kubectl(&[&exec[..], command].concat());
            let is_gone = |words: &&str| printed.text.contains(words);
            let gone =
                ["error dialing backend", "container not found", "unable to upgrade connection", "(NotFound): pods"];
            if !printed.success && gone.iter().any(is_gone) { Err(printed.text) } else { Ok(printed) }
        })
    }

    /// What is in the shared volume below `extensions/`, seen from the operator's pod.
    pub fn volume(&self, command: &str) -> String {
        self.exec(&["sh", "-c", &format!("cd /var/lib/outrigger/extensions && {command}")]).text
    }

    /// Waits until what is staged now is gone: what an extension fetches that fails and is tried again comes and goes.
    pub fn nothing_stays_staged(&self) {
        let staged = self.volume("ls -A .staging");
        until("end of what is staged", || {
            let left = self.volume("ls -A .staging");
            if staged.lines().any(|name| left.lines().any(|left| left == name)) { Err(left) } else { Ok(()) }
        });
    }

    /// Waits until `kubectl describe` shows a line with all of these words: events come later than what they tell of.
    pub fn described(&self, what: &str, words: &[&str]) {
        until(&format!("{words:?} in the description of {what}"), || {
            let text = self.kubectl(&[&["describe"], &what.split(' ').collect::<Vec<_>>()[..]].concat()).text;
            let found = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
            if found { Ok(()) } else { Err(text) }
        });
    }

    /// The URL of a file of the append server.
    pub fn append_url(&self, file: &str) -> String {
        format!("{}/append/{file}", self.append.trim_end_matches('/'))
    }

    /// Opens a gate: scripts that wait until the file of this name has a line go on, and say so by another line.
    pub fn open(&self, gate: &str) {
        std::fs::write(self.dir.path().join("append").join(gate), "open\n").unwrap();
    }

    /// The lines that were appended to a file of the append server.
    pub fn appended(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("append").join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a file of the append server has so many lines.
    pub fn lines(&self, file: &str, count: usize) {
        until(&format!("{count} lines of {file}"), || {
            let lines = self.appended(file);
            if lines.len() >= count { Ok(()) } else { Err(format!("{lines:?}")) }
        });
    }
}

/// Whether the cluster is the local one, which is there for tests only.
pub fn is_ours() -> bool {
    std::env::var("KUBECONFIG").is_ok_and(|path| path.starts_with("/var/lib/outrigger-clusters/"))
}

/// Asks until there is an answer. What was seen instead is shown where none comes.
pub fn until<T>(waiting_for: &str, ask: impl Fn() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        // before it is asked: a machine that stood still is asked once more
        let is_last = started.elapsed() > PATIENCE;
        match ask() {
            Ok(found) => return found,
            Err(seen) => assert!(!is_last, "no {waiting_for} after {} s: {seen}", PATIENCE.as_secs()),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Asks again where nobody answered, so that nothing was done: neither the API server nor, on its behalf, the webhook.
fn answered(ask: impl Fn() -> Printed) -> Printed {
    let unanswered = ["failed calling webhook", "Unable to connect to the server", "The connection to the server"];
    let started = Instant::now();
    loop {
        let printed = ask();
        let is_answered = printed.success || !unanswered.iter().any(|words| printed.text.contains(words));
        if is_answered || started.elapsed() > PATIENCE {
            return printed;
        }
        println!("asked again: {}", printed.text.trim());
        std::thread::sleep(PAUSE);
    }
}

/// The annotation that asks for a look at an extension's source now.
pub fn look_at_source(token: &str) -> String {
    format!("{RECONCILE_REQUESTED_AT}={token}")
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
