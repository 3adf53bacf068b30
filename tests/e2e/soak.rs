//! Installs under SIGKILL: the controller runs beside the cluster, on a volume of its own, and is killed at random moments
//! while sources change, extensions are deleted and made again, and trees are damaged. What can be seen on the volume must be
//! whole each time, but for what was damaged, and all must be well in the end. Each third kill waits until an install is under
//! way.
//!
//! `OUTRIGGER_SOAK=1` kills 500 times instead of 30, or `OUTRIGGER_KILLS=<number>` times, and waits after each restart until
//! all is well, instead of after each fifth; `OUTRIGGER_SEED=<number>` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outrigger::digest::Digest;
use outrigger::store::{ExtensionName, Store};

use crate::Test;
use crate::beside::{Controller, wait_for_work};
use crate::harness::{Random, TIMEOUT, World, condition, look_at_source, root, run, until};
use crate::installation::uninstall;

/// The tests. They end with the chart uninstalled.
pub const TESTS: &[Test] = &[("installs_survive_a_kill_at_any_moment", installs_survive_a_kill_at_any_moment)];

const EXTENSIONS: usize = 50;
/// Namespace of this controller: its Lease and its Secrets.
const OWN: &str = "outrigger-soak";

fn installs_survive_a_kill_at_any_moment(world: &World) {
    let is_long = std::env::var_os("OUTRIGGER_SOAK").is_some();
    let asked = std::env::var("OUTRIGGER_KILLS").ok().map(|kills| kills.parse::<usize>().unwrap());
    let kills = asked.unwrap_or(if is_long { 500 } else { 30 });
    let random = Random::seeded();
    println!("{kills} kills, OUTRIGGER_SEED={}", random.seed);
    uninstall().unwrap();
    world.namespace(OWN);
    let mut soak = Soak::new(world, random);

    let mut controller = soak.start();
    crate::refused::by_the_definition(world);
    // whatever former tests left is not this volume's
    assert!(world.kubectl(&["delete", "orchestratorextensions", "--all", TIMEOUT]).success);
    world.applied(&(0..EXTENSIONS).map(|number| soak.resource(number)).collect::<String>());
    for kill in 0..kills {
        if is_long || kill % 5 == 4 {
            soak.wait_for_newest();
            soak.change_some();
        }
        if kill % 10 == 5 {
            soak.make_again();
        }
        // A kill at a moment that chance chose meets unfinished work now and then; each third one comes when there is some.
        let asking = match kill % 3 {
            2 => Some(soak.begin_work(kill)),
            _ => soak.wait_for_a_moment(is_long.then_some(kill)),
        };
        controller.kill();
        if let Some(mut asking) = asking {
            // the next one looks at everything by itself
            let _ = asking.kill();
            asking.wait().unwrap();
        }
        soak.check();
        if kill % 5 == 0 {
            soak.damage_one();
        }
        controller = soak.start();
    }
    println!("{} of {kills} kills left unfinished work; {} trees", soak.interrupted, soak.verified.len());
    assert!(soak.interrupted > 0, "no kill met an install: this proves nothing");
    soak.wait_for_newest();
    controller.kill();
    soak.check();
    let volume = soak.volume.display().to_string();
    run(Command::new(env!("CARGO_BIN_EXE_outrigger")).args(["store", "verify", "--store", &volume])).unwrap();

    let controller = soak.start();
    assert!(world.kubectl(&["delete", "orchestratorextensions", "--all", TIMEOUT]).success);
    assert_eq!(soak.links(), Vec::<String>::new());
    controller.kill();
    world.kubectl(&["delete", "namespace", OWN, "--wait=false"]);
}

struct Soak<'a> {
    world: &'a World,
    volume: PathBuf,
    random: Random,
    /// The newest content of each extension.
    versions: Vec<u64>,
    /// Trees that were read whole once.
    verified: BTreeSet<Digest>,
    /// Extensions whose tree was damaged and not seen whole since: their sources stay as they are until it is repaired.
    damaged: BTreeMap<usize, Digest>,
    /// Unfinished work that the last kill left.
    staging: BTreeSet<String>,
    interrupted: usize,
}

impl<'a> Soak<'a> {
    fn new(world: &'a World, random: Random) -> Self {
        let volume = world.dir.path().join("soak");
        std::fs::create_dir_all(&volume).unwrap();
        let (verified, damaged, staging) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let mut soak = Self { world, volume, random, versions: vec![], verified, damaged, staging, interrupted: 0 };
        for number in 0..EXTENSIONS {
            soak.versions.push(0);
            soak.pack(number);
        }
        soak
    }

    fn resource(&self, number: usize) -> String {
        let url = format!("{}/soak-{number}.tar", self.world.archives.trim_end_matches('/'));
        format!(
            "---\napiVersion: outrigger.dev/v1alpha1\nkind: OrchestratorExtension\nmetadata: {{name: soak-{number}}}\nspec: {{source: \
             {{type: archive, url: {url}}}, entrypoint: {{path: run.sh}}}}\n"
        )
    }

    fn script(&self, number: usize) -> String {
        format!("#!/bin/sh\necho {number} {}\n", self.versions[number])
    }

    /// Offers the newest content of an extension: a script, and something to write for a while.
    fn pack(&self, number: usize) {
        let mut archive = tar::Builder::new(Vec::new());
        let filler = self.script(number).repeat(1000);
        let files = (0..8).map(|file| (format!("data/{file}"), filler.clone()));
        for (path, content) in files.chain([("run.sh".to_owned(), self.script(number))]) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            archive.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let archives = self.world.dir.path().join("archives");
        let made = archives.join(format!(".soak-{number}"));
        std::fs::write(&made, archive.into_inner().unwrap()).unwrap();
        std::fs::rename(made, archives.join(format!("soak-{number}.tar"))).unwrap();
    }

