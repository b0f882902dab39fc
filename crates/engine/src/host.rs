//! The narrow door to the machine: cores, memory, the time, and a seed nobody chose.
//!
//! Linux answers in full; elsewhere the plain fallback knows the usable cores and no memory bound,
//! and the memory check is then left to the caller's own limit. What [`Machine`] tells people is
//! what the engine itself goes by.

use jiff::civil::DateTime;
use std::hash::{BuildHasher, Hasher};

/// Cores that this process may use. The standard library asks the scheduler's affinity mask and,
/// on Linux, the CPU quotas of cgroup v1 and v2, rounded down: with more threads than quota the
/// whole pool would stand still at the end of each period.
pub fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Memory that this process may still take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvailableMemory {
    /// How much, in bytes.
    pub n_bytes: u64,
    /// What sets the bound, for people: "MemAvailable" or "cgroup memory limit".
    pub limited_by: &'static str,
}

/// What this machine has and what bounds its use, for people to read. `None` is unknown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Machine {
    /// The processor, as its maker calls it.
    pub cpu_name: Option<String>,
    /// Logical cores that are online.
    pub n_cores_online: Option<usize>,
    /// Cores that the affinity mask allows, as the system writes them (`0-3,8`).
    pub affinity: Option<String>,
    /// Cores' worth of time that the tightest control group grants; `None` without a quota.
    pub cgroup_quota_cores: Option<f64>,
    /// Memory of the machine, in bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that this process may still take.
    pub available_memory: Option<AvailableMemory>,
}

impl Machine {
    /// Asks the system.
    pub fn look() -> Self {
        #[cfg(target_os = "linux")]
        return linux::machine_under(std::path::Path::new("/"));
        #[cfg(not(target_os = "linux"))]
        return Self::default();
    }
}

/// Memory that this process may still take; `None` where the system does not say.
#[cfg(not(target_os = "linux"))]
pub(crate) fn available_memory() -> Option<AvailableMemory> {
    None
}

#[cfg(target_os = "linux")]
pub(crate) use linux::available_memory;

/// The most memory that this process has held at once, in bytes; `None` where the system does not
/// say. Pages of mapped files count while they are held.
pub fn peak_rss_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::peak_rss_bytes();
    #[cfg(not(target_os = "linux"))]
    return None;
}

/// The memory that this process holds now, in bytes; `None` where the system does not say.
pub fn rss_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::rss_bytes();
    #[cfg(not(target_os = "linux"))]
    return None;
}

/// Memory of this process that no file stands behind and that is in use, in bytes; `None` where the
/// system does not say.
pub(crate) fn anonymous_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return linux::anonymous_bytes();
    #[cfg(not(target_os = "linux"))]
    return None;
}

/// A seed from the system's random source, below 2^53, so that it survives a JSON number.
pub fn random_seed() -> u64 {
    // The standard library keys its hash maps from that source; this is its way in without a
    // dependency.
    std::hash::RandomState::new().build_hasher().finish() >> 11
}

/// The time that a clock on the wall shows here.
pub fn local_time() -> DateTime {
    jiff::Zoned::now().datetime()
}

#[cfg(target_os = "linux")]
mod linux {
    //! `/proc/meminfo` (proc_meminfo(5)) and the memory controllers of cgroup v2 and v1
    //! (admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel's documentation).

    use super::{AvailableMemory, Machine};
    use std::fs;
    use std::path::{Path, PathBuf};

    pub(crate) fn available_memory() -> Option<AvailableMemory> {
        available_under(Path::new("/"))
    }

