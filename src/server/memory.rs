//! How much memory media may take, and giving back to the system what is free.
//!
//! glibc keeps what a crowd of sessions has freed: after 10 000 publishers that came and went, 0.7 MB in use held
//! 14 MB. The allocators of boxes (musl, uClibc) give it back by themselves.

use std::fs;
use std::time::{Duration, Instant};

use crate::config;

/// How often the process looks at its size.
const EVERY: Duration = Duration::from_secs(10);
/// Bytes that were freed since the last time that are worth giving back.
const WORTH: usize = 2 * 1024 * 1024;

/// Bytes for the rings of all streams: as configured, or a quarter of what the machine or the container has.
pub(super) fn for_rings(config: &config::Server) -> usize {
    quarter(config.ring_memory)
}

/// Bytes for the segments of all streams, the same.
#[cfg(feature = "segments")]
pub(super) fn for_segments(config: &config::Server) -> usize {
    quarter(config.segment_memory)
}

fn quarter(size: config::Size) -> usize {
    match size.bytes() {
        0 => machine().map_or(usize::MAX, |bytes| usize::try_from(bytes / 4).unwrap_or(usize::MAX)),
        bytes => bytes,
    }
}

fn machine() -> Option<u64> {
    let installed = kib("/proc/meminfo", "MemTotal:").map(|kib| kib * 1024);
    // "max" where the container has no limit.
    let allowed =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    installed.into_iter().chain(allowed).min()
}

#[derive(Debug)]
pub(super) struct Memory {
    looked: Instant,
    /// Bytes that are free, and are the system's again.
    given_back: usize,
}

impl Memory {
    pub(super) fn new(now: Instant) -> Self {
        keep_large_apart();
        Self { looked: now, given_back: 0 }
    }

    /// Gives memory back that was freed. Call it about once a second.
    pub(super) fn tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.looked) < EVERY {
            return;
        }
        self.looked = now;
        // What is free now need not have been when the process was largest: its size says nothing.
        let free = free();
        self.given_back = self.given_back.min(free);
        if free - self.given_back > WORTH {
            trim();
            self.given_back = free;
        }
    }
}

/// Bytes of the heap that nobody uses.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "there is no safe way to call it")]
fn free() -> usize {
    // SAFETY: mallinfo2(3) takes nothing, and may be called at any time.
    unsafe { libc::mallinfo2() }.fordblks
}

#[cfg(not(target_env = "gnu"))]
fn free() -> usize {
    0
}

/// The number in the line of `file` that begins with `name`.
fn kib(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "there is no safe way to call it")]
fn trim() {
    // SAFETY: malloc_trim(3) takes a number, touches free memory only, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Large buffers stay maps of their own, which go back when they are freed. Left to itself, glibc moves them into the
/// heap once it has seen them freed (up to 32 MiB), where they leave holes: 10 MB at 40 Mbit/s.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "there is no safe way to call it")]
fn keep_large_apart() {
    // SAFETY: mallopt(3) takes two numbers, and may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(not(target_env = "gnu"))]
fn keep_large_apart() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident memory of this process in KiB.
    fn resident() -> Option<u64> {
        kib("/proc/self/status", "VmRSS:")
    }

    #[test]
    fn sizes_are_known() {
        assert!(resident().unwrap() > 1000);
        assert!(machine().unwrap() > 16 * 1024 * 1024);
        let mut server = config::Server::default();
        assert!(for_rings(&server) as u64 <= machine().unwrap() / 4);
        server.ring_memory = config::Size::mib(3);
        assert_eq!(for_rings(&server), 3 * 1024 * 1024);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_was_freed_goes_back() {
        // Other tests take and free memory of this process meanwhile: once is enough.
        let went_back = || {
            let begin = Instant::now();
            let mut memory = Memory::new(begin);
            // Many small pieces, with every 64th kept: the heap's end stays in use, so nothing goes by itself.
            let mut pieces: Vec<Option<Vec<u8>>> = (0..40_000).map(|n| Some(vec![n as u8; 1024])).collect();
            // It was looked at when it was largest.
            memory.tick(begin + EVERY);
            for (n, piece) in pieces.iter_mut().enumerate() {
                if n % 64 != 63 {
                    *piece = None;
                }
            }
            let before = resident().unwrap();
            memory.tick(begin + 2 * EVERY);
            resident().unwrap() + 20 * 1024 < before
        };
        assert!((0..50).any(|_| went_back()));
    }
}
