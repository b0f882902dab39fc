//! The processor's own counters of energy (RAPL), by Linux's powercap
//! (<https://docs.kernel.org/power/powercap/powercap.html>).
//!
//! Packages are counted, and memory where it has a counter beside theirs; never the rest of the
//! machine. Since CVE-2020-8694 most systems let only root read them: then there are none.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Where Linux has them.
const POWERCAP: &str = "/sys/class/powercap";

/// Most zones: machines of many sockets have some four a socket.
const N_ZONES_MAX: usize = 256;

/// A number of 20 digits and a line end.
const VALUE_BYTES_MAX: u64 = 32;

/// Counters of energy.
#[derive(Debug)]
pub struct Rapl {
    zones: Vec<Zone>,
}

#[derive(Debug)]
struct Zone {
    counter: File,
    /// The counter goes from 0 to this, and begins again; in microjoules.
    range_uj: u64,
    last_uj: u64,
}

impl Rapl {
    /// Those of this machine.
    ///
    /// # Errors
    /// Why there are none.
    pub fn find() -> Result<Self, String> {
        Self::open(Path::new(POWERCAP))
    }

    /// Those in a folder of the form that powercap has.
    ///
    /// # Errors
    /// Why there are none.
    pub fn open(folder: &Path) -> Result<Self, String> {
        let told = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
        let entries = fs::read_dir(folder).map_err(|error| told(folder, error))?;
        let mut zones = Vec::new();
        for entry in entries.take(N_ZONES_MAX) {
            let entry = entry.map_err(|error| told(folder, error))?;
            // The same packages may be there once more, by another way to read them.
            if !entry.file_name().to_string_lossy().starts_with("intel-rapl:") {
                continue;
            }
            let path = entry.path();
            let name = File::open(path.join("name")).and_then(text);
            let name = name.map_err(|error| told(&path, error))?;
            if name.starts_with("package-") || name == "dram" {
                zones.push(Zone::open(&path).map_err(|error| told(&path, error))?);
            }
        }
        match zones.is_empty() {
            true => Err(format!("{}: no counters of packages", folder.display())),
            false => Ok(Self { zones }),
        }
    }

    /// What was taken since the last call, or since they were opened, in microjoules. A counter
    /// that began again more than once meanwhile tells too little: at 200 watts that takes some
    /// twenty minutes.
    ///
    /// # Errors
    /// A counter that cannot be read any more.
    pub fn spent_uj(&mut self) -> io::Result<u64> {
        let mut sum = 0_u64;
        for zone in &mut self.zones {
            sum = sum.saturating_add(zone.spent_uj()?);
        }
        Ok(sum)
    }
}

impl Zone {
    fn open(folder: &Path) -> io::Result<Self> {
        let range_uj = number(&mut File::open(folder.join("max_energy_range_uj"))?)?;
        let mut counter = File::open(folder.join("energy_uj"))?;
        let last_uj = number(&mut counter)?;
        Ok(Self { counter, range_uj, last_uj })
    }

    fn spent_uj(&mut self) -> io::Result<u64> {
        let now_uj = number(&mut self.counter)?;
        let spent = match now_uj.checked_sub(self.last_uj) {
            Some(spent) => spent,
            None => (self.range_uj.saturating_sub(self.last_uj)).saturating_add(now_uj),
        };
        self.last_uj = now_uj;
        Ok(spent)
    }
}

/// The number that a file has.
fn number(file: &mut File) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let found = text(file)?;
    found.parse().map_err(|_| io::Error::other(format!("{found:?}, expected a number")))
}

fn text(file: impl io::Read) -> io::Result<String> {
    let mut text = String::new();
    file.take(VALUE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new(zones: &[(&str, &str, &str)]) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            for (zone, name, energy_uj) in zones {
                fs::create_dir(tree.0.path().join(zone)).unwrap();
                tree.set(zone, "name", name);
                tree.set(zone, "max_energy_range_uj", "1000");
                tree.set(zone, "energy_uj", energy_uj);
            }
            tree
        }

        fn set(&self, zone: &str, file: &str, value: &str) {
            fs::write(self.0.path().join(zone).join(file), format!("{value}\n")).unwrap();
        }
    }

    #[test]
    fn packages_and_memory_are_counted_over_the_end_of_the_range() {
        let tree = Tree::new(&[
            ("intel-rapl:0", "package-0", "100"),
            ("intel-rapl:0:0", "core", "50"),
            ("intel-rapl:0:1", "dram", "10"),
            ("intel-rapl:1", "psys", "7"),
            ("intel-rapl-mmio:0", "package-0", "100"),
        ]);
        let mut rapl = Rapl::open(tree.0.path()).unwrap();
        assert_eq!(rapl.zones.len(), 2);
        assert_eq!(rapl.spent_uj().unwrap(), 0);
        tree.set("intel-rapl:0", "energy_uj", "160");
        tree.set("intel-rapl:0:0", "energy_uj", "900");
        tree.set("intel-rapl:0:1", "energy_uj", "15");
        assert_eq!(rapl.spent_uj().unwrap(), 65);
        // 840 to the end, and 5 behind it.
        tree.set("intel-rapl:0", "energy_uj", "5");
        assert_eq!(rapl.spent_uj().unwrap(), 845);
        tree.set("intel-rapl:0", "energy_uj", "soon");
        assert!(rapl.spent_uj().unwrap_err().to_string().contains("expected a number"));
    }

    #[track_caller]
    fn check(zones: &[(&str, &str, &str)], expected: &str) {
        let tree = Tree::new(zones);
        let told = Rapl::open(tree.0.path()).unwrap_err();
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn where_there_are_none_it_says_why() {
        check(&[], "no counters of packages");
        check(&[("intel-rapl:0", "psys", "1")], "no counters of packages");
        check(&[("intel-rapl:0", "package-0", "")], "expected a number");
        check(&[("intel-rapl:0", "package-0", &"1".repeat(100))], "expected a number");
        let told = Rapl::open(Path::new("/nowhere/powercap")).unwrap_err();
        assert!(told.starts_with("/nowhere/powercap: "), "{told}");
    }
}
