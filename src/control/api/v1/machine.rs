//! What the machine and this process do.

use std::time::SystemTime;

use super::{Answer, Call};
use crate::control::json::{Cents, Json, Object, Time};
use crate::control::system::{OwnStat, SystemStat, summary};

/// JSON that is written already.
struct Written(String);

impl Json for Written {
    fn json(&self, out: &mut String) {
        out.push_str(&self.0);
    }
}

pub(super) async fn summaries(call: &Call<'_>) -> Answer {
    let sample = call.api.sampler.sample().await;
    let now_ms = Time(SystemTime::now()).unix_ms();
    call.good(&[("data", &Written(summary(&sample, &call.api.served(), now_ms)))])
}

pub(super) async fn rusages(call: &Call<'_>) -> Answer {
    let now = call.api.sampler.sample().await.now;
    let (own, stat) = (&now.own, &now.own.stat);
    let seconds = |name| stat.field(name) / 100;
    call.good(&[(
        "data",
        &Object(&[
            ("ok", &stat.ok),
            ("sample_time", &now.time_ms),
            ("ru_utime", &seconds("utime")),
            ("ru_stime", &seconds("stime")),
            ("ru_maxrss", &own.max_rss_kib),
            // Linux counts none of these.
            ("ru_ixrss", &0_u8),
            ("ru_idrss", &0_u8),
            ("ru_isrss", &0_u8),
            ("ru_minflt", &stat.field("minflt")),
            ("ru_majflt", &stat.field("majflt")),
            ("ru_nswap", &0_u8),
            ("ru_inblock", &own.blocks_in),
            ("ru_oublock", &own.blocks_out),
            ("ru_msgsnd", &0_u8),
            ("ru_msgrcv", &0_u8),
            ("ru_nsignals", &0_u8),
            ("ru_nvcsw", &own.waits),
            ("ru_nivcsw", &own.preemptions),
        ]),
    )])
}

pub(super) async fn self_proc_stats(call: &Call<'_>) -> Answer {
    let sample = call.api.sampler.sample().await;
    let stat = &sample.now.own.stat;
    let values: Vec<i64> = OwnStat::NAMES.iter().map(|name| stat.field(name)).collect();
    let percent = Cents(sample.own_cpu);
    let mut fields: Vec<(&str, &dyn Json)> =
        vec![("ok", &stat.ok), ("sample_time", &sample.now.time_ms), ("percent", &percent)];
    for (name, value) in OwnStat::NAMES.iter().zip(&values) {
        fields.push((name, value));
        if *name == "pid" {
            fields.push(("comm", &stat.comm));
            fields.push(("state", &stat.state));
        }
    }
    call.good(&[("data", &Object(&fields))])
}

pub(super) async fn system_proc_stats(call: &Call<'_>) -> Answer {
    let sample = call.api.sampler.sample().await;
    let stat = &sample.now.system;
    let values: Vec<u64> = SystemStat::NAMES.iter().map(|name| stat.field(name)).collect();
    let percent = Cents(sample.system_cpu);
    let mut fields: Vec<(&str, &dyn Json)> =
        vec![("ok", &stat.ok), ("sample_time", &sample.now.time_ms), ("percent", &percent)];
    fields.extend(SystemStat::NAMES.iter().zip(&values).map(|(name, value)| (*name, value as &dyn Json)));
    call.good(&[("data", &Object(&fields))])
}

pub(super) async fn meminfos(call: &Call<'_>) -> Answer {
    let now = call.api.sampler.sample().await.now;
    let memory = &now.memory;
    call.good(&[(
        "data",
        &Object(&[
            ("ok", &(memory.total > 0)),
            ("sample_time", &now.time_ms),
            ("percent_ram", &Cents(memory.used_part())),
            ("percent_swap", &Cents(memory.swap_part())),
            ("MemActive", &memory.active()),
            ("RealInUse", &memory.in_use()),
            ("NotInUse", &memory.total.saturating_sub(memory.in_use())),
            ("MemTotal", &memory.total),
            ("MemFree", &memory.free),
            ("Buffers", &memory.buffers),
            ("Cached", &memory.cached),
            ("SwapTotal", &memory.swap_total),
            ("SwapFree", &memory.swap_free),
        ]),
    )])
}
