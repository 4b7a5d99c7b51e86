//! The server itself and its machine.

use std::time::SystemTime;

use super::problem::Problem;
use super::route::{Answer, Call};
use crate::control::json::{Cents, Json as _, Time, shape};
use crate::id::Instance;

shape! {
    /// What this server is.
    pub struct About {
        /// The program.
        program: String,
        /// Its version.
        version: String,
        /// The server's id, the same from run to run.
        server: String,
        /// The id of this run.
        service: String,
        /// Where this API is described.
        openapi: String,
    }
}

shape! {
    /// What the server and its machine do.
    pub struct Server {
        /// The server's id, the same from run to run.
        id: String,
        /// The id of this run.
        service: String,
        /// The program's version.
        version: String,
        /// The process.
        pid: u32,
        /// When it started.
        started: Time,
        /// Its time now.
        time: Time,
        /// Of one processor, how much it uses: 1.5 is one and a half.
        cpu: Cents,
        /// Memory that it holds.
        memory_bytes: u64,
        /// Publishers and readers there now.
        sessions: usize,
        /// Publishers and readers since the start.
        sessions_admitted: u64,
        /// Those that were refused since the start.
        sessions_denied: u64,
        /// Received from publishers and readers since the start.
        received_bytes: u64,
        /// Sent to readers and publishers since the start.
        sent_bytes: u64,
        /// Its machine.
        machine: Machine,
    }
}

shape! {
    /// A machine.
    pub struct Machine {
        /// Processors that are switched on.
        processors: u32,
        /// Of all processors, how much is used: 0 to 1.
        cpu: Cents,
        /// How many processes wanted to run, on the average of the last minute.
        load: Cents,
        /// Memory.
        memory_bytes: u64,
        /// Memory that programs use.
        memory_used_bytes: u64,
        /// For how many seconds it runs.
        uptime: u64,
        /// Read from its disks, KiB a second.
        disk_read_kib: u64,
        /// Written to its disks, KiB a second.
        disk_written_kib: u64,
    }
}

/// `/api/v2`
pub(super) fn about(_: &Call<'_>) -> Result<Answer, Problem> {
    let us = Instance::get();
    let about = About {
        program: "Rillbox".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        server: us.server.clone(),
        service: us.service.clone(),
        openapi: "/api/v2/openapi.json".to_owned(),
    };
    Ok(Answer::Json(about.to_json()))
}

/// `/api/v2/server`
pub(super) async fn server(call: &Call<'_>) -> Result<Answer, Problem> {
    let sample = call.api.sampler.sample().await;
    let (now, us, totals) = (SystemTime::now(), Instance::get(), call.api.hub.totals());
    let kib = |kib: u64| kib.saturating_mul(1024);
    let system = &sample.now.system;
    let server = Server {
        id: us.server.clone(),
        service: us.service.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: us.pid,
        started: Time(now.checked_sub(call.api.started.elapsed()).unwrap_or(now)),
        time: Time(now),
        cpu: Cents(sample.own_cpu),
        memory_bytes: kib(sample.now.own.rss_kib),
        sessions: totals.clients,
        sessions_admitted: totals.admitted,
        sessions_denied: totals.denied,
        received_bytes: totals.received,
        sent_bytes: totals.sent,
        machine: Machine {
            processors: system.online,
            cpu: Cents(sample.system_cpu),
            load: Cents(system.load[0]),
            memory_bytes: kib(sample.now.memory.total),
            memory_used_bytes: kib(sample.now.memory.in_use()),
            uptime: system.uptime.max(0.0) as u64,
            disk_read_kib: sample.disk_read,
            disk_written_kib: sample.disk_write,
        },
    };
    Ok(Answer::Json(server.to_json()))
}
