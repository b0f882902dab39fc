//! That freed memory leaves the process: in one of its own, since the whole is measured.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::hint::black_box;

#[test]
fn blocks_that_are_freed_leave_the_process_each_time() {
    freehold_kernels::give_freed_memory_back();
    let resident_bytes = || {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() << 10
    };
    // Left to itself, glibc takes the first of these as the size up to which blocks come from an
    // arena, where the small one behind the next keeps it: 8 MiB more stay.
    drop(black_box(vec![1u8; 16 << 20]));
    let before = resident_bytes();
    let mut small = Vec::new();
    for _ in 0..8 {
        let large = black_box(vec![1u8; 8 << 20]);
        small.push(black_box(vec![1u8; 4096]));
        drop(large);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes stay of {} needed", small.len() * 4096);
}
