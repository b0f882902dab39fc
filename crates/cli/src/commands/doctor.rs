//! `freehold doctor`: what this machine has, and what will be slow and why; and which clients would
//! work with a server.

mod clients;
mod habits;
mod http;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use engine::Machine;
use kernels::Isa;
use serde_json::{Value, json};
use store::Catalogue;

use crate::commands::Subcommand;
use crate::context::Context;
use crate::locate;
use crate::numbers;
use crate::terminal::{self, Colour, paint};

/// Memory under which even small models have no room beside the rest of the system.
const MEMORY_TIGHT_BYTES: u64 = 1 << 30;

/// Say what this machine has, what is used, and what will be slow and why
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold doctor
  freehold doctor --json
  freehold doctor clients     which clients would work with the server that runs
  FREEHOLD_ISA=avx2 freehold doctor")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Doctor {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    topic: Option<Topic>,
}

/// What else there is to look at.
#[derive(Debug, clap::Subcommand)]
enum Topic {
    Clients(clients::Clients),
}

impl Subcommand for Doctor {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        if let Some(Topic::Clients(clients)) = self.topic {
            return clients.run(context);
        }
        let findings = Findings::look(context);
        if self.json {
            return terminal::print_json(&findings.to_json());
        }
        terminal::print(&findings.to_text())
    }
}

/// Everything that was found.
struct Findings {
    machine: Machine,
    n_usable_cores: usize,
    isa_available: Vec<&'static str>,
    /// The one in use, or why the one asked for cannot be.
    isa_used: Result<&'static str, String>,
    home: PathBuf,
    n_models: Result<usize, String>,
    free_bytes: Option<u64>,
    pip: Option<String>,
}

impl Findings {
    fn look(context: &Context) -> Self {
        let home = context.home();
        let n_models = context
            .store()
            .and_then(|store| Ok(store.list()?.iter().filter(|entry| entry.is_ok()).count()))
            .map_err(|error| format!("{error:#}"));
        Self {
            machine: Machine::look(),
            n_usable_cores: engine::n_cores(),
            isa_available: Isa::available().iter().map(|isa| isa.name()).collect(),
            isa_used: Isa::from_env().map(|isa| isa.name()).map_err(|error| error.to_string()),
            free_bytes: store::free_bytes(&home),
            n_models,
            home,
            pip: find_pip(),
        }
    }

    /// What is worth a person's attention, worst first.
    fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        match &self.isa_used {
            Err(reason) => advice.push(format!("nothing will run: {reason}")),
            Ok("portable") => advice.push(
                "very slow: no vector instructions are used (AVX2 with FMA or AVX-512 VNNI would \
                 be many times faster)"
                    .to_owned(),
            ),
            Ok("avx2") => advice.push(
                "prompts are read slower than they could be: neither AVX-VNNI nor AVX-512 VNNI is used"
                    .to_owned(),
            ),
            Ok(_) => {}
        }
        if let Ok(used) = self.isa_used
            && self.isa_available.first().is_some_and(|best| *best != used)
        {
            advice.push(format!(
                "{} is available but FREEHOLD_ISA chose {used}",
                self.isa_available[0]
            ));
        }
        if cfg!(debug_assertions) {
            advice.push("this is a debug build: build with --release for speed".to_owned());
        }
        self.advise_cores(&mut advice);
        self.advise_room(&mut advice);
        if self.pip.is_none() {
            advice.push(
                "no pip found: models of pip sources (the default model) cannot be pulled; \
                 install Python with pip"
                    .to_owned(),
            );
        }
        advice
    }

    fn advise_cores(&self, advice: &mut Vec<String>) {
        if self.n_usable_cores == 1 {
            advice.push("one core: a second one would nearly double the speed".to_owned());
        }
        if let Some(n_online) = self.machine.n_cores_online
            && n_online > self.n_usable_cores
        {
            advice.push(format!(
                "{n_online} cores are online but this process may use {} (affinity or cgroup \
                 quota)",
                self.n_usable_cores
            ));
        }
    }

    fn advise_room(&self, advice: &mut Vec<String>) {
        if let Some(available) = self.machine.available_memory
            && available.n_bytes < MEMORY_TIGHT_BYTES
        {
            advice.push(format!(
                "{} of memory available ({}): only the smallest models will load",
                numbers::bytes(available.n_bytes),
                available.limited_by
            ));
        }
        let default = Catalogue::builtin().get(locate::default_model());
        if let (Some(free), Ok(entry)) = (self.free_bytes, default)
            && free < entry.n_bytes.saturating_add(entry.download_bytes)
        {
            advice.push(format!(
                "{} free in {}: {} does not fit",
                numbers::bytes(free),
                self.home.display(),
                entry.name
            ));
        }
        if let Err(reason) = &self.n_models {
            advice.push(format!("the data directory cannot be read: {reason}"));
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            "cpu": {
                "name": self.machine.cpu_name,
                "cores_online": self.machine.n_cores_online,
                "cores_usable": self.n_usable_cores,
                "affinity": self.machine.affinity,
                "cgroup_quota_cores": self.machine.cgroup_quota_cores,
                "isa_available": self.isa_available,
                "isa_used": self.isa_used.as_ref().ok(),
            },
            "memory": {
                "total_bytes": self.machine.memory_bytes,
                "available_bytes": self.machine.available_memory.map(|memory| memory.n_bytes),
                "limited_by": self.machine.available_memory.map(|memory| memory.limited_by),
            },
            "data": {
                "directory": self.home.display().to_string(),
                "free_bytes": self.free_bytes,
                "models": self.n_models.as_ref().ok(),
            },
            "pip": self.pip,
            "advice": self.advice(),
        })
    }

    fn to_text(&self) -> String {
        let unknown = || "unknown".to_owned();
        let size = |n: Option<u64>| n.map_or_else(unknown, numbers::bytes);
        let machine = &self.machine;
        let cores = format!(
            "{} usable of {}{}{}",
            self.n_usable_cores,
            machine.n_cores_online.map_or_else(unknown, |n| n.to_string()),
            machine.affinity.as_ref().map_or(String::new(), |list| format!(", affinity {list}")),
            machine.cgroup_quota_cores.map_or(String::new(), |n| format!(", cgroup quota {n:.2}")),
        );
        let isa = match &self.isa_used {
            Ok(used) => format!("{used} (available: {})", self.isa_available.join(", ")),
            Err(reason) => reason.clone(),
        };
        let available = machine.available_memory;
        let memory = format!(
            "{} available of {}{}",
            size(available.map(|memory| memory.n_bytes)),
            size(machine.memory_bytes),
            available.map_or(String::new(), |memory| format!(" ({})", memory.limited_by)),
        );
        let models = match &self.n_models {
            Ok(1) => "1 model".to_owned(),
            Ok(n) => format!("{n} models"),
            Err(_) => "unreadable".to_owned(),
        };
        let data = format!("{} ({models}, {} free)", self.home.display(), size(self.free_bytes));
        let version = format!(
            "{} on {} {}",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH
        );
        let rows = [
            ("freehold", version),
            ("cpu", machine.cpu_name.clone().unwrap_or_else(unknown)),
            ("cores", cores),
            ("isa", isa),
            ("memory", memory),
            ("data", data),
            ("pip", self.pip.clone().unwrap_or_else(|| "not found".to_owned())),
        ];
        let mut text = String::new();
        for (name, value) in rows {
            text.push_str(&format!("{name:<9} {value}\n"));
        }
        let stdout = std::io::stdout();
        let advice = self.advice();
        for line in &advice {
            text.push_str(&format!("{} {line}\n", paint("!", Colour::Yellow, &stdout)));
        }
        if advice.is_empty() {
            text.push_str(&format!("{}\n", paint("nothing to mend", Colour::Green, &stdout)));
        }
        text
    }
}

