//! A volume in a mount namespace of its own, and trees to publish on it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use outrigger::digest::Digest;
use outrigger::store::{ExtensionName, LazyStore, Store, StoreError, Tree, Used};

/// In the test's second process: where the volume is mounted.
const MOUNTED: &str = "OUTRIGGER_TEST_VOLUME";

/// In the operator's process of a test: the volume, and which part of the test it is.
const OPERATED: &str = "OUTRIGGER_TEST_OPERATED_VOLUME";
const PART: &str = "OUTRIGGER_TEST_OPERATED_PART";

/// The grace of these tests.
pub const GRACE: Duration = Duration::from_secs(60);

/// Copies this program to `place`, where others may run it. In a process of its own: while this one has a program open for
/// writing, whatever another thread starts meanwhile has it open too, and it cannot be run ("text file busy").
pub fn copy_this_program(place: &Path) {
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(place).status().unwrap();
    assert!(copied.success());
}

/// Runs `body` with the volume that it may break: a tmpfs of `size`, mounted at its second argument `real` and seen at its first.
pub fn on_a_volume(test: &str, size: &str, body: impl Fn(&Path, &Path)) {
    if let Some(volume) = std::env::var_os(MOUNTED).map(PathBuf::from) {
        return body(&volume, &volume.with_file_name("real"));
    }
    let directory = tempfile::tempdir().unwrap();
    let ran = again(test, size, directory.path(), &[]);
    let output = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(!output.contains("cannot be mounted here"), "{output}");
    assert!(ran.status.success() && output.contains("1 passed"), "{output}");
}

/// Runs the test once more, in its own mount namespace, under `wrapper`.
pub fn again(test: &str, size: &str, directory: &Path, wrapper: &[&str]) -> Output {
    again_seen("mount --bind real seen", test, size, directory, wrapper)
}

/// The same with a volume whose `syncfs` the store does not trust, so that it syncs each file: an overlay over the tmpfs.
pub fn again_untrusted(test: &str, size: &str, directory: &Path, wrapper: &[&str]) -> Output {
    let mount = "mkdir real/lower real/upper real/work && \
                 mount -t overlay -o lowerdir=real/lower,upperdir=real/upper,workdir=real/work none seen";
    again_seen(mount, test, size, directory, wrapper)
}

fn again_seen(mount: &str, test: &str, size: &str, directory: &Path, wrapper: &[&str]) -> Output {
    let script = format!(
        "cd {} && mkdir -p real seen && mount -t tmpfs -o size={size},mode=0777 none real && {mount} || {{ echo \
         'a volume cannot be mounted here: run these tests as root, or where unshare --user is allowed'; exit 1; }}; exec \"$@\"",
        directory.display()
    );
    let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    Command::new("unshare")
        .args(user)
        .args(["--mount", "sh", "-c", &script, "sh"])
        .args(wrapper)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .env(MOUNTED, directory.join("seen"))
        .output()
        .unwrap_or_else(|error| panic!("unshare (of util-linux) does not run: {error}"))
}

/// A volume on which root makes something and the operator, which is another user, works.
pub struct Shared {
    directory: tempfile::TempDir,
    test: &'static str,
}

impl Shared {
    /// `None` where this is not root's process.
    pub fn new(test: &'static str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can make what is root's");
            return None;
        }
        let shared = Self { directory: tempfile::tempdir().unwrap(), test };
        fs::create_dir(shared.volume()).unwrap();
        for path in [shared.directory.path(), &shared.volume()] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        copy_this_program(&shared.program());
        Some(shared)
    }

    pub fn volume(&self) -> PathBuf {
        self.directory.path().join("volume")
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("tests")
    }

    /// Runs the test once more as the operator's user, who has to do this `part`.
    pub fn operate(&self, part: &str) {
        let ran = Command::new("setpriv")
            .args(["--reuid=65532", "--regid=65532", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
            .arg(self.program())
            .args(["--exact", "--nocapture", self.test])
            .env(OPERATED, self.volume())
            .env(PART, part)
            .env("TMPDIR", self.directory.path())
            .current_dir("/")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success() && output.contains("1 passed"), "{part}: {output}");
    }
}

/// The volume and what to do on it, if this is the operator's process.
pub fn operated() -> Option<(PathBuf, String)> {
    let volume = std::env::var_os(OPERATED).map(PathBuf::from)?;
    assert!(!rustix::process::geteuid().is_root());
    Some((volume, std::env::var(PART).unwrap()))
}

/// Whether this is the test's second process, in its own mount namespace.
pub fn is_again() -> bool {
    std::env::var_os(MOUNTED).is_some()
}

/// Runs a command that must succeed.
pub fn sh(script: &str) {
    let ran = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(ran.status.success(), "{script}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Publishes a tree of three files, of which one is as large as said, and links `x` to it.
pub fn install(store: &Store, content: &str, bytes: usize) -> Result<Tree, StoreError> {
    let tree = publish(store, content, bytes)?;
    store.link(&name(), &tree.digest)?;
    Ok(tree)
}

/// Publishes such a tree.
pub fn publish(store: &Store, content: &str, bytes: usize) -> Result<Tree, StoreError> {
    let staging = store.stage()?;
    let written = || -> std::io::Result<()> {
        fs::create_dir(staging.path().join("lib"))?;
        fs::write(staging.path().join("run.sh"), content)?;
        fs::write(staging.path().join("lib/small"), "small")?;
        fs::write(staging.path().join("lib/large"), content.repeat(bytes.div_ceil(content.len())))
    };
    // who unpacks says the same of the volume; here it only must not be taken for a success
    match written() {
        Ok(()) => store.publish(staging, None),
        Err(source) => {
            staging.remove();
            Err(StoreError::Io { doing: "write".into(), source })
        }
    }
}

/// The extension's name.
pub fn name() -> ExtensionName {
    ExtensionName::parse("x").unwrap()
}

/// All that must hold whatever failed: `x` leads to `tree`, every tree is whole, no unfinished work is left.
pub fn assert_intact(volume: &Path, tree: &Digest) {
    // one that may not write sweeps nothing, and so hides nothing
    let store = LazyStore::new(volume, None, || false);
    let store = store.get().unwrap();
    assert_eq!(store.linked(&name()).unwrap(), Some(*tree));
    for tree in store.trees().unwrap() {
        store.verify(&tree).unwrap();
    }
    assert!(fs::read(volume.join("extensions/x/run.sh")).is_ok());
    let left: Vec<_> = fs::read_dir(volume.join("extensions/.staging")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What is used is this tree.
pub fn used(tree: Digest) -> Used {
    Used { kept: [tree].into(), ..Used::default() }
}

/// A time in the future.
pub fn later(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}

/// Fills a file system until it takes nothing more, but for `left` bytes.
pub fn fill(real: &Path, left: usize) {
    use std::io::Write as _;
    let mut filler = fs::File::create(real.join("filler")).unwrap();
    let mut bytes = 0;
    while filler.write_all(&[0; 4096]).is_ok() {
        bytes += 4096;
    }
    filler.set_len(u64::try_from(bytes - left.min(bytes)).unwrap()).unwrap();
}
