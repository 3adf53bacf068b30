//! A small file system that can be made to fail, in a mount namespace of its own, and a controller beside the cluster that
//! has it as its volume.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outrigger::digest::Digest;
use outrigger::store::{ExtensionName, LazyStore};
use serde_json::Value;

use crate::beside::Controller;
use crate::harness::{PATIENCE, TIMEOUT, World, condition, root, until};
use crate::installation::uninstall;

/// Namespace of these controllers, and of the runs.
pub const OWN: &str = "outrigger-faults";

/// A tmpfs at `real`, seen by controllers at `seen`, in a mount namespace that ends with this.
pub struct Volume {
    holder: Child,
    directory: PathBuf,
}

impl Volume {
    fn new(world: &World, size: &str) -> Self {
        let directory = world.dir.path().join("faults");
        std::fs::create_dir_all(&directory).unwrap();
        let script = format!(
            "cd {}; mkdir -p real seen; mount -t tmpfs -o size={size} none real; mount --bind real seen; exec sleep 3600",
            directory.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", &script]).stdin(Stdio::null());
        let volume = Self { holder: command.spawn().unwrap(), directory };
        let started = Instant::now();
        // its own namespace, and not this one's
        while !volume.sh_printed("mountpoint -q seen && cat /proc/$$/comm").0 || volume.inside("seen") == PathBuf::new()
        {
            assert!(started.elapsed() < PATIENCE, "no tmpfs can be mounted; these tests need root");
            std::thread::sleep(Duration::from_millis(50));
        }
        volume
    }

    fn holder(&self) -> String {
        self.holder.id().to_string()
    }

    /// A path of the volume, as this process reaches it.
    pub fn inside(&self, path: &str) -> PathBuf {
        let path = self.directory.join(path);
        PathBuf::from(format!("/proc/{}/root{}", self.holder(), path.display()))
    }

    /// Runs a script in the volume's mount namespace, beside `real` and `seen`.
    pub fn sh(&self, script: &str) -> String {
        let (success, text) = self.sh_printed(script);
        assert!(success, "{script}: {text}");
        text
    }

    fn sh_printed(&self, script: &str) -> (bool, String) {
        let script = format!("cd {}; {script}", self.directory.display());
        let ran = Command::new("nsenter").args(["--mount", "--target", &self.holder(), "sh", "-ec", &script]).output();
        let ran = ran.unwrap();
        let text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        (ran.status.success(), text)
    }

    /// Leaves no room on it.
    pub fn fill(&self) {
        let _ = self.sh_printed("cat /dev/zero > real/filler 2>/dev/null");
        assert!(!self.sh_printed("echo more > real/more").0, "the volume is full");
    }

    /// Every tree is whole and `extension` leads to one; no unfinished work is left.
    pub fn assert_intact(&self, extension: &str) -> Digest {
        let store = LazyStore::new(&self.inside("seen"), None, || false);
        let store = store.get().unwrap();
        for tree in store.trees().unwrap() {
            store.verify(&tree).unwrap();
        }
        store.linked(&ExtensionName::parse(extension).unwrap()).unwrap().unwrap()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("what is on the volume:\n{}", self.sh_printed("df -k real; du -a real | sort -n | tail -40").1);
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// One controller on a volume, alone in the cluster.
pub struct Bench<'a> {
    world: &'a World,
    /// The volume.
    pub volume: Volume,
    /// The controller that runs.
    pub controller: Option<Controller>,
}

impl<'a> Bench<'a> {
    /// Starts a controller on a volume of this size.
    pub fn new(world: &'a World, size: &str) -> Self {
        uninstall().unwrap();
        world.namespace(OWN);
        let kinds = ["actionruns", "orchestratorextensions"];
        let listed = |kind: &&str| world.kubectl(&["get", kind, "--all-namespaces", "-o", "name"]).text;
        if kinds.iter().any(|kind| listed(kind).contains('/')) {
            // what former tests left would take up room: it goes on a volume of its own
            let mut before = Self { world, volume: Volume::new(world, "256m"), controller: None };
            before.start("the store is open");
            for kind in kinds {
                assert!(world.kubectl(&["delete", kind, "--all", "--all-namespaces", TIMEOUT]).success);
            }
            if let Some(controller) = before.controller.take() {
                controller.kill();
            }
        }
        let mut bench = Self { world, volume: Volume::new(world, size), controller: None };
        bench.start("the store is open");
        bench
    }

    /// Starts the controller; what ran before is dead for sure, so that its Lease need not be waited for.
    fn start(&mut self, until: &str) {
        self.world.kubectl(&["-n", OWN, "delete", "lease", "outrigger", "--ignore-not-found"]);
        let mut controller = self.another(0);
        controller.wait_for(until);
        self.controller = Some(controller);
    }

    /// Starts another controller on the same volume.
    pub fn another(&self, number: u16) -> Controller {
        let store = self.volume.directory.join("seen").display().to_string();
        let runner = root().join("tests/e2e/probe/probe.sh").display().to_string();
        let before = ["nsenter", "--mount", "--target", &self.volume.holder()].map(str::to_owned);
        let before: Vec<&str> = before.iter().map(String::as_str).collect();
        let arguments = ["--action-image=unused", "--store", &store, "--runner", &runner];
        Controller::start(self.world, OWN, number, &before, &arguments)
    }

    /// Kills the controller and starts it again.
    pub fn restart(&mut self, until: &str) {
        if let Some(controller) = self.controller.take() {
            controller.kill();
        }
        self.start(until);
    }

    /// Offers a version of an extension: `kilobytes` of files, and `run.sh` that says which it is.
    pub fn offer(&self, name: &str, version: &str, kilobytes: usize) {
        let mut archive = tar::Builder::new(Vec::new());
        let files = (0..kilobytes).map(|file| (format!("data/{file}"), version.repeat(1024)[..1024].to_owned()));
        for (path, content) in files.chain([("run.sh".to_owned(), script(version))]) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            archive.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let archives = self.world.dir.path().join("archives");
        std::fs::write(archives.join(".faults"), archive.into_inner().unwrap()).unwrap();
        std::fs::rename(archives.join(".faults"), archives.join(format!("{name}.tar"))).unwrap();
    }

    fn apply(&self, name: &str) {
        let url = format!("{}/{name}.tar", self.world.archives.trim_end_matches('/'));
        self.world.applied(&format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata: {{name: {name}}}\nspec: {{source: {{type: \
             archive, url: {url}}}, entrypoint: {{path: run.sh}}, customActions: [{{name: Act, enabled: true}}]}}\n"
        ));
    }

    /// Offers and installs a version.
    pub fn installed(&self, name: &str, version: &str) {
        self.offer(name, version, 4);
        self.apply(name);
        self.world.condition(&format!("oext/{name}"), "Ready", "True");
        self.reads(name, version);
    }

    /// Asks for a reconcile, and waits until it is answered with this condition and reason.
    pub fn reconciled(&self, name: &str, type_: &str, status: &str, reason: &str) -> Value {
        let token = format!("{:?}", Instant::now());
        self.world.ask_for_look(name, &token);
        self.world.wait(&format!("oext/{name}"), &format!("{type_}={status} {reason}"), |object| {
            let condition = condition(object, type_)?;
            let handled = object["status"]["lastHandledReconcileAt"] == token.as_str();
            (handled && condition["status"] == status && condition["reason"] == reason).then(|| object.clone())
        })
    }

    /// The volume has this version.
    pub fn reads(&self, name: &str, version: &str) {
        let read = std::fs::read_to_string(self.volume.inside(&format!("seen/extensions/{name}/run.sh")));
        assert_eq!(read.unwrap(), script(version));
    }

    /// Waits until the volume has this version, without having asked for anything.
    pub fn recovers(&self, name: &str, version: &str) {
        self.world.condition(&format!("oext/{name}"), "Ready", "True");
        self.reads(name, version);
        self.nothing_stays_staged();
        self.volume.assert_intact(name);
    }

    /// Waits until nothing is staged: what is fetched, fails and is tried again comes and goes.
    pub fn nothing_stays_staged(&self) {
        until("end of what is staged", || {
            let staged = self.volume.sh("ls -A seen/extensions/.staging");
            if staged.is_empty() { Ok(()) } else { Err(staged) }
        });
    }

    /// Creates a run of an extension.
    pub fn run(&self, name: &str, extension: &str) {
        self.world.applied(&format!(
            "apiVersion: outrigger.dev/v1alpha1\nkind: ActionRun\nmetadata: {{name: {name}, namespace: {OWN}}}\nspec: \
             {{extensionRef: {{name: {extension}}}, action: Act}}\n"
        ));
    }

    /// Waits until a run has its Job. The Job's pod never starts: the claim is no real one.
    pub fn is_started(&self, name: &str) {
        self.world.wait(&format!("-n {OWN} arun/{name}"), "Job", |run| {
            run["status"]["attempts"][0]["job"].as_str().map(drop)
        });
    }

    /// Deletes what was made, and ends the controller.
    pub fn end(mut self, extensions: &[&str]) {
        self.world.kubectl(&["-n", OWN, "delete", "actionruns", "--all", TIMEOUT]);
        for name in extensions {
            let deleted = self.world.kubectl(&["delete", "oext", name, TIMEOUT]);
            assert!(deleted.success, "{}", deleted.text);
            assert!(!self.volume.inside(&format!("seen/extensions/{name}")).is_symlink());
        }
        if let Some(controller) = self.controller.take() {
            controller.kill();
        }
        self.world.kubectl(&["-n", OWN, "delete", "lease", "outrigger", "--ignore-not-found"]);
    }
}

/// The content of `run.sh`.
pub fn script(version: &str) -> String {
    format!("#!/bin/sh\necho {version}\n")
}
