//! The narrow door to the machine: cores, memory, and a seed nobody chose.
//!
//! Linux answers in full; elsewhere the plain fallback knows the cores and no memory bound, and
//! the memory check is then left to the caller's own limit.

use std::hash::{BuildHasher, Hasher};

/// Cores that this process may use. The standard library asks the scheduler's affinity mask and,
/// on Linux, the CPU quotas of cgroup v1 and v2, rounded down: with more threads than quota the
/// whole pool would stand still at the end of each period.
pub(crate) fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Memory that this process may still take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AvailableMemory {
    pub(crate) n_bytes: u64,
    /// What sets the bound, for people.
    pub(crate) limited_by: &'static str,
}

/// Memory that this process may still take; `None` where the system does not say.
#[cfg(not(target_os = "linux"))]
pub(crate) fn available_memory() -> Option<AvailableMemory> {
    None
}

#[cfg(target_os = "linux")]
pub(crate) use linux::available_memory;

/// A seed from the system's random source, below 2^53, so that it survives a JSON number.
pub(crate) fn random_seed() -> u64 {
    // The standard library keys its hash maps from that source; this is its way in without a
    // dependency.
    std::hash::RandomState::new().build_hasher().finish() >> 11
}

#[cfg(target_os = "linux")]
mod linux {
    //! `/proc/meminfo` (proc_meminfo(5)) and the memory controllers of cgroup v2 and v1
    //! (admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel's documentation).

    use super::AvailableMemory;
    use std::fs;
    use std::path::{Path, PathBuf};

    pub(crate) fn available_memory() -> Option<AvailableMemory> {
        available_under(Path::new("/"))
    }

    /// The tightest of the system's free memory and the limits of every cgroup above us.
    pub(super) fn available_under(root: &Path) -> Option<AvailableMemory> {
        let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok();
        let system = meminfo.as_deref().and_then(|text| field(text, "MemAvailable:")).map(|kib| {
            AvailableMemory { n_bytes: kib.saturating_mul(1024), limited_by: "MemAvailable" }
        });
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let limits = groups.lines().flat_map(|line| group_limits(root, line));
        let group = limits
            .min()
            .map(|n_bytes| AvailableMemory { n_bytes, limited_by: "cgroup memory limit" });
        system.into_iter().chain(group).min_by_key(|available| available.n_bytes)
    }

    /// The files of one version of the memory controller.
    struct Controller {
        mount: &'static str,
        limit: &'static str,
        usage: &'static str,
        /// Field of `memory.stat`: file cache that the kernel gives back before it refuses.
        reclaimable: &'static str,
    }

    const V2: Controller = Controller {
        mount: "sys/fs/cgroup",
        limit: "memory.max",
        usage: "memory.current",
        reclaimable: "inactive_file",
    };

    const V1: Controller = Controller {
        mount: "sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        usage: "memory.usage_in_bytes",
        reclaimable: "total_inactive_file",
    };

    /// What is left under each limit named by one line of `/proc/self/cgroup`
    /// (`hierarchy:controllers:path`), from the group itself up to the root.
    fn group_limits(root: &Path, line: &str) -> Vec<u64> {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next())
        else {
            return Vec::new();
        };
        let controller = match controllers {
            "" => V2,
            names if names.split(',').any(|name| name == "memory") => V1,
            _ => return Vec::new(),
        };
        let mount = root.join(controller.mount);
        let relative = group.trim_start_matches('/');
        // Inside a container the path may be the host's; the walk then still ends at the mount,
        // which is the container's own group.
        let folders = Path::new(relative).ancestors().map(|path| match path {
            path if path.components().any(|part| part.as_os_str() == "..") => mount.clone(),
            path => mount.join(path),
        });
        folders.filter_map(|folder: PathBuf| left_in(&controller, &folder)).collect()
    }

    /// Limit minus usage, the reclaimable part of the usage not counted; `None` without a limit.
    fn left_in(controller: &Controller, folder: &Path) -> Option<u64> {
        let number = |file: &str| -> Option<u64> {
            fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok()
        };
        let limit = number(controller.limit)?; // "max" is no number and no limit
        let usage = number(controller.usage)?;
        let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let reclaimable = field(&stat, controller.reclaimable).unwrap_or(0);
        Some(limit.saturating_sub(usage.saturating_sub(reclaimable)))
    }

    /// The number after `name` at the beginning of a line.
    fn field(text: &str, name: &str) -> Option<u64> {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_core() {
        assert!(n_cores() >= 1);
    }

    #[test]
    fn seeds_differ_and_survive_json_numbers() {
        let (a, b) = (random_seed(), random_seed());
        assert_ne!(a, b);
        assert!(a < 1 << 53 && b < 1 << 53);
    }

    #[cfg(target_os = "linux")]
    mod linux {
        use super::super::linux::{available_memory, available_under};
        use std::fs;

        /// A machine made of files answers as expected.
        fn check(files: &[(&str, &str)], expected: Option<(u64, &'static str)>) {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let found = available_under(root.path());
            assert_eq!(found.map(|a| (a.n_bytes, a.limited_by)), expected, "{files:?}");
        }

        const MEMINFO: (&str, &str) =
            ("proc/meminfo", "MemTotal:  9999 kB\nMemAvailable:    1000 kB\nBuffers: 1 kB\n");

        #[test]
        fn this_machine_says_what_it_has() {
            let available = available_memory().unwrap();
            assert!(available.n_bytes > 1 << 20, "{available:?}");
        }

        #[test]
        fn without_a_group_the_system_counts() {
            check(&[], None);
            check(&[MEMINFO], Some((1_024_000, "MemAvailable")));
            check(
                &[
                    MEMINFO,
                    ("proc/self/cgroup", "0::/a\n"),
                    ("sys/fs/cgroup/a/memory.max", "max\n"),
                ],
                Some((1_024_000, "MemAvailable")),
            );
            check(
                &[MEMINFO, ("proc/self/cgroup", "nonsense\n")],
                Some((1_024_000, "MemAvailable")),
            );
        }

        #[test]
        fn the_tightest_group_above_counts() {
            let files = [
                MEMINFO,
                ("proc/self/cgroup", "1:cpu:/x\n0::/a/b\n"),
                ("sys/fs/cgroup/a/memory.max", "600000\n"),
                ("sys/fs/cgroup/a/memory.current", "500000\n"),
                ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 100000\n"),
                ("sys/fs/cgroup/a/b/memory.max", "900000\n"),
                ("sys/fs/cgroup/a/b/memory.current", "5\n"),
            ];
            check(&files, Some((200_000, "cgroup memory limit")));
        }

        #[test]
        fn a_container_seeing_the_hosts_path_finds_its_own_group() {
            let limits = [
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "3000\n"),
                ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 500\n"),
            ];
            for group in ["7:memory:/docker/abc\n", "7:cpu,memory:/../..\n"] {
                let mut files = vec![MEMINFO, ("proc/self/cgroup", group)];
                files.extend(limits);
                check(&files, Some((4500, "cgroup memory limit")));
            }
        }

        #[test]
        fn a_group_over_its_limit_has_nothing_left() {
            let files = [
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", "100\n"),
                ("sys/fs/cgroup/memory.current", "300\n"),
            ];
            check(&files, Some((0, "cgroup memory limit")));
        }
    }
}
