//! Files of `/proc`, as far as we need them (proc(5)). What can't be read is 0.

use std::fs;

/// What `/proc` counts processor time in.
pub struct UserHertz;

impl UserHertz {
    /// On all our targets.
    pub const PER_SECOND: u64 = 100;
}

/// Processor time that this process has used, in seconds.
#[must_use]
pub fn cpu_seconds() -> f64 {
    OwnStat::parse(&text("/proc/self/stat")).ticks() as f64 / UserHertz::PER_SECOND as f64
}

/// Memory that this process holds, in KiB.
#[must_use]
pub fn resident_kib() -> u64 {
    named(&text("/proc/self/status"), "VmRSS")
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The number after `name` in lines of `name: 12 kB` or `name 12`.
fn named(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([':', ' ', '\t']).then_some(rest)
    });
    let number = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// This process.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Its line in `/proc/self/stat`.
    pub stat: OwnStat,
    /// Memory it has, in KiB.
    pub rss_kib: u64,
    /// The most it had.
    pub max_rss_kib: u64,
    /// Blocks of 512 bytes that it had read from disks.
    pub blocks_in: u64,
    /// Blocks of 512 bytes that it has written to disks.
    pub blocks_out: u64,
    /// How often its threads waited.
    pub waits: u64,
    /// How often others were let before them.
    pub preemptions: u64,
}

impl Own {
    pub(super) fn read() -> Self {
        let (status, io) = (text("/proc/self/status"), text("/proc/self/io"));
        let (mut waits, mut preemptions) = (0_u64, 0_u64);
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            waits = waits.saturating_add(named(&status, "voluntary_ctxt_switches"));
            preemptions = preemptions.saturating_add(named(&status, "nonvoluntary_ctxt_switches"));
        }
        Self {
            stat: OwnStat::parse(&text("/proc/self/stat")),
            rss_kib: named(&status, "VmRSS"),
            max_rss_kib: named(&status, "VmHWM"),
            blocks_in: named(&io, "read_bytes") / 512,
            blocks_out: named(&io, "write_bytes") / 512,
            waits,
            preemptions,
        }
    }
}

/// A line of `/proc/PID/stat`.
#[derive(Debug, Clone, Default)]
pub struct OwnStat {
    /// Whether it could be read.
    pub ok: bool,
    /// The program's name, in parentheses.
    pub comm: String,
    /// `R`, `S`, …
    pub state: String,
    /// By [`OwnStat::NAMES`].
    values: Vec<i64>,
}

impl OwnStat {
    /// Its numbers, but for `comm` and `state`, which stand after the first.
    pub const NAMES: [&'static str; 42] = [
        "pid",
        "ppid",
        "pgrp",
        "session",
        "tty_nr",
        "tpgid",
        "flags",
        "minflt",
        "cminflt",
        "majflt",
        "cmajflt",
        "utime",
        "stime",
        "cutime",
        "cstime",
        "priority",
        "nice",
        "num_threads",
        "itrealvalue",
        "starttime",
        "vsize",
        "rss",
        "rsslim",
        "startcode",
        "endcode",
        "startstack",
        "kstkesp",
        "kstkeip",
        "signal",
        "blocked",
        "sigignore",
        "sigcatch",
        "wchan",
        "nswap",
        "cnswap",
        "exit_signal",
        "processor",
        "rt_priority",
        "policy",
        "delayacct_blkio_ticks",
        "guest_time",
        "cguest_time",
    ];

    fn parse(text: &str) -> Self {
        // A program's name may hold anything, parentheses too.
        let found = text.find('(').zip(text.rfind(')'));
        let Some((from, to)) = found.filter(|(from, to)| from < to) else { return Self::default() };
        let (Some(pid), Some(comm), Some(rest)) = (text.get(..from), text.get(from..=to), text.get(to + 1..))
        else {
            return Self::default();
        };
        let mut words = rest.split_whitespace();
        let state = words.next().unwrap_or_default().to_owned();
        // "No limit" is the largest number, which SRS shows as -1.
        let number =
            |word: &str| word.parse().unwrap_or_else(|_| word.parse::<u64>().map_or(0, u64::cast_signed));
        let values: Vec<i64> =
            std::iter::once(pid.trim()).chain(words).take(Self::NAMES.len()).map(number).collect();
        Self { ok: values.len() == Self::NAMES.len(), comm: comm.to_owned(), state, values }
    }

    /// One of its numbers.
    #[must_use]
    pub fn field(&self, name: &str) -> i64 {
        let at = Self::NAMES.iter().position(|known| *known == name);
        at.and_then(|at| self.values.get(at)).copied().unwrap_or(0)
    }

