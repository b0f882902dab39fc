//! How the C library's allocator gives memory back, for programs that stay up.
//!
//! What glibc frees goes back to the system only from the end of each arena. The size from which a
//! block is mapped alone, and so unmapped when it is freed, grows with each such block that is
//! freed, to 32 MiB. A server that reads bodies of some MiB on several threads then keeps a few MiB
//! in each arena for good, and a few more each hour. With both bounds fixed it keeps its size.

/// Has blocks of at least 128 KiB mapped alone, and arenas shortened as soon as so much is free at
/// their end: glibc's own first values, which stay because they are set (mallopt(3)). With at most
/// four arenas, what is free in one is not missing in twenty others.
///
/// Does nothing with other allocators. To be called before threads are started, by a program and
/// not by a library: it holds for the whole process.
pub fn give_freed_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;

        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // malloc.h of glibc.
        const M_TRIM_THRESHOLD: c_int = -1;
        const M_MMAP_THRESHOLD: c_int = -3;
        const M_ARENA_MAX: c_int = -8;
        let settings =
            [(M_TRIM_THRESHOLD, 128 << 10), (M_MMAP_THRESHOLD, 128 << 10), (M_ARENA_MAX, 4)];
        for (parameter, value) in settings {
            // SAFETY: glibc's signature. It takes its own locks, and refuses what it does not know
            // by returning 0, in which case memory stays as it would have been.
            unsafe { mallopt(parameter, value) };
        }
    }
}