    /// `VmHWM` of proc_pid_status(5).
    pub(super) fn peak_rss_bytes() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        field(&status, "VmHWM:").map(|kib| kib.saturating_mul(1024))
    }

    /// `VmRSS` of proc_pid_status(5).
    pub(super) fn rss_bytes() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        field(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024))
    }

    /// `RssAnon` of proc_pid_status(5).
    pub(super) fn anonymous_bytes() -> Option<u64> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        field(&status, "RssAnon:").map(|kib| kib.saturating_mul(1024))
    }

    pub(super) fn machine_under(root: &Path) -> Machine {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (cpuinfo, status) = (read("proc/cpuinfo"), read("proc/self/status"));
        let n_online = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let groups = read("proc/self/cgroup");
        let quotas = groups.lines().flat_map(|line| group_quotas(root, line));
        Machine {
            cpu_name: text_of(&cpuinfo, "model name"),
            n_cores_online: (n_online > 0).then_some(n_online),
            affinity: text_of(&status, "Cpus_allowed_list"),
            cgroup_quota_cores: quotas.min_by(f64::total_cmp),
            memory_bytes: field(&read("proc/meminfo"), "MemTotal:")
                .map(|kib| kib.saturating_mul(1024)),
            available_memory: available_under(root),
        }
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

    /// The folders of the groups above us, the innermost first, that one line of
    /// `/proc/self/cgroup` (`hierarchy:controllers:path`) leads to; `None` where it is about other
    /// controllers than `name`. Whether they are of version 2 comes with them.
    fn group_folders(root: &Path, line: &str, name: &str) -> Option<(bool, Vec<PathBuf>)> {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|controller| controller == name) {
            return None;
        }
        let mount = root.join("sys/fs/cgroup").join(if is_v2 { "" } else { name });
        let relative = group.trim_start_matches('/');
        // Inside a container the path may be the host's; the walk then still ends at the mount,
        // which is the container's own group.
        let folders = Path::new(relative).ancestors().map(|path| match path {
            path if path.components().any(|part| part.as_os_str() == "..") => mount.clone(),
            path => mount.join(path),
        });
        Some((is_v2, folders.collect()))
    }

    /// The quotas, in cores, of the groups named by one line of `/proc/self/cgroup`.
    fn group_quotas(root: &Path, line: &str) -> Vec<f64> {
        let Some((is_v2, folders)) = group_folders(root, line, "cpu") else { return Vec::new() };
        let quota = |folder: PathBuf| {
            let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
            // Version 2 has `QUOTA PERIOD` or `max PERIOD`; version 1 a file for each and -1.
            let (quota, period) = if is_v2 {
                let text = read("cpu.max")?;
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?)
            } else {
                let number = |file| read(file)?.trim().parse::<f64>().ok();
                (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
            };
            (quota > 0.0 && period > 0.0).then(|| quota / period)
        };
        folders.into_iter().filter_map(quota).collect()
    }

    /// The files of one version of the memory controller.
    struct Controller {
        limit: &'static str,
        usage: &'static str,
        /// Field of `memory.stat`: file cache that the kernel gives back before it refuses.
        reclaimable: &'static str,
    }

    const V2: Controller =
        Controller { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file" };

    const V1: Controller = Controller {
        limit: "memory.limit_in_bytes",
        usage: "memory.usage_in_bytes",
        reclaimable: "total_inactive_file",
    };

    /// What is left under each limit of the groups named by one line of `/proc/self/cgroup`.
    fn group_limits(root: &Path, line: &str) -> Vec<u64> {
        let Some((is_v2, folders)) = group_folders(root, line, "memory") else {
            return Vec::new();
        };
        let controller = if is_v2 { V2 } else { V1 };
        folders.iter().filter_map(|folder| left_in(&controller, folder)).collect()
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

    /// The text after `name` and a colon, of the first line that has it.
    fn text_of(text: &str, name: &str) -> Option<String> {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
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
        use super::super::Machine;
        use super::super::linux::{available_memory, available_under, machine_under};
        use std::fs;

        fn machine_of(files: &[(&str, &str)]) -> tempfile::TempDir {
            let root = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            root
        }

        /// A machine made of files answers as expected.
        fn check(files: &[(&str, &str)], expected: Option<(u64, &'static str)>) {
            let root = machine_of(files);
            let found = available_under(root.path());
            assert_eq!(found.map(|a| (a.n_bytes, a.limited_by)), expected, "{files:?}");
        }

        const MEMINFO: (&str, &str) =
            ("proc/meminfo", "MemTotal:  9999 kB\nMemAvailable:    1000 kB\nBuffers: 1 kB\n");

        #[test]
        fn this_machine_says_what_it_has() {
            let available = available_memory().unwrap();
            assert!(available.n_bytes > 1 << 20, "{available:?}");
            assert!(super::super::peak_rss_bytes().unwrap() > 1 << 16);
        }

        #[test]
        fn people_are_told_what_the_engine_goes_by() {
            let files = [
                MEMINFO,
                ("proc/cpuinfo", "processor : 0\nmodel name : Fast 9\n\nprocessor : 1\n"),
                ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n"),
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
                ("sys/fs/cgroup/a/memory.max", "600000\n"),
                ("sys/fs/cgroup/a/memory.current", "500000\n"),
            ];
            let root = machine_of(&files);
            let expected = Machine {
                cpu_name: Some("Fast 9".to_string()),
                n_cores_online: Some(2),
                affinity: Some("0-1".to_string()),
                cgroup_quota_cores: Some(1.5),
                memory_bytes: Some(9999 << 10),
                available_memory: available_under(root.path()),
            };
            assert_eq!(machine_under(root.path()), expected);
            assert_eq!(expected.available_memory.map(|memory| memory.n_bytes), Some(100_000));
            assert_eq!(machine_under(machine_of(&[]).path()), Machine::default());
        }

        #[test]
        fn quotas_of_version_1_are_read() {
            let quota = |text| {
                let root = machine_of(&[
                    ("proc/self/cgroup", "4:cpu,cpuacct:/g\n7:memory:/m\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                    ("sys/fs/cgroup/cpu/g/cpu.cfs_quota_us", text),
                    ("sys/fs/cgroup/cpu/g/cpu.cfs_period_us", "100000\n"),
                ]);
                machine_under(root.path()).cgroup_quota_cores
            };
            assert_eq!((quota("-1\n"), quota("50000\n")), (None, Some(0.5)));
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
