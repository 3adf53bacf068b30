//! Tests of what is kept of runs.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

const UID: &str = "0d7e5c52-9a5e-4a0e-8f6b-0123456789ab";

fn key(run: &str) -> OutputKey {
    OutputKey::new("team-a", run, UID).unwrap()
}

fn outputs() -> (tempfile::TempDir, Outputs) {
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs::open(dir.path()).unwrap();
    (dir, outputs)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn what_is_kept_is_read_back_by_its_name_for_each_attempt() {
    let (_dir, outputs) = outputs();
    outputs.keep(&key("backup"), 1, b"out\xff", b"").unwrap();
    outputs.keep(&key("backup"), 2, b"", b"err").unwrap();
    outputs.keep(&key("other"), 1, b"x", b"y").unwrap();
    let kept = outputs.of("team-a", "backup").unwrap();
    assert_eq!(kept.iter().map(|kept| kept.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(outputs.read(&kept[0]).unwrap(), (b"out\xff".to_vec(), vec![]));
    assert_eq!(outputs.read(&kept[1]).unwrap(), (vec![], b"err".to_vec()));
    assert_eq!(outputs.list().unwrap().len(), 3);
    assert!(outputs.of("team-b", "backup").unwrap().is_empty());
}

#[test]
fn only_the_operators_user_can_read_what_is_kept() {
    let (dir, outputs) = outputs();
    outputs.keep(&key("backup"), 1, b"out", b"err").unwrap();
    let attempt = dir.path().join(format!("runs/team-a/backup/{UID}/1"));
    for path in attempt.ancestors().take(5) {
        assert_eq!(mode(path), 0o700, "{path:?}");
    }
    assert_eq!((mode(&attempt.join("stdout")), mode(&attempt.join("stderr"))), (0o600, 0o600));
}

#[test]
fn the_same_attempt_again_changes_nothing_and_leaves_nothing() {
    let (dir, outputs) = outputs();
    outputs.keep(&key("backup"), 1, b"first", b"").unwrap();
    outputs.keep(&key("backup"), 1, b"second", b"").unwrap();
    let kept = outputs.of("team-a", "backup").unwrap();
    assert_eq!(outputs.read(&kept[0]).unwrap().0, b"first");
    assert_eq!(std::fs::read_dir(dir.path().join("runs/.staging")).unwrap().count(), 0);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (namespace, run, uid) in [
        ("..", "r", UID),
        ("team-a", "..", UID),
        ("team-a", "../../extensions", UID),
        (".staging", "r", UID),
        ("team-a", "r", ".."),
        ("team-a", "r", "a/b"),
        ("team-a", "r", ""),
        ("", "r", UID),
    ] {
        let error = OutputKey::new(namespace, run, uid).unwrap_err().to_string();
        assert!(error.contains("is none that Kubernetes gives"), "{error}");
    }
    assert!(OutputKey::new("n", &"r".repeat(253), UID).is_ok());
    let (_dir, outputs) = outputs();
    assert!(outputs.of("..", "extensions").unwrap().is_empty());
}

#[test]
fn no_link_in_the_way_is_followed() {
    let (dir, outputs) = outputs();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), dir.path().join("runs/team-a")).unwrap();
    assert!(outputs.keep(&key("backup"), 1, b"out", b"").is_err());
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(outputs.of("team-a", "backup").is_err());
}

#[test]
fn what_is_no_directory_does_not_hide_what_is_kept() {
    let (dir, outputs) = outputs();
    outputs.keep(&key("backup"), 1, b"out", b"").unwrap();
    let runs = dir.path().join("runs");
    for stray in ["lost+found", "team-a/note", "team-a/backup/0", &format!("team-a/backup/{UID}/7")] {
        std::fs::write(runs.join(stray), "stray").unwrap();
    }
    symlink(&runs, runs.join("link")).unwrap();
    assert_eq!(outputs.list().unwrap().len(), 1);
    assert_eq!(outputs.of("team-a", "backup").unwrap().len(), 1);
}

#[test]
fn what_everything_takes_is_known_without_looking() {
    let (dir, outputs) = outputs();
    outputs.keep(&key("backup"), 1, b"out", b"error").unwrap();
    outputs.keep(&key("backup"), 1, b"again", b"").unwrap();
    outputs.clone().keep(&key("backup"), 2, b"1234", b"").unwrap();
    assert_eq!(outputs.total(), 2 * OVERHEAD_BYTES + 12);
    let other = Outputs::open(dir.path()).unwrap();
    let kept = other.list().unwrap();
    assert_eq!(other.total(), 2 * OVERHEAD_BYTES + 12);
    other.remove(&kept[0]).unwrap();
    other.remove(&kept[0]).unwrap();
    other.list().unwrap();
    assert_eq!(other.total(), kept[1].bytes);
}

#[test]
fn what_is_removed_takes_its_empty_directories_along() {
    let (dir, outputs) = outputs();
    for attempt in [1, 2] {
        outputs.keep(&key("backup"), attempt, b"out", b"").unwrap();
    }
    let kept = outputs.list().unwrap();
    outputs.remove(&kept[0]).unwrap();
    assert_eq!(outputs.list().unwrap(), kept[1..]);
    outputs.remove(&kept[1]).unwrap();
    outputs.remove(&kept[1]).unwrap();
    assert!(!dir.path().join("runs/team-a").exists());
    outputs.keep(&key("backup"), 1, b"out", b"").unwrap();
}

#[test]
fn what_a_crash_left_is_gone_at_the_next_start_and_the_rest_stays() {
    let (dir, outputs) = outputs();
    outputs.keep(&key("backup"), 1, b"out", b"").unwrap();
    let half = dir.path().join("runs/.staging/half");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("stdout"), "ou").unwrap();
    let outputs = Outputs::open(dir.path()).unwrap();
    assert!(!half.exists());
    assert_eq!(outputs.list().unwrap().len(), 1);
}

