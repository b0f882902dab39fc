//! Linux: a filter of system calls for all threads, and a domain of Landlock's behind it.

mod domain;
mod errno;
mod filter;
mod judge;
mod prove;
mod raw;
mod targets;
mod ways;

pub(crate) use prove::{attempt, prove};

use std::fs;

use crate::{EgressError, Locked};

/// Descriptors below are standard input, output and error.
const FIRST_OWN: u32 = 3;

pub(crate) fn lock() -> Result<Locked, EgressError> {
    // The filter first: where there is none, nothing is changed. It lets Landlock's calls pass.
    filter::install()?;
    Ok(Locked { landlock: domain::enter() })
}

pub(crate) fn open_sockets() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_socket = |number: &String| {
        let target = fs::read_link(format!("/proc/self/fd/{number}"));
        let is_own = number.parse().is_ok_and(|number: u32| number >= FIRST_OWN);
        is_own && target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    numbers.filter(is_socket).collect()
}