    fn change_some(&mut self) {
        for number in 0..EXTENSIONS {
            if self.random.below(4) == 0 && !self.damaged.contains_key(&number) {
                self.versions[number] += 1;
                self.pack(number);
            }
        }
    }

    /// Deletes an extension, and applies it again once it is gone.
    fn make_again(&mut self) {
        let number = usize::try_from(self.random.below(EXTENSIONS as u64)).unwrap();
        let name = format!("orchestratorextension/soak-{number}");
        let deleted = self.world.kubectl(&["delete", &name, TIMEOUT]);
        assert!(deleted.success, "{}", deleted.text);
        assert!(!self.links().contains(&format!("soak-{number}")), "its link outlives it");
        self.world.applied(&self.resource(number));
    }

    /// Damages what an extension has installed, if it is what is to be installed.
    fn damage_one(&mut self) {
        let number = usize::try_from(self.random.below(EXTENSIONS as u64)).unwrap();
        let script = self.volume.join(format!("extensions/soak-{number}/run.sh"));
        if !self.is_newest(number) {
            return;
        }
        let name = ExtensionName::parse(&format!("soak-{number}")).unwrap();
        let tree = Store::reading(&self.volume).linked(&name).unwrap().unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(&script, "damaged").unwrap();
        self.damaged.insert(number, tree);
        self.verified.remove(&tree);
    }

    fn is_newest(&self, number: usize) -> bool {
        let script = self.volume.join(format!("extensions/soak-{number}/run.sh"));
        std::fs::read_to_string(script).is_ok_and(|text| text == self.script(number))
    }

    /// Starts the controller, and waits until it has recovered what its predecessor left.
    fn start(&mut self) -> Controller {
        // its holder is dead for sure; waiting for the Lease to run out would only take time
        self.world.kubectl(&["-n", OWN, "delete", "lease", "outrigger", "--ignore-not-found"]);
        let volume = self.volume.display().to_string();
        // no Job runs here: any small file does, and does not hold up the installs
        let runner = root().join("tests/e2e/probe/probe.sh").display().to_string();
        let arguments = ["--action-image=unused", "--store", &volume, "--runner", &runner];
        let mut controller = Controller::start(self.world, OWN, 0, &[], &arguments);
        controller.wait_for("the store is open");
        let left = entries(&self.volume.join("extensions/.staging"));
        let survived: Vec<_> = left.intersection(&self.staging).collect();
        assert!(survived.is_empty(), "start-up left unfinished work of the former process: {survived:?}");
        controller
    }

    /// Looks at the volume after a kill: every tree that can be seen is whole, and every link leads to one.
    fn check(&mut self) {
        self.staging = entries(&self.volume.join("extensions/.staging"));
        self.interrupted += usize::from(!self.staging.is_empty());
        let store = Store::reading(&self.volume);
        self.damaged.retain(|_, tree| store.check(tree).is_err());
        let damaged: BTreeSet<Digest> = self.damaged.values().copied().collect();
        let links = self.links();
        let linked = links.iter().map(|name| store.linked(&ExtensionName::parse(name).unwrap()).unwrap().unwrap());
        let linked: BTreeSet<Digest> = linked.collect();
        let trees: BTreeSet<Digest> = store.trees().unwrap().into_iter().collect();
        assert!(linked.is_subset(&trees), "a link dangles after a kill");
        for tree in trees.difference(&damaged) {
            // the older, the more of them there are: some are read again each time
            if self.verified.insert(*tree) || linked.contains(tree) || self.random.below(10) == 0 {
                store.check(tree).unwrap_or_else(|error| panic!("after a kill: {error}"));
            }
        }
    }

    /// The names of extensions on the volume.
    fn links(&self) -> Vec<String> {
        entries(&self.volume.join("extensions")).into_iter().filter(|name| !name.starts_with('.')).collect()
    }

    /// Changes some sources, and waits until one of them is being installed.
    fn begin_work(&mut self, kill: usize) -> Child {
        self.change_some();
        let asking = ask_for_looks(kill);
        wait_for_work(&self.volume);
        asking
    }

    /// Waits for a moment that chance chooses, shortly after some sources changed. With a kill's number it asks for looks first:
    /// where all was well nobody looks by himself for a while, and nothing would be under way.
    fn wait_for_a_moment(&mut self, ask_for: Option<usize>) -> Option<Child> {
        let asking = ask_for.map(ask_for_looks);
        std::thread::sleep(Duration::from_millis(self.random.below(if asking.is_some() { 700 } else { 1200 })));
        self.change_some();
        std::thread::sleep(Duration::from_millis(self.random.below(100)));
        asking
    }

    fn wait_for_newest(&self) {
        until("end of the installs", || {
            let list = self.world.get("orchestratorextensions");
            let items = list["items"].as_array().cloned().unwrap_or_default();
            let ready =
                |object: &&serde_json::Value| condition(object, "Ready").is_some_and(|ready| ready["status"] == "True");
            let newest = |number: &usize| self.is_newest(*number);
            let (ready, newest) = (items.iter().filter(ready).count(), (0..EXTENSIONS).filter(newest).count());
            let is_well = (items.len(), ready, newest) == (EXTENSIONS, EXTENSIONS, EXTENSIONS);
            if is_well { Ok(()) } else { Err(format!("{ready} are Ready and {newest} newest")) }
        });
    }
}

/// Asks for a look at every source, one after the other.
fn ask_for_looks(kill: usize) -> Child {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["annotate", "--overwrite", "oext", "--all", &look_at_source(&kill.to_string())]);
    kubectl.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn entries(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
