//! What the machine and this process do: CPU, memory, network, disks, sockets, from `/proc` (proc(5)).
//!
//! Nothing runs for it: a reading is taken when someone asks, and what is said per second is of the time since the reading
//! before, if that is not long past. What a machine doesn't tell (no `/proc`, a container that hides it) is 0, and `ok`
//! says so.

mod proc;
#[cfg(any(feature = "api", feature = "hooks"))]
mod summary;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;

pub use self::proc::{
    Disk, Memory, Network, Own, OwnStat, Sockets, SystemStat, UserHertz, cpu_seconds, resident_kib,
};
#[cfg(any(feature = "api", feature = "hooks"))]
pub use self::summary::{Served, summary};

/// Readings are this far apart at least: what comes sooner gets the one before.
const FRESH: Duration = Duration::from_secs(1);
/// A reading that is older says nothing of what happens now.
const STALE: Duration = Duration::from_secs(60);
/// How long to look when there is no reading before that could be used.
const LOOK: Duration = Duration::from_millis(300);

/// One look at everything.
#[derive(Debug, Clone)]
pub struct Reading {
    at: Instant,
    /// When it was taken, in milliseconds since 1970.
    pub time_ms: u64,
    /// This process.
    pub own: Own,
    /// All processors.
    pub system: SystemStat,
    /// Memory.
    pub memory: Memory,
    /// Network interfaces.
    pub network: Network,
    /// Disks.
    pub disk: Disk,
    /// Sockets.
    pub sockets: Sockets,
}

impl Reading {
    fn take() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            at: Instant::now(),
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            own: Own::read(),
            system: SystemStat::read(),
            memory: Memory::read(),
            network: Network::read(),
            disk: Disk::read(),
            sockets: Sockets::read(),
        }
    }
}

/// The newest reading, and what happened since the one before.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The newest.
    pub now: Reading,
    /// Of one processor, how much this process used: 1.5 is one and a half.
    pub own_cpu: f64,
    /// Of all processors, how much was used: 0 to 1.
    pub system_cpu: f64,
    /// KiB read from disks in a second.
    pub disk_read: u64,
    /// KiB written to disks in a second.
    pub disk_write: u64,
    /// How busy the busiest disk was: 0 to 1.
    pub disk_busy: f64,
}

impl Sample {
    fn of(before: &Reading, now: Reading) -> Self {
        let seconds = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
        let per_second = |new: u64, old: u64| -> u64 {
            // Counts of kibibytes: far from where a float loses whole numbers.
            let rate = new.saturating_sub(old) as f64 / seconds;
            rate as u64
        };
        let ticks = now.own.stat.ticks().saturating_sub(before.own.stat.ticks());
        let own_cpu = ticks as f64 / UserHertz::PER_SECOND as f64 / seconds;
        let busy = now.disk.busy_ms(&before.disk) as f64 / 1000.0 / seconds;
        Self {
            own_cpu,
            system_cpu: now.system.used_since(&before.system),
            disk_read: per_second(now.disk.read_kib, before.disk.read_kib),
            disk_write: per_second(now.disk.written_kib, before.disk.written_kib),
            disk_busy: busy.min(1.0),
            now,
        }
    }
}

/// Takes readings when asked.
#[derive(Debug, Default)]
pub struct Sampler(Mutex<Option<Sample>>);

impl Sampler {
    /// How things stand. Takes a third of a second when nobody has asked for a minute.
    pub async fn sample(&self) -> Sample {
        let mut last = self.0.lock().await;
        let age = last.as_ref().map(|last| last.now.at.elapsed());
        if let (Some(sample), Some(age)) = (&*last, age)
            && age < FRESH
        {
            return sample.clone();
        }
        let before = match (&*last, age) {
            (Some(sample), Some(age)) if age < STALE => sample.now.clone(),
            _ => {
                let before = Reading::take();
                tokio::time::sleep(LOOK).await;
                before
            }
        };
        let sample = Sample::of(&before, Reading::take());
        *last = Some(sample.clone());
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_machine_is_read() {
        let sampler = Sampler::default();
        let start = Instant::now();
        let first = sampler.sample().await;
        // Some work to see.
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(1400) {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        let second = sampler.sample().await;
        assert!(sum != 1 && second.system_cpu > 0.0 && second.system_cpu <= 1.0);
        assert!(second.now.time_ms > first.now.time_ms);
        // QEMU shows its programs a process without figures.
        if std::env::var_os("RILLBOX_TEST_EMULATED").is_none() {
            assert!(second.own_cpu > 0.05, "{}", second.own_cpu);
            assert!(first.now.own.stat.ok);
            assert_eq!(second.now.own.stat.field("pid"), i64::from(std::process::id()));
            assert!(second.now.own.rss_kib > 1000 && second.now.own.max_rss_kib >= second.now.own.rss_kib);
        }
        assert!(second.now.memory.total > second.now.memory.free);
        assert!(second.now.sockets.used > 0);
        let third = sampler.sample().await;
        assert_eq!(third.now.time_ms, second.now.time_ms, "asked again at once");
    }
}
