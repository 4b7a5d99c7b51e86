//! What a process spends, as `/proc` tells it.

use std::fs;
use std::time::Duration;

/// A look at a process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// Time on a processor, of all threads.
    pub(super) cpu: Duration,
    /// Memory in RAM, KiB.
    pub(super) rss: u64,
}

impl Spent {
    /// By process `pid`, until now. `None`: there is no such process.
    pub(super) fn by(pid: u32) -> Option<Self> {
        Some(Self { cpu: by_threads(pid).or_else(|| by_ticks(pid))?, rss: rss(pid)? })
    }
}

/// Time that all processors together were busy, or taken away by the host, since the start of the machine.
pub(super) fn machine() -> Option<Duration> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let mut fields = text.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    // user nice system, idle iowait, irq softirq steal
    let mut ticks = 0;
    for n in 0..8 {
        let field: u64 = fields.next()?.parse().ok()?;
        ticks += if matches!(n, 3 | 4) { 0 } else { field };
    }
    Some(Duration::from_millis(ticks * 10))
}

/// To the nanosecond, where the kernel keeps such figures.
fn by_threads(pid: u32) -> Option<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (sum > 0).then(|| Duration::from_nanos(sum))
}

/// User and system time in ticks, 100 a second on every Linux of today.
fn by_ticks(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; what follows begins with field 3.
    let (_, fields) = text.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(2).map(|n| n.parse().unwrap_or(0)).sum::<u64>();
    Some(Duration::from_millis(ticks * 10))
}

fn rss(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
