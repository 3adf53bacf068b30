//! The installed chart, and servers that pods can reach: what everything shares that runs against a cluster.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The operator's namespace.
pub const NAMESPACE: &str = "outrigger-system";

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Printed {
    /// Exit code 0.
    pub success: bool,
    /// Standard output, then standard error.
    pub text: String,
}

/// Installs or upgrades the chart and waits until it is ready. Sources may be fetched from `address`; `values` are more of
/// the chart's, as `key=value`.
pub fn install(address: &str, values: &[&str]) -> Result<(), String> {
    // the image that "make image" built and loaded
    let image = std::env::var("OUTRIGGER_IMAGE").unwrap_or_else(|_| "localhost/outrigger:dev".into());
    let (repository, tag) = image.rsplit_once(':').ok_or("OUTRIGGER_IMAGE has no tag")?;
    let chart = root().join("charts/outrigger");
    let values = values.iter().map(|value| format!("--set={value}"));
    run(Command::new("helm").args(["upgrade", "--install", "outrigger"]).arg(chart).args(values).args([
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--wait",
        "--timeout=300s",
        &format!("--set=image.repository={repository},image.tag={tag}"),
        &format!("--set=fetch.allowAddresses={{{address}/32}}"),
    ]))?;
    // the operator and its Jobs live under the strictest Pod Security level
    let label = "pod-security.kubernetes.io/enforce=restricted";
    run(Command::new("kubectl").args(["label", "--overwrite", "namespace", NAMESPACE, label])).map(drop)
}

/// Removes the chart.
pub fn uninstall() -> Result<(), String> {
    let chart = ["uninstall", "outrigger", "--namespace", NAMESPACE, "--ignore-not-found", "--wait"];
    run(Command::new("helm").args(chart)).map(drop)
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

/// Runs a command to its end, with a text as its standard input.
pub fn printed(command: &mut Command, input: Option<&str>) -> Printed {
    match output(command, input) {
        Ok(Output { status, stdout, stderr }) => Printed {
            success: status.success(),
            text: String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr),
        },
        Err(error) => Printed { success: false, text: format!("{command:?}: {error}") },
    }
}

fn output(command: &mut Command, input: Option<&str>) -> std::io::Result<Output> {
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
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
        // a group of its own, so that whatever it starts ends with it
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
