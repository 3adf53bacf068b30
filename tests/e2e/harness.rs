//! What the end-to-end tests share: the cluster, the installed chart, and servers that pods can reach.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The operator's namespace.
pub const NAMESPACE: &str = "outrigger-system";

/// The image that `make image` built and loaded.
fn image() -> String {
    std::env::var("OUTRIGGER_IMAGE").unwrap_or_else(|_| "localhost/outrigger:dev".into())
}

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

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Printed {
    /// Exit code 0.
    pub success: bool,
    /// Standard output, then standard error.
    pub text: String,
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
        world.install()?;
        Ok(world)
    }

    /// Installs or upgrades the chart and waits until it is ready.
    pub fn install(&self) -> Result<(), String> {
        let image = image();
        let (repository, tag) = image.rsplit_once(':').ok_or("IMAGE has no tag")?;
        let chart = root().join("charts/outrigger");
        run(Command::new("helm").args(["upgrade", "--install", "outrigger"]).arg(chart).args([
            "--namespace",
            NAMESPACE,
            "--create-namespace",
            "--wait",
            "--timeout=120s",
            &format!("--set=image.repository={repository},image.tag={tag}"),
            &format!("--set=fetch.allowAddresses={{{}/32}}", self.address),
        ]))?;
        // the operator and its Jobs live under the strictest Pod Security level
        let label = "pod-security.kubernetes.io/enforce=restricted";
        run(Command::new("kubectl").args(["label", "--overwrite", "namespace", NAMESPACE, label])).map(drop)
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
        for kinds in ["actionruns", "extensiontargets,orchestratorextensions"] {
            self.kubectl(&["delete", kinds, "--all", "--all-namespaces", "--wait", "--timeout=60s"]);
        }
        let _ = run(Command::new("helm").args(["uninstall", "outrigger", "--namespace", NAMESPACE, "--wait"]));
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
        let labels = "labels: {pod-security.kubernetes.io/enforce: restricted}";
        self.applied(&format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, {labels}}}\n"));
    }

    /// What is in the shared volume below `extensions/`, seen from the operator's pod.
    pub fn volume(&self, command: &str) -> String {
        let script = format!("cd /var/lib/outrigger/extensions && {command}");
        let printed = self.kubectl(&["-n", NAMESPACE, "exec", "deployment/outrigger", "--", "sh", "-c", &script]);
        printed.text
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

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command of the cluster script.
pub fn cluster(arguments: &[&str]) -> Command {
    let mut command = Command::new(root().join("tests/cluster/cluster"));
    command.args(arguments);
    command
}

/// Runs a command to its end; its output, or why it failed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let printed = printed(command, None);
    if printed.success { Ok(printed.text) } else { Err(format!("{command:?}: {}", printed.text)) }
}

fn printed(command: &mut Command, input: Option<&str>) -> Printed {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Printed { success: output.status.success(), text }
}

/// A program of `tests/servers` where pods can reach it. It ends when this is dropped.
pub struct Server {
    /// Where it listens.
    pub url: String,
    child: Child,
}

impl Server {
    /// Starts a program on a free port, and waits until it listens.
    pub fn start(program: &str, address: &str, arguments: &[&str]) -> Result<Self, String> {
        let path: PathBuf = root().join("tests/servers").join(program);
        let mut command = cluster(&["exec"]);
        command.arg(path).args(["--bind", address]).args(arguments);
        // a group of its own: the script that enters the cluster's network stays its parent
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{command:?}: {error}"))?;
        let mut line = String::new();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut server = Self { url: String::new(), child };
        BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
        match line.trim().strip_prefix("listening on ") {
            Some(url) => {
                url.clone_into(&mut server.url);
                Ok(server)
            }
            None => Err(format!("{command:?} said {line:?} instead of where it listens")),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end_group(&mut self.child);
    }
}

/// Ends a process that was started in a group of its own, with all that it started.
pub fn end_group(child: &mut Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
    let _ = child.wait();
}
