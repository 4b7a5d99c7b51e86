//! Figures of this process, from `/proc` (proc(5)). What can't be read is left out, or 0.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::page::{Kind, Page};
use crate::control::system::{cpu_seconds, resident_kib};

/// What happened within less says little.
const LEAST: Duration = Duration::from_millis(500);

/// What is remembered from page to page.
pub(super) struct Process {
    started: Instant,
    cpu: Mutex<Cpu>,
}

struct Cpu {
    at: Instant,
    seconds: f64,
    percent: u32,
}

impl Default for Process {
    fn default() -> Self {
        let now = Instant::now();
        Self { started: now, cpu: Mutex::new(Cpu { at: now, seconds: cpu_seconds(), percent: 0 }) }
    }
}

impl Process {
    /// Hundredths of one processor that were used since the last time this was asked.
    pub(super) fn cpu_percent(&self) -> u32 {
        let mut cpu = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = cpu.at.elapsed();
        if passed >= LEAST {
            let seconds = cpu_seconds();
            // At most 100 for each of at most thousands of processors, and never negative.
            cpu.percent = ((seconds - cpu.seconds).max(0.0) / passed.as_secs_f64() * 100.0).round() as u32;
            cpu.seconds = seconds;
            cpu.at = Instant::now();
        }
        cpu.percent
    }

    pub(super) fn write(&self, page: &mut Page) {
        let about = "Processor time that the process has used.";
        page.single("process_cpu_seconds_total", Kind::Counter, about, cpu_seconds());
        let about = "Memory that the process holds.";
        page.single("process_resident_memory_bytes", Kind::Gauge, about, resident_kib().saturating_mul(1024));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        page.single("process_open_fds", Kind::Gauge, "Descriptors that are open.", open);
        let about = "Seconds for which the server runs.";
        page.single("rillbox_uptime_seconds", Kind::Gauge, about, self.started.elapsed().as_secs());
    }
}

/// What uname(2) says: system, node, release, version, machine.
pub(super) fn uname() -> [String; 5] {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    // Kernels before 6.1 don't say it there.
    let machine = Some(read("arch")).filter(|arch| !arch.is_empty());
    let machine = machine.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    [read("ostype"), read("hostname"), read("osrelease"), read("version"), machine]
}