fn aged(namespace: &str, run: &str, age: u64, bytes: u64) -> KeptOutput {
    let since = UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
    KeptOutput { key: OutputKey::new(namespace, run, UID).unwrap(), attempt: 1, bytes, since }
}

fn expired(all: &[KeptOutput], age: u64, bytes: u64) -> Vec<KeptOutput> {
    let retention = Retention { age: Duration::from_secs(age), bytes };
    retention.expired(all.to_vec(), UNIX_EPOCH + Duration::from_secs(1_000_000))
}

#[test]
fn the_oldest_of_a_namespace_go_first_and_what_is_too_old_at_once() {
    let kept = |run, age, bytes| aged("team-a", run, age, bytes);
    let all = [kept("b", 20, 40), kept("old", 101, 1), kept("a", 10, 50), kept("c", 30, 30), kept("d", 40, 5)];
    let gone = |age, bytes| {
        let mut gone: Vec<String> = expired(&all, age, bytes).iter().map(|kept| kept.key.run().to_owned()).collect();
        gone.sort();
        gone
    };
    assert_eq!(gone(100, 1000), ["old"]);
    assert_eq!(gone(100, 90), ["c", "d", "old"], "nothing older than what does not fit stays");
    assert_eq!(gone(100, 0), ["a", "b", "c", "d", "old"]);
    assert_eq!(gone(15, 1000), ["b", "c", "d", "old"]);
}

#[test]
fn a_namespace_that_prints_much_loses_its_own() {
    let mut all: Vec<_> = (0..100_u32).map(|number| aged("noisy", &format!("n-{number}"), number.into(), 10)).collect();
    all.extend([aged("quiet", "only", 1000, 10), aged("other", "only", 900, 40)]);
    let gone = expired(&all, 10_000, 100);
    assert!(gone.iter().all(|output| output.key.namespace() == "noisy"));
    assert_eq!(gone.len(), 95);
}

proptest::proptest! {
    #[test]
    fn what_stays_fits_and_a_namespace_within_its_share_loses_nothing(
        outputs in proptest::collection::vec((0..5_u8, 0..100_u64, 1..1000_u64), 0..60),
        bytes in 0..20_000_u64,
    ) {
        let all: Vec<KeptOutput> = outputs
            .iter()
            .enumerate()
            .map(|(run, (namespace, age, bytes))| aged(&format!("n{namespace}"), &format!("r{run}"), *age, *bytes))
            .collect();
        let gone = expired(&all, 80, bytes);
        let is_old = |output: &&KeptOutput| output.since < UNIX_EPOCH + Duration::from_secs(1_000_000 - 80);
        let stays: Vec<_> = all.iter().filter(|output| !gone.contains(output)).collect();
        proptest::prop_assert!(stays.iter().map(|output| output.bytes).sum::<u64>() <= bytes);
        proptest::prop_assert!(all.iter().filter(is_old).all(|output| gone.contains(output)));
        let of = |namespace: &str, outputs: &[&KeptOutput]| -> u64 {
            outputs.iter().filter(|output| output.key.namespace() == namespace).map(|output| output.bytes).sum()
        };
        let young: Vec<_> = all.iter().filter(|output| !is_old(output)).collect();
        for output in gone.iter().filter(|output| !is_old(output)) {
            let namespace = output.key.namespace();
            proptest::prop_assert!(of(namespace, &young) > bytes / 5, "{namespace} is within its share");
            let older = stays.iter().find(|kept| kept.key.namespace() == namespace && kept.since < output.since);
            proptest::prop_assert!(older.is_none(), "{older:?} is older than {output:?}");
        }
    }
}
