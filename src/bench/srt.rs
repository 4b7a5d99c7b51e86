//! Many SRT players in one process, which throw away what comes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portable_atomic::{AtomicU64, AtomicUsize, Ordering};

use super::process::{self, Spent};
use super::{Args, BenchError, Result, io_error, resolve};
use crate::srt::endpoint::{Connection, Endpoint, EndpointOptions};
use crate::srt::url::SrtUrl;
use crate::srt::{Reject, SrtError};

pub(super) const OPTIONS: &[&str] = &["url", "count", "seconds", "settle", "pid"];

/// How many call at a time.
const CALLS: usize = 32;
/// How often one calls that is told to come again, and after how long.
const TRIES: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);
/// Payloads taken at once.
const BATCH: usize = 64;

/// What all players have had.
#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    alive: AtomicUsize,
    lost: AtomicU64,
}

/// Runs until `--seconds` have been measured.
pub(super) fn run(args: &Args) -> Result<()> {
    let url = SrtUrl::parse(args.text("url")?).map_err(|error| BenchError::Usage(error.to_string()))?;
    let count = args.number("count")?.unwrap_or(1);
    let time = |name, usual| -> Result<Duration> {
        let seconds = args.number::<f64>(name)?.unwrap_or(usual);
        Duration::try_from_secs_f64(seconds).map_err(|error| BenchError::Usage(format!("--{name}: {error}")))
    };
    let (seconds, settle) = (time("seconds", 10.0)?, time("settle", 2.0)?);
    let pid: Option<u32> = args.number("pid")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(io_error("start a runtime"))?.block_on(async {
        let before = pid.and_then(Spent::by);
        let begun = Instant::now();
        let counts = Arc::new(Counts::default());
        let endpoint = players(&url, count, &counts).await?;
        let joining = begun.elapsed();
        tokio::time::sleep(settle).await;
        let look = || (pid.and_then(Spent::by), Spent::by(std::process::id()), process::machine());
        let (cpu, own, machine) = look();
        let (bytes, measured) = (counts.bytes.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(seconds).await;
        let passed = measured.elapsed().as_secs_f64();
        let bytes = counts.bytes.load(Ordering::Relaxed) - bytes;
        let (cpu_after, own_after, machine_after) = look();
        let spent = |a: Option<Spent>, b: Option<Spent>| Some(b?.cpu.saturating_sub(a?.cpu).as_secs_f64());
        let gbit = bytes as f64 * 8.0 / 1e9;
        let alive = counts.alive.load(Ordering::Relaxed);
        let per_gbit = spent(cpu, cpu_after).filter(|_| bytes > 0).map(|cpu| cpu * 100.0 / gbit);
        let each = before.zip(cpu_after).map(|(a, b)| (b.rss as f64 - a.rss as f64) / count.max(1) as f64);
        let own = spent(own, own_after).unwrap_or(0.0);
        let busy = machine_after.zip(machine).map_or(0.0, |(after, before)| after.saturating_sub(before).as_secs_f64());
        let others = (busy - own - spent(cpu, cpu_after).unwrap_or(0.0)).max(0.0) / passed * 100.0;
        let number = |n: Option<f64>| n.map_or("null".to_owned(), |n| format!("{n:.3}"));
        println!(
            "{{\"players\":{count},\"alive\":{alive},\"joining_s\":{:.2},\"seconds\":{passed:.3},\"bytes\":{bytes},\
             \"gbit_s\":{:.5},\"cpu_percent_per_gbit\":{},\"kib_a_player\":{},\"own_cpu_s\":{own:.3},\
             \"others_cpu_percent\":{others:.0},\"dropped\":{}}}",
            joining.as_secs_f64(),
            gbit / passed,
            number(per_gbit),
            number(each),
            counts.lost.load(Ordering::Relaxed),
        );
        endpoint.stop();
        if alive == 0 { Err(BenchError::Server("keeps no player".into())) } else { Ok(()) }
    })
}

async fn players(url: &SrtUrl, count: usize, counts: &Arc<Counts>) -> Result<Endpoint> {
    let address = resolve(&url.host, url.port)?;
    let own: SocketAddr = (Ipv4Addr::UNSPECIFIED, 0).into();
    let (endpoint, _) = Endpoint::bind(own, EndpointOptions::default()).map_err(io_error("open a socket"))?;
    let mut calls = tokio::task::JoinSet::new();
    let mut left = count;
    while left > 0 || !calls.is_empty() {
        while left > 0 && calls.len() < CALLS {
            left -= 1;
            let (endpoint, options) = (endpoint.clone(), url.options.clone());
            calls.spawn(async move {
                for _ in 0..TRIES {
                    match endpoint.call(address, options.clone()).await {
                        Err(SrtError::Refused(Reject::BACKLOG)) => tokio::time::sleep(PAUSE).await,
                        other => return other,
                    }
                }
                Err(SrtError::Refused(Reject::BACKLOG))
            });
        }
        match calls.join_next().await {
            Some(Ok(Ok(connection))) => drop(tokio::spawn(play(connection, counts.clone()))),
            Some(Ok(Err(error))) => {
                return Err(BenchError::Server(format!("takes no more players: {error}")));
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(endpoint)
}

async fn play(mut connection: Connection, counts: Arc<Counts>) {
    counts.alive.fetch_add(1, Ordering::Relaxed);
    let mut payloads = Vec::with_capacity(BATCH);
    while connection.receive_many(&mut payloads, BATCH).await > 0 {
        let bytes: usize = payloads.drain(..).map(|payload| payload.data.len()).sum();
        counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    counts.lost.fetch_add(connection.statistics().pkt_rcv_drop_total, Ordering::Relaxed);
    counts.alive.fetch_sub(1, Ordering::Relaxed);
}
