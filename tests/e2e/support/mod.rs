//! What all scenarios need: the server as a process, clients with a time limit, clips, and frames to compare.

pub mod browser;
pub mod callbacks;
pub mod client;
pub mod clip;
pub mod frames;
pub mod http;
#[allow(dead_code, reason = "fields that only some tests look at")]
pub mod playlist;
pub mod relay;
pub mod rtmp;
pub mod server;

pub use client::Program;
pub use clip::Clip;
pub use frames::{Frames, Kind};
pub use server::Server;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Nothing that is waited for takes this long, on a loaded machine with two slow cores.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A directory for what one test writes, gone with it.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("run").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // What a failed test wrote may tell why.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Asks every 20 ms until there is an answer; fails after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// [`wait_for`] that something is so.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}