    /// Processor time used.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        u64::try_from(self.field("utime").saturating_add(self.field("stime"))).unwrap_or(0)
    }
}

/// All processors together: the first line of `/proc/stat`.
#[derive(Debug, Clone, Default)]
pub struct SystemStat {
    /// Whether it could be read.
    pub ok: bool,
    /// By [`SystemStat::NAMES`], in ticks since the machine's start.
    values: [u64; 9],
    /// Processors that are switched on.
    pub online: u32,
    /// Processors that there are.
    pub present: u32,
    /// Seconds since the machine's start.
    pub uptime: f64,
    /// Seconds that its processors had nothing to do, together.
    pub idle: f64,
    /// How many processes wanted to run, on the average of 1, 5 and 15 minutes.
    pub load: [f64; 3],
}

impl SystemStat {
    /// What processors do.
    pub const NAMES: [&'static str; 9] =
        ["user", "nice", "sys", "idle", "iowait", "irq", "softirq", "steal", "guest"];
    const IDLE: [&'static str; 2] = ["idle", "iowait"];

    pub(super) fn read() -> Self {
        let mut stat = Self::parse(&text("/proc/stat"));
        let present = count(text("/sys/devices/system/cpu/present").trim());
        stat.present = present.max(stat.online);
        let times = text("/proc/uptime");
        let mut times = floats(&times);
        stat.uptime = times.next().unwrap_or(0.0);
        stat.idle = times.next().unwrap_or(0.0);
        for (load, value) in stat.load.iter_mut().zip(floats(&text("/proc/loadavg"))) {
            *load = value;
        }
        stat
    }

    fn parse(text: &str) -> Self {
        let mut stat = Self::default();
        if let Some(line) = text.lines().find_map(|line| line.strip_prefix("cpu ")) {
            stat.ok = true;
            for (value, word) in stat.values.iter_mut().zip(line.split_whitespace()) {
                *value = word.parse().unwrap_or(0);
            }
        }
        let is_one = |line: &&str| {
            line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        stat.online = u32::try_from(text.lines().filter(is_one).count()).unwrap_or(u32::MAX);
        stat
    }

    /// Ticks spent on something.
    #[must_use]
    pub fn field(&self, name: &str) -> u64 {
        let at = Self::NAMES.iter().position(|known| *known == name);
        at.and_then(|at| self.values.get(at)).copied().unwrap_or(0)
    }

    /// How much was used since, 0 to 1. Guests are counted with the user.
    pub(super) fn used_since(&self, before: &Self) -> f64 {
        let (mut all, mut idle) = (0_u64, 0_u64);
        for name in Self::NAMES.iter().filter(|name| **name != "guest") {
            let ticks = self.field(name).saturating_sub(before.field(name));
            all = all.saturating_add(ticks);
            if Self::IDLE.contains(name) {
                idle = idle.saturating_add(ticks);
            }
        }
        if all == 0 { 0.0 } else { all.saturating_sub(idle) as f64 / all as f64 }
    }
}

/// How many `0-3,6` are.
fn count(list: &str) -> u32 {
    let mut sum = 0_u32;
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<u32>(), to.parse::<u32>()) {
            sum = sum.saturating_add(to.saturating_sub(from).saturating_add(1));
        }
    }
    sum
}

fn floats(text: &str) -> impl Iterator<Item = f64> {
    text.split_whitespace().filter_map(|word| word.parse().ok())
}

/// Memory of the machine: `/proc/meminfo`, in KiB.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// All.
    pub total: u64,
    /// Not used for anything.
    pub free: u64,
    /// Of disks' metadata.
    pub buffers: u64,
    /// Of files.
    pub cached: u64,
    /// Swap, all.
    pub swap_total: u64,
    /// Swap that is free.
    pub swap_free: u64,
}

impl Memory {
    pub(super) fn read() -> Self {
        Self::parse(&text("/proc/meminfo"))
    }

    fn parse(text: &str) -> Self {
        Self {
            total: named(text, "MemTotal"),
            free: named(text, "MemFree"),
            buffers: named(text, "Buffers"),
            cached: named(text, "Cached"),
            swap_total: named(text, "SwapTotal"),
            swap_free: named(text, "SwapFree"),
        }
    }

    /// Used for anything.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.total.saturating_sub(self.free)
    }

    /// Used by programs: caches can be dropped.
    #[must_use]
    pub fn in_use(&self) -> u64 {
        self.active().saturating_sub(self.buffers).saturating_sub(self.cached)
    }

    /// How much of it programs use, 0 to 1.
    #[must_use]
    pub fn used_part(&self) -> f64 {
        part(self.in_use(), self.total)
    }

    /// How much of the swap is used, 0 to 1.
    #[must_use]
    pub fn swap_part(&self) -> f64 {
        part(self.swap_total.saturating_sub(self.swap_free), self.swap_total)
    }
}