/// The first pip that answers, with its version.
fn find_pip() -> Option<String> {
    const CANDIDATES: [&[&str]; 3] =
        [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip"]];
    CANDIDATES.iter().find_map(|command| {
        let output = Command::new(command[0])
            .args(&command[1..])
            .arg("--version")
            // `python -m` looks for pip in the working directory first: a file named pip.py where
            // the user stands would run. Nobody but the system's owner can put one into the root.
            .current_dir("/")
            .env("PYTHONSAFEPATH", "1")
            .stdin(Stdio::null())
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        let version = String::from_utf8_lossy(&output.stdout);
        let version: Vec<&str> = version.split_whitespace().take(2).collect();
        Some(format!("{} ({})", command.join(" "), version.join(" ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(n_bytes: u64) -> Machine {
        Machine {
            n_cores_online: Some(8),
            available_memory: Some(engine::AvailableMemory { n_bytes, limited_by: "a test" }),
            ..Machine::default()
        }
    }

    fn findings() -> Findings {
        Findings {
            machine: machine(8 << 30),
            n_usable_cores: 8,
            isa_available: vec!["avx512", "avx2", "portable"],
            isa_used: Ok("avx512"),
            home: PathBuf::from("/data"),
            n_models: Ok(1),
            free_bytes: Some(100 << 30),
            pip: Some("pip".to_owned()),
        }
    }

    fn check(findings: &Findings, expected: &[&str]) {
        let mut advice = findings.advice();
        // Test builds are debug builds, which doctor rightly remarks on.
        advice.retain(|line| !line.contains("debug build"));
        assert_eq!(advice.len(), expected.len(), "{advice:?}");
        for (line, expected) in advice.iter().zip(expected) {
            assert!(line.contains(expected), "{line:?} lacks {expected:?}");
        }
    }

    #[test]
    fn a_good_machine_gets_no_advice() {
        check(&findings(), &[]);
    }

    #[test]
    fn what_is_slow_or_missing_is_said() {
        check(&Findings { pip: None, ..findings() }, &["no pip found"]);
        check(&Findings { n_usable_cores: 1, ..findings() }, &["one core", "8 cores are online"]);
        check(&Findings { isa_used: Ok("avx2"), ..findings() }, &["AVX-512", "FREEHOLD_ISA"]);
        check(&Findings { isa_used: Err("bad".into()), ..findings() }, &["nothing will run"]);
        check(&Findings { free_bytes: Some(1 << 20), ..findings() }, &["does not fit"]);
        check(&Findings { machine: machine(1 << 20), ..findings() }, &["smallest models"]);
    }

    #[test]
    fn text_and_json_hold_what_was_found() {
        let text = findings().to_text();
        assert!(text.contains("available of unknown (a test)"), "{text}");
        assert!(text.contains("8 usable of 8") && text.contains("/data (1 model"), "{text}");
        assert_eq!(findings().to_json()["cpu"]["isa_used"], "avx512");
    }
}
