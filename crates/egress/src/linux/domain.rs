//! The second wall: a domain of Landlock's (<https://docs.kernel.org/userspace-api/landlock.html>).
//!
//! It refuses TCP once more, keeps the process from others' memory and descriptors (a domain may
//! not trace what is outside it), from others' abstract sockets and from signals to them, and from
//! writing what is the kernel's or a device's. A filter of system calls sees numbers, not paths,
//! so the last is Landlock's alone. Each kernel enforces what it knows of this.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    NetPort, RestrictSelfAttr as _, RestrictionStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// Where writing is a way to the kernel: to what it runs, to memory, to devices that send.
const KERNELS_OWN: [&str; 3] = ["/proc", "/sys", "/dev"];
/// What programs write all the same there.
const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/pts", "/dev/shm"];

/// Enters the domain, with which all threads live that start from this one; on kernels that can,
/// all others too. Gives the ABI that is in force, or why there is none.
///
/// TCP may go to `ports`.
pub(crate) fn enter(ports: &[u16]) -> Result<Wall, String> {
    let status = restrict(ports).map_err(|error| error.to_string())?;
    match (status.landlock, status.ruleset) {
        (LandlockStatus::NotImplemented, _) => Err("this kernel has none".to_owned()),
        (LandlockStatus::NotEnabled, _) => Err("this kernel has it switched off".to_owned()),
        (LandlockStatus::Available { effective_abi, .. }, RulesetStatus::NotEnforced) => {
            Err(format!("this kernel's (ABI {effective_abi}) knows nothing of sockets"))
        }
        (LandlockStatus::Available { effective_abi, .. }, _) => {
            let holds_ports = effective_abi >= ABI::V4;
            Ok(Wall { abi: format!("ABI {effective_abi}"), holds_ports })
        }
    }
}

/// What is in force.
pub(crate) struct Wall {
    /// The ABI.
    pub(crate) abi: String,
    /// Whether it is one that knows of TCP.
    pub(crate) holds_ports: bool,
}

fn restrict(ports: &[u16]) -> Result<RestrictionStatus, RulesetError> {
    // Only what was tried is named: what later kernels add may refuse what is needed.
    let mut ruleset = Ruleset::default()
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?;
    let writable = if guards_files() { writable().ok() } else { None };
    if writable.is_some() {
        ruleset = ruleset.handle_access(written() | AccessFs::MakeChar | AccessFs::MakeBlock)?;
    }
    let rules = path_beneath_rules(writable.unwrap_or_default(), written());
    let open =
        ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    let ruleset = ruleset.create()?.add_rules(rules)?.add_rules(open)?;
    ruleset.all_threads(true)?.restrict_self()
}

/// What is allowed where writing is. A domain that knows of files refuses to move them from folder
/// to folder unless it is told otherwise.
fn written() -> BitFlags<AccessFs> {
    AccessFs::WriteFile | AccessFs::Refer
}

/// Whether the kernel can be told so: the first ABI cannot, and the store moves files. Only then
/// writing is held.
pub(crate) fn guards_files() -> bool {
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strict.handle_access(AccessFs::Refer).is_ok()
}

/// All at the root but what is the kernel's: rules allow, they cannot forbid.
fn writable() -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = DEVICES.iter().map(PathBuf::from).collect();
    for entry in fs::read_dir("/")? {
        // A link may lead to what is left out.
        let Ok(path) = entry?.path().canonicalize() else { continue };
        let is_kernels = KERNELS_OWN.iter().any(|own| path.starts_with(own));
        if !is_kernels && path != Path::new("/") {
            paths.push(path);
        }
    }
    Ok(paths)
}
