//! How often the kernel killed a process of this container because memory was used up, and whose.
//!
//! With version 2 of control groups kubelet usually has the whole container killed, this process included. Where it has
//! not, and with version 1, only one process dies, and the script fails for a reason that it does not know.

use std::fs;

use crate::protocol::Fault;

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// What was counted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kills {
    /// Processes of this group that were killed, whosever memory was used up: the group's, its pod's or the machine's.
    killed: u64,
    /// How often this group's own limit left no way out; `None` with version 1, which does not say.
    own_limit: Option<u64>,
}

/// The counts so far; `None` where they cannot be read.
pub fn kills() -> Option<Kills> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&own).iter().find_map(|file| counts(&fs::read_to_string(file).ok()?))
}

/// What happened between two looks, if the kernel killed anything.
pub fn fault(before: Option<Kills>, after: Option<Kills>) -> Option<Fault> {
    let (before, after) = before.zip(after)?;
    let is_own = before.own_limit.zip(after.own_limit).is_some_and(|(before, after)| after > before);
    (after.killed > before.killed).then_some(if is_own { Fault::OutOfMemory } else { Fault::KilledForMemory })
}

/// Where the count may be, by the text of `/proc/self/cgroup`. Inside a container its own group is mounted as the root.
fn files(own: &str) -> Vec<String> {
    let groups = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let first = groups().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let (mount, file, path) = match (first, groups().find(|(controllers, _)| controllers.is_empty())) {
        (Some((_, path)), _) => ("/memory", "memory.oom_control", path),
        (None, Some((_, path))) => ("", "memory.events", path),
        (None, None) => return Vec::new(),
    };
    [path.trim_end_matches('/'), ""].iter().map(|group| format!("{ROOT}{mount}{group}/{file}")).collect()
}

/// What `memory.oom_control` (version 1) or `memory.events` (version 2) say.
fn counts(text: &str) -> Option<Kills> {
    let count = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some(Kills { killed: count("oom_kill ")?, own_limit: count("oom ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_both_versions() {
        let of = |killed, own_limit| Some(Kills { killed, own_limit });
        assert_eq!(counts("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), of(3, None));
        assert_eq!(counts("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n"), of(1, Some(2)));
        assert_eq!(counts("oom_kill_disable 0\n"), None);
    }

    #[test]
    fn only_a_limit_of_its_own_is_said_to_be_the_containers() {
        let of = |killed, own_limit| Some(Kills { killed, own_limit });
        for (before, after, expected) in [
            (of(1, Some(1)), of(2, Some(2)), Some(Fault::OutOfMemory)),
            (of(1, Some(1)), of(2, Some(1)), Some(Fault::KilledForMemory)),
            (of(1, None), of(2, None), Some(Fault::KilledForMemory)),
            (of(1, Some(1)), of(1, Some(2)), None),
            (None, of(1, Some(1)), None),
        ] {
            assert_eq!(fault(before, after), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn the_file_is_that_of_the_own_group_or_of_what_is_mounted_as_the_root() {
        let first = "9:name=systemd:/\n4:cpu,memory:/kubepods/x\n0::/\n";
        assert_eq!(
            files(first),
            ["/sys/fs/cgroup/memory/kubepods/x/memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control"]
        );
        assert_eq!(files("0::/\n"), ["/sys/fs/cgroup/memory.events"; 2]);
        assert!(files("").is_empty());
    }
}
