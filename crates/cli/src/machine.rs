//! What this machine has, as far as the system tells: for `doctor`.
//!
//! Linux answers in full from `/proc` and `/sys` (proc(5); admin-guide/cgroup-v2.rst). Elsewhere
//! each unknown is `None` and said to be unknown.

use std::path::Path;

/// Cores that this process may use: affinity and cgroup quota respected.
pub(crate) fn n_usable_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// The processors and what bounds their use.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cores {
    /// As the maker calls it.
    pub(crate) cpu_name: Option<String>,
    /// Logical cores that are online.
    pub(crate) n_online: Option<usize>,
    /// Cores that the affinity mask allows, as the system writes them (`0-3,8`).
    pub(crate) affinity: Option<String>,
    /// Cores' worth of time that the control group grants.
    pub(crate) cgroup_quota: Option<f64>,
}

/// The memory and what bounds its use, in bytes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// Of the machine.
    pub(crate) total_bytes: Option<u64>,
    /// What programs may still take without swapping.
    pub(crate) available_bytes: Option<u64>,
    /// The limit of the control group.
    pub(crate) cgroup_limit_bytes: Option<u64>,
}

/// The cores of this machine.
pub(crate) fn cores() -> Cores {
    cores_under(Path::new("/"))
}

/// The memory of this machine.
pub(crate) fn memory() -> Memory {
    memory_under(Path::new("/"))
}

fn cores_under(root: &Path) -> Cores {
    let cpuinfo = read(root, "proc/cpuinfo").unwrap_or_default();
    let status = read(root, "proc/self/status").unwrap_or_default();
    let n_online = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    Cores {
        cpu_name: field(&cpuinfo, "model name"),
        n_online: (n_online > 0).then_some(n_online),
        affinity: field(&status, "Cpus_allowed_list"),
        cgroup_quota: cgroup_quota(root),
    }
}

fn memory_under(root: &Path) -> Memory {
    let meminfo = read(root, "proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> Option<u64> {
        let kib: u64 = field(&meminfo, name)?.strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib.saturating_mul(1024))
    };
    Memory {
        total_bytes: kib("MemTotal"),
        available_bytes: kib("MemAvailable"),
        cgroup_limit_bytes: [
            "sys/fs/cgroup/memory.max",
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
        ]
        .iter()
        .find_map(|path| read(root, path)?.trim().parse().ok())
        // cgroup v1 writes "no limit" as a number near 2^63.
        .filter(|limit| *limit < 1 << 60),
    }
}

/// `cpu.max` of cgroup v2 is `QUOTA PERIOD` or `max PERIOD`; v1 has one file for each.
fn cgroup_quota(root: &Path) -> Option<f64> {
    let (quota, period) = match read(root, "sys/fs/cgroup/cpu.max") {
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?)
        }
        None => {
            let number = |file: &str| -> Option<f64> {
                read(root, &format!("sys/fs/cgroup/cpu/{file}"))?.trim().parse().ok()
            };
            (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
        }
    };
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn read(root: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(root.join(path)).ok()
}

/// The text after `name` and a colon, of the first line that has it.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Bytes free for this user on the file system that `path` is on, or will be on; `None` where the
/// system does not say.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
pub(crate) fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine_of(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn cores_are_read_from_proc() {
        let root = machine_of(&[
            ("proc/cpuinfo", "processor : 0\nmodel name : Fast 9\n\nprocessor : 1\n"),
            ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1\n"),
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
        ]);
        let expected = Cores {
            cpu_name: Some("Fast 9".into()),
            n_online: Some(2),
            affinity: Some("0-1".into()),
            cgroup_quota: Some(1.5),
        };
        assert_eq!(cores_under(root.path()), expected);
    }

    #[test]
    fn memory_is_read_from_proc() {
        let root = machine_of(&[
            ("proc/meminfo", "MemTotal:  2048 kB\nMemAvailable: 1024 kB\n"),
            ("sys/fs/cgroup/memory.max", "max\n"),
        ]);
        let expected = Memory {
            total_bytes: Some(2 << 20),
            available_bytes: Some(1 << 20),
            cgroup_limit_bytes: None,
        };
        assert_eq!(memory_under(root.path()), expected);
    }

    #[test]
    fn a_machine_that_says_nothing_is_unknown() {
        let root = machine_of(&[("sys/fs/cgroup/cpu.max", "max 100000\n")]);
        assert_eq!(cores_under(root.path()), Cores::default());
        assert_eq!(memory_under(root.path()), Memory::default());
    }

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_space_of_its_parent() {
        let root = machine_of(&[]);
        assert!(free_bytes(&root.path().join("not/yet")).is_none_or(|free| free > 0));
    }
}
