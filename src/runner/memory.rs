//! How often the kernel killed a process of this container because its memory was used up.
//!
//! With version 2 of control groups kubelet usually has the whole container killed, this process included. Where it has
//! not, and with version 1, only one process dies, and the script fails for a reason that it does not know.

use std::fs;

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// The count so far; `None` where it cannot be read.
pub fn kills() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    files(&own).iter().find_map(|file| count(&fs::read_to_string(file).ok()?))
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

/// `oom_kill` of `memory.oom_control` (version 1) or `memory.events` (version 2).
fn count(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_both_versions() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(count("oom_kill_disable 0\n"), None);
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