/// `n` of `all`, 0 to 1.
pub(super) fn part(n: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { n as f64 / all as f64 }
}

/// Bytes that network interfaces have carried since the machine's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Received by interfaces with a public IPv4 network.
    pub received: u64,
    /// Sent by them.
    pub sent: u64,
    /// Received by the others, this machine's own traffic (`lo`) with them.
    pub received_inside: u64,
    /// Sent by them.
    pub sent_inside: u64,
}

impl Network {
    pub(super) fn read() -> Self {
        Self::parse(&text("/proc/net/dev"), &text("/proc/net/route"))
    }

    fn parse(devices: &str, routes: &str) -> Self {
        let public: Vec<&str> = routes.lines().skip(1).filter_map(public_device).collect();
        let mut sum = Self::default();
        for line in devices.lines() {
            let Some((name, rest)) = line.split_once(':') else { continue };
            let mut counts = rest.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
            let (received, sent) = (counts.next().unwrap_or(0), counts.nth(7).unwrap_or(0));
            let (into_received, into_sent) = if public.contains(&name.trim()) {
                (&mut sum.received, &mut sum.sent)
            } else {
                (&mut sum.received_inside, &mut sum.sent_inside)
            };
            *into_received = into_received.saturating_add(received);
            *into_sent = into_sent.saturating_add(sent);
        }
        sum
    }
}

/// The interface of a line of `/proc/net/route`, if it is in a public network.
fn public_device(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let hex = |word: &str| u32::from_str_radix(word, 16).ok();
    // Numbers in the network's order, printed as this machine's.
    let (network, gateway) = (hex(words.next()?)?, hex(words.next()?)?);
    let network = std::net::Ipv4Addr::from(network.to_ne_bytes());
    let private = network.is_private()
        || network.is_loopback()
        || network.is_link_local()
        || network.is_multicast()
        || network.is_unspecified()
        // Of providers' own networks (RFC 6598).
        || (network.octets()[0] == 100 && network.octets()[1] & 0xC0 == 64);
    (gateway == 0 && !private).then_some(name)
}

/// Disks of the machine.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// KiB read since the machine's start.
    pub read_kib: u64,
    /// KiB written.
    pub written_kib: u64,
    /// For how many milliseconds each had something to do.
    busy: Vec<(String, u64)>,
}

impl Disk {
    pub(super) fn read() -> Self {
        let vm = text("/proc/vmstat");
        Self {
            read_kib: named(&vm, "pgpgin"),
            written_kib: named(&vm, "pgpgout"),
            busy: busy(&text("/proc/diskstats")),
        }
    }

    /// For how many milliseconds the busiest had something to do since.
    pub(super) fn busy_ms(&self, before: &Self) -> u64 {
        let since = |(name, ms): &(String, u64)| {
            let old = before.busy.iter().find(|(known, _)| known == name)?;
            Some(ms.saturating_sub(old.1))
        };
        self.busy.iter().filter_map(since).max().unwrap_or(0)
    }
}

fn busy(text: &str) -> Vec<(String, u64)> {
    let one = |line: &str| {
        let mut words = line.split_whitespace().skip(2);
        let name = words.next()?;
        let pretends = ["loop", "ram", "zram"].iter().any(|prefix| name.starts_with(prefix));
        let ms = words.nth(9)?.parse().ok()?;
        (!pretends).then(|| (name.to_owned(), ms))
    };
    text.lines().filter_map(one).collect()
}

/// Sockets of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sockets {
    /// TCP sockets, also those that have ended and wait.
    pub used: u64,
    /// Connections that are established.
    pub established: u64,
    /// Ended ones that wait.
    pub waiting: u64,
    /// UDP sockets.
    pub udp: u64,
}

impl Sockets {
    pub(super) fn read() -> Self {
        Self::parse(&text("/proc/net/sockstat"), &text("/proc/net/sockstat6"), &text("/proc/net/snmp"))
    }

