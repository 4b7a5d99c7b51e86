use super::Sample;
use super::proc::part;
use crate::control::json::{Cents, Json as _, Object};

/// What a server has done since it started.
#[derive(Debug, Clone, Default)]
pub struct Served {
    /// For how many seconds it runs.
    pub uptime: u64,
    /// Bytes received from publishers and readers.
    pub received: u64,
    /// Bytes sent to them.
    pub sent: u64,
    /// Publishers and readers there now.
    pub sessions: usize,
}

/// `{"ok":…,"now_ms":…,"self":{…},"system":{…}}`, with the names and the order of SRS.
#[must_use]
pub fn summary(sample: &Sample, served: &Served, now_ms: u64) -> String {
    let now = &sample.now;
    let (own, system, memory) = (&now.own, &now.system, &now.memory);
    let (network, sockets) = (&now.network, &now.sockets);
    let ok = own.stat.ok && now.system.ok;
    Object(&[
        ("ok", &ok),
        ("now_ms", &now_ms),
        (
            "self",
            &Object(&[
                ("version", &env!("CARGO_PKG_VERSION")),
                ("pid", &std::process::id()),
                ("ppid", &own.stat.field("ppid")),
                ("argv", &arguments()),
                ("cwd", &std::env::current_dir().map_or(String::new(), |dir| dir.display().to_string())),
                ("mem_kbyte", &own.rss_kib),
                ("mem_percent", &Cents(part(own.rss_kib, memory.total))),
                ("cpu_percent", &Cents(sample.own_cpu)),
                ("srs_uptime", &served.uptime),
            ]),
        ),
        (
            "system",
            &Object(&[
                ("cpu_percent", &Cents(sample.system_cpu)),
                ("disk_read_KBps", &sample.disk_read),
                ("disk_write_KBps", &sample.disk_write),
                ("disk_busy_percent", &Cents(sample.disk_busy)),
                ("mem_ram_kbyte", &memory.total),
                ("mem_ram_percent", &Cents(memory.used_part())),
                ("mem_swap_kbyte", &memory.swap_total),
                ("mem_swap_percent", &Cents(memory.swap_part())),
                ("cpus", &system.present),
                ("cpus_online", &system.online),
                ("uptime", &Cents(system.uptime)),
                ("ilde_time", &Cents(system.idle)),
                ("load_1m", &Cents(system.load[0])),
                ("load_5m", &Cents(system.load[1])),
                ("load_15m", &Cents(system.load[2])),
                ("net_sample_time", &now.time_ms),
                ("net_recv_bytes", &network.received),
                ("net_send_bytes", &network.sent),
                ("net_recvi_bytes", &network.received_inside),
                ("net_sendi_bytes", &network.sent_inside),
                ("srs_sample_time", &now.time_ms),
                ("srs_recv_bytes", &served.received),
                ("srs_send_bytes", &served.sent),
                ("conn_sys", &sockets.used),
                ("conn_sys_et", &sockets.established),
                ("conn_sys_tw", &sockets.waiting),
                ("conn_sys_udp", &sockets.udp),
                ("conn_srs", &served.sessions),
            ]),
        ),
    ])
    .to_json()
}

/// The command line.
fn arguments() -> String {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    words.join(" ")
}
