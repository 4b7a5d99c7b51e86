//! The load generator of `scripts/bench`: players, publishers and the floor they are held against.
//!
//! - `rillbox bench players --url URL --count N --seconds S [--stall N] [--pid PID]` reads a stream by RTMP or HTTP
//!   from many connections, throws it away, and tells what came and when, and what the server with that
//!   process id spent on it.
//! - `rillbox bench hls --url URL --count N --seconds S [--period S] [--pid PID]` fetches an HLS playlist and its
//!   segments over many connections, all of them once a period.
//! - `rillbox bench srt --url srt://… --count N --seconds S [--pid PID]` does as `players` by SRT, from one socket.
//! - `rillbox bench whep --url http://… --count N --seconds S [--pid PID]` does as `players` by WHEP, from a socket each, and
//!   doesn't decrypt; `--floor ADDR` in place of a URL plays from the floor of these.
//! - `rillbox bench rtc-floor --listen ADDR --bitrate 1.1M` is the least for WebRTC: each packet copied and sealed for each
//!   player (AES-128-GCM), those of a frame sent together; `rtc-transport` is the same by our transport, to players that come by WHEP.
//! - `rillbox bench publish --url URL --bitrate 1.1M --fps 25 --gop 50 [--audio] [--count N]` sends a stream that
//!   is shaped like H.264 and AAC.
//! - `rillbox bench floor --listen ADDR --bitrate 1.1M --window MS` is the least that any server must do: one
//!   `write` per connection and window of the bytes that `publish` would send, and nothing else.
//!
//! One thread each, made to leave the processor to the server under test. What they find goes to stdout as
//! one line of JSON, and to stderr in words.

mod args;
mod floor;
mod hls;
mod opening;
mod players;
mod process;
mod publish;
#[cfg(feature = "srt")]
mod srt;
mod synth;
#[cfg(feature = "webrtc")]
mod whep;

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use self::args::Args;
use crate::rtmp::RtmpError;

/// Why a bench tool ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The command line was not understood.
    #[error("{0}; see scripts/bench for how the bench tools are called")]
    Usage(String),
    /// The system refused.
    #[error("can't {what}: {cause}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        #[source]
        cause: std::io::Error,
    },
    /// The server under test did not do its part.
    #[error("the server {0}")]
    Server(String),
    /// The server under test refused in RTMP.
    #[error(transparent)]
    Rtmp(#[from] RtmpError),
}

type Result<T, E = BenchError> = std::result::Result<T, E>;

/// Runs the tool that `line` names: its first word is `players`, `hls`, `srt`, `whep`, `publish`, `floor`, `rtc-floor` or
/// `rtc-transport`.
///
/// # Errors
/// [`BenchError`] says what is wrong with the command line, the system, or the server under test.
pub fn run(line: impl IntoIterator<Item = String>) -> Result<()> {
    let mut line = line.into_iter();
    match line.next().as_deref() {
        Some("players") => players::run(&Args::parse(line, players::OPTIONS, &[])?),
        Some("hls") => hls::run(&Args::parse(line, hls::OPTIONS, &[])?),
        Some("publish") => publish::run(&Args::parse(line, publish::OPTIONS, &["audio"])?),
        #[cfg(feature = "srt")]
        Some("srt") => srt::run(&Args::parse(line, srt::OPTIONS, &[])?),
        #[cfg(feature = "webrtc")]
        Some("whep") => whep::run(&Args::parse(line, whep::OPTIONS, &[])?),
        #[cfg(feature = "webrtc")]
        Some("rtc-floor") => whep::floor(&Args::parse(line, whep::FLOOR_OPTIONS, &["audio"])?),
        #[cfg(feature = "webrtc")]
        Some("rtc-transport") => whep::transport(&Args::parse(line, whep::FLOOR_OPTIONS, &["audio"])?),
        Some("floor") => floor::run(&Args::parse(line, floor::OPTIONS, &["audio"])?),
        Some(other) => Err(BenchError::Usage(format!("there is no bench tool {other:?}"))),
        None => Err(BenchError::Usage(
            "name a bench tool: players, hls, srt, whep, publish, floor, rtc-floor or rtc-transport".into(),
        )),
    }
}

fn io_error(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> BenchError {
    let what = what.into();
    move |cause| BenchError::Io { what, cause }
}

/// The first address of `host`.
fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    let mut found = (host, port).to_socket_addrs().map_err(io_error(format!("find {host}")))?;
    found.next().ok_or_else(|| BenchError::Usage(format!("{host} has no address")))
}

/// How long `poll` may sleep until `at`; rounded up, since it counts in milliseconds and would spin.
fn until(at: Instant) -> Duration {
    let wait = at.saturating_duration_since(Instant::now());
    Duration::from_millis(u64::try_from((wait + Duration::from_micros(999)).as_millis()).unwrap_or(u64::MAX))
}