    fn parse(v4: &str, v6: &str, snmp: &str) -> Self {
        // "TCP: inuse 5 orphan 0 tw 30"
        let number = |text: &str, line: &str, name: &str| -> u64 {
            let words = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_default();
            let mut words = words.split_whitespace().skip_while(|word| *word != name);
            words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
        };
        // A line of names, and one of numbers.
        let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
        let place = tcp.next().unwrap_or_default().split_whitespace().position(|name| name == "CurrEstab");
        let established = place.and_then(|place| tcp.next()?.split_whitespace().nth(place)?.parse().ok());
        let waiting = number(v4, "TCP:", "tw");
        let open = number(v4, "TCP:", "inuse").saturating_add(number(v6, "TCP6:", "inuse"));
        Self {
            used: open.saturating_add(waiting),
            established: established.unwrap_or(0),
            waiting,
            udp: number(v4, "UDP:", "inuse").saturating_add(number(v6, "UDP6:", "inuse")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_program_of_any_name() {
        let numbers = (1..=41).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let stat = OwnStat::parse(&format!("7 (a) b (c)) S {numbers} 99 98\n"));
        assert!(stat.ok);
        assert_eq!((stat.comm.as_str(), stat.state.as_str()), ("(a) b (c))", "S"));
        assert_eq!((stat.field("pid"), stat.field("ppid"), stat.field("cguest_time")), (7, 1, 41));
        assert_eq!(stat.ticks(), 11 + 12);
        assert!(!OwnStat::parse("7 (a) S 1").ok && !OwnStat::parse(") (").ok);
        let no_limit = OwnStat::parse("7 (a) S 18446744073709551615");
        assert_eq!(no_limit.field("ppid"), -1);
    }

    #[test]
    fn processors() {
        let a = SystemStat::parse("cpu  10 0 10 80 0 0 0 0 0 0\ncpu0 5 0\ncpu1 5 0\nintr 5\n");
        let b = SystemStat::parse("cpu  20 0 20 140 20 0 0 0 5 0\ncpu0 5 0\ncpu1 5 0\n");
        assert_eq!((a.ok, a.online, a.field("idle")), (true, 2, 80));
        assert!((b.used_since(&a) - 0.2).abs() < 1e-9);
        assert!(a.used_since(&b).abs() < 1e-9 && !SystemStat::parse("").ok);
        assert_eq!((count("0-3,6"), count("0"), count("")), (5, 1, 0));
    }

    #[test]
    fn networks_inside_and_outside() {
        let devices = "Inter-|   Receive |  Transmit\n face |bytes packets\n  lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n\
                       eth0:2000 1 0 0 0 0 0 0 3000 1 0 0 0 0 0 0\n";
        let network = |a: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(a));
        let routes = |net: [u8; 4]| {
            format!(
                "Iface Destination Gateway\neth0 {} 00000000 0001\nlo 00000000 {} 0003\n",
                network(net),
                network([8, 8, 8, 8])
            )
        };
        let outside = Network { received: 2000, sent: 3000, received_inside: 100, sent_inside: 100 };
        assert_eq!(Network::parse(devices, &routes([8, 8, 4, 0])), outside);
        let inside = Network { received: 0, sent: 0, received_inside: 2100, sent_inside: 3100 };
        assert_eq!(Network::parse(devices, &routes([10, 0, 0, 0])), inside);
    }

    #[test]
    fn sockets_memory_and_disks() {
        let sockets = Sockets::parse(
            "sockets: used 99\nTCP: inuse 5 orphan 0 tw 30 alloc 9 mem 1\nUDP: inuse 2 mem 0\n",
            "TCP6: inuse 14\nUDP6: inuse 2\n",
            "Ip: Forwarding\nIp: 1\nTcp: RtoMin CurrEstab InSegs\nTcp: 200 13 1\n",
        );
        assert_eq!(sockets, Sockets { used: 49, established: 13, waiting: 30, udp: 4 });
        let memory = Memory::parse(
            "MemTotal:       24684084 kB\nMemFree:        22693088 kB\nBuffers:             828 kB\nCached:           253364 kB\n\
             SwapCached: 5 kB\n",
        );
        assert_eq!((memory.active(), memory.in_use()), (1_990_996, 1_736_804));
        assert!((memory.used_part() - 0.07).abs() < 0.001 && memory.swap_part().abs() < 1e-9);
        let line = |name: &str, ms: u32| format!("   8       0 {name} 1 2 3 4 5 6 7 8 9 {ms} 11\n");
        let before = Disk { busy: busy(&(line("sda", 100) + &line("loop0", 5))), ..Disk::default() };
        let now = Disk {
            busy: busy(&(line("sda", 350) + &line("sdb", 9000) + &line("loop0", 9000))),
            ..Disk::default()
        };
        assert_eq!(now.busy_ms(&before), 250);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text: String) {
            let _ = OwnStat::parse(&text);
            let _ = SystemStat::parse(&text).used_since(&SystemStat::default());
            let _ = (Memory::parse(&text).in_use(), Network::parse(&text, &text), busy(&text));
            let _ = Sockets::parse(&text, &text, &text);
        }
    }
}
